//! What the encoding of each tensor costs: the error report. Sums are f64 and taken in the order of the weights, whatever the
//! number of threads. What is absent: writing the report to a file.

use serde::Serialize;

use crate::DType;
use crate::fit::{FitReport, Shrinkage};
use crate::message::Message;
use crate::plan::PlanEntry;

/// What encoding did to one tensor. `x` are the weights of the source, `y` those decoded from the file written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorReport {
    /// GGUF name.
    pub tensor: String,
    /// Shape in the file written, row length first.
    pub shape: Vec<usize>,
    /// Encoding in the source.
    pub from: DType,
    /// Encoding in the file written.
    pub to: DType,
    /// Why that one.
    pub reason: Message,
    /// `sqrt(mean((x - y)^2))`.
    pub rmse: f64,
    /// `max |x - y|`.
    pub max_abs_error: f64,
    /// `sum x y / sqrt(sum x^2 sum y^2)`; 1 where both are zero, 0 where one is.
    pub cosine: f64,
    /// `sum w (x - y)^2 / sum w x^2` with the weights `w` of the importance matrix; `None` where there were none, or only
    /// zeros.
    pub weighted_error: Option<f64>,
    /// `sqrt(sum x^2)`.
    pub norm: f64,
    /// Seconds of encoding, of all threads together; outputs that share an encoding share its time. Where weights are fitted,
    /// seconds on the clock.
    pub seconds: f64,
    /// How it was fitted to a text; `None` where it was not.
    pub fit: Option<Fitting>,
}

/// How a tensor was fitted to a text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fitting {
    /// The choice for its input, with the share of the diagonal that was used: of several matrices the least.
    pub shrinkage: Shrinkage,
    /// Its rows, and what they lose.
    pub report: FitReport,
}

impl TensorReport {
    pub(super) fn new(entry: &PlanEntry, sums: &Sums) -> Self {
        let cosine = match sums.xx * sums.yy {
            0.0 if sums.xx == sums.yy => 1.0,
            0.0 => 0.0,
            _ => sums.xy / (sums.xx.sqrt() * sums.yy.sqrt()),
        };
        Self {
            tensor: entry.tensor.clone(),
            shape: entry.shape.clone(),
            from: entry.from,
            to: entry.to,
            reason: entry.reason.clone(),
            rmse: (sums.ee / entry.weights() as f64).sqrt(),
            max_abs_error: sums.max_e,
            cosine,
            weighted_error: (sums.wxx > 0.0).then(|| sums.wee / sums.wxx),
            norm: sums.xx.sqrt(),
            seconds: sums.seconds,
            fit: None,
        }
    }
}

/// Sums over some weights, `e = x - y`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) xx: f64,
    pub(super) yy: f64,
    pub(super) xy: f64,
    pub(super) ee: f64,
    pub(super) wxx: f64,
    pub(super) wee: f64,
    pub(super) max_e: f64,
    pub(super) seconds: f64,
}

impl Sums {
    /// Adds a row; `w` is one weight per column.
    pub(super) fn add_row(&mut self, x: &[f32], y: &[f32], w: Option<&[f32]>) {
        for (x, y) in x.iter().zip(y) {
            let (x, y) = (f64::from(*x), f64::from(*y));
            let e = x - y;
            self.xx += x * x;
            self.yy += y * y;
            self.xy += x * y;
            self.ee += e * e;
            self.max_e = larger(self.max_e, e.abs());
        }
        for ((x, y), w) in x.iter().zip(y).zip(w.unwrap_or_default()) {
            let (x, y, w) = (f64::from(*x), f64::from(*y), f64::from(*w));
            self.wxx += w * x * x;
            self.wee += w * (x - y) * (x - y);
        }
    }

    /// Adds what comes after.
    pub(super) fn add(&mut self, next: &Self) {
        self.xx += next.xx;
        self.yy += next.yy;
        self.xy += next.xy;
        self.ee += next.ee;
        self.wxx += next.wxx;
        self.wee += next.wee;
        self.max_e = larger(self.max_e, next.max_e);
        self.seconds += next.seconds;
    }

    /// All sums as bits, to be stored exactly.
    pub(super) fn to_bits(self) -> [u64; 8] {
        let Self { xx, yy, xy, ee, wxx, wee, max_e, seconds } = self;
        [xx, yy, xy, ee, wxx, wee, max_e, seconds].map(f64::to_bits)
    }

    /// The inverse of [`Self::to_bits`].
    pub(super) fn from_bits(bits: [u64; 8]) -> Self {
        let [xx, yy, xy, ee, wxx, wee, max_e, seconds] = bits.map(f64::from_bits);
        Self { xx, yy, xy, ee, wxx, wee, max_e, seconds }
    }
}

/// The larger one; not a number where one of them is not.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b <= a { a } else { b }
}

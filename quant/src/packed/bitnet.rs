//! BitNet (`quant_method: bitnet`): `weight` U8 `[rows / 4, cols]` with four weights of two bits a byte, each plus 1, of rows
//! that lie a quarter of the matrix apart; `weight_scale` divides them all.

use std::ops::Range;

use super::{Found, SourceFormat, Weight};
use crate::Result;
use crate::mmap::{FileMap, Span};
use crate::packing::Packed;

pub(super) const FORMAT: SourceFormat =
    SourceFormat { name: "BitNet", methods: &["bitnet"], markers: &[".weight_scale"], behind: false, read };

struct Ternary {
    codes: Span,
    quarter: usize,
    cols: usize,
    scale: f32,
}

fn read(found: &Found) -> Result<Option<Weight>> {
    if found.settings.method() != Some("bitnet") {
        return Ok(None);
    }
    let codes = found.require(".weight")?;
    found.check_type(codes, &["U8"])?;
    let [quarter, cols] = found.matrix(codes)?;
    let rows = quarter.checked_mul(4).ok_or_else(|| found.error(codes, "is too large"))?;
    let scale = match found.numbers(found.tensor)?[..] {
        [scale] if scale != 0.0 => scale,
        _ => return Err(found.error(found.tensor, "must be one number other than 0")),
    };
    let packed = Ternary { codes: codes.span(), quarter, cols, scale };
    Ok(Some(found.weight(codes.name.clone(), vec![rows, cols], packed, &[Some(codes), Some(found.tensor)])))
}

impl Packed for Ternary {
    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        let (quarter, row) = (row / self.quarter, row % self.quarter);
        let codes = &self.codes.bytes()[row * self.cols + cols.start..row * self.cols + cols.end];
        for (&code, out) in codes.iter().zip(out) {
            *out = (f32::from(code >> (2 * quarter) & 3) - 1.0) / self.scale;
        }
    }

    fn label(&self) -> Option<String> {
        Some("ternary".to_owned())
    }

    fn each_part(&self, rows: Range<usize>, f: &mut dyn FnMut(&FileMap, Range<usize>)) {
        // A byte is of four rows; the last quarter gives back what all have read.
        let rows = rows.start.saturating_sub(3 * self.quarter)..rows.end.saturating_sub(3 * self.quarter);
        f(&self.codes.map, self.codes.within(rows.start * self.cols..rows.end * self.cols));
    }
}

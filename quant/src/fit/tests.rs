//! Fitted rows on inputs whose columns depend on each other.

use super::*;
use crate::random::SplitMix64;

/// An input of `cols` columns that are mixtures of fewer sources, some columns much larger than others; and rows of weights.
struct World {
    cols: usize,
    mix: Vec<f64>,
    sources: usize,
    random: SplitMix64,
}

impl World {
    fn new(cols: usize, seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let sources = cols / 4;
        let mut normal = || (0..6).map(|_| random.unit()).sum::<f64>() - 3.0;
        let mix = (0..cols * sources).map(|i| normal() * if (i / sources).is_multiple_of(37) { 8.0 } else { 1.0 }).collect();
        Self { cols, mix, sources, random }
    }

    fn normal(&mut self) -> f64 {
        (0..6).map(|_| self.random.unit()).sum::<f64>() - 3.0
    }

    fn inputs(&mut self, rows: usize) -> Vec<f64> {
        let mut x = Vec::new();
        for _ in 0..rows {
            let sources: Vec<f64> = (0..self.sources).map(|_| self.normal()).collect();
            for mix in self.mix.chunks_exact(self.sources) {
                x.push(mix.iter().zip(&sources).map(|(m, s)| m * s).sum::<f64>());
            }
            let at = x.len() - self.cols;
            for value in &mut x[at..] {
                *value += 0.5 * self.normal();
            }
        }
        x
    }

    fn moments(&mut self, rows: usize) -> Moments {
        let sums = [0, 1].map(|_| {
            let (x, n) = (self.inputs(rows), self.cols);
            let mut sum = vec![0.0f64; n * n];
            for row in x.chunks_exact(n) {
                for (i, a) in row.iter().enumerate() {
                    for (sum, b) in sum[i * n..][..n].iter_mut().zip(row) {
                        *sum += a * b;
                    }
                }
            }
            sum.into_iter().map(|v| v as f32).collect()
        });
        Moments { cols: self.cols, sums, counts: [rows as u64; 2] }
    }

    fn weights(&mut self, rows: usize) -> Vec<f32> {
        (0..rows * self.cols).map(|_| self.normal() as f32 * 0.02).collect()
    }
}

/// The mean squared error of outputs on inputs, by hand.
fn output_error(dtype: DType, w: &[f32], bytes: &[u8], x: &[f64], cols: usize) -> f64 {
    let rows = w.len() / cols;
    let mut decoded = vec![0.0; w.len()];
    let row_bytes = bytes.len() / rows;
    for (bytes, out) in bytes.chunks_exact(row_bytes).zip(decoded.chunks_exact_mut(cols)) {
        dtype.decode_row(bytes, out);
    }
    let mut error = 0.0;
    for x in x.chunks_exact(cols) {
        for (w, q) in w.chunks_exact(cols).zip(decoded.chunks_exact(cols)) {
            error += w.iter().zip(q).zip(x).map(|((w, q), x)| f64::from(w - q) * x).sum::<f64>().powi(2);
        }
    }
    error
}

fn formats() -> impl Iterator<Item = DType> {
    DType::ALL.iter().copied().filter(|&dtype| fits(dtype))
}

#[test]
fn outputs_lose_less_on_inputs_that_were_not_seen() {
    let mut world = World::new(512, 1);
    let moments = world.moments(1024);
    let (w, x) = (world.weights(32), world.inputs(64));
    for dtype in formats() {
        let input = FitInput::new(&moments, dtype, &w);
        let row_bytes = dtype.row_bytes(512).unwrap();
        let (mut fitted, mut plain) = (vec![0; 32 * row_bytes], vec![0; 32 * row_bytes]);
        let report = input.encode(dtype, &w, &mut fitted);
        for (w, out) in w.chunks_exact(512).zip(plain.chunks_exact_mut(row_bytes)) {
            dtype.encode_row(w, Some(input.importance()), out);
        }
        let (before, after) = (output_error(dtype, &w, &plain, &x, 512), output_error(dtype, &w, &fitted, &x, 512));
        assert!(after < 0.8 * before, "{dtype}: {after} after {before}");
        assert!(report.fitted > 0 && report.loss_after < report.loss_before, "{dtype}: {report:?}");
    }
}

/// With fewer rows than a quarter of the columns no feedback is used.
#[test]
fn too_few_rows_are_not_fitted_to() {
    let mut world = World::new(256, 2);
    let moments = world.moments(20);
    let w = world.weights(16);
    let input = FitInput::new(&moments, DType::Q4_K, &w);
    assert_eq!(input.shrinkage.rho, 1.0);
}

#[test]
fn threads_change_no_byte() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut world = World::new(256, 3);
            let moments = world.moments(300);
            let w = world.weights(40);
            let mut out = vec![0; 40 * DType::Q3_K.row_bytes(256).unwrap()];
            FitInput::new(&moments, DType::Q3_K, &w).encode(DType::Q3_K, &w, &mut out);
            out
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn odd_inputs_give_the_importance_matrixs_bytes() {
    let n = 256;
    let w: Vec<f32> = (0..2 * n).map(|i| (i as f32 * 0.7).sin()).collect();
    for fill in [0.0, f32::NAN, f32::INFINITY] {
        let moments = Moments { cols: n, sums: [vec![fill; n * n], vec![fill; n * n]], counts: [500, 500] };
        let input = FitInput::new(&moments, DType::Q4_K, &w);
        let mut out = vec![0; 2 * DType::Q4_K.row_bytes(n).unwrap()];
        assert_eq!(input.encode(DType::Q4_K, &w, &mut out).fitted, 0, "{fill}");
    }
    // Columns that nothing goes into.
    let mut world = World::new(n, 4);
    let mut moments = world.moments(200);
    for sum in &mut moments.sums {
        for (i, sum) in sum.iter_mut().enumerate() {
            if (i / n).is_multiple_of(3) || (i % n).is_multiple_of(3) {
                *sum = 0.0;
            }
        }
    }
    let input = FitInput::new(&moments, DType::Q4_K, &w);
    let mut out = vec![0; 2 * DType::Q4_K.row_bytes(n).unwrap()];
    input.encode(DType::Q4_K, &w, &mut out);
    let mut decoded = vec![0.0; 2 * n];
    DType::Q4_K.decode_row(&out, &mut decoded);
    assert!(decoded.iter().all(|v| v.is_finite()));
}

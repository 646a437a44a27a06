//! How far the activations of a lane are from the reference's behind every block. Absent: what is made of it (see `report`).

use rayon::prelude::*;

/// The error of one lane's activations behind one block, over the rows of one sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerError {
    /// Number of the lane.
    pub lane: usize,
    /// Number of the block.
    pub block: usize,
    /// Number of the sequence.
    pub sequence: usize,
    /// Rows.
    pub rows: usize,
    /// Sum over rows of `|x - r|^2`, with the lane's activations x and the reference's r.
    pub error: f64,
    /// Sum over rows of `|r|^2`.
    pub reference: f64,
}

impl LayerError {
    /// Takes rows in.
    pub fn add(&mut self, rows: &[[f64; 2]]) {
        for [error, reference] in rows {
            self.rows += 1;
            self.error += error;
            self.reference += reference;
        }
    }

    /// `|x - r| / |r|`, over all rows.
    pub fn relative(&self) -> f64 {
        (self.error / self.reference).sqrt()
    }
}

/// The same of every row of a chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct RowError {
    pub lane: usize,
    pub block: usize,
    pub chunk: usize,
    /// `|x - r|^2` and `|r|^2`.
    pub rows: Vec<[f64; 2]>,
}

impl RowError {
    /// Of rows of `width` numbers.
    pub fn of(lane: usize, block: usize, chunk: usize, reference: &[f32], own: &[f32], width: usize) -> Self {
        let row = |(r, x): (&[f32], &[f32])| {
            let square = |sum: [f64; 2], (&r, &x): (&f32, &f32)| {
                let (r, x) = (f64::from(r), f64::from(x));
                [sum[0] + (x - r) * (x - r), sum[1] + r * r]
            };
            r.iter().zip(x).fold([0.0; 2], square)
        };
        let rows = reference.par_chunks_exact(width).zip(own.par_chunks_exact(width)).map(row).collect();
        Self { lane, block, chunk, rows }
    }
}

//! Products in 8 bits of a few rows of activations with weights that stay as they are stored, as points of grids: a row of
//! weights is taken apart once and multiplied with each row of activations. The sums are those of `q8_kernel.rs`, to the last
//! bit.

use std::ops::Range;

use bitworth_quant::formats::Parts;
use rayon::prelude::*;

use super::isa::{Isa, per_isa};
use super::packed::{BLOCK, StoredRows};
use super::shared::SharedMut;

/// More rows of activations go through panels. Chosen by counting operations, not by timing.
pub const MOST_ROWS: usize = 4;
/// Rows of weights per task.
const TASK: usize = 16;

/// Room for a row of weights.
#[derive(Default)]
struct Room {
    parts: Parts,
    /// By group.
    scales: Vec<f32>,
    dots: Vec<i32>,
}

/// `out[t, n] = x[t] . w[wanted.start + n]` for activations of codes `[rows, K]` and scales `[rows, K / BLOCK]`.
#[allow(unsafe_code)]
pub fn products(
    isa: Isa,
    (codes, x_scales): (&[i8], &[f32]),
    rows: usize,
    w: &StoredRows<'_>,
    wanted: Range<usize>,
    out: &mut [f32],
) {
    let (k, blocks, count) = (codes.len() / rows, x_scales.len() / rows, wanted.len());
    let out = SharedMut::new(out);
    (0..count.div_ceil(TASK)).into_par_iter().for_each_init(Room::default, |room, task| {
        let Room { parts, scales, dots } = room;
        for n in task * TASK..((task + 1) * TASK).min(count) {
            w.integers.take_apart(&w.bytes[(wanted.start + n) * w.row_bytes..][..w.row_bytes], parts);
            scales.clear();
            scales.extend((0..k / w.integers.group).map(|group| parts.factors(group).0));
            dots.resize(scales.len(), 0);
            for t in 0..rows {
                let (x, x_scales) = (&codes[t * k..][..k], &x_scales[t * blocks..][..blocks]);
                let sum = row_sum(isa, &parts.codes, x, scales, x_scales, w.integers.group, dots);
                // SAFETY: column n belongs to this task alone.
                unsafe { out.slice(t * count + n..t * count + n + 1)[0] = sum };
            }
        }
    });
}

per_isa! {
    /// The sum of one row of weights, group after group.
    fn row_sum(
        codes: &[i8],
        x: &[i8],
        scales: &[f32],
        x_scales: &[f32],
        group: usize,
        dots: &mut [i32],
    ) -> f32 {
        match group {
            BLOCK => group_dots::<BLOCK>(codes, x, dots),
            _ => group_dots::<{ BLOCK / 2 }>(codes, x, dots),
        }
        let per_scale = BLOCK / group;
        let mut sum = 0.0f32;
        for (g, (&dot, &scale)) in dots.iter().zip(scales).enumerate() {
            sum = (dot as f32).mul_add(scale * x_scales[g / per_scale], sum);
        }
        sum
    }
}

/// Exact sums of products, by group.
#[inline(always)]
fn group_dots<const G: usize>(codes: &[i8], x: &[i8], dots: &mut [i32]) {
    for ((dot, codes), x) in dots.iter_mut().zip(codes.as_chunks::<G>().0).zip(x.as_chunks::<G>().0) {
        let mut sum = 0;
        for i in 0..G {
            sum += i32::from(codes[i]) * i32::from(x[i]);
        }
        *dot = sum;
    }
}

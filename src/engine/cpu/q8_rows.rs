//! Products in 8 bits of a few rows of activations with weights that stay as they are stored, as points of grids: a row of
//! weights is taken apart once and multiplied with each row of activations. The sums are those of `q8_kernel.rs`, to the last
//! bit.

use std::ops::Range;

use bitworth_quant::formats::TakenApart;
use rayon::prelude::*;

use super::isa::{Isa, per_isa};
use super::packed::{BLOCK, StoredRows};
use super::q8_kernel::Dot;
#[cfg(target_arch = "x86_64")]
use super::q8_rows_x86 as x86;
use super::shared::SharedMut;

/// More rows of activations go through panels. Chosen by counting operations, not by timing.
pub const MOST_ROWS: usize = 4;
/// Rows of weights per task.
const TASK: usize = 16;

/// Room for a row of weights.
#[derive(Default)]
struct Room {
    parts: TakenApart,
    /// By group; and times the scale of the activations.
    scales: Vec<f32>,
    factors: Vec<f32>,
    dots: Vec<i32>,
}

/// `out[t, n] = x[t] . w[wanted.start + n]` for activations of codes `[rows, K]` and scales `[rows, K / BLOCK]`.
#[allow(unsafe_code)]
pub fn products(
    (isa, dot): (Isa, Dot),
    (codes, x_scales): (&[i8], &[f32]),
    rows: usize,
    w: &StoredRows<'_>,
    wanted: Range<usize>,
    out: &mut [f32],
) {
    let (k, blocks, count) = (codes.len() / rows, x_scales.len() / rows, wanted.len());
    let out = SharedMut::new(out);
    (0..count.div_ceil(TASK)).into_par_iter().for_each_init(Room::default, |room, task| {
        let Room { parts, scales, factors, dots } = room;
        for n in task * TASK..((task + 1) * TASK).min(count) {
            w.integers.take_signs_apart(&w.bytes[(wanted.start + n) * w.row_bytes..][..w.row_bytes], parts);
            parts.scales(scales);
            dots.resize(scales.len(), 0);
            factors.resize(scales.len(), 0.0);
            for t in 0..rows {
                group_sums((isa, dot), &parts.codes, &parts.signs, &codes[t * k..][..k], dots);
                let sum = scaled(isa, dots, scales, &x_scales[t * blocks..][..blocks], factors);
                // SAFETY: column n belongs to this task alone.
                unsafe { out.slice(t * count + n..t * count + n + 1)[0] = sum };
            }
        }
    });
}

/// Exact sums of products, by group.
#[allow(unsafe_code)]
fn group_sums((isa, dot): (Isa, Dot), codes: &[i8], signs: &[u8], x: &[i8], dots: &mut [i32]) {
    let group = codes.len() / dots.len();
    assert!(matches!(group, 16 | 32) && dots.len() * group == codes.len() && x.len() == codes.len());
    assert!(signs.is_empty() || signs.len() * 8 == codes.len());
    #[cfg(target_arch = "x86_64")]
    if codes.len().is_multiple_of(x86::STEP) {
        // SAFETY: the lengths are checked above; a Dot comes from Dot::of, which checked the processor.
        match (dot, group) {
            (Dot::Portable, _) => {}
            (Dot::Avx2 | Dot::AvxVnni, BLOCK) => return unsafe { x86::avx2::<BLOCK>(codes, signs, x, dots) },
            (Dot::Avx2 | Dot::AvxVnni, _) => return unsafe { x86::avx2::<{ BLOCK / 2 }>(codes, signs, x, dots) },
            (Dot::Avx512Vnni, BLOCK) => return unsafe { x86::avx512_vnni::<BLOCK>(codes, signs, x, dots) },
            (Dot::Avx512Vnni, _) => return unsafe { x86::avx512_vnni::<{ BLOCK / 2 }>(codes, signs, x, dots) },
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = dot;
    plain_sums(isa, codes, signs, x, dots);
}

per_isa! {
    fn plain_sums(codes: &[i8], signs: &[u8], x: &[i8], dots: &mut [i32]) {
        match codes.len() / dots.len() {
            BLOCK => plain::<BLOCK>(codes, signs, x, dots),
            _ => plain::<{ BLOCK / 2 }>(codes, signs, x, dots),
        }
    }
}

#[inline(always)]
fn plain<const G: usize>(codes: &[i8], signs: &[u8], x: &[i8], dots: &mut [i32]) {
    let (codes, x) = (codes.as_chunks::<G>().0, x.as_chunks::<G>().0);
    for (g, dot) in dots.iter_mut().enumerate() {
        let mut sum = 0;
        if signs.is_empty() {
            for i in 0..G {
                sum += i32::from(codes[g][i]) * i32::from(x[g][i]);
            }
        } else {
            for i in 0..G {
                let minus = -i32::from(signs[g * G / 8 + i / 8] >> (i % 8) & 1);
                sum += ((i32::from(codes[g][i]) * i32::from(x[g][i])) ^ minus) - minus;
            }
        }
        *dot = sum;
    }
}

per_isa! {
    /// The sum of a row, group after group.
    fn scaled(dots: &[i32], scales: &[f32], x_scales: &[f32], factors: &mut [f32]) -> f32 {
        let per_scale = scales.len() / x_scales.len();
        let of_blocks = factors.chunks_exact_mut(per_scale).zip(scales.chunks_exact(per_scale));
        for ((factors, scales), x_scale) in of_blocks.zip(x_scales) {
            for (factor, scale) in factors.iter_mut().zip(scales) {
                *factor = scale * x_scale;
            }
        }
        let mut sum = 0.0f32;
        for (&dot, &factor) in dots.iter().zip(&*factors) {
            sum = (dot as f32).mul_add(factor, sum);
        }
        sum
    }
}

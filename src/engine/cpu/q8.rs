//! Matrix product in 8 bits: `[T, K] x [N, K]^T -> [T, N]` of activations rounded to 8 bits with weights that are integers times
//! a scale (`bitworth_quant::formats::Integers`).
//!
//! Activations are rounded a row at a time in blocks of 32, as llama.cpp's Q8_0 has them: `d = max |x| / 127`, codes
//! `round(x / d)`; `d` stays f32. Weights are taken apart once, when the matrix is made, into panels of neighbouring rows.
//! Integers are multiplied and added exactly within a group of 16 or 32 columns; the groups' results are scaled and added up in
//! f32 in the order of k, one multiply-add each. So the instruction set, the number of rows and of threads change no bit, and the
//! naive loop (`naive.rs`) is an exact referee.
//!
//! Absent: weights without an integer form (floats, grids); those are for `gemm.rs`.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::CpuWeight;
use super::isa::{Isa, per_isa};
use super::q8_kernel::{self, BLOCK, Dot, PANEL, Tile};
use super::shared::SharedMut;

/// Rows of activations per task.
const ROW_BLOCK: usize = 96;

/// A matrix taken apart: panels of [`PANEL`] neighbouring rows, the last filled up with zeros.
pub struct Panels {
    /// Columns that share a scale.
    group: usize,
    cols: usize,
    /// `[panels, K / 4, PANEL, 4]`
    codes: Vec<i8>,
    /// `[panels, K / group, PANEL]`
    scales: Vec<f32>,
    /// The same of the offsets; empty where the format has none.
    offsets: Vec<f32>,
    /// The same of -128 times the sum of a group's codes: what unsigned activations, which are 128 too large, add too much.
    excess: Vec<i32>,
}

impl Panels {
    /// Takes a matrix apart; `None` where its format has no integers.
    pub fn of(weight: &CpuWeight) -> Option<Self> {
        let CpuWeight { dtype, rows, cols, row_bytes, ref bytes, .. } = *weight;
        let integers = dtype.integers()?;
        let (panels, groups) = (rows.div_ceil(PANEL), cols / integers.group);
        let mut all = Self {
            group: integers.group,
            cols,
            codes: vec![0; panels * cols * PANEL],
            scales: vec![0.0; panels * groups * PANEL],
            offsets: vec![0.0; if integers.has_offsets { panels * groups * PANEL } else { 0 }],
            excess: vec![0; panels * groups * PANEL],
        };
        let mut no_offsets: Vec<[f32; 0]> = vec![[]; panels];
        let offsets: Vec<&mut [f32]> = if integers.has_offsets {
            all.offsets.chunks_exact_mut(groups * PANEL).collect()
        } else {
            no_offsets.iter_mut().map(|none| &mut none[..]).collect()
        };
        let codes = all.codes.par_chunks_exact_mut(cols * PANEL);
        let scales = all.scales.par_chunks_exact_mut(groups * PANEL);
        let excess = all.excess.par_chunks_exact_mut(groups * PANEL);
        codes.zip(scales).zip(excess).zip(offsets).enumerate().for_each_init(
            || (vec![0i8; cols], vec![0.0f32; groups], vec![0.0f32; groups]),
            |(row_codes, row_scales, row_offsets), (p, (((codes, scales), excess), offsets))| {
                for j in 0..PANEL.min(rows - p * PANEL) {
                    let row = &bytes[(p * PANEL + j) * row_bytes..][..row_bytes];
                    (integers.unpack)(row, row_codes, row_scales, row_offsets);
                    let quads = codes.as_chunks_mut::<4>().0;
                    for (q, four) in row_codes.as_chunks::<4>().0.iter().enumerate() {
                        quads[q * PANEL + j] = *four;
                    }
                    for (g, group) in row_codes.chunks_exact(integers.group).enumerate() {
                        scales[g * PANEL + j] = row_scales[g];
                        excess[g * PANEL + j] = -128 * group.iter().map(|&code| i32::from(code)).sum::<i32>();
                        if integers.has_offsets {
                            offsets[g * PANEL + j] = row_offsets[g];
                        }
                    }
                }
            },
        );
        Some(all)
    }
}

/// Some rows of activations in 8 bits.
#[derive(Default)]
struct Q8Buffer {
    /// `[T, K]`: the codes, made unsigned by 128 where the instructions want it so.
    codes: Vec<u8>,
    /// `[T, K / BLOCK]`
    scales: Vec<f32>,
    /// `[T, K / group]`: scale times sum of the codes.
    sums: Vec<f32>,
}

thread_local! {
    /// Room for them, kept from one task to the next.
    static ROOM: Cell<Q8Buffer> = Cell::default();
}

impl Q8Buffer {
    fn round(&mut self, isa: Isa, x: &[f32], w: &Panels, unsigned: bool) {
        self.codes.resize(x.len(), 0);
        self.scales.resize(x.len() / BLOCK, 0.0);
        self.sums.resize(if w.offsets.is_empty() { 0 } else { x.len() / w.group }, 0.0);
        round(isa, x, if unsigned { 0x80 } else { 0 }, w.group, &mut self.codes, &mut self.scales, &mut self.sums);
    }
}

per_isa! {
    fn round(x: &[f32], flip: u8, group: usize, codes: &mut [u8], scales: &mut [f32], sums: &mut [f32]) {
        // Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, which then stands in the low mantissa bits.
        const ROUND: f32 = 12_582_912.0;
        let (x, codes) = (x.as_chunks::<BLOCK>().0, codes.as_chunks_mut::<BLOCK>().0);
        for (i, ((x, codes), scale)) in x.iter().zip(codes).zip(scales).enumerate() {
            // Compared as integers, so that a number that is none is the largest and stays what it is.
            let mut largest = 0;
            for x in x {
                largest = (x.to_bits() & 0x7fff_ffff).max(largest);
            }
            *scale = f32::from_bits(largest) / 127.0;
            let inverse = 1.0 / *scale;
            let inverse = if inverse.is_finite() { inverse } else { 0.0 };
            // Loops, because a closure given to `map` may be compiled without the instruction set.
            let mut rounded = [0i8; BLOCK];
            for (code, x) in rounded.iter_mut().zip(x) {
                *code = (x * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i8;
            }
            for (code, rounded) in codes.iter_mut().zip(rounded) {
                *code = rounded as u8 ^ flip;
            }
            if !sums.is_empty() {
                for (j, part) in rounded.chunks_exact(group).enumerate() {
                    let mut sum = 0;
                    for &code in part {
                        sum += i32::from(code);
                    }
                    sums[i * (BLOCK / group) + j] = *scale * sum as f32;
                }
            }
        }
    }
}

/// `out[t, n] = x[t] . w[wanted.start + n]`; `out` has a row length of `wanted.len()`.
pub fn matmul(isa: Isa, x: &[f32], rows: usize, w: &Panels, wanted: Range<usize>, out: &mut [f32]) {
    let dot = Dot::of(isa).last().copied().unwrap_or(Dot::Portable);
    matmul_by(isa, dot, x, rows, w, wanted, out);
}

/// The same by given instructions.
#[allow(unsafe_code)]
pub fn matmul_by(isa: Isa, dot: Dot, x: &[f32], rows: usize, w: &Panels, wanted: Range<usize>, out: &mut [f32]) {
    let (k, count) = (w.cols, wanted.len());
    if count == 0 {
        return;
    }
    let panels = wanted.start / PANEL..wanted.end.div_ceil(PANEL);
    let row_blocks = rows.div_ceil(ROW_BLOCK);
    // Few rows: split the panels too, so that every thread has work.
    let splits = (4 * rayon::current_num_threads()).div_ceil(row_blocks.max(1)).clamp(1, panels.len());
    let per_split = panels.len().div_ceil(splits);
    let out = SharedMut::new(&mut out[..rows * count]);
    // One by one, so that no thread sits on a run of tasks while another is idle.
    (0..row_blocks * splits).into_par_iter().with_max_len(1).for_each(|task| {
        let mut rounded = ROOM.take();
        let (block, split) = (task / splits, task % splits);
        let block = block * ROW_BLOCK..((block + 1) * ROW_BLOCK).min(rows);
        let first_panel = panels.start + split * per_split;
        rounded.round(isa, &x[block.start * k..block.end * k], w, dot.unsigned());
        for p in first_panel..(first_panel + per_split).min(panels.end) {
            let (groups, columns) = (k / w.group, p * PANEL..(p + 1) * PANEL);
            let at = p * groups * PANEL..(p + 1) * groups * PANEL;
            let tile = Tile {
                group: w.group,
                codes: &w.codes[p * k * PANEL..(p + 1) * k * PANEL],
                scales: &w.scales[at.clone()],
                offsets: if w.offsets.is_empty() { &[] } else { &w.offsets[at.clone()] },
                excess: &w.excess[at],
            };
            let inside = columns.start.max(wanted.start)..columns.end.min(wanted.end);
            let mut t = block.start;
            while t < block.end {
                let height = dot.height().min(block.end - t);
                let from = t - block.start;
                let x = q8_kernel::Q8Rows {
                    codes: &rounded.codes[from * k..(from + height) * k],
                    scales: &rounded.scales[from * (k / BLOCK)..(from + height) * (k / BLOCK)],
                    sums: if rounded.sums.is_empty() { &[] } else { &rounded.sums[from * groups..(from + height) * groups] },
                    count: height,
                };
                let mut sums = [[0.0; PANEL]; q8_kernel::MAX_HEIGHT];
                q8_kernel::product(dot, &x, &tile, &mut sums);
                for (i, sums) in sums[..height].iter().enumerate() {
                    let at = (t + i) * count + inside.start - wanted.start;
                    // SAFETY: these rows and columns belong to this task alone.
                    let out = unsafe { out.slice(at..at + inside.len()) };
                    out.copy_from_slice(&sums[inside.start - columns.start..inside.end - columns.start]);
                }
                t += height;
            }
        }
        ROOM.set(rounded);
    });
}

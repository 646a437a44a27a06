//! Matrix product in 8 bits: `[T, K] x [N, K]^T -> [T, N]` of activations rounded to 8 bits with weights that are integers times
//! a scale (`bitworth_quant::formats::Integers`).
//!
//! Activations are rounded a row at a time in blocks of 32, as llama.cpp's Q8_0 has them: `d = max |x| / 127`, codes
//! `round(x / d)`; `d` stays f32. Weights are packed once, when the matrix is made, into panels of neighbouring rows
//! (`packed.rs`); a few rows are multiplied with them as they lie, more rows with a panel that is unpacked once. Integers are
//! multiplied and added exactly within a group of 16 or 32 columns; the groups' results are scaled and added up in f32 in the
//! order of k, one multiply-add each. So the instruction set, the number of rows and of threads change no bit, and the naive
//! loop (`naive.rs`) is an exact referee.
//!
//! Absent: weights without an integer form (floats); those are for `gemm.rs`.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::isa::{Isa, per_isa};
use super::packed::{BLOCK, PANEL, PanelRoom, Panels};
use super::q8_kernel::{self, Dot};
use super::q8_rows;
use super::q8_tile::{Q8Rows, ROUND, TwoSums};
#[cfg(target_arch = "x86_64")]
use super::q8_x86;
use super::shared::SharedMut;

/// Rows of activations per task.
const ROW_BLOCK: usize = 96;

/// Some rows of activations in 8 bits.
#[derive(Default)]
struct Q8Buffer {
    /// `[T, K]`
    codes: Vec<i8>,
    /// `[T, K / BLOCK]`
    scales: Vec<f32>,
    /// `[T, K / group]`: sum of the codes.
    totals: Vec<i32>,
    /// The same times the scale.
    sums: Vec<f32>,
}

/// Room for a task, kept from one to the next.
#[derive(Default)]
struct Room {
    rounded: Q8Buffer,
    panels: [PanelRoom; 2],
}

thread_local! {
    static ROOM: Cell<Room> = Cell::default();
    /// Activations that all tasks of a product share.
    static SHARED: Cell<Q8Buffer> = Cell::default();
}

impl Q8Buffer {
    /// Rounds; a sum of products begins with `-added` times that of the activations.
    fn round(&mut self, isa: Isa, x: &[f32], w: &Panels, added: i32) {
        let groups = x.len() / w.group();
        self.codes.resize(x.len(), 0);
        self.scales.resize(x.len() / BLOCK, 0.0);
        self.totals.resize(groups, 0);
        self.sums.resize(if w.has_offsets() { groups } else { 0 }, 0.0);
        if added == 0 && !w.has_offsets() {
            round(isa, x, BLOCK, &mut self.codes, &mut self.scales, &mut []);
            self.totals.fill(0);
            return;
        }
        round(isa, x, w.group(), &mut self.codes, &mut self.scales, &mut self.totals);
        let per_scale = BLOCK / w.group();
        for (g, (sum, &total)) in self.sums.iter_mut().zip(&self.totals).enumerate() {
            *sum = self.scales[g / per_scale] * total as f32;
        }
        self.totals.iter_mut().for_each(|total| *total *= -added);
    }

    /// Some of the rows, each of `k` columns.
    fn rows(&self, rows: Range<usize>, k: usize, group: usize) -> Q8Rows<'_> {
        let part = |len: usize| rows.start * len..rows.end * len;
        Q8Rows {
            codes: &self.codes[part(k)],
            scales: &self.scales[part(k / BLOCK)],
            sums: if self.sums.is_empty() { &[] } else { &self.sums[part(k / group)] },
            corrections: &self.totals[part(k / group)],
            count: rows.len(),
        }
    }
}

/// Codes, their scales and, unless `totals` is empty, their sums by group.
#[allow(unsafe_code)]
fn round(isa: Isa, x: &[f32], group: usize, codes: &mut [i8], scales: &mut [f32], totals: &mut [i32]) {
    let (x, codes) = (x.as_chunks::<BLOCK>().0, codes.as_chunks_mut::<BLOCK>().0);
    assert!(codes.len() == x.len() && scales.len() == x.len() && (totals.is_empty() || totals.len() * group == x.len() * BLOCK));
    for (i, ((x, codes), scale)) in x.iter().zip(codes).zip(scales).enumerate() {
        let (d, halves) = match isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an Isa that is not portable comes from Isa::available, which checked the processor.
            Isa::Avx2 | Isa::Avx512 => unsafe { q8_x86::round(x, codes) },
            _ => round_block(isa, x, codes),
        };
        *scale = d;
        match (totals.is_empty(), group) {
            (true, _) => {}
            (_, BLOCK) => totals[i] = halves[0] + halves[1],
            _ => totals[2 * i..2 * i + 2].copy_from_slice(&halves),
        }
    }
}

per_isa! {
    /// The codes of a block, its scale, and the sums of both halves of the codes.
    fn round_block(x: &[f32; BLOCK], codes: &mut [i8; BLOCK]) -> (f32, [i32; 2]) {
        // Compared as integers, so that a number that is none is the largest and stays what it is.
        let mut largest = 0;
        for x in x {
            largest = (x.to_bits() & 0x7fff_ffff).max(largest);
        }
        let scale = f32::from_bits(largest) / 127.0;
        let inverse = 1.0 / scale;
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        // A loop, because a closure given to `map` may be compiled without the instruction set.
        for (code, x) in codes.iter_mut().zip(x) {
            *code = (x * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i8;
        }
        let mut halves = [0; 2];
        for (sum, half) in halves.iter_mut().zip(codes.as_chunks::<{ BLOCK / 2 }>().0) {
            for code in half {
                *sum += i32::from(*code);
            }
        }
        (scale, halves)
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
    let (k, count) = (w.cols(), wanted.len());
    if count == 0 || rows == 0 {
        return;
    }
    if rows <= q8_rows::MOST_ROWS
        && let Some(stored) = w.as_rows()
    {
        let mut rounded = SHARED.take();
        rounded.round(isa, &x[..rows * k], w, 0);
        q8_rows::products((isa, dot), (&rounded.codes, &rounded.scales), rows, &stored, wanted, &mut out[..rows * count]);
        SHARED.set(rounded);
        return;
    }
    let (packing, added) = w.packing();
    let added = dot.added(packing, added);
    let unpack = (rows > dot.narrow()).then(|| dot.unpack());
    // Two panels at a time, which is what the widest vectors multiply with.
    let pairs = wanted.start / (2 * PANEL)..wanted.end.div_ceil(2 * PANEL);
    let row_blocks = rows.div_ceil(ROW_BLOCK);
    // Few rows: split the panels too, so that every thread has work.
    let splits = (4 * rayon::current_num_threads()).div_ceil(row_blocks).clamp(1, pairs.len());
    let per_split = pairs.len().div_ceil(splits);
    // One block of rows is rounded once for all tasks; several each by its own.
    let mut shared = SHARED.take();
    if row_blocks == 1 {
        shared.round(isa, &x[..rows * k], w, added);
    }
    let out = SharedMut::new(&mut out[..rows * count]);
    // One by one, so that no thread sits on a run of tasks while another is idle.
    (0..row_blocks * splits).into_par_iter().with_max_len(1).for_each(|task| {
        let mut room = ROOM.take();
        let (block, split) = (task / splits, task % splits);
        let block = block * ROW_BLOCK..((block + 1) * ROW_BLOCK).min(rows);
        let first_pair = pairs.start + split * per_split;
        let Room { rounded, panels: [first_room, second_room] } = &mut room;
        if row_blocks > 1 {
            rounded.round(isa, &x[block.start * k..block.end * k], w, added);
        }
        let rounded = if row_blocks > 1 { &*rounded } else { &shared };
        let mut sums = TwoSums::default();
        for pair in first_pair..(first_pair + per_split).min(pairs.end) {
            let wants = |p: usize| p * PANEL < wanted.end && (p + 1) * PANEL > wanted.start;
            let first = wants(2 * pair).then(|| w.panel(isa, 2 * pair, unpack, first_room));
            let second = wants(2 * pair + 1).then(|| w.panel(isa, 2 * pair + 1, unpack, second_room));
            for t in block.clone().step_by(dot.height()) {
                let (height, from) = (dot.height().min(block.end - t), t - block.start);
                let x = rounded.rows(from..from + height, k, w.group());
                q8_kernel::product(dot, &x, [first.as_ref(), second.as_ref()], &mut sums.0);
                for (p, sums) in (2 * pair..).zip(&sums.0).filter(|(p, _)| wants(*p)) {
                    let inside = (p * PANEL).max(wanted.start)..((p + 1) * PANEL).min(wanted.end);
                    for (i, sums) in sums[..height].iter().enumerate() {
                        let at = (t + i) * count + inside.start - wanted.start;
                        // SAFETY: these rows and columns belong to this task alone.
                        let out = unsafe { out.slice(at..at + inside.len()) };
                        match <&mut [f32; PANEL]>::try_from(&mut *out) {
                            Ok(whole) => *whole = *sums,
                            Err(_) => out.copy_from_slice(&sums[inside.start - p * PANEL..inside.end - p * PANEL]),
                        }
                    }
                }
            }
        }
        ROOM.set(room);
    });
    SHARED.set(shared);
}

//! Rows of weights rounded to a format with error feedback, for a second moment of their input.
//!
//! Super-block by super-block, in the factor's order: what the errors so far ask of the block (`t = w + e U`), scales from
//! several searches of `t`, those of encoders and a wider one (`wide.rs`), and for each the codes, column by column with feedback
//! inside of the block. The scales of least loss stay. Scales must come from `t` and not from the weights: with those of the
//! weights the result is worse than without feedback.
//!
//! Where one code stands for several weights (IQ1 to IQ3), a block is what the format's encoder makes of `t`, and errors are fed
//! back from block to block alone.

use super::factor::Factor;
use super::wide::Wide;
use crate::DType;
use crate::formats::{BlockScales, CodeBits, TakenApart};

/// Rows that are rounded side by side.
pub(super) const ROWS: usize = 32;
/// What weights are multiplied with before their scales are searched: the best scale with feedback is often a little wider than
/// the one without, or narrower.
pub(super) const STRETCHES: [f32; 4] = [0.96, 1.04, 1.09, 1.15];
/// The same for the scales that the wide search found.
const WIDE_STRETCHES: [f32; 3] = [1.0, 1.04, 1.09];
/// Sweeps of descent, at most.
const SWEEPS: usize = 3;

/// How rows are rounded.
pub(super) struct Rounding<'a> {
    pub dtype: DType,
    /// `None` where weights have no codes of their own.
    pub bits: Option<&'static CodeBits>,
    /// `None` where the scales of such codes cannot be replaced.
    pub wide: Option<Wide>,
    pub factor: &'a Factor,
    /// The same second moment, `[K, K]` in the factor's order, both halves.
    pub moment: &'a [f32],
    /// By column as it lies in the row: its mean square.
    pub importance: &'a [f32],
    /// Columns that are rounded with the same scales in hand: the format's block.
    pub block: usize,
}

/// What is known of a block's codes: by weight its scale and offset, as it lies in the block.
#[derive(Default)]
struct Scales {
    scale: Vec<f32>,
    offset: Vec<f32>,
}

/// Room for a block.
struct Room {
    parts: TakenApart,
    scales: Scales,
    bytes: Vec<u8>,
    chosen: Vec<u8>,
    asked: Vec<f32>,
    left: Vec<f32>,
    errors: Vec<f32>,
    best_chosen: Vec<u8>,
    best_errors: Vec<f32>,
    best_bytes: Vec<u8>,
}

impl Rounding<'_> {
    /// Rounds up to [`ROWS`] rows `w` (`[rows, K]`) into `out`.
    pub fn round(&self, w: &[f32], out: &mut [u8]) {
        let n = self.factor.order.len();
        let rows = w.len() / n;
        let row_bytes = out.len() / rows;
        let block_bytes = row_bytes / (n / self.block);
        let order = &self.factor.order;
        // [K, rows] in the factor's order: the errors so far.
        let mut errors = vec![0.0f32; n * rows];
        let mut chosen = vec![0u8; n * rows];
        let mut room = Room::new(self.block, block_bytes);
        for first in (0..n).step_by(self.block) {
            let asked = self.asked(w, rows, first, &errors);
            // The block as it lies in the row.
            let place = order[first] as usize / self.block;
            for r in 0..rows {
                room.asked.copy_from_slice(&asked[r * self.block..][..self.block]);
                let w = &w[r * n..][..n];
                match self.bits {
                    Some(bits) => self.choose(bits, w, first, place, &mut room),
                    None => self.encode_whole(w, first, place, &mut room),
                }
                out[r * row_bytes + place * block_bytes..][..block_bytes].copy_from_slice(&room.best_bytes);
                for i in 0..self.block {
                    errors[(first + i) * rows + r] = room.best_errors[i];
                    chosen[(first + i) * rows + r] = room.best_chosen[i];
                }
            }
        }
        if let Some(bits) = self.bits {
            self.descend(bits, w, rows, &errors, &mut chosen, out);
        }
    }

    /// `t` of the block from `first` on, `[rows, block]` in the factor's order.
    fn asked(&self, w: &[f32], rows: usize, first: usize, errors: &[f32]) -> Vec<f32> {
        let n = self.factor.order.len();
        let mut asked = vec![0.0f32; rows * self.block];
        for (r, asked) in asked.chunks_exact_mut(self.block).enumerate() {
            for (asked, &column) in asked.iter_mut().zip(&self.factor.order[first..]) {
                *asked = w[r * n + column as usize];
            }
        }
        for j in 0..first {
            let upper = &self.factor.upper[j * n + first..][..self.block];
            for (r, asked) in asked.chunks_exact_mut(self.block).enumerate() {
                add_scaled(asked, errors[j * rows + r], upper);
            }
        }
        asked
    }

    /// What the format's encoder makes of a block, into the room.
    fn encode_whole(&self, w: &[f32], first: usize, place: usize, room: &mut Room) {
        let base = place * self.block;
        let inside = |k: usize| self.factor.order[first + k] as usize - base;
        let mut weights = vec![0.0; self.block];
        for (k, &t) in room.asked.iter().enumerate() {
            weights[inside(k)] = t;
        }
        self.dtype.encode_row(&weights, Some(&self.importance[base..][..self.block]), &mut room.best_bytes);
        self.dtype.decode_row(&room.best_bytes, &mut weights);
        for (k, error) in room.best_errors.iter_mut().enumerate() {
            *error = w[base + inside(k)] - weights[inside(k)];
        }
    }

    /// The best scales and codes of a block, into the room.
    fn choose(&self, bits: &CodeBits, w: &[f32], first: usize, place: usize, room: &mut Room) {
        let order = &self.factor.order[first..][..self.block];
        let base = place * self.block;
        let mut asked = vec![0.0; self.block];
        for (&column, &t) in order.iter().zip(&room.asked) {
            asked[column as usize - base] = t;
        }
        let importance = &self.importance[base..][..self.block];
        let mut best = f64::INFINITY;
        let mut attempt = |room: &mut Room| {
            let loss = self.round_block(bits, w, (first, base), room, best);
            if loss < best {
                best = loss;
                std::mem::swap(&mut room.chosen, &mut room.best_chosen);
                std::mem::swap(&mut room.errors, &mut room.best_errors);
                std::mem::swap(&mut room.bytes, &mut room.best_bytes);
            }
            best
        };
        self.dtype.encode_row(&asked, Some(importance), &mut room.bytes);
        attempt(room);
        self.dtype.encode_row(&asked, None, &mut room.bytes);
        let mut least = attempt(room);
        for stretch in STRETCHES {
            let stretched: Vec<f32> = asked.iter().map(|t| t * stretch).collect();
            self.dtype.encode_row(&stretched, Some(importance), &mut room.bytes);
            least = attempt(room);
        }
        if least == f64::INFINITY {
            // Weights that are no numbers.
            self.dtype.encode_row(&asked, Some(importance), &mut room.best_bytes);
            room.best_errors.fill(0.0);
            return;
        }
        if let Some(wide) = &self.wide {
            for scales in self.wide_scales(wide, &asked, (first, base), room) {
                // The codes in these bytes are of no meaning.
                wide.place(&scales, &mut room.bytes);
                attempt(room);
            }
        }
        let mut as_stored = vec![0; self.block];
        for (&column, &chosen) in order.iter().zip(&room.best_chosen) {
            as_stored[column as usize - base] = chosen;
        }
        bits.place(&as_stored, &mut room.best_bytes);
    }

    /// What the wide search finds for a block, beginning with the best scales so far, and the same a little wider. Each weight
    /// matters as much as the loss says.
    fn wide_scales(&self, wide: &Wide, asked: &[f32], (first, base): (usize, usize), room: &mut Room) -> Vec<BlockScales> {
        let Some(integers) = self.dtype.integers() else { return Vec::new() };
        let mut matters = vec![0.0; self.block];
        for (&column, &d) in self.factor.order[first..][..self.block].iter().zip(&self.factor.diagonal[first..]) {
            matters[column as usize - base] = d;
        }
        integers.take_apart(&room.best_bytes, &mut room.parts);
        let found = wide.search(asked, &matters, &room.parts);
        found.map_or_else(Vec::new, |found| WIDE_STRETCHES.map(|stretch| found.stretched(stretch)).to_vec())
    }

    /// Codes for the scales in `room.bytes`, and their loss; given up where it reaches `bound`.
    fn round_block(&self, bits: &CodeBits, w: &[f32], (first, base): (usize, usize), room: &mut Room, bound: f64) -> f64 {
        let n = self.factor.order.len();
        room.scales.read(self.dtype, &room.bytes, &mut room.parts);
        room.left.copy_from_slice(&room.asked);
        let mut loss = 0.0f64;
        for i in 0..self.block {
            let k = first + i;
            let column = self.factor.order[k] as usize;
            let (scale, offset) = (room.scales.scale[column - base], room.scales.offset[column - base]);
            let t = room.left[i];
            let (chosen, value) = nearest(bits.values(), t, scale, offset);
            let miss = t - value;
            loss += f64::from(self.factor.diagonal[k]) * f64::from(miss) * f64::from(miss);
            if loss.is_nan() || loss >= bound {
                return f64::INFINITY;
            }
            let error = w[column] - value;
            room.chosen[i] = chosen;
            room.errors[i] = error;
            let upper = &self.factor.upper[k * n + k + 1..][..self.block - 1 - i];
            add_scaled(&mut room.left[i + 1..], error, upper);
        }
        loss
    }

    /// Coordinate descent: each code again, with all others as they are. Every change lowers the loss. Rows go side by side, so
    /// that the moment is read once for all of them.
    fn descend(&self, bits: &CodeBits, w: &[f32], rows: usize, errors: &[f32], chosen: &mut [u8], out: &mut [u8]) {
        let n = self.factor.order.len();
        let row_bytes = out.len() / rows;
        let mut parts = TakenApart::default();
        let mut descents: Vec<Descent<'_>> = (0..rows)
            .map(|r| {
                let mut scales = Scales::default();
                scales.read(self.dtype, &out[r * row_bytes..][..row_bytes], &mut parts);
                let w = &w[r * n..][..n];
                let errors: Vec<f32> = (0..n).map(|k| errors[k * rows + r]).collect();
                let is_active = w.iter().all(|w| w.is_finite());
                Descent { w, scales, errors, gradient: vec![0.0; n], is_active, changed: false, moved: false }
            })
            .collect();
        for (k, moment) in self.moment.chunks_exact(n).enumerate() {
            for descent in &mut descents {
                add_scaled(&mut descent.gradient, descent.errors[k], moment);
            }
        }
        for _ in 0..SWEEPS {
            for (k, moment) in self.moment.chunks_exact(n).enumerate() {
                let column = self.factor.order[k] as usize;
                for (r, descent) in descents.iter_mut().enumerate().filter(|(_, descent)| descent.is_active) {
                    if let Some(next) = descent.step(bits.values(), (k, column), moment, chosen[k * rows + r]) {
                        chosen[k * rows + r] = next;
                    }
                }
            }
            for descent in &mut descents {
                descent.is_active &= std::mem::take(&mut descent.moved);
            }
        }
        for (r, _) in descents.iter().enumerate().filter(|(_, descent)| descent.changed) {
            let mut as_stored = vec![0; n];
            for (k, &column) in self.factor.order.iter().enumerate() {
                as_stored[column as usize] = chosen[k * rows + r];
            }
            bits.place(&as_stored, &mut out[r * row_bytes..][..row_bytes]);
        }
    }
}

/// One row on its way down.
struct Descent<'a> {
    w: &'a [f32],
    scales: Scales,
    /// Weights less what they became, in the factor's order.
    errors: Vec<f32>,
    /// `e H`
    gradient: Vec<f32>,
    is_active: bool,
    /// Whether any code is another one now.
    changed: bool,
    /// Whether one became so in this sweep.
    moved: bool,
}

impl Descent<'_> {
    /// The number of a better value for one weight, if there is one.
    fn step(&mut self, values: &[i8], (k, column): (usize, usize), moment: &[f32], chosen: u8) -> Option<u8> {
        let (scale, offset) = (self.scales.scale[column], self.scales.offset[column]);
        let old = self.w[column] - self.errors[k];
        // Where the loss is least along this weight.
        let (next, value) = nearest(values, old + self.gradient[k] / moment[k], scale, offset);
        let step = value - old;
        if next == chosen || step == 0.0 {
            return None;
        }
        // The loss changes by step^2 H_kk - 2 step g_k.
        let [long, gradient, own] = [step, self.gradient[k], moment[k]].map(f64::from);
        if long * own * long >= 2.0 * long * gradient {
            return None;
        }
        self.errors[k] -= step;
        add_scaled(&mut self.gradient, -step, moment);
        self.changed = true;
        self.moved = true;
        Some(next)
    }
}

/// `out += factor * x`
#[inline(always)]
fn add_scaled(out: &mut [f32], factor: f32, x: &[f32]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out += factor * x;
    }
}

impl Room {
    fn new(block: usize, block_bytes: usize) -> Self {
        let numbers = || vec![0.0; block];
        Self {
            parts: TakenApart::default(),
            scales: Scales::default(),
            bytes: vec![0; block_bytes],
            chosen: vec![0; block],
            asked: numbers(),
            left: numbers(),
            errors: numbers(),
            best_chosen: vec![0; block],
            best_errors: numbers(),
            best_bytes: vec![0; block_bytes],
        }
    }
}

impl Scales {
    /// The scales and offsets of encoded weights, by weight.
    fn read(&mut self, dtype: DType, bytes: &[u8], parts: &mut TakenApart) {
        let Some(integers) = dtype.integers() else { return };
        integers.take_apart(bytes, parts);
        let groups = parts.codes.len() / integers.group;
        self.scale.clear();
        self.offset.clear();
        for group in 0..groups {
            let (scale, offset) = parts.factors(group);
            self.scale.extend(std::iter::repeat_n(scale, integers.group));
            self.offset.extend(std::iter::repeat_n(if integers.has_offsets { offset } else { 0.0 }, integers.group));
        }
    }
}

/// The value nearest to `t` among `scale * values + offset`: its number, and what the decoder makes of it.
#[inline(always)]
fn nearest(values: &[i8], t: f32, scale: f32, offset: f32) -> (u8, f32) {
    let weight = |i: usize| scale * f32::from(values[i]) + offset;
    let wanted = (t - offset) / scale;
    if !wanted.is_finite() {
        return (0, weight(0));
    }
    let (low, high) = (f32::from(values[0]), f32::from(values[values.len() - 1]));
    let evenly = high - low == (values.len() - 1) as f32;
    let i = if evenly {
        (wanted.clamp(low, high) - low + 0.5) as usize
    } else {
        // The first value that is nearer than the one before it.
        values.windows(2).take_while(|pair| f32::from(pair[0]) + f32::from(pair[1]) < 2.0 * wanted).count()
    };
    let i = i.min(values.len() - 1);
    (i as u8, weight(i))
}

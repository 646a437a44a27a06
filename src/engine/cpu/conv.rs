//! Causal convolution of each column along the rows of runs. A thread takes some columns of a run from its last row to its
//! first, so that what is written in place has been read.

use rayon::prelude::*;

use super::isa::{Isa, per_isa};
use super::math;
use super::shared::SharedMut;
use super::{Cpu, CpuWeight};
use crate::backend::{ConvFilter, Run, RunList};

/// Columns of a task.
const WIDTH: usize = 128;

/// See [`crate::backend::Backend::conv`].
pub fn conv(isa: Isa, x: &mut [f32], filter: ConvFilter<'_, Cpu>, runs: &RunList<Cpu>, state: &mut [f32]) {
    let CpuWeight { rows: channels, cols: taps, .. } = *filter.weight;
    let weight = filter.weight.decode();
    let (x, state) = (SharedMut::new(x), SharedMut::new(state));
    let parts = channels.div_ceil(WIDTH);
    for wave in &runs.waves {
        let runs = &runs.runs[wave.clone()];
        (0..runs.len() * parts).into_par_iter().for_each(|task| {
            let first = task % parts * WIDTH;
            let width = WIDTH.min(channels - first);
            let bias = filter.bias.map(|bias| &bias[first..first + width]);
            let columns = Columns { isa, first, width, channels, taps, weight: &weight, bias, silu: filter.silu };
            columns.walk(&runs[task / parts], &x, &state);
        });
    }
}

/// Some columns of the rows of a run.
struct Columns<'a> {
    isa: Isa,
    first: usize,
    width: usize,
    channels: usize,
    taps: usize,
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    silu: bool,
}

impl Columns<'_> {
    #[allow(unsafe_code)]
    fn walk(&self, run: &Run, x: &SharedMut<'_>, state: &SharedMut<'_>) {
        let Self { first, width, channels, taps, .. } = *self;
        let before = taps - 1;
        let place = |row: usize| row * channels + first..row * channels + first + width;
        let zeros = [0.0; WIDTH];
        // What was convolved before the run and in it, `before` rows and the run's own.
        let input = |at: usize| match (at.checked_sub(before), run.from) {
            // SAFETY: runs of a wave have different rows, and these columns are this task's own.
            (Some(at), _) => unsafe { x.read(place(run.rows.start + at)) },
            // SAFETY: no run of a wave writes to a slot that another one reads, and this one does so below.
            (None, Some(slot)) => unsafe { state.read(place(slot * before + at)) },
            (None, None) => &zeros[..width],
        };
        let left: Vec<f32> = (0..before).flat_map(|row| input(run.rows.len() + row)).copied().collect();
        let of_tap = |tap: usize| (first..first + width).map(move |channel| self.weight[channel * taps + tap]);
        let weights: Vec<f32> = (0..taps).flat_map(of_tap).collect();
        for at in (0..run.rows.len()).rev() {
            let mut sums = [0.0; WIDTH];
            let sums = &mut sums[..width];
            if let Some(bias) = self.bias {
                sums.copy_from_slice(bias);
            }
            for (tap, weights) in weights.chunks_exact(width).enumerate() {
                add_products(self.isa, sums, weights, input(at + tap));
            }
            if self.silu {
                silu(self.isa, sums);
            }
            // SAFETY: as above; what was read is not held any more.
            unsafe { x.slice(place(run.rows.start + at)) }.copy_from_slice(sums);
        }
        let Some(slot) = run.to else { return };
        for (row, left) in left.chunks_exact(width).enumerate() {
            // SAFETY: no other run of the wave reads or writes this slot, and this one has read what it needs.
            unsafe { state.slice(place(slot * before + row)) }.copy_from_slice(left);
        }
    }
}

per_isa! {
    fn add_products(sums: &mut [f32], weights: &[f32], x: &[f32]) {
        for ((sum, weight), x) in sums.iter_mut().zip(weights).zip(x) {
            *sum = weight.mul_add(*x, *sum);
        }
    }
}

per_isa! {
    fn silu(x: &mut [f32]) {
        for x in x.iter_mut() {
            *x = math::silu(*x);
        }
    }
}

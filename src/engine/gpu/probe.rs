//! Plain work on a graphics device (see [`Probe`]): `probe_read.wgsl`, `probe_copy.wgsl` and `probe_fma.wgsl`.

use std::time::{Duration, Instant};

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::pipeline::Kernel;
use super::storage::Storage;
use crate::backend::{Backend, Result};
use crate::probe::Probe;

pub(super) const READ: Kernel = Kernel::plain("probe_read", include_str!("probe_read.wgsl"), &[false, true]);
pub(super) const COPY: Kernel = Kernel::plain("probe_copy", include_str!("probe_copy.wgsl"), &[false, true]);
pub(super) const FMA: Kernel = Kernel::plain("probe_fma", include_str!("probe_fma.wgsl"), &[true]);
/// Invocations in a workgroup.
const LANES: usize = 256;
/// Workgroups: more invocations than any device has in flight.
const GROUPS: usize = 2048;
/// Operations of an invocation in one round of `probe_fma.wgsl`: 8 vectors of 4 numbers, a multiplication and an addition each.
const FLOPS: f64 = 64.0;
/// Bytes of a `vec4<u32>`.
const VECTOR: usize = 16;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    /// Vectors to read or copy, or rounds to multiply.
    count: u32,
    factor: f32,
    term: f32,
    start: f32,
}

/// Memory of a graphics device, to be read and copied.
pub struct GpuProbe<'a> {
    gpu: &'a Gpu,
    halves: [Storage; 2],
    /// One number an invocation, so that nothing is computed in vain.
    out: Storage,
    /// Vectors in one half.
    vectors: usize,
}

impl<'a> GpuProbe<'a> {
    /// With about so many bytes of memory; less where the device's limits are lower.
    ///
    /// # Errors
    /// A device without the memory.
    pub fn new(gpu: &'a Gpu, bytes: usize) -> Result<Self> {
        let vectors = (bytes / 2).min(gpu.max_binding_bytes) / VECTOR;
        let half = || gpu.storage(vectors * VECTOR, "memory to measure");
        Ok(Self { gpu, halves: [half()?, half()?], out: gpu.storage(GROUPS * LANES * 4, "sums")?, vectors })
    }

    fn params(&self, count: usize) -> Params {
        Params { count: count as u32, factor: 0.5, term: 1.0, start: 0.0 }
    }
}

impl Probe for GpuProbe<'_> {
    fn bytes(&self) -> usize {
        2 * self.vectors * VECTOR
    }

    fn read(&mut self) -> Result<()> {
        for half in &self.halves {
            let work = self.vectors as f64;
            self.gpu.dispatch(&READ, &self.params(self.vectors), &[half, &self.out], Groups::Linear(GROUPS), work)?;
        }
        Ok(())
    }

    fn copy(&mut self) -> Result<()> {
        let [from, to] = &self.halves;
        self.gpu.dispatch(&COPY, &self.params(self.vectors), &[from, to], Groups::Linear(GROUPS), self.vectors as f64)
    }

    fn multiply(&mut self, flops: f64) -> Result<f64> {
        let per_round = FLOPS * (GROUPS * LANES) as f64;
        // No dispatch may hold the device for long (see `Tuning`).
        let most = (self.gpu.tuning.work_limit / (per_round / 2.0)).max(1.0);
        let mut left = (flops / per_round).ceil().clamp(1.0, 1e9);
        let rounds = left;
        while left > 0.0 {
            let now = left.min(most.floor());
            self.gpu.dispatch(&FMA, &self.params(now as usize), &[&self.out], Groups::Linear(GROUPS), now * per_round / 2.0)?;
            left -= now;
        }
        Ok(rounds * per_round)
    }

    fn synchronize(&self) -> Result<()> {
        Backend::synchronize(self.gpu)
    }
}

/// How many multiply-adds the device does in a second, measured in some hundredths of one. Decides how work is cut, and never a
/// result.
pub(super) fn multiply_adds_per_second(gpu: &Gpu) -> Result<f64> {
    const ENOUGH: Duration = Duration::from_millis(4);
    let mut probe = GpuProbe::new(gpu, 2 * VECTOR)?;
    // The first round compiles the kernel.
    let mut flops = probe.multiply(1.0)?;
    probe.synchronize()?;
    loop {
        let start = Instant::now();
        let done = probe.multiply(flops)?;
        probe.synchronize()?;
        let took = start.elapsed();
        if took >= ENOUGH {
            return Ok(done / 2.0 / took.as_secs_f64());
        }
        flops = 4.0 * done;
    }
}

#[cfg(test)]
impl GpuProbe<'_> {
    /// Checks what the kernels compute: all is read, half is copied, every round multiplies every number.
    pub(super) fn check(&mut self) {
        let words = self.vectors * 4;
        let values: Vec<u32> = (0..words as u32).collect();
        for (number, half) in self.halves.iter().enumerate() {
            let zeros = vec![0; words];
            self.gpu.write(half, 0, bytemuck::cast_slice(if number == 0 { &values } else { &zeros })).unwrap();
        }
        let sum = |probe: &Self| {
            let sums: Vec<u32> = probe.gpu.read_back(&probe.out, 0..GROUPS * LANES).unwrap();
            sums.iter().fold(0u32, |sum, x| sum.wrapping_add(*x))
        };
        let expected = values.iter().fold(0u32, |sum, x| sum.wrapping_add(*x));
        self.copy().unwrap();
        let copied: Vec<u32> = self.gpu.read_back(&self.halves[1], 0..words).unwrap();
        assert!(copied == values, "the copy differs");
        self.read().unwrap();
        assert_eq!(sum(self), expected, "the second half was not read once");
        let flops = self.multiply(1.0).unwrap();
        assert_eq!(flops, FLOPS * (GROUPS * LANES) as f64);
        let ones: Vec<f32> = self.gpu.read_back(&self.out, 0..GROUPS * LANES).unwrap();
        assert!(ones.iter().all(|&x| x == FLOPS as f32 / 2.0), "{}", ones[0]);
        self.multiply(40.0 * flops).unwrap();
        let twos: Vec<f32> = self.gpu.read_back(&self.out, 0..GROUPS * LANES).unwrap();
        assert!(twos.iter().all(|&x| x == FLOPS as f32), "{}", twos[0]);
    }
}

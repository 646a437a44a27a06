//! The drift guard: a fixed piece of work, done again between timings, that tells whether the machine is still the machine it
//! was.
//!
//! The anchor reads a matrix once (as decoding does, bound by memory) and multiplies rows with a part of it (as prefill does,
//! bound by arithmetic), through the backend that is timed and with its threads. Whatever slows models down slows it down: heat,
//! a power limit, other programs on the processor, on the memory or on the graphics device. It is the same for every model, and
//! independent of their number.

use std::time::{Duration, Instant};

use bitworth_quant::DType;
use bitworth_quant::checkpoint::TensorBytes;

use bitworth_engine::backend::{Backend, HostTensor, Result};
use bitworth_eval::stats;

/// Columns and rows of the matrix: 64 MiB in f16, more than most caches hold.
const COLS: usize = 4096;
const ROWS: usize = 8192;
/// The product: so many rows with so many of the matrix take about as long as reading all of it, on most machines.
const PRODUCT: (usize, usize) = (64, 1024);
/// How long one measurement should take: many times what the system's clock and scheduler blur.
const AIM: Duration = Duration::from_millis(80);

/// The work, ready to be done.
pub struct Anchor<'a, B: Backend> {
    backend: &'a B,
    matrix: B::Weight,
    x: B::Buffer,
    out: B::Buffer,
    rounds: u32,
}

impl<'a, B: Backend> Anchor<'a, B> {
    /// Prepares it, and finds how often it has to be done for one measurement.
    ///
    /// # Errors
    /// A device that fails.
    pub fn new(backend: &'a B) -> Result<Self> {
        // 0.0679 in f16, everywhere: no zeros, no subnormal numbers, no overflow.
        let bytes = TensorBytes::Owned(vec![0x2c; ROWS * COLS * 2]);
        let matrix = backend.weight(HostTensor { dtype: DType::F16, rows: ROWS, cols: COLS, bytes })?;
        let x = backend.upload(&vec![1.0; PRODUCT.0 * COLS])?;
        let out = backend.alloc(ROWS.max(PRODUCT.0 * PRODUCT.1))?;
        let mut anchor = Self { backend, matrix, x, out, rounds: 1 };
        anchor.measure()?; // pipelines, pages, clocks
        let once = anchor.measure()?;
        anchor.rounds = (AIM.as_secs_f64() / once.max(1e-6)).ceil().clamp(1.0, 1e4) as u32;
        Ok(anchor)
    }

    /// Seconds that the work takes now.
    ///
    /// # Errors
    /// A device that fails.
    pub fn measure(&mut self) -> Result<f64> {
        self.backend.synchronize()?;
        let begin = Instant::now();
        for _ in 0..self.rounds {
            self.backend.matvec(&self.x, 0..1, &self.matrix, 0..ROWS, &mut self.out)?;
            self.backend.matmul(&self.x, 0..PRODUCT.0, &self.matrix, 0..PRODUCT.1, &mut self.out)?;
        }
        self.backend.synchronize()?;
        Ok(begin.elapsed().as_secs_f64() / f64::from(self.rounds))
    }
}

/// For every timing whether it drifted: whether the mean of the anchors before and after it differs from the median of all
/// anchors by more than the share `bound`. `anchors` has one more than there are timings.
pub fn drifted(anchors: &[f64], bound: f64) -> Vec<bool> {
    let mut sorted = anchors.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(median) = stats::quantile(&sorted, 0.5) else { return Vec::new() };
    anchors.windows(2).map(|pair| ((pair[0] + pair[1]) / (2.0 * median) - 1.0).abs() > bound).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitworth_engine::cpu::Cpu;

    #[test]
    fn a_timing_between_slow_anchors_drifted() {
        assert_eq!(drifted(&[1.0, 1.02, 0.99, 1.01], 0.1), [false; 3]);
        assert_eq!(drifted(&[1.0, 1.0, 1.5, 1.5, 1.0, 1.0, 1.0], 0.1), [false, true, true, true, false, false]);
        // A machine that grows faster has drifted as well, and one that slows down for good.
        assert_eq!(drifted(&[2.0, 2.0, 1.0, 1.0, 1.0], 0.1), [true, true, false, false]);
        assert_eq!(drifted(&[1.0], 0.1), [false; 0]);
        assert_eq!(drifted(&[], 0.1), [false; 0]);
    }

    #[test]
    fn the_bound_itself_is_no_drift() {
        assert_eq!(drifted(&[1.0, 1.0, 1.0, 1.5], 0.25), [false; 3]);
        assert_eq!(drifted(&[1.0, 1.0, 1.0, 1.5], 0.24), [false, false, true]);
    }

    #[test]
    fn the_work_is_done_and_takes_time() {
        let cpu = Cpu::new();
        let mut anchor = Anchor::new(&cpu).unwrap();
        assert!(anchor.measure().unwrap() > 0.0 && anchor.rounds >= 1);
        let weight = f32::from(half::f16::from_bits(0x2c2c));
        assert!((anchor.out[0] / (COLS as f32 * weight) - 1.0).abs() < 1e-3, "{}", anchor.out[0]);
    }
}

//! Plain work on the processor (see [`Probe`]): all threads read, copy and multiply, with the widest instructions there are.

use std::hint::black_box;

use rayon::prelude::*;

use super::Cpu;
use super::isa::{Isa, per_isa};
use crate::backend::Result;
use crate::probe::Probe;

/// Words that a task reads or copies.
const TASK: usize = 1 << 17;

/// Memory of the processor, to be read and copied.
pub struct CpuProbe {
    isa: Isa,
    memory: Vec<u64>,
}

impl CpuProbe {
    /// With so many bytes of memory, more than the caches hold.
    pub fn new(cpu: &Cpu, bytes: usize) -> Self {
        let mut memory = vec![0; bytes / 8 / 2 * 2];
        // Written by the threads that read it: on machines with several memories each page is where it is first used.
        memory.par_chunks_mut(TASK).enumerate().for_each(|(i, task)| task.fill(i as u64));
        Self { isa: cpu.isa, memory }
    }

    fn sum(&self) -> u64 {
        self.memory.par_chunks(TASK).map(|task| sum(self.isa, task)).reduce(|| 0, u64::wrapping_add)
    }
}

impl Probe for CpuProbe {
    fn bytes(&self) -> usize {
        size_of_val(&self.memory[..])
    }

    fn read(&mut self) -> Result<()> {
        black_box(self.sum());
        Ok(())
    }

    fn copy(&mut self) -> Result<()> {
        let half = self.memory.len() / 2;
        let (from, to) = self.memory.split_at_mut(half);
        to.par_chunks_mut(TASK).zip(from.par_chunks(TASK)).for_each(|(to, from)| to.copy_from_slice(from));
        black_box(&self.memory);
        Ok(())
    }

    fn multiply(&mut self, flops: f64) -> Result<f64> {
        let threads = rayon::current_num_threads() as f64;
        let per_round = flops_per_round(self.isa);
        let rounds = (flops / threads / per_round).ceil().clamp(1.0, 1e15) as u64;
        rayon::broadcast(|_| black_box(multiply(self.isa, rounds)));
        Ok(rounds as f64 * per_round * threads)
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}

per_isa! {
    fn sum(words: &[u64]) -> u64 {
        words.iter().fold(0u64, |sum, word| sum.wrapping_add(*word))
    }
}

/// Every number x becomes x FACTOR + TERM, again and again, and so tends to 2.
const FACTOR: f32 = 0.5;
const TERM: f32 = 1.0;

/// Operations of one round of [`multiply`]: two for every number.
fn flops_per_round(isa: Isa) -> f64 {
    2.0 * match isa {
        Isa::Portable => 16,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => 24 * 4,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => 12 * 8,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => 24 * 16,
    } as f64
}

/// So many rounds on numbers from 0 on, enough of them to hide the latency of an instruction; returns their sum. The compiler
/// does not know that they are alike, and computes every one.
#[allow(unsafe_code)]
fn multiply(isa: Isa, rounds: u64) -> f32 {
    match isa {
        Isa::Portable => portable(rounds),
        // SAFETY: an Isa other than Portable comes from Isa::available, which checked the processor.
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => unsafe { neon(rounds) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2(rounds) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512(rounds) },
    }
}

fn portable(rounds: u64) -> f32 {
    let (factor, term) = black_box((FACTOR, TERM));
    let mut x = black_box([0.0f32; 16]);
    for _ in 0..rounds {
        x.iter_mut().for_each(|x| *x = x.mul_add(factor, term));
    }
    x.iter().sum()
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn neon(rounds: u64) -> f32 {
    use std::arch::aarch64::{vaddvq_f32, vdupq_n_f32, vfmaq_f32};
    let (factor, term) = black_box((FACTOR, TERM));
    let (factor, term) = (vdupq_n_f32(factor), vdupq_n_f32(term));
    let mut x = black_box([vdupq_n_f32(0.0); 24]);
    for _ in 0..rounds {
        for x in &mut x {
            *x = vfmaq_f32(term, *x, factor);
        }
    }
    x.into_iter().map(|x| vaddvq_f32(x)).sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(rounds: u64) -> f32 {
    use std::arch::x86_64::{__m256, _mm256_fmadd_ps, _mm256_set1_ps};
    let (factor, term) = black_box((FACTOR, TERM));
    let (factor, term) = (_mm256_set1_ps(factor), _mm256_set1_ps(term));
    let mut x = black_box([_mm256_set1_ps(0.0); 12]);
    for _ in 0..rounds {
        for x in &mut x {
            *x = _mm256_fmadd_ps(*x, factor, term);
        }
    }
    let numbers: [f32; 12 * 8] = bytemuck::must_cast::<[__m256; 12], _>(x);
    numbers.iter().sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(rounds: u64) -> f32 {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let (factor, term) = black_box((FACTOR, TERM));
    let (factor, term) = (_mm512_set1_ps(factor), _mm512_set1_ps(term));
    let mut x = black_box([_mm512_set1_ps(0.0); 24]);
    for _ in 0..rounds {
        for x in &mut x {
            *x = _mm512_fmadd_ps(*x, factor, term);
        }
    }
    x.into_iter().map(|x| _mm512_reduce_add_ps(x)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_multiplies_as_many_numbers_as_it_says() {
        for isa in Isa::available() {
            let numbers = flops_per_round(isa) / 2.0;
            assert_eq!(f64::from(multiply(isa, 0)), 0.0);
            assert_eq!(f64::from(multiply(isa, 1)), numbers);
            assert_eq!(f64::from(multiply(isa, 2)), 1.5 * numbers);
            assert_eq!(f64::from(multiply(isa, 1000)), 2.0 * numbers);
        }
    }

    #[test]
    fn all_of_the_memory_is_read_and_half_of_it_copied() {
        let mut probe = CpuProbe::new(&Cpu::new(), (4 * TASK + 6) * 8);
        assert_eq!(probe.bytes(), (4 * TASK + 6) * 8);
        probe.memory.iter_mut().zip(0..).for_each(|(word, i)| *word = i);
        let words = probe.memory.len() as u64;
        for isa in Isa::available() {
            probe.isa = isa;
            assert_eq!(probe.sum(), words * (words - 1) / 2);
        }
        probe.copy().unwrap();
        let (from, to) = probe.memory.split_at(words as usize / 2);
        assert!(from == to && from[5] == 5);
    }

    #[test]
    fn the_operations_counted_are_at_least_those_asked_for() {
        let mut probe = CpuProbe::new(&Cpu::new(), 1 << 10);
        assert!(probe.multiply(1e6).unwrap() >= 1e6);
    }
}

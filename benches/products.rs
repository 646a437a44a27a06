//! Speed of the CPU backend's products: `cargo bench --bench products`. Prints GFLOP/s (a multiplication and an addition are two)
//! for shapes of SmolLM2-135M and llama-1b, the best of eight runs, in f32 and with activations in 8 bits, and as the yardstick
//! what multiply-adds in registers alone reach.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use bitworth::engine::backend::{Arithmetic, Backend, HostTensor};
use bitworth::engine::cpu::Cpu;
use bitworth_quant::DType;
use bitworth_quant::checkpoint::TensorBytes;
use rayon::prelude::*;

fn main() {
    let cpu = Cpu::new();
    println!("{} ({}), {} threads", cpu.info().name, cpu.info().driver, rayon::current_num_threads());
    println!("multiply-adds in registers {:7.1} GFLOP/s", peak());
    for (rows, n, k) in [(4096, 576, 576), (4096, 1536, 576), (4096, 576, 1536), (2048, 2048, 2048), (1024, 8192, 2048)] {
        for dtype in [DType::F32, DType::F16, DType::Q8_0, DType::Q4_0, DType::Q4_K, DType::Q6_K] {
            let Some(bytes) = encoded(dtype, n, k) else { continue };
            for arithmetic in Arithmetic::ALL {
                if arithmetic == Arithmetic::Q8 && dtype.integers().is_none() {
                    continue;
                }
                let tensor = HostTensor { dtype, rows: n, cols: k, bytes: TensorBytes::Owned(bytes.clone()) };
                let speed = measure(&cpu, tensor, arithmetic, rows);
                println!("{rows:5} x {n:5} x {k:5} {dtype:5} {:4} {speed:7.1} GFLOP/s", arithmetic.name());
            }
        }
    }
}

/// Best of eight runs, in GFLOP/s.
fn best(flops: f64, mut work: impl FnMut()) -> f64 {
    let seconds = |work: &mut dyn FnMut()| {
        let begin = Instant::now();
        work();
        begin.elapsed().as_secs_f64()
    };
    flops / (0..8).map(|_| seconds(&mut work)).fold(f64::INFINITY, f64::min) / 1e9
}

/// As many independent chains of multiply-adds as fill the pipelines and fit the registers, on every thread.
fn peak() -> f64 {
    const ROUNDS: usize = 4 << 20;
    let threads = rayon::current_num_threads();
    let (lanes, chains) = chains();
    best((2 * ROUNDS * lanes * threads) as f64, || (0..threads).into_par_iter().with_max_len(1).for_each(|_| chains(ROUNDS)))
}

/// How many chains the processor's registers hold, and what runs them.
fn chains() -> (usize, fn(usize)) {
    #[inline(always)]
    fn body<const N: usize>(rounds: usize) {
        let mut sums = [0.0f32; N];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = sum.mul_add(0.999, 0.001);
            }
        }
        black_box(sums);
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f")]
        fn avx512(rounds: usize) {
            body::<{ 20 * 16 }>(rounds);
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2(rounds: usize) {
            body::<{ 10 * 8 }>(rounds);
        }
        // SAFETY: the processor has the instructions, as was just asked.
        #[allow(unsafe_code)]
        if is_x86_feature_detected!("avx512f") {
            return (20 * 16, |rounds| unsafe { avx512(rounds) });
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return (10 * 8, |rounds| unsafe { avx2(rounds) });
        }
    }
    (10 * 4, |rounds| body::<{ 10 * 4 }>(rounds))
}

/// The bytes of a matrix; `None` where a row is not whole blocks.
fn encoded(dtype: DType, n: usize, k: usize) -> Option<Vec<u8>> {
    let row_bytes = dtype.row_bytes(k)?;
    let weights: Vec<f32> = (0..n * k).map(|i| (i * 104_729 % 1000) as f32 / 1000.0 - 0.5).collect();
    let mut bytes = vec![0; n * row_bytes];
    for (out, row) in bytes.chunks_exact_mut(row_bytes).zip(weights.chunks_exact(k)) {
        dtype.encode_row(row, None, out);
    }
    Some(bytes)
}

fn measure(cpu: &Cpu, tensor: HostTensor, arithmetic: Arithmetic, rows: usize) -> f64 {
    let (n, k) = (tensor.rows, tensor.cols);
    let x: Vec<f32> = (0..rows * k).map(|i| (i * 7919 % 1000) as f32 / 1000.0 - 0.5).collect();
    let weight = cpu.matrix(tensor, arithmetic).expect("a sound tensor");
    let mut out = vec![0.0; rows * n];
    best(2.0 * (rows * n * k) as f64, || cpu.matmul(&x, 0..rows, &weight, 0..n, &mut out).expect("sound shapes"))
}

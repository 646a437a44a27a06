//! Speed of the CPU backend's f32 products: `cargo bench --bench products`. Prints GFLOP/s (a multiplication and an addition are
//! two) for shapes of SmolLM2-135M and a square one, the best of eight runs.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use bitworth::engine::backend::{Backend, HostTensor};
use bitworth::engine::cpu::Cpu;
use quant::DType;
use quant::checkpoint::TensorBytes;

fn main() {
    let cpu = Cpu::new();
    println!("{} ({}), {} threads", cpu.info().name, cpu.info().driver, rayon::current_num_threads());
    for (rows, n, k) in [(2048, 576, 576), (2048, 1536, 576), (2048, 576, 1536), (512, 2048, 2048)] {
        for dtype in [DType::F32, DType::F16, DType::Q8_0, DType::Q4_0] {
            println!("{rows:5} x {n:5} x {k:5} {dtype:5} {:7.1} GFLOP/s", measure(&cpu, dtype, rows, n, k));
        }
    }
}

fn measure(cpu: &Cpu, dtype: DType, rows: usize, n: usize, k: usize) -> f64 {
    let x: Vec<f32> = (0..rows * k).map(|i| (i * 7919 % 1000) as f32 / 1000.0 - 0.5).collect();
    let weights: Vec<f32> = (0..n * k).map(|i| (i * 104_729 % 1000) as f32 / 1000.0 - 0.5).collect();
    let row_bytes = dtype.row_bytes(k).expect("the shapes are whole blocks");
    let mut bytes = vec![0; n * row_bytes];
    for (out, row) in bytes.chunks_exact_mut(row_bytes).zip(weights.chunks_exact(k)) {
        dtype.encode_row(row, None, out);
    }
    let weight = cpu.weight(HostTensor { dtype, rows: n, cols: k, bytes: TensorBytes::Owned(bytes) }).expect("a sound tensor");
    let mut out = vec![0.0; rows * n];
    let best = (0..8)
        .map(|_| {
            let begin = Instant::now();
            cpu.matmul(&x, 0..rows, &weight, 0..n, &mut out).expect("sound shapes");
            begin.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    2.0 * (rows * n * k) as f64 / best / 1e9
}

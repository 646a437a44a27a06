//! The fast kernels against the naive ones, to the last bit, on every instruction set and number of threads.

use quant::DType;
use quant::checkpoint::TensorBytes;

use super::gemm;
use super::isa::Isa;
use super::{Cpu, CpuWeight, naive};
use crate::engine::backend::{AttentionShape, Backend, HostTensor};

/// Numbers that look random and have no pattern in common with any tile.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..len).map(|_| next()).collect()
}

fn weight(dtype: DType, rows: usize, cols: usize) -> CpuWeight {
    let values = noise(rows * cols, 7 + rows as u64);
    let row_bytes = dtype.row_bytes(cols).unwrap();
    let mut bytes = vec![0; rows * row_bytes];
    for (out, x) in bytes.chunks_exact_mut(row_bytes).zip(values.chunks_exact(cols)) {
        dtype.encode_row(x, None, out);
    }
    Cpu::new().weight(HostTensor { dtype, rows, cols, bytes: TensorBytes::Owned(bytes) }).unwrap()
}

fn on_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

#[track_caller]
fn check_matmul(dtype: DType, rows: usize, n: usize, k: usize) {
    let (x, w) = (noise(rows * k, 1), weight(dtype, n, k));
    let expected = naive::matmul(&x, rows, &w);
    for isa in Isa::available() {
        for threads in [1, 3] {
            let mut out = vec![f32::NAN; rows * n];
            on_threads(threads, || gemm::matmul(isa, &x, rows, &w, 0, n, &mut out));
            assert!(same_bits(&out, &expected), "{dtype} {rows} x {n} x {k} on {isa:?}, {threads} threads");
        }
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn tiles_give_the_bits_of_the_naive_loop() {
    for (rows, n, k) in [(1, 1, 1), (1, 49, 3), (7, 16, 64), (8, 48, 256), (9, 47, 257), (13, 97, 300), (100, 33, 513)] {
        check_matmul(DType::F32, rows, n, k);
    }
}

#[test]
fn every_format_is_decoded_the_same_in_tiles() {
    for &dtype in DType::ALL {
        check_matmul(dtype, 5, 50, 512);
    }
}

#[test]
fn a_range_of_weight_rows_is_that_part_of_the_product() {
    let cpu = Cpu::new();
    let (x, w) = (noise(3 * 64, 1), weight(DType::F32, 90, 64));
    let (mut all, mut part) = (vec![0.0; 3 * 90], vec![0.0; 3 * 20]);
    cpu.matmul(&x, 0..3, &w, 0..90, &mut all).unwrap();
    cpu.matmul(&x, 0..3, &w, 55..75, &mut part).unwrap();
    for t in 0..3 {
        assert!(same_bits(&part[t * 20..][..20], &all[t * 90 + 55..][..20]));
    }
}

#[test]
fn every_operation_passes_the_suite_of_all_backends() {
    for isa in Isa::available() {
        crate::engine::suite::run(&Cpu::with_isa(isa));
    }
}

#[test]
fn attention_does_not_depend_on_instruction_set_or_threads() {
    let shape = AttentionShape { heads: 6, kv_heads: 2, head_dim: 80, value_dim: 80, scale: 0.11, softcap: 4.0 };
    let lengths = [1usize, 150, 37, 2];
    let rows: usize = lengths.iter().sum();
    let (q, k, v) = (noise(rows * 480, 1), noise(rows * 160, 2), noise(rows * 160, 3));
    let mut spans = Vec::new();
    let mut start = 0u32;
    for length in lengths {
        for i in 0..length as u32 {
            spans.extend([start, start + i + 1]);
        }
        start += length as u32;
    }
    let mut first: Option<Vec<f32>> = None;
    for isa in Isa::available() {
        for threads in [1, 3] {
            let mut out = vec![f32::NAN; rows * 480];
            on_threads(threads, || super::attention::attention(isa, [&q, &k, &v], &spans, None, rows, shape, &mut out));
            let first = first.get_or_insert_with(|| out.clone());
            assert!(same_bits(&out, first), "{isa:?}, {threads} threads");
        }
    }
}

//! The fast kernels against the naive ones, to the last bit, on every instruction set and number of threads.

use bitworth_quant::DType;
use bitworth_quant::checkpoint::TensorBytes;
use bitworth_quant::random::SplitMix64;
use proptest::prelude::*;

use super::gemm;
use super::isa::Isa;
use super::packed::Panels;
use super::q8;
use super::q8_kernel::Dot;
use super::{Cpu, CpuWeight, matvec, naive};
use crate::backend::{
    Arithmetic, AttentionInputs, AttentionShape, Backend, ConvFilter, HostTensor, RecurInputs, RecurShape, Recurrence, Run,
    RunList,
};
use crate::suite::{self, Random};

/// Numbers that look random and have no pattern in common with any tile.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut random = SplitMix64::new(seed);
    (0..len).map(|_| random.unit() as f32 - 0.5).collect()
}

fn tensor(dtype: DType, rows: usize, cols: usize) -> HostTensor {
    let values = noise(rows * cols, 7 + rows as u64);
    let row_bytes = dtype.row_bytes(cols).unwrap();
    let mut bytes = vec![0; rows * row_bytes];
    for (out, x) in bytes.chunks_exact_mut(row_bytes).zip(values.chunks_exact(cols)) {
        dtype.encode_row(x, None, out);
    }
    HostTensor { dtype, rows, cols, bytes: TensorBytes::Owned(bytes) }
}

fn weight(dtype: DType, rows: usize, cols: usize) -> CpuWeight {
    Cpu::new().weight(tensor(dtype, rows, cols)).unwrap()
}

fn matrix_q8(dtype: DType, rows: usize, cols: usize) -> CpuWeight {
    Cpu::new().matrix(tensor(dtype, rows, cols), Arithmetic::Q8).unwrap()
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
    // Enough panels a task that activations are brought into the order of tiles.
    for (rows, n, k) in [(1, 1000, 257), (13, 1100, 300), (200, 900, 256)] {
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
fn floats_multiplied_as_they_are_read_give_the_bits_of_decoded_ones() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for k in [1, 63, 64, 200, 513] {
            let (x, w) = (noise(k, 1), weight(dtype, 5, k));
            let mut decoded = vec![0.0; k];
            for isa in Isa::available() {
                let mut out = [f32::NAN; 5];
                matvec::matvec(isa, &x, 1, &w, 0, 5, &mut out);
                for (row, sum) in out.iter().enumerate() {
                    w.decode_row(row, &mut decoded);
                    assert_eq!(sum.to_bits(), matvec::dot(Isa::Portable, &x, &decoded).to_bits(), "{dtype}, {k}, {isa:?}");
                }
            }
        }
    }
}

/// Texts of a batch are those of each alone: whatever share the rows of a tile have in what is read.
#[test]
fn several_rows_give_the_bits_of_each_alone() {
    for dtype in [DType::F16, DType::Q4_0] {
        for (rows, count, k) in [(2, 3, 64), (4, 4, 96), (5, 9, 320), (9, 70, 512)] {
            let (x, w) = (noise(rows * k, 1), weight(dtype, count, k));
            for isa in Isa::available() {
                let (mut out, mut decoded) = (vec![f32::NAN; rows * count], vec![0.0; k]);
                matvec::matvec(isa, &x, rows, &w, 0, count, &mut out);
                for n in 0..count {
                    w.decode_row(n, &mut decoded);
                    for t in 0..rows {
                        let alone = matvec::dot(Isa::Portable, &x[t * k..][..k], &decoded);
                        assert_eq!(out[t * count + n].to_bits(), alone.to_bits(), "{dtype}, {rows} x {count} x {k}, {isa:?}");
                    }
                }
            }
        }
    }
    // Rows that are no whole chunks of chains, and end within a vector.
    let (k, w) = (75, weight(DType::F16, 9, 75));
    let x = noise(8 * k, 1);
    let (mut eight, mut two) = (vec![f32::NAN; 8 * 9], vec![f32::NAN; 2 * 9]);
    for isa in Isa::available() {
        matvec::matvec(isa, &x, 8, &w, 0, 9, &mut eight);
        matvec::matvec(Isa::Portable, &x[3 * k..], 2, &w, 0, 9, &mut two);
        assert!(same_bits(&eight[3 * 9..][..2 * 9], &two), "{isa:?}");
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
        crate::suite::run(&Cpu::with_isa(isa));
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
            let inputs = AttentionInputs { q: &q, k: &k, v: &v, spans: &spans, sinks: None };
            on_threads(threads, || super::attention::attention(isa, inputs, rows, shape, &mut out));
            let first = first.get_or_insert_with(|| out.clone());
            assert!(same_bits(&out, first), "{isa:?}, {threads} threads");
        }
    }
}

#[test]
fn recurrences_do_not_depend_on_instruction_set_or_threads() {
    let shape = RecurShape { kind: Recurrence::Delta, heads: 6, key_heads: 2, key_dim: 80, value_dim: 70, tiled: false };
    let scan = RecurShape { kind: Recurrence::Scan { dt_min: 0.0, dt_max: 9.0 }, ..shape };
    let rows = 40;
    let run = |rows: std::ops::Range<usize>, from, to| Run { rows, position: 0, from, to };
    let runs =
        [run(0..10, None, Some(1)), run(10..13, Some(1), None), run(13..39, Some(1), Some(0)), run(39..40, Some(0), Some(1))];
    let runs = RunList::new(&Cpu::new(), &runs).unwrap();
    let (q, k) = (noise(rows * 160, 1), noise(rows * 160, 2));
    let (gate, beta, mut parameters) = (noise(rows * 6, 3), noise(rows * 6, 4), noise(18, 5));
    parameters[..6].iter_mut().for_each(|a| *a = -a.abs());
    let filter = weight(DType::F32, 420, 4);
    let mut first: Option<Vec<f32>> = None;
    for isa in Isa::available() {
        for threads in [1, 3] {
            let cpu = Cpu::with_isa(isa);
            let (mut values, mut last, mut state) = (noise(rows * 420, 6), noise(2 * 3 * 420, 7), noise(2 * 6 * 80 * 70, 8));
            on_threads(threads, || {
                cpu.conv(&mut values, ConvFilter { weight: &filter, bias: None, silu: true }, &runs, &mut last).unwrap();
                for shape in [shape, scan] {
                    let inputs = RecurInputs { q: &q, k: &k, gate: &gate, beta: Some(&beta), parameters: &parameters };
                    cpu.recur(inputs, shape, &runs, &mut state, &mut values).unwrap();
                }
            });
            let all = [values, last, state].concat();
            assert!(all.iter().all(|x| x.is_finite()));
            let first = first.get_or_insert_with(|| all.clone());
            assert!(same_bits(&all, first), "{isa:?}, {threads} threads");
        }
    }
}

#[track_caller]
fn check_q8(dtype: DType, rows: usize, n: usize, k: usize) {
    let (mut x, mut w) = (noise(rows * k, 1), weight(dtype, n, k));
    x[..32].fill(0.0); // a block without a scale
    let expected = naive::matmul_q8(&x, rows, &w);
    let panels = Panels::of(&mut w).unwrap();
    for isa in Isa::available() {
        for dot in Dot::of(isa) {
            for threads in [1, 3] {
                let mut out = vec![f32::NAN; rows * n];
                on_threads(threads, || q8::matmul_by(isa, dot, &x, rows, &panels, 0..n, &mut out));
                assert!(same_bits(&out, &expected), "{dtype} {rows} x {n} x {k} on {isa:?}, {dot:?}, {threads} threads");
            }
        }
    }
}

#[test]
fn products_in_8_bits_have_the_bits_of_the_naive_loop() {
    for (rows, n, k) in [(1, 1, 32), (2, 33, 64), (5, 32, 96), (7, 95, 256), (100, 40, 544)] {
        check_q8(DType::Q8_0, rows, n, k);
        check_q8(DType::Q4_1, rows, n, k);
    }
    for &dtype in DType::ALL.iter().filter(|dtype| dtype.integers().is_some()) {
        // Few rows and many, which read packed and unpacked codes.
        for rows in [1, 2, 3, 7, 17] {
            check_q8(dtype, rows, 50, 512);
        }
    }
}

#[test]
fn panels_hold_the_weights_in_about_the_bytes_of_the_file() {
    let (rows, cols) = (48, 1024);
    for &dtype in DType::ALL.iter().filter(|dtype| dtype.integers().is_some()) {
        let (stored, packed) = (weight(dtype, rows, cols), matrix_q8(dtype, rows, cols));
        let (mut a, mut b) = (vec![0.0; cols], vec![1.0; cols]);
        for row in 0..rows {
            stored.decode_row(row, &mut a);
            packed.decode_row(row, &mut b);
            assert!(same_bits(&a, &b), "{dtype}: row {row}");
        }
        // Three values take two bits where TQ1_0 has five of them in a byte; NVFP4's scales take two bytes each.
        let most = match dtype {
            DType::TQ1_0 => 1.23,
            DType::NVFP4 => 1.12,
            _ => 1.06,
        };
        let ratio = packed.panels.unwrap().bytes() as f64 / stored.bytes.len() as f64;
        assert!(ratio <= most, "{dtype}: {ratio}");
    }
}

/// Codes of -128 and activations at either end: where sums of products would overflow 16 bits first.
#[test]
fn the_largest_integers_do_not_overflow() {
    let (rows, n, k) = (6, 32, 64);
    let mut bytes = Vec::new();
    for block in 0..n * k / 32 {
        bytes.extend([0x00, 0x3c]);
        bytes.extend([if block % 3 == 0 { 127u8 } else { 0x80 }; 32]);
    }
    let tensor = HostTensor { dtype: DType::Q8_0, rows: n, cols: k, bytes: TensorBytes::Owned(bytes) };
    let mut w = Cpu::new().weight(tensor).unwrap();
    let x: Vec<f32> = (0..rows * k).map(|i| if i / 32 % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let expected = naive::matmul_q8(&x, rows, &w);
    let panels = Panels::of(&mut w).unwrap();
    for isa in Isa::available() {
        for dot in Dot::of(isa) {
            let mut out = vec![0.0; rows * n];
            q8::matmul_by(isa, dot, &x, rows, &panels, 0..n, &mut out);
            assert!(same_bits(&out, &expected), "{dot:?}");
        }
    }
}

/// Rounding an activation to 8 bits moves it by half a step at most; a sum of K of them by no more than the weights allow.
#[test]
fn products_in_8_bits_are_near_those_in_f32() {
    let cpu = Cpu::new();
    let (rows, n, k) = (9, 70, 512);
    let x = noise(rows * k, 3);
    for &dtype in DType::ALL {
        let (exact, rounded) = (weight(dtype, n, k), matrix_q8(dtype, n, k));
        let (mut a, mut b) = (vec![0.0; rows * n], vec![0.0; rows * n]);
        cpu.matmul(&x, 0..rows, &exact, 0..n, &mut a).unwrap();
        cpu.matmul(&x, 0..rows, &rounded, 0..n, &mut b).unwrap();
        if dtype.integers().is_none() {
            assert!(same_bits(&a, &b), "{dtype} has no integers and stays in f32");
            continue;
        }
        assert!(!same_bits(&a, &b), "{dtype}: nothing was rounded");
        let mut decoded = vec![0.0; k];
        for column in 0..n {
            exact.decode_row(column, &mut decoded);
            for t in 0..rows {
                let blocks = x[t * k..][..k].chunks(32).zip(decoded.chunks(32));
                let bound: f32 = blocks
                    .map(|(x, w)| {
                        let step = x.iter().fold(0.0f32, |max, x| max.max(x.abs())) / 127.0;
                        0.5 * step * w.iter().map(|w| w.abs()).sum::<f32>()
                    })
                    .sum();
                let error = (a[t * n + column] - b[t * n + column]).abs();
                assert!(error <= 1.001 * bound + 1e-4, "{dtype}: {error} over {bound}");
            }
        }
    }
}

#[test]
fn a_range_of_a_matrix_in_8_bits_is_that_part_of_the_product() {
    let cpu = Cpu::new();
    let (x, w) = (noise(5 * 64, 1), matrix_q8(DType::Q5_0, 100, 64));
    let mut all = vec![0.0; 5 * 100];
    cpu.matmul(&x, 0..5, &w, 0..100, &mut all).unwrap();
    for range in [0..1, 31..33, 32..64, 40..41, 55..100, 99..100] {
        let count = range.len();
        let (mut part, mut few) = (vec![f32::NAN; 5 * count], vec![f32::NAN; 5 * count]);
        cpu.matmul(&x, 0..5, &w, range.clone(), &mut part).unwrap();
        cpu.matvec(&x, 3..4, &w, range.clone(), &mut few).unwrap();
        for t in 0..5 {
            assert!(same_bits(&part[t * count..][..count], &all[t * 100 + range.start..][..count]), "{range:?}");
        }
        assert!(same_bits(&few[3 * count..][..count], &part[3 * count..][..count]), "{range:?}");
    }
}

#[test]
fn activations_that_are_no_numbers_stay_so_in_8_bits() {
    let w = matrix_q8(DType::Q8_0, 3, 64);
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = noise(64, 1);
        x[40] = bad;
        let mut out = vec![0.0; 3];
        Cpu::new().matmul(&x, 0..1, &w, 0..3, &mut out).unwrap();
        assert!(out.iter().all(|sum| sum.is_nan()), "{bad}: {out:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Sequences of any lengths one behind the other, with windows, sinks and caps or without, on every instruction set, against
    /// the plain loop; the bound is that of the suite.
    #[test]
    fn attention_is_the_naive_form(
        lengths in prop::collection::vec(1..160u32, 1..5),
        window in prop::option::of(1..200u32),
        groups in 1..4usize,
        kv_heads in 1..3usize,
        head_dim in 1..70usize,
        value_dim in 1..70usize,
        softcap in prop::option::of(1.0..5.0f32),
        with_sinks in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let mut spans: Vec<[u32; 2]> = Vec::new();
        for length in lengths {
            let start = spans.len() as u32;
            spans.extend((start..start + length).map(|t| [start.max((t + 1).saturating_sub(window.unwrap_or(u32::MAX))), t + 1]));
        }
        let (rows, heads) = (spans.len(), groups * kv_heads);
        let scale = 1.0 / (head_dim as f32).sqrt();
        let shape = AttentionShape { heads, kv_heads, head_dim, value_dim, scale, softcap: softcap.unwrap_or(0.0) };
        let (q, k) = (random.numbers(rows * heads * head_dim), random.numbers(rows * kv_heads * head_dim));
        let v = random.numbers(rows * kv_heads * value_dim);
        let sinks = with_sinks.then(|| random.numbers(heads));
        let expected = suite::attend(&q, &k, &v, &spans, sinks.as_deref(), shape);
        for isa in Isa::available() {
            let mut out = vec![0.0; expected.len()];
            let spans = spans.as_flattened().to_vec();
            let inputs = AttentionInputs { q: &q, k: &k, v: &v, spans: &spans, sinks: sinks.as_ref() };
            Cpu::with_isa(isa).attention(inputs, rows, shape, &mut out).unwrap();
            for (found, expected) in out.iter().zip(&expected) {
                prop_assert!((f64::from(*found) - expected).abs() <= 4e-6 * 6.0, "{isa:?}: {found}, not {expected}");
            }
        }
    }
}

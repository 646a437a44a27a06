//! Operations that meet encoded weights, row by row: embeddings, norms, products, what is added to rows.

use std::ops::Range;

use bitworth_quant::DType;

use super::guarded::{Guarded, in_place, input, list, output};
use super::{ROWS, Random, U, check, check_bits, f64s, widths};
use crate::backend::{Arithmetic, Backend, Norm, Result};

/// Decoding is exact, so the rows come back bit for bit.
pub(super) fn embed<B: Backend>(b: &B, dtypes: &[DType]) {
    let mut random = Random::new(2);
    for &dtype in dtypes {
        for cols in widths(dtype) {
            let (tensor, decoded) = random.weight(dtype, 37, cols);
            let tokens: Vec<_> = (0..50).map(|_| random.below(37)).chain([0, 36]).collect();
            let expected: Vec<_> = tokens.iter().flat_map(|&t| &decoded[t as usize * cols..][..cols]).copied().collect();
            let table = b.weight(tensor).unwrap();
            let (what, tokens_here) = (format!("embed {dtype} of {cols}"), list(b, &tokens));
            let found = output(b, &what, expected.len(), |out| b.embed(&table, &tokens_here, tokens.len(), out).unwrap());
            check_bits(&what, &found, &expected);
        }
    }
}

/// Bound 16 u of a number and of what its mean was summed from: the tree of a few hundred squares, a root, a division, two
/// products.
pub(super) fn norm<B: Backend>(b: &B, dtypes: &[DType]) {
    let mut random = Random::new(3);
    for &dtype in dtypes {
        for (cols, rows) in widths(dtype).into_iter().zip([3, 65, 1, 64]) {
            // One row of gains for all, or three that take turns.
            for gains in [1, 3] {
                let (tensor, gain) = random.weight(dtype, gains, cols);
                let (x, eps) = (random.numbers(rows * cols), 1e-5);
                let gain_of = |t: usize| &gain[t % gains * cols..][..cols];
                let (device_x, device_gain) = (input(b, &x), b.weight(tensor).unwrap());
                for kind in [Norm::Rms, Norm::Layer] {
                    let rows_of_x = f64s(&x);
                    let normed = rows_of_x.chunks(cols).enumerate().map(|(t, row)| norm_row(kind, row, gain_of(t), eps));
                    let (expected, sizes): (Vec<f64>, Vec<f64>) = normed.flatten().unzip();
                    let what = format!("{kind:?} norm {dtype} of {cols}, {gains} gains");
                    let run = |out: &mut B::Buffer| b.norm(kind, &device_x, rows, &device_gain, eps, out).unwrap();
                    check(&what, &output(b, &what, x.len(), run), &expected, |i| 16.0 * U * sizes[i]);
                }
            }
        }
    }
}

/// The normed numbers, and the size to which each one's rounding is relative.
fn norm_row(kind: Norm, row: &[f64], gain: &[f32], eps: f32) -> Vec<(f64, f64)> {
    let mean = match kind {
        Norm::Rms => 0.0,
        Norm::Layer => row.iter().sum::<f64>() / row.len() as f64,
    };
    let squares = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / row.len() as f64;
    let scale = 1.0 / (squares + f64::from(eps)).sqrt();
    // The mean's rounding is relative to what was summed for it.
    let summed = match kind {
        Norm::Rms => 0.0,
        Norm::Layer => row.iter().map(|x| x.abs()).sum::<f64>() / row.len() as f64,
    };
    let number = |(x, &g): (&f64, &f32)| ((x - mean) * scale * f64::from(g), (x.abs() + summed) * scale * f64::from(g.abs()));
    row.iter().zip(gain).map(number).collect()
}

/// `[T, K] x [N, K]^T`, and for every output the sum of the absolute products, to which its rounding is relative.
fn product(x: &[f32], w: &[f32], inner: usize) -> (Vec<f64>, Vec<f64>) {
    let pairs = x.chunks(inner).flat_map(|x| w.chunks(inner).map(move |w| (x, w)));
    let terms = pairs.map(|(x, w)| x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)));
    terms.map(|terms| terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + f64::abs(term)))).unzip()
}

/// The rounding of a chain of `inner` sums walks at random, so that it grows with the root; eight times that never happens.
fn product_bound(inner: usize) -> f64 {
    (8.0 + 2.0 * (inner as f64).sqrt()) * U
}

pub(super) fn products<B: Backend>(b: &B, dtypes: &[DType]) {
    let mut random = Random::new(4);
    for &dtype in dtypes {
        for (inner, cols) in widths(dtype).into_iter().zip([65, 33, 130, 7]) {
            let (tensor, w) = random.weight(dtype, cols, inner);
            let weight = b.weight(tensor).unwrap();
            for rows in ROWS {
                let x = random.numbers(rows * inner);
                check_product(b, &format!("matmul {dtype}"), B::matmul, &x, &weight, &w, inner);
            }
            for rows in [1, 2, 3, 5, 8, 11] {
                let x = random.numbers(rows * inner);
                check_product(b, &format!("matvec {dtype}"), B::matvec, &x, &weight, &w, inner);
            }
        }
    }
}

pub(super) type Product<B> = fn(
    &B,
    &<B as Backend>::Buffer,
    Range<usize>,
    &<B as Backend>::Weight,
    Range<usize>,
    &mut <B as Backend>::Buffer,
) -> Result<()>;

fn check_product<B: Backend>(b: &B, what: &str, run: Product<B>, x: &[f32], weight: &B::Weight, w: &[f32], inner: usize) {
    let (rows, cols) = (x.len() / inner, w.len() / inner);
    let (expected, sizes) = product(x, w, inner);
    let what = format!("{what} {rows} x {inner} x {cols}");
    // A row stands in front that is not asked for.
    let x = input(b, &[&x[..inner], x].concat());
    let mut out = Guarded::blank(b, cols + expected.len());
    run(b, &x, 1..rows + 1, weight, 0..cols, &mut out.buffer).unwrap();
    let found = out.check(&what, |place| place >= cols);
    check(&what, &found[cols..], &expected, |i| product_bound(inner) * sizes[i]);
}

/// A range of weight rows gives exactly those columns (experts, tiles of the head).
pub(super) fn products_of_parts_of_the_weights<B: Backend>(b: &B, dtypes: &[DType]) {
    let mut random = Random::new(5);
    let (rows, inner, cols, range) = (5, 256, 100, 37..93);
    for &dtype in dtypes {
        let weight = b.weight(random.weight(dtype, cols, inner).0).unwrap();
        let x = input(b, &random.numbers(rows * inner));
        for run in [B::matmul as Product<B>, B::matvec] {
            let what = format!("weight rows {range:?} of {dtype}");
            let all = output(b, &what, rows * cols, |out| run(b, &x, 0..rows, &weight, 0..cols, out).unwrap());
            let part = in_two_steps(b, &what, run, &x, rows, &weight, range.clone());
            let expected: Vec<_> = all.chunks(cols).flat_map(|row| &row[range.clone()]).copied().collect();
            check_bits(&what, &part, &expected);
        }
    }
}

/// A product whose later rows come first: a range of rows leaves the others alone.
fn in_two_steps<B: Backend>(
    b: &B,
    what: &str,
    run: Product<B>,
    x: &B::Buffer,
    rows: usize,
    weight: &B::Weight,
    w_rows: Range<usize>,
) -> Vec<f32> {
    let mut out = Guarded::blank(b, rows * w_rows.len());
    let later = 2 * w_rows.len();
    run(b, x, 2..rows, weight, w_rows.clone(), &mut out.buffer).unwrap();
    out.check(what, |place| place >= later);
    run(b, x, 0..2, weight, w_rows, &mut out.buffer).unwrap();
    out.check(what, |place| place < later)
}

/// What products in another arithmetic give is for their backend to test; what they write is the same.
pub(super) fn products_in_every_arithmetic_write_their_own<B: Backend>(b: &B, dtypes: &[DType]) {
    let mut random = Random::new(24);
    let (rows, inner, cols) = (9, 256, 70);
    let x = input(b, &random.numbers(rows * inner));
    for arithmetic in Arithmetic::ALL.into_iter().filter(|&arithmetic| b.check_arithmetic(arithmetic).is_ok()) {
        for &dtype in dtypes {
            let matrix = b.matrix(random.weight(dtype, cols, inner).0, arithmetic).unwrap();
            for run in [B::matmul as Product<B>, B::matvec] {
                let what = format!("product in {} with {dtype}", arithmetic.name());
                for w_rows in [0..cols, 33..34, 31..64] {
                    in_two_steps(b, &what, run, &x, rows, &matrix, w_rows);
                }
            }
        }
    }
}

/// One sum; but a GPU's compiler may join it with a decoder's own subtraction, whose terms are as large as the largest weight.
pub(super) fn add_bias<B: Backend>(b: &B, dtypes: &[DType]) {
    let mut random = Random::new(6);
    for &dtype in dtypes {
        for (cols, rows) in widths(dtype).into_iter().zip(ROWS) {
            let (tensor, bias) = random.weight(dtype, 1, cols);
            let x = random.numbers(rows * cols);
            let largest = bias.iter().fold(0.0, |most: f32, b| most.max(b.abs()));
            let expected: Vec<_> = x.iter().enumerate().map(|(i, &x)| f64::from(x) + f64::from(bias[i % cols])).collect();
            let (what, bias) = (format!("add_bias {dtype}"), b.weight(tensor).unwrap());
            let found = in_place(b, &what, &x, |x| b.add_bias(x, rows, &bias).unwrap());
            check(&what, &found, &expected, |i| 2.0 * U * f64::from(x[i].abs() + largest));
        }
    }
}

/// As [`add_bias`], with a row of the table for each row.
pub(super) fn add_rows<B: Backend>(b: &B, dtypes: &[DType]) {
    let mut random = Random::new(16);
    for &dtype in dtypes {
        for (cols, rows) in widths(dtype).into_iter().zip(ROWS) {
            let (tensor, table) = random.weight(dtype, 9, cols);
            let (x, index) = (random.numbers(rows * cols), (0..rows).map(|_| random.below(9)).collect::<Vec<_>>());
            let largest = table.iter().fold(0.0, |most: f32, b| most.max(b.abs()));
            let added = |i: usize| f64::from(table[index[i / cols] as usize * cols + i % cols]);
            let expected: Vec<_> = x.iter().enumerate().map(|(i, &x)| f64::from(x) + added(i)).collect();
            let (what, table, index) = (format!("add_rows {dtype}"), b.weight(tensor).unwrap(), list(b, &index));
            let found = in_place(b, &what, &x, |x| b.add_rows(x, rows, &table, &index).unwrap());
            check(&what, &found, &expected, |i| 2.0 * U * f64::from(x[i].abs() + largest));
        }
    }
}

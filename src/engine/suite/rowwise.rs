//! Operations on plain numbers: gates, functions, sums, and rows and columns that move.

use super::guarded::{Guarded, in_place, input, list, output};
use super::{Random, U, check, check_bits};
use crate::backend::{Backend, ColumnCopy, Columns, CombineShape, Gate, Map, Terms};

pub(super) fn transfers<B: Backend>(b: &B) {
    let data = Random::new(1).numbers(1000);
    let buffer = b.upload(&data).unwrap();
    check_bits("read", &b.read(&buffer, 3..777).unwrap(), &data[3..777]);
    assert!(b.read(&buffer, 5..5).unwrap().is_empty());
    for (from, to, len) in [(11, 500, 100), (0, 0, 1), (999, 999, 1), (3, 7, 0), (0, 0, 1000)] {
        let mut other = Guarded::blank(b, 1000);
        b.copy(&buffer, from, &mut other.buffer, to, len).unwrap();
        let copied = other.check("copy", |place| (to..to + len).contains(&place));
        check_bits("copy", &copied[to..][..len], &data[from..][..len]);
    }
    b.synchronize().unwrap();
    assert!(b.max_buffer_len() >= 1 << 20);
}

pub(super) fn elementwise<B: Backend>(b: &B) {
    let mut random = Random::new(9);
    for len in [1, 255, 4099] {
        let (mut gate, up) = (random.numbers(len), random.numbers(len));
        for (x, extreme) in gate.iter_mut().zip([-100.0, -90.0, 100.0, 0.0]) {
            *x = extreme;
        }
        let other = input(b, &up);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let gelu = |x: f64| x * sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x));
        let f = |kind: Gate, g: f64, u: f64| match kind {
            Gate::Silu => g * sigmoid(g) * u,
            Gate::Gelu => gelu(g) * u,
            Gate::Sigmoid => sigmoid(g) * u,
            Gate::Product => g * u,
            Gate::ClampedSilu => g.min(7.0) * sigmoid(1.702 * g.min(7.0)) * (u.clamp(-7.0, 7.0) + 1.0),
        };
        // Graphics interfaces allow exp(x) an error of 3 + 2 |x| units in the last place. The exponent of GELU is a cube, and
        // what is rounded in it comes out as many times as it is large.
        let rounding = |g: f32| (16.0 + 4.0 * f64::from(g.abs()).max(0.1 * f64::from(g * g * g).abs())).min(1e4) * U;
        for kind in [Gate::Silu, Gate::Gelu, Gate::ClampedSilu, Gate::Sigmoid, Gate::Product] {
            let what = format!("{kind:?} gate");
            let found = in_place(b, &what, &gate, |gate| b.gate(kind, gate, &other, len).unwrap());
            let expected: Vec<_> = gate.iter().zip(&up).map(|(&g, &u)| f(kind, g.into(), u.into())).collect();
            // One is added to what may be close to minus one.
            let slack = |i: usize| if kind == Gate::ClampedSilu { 2.0 * U * f64::from(gate[i].abs()) } else { 0.0 };
            let bound = |i: usize| rounding(gate[i]) * expected[i].abs() + slack(i) + 1e-30;
            check(&what, &found, &expected, bound);
        }
        let xielu = Map::Xielu { alpha_p: 0.8, alpha_n: 1.3, beta: 0.5, eps: -1e-6 };
        for kind in [Map::Gelu, Map::Scale(1.7), Map::Softcap(0.9), Map::Softcap(30.0), Map::Silu, Map::ReluSquared, xielu] {
            let what = format!("{kind:?}");
            let found = in_place(b, &what, &gate, |x| b.map(kind, x, len).unwrap());
            let f = |x: f64| match kind {
                Map::Gelu => gelu(x),
                Map::Scale(factor) => f64::from(factor) * x,
                Map::Softcap(cap) => f64::from(cap) * (x / f64::from(cap)).tanh(),
                Map::Silu => x * sigmoid(x),
                Map::ReluSquared => x.max(0.0) * x.max(0.0),
                Map::Xielu { alpha_p, alpha_n, beta, eps } => {
                    let [alpha_p, alpha_n, beta, eps] = [alpha_p, alpha_n, beta, eps].map(f64::from);
                    let bent = if x > 0.0 { alpha_p * x * x } else { alpha_n * (x.min(eps).exp_m1() - x) };
                    bent + beta * x
                }
            };
            let expected: Vec<_> = gate.iter().map(|&x| f(x.into())).collect();
            // What is below zero is the difference of two numbers of the size of x.
            let slack = |x: f32| if matches!(kind, Map::Xielu { .. }) { 8.0 * U * f64::from(x.abs()) } else { 0.0 };
            let bound = |i: usize| rounding(gate[i]) * expected[i].abs() + slack(gate[i]) + 1e-30;
            check(&what, &found, &expected, bound);
        }

        let mut sum = Guarded::new(b, &gate);
        b.add(&mut sum.buffer, &other, 1.0, len).unwrap();
        let expected: Vec<_> = gate.iter().zip(&up).map(|(g, u)| g + u).collect();
        check_bits("add", &sum.check("add", |_| true), &expected);
        b.add(&mut sum.buffer, &other, 0.22, len).unwrap();
        let size = |i: usize| f64::from(expected[i].abs() + up[i].abs());
        let twice: Vec<_> = expected.iter().zip(&up).map(|(&g, &u)| f64::from(g) + f64::from(0.22f32) * f64::from(u)).collect();
        check("add scaled", &sum.check("add scaled", |_| true), &twice, |i| 2.0 * U * size(i));
    }
}

/// A handful of products and sums.
pub(super) fn combine<B: Backend>(b: &B) {
    let mut random = Random::new(17);
    for (rows, per_row, cols) in [(1, 1, 1), (33, 3, 70), (64, 8, 130)] {
        let slots: Vec<_> = (0..rows * per_row).map(|_| random.below(20)).collect();
        let (x, weights, old) = (random.numbers(20 * cols), random.numbers(rows * per_row), random.numbers(rows * cols));
        let (device_x, device_slots, device_weights) = (input(b, &x), list(b, &slots), input(b, &weights));
        for accumulate in [false, true] {
            let start = |i: usize| if accumulate { f64::from(old[i]) } else { 0.0 };
            let (mut expected, mut sizes) = (Vec::new(), Vec::new());
            for i in 0..rows * cols {
                let terms = (0..per_row).map(|j| i / cols * per_row + j);
                let terms = terms.map(|j| f64::from(weights[j]) * f64::from(x[slots[j] as usize * cols + i % cols]));
                let (sum, size) = terms.fold((start(i), start(i).abs()), |(sum, size), t| (sum + t, size + t.abs()));
                expected.push(sum);
                sizes.push(size);
            }
            let terms = Terms { x: &device_x, slots: &device_slots, weights: &device_weights };
            let shape = CombineShape { rows, per_row, cols, accumulate };
            let found = in_place(b, "combine", &old, |out| b.combine(terms, shape, out).unwrap());
            check("combine", &found, &expected, |i| 8.0 * U * sizes[i]);
        }
    }
}

pub(super) fn copy_columns<B: Backend>(b: &B) {
    let mut random = Random::new(18);
    for (rows, repeat, count) in [(1, 1, 1), (12, 1, 5), (12, 4, 7), (65, 3, 16)] {
        let (from, to) = (Columns { stride: count + 3, first: 2 }, Columns { stride: count + 4, first: 1 });
        let src = random.numbers(rows * from.stride);
        let mut dst = Guarded::blank(b, rows * to.stride);
        b.copy_columns(&input(b, &src), &mut dst.buffer, ColumnCopy { from, to, rows, count, repeat }).unwrap();
        let own = |place: usize| (to.first..to.first + count).contains(&(place % to.stride));
        let found = dst.check("copy_columns", own);
        for (t, row) in found.chunks(to.stride).enumerate() {
            let expected = &src[t / repeat * from.stride + from.first..][..count];
            check_bits(&format!("copy_columns, row {t}"), &row[to.first..][..count], expected);
        }
    }
}

pub(super) fn gather<B: Backend>(b: &B) {
    let mut random = Random::new(10);
    for (rows, cols, count) in [(1, 1, 1), (20, 7, 65), (130, 64, 3)] {
        let x = random.numbers(rows * cols);
        let picks: Vec<_> = (0..count).map(|_| random.below(rows)).collect();
        let expected: Vec<_> = picks.iter().flat_map(|&r| &x[r as usize * cols..][..cols]).copied().collect();
        let (x, picks) = (input(b, &x), list(b, &picks));
        let found = output(b, "gather", expected.len(), |out| b.gather(&x, &picks, count, cols, out).unwrap());
        check_bits("gather", &found, &expected);
    }
}

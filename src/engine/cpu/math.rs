//! Elementary functions for the inner loops: branch-free, so that they vectorize, and the same bits on every machine.
//!
//! Absent: functions needed once per row (those come from the `libm` crate, which is deterministic too).

/// e^x within 2 ulp for x in [-87.3, 88.3]; below it is 0 and above it is e^88.3.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor polynomial of degree 7 (remainder under 6e-9); 2^n by its bits.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts: the first has 9 trailing zero bits, so n * LN2_HIGH is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to the nearest integer, which then stands in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.3, 88.3);
    let shifted = clamped.mul_add(LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = r.mul_add(p, c);
    }
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32).wrapping_add(127);
    let scale = f32::from_bits((exponent << 23) as u32);
    if x < -87.3 { 0.0 } else { p * scale }
}

/// 1 / (1 + e^-x). Weights of experts have one of their own, in f64 (`routing::sigmoid`).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// x * sigmoid(x).
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// The tanh form of GELU, `x/2 (1 + tanh(u))` with `u = sqrt(2/pi) (x + 0.044715 x^3)`, which is `x sigmoid(2u)`.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    const TWICE_ROOT: f32 = 1.595_769_2;
    let u = TWICE_ROOT * (0.044_715 * x * x).mul_add(x, x);
    x / (1.0 + exp(-u))
}

/// tanh within 4 ulp: by its Taylor series (the next term is below 1e-8 of the whole) or by e^-2|x|.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let square = x * x;
    let mut p = 62.0 / 2835.0;
    for c in [-17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0] {
        p = square.mul_add(p, c);
    }
    let series = (square * x).mul_add(p, x);
    let e = exp(-2.0 * x.abs());
    let tail = ((1.0 - e) / (1.0 + e)).copysign(x);
    if x.abs() < 0.25 { series } else { tail }
}

/// e^x - 1 within 4 ulp for x up to 0: by its Taylor polynomial of degree 8 (the next term is about 1e-8 of the whole) or by e^x.
#[inline(always)]
pub fn expm1(x: f32) -> f32 {
    let mut p = 1.0 / 40_320.0;
    for c in [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        p = x.mul_add(p, c);
    }
    let series = (x * x).mul_add(p, x);
    if x > -0.5 { series } else { exp(x) - 1.0 }
}

/// ln(1 + e^x) within 6 ulp: the larger of x and 0, and ln(1 + z) of z = e^-|x| as twice the area tangent of z / (2 + z), which
/// is a third at most (the next term of its series is about 1e-9 of the whole).
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    let z = exp(-x.abs());
    let s = z / (2.0 + z);
    let square = s * s;
    let mut p = 2.0 / 15.0;
    for c in [2.0 / 13.0, 2.0 / 11.0, 2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0] {
        p = square.mul_add(p, c);
    }
    s.mul_add(p, x.max(0.0))
}

/// How many partial results a reduction keeps. Fixed, so that the order of a sum is the same on every machine.
pub const LANES: usize = 16;

/// Reduces `LANES` partial results pairwise, halves against halves.
#[inline(always)]
pub fn tree<T: Copy>(mut lanes: [T; LANES], combine: impl Fn(T, T) -> T) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = combine(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Folds numbers in `LANES` interleaved chains, then combines those by [`tree`].
#[inline(always)]
pub fn fold<T: Copy>(numbers: &[f32], start: T, step: impl Fn(T, f32) -> T, combine: impl Fn(T, T) -> T) -> T {
    let mut lanes = [start; LANES];
    let (whole, rest) = numbers.as_chunks::<LANES>();
    for chunk in whole {
        for i in 0..LANES {
            lanes[i] = step(lanes[i], chunk[i]);
        }
    }
    for (lane, &number) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, number);
    }
    tree(lanes, combine)
}

/// Sum of some numbers.
#[inline(always)]
pub fn sum(numbers: &[f32]) -> f32 {
    fold(numbers, 0.0f32, |a, x| a + x, |a, b| a + b)
}

/// The largest of some numbers; minus infinity where there is none.
#[inline(always)]
pub fn max(numbers: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    fold(numbers, f32::NEG_INFINITY, larger, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp_of_the_true_value() {
        let mut worst = 0.0f64;
        for i in -87_000..88_000 {
            let x = i as f32 * 1e-3 + 0.000_37;
            let truth = libm::exp(f64::from(x));
            worst = worst.max((f64::from(exp(x)) - truth).abs() / truth);
        }
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "relative error {worst:e}");
    }

    #[test]
    fn tanh_is_within_four_ulp_of_the_true_value() {
        let mut worst = 0.0f64;
        for i in -100_000..100_000 {
            let x = i as f32 * 1e-4 + 0.000_037;
            let truth = libm::tanh(f64::from(x));
            worst = worst.max(((f64::from(tanh(x)) - truth) / truth).abs());
        }
        assert!(worst < 4.0 * f64::from(f32::EPSILON), "relative error {worst:e}");
        assert_eq!((tanh(0.0), tanh(1e30), tanh(-1e30)), (0.0, 1.0, -1.0));
    }

    #[test]
    fn expm1_is_within_four_ulp_of_the_true_value() {
        let mut worst = 0.0f64;
        for i in 0..200_000 {
            let x = -(i as f32 * 1e-4 + 0.000_037);
            let truth = libm::expm1(f64::from(x));
            worst = worst.max(((f64::from(expm1(x)) - truth) / truth).abs());
        }
        assert!(worst < 4.0 * f64::from(f32::EPSILON), "relative error {worst:e}");
        assert_eq!((expm1(0.0), expm1(-1e30), expm1(-1e-6)), (0.0, -1.0, libm::expm1(f64::from(-1e-6f32)) as f32));
    }

    #[test]
    fn softplus_is_within_six_ulp_of_the_true_value() {
        let mut worst = 0.0f64;
        for i in -80_000..80_000 {
            let x = i as f32 * 1e-3 + 0.000_37;
            let truth = libm::log1p(libm::exp(f64::from(x)));
            worst = worst.max((f64::from(softplus(x)) - truth).abs() / truth);
        }
        assert!(worst < 6.0 * f64::from(f32::EPSILON), "relative error {worst:e}");
        assert_eq!((softplus(1e30), softplus(-1e30)), (1e30, 0.0));
    }

    #[test]
    fn exp_ends_are_tame() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert!(exp(1000.0).is_finite());
    }

    #[test]
    fn every_number_is_folded_once() {
        for len in [0u16, 1, 15, 16, 17, 100] {
            let numbers: Vec<f32> = (0..len).map(f32::from).collect();
            assert_eq!(sum(&numbers), f32::from(len) * (f32::from(len) - 1.0) / 2.0);
            assert_eq!(max(&numbers), numbers.last().copied().unwrap_or(f32::NEG_INFINITY));
        }
    }
}

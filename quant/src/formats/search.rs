//! ggml's searches for the scale (and minimum) of a group of weights that lose least, shared by the block formats.
//!
//! Eight groups are searched side by side, one in each lane, so that the loops vectorize while every lane adds up in
//! ggml's order; hence the transposed arrays. The algorithms are those of `make_qx_quants`, `make_qkx2_quants`,
//! `make_qkx3_quants` and `make_qp_quants` in llama.cpp's `ggml/src/ggml-quants.c` (b11434); each expression keeps its
//! order of operations, because the bytes must be the same. Packing codes into bytes is left to the formats.

/// Groups searched side by side.
pub(super) const LANES: usize = 8;
/// One number for each group.
pub(super) type Lanes<T = f32> = [T; LANES];
/// Number `i` of each group in row `i`.
pub(super) type Groups<const N: usize, T = f32> = [Lanes<T>; N];

/// A group whose largest magnitude is smaller counts as all zeros (`GROUP_MAX_EPS`).
pub(super) const ZERO_GROUP: f32 = 1e-15;

/// Up to eight groups, transposed; absent ones are zeros.
#[inline(always)]
pub(super) fn transpose<const N: usize>(groups: &[[f32; N]]) -> Groups<N> {
    let mut out = [[0.0; LANES]; N];
    for (lane, group) in groups.iter().enumerate().take(LANES) {
        for (row, &x) in out.iter_mut().zip(group) {
            row[lane] = x;
        }
    }
    out
}

/// ggml's `nearest_int`: ties to even within 2^22, defined (and meaningless) nonsense beyond.
#[inline(always)]
pub(super) fn nearest_int(x: f32) -> i32 {
    // Adding 1.5 * 2^23 leaves the integer in the lower mantissa bits.
    ((x + 12_582_912.0).to_bits() & 0x7f_ffff) as i32 - 0x40_0000
}

/// The reciprocal of `d` for multiplying weights with, 0 for 0. Where it overflows it is NaN, which makes every code 0, as
/// x86 builds of ggml do where C leaves the conversion undefined.
#[inline(always)]
pub(super) fn reciprocal(d: f32) -> f32 {
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    if inverse.is_infinite() { f32::NAN } else { inverse }
}

/// The number of largest magnitude, the first one among equals; 0 if all are zeros. NaN is passed over.
#[inline(always)]
pub(super) fn signed_max<const N: usize>(x: &[f32; N]) -> f32 {
    let mut amax = 0;
    for x in x {
        let bits = x.abs().to_bits(); // ordered as the magnitudes are
        amax = amax.max(if bits > 0x7f80_0000 { 0 } else { bits });
    }
    if amax == 0 { 0.0 } else { x.iter().copied().find(|x| x.abs().to_bits() == amax).unwrap_or(0.0) }
}

/// Scales for codes `-levels..levels` that minimize the weighted squared error (`make_qx_quants` with `rmse_type` 1 and
/// explicit weights): least squares at each of 19 roundings. Codes come back shifted up by `levels`; a group of zeros has
/// scale 0 and codes 0.
#[inline(always)]
pub(super) fn symmetric<const N: usize>(x: &Groups<N>, w: &Groups<N>, levels: i32, codes: &mut Groups<N, i32>) -> Lanes {
    let (mut amax, mut max) = ([0.0; LANES], [0.0; LANES]);
    let mut wx = [[0.0; LANES]; N];
    for i in 0..N {
        for l in 0..LANES {
            let magnitude = x[i][l].abs();
            let larger = magnitude > amax[l];
            amax[l] = if larger { magnitude } else { amax[l] };
            max[l] = if larger { x[i][l] } else { max[l] };
            wx[i][l] = w[i][l] * x[i][l];
        }
    }
    let code = |x: f32, inverse: f32| nearest_int(inverse * x).max(-levels).min(levels - 1);
    let sums = |inverse: &Lanes| {
        let (mut sum_lx, mut sum_l2) = ([0.0; LANES], [0.0; LANES]);
        for i in 0..N {
            for l in 0..LANES {
                let q = code(x[i][l], inverse[l]) as f32;
                sum_lx[l] += wx[i][l] * q;
                sum_l2[l] += w[i][l] * q * q;
            }
        }
        (sum_lx, sum_l2)
    };

    let mut best_inverse: Lanes = std::array::from_fn(|l| -levels as f32 / max[l]);
    let (sum_lx, sum_l2) = sums(&best_inverse);
    let mut scale: Lanes = std::array::from_fn(|l| if sum_l2[l] == 0.0 { 0.0 } else { sum_lx[l] / sum_l2[l] });
    let mut best: Lanes = std::array::from_fn(|l| scale[l] * sum_lx[l]);
    for step in (-9..=9).filter(|&step| step != 0) {
        let numerator = -(levels as f32 + 0.1 * step as f32);
        let inverse: Lanes = std::array::from_fn(|l| numerator / max[l]);
        let (sum_lx, sum_l2) = sums(&inverse);
        for l in 0..LANES {
            let better = sum_l2[l] > 0.0 && sum_lx[l] * sum_lx[l] > best[l] * sum_l2[l];
            let new_scale = sum_lx[l] / sum_l2[l];
            scale[l] = if better { new_scale } else { scale[l] };
            best[l] = if better { new_scale * sum_lx[l] } else { best[l] };
            best_inverse[l] = if better { inverse[l] } else { best_inverse[l] };
        }
    }
    let zero = amax.map(|amax| amax < ZERO_GROUP);
    for i in 0..N {
        for l in 0..LANES {
            codes[i][l] = if zero[l] { 0 } else { code(x[i][l], best_inverse[l]) + levels };
        }
    }
    std::array::from_fn(|l| if zero[l] { 0.0 } else { scale[l] })
}

/// How [`affine`] searches.
pub(super) struct AffineSearch {
    /// Largest code.
    pub max_code: i32,
    /// The first rounding divides the range into `max_code + first` steps.
    pub first: f32,
    /// How many steps more the next rounding divides it into.
    pub delta: f32,
    /// Number of roundings tried.
    pub count: i32,
    /// Clamp before rounding (`make_qkx3_quants`) and not only after it (`make_qkx2_quants`).
    pub clamp_first: bool,
}

/// What [`affine`] found: weight = `scale * code - min`.
pub(super) struct Affine {
    pub scale: Lanes,
    pub min: Lanes,
}

/// Scales and (non-negative) minimums for codes `0..=max_code` that minimize the weighted squared error: least squares at
/// each of several roundings (`make_qkx2_quants` and `make_qkx3_quants` with squared errors).
#[inline(always)]
pub(super) fn affine<const N: usize>(x: &Groups<N>, w: &Groups<N>, search: &AffineSearch, codes: &mut Groups<N, i32>) -> Affine {
    let (mut min, mut max, mut sum_w) = (x[0], x[0], w[0]);
    let mut sum_x: Lanes = std::array::from_fn(|l| w[0][l] * x[0][l]);
    for i in 1..N {
        for l in 0..LANES {
            min[l] = if x[i][l] < min[l] { x[i][l] } else { min[l] };
            max[l] = if x[i][l] > max[l] { x[i][l] } else { max[l] };
            sum_w[l] += w[i][l];
            sum_x[l] += w[i][l] * x[i][l];
        }
    }
    let min_0 = min.map(|min| if min > 0.0 { 0.0 } else { min });
    let mut min = min_0;
    let constant: Lanes<bool> = std::array::from_fn(|l| max[l] == min_0[l]);

    let top = search.max_code as f32;
    let inverse: Lanes = std::array::from_fn(|l| top / (max[l] - min[l]));
    let mut scale: Lanes = inverse.map(|inverse| 1.0 / inverse);
    let mut best_error = [0.0; LANES];
    for i in 0..N {
        for l in 0..LANES {
            codes[i][l] = nearest_int(inverse[l] * (x[i][l] - min[l])).max(0).min(search.max_code);
            let diff = scale[l] * codes[i][l] as f32 + min[l] - x[i][l];
            best_error[l] += w[i][l] * (diff * diff);
        }
    }

    let mut trial = [[0.0; LANES]; N];
    for step in 0..search.count {
        let steps = search.first + search.delta * step as f32 + top;
        let inverse: Lanes = std::array::from_fn(|l| steps / (max[l] - min[l]));
        let (mut sum_l, mut sum_l2, mut sum_xl) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for i in 0..N {
            for l in 0..LANES {
                let v = inverse[l] * (x[i][l] - min[l]);
                let q = if search.clamp_first {
                    let v = if v < top { v } else { top };
                    if v > 0.0 { nearest_int(v) } else { 0 }
                } else {
                    nearest_int(v).max(0).min(search.max_code)
                };
                let q = q as f32;
                trial[i][l] = q;
                let wq = w[i][l] * q;
                sum_l[l] += wq;
                sum_l2[l] += wq * q;
                sum_xl[l] += wq * x[i][l];
            }
        }
        let (mut new_scale, mut new_min, mut solvable) = ([0.0; LANES], [0.0; LANES], [false; LANES]);
        for l in 0..LANES {
            let determinant = sum_w[l] * sum_l2[l] - sum_l[l] * sum_l[l];
            solvable[l] = determinant > 0.0;
            new_scale[l] = (sum_w[l] * sum_xl[l] - sum_x[l] * sum_l[l]) / determinant;
            new_min[l] = (sum_l2[l] * sum_x[l] - sum_l[l] * sum_xl[l]) / determinant;
            let through_zero = new_min[l] > 0.0;
            new_min[l] = if through_zero { 0.0 } else { new_min[l] };
            new_scale[l] = if through_zero { sum_xl[l] / sum_l2[l] } else { new_scale[l] };
        }
        let mut error = [0.0; LANES];
        for i in 0..N {
            for l in 0..LANES {
                let diff = new_scale[l] * trial[i][l] + new_min[l] - x[i][l];
                error[l] += w[i][l] * (diff * diff);
            }
        }
        let better: Lanes<bool> = std::array::from_fn(|l| solvable[l] && error[l] < best_error[l]);
        if better == [false; LANES] {
            continue;
        }
        for i in 0..N {
            for l in 0..LANES {
                codes[i][l] = if better[l] { trial[i][l] as i32 } else { codes[i][l] };
            }
        }
        for l in 0..LANES {
            best_error[l] = if better[l] { error[l] } else { best_error[l] };
            scale[l] = if better[l] { new_scale[l] } else { scale[l] };
            min[l] = if better[l] { new_min[l] } else { min[l] };
        }
    }

    for i in 0..N {
        for l in 0..LANES {
            codes[i][l] = if constant[l] { 0 } else { codes[i][l] };
        }
    }
    Affine {
        scale: std::array::from_fn(|l| if constant[l] { 0.0 } else { scale[l] }),
        min: std::array::from_fn(|l| if constant[l] { -min_0[l] } else { -min[l] }),
    }
}

/// One scale for a few non-negative numbers (the scales of sub-blocks) with codes `0..=max_code`, minimizing the weighted
/// squared error (`make_qp_quants`): nine roundings, then single codes are moved while that helps.
pub(super) fn positive<const N: usize>(x: &[f32; N], w: &[f32; N], max_code: u8, codes: &mut [u8; N]) -> f32 {
    let top = f32::from(max_code);
    let max = x.iter().fold(0.0, |max, &x| if max > x { max } else { x });
    if max < ZERO_GROUP {
        *codes = [0; N];
        return 0.0;
    }
    let code = |x: f32| nearest_int(x).min(i32::from(max_code));
    let error = |inverse: f32, code: &dyn Fn(f32) -> i32| {
        let scale = 1.0 / inverse;
        x.iter().zip(w).fold(0.0, |sum, (&x, &w)| {
            let diff = x - scale * code(inverse * x) as f32;
            sum + w * diff * diff
        })
    };

    let mut inverse = top / max;
    // ggml keeps the first codes in bytes, unclamped.
    let mut best = error(inverse, &|x| i32::from(nearest_int(x) as u8));
    for step in (-4..=4).filter(|&step| step != 0) {
        let trial = (0.1 * step as f32 + top) / max;
        let error = error(trial, &code);
        if error < best {
            (best, inverse) = (error, trial);
        }
    }

    let (mut sum_lx, mut sum_l2) = (0.0, 0.0);
    for i in 0..N {
        let q = code(inverse * x[i]);
        codes[i] = q as u8;
        sum_lx += w[i] * x[i] * q as f32;
        sum_l2 += w[i] * q as f32 * q as f32;
    }
    for _ in 0..5 {
        let mut changed = false;
        for i in 0..N {
            let old = f32::from(codes[i]);
            let mut lx = sum_lx - w[i] * x[i] * old;
            let mut l2 = sum_l2 - w[i] * old * old;
            if !(lx > 0.0 && l2 > 0.0) {
                continue;
            }
            let q = code(x[i] * l2 / lx);
            if q == i32::from(codes[i]) {
                continue;
            }
            lx += w[i] * x[i] * q as f32;
            l2 += w[i] * q as f32 * q as f32;
            if lx * lx * sum_l2 > sum_lx * sum_lx * l2 {
                (codes[i], sum_lx, sum_l2) = (q as u8, lx, l2);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    if sum_l2 > 0.0 { sum_lx / sum_l2 } else { 0.0 }
}

/// The mean square of a row times `factor`, added up in order.
#[inline(always)]
pub(super) fn mean_square(x: &[f32], factor: f32) -> f32 {
    factor * x.iter().fold(0.0, |sum, x| sum + x * x) / x.len() as f32
}

/// Encodes a row of 32-weight blocks by [`symmetric`] with weights `importance * sqrt(mean square of the row + x^2)`, as
/// ggml does for its oldest types; `pack` gets each block, its scale and its codes `0..2 * levels`.
#[inline(always)]
pub(super) fn symmetric_row<B>(
    x: &[f32],
    importance: &[f32],
    levels: i32,
    blocks: &mut [B],
    pack: impl Fn(&mut B, f32, &[u8; 32]),
) {
    let sigma2 = mean_square(x, 1.0);
    let (x, importance) = (x.as_chunks::<32>().0, importance.as_chunks::<32>().0);
    for ((x, importance), blocks) in x.chunks(LANES).zip(importance.chunks(LANES)).zip(blocks.chunks_mut(LANES)) {
        let (x, mut w) = (transpose(x), transpose(importance));
        for i in 0..32 {
            for l in 0..LANES {
                w[i][l] *= (sigma2 + x[i][l] * x[i][l]).sqrt();
            }
        }
        let mut codes = [[0; LANES]; 32];
        let scales = symmetric(&x, &w, levels, &mut codes);
        for (l, block) in blocks.iter_mut().enumerate() {
            pack(block, scales[l], &std::array::from_fn(|i| codes[i][l] as u8));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_int_breaks_ties_to_even() {
        let check = |x: f32, expected: i32| assert_eq!(nearest_int(x), expected, "{x}");
        check(0.5, 0);
        check(1.5, 2);
        check(-2.5, -2);
        check(-3.5, -4);
        check(126.6, 127);
        check(-4_000_000.0, -4_000_000);
    }

    #[test]
    fn the_signed_maximum_is_the_first_among_equals() {
        let check = |x: [f32; 4], expected: f32| assert_eq!(signed_max(&x).to_bits(), expected.to_bits(), "{x:?}");
        check([1.0, -2.0, 2.0, 0.5], -2.0);
        check([0.0, -0.0, 0.0, 0.0], 0.0);
        check([-0.0; 4], 0.0);
        check([f32::NAN, 1.0, -3.0, f32::NAN], -3.0);
        check([1.0, f32::NEG_INFINITY, 0.0, 0.0], f32::NEG_INFINITY);
    }

    #[test]
    fn numbers_on_a_grid_are_met_exactly() {
        let codes_in: [i32; 16] = std::array::from_fn(|i| (i as i32 * 7) % 16 - 8);
        let x = transpose(&[codes_in.map(|q| q as f32 * 0.25)]);
        let mut codes = [[0; LANES]; 16];
        let scale = symmetric(&x, &[[1.0; LANES]; 16], 8, &mut codes);
        assert_eq!(scale[0], 0.25);
        assert_eq!(std::array::from_fn(|i| codes[i][0] - 8), codes_in);
        assert_eq!((scale[1], codes[3][1]), (0.0, 0), "an absent group is zeros");

        let x = transpose(&[codes_in.map(|q| (q + 8) as f32 * 0.25 - 1.0)]);
        let search = AffineSearch { max_code: 15, first: -1.0, delta: 0.1, count: 21, clamp_first: false };
        let found = affine(&x, &[[1.0; LANES]; 16], &search, &mut codes);
        assert_eq!((found.scale[0], found.min[0]), (0.25, 1.0));
        assert_eq!(std::array::from_fn(|i| codes[i][0] - 8), codes_in);

        let mut codes = [0; 4];
        assert_eq!(positive(&[0.0, 1.5, 31.5, 0.5], &[1.0; 4], 63, &mut codes), 0.5);
        assert_eq!(codes, [0, 3, 63, 1]);
    }
}

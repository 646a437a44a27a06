//! Q3_K: 256 weights in 16 sub-blocks of 16, each with a 6-bit scale, and 3-bit codes: 3.4375 bits per weight.
//! Weight `i` of sub-block `j` = `d * (sc[j] - 32) * (code[i] - 4)`.
//!
//! ```text
//! byte  0 ......... 31           32 .......... 95     96 ......... 107   108 109
//!       hmask[32]                qs[64]               scales[12]         d
//!       byte i, bit b: upper bit lower two bits,                         f16
//!       of weight i + 32 b       see two_bit.rs
//!
//!       scales[0..8]    hhhhllll   lower four bits of sc[j] (l) and sc[j + 8] (h)      (j = 0..8)
//!       scales[8..12]   ddccbbaa   upper two of sc[j] (a), sc[j + 4] (b), sc[j + 8] (c), sc[j + 12] (d)   (j = 0..4)
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::search::{
    Groups, ZERO_GROUP, by_group, largest, mean_square, scale_importance, signed_max, sum, symmetric, transpose,
};
use super::simd::{Array8, F32x8, SIMD_WIDTH, nearest_int};
use super::{DType, Format, two_bit};

pub(super) const FORMAT: Format = Format::of::<BlockQ3K, 256>(DType::Q3_K, "Q3_K", 11, include_str!("q3_k.wgsl"))
    .of_integers(integers::<BlockQ3K, 256, 16, 1>(CodeValues::Range { bits: 3, offset: 4 }, LevelValues::Bytes, false));

/// 256 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockQ3K {
    hmask: [u8; 32],
    qs: [u8; 64],
    scales: [u8; 12],
    d: F16,
}
const _: () = assert!(size_of::<BlockQ3K>() == 110);

/// What a search found for each of the 16 sub-blocks: scale, sum of the weights, codes.
#[derive(Clone, Copy)]
struct Searched {
    scale: [f32; 16],
    sum_w: [f32; 16],
    codes: [[u8; 16]; 16],
}

const NOTHING: Searched = Searched { scale: [0.0; 16], sum_w: [0.0; 16], codes: [[0; 16]; 16] };

impl BlockQ3K {
    /// ggml's `quantize_row_q3_K_ref`.
    #[inline(always)]
    fn plain<V: F32x8>(x: &[[f32; 16]; 16]) -> Self {
        let mut found = NOTHING;
        let lanes = [transpose(&x[..SIMD_WIDTH]), transpose(&x[SIMD_WIDTH..])];
        let mut codes = [[[0.0; SIMD_WIDTH]; 16]; 2];
        let scales = descend::<V>(&lanes, &mut codes);
        found.scale.copy_from_slice(scales.as_flattened());
        for (half, codes) in codes.iter().enumerate() {
            found.keep_codes(half, codes);
        }
        let max = signed_max::<V, 16>(&found.scale);
        if max == 0.0 {
            return Self::new(x, 0.0, &[0; 16], &found.codes);
        }
        let inverse = -32.0 / max;
        let sc = found.scale.map(|scale| ((nearest_int(inverse * scale) as i8).clamp(-32, 31) + 32) as u8);
        Self::new(x, 1.0 / inverse, &sc, &found.codes)
    }

    /// ggml's `quantize_row_q3_K_impl`: weights `importance * sqrt(2 mean square of the block + x^2)`. The scales of the
    /// sub-blocks are searched for eight blocks at a time.
    #[inline(always)]
    fn weighted<V: F32x8>(x: &[[[f32; 16]; 16]], importance: &[[[f32; 16]; 16]], blocks: &mut [Self]) {
        let mut found = [NOTHING; SIMD_WIDTH];
        for ((x, importance), found) in x.iter().zip(importance).zip(&mut found) {
            let sigma2 = V::splat(mean_square(x.as_flattened(), 2.0));
            for half in 0..2 {
                let eight = half * SIMD_WIDTH..(half + 1) * SIMD_WIDTH;
                let (lanes, mut w) = (transpose(&x[eight.clone()]), transpose(&importance[eight.clone()]));
                scale_importance::<V, 16>(&lanes, &mut w, sigma2);
                let mut codes = [[0.0; SIMD_WIDTH]; 16];
                found.scale[eight.clone()].copy_from_slice(&symmetric::<V, 16>(&lanes, &w, 4, &mut codes));
                found.sum_w[eight].copy_from_slice(&sum::<V, 16>(&w));
                found.keep_codes(half, &codes);
            }
        }
        let (scale, sum_w) = (transpose(&found.map(|f| f.scale)), transpose(&found.map(|f| f.sum_w)));
        let mut sc = [[0.0; SIMD_WIDTH]; 16];
        let d = symmetric::<V, 16>(&scale, &sum_w, 32, &mut sc);
        for (l, (x, block)) in x.iter().zip(blocks).enumerate() {
            *block = Self::new(x, d[l], &sc.map(|sc| sc[l] as u8), &found[l].codes);
        }
    }

    /// Rounds the weights anew to the scales as stored; a sub-block whose scale became 0 keeps the codes of the search.
    #[inline(always)]
    fn new(x: &[[f32; 16]; 16], d: f32, sc: &[u8; 16], searched: &[[u8; 16]; 16]) -> Self {
        let mut block = Self { hmask: [0; 32], qs: [0; 64], scales: pack_scales(sc), d: F16::from_f32(d) };
        let mut codes = *searched;
        for (j, scale) in block.unpack_scales().into_iter().enumerate() {
            if scale != 0.0 {
                codes[j] = x[j].map(|x| (nearest_int(x / scale).clamp(-4, 3) + 4) as u8);
            }
        }
        block.pack(bytemuck::cast_ref(&codes));
        block
    }

    #[inline(always)]
    fn pack(&mut self, codes: &[u8; 256]) {
        for (b, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
            for (mask, code) in self.hmask.iter_mut().zip(codes) {
                *mask |= code >> 2 << b;
            }
        }
        self.qs = two_bit::pack(&codes.map(|code| code & 3));
    }

    /// Scale of each sub-block.
    #[inline(always)]
    fn unpack_scales(&self) -> [f32; 16] {
        let d = self.d.to_f32();
        self.scale_levels().map(|level| d * f32::from(level))
    }

    #[inline(always)]
    fn scale_levels(&self) -> [i8; 16] {
        std::array::from_fn(|j| {
            let lower = self.scales[j % 8] >> (j / 8 * 4) & 15;
            let upper = self.scales[8 + j % 4] >> (j / 4 * 2) & 3;
            (lower | upper << 4) as i8 - 32
        })
    }
}

impl Searched {
    #[inline(always)]
    fn keep_codes(&mut self, half: usize, codes: &Groups<16>) {
        self.codes[half * SIMD_WIDTH..(half + 1) * SIMD_WIDTH].copy_from_slice(&by_group(codes));
    }
}

/// The 6-bit scales in their 12 bytes.
#[inline(always)]
fn pack_scales(sc: &[u8; 16]) -> [u8; 12] {
    let mut packed = [0; 12];
    for j in 0..8 {
        packed[j] = sc[j] & 15 | sc[j + 8] << 4;
    }
    for j in 0..4 {
        packed[8 + j] = sc[j] >> 4 | sc[j + 4] >> 4 << 2 | sc[j + 8] >> 4 << 4 | sc[j + 12] >> 4 << 6;
    }
    packed
}

/// ggml's `make_q3_quants`: from the rounding that maps the largest magnitude to -4, single codes are moved, in order, while
/// that lowers the squared error weighted by `x^2`. Each step waits for the one before, so two vectors go side by side.
/// Codes come back shifted up by 4; a group of zeros has scale 0 and codes 0.
#[inline(always)]
fn descend<V: F32x8>(x: &[Groups<16>; 2], codes: &mut [Groups<16>; 2]) -> [Array8; 2] {
    let (zero, four) = (V::splat(0.0), V::splat(4.0));
    let (mut amax, mut sum_lx, mut sum_l2) = ([zero; 2], [zero; 2], [zero; 2]);
    // `x^2` and `x^3`
    let (mut w, mut wx) = ([[[0.0; SIMD_WIDTH]; 16]; 2], [[[0.0; SIMD_WIDTH]; 16]; 2]);
    for p in 0..2 {
        let max;
        (amax[p], max) = largest(&x[p]);
        let inverse = V::splat(-4.0) / max;
        for i in 0..16 {
            let x = V::load(&x[p][i]);
            let code = (inverse * x).nearest_int(-4, 3);
            w[p][i] = (x * x).store();
            wx[p][i] = (x * x * x).store();
            codes[p][i] = code.store();
            sum_lx[p] = sum_lx[p] + V::load(&wx[p][i]) * code;
            sum_l2[p] = sum_l2[p] + V::load(&w[p][i]) * code * code;
        }
    }
    for _ in 0..5 {
        let mut changed = false;
        for i in 0..16 {
            for p in 0..2 {
                let (x, w, wx) = (V::load(&x[p][i]), V::load(&w[p][i]), V::load(&wx[p][i]));
                let old = V::load(&codes[p][i]);
                let lx = sum_lx[p] - wx * old;
                let l2 = sum_l2[p] - w * old * old;
                let new = (x * l2 / lx).nearest_int(-4, 3);
                let new_lx = lx + wx * new;
                let new_l2 = l2 + w * new * new;
                let moved = V::and(zero.lt(lx), zero.lt((new - old).abs()));
                let gains = (sum_lx[p] * sum_lx[p] * new_l2).lt(new_lx * new_lx * sum_l2[p]);
                let better = V::and(moved, V::and(zero.lt(new_l2), gains));
                codes[p][i] = V::select(better, new, old).store();
                sum_lx[p] = V::select(better, new_lx, sum_lx[p]);
                sum_l2[p] = V::select(better, new_l2, sum_l2[p]);
                changed |= V::any(better);
            }
        }
        if !changed {
            break;
        }
    }
    std::array::from_fn(|p| {
        let all_zero = amax[p].lt(V::splat(ZERO_GROUP));
        for code in &mut codes[p] {
            *code = V::select(all_zero, zero, V::load(code) + four).store();
        }
        let scale = V::select(zero.lt(sum_l2[p]), sum_lx[p] / sum_l2[p], zero);
        V::select(all_zero, zero, scale).store()
    })
}

impl QuantBlock<256> for BlockQ3K {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        let x = x.as_chunks::<16>().0.as_chunks::<16>().0;
        let Some(importance) = importance else {
            for (x, block) in x.iter().zip(blocks) {
                *block = Self::plain::<V>(x);
            }
            return;
        };
        let importance = importance.as_chunks::<16>().0.as_chunks::<16>().0;
        for ((x, importance), blocks) in
            x.chunks(SIMD_WIDTH).zip(importance.chunks(SIMD_WIDTH)).zip(blocks.chunks_mut(SIMD_WIDTH))
        {
            Self::weighted::<V>(x, importance, blocks);
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 256]) {
        let scale = self.unpack_scales();
        let mut codes = two_bit::unpack(&self.qs);
        for (b, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (code, mask) in codes.iter_mut().zip(&self.hmask) {
                *code |= (mask >> b & 1) << 2;
            }
        }
        for (j, (out, codes)) in out.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0).enumerate() {
            *out = codes.map(|code| scale[j] * (f32::from(code) - 4.0));
        }
    }
}

impl Affine<256, 16> for BlockQ3K {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<16, 1>) {
        (Self { scales: pack_scales(&[33; 16]), d: F16::ONE, ..*self }, Factors::leveled([self.d.to_f32()], self.scale_levels()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let codes: [u8; 256] = std::array::from_fn(|i| (i * 37 % 8) as u8);
        let sc: [u8; 16] = std::array::from_fn(|j| (j * 13 % 64) as u8);
        let mut block = BlockQ3K { hmask: [0; 32], qs: [0; 64], scales: pack_scales(&sc), d: F16::from_f32(0.25) };
        block.pack(&codes);
        assert_eq!(block.hmask[7] >> 5 & 1, codes[5 * 32 + 7] >> 2);
        assert_eq!(block.scales[8 + 1] >> 4 & 3, sc[9] >> 4);
        let mut out = [0.0; 256];
        block.decode(&mut out);
        let expected = std::array::from_fn(|i| 0.25 * (f32::from(sc[i / 16]) - 32.0) * (f32::from(codes[i]) - 4.0));
        assert_eq!(out, expected);
    }
}

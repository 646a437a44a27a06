//! Q4_K: 256 weights in 8 sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum, and 4-bit codes: 4.5 bits per
//! weight. Weight `i` of sub-block `j` = `d * sc[j] * code[i] - dmin * m[j]`.
//!
//! ```text
//! byte  0 1   2 3    4 .. 15        16 ............................. 143
//!       d     dmin   scales[12]     qs[128], four runs of 32 bytes
//!       f16   f16                   run r, byte i: hhhhllll   l weight i of sub-block 2r, h of sub-block 2r + 1
//!
//! scales  0..4    SSssssss   s sc[j]                 S upper two bits of sc[j + 4]
//!         4..8    MMmmmmmm   m m[j]                  M upper two bits of m[j + 4]       (j = 0..4)
//!         8..12   mmmmssss   s lower four of sc[j + 4], m lower four of m[j + 4]
//! ```

use super::block::Block;
use super::f16::F16;
use super::search::{AffineSearch, Groups, LANES, affine, mean_square, nearest_int, positive, transpose};
use super::{DType, Format};

pub(super) const FORMAT: Format = Format::of::<BlockQ4K, 256>(DType::Q4_K, "Q4_K", 12, include_str!("q4_k.wgsl"));

/// 256 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockQ4K {
    d: F16,
    dmin: F16,
    scales: [u8; 12],
    qs: [u8; 128],
}
const _: () = assert!(size_of::<BlockQ4K>() == 144);

/// ggml's search without an importance matrix.
const PLAIN: AffineSearch = AffineSearch { max_code: 15, first: -1.0, delta: 0.1, count: 21, clamp_first: false };
/// ggml's search with one.
const WEIGHTED: AffineSearch = AffineSearch { max_code: 15, first: -0.9, delta: 0.05, count: 37, clamp_first: true };

/// The 6-bit scales `sc` and minimums `m` of the sub-blocks in their 12 bytes.
#[inline(always)]
fn pack_scales(sc: &[u8; 8], m: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for j in 0..4 {
        packed[j] = sc[j] | sc[j + 4] >> 4 << 6;
        packed[j + 4] = m[j] | m[j + 4] >> 4 << 6;
        packed[j + 8] = sc[j + 4] & 15 | m[j + 4] << 4;
    }
    packed
}

/// `sc` and `m` out of the 12 bytes.
#[inline(always)]
fn unpack_scales(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut sc, mut m) = ([0; 8], [0; 8]);
    for j in 0..4 {
        sc[j] = packed[j] & 63;
        m[j] = packed[j + 4] & 63;
        sc[j + 4] = packed[j + 8] & 15 | packed[j] >> 6 << 4;
        m[j + 4] = packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4;
    }
    (sc, m)
}

impl BlockQ4K {
    /// ggml's `quantize_row_q4_K_ref`: weights `rms of the sub-block + |x|`, scales rounded to 63rds of the largest.
    #[inline(always)]
    fn plain(x: &[[f32; 32]; 8]) -> Self {
        let lanes = transpose(x);
        let mut sum = [0.0; LANES];
        for x in &lanes {
            for l in 0..LANES {
                sum[l] += x[l] * x[l];
            }
        }
        let rms = sum.map(|sum: f32| (sum / 32.0).sqrt());
        let w: Groups<32> = std::array::from_fn(|i| std::array::from_fn(|l| rms[l] + lanes[i][l].abs()));

        let mut codes = [[0; LANES]; 32];
        let found = affine(&lanes, &w, &PLAIN, &mut codes);
        let largest = |x: &[f32; 8]| x.iter().fold(0.0, |max, &x| if x > max { x } else { max });
        let (max_scale, max_min) = (largest(&found.scale), largest(&found.min));
        let rounded = |x: f32, max: f32| {
            let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
            (nearest_int(inverse * x) as u8).min(63)
        };
        let sc = found.scale.map(|scale| rounded(scale, max_scale));
        let m = found.min.map(|min| rounded(min, max_min));
        Self::with_scales(x, max_scale / 63.0, max_min / 63.0, &sc, &m, &codes)
    }

    /// ggml's `quantize_row_q4_K_impl`: weights `importance * sqrt(2 mean square of the block + x^2)`, scales by search.
    #[inline(always)]
    fn weighted(x: &[[f32; 32]; 8], importance: &[[f32; 32]; 8]) -> Self {
        let sigma2 = mean_square(x.as_flattened(), 2.0);
        let (lanes, mut w) = (transpose(x), transpose(importance));
        let mut sum_w = [0.0; LANES];
        for i in 0..32 {
            for l in 0..LANES {
                w[i][l] *= (sigma2 + lanes[i][l] * lanes[i][l]).sqrt();
                sum_w[l] += w[i][l];
            }
        }
        let mut codes = [[0; LANES]; 32];
        let found = affine(&lanes, &w, &WEIGHTED, &mut codes);
        let (mut sc, mut m) = ([0; 8], [0; 8]);
        let d = positive(&found.scale, &sum_w, 63, &mut sc);
        let dmin = positive(&found.min, &sum_w, 63, &mut m);
        Self::with_scales(x, d, dmin, &sc, &m, &codes)
    }

    /// Rounds the weights anew to the scales as stored; a sub-block whose scale became 0 keeps the codes of the search.
    #[inline(always)]
    fn with_scales(x: &[[f32; 32]; 8], d: f32, dmin: f32, sc: &[u8; 8], m: &[u8; 8], searched: &Groups<32, i32>) -> Self {
        let mut block = Self { d: F16::from_f32(d), dmin: F16::from_f32(dmin), scales: pack_scales(sc, m), qs: [0; 128] };
        let (sc, m) = unpack_scales(&block.scales);
        let (d, dmin) = (block.d.to_f32(), block.dmin.to_f32());
        let mut codes = [[0; 32]; 8];
        for j in 0..8 {
            let (scale, min) = (d * f32::from(sc[j]), dmin * f32::from(m[j]));
            codes[j] = if scale == 0.0 {
                std::array::from_fn(|i| searched[i][j] as u8)
            } else {
                x[j].map(|x| nearest_int((x + min) / scale).max(0).min(15) as u8)
            };
        }
        for (run, codes) in block.qs.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<2>().0) {
            *run = std::array::from_fn(|i| codes[0][i] | codes[1][i] << 4);
        }
        block
    }
}

impl Block<256> for BlockQ4K {
    #[inline(always)]
    fn encode(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        let x = x.as_chunks::<32>().0.as_chunks::<8>().0;
        match importance {
            None => x.iter().zip(blocks).for_each(|(x, block)| *block = Self::plain(x)),
            Some(importance) => {
                let importance = importance.as_chunks::<32>().0.as_chunks::<8>().0;
                for ((x, importance), block) in x.iter().zip(importance).zip(blocks) {
                    *block = Self::weighted(x, importance);
                }
            }
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        let (sc, m) = unpack_scales(&self.scales);
        let scale = sc.map(|sc| d * f32::from(sc));
        let min = m.map(|m| dmin * f32::from(m));
        for (r, (run, out)) in self.qs.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<64>().0).enumerate() {
            for i in 0..32 {
                out[i] = scale[2 * r] * f32::from(run[i] & 15) - min[2 * r];
                out[i + 32] = scale[2 * r + 1] * f32::from(run[i] >> 4) - min[2 * r + 1];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_survive_packing() {
        let (sc, m) = ([0, 1, 15, 16, 47, 48, 62, 63], [63, 33, 2, 60, 31, 17, 5, 42]);
        assert_eq!(unpack_scales(&pack_scales(&sc, &m)), (sc, m));
    }

    #[test]
    fn the_layout_is_the_drawn_one() {
        let mut block = BlockQ4K { d: F16::from_f32(0.5), dmin: F16::from_f32(2.0), scales: [0; 12], qs: [0; 128] };
        block.scales = pack_scales(&[1, 2, 3, 4, 50, 60, 7, 8], &[9, 8, 7, 6, 5, 4, 3, 20]);
        block.qs[96 + 5] = 0xa3;
        let mut out = [0.0; 256];
        block.decode(&mut out);
        assert_eq!(out[0], -18.0);
        assert_eq!(out[6 * 32 + 5], 0.5 * 7.0 * 3.0 - 2.0 * 3.0);
        assert_eq!(out[7 * 32 + 5], 0.5 * 8.0 * 10.0 - 2.0 * 20.0);
    }
}

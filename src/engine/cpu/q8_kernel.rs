//! The kernels of `q8.rs`: a few rows of 8-bit activations times one panel of 8-bit weights, on each instruction set.
//!
//! All compute the same: exact integers within a group, then `sum = fma(integer, weight scale * activation scale, sum)`, then,
//! where there are offsets, `sum = fma(offset, activation sum, sum)`, group after group.
//! Indices instead of iterators: rows and vectors are numbered by the tile.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn, clippy::needless_range_loop)]

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::isa::Isa;

/// Columns that share a scale of the activations.
pub const BLOCK: usize = 32;

/// Columns of a panel.
pub const PANEL: usize = 32;
/// The most rows of a tile.
pub const MAX_HEIGHT: usize = 6;

/// The instructions that multiply integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dot {
    /// What the target guarantees.
    Portable,
    /// NEON, which every 64-bit Arm processor has.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// AVX2: pairs of products in 16 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-VNNI: four products in 32 bits.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 VNNI: the same, twice as wide.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Dot {
    /// Those that the processor has beside `isa`, slowest first.
    pub fn of(isa: Isa) -> Vec<Self> {
        let mut all = vec![Self::Portable];
        match isa {
            Isa::Portable => {}
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => all.push(Self::Neon),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => {
                all.push(Self::Avx2);
                if is_x86_feature_detected!("avxvnni") {
                    all.push(Self::AvxVnni);
                }
                if isa == Isa::Avx512 && is_x86_feature_detected!("avx512vnni") {
                    all.push(Self::Avx512Vnni);
                }
            }
        }
        all
    }

    /// Rows of a tile.
    pub fn height(self) -> usize {
        match self {
            Self::Portable => 1,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => 2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 | Self::AvxVnni => 3,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => MAX_HEIGHT,
        }
    }

    /// Whether it takes activations as 0 .. 255.
    pub fn unsigned(self) -> bool {
        match self {
            Self::Portable => false,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => false,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => false,
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni | Self::Avx512Vnni => true,
        }
    }
}

/// Calls the copy of a kernel that is compiled for the number of rows.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! by_height {
    ($kernel:ident, $x:ident, $w:ident, $out:ident; $($height:literal)+) => {
        match $x.count {
            $($height => $kernel::<$height>($x, $w, $out),)+
            _ => {}
        }
    };
}

/// Some rows of activations: codes `[count, K]`, their scales `[count, K / BLOCK]` and, for offsets, sums `[count, K / group]`.
pub struct Q8Rows<'a> {
    pub codes: &'a [u8],
    pub scales: &'a [f32],
    pub sums: &'a [f32],
    pub count: usize,
}

/// A panel of weights, in the layout of `q8::Panels`.
pub struct Tile<'a> {
    pub group: usize,
    pub codes: &'a [i8],
    pub scales: &'a [f32],
    pub offsets: &'a [f32],
    pub excess: &'a [i32],
}

/// The sums of `x.count` rows, at most `dot.height()`, with the columns of a panel.
pub fn product(dot: Dot, x: &Q8Rows<'_>, w: &Tile<'_>, out: &mut [[f32; PANEL]; MAX_HEIGHT]) {
    let k = w.codes.len() / PANEL;
    let groups = k / w.group;
    // What the kernels rely on.
    assert!(k.is_multiple_of(BLOCK) && matches!(w.group, 16 | 32) && x.count <= dot.height());
    assert!(x.codes.len() == x.count * k && x.scales.len() == x.count * (k / BLOCK));
    assert!(w.scales.len() == groups * PANEL && w.excess.len() == groups * PANEL);
    assert!(w.offsets.is_empty() || (w.offsets.len() == groups * PANEL && x.sums.len() == x.count * groups));
    match dot {
        Dot::Portable => portable(x, w, out),
        // SAFETY: the assertions cover all that a kernel reads; a Dot comes from Dot::of, which checked the processor.
        #[cfg(target_arch = "aarch64")]
        Dot::Neon => unsafe { by_height!(neon, x, w, out; 1 2) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Dot::Avx2 => unsafe { by_height!(avx2, x, w, out; 1 2 3) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Dot::AvxVnni => unsafe { by_height!(avx_vnni, x, w, out; 1 2 3) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Dot::Avx512Vnni => unsafe { by_height!(avx512_vnni, x, w, out; 1 2 3 4 5 6) },
    }
}

fn portable(x: &Q8Rows<'_>, w: &Tile<'_>, out: &mut [[f32; PANEL]; MAX_HEIGHT]) {
    let k = w.codes.len() / PANEL;
    let groups = k / w.group;
    for (row, out) in out[..x.count].iter_mut().enumerate() {
        let x_quads = x.codes[row * k..][..k].as_chunks::<4>().0;
        let w_quads = w.codes.as_chunks::<4>().0.as_chunks::<PANEL>().0;
        *out = [0.0; PANEL];
        for g in 0..groups {
            let mut dots = [0i32; PANEL];
            for q in g * w.group / 4..(g + 1) * w.group / 4 {
                for (dot, w) in dots.iter_mut().zip(&w_quads[q]) {
                    for i in 0..4 {
                        *dot += i32::from(x_quads[q][i] as i8) * i32::from(w[i]);
                    }
                }
            }
            let scale = x.scales[row * (k / BLOCK) + g * w.group / BLOCK];
            for j in 0..PANEL {
                out[j] = (dots[j] as f32).mul_add(w.scales[g * PANEL + j] * scale, out[j]);
            }
            if !w.offsets.is_empty() {
                let sum = x.sums[row * groups + g];
                for j in 0..PANEL {
                    out[j] = w.offsets[g * PANEL + j].mul_add(sum, out[j]);
                }
            }
        }
    }
}

/// 32 columns at once, in two vectors. SAFETY: `product` checked the lengths; the processor has AVX-512 VNNI.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn avx512_vnni<const R: usize>(x: &Q8Rows<'_>, w: &Tile<'_>, out: &mut [[f32; PANEL]; MAX_HEIGHT]) {
    match (w.group, w.offsets.is_empty()) {
        (16, true) => avx512_vnni_rows::<R, 16, false>(x, w, out),
        (16, false) => avx512_vnni_rows::<R, 16, true>(x, w, out),
        (_, true) => avx512_vnni_rows::<R, 32, false>(x, w, out),
        (_, false) => avx512_vnni_rows::<R, 32, true>(x, w, out),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn avx512_vnni_rows<const R: usize, const GROUP: usize, const OFFSETS: bool>(
    x: &Q8Rows<'_>,
    w: &Tile<'_>,
    out: &mut [[f32; PANEL]; MAX_HEIGHT],
) {
    let k = w.codes.len() / PANEL;
    let groups = k / GROUP;
    let (x_codes, w_codes) = (x.codes.as_ptr(), w.codes.as_ptr());
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for g in 0..groups {
        let at = g * PANEL;
        let excess = w.excess.as_ptr().add(at);
        let mut dots = [[_mm512_loadu_si512(excess.cast()), _mm512_loadu_si512(excess.add(16).cast())]; R];
        for q in g * (GROUP / 4)..(g + 1) * (GROUP / 4) {
            let b = w_codes.add(q * PANEL * 4);
            let b = [_mm512_loadu_si512(b.cast()), _mm512_loadu_si512(b.add(64).cast())];
            for i in 0..R {
                let a = _mm512_set1_epi32(x_codes.add(i * k + q * 4).cast::<i32>().read_unaligned());
                for v in 0..2 {
                    dots[i][v] = _mm512_dpbusd_epi32(dots[i][v], a, b[v]);
                }
            }
        }
        let scales = w.scales.as_ptr().add(at);
        let scales = [_mm512_loadu_ps(scales), _mm512_loadu_ps(scales.add(16))];
        for i in 0..R {
            let scale = _mm512_set1_ps(*x.scales.as_ptr().add(i * (k / BLOCK) + g * GROUP / BLOCK));
            for v in 0..2 {
                sums[i][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[i][v]), _mm512_mul_ps(scales[v], scale), sums[i][v]);
            }
        }
        if OFFSETS {
            let offsets = w.offsets.as_ptr().add(at);
            let offsets = [_mm512_loadu_ps(offsets), _mm512_loadu_ps(offsets.add(16))];
            for i in 0..R {
                let sum = _mm512_set1_ps(*x.sums.as_ptr().add(i * groups + g));
                for v in 0..2 {
                    sums[i][v] = _mm512_fmadd_ps(offsets[v], sum, sums[i][v]);
                }
            }
        }
    }
    for i in 0..R {
        for v in 0..2 {
            _mm512_storeu_ps(out[i].as_mut_ptr().add(v * 16), sums[i][v]);
        }
    }
}

/// 16 columns at a time, in two vectors, with `multiply(sums, x, w)` for the four products of each column.
/// SAFETY: `product` checked the lengths; the processor has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn avx2_rows<const R: usize>(
    x: &Q8Rows<'_>,
    w: &Tile<'_>,
    unsigned: bool,
    multiply: impl Fn(__m256i, __m256i, __m256i) -> __m256i,
    out: &mut [[f32; PANEL]; MAX_HEIGHT],
) {
    let k = w.codes.len() / PANEL;
    let groups = k / w.group;
    let (x_codes, w_codes) = (x.codes.as_ptr(), w.codes.as_ptr());
    for j in (0..PANEL).step_by(16) {
        let mut sums = [[_mm256_setzero_ps(); 2]; R];
        for g in 0..groups {
            let at = g * PANEL + j;
            let mut dots = [[_mm256_setzero_si256(); 2]; R];
            if unsigned {
                let excess = w.excess.as_ptr().add(at);
                dots = [[_mm256_loadu_si256(excess.cast()), _mm256_loadu_si256(excess.add(8).cast())]; R];
            }
            for q in g * w.group / 4..(g + 1) * w.group / 4 {
                let b = w_codes.add((q * PANEL + j) * 4);
                let b = [_mm256_loadu_si256(b.cast()), _mm256_loadu_si256(b.add(32).cast())];
                for i in 0..R {
                    let a = _mm256_set1_epi32(x_codes.add(i * k + q * 4).cast::<i32>().read_unaligned());
                    for v in 0..2 {
                        dots[i][v] = multiply(dots[i][v], a, b[v]);
                    }
                }
            }
            for i in 0..R {
                let scale = _mm256_set1_ps(*x.scales.as_ptr().add(i * (k / BLOCK) + g * w.group / BLOCK));
                for v in 0..2 {
                    let scale = _mm256_mul_ps(_mm256_loadu_ps(w.scales.as_ptr().add(at + v * 8)), scale);
                    sums[i][v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[i][v]), scale, sums[i][v]);
                }
                if !w.offsets.is_empty() {
                    let sum = _mm256_set1_ps(*x.sums.as_ptr().add(i * groups + g));
                    for v in 0..2 {
                        let offset = _mm256_loadu_ps(w.offsets.as_ptr().add(at + v * 8));
                        sums[i][v] = _mm256_fmadd_ps(offset, sum, sums[i][v]);
                    }
                }
            }
        }
        for i in 0..R {
            for v in 0..2 {
                _mm256_storeu_ps(out[i].as_mut_ptr().add(j + v * 8), sums[i][v]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const R: usize>(x: &Q8Rows<'_>, w: &Tile<'_>, out: &mut [[f32; PANEL]; MAX_HEIGHT]) {
    // |w| * sign(w) x: activations are -127 .. 127, so that a pair of products is at most 2 * 128 * 127 and fits 16 bits.
    let multiply = |sums, a, b| {
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(b), _mm256_sign_epi8(a, b));
        _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    };
    avx2_rows::<R>(x, w, false, multiply, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn avx_vnni<const R: usize>(x: &Q8Rows<'_>, w: &Tile<'_>, out: &mut [[f32; PANEL]; MAX_HEIGHT]) {
    avx2_rows::<R>(x, w, true, |sums, a, b| _mm256_dpbusd_avx_epi32(sums, a, b), out);
}

/// 8 columns at a time. SAFETY: `product` checked the lengths.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn neon<const R: usize>(x: &Q8Rows<'_>, w: &Tile<'_>, out: &mut [[f32; PANEL]; MAX_HEIGHT]) {
    let k = w.codes.len() / PANEL;
    let groups = k / w.group;
    let (x_codes, w_codes) = (x.codes.as_ptr(), w.codes.as_ptr());
    for j in (0..PANEL).step_by(8) {
        let mut sums = [[vdupq_n_f32(0.0); 2]; R];
        for g in 0..groups {
            let at = g * PANEL + j;
            // Two partial sums of each of two columns.
            let mut halves = [[vdupq_n_s32(0); 4]; R];
            for q in g * w.group / 4..(g + 1) * w.group / 4 {
                let b = w_codes.add((q * PANEL + j) * 4);
                let b = [vld1q_s8(b), vld1q_s8(b.add(16))];
                for i in 0..R {
                    let a = vreinterpretq_s8_s32(vdupq_n_s32(x_codes.add(i * k + q * 4).cast::<i32>().read_unaligned()));
                    for v in 0..2 {
                        let low = vmull_s8(vget_low_s8(b[v]), vget_low_s8(a));
                        halves[i][2 * v] = vpadalq_s16(halves[i][2 * v], low);
                        halves[i][2 * v + 1] = vpadalq_s16(halves[i][2 * v + 1], vmull_high_s8(b[v], a));
                    }
                }
            }
            for i in 0..R {
                let scale = *x.scales.as_ptr().add(i * (k / BLOCK) + g * w.group / BLOCK);
                for v in 0..2 {
                    let dots = vcvtq_f32_s32(vpaddq_s32(halves[i][2 * v], halves[i][2 * v + 1]));
                    let scale = vmulq_n_f32(vld1q_f32(w.scales.as_ptr().add(at + v * 4)), scale);
                    sums[i][v] = vfmaq_f32(sums[i][v], dots, scale);
                    if !w.offsets.is_empty() {
                        let offset = vld1q_f32(w.offsets.as_ptr().add(at + v * 4));
                        sums[i][v] = vfmaq_n_f32(sums[i][v], offset, *x.sums.as_ptr().add(i * groups + g));
                    }
                }
            }
        }
        for i in 0..R {
            for v in 0..2 {
                vst1q_f32(out[i].as_mut_ptr().add(j + v * 4), sums[i][v]);
            }
        }
    }
}

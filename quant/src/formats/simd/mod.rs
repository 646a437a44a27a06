//! Eight f32 numbers side by side: plain arrays, and AVX2 or NEON registers for the encoders' searches.
//!
//! Every operation is the IEEE one on each lane by itself, so all give the same bits; nothing here adds across lanes or
//! fuses a multiplication with an addition. Choosing between them is the business of `block.rs`.

use std::ops::{Add, Div, Mul, Sub};

/// Numbers in one vector.
pub(super) const SIMD_WIDTH: usize = 8;
/// One number for each lane.
pub(super) type Array8<T = f32> = [T; SIMD_WIDTH];

/// Eight f32 numbers.
pub(super) trait F32x8: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    /// A yes or no for each lane.
    type Mask: Copy;
    /// Sixteen bits for each lane.
    type Packed: Copy;

    fn load(from: &Array8) -> Self;
    fn store(self) -> Array8;
    fn splat(x: f32) -> Self;
    fn abs(self) -> Self;
    fn sqrt(self) -> Self;
    /// `self` where it is less than `other`, else `other`, also where either is NaN.
    fn min(self, other: Self) -> Self;
    /// `self` where it is greater than `other`, else `other`, also where either is NaN.
    fn max(self, other: Self) -> Self;
    /// `self < other`; no where either is NaN.
    fn lt(self, other: Self) -> Self::Mask;
    /// `self == other`; no where either is NaN.
    fn eq(self, other: Self) -> Self::Mask;
    /// Both.
    fn and(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Whether any lane says yes.
    fn any(mask: Self::Mask) -> bool;
    /// `yes` in the lanes of the mask, `no` in the others.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
    /// [`nearest_int`], then clamped.
    fn nearest_int(self, low: i32, high: i32) -> Self;
    /// The number of `book` nearest to `self`, and its index: of two equally near the greater, for NaN the greatest.
    fn nearest_in(self, book: &Codebook) -> (Self, Self);
    /// Each number without its fraction, the lowest byte of it; 0 for NaN and for what does not fit 31 bits.
    fn bytes(parts: [Self; 4]) -> [u8; 32];
    fn packed(from: &Array8<u16>) -> Self::Packed;
    /// For each lane, that number of `self` which the three bits from `shift` on name.
    fn pick(self, packed: Self::Packed, shift: u32) -> Self;

    /// To the nearest integer, ties to even, within 2^22.
    #[inline(always)]
    fn round(self) -> Self {
        self + Self::splat(MAGIC) - Self::splat(MAGIC)
    }
}

/// Sixteen integers in ascending order.
pub(super) struct Codebook {
    values: [f32; 16],
    midpoints: [f32; 15],
}

impl Codebook {
    pub(super) const fn new(values: &[i8; 16]) -> Self {
        let mut book = Self { values: [values[15] as f32; 16], midpoints: [0.0; 15] };
        let mut i = 0;
        while i < 15 {
            book.values[i] = values[i] as f32;
            book.midpoints[i] = (values[i] as f32 + values[i + 1] as f32) / 2.0;
            i += 1;
        }
        book
    }
}

/// ggml's `nearest_int`: ties to even within 2^22, defined (and meaningless) nonsense beyond.
#[inline(always)]
pub(super) fn nearest_int(x: f32) -> i32 {
    // Adding 1.5 * 2^23 leaves the integer in the lower mantissa bits.
    ((x + MAGIC).to_bits() & 0x7f_ffff) as i32 - 0x40_0000
}

const MAGIC: f32 = 12_582_912.0;

/// Eight lanes on any processor.
#[cfg_attr(target_arch = "aarch64", allow(dead_code))] // only the tests' referee there
#[derive(Clone, Copy)]
pub(super) struct Plain(Array8);

macro_rules! plain_operator {
    ($trait:ident, $method:ident, $op:tt) => {
        impl $trait for Plain {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(std::array::from_fn(|l| self.0[l] $op other.0[l]))
            }
        }
    };
}
plain_operator!(Add, add, +);
plain_operator!(Sub, sub, -);
plain_operator!(Mul, mul, *);
plain_operator!(Div, div, /);

impl F32x8 for Plain {
    type Mask = Array8<bool>;
    type Packed = Array8<u16>;

    #[inline(always)]
    fn load(from: &Array8) -> Self {
        Self(*from)
    }
    #[inline(always)]
    fn store(self) -> Array8 {
        self.0
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; SIMD_WIDTH])
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Self(std::array::from_fn(|l| self.0[l].abs()))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(std::array::from_fn(|l| self.0[l].sqrt()))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(std::array::from_fn(|l| if self.0[l] < other.0[l] { self.0[l] } else { other.0[l] }))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(std::array::from_fn(|l| if self.0[l] > other.0[l] { self.0[l] } else { other.0[l] }))
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Self::Mask {
        std::array::from_fn(|l| self.0[l] < other.0[l])
    }
    #[inline(always)]
    fn eq(self, other: Self) -> Self::Mask {
        std::array::from_fn(|l| self.0[l] == other.0[l])
    }
    #[inline(always)]
    fn and(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        std::array::from_fn(|l| a[l] && b[l])
    }
    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        mask != [false; SIMD_WIDTH]
    }
    #[inline(always)]
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|l| if mask[l] { yes.0[l] } else { no.0[l] }))
    }
    #[inline(always)]
    fn nearest_int(self, low: i32, high: i32) -> Self {
        Self(std::array::from_fn(|l| nearest_int(self.0[l]).max(low).min(high) as f32))
    }
    #[inline(always)]
    fn nearest_in(self, book: &Codebook) -> (Self, Self) {
        let index = self.0.map(|x| 15 - book.midpoints.iter().filter(|&&midpoint| x < midpoint).count());
        (Self(index.map(|i| book.values[i])), Self(index.map(|i| i as f32)))
    }
    #[inline(always)]
    fn bytes(parts: [Self; 4]) -> [u8; 32] {
        let byte = |x: f32| if x.abs() < 2_147_483_648.0 { x as i32 as u8 } else { 0 };
        std::array::from_fn(|i| byte(parts[i / SIMD_WIDTH].0[i % SIMD_WIDTH]))
    }
    #[inline(always)]
    fn packed(from: &Array8<u16>) -> Self::Packed {
        *from
    }
    #[inline(always)]
    fn pick(self, packed: Self::Packed, shift: u32) -> Self {
        Self(packed.map(|bits| self.0[usize::from(bits >> shift & 7)]))
    }
}

#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)]
mod neon;
/// What every processor of this family has.
#[cfg(not(target_arch = "aarch64"))]
pub(super) use Plain as Baseline;
#[cfg(target_arch = "aarch64")]
pub(super) use neon::Neon as Baseline;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2 {
    use std::arch::x86_64::*;
    use std::mem::transmute;
    use std::ops::{Add, Div, Mul, Sub};

    use super::{Array8, Codebook, F32x8, MAGIC};

    /// Eight lanes in a register. For code that `block.rs` runs after it found AVX2, and for no other.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256);

    macro_rules! operator {
        ($trait:ident, $method:ident, $intrinsic:ident) => {
            impl $trait for Avx2 {
                type Output = Self;
                #[inline(always)]
                fn $method(self, other: Self) -> Self {
                    // SAFETY: AVX2 is there, see the type.
                    Self(unsafe { $intrinsic(self.0, other.0) })
                }
            }
        };
    }
    operator!(Add, add, _mm256_add_ps);
    operator!(Sub, sub, _mm256_sub_ps);
    operator!(Mul, mul, _mm256_mul_ps);
    operator!(Div, div, _mm256_div_ps);

    // SAFETY, for all of the following: AVX2 is there, see the type; an array and a register hold the same eight numbers.
    impl F32x8 for Avx2 {
        type Mask = __m256;
        type Packed = __m256i;

        #[inline(always)]
        fn load(from: &Array8) -> Self {
            // SAFETY: see above.
            Self(unsafe { transmute::<Array8, __m256>(*from) })
        }
        #[inline(always)]
        fn store(self) -> Array8 {
            // SAFETY: see above.
            unsafe { transmute::<__m256, Array8>(self.0) }
        }
        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_set1_ps(x) })
        }
        #[inline(always)]
        fn abs(self) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_sqrt_ps(self.0) })
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_min_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn lt(self, other: Self) -> Self::Mask {
            // SAFETY: see above.
            unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0) }
        }
        #[inline(always)]
        fn eq(self, other: Self) -> Self::Mask {
            // SAFETY: see above.
            unsafe { _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, other.0) }
        }
        #[inline(always)]
        fn and(a: Self::Mask, b: Self::Mask) -> Self::Mask {
            // SAFETY: see above.
            unsafe { _mm256_and_ps(a, b) }
        }
        #[inline(always)]
        fn any(mask: Self::Mask) -> bool {
            // SAFETY: see above.
            unsafe { _mm256_movemask_ps(mask) != 0 }
        }
        #[inline(always)]
        fn select(mask: Self::Mask, yes: Self, no: Self) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_blendv_ps(no.0, yes.0, mask) })
        }
        #[inline(always)]
        fn nearest_int(self, low: i32, high: i32) -> Self {
            // SAFETY: see above.
            Self(unsafe {
                let bits = _mm256_castps_si256(_mm256_add_ps(self.0, _mm256_set1_ps(MAGIC)));
                let int = _mm256_sub_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(0x7f_ffff)), _mm256_set1_epi32(0x40_0000));
                let clamped = _mm256_min_epi32(_mm256_max_epi32(int, _mm256_set1_epi32(low)), _mm256_set1_epi32(high));
                _mm256_cvtepi32_ps(clamped)
            })
        }
        #[inline(always)]
        fn nearest_in(self, book: &Codebook) -> (Self, Self) {
            let (m, v) = (&book.midpoints, &book.values);
            // Four comparisons down a tree of the midpoints. A yes to `x < midpoint` is -1, so that each level doubles the
            // path so far and adds: in the end minus the number of midpoints above `x`. A permutation looks at the lowest
            // three bits of that, for which the tables are laid out: 0, -7, -6 .. -1.
            // No closures: one that the compiler does not inline would have no registers of this size.
            // SAFETY: see above.
            unsafe {
                let upper_half = _mm256_setr_ps(v[15], v[8], v[9], v[10], v[11], v[12], v[13], v[14]);
                let lower_half = _mm256_setr_ps(v[7], v[0], v[1], v[2], v[3], v[4], v[5], v[6]);
                let eighths = _mm256_setr_ps(m[14], m[0], m[2], m[4], m[6], m[8], m[10], m[12]);
                let quarters = _mm256_setr_ps(m[13], m[13], m[13], m[13], m[13], m[1], m[5], m[9]);

                let lower = _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, _mm256_set1_ps(m[7]));
                let mut midpoint = _mm256_blendv_ps(_mm256_set1_ps(m[11]), _mm256_set1_ps(m[3]), lower);
                let mut path = _mm256_castps_si256(lower);
                for table in [quarters, eighths, eighths] {
                    let below = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_LT_OQ>(self.0, midpoint));
                    path = _mm256_add_epi32(_mm256_add_epi32(path, path), below);
                    midpoint = _mm256_permutevar8x32_ps(table, path);
                }
                let (low, high) = (_mm256_permutevar8x32_ps(lower_half, path), _mm256_permutevar8x32_ps(upper_half, path));
                let index = _mm256_cvtepi32_ps(_mm256_add_epi32(path, _mm256_set1_epi32(15)));
                (Self(_mm256_blendv_ps(high, low, lower)), Self(index))
            }
        }
        #[inline(always)]
        fn bytes(parts: [Self; 4]) -> [u8; 32] {
            let [a, b, c, d] = parts;
            // SAFETY: see above.
            unsafe {
                // What does not fit becomes 0x80000000, the lowest byte of which is 0.
                let low = _mm256_set1_epi32(0xff);
                let a = _mm256_and_si256(_mm256_cvttps_epi32(a.0), low);
                let b = _mm256_and_si256(_mm256_cvttps_epi32(b.0), low);
                let c = _mm256_and_si256(_mm256_cvttps_epi32(c.0), low);
                let d = _mm256_and_si256(_mm256_cvttps_epi32(d.0), low);
                // Packing takes four numbers of each half in turn; here they come in order again.
                let packed = _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
                let in_order = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
                transmute::<__m256i, [u8; 32]>(in_order)
            }
        }
        #[inline(always)]
        fn packed(from: &Array8<u16>) -> Self::Packed {
            // SAFETY: see above.
            unsafe { _mm256_cvtepu16_epi32(transmute::<Array8<u16>, __m128i>(*from)) }
        }
        #[inline(always)]
        fn pick(self, packed: Self::Packed, shift: u32) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm256_permutevar8x32_ps(self.0, _mm256_srl_epi32(packed, _mm_cvtsi32_si128(shift as i32))) })
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

    /// What every operation gives on awkward numbers, as bits.
    #[inline(always)]
    fn all_operations<V: F32x8>() -> Vec<u32> {
        let numbers = [0.0, -0.0, 1.5, -2.5, f32::INFINITY, f32::NEG_INFINITY, 3e38, 1e-40, -7.3, 0.1, 4e6, 5e6, 1e9, f32::MIN];
        let mut found = Vec::new();
        for shift in 0..numbers.len() {
            let a = V::load(&std::array::from_fn(|l| numbers[l]));
            let b = V::load(&std::array::from_fn(|l| numbers[(l + shift) % numbers.len()]));
            let (lt, eq) = (a.lt(b), a.eq(b));
            let masks = [V::select(lt, a, b), V::select(eq, b, V::splat(9.0)), V::select(V::and(lt, eq), a, b)];
            let picked = b.pick(V::packed(&std::array::from_fn(|l| (l * 0x1234) as u16)), shift as u32);
            let sums = [picked, a + b, a - b, a * b, a / b, a.min(b), a.max(b), b.abs(), b.abs().sqrt(), a.round()];
            for v in sums.iter().chain(&[b.nearest_int(-32, 31), a.nearest_int(0, 15)]).chain(&masks) {
                // The sign and payload of a NaN are nobody's concern.
                found.extend(v.store().map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() }));
            }
            found.extend([V::any(lt), V::any(eq)].map(u32::from));
        }
        found
    }

    /// The nearest of sixteen numbers, for their midpoints, what is just beside them, and the ends of the world.
    #[inline(always)]
    fn all_nearest<V: F32x8>() -> Vec<f32> {
        let book = Codebook::new(&std::array::from_fn(|i| (14 * i + i % 3).wrapping_sub(100) as i8));
        let near = book.midpoints.iter().chain(&book.values).flat_map(|x| [x.next_down(), *x, x.next_up()]);
        let numbers = near.chain([f32::NEG_INFINITY, f32::INFINITY, f32::NAN, 0.0, -0.0]);
        let found = numbers.flat_map(|x| {
            let (value, index) = V::splat(x).nearest_in(&book);
            let (value, index) = (value.store()[3], index.store()[3]);
            assert_eq!(value, book.values[index as usize], "{x}");
            [value, index]
        });
        found.collect()
    }

    /// The bytes of awkward numbers.
    #[inline(always)]
    fn all_bytes<V: F32x8>() -> [u8; 32] {
        let numbers = [0.0, -0.0, 0.99, 1.0, 15.999, 127.0, -1.0, -1.99, -128.0, 255.5, 256.0, 1e6, 3e9, -3e9, 1e-40];
        let ends = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 2_147_483_520.0, 2_147_483_648.0];
        let all: Vec<f32> = numbers.into_iter().chain(ends).cycle().take(32).collect();
        V::bytes(std::array::from_fn(|i| V::load(&all.as_chunks().0[i])))
    }

    #[test]
    fn bytes_are_those_of_whole_parts() {
        let bytes = all_bytes::<Plain>();
        assert_eq!(bytes[..15], [0, 0, 0, 1, 15, 127, 255, 255, 128, 255, 0, 64, 0, 0, 0]);
        assert_eq!(bytes[15..22], [0, 0, 0, 0, 0, 128, 0]);
        assert_eq!(all_bytes::<Baseline>(), bytes);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            #[target_feature(enable = "avx2")]
            fn on_avx2() -> [u8; 32] {
                all_bytes::<Avx2>()
            }
            // SAFETY: the processor has AVX2, as was just asked.
            #[allow(unsafe_code)]
            let found = unsafe { on_avx2() };
            assert_eq!(found, bytes);
        }
    }

    #[test]
    fn the_nearest_of_a_codebook_has_the_least_distance() {
        let book = Codebook::new(&std::array::from_fn(|i| 3 * i as i8));
        let check = |x: f32, expected: f32| assert_eq!(Plain::splat(x).nearest_in(&book).1.0[0], expected, "{x}");
        check(-1e9, 0.0);
        check(1.4, 0.0);
        check(1.5, 1.0);
        check(22.4, 7.0);
        check(f32::INFINITY, 15.0);
        check(f32::NAN, 15.0);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn registers_do_what_arrays_do() {
        #[target_feature(enable = "avx2")]
        fn with_avx2() -> (Vec<u32>, Vec<f32>) {
            (all_operations::<Avx2>(), all_nearest::<Avx2>())
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as was just asked.
            #[allow(unsafe_code)]
            let found = unsafe { with_avx2() };
            assert_eq!(found, (all_operations::<Plain>(), all_nearest::<Plain>()));
        }
    }

    #[test]
    #[cfg(target_arch = "aarch64")]
    fn registers_do_what_arrays_do() {
        assert_eq!(all_operations::<Baseline>(), all_operations::<Plain>());
        assert_eq!(all_nearest::<Baseline>(), all_nearest::<Plain>());
    }
}

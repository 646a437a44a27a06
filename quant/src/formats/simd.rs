//! Eight f32 numbers side by side: plain arrays, and AVX2 registers for the encoders' searches.
//!
//! Every operation is the IEEE one on each lane by itself, so both give the same bits; nothing here adds across lanes or
//! fuses a multiplication with an addition. Choosing between the two is the business of `block.rs`.

use std::ops::{Add, Div, Mul, Sub};

/// Numbers in one vector.
pub(super) const LANES: usize = 8;
/// One number for each lane.
pub(super) type Lanes<T = f32> = [T; LANES];

/// Eight f32 numbers.
pub(super) trait F32x8: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    /// A yes or no for each lane.
    type Mask: Copy;

    fn load(from: &Lanes) -> Self;
    fn store(self) -> Lanes;
    fn splat(x: f32) -> Self;
    fn abs(self) -> Self;
    fn sqrt(self) -> Self;
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
}

/// ggml's `nearest_int`: ties to even within 2^22, defined (and meaningless) nonsense beyond.
#[inline(always)]
pub(super) fn nearest_int(x: f32) -> i32 {
    // Adding 1.5 * 2^23 leaves the integer in the lower mantissa bits.
    ((x + MAGIC).to_bits() & 0x7f_ffff) as i32 - 0x40_0000
}

const MAGIC: f32 = 12_582_912.0;

/// Eight lanes on any processor.
#[derive(Clone, Copy)]
pub(super) struct Plain(Lanes);

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
    type Mask = Lanes<bool>;

    #[inline(always)]
    fn load(from: &Lanes) -> Self {
        Self(*from)
    }
    #[inline(always)]
    fn store(self) -> Lanes {
        self.0
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; LANES])
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
        mask != [false; LANES]
    }
    #[inline(always)]
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|l| if mask[l] { yes.0[l] } else { no.0[l] }))
    }
    #[inline(always)]
    fn nearest_int(self, low: i32, high: i32) -> Self {
        Self(std::array::from_fn(|l| nearest_int(self.0[l]).max(low).min(high) as f32))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2 {
    use std::arch::x86_64::*;
    use std::mem::transmute;
    use std::ops::{Add, Div, Mul, Sub};

    use super::{F32x8, Lanes, MAGIC};

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

        #[inline(always)]
        fn load(from: &Lanes) -> Self {
            // SAFETY: see above.
            Self(unsafe { transmute::<Lanes, __m256>(*from) })
        }
        #[inline(always)]
        fn store(self) -> Lanes {
            // SAFETY: see above.
            unsafe { transmute::<__m256, Lanes>(self.0) }
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
            for v in [a + b, a - b, a * b, a / b, b.abs(), b.abs().sqrt(), b.nearest_int(-32, 31), a.nearest_int(0, 15)]
                .iter()
                .chain(&masks)
            {
                // The sign and payload of a NaN are nobody's concern.
                found.extend(v.store().map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() }));
            }
            found.extend([V::any(lt), V::any(eq)].map(u32::from));
        }
        found
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn registers_do_what_arrays_do() {
        #[target_feature(enable = "avx2")]
        fn with_avx2() -> Vec<u32> {
            all_operations::<Avx2>()
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as was just asked.
            #[allow(unsafe_code)]
            let found = unsafe { with_avx2() };
            assert_eq!(found, all_operations::<Plain>());
        }
    }
}

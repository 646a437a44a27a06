//! The kernels of `q8_kernel.rs` for 64-bit Arm: NEON as every processor has it, its dot products (`sdot`) and its products of
//! small matrices (`smmla`). They read codes packed as `packed.rs` has them, unpacking in registers.
//!
//! `sdot` and `smmla` are in assembly, because the standard library's functions for them are not stable.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn, clippy::needless_range_loop)]

use std::arch::aarch64::*;
use std::arch::asm;

use super::packed::{BLOCK, LINE, PANEL, Packing, Panel};
use super::q8_tile::{Q8Rows, Sums};

/// Codes of a block as vectors: 4 rows by 4 columns.
trait Codes: Copy {
    /// Bytes of a block.
    const BYTES: usize;

    /// Columns `16 * half .. 16 * half + 16` of the rows `4 * v .. 4 * v + 4`.
    unsafe fn four(self, block: *const u8, half: usize, v: usize) -> [int8x16_t; 4];
}

#[inline(always)]
unsafe fn load(block: *const u8, line: usize, v: usize) -> uint8x16_t {
    vld1q_u8(block.add(line * LINE + v * 16))
}

/// `WIDTH` bits of each byte, from bit `from` on, moved to bit `to`.
#[inline(always)]
unsafe fn bits<const WIDTH: usize>(line: uint8x16_t, from: usize, to: usize) -> uint8x16_t {
    let moved = vshlq_u8(line, vdupq_n_s8(to as i8 - from as i8));
    vandq_u8(moved, vdupq_n_u8(((1 << WIDTH) - 1) << to))
}

/// Codes in lines of four, of two and of one bit, as many as [`Packing::planes`] says; the lowest bit goes to bit `LOWEST`.
#[derive(Clone, Copy)]
struct Planes<const FOUR: usize, const TWO: usize, const ONE: usize, const LOWEST: usize>;
impl<const FOUR: usize, const TWO: usize, const ONE: usize, const LOWEST: usize> Codes for Planes<FOUR, TWO, ONE, LOWEST> {
    const BYTES: usize = (FOUR + TWO + ONE) * LINE;
    #[inline(always)]
    unsafe fn four(self, block: *const u8, half: usize, v: usize) -> [int8x16_t; 4] {
        let mut codes = [vdupq_n_u8(0); 4];
        let mut to = LOWEST;
        if FOUR > 0 {
            for q in 0..4 {
                codes[q] = bits::<4>(load(block, 2 * half + q / 2, v), q % 2 * 4, to);
            }
            to += 4;
        }
        if TWO > 0 {
            let line = load(block, FOUR + half, v);
            for q in 0..4 {
                codes[q] = vorrq_u8(codes[q], bits::<2>(line, 2 * q, to));
            }
            to += 2;
        }
        if ONE > 0 {
            let line = load(block, FOUR + TWO, v);
            for q in 0..4 {
                codes[q] = vorrq_u8(codes[q], bits::<1>(line, 4 * half + q, to));
            }
        }
        signed(codes)
    }
}

type Signs = Planes<0, 0, 1, 1>;
type Two = Planes<0, 2, 0, 0>;
type Three = Planes<0, 2, 1, 0>;
type Four = Planes<4, 0, 0, 0>;
type Five = Planes<4, 0, 1, 0>;
type Six = Planes<4, 2, 0, 0>;

const _: () = {
    assert!(Signs::BYTES == Packing::Signs.block_bytes() && Two::BYTES == Packing::Two.block_bytes());
    assert!(Three::BYTES == Packing::Three.block_bytes() && Four::BYTES == Packing::Four.block_bytes());
    assert!(Five::BYTES == Packing::Five.block_bytes() && Six::BYTES == Packing::Six.block_bytes());
};

#[inline(always)]
unsafe fn signed(codes: [uint8x16_t; 4]) -> [int8x16_t; 4] {
    [vreinterpretq_s8_u8(codes[0]), vreinterpretq_s8_u8(codes[1]), vreinterpretq_s8_u8(codes[2]), vreinterpretq_s8_u8(codes[3])]
}

/// Unpacked codes.
#[derive(Clone, Copy)]
struct Bytes;
impl Codes for Bytes {
    const BYTES: usize = BLOCK * PANEL;
    #[inline(always)]
    unsafe fn four(self, block: *const u8, half: usize, v: usize) -> [int8x16_t; 4] {
        let line = 4 * half;
        signed([load(block, line, v), load(block, line + 1, v), load(block, line + 2, v), load(block, line + 3, v)])
    }
}

/// Codes of four bits that stand for the entries of a table.
#[derive(Clone, Copy)]
struct Table(int8x16_t);
impl Codes for Table {
    const BYTES: usize = Four::BYTES;
    #[inline(always)]
    unsafe fn four(self, block: *const u8, half: usize, v: usize) -> [int8x16_t; 4] {
        let codes = (Four {}).four(block, half, v);
        [
            vqtbl1q_s8(self.0, vreinterpretq_u8_s8(codes[0])),
            vqtbl1q_s8(self.0, vreinterpretq_u8_s8(codes[1])),
            vqtbl1q_s8(self.0, vreinterpretq_u8_s8(codes[2])),
            vqtbl1q_s8(self.0, vreinterpretq_u8_s8(codes[3])),
        ]
    }
}

/// Integers of a tile: R rows of activations with two vectors of four rows of the panel.
type Dots<const R: usize> = [[int32x4_t; 2]; R];

/// How products of integers are added up.
trait Multiply {
    /// Adds those of 16 columns: `w[v][q]` has four rows of the panel by four columns, `x[i]` a row of activations.
    unsafe fn add<const R: usize>(dots: &mut Dots<R>, w: [[int8x16_t; 4]; 2], x: [int8x16_t; R]);

    /// Brings the sums into the order of the rows of the panel.
    #[inline(always)]
    unsafe fn in_order<const R: usize>(dots: Dots<R>) -> Dots<R> {
        dots
    }
}

/// With the instructions that all have.
struct Long;
impl Multiply for Long {
    #[inline(always)]
    unsafe fn add<const R: usize>(dots: &mut Dots<R>, w: [[int8x16_t; 4]; 2], x: [int8x16_t; R]) {
        for i in 0..R {
            let quads = vreinterpretq_s32_s8(x[i]);
            let quads = [
                vdupq_laneq_s32::<0>(quads),
                vdupq_laneq_s32::<1>(quads),
                vdupq_laneq_s32::<2>(quads),
                vdupq_laneq_s32::<3>(quads),
            ];
            for q in 0..4 {
                let x = vreinterpretq_s8_s32(quads[q]);
                for v in 0..2 {
                    let low = vmull_s8(vget_low_s8(w[v][q]), vget_low_s8(x));
                    // Activations are -127 .. 127, so that a pair of products is at most 2 * 128 * 127 and fits into 16 bits.
                    let pairs = vpaddq_s16(low, vmull_high_s8(w[v][q], x));
                    dots[i][v] = vpadalq_s16(dots[i][v], pairs);
                }
            }
        }
    }
}

/// `sums[j] += w[4 j ..] . x[4 QUAD ..]`, four products each.
macro_rules! sdot {
    ($sums:expr, $w:expr, $x:expr, $quad:literal) => {
        asm!(
            concat!("sdot {sums:v}.4s, {w:v}.16b, {x:v}.4b[", $quad, "]"),
            sums = inout(vreg) $sums,
            w = in(vreg) $w,
            x = in(vreg) $x,
            options(pure, nomem, nostack, preserves_flags)
        )
    };
}

/// With dot products of four columns.
struct Dotprod;
impl Multiply for Dotprod {
    #[inline(always)]
    unsafe fn add<const R: usize>(dots: &mut Dots<R>, w: [[int8x16_t; 4]; 2], x: [int8x16_t; R]) {
        for v in 0..2 {
            for i in 0..R {
                sdot!(dots[i][v], w[v][0], x[i], 0);
                sdot!(dots[i][v], w[v][1], x[i], 1);
                sdot!(dots[i][v], w[v][2], x[i], 2);
                sdot!(dots[i][v], w[v][3], x[i], 3);
            }
        }
    }
}

/// With products of matrices of two rows and eight columns. The four sums of a pair of rows of activations and a pair of the
/// panel's stand in one vector: those of the panel's pair 0 to 3 in `dots[i][0]`, `dots[i][1]`, `dots[i + 1][0]`,
/// `dots[i + 1][1]`.
struct Matrices;
impl Multiply for Matrices {
    #[inline(always)]
    unsafe fn add<const R: usize>(dots: &mut Dots<R>, w: [[int8x16_t; 4]; 2], x: [int8x16_t; R]) {
        for eight in 0..2 {
            for v in 0..2 {
                let [first, second] = [vreinterpretq_s32_s8(w[v][2 * eight]), vreinterpretq_s32_s8(w[v][2 * eight + 1])];
                let pairs = [vzip1q_s32(first, second), vzip2q_s32(first, second)];
                for i in (0..R).step_by(2) {
                    let [a, b] = [vreinterpretq_s64_s8(x[i]), vreinterpretq_s64_s8(x[i + 1])];
                    let x = if eight == 0 { vzip1q_s64(a, b) } else { vzip2q_s64(a, b) };
                    for pair in 0..2 {
                        asm!(
                            "smmla {sums:v}.4s, {w:v}.16b, {x:v}.16b",
                            sums = inout(vreg) dots[i + v][pair],
                            w = in(vreg) pairs[pair],
                            x = in(vreg) x,
                            options(pure, nomem, nostack, preserves_flags)
                        );
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn in_order<const R: usize>(dots: Dots<R>) -> Dots<R> {
        let mut ordered = dots;
        for i in (0..R).step_by(2) {
            for v in 0..2 {
                let [first, second] = dots[i + v];
                ordered[i][v] = vuzp1q_s32(first, second);
                ordered[i + 1][v] = vuzp2q_s32(first, second);
            }
        }
        ordered
    }
}

/// Rows `first .. first + R`, half a panel at a time; returns R.
#[inline(always)]
unsafe fn rows_of<C: Codes, M: Multiply, const R: usize, const GROUP: usize>(
    codes: C,
    x: &Q8Rows<'_>,
    first: usize,
    w: &Panel<'_>,
    out: &mut Sums,
) -> usize {
    let k = x.codes.len() / x.count;
    let (groups, blocks) = (k / GROUP, k / BLOCK);
    let x_codes = x.codes.as_ptr().add(first * k);
    for side in 0..2 {
        let mut sums = [[vdupq_n_f32(0.0); 2]; R];
        for g in 0..groups {
            let (column, at) = (g * GROUP, g * PANEL + side * 8);
            let block = w.codes.bytes.as_ptr().add(column / BLOCK * C::BYTES);
            let mut dots = [[vdupq_n_s32(0); 2]; R];
            for half in 0..GROUP / 16 {
                let in_block = column % BLOCK / 16 + half;
                let w = [codes.four(block, in_block, 2 * side), codes.four(block, in_block, 2 * side + 1)];
                let mut x = [vdupq_n_s8(0); R];
                for i in 0..R {
                    x[i] = vld1q_s8(x_codes.add(i * k + column + half * 16));
                }
                M::add(&mut dots, w, x);
            }
            let dots = M::in_order(dots);
            for i in 0..R {
                let row = first + i;
                let scale = *x.scales.as_ptr().add(row * blocks + column / BLOCK);
                let correction = vdupq_n_s32(*x.corrections.as_ptr().add(row * groups + g));
                for v in 0..2 {
                    let scale = vmulq_n_f32(vld1q_f32(w.scales.as_ptr().add(at + v * 4)), scale);
                    sums[i][v] = vfmaq_f32(sums[i][v], vcvtq_f32_s32(vaddq_s32(dots[i][v], correction)), scale);
                    if !w.offsets.is_empty() {
                        let offset = vld1q_f32(w.offsets.as_ptr().add(at + v * 4));
                        sums[i][v] = vfmaq_n_f32(sums[i][v], offset, *x.sums.as_ptr().add(row * groups + g));
                    }
                }
            }
        }
        for i in 0..R {
            for v in 0..2 {
                vst1q_f32(out[first + i].as_mut_ptr().add(side * 8 + v * 4), sums[i][v]);
            }
        }
    }
    R
}

/// Defines `$name`, which multiplies all rows of a tile by `$multiply`; a single row by `$single`.
macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident, $features:literal, $multiply:ty, $single:ty) => {
        $(#[$doc])*
        #[target_feature(enable = $features)]
        pub unsafe fn $name(x: &Q8Rows<'_>, w: &Panel<'_>, out: &mut Sums) {
            #[target_feature(enable = $features)]
            unsafe fn all<C: Codes>(codes: C, x: &Q8Rows<'_>, w: &Panel<'_>, out: &mut Sums) {
                let mut row = 0;
                while row < x.count {
                    row += match (w.group, x.count - row) {
                        (16, 4..) => rows_of::<C, $multiply, 4, 16>(codes, x, row, w, out),
                        (16, 2..) => rows_of::<C, $multiply, 2, 16>(codes, x, row, w, out),
                        (16, _) => rows_of::<C, $single, 1, 16>(codes, x, row, w, out),
                        (_, 4..) => rows_of::<C, $multiply, 4, 32>(codes, x, row, w, out),
                        (_, 2..) => rows_of::<C, $multiply, 2, 32>(codes, x, row, w, out),
                        _ => rows_of::<C, $single, 1, 32>(codes, x, row, w, out),
                    };
                }
            }
            match (w.codes.unpacked, w.codes.packing) {
                (true, _) | (_, Packing::Eight) => all(Bytes, x, w, out),
                (_, Packing::Signs) => all(Signs {}, x, w, out),
                (_, Packing::Two) => all(Two {}, x, w, out),
                (_, Packing::Three) => all(Three {}, x, w, out),
                (_, Packing::Four) => all(Four {}, x, w, out),
                (_, Packing::Five) => all(Five {}, x, w, out),
                (_, Packing::Six) => all(Six {}, x, w, out),
                (_, Packing::Table(entries)) => all(Table(vld1q_s8(entries.as_ptr())), x, w, out),
            }
        }
    };
}

kernel! {
    /// SAFETY: `q8_kernel::check` has passed.
    neon, "neon", Long, Long
}
kernel! {
    /// SAFETY: as [`neon`], and the processor has the dot products.
    dotprod, "neon,dotprod", Dotprod, Dotprod
}
kernel! {
    /// SAFETY: as [`neon`], and the processor has dot products and those of matrices.
    matrices, "neon,dotprod,i8mm", Matrices, Dotprod
}

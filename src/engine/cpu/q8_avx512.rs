//! The kernels of `q8_kernel.rs` for AVX-512 VNNI: a few rows with a panel as it is packed, a vector for its sixteen rows, and
//! more rows with two panels that are unpacked.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn, clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::sync::atomic::{Ordering, compiler_fence};

use super::packed::{BLOCK, LINE, PANEL, Packing, Panel};
use super::q8_tile::{Q8Rows, Sums};

/// How many bytes before they are needed codes are asked for. The processor by itself stops at the end of every page, and
/// unpacking takes so many instructions that too few loads are under way.
const AHEAD: usize = 4096;

/// Codes of a block as vectors: 16 rows by 4 columns.
trait Codes: Copy {
    /// Bytes of a block.
    const BYTES: usize;
    /// Whether codes may be negative; they are multiplied with 128 more.
    const SIGNED: bool;

    /// Columns `16 * half .. 16 * half + 16`.
    unsafe fn four(self, block: *const u8, half: usize) -> [__m512i; 4];
}

#[inline(always)]
unsafe fn load(block: *const u8, line: usize) -> __m512i {
    _mm512_loadu_si512(block.add(line * LINE).cast())
}

/// `WIDTH` bits of each byte, from bit `from` on, moved to bit `to`. Shifts of constants, as all callers are unrolled.
#[inline(always)]
unsafe fn bits<const WIDTH: usize>(line: __m512i, from: usize, to: usize) -> __m512i {
    let moved = if to >= from {
        _mm512_sll_epi16(line, _mm_cvtsi32_si128((to - from) as i32))
    } else {
        _mm512_srl_epi16(line, _mm_cvtsi32_si128((from - to) as i32))
    };
    _mm512_and_si512(moved, _mm512_set1_epi8((((1u32 << WIDTH) - 1) << to) as i8))
}

/// Codes in lines of four, of two and of one bit, as many as [`Packing::planes`] says; the lowest bit goes to bit `LOWEST`.
#[derive(Clone, Copy)]
struct Planes<const FOUR: usize, const TWO: usize, const ONE: usize, const LOWEST: usize>;
impl<const FOUR: usize, const TWO: usize, const ONE: usize, const LOWEST: usize> Codes for Planes<FOUR, TWO, ONE, LOWEST> {
    const BYTES: usize = (FOUR + TWO + ONE) * LINE;
    const SIGNED: bool = false;
    #[inline(always)]
    unsafe fn four(self, block: *const u8, half: usize) -> [__m512i; 4] {
        let mut codes = [_mm512_setzero_si512(); 4];
        let mut to = LOWEST;
        if FOUR > 0 {
            let lines = [load(block, 2 * half), load(block, 2 * half + 1)];
            for q in 0..4 {
                codes[q] = bits::<4>(lines[q / 2], q % 2 * 4, to);
            }
            to += 4;
        }
        if TWO > 0 {
            let line = load(block, FOUR + half);
            for q in 0..4 {
                codes[q] = _mm512_or_si512(codes[q], bits::<2>(line, 2 * q, to));
            }
            to += 2;
        }
        if ONE > 0 {
            let line = load(block, FOUR + TWO);
            for q in 0..4 {
                codes[q] = _mm512_or_si512(codes[q], bits::<1>(line, 4 * half + q, to));
            }
        }
        codes
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

/// Unpacked codes.
#[derive(Clone, Copy)]
struct Bytes<const SIGNED: bool>;
impl<const SIGNED: bool> Codes for Bytes<SIGNED> {
    const BYTES: usize = BLOCK * PANEL;
    const SIGNED: bool = SIGNED;
    #[inline(always)]
    unsafe fn four(self, block: *const u8, half: usize) -> [__m512i; 4] {
        let line = 4 * half;
        [load(block, line), load(block, line + 1), load(block, line + 2), load(block, line + 3)]
    }
}

/// Codes of four bits that stand for the entries of a table, which has 128 more than they are.
#[derive(Clone, Copy)]
struct Table(__m512i);
impl Codes for Table {
    const BYTES: usize = Four::BYTES;
    const SIGNED: bool = false;
    #[inline(always)]
    unsafe fn four(self, block: *const u8, half: usize) -> [__m512i; 4] {
        let codes = (Four {}).four(block, half);
        [
            _mm512_shuffle_epi8(self.0, codes[0]),
            _mm512_shuffle_epi8(self.0, codes[1]),
            _mm512_shuffle_epi8(self.0, codes[2]),
            _mm512_shuffle_epi8(self.0, codes[3]),
        ]
    }
}

/// All rows with a panel. SAFETY: `q8_kernel::check` has passed; the processor has AVX-512 F, BW and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub unsafe fn one_panel(x: &Q8Rows<'_>, w: &Panel<'_>, out: &mut Sums) {
    match (w.codes.unpacked, w.codes.packing) {
        (false, Packing::Signs) => by_height(Signs {}, x, w, out),
        (false, Packing::Two) => by_height(Two {}, x, w, out),
        (false, Packing::Three) => by_height(Three {}, x, w, out),
        (false, Packing::Four) => by_height(Four {}, x, w, out),
        (false, Packing::Five) => by_height(Five {}, x, w, out),
        (false, Packing::Six) => by_height(Six {}, x, w, out),
        (false, Packing::Table(entries)) => {
            let entries = _mm_loadu_si128(entries.as_ptr().cast());
            let shifted = _mm_xor_si128(entries, _mm_set1_epi8(-128));
            by_height(Table(_mm512_broadcast_i32x4(shifted)), x, w, out);
        }
        _ if w.codes.packing.signed() && !w.codes.shifted => by_height(Bytes::<true>, x, w, out),
        _ => by_height(Bytes::<false>, x, w, out),
    }
}

/// Rows in tiles of four, two and one.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn by_height<C: Codes>(codes: C, x: &Q8Rows<'_>, w: &Panel<'_>, out: &mut Sums) {
    let mut row = 0;
    while row < x.count {
        row += match (w.group, x.count - row) {
            (16, 4..) => rows_of::<C, 4, 16>(codes, x, row, w, out),
            (16, 2..) => rows_of::<C, 2, 16>(codes, x, row, w, out),
            (16, _) => rows_of::<C, 1, 16>(codes, x, row, w, out),
            (_, 4..) => rows_of::<C, 4, 32>(codes, x, row, w, out),
            (_, 2..) => rows_of::<C, 2, 32>(codes, x, row, w, out),
            _ => rows_of::<C, 1, 32>(codes, x, row, w, out),
        };
    }
}

/// Rows `first .. first + R`; returns R.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn rows_of<C: Codes, const R: usize, const GROUP: usize>(
    codes: C,
    x: &Q8Rows<'_>,
    first: usize,
    w: &Panel<'_>,
    out: &mut Sums,
) -> usize {
    let k = x.codes.len() / x.count;
    let (groups, blocks) = (k / GROUP, k / BLOCK);
    // Pointers that step from block to block: numbers would be checked for overflow in every round.
    let mut x_codes = [x.codes.as_ptr().add(first * k); R];
    let mut x_corrections = [x.corrections.as_ptr().add(first * groups); R];
    let mut x_sums = [x.sums.as_ptr().wrapping_add(first * groups); R];
    let mut x_scales = [x.scales.as_ptr().add(first * blocks); R];
    for i in 1..R {
        x_codes[i] = x_codes[i - 1].add(k);
        x_corrections[i] = x_corrections[i - 1].add(groups);
        x_sums[i] = x_sums[i - 1].wrapping_add(groups);
        x_scales[i] = x_scales[i - 1].add(blocks);
    }
    let mut block = w.codes.bytes.as_ptr();
    let (mut scales, mut offsets) = (w.scales.as_ptr(), w.offsets.as_ptr());
    let has_offsets = !w.offsets.is_empty();
    let mut sums = [_mm512_setzero_ps(); R];
    for _ in 0..blocks {
        for line in (0..C::BYTES).step_by(LINE) {
            _mm_prefetch::<_MM_HINT_T1>(block.wrapping_add(AHEAD + line).cast());
        }
        for part in 0..BLOCK / GROUP {
            let mut dots = [_mm512_setzero_si512(); R];
            for i in 0..R {
                dots[i] = _mm512_set1_epi32(*x_corrections[i].add(part));
            }
            for half in part * GROUP / 16..(part + 1) * GROUP / 16 {
                let mut four = codes.four(block, half);
                for q in 0..4 {
                    if C::SIGNED {
                        four[q] = _mm512_xor_si512(four[q], _mm512_set1_epi8(-128));
                    }
                    for i in 0..R {
                        let x = x_codes[i].add(half * 16 + q * 4).cast::<i32>().read_unaligned();
                        dots[i] = _mm512_dpbusd_epi32(dots[i], four[q], _mm512_set1_epi32(x));
                    }
                }
            }
            let scale = _mm512_loadu_ps(scales.add(part * PANEL));
            for i in 0..R {
                let scale = _mm512_mul_ps(scale, _mm512_set1_ps(*x_scales[i]));
                sums[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[i]), scale, sums[i]);
                if has_offsets {
                    let offset = _mm512_loadu_ps(offsets.add(part * PANEL));
                    sums[i] = _mm512_fmadd_ps(offset, _mm512_set1_ps(*x_sums[i].add(part)), sums[i]);
                }
            }
        }
        for i in 0..R {
            x_codes[i] = x_codes[i].add(BLOCK);
            x_corrections[i] = x_corrections[i].add(BLOCK / GROUP);
            x_sums[i] = x_sums[i].wrapping_add(BLOCK / GROUP);
            x_scales[i] = x_scales[i].add(1);
        }
        block = block.add(C::BYTES);
        scales = scales.add(BLOCK / GROUP * PANEL);
        offsets = offsets.wrapping_add(BLOCK / GROUP * PANEL);
    }
    for i in 0..R {
        _mm512_storeu_ps(out[first + i].as_mut_ptr(), sums[i]);
    }
    R
}

/// Unpacked panels side by side, a vector each. SAFETY: as [`one_panel`], for both panels.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub unsafe fn two_panels(x: &Q8Rows<'_>, w: [&Panel<'_>; 2], out: &mut [Sums; 2]) {
    let signed = w[0].codes.packing.signed() && !w[0].codes.shifted;
    match (w[0].group, w[0].offsets.is_empty(), signed) {
        (16, true, false) => two_panels_of::<16, false, false>(x, w, out),
        (16, true, true) => two_panels_of::<16, false, true>(x, w, out),
        (16, false, false) => two_panels_of::<16, true, false>(x, w, out),
        (16, false, true) => two_panels_of::<16, true, true>(x, w, out),
        (_, true, false) => two_panels_of::<32, false, false>(x, w, out),
        (_, true, true) => two_panels_of::<32, false, true>(x, w, out),
        (_, false, false) => two_panels_of::<32, true, false>(x, w, out),
        (_, false, true) => two_panels_of::<32, true, true>(x, w, out),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn two_panels_of<const GROUP: usize, const OFFSETS: bool, const SIGNED: bool>(
    x: &Q8Rows<'_>,
    w: [&Panel<'_>; 2],
    out: &mut [Sums; 2],
) {
    match x.count {
        1 => two_panels_rows::<1, GROUP, OFFSETS, SIGNED>(x, w, out),
        2 => two_panels_rows::<2, GROUP, OFFSETS, SIGNED>(x, w, out),
        3 => two_panels_rows::<3, GROUP, OFFSETS, SIGNED>(x, w, out),
        4 => two_panels_rows::<4, GROUP, OFFSETS, SIGNED>(x, w, out),
        5 => two_panels_rows::<5, GROUP, OFFSETS, SIGNED>(x, w, out),
        _ => two_panels_rows::<6, GROUP, OFFSETS, SIGNED>(x, w, out),
    }
}

/// Group, offsets and signs are known to the compiler, so that the integers of a tile stay in registers.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn two_panels_rows<const R: usize, const GROUP: usize, const OFFSETS: bool, const SIGNED: bool>(
    x: &Q8Rows<'_>,
    w: [&Panel<'_>; 2],
    out: &mut [Sums; 2],
) {
    let k = x.codes.len() / x.count;
    let (groups, blocks) = (k / GROUP, k / BLOCK);
    // Pointers that step from group to group: numbers would be checked for overflow in every round.
    let mut x_codes = [x.codes.as_ptr(); R];
    let mut x_corrections = [x.corrections.as_ptr(); R];
    let mut x_sums = [x.sums.as_ptr(); R];
    let mut x_scales = [x.scales.as_ptr(); R];
    for i in 1..R {
        x_codes[i] = x_codes[i - 1].add(k);
        x_corrections[i] = x_corrections[i - 1].add(groups);
        x_sums[i] = x_sums[i - 1].wrapping_add(groups);
        x_scales[i] = x_scales[i - 1].add(blocks);
    }
    let mut w_codes = [w[0].codes.bytes.as_ptr(), w[1].codes.bytes.as_ptr()];
    let mut w_scales = [w[0].scales.as_ptr(), w[1].scales.as_ptr()];
    let mut w_offsets = [w[0].offsets.as_ptr(), w[1].offsets.as_ptr()];
    // A scale every 16 columns leaves too few registers to hold the sums as well.
    let in_registers = GROUP == BLOCK;
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for v in 0..2 {
        out[v][..R].fill([0.0; PANEL]);
    }
    for g in 0..groups {
        let mut dots = [[_mm512_setzero_si512(); 2]; R];
        for i in 0..R {
            dots[i] = [_mm512_set1_epi32(*x_corrections[i].add(g)); 2];
        }
        for q in 0..GROUP / 4 {
            // What later rounds load stays behind this: loaded early it would drive others out of the registers.
            compiler_fence(Ordering::SeqCst);
            let mut b =
                [_mm512_loadu_si512(w_codes[0].add(q * LINE).cast()), _mm512_loadu_si512(w_codes[1].add(q * LINE).cast())];
            if SIGNED {
                let shift = _mm512_set1_epi8(-128);
                b = [_mm512_xor_si512(b[0], shift), _mm512_xor_si512(b[1], shift)];
            }
            for i in 0..R {
                let a = _mm512_set1_epi32(x_codes[i].add(q * 4).cast::<i32>().read_unaligned());
                for v in 0..2 {
                    dots[i][v] = _mm512_dpbusd_epi32(dots[i][v], b[v], a);
                }
            }
        }
        let scales = [_mm512_loadu_ps(w_scales[0]), _mm512_loadu_ps(w_scales[1])];
        for i in 0..R {
            compiler_fence(Ordering::SeqCst);
            let scale = _mm512_set1_ps(*x_scales[i].add(g / (BLOCK / GROUP)));
            for v in 0..2 {
                let mut sum = if in_registers { sums[i][v] } else { _mm512_loadu_ps(out[v][i].as_ptr()) };
                sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[i][v]), _mm512_mul_ps(scales[v], scale), sum);
                if OFFSETS {
                    sum = _mm512_fmadd_ps(_mm512_loadu_ps(w_offsets[v]), _mm512_set1_ps(*x_sums[i].add(g)), sum);
                }
                if in_registers {
                    sums[i][v] = sum;
                } else {
                    _mm512_storeu_ps(out[v][i].as_mut_ptr(), sum);
                }
            }
        }
        for i in 0..R {
            x_codes[i] = x_codes[i].add(GROUP);
        }
        for v in 0..2 {
            w_codes[v] = w_codes[v].add(GROUP * PANEL);
            w_scales[v] = w_scales[v].add(PANEL);
            w_offsets[v] = w_offsets[v].wrapping_add(PANEL);
        }
    }
    if in_registers {
        for i in 0..R {
            for v in 0..2 {
                _mm512_storeu_ps(out[v][i].as_mut_ptr(), sums[i][v]);
            }
        }
    }
}

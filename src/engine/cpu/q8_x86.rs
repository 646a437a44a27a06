//! The kernels of `q8_kernel.rs` for x86-64 with AVX2, and with AVX-VNNI. They read codes packed as `packed.rs` has them,
//! unpacking in registers.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn, clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::isa::Isa;
use super::packed::{BLOCK, LINE, PANEL, Packing, Panel};
use super::q8_tile::{Q8Rows, ROUND, Sums};

/// How many bytes before they are needed codes are asked for.
const AHEAD: usize = 2048;

/// Codes of a block as vectors: 8 rows by 4 columns.
trait Codes: Copy {
    /// Bytes of a block.
    const BYTES: usize;
    /// How many products of pairs of codes and activations (-127 .. 127) a sum in 16 bits holds; 0 for codes with a sign.
    const FIT: usize;

    /// Columns `16 * half .. 16 * half + 16` of the rows `8 * v .. 8 * v + 8`.
    unsafe fn four(self, block: *const u8, half: usize, v: usize) -> [__m256i; 4];
}

#[inline(always)]
unsafe fn load(block: *const u8, line: usize, v: usize) -> __m256i {
    _mm256_loadu_si256(block.add(line * LINE + v * 32).cast())
}

/// The codes of four bits in two lines.
#[inline(always)]
unsafe fn nibbles(block: *const u8, half: usize, v: usize) -> [__m256i; 4] {
    let mask = _mm256_set1_epi8(15);
    let (a, b) = (load(block, 2 * half, v), load(block, 2 * half + 1, v));
    each([a, _mm256_srli_epi16::<4>(a), b, _mm256_srli_epi16::<4>(b)], mask)
}

/// Two bits of each of four codes in a line, `UP` places up.
#[inline(always)]
unsafe fn pairs<const UP: i32>(line: __m256i) -> [__m256i; 4] {
    let mask = _mm256_set1_epi8(3 << UP);
    let at = if UP == 0 {
        [line, _mm256_srli_epi16::<2>(line), _mm256_srli_epi16::<4>(line), _mm256_srli_epi16::<6>(line)]
    } else {
        [_mm256_slli_epi16::<4>(line), _mm256_slli_epi16::<2>(line), line, _mm256_srli_epi16::<2>(line)]
    };
    each(at, mask)
}

/// One bit of each of the four codes of a half, `UP` places up.
#[inline(always)]
unsafe fn bits<const UP: i32>(line: __m256i, half: usize) -> [__m256i; 4] {
    let mask = _mm256_set1_epi8(1 << UP);
    let line = if half == 0 { line } else { _mm256_srli_epi16::<4>(line) };
    let at = match UP {
        1 => [_mm256_slli_epi16::<1>(line), line, _mm256_srli_epi16::<1>(line), _mm256_srli_epi16::<2>(line)],
        2 => [_mm256_slli_epi16::<2>(line), _mm256_slli_epi16::<1>(line), line, _mm256_srli_epi16::<1>(line)],
        _ => [
            _mm256_slli_epi16::<4>(line),
            _mm256_slli_epi16::<3>(line),
            _mm256_slli_epi16::<2>(line),
            _mm256_slli_epi16::<1>(line),
        ],
    };
    each(at, mask)
}

// Written out, because a closure given to `map` may be compiled without the instruction set.
#[inline(always)]
unsafe fn each(a: [__m256i; 4], mask: __m256i) -> [__m256i; 4] {
    [_mm256_and_si256(a[0], mask), _mm256_and_si256(a[1], mask), _mm256_and_si256(a[2], mask), _mm256_and_si256(a[3], mask)]
}

#[inline(always)]
unsafe fn both(a: [__m256i; 4], b: [__m256i; 4]) -> [__m256i; 4] {
    [_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1]), _mm256_or_si256(a[2], b[2]), _mm256_or_si256(a[3], b[3])]
}

#[derive(Clone, Copy)]
struct Signs;
impl Codes for Signs {
    const BYTES: usize = Packing::Signs.block_bytes();
    const FIT: usize = 8;
    #[inline(always)]
    unsafe fn four(self, block: *const u8, half: usize, v: usize) -> [__m256i; 4] {
        bits::<1>(load(block, 0, v), half)
    }
}

#[derive(Clone, Copy)]
struct Two;
impl Codes for Two {
    const BYTES: usize = Packing::Two.block_bytes();
    const FIT: usize = 8;
    #[inline(always)]
    unsafe fn four(self, block: *const u8, half: usize, v: usize) -> [__m256i; 4] {
        pairs::<0>(load(block, half, v))
    }
}

#[derive(Clone, Copy)]
struct Three;
impl Codes for Three {
    const BYTES: usize = Packing::Three.block_bytes();
    const FIT: usize = 8;
    #[inline(always)]
    unsafe fn four(self, block: *const u8, half: usize, v: usize) -> [__m256i; 4] {
        both(pairs::<0>(load(block, half, v)), bits::<2>(load(block, 2, v), half))
    }
}

#[derive(Clone, Copy)]
struct Four;
impl Codes for Four {
    const BYTES: usize = Packing::Four.block_bytes();
    // 15 * 127 * 2 * 8 = 30480
    const FIT: usize = 8;
    #[inline(always)]
    unsafe fn four(self, block: *const u8, half: usize, v: usize) -> [__m256i; 4] {
        nibbles(block, half, v)
    }
}

#[derive(Clone, Copy)]
struct Five;
impl Codes for Five {
    const BYTES: usize = Packing::Five.block_bytes();
    // 31 * 127 * 2 * 4 = 31496
    const FIT: usize = 4;
    #[inline(always)]
    unsafe fn four(self, block: *const u8, half: usize, v: usize) -> [__m256i; 4] {
        both(nibbles(block, half, v), bits::<4>(load(block, 4, v), half))
    }
}

#[derive(Clone, Copy)]
struct Six;
impl Codes for Six {
    const BYTES: usize = Packing::Six.block_bytes();
    // 63 * 127 * 2 * 2 = 32004
    const FIT: usize = 2;
    #[inline(always)]
    unsafe fn four(self, block: *const u8, half: usize, v: usize) -> [__m256i; 4] {
        both(nibbles(block, half, v), pairs::<4>(load(block, 4 + half, v)))
    }
}

/// Unpacked codes; `FIT` as in [`Codes::FIT`].
#[derive(Clone, Copy)]
struct Bytes<const FIT: usize>;
impl<const FIT: usize> Codes for Bytes<FIT> {
    const BYTES: usize = BLOCK * PANEL;
    const FIT: usize = FIT;
    #[inline(always)]
    unsafe fn four(self, block: *const u8, half: usize, v: usize) -> [__m256i; 4] {
        let line = 4 * half;
        [load(block, line, v), load(block, line + 1, v), load(block, line + 2, v), load(block, line + 3, v)]
    }
}

/// Codes of four bits that stand for the entries of a table.
#[derive(Clone, Copy)]
struct Table(__m256i);
impl Codes for Table {
    const BYTES: usize = Packing::Four.block_bytes();
    const FIT: usize = 0;
    #[inline(always)]
    unsafe fn four(self, block: *const u8, half: usize, v: usize) -> [__m256i; 4] {
        let [a, b, c, d] = nibbles(block, half, v);
        [
            _mm256_shuffle_epi8(self.0, a),
            _mm256_shuffle_epi8(self.0, b),
            _mm256_shuffle_epi8(self.0, c),
            _mm256_shuffle_epi8(self.0, d),
        ]
    }
}

#[inline(always)]
unsafe fn table(entries: &[i8; 16]) -> Table {
    Table(_mm256_broadcastsi128_si256(_mm_loadu_si128(entries.as_ptr().cast())))
}

/// Calls `$kernel` for the codes of the panel, their number of rows and their group.
macro_rules! by_codes {
    ($w:ident, $x:ident, $out:ident, $kernel:ident) => {
        match ($w.codes.unpacked, $w.codes.packing) {
            (false, Packing::Signs) => by_height!($kernel, Signs, Signs, $x, $w, $out),
            (false, Packing::Two) => by_height!($kernel, Two, Two, $x, $w, $out),
            (false, Packing::Three) => by_height!($kernel, Three, Three, $x, $w, $out),
            (false, Packing::Four) => by_height!($kernel, Four, Four, $x, $w, $out),
            (false, Packing::Five) => by_height!($kernel, Five, Five, $x, $w, $out),
            (false, Packing::Six) => by_height!($kernel, Six, Six, $x, $w, $out),
            (false, Packing::Table(entries)) => by_height!($kernel, Table, table(entries), $x, $w, $out),
            (true, Packing::Signs | Packing::Two | Packing::Three | Packing::Four) => {
                by_height!($kernel, Bytes<8>, Bytes::<8>, $x, $w, $out)
            }
            (true, Packing::Five) => by_height!($kernel, Bytes<4>, Bytes::<4>, $x, $w, $out),
            (true, Packing::Six) => by_height!($kernel, Bytes<2>, Bytes::<2>, $x, $w, $out),
            (_, Packing::Eight) | (true, Packing::Table(_)) => by_height!($kernel, Bytes<0>, Bytes::<0>, $x, $w, $out),
        }
    };
}

/// Rows in tiles of four, two and one.
macro_rules! by_height {
    ($kernel:ident, $codes:ty, $value:expr, $x:ident, $w:ident, $out:ident) => {{
        let mut row = 0;
        while row < $x.count {
            let rest = $x.count - row;
            row += match ($w.group, rest) {
                (16, 4..) => $kernel::<$codes, 4, 16>($value, $x, row, $w, $out),
                (16, 2..) => $kernel::<$codes, 2, 16>($value, $x, row, $w, $out),
                (16, _) => $kernel::<$codes, 1, 16>($value, $x, row, $w, $out),
                (_, 4..) => $kernel::<$codes, 4, 32>($value, $x, row, $w, $out),
                (_, 2..) => $kernel::<$codes, 2, 32>($value, $x, row, $w, $out),
                _ => $kernel::<$codes, 1, 32>($value, $x, row, $w, $out),
            };
        }
    }};
}

/// SAFETY: `q8_kernel::check` has passed; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn avx2(x: &Q8Rows<'_>, w: &Panel<'_>, out: &mut Sums) {
    by_codes!(w, x, out, avx2_rows);
}

/// SAFETY: as [`avx2`], and the processor has AVX-VNNI.
#[target_feature(enable = "avx2,fma,avxvnni")]
pub unsafe fn avx_vnni(x: &Q8Rows<'_>, w: &Panel<'_>, out: &mut Sums) {
    by_codes!(w, x, out, avx_vnni_rows);
}

/// The activations of four columns of a row, for all rows of a panel.
#[inline(always)]
unsafe fn broadcast(codes: *const i8) -> __m256i {
    _mm256_set1_epi32(codes.cast::<i32>().read_unaligned())
}

/// Where the factors of a group stand, of a row of activations and of eight rows of a panel.
#[derive(Clone, Copy)]
struct Factors {
    x_scale: *const f32,
    x_sum: *const f32,
    scales: *const f32,
    /// Null where there are none.
    offsets: *const f32,
}

/// Adds the integers of a group to the sums of a row.
#[inline(always)]
unsafe fn add_group(sums: __m256, dots: __m256i, f: Factors) -> __m256 {
    let scale = _mm256_mul_ps(_mm256_loadu_ps(f.scales), _mm256_set1_ps(*f.x_scale));
    let sums = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), scale, sums);
    if f.offsets.is_null() {
        return sums;
    }
    _mm256_fmadd_ps(_mm256_loadu_ps(f.offsets), _mm256_set1_ps(*f.x_sum), sums)
}

/// The factors of row `row` of activations and of the rows `8 * v .. 8 * v + 8` of the panel in group `g`, which is in block `b`.
#[inline(always)]
unsafe fn factors(x: &Q8Rows<'_>, w: &Panel<'_>, [row, groups, blocks, g, b, v]: [usize; 6]) -> Factors {
    let at = g * PANEL + v * 8;
    let offsets = if w.offsets.is_empty() { std::ptr::null() } else { w.offsets.as_ptr().add(at) };
    Factors {
        x_scale: x.scales.as_ptr().add(row * blocks + b),
        x_sum: x.sums.as_ptr().wrapping_add(row * groups + g),
        scales: w.scales.as_ptr().add(at),
        offsets,
    }
}

/// Asks for the codes that come [`AHEAD`] behind a block. Unpacking a block takes so many instructions that too few loads are
/// under way otherwise.
#[inline(always)]
unsafe fn ask_for<C: Codes>(block: *const u8) {
    for line in (0..C::BYTES).step_by(LINE) {
        _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(AHEAD + line).cast());
    }
}

/// Rows `first .. first + R`; returns R.
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2_rows<C: Codes, const R: usize, const GROUP: usize>(
    codes: C,
    x: &Q8Rows<'_>,
    first: usize,
    w: &Panel<'_>,
    out: &mut Sums,
) -> usize {
    let k = x.codes.len() / x.count;
    let (groups, blocks) = (k / GROUP, k / BLOCK);
    let x_codes = x.codes.as_ptr().add(first * k);
    let ones = _mm256_set1_epi16(1);
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    for g in 0..groups {
        let block = w.codes.bytes.as_ptr().add(g * GROUP / BLOCK * C::BYTES);
        let halves = g * GROUP % BLOCK / 16;
        if halves == 0 {
            ask_for::<C>(block);
        }
        for v in 0..2 {
            let mut dots = [_mm256_setzero_si256(); R];
            let mut short = [_mm256_setzero_si256(); R];
            for i in 0..R {
                dots[i] = _mm256_set1_epi32(*x.corrections.as_ptr().add((first + i) * groups + g));
            }
            for half in 0..GROUP / 16 {
                let four = codes.four(block, halves + half, v);
                for q in 0..4 {
                    let a = x_codes.add(g * GROUP + half * 16 + q * 4);
                    if C::FIT == 0 {
                        let magnitude = _mm256_abs_epi8(four[q]);
                        for i in 0..R {
                            // Activations are -127 .. 127, so that a pair of products is at most 2 * 128 * 127.
                            let signed = _mm256_sign_epi8(broadcast(a.add(i * k)), four[q]);
                            let pairs = _mm256_maddubs_epi16(magnitude, signed);
                            dots[i] = _mm256_add_epi32(dots[i], _mm256_madd_epi16(pairs, ones));
                        }
                        continue;
                    }
                    for i in 0..R {
                        short[i] = _mm256_add_epi16(short[i], _mm256_maddubs_epi16(four[q], broadcast(a.add(i * k))));
                        if (half * 4 + q + 1) % C::FIT.max(1) == 0 {
                            dots[i] = _mm256_add_epi32(dots[i], _mm256_madd_epi16(short[i], ones));
                            short[i] = _mm256_setzero_si256();
                        }
                    }
                }
            }
            for i in 0..R {
                if C::FIT > GROUP / 4 {
                    dots[i] = _mm256_add_epi32(dots[i], _mm256_madd_epi16(short[i], ones));
                }
                sums[i][v] = add_group(sums[i][v], dots[i], factors(x, w, [first + i, groups, blocks, g, g * GROUP / BLOCK, v]));
            }
        }
    }
    for i in 0..R {
        for v in 0..2 {
            _mm256_storeu_ps(out[first + i].as_mut_ptr().add(v * 8), sums[i][v]);
        }
    }
    R
}

/// The same with four products at a time, of codes without a sign.
#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn avx_vnni_rows<C: Codes, const R: usize, const GROUP: usize>(
    codes: C,
    x: &Q8Rows<'_>,
    first: usize,
    w: &Panel<'_>,
    out: &mut Sums,
) -> usize {
    let k = x.codes.len() / x.count;
    let (groups, blocks) = (k / GROUP, k / BLOCK);
    let x_codes = x.codes.as_ptr().add(first * k);
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    for g in 0..groups {
        let block = w.codes.bytes.as_ptr().add(g * GROUP / BLOCK * C::BYTES);
        let halves = g * GROUP % BLOCK / 16;
        if halves == 0 {
            ask_for::<C>(block);
        }
        for v in 0..2 {
            let mut dots = [_mm256_setzero_si256(); R];
            for i in 0..R {
                dots[i] = _mm256_set1_epi32(*x.corrections.as_ptr().add((first + i) * groups + g));
            }
            for half in 0..GROUP / 16 {
                let mut four = codes.four(block, halves + half, v);
                for q in 0..4 {
                    if C::FIT == 0 {
                        four[q] = _mm256_xor_si256(four[q], _mm256_set1_epi8(-128));
                    }
                    for i in 0..R {
                        let a = broadcast(x_codes.add(i * k + g * GROUP + half * 16 + q * 4));
                        dots[i] = _mm256_dpbusd_avx_epi32(dots[i], four[q], a);
                    }
                }
            }
            for i in 0..R {
                sums[i][v] = add_group(sums[i][v], dots[i], factors(x, w, [first + i, groups, blocks, g, g * GROUP / BLOCK, v]));
            }
        }
    }
    for i in 0..R {
        for v in 0..2 {
            _mm256_storeu_ps(out[first + i].as_mut_ptr().add(v * 8), sums[i][v]);
        }
    }
    R
}

/// The codes of a block, its scale, and the sums of both halves of the codes: `round_block` of `q8.rs` with AVX2. Written out,
/// because the compiler turned the plain loop into gathers.
#[target_feature(enable = "avx2")]
pub unsafe fn round(x: &[f32; BLOCK], codes: &mut [i8; BLOCK]) -> (f32, [i32; 2]) {
    let mut numbers = [_mm256_setzero_ps(); 4];
    let mut largest = _mm256_setzero_si256();
    for v in 0..4 {
        numbers[v] = _mm256_loadu_ps(x.as_ptr().add(8 * v));
        let magnitude = _mm256_and_si256(_mm256_castps_si256(numbers[v]), _mm256_set1_epi32(0x7fff_ffff));
        largest = _mm256_max_epu32(largest, magnitude);
    }
    let largest = _mm_max_epu32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256::<1>(largest));
    let largest = _mm_max_epu32(largest, _mm_shuffle_epi32::<0b0100_1110>(largest));
    let largest = _mm_max_epu32(largest, _mm_shuffle_epi32::<0b1011_0001>(largest));
    let scale = f32::from_bits(_mm_cvtsi128_si32(largest) as u32) / 127.0;
    let inverse = 1.0 / scale;
    let inverse = _mm256_set1_ps(if inverse.is_finite() { inverse } else { 0.0 });
    let mut rounded = [_mm256_setzero_si256(); 4];
    for v in 0..4 {
        // Multiplied and added in two steps, as the plain loop does. The lowest byte of the sum is the code: that of ROUND is 0.
        let sum = _mm256_add_ps(_mm256_mul_ps(numbers[v], inverse), _mm256_set1_ps(ROUND));
        rounded[v] = _mm256_and_si256(_mm256_castps_si256(sum), _mm256_set1_epi32(0xff));
    }
    let words = [_mm256_packus_epi32(rounded[0], rounded[1]), _mm256_packus_epi32(rounded[2], rounded[3])];
    let bytes = _mm256_packus_epi16(words[0], words[1]);
    // Both kinds of packing work in halves of a vector.
    let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256(codes.as_mut_ptr().cast(), bytes);
    let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
    let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    let twice = _mm256_hadd_epi32(fours, fours);
    let sums = _mm256_hadd_epi32(twice, twice);
    let halves = [_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums)];
    (scale, [_mm_cvtsi128_si32(halves[0]), _mm_cvtsi128_si32(halves[1])])
}

/// [`super::packed::Unpack::codes`] with AVX2, those with a sign as bytes from 0 on.
pub fn unpack_shifted(isa: Isa, packing: Packing, blocks: &[u8], out: &mut [u8]) {
    assert!(out.len() * packing.block_bytes() == blocks.len() * BLOCK * PANEL);
    // SAFETY: as in `unpack`.
    unsafe {
        match packing {
            Packing::Eight => shift(blocks, out),
            Packing::Table(entries) => unpack_table(&entries.map(|entry| entry ^ i8::MIN), blocks, out),
            _ => unpack(isa, packing, blocks, out),
        }
    }
}

#[target_feature(enable = "avx2")]
unsafe fn shift(codes: &[u8], out: &mut [u8]) {
    for (out, code) in out.iter_mut().zip(codes) {
        *out = code ^ 0x80;
    }
}

/// [`super::packed::Unpack::codes`] with AVX2.
pub fn unpack(_: Isa, packing: Packing, blocks: &[u8], out: &mut [u8]) {
    assert!(out.len() * packing.block_bytes() == blocks.len() * BLOCK * PANEL);
    // SAFETY: as many blocks come out as go in; this is for processors with AVX2 alone.
    unsafe {
        match packing {
            Packing::Signs => unpack_codes(Signs, blocks, out),
            Packing::Two => unpack_codes(Two, blocks, out),
            Packing::Three => unpack_codes(Three, blocks, out),
            Packing::Four => unpack_codes(Four, blocks, out),
            Packing::Five => unpack_codes(Five, blocks, out),
            Packing::Six => unpack_codes(Six, blocks, out),
            Packing::Eight => out.copy_from_slice(blocks),
            Packing::Table(entries) => unpack_table(entries, blocks, out),
        }
    }
}

#[target_feature(enable = "avx2")]
unsafe fn unpack_table(entries: &[i8; 16], blocks: &[u8], out: &mut [u8]) {
    unpack_codes(table(entries), blocks, out);
}

#[target_feature(enable = "avx2")]
unsafe fn unpack_codes<C: Codes>(codes: C, blocks: &[u8], out: &mut [u8]) {
    for (block, out) in blocks.chunks_exact(C::BYTES).zip(out.chunks_exact_mut(BLOCK * PANEL)) {
        for half in 0..2 {
            for v in 0..2 {
                let four = codes.four(block.as_ptr(), half, v);
                for q in 0..4 {
                    _mm256_storeu_si256(out.as_mut_ptr().add((4 * half + q) * LINE + v * 32).cast(), four[q]);
                }
            }
        }
    }
}

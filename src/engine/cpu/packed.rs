//! A matrix of small integers (`bitworth_quant::formats::Integers`) as products in 8 bits read it: panels of 16 neighbouring
//! rows, in about as many bytes as the format takes.
//!
//! Four neighbouring columns of the 16 rows of a panel, one byte each, are a line of 64 bytes, so that an instruction multiplies
//! a line, or half of one, with four activations and has a sum for each row. Codes of fewer than 8 bits are packed: byte by byte,
//! several lines lie in one. A block of 32 columns has the lines of its lower four bits (two in one, in the order of columns),
//! then those of the next two bits (four in one), then those of one bit (eight in one), as far as its codes have such bits.
//!
//! Formats whose codes are points of a grid take up many more bits so; they stay as they are and are taken apart panel by panel.

use std::ops::Range;

use bitworth_quant::DType;
use bitworth_quant::checkpoint::TensorBytes;
use bitworth_quant::formats::{CodeValues, Integers, LevelValues, TakenApart};
use rayon::prelude::*;

use super::CpuWeight;
use super::halves;
use super::isa::{Isa, per_isa};

/// Rows of a panel.
pub const PANEL: usize = 16;
/// Columns of a block, and those that share a scale of the activations.
pub const BLOCK: usize = 32;
/// Panels that are made before what they were made of is let go.
const CHUNK: usize = 256;
/// Bytes of the file that are given back at once.
const RELEASED: usize = 16 << 20;
/// Bytes of a line.
pub const LINE: usize = 4 * PANEL;
/// Codes of a block, line by line.
pub type Lines = [[u8; LINE]; BLOCK / 4];

/// The bits that codes are packed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// One bit, which stands for 0 or 2.
    Signs,
    /// 0 .. 4
    Two,
    /// 0 .. 8
    Three,
    /// 0 .. 16
    Four,
    /// 0 .. 32
    Five,
    /// 0 .. 64
    Six,
    /// The codes themselves.
    Eight,
    /// Four bits, which stand for the entries of a table.
    Table(&'static [i8; 16]),
}

impl Packing {
    /// For codes of these values, and what was added to them; `None` for points of a grid.
    fn of(values: CodeValues) -> Option<(Self, u8)> {
        Some(match values {
            CodeValues::Signs => (Self::Signs, 1),
            CodeValues::Table(table) => (Self::Table(table), 0),
            CodeValues::Grid => return None,
            CodeValues::Range { bits, offset } => match bits {
                0..=2 => (Self::Two, offset),
                3 => (Self::Three, offset),
                4 => (Self::Four, offset),
                5 => (Self::Five, offset),
                6 => (Self::Six, offset),
                _ => (Self::Eight, 0),
            },
        })
    }

    /// How many lines there are of four, of two and of one bit, and of whole bytes.
    const fn planes(self) -> [usize; 4] {
        match self {
            Self::Signs => [0, 0, 1, 0],
            Self::Two => [0, 2, 0, 0],
            Self::Three => [0, 2, 1, 0],
            Self::Four | Self::Table(_) => [4, 0, 0, 0],
            Self::Five => [4, 0, 1, 0],
            Self::Six => [4, 2, 0, 0],
            Self::Eight => [0, 0, 0, 8],
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        let [four, two, one, whole] = self.planes();
        (four + two + one + whole) * LINE
    }

    /// Whether codes may be negative.
    pub const fn signed(self) -> bool {
        matches!(self, Self::Eight | Self::Table(_))
    }

    /// Stores a block of codes from 0 on; those of a table by their indexes.
    fn pack(self, lines: &Lines, out: &mut [u8]) {
        let [four, two, one, whole] = self.planes();
        let mut out = out.as_chunks_mut::<LINE>().0.iter_mut();
        if whole > 0 {
            out.zip(lines).for_each(|(out, line)| *out = *line);
            return;
        }
        let mut below = 0;
        for (plane, bits) in [(four, 4), (two, 2), (one, 1)] {
            for (part, out) in out.by_ref().take(plane).enumerate() {
                let together = 8 / bits;
                for (place, line) in lines[part * together..(part + 1) * together].iter().enumerate() {
                    for (out, code) in out.iter_mut().zip(line) {
                        *out |= (code >> below & ((1 << bits) - 1)) << (place * bits);
                    }
                }
            }
            below += if plane > 0 { bits } else { 0 };
        }
    }

    /// One code of a block: of row `row` of the panel and column `column`.
    fn code(self, block: &[u8], row: usize, column: usize) -> i8 {
        let [four, two, one, whole] = self.planes();
        let (line, at) = (column / 4, 4 * row + column % 4);
        if whole > 0 {
            return block[line * LINE + at] as i8;
        }
        let (mut code, mut first, mut below) = (0, 0, 0);
        for (plane, bits) in [(four, 4), (two, 2), (one, 1)] {
            if plane > 0 {
                let together = 8 / bits;
                let byte = block[(first + line / together) * LINE + at];
                code |= (byte >> (line % together * bits) & ((1 << bits) - 1)) << below;
                below += bits;
            }
            first += plane;
        }
        match self {
            Self::Signs => (code << 1) as i8,
            Self::Table(table) => table[usize::from(code)],
            _ => code as i8,
        }
    }
}

/// The bases of scales or offsets `[columns / base, PANEL]` of each panel, in the half precision that holds all of them exactly.
#[derive(Default)]
struct Bases {
    bits: Vec<u16>,
    /// Upper halves of singles, not IEEE half precision.
    brain: bool,
}

/// A matrix for products in 8 bits.
pub struct Panels {
    rows: usize,
    cols: usize,
    integers: &'static Integers,
    stored: Stored,
}

enum Stored {
    Packed {
        packing: Packing,
        /// What was added to the codes.
        added: u8,
        codes: Vec<u8>,
        scale_bases: Bases,
        offset_bases: Bases,
        /// `[columns / group, PANEL]` of each panel; those of offsets beside them in the upper four bits where all are so small.
        scale_levels: Vec<i8>,
        offset_levels: Vec<i8>,
    },
    Rows {
        bytes: TensorBytes,
        row_bytes: usize,
    },
}

/// What products need of one panel.
pub struct Panel<'a> {
    /// Columns that share a scale.
    pub group: usize,
    /// The codes, block by block.
    pub codes: PanelCodes<'a>,
    /// `[columns / group, PANEL]`
    pub scales: &'a [f32],
    /// The same of the offsets; empty where the format has none.
    pub offsets: &'a [f32],
}

/// The codes of a panel.
#[derive(Clone, Copy)]
pub struct PanelCodes<'a> {
    /// How they are packed.
    pub packing: Packing,
    /// Whether they are unpacked: a byte each, [`Lines`] by block.
    pub unpacked: bool,
    /// Whether those with a sign are unpacked as bytes from 0 on, 128 more than they are.
    pub shifted: bool,
    /// The blocks.
    pub bytes: &'a [u8],
}

/// Room for a panel.
#[derive(Default)]
pub struct PanelRoom {
    codes: Vec<u8>,
    scales: Vec<f32>,
    offsets: Vec<f32>,
    /// Bases of either as singles.
    widened: Vec<f32>,
    parts: TakenApart,
}

/// Rows as they are stored.
pub struct StoredRows<'a> {
    /// How a row is taken apart.
    pub integers: &'static Integers,
    /// All of them.
    pub bytes: &'a [u8],
    /// Of one.
    pub row_bytes: usize,
}

/// Where each code, taken as a byte, stands in the table that all codes of its format are from.
fn indexes_in(table: &[i8; 16]) -> [u8; 256] {
    let mut indexes = [0; 256];
    // Backwards, so that of two places of a code the first is kept.
    for (index, code) in table.iter().enumerate().rev() {
        indexes[usize::from(*code as u8)] = index as u8;
    }
    indexes
}

/// The codes of a row as bytes from 0 on.
fn as_bytes(codes: &[i8], packing: Packing, added: u8, indexes: &[u8; 256], bytes: &mut Vec<u8>) {
    bytes.resize(codes.len(), 0);
    // Loops of their own, so that each can be one of vectors.
    match packing {
        Packing::Eight => bytes.iter_mut().zip(codes).for_each(|(byte, &code)| *byte = code as u8),
        Packing::Signs => bytes.iter_mut().zip(codes).for_each(|(byte, &code)| *byte = u8::from(code > 0)),
        Packing::Table(_) => bytes.iter_mut().zip(codes).for_each(|(byte, &code)| *byte = indexes[usize::from(code as u8)]),
        _ => bytes.iter_mut().zip(codes).for_each(|(byte, &code)| *byte = (code as u8).wrapping_add(added)),
    }
}

/// Half precision, exactly, or `None`.
fn half(x: f32, dtype: DType) -> Option<u16> {
    let (mut bytes, mut back) = ([0; 2], [0.0]);
    dtype.encode_row(&[x], None, &mut bytes);
    dtype.decode_row(&bytes, &mut back);
    (back[0].to_bits() == x.to_bits() || back[0].is_nan() && x.is_nan()).then(|| u16::from_le_bytes(bytes))
}

impl Bases {
    /// Those of `values`, if one half precision holds all.
    fn of(values: &[f32]) -> Option<Self> {
        let all = |dtype| values.iter().map(|&x| half(x, dtype)).collect::<Option<Vec<_>>>();
        all(DType::F16)
            .map(|bits| Self { bits, brain: false })
            .or_else(|| all(DType::BF16).map(|bits| Self { bits, brain: true }))
    }

    /// The number at a place.
    #[inline(always)]
    fn get(&self, at: usize) -> f32 {
        widen(self.bits[at], self.brain)
    }
}

/// A half as a single. Without a branch, so that it vectorizes.
#[inline(always)]
fn widen(bits: u16, brain: bool) -> f32 {
    if brain {
        return f32::from_bits(u32::from(bits) << 16);
    }
    let magnitude = u32::from(bits & 0x7fff);
    // The exponents of halves begin 112 later than those of singles; multiplying normalizes what is subnormal.
    let finite = (f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23)).to_bits();
    let special = magnitude << 13 | 0x7f80_0000;
    f32::from_bits(if magnitude < 0x7c00 { finite } else { special } | u32::from(bits >> 15) << 31)
}

impl Panels {
    /// Takes a matrix apart, and its bytes away; `None` where its format has no integers.
    pub fn of(weight: &mut CpuWeight) -> Option<Self> {
        let CpuWeight { dtype, rows, cols, row_bytes, .. } = *weight;
        let integers = dtype.integers().filter(|_| cols.is_multiple_of(BLOCK))?;
        let bytes = std::mem::replace(&mut weight.bytes, TensorBytes::Owned(Vec::new()));
        let Some((packing, added)) = Packing::of(integers.codes) else {
            return Some(Self { rows, cols, integers, stored: Stored::Rows { bytes, row_bytes } });
        };
        let panels = rows.div_ceil(PANEL);
        let (groups, bases) = (cols / integers.group, cols / integers.base);
        let nibbles = integers.levels == LevelValues::Nibbles;
        let levels = if integers.levels == LevelValues::One { 0 } else { panels * groups * PANEL };
        let mut codes = vec![0; panels * (cols / BLOCK) * packing.block_bytes()];
        let mut scale_levels = vec![0i8; levels];
        let mut offset_levels = vec![0i8; if integers.has_offsets && !nibbles { levels } else { 0 }];
        let mut scales = vec![0.0f32; panels * bases * PANEL];
        let mut offsets = vec![0.0f32; if integers.has_offsets { panels * bases * PANEL } else { 0 }];
        // Lists that a format lacks are empty; each panel then has an empty part of them.
        let per_panel = |list: usize| list / panels.max(1);
        let (level_len, offset_level_len, offset_len) =
            (per_panel(scale_levels.len()), per_panel(offset_levels.len()), per_panel(offsets.len()));
        let mut work: Vec<_> = codes
            .chunks_exact_mut(cols / BLOCK * packing.block_bytes())
            .zip(scales.chunks_exact_mut(bases * PANEL))
            .zip(parts_of(&mut scale_levels, level_len, panels))
            .zip(parts_of(&mut offset_levels, offset_level_len, panels))
            .zip(parts_of(&mut offsets, offset_len, panels))
            .collect();
        let indexes = match packing {
            Packing::Table(table) => indexes_in(table),
            _ => [0; 256],
        };
        let mut released = 0;
        // Chunk by chunk, so that little is there twice.
        for (number, chunk) in work.chunks_mut(CHUNK).enumerate() {
            let first = number * CHUNK;
            chunk.par_iter_mut().enumerate().for_each_init(
                || (TakenApart::default(), Vec::new()),
                |(parts, row), (i, ((((codes, scales), levels), offset_levels), offsets))| {
                    let p = first + i;
                    let mut blocks = vec![[[0u8; LINE]; BLOCK / 4]; cols / BLOCK];
                    for j in 0..PANEL.min(rows - p * PANEL) {
                        integers.take_apart(&bytes[(p * PANEL + j) * row_bytes..][..row_bytes], parts);
                        as_bytes(&parts.codes, packing, added, &indexes, row);
                        for (line, four) in blocks.as_flattened_mut().iter_mut().zip(row.as_chunks::<4>().0) {
                            line[4 * j..4 * j + 4].copy_from_slice(four);
                        }
                        for base in 0..bases {
                            scales[base * PANEL + j] = parts.scale_bases[base];
                            if let Some(offset) = offsets.get_mut(base * PANEL + j) {
                                *offset = parts.offset_bases[base];
                            }
                        }
                        for group in 0..groups {
                            let [scale, offset] = [parts.scale_levels[group], parts.offset_levels[group]];
                            if let Some(level) = levels.get_mut(group * PANEL + j) {
                                *level = if nibbles { scale | offset << 4 } else { scale };
                            }
                            if let Some(level) = offset_levels.get_mut(group * PANEL + j) {
                                *level = offset;
                            }
                        }
                    }
                    for (out, block) in codes.chunks_exact_mut(packing.block_bytes()).zip(&blocks) {
                        packing.pack(block, out);
                    }
                },
            );
            let end = ((first + CHUNK) * PANEL).min(rows) * row_bytes;
            // Every thread of the system is told of pages that are given back: not too often.
            if end - released >= RELEASED || end == rows * row_bytes {
                bytes.release(released..end);
                released = end;
            }
        }
        drop(work);
        let stored = match (Bases::of(&scales), Bases::of(&offsets)) {
            (Some(scale_bases), Some(offset_bases)) => {
                Stored::Packed { packing, added, codes, scale_bases, offset_bases, scale_levels, offset_levels }
            }
            // Scales that no half precision holds.
            _ => Stored::Rows { bytes, row_bytes },
        };
        Some(Self { rows, cols, integers, stored })
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Columns that share a scale.
    pub fn group(&self) -> usize {
        self.integers.group
    }

    /// Whether the format has offsets.
    pub fn has_offsets(&self) -> bool {
        self.integers.has_offsets
    }

    /// The rows, where they stand as they are stored and have no offsets.
    pub fn as_rows(&self) -> Option<StoredRows<'_>> {
        match &self.stored {
            Stored::Rows { bytes, row_bytes } if !self.integers.has_offsets => {
                Some(StoredRows { integers: self.integers, bytes, row_bytes: *row_bytes })
            }
            _ => None,
        }
    }

    /// How codes are packed, and what was added to them; those of rows are what they are.
    pub fn packing(&self) -> (Packing, u8) {
        match self.stored {
            Stored::Packed { packing, added, .. } => (packing, added),
            Stored::Rows { .. } => (Packing::Eight, 0),
        }
    }

    /// Bytes that it takes up.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        match &self.stored {
            Stored::Packed { codes, scale_bases, offset_bases, scale_levels, offset_levels, .. } => {
                codes.len() + 2 * (scale_bases.bits.len() + offset_bases.bits.len()) + scale_levels.len() + offset_levels.len()
            }
            Stored::Rows { bytes, .. } => bytes.len(),
        }
    }

    /// Panel `p`, its codes unpacked on request, by `unpack` or by the plain loop.
    pub fn panel<'a>(&'a self, isa: Isa, p: usize, unpack: Option<Unpack>, room: &'a mut PanelRoom) -> Panel<'a> {
        let groups = self.cols / self.integers.group;
        room.scales.resize(groups * PANEL, 0.0);
        room.offsets.resize(if self.integers.has_offsets { groups * PANEL } else { 0 }, 0.0);
        let codes = match &self.stored {
            Stored::Rows { bytes, row_bytes } => {
                self.take_rows(bytes, *row_bytes, p, room);
                PanelCodes { packing: Packing::Eight, unpacked: true, shifted: false, bytes: &room.codes }
            }
            Stored::Packed { packing, codes, .. } => {
                self.expand(isa, p, room);
                let len = self.cols / BLOCK * packing.block_bytes();
                let bytes = &codes[p * len..(p + 1) * len];
                match unpack {
                    Some(unpack) if *packing != Packing::Eight || unpack.shifts => {
                        let len = self.cols * PANEL;
                        room.codes.resize(len + LINE, 0);
                        // No line crosses one of the cache.
                        let begin = room.codes.as_ptr().align_offset(LINE).min(LINE);
                        let out = &mut room.codes[begin..begin + len];
                        (unpack.codes)(isa, *packing, bytes, out);
                        PanelCodes { packing: *packing, unpacked: true, shifted: unpack.shifts && packing.signed(), bytes: out }
                    }
                    _ => PanelCodes { packing: *packing, unpacked: *packing == Packing::Eight, shifted: false, bytes },
                }
            }
        };
        Panel { group: self.integers.group, codes, scales: &room.scales, offsets: &room.offsets }
    }

    /// The rows of a panel, taken apart.
    fn take_rows(&self, bytes: &[u8], row_bytes: usize, p: usize, room: &mut PanelRoom) {
        let PanelRoom { codes, scales, offsets, parts, .. } = room;
        codes.clear();
        codes.resize(self.cols * PANEL, 0);
        scales.fill(0.0);
        offsets.fill(0.0);
        for j in 0..PANEL.min(self.rows - p * PANEL) {
            self.integers.take_apart(&bytes[(p * PANEL + j) * row_bytes..][..row_bytes], parts);
            for (line, four) in codes.as_chunks_mut::<LINE>().0.iter_mut().zip(parts.codes.as_chunks::<4>().0) {
                line[4 * j..4 * j + 4].copy_from_slice(&four.map(|code| code as u8));
            }
            for group in 0..self.cols / self.integers.group {
                let (scale, offset) = parts.factors(group);
                scales[group * PANEL + j] = scale;
                if let Some(place) = offsets.get_mut(group * PANEL + j) {
                    *place = offset;
                }
            }
        }
    }

    /// The scales and offsets of a packed panel.
    fn expand<'a>(&'a self, isa: Isa, p: usize, room: &mut PanelRoom) {
        let Stored::Packed { scale_bases, offset_bases, scale_levels, offset_levels, .. } = &self.stored else { return };
        let (groups, bases) = (self.cols / self.integers.group * PANEL, self.cols / self.integers.base * PANEL);
        let per_base = self.integers.base / self.integers.group;
        let part = |bases_of: &Bases| if bases_of.bits.is_empty() { 0..0 } else { p * bases..(p + 1) * bases };
        let of = |levels: &'_ [i8]| if levels.is_empty() { 0..0 } else { p * groups..(p + 1) * groups };
        let nibbles = self.integers.levels == LevelValues::Nibbles;
        let stored = |levels: &'a [i8], level| Some((&levels[of(levels)], level)).filter(|(levels, _)| !levels.is_empty());
        let (scale_levels_of, offset_levels_of) = (scale_levels, offset_levels);
        let (scale_levels, offset_levels) = match nibbles {
            true => (stored(scale_levels, Level::Lower), stored(scale_levels, Level::Upper)),
            false => (stored(scale_levels, Level::Whole), stored(offset_levels, Level::Whole)),
        };
        for bases in [scale_bases, offset_bases] {
            ask_for_next(&bases.bits, part(bases));
        }
        for levels in [scale_levels_of, offset_levels_of] {
            ask_for_next(levels, of(levels));
        }
        let PanelRoom { scales, offsets, widened, .. } = room;
        expand(isa, scale_bases, part(scale_bases), scale_levels, per_base, [&mut *widened, scales]);
        if self.integers.has_offsets {
            expand(isa, offset_bases, part(offset_bases), offset_levels, per_base, [widened, offsets]);
        }
    }

    /// Row `row`, decoded: the bits that the format's decoder gives.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        let (p, j) = (row / PANEL, row % PANEL);
        let groups = self.cols / self.integers.group;
        let factor = |bases: &Bases, levels: &[i8], group: usize, level: Level| {
            let base = group * self.integers.group / self.integers.base;
            let base = bases.get((p * (self.cols / self.integers.base) + base) * PANEL + j);
            levels.get((p * groups + group) * PANEL + j).map_or(base, |&stored| base * f32::from(level.of(stored)))
        };
        match &self.stored {
            Stored::Rows { bytes, row_bytes } => {
                let mut parts = TakenApart::default();
                self.integers.take_apart(&bytes[row * row_bytes..][..*row_bytes], &mut parts);
                for (i, (out, &code)) in out.iter_mut().zip(&parts.codes).enumerate() {
                    let (scale, offset) = parts.factors(i / self.integers.group);
                    *out = scale * f32::from(code);
                    if self.integers.has_offsets {
                        *out += offset;
                    }
                }
            }
            Stored::Packed { packing, added, codes, scale_bases, offset_bases, scale_levels, offset_levels } => {
                let nibbles = self.integers.levels == LevelValues::Nibbles;
                let len = packing.block_bytes();
                let (group_len, blocks) = (self.integers.group, self.cols / BLOCK);
                for (group, out) in out.chunks_exact_mut(group_len).enumerate() {
                    let level = if nibbles { Level::Lower } else { Level::Whole };
                    let scale = factor(scale_bases, scale_levels, group, level);
                    let offset = if nibbles { (scale_levels, Level::Upper) } else { (offset_levels, Level::Whole) };
                    let offset = self.integers.has_offsets.then(|| factor(offset_bases, offset.0, group, offset.1));
                    for (i, out) in out.iter_mut().enumerate() {
                        let column = group * group_len + i;
                        let block = &codes[(p * blocks + column / BLOCK) * len..][..len];
                        let code = i16::from(packing.code(block, j, column % BLOCK)) - i16::from(*added);
                        *out = scale * f32::from(code);
                        if let Some(offset) = offset {
                            *out += offset;
                        }
                    }
                }
            }
        }
    }
}

/// Asks for what comes behind a part of a list, as much again, so that it is at hand for the next panel.
fn ask_for_next<T>(list: &[T], part: Range<usize>) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        let next = list.get(part.end..part.end + part.len()).unwrap_or(&[]);
        for at in (0..size_of_val(next)).step_by(LINE) {
            // SAFETY: a hint, which reads nothing.
            #[allow(unsafe_code)]
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(next.as_ptr().cast::<i8>().wrapping_add(at));
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (list, part);
}

/// How the blocks of a panel are unpacked.
#[derive(Clone, Copy)]
pub struct Unpack {
    /// Codes to a byte each.
    pub codes: fn(isa: Isa, packing: Packing, blocks: &[u8], out: &mut [u8]),
    /// See [`PanelCodes::shifted`].
    pub shifts: bool,
}

/// `count` parts of `len` elements, which may be none.
fn parts_of<T>(mut list: &mut [T], len: usize, count: usize) -> Vec<&mut [T]> {
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let (part, rest) = list.split_at_mut(len);
        parts.push(part);
        list = rest;
    }
    parts
}

/// Where a level stands in its byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Whole,
    Lower,
    Upper,
}

impl Level {
    #[inline(always)]
    fn of(self, stored: i8) -> i8 {
        match self {
            Self::Whole => stored,
            Self::Lower => stored & 15,
            Self::Upper => (stored as u8 >> 4) as i8,
        }
    }
}

/// `out[group, j] = base[group / per_base, j] * level[group, j]`; without levels the bases alone.
fn expand(
    isa: Isa,
    bases: &Bases,
    part: Range<usize>,
    levels: Option<(&[i8], Level)>,
    per_base: usize,
    room: [&mut Vec<f32>; 2],
) {
    let [widened, out] = room;
    let bits = &bases.bits[part];
    widened.resize(bits.len(), 0.0);
    match levels {
        None if per_base == 1 => widen_all(isa, bits, bases.brain, out),
        None => {
            widen_all(isa, bits, bases.brain, widened);
            let out = out.as_chunks_mut::<PANEL>().0;
            for (base, out) in widened.as_chunks::<PANEL>().0.iter().zip(out.chunks_mut(per_base)) {
                out.fill(*base);
            }
        }
        Some((levels, level)) => {
            widen_all(isa, bits, bases.brain, widened);
            scale_levels(isa, widened, levels, level, per_base, out);
        }
    }
}

fn widen_all(isa: Isa, bits: &[u16], brain: bool, out: &mut [f32]) {
    if brain || isa == Isa::Portable || !halves::widen(bytemuck::cast_slice(bits), out) {
        widen_plain(isa, bits, brain, out);
    }
}

per_isa! {
    fn widen_plain(bits: &[u16], brain: bool, out: &mut [f32]) {
        for (out, &bits) in out.iter_mut().zip(bits) {
            *out = widen(bits, brain);
        }
    }
}

per_isa! {
    fn scale_levels(bases: &[f32], levels: &[i8], level: Level, per_base: usize, out: &mut [f32]) {
        let groups = out.as_chunks_mut::<PANEL>().0.chunks_mut(per_base);
        let levels = levels.as_chunks::<PANEL>().0.chunks(per_base);
        for ((base, out), levels) in bases.as_chunks::<PANEL>().0.iter().zip(groups).zip(levels) {
            for (out, levels) in out.iter_mut().zip(levels) {
                for j in 0..PANEL {
                    out[j] = base[j] * f32::from(level.of(levels[j]));
                }
            }
        }
    }
}

/// [`Unpack::codes`] on any processor.
pub fn unpack(isa: Isa, packing: Packing, blocks: &[u8], out: &mut [u8]) {
    let [four, two, one, _] = packing.planes();
    unpack_planes(isa, blocks, [four, two, one], out);
    match packing {
        Packing::Signs => out.iter_mut().for_each(|code| *code <<= 1),
        Packing::Table(table) => out.iter_mut().for_each(|code| *code = table[usize::from(*code & 15)] as u8),
        _ => {}
    }
}

per_isa! {
    fn unpack_planes(blocks: &[u8], planes: [usize; 3], out: &mut [u8]) {
        let block = (planes[0] + planes[1] + planes[2]) * LINE;
        for (lines, out) in blocks.chunks_exact(block).zip(out.chunks_exact_mut(BLOCK * PANEL)) {
            let mut lines = lines.as_chunks::<LINE>().0.iter();
            let mut below = 0;
            out.fill(0);
            for (plane, bits) in planes.into_iter().zip([4, 2, 1]) {
                let (together, mask) = (8 / bits, (1u8 << bits) - 1);
                for (part, line) in lines.by_ref().take(plane).enumerate() {
                    for place in 0..together {
                        let out = &mut out[(part * together + place) * LINE..][..LINE];
                        for j in 0..LINE {
                            out[j] |= (line[j] >> (place * bits) & mask) << below;
                        }
                    }
                }
                if plane > 0 {
                    below += bits;
                }
            }
        }
    }
}

//! compressed-tensors' `pack-quantized`: `weight_packed` I32 `[rows, cols / n]`, n numbers of 2 to 8 bits in a word, low bits
//! first and stored plus half their range; `weight_scale` `[rows, groups]`, `weight_shape` I64 `[2]`; where they are not
//! symmetric `weight_zero_point` I32 `[rows / n, groups]`, packed along the rows and stored likewise; with an order of
//! activations `weight_g_idx` I32 `[cols]`. AWQ models that llm-compressor makes are stored so too.

use std::ops::Range;

use super::grouped::GroupOf;
use super::settings::Scheme;
use super::{Floats, Found, SourceFormat, Weight, word};
use crate::Result;
use crate::mmap::{FileMap, Span};
use crate::packing::Packed;
use crate::safetensors::HfTensor;

pub(super) const FORMAT: SourceFormat = SourceFormat {
    name: "packed integers of compressed-tensors",
    methods: &["compressed-tensors"],
    markers: &[".weight_packed"],
    behind: true,
    read,
};

/// A matrix of integers, each row in words of its own.
struct Integers {
    bits: usize,
    /// Of a row.
    words: usize,
    codes: Span,
    groups: usize,
    /// Whether all rows share the scales.
    shared: bool,
    group_of: GroupOf,
    scales: Floats,
    zeros: Option<Span>,
}

fn read(found: &Found) -> Result<Option<Weight>> {
    let codes = found.tensor;
    if codes.stored_dtype() != "I32" {
        return Ok(None);
    }
    let (scales, shape) = (found.require(".weight_scale")?, found.require(".weight_shape")?);
    let [rows, words] = found.matrix(codes)?;
    let [stated_rows, cols] = stated_shape(found, shape)?;
    let fits =
        |scheme: &Scheme| scheme.kind == "int" && (2..=8).contains(&scheme.bits) && cols.div_ceil(32 / scheme.bits) == words;
    let scheme = found.settings.scheme(codes, found.base, fits)?;
    if stated_rows != rows {
        return Err(found.error(shape, format!("says {stated_rows} rows, but {} has {rows}", codes.name)));
    }
    let size = match scheme.strategy.as_str() {
        "group" => match scheme.group_size {
            Some(size) if cols.is_multiple_of(size) => size,
            Some(size) => {
                let what = format!("has rows of {cols} weights, which groups of {size} (group_size) do not divide");
                return Err(found.error(codes, what));
            }
            None => return Err(found.settings.error("group_size", "is missing; the strategy is \"group\"")),
        },
        "channel" | "tensor" => cols,
        other => {
            let what = format!("{other:?} is not supported for packed integers; known: tensor, channel, group");
            return Err(found.settings.error("strategy", what));
        }
    };
    let groups = cols / size;
    let shared = scheme.strategy == "tensor";
    match shared {
        true if scales.shape.iter().product::<usize>() == 1 => {}
        true => found.check_shape(scales, &[1])?,
        false => found.check_shape(scales, &[rows, groups])?,
    }
    let zeros = match scheme.symmetric {
        true => found.get(".weight_zero_point"),
        false => Some(found.require(".weight_zero_point")?),
    };
    if let Some(zeros) = zeros {
        found.check_type(zeros, &["I32"])?;
        found.check_shape(zeros, &[if shared { 1 } else { rows }.div_ceil(32 / scheme.bits), groups])?;
    }
    let list = match scheme.is_ordered {
        true => Some(found.require(".weight_g_idx")?),
        false => found.get(".weight_g_idx"),
    };
    let group_of = match list {
        // -1 for all columns is no order.
        Some(list) if list.shape == [cols] && list.bytes().iter().any(|&byte| byte != 0xff) => {
            GroupOf::listed(found, list, groups, size)?
        }
        Some(list) => {
            found.check_shape(list, &[cols])?;
            GroupOf::Size(size)
        }
        None => GroupOf::Size(size),
    };
    let packed = Integers {
        bits: scheme.bits,
        words,
        codes: codes.span(),
        groups,
        shared,
        group_of,
        scales: Floats::of(found, scales)?,
        zeros: zeros.map(HfTensor::span),
    };
    let from = [Some(codes), Some(scales), Some(shape), zeros, list];
    Ok(Some(found.weight(format!("{}.weight", found.base), vec![rows, cols], packed, &from)))
}

/// Rows and columns as the file says them.
fn stated_shape(found: &Found, shape: &HfTensor) -> Result<[usize; 2]> {
    found.check_type(shape, &["I64", "I32"])?;
    found.check_shape(shape, &[2])?;
    let bytes = shape.bytes();
    let size = |i: usize| match bytes.len() {
        16 => u64::from_le_bytes(std::array::from_fn(|b| bytes[8 * i + b])),
        _ => u64::from(word(bytes, i)),
    };
    // More than any matrix has, and few enough to be counted with.
    let known = |size: u64| usize::try_from(size).ok().filter(|size| (1..=1 << 31).contains(size));
    match [size(0), size(1)].map(known) {
        [Some(rows), Some(cols)] => Ok([rows, cols]),
        _ => Err(found.error(shape, format!("says {} x {}", size(0), size(1)))),
    }
}

impl Integers {
    /// The number of `bits` among those that words hold from `first` on.
    fn number(&self, bytes: &[u8], first: usize, step: usize, index: usize) -> i32 {
        let in_word = 32 / self.bits;
        let word = word(bytes, first + index / in_word * step);
        (word >> (index % in_word * self.bits) & ((1 << self.bits) - 1)) as i32
    }

    fn group(&self, row: usize, group: usize) -> (f32, i32) {
        let row = if self.shared { 0 } else { row };
        let half = 1 << (self.bits - 1);
        // Both are stored plus half the range, which their difference does not have.
        let zero = self.zeros.as_ref().map_or(half, |zeros| self.number(zeros.bytes(), group, self.groups, row));
        (self.scales.get(row * self.groups + group), zero)
    }
}

/// The numbers of `BITS` bits from `first` on of a row's words, low bits first.
fn unpack<const BITS: usize>(words: &[[u8; 4]], first: usize, out: &mut [f32]) {
    let in_word = 32 / BITS;
    let numbers = |word: &[u8; 4]| {
        let word = u32::from_le_bytes(*word);
        (0..in_word).map(move |i| (word >> (i * BITS) & ((1 << BITS) - 1)) as f32)
    };
    let (words, skipped) = (&words[first / in_word..], first % in_word);
    let mut rest = out;
    if skipped > 0 {
        let (begin, end) = rest.split_at_mut(rest.len().min(in_word - skipped));
        begin.iter_mut().zip(numbers(&words[0]).skip(skipped)).for_each(|(out, number)| *out = number);
        rest = end;
    }
    let words = &words[usize::from(skipped > 0)..];
    for (out, word) in rest.chunks_mut(in_word).zip(words) {
        out.iter_mut().zip(numbers(word)).for_each(|(out, number)| *out = number);
    }
}

impl Packed for Integers {
    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        let words = &self.codes.bytes()[4 * row * self.words..4 * (row + 1) * self.words];
        let unpack = match self.bits {
            2 => unpack::<2>,
            3 => unpack::<3>,
            4 => unpack::<4>,
            5 => unpack::<5>,
            6 => unpack::<6>,
            7 => unpack::<7>,
            _ => unpack::<8>,
        };
        unpack(words.as_chunks().0, cols.start, out);
        // Small whole numbers, so that their difference is exact.
        match &self.group_of {
            GroupOf::Size(size) => {
                let mut first = cols.start;
                while first < cols.end {
                    let end = cols.end.min((first / size + 1) * size);
                    let (scale, zero) = self.group(row, first / size);
                    out[first - cols.start..end - cols.start].iter_mut().for_each(|x| *x = (*x - zero as f32) * scale);
                    first = end;
                }
            }
            GroupOf::Listed(_) => {
                let groups: Vec<(f32, i32)> = (0..self.groups).map(|group| self.group(row, group)).collect();
                for (col, x) in cols.zip(out) {
                    let (scale, zero) = groups[self.group_of.group(col)];
                    *x = (*x - zero as f32) * scale;
                }
            }
        }
    }

    fn label(&self) -> Option<String> {
        Some(format!("int{}", self.bits))
    }

    fn each_part(&self, rows: Range<usize>, f: &mut dyn FnMut(&FileMap, Range<usize>)) {
        let row = 4 * self.words;
        f(&self.codes.map, self.codes.within(rows.start * row..rows.end * row));
    }
}

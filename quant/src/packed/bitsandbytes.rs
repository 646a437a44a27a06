//! bitsandbytes. In 8 bits: `weight` I8 and for each row its largest magnitude, `SCB` F32; weight = code * SCB / 127. In 4 bits
//! (nf4 and fp4): `weight` U8, two codes a byte, the first in the high bits, in blocks of weights that have a scale each
//! (`weight.absmax`), what codes stand for (`weight.quant_map`), and a JSON text (`weight.quant_state.bitsandbytes__nf4`); scales
//! may be stored in 8 bits themselves (`nested_absmax`, `nested_quant_map`).

use std::ops::Range;

use serde_json::Value;

use super::{Floats, Found, SourceFormat, Weight};
use crate::Result;
use crate::mmap::{FileMap, Span};
use crate::packing::Packed;
use crate::safetensors::HfTensor;

pub(super) const INT8: SourceFormat = SourceFormat {
    name: "8 bits of bitsandbytes",
    methods: &["bitsandbytes"],
    markers: &[".SCB"],
    behind: false,
    read: read_int8,
};

pub(super) const FOUR_BITS: SourceFormat = SourceFormat {
    name: "4 bits of bitsandbytes",
    methods: &["bitsandbytes"],
    markers: &[".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4"],
    behind: false,
    read: read_four_bits,
};

/// Rows of integers.
struct Int8 {
    codes: Span,
    cols: usize,
    scales: Floats,
}

fn read_int8(found: &Found) -> Result<Option<Weight>> {
    let codes = found.require(".weight")?;
    found.check_type(codes, &["I8"])?;
    let [rows, cols] = found.matrix(codes)?;
    found.check_shape(found.tensor, &[rows])?;
    let format = found.get(".weight_format");
    if let Some(format) = format {
        // 0 is rows one behind the other; others are orders of certain GPUs.
        if format.bytes().iter().any(|&byte| byte != 0) {
            return Err(found.error(format, "says another order than rows one behind the other, which is the only known one"));
        }
    }
    let packed = Int8 { codes: codes.span(), cols, scales: Floats::of(found, found.tensor)? };
    let from = [Some(codes), Some(found.tensor), format];
    Ok(Some(found.weight(codes.name.clone(), vec![rows, cols], packed, &from)))
}

impl Packed for Int8 {
    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        /// bitsandbytes' own number for 1 / 127.
        const PART: f32 = 7.874_016e-3;
        let scale = self.scales.get(row);
        let codes = &self.codes.bytes()[row * self.cols + cols.start..row * self.cols + cols.end];
        codes.iter().zip(out).for_each(|(&code, out)| *out = f32::from(code as i8) * scale * PART);
    }

    fn label(&self) -> Option<String> {
        Some("int8".to_owned())
    }

    fn each_part(&self, rows: Range<usize>, f: &mut dyn FnMut(&FileMap, Range<usize>)) {
        f(&self.codes.map, self.codes.within(rows.start * self.cols..rows.end * self.cols));
    }
}

/// Scales of blocks.
enum Scales {
    Floats(Floats),
    /// `values[code] * scales[block of blocks] + offset`
    Nested {
        codes: Span,
        values: Vec<f32>,
        scales: Floats,
        block: usize,
        offset: f32,
    },
}

/// A matrix in blocks that take no notice of its rows.
struct FourBits {
    /// `nf4` or `fp4`.
    kind: String,
    codes: Span,
    cols: usize,
    values: Vec<f32>,
    block: usize,
    scales: Scales,
}

fn read_four_bits(found: &Found) -> Result<Option<Weight>> {
    let (state, codes) = (found.tensor, found.require("")?);
    found.check_type(codes, &["U8"])?;
    let json: Value = serde_json::from_slice(state.bytes()).map_err(|e| found.error(state, format!("is no JSON: {e}")))?;
    let size = |value: Option<&Value>, name: &str| {
        let size =
            value.and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok()).filter(|size| (1..=1 << 31).contains(size));
        size.ok_or_else(|| found.error(state, format!("{name} is missing or no whole number above 0")))
    };
    let shape = json.get("shape").and_then(Value::as_array).filter(|shape| shape.len() == 2);
    let shape = shape.ok_or_else(|| found.error(state, "shape is missing or not that of a matrix"))?;
    let (rows, cols) = (size(shape.first(), "shape")?, size(shape.get(1), "shape")?);
    let block = size(json.get("blocksize"), "blocksize")?;
    let count = rows.checked_mul(cols).filter(|count| Some(count.div_ceil(2)) == Some(codes.range.len()));
    let count = count.ok_or_else(|| {
        found.error(codes, format!("has {} bytes, which are not those of {rows} x {cols} weights", codes.range.len()))
    })?;
    let blocks = count.div_ceil(block);
    let map = |name: &str, len: usize| -> Result<(&HfTensor, Vec<f32>)> {
        let tensor = found.require(name)?;
        found.check_shape(tensor, &[len])?;
        Ok((tensor, found.numbers(tensor)?))
    };
    let (value_tensor, values) = map(".quant_map", 16)?;
    let absmax = found.require(".absmax")?;
    found.check_shape(absmax, &[blocks])?;
    let mut from = vec![Some(codes), Some(state), Some(value_tensor), Some(absmax)];
    let scales = if absmax.stored_dtype() == "U8" {
        let nested = size(json.get("nested_blocksize"), "nested_blocksize")?;
        let (map_tensor, values) = map(".nested_quant_map", 256)?;
        let outer = found.require(".nested_absmax")?;
        found.check_shape(outer, &[blocks.div_ceil(nested)])?;
        let offset = json.get("nested_offset").and_then(Value::as_f64).map(|offset| offset as f32).filter(|o| o.is_finite());
        let offset = offset.ok_or_else(|| found.error(state, "nested_offset is missing or no number"))?;
        from.extend([Some(map_tensor), Some(outer)]);
        Scales::Nested { codes: absmax.span(), values, scales: Floats::of(found, outer)?, block: nested, offset }
    } else {
        Scales::Floats(Floats::of(found, absmax)?)
    };
    let kind = json.get("quant_type").and_then(Value::as_str).filter(|kind| ["nf4", "fp4"].contains(kind)).unwrap_or("4-bit");
    let packed = FourBits { kind: kind.to_owned(), codes: codes.span(), cols, values, block, scales };
    Ok(Some(found.weight(codes.name.clone(), vec![rows, cols], packed, &from)))
}

impl FourBits {
    fn scale(&self, number: usize) -> f32 {
        match &self.scales {
            Scales::Floats(scales) => scales.get(number),
            Scales::Nested { codes, values, scales, block, offset } => {
                values[usize::from(codes.bytes()[number])] * scales.get(number / block) + offset
            }
        }
    }
}

impl Packed for FourBits {
    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        let (mut at, end) = (row * self.cols + cols.start, row * self.cols + cols.end);
        let (begin, codes) = (at, self.codes.bytes());
        while at < end {
            let block_end = end.min((at / self.block + 1) * self.block);
            let scale = self.scale(at / self.block);
            for i in at..block_end {
                let code = codes[i / 2] >> (4 * (1 - i % 2)) & 0xf;
                out[i - begin] = self.values[usize::from(code)] * scale;
            }
            at = block_end;
        }
    }

    fn label(&self) -> Option<String> {
        Some(self.kind.clone())
    }

    fn each_part(&self, rows: Range<usize>, f: &mut dyn FnMut(&FileMap, Range<usize>)) {
        f(&self.codes.map, self.codes.within(rows.start * self.cols / 2..rows.end * self.cols / 2));
    }
}

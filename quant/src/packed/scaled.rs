//! Weights as 8-bit floats (FP8) or integers with a scale for each tensor, row, group or block: `weight` and `weight_scale_inv`
//! (DeepSeek, transformers' fp8), `weight_scale` (compressed-tensors' float-, int- and naive-quantized, ModelOpt's FP8, FBGEMM),
//! `qscale_weight` (Mistral). Weight = code * scale, or (code - zero point) * scale.

use std::ops::Range;
use std::sync::LazyLock;

use super::settings::Scheme;
use super::{Found, SourceFormat, Weight};
use crate::Result;
use crate::formats::DType;
use crate::mmap::{FileMap, Span};
use crate::packing::Packed;
use crate::safetensors::HfTensor;

pub(super) const FORMAT: SourceFormat = SourceFormat {
    name: "8-bit numbers with scales",
    methods: &["fp8", "compressed-tensors", "modelopt", "fbgemm_fp8"],
    markers: &["_scale_inv", "_scale", ".qscale_weight"],
    behind: false,
    read,
};

/// What a code stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Code {
    E4M3,
    E5M2,
    Integer,
}

/// How scales are stored.
#[derive(Clone, Copy)]
enum ScaleType {
    Float(DType),
    /// A power of two: the exponent with bias 127.
    E8M0,
}

/// Some matrices of codes, one behind the other.
struct Scaled {
    codes: Span,
    code: Code,
    rows: usize,
    cols: usize,
    scales: Span,
    scale_type: ScaleType,
    /// Integers of the shape of the scales.
    zeros: Option<Span>,
    /// Rows and columns that share a scale.
    block: [usize; 2],
    /// From the scale of a matrix to that of the next, and the same for blocks of rows and of columns; 0 where they share one.
    steps: [usize; 3],
}

fn read(found: &Found) -> Result<Option<Weight>> {
    let by_mistral = found.tensor.name.ends_with(".qscale_weight");
    let Some(weight) = found.get(if by_mistral { ".weight" } else { "" }) else { return Ok(None) };
    let code = match weight.stored_dtype().as_str() {
        "F8_E4M3" => Code::E4M3,
        "F8_E5M2" => Code::E5M2,
        "I8" => Code::Integer,
        _ => return Ok(None),
    };
    let scale = found.tensor;
    let (rows, cols) = match weight.shape[..] {
        [rows, cols] | [_, rows, cols] => (rows, cols),
        _ => return Err(found.error(weight, format!("has the shape {:?}, but must be a matrix or some", weight.shape))),
    };
    if weight.shape.contains(&0) {
        return Err(found.error(weight, "is empty"));
    }
    let scale_type = match scale.stored_dtype().as_str() {
        "F8_E8M0" => ScaleType::E8M0,
        _ => {
            found.check_type(scale, &["F32", "F16", "BF16", "F8_E8M0"])?;
            ScaleType::Float(scale.dtype()?)
        }
    };
    let zeros = found.get("_zero_point");
    let zeros = match zeros {
        Some(zeros) if code == Code::Integer => {
            found.check_type(zeros, &["I8"])?;
            found.check_shape(zeros, &scale.shape)?;
            Some(zeros)
        }
        // Of floats they are there for uniformity.
        Some(zeros) if zeros.bytes().iter().any(|&byte| byte != 0) => {
            return Err(found.error(zeros, "holds zero points other than 0 of 8-bit floats, which have none"));
        }
        _ => zeros,
    };
    let block = block(found, weight, code)?;
    let steps = match block {
        Some(block) => blocks(found, weight, block)?,
        None => broadcast(found, weight)?,
    };
    let packed = Scaled {
        codes: weight.span(),
        code,
        rows,
        cols,
        scales: scale.span(),
        scale_type,
        zeros: zeros.filter(|_| code == Code::Integer).map(HfTensor::span),
        block: block.unwrap_or([1, if steps[2] == 0 { cols } else { 1 }]),
        steps,
    };
    Ok(Some(found.weight(weight.name.clone(), weight.shape.clone(), packed, &[Some(weight), Some(scale), zeros])))
}

/// The block that shares a scale, by the configuration.
fn block(found: &Found, weight: &HfTensor, code: Code) -> Result<Option<[usize; 2]>> {
    if !found.settings.is_compressed_tensors() {
        return found.settings.weight_block_size();
    }
    let kind = if code == Code::Integer { "int" } else { "float" };
    let module = weight.name.strip_suffix(".weight").unwrap_or(&weight.name);
    // Integers of fewer bits may stand in bytes, too.
    let fits = |scheme: &Scheme| scheme.kind == kind && (scheme.bits == 8 || scheme.bits < 8 && code == Code::Integer);
    let scheme = found.settings.scheme(found.tensor, module, fits)?;
    if code == Code::Integer && !scheme.symmetric {
        found.require("_zero_point")?;
    }
    let cols = weight.shape.last().copied().unwrap_or_default();
    match scheme.strategy.as_str() {
        "tensor" | "channel" => Ok(None),
        "block" => match scheme.block {
            Some(block) => Ok(Some(block)),
            None => Err(found.settings.error("block_structure", "is missing; the strategy is \"block\"")),
        },
        "group" => match scheme.group_size {
            Some(size) if cols.is_multiple_of(size) => Ok(Some([1, size])),
            Some(size) => {
                Err(found.error(weight, format!("has rows of {cols}, which groups of {size} (group_size) do not divide")))
            }
            None => Err(found.settings.error("group_size", "is missing; the strategy is \"group\"")),
        },
        other => {
            let what = format!("{other:?} is not supported for 8 bits; known: tensor, channel, group, block");
            Err(found.settings.error("strategy", what))
        }
    }
}

/// Steps from scale to scale where each block has one; edges may be ragged.
fn blocks(found: &Found, weight: &HfTensor, block: [usize; 2]) -> Result<[usize; 3]> {
    let lead = weight.shape.len() - 2;
    let [rows, cols] = [0, 1].map(|i| weight.shape[lead + i].div_ceil(block[i]));
    let expected = [&weight.shape[..lead], &[rows, cols]].concat();
    if found.tensor.shape != expected {
        let (scale, shape) = (&found.tensor.shape, &weight.shape);
        let what = format!("has the shape {scale:?}, but weights of {shape:?} have {expected:?} blocks of {block:?}");
        return Err(found.error(found.tensor, what));
    }
    Ok([rows * cols, cols, 1])
}

/// The same where dimensions of the scales are those of the weights or 1, with missing ones behind.
fn broadcast(found: &Found, weight: &HfTensor) -> Result<[usize; 3]> {
    let scale = &found.tensor.shape;
    if scale.iter().product::<usize>() == 1 {
        return Ok([0, 0, 0]);
    }
    let n = weight.shape.len();
    let padded: Vec<usize> = scale.iter().copied().chain(std::iter::repeat(1)).take(n.max(scale.len())).collect();
    if padded.len() != n || !padded.iter().zip(&weight.shape).all(|(&s, &w)| s == 1 || s == w) {
        let key = if found.settings.is_compressed_tensors() { "strategy" } else { "weight_block_size" };
        let what = format!(
            "has the shape {scale:?}, which fits neither all nor each row of weights of {:?}, and {key} names no blocks",
            weight.shape
        );
        return Err(found.error(found.tensor, what));
    }
    let (mut steps, mut step) = ([0; 3], 1);
    for i in (0..n).rev() {
        if padded[i] > 1 {
            steps[i + 3 - n] = step;
        }
        step *= padded[i];
    }
    Ok(steps)
}

impl Scaled {
    fn scale(&self, index: usize) -> f32 {
        let bytes = self.scales.bytes();
        match self.scale_type {
            ScaleType::E8M0 => power_of_two(bytes[index]),
            ScaleType::Float(dtype) => {
                let width = dtype.block_bytes();
                let mut value = [0.0];
                dtype.decode_row(&bytes[index * width..(index + 1) * width], &mut value);
                value[0]
            }
        }
    }
}

impl Packed for Scaled {
    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        let (matrix, in_matrix) = (row / self.rows, row % self.rows);
        let first = matrix * self.steps[0] + in_matrix / self.block[0] * self.steps[1];
        let codes = &self.codes.bytes()[row * self.cols..(row + 1) * self.cols];
        let (mut at, begin) = (cols.start, cols.start);
        while at < cols.end {
            let block = at / self.block[1];
            let end = cols.end.min((block + 1) * self.block[1]);
            let index = first + block * self.steps[2];
            let scale = self.scale(index);
            let (codes, out) = (&codes[at..end], &mut out[at - begin..end - begin]);
            match (self.code, &self.zeros) {
                (Code::Integer, None) => codes.iter().zip(out).for_each(|(&code, out)| *out = f32::from(code as i8) * scale),
                (Code::Integer, Some(zeros)) => {
                    let zero = i32::from(zeros.bytes()[index] as i8);
                    codes.iter().zip(out).for_each(|(&code, out)| *out = (i32::from(code as i8) - zero) as f32 * scale);
                }
                (code, _) => {
                    let values = if code == Code::E4M3 { &*E4M3 } else { &*E5M2 };
                    codes.iter().zip(out).for_each(|(&code, out)| *out = values[usize::from(code)] * scale);
                }
            }
            at = end;
        }
    }

    fn label(&self) -> Option<String> {
        Some(if self.code == Code::Integer { "int8" } else { "fp8" }.to_owned())
    }

    fn each_part(&self, rows: Range<usize>, f: &mut dyn FnMut(&FileMap, Range<usize>)) {
        f(&self.codes.map, self.codes.within(rows.start * self.cols..rows.end * self.cols));
    }
}

/// `2^(e - 127)`; 255 gives NaN.
pub(super) fn power_of_two(e: u8) -> f32 {
    match e {
        0 => f32::from_bits(0x40_0000),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(e) << 23),
    }
}

/// The values of FP8 codes with four bits of exponent (no infinities; OCP 8-bit Floating Point Specification 1.0).
static E4M3: LazyLock<[f32; 256]> = LazyLock::new(|| std::array::from_fn(|code| fp8(code as u8, 3)));
/// The same with five (as IEEE's).
static E5M2: LazyLock<[f32; 256]> = LazyLock::new(|| std::array::from_fn(|code| fp8(code as u8, 2)));

/// The value of an FP8 code whose mantissa has `mantissa_bits` bits.
fn fp8(code: u8, mantissa_bits: u32) -> f32 {
    let (sign, magnitude) = (if code & 0x80 == 0 { 1.0 } else { -1.0 }, code & 0x7f);
    let exponent_bits = 7 - mantissa_bits;
    let (exponent, mantissa) = (i32::from(magnitude >> mantissa_bits), magnitude & ((1 << mantissa_bits) - 1));
    let bias = (1 << (exponent_bits - 1)) - 1;
    let part = f32::from(mantissa) / (1u32 << mantissa_bits) as f32;
    let value = match (mantissa_bits, exponent) {
        (3, _) if magnitude == 0x7f => f32::NAN,
        (2, 31) if mantissa == 0 => f32::INFINITY,
        (2, 31) => f32::NAN,
        (_, 0) => part * 2f32.powi(1 - bias),
        _ => (1.0 + part) * 2f32.powi(exponent - bias),
    };
    sign * value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that the specification lists in its tables of both formats.
    #[test]
    fn fp8_has_the_values_of_its_specification() {
        for (code, value) in
            [(0x00, 0.0), (0x01, 2f32.powi(-9)), (0x07, 0.875 * 2f32.powi(-6)), (0x08, 2f32.powi(-6)), (0x7e, 448.0)]
        {
            assert_eq!((E4M3[code], E4M3[code + 0x80]), (value, -value), "{code:x}");
        }
        assert!(E4M3[0x7f].is_nan() && E4M3[0xff].is_nan());
        for (code, value) in [(0x01, 2f32.powi(-16)), (0x03, 0.75 * 2f32.powi(-14)), (0x04, 2f32.powi(-14)), (0x7b, 57344.0)] {
            assert_eq!((E5M2[code], E5M2[code + 0x80]), (value, -value), "{code:x}");
        }
        assert!(E5M2[0x7c] == f32::INFINITY && E5M2[0x7d].is_nan());
    }

    #[test]
    fn powers_of_two_have_a_bias_of_127() {
        assert_eq!([0, 1, 127, 254].map(power_of_two), [2f32.powi(-127), 2f32.powi(-126), 1.0, 2f32.powi(127)]);
    }
}

//! NVFP4: runs of 16 weights with an 8-bit float as scale, and a factor for the whole matrix. ModelOpt has `weight`
//! `[rows, cols / 2]`, `weight_scale` `[rows, cols / 16]`, `weight_scale_2` and `input_scale`; compressed-tensors'
//! `nvfp4-pack-quantized` `weight_packed`, `weight_scale`, and the factors' reciprocals as `weight_global_scale` and
//! `input_global_scale`.

use super::{Found, SourceFormat, Weight};
use crate::Result;
use crate::formats::DType;
use crate::packing::Fp4;
use crate::safetensors::HfTensor;

pub(super) const MODELOPT: SourceFormat =
    SourceFormat { name: "NVFP4", methods: &["modelopt"], markers: &["_scale"], behind: false, read: read_modelopt };

pub(super) const COMPRESSED: SourceFormat = SourceFormat {
    name: "NVFP4 of compressed-tensors",
    methods: &["compressed-tensors"],
    markers: &[".weight_packed"],
    behind: true,
    read: read_compressed,
};

/// Weights that share a scale.
const RUN: usize = 16;

fn read_modelopt(found: &Found) -> Result<Option<Weight>> {
    let Some(codes) = found.get("").filter(|codes| codes.stored_dtype() == "U8" && codes.shape.len() > 1) else {
        return Ok(None);
    };
    if found.tensor.stored_dtype() != "F8_E4M3" {
        return Ok(None);
    }
    let input = codes.name.strip_suffix("weight").and_then(|stem| found.all.get(format!("{stem}input_scale").as_str()).copied());
    // Without it the weights would be too large by far.
    let second = Some(found.require("_scale_2")?);
    let shape_name = (codes.name.clone(), codes, found.tensor);
    read(found, shape_name, [second, input], |factor| factor).map(Some)
}

fn read_compressed(found: &Found) -> Result<Option<Weight>> {
    if found.tensor.stored_dtype() != "U8" {
        return Ok(None);
    }
    let scales = found.require(".weight_scale")?;
    let factors = [Some(found.require(".weight_global_scale")?), found.get(".input_global_scale")];
    read(found, (format!("{}.weight", found.base), found.tensor, scales), factors, |factor| 1.0 / factor).map(Some)
}

/// A weight of these codes and scales; `stored` makes factors of what the file has.
fn read(
    found: &Found,
    (name, codes, scales): (String, &HfTensor, &HfTensor),
    factors: [Option<&HfTensor>; 2],
    stored: impl Fn(f32) -> f32,
) -> Result<Weight> {
    let (lead, cols) = halves(found, codes, RUN)?;
    found.check_type(scales, &["F8_E4M3"])?;
    found.check_shape(scales, &[&lead[..], &[cols / RUN]].concat())?;
    let (matrices, matrix_rows) = match lead[..] {
        [rows] => (1, rows),
        [matrices, rows] => (matrices, rows),
        _ => return Err(found.error(codes, format!("has the shape {:?}, but must be a matrix or some", codes.shape))),
    };
    let read = |tensor: Option<&HfTensor>| -> Result<Vec<f32>> {
        let Some(tensor) = tensor else { return Ok(Vec::new()) };
        let count: usize = tensor.shape.iter().product();
        if count != 1 && count != matrices {
            let what =
                format!("has the shape {:?}, but must be one number, or one for each of {matrices} matrices", tensor.shape);
            return Err(found.error(tensor, what));
        }
        let values: Vec<f32> = found.numbers(tensor)?.into_iter().map(&stored).collect();
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => Err(found.error(tensor, "is 0")),
        }
    };
    let [factors_of, input_factors_of] = factors;
    let packed = Fp4 {
        codes: codes.span(),
        scales: scales.span(),
        dtype: DType::NVFP4,
        cols,
        matrix_rows,
        factors: read(factors_of)?,
        input_factors: read(input_factors_of)?,
    };
    let shape = [&lead[..], &[cols]].concat();
    Ok(found.weight(name, shape, packed, &[Some(codes), Some(scales), factors_of, input_factors_of]))
}

/// The leading dimensions of codes, two in a byte, and how many weights a row has: whole runs.
pub(super) fn halves(found: &Found, codes: &HfTensor, run: usize) -> Result<(Vec<usize>, usize)> {
    match codes.shape.split_last() {
        Some((&bytes, lead)) if !lead.is_empty() && !codes.shape.contains(&0) => {
            let cols = bytes.checked_mul(2).filter(|cols| cols.is_multiple_of(run));
            let what = || format!("has rows of {} bytes, which runs of {run} weights of half a byte do not divide", bytes);
            Ok((lead.to_vec(), cols.ok_or_else(|| found.error(codes, what()))?))
        }
        _ => Err(found.error(codes, format!("has the shape {:?}, but must be a matrix", codes.shape))),
    }
}

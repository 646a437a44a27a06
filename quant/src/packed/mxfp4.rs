//! MXFP4 (OCP Microscaling Formats Specification 1.0): runs of 32 weights with a power of two. compressed-tensors'
//! `mxfp4-pack-quantized` has `weight_packed` `[rows, cols / 2]` and `weight_scale` `[rows, cols / 32]`; gpt-oss (`quant_method:
//! mxfp4`) `_blocks` `[experts, rows, cols / 32, 16]` and `_scales` `[experts, rows, cols / 32]`.

use super::{Found, SourceFormat, Weight};
use crate::Result;
use crate::formats::DType;
use crate::packing::Fp4;

pub(super) const COMPRESSED: SourceFormat = SourceFormat {
    name: "MXFP4 of compressed-tensors",
    methods: &["compressed-tensors"],
    markers: &[".weight_packed"],
    behind: true,
    read: read_compressed,
};

pub(super) const BLOCKS: SourceFormat =
    SourceFormat { name: "MXFP4", methods: &["mxfp4"], markers: &["_blocks"], behind: false, read: read_blocks };

/// Weights that share a scale.
const RUN: usize = 32;

fn read_compressed(found: &Found) -> Result<Option<Weight>> {
    let codes = found.tensor;
    let scales = found.get(".weight_scale").filter(|scales| matches!(scales.stored_dtype().as_str(), "U8" | "F8_E8M0"));
    let Some(scales) = scales.filter(|_| codes.stored_dtype() == "U8") else { return Ok(None) };
    let (lead, cols) = super::nvfp4::halves(found, codes, RUN)?;
    found.check_shape(scales, &[&lead[..], &[cols / RUN]].concat())?;
    let packed = Fp4 {
        codes: codes.span(),
        scales: scales.span(),
        dtype: DType::MXFP4,
        cols,
        matrix_rows: lead.last().copied().unwrap_or(1),
        factors: Vec::new(),
        input_factors: Vec::new(),
    };
    let shape = [&lead[..], &[cols]].concat();
    Ok(Some(found.weight(format!("{}.weight", found.base), shape, packed, &[Some(codes), Some(scales)])))
}

/// The weight keeps the name of its codes, because it stands otherwise than the floats of such a model: rows are rows.
fn read_blocks(found: &Found) -> Result<Option<Weight>> {
    let codes = found.tensor;
    let &[experts, rows, runs, bytes] = &codes.shape[..] else { return Ok(None) };
    let scales = found.require("_scales")?;
    for tensor in [codes, scales] {
        found.check_type(tensor, &["U8"])?;
    }
    if bytes != RUN / 2 || experts == 0 || rows == 0 || runs == 0 {
        return Err(found.error(codes, format!("has the shape {:?}, but must end with {} bytes a block", codes.shape, RUN / 2)));
    }
    found.check_shape(scales, &[experts, rows, runs])?;
    let cols = runs * RUN;
    let packed = Fp4 {
        codes: codes.span(),
        scales: scales.span(),
        dtype: DType::MXFP4,
        cols,
        matrix_rows: rows,
        factors: Vec::new(),
        input_factors: Vec::new(),
    };
    Ok(Some(found.weight(codes.name.clone(), vec![experts, rows, cols], packed, &[Some(codes), Some(scales)])))
}

//! What both kinds of source share: the checks that a model has every tensor of its architecture in the right shape, and none
//! besides. Absent: opening files.

use std::path::Path;

use super::container::Container;
use crate::arch::{ArchSpec, TensorRule};
use crate::tensor::Tensor;
use crate::{Error, HParams, Result};

/// More missing tensors than this are counted, not named.
const NAMED_MISSING: usize = 8;

/// Every tensor belongs to the architecture, to a block that exists, and has the shape the hyper-parameters give.
pub(super) fn check_known(path: &Path, arch: &ArchSpec, h: &HParams, tensors: &[Tensor]) -> Result<()> {
    for tensor in tensors {
        let Some((rule, block)) = arch.match_gguf(&tensor.name) else {
            let what = format!("is no tensor of the architecture {}; leaving it out would change the model", arch.name);
            return Err(Error::tensor(path, &tensor.name, what));
        };
        if tensor.dtype.is_carried() {
            let what = format!("is stored as {}, which is no encoding of weights; the file is broken", tensor.dtype);
            return Err(Error::tensor(path, &tensor.name, what));
        }
        check_block(path, &tensor.name, rule, block, h)?;
        check_shape(path, &tensor.name, &tensor.shape, &rule.shape(h, block.unwrap_or(0)))?;
    }
    Ok(())
}

/// The block of a tensor is one of the model's, and of the kind that has such a tensor.
pub(super) fn check_block(path: &Path, name: &str, rule: &TensorRule, block: Option<usize>, h: &HParams) -> Result<()> {
    let Some(block) = block else { return Ok(()) };
    if block >= h.stored_block_count() {
        let what = format!("is of block {block}, but the model has {} blocks (counted from 0)", h.stored_block_count());
        return Err(Error::tensor(path, name, what));
    }
    if let Some(instead) = rule.presence.misplaced(h, block) {
        let what = format!("has no place in block {block}, which by the hyper-parameters {instead}");
        return Err(Error::tensor(path, name, what));
    }
    Ok(())
}

/// A shape is the expected one; ggml does not know a trailing dimension of 1 from none.
pub(super) fn check_shape(path: &Path, name: &str, found: &[usize], expected: &[usize]) -> Result<()> {
    let (short, long) = if found.len() < expected.len() { (found, expected) } else { (expected, found) };
    if long.starts_with(short) && long[short.len()..].iter().all(|&d| d == 1) {
        return Ok(());
    }
    let what = format!("has the shape {found:?}, but the hyper-parameters give {expected:?} (row length first)");
    Err(Error::tensor(path, name, what))
}

/// No tensor is missing. `published` gives the name under which safetensors files have the tensor of a rule.
pub(super) fn check_complete(
    path: &Path,
    arch: &ArchSpec,
    h: &HParams,
    found: &Container,
    published: impl Fn(&TensorRule, usize) -> String,
) -> Result<()> {
    let mut missing = Vec::new();
    for rule in arch.tensors {
        let blocks = if rule.role.per_block() { h.stored_block_count() } else { 1 };
        for block in (0..blocks).filter(|&block| rule.presence.required(h, block)) {
            let name = rule.role.gguf_name(block);
            if found.tensor(&name).is_none() {
                missing.push((block, name, published(rule, block)));
            }
        }
    }
    // The rule that comes first speaks for a role with several.
    missing.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    missing.dedup_by(|a, b| a.1 == b.1);
    let Some((block, first, hf_name)) = missing.first() else { return Ok(()) };
    let others = missing.len() - 1;
    let of = if h.is_mtp(*block) { "; of a block that predicts further tokens" } else { "" };
    let mut what = format!("is missing (in safetensors files: {hf_name}{of})");
    if others > 0 {
        let names: Vec<&str> = missing.iter().skip(1).take(NAMED_MISSING).map(|(_, name, _)| name.as_str()).collect();
        let more = if others > NAMED_MISSING { ", ..." } else { "" };
        what += &format!(", and {others} more: {}{more}", names.join(", "));
    }
    Err(Error::tensor(path, first, what))
}

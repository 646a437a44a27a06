//! What both kinds of source share: the checks that a model has every tensor of its architecture in the right shape, and
//! the permutation of query and key rows. Absent: opening files.

use std::collections::HashMap;
use std::path::Path;

use super::Tensor;
use crate::arch::{ArchSpec, Presence};
use crate::{Error, HParams, Result};

/// More missing tensors than this are counted, not named.
const NAMED_MISSING: usize = 8;

/// Position of every tensor by name.
pub(super) fn index(path: &Path, tensors: &[Tensor]) -> Result<HashMap<String, usize>> {
    let mut index = HashMap::with_capacity(tensors.len());
    for (i, tensor) in tensors.iter().enumerate() {
        if index.insert(tensor.name.clone(), i).is_some() {
            return Err(Error::tensor(path, &tensor.name, "occurs twice"));
        }
    }
    Ok(index)
}

/// Every tensor belongs to the architecture, to a block that exists, and has the shape the hyper-parameters give.
pub(super) fn check_known(path: &Path, arch: &ArchSpec, h: &HParams, tensors: &[Tensor]) -> Result<()> {
    for tensor in tensors {
        let Some((rule, block)) = arch.match_gguf(&tensor.name) else {
            let what = format!("is no tensor of the architecture {}; leaving it out would change the model", arch.name);
            return Err(Error::tensor(path, &tensor.name, what));
        };
        check_block(path, &tensor.name, block, h)?;
        check_shape(path, &tensor.name, &tensor.shape, &rule.shape(h))?;
    }
    Ok(())
}

/// The block of a tensor is one of the model's.
pub(super) fn check_block(path: &Path, name: &str, block: Option<usize>, h: &HParams) -> Result<()> {
    match block {
        Some(block) if block >= h.block_count => {
            let what = format!("is of block {block}, but the model has {} blocks (counted from 0)", h.block_count);
            Err(Error::tensor(path, name, what))
        }
        _ => Ok(()),
    }
}

/// A shape is the expected one.
pub(super) fn check_shape(path: &Path, name: &str, found: &[usize], expected: &[usize]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let what = format!("has the shape {found:?}, but the hyper-parameters give {expected:?} (row length first)");
    Err(Error::tensor(path, name, what))
}

/// No tensor is missing. `name` gives the name under which the source has the tensor of a rule.
pub(super) fn check_complete(path: &Path, arch: &ArchSpec, h: &HParams, index: &HashMap<String, usize>) -> Result<()> {
    let mut missing = Vec::new();
    for rule in arch.tensors.iter().filter(|rule| rule.presence == Presence::Required) {
        let blocks = if rule.role.per_block() { h.block_count } else { 1 };
        for block in 0..blocks {
            let name = rule.role.gguf_name(block);
            if !index.contains_key(&name) {
                missing.push((block, name, rule.hf_name(block)));
            }
        }
    }
    missing.sort();
    let Some((_, first, hf_name)) = missing.first() else { return Ok(()) };
    let others = missing.len() - 1;
    let mut what = format!("is missing (in safetensors files: {hf_name})");
    if others > 0 {
        let names: Vec<&str> = missing.iter().skip(1).take(NAMED_MISSING).map(|(_, name, _)| name.as_str()).collect();
        let more = if others > NAMED_MISSING { ", ..." } else { "" };
        what += &format!(", and {others} more: {}{more}", names.join(", "));
    }
    Err(Error::tensor(path, first, what))
}

/// Where row `row` of a GGUF query or key matrix stands in the safetensors file: within each head of `head_rows` rows, the
/// halves are interleaved, so that row 2i comes from i and row 2i + 1 from i + head_rows / 2.
pub(super) fn interleaved_from(row: usize, head_rows: usize) -> usize {
    let (head, within) = (row / head_rows, row % head_rows);
    head * head_rows + (within % 2) * (head_rows / 2) + within / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_halves_of_each_head_are_interleaved() {
        let order: Vec<usize> = (0..12).map(|row| interleaved_from(row, 6)).collect();
        assert_eq!(order, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }
}

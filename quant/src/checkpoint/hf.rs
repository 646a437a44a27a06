//! Opens a Hugging Face directory as a [`Checkpoint`]: tensors mapped to their GGUF names, shapes and row orders, and the
//! metadata its conversion would have. Absent: reading safetensors (see `crate::safetensors`) and the metadata themselves
//! (see `crate::convert`).

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::{Checkpoint, Place, Source, Stored, Tensor, tensors};
use crate::arch::{Presence, Role, RowOrder};
use crate::convert::{self, FileType, config::Config};
use crate::gguf::Metadata;
use crate::safetensors::{HfTensor, HfTensors};
use crate::{DType, Error, HParams, Result};

/// Buffers that checkpoints carry and no computation needs (the converter leaves out the same).
const LEFT_OUT: &[&str] = &[".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq"];

/// Opens the directory at `path`.
pub(super) fn open(path: &Path) -> Result<Checkpoint> {
    let config = Config::read(path)?;
    let arch = config.arch;
    let mut model_keys = Metadata::new();
    convert::add_model_keys(&config, FileType::F32, &mut model_keys)?;
    let hparams = HParams::from_metadata(&config.path, arch, &model_keys)?;

    let mut found = computed_tensors(&config)?;
    let files = HfTensors::open(path)?;
    for tensor in files.tensors().iter().filter(|t| !LEFT_OUT.iter().any(|end| t.name.ends_with(end))) {
        found.push(map_tensor(tensor, &config, &hparams)?);
    }
    let (list, stored): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let index = tensors::index(path, &list)?;
    tensors::check_complete(path, arch, &hparams, &index)?;
    check_head(path, &config, &index)?;

    let parameter_count = list.iter().map(Tensor::elements).sum();
    let metadata = convert::metadata(&config, path, parameter_count, FileType::of(&list))?;
    Ok(Checkpoint {
        path: path.to_owned(),
        files: files.files().iter().map(|file| file.to_path_buf()).collect(),
        name: convert::model_name(path),
        arch,
        hparams,
        metadata,
        tensors: list,
        stored,
        index,
        source: Source::Hf(Box::new(config)),
        vocab: OnceLock::new(),
    })
}

/// Tensors made from the configuration, which the converter writes first.
fn computed_tensors(config: &Config) -> Result<Vec<(Tensor, Stored)>> {
    let computed = (config.arch.computed)(config)?;
    let mut found = Vec::with_capacity(computed.len());
    for c in computed {
        let tensor = Tensor { name: c.role.gguf_name(0), dtype: DType::F32, shape: vec![c.values.len()] };
        let place = Place::Computed(c.values.iter().flat_map(|v| v.to_le_bytes()).collect());
        let stored = Stored::new(&config.path, &tensor, place)?;
        found.push((tensor, stored));
    }
    Ok(found)
}

/// One tensor of a file under its GGUF name.
fn map_tensor(tensor: &HfTensor, config: &Config, h: &HParams) -> Result<(Tensor, Stored)> {
    let Some((rule, block)) = config.arch.match_hf(&tensor.name) else {
        let what = format!("is no tensor of {}; leaving it out would change the model", config.arch.hf.join(" or "));
        return Err(Error::tensor(&tensor.file, &tensor.name, what));
    };
    tensors::check_block(&tensor.file, &tensor.name, block, h)?;
    let shape: Vec<usize> = tensor.shape.iter().rev().copied().collect();
    tensors::check_shape(&tensor.file, &tensor.name, &shape, &rule.shape(h))?;
    let (map, range) = (Arc::clone(&tensor.map), tensor.range.clone());
    let place = match rule.rows {
        RowOrder::Same => Place::Mapped(map, range),
        RowOrder::InterleaveQueryHeads => Place::Interleaved { map, range, heads: h.head_count },
        RowOrder::InterleaveKeyHeads => Place::Interleaved { map, range, heads: h.head_count_kv },
    };
    let mapped = Tensor { name: rule.role.gguf_name(block.unwrap_or(0)), dtype: tensor.dtype()?, shape };
    let stored = Stored::new(&tensor.file, &mapped, place)?;
    Ok((mapped, stored))
}

/// A model whose configuration does not tie the output matrix to the embedding has its own.
fn check_head(path: &Path, config: &Config, index: &std::collections::HashMap<String, usize>) -> Result<()> {
    let Some(rule) = config.arch.rule(Role::Output).filter(|rule| rule.presence == Presence::TiedToTokenEmbd) else {
        return Ok(());
    };
    if config.tie_word_embeddings || index.contains_key(&Role::Output.gguf_name(0)) {
        return Ok(());
    }
    Err(Error::tensor(path, rule.hf_name(0), "is missing, and config.json does not set tie_word_embeddings"))
}

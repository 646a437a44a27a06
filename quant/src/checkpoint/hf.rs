//! Opens a Hugging Face directory as a [`Checkpoint`]: tensors mapped to their GGUF names, shapes and layouts, in the order
//! in which the converter writes them, and the metadata its conversion would have.
//!
//! Absent: reading safetensors (see `crate::safetensors`), the bytes (see `place`) and the metadata (see `crate::convert`).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::container::{Container, Parts};
use super::known::{Checkpoint, Kind, OtherParts};
use super::layout::{layout, resolve};
use super::place::{Change, Place, Span, Stored};
use super::tensors;
use crate::arch::{Factor, MtpBlocks, Mxfp4Rows, Numbers, Presence, Role, TensorRule, Transform};
use crate::convert::wrapper::text_name;
use crate::convert::{self, FileType, config::Config};
use crate::gguf::{Metadata, Value};
use crate::safetensors::{HfTensor, HfTensors};
use crate::tensor::Tensor;
use crate::{DType, Error, HParams, Result};

/// Buffers that checkpoints carry and no computation needs (the converter leaves out the same).
const LEFT_OUT: &[&str] =
    &[".attention.masked_bias", ".attention.bias", ".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"];

/// Opens the directory at `path`.
pub(super) fn open(path: &Path) -> Result<Checkpoint> {
    let config = Config::read(path)?;
    let arch = config.arch;
    let files = HfTensors::open(path)?;
    let mut model_keys = Metadata::new();
    convert::architectures::computed(&config, files.tensors(), &mut model_keys)?;
    convert::architectures::add_keys(&config, FileType::F32, &mut model_keys)?;
    // Most architectures' files say it by their list of tokens.
    model_keys.set(arch.key("vocab_size"), Value::U32(config.vocab_size));
    convert::facts::add_keys(&config, &mut model_keys)?;
    let hparams = HParams::from_metadata(&config.path, arch, &model_keys)?;

    let mut found = computed_tensors(&config, &files)?;
    let (mapped, other_parts) = map_tensors(&files, &config, &hparams)?;
    found.extend(mapped);
    let mut container = Container::new(Parts {
        path: path.to_owned(),
        files: files.files().iter().map(|file| file.to_path_buf()).collect(),
        name: convert::model_name(path),
        metadata: Metadata::new(),
        tensors: found,
    })?;
    tensors::check_complete(path, arch, &hparams, &container)?;
    check_head(path, &config, &container)?;
    check_stated(path, &config, &hparams, &container)?;
    check_spared(path, &config, &hparams, &container)?;
    let own = convert::facts::own_keys(&model_keys);
    container.set_metadata(convert::metadata(&config, files.tensors(), container.tensors(), &own)?);
    Ok(Checkpoint { container, arch, hparams, kind: Kind::Hf(Box::new(config)), other_parts, vocab: OnceLock::new() })
}

/// Tensors made from the configuration, which the converter writes first.
fn computed_tensors(config: &Config, files: &HfTensors) -> Result<Vec<(Tensor, Stored)>> {
    let computed = convert::architectures::computed(config, files.tensors(), &mut Metadata::new())?;
    let mut found = Vec::with_capacity(computed.len());
    for c in computed {
        let tensor = Tensor { name: c.role.gguf_name(0), dtype: DType::F32, shape: vec![c.values.len()] };
        let place = Place::Computed(c.values.iter().flat_map(|v| v.to_le_bytes()).collect());
        let stored = Stored::new(&config.path, &tensor, place)?;
        found.push((tensor, stored));
    }
    Ok(found)
}

/// The file tensors that make one GGUF tensor.
struct Sources<'a> {
    rule: &'static TensorRule,
    /// By the number of the part (0 but for stacks) and by pattern (1 for scales).
    tensors: BTreeMap<(usize, usize), &'a HfTensor>,
    /// Where the last of them stands in the files.
    last: usize,
}

/// All tensors of the files under their GGUF names, in the converter's order: that of the files, where what is made from
/// several tensors comes when the last of them is met, and repacked MXFP4 before everything else.
fn map_tensors(files: &HfTensors, config: &Config, h: &HParams) -> Result<(Vec<(Tensor, Stored)>, OtherParts)> {
    let mut other_parts = OtherParts::default();
    // By rule and block.
    let mut sources: BTreeMap<(usize, usize), Sources> = BTreeMap::new();
    for (at, tensor) in files.tensors().iter().enumerate() {
        let Some(name) = model_name(config, &tensor.name) else {
            other_parts.tensors += 1;
            other_parts.bytes += tensor.range.len() as u64;
            continue;
        };
        let left_out = LEFT_OUT.iter().any(|end| name.ends_with(end));
        let as_metadata = config.arch.as_metadata.iter().any(|pattern| crate::arch::match_pattern(pattern, &name).is_some());
        let dropped = config.arch.dropped.contains(&&*name) && is_the_embedding(files, config, tensor);
        if left_out || as_metadata || dropped || is_mtp_left_out(config, &name)? {
            continue;
        }
        let mut known = false;
        let whole_name = config.arch.whole_name(&name);
        let rules: Vec<_> = config.arch.match_hf(&whole_name).collect();
        let placed = |(_, rule, numbers): &(usize, &TensorRule, Numbers)| {
            numbers.block.is_none_or(|block| rule.presence.misplaced(h, block).is_none())
        };
        // Blocks of several kinds can call what is different by one name.
        let any_placed = rules.iter().any(placed);
        for (number, rule, numbers) in rules.into_iter().filter(|found| !any_placed || placed(found)) {
            known = true;
            tensors::check_block(&tensor.file, &tensor.name, rule, numbers.block, h)?;
            let new = || Sources { rule, tensors: BTreeMap::new(), last: at };
            let entry = sources.entry((number, numbers.block.unwrap_or(0))).or_insert_with(new);
            let pattern = rule.hf_patterns().position(|p| crate::arch::match_pattern(p, &whole_name).is_some());
            entry.tensors.insert((numbers.part.unwrap_or(0), pattern.unwrap_or(0)), tensor);
            entry.last = at;
        }
        if !known {
            let what = format!("is no tensor of {}; leaving it out would change the model", config.class.name);
            return Err(Error::tensor(&tensor.file, &tensor.name, what));
        }
    }
    // The experts of a block are written together.
    let mut group_last: HashMap<(&str, usize), usize> = HashMap::new();
    for ((_, block), s) in &sources {
        let last = group_last.entry((group(s.rule), *block)).or_default();
        *last = s.last.max(*last);
    }
    let mut order: Vec<_> = sources.iter().collect();
    order.sort_by_key(|((number, block), s)| {
        let repacked = matches!(s.rule.transform, Transform::Mxfp4 { .. });
        (!repacked, group_last[&(group(s.rule), *block)], *number)
    });
    let mapped = order.into_iter().map(|((_, block), s)| map_tensor(config, s, *block, h)).collect::<Result<_>>()?;
    Ok((mapped, other_parts))
}

/// The name of a tensor in a language model that stands alone and whose blocks are numbered through; `None` where it is of
/// another part of the model.
fn model_name<'a>(config: &Config, name: &'a str) -> Option<Cow<'a, str>> {
    let name = if config.class.text_types.is_empty() { name.into() } else { text_name(name)? };
    if config.arch.mtp == MtpBlocks::LeftOut {
        return Some(name);
    }
    // The blocks behind the last, and what joins their inputs, under names of their own.
    let first = config.block_count as usize;
    let apart = name.strip_prefix("mtp.").and_then(|rest| match rest.strip_prefix("layers.") {
        Some(rest) => {
            let (number, rest) = rest.split_once('.')?;
            Some(format!("model.layers.{}.{rest}", first.checked_add(number.parse().ok()?)?))
        }
        None => {
            let (_, own) = MTP_NAMES.iter().find(|(theirs, _)| *theirs == rest)?;
            Some(format!("model.layers.{first}.{own}"))
        }
    });
    Some(apart.map_or(name, Cow::Owned))
}

/// What joins the inputs of the first block that predicts further tokens: its names in files that keep such blocks apart and in
/// those that number them on.
const MTP_NAMES: &[(&str, &str)] = &[
    ("fc.weight", "eh_proj.weight"),
    ("pre_fc_norm_embedding.weight", "enorm.weight"),
    ("pre_fc_norm_hidden.weight", "hnorm.weight"),
    ("norm.weight", "shared_head.norm.weight"),
];

/// Whether a tensor of a tied model is the token embedding once more. One that differs counts: transformers does not tie then.
fn is_the_embedding(files: &HfTensors, config: &Config, tensor: &HfTensor) -> bool {
    let name = config.arch.rule(Role::TokenEmbd).map(|rule| rule.hf_name(0));
    let embedding = files.tensors().iter().find(|other| model_name(config, &other.name).as_deref() == name.as_deref());
    let same = |other: &HfTensor| other.map[other.range.clone()] == tensor.map[tensor.range.clone()];
    config.tie_word_embeddings && embedding.is_some_and(same)
}

/// Whether a tensor is of the blocks behind the last, which predict further tokens, of an architecture of which the converter
/// leaves those out.
fn is_mtp_left_out(config: &Config, name: &str) -> Result<bool> {
    if config.arch.mtp == MtpBlocks::Kept {
        return Ok(false);
    }
    let count = config.keys().mtp_block_count()?;
    let block = name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    Ok(block.is_some_and(|block| (config.block_count..config.block_count.saturating_add(count)).contains(&block)))
}

/// What rules have in common whose tensors are written together: the file name up to the number of the part.
fn group(rule: &TensorRule) -> &'static str {
    let name = rule.hf.unwrap_or_default();
    match rule.transform {
        Transform::Stack(_) => name.rsplit_once("{}").map_or(name, |(before, _)| before),
        _ => name,
    }
}

/// One GGUF tensor.
fn map_tensor(config: &Config, sources: &Sources, block: usize, h: &HParams) -> Result<(Tensor, Stored)> {
    let (rule, path) = (sources.rule, config.path.parent().unwrap_or(Path::new(".")));
    let shape = rule.shape(h, block);
    let missing = |name: String| Error::tensor(path, name, "is missing");
    let first = *sources.tensors.values().next().ok_or_else(|| missing(rule.hf_name(block)))?;
    let span = |t: &HfTensor| Span { map: Arc::clone(&t.map), range: t.range.clone() };
    if let Transform::Mxfp4 { scales, rows } = rule.transform {
        let scales_name = crate::arch::fill(scales, &[block]);
        let codes = sources.tensors.get(&(0, 0)).ok_or_else(|| missing(rule.hf_name(block)))?;
        let scales = sources.tensors.get(&(0, 1)).ok_or_else(|| missing(scales_name))?;
        return mxfp4(rule, block, shape, rows, codes, scales);
    }
    if let Transform::Filled(key) = rule.transform {
        let value = key.map_or(Ok(Some(1.0)), |key| config.keys().number(key))?.unwrap_or(1.0) as f32;
        let tensor = Tensor { name: rule.role.gguf_name(block), dtype: DType::F32, shape };
        let bytes = value.to_le_bytes().repeat(tensor.cols() * tensor.rows());
        let stored = Stored::new(&first.file, &tensor, Place::Computed(bytes))?;
        return Ok((tensor, stored));
    }
    let found: Vec<usize> = first.shape.iter().rev().copied().collect();
    let transform = resolve(rule.transform, &shape, &found).ok_or_else(|| {
        let what = "has as many rows as columns, so that nothing says whether it is transposed: as published it is, as saved by \
                    transformers 5 it is not";
        Error::tensor(&first.file, &first.name, what)
    })?;
    let layout = layout(transform, &shape, h, block);
    for t in sources.tensors.values() {
        let found: Vec<usize> = t.shape.iter().rev().copied().collect();
        tensors::check_shape(&t.file, &t.name, &found, &layout.shape)?;
    }
    let dtype = first.dtype()?;
    let widened = if dtype == DType::BF16 { DType::F32 } else { dtype };
    let (dtype, place) = match (transform, layout.strides) {
        (Transform::Stack(count), _) => (dtype, stacked(path, sources, block, count.size(h, block), dtype)?),
        (Transform::AddOne, walk) => (widened, Place::Changed(span(first), dtype, walk, Change::AddOne)),
        (Transform::NegExp | Transform::NegExpTiled | Transform::NegExpFlat, walk) => {
            (widened, Place::Changed(span(first), dtype, walk, Change::NegExp))
        }
        (Transform::Scaled(by), walk) => (widened, Place::Changed(span(first), dtype, walk, Change::Scale(factors(config, by)?))),
        (Transform::ScaledStateInputs(by), walk) => {
            let change = Change::ScaleParts(factors(config, by)?, state_input_factors(config, h)?);
            (widened, Place::Changed(span(first), dtype, walk, change))
        }
        (_, Some(strides)) => (dtype, Place::Strided(span(first), strides)),
        (_, None) => (dtype, Place::Mapped(span(first))),
    };
    let tensor = Tensor { name: rule.role.gguf_name(block), dtype, shape };
    let stored = Stored::new(&first.file, &tensor, place)?;
    Ok((tensor, stored))
}

/// The values of factors by the configuration.
fn factors(config: &Config, by: &[Factor]) -> Result<Vec<f32>> {
    let one = |factor: &Factor| match *factor {
        Factor::Key(key) => Ok(config.keys().number(key)?.unwrap_or(1.0) as f32),
        Factor::Item(key, at) => {
            let value = config.keys().get(key).and_then(|list| list.get(at)?.as_f64());
            let value = value.map(|value| value as f32).filter(|value| value.is_finite());
            value.ok_or_else(|| config.keys().error(key, format!("must be a list of numbers, of more than {at}")))
        }
    };
    by.iter().map(one).collect()
}

/// The factors on what goes into Mamba-2, each with the row that its part ends before.
fn state_input_factors(config: &Config, h: &HParams) -> Result<Vec<(usize, f32)>> {
    const KEY: &str = "ssm_multipliers";
    let Some(r) = &h.recurrent else { return Ok(Vec::new()) };
    let rows = [r.values(), r.values(), r.keys(), r.keys(), r.heads];
    let by: Vec<Factor> = (0..rows.len()).map(|part| Factor::Item(KEY, part)).collect();
    let mut end = 0;
    let part = |(rows, factor)| {
        end += rows;
        (end, factor)
    };
    Ok(rows.into_iter().zip(factors(config, &by)?).map(part).collect())
}

/// `count` file tensors of one type, one behind the other.
fn stacked(path: &Path, sources: &Sources, block: usize, count: usize, dtype: DType) -> Result<Place> {
    let mut parts = Vec::with_capacity(sources.tensors.len());
    for (&(part, _), tensor) in &sources.tensors {
        if part >= count {
            let what = format!("is number {part}, but by the hyper-parameters there are {count} (counted from 0)");
            return Err(Error::tensor(&tensor.file, &tensor.name, what));
        }
        if part != parts.len() {
            break;
        }
        if tensor.dtype()? != dtype {
            let what = format!("is {}, but the tensors it is stacked with are {dtype}", tensor.dtype()?);
            return Err(Error::tensor(&tensor.file, &tensor.name, what));
        }
        parts.push(Span { map: Arc::clone(&tensor.map), range: tensor.range.clone() });
    }
    if parts.len() < count {
        let what = format!("is missing; by the hyper-parameters there are {count} such tensors (counted from 0)");
        return Err(Error::tensor(path, sources.rule.hf_part(block, parts.len()), what));
    }
    Ok(Place::Stacked(parts))
}

/// MXFP4 codes `[experts, rows, blocks, 16]` and scales `[experts, rows, blocks]`.
fn mxfp4(
    rule: &TensorRule,
    block: usize,
    shape: Vec<usize>,
    rows: Mxfp4Rows,
    codes: &HfTensor,
    scales: &HfTensor,
) -> Result<(Tensor, Stored)> {
    let dtype = DType::MXFP4;
    let (first, step) = match rows {
        Mxfp4Rows::All => (0, 1),
        Mxfp4Rows::Alternate(first) => (first, 2),
    };
    let blocks = shape[0] / dtype.block_len();
    let expected = [&[blocks, shape[1] * step], &shape[2..]].concat();
    for (t, expected) in [(scales, expected.clone()), (codes, [&[dtype.block_len() / 2], &expected[..]].concat())] {
        let found: Vec<usize> = t.shape.iter().rev().copied().collect();
        tensors::check_shape(&t.file, &t.name, &found, &expected)?;
        if t.stored_dtype() != "U8" {
            return Err(Error::tensor(&t.file, &t.name, format!("is {}, but MXFP4 is stored as U8", t.stored_dtype())));
        }
    }
    let span = |t: &HfTensor| Span { map: Arc::clone(&t.map), range: t.range.clone() };
    let tensor = Tensor { name: rule.role.gguf_name(block), dtype, shape };
    let place = Place::Mxfp4 { codes: span(codes), scales: span(scales), first, step };
    let stored = Stored::new(&codes.file, &tensor, place)?;
    Ok((tensor, stored))
}

/// Optional tensors are there where the configuration says so, and nowhere else: transformers would make up the former and pass
/// over the latter.
fn check_stated(path: &Path, config: &Config, h: &HParams, container: &Container) -> Result<()> {
    for stated in config.arch.stated {
        let wanted = config.keys().bool(stated.key)?.unwrap_or(stated.default);
        for rule in config.arch.tensors.iter().filter(|rule| stated.roles.contains(&rule.role)) {
            for block in (0..h.stored_block_count()).filter(|&block| rule.presence.misplaced(h, block).is_none()) {
                if container.tensor(&rule.role.gguf_name(block)).is_some() != wanted {
                    let (is, says) = if wanted { ("is missing", "says") } else { ("is there", "does not say") };
                    let what = format!("{is}, and config.json {says} {} = true", stated.key);
                    return Err(Error::tensor(path, rule.hf_name(block), what));
                }
            }
        }
    }
    Ok(())
}

/// Blocks that by the configuration do without a tensor have none, where transformers would pass over it, and all others have it.
fn check_spared(path: &Path, config: &Config, h: &HParams, container: &Container) -> Result<()> {
    for spared in config.arch.spared {
        let flag = config.keys().bool(spared.key)?.unwrap_or(spared.default);
        // Whether blocks have tensors that they do not use is of no account.
        let used = |block: &usize| (spared.of)(h, *block) && h.has_own_keys(*block);
        for block in (0..h.block_count).filter(used) {
            if container.tensor(&spared.role.gguf_name(block)).is_some() == flag {
                let is = if flag { "is there" } else { "is missing" };
                let name = config.arch.rule(spared.role).map_or_else(String::new, |rule| rule.hf_name(block));
                return Err(Error::tensor(path, name, format!("{is}, and config.json says {} = {flag}", spared.key)));
            }
        }
    }
    Ok(())
}

/// A model whose configuration does not tie the output matrix to the embedding has its own.
fn check_head(path: &Path, config: &Config, container: &Container) -> Result<()> {
    let Some(rule) = config.arch.rule(Role::Output).filter(|rule| rule.presence == Presence::TiedToTokenEmbd) else {
        return Ok(());
    };
    if config.tie_word_embeddings || container.tensor(&Role::Output.gguf_name(0)).is_some() {
        return Ok(());
    }
    Err(Error::tensor(path, rule.hf_name(0), "is missing, and config.json does not set tie_word_embeddings"))
}

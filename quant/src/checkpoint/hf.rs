//! Opens a Hugging Face directory as a [`Checkpoint`]: tensors mapped to their GGUF names, shapes and layouts, in the order
//! in which the converter writes them, and the metadata its conversion would have.
//!
//! Absent: reading safetensors (see `crate::safetensors`), the bytes (see `place`) and the metadata (see `crate::convert`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::OnceLock;

use super::change::Change;
use super::container::{Container, Parts};
use super::known::{Checkpoint, Kind, Published};
use super::layout::{layout, resolve};
use super::place::{Place, Stored};
use super::rows::PackedRows;
use super::source::LeftOut;
use super::tensors;
use crate::arch::{Factor, MtpBlocks, Numbers, Presence, Role, TensorRule, Transform, matrix_of};
use crate::convert::wrapper::{missing_part, text_name};
use crate::convert::{self, FileType, config::Config};
use crate::gguf::{Metadata, Value};
use crate::packed::{self, Adapter, Settings};
use crate::safetensors::{HfTensor, HfTensors};
use crate::tensor::Tensor;
use crate::{DType, Error, HParams, Result};

/// Buffers that checkpoints carry and no computation needs (the converter leaves out the same).
const LEFT_OUT: &[&str] =
    &[".attention.masked_bias", ".attention.bias", ".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"];

/// Opens the directory at `path`, with adapters merged.
pub(super) fn open(path: &Path, adapters: &[Adapter]) -> Result<Checkpoint> {
    let mut config = Config::read(path)?;
    let arch = config.arch;
    let files = packed::unpack(HfTensors::open(path)?, &Settings::read(path, &config)?)?;
    let files = adapters.iter().try_fold(files, packed::merge)?;
    check_language_model(path, &config, &files)?;
    check_left_out(&config, &files)?;
    check_mtp(&mut config, &files)?;
    let mut model_keys = Metadata::new();
    convert::architectures::computed(&config, files.tensors(), &mut model_keys)?;
    convert::architectures::add_keys(&config, FileType::F32, &mut model_keys)?;
    // Most architectures' files say it by their list of tokens.
    model_keys.set(arch.key("vocab_size"), Value::U32(config.vocab_size));
    convert::facts::add_keys(&config, &mut model_keys)?;
    let hparams = HParams::from_metadata(&config.path, arch, &model_keys)?;

    let computed = computed_tensors(&config, &files)?;
    let (mapped, published, left_out) = map_tensors(&files, &config, &hparams)?;
    let container = |tensors: Vec<Placed>| {
        Container::new(Parts {
            path: path.to_owned(),
            files: files.files().iter().map(|file| file.to_path_buf()).collect(),
            name: convert::model_name(path),
            metadata: Metadata::new(),
            tensors,
        })
    };
    let mut kept = kept_form(&mapped, &computed)?.map(container).transpose()?;
    let mut container = container(computed.into_iter().chain(in_order(mapped)).collect())?;
    let apart = files.tensors().iter().any(|tensor| tensor.name.contains("mtp."));
    let name = |rule: &TensorRule, block| published_name(&config, rule, block, apart);
    tensors::check_complete(path, arch, &hparams, &container, name)?;
    check_head(path, &config, &container)?;
    check_stated(path, &config, &hparams, &container)?;
    check_spared(path, &config, &hparams, &container)?;
    let own = convert::facts::own_keys(&model_keys);
    for form in [Some(&mut container), kept.as_mut()].into_iter().flatten() {
        form.set_metadata(convert::metadata(&config, files.tensors(), form.tensors(), &own)?);
    }
    Ok(Checkpoint {
        container,
        kept,
        arch,
        hparams,
        kind: Kind::Hf(Box::new(config)),
        left_out,
        published,
        vocab: OnceLock::new(),
    })
}

/// The number of a block that predicts further tokens, behind those of the configuration, from the name of a tensor of it.
fn mtp_block(config: &Config, name: &str) -> Option<u32> {
    let number = name.strip_prefix("model.layers.")?.split('.').next()?.parse::<u32>().ok()?;
    number.checked_sub(config.block_count)
}

/// A folder has tensors of a language model, and not of encoders or of blocks for further tokens alone.
fn check_language_model(path: &Path, config: &Config, files: &HfTensors) -> Result<()> {
    let names = || files.tensors().iter().map(|tensor| model_name(config, &tensor.name));
    if names().flatten().any(|name| mtp_block(config, &name).is_none()) {
        return Ok(());
    }
    let others = match names().filter(Option::is_none).count() {
        0 => String::new(),
        count => format!("; its {count} tensors are of encoders for images or sound"),
    };
    Err(Error::file(path, format!("has no tensor of a language model{others}")))
}

/// Encoders that the configuration describes are there, though they are left out: files of them that are missing are likely not
/// the only ones.
fn check_left_out(config: &Config, files: &HfTensors) -> Result<()> {
    if config.class.text_types.is_empty() {
        return Ok(());
    }
    let Some(key) = missing_part(config.keys(), files.tensors().iter().map(|tensor| tensor.name.as_str())) else { return Ok(()) };
    let what = "describes an encoder, but the folder has no tensor of it: fetch the missing files, or take this key out of the \
                file to have the language model alone";
    Err(config.keys().error(key, what))
}

/// Blocks that predict further tokens are there where the configuration counts them. Where it does not say, the files do.
fn check_mtp(config: &mut Config, files: &HfTensors) -> Result<()> {
    if config.mtp_block_count == 0 {
        return Ok(());
    }
    let names = files.tensors().iter().filter_map(|tensor| model_name(config, &tensor.name));
    let found: BTreeSet<u32> = names.filter_map(|name| mtp_block(config, &name)).collect();
    // More of them than are counted have an error of their own.
    if found.len() >= config.mtp_block_count as usize {
        return Ok(());
    }
    let Some(key) = config.states_mtp else {
        config.mtp_block_count = found.len() as u32;
        return Ok(());
    };
    let (has, remedy) = match found.len() {
        0 => (
            "no tensors of them".to_owned(),
            "; set it to 0 to do without, as transformers leaves them out when it saves a model",
        ),
        count => (format!("tensors of {count}"), ""),
    };
    let what = format!(
        "counts {} blocks that predict further tokens, but the folder has {has} (mtp.* or model.layers.{}.*){remedy}",
        config.mtp_block_count, config.block_count
    );
    Err(config.keys().error(key, what))
}

/// The name of a rule's tensor in safetensors files, where those keep blocks for further tokens `apart`.
fn published_name(config: &Config, rule: &TensorRule, block: usize, apart: bool) -> String {
    let name = rule.hf_name(block);
    let Some(number) = mtp_block(config, &name).filter(|_| apart) else { return name };
    let own = name.splitn(4, '.').nth(3).unwrap_or_default();
    match MTP_NAMES.iter().find(|(_, ours)| *ours == own) {
        Some((theirs, _)) => format!("mtp.{theirs}"),
        None => format!("mtp.layers.{number}.{own}"),
    }
}

/// Tensors made from the configuration, which the converter writes first.
fn computed_tensors(config: &Config, files: &HfTensors) -> Result<Vec<Placed>> {
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
    /// By the number of the part (0 but for stacks).
    tensors: BTreeMap<usize, &'a HfTensor>,
    /// Where the last of them stands in the files.
    last: usize,
}

/// A tensor and where its bytes are.
type Placed = (Tensor, Stored);

/// A GGUF tensor, and its place among the others.
struct Mapped {
    tensor: Placed,
    /// What a file that is not quantized keeps instead: the same weights as blocks, and their factors.
    kept: Vec<Placed>,
    /// Where the last tensor it is made from stands in the files, and the same of all that are written together.
    last: [usize; 2],
    /// Of the rule.
    number: usize,
}

/// The tensors in the converter's order: that of the files, where what is made from several tensors comes when the last of them
/// is met, and repacked MXFP4 before everything else.
fn in_order(mut mapped: Vec<Mapped>) -> impl Iterator<Item = Placed> {
    mapped.sort_by_key(|m| (m.tensor.0.dtype.is_float(), m.last[1], m.number));
    mapped.into_iter().map(|m| m.tensor)
}

/// The same of a file that is not quantized, if it keeps anything else: repacked NVFP4 comes first, each tensor with its factors.
fn kept_form(mapped: &[Mapped], computed: &[Placed]) -> Result<Option<Vec<Placed>>> {
    if mapped.iter().all(|m| m.kept.is_empty()) {
        return Ok(None);
    }
    let mut order: Vec<&Mapped> = mapped.iter().collect();
    order.sort_by_key(|m| {
        let repacked = !m.kept.is_empty() || !m.tensor.0.dtype.is_float();
        (!repacked, m.last[usize::from(m.kept.is_empty())], m.number)
    });
    let (first, others): (Vec<&Mapped>, Vec<&Mapped>) = order.into_iter().partition(|m| !m.kept.is_empty());
    let mut tensors: Vec<Placed> = first.iter().flat_map(|m| m.kept.iter().cloned()).collect();
    tensors.extend_from_slice(computed);
    for (tensor, stored) in others.iter().map(|m| &m.tensor) {
        // Gemma 4 scales its experts too; the converter multiplies both.
        match tensors.iter_mut().find(|(own, _)| own.name == tensor.name) {
            Some((own, factors)) => {
                let own_values = floats(own, factors);
                let values = floats(tensor, stored);
                let product = |(i, value): (usize, &f32)| value * own_values[i % own_values.len()];
                let bytes = values.iter().enumerate().map(product).flat_map(f32::to_le_bytes).collect();
                let product = Tensor { name: own.name.clone(), dtype: DType::F32, shape: tensor.shape.clone() };
                *factors = Stored::new(Path::new(&product.name), &product, Place::Computed(bytes))?;
                *own = product;
            }
            None => tensors.push((tensor.clone(), stored.clone())),
        }
    }
    Ok(Some(tensors))
}

/// All numbers of a small tensor.
fn floats(tensor: &Tensor, stored: &Stored) -> Vec<f32> {
    let mut values = vec![0.0; tensor.cols() * tensor.rows()];
    tensor.dtype.decode_row(&stored.read(tensor, 0..tensor.rows()), &mut values);
    values
}

/// All tensors of the files under their GGUF names, and how they are stored.
fn map_tensors(files: &HfTensors, config: &Config, h: &HParams) -> Result<(Vec<Mapped>, Option<Published>, LeftOut)> {
    let mut left_out = LeftOut::default();
    // By rule and block.
    let mut sources: BTreeMap<(usize, usize), Sources> = BTreeMap::new();
    for (at, tensor) in files.tensors().iter().enumerate() {
        let Some(name) = model_name(config, &tensor.name) else {
            left_out.tensors += 1;
            left_out.bytes += tensor.range.len() as u64;
            continue;
        };
        let unwanted = LEFT_OUT.iter().any(|end| name.ends_with(end));
        let as_metadata = config.arch.as_metadata.iter().any(|pattern| crate::arch::match_pattern(pattern, &name).is_some());
        let dropped = config.arch.dropped.contains(&&*name) && is_the_embedding(files, config, tensor);
        // Nothing counts them, and transformers passes over them.
        let uncounted = config.arch.mtp == MtpBlocks::Kept && config.mtp_block_count == 0 && tensor.name.starts_with("mtp.");
        if uncounted {
            left_out.uncounted += 1;
        }
        if unwanted || as_metadata || dropped || uncounted || is_mtp_left_out(config, &name)? {
            continue;
        }
        let mut known = false;
        let whole_name = config.arch.whole_name(&name);
        let mut rules: Vec<_> = config.arch.match_hf(&whole_name).collect();
        if rules.is_empty() {
            // As a model without its head is saved.
            rules = config.arch.match_hf(&format!("model.{whole_name}")).collect();
        }
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
            if let Some(other) = entry.tensors.insert(numbers.part.unwrap_or(0), tensor) {
                let what = format!("is the same weight as {}; one of them is left over from another save", other.name);
                return Err(Error::tensor(&tensor.file, &tensor.name, what));
            }
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
    let mut order: Vec<_> =
        sources.iter().map(|(&(number, block), s)| (group_last[&(group(s.rule), block)], number, block, s)).collect();
    order.sort_by_key(|&(last, number, ..)| (last, number));
    let mut mapped = Vec::with_capacity(order.len());
    for (last_of_group, number, block, s) in order {
        let (tensor, kept) = map_tensor(config, s, block, h)?;
        mapped.push(Mapped { tensor, kept, last: [s.last, last_of_group], number });
    }
    let used = sources.values().flat_map(|s| s.tensors.values().copied());
    Ok((mapped, published(used), left_out))
}

/// How the tensors are stored, where some are not floats.
fn published<'a>(used: impl Iterator<Item = &'a HfTensor>) -> Option<Published> {
    // A tensor can be in several of GGUF's.
    let used: BTreeMap<&str, &HfTensor> = used.map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut weights: BTreeMap<String, u64> = BTreeMap::new();
    let (mut bytes, mut any) = (0, false);
    for tensor in used.values() {
        let label = tensor.packing().and_then(|packed| packed.label());
        any |= label.is_some();
        let label = label.unwrap_or_else(|| tensor.stored_dtype().to_lowercase());
        *weights.entry(label).or_default() += tensor.shape.iter().product::<usize>() as u64;
        bytes += tensor.stored_bytes();
    }
    let mut types: Vec<(String, u64)> = weights.into_iter().collect();
    types.sort_by_key(|&(_, weights)| std::cmp::Reverse(weights));
    any.then_some(Published { types, bytes })
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
    let same = |other: &HfTensor| !other.is_packed() && !tensor.is_packed() && other.bytes() == tensor.bytes();
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

/// One GGUF tensor, and what is kept instead of it (see [`Mapped`]).
fn map_tensor(config: &Config, sources: &Sources, block: usize, h: &HParams) -> Result<(Placed, Vec<Placed>)> {
    let (rule, path) = (sources.rule, config.path.parent().unwrap_or(Path::new(".")));
    let shape = rule.shape(h, block);
    let missing = |name: String| Error::tensor(path, name, "is missing");
    let first = *sources.tensors.values().next().ok_or_else(|| missing(rule.hf_name(block)))?;
    if let Transform::Filled(key) = rule.transform {
        let value = key.map_or(Ok(Some(1.0)), |key| config.keys().number(key))?.unwrap_or(1.0) as f32;
        let tensor = Tensor { name: rule.role.gguf_name(block), dtype: DType::F32, shape };
        let bytes = value.to_le_bytes().repeat(tensor.cols() * tensor.rows());
        let stored = Stored::new(&first.file, &tensor, Place::Computed(bytes))?;
        return Ok(((tensor, stored), Vec::new()));
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
    let parts = match transform {
        Transform::Stack(count) => parts(path, sources, block, count.size(h, block))?,
        _ => vec![first],
    };
    let change = match transform {
        Transform::AddOne => Some(Change::AddOne),
        Transform::NegExp | Transform::NegExpTiled | Transform::NegExpFlat => Some(Change::NegExp),
        Transform::Scaled(by) => Some(Change::Scale(factors(config, by)?)),
        Transform::ScaledStateInputs(by) => Some(Change::ScaleParts(factors(config, by)?, state_input_factors(config, h)?)),
        _ => None,
    };
    let name = rule.role.gguf_name(block);
    if parts.iter().any(|t| t.is_packed()) {
        let rows = PackedRows::new(&parts, layout.strides, change)?;
        return packed_tensor(&first.file, name, shape, rows);
    }
    let dtype = first.dtype()?;
    let widened = if dtype == DType::BF16 { DType::F32 } else { dtype };
    let (dtype, place) = match (transform, change, layout.strides) {
        (Transform::Stack(_), ..) => (dtype, stacked(&parts, dtype)?),
        (_, Some(change), walk) => (widened, Place::Changed(first.span(), dtype, walk, change)),
        (_, None, Some(strides)) => (dtype, Place::Strided(first.span(), strides)),
        (_, None, None) => (dtype, Place::Mapped(first.span())),
    };
    let tensor = Tensor { name, dtype, shape };
    let stored = Stored::new(&first.file, &tensor, place)?;
    Ok(((tensor, stored), Vec::new()))
}

/// A tensor whose rows are stored otherwise than in GGUF: as MXFP4 where they are such, else as floats; and what is kept of it.
fn packed_tensor(file: &Path, name: String, shape: Vec<usize>, rows: PackedRows) -> Result<(Placed, Vec<Placed>)> {
    let as_blocks = |dtype: DType| shape[0].is_multiple_of(dtype.block_len()) && rows.blocks(dtype).is_some();
    let dtype = if as_blocks(DType::MXFP4) { DType::MXFP4 } else { DType::F32 };
    let stored = |dtype: DType| {
        let tensor = Tensor { name: name.clone(), dtype, shape: shape.clone() };
        let stored = Stored::new(file, &tensor, Place::Packed(rows.clone()))?;
        Ok((tensor, stored))
    };
    let mut kept = Vec::new();
    if as_blocks(DType::NVFP4) {
        kept.push(stored(DType::NVFP4)?);
        for (end, factors) in [".scale", ".input_scale"].into_iter().zip(rows.factors()) {
            let Some(factors) = factors else { continue };
            let name = format!("{}{end}", name.strip_suffix(".weight").unwrap_or(&name));
            let tensor = Tensor { name, dtype: DType::F32, shape: vec![factors.len()] };
            let bytes = factors.iter().flat_map(|factor| factor.to_le_bytes()).collect();
            let stored = Stored::new(file, &tensor, Place::Computed(bytes))?;
            kept.push((tensor, stored));
        }
    }
    Ok((stored(dtype)?, kept))
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

/// `count` file tensors that are one behind the other in GGUF.
fn parts<'a>(path: &Path, sources: &Sources<'a>, block: usize, count: usize) -> Result<Vec<&'a HfTensor>> {
    let mut parts = Vec::with_capacity(sources.tensors.len());
    for (&part, &tensor) in &sources.tensors {
        if part >= count {
            let what = format!("is number {part}, but by the hyper-parameters there are {count} (counted from 0)");
            return Err(Error::tensor(&tensor.file, &tensor.name, what));
        }
        if part != parts.len() {
            break;
        }
        parts.push(tensor);
    }
    if parts.len() < count {
        let what = format!("is missing; by the hyper-parameters there are {count} such tensors (counted from 0)");
        return Err(Error::tensor(path, sources.rule.hf_part(block, parts.len()), what));
    }
    Ok(parts)
}

/// The same of one type.
fn stacked(parts: &[&HfTensor], dtype: DType) -> Result<Place> {
    for tensor in parts {
        if tensor.dtype()? != dtype {
            let what = format!("is {}, but the tensors it is stacked with are {dtype}", tensor.dtype()?);
            return Err(Error::tensor(&tensor.file, &tensor.name, what));
        }
    }
    Ok(Place::Stacked(parts.iter().map(|tensor| tensor.span()).collect()))
}

/// Optional tensors are there where the configuration says so, and nowhere else: transformers would make up the former and pass
/// over the latter.
fn check_stated(path: &Path, config: &Config, h: &HParams, container: &Container) -> Result<()> {
    for stated in config.arch.stated {
        let wanted = config.keys().bool(stated.key)?.unwrap_or(stated.default);
        for rule in config.arch.tensors.iter().filter(|rule| stated.roles.contains(&rule.role)) {
            for block in (0..h.stored_block_count()).filter(|&block| rule.presence.misplaced(h, block).is_none()) {
                let has_matrix = matrix_of(rule.role).is_none_or(|role| container.tensor(&role.gguf_name(block)).is_some());
                let wanted = wanted && has_matrix;
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

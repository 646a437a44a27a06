//! The figures of one model, and how they follow from its shape.
//!
//! Absent: finding a model by name (see the parent), and sizes of files (see `sizes`).

use std::ffi::OsStr;
use std::path::Path;

use bitworth_quant::arch::{ArchSpec, Role};
use bitworth_quant::checkpoint::{Checkpoint, Container, Model, Source, Tensor};
use bitworth_quant::convert::config::Config;
use bitworth_quant::gguf::{Array, Metadata, Value};
use bitworth_quant::hparams::Recurrent;
use bitworth_quant::synth::Synth;
use bitworth_quant::{DType, Error, HParams, Result};
use serde::{Deserialize, Serialize};

use super::{Planned, Sizes};
use bitworth_quant::synth::shape::{self, Parsed};

/// Blocks that keep the same of every token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvLayers {
    /// How many blocks.
    pub layers: u32,
    /// Numbers that one of them keeps of a token, keys and values together.
    pub elements: u32,
    /// How many tokens are kept; all of them where there is none.
    pub window: Option<u32>,
}

/// What of a model costs memory and time.
#[derive(Serialize)]
#[non_exhaustive]
pub struct ModelFigures {
    /// The name of its file, or of the checkpoint.
    pub id: String,
    /// As published.
    pub name: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// GGUF's name of the architecture.
    pub architecture: String,
    /// Weights.
    pub params: u64,
    /// Weights that take part in a token: published, or all but the experts that it does not use.
    pub active_params: u64,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Blocks.
    pub layers: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Width of a key head.
    pub head_dim: u32,
    /// Tokens of the vocabulary.
    pub vocab: u32,
    /// Experts of a block; 0 where there are none.
    pub experts: u32,
    /// Experts that a token uses.
    pub experts_used: u32,
    /// Whether the output matrix is the embedding.
    pub tied: bool,
    /// Tokens that it was trained for.
    pub max_context: u32,
    /// What blocks keep of every token, as llama.cpp does: latent attention keeps compressed keys and no values; a window bounds
    /// what is kept where llama.cpp's layout has a key for it.
    pub kv: Vec<KvLayers>,
    /// Bytes of state that a sequence has whatever its length (linear attention, state spaces).
    pub state_bytes: u64,
    /// Where the figures come from.
    pub source: String,
    /// How sure they are: `read`, `computed`, `recalled`.
    pub evidence: String,
    /// What else should be known.
    pub note: String,
    #[serde(skip)]
    pub(crate) hparams: Option<HParams>,
    #[serde(skip)]
    pub(crate) model: Option<Planned>,
    #[serde(skip)]
    pub(crate) sizes: Sizes,
}

impl std::fmt::Debug for ModelFigures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelFigures").field("id", &self.id).field("params", &self.params).finish_non_exhaustive()
    }
}

/// The table `[figures]`. What follows from a shape is only read where there is none.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: Option<String>,
    #[serde(default)]
    aliases: Vec<String>,
    architecture: Option<String>,
    params_b: Option<f64>,
    active_params_b: Option<f64>,
    hidden: Option<u32>,
    layers: Option<u32>,
    heads: Option<u32>,
    kv_heads: Option<u32>,
    head_dim: Option<u32>,
    vocab: Option<u32>,
    #[serde(default)]
    tied: bool,
    #[serde(default)]
    experts: u32,
    #[serde(default)]
    experts_used: u32,
    max_context: Option<u32>,
    #[serde(default)]
    kv: Vec<KvLayers>,
    #[serde(default)]
    state_mib: f64,
    #[serde(default)]
    source: String,
    #[serde(default)]
    evidence: String,
    #[serde(default)]
    note: String,
}

/// The most that is believed of a model, in 10^9 weights.
const MAX_PARAMS_B: f64 = 100_000.0;
/// And of one size in it.
const MAX_SIZE: u32 = 1 << 26;

impl ModelFigures {
    /// The model that the TOML `text` of the file at `path` describes.
    ///
    /// # Errors
    /// TOML that does not parse, a configuration that is not supported, figures that are missing or absurd.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let id = path.file_stem().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        Self::of_parsed(path, &id, shape::parse(path, text)?)
    }

    pub(super) fn of_parsed(path: &Path, id: &str, parsed: Parsed) -> Result<Self> {
        let table: Table = serde_json::from_value(parsed.figures).map_err(|e| Error::key(path, "figures", e.to_string()))?;
        let in_range = |key: &str, value: Option<f64>, max: f64| match value {
            Some(v) if !(v.is_finite() && v > 0.0 && v <= max) => {
                Err(Error::key(path, format!("figures.{key}"), format!("is {v}, but must lie above 0 and at most at {max}")))
            }
            value => Ok(value),
        };
        let params = in_range("params_b", table.params_b, MAX_PARAMS_B)?.map(billions);
        let limit = table.params_b.unwrap_or(MAX_PARAMS_B);
        let active = in_range("active_params_b", table.active_params_b, limit)?.map(billions);
        let mut figures = match parsed.keys {
            Some(keys) => {
                let config = Config::parse(path.to_owned(), keys)?;
                Self::of_synth(id, Synth::new(id, &config, 0)?, &config)?
            }
            None => Self::of_table(path, id, &table, params)?,
        };
        figures.active_params = active.unwrap_or(figures.active_params);
        Ok(Self {
            name: table.name.unwrap_or_else(|| id.to_owned()),
            aliases: table.aliases,
            source: table.source,
            evidence: table.evidence,
            note: table.note,
            ..figures
        })
    }

    /// From figures alone.
    fn of_table(path: &Path, id: &str, table: &Table, params: Option<u64>) -> Result<Self> {
        let missing = |key: &str| {
            let what = "is missing; give it, or the keys of the model's config.json with its architectures";
            Error::key(path, format!("figures.{key}"), what)
        };
        let size = |key: &str, value: Option<u32>| match value {
            None => Err(missing(key)),
            Some(v) if v == 0 || v > MAX_SIZE => {
                Err(Error::key(path, format!("figures.{key}"), format!("is {v}, but must lie between 1 and {MAX_SIZE}")))
            }
            Some(v) => Ok(v),
        };
        if table.kv.is_empty() {
            return Err(missing("kv"));
        }
        if table.experts_used > table.experts {
            let what = format!("is {}, but there are {} experts", table.experts_used, table.experts);
            return Err(Error::key(path, "figures.experts_used", what));
        }
        if !(0.0..=1e6).contains(&table.state_mib) {
            return Err(Error::key(
                path,
                "figures.state_mib",
                format!("is {}, but must lie between 0 and 10^6", table.state_mib),
            ));
        }
        for kv in &table.kv {
            size("kv.layers", Some(kv.layers))?;
            size("kv.elements", Some(kv.elements))?;
            size("kv.window", kv.window.or(Some(1)))?;
        }
        let params = params.ok_or_else(|| missing("params_b"))?;
        Ok(Self {
            architecture: table.architecture.clone().ok_or_else(|| missing("architecture"))?,
            params,
            active_params: params,
            hidden: size("hidden", table.hidden)?,
            layers: size("layers", table.layers)?,
            heads: size("heads", table.heads)?,
            kv_heads: size("kv_heads", table.kv_heads)?,
            head_dim: size("head_dim", table.head_dim)?,
            vocab: size("vocab", table.vocab)?,
            tied: table.tied,
            experts: table.experts,
            experts_used: table.experts_used,
            max_context: size("max_context", table.max_context)?,
            kv: table.kv.clone(),
            state_bytes: (table.state_mib * f64::from(1 << 20)) as u64,
            ..Self::nameless(id)
        })
    }

    /// From a shape.
    pub(super) fn of_synth(id: &str, synth: Synth, config: &Config) -> Result<Self> {
        let h = HParams::from_metadata(&config.path, config.arch, synth.metadata())?;
        let figures = Self::of_hparams(id, config.arch, &h, synth.metadata(), synth.tensors());
        Ok(Self { model: Some(std::sync::Arc::new(synth)), ..figures })
    }

    /// From a checkpoint's headers.
    pub fn of_checkpoint(checkpoint: Checkpoint) -> Self {
        let (name, arch, h) = (checkpoint.name(), checkpoint.arch(), checkpoint.hparams());
        let figures = Self::of_hparams(name, arch, h, checkpoint.metadata(), checkpoint.tensors());
        Self { model: Some(std::sync::Arc::new(checkpoint)), source: "the checkpoint".into(), evidence: "read".into(), ..figures }
    }

    fn of_hparams(id: &str, arch: &ArchSpec, h: &HParams, metadata: &Metadata, tensors: &[Tensor]) -> Self {
        // llama.cpp has no key for some models' windows, and makes no use of some others.
        let windows = !arch.window_is_unused && metadata.get(&arch.key("attention.sliding_window")).is_some();
        let elements = |block: usize| match h.mla {
            Some(mla) => mla.kv_lora_rank + h.rope_dim,
            None if !h.has_own_keys(block) || h.recurrent_of(block).is_some() => 0,
            None => h.head_count_kv.of(block) * (h.head_dim.of(block) + h.value_dim.of(block)),
        };
        let mut kv: Vec<KvLayers> = Vec::new();
        for block in 0..h.block_count {
            let (elements, window) = (elements(block) as u32, h.window_of(block).filter(|_| windows).map(|w| w.width() as u32));
            match kv.iter_mut().find(|kv| kv.elements == elements && kv.window == window) {
                _ if elements == 0 => {}
                Some(kv) => kv.layers += 1,
                None => kv.push(KvLayers { layers: 1, elements, window }),
            }
        }
        // llama.cpp has these states in f32, as our own engine (`llama-memory-recurrent.cpp`, b11434).
        let state = |r: &Recurrent| (r.conv_state(h.embedding_length) + r.head_state()) * size_of::<f32>();
        let state_bytes: usize = (0..h.block_count).filter_map(|block| h.recurrent_of(block)).map(state).sum();
        let (params, active_params) = counts(tensors, h.expert_count as u64, h.expert_used_count as u64);
        Self {
            architecture: arch.name.to_owned(),
            params,
            active_params,
            hidden: h.embedding_length as u32,
            layers: h.block_count as u32,
            heads: h.head_count.max() as u32,
            kv_heads: h.head_count_kv.max() as u32,
            head_dim: h.head_dim.max() as u32,
            vocab: h.vocab_size as u32,
            tied: is_tied(tensors),
            experts: h.expert_count as u32,
            experts_used: h.expert_used_count as u32,
            max_context: h.context_length as u32,
            kv,
            state_bytes: state_bytes as u64,
            hparams: Some(h.clone()),
            ..Self::nameless(id)
        }
    }

    /// From the header of a GGUF file of any architecture, by the keys that all of them share. Windows are passed over.
    pub(super) fn of_container(container: Container) -> Result<Self> {
        let m = container.metadata();
        let key = |key: &str| Error::key(container.path(), key, "is missing or not a number");
        let Some(Value::String(arch)) = m.get("general.architecture") else { return Err(key("general.architecture")) };
        let architecture = arch.clone();
        let get = |stem: &str| m.u64(&format!("{architecture}.{stem}")).and_then(|v| u32::try_from(v).ok());
        let need = |stem: &str| get(stem).ok_or_else(|| key(&format!("{architecture}.{stem}")));
        let (layers, hidden, heads) = (need("block_count")?, need("embedding_length")?, need("attention.head_count")?);
        let kv_heads =
            per_block(m, &format!("{architecture}.attention.head_count_kv"), layers).unwrap_or(vec![heads; layers as usize]);
        let head_dim = get("attention.key_length").unwrap_or(hidden / heads.max(1));
        let value_dim = get("attention.value_length").unwrap_or(head_dim);
        let mut kv: Vec<KvLayers> = Vec::new();
        for heads in kv_heads.iter().filter(|heads| **heads > 0) {
            let elements = heads.saturating_mul(head_dim.saturating_add(value_dim));
            match kv.iter_mut().find(|kv| kv.elements == elements) {
                Some(kv) => kv.layers += 1,
                None => kv.push(KvLayers { layers: 1, elements, window: None }),
            }
        }
        let (experts, experts_used) = (get("expert_count").unwrap_or(0), get("expert_used_count").unwrap_or(0));
        let (params, active_params) = counts(container.tensors(), experts.into(), experts_used.into());
        let vocab = container.tensors().iter().find(|t| t.name == Role::TokenEmbd.gguf_name(0)).map_or(0, |t| t.rows() as u32);
        Ok(Self {
            params,
            active_params,
            tied: is_tied(container.tensors()),
            hidden,
            layers,
            heads,
            kv_heads: kv_heads.iter().copied().max().unwrap_or(heads),
            head_dim,
            vocab,
            experts,
            experts_used,
            max_context: need("context_length")?,
            kv,
            source: "the file".into(),
            evidence: "read".into(),
            ..Self::nameless(container.name())
        }
        .with(architecture, container))
    }

    fn with(self, architecture: String, container: Container) -> Self {
        Self { architecture, model: Some(std::sync::Arc::new(container)), ..self }
    }

    /// Nothing but a name.
    fn nameless(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: id.to_owned(),
            aliases: Vec::new(),
            architecture: String::new(),
            params: 0,
            active_params: 0,
            hidden: 0,
            layers: 0,
            heads: 0,
            kv_heads: 0,
            head_dim: 0,
            vocab: 0,
            tied: false,
            experts: 0,
            experts_used: 0,
            max_context: 0,
            kv: Vec::new(),
            state_bytes: 0,
            source: String::new(),
            evidence: String::new(),
            note: String::new(),
            hparams: None,
            model: None,
            sizes: Sizes::default(),
        }
    }

    /// Whether it is a mixture of experts.
    pub fn is_moe(&self) -> bool {
        self.experts > 0
    }

    /// Bytes that one more token takes in the cache, while it is in every window; `kv_type` as keys and values are stored.
    pub fn kv_bytes_per_token(&self, kv_type: DType) -> f64 {
        self.kv.iter().map(|kv| f64::from(kv.layers) * f64::from(kv.elements)).sum::<f64>() * bytes_per_element(kv_type)
    }

    /// Bytes of keys and values that a token at position `depth` reads: all of those before it, but for windows.
    pub fn kv_bytes_read(&self, depth: u64, kv_type: DType) -> f64 {
        let seen = |kv: &KvLayers| kv.window.map_or(depth, |window| depth.min(window.into())) as f64;
        let numbers = |kv: &KvLayers| f64::from(kv.layers) * f64::from(kv.elements) * seen(kv);
        self.kv.iter().map(numbers).sum::<f64>() * bytes_per_element(kv_type) + self.state_bytes as f64
    }

    /// Numbers a token that llama.cpp has at once where a block is widest: gate, up and their product, of one network or of the
    /// experts that are used; with latent attention, queries as projected, rotated, compressed and joined. Found by the buffers
    /// that it prints. 0 where the shape is not known; the vocabulary is wider in all of those.
    pub(crate) fn widest_part(&self) -> u64 {
        let Some(h) = &self.hparams else { return 0 };
        let feed_forward = h.feed_forward_length.max().max(h.expert_used_count * h.expert_feed_forward_length);
        let latent =
            h.mla.map_or(0, |mla| h.head_count.max() * (mla.key_length + h.rope_dim + 2 * mla.kv_lora_rank + h.rope_dim));
        (3 * feed_forward).max(latent) as u64
    }

    /// Whether its tensors are known, so that sizes of its files are exact.
    pub fn has_shape(&self) -> bool {
        self.model.is_some()
    }
}

fn billions(b: f64) -> u64 {
    (b * 1e9).round() as u64
}

/// Bytes of a number in a row of that type.
pub(crate) fn bytes_per_element(dtype: DType) -> f64 {
    dtype.bits_per_weight() / 8.0
}

/// All weights, and those that take part in a token.
fn counts(tensors: &[Tensor], experts: u64, used: u64) -> (u64, u64) {
    let active = |t: &Tensor| if is_expert(&t.name) && experts > 0 { t.elements() / experts * used } else { t.elements() };
    (tensors.iter().map(Tensor::elements).sum(), tensors.iter().map(active).sum())
}

/// Whether no tensor but the embedding can be the output matrix.
fn is_tied(tensors: &[Tensor]) -> bool {
    !tensors.iter().any(|t| t.name == Role::Output.gguf_name(0))
}

/// Whether a tensor holds the matrices of all experts, of which a token uses some.
pub(crate) fn is_expert(name: &str) -> bool {
    name.contains("_exps.")
}

/// A key that holds one number, or one a block.
fn per_block(m: &Metadata, key: &str, blocks: u32) -> Option<Vec<u32>> {
    match m.get(key)? {
        Value::Array(Array::U32(v)) => Some(v.clone()),
        Value::Array(Array::I32(v)) => v.iter().map(|&v| u32::try_from(v).ok()).collect(),
        _ => m.u64(key).and_then(|v| u32::try_from(v).ok()).map(|v| vec![v; blocks as usize]),
    }
}

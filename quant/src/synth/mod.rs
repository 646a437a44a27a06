//! Models of a real shape with random weights, to time machines and tools without a download. A [`Synth`] is a source for
//! the quantizer whose rows are made when they are read, so a model of any size needs no more memory than a block of rows.
//!
//! The shape is a `config.json`'s content, so every architecture that can be converted can be synthesized. What is absent:
//! biases and other tensors a model can do without, but for those computed from the configuration, and any meaning: such a
//! model speaks noise, and its quality under a quantization says nothing of a trained model's.

mod repeated;
pub mod shape;
mod table;
mod vocab;
mod weights;

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::arch::{ArchSpec, Presence, TensorRule, matrix_of};
use crate::checkpoint::{Model, ModelOrigin, Source};
use crate::convert::config::Config;
use crate::convert::{FileType, architectures};
use crate::gguf::{Metadata, Value};
use crate::tensor::Tensor;
use crate::tensor_bytes::TensorBytes;
use crate::{DType, Error, HParams, Result};
pub use repeated::write_repeated;
pub use table::MODELS;
use weights::Distribution;

/// How matrices are stored before a recipe changes them.
const MATRIX_TYPE: DType = DType::F16;

/// A model of random weights. The same name, configuration and seed give the same bytes on every machine.
pub struct Synth {
    path: PathBuf,
    name: String,
    arch: &'static ArchSpec,
    metadata: Metadata,
    tensors: Vec<Tensor>,
    made: Vec<Made>,
    seed: u64,
    /// By name.
    index: HashMap<String, usize>,
}

/// Where the weights of a tensor come from.
enum Made {
    /// Drawn at random.
    Drawn(Distribution),
    /// Computed from the configuration.
    Computed(Vec<f32>),
}

impl Synth {
    /// The model of that name and configuration.
    ///
    /// # Errors
    /// [`Error::Key`] where the configuration asks for something not supported or its vocabulary has no room for all bytes.
    pub fn new(name: &str, config: &Config, seed: u64) -> Result<Self> {
        let mut metadata = Metadata::new();
        for (key, value) in [("architecture", config.arch.name), ("type", "model"), ("name", name)] {
            metadata.set(format!("general.{key}"), Value::String(value.to_owned()));
        }
        let computed = architectures::computed(config, &[], &mut metadata)?;
        architectures::add_keys(config, FileType::F16, &mut metadata)?;
        vocab::add_keys(config, &mut metadata)?;
        let h = HParams::from_metadata(&config.path, config.arch, &metadata)?;

        let (tensors, made, index) = (Vec::new(), Vec::new(), HashMap::new());
        let mut synth =
            Self { path: config.path.clone(), name: name.to_owned(), arch: config.arch, metadata, tensors, made, seed, index };
        for computed in computed {
            let shape = vec![computed.values.len()];
            synth.add(Tensor { name: computed.role.gguf_name(0), dtype: DType::F32, shape }, Made::Computed(computed.values));
        }
        let has_head = |rule: &TensorRule| rule.presence == Presence::TiedToTokenEmbd && !config.tie_word_embeddings;
        let mut stated = Vec::new();
        for key in config.arch.stated {
            if config.keys().bool(key.key)?.unwrap_or(key.default) {
                stated.extend(key.roles);
            }
        }
        let mut spared = Vec::new();
        for key in config.arch.spared {
            if config.keys().bool(key.key)?.unwrap_or(key.default) {
                spared.push(key);
            }
        }
        for rule in config.arch.tensors {
            let blocks = if rule.role.per_block() { h.stored_block_count() } else { 1 };
            let has_matrix = |synth: &Self, block: usize| {
                matrix_of(rule.role).is_none_or(|role| synth.index.contains_key(&role.gguf_name(block)))
            };
            let is_stated = |block: usize| stated.contains(&rule.role) && rule.presence.misplaced(&h, block).is_none();
            let is_spared = |block: usize| spared.iter().any(|key| key.role == rule.role && (key.of)(&h, block));
            let is_stored = |block: usize| rule.presence.stored(&h, block) && !is_spared(block);
            for block in (0..blocks).filter(|&block| is_stored(block) || has_head(rule) || is_stated(block)) {
                let (name, shape) = (rule.role.gguf_name(block), rule.shape(&h, block));
                // A role can have two rules, for two forms in which files hold it.
                if synth.index.contains_key(&name) || !has_matrix(&synth, block) {
                    continue;
                }
                let dtype = if shape.len() > 1 { MATRIX_TYPE } else { DType::F32 };
                let tensor = Tensor { name, dtype, shape };
                let drawn = Made::Drawn(Distribution::of(&tensor, seed));
                synth.add(tensor, drawn);
            }
        }
        Ok(synth)
    }

    fn add(&mut self, tensor: Tensor, made: Made) {
        self.index.insert(tensor.name.clone(), self.tensors.len());
        self.tensors.push(tensor);
        self.made.push(made);
    }

    /// Its hyper-parameters.
    ///
    /// # Errors
    /// As [`Synth::new`], which read them before.
    pub fn hparams(&self) -> Result<HParams> {
        HParams::from_metadata(&self.path, self.arch, &self.metadata)
    }

    /// Weights of all tensors together.
    pub fn parameter_count(&self) -> u64 {
        self.tensors.iter().map(Tensor::elements).sum()
    }
}

impl Source for Synth {
    fn path(&self) -> &Path {
        &self.path
    }

    fn files(&self) -> &[PathBuf] {
        &[]
    }

    fn identity(&self) -> Vec<u8> {
        let computed = self.made.iter().flat_map(|made| match made {
            Made::Drawn(_) => &[][..],
            Made::Computed(values) => values,
        });
        self.seed.to_le_bytes().into_iter().chain(computed.flat_map(|value| value.to_le_bytes())).collect()
    }

    fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    fn read(&self, tensor: &Tensor, rows: Range<usize>) -> Result<TensorBytes> {
        let error = |what: String| Error::tensor(&self.path, &tensor.name, what);
        let &i = self.index.get(&tensor.name).ok_or_else(|| error("there is no such tensor".to_owned()))?;
        let own = &self.tensors[i];
        if rows.start > rows.end || rows.end > own.rows() {
            return Err(error(format!("has {} rows; rows {} to {} were asked for", own.rows(), rows.start, rows.end)));
        }
        let cols = own.cols();
        let row_bytes = own.dtype.row_bytes(cols).ok_or_else(|| error(format!("rows of {cols} weights are too long")))?;
        let mut bytes = vec![0; rows.len() * row_bytes];
        let mut weights = vec![0.0; cols];
        for (row, bytes) in rows.zip(bytes.chunks_exact_mut(row_bytes)) {
            match &self.made[i] {
                Made::Drawn(distribution) => distribution.draw(row, &mut weights),
                Made::Computed(values) => weights.copy_from_slice(values),
            }
            own.dtype.encode_row(&weights, None, bytes);
        }
        Ok(TensorBytes::Owned(bytes))
    }
}

/// As llama-quantize would meet the model's F16 file.
impl Model for Synth {
    fn name(&self) -> &str {
        &self.name
    }

    fn origin(&self) -> ModelOrigin {
        ModelOrigin::Gguf
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn output_metadata(&self) -> Result<Metadata> {
        Ok(self.metadata.clone())
    }
}

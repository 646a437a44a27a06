//! A model in memory for the tests of the quantizer.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bitworth_quant::checkpoint::{Tensor, TensorBytes};
use bitworth_quant::gguf::{GgufFile, Metadata};
use bitworth_quant::plan::{ModelOrigin, PlanEntry, PlanInput, PlanOptions};
use bitworth_quant::quantize::{Output, Source, Split, quantized_metadata};
use bitworth_quant::recipe::ModelFacts;
use bitworth_quant::{DType, Plan, Recipe, Result};

/// A model in memory.
pub struct Memory {
    pub tensors: Vec<Tensor>,
    pub bytes: BTreeMap<String, Vec<u8>>,
    /// Files it claims to be read from.
    pub files: Vec<PathBuf>,
    /// What was read, in order.
    pub reads: Mutex<Vec<(String, Range<usize>)>>,
    /// See [`Source::identity`].
    pub identity: Vec<u8>,
}

impl Memory {
    pub fn new(tensors: Vec<(Tensor, Vec<u8>)>) -> Self {
        let bytes = tensors.iter().map(|(t, bytes)| (t.name.clone(), bytes.clone())).collect();
        let tensors = tensors.into_iter().map(|(t, _)| t).collect();
        Self { tensors, bytes, files: Vec::new(), reads: Mutex::default(), identity: Vec::new() }
    }

    pub fn of_file(file: &GgufFile) -> Self {
        let tensor = |t: &bitworth_quant::gguf::TensorEntry| {
            (Tensor { name: t.name.clone(), dtype: t.dtype, shape: t.shape.clone() }, file.bytes(t).to_vec())
        };
        Self::new(file.tensors.iter().map(tensor).collect())
    }

    /// Matrices of F32, `rows` by 256, with weights that differ from row to row.
    pub fn of_matrices(names: &[&str], rows: usize) -> Self {
        let matrix = |(i, name): (usize, &&str)| {
            let weight = |k: usize| ((k * 2654435761 + i) % 65521) as f32 / 65521.0 - 0.5;
            let bytes = (0..rows * 256).flat_map(|k| weight(k).to_le_bytes()).collect();
            (Tensor { name: (*name).to_owned(), dtype: DType::F32, shape: vec![256, rows] }, bytes)
        };
        Self::new(names.iter().enumerate().map(matrix).collect())
    }

    pub fn set(&mut self, tensor: &str, weight: usize, value: f32) {
        self.bytes.get_mut(tensor).unwrap()[4 * weight..4 * weight + 4].copy_from_slice(&value.to_le_bytes());
    }
}

impl Source for Memory {
    fn path(&self) -> &Path {
        Path::new("memory")
    }

    fn files(&self) -> &[PathBuf] {
        &self.files
    }

    fn identity(&self) -> Vec<u8> {
        self.identity.clone()
    }

    fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    fn read(&self, tensor: &Tensor, rows: Range<usize>) -> Result<TensorBytes> {
        self.reads.lock().unwrap().push((tensor.name.clone(), rows.clone()));
        let bytes = &self.bytes[&tensor.name];
        let row = bytes.len() / tensor.rows();
        Ok(TensorBytes::Owned(bytes[rows.start * row..rows.end * row].to_vec()))
    }
}

/// What a recipe makes of the model, for the file at `path`.
pub fn output(source: &Memory, recipe: &str, path: &Path, metadata: &Metadata) -> Output {
    output_by(source, recipe, path, metadata, &PlanOptions::default())
}

/// The same with options. Blocks are as many as the metadata say, or two.
pub fn output_by(source: &Memory, recipe: &str, path: &Path, metadata: &Metadata, choices: &PlanOptions) -> Output {
    let recipe = Recipe::find(recipe).unwrap();
    let block_count = metadata.u64("llama.block_count").map_or(2, |n| n as usize);
    let model = ModelFacts { arch: "llama".into(), block_count, head_count: 4, head_count_kv: 2, expert_count: 0 };
    let input = PlanInput { path: source.path(), origin: ModelOrigin::Gguf, model: &model, tensors: &source.tensors };
    let plan = Plan::new(&input, &recipe, choices).unwrap();
    Output { plan, path: path.to_owned(), metadata: quantized_metadata(metadata, &recipe), imatrix: None, split: Split::None }
}

/// The model with every tensor in the encoding that `to` gives it, for the file at `path`.
pub fn output_of(source: &Memory, path: &Path, to: impl Fn(&Tensor) -> DType) -> Output {
    let entry = |t: &Tensor| PlanEntry {
        tensor: t.name.clone(),
        renamed_from: None,
        shape: t.shape.clone(),
        from: t.dtype,
        to: to(t),
        reason: "a test".into(),
        needs_imatrix: false,
    };
    let mut made = output(source, "f32", path, &Metadata::new());
    made.plan.entries = source.tensors.iter().map(entry).collect();
    made
}

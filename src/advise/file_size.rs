//! The size of a file as a value: by encoding, and how much of it a token reads. Absent: how it is found (see `sizes`).

use bitworth_quant::DType;
use serde::Serialize;

/// Bytes of one tensor type.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TypeBytes {
    /// The encoding.
    #[serde(serialize_with = "by_name")]
    pub dtype: DType,
    /// Bytes in the file.
    pub bytes: u64,
    /// Bytes that one token reads: of matrices of experts the part that it uses, of embeddings that are not the output matrix
    /// too one row.
    pub read: u64,
    /// Of these, the experts'.
    pub read_experts: u64,
}

fn by_name<S: serde::Serializer>(dtype: &DType, s: S) -> std::result::Result<S::Ok, S::Error> {
    s.serialize_str(dtype.name())
}

/// The size of a file that a recipe makes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FileSize {
    /// The recipe's name.
    pub recipe: String,
    /// The whole file: header, tensors, padding.
    pub file_bytes: u64,
    /// The tensors alone.
    pub tensor_bytes: u64,
    /// Weights.
    pub weights: u64,
    /// By encoding, most bytes first.
    pub types: Vec<TypeBytes>,
    /// Bytes of embeddings that are looked up and not multiplied; runtimes leave them in the host's memory.
    pub lookup_bytes: u64,
    /// Whether it comes from the model's own tensors.
    pub exact: bool,
    pub(crate) experts: u32,
    pub(crate) experts_used: u32,
}

impl FileSize {
    /// Mean bits a weight, scales included, header not.
    pub fn bits_per_weight(&self) -> f64 {
        8.0 * self.tensor_bytes as f64 / self.weights as f64
    }

    /// Bytes of weights that one token reads.
    pub fn read_per_token(&self) -> u64 {
        self.types.iter().map(|t| t.read).sum()
    }

    /// Bytes of weights that a step over `batch` tokens reads, where each chooses its experts at random: of E experts, U a
    /// token, `E (1 - (1 - U/E)^batch)` are used by some.
    pub fn read_per_step(&self, batch: u32) -> f64 {
        let (all, one) = (f64::from(self.experts), f64::from(self.experts_used));
        let times = if one > 0.0 { all * (1.0 - (1.0 - one / all).powf(f64::from(batch))) / one } else { 1.0 };
        self.types.iter().map(|t| (t.read - t.read_experts) as f64 + t.read_experts as f64 * times).sum()
    }
}

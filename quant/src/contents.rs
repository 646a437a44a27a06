//! What a model's file or folder holds, whichever kind it is: metadata and tensors, and what kind of model it is. Absent: how it
//! is shown.

use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::checkpoint::Model;
use crate::gguf::{GgufFile, Metadata, TensorEntry};
use crate::hex::hex;
use crate::{About, Checkpoint, Result};

/// A tensor in a listing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorRow {
    /// Its name.
    pub name: String,
    /// Its encoding.
    #[serde(rename = "type")]
    pub dtype: &'static str,
    /// Its dimensions, as GGUF has them.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub bytes: usize,
    /// SHA-256 of them, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// What there is to show, whichever kind of source it comes from.
#[derive(Debug)]
pub struct Contents {
    /// `GGUF version 3` or the like.
    pub kind: String,
    /// The version of a GGUF file.
    pub version: Option<u32>,
    /// The metadata.
    pub metadata: Metadata,
    /// The tensors.
    pub rows: Vec<TensorRow>,
    /// Absent where the file holds no model, or one of an architecture that is not known here.
    pub about: Option<About>,
}

impl Contents {
    /// Of a GGUF file of any kind, or of a Hugging Face directory as the file of floats that is made of it; with the hash of
    /// every tensor's bytes where `hash` asks for it.
    ///
    /// # Errors
    /// What cannot be opened or read.
    pub fn of(path: &Path, hash: bool) -> Result<Self> {
        if path.is_dir() { Self::of_directory(path, hash) } else { Self::of_gguf(path, hash) }
    }

    /// Weights of all tensors.
    pub fn weights(&self) -> u64 {
        self.rows.iter().map(|row| row.shape.iter().map(|&d| d as u64).product::<u64>()).sum()
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.rows.iter().map(|row| row.bytes as u64).sum()
    }

    /// Bits per weight over all tensors.
    pub fn bits_per_weight(&self) -> f64 {
        8.0 * self.bytes() as f64 / self.weights().max(1) as f64
    }

    fn of_gguf(path: &Path, hash: bool) -> Result<Self> {
        let file = GgufFile::open(path)?;
        let row = |tensor: &TensorEntry| TensorRow {
            name: tensor.name.clone(),
            dtype: tensor.dtype.name(),
            shape: tensor.shape.clone(),
            bytes: tensor.bytes,
            sha256: hash.then(|| hex(&Sha256::digest(&*file.bytes(tensor)))),
        };
        let rows = file.tensors.iter().map(row).collect();
        // An importance matrix, a projector or an architecture of tomorrow is listed all the same.
        let about = Checkpoint::open(path).ok().map(|checkpoint| About::of(&checkpoint));
        let kind = format!("GGUF version {}", file.version);
        Ok(Self { kind, version: Some(file.version), metadata: file.metadata.clone(), rows, about })
    }

    fn of_directory(path: &Path, hash: bool) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        // As the file of floats that is made of it has them.
        let kept = checkpoint.kept();
        let tensors = kept.map_or(checkpoint.tensors(), |kept| kept.tensors());
        let metadata = kept.map_or(checkpoint.metadata(), |kept| kept.metadata()).clone();
        let mut rows = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let whole = 0..tensor.rows();
            let bytes = tensor.dtype.row_bytes(tensor.cols()).unwrap_or(0) * tensor.rows();
            let sha256 = if hash { Some(hex(&Sha256::digest(&*checkpoint.read(tensor, whole)?))) } else { None };
            rows.push(TensorRow {
                name: tensor.name.clone(),
                dtype: tensor.dtype.name(),
                shape: tensor.shape.clone(),
                bytes,
                sha256,
            });
        }
        let kind = "Hugging Face directory, as GGUF".to_owned();
        let about = Some(About::of(&checkpoint));
        Ok(Self { kind, version: None, metadata, rows, about })
    }
}

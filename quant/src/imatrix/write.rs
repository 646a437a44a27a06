//! Writing the two file formats of `llama-imatrix`, as `save_imatrix` and `save_imatrix_legacy` of llama.cpp's
//! tools/imatrix/imatrix.cpp (b11434) lay them out. What is absent: the statistics that newer ones put into the file; they
//! follow from the sums (`stats`).

use std::path::Path;

use super::Sums;
use super::read::{ACTIVATIONS, CHUNK_COUNT_KEY, CHUNK_SIZE_KEY, COUNTS, DATASETS_KEY, SQUARES};
use crate::atomic_file::write_whole;
use crate::gguf::{Array, GgufWriter, Layout, Metadata, TensorSpec, Value};
use crate::{DType, Error, Result};

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImatrixFormat {
    /// GGUF.
    Gguf,
    /// The older format, without sums of activations and without counts of experts.
    Dat,
}

impl Sums {
    /// Writes the file, which appears under its name only when it is whole.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Tensor`] for a name that GGUF cannot hold; [`Error::File`] for more than the older format can
    /// count.
    pub fn write(&self, path: &Path, format: ImatrixFormat) -> Result<()> {
        match format {
            ImatrixFormat::Gguf => self.write_gguf(path),
            ImatrixFormat::Dat => self.write_dat(path),
        }
    }

    fn write_gguf(&self, path: &Path) -> Result<()> {
        let mut metadata = Metadata::new();
        metadata.set("general.type", Value::String("imatrix".into()));
        metadata.set(DATASETS_KEY, Value::Array(Array::String(self.datasets.clone())));
        metadata.set(CHUNK_COUNT_KEY, Value::U32(self.chunk_count()));
        metadata.set(CHUNK_SIZE_KEY, Value::U32(self.chunk_size));
        let (mut specs, mut values) = (Vec::new(), Vec::new());
        for (name, entry) in &self.entries {
            let matrices = entry.counts.len();
            let mut put = |suffix: &str, numbers: Vec<f32>| {
                let columns = numbers.len() / matrices;
                // ggml does not write a trailing dimension of 1.
                let shape = if matrices == 1 { vec![columns] } else { vec![columns, matrices] };
                specs.push(TensorSpec { name: format!("{name}{suffix}"), dtype: DType::F32, shape });
                values.push(numbers);
            };
            put(SQUARES, narrow(&entry.squares));
            put(COUNTS, entry.counts.iter().map(|&count| count as f32).collect());
            if let Some(activations) = &entry.activations {
                put(ACTIVATIONS, narrow(activations));
            }
        }
        let mut writer = GgufWriter::create(path, Layout::new(path, &metadata, &specs)?)?;
        for (i, numbers) in values.iter().enumerate() {
            writer.write(i, 0, &bytes(numbers))?;
        }
        writer.commit()?;
        Ok(())
    }

    /// Each value is the mean times the calls: the largest count in chunks, rounded up. Matrices that no row went to get ones.
    fn write_dat(&self, path: &Path) -> Result<()> {
        let number =
            |n: u64| i32::try_from(n).map_err(|_| Error::file(path, "has more than the older format can count; use GGUF"));
        let mut out = number(self.entries.len() as u64)?.to_le_bytes().to_vec();
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend(number(text.len() as u64)?.to_le_bytes());
            out.extend(text.as_bytes());
            Ok::<_, Error>(())
        };
        for (name, entry) in &self.entries {
            let calls = entry.counts.iter().max().copied().unwrap_or(0).div_ceil(u64::from(self.chunk_size.max(1)));
            text(&mut out, name)?;
            out.extend(number(calls)?.to_le_bytes());
            out.extend(number(entry.squares.len() as u64)?.to_le_bytes());
            let columns = entry.squares.len() / entry.counts.len();
            for (row, &count) in entry.squares.chunks_exact(columns).zip(&entry.counts) {
                let mean = |sum: f64| if count == 0 { 1.0 } else { (sum as f32) / (count as f32) };
                out.extend(bytes(&row.iter().map(|&sum| mean(sum) * calls as f32).collect::<Vec<_>>()));
            }
        }
        out.extend(number(u64::from(self.chunk_count()))?.to_le_bytes());
        text(&mut out, self.datasets.last().map_or("", String::as_str))?;
        write_whole(path, &out)
    }
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

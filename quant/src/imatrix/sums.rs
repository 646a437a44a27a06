//! Sums of squared activations with their counts: what an importance matrix is made of, and what can be added up over texts and
//! files. What is absent: running a model (the engine does) and the file formats (`read`, `write`).

use std::collections::BTreeMap;
use std::path::Path;

use super::read;
use crate::message::Message;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// What was collected for one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Sums of squares by column, for tensors of several matrices one run of columns after another.
    pub squares: Vec<f64>,
    /// Sums of the activations themselves, in the same order; files of older programs lack them.
    pub activations: Option<Vec<f64>>,
    /// Numbers of summands: one for all matrices, or one for each (experts).
    pub counts: Vec<u64>,
}

/// Importance before division: by tensor name, with what is known of the texts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sums {
    /// By tensor name.
    pub entries: BTreeMap<String, Entry>,
    /// The names of the texts.
    pub datasets: Vec<String>,
    /// Tokens in a chunk of text.
    pub chunk_size: u32,
}

impl Sums {
    /// Reads a file of `llama-imatrix` or of ours. The older format counts chunks: they are taken to have had `chunk_size`
    /// tokens each, as llama-imatrix takes them.
    ///
    /// # Errors
    /// As [`Imatrix::open`](super::Imatrix::open); [`Error::Tensor`] for an entry that does not say how much it was collected
    /// on.
    pub fn open(path: &Path, chunk_size: u32) -> Result<Self> {
        let raw = read::open(path)?;
        let factor = if raw.chunk_size.is_none() { f64::from(chunk_size) } else { 1.0 };
        let mut entries = BTreeMap::new();
        for (name, entry) in raw.entries {
            super::check_weights(path, &name, &entry.squares)?;
            let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v) * factor).collect::<Vec<f64>>();
            if entry.activations.iter().flatten().any(|v| !v.is_finite()) {
                return Err(Error::tensor(path, name, "a sum of activations is infinite or not a number; collect it again"));
            }
            if entry.counts.iter().all(|&count| count <= 0.0) {
                return Err(Error::tensor(
                    path,
                    name,
                    "does not say how much it was collected on, so it cannot be added to others",
                ));
            }
            let counts = entry.counts.iter().map(|&count| (f64::from(count) * factor) as u64).collect();
            let activations = entry.activations.as_deref().map(wide);
            entries.insert(name, Entry { squares: wide(&entry.squares), activations, counts });
        }
        let chunk_size = raw.chunk_size.filter(|&size| size > 0).unwrap_or(chunk_size);
        Ok(Self { entries, datasets: raw.datasets, chunk_size })
    }

    /// Adds what was read from `path`, column by column. Sums of activations stay where both have them. A single count stands
    /// for each matrix where the other has one for each.
    ///
    /// # Errors
    /// [`Error::Tensor`] where the sizes differ, [`Error::File`] where no tensor is in both.
    pub fn add(&mut self, other: Self, path: &Path) -> Result<()> {
        if !self.entries.is_empty() && !other.entries.keys().any(|name| self.entries.contains_key(name)) {
            return Err(Error::file(path, "has no tensor in common with what it is to be added to; it is another model's"));
        }
        for (name, entry) in other.entries {
            match self.entries.get_mut(&name) {
                None => {
                    self.entries.insert(name, entry);
                }
                Some(sum) => sum.add(entry).map_err(|what| Error::tensor(path, name, what))?,
            }
        }
        self.datasets.extend(other.datasets);
        if self.chunk_size == 0 {
            self.chunk_size = other.chunk_size;
        }
        Ok(())
    }

    /// Refuses sums that are not of a model with these tensors; `path` is where they are from.
    ///
    /// # Errors
    /// [`Error::Tensor`] for an entry of another size than the model's tensor, [`Error::File`] where no tensor is the model's.
    pub fn check_model(&self, path: &Path, tensors: &[Tensor]) -> Result<()> {
        let known: Vec<_> = tensors.iter().filter_map(|t| Some((t, self.entries.get(&t.name)?))).collect();
        if known.is_empty() {
            return Err(Error::file(path, "none of its entries is of a tensor of this model; it is another model's"));
        }
        for (t, entry) in known {
            let (columns, matrices) = (t.cols(), t.shape.iter().skip(2).product::<usize>());
            if entry.squares.len() != columns * matrices || ![1, matrices].contains(&entry.counts.len()) {
                let what = format!(
                    "has {} sums and {} counts, but the model's has {columns} columns in {matrices} matrices; it is another \
                     model's",
                    entry.squares.len(),
                    entry.counts.len()
                );
                return Err(Error::tensor(path, &t.name, what));
            }
        }
        Ok(())
    }

    /// On how many chunks: the largest count in chunks, to the nearest, as llama-imatrix counts them.
    pub fn chunk_count(&self) -> u32 {
        let largest = self.entries.values().flat_map(|entry| &entry.counts).max().copied().unwrap_or(0);
        let size = u64::from(self.chunk_size.max(1));
        u32::try_from((largest + size / 2) / size).unwrap_or(u32::MAX)
    }

    /// Which experts no token reached, in words: they count as if all their columns mattered alike.
    pub fn unreached_note(&self) -> Option<String> {
        let lacking = |counts: &[u64]| counts.iter().filter(|count| **count == 0).count();
        let partial: Vec<_> = self.entries.iter().filter(|(_, entry)| lacking(&entry.counts) > 0).collect();
        let (name, entry) = partial.first()?;
        let (tensors, none, all) = (partial.len(), lacking(&entry.counts), entry.counts.len());
        Some(format!(
            "{tensors} tensors have experts that no token reached, as {name} ({none} of {all}); a longer text may reach them"
        ))
    }
}

impl Entry {
    fn add(&mut self, other: Self) -> Result<(), Message> {
        if self.squares.len() != other.squares.len() {
            return Err(format!(
                "has {} sums, but {} are there already; it is another model's",
                other.squares.len(),
                self.squares.len()
            )
            .into());
        }
        let counts = match (self.counts.len(), other.counts.len()) {
            (a, b) if a == b => a.max(b),
            (1, n) | (n, 1) => n,
            (a, b) => return Err(format!("has {b} counts, but {a} are there already; it is another model's").into()),
        };
        let count = |counts: &[u64], i: usize| if counts.len() == 1 { counts[0] } else { counts[i] };
        self.counts = (0..counts).map(|i| count(&self.counts, i).saturating_add(count(&other.counts, i))).collect();
        let sum = |a: &mut [f64], b: &[f64]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        sum(&mut self.squares, &other.squares);
        self.activations = self.activations.take().zip(other.activations).map(|(mut a, b)| {
            sum(&mut a, &b);
            a
        });
        Ok(())
    }

    /// For each matrix that rows went to: its columns' sums of squares, the same of activations, and its count.
    pub fn matrices(&self) -> impl Iterator<Item = (&[f64], Option<&[f64]>, f64)> {
        let columns = (self.squares.len() / self.counts.len().max(1)).max(1);
        let squares = self.squares.chunks_exact(columns).zip(&self.counts).enumerate();
        squares.filter(|(_, (_, count))| **count > 0).map(move |(i, (squares, &count))| {
            let activations = self.activations.as_ref().map(|values| &values[i * columns..][..columns]);
            (squares, activations, count as f64)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_that_no_token_reached_are_counted() {
        let entry = |counts: &[u64]| Entry { squares: vec![1.0; counts.len()], activations: None, counts: counts.to_vec() };
        let of = |all: &[(&str, &[u64])]| {
            let entries = all.iter().map(|(name, counts)| ((*name).to_owned(), entry(counts))).collect();
            Sums { entries, ..Sums::default() }.unreached_note()
        };
        assert_eq!(of(&[("a", &[3]), ("b", &[1, 2])]), None);
        let note = of(&[("a", &[3]), ("b", &[0, 2, 0]), ("c", &[0, 1])]).unwrap();
        assert!(note.starts_with("2 tensors have experts") && note.contains("as b (2 of 3);"), "{note}");
    }
}

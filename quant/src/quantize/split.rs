//! Cutting an output into several files, as llama.cpp's converter and quantizer do. What is absent: the
//! files (see `parts`).

use std::collections::HashSet;
use std::path::Path;

use crate::gguf::GgufFile;
use crate::plan::PlanEntry;
use crate::{Plan, Result};

/// How an output is cut into files. Parts are named `STEM-00001-of-00003.gguf`, where STEM is the output's name without
/// `.gguf`. All metadata stand in the first part; every part has the three `split.` keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Split {
    /// One file under the output's own name.
    #[default]
    None,
    /// As llama.cpp's converter (`--split-max-size`, `--split-max-tensors`): a part ends before the tensor that would take it
    /// over a limit; a tensor larger than the limit has a part of its own. Where everything fits, there is one file under the
    /// output's own name.
    Limits {
        /// Most bytes of tensors in a part, without header and padding.
        max_bytes: Option<u64>,
        /// Most tensors in a part.
        max_tensors: Option<usize>,
        /// Whether the first part holds the metadata and no tensor (`--no-tensor-first-split`).
        metadata_alone: bool,
    },
    /// As llama-quantize `--keep-split`: so many tensors in each part. Parts are named so even where there is only one, and
    /// one alone has no `split.` keys.
    Like(Vec<usize>),
}

impl Split {
    /// The parts of the GGUF model at `path` (one file, or any of a split model), of which `plan` keeps all tensors or some.
    /// Parts at the end that keep none go away.
    ///
    /// # Errors
    /// As [`GgufFile::open`].
    pub fn like(path: &Path, plan: &Plan) -> Result<Self> {
        let file = GgufFile::open(path)?;
        let kept: HashSet<&str> = plan.entries.iter().map(PlanEntry::source).collect();
        let mut counts = vec![0; file.files().count()];
        file.tensors.iter().filter(|t| kept.contains(t.name.as_str())).for_each(|t| counts[t.shard] += 1);
        counts.truncate(counts.iter().rposition(|&count| count > 0).map_or(1, |last| last + 1));
        Ok(Self::Like(counts))
    }

    /// How many tensors each part has.
    pub(super) fn counts(&self, plan: &Plan) -> Vec<usize> {
        let (max_bytes, max_tensors, metadata_alone) = match self {
            Self::None => return vec![plan.entries.len()],
            Self::Like(counts) => return counts.clone(),
            Self::Limits { max_bytes, max_tensors, metadata_alone } => (max_bytes, max_tensors, *metadata_alone),
        };
        let (mut counts, mut bytes) = (vec![0], 0);
        if metadata_alone {
            counts.push(0);
        }
        for entry in &plan.entries {
            let part = counts.len() - 1;
            let over = max_bytes.is_some_and(|max| bytes + entry.bytes() > max);
            if counts[part] > 0 && (over || max_tensors.is_some_and(|max| counts[part] >= max)) {
                counts.push(1);
                bytes = entry.bytes();
            } else {
                counts[part] += 1;
                bytes += entry.bytes();
            }
        }
        counts
    }
}

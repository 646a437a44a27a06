//! Typed access to the metadata keys of one model, with errors that name the key.
//!
//! Absent: which keys there are and what they mean.

use std::path::Path;

use super::{OWN_PREFIX, PerBlock};
use crate::arch::{ArchSpec, Shapes};
use crate::gguf::{Array, Metadata, Value};
use crate::{Error, Result};

/// The largest sizes that are believed; a file that claims more is broken or hostile. They keep every product of two sizes
/// below 2^53.
pub(super) const MAX_BLOCKS: u64 = 1 << 12;
pub(super) const MAX_WIDTH: u64 = 1 << 24;
pub(super) const MAX_VOCAB: u64 = 1 << 26;
pub(super) const MAX_CONTEXT: u64 = 1 << 26;
pub(super) const MAX_EXPERTS: u64 = 1 << 16;

/// The metadata with what messages need.
pub(super) struct MetadataReader<'a> {
    pub(super) path: &'a Path,
    pub(super) arch: &'a ArchSpec,
    pub(super) metadata: &'a Metadata,
}

impl MetadataReader<'_> {
    /// The key of a stem: our own where it is there, else the architecture's.
    pub(super) fn key(&self, stem: &str) -> String {
        let own = format!("{OWN_PREFIX}{stem}");
        if self.metadata.get(&own).is_some() { own } else { self.arch.key(stem) }
    }

    pub(super) fn error(&self, stem: &str, what: impl Into<crate::message::Message>) -> Error {
        Error::key(self.path, self.key(stem), what)
    }

    pub(super) fn get(&self, stem: &str) -> Option<&Value> {
        self.metadata.get(&self.key(stem))
    }

    pub(super) fn bool(&self, stem: &str) -> Result<Option<bool>> {
        match self.get(stem) {
            None => Ok(None),
            Some(Value::Bool(v)) => Ok(Some(*v)),
            Some(_) => Err(self.error(stem, "is not true or false")),
        }
    }

    /// One truth value a block.
    pub(super) fn blocks(&self, stem: &str, count: usize) -> Result<Option<Vec<bool>>> {
        match self.get(stem) {
            None => Ok(None),
            Some(Value::Array(Array::Bool(v))) if v.len() == count => Ok(Some(v.clone())),
            Some(_) => Err(self.error(stem, format!("is not a list of {count} truth values, one for each block"))),
        }
    }

    /// A factor of 0 or more, `absent` where the key is absent.
    pub(super) fn factor(&self, stem: &str, absent: f32) -> Result<f32> {
        match self.get(stem).map(|_| self.metadata.f32(&self.key(stem))) {
            None => Ok(absent),
            // llama.cpp takes 0 for "not there".
            Some(Some(0.0)) => Ok(absent),
            Some(Some(v)) if v.is_finite() && v > 0.0 => Ok(v),
            Some(Some(v)) => Err(self.error(stem, format!("is {v}, but must be a finite number of 0 or more"))),
            Some(None) => Err(self.error(stem, "is not a floating-point number")),
        }
    }

    /// A number from 0 to `max`, or `None` where the key is absent.
    pub(super) fn count(&self, stem: &str, max: u64) -> Result<Option<usize>> {
        let Some(value) = self.get(stem) else { return Ok(None) };
        if let Value::Array(_) = value {
            return Err(self.error(stem, "differs from block to block, which is not supported"));
        }
        let size = self.metadata.u64(&self.key(stem)).ok_or_else(|| self.error(stem, "is not a whole number of 0 or more"))?;
        if size > max {
            return Err(self.error(stem, format!("is {size}, but must lie between 1 and {max}")));
        }
        usize::try_from(size).map(Some).map_err(|_| self.error(stem, format!("{size} is too large for this machine")))
    }

    /// A number from 1 to `max` for all blocks, or one from 0 to `max` for each where the architecture has such files; `None`
    /// where the key is absent.
    pub(super) fn sizes(&self, stem: &str, max: u64, blocks: usize) -> Result<Option<PerBlock<usize>>> {
        let (Some(Value::Array(list)), Shapes::ByBlock) = (self.get(stem), self.arch.block.shapes) else {
            return Ok(self.optional_size(stem, max)?.map(PerBlock::uniform));
        };
        let size = |number: i64| usize::try_from(number).ok().filter(|&size| size as u64 <= max);
        let sizes: Option<Vec<usize>> = match list {
            Array::I32(list) => list.iter().map(|&number| size(number.into())).collect(),
            Array::U32(list) => list.iter().map(|&number| size(number.into())).collect(),
            _ => None,
        };
        let sizes = sizes.filter(|sizes| sizes.len() == blocks).and_then(PerBlock::each);
        let what = || format!("is not a list of {blocks} whole numbers up to {max}, one for each block");
        sizes.map(Some).ok_or_else(|| self.error(stem, what()))
    }

    /// A size from 1 to `max`, or `None` where the key is absent.
    pub(super) fn optional_size(&self, stem: &str, max: u64) -> Result<Option<usize>> {
        match self.count(stem, max)? {
            Some(0) => Err(self.error(stem, format!("is 0, but must lie between 1 and {max}"))),
            size => Ok(size),
        }
    }

    pub(super) fn size(&self, stem: &str, max: u64) -> Result<usize> {
        self.optional_size(stem, max)?.ok_or_else(|| self.error(stem, "is missing"))
    }

    /// A finite number above 0, or `None` where the key is absent.
    pub(super) fn positive(&self, stem: &str) -> Result<Option<f32>> {
        if self.get(stem).is_none() {
            return Ok(None);
        }
        match self.metadata.f32(&self.key(stem)) {
            Some(v) if v.is_finite() && v > 0.0 => Ok(Some(v)),
            Some(v) => Err(self.error(stem, format!("is {v}, but must be a finite number above 0"))),
            None => Err(self.error(stem, "is not a floating-point number")),
        }
    }
}

//! One architecture as a value: the names it goes by, its tensors, what its block computes, and which keys of `config.json`
//! conversion understands for it.
//!
//! Absent: the architectures themselves (one file each) and what conversion writes for them (see `crate::convert`).

use std::borrow::Cow;

use super::class::HfClass;
use super::role::{Numbers, Role, match_pattern};
use super::rule::TensorRule;
use super::traits::{BLOCK, BlockTraits};
use crate::HParams;

/// One architecture.
#[derive(Debug)]
pub struct ArchSpec {
    /// `general.architecture` in a GGUF file, and the prefix of its metadata keys.
    pub name: &'static str,
    /// The classes that `config.json` can name (`architectures[0]`).
    pub hf: &'static [HfClass],
    /// What files may leave out at the beginning of names (GPT-2's bare model is published without the name of its wrapper).
    pub prefix: &'static str,
    /// Every tensor the architecture can have. Those that come from one file tensor are written in this order.
    pub tensors: &'static [TensorRule],
    /// What its block computes.
    pub block: BlockTraits,
    /// Keys of `config.json` that would change the result and that only the values listed leave alone.
    pub neutral: &'static [NeutralKey],
    /// Keys that are refused for most architectures and that this one's conversion understands.
    pub understood: &'static [&'static str],
    /// Keys of `config.json` that say which optional tensors there are.
    pub stated: &'static [Stated],
    /// Keys of `config.json` that say which blocks do without a tensor.
    pub spared: &'static [Spared],
    /// What becomes of blocks that predict further tokens.
    pub mtp: MtpBlocks,
    /// Names of tensors that become metadata, the first `{}` for the block.
    pub as_metadata: &'static [&'static str],
    /// Tensors of the safetensors files of tied models that conversion leaves out, because another takes their place.
    pub dropped: &'static [&'static str],
    /// Whether llama.cpp makes no use of the window that a file states (`attention.sliding_window`): it keeps the keys and values
    /// of all tokens.
    pub window_is_unused: bool,
}

/// What most rows have in common.
pub(super) const COMMON: ArchSpec = ArchSpec {
    name: "",
    hf: &[],
    prefix: "",
    tensors: &[],
    block: BLOCK,
    neutral: &[],
    understood: &[],
    stated: &[],
    spared: &[],
    mtp: MtpBlocks::LeftOut,
    as_metadata: &[],
    dropped: &[],
    window_is_unused: false,
};

/// What becomes of blocks that predict further tokens (multi-token prediction).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MtpBlocks {
    /// The converter leaves them out.
    LeftOut,
    /// They are converted. Their names count on behind the other blocks', or begin with `mtp.`.
    Kept,
}

/// A key of `config.json` that is understood only at the values that leave the computation alone.
#[derive(Debug, Clone, Copy)]
pub struct NeutralKey {
    /// The key.
    pub key: &'static str,
    /// Accepted values as JSON text; `null` and absence are always accepted.
    pub accepted: &'static [&'static str],
}

/// A key of `config.json` that says whether some optional tensors are there.
#[derive(Debug)]
pub struct Stated {
    /// The key.
    pub key: &'static str,
    /// What transformers takes where it is missing.
    pub default: bool,
    /// The tensors.
    pub roles: &'static [Role],
}

/// A key of `config.json` that says whether some blocks do without a tensor.
#[derive(Debug)]
pub struct Spared {
    /// The key.
    pub key: &'static str,
    /// What transformers takes where it is missing.
    pub default: bool,
    /// The tensor.
    pub role: Role,
    /// Whether a block is one that it speaks of; all others have the tensor.
    pub of: fn(&HParams, usize) -> bool,
}

/// `key` is understood only at `accepted`.
pub(crate) const fn neutral(key: &'static str, accepted: &'static [&'static str]) -> NeutralKey {
    NeutralKey { key, accepted }
}

impl ArchSpec {
    /// The rule for a role.
    pub fn rule(&self, role: Role) -> Option<&'static TensorRule> {
        self.tensors.iter().find(|rule| rule.role == role)
    }

    /// The rules that a tensor of a safetensors file serves, by its name: none, one, or several where it is split.
    pub(crate) fn match_hf<'a>(&self, name: &'a str) -> impl Iterator<Item = (usize, &'static TensorRule, Numbers)> + use<'a> {
        let rules = self.tensors.iter().enumerate();
        rules.filter_map(move |(i, rule)| Some((i, rule, match_pattern(rule.hf?, name)?)))
    }

    /// The name of a tensor of a safetensors file, with the prefix where it is left out.
    pub(crate) fn whole_name<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let bare = !self.prefix.is_empty() && self.match_hf(name).next().is_none();
        if bare { format!("{}{name}", self.prefix).into() } else { name.into() }
    }

    /// The rule and the block of a tensor by its GGUF name.
    pub fn match_gguf(&self, name: &str) -> Option<(&'static TensorRule, Option<usize>)> {
        let (role, block) = Role::parse(name)?;
        Some((self.rule(role)?, block))
    }

    /// A metadata key of this architecture: `key("block_count")` is `llama.block_count`.
    pub fn key(&self, stem: &str) -> String {
        format!("{}.{stem}", self.name)
    }
}

//! A class of transformers as data: what it takes for keys that `config.json` leaves out, and how it reads the width of a
//! head, windows and the choice of experts.
//!
//! Absent: reading `config.json` (see `crate::convert`).

use super::traits::Gating;

/// A class of transformers and what it takes for keys that `config.json` leaves out (transformers 5.23, `configuration_*.py`).
#[derive(Debug)]
pub struct HfClass {
    /// Its name in `architectures`.
    pub name: &'static str,
    /// Kinds of language model (`model_type`) that its `text_config` can describe; empty for a class that is one itself.
    pub text_types: &'static [&'static str],
    /// A key of `config.json` that tells models of this architecture from those of another that the same class has.
    pub told_by: Option<&'static str>,
    /// The width of a head.
    pub head_dim: HeadDim,
    /// The keys that can hold the context length; the first that is there counts.
    pub context_keys: &'static [&'static str],
    /// The context length; `None` where the configuration must say it.
    pub context_length: Option<u32>,
    /// The keys that can hold the width of the feed-forward network; the first that is there counts.
    pub feed_forward_keys: &'static [&'static str],
    /// The width of the feed-forward network in multiples of the embedding; `None` where the configuration must say it.
    pub feed_forward_factor: Option<u32>,
    /// The key of the epsilon of normalization, and its value.
    pub norm: NormEpsilon,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Base of the rotary frequencies of blocks with a sliding window, where it differs.
    pub local_rope_theta: Option<f64>,
    /// The part of a head that is rotated; `None` where it is always the whole.
    pub partial_rotary: Option<f64>,
    /// The kinds of rotary scaling that conversion carries over.
    pub scalings: &'static [&'static str],
    /// Keys in the description of rotary embedding that this class understands and most do not.
    pub rope_keys: &'static [&'static str],
    /// Whether the output matrix is the token embedding.
    pub tied: bool,
    /// Further keys that `config.json` can leave out, with what they mean then, as JSON text.
    pub defaults: &'static [(&'static str, &'static str)],
    /// Which blocks have a sliding window, and how wide it is.
    pub window: HfWindow,
    /// The key whose value is one over the square of the factor on q.k, and its default; `None` where the width of a head
    /// gives that.
    pub attention_scalar: Option<(&'static str, f64)>,
    /// The key of the least step of a state-space mixer; `None` where `time_step_limit` says the least and the most.
    pub least_step: Option<&'static str>,
    /// The key of the number of experts that a token uses; `None` where the architecture's own conversion reads it.
    pub experts_used_key: Option<&'static str>,
    /// How experts are chosen.
    pub routing: HfRouting,
}

/// What most classes have in common.
pub(super) const CLASS: HfClass = HfClass {
    name: "",
    text_types: &[],
    told_by: None,
    head_dim: HeadDim::Stated,
    context_keys: &["max_position_embeddings"],
    context_length: None,
    feed_forward_keys: &["intermediate_size", "n_inner"],
    feed_forward_factor: None,
    norm: NormEpsilon::Rms("rms_norm_eps", 1e-6),
    rope_theta: 10000.0,
    local_rope_theta: None,
    partial_rotary: None,
    scalings: &["default", "linear", "dynamic", "yarn"],
    rope_keys: &[],
    tied: false,
    defaults: &[],
    window: HfWindow::None,
    attention_scalar: None,
    least_step: None,
    experts_used_key: Some("num_experts_per_tok"),
    routing: HfRouting { gating: Gating::Softmax, normalizes: Normalizes::Always, groups: ExpertGroups::Never },
};

/// The width of a head where `config.json` does not have `head_dim`, and whether the metadata say it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HeadDim {
    /// What the query heads divide the embedding into; said only where `config.json` has the key.
    Stated,
    /// What the query heads divide the embedding into; always said.
    Even,
    /// The same whatever `config.json` has; never said.
    Ignored,
    /// This; always said.
    Fixed(u32),
    /// The value of another key; always said.
    Of(&'static str),
    /// The same, never said.
    UnsaidOf(&'static str),
}

/// The epsilon inside the root of normalization.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NormEpsilon {
    /// Of RMS normalization: its key in `config.json` and its value where the key is missing.
    Rms(&'static str, f64),
    /// Of layer normalization.
    Layer(&'static str, f64),
}

/// How transformers' class finds the blocks with a sliding window. `layer_types` says it where the class reads that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HfWindow {
    /// No block has one.
    None,
    /// All, of the width `sliding_window` (`null` means none).
    All,
    /// All, if `use_sliding_window` says so.
    AllIfUsed,
    /// `layer_types`, else all but every so manieth, by `sliding_window_pattern` or this.
    Pattern(usize),
    /// The same without that key, and never the last block.
    PatternButLast(usize),
    /// If `use_sliding_window` says so: `layer_types`, else those from `max_window_layers` on.
    FromMaxWindowLayers,
    /// If `use_sliding_window` says so: `layer_types`, else every second from the first on below `max_window_layers`.
    AlternateBelowMaxWindowLayers,
    /// If `use_sliding_window` says so: `layer_types`, else those that do not rotate.
    Unrotated,
    /// `layer_types`, else by `sliding_window_pattern`: all but every so manieth, or letters of which L is a window.
    Letters,
    /// `layer_types`, else all but every so manieth, counted from the last.
    FromEnd(usize),
    /// None; `layer_types` says which blocks have attention at all, where the class reads it.
    Recurrent,
    /// Chunks of `attention_chunk_size`: `layer_types`, else the blocks that rotate.
    Chunked,
}

impl HfWindow {
    /// Whether the class reads a key of `config.json` for its window.
    pub(crate) fn understands(self, key: &str) -> bool {
        match key {
            // Classes without a window pass over its width.
            "sliding_window" => true,
            "no_rope_layers" => self == Self::Chunked,
            "layer_types" => !matches!(self, Self::None | Self::All | Self::AllIfUsed),
            _ => false,
        }
    }
}

/// How transformers' class chooses experts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HfRouting {
    /// How scores become weights.
    pub gating: Gating,
    /// Whether the weights of the chosen are divided by their sum.
    pub normalizes: Normalizes,
    /// Whether experts are chosen by groups.
    pub groups: ExpertGroups,
}

/// Whether the weights of the chosen experts are divided by their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalizes {
    /// Whatever the configuration says.
    Always,
    /// Whatever the configuration says.
    Never,
    /// As `norm_topk_prob` says.
    Key,
}

/// Whether experts are chosen by groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpertGroups {
    /// Never.
    Never,
    /// Always; the configuration says how many.
    Always,
    /// Where `topk_method` is `group_limited_greedy`.
    ByMethod,
}

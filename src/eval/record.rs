//! The rows a run leaves behind: lanes, scored sequences, judged items, timings. Numbers as they were measured, never rounded;
//! the report reads nothing else. Files are written by [`super::records`], statistics are in `stats`.

use serde::{Deserialize, Serialize};

/// Grows whenever records change their meaning; a report refuses records of a later version. Since 2 timings say whether the
/// machine drifted, and those that did count in no median. Since 3 sequences say the name of their text and keep their tokens,
/// and lanes what they were made with. Since 4 timings say their arithmetic, and since 5 which program was timed on what. Since 6
/// items have values, figures, groups and clusters, and versions of tasks are texts.
pub const SCHEMA_VERSION: u32 = 6;
/// The earliest version that is still read; what it did not record is `None`, or not drifted.
pub const OLDEST_SCHEMA: u32 = 1;
/// This program, where records say which one was timed.
pub const OWN_ENGINE: &str = "bitworth";
/// Stands between a file and a text in [`LaneRecord::imatrix`].
pub const COLLECTED_ON: &str = ", collected on ";

/// Where a record comes from; every record carries it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// [`SCHEMA_VERSION`] of the program that wrote it.
    pub schema: u32,
    /// Version of the program that wrote it.
    pub bitworth: String,
    /// The model's name.
    pub model: String,
    /// The lane's name, unique among the lanes of a model: `reference`, `q4_k_m`, a file's name.
    pub lane: String,
    /// The device that ran, as its driver names it.
    pub device: String,
    /// The arithmetic of the activations: `f32` or `q8`.
    pub arithmetic: String,
}

impl Origin {
    /// An origin in this program's version.
    pub fn new(
        model: impl Into<String>,
        lane: impl Into<String>,
        device: impl Into<String>,
        arithmetic: impl Into<String>,
    ) -> Self {
        Self {
            schema: SCHEMA_VERSION,
            bitworth: env!("CARGO_PKG_VERSION").to_owned(),
            model: model.into(),
            lane: lane.into(),
            device: device.into(),
            arithmetic: arithmetic.into(),
        }
    }
}

/// One start of the program that measured: when, where and by what. It stands beside the records of a file and in none of them,
/// so that what was measured twice alike gives records that are equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// When it began, in seconds since 1970.
    pub unix_seconds: u64,
    /// The machine's name, where the system tells it.
    pub host: Option<String>,
    /// The operating system and its version, where it tells them.
    pub system: Option<String>,
    /// Threads that computed.
    pub threads: usize,
    /// Version of the program.
    pub bitworth: String,
    /// The commit that the program was built of, as the builder or git said; releases alone say one.
    pub commit: Option<String>,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Where it comes from.
    pub origin: Origin,
    /// What it says.
    pub body: Body,
}

impl Record {
    /// The body of a lane's record.
    pub fn as_lane(&self) -> Option<&LaneRecord> {
        if let Body::Lane(lane) = &self.body { Some(lane) } else { None }
    }

    /// The body of a sequence's record.
    pub fn as_sequence(&self) -> Option<&SequenceRecord> {
        if let Body::Sequence(sequence) = &self.body { Some(sequence) } else { None }
    }

    /// The body of an item's record.
    pub fn as_item(&self) -> Option<&ItemRecord> {
        if let Body::Item(item) = &self.body { Some(item) } else { None }
    }

    /// The body of a timing's record.
    pub fn as_speed(&self) -> Option<&Speed> {
        if let Body::Speed(speed) = &self.body { Some(speed) } else { None }
    }

    /// Why a candidate was left out.
    pub fn as_left_out(&self) -> Option<&str> {
        if let Body::LeftOut(why) = &self.body { Some(why) } else { None }
    }
}

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A lane: what was compared.
    Lane(LaneRecord),
    /// One scored sequence of a text.
    Sequence(SequenceRecord),
    /// One judged item of a task.
    Item(ItemRecord),
    /// One timing.
    Speed(Speed),
    /// Why a candidate is none: it was left out, and has no other records.
    LeftOut(String),
}

/// What a lane is.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneRecord {
    /// The recipe (`q4_k_m`), or the stored type of an unquantized model (`bf16`).
    pub recipe: String,
    /// Whether the other lanes are measured against this one.
    pub is_reference: bool,
    /// The file, if there is one.
    pub file: Option<String>,
    /// Bytes of the file, or of the file that would be written.
    pub bytes: u64,
    /// Bits per weight: 8 x bytes of the tensors / number of weights.
    pub bpw: f64,
    /// SHA-256 of the file in hexadecimal, where it was taken.
    pub sha256: Option<String>,
    /// How many weights have which type, where known: `Q4_K 884736, Q6_K 393216, F32 1792`.
    pub types: Option<String>,
    /// The importance matrix that it was quantized with: its file, and behind [`COLLECTED_ON`] the text that it was collected on,
    /// both as they were given; `None` without one, or where it is not known.
    pub imatrix: Option<String>,
    /// Tensors that have another type than the recipe says, as their rows do not fit its blocks; where known.
    pub fell_back: Option<u64>,
    /// Files that the lane is split into, where known; `file` is the first of them.
    pub parts: Option<u32>,
}

/// How a text is cut and scored; numbers of different protocols must not be compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Protocol {
    /// Which walk over the text.
    pub pass: Windowing,
    /// Ids in a window.
    pub ctx: u32,
    /// Place of the first id in a window that predicts a scored one.
    pub first: u32,
    /// Whether a start token stands first in every window.
    pub bos: bool,
}

/// Ways to walk over a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Windowing {
    /// As llama-perplexity: whole windows, the later part of each is scored, a rest is left out.
    Windows,
    /// Every id once, in windows that follow each other (rolling log-likelihood).
    Rolling,
}

/// One sequence of a text under one lane.
#[derive(Debug, Clone, PartialEq)]
pub struct SequenceRecord {
    /// The text's name; `None` in records of earlier versions, which have one text.
    pub text: Option<String>,
    /// SHA-256 of the text, in hexadecimal.
    pub text_sha256: String,
    /// How the text is cut and scored.
    pub protocol: Protocol,
    /// Number of the sequence, from 0.
    pub sequence: u32,
    /// Scored tokens.
    pub tokens: u32,
    /// UTF-8 bytes of the scored tokens.
    pub bytes: u64,
    /// Sum of the negative log-likelihoods of the scored tokens, in nats.
    pub nll_sum: f64,
    /// The comparison with the reference lane; `None` for the reference, or where there is none.
    pub against: Option<Against>,
    /// What is known of every scored token, where it was kept. The first of them stands behind `protocol.first + 1` tokens.
    pub kept: Option<Vec<Token>>,
}

/// A sequence's tokens against those of the reference lane.
#[derive(Debug, Clone, PartialEq)]
pub struct Against {
    /// KL(reference || lane) of every scored token, in nats, in order.
    pub kld: Vec<f64>,
    /// Tokens whose most probable successor is the reference's.
    pub top1_matches: u32,
    /// Sum of the changes of the target's probability (lane less reference).
    pub delta_p_sum: f64,
    /// Sum of the squares of those changes.
    pub delta_p_sq_sum: f64,
}

/// The scored tokens of one sequence under one lane, for those who look closer than [`SequenceRecord`] does.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenSequence {
    /// Number of the sequence, from 0.
    pub sequence: u32,
    /// UTF-8 bytes of the scored tokens.
    pub bytes: u64,
    /// Tokens that stand before the first scored one.
    pub first: u32,
    /// The scored tokens.
    pub tokens: Vec<Token>,
}

/// One scored token under one lane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Token {
    /// Its id.
    pub token: u32,
    /// Its negative log-likelihood, in nats.
    pub nll: f64,
    /// Tokens that the lane takes to be likelier.
    pub rank: u32,
    /// Entropy of the lane's prediction, in nats.
    pub entropy: f64,
    /// The lane's likeliest token.
    pub argmax: u32,
    /// The comparison with the reference lane; `None` in the reference itself.
    pub against: Option<TokenAgainst>,
}

/// One scored token against that of the reference lane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenAgainst {
    /// KL(reference || lane), in nats.
    pub kld: f64,
    /// KL(lane || reference), in nats.
    pub reverse_kld: f64,
    /// Change of the token's probability (lane less reference).
    pub delta_p: f64,
    /// Whether the likeliest token is the reference's.
    pub same_top: bool,
}

impl TokenSequence {
    /// Sums that a [`SequenceRecord`] keeps: of the negative log-likelihoods, and of what compares the lane with the reference.
    pub fn sums(&self) -> (f64, Option<Against>) {
        let nll = self.tokens.iter().map(|t| t.nll).sum();
        let against: Option<Vec<TokenAgainst>> = self.tokens.iter().map(|t| t.against).collect();
        let against = against.filter(|a| !a.is_empty()).map(|a| Against {
            kld: a.iter().map(|t| t.kld).collect(),
            top1_matches: a.iter().filter(|t| t.same_top).count() as u32,
            delta_p_sum: a.iter().map(|t| t.delta_p).sum(),
            delta_p_sq_sum: a.iter().map(|t| t.delta_p * t.delta_p).sum(),
        });
        (nll, against)
    }
}

/// The error of a lane's activations behind one block, over the rows of one sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layer {
    /// Number of the block, from 0.
    pub block: u32,
    /// Number of the sequence, from 0.
    pub sequence: u32,
    /// Rows.
    pub rows: u32,
    /// Sum over rows of `|x - r|^2`, with the lane's activations x and the reference's r.
    pub error: f64,
    /// Sum over rows of `|r|^2`.
    pub reference: f64,
}

/// One item of a task under one lane.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ItemRecord {
    /// The task's name.
    pub task: String,
    /// The task's version; of tasks of lm-evaluation-harness with what was asked otherwise: `1.0, 5-shot, chat`.
    pub task_version: String,
    /// Number of the item, from 0.
    pub item: u32,
    /// What the item came to: 1 where the model was right and 0 where it was wrong, or what the metric gives. `None` where the
    /// metric has no figure for one item.
    pub value: Option<f64>,
    /// The metric, and behind a comma the filter, where a task has several; `None` where the only one is right or wrong.
    pub metric: Option<String>,
    /// Sum of log-probabilities per choice or request; empty where text was generated.
    pub logprobs: Vec<f64>,
    /// Whether each of these texts is the one that the model would have made; `None` where that was not kept.
    pub greedy: Option<Vec<bool>>,
    /// The generated answer; `None` where choices were scored.
    pub text: Option<String>,
    /// The right one among `logprobs`, where exactly one is.
    pub gold: Option<u32>,
    /// The groups that the task belongs to, in the form of [`crate::groups`].
    pub group: Option<String>,
    /// What items have in common that are not independent, as a passage that several questions are about.
    pub cluster: Option<String>,
    /// Every figure that an item has, by metric and filter.
    pub scores: Vec<(String, f64)>,
}

impl ItemRecord {
    /// Whether the model was right; `None` where the metric knows more than right and wrong.
    pub fn is_correct(&self) -> Option<bool> {
        match self.value {
            Some(1.0) => Some(true),
            Some(0.0) => Some(false),
            _ => None,
        }
    }
}

/// One timing of one lane.
#[derive(Debug, Clone, PartialEq)]
pub struct Speed {
    /// What was timed.
    pub phase: Phase,
    /// Tokens that were taken in or made, over all sequences of the batch.
    pub tokens: u32,
    /// Tokens that stood before them, per sequence.
    pub depth: u32,
    /// Sequences at once.
    pub batch: u32,
    /// Number of the repetition, from 0.
    pub repetition: u32,
    /// How long it took.
    pub seconds: f64,
    /// Whether the machine was in another state than in the rest of the run; such a timing counts in no median.
    pub drifted: bool,
    /// Energy that the system counted meanwhile, in joules; `None` where it counts none.
    pub joules: Option<f64>,
    /// The arithmetic of the products: `f32` or `q8`; that of another program is its own business and called `own`.
    pub arithmetic: String,
    /// The program that was timed: [`OWN_ENGINE`], or another one with its build and its backend.
    pub engine: String,
    /// The shape of the model of random weights that was timed in the lane's place; `None` where the lane itself was.
    pub shape: Option<String>,
    /// What the model took to be there.
    pub footprint: Footprint,
}

/// One thing to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpeedTest {
    /// Prefill or decoding.
    pub phase: Phase,
    /// Tokens per sequence.
    pub tokens: usize,
    /// Tokens before them.
    pub depth: usize,
    /// Sequences.
    pub batch: usize,
}

impl SpeedTest {
    /// The one that a timing is of.
    pub fn of(speed: &Speed) -> Self {
        let batch = (speed.batch as usize).max(1);
        Self { phase: speed.phase, tokens: speed.tokens as usize / batch, depth: speed.depth as usize, batch }
    }

    /// Its name in llama-bench: `pp512`, `tg128 @ d4096`; several sequences as `tg128 x8`.
    pub fn name(&self) -> String {
        let phase = if self.phase == Phase::Prefill { "pp" } else { "tg" };
        let batch = if self.batch > 1 { format!(" x{}", self.batch) } else { String::new() };
        let depth = if self.depth > 0 { format!(" @ d{}", self.depth) } else { String::new() };
        format!("{phase}{}{batch}{depth}", self.tokens)
    }
}

/// What a model takes, beside the time of its tokens. `None` where the system does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Footprint {
    /// Seconds from opening the model's weights to a model that can be asked. Weights that are mapped are read later, when first
    /// used.
    pub load_seconds: Option<f64>,
    /// The most memory of the process until the model was warm, less what it had before: bytes, mapped weights included.
    pub memory_bytes: Option<u64>,
    /// The same of the device's own memory.
    pub device_bytes: Option<u64>,
}

/// What can be timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Taking in a prompt.
    Prefill,
    /// Making tokens one after the other.
    Decode,
}

/// Every pass and its name in files.
pub const WINDOWINGS: &[(Windowing, &str)] = &[(Windowing::Windows, "windows"), (Windowing::Rolling, "rolling")];

/// Every phase and its name in files.
pub const PHASES: &[(Phase, &str)] = &[(Phase::Prefill, "prefill"), (Phase::Decode, "decode")];

impl Windowing {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        WINDOWINGS.iter().find(|(pass, _)| *pass == self).map_or("?", |(_, name)| name)
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pass = self.pass.name();
        let start = if self.bos { "start token" } else { "no start token" };
        write!(f, "{pass} of {}, scored from {}, {start}", self.ctx, self.first)
    }
}

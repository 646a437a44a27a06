//! The reference lane of a sweep from a file, and into one. What is absent: the formats ([`super::store`],
//! [`super::logits_file`]) and the sweep.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use bitworth_quant::Checkpoint;
use serde_json::{Value, json};

use super::logits_file::{LogitsFile, LogitsWriter};
use super::store::{HiddenType, Store, StoreIdentity, StoreWriter};
use crate::Watch;
use crate::error::{Error, Result};
use crate::text::TextWindows;
use bitworth_engine::backend::Backend;
use bitworth_engine::error::Result as EngineResult;
use bitworth_engine::forward::Graph;
use bitworth_engine::head::{self, StoredLogProbs};
use bitworth_engine::model::{OutputHead, Reader};
use bitworth_engine::rope::{LengthClasses, Rope};
use bitworth_engine::sweep::{self, Lane, LaneScores, Reference, Scores, StoredHidden, SweepOptions};

/// Bytes of logits computed at once for a logits file, one row at least.
const LOGIT_BYTES: usize = 64 << 20;

/// Where the reference lane comes from.
pub enum ReferenceSource {
    /// A walk through the model.
    Walked,
    /// Hidden states of an earlier walk, and the model's head.
    Store(Box<Store>),
    /// Log-probabilities that llama-perplexity or we kept.
    Logits(LogitsFile),
}

impl StoredHidden for Store {
    fn rows(&self, sequence: usize) -> EngineResult<Vec<f32>> {
        Ok(self.rows(sequence)?)
    }

    fn identity(&self) -> EngineResult<String> {
        Ok(format!("store {}", self.sha256()))
    }
}

impl StoredLogProbs for LogitsFile {
    fn read(&self, sequence: usize, row: usize, tokens: std::ops::Range<usize>, out: &mut [f32]) -> EngineResult<()> {
        let row = sequence * self.rows_of_window() + row;
        Ok(self.tile(row..row + 1, tokens, out)?)
    }

    fn identity(&self) -> EngineResult<String> {
        Ok(format!("logits {}", self.sha256()?))
    }
}

impl ReferenceSource {
    /// A store of the scored rows of `text` under the head of `reference`.
    ///
    /// # Errors
    /// As [`Store::open`] and [`Store::check`].
    pub fn store(path: &Path, reference: &Lane, text: &TextWindows, device: &str) -> Result<Self> {
        let store = Store::open(path)?;
        let ours = about(reference, text, device)?;
        store.check(&ours, reference.variant.hparams().embedding_length, &text.sequences)?;
        let theirs = store.about();
        if (&theirs.device, &theirs.arithmetic) != (&ours.device, &ours.arithmetic) {
            tracing::warn!(
                "{}: made on {} in {}, and compared with what {} computes in {}",
                path.display(),
                theirs.device,
                theirs.arithmetic,
                ours.device,
                ours.arithmetic
            );
        }
        Ok(Self::Store(Box::new(store)))
    }

    /// A logits file of the windows of `text` over the vocabulary of `reference`.
    ///
    /// # Errors
    /// As [`LogitsFile::open`] and [`LogitsFile::check`].
    pub fn logits(path: &Path, reference: &Checkpoint, text: &TextWindows) -> Result<Self> {
        let file = LogitsFile::open(path)?;
        file.check(text, reference.hparams().vocab_size)?;
        Ok(Self::Logits(file))
    }

    fn reference(&self) -> Reference<'_> {
        match self {
            Self::Walked => Reference::Walked,
            Self::Store(store) => Reference::Hidden(store.as_ref()),
            Self::Logits(file) => Reference::LogProbs(file),
        }
    }

    /// For a result: what is not of this walk.
    pub fn describe(&self) -> Option<Value> {
        match self {
            Self::Walked => None,
            Self::Store(store) => Some(json!({ "store": store.about(), "type": store.hidden_type().name() })),
            Self::Logits(file) => Some(json!({ "logits": { "windows": file.windows() } })),
        }
    }

    /// Makes scores against a logits file those of llama-perplexity: it takes log-probabilities as they stand, though those
    /// that it left out are missing from their sum, and leaves the same ones out of the divergence. The sweep had what is left
    /// as a distribution of its own; with the logarithm of its mass m, `sum p (ln p - ln q) = e^m (KL + m)`. The divergence
    /// the other way round needs what was left out, and becomes no number.
    fn settle(&self, scores: &mut [LaneScores], text: &TextWindows) -> Result<()> {
        let (Self::Logits(file), [reference, candidates @ ..]) = (self, scores) else { return Ok(()) };
        for (i, (sequence, rows)) in text.sequences.iter().zip(reference).enumerate() {
            for (row, (own, at)) in rows.iter_mut().zip(sequence.scored.clone()).enumerate() {
                let mass = own.log_sum_exp;
                own.target_logit = f64::from(file.log_prob(i * file.rows_of_window() + row, sequence.tokens[at + 1])?);
                own.log_sum_exp = 0.0;
                for candidate in &mut *candidates {
                    let other = &mut candidate[i][row];
                    other.kld = libm::exp(mass) * (other.kld + mass);
                    other.reverse_kld = f64::NAN;
                }
            }
        }
        Ok(())
    }
}

/// Where the reference lane is kept for later.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// As a store, with its numbers so.
    pub store: Option<(PathBuf, HiddenType)>,
    /// As a logits file.
    pub logits: Option<PathBuf>,
}

fn about(reference: &Lane, text: &TextWindows, device: &str) -> Result<StoreIdentity> {
    let checkpoint = reference.variant.checkpoint();
    Ok(StoreIdentity {
        model: checkpoint.name().to_owned(),
        vocab_size: checkpoint.hparams().vocab_size,
        head_sha256: super::head::sha256(checkpoint)?,
        text_sha256: text.sha256.clone(),
        protocol: text.protocol.to_string(),
        arithmetic: reference.arithmetic.name().to_owned(),
        device: device.to_owned(),
    })
}

/// Scores `text` with every lane as [`sweep::sweep`] does, with the reference lane from `source`, and keeps it.
///
/// # Errors
/// As [`sweep::sweep`]; files that cannot be read or written; what a file does not hold (the layers of a reference that is not
/// walked, hidden states behind log-probabilities).
pub fn score<B: Backend>(
    backend: &B,
    lanes: &[Lane],
    text: &TextWindows,
    options: &SweepOptions<'_>,
    source: &ReferenceSource,
    kept: &Kept,
    watch: Watch<'_>,
) -> Result<Scores> {
    if matches!(source, ReferenceSource::Logits(_)) && (kept.store.is_some() || kept.logits.is_some()) {
        return Err(Error::unfit("a logits file holds no hidden states to be kept; take the reference from the model"));
    }
    let Some(reference) = lanes.first() else { return Err(Error::unfit("there is no reference to score")) };
    let keeper = RefCell::new(Keeper::begin(backend, reference, text, kept)?);
    let take = |sequence: usize, rows: &[f32]| keeper.borrow_mut().take(sequence, rows);
    let hidden: Option<sweep::HiddenTaker<'_>> = if kept.store.is_some() || kept.logits.is_some() { Some(&take) } else { None };
    let options = SweepOptions { reference: source.reference(), hidden, ..*options };
    let mut scores = sweep::sweep(backend, lanes, &text.sequences, &options, watch.progress, watch.stop)?;
    keeper.into_inner().finish()?;
    source.settle(&mut scores.lanes, text)?;
    Ok(scores)
}

/// Writes the files of a reference lane while its final hidden states come.
struct Keeper<'a, B: Backend> {
    backend: &'a B,
    reference: &'a Lane,
    /// Scored rows before each sequence.
    first_row: Vec<usize>,
    store: Option<StoreWriter>,
    logits: Option<LogitsWriter>,
    /// What makes logits of them; read when the first ones come.
    head: Option<(Graph<B>, OutputHead<B>)>,
}

impl<'a, B: Backend> Keeper<'a, B> {
    fn begin(backend: &'a B, reference: &'a Lane, text: &TextWindows, kept: &Kept) -> Result<Self> {
        let h = reference.variant.hparams();
        let store = match &kept.store {
            Some((path, kind)) => {
                let about = about(reference, text, &backend.info().name)?;
                Some(StoreWriter::create(path, &about, *kind, h.embedding_length, &text.sequences)?)
            }
            None => None,
        };
        let logits = kept.logits.as_ref().map(|path| LogitsWriter::create(path, text, h.vocab_size)).transpose()?;
        let before = |rows: &mut usize, count: usize| {
            let first = *rows;
            *rows += count;
            Some(first)
        };
        let first_row = text.sequences.iter().map(|s| s.scored.len()).scan(0, before).collect();
        Ok(Self { backend, reference, first_row, store, logits, head: None })
    }

    /// Takes the final hidden states `[scored rows, H]` of a sequence.
    fn take(&mut self, sequence: usize, rows: &[f32]) -> EngineResult<()> {
        if let Some(store) = &mut self.store {
            store.put(sequence, rows)?;
        }
        let Some(logits) = &mut self.logits else { return Ok(()) };
        let (graph, output) = match &mut self.head {
            Some(head) => head,
            empty => {
                let variant = &self.reference.variant;
                let rope = Rope::of(variant)?;
                // The head rotates nothing: any length will do.
                let classes = LengthClasses::new(&[&rope], [1]);
                let graph = Graph::new(self.backend, variant, rope, &classes)?;
                let reader = Reader::alone(variant, self.reference.arithmetic);
                empty.insert((graph, OutputHead::load(self.backend, &reader, None)?))
            }
        };
        let h = self.reference.variant.hparams();
        let at_once = (LOGIT_BYTES / (h.vocab_size * size_of::<f32>())).max(1);
        let mut row = self.first_row[sequence];
        for rows in rows.chunks(at_once * h.embedding_length) {
            let count = rows.len() / h.embedding_length;
            logits.put(row, &head::logits(self.backend, graph, output, &self.backend.upload(rows)?, count)?)?;
            row += count;
        }
        Ok(())
    }

    fn finish(self) -> bitworth_quant::Result<()> {
        self.store.map_or(Ok(()), StoreWriter::finish)?;
        self.logits.map_or(Ok(()), LogitsWriter::finish)
    }
}

//! Scoring a text: perplexity as llama-perplexity counts it, and the paired comparison of lanes on the same tokens.

use std::ops::Range;

use bitworth_quant::hex::hex;
use sha2::{Digest, Sha256};

use super::Watch;
use super::error::{Error, Result};
use bitworth_engine::backend::{Backend, HeadRow};
use bitworth_engine::sweep::{self, Lane, LaneScores, Sequence, SweepLimits};
use bitworth_eval::record::{Protocol, SequenceRecord, Token, TokenAgainst, TokenSequence, Windowing};
use bitworth_text::tokenizer::{SpecialText, Tokenizer};

/// A text cut into sequences by a stated protocol.
pub struct TextWindows {
    /// The text's name in records, where it has one.
    pub name: Option<String>,
    /// How it was cut.
    pub protocol: Protocol,
    /// SHA-256 of the text, in hexadecimal.
    pub sha256: String,
    /// The sequences.
    pub sequences: Vec<Sequence>,
    /// Per window the id of the text whose place the start token took, or the first id where none did.
    pub first_ids: Vec<u32>,
    /// UTF-8 bytes of the scored tokens, per sequence.
    pub bytes: Vec<u64>,
    /// Bytes of the text, from its beginning, that the sequences hold.
    pub covered: usize,
}

impl TextWindows {
    /// As llama-perplexity: the text tokenized once, whole windows of `ctx` ids one behind the other, the first id of each
    /// replaced by the start token where the model wants one, the second half scored. One trailing newline of the text is
    /// dropped, and special tokens' names are plain text. Unlike llama-perplexity, one window is enough, and backslashes
    /// in the text are what they are (its `--no-escape`).
    ///
    /// # Errors
    /// A text with fewer ids than one window; a window too short to score anything; a model that closes texts with an end
    /// token.
    pub fn windows(tokenizer: &Tokenizer, text: &str, ctx: usize, limit: Option<usize>) -> Result<Self> {
        if ctx < 4 {
            return Err(Error::unfit(format!(
                "a window of {ctx} tokens is too short: the second half of a window must predict something"
            )));
        }
        if tokenizer.adds_eos() {
            return Err(Error::unfit(
                "this model's tokenizer closes every text with an end token; windows of a text cannot be scored with it",
            ));
        }
        let body = text.strip_suffix('\n').unwrap_or(text);
        let (mut ids, mut ends) = tokenizer.encode_with_ends(body, SpecialText::Plain)?;
        if let Some(start) = tokenizer.start() {
            ids.insert(0, start);
            ends.insert(0, 0);
        }
        let count = (ids.len() / ctx).min(limit.unwrap_or(usize::MAX));
        if ids.len() < ctx {
            return Err(Error::unfit(format!(
                "the text has {} tokens, fewer than one window of {ctx}; give a longer text or smaller windows",
                ids.len()
            )));
        }
        let first = ctx / 2;
        let mut sequences = Vec::with_capacity(count);
        let mut bytes = Vec::with_capacity(count);
        let first_ids = (0..count).map(|window| ids[window * ctx]).collect();
        for window in 0..count {
            let range = window * ctx..(window + 1) * ctx;
            bytes.push((ends[range.end - 1] - ends[range.start + first]) as u64);
            let mut tokens = ids[range].to_vec();
            if let Some(start) = tokenizer.start() {
                tokens[0] = start;
            }
            sequences.push(Sequence { tokens, scored: first..ctx - 1 });
        }
        let protocol =
            Protocol { pass: Windowing::Windows, ctx: ctx as u32, first: first as u32, bos: tokenizer.start().is_some() };
        let covered = ends[count * ctx - 1];
        Ok(Self { name: None, protocol, sha256: hex(&Sha256::digest(text)), sequences, first_ids, bytes, covered })
    }

    /// Every id of the text once, for bits per byte: windows of `ctx - 1` ids, one behind the other, each behind a start token
    /// (the end token where the model has no start token).
    ///
    /// # Errors
    /// A model with neither token.
    pub fn rolling(tokenizer: &Tokenizer, text: &str, ctx: usize, limit: Option<usize>) -> Result<Self> {
        let Some(prefix) = tokenizer.prefix() else {
            return Err(Error::unfit("the model has neither a start nor an end token to score a text behind"));
        };
        let (ids, ends) = tokenizer.encode_with_ends(text, SpecialText::Plain)?;
        let mut begin = 0;
        let mut sequences = Vec::new();
        let mut bytes = Vec::new();
        for (window, ends) in ids.chunks(ctx.max(2) - 1).zip(ends.chunks(ctx.max(2) - 1)).take(limit.unwrap_or(usize::MAX)) {
            let mut tokens = vec![prefix];
            tokens.extend_from_slice(window);
            sequences.push(Sequence { scored: 0..tokens.len() - 1, tokens });
            let end = ends.last().copied().unwrap_or(begin);
            bytes.push((end - begin) as u64);
            begin = end;
        }
        let protocol = Protocol { pass: Windowing::Rolling, ctx: ctx as u32, first: 0, bos: true };
        let first_ids = vec![prefix; sequences.len()];
        Ok(Self { name: None, protocol, sha256: hex(&Sha256::digest(text)), sequences, first_ids, bytes, covered: begin })
    }

    /// What the sequences hold of the text that they were cut from.
    pub fn held<'t>(&self, text: &'t str) -> &'t str {
        // A token may end inside of a character.
        let end = (0..=self.covered.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
        &text[..end.unwrap_or(0)]
    }

    /// Scored tokens in all sequences.
    pub fn tokens(&self) -> usize {
        self.sequences.iter().map(|s| s.scored.len()).sum()
    }
}

/// Scores some sequences of a text with every lane; lane 0 is the reference. Returns, per lane, one record per sequence.
///
/// # Errors
/// As [`sweep::score`].
pub fn score<B: Backend>(
    backend: &B,
    lanes: &[Lane],
    text: &TextWindows,
    range: Range<usize>,
    cut: SweepLimits,
    watch: Watch<'_>,
) -> Result<Vec<Vec<SequenceRecord>>> {
    let scores = sweep::score(backend, lanes, &text.sequences[range.clone()], cut, watch.progress, watch.stop)?;
    Ok(text.tokens_of_lanes(range.start, &scores).iter().map(|sequences| text.records(sequences, true)).collect())
}

impl TextWindows {
    /// Per lane and sequence what is known of each scored token, from the scores of the sequences from `first` on; lane 0 is the
    /// reference of the others.
    pub fn tokens_of_lanes(&self, first: usize, scores: &[LaneScores]) -> Vec<Vec<TokenSequence>> {
        let sequences = |(lane, sequences): (usize, &LaneScores)| {
            let tokens = |(i, rows): (usize, &Vec<HeadRow>)| self.tokens_of(first + i, rows, (lane > 0).then(|| &scores[0][i]));
            sequences.iter().enumerate().map(tokens).collect()
        };
        scores.iter().enumerate().map(sequences).collect()
    }

    /// The scored tokens of sequence `index` from their `rows`, with `reference` beside those of the reference lane.
    pub fn tokens_of(&self, index: usize, rows: &[HeadRow], reference: Option<&Vec<HeadRow>>) -> TokenSequence {
        let sequence = &self.sequences[index];
        let targets = sequence.scored.clone().filter_map(|i| sequence.tokens.get(i + 1));
        let token = |(i, (row, &token)): (usize, (&HeadRow, &u32))| Token {
            token,
            nll: row.log_sum_exp - row.target_logit,
            rank: row.rank,
            entropy: row.entropy,
            argmax: row.argmax,
            against: reference.map(|reference| against(&reference[i], row)),
        };
        TokenSequence {
            sequence: index as u32,
            bytes: self.bytes[index],
            first: sequence.scored.start as u32 + 1,
            tokens: rows.iter().zip(targets).enumerate().map(token).collect(),
        }
    }

    /// The records of scored sequences, with every token where `keep` says so.
    pub fn records(&self, sequences: &[TokenSequence], keep: bool) -> Vec<SequenceRecord> {
        let record = |s: &TokenSequence| {
            let (nll_sum, against) = s.sums();
            SequenceRecord {
                text: self.name.clone(),
                kept: keep.then(|| s.tokens.clone()),
                text_sha256: self.sha256.clone(),
                protocol: self.protocol.clone(),
                sequence: s.sequence,
                tokens: s.tokens.len() as u32,
                bytes: s.bytes,
                nll_sum,
                against,
            }
        };
        sequences.iter().map(record).collect()
    }
}

fn against(reference: &HeadRow, row: &HeadRow) -> TokenAgainst {
    let probability = |row: &HeadRow| libm::exp(row.target_logit - row.log_sum_exp);
    TokenAgainst {
        kld: row.kld,
        reverse_kld: row.reverse_kld,
        delta_p: probability(row) - probability(reference),
        same_top: row.argmax == reference.argmax,
    }
}

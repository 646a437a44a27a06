//! The file of log-probabilities that llama-perplexity writes with `--save-all-logits` and compares with by `--kl-divergence`
//! (tools/perplexity/perplexity.cpp of llama.cpp, b11434), little-endian:
//!
//! ```text
//! "_logits_" | i32 n_ctx | i32 n_vocab | i32 n_chunk | i32 tokens[n_chunk * n_ctx] | rows[n_chunk * (n_ctx - 1 - n_ctx / 2)]
//! ```
//!
//! The tokens are those of the text, before the start token takes the place of the first one of a window; the rows, of
//! [`log_probs::row_len`] u16 each, are those of the second half of each window but for the last token. What is absent: windows
//! cut in another way, which the file cannot say.

use std::ops::Range;
use std::path::Path;

use bitworth_quant::atomic_file::AtomicFile;
use bitworth_quant::disk::check_room;
use bitworth_quant::hex::hex;
use bitworth_quant::message::Message;
use bitworth_quant::{Error, Result};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::file::{Pieces, u32s};
use super::log_probs::{self, CodeScale};
use crate::settings::{CHUNKS, CTX};
use crate::text::TextWindows;
use bitworth_eval::record::Windowing;

const MAGIC: &[u8; 8] = b"_logits_";
const HEADER_BYTES: u64 = 8 + 3 * 4;

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    ctx: u32,
    vocab: u32,
    chunks: u32,
}

impl Shape {
    /// Scored rows of a window.
    fn rows(self) -> u64 {
        u64::from(self.ctx - 1 - self.ctx / 2)
    }

    fn row_bytes(self) -> u64 {
        2 * log_probs::row_len(self.vocab as usize) as u64
    }

    fn rows_at(self) -> u64 {
        HEADER_BYTES + 4 * u64::from(self.chunks) * u64::from(self.ctx)
    }

    /// `None` where it is more than a u64 holds.
    fn file_bytes(self) -> Option<u64> {
        let rows = u64::from(self.chunks).checked_mul(self.rows())?;
        rows.checked_mul(self.row_bytes())?.checked_add(self.rows_at())
    }

    fn row_at(self, row: usize) -> u64 {
        self.rows_at() + row as u64 * self.row_bytes()
    }
}

/// The windows of a text as llama-perplexity cuts them: the ids of each before the start token takes the first one's place.
///
/// # Errors
/// Windows cut otherwise.
fn ids_of(path: &Path, text: &TextWindows) -> Result<Vec<Vec<u32>>> {
    if text.protocol.pass != Windowing::Windows {
        return Err(Error::file(path, "llama.cpp's logits file holds windows scored in their second half, and no other ones"));
    }
    let window = |(sequence, &first): (&bitworth_engine::sweep::Sequence, &u32)| {
        let mut ids = sequence.tokens.clone();
        ids[0] = first;
        ids
    };
    Ok(text.sequences.iter().zip(&text.first_ids).map(window).collect())
}

/// Whether a file begins as one.
pub fn is_one(path: &Path) -> bool {
    Pieces::open(path).and_then(|pieces| pieces.bytes(0, MAGIC.len() as u64)).is_ok_and(|bytes| bytes == MAGIC)
}

/// Writes such a file; it appears under its name when every row was put.
pub struct LogitsWriter {
    file: AtomicFile,
    shape: Shape,
    /// Which rows were put.
    done: Vec<bool>,
}

impl LogitsWriter {
    /// Begins the file for the windows of `text`.
    ///
    /// # Errors
    /// Windows that are not llama-perplexity's, a place that cannot be written, a disk without room.
    pub fn create(path: &Path, text: &TextWindows, vocab: usize) -> Result<Self> {
        let windows = ids_of(path, text)?;
        let number = |n: usize| i32::try_from(n).ok().map(|n| n as u32);
        let shape =
            number(vocab).zip(number(windows.len())).map(|(vocab, chunks)| Shape { ctx: text.protocol.ctx, vocab, chunks });
        let (shape, bytes) = shape.and_then(|shape| Some((shape, shape.file_bytes()?))).ok_or_else(|| {
            let many = Message::from("more windows or tokens than llama.cpp's logits file can count; use ");
            Error::file(path, many.then(CHUNKS))
        })?;
        let mut file = AtomicFile::create(path)?;
        check_room(path, bytes)?;
        let mut header = MAGIC.to_vec();
        let numbers = [shape.ctx, shape.vocab, shape.chunks];
        for number in numbers.iter().chain(windows.iter().flatten()) {
            header.extend(number.to_le_bytes());
        }
        file.write_at(0, &header)?;
        Ok(Self { file, shape, done: vec![false; windows.len() * shape.rows() as usize] })
    }

    /// Takes the logits `[rows, V]` of the scored rows from `first` on, counted over all windows.
    ///
    /// # Errors
    /// Logits that are no numbers; a disk that is full.
    pub fn put(&mut self, first: usize, logits: &[f32]) -> Result<()> {
        let vocab = self.shape.vocab as usize;
        let len = log_probs::row_len(vocab);
        let mut rows = vec![0u16; logits.len() / vocab * len];
        let encoded = rows.par_chunks_exact_mut(len).zip(logits.par_chunks_exact(vocab));
        let bad = encoded.map(|(out, row)| log_probs::encode(row, out)).position_first(|done| done.is_none());
        if let Some(bad) = bad {
            let what = format!("the logits of scored row {} are not numbers; nothing was written", first + bad);
            return Err(Error::file(self.file.path(), what));
        }
        let bytes: Vec<u8> = rows.iter().flat_map(|code| code.to_le_bytes()).collect();
        self.file.write_at(self.shape.row_at(first), &bytes)?;
        self.done[first..first + rows.len() / len].fill(true);
        Ok(())
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// A row that was never put; a disk that is full.
    pub fn finish(self) -> Result<()> {
        if let Some(row) = self.done.iter().position(|done| !done) {
            return Err(Error::file(self.file.path(), format!("scored row {row} is missing; nothing was written")));
        }
        self.file.commit()
    }
}

/// Reads such a file, row by row or by tiles.
pub struct LogitsFile {
    pieces: Pieces,
    shape: Shape,
    tokens: Vec<u32>,
}

impl LogitsFile {
    /// Opens it and reads all but the rows.
    ///
    /// # Errors
    /// Another kind of file; counts that are not possible, or not those of the file's length; a file cut short.
    pub fn open(path: &Path) -> Result<Self> {
        let pieces = Pieces::open(path)?;
        let head = pieces.bytes(0, HEADER_BYTES.min(pieces.len()))?;
        if !head.starts_with(MAGIC) {
            return Err(pieces.error(0, "no logits file of llama-perplexity: it does not begin with _logits_"));
        }
        let numbers: Vec<u32> = u32s(&head[MAGIC.len()..]).collect();
        let &[ctx, vocab, chunks] = numbers.as_slice() else {
            return Err(pieces.error(pieces.len(), "the file ends within its header; make it again"));
        };
        let names = [("n_ctx", ctx, 4), ("n_vocab", vocab, 1), ("n_chunk", chunks, 1)];
        for (i, (name, number, least)) in names.into_iter().enumerate() {
            if !(least..=i32::MAX as u32).contains(&number) {
                return Err(pieces.error(8 + 4 * i as u64, format!("{name} is {}, which is not possible", number as i32)));
            }
        }
        let shape = Shape { ctx, vocab, chunks };
        let expected = shape.file_bytes();
        if expected != Some(pieces.len()) {
            let what = format!(
                "{chunks} windows of {ctx} tokens over a vocabulary of {vocab} take {} bytes, the file has {}; it was cut short \
                 or is broken, make it again",
                expected.map_or_else(|| "too many".to_owned(), |bytes| bytes.to_string()),
                pieces.len()
            );
            return Err(pieces.error(8, what));
        }
        let tokens: Vec<u32> = u32s(&pieces.bytes(HEADER_BYTES, shape.rows_at() - HEADER_BYTES)?).collect();
        if let Some(at) = tokens.iter().position(|&token| token >= vocab) {
            let what = format!("token {} is outside the vocabulary of {vocab}", tokens[at] as i32);
            return Err(pieces.error(HEADER_BYTES + 4 * at as u64, what));
        }
        Ok(Self { pieces, shape, tokens })
    }

    /// Refuses a file that is not of these windows and of this vocabulary. Windows behind those of `text` may be there.
    ///
    /// # Errors
    /// What differs, and the first place of it.
    pub fn check(&self, text: &TextWindows, vocab: usize) -> Result<()> {
        let Shape { ctx, vocab: theirs, chunks } = self.shape;
        let refuse = |what: Message| Err(Error::file(self.pieces.path(), what));
        if theirs as usize != vocab {
            return refuse(
                format!("made with a vocabulary of {theirs} tokens, the model has {vocab}; they cannot be compared").into(),
            );
        }
        if ctx != text.protocol.ctx {
            return refuse(
                Message::from(format!("made with windows of {ctx} tokens, not {}; give ", text.protocol.ctx)).then(CTX.with(ctx)),
            );
        }
        let ours = ids_of(self.pieces.path(), text)?;
        for (window, (ours, theirs)) in ours.iter().zip(self.tokens.chunks_exact(ctx as usize)).enumerate() {
            // Where a start token takes the first place, what stood there plays no part, and some may have written that.
            let fed = text.sequences[window].tokens[0];
            let differs = |i: usize| ours[i] != theirs[i] && !(i == 0 && theirs[0] == fed);
            if let Some(i) = (0..ours.len()).find(|&i| differs(i)) {
                let (a, b) = (theirs[i], ours[i]);
                return refuse(
                    format!("made of another text or with another tokenizer: token {i} of window {window} is {a}, and {b} here")
                        .into(),
                );
            }
        }
        if ours.len() > chunks as usize {
            return refuse(
                Message::from(format!("holds {chunks} windows, {} are to be scored; give ", ours.len()))
                    .then(CHUNKS.with(chunks)),
            );
        }
        Ok(())
    }

    /// Windows in the file.
    pub fn windows(&self) -> usize {
        self.shape.chunks as usize
    }

    /// SHA-256, in hexadecimal, over shape, tokens and the scale of every row: no two models have the same. The codes, which are
    /// nearly all of the file, are not read.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn sha256(&self) -> Result<String> {
        let mut hash = Sha256::new_with_prefix(self.pieces.bytes(0, self.shape.rows_at())?);
        for row in 0..self.windows() * self.rows_of_window() {
            hash.update(self.pieces.bytes(self.shape.row_at(row), 8)?);
        }
        Ok(hex(&hash.finalize()))
    }

    /// Scored rows of each window.
    pub fn rows_of_window(&self) -> usize {
        self.shape.rows() as usize
    }

    /// The log-probabilities of `tokens` in each of the scored `rows`, counted over all windows: `[rows, tokens]`. Those that
    /// llama-perplexity leaves out of a divergence are [`log_probs::NOTHING`].
    ///
    /// # Errors
    /// A row whose scale is none; a file that cannot be read.
    pub fn tile(&self, rows: Range<usize>, tokens: Range<usize>, out: &mut [f32]) -> Result<()> {
        let mut codes = vec![0; 2 * tokens.len()];
        for (row, out) in rows.zip(out.chunks_exact_mut(tokens.len().max(1))) {
            let scale = self.codes(row, tokens.start, &mut codes)?;
            for (out, &code) in out.iter_mut().zip(codes.as_chunks::<2>().0) {
                *out = scale.counted(u16::from_le_bytes(code));
            }
        }
        Ok(())
    }

    /// The log-probability of one token in a scored row, as it stands.
    ///
    /// # Errors
    /// As [`Self::tile`].
    pub fn log_prob(&self, row: usize, token: u32) -> Result<f32> {
        let mut code = [0; 2];
        let scale = self.codes(row, token as usize, &mut code)?;
        Ok(scale.log_prob(u16::from_le_bytes(code)))
    }

    /// The codes of a row from token `first` on, and their scale.
    fn codes(&self, row: usize, first: usize, out: &mut [u8]) -> Result<CodeScale> {
        let at = self.shape.row_at(row);
        let mut scale = [0; 8];
        self.pieces.read(at, &mut scale)?;
        self.pieces.read(at + 8 + 2 * first as u64, out)?;
        let bad = || format!("scored row {row} has a scale that is none; the file is broken, make it again");
        CodeScale::of(scale).ok_or_else(|| self.pieces.error(at, bad()))
    }
}

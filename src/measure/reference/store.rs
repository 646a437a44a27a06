//! The reference store: the hidden states behind the last block (what goes into the final norm) of the scored rows, with the
//! tokens that they belong to. From them the head computes the logits again, exactly where they are kept as f32, at a small
//! part of the size of the logits. What is absent: the head, which is the model's and told by its hash.
//!
//! The container is safetensors, so that others can read it; the lengths of all are known in advance and rows go to their
//! places as they come. The parts, in this order:
//!
//! ```text
//! tokens     U32 [tokens]          all sequences one behind the other
//! sequences  U32 [sequences, 3]    tokens, first scored row, row behind the last scored one
//! hidden     F32 or F16 [rows, H]  the scored rows of all sequences
//! blocks     U8 [sequences, 32]    SHA-256 of each sequence's part of `hidden`
//! whole      U8 [32]               SHA-256 of all bytes before `hidden` and of `blocks`
//! ```

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;

use bitworth_quant::atomic_file::AtomicFile;
use bitworth_quant::disk::check_room;
use bitworth_quant::message::Message;
use bitworth_quant::{Error, Result};
use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::file::{Pieces, u32s};
use crate::settings::{CHUNKS, REFERENCE_TYPE};
use bitworth_engine::sweep::Sequence;
use bitworth_quant::hex::hex;

/// The key of [`StoreIdentity`] in the header.
const KEY: &str = "bitworth.reference";
/// Grows whenever a part changes its meaning.
const VERSION: u32 = 1;
/// A header longer than this is not believed; ours have some hundred bytes and the names in them.
const MAX_HEADER_BYTES: u64 = 1 << 20;
const HASH_BYTES: usize = 32;
const NAMES: [&str; 5] = ["tokens", "sequences", "hidden", "blocks", "whole"];

/// Where the hidden states come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreIdentity {
    /// The model's name.
    pub model: String,
    /// Tokens of its vocabulary V.
    pub vocab_size: usize,
    /// See [`super::head::sha256`].
    pub head_sha256: String,
    /// SHA-256 of the text, in hexadecimal.
    pub text_sha256: String,
    /// How the text was cut, in words.
    pub protocol: String,
    /// The arithmetic of the activations: `f32`.
    pub arithmetic: String,
    /// The device, as its driver names it.
    pub device: String,
}

/// What stands under [`KEY`].
#[derive(Serialize, Deserialize)]
struct Versioned {
    version: u32,
    /// Of the program that wrote it.
    bitworth: String,
    #[serde(flatten)]
    rest: serde_json::Value,
}

/// How numbers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HiddenType {
    /// As they are.
    F32,
    /// Rounded to half precision.
    F16,
}

impl HiddenType {
    /// Both.
    pub const ALL: [Self; 2] = [Self::F32, Self::F16];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
        }
    }
}

impl FromStr for HiddenType {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == s);
        found.ok_or_else(|| Error::unknown("type", s, Self::ALL.map(Self::name)))
    }
}

/// Whether a file is a store, of any version.
pub fn is_one(path: &Path) -> bool {
    let header = Pieces::open(path).and_then(|pieces| read_header(&pieces));
    header.is_ok_and(|(header, _)| header.metadata().as_ref().is_some_and(|all| all.contains_key(KEY)))
}

/// Where everything lies.
struct Layout {
    kind: HiddenType,
    /// H.
    width: usize,
    /// The first scored row of each sequence, and the number of all.
    first_row: Vec<usize>,
    /// Where `hidden`, `blocks` and `whole` begin in the file.
    hidden_at: u64,
    blocks_at: u64,
    whole_at: u64,
}

impl Layout {
    fn new(kind: HiddenType, width: usize, sequences: &[Sequence], hidden_at: u64) -> Self {
        let mut first_row = vec![0];
        for sequence in sequences {
            first_row.push(first_row[first_row.len() - 1] + sequence.scored.len());
        }
        let rows = first_row[sequences.len()] as u64;
        let blocks_at = hidden_at + rows * (width * kind.bytes()) as u64;
        let whole_at = blocks_at + (sequences.len() * HASH_BYTES) as u64;
        Self { kind, width, first_row, hidden_at, blocks_at, whole_at }
    }

    fn file_bytes(&self) -> u64 {
        self.whole_at + HASH_BYTES as u64
    }

    /// Scored rows of a sequence.
    fn rows(&self, sequence: usize) -> usize {
        self.first_row[sequence + 1] - self.first_row[sequence]
    }

    /// Where a sequence's part of `hidden` begins, and how many bytes it has.
    fn block(&self, sequence: usize) -> (u64, u64) {
        let row_bytes = (self.width * self.kind.bytes()) as u64;
        (self.hidden_at + self.first_row[sequence] as u64 * row_bytes, self.rows(sequence) as u64 * row_bytes)
    }
}

/// Writes a store; it appears under its name when the rows of every sequence were put.
pub struct StoreWriter {
    file: AtomicFile,
    layout: Layout,
    /// All bytes before `hidden`.
    head: Vec<u8>,
    blocks: Vec<Option<[u8; HASH_BYTES]>>,
}

impl StoreWriter {
    /// Begins the store of the scored rows of `sequences`, of `width` numbers each.
    ///
    /// # Errors
    /// A place that cannot be written, a disk without room.
    pub fn create(path: &Path, about: &StoreIdentity, kind: HiddenType, width: usize, sequences: &[Sequence]) -> Result<Self> {
        let mut file = AtomicFile::create(path)?;
        let broken = |e: &dyn std::fmt::Display| Error::file(path, format!("cannot be described: {e}"));
        let rest = serde_json::to_value(about).map_err(|e| broken(&e))?;
        let about = Versioned { version: VERSION, bitworth: env!("CARGO_PKG_VERSION").to_owned(), rest };
        let about = serde_json::to_string(&about).map_err(|e| broken(&e))?;
        let tokens: usize = sequences.iter().map(|s| s.tokens.len()).sum();
        let rows = sequences.iter().map(|s| s.scored.len()).sum();
        let mut end = 0;
        let mut part = |dtype: Dtype, shape: Vec<usize>| {
            let begin = end;
            end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
            TensorInfo { dtype, shape, data_offsets: (begin, end) }
        };
        let parts = [
            part(Dtype::U32, vec![tokens]),
            part(Dtype::U32, vec![sequences.len(), 3]),
            part(kind.dtype(), vec![rows, width]),
            part(Dtype::U8, vec![sequences.len(), HASH_BYTES]),
            part(Dtype::U8, vec![HASH_BYTES]),
        ];
        let parts = NAMES.into_iter().map(str::to_owned).zip(parts).collect();
        // One key only: the order of several is left to chance.
        let header = Metadata::new(Some(HashMap::from([(KEY.to_owned(), about)])), parts).map_err(|e| broken(&e))?;
        let mut header = serde_json::to_vec(&header).map_err(|e| broken(&e))?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut head = (header.len() as u64).to_le_bytes().to_vec();
        head.append(&mut header);
        head.extend(sequences.iter().flat_map(|s| &s.tokens).flat_map(|token| token.to_le_bytes()));
        for Sequence { tokens, scored } in sequences {
            for number in [tokens.len(), scored.start, scored.end] {
                head.extend((number as u32).to_le_bytes());
            }
        }
        let layout = Layout::new(kind, width, sequences, head.len() as u64);
        check_room(path, layout.file_bytes())?;
        file.write_at(0, &head)?;
        Ok(Self { file, layout, head, blocks: vec![None; sequences.len()] })
    }

    /// Takes the hidden states `[scored rows, H]` of a sequence; sequences may come in any order.
    ///
    /// # Errors
    /// Another number of rows; numbers that are none, or too large for f16; a disk that is full.
    pub fn put(&mut self, sequence: usize, rows: &[f32]) -> Result<()> {
        let expected = self.layout.rows(sequence) * self.layout.width;
        let place = || Message::from(format!("sequence {sequence}: "));
        let refuse = |what: Message| Err(Error::file(self.file.path(), place().then(what)));
        if rows.len() != expected {
            return refuse(format!("{} hidden states came, not {expected}", rows.len()).into());
        }
        let bytes: Vec<u8> = match self.layout.kind {
            HiddenType::F32 => rows.iter().flat_map(|v| v.to_le_bytes()).collect(),
            HiddenType::F16 => rows.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        };
        if let Some(bad) = rows.iter().find(|v| !v.is_finite()) {
            return refuse(format!("a hidden state is {bad}; the model's weights or the device must be broken").into());
        }
        let largest = f32::from(f16::MAX);
        if let Some(bad) = rows.iter().find(|&&v| self.layout.kind == HiddenType::F16 && !f16::from_f32(v).is_finite()) {
            return refuse(
                Message::from(format!("the hidden state {bad} is beyond f16's {largest}; use ")).then(REFERENCE_TYPE.with("f32")),
            );
        }
        let (at, _) = self.layout.block(sequence);
        self.file.write_at(at, &bytes)?;
        self.blocks[sequence] = Some(Sha256::digest(&bytes).into());
        Ok(())
    }

    /// Puts the store in its place.
    ///
    /// # Errors
    /// A sequence that was never put; a disk that is full.
    pub fn finish(mut self) -> Result<()> {
        let mut blocks = Vec::with_capacity(self.blocks.len() * HASH_BYTES);
        for (sequence, block) in self.blocks.iter().enumerate() {
            let missing = || Error::file(self.file.path(), format!("sequence {sequence} is missing; nothing was written"));
            blocks.extend(block.ok_or_else(missing)?);
        }
        let whole = Sha256::new_with_prefix(&self.head).chain_update(&blocks).finalize();
        self.file.write_at(self.layout.blocks_at, &blocks)?;
        self.file.write_at(self.layout.whole_at, &whole)?;
        self.file.commit()
    }
}

/// Reads a store, sequence by sequence.
pub struct Store {
    pieces: Pieces,
    about: StoreIdentity,
    layout: Layout,
    sequences: Vec<Sequence>,
    blocks: Vec<u8>,
    whole: [u8; HASH_BYTES],
}

impl Store {
    /// Opens it and reads all but the hidden states.
    ///
    /// # Errors
    /// Another kind of file, another version, a file that was cut short or changed.
    pub fn open(path: &Path) -> Result<Self> {
        let pieces = Pieces::open(path)?;
        let (header, data_at) = read_header(&pieces)?;
        let about = read_about(&pieces, &header)?;
        let [tokens, numbers, hidden, blocks, whole] = parts(&pieces, &header)?;
        let at = |info: &TensorInfo| data_at + info.data_offsets.0 as u64;
        let expected = data_at + whole.data_offsets.1 as u64;
        if expected != pieces.len() {
            let what = format!("the store should end at byte {expected}; it was cut short or is broken, make it again");
            return Err(pieces.error(pieces.len(), what));
        }
        let (kind, &[rows, width]) = (hidden_type(hidden.dtype), hidden.shape.as_slice()) else {
            return Err(broken(&pieces, at(hidden), "the hidden states have no rows"));
        };
        let head = pieces.bytes(0, at(hidden))?;
        let block_bytes = pieces.bytes(at(blocks), at(whole) - at(blocks))?;
        let hash: [u8; HASH_BYTES] = Sha256::new_with_prefix(&head).chain_update(&block_bytes).finalize().into();
        if pieces.bytes(at(whole), HASH_BYTES as u64)?[..] != hash[..] {
            return Err(broken(&pieces, at(whole), "the checksum of tokens and checksums does not match"));
        }
        let part =
            |info: &TensorInfo| u32s(&head[at(info) as usize..][..info.data_offsets.1 - info.data_offsets.0]).collect::<Vec<_>>();
        let sequences = sequences(&part(tokens), &part(numbers))
            .filter(|all: &Vec<Sequence>| all.iter().map(|s| s.scored.len()).sum::<usize>() == rows)
            .ok_or_else(|| broken(&pieces, at(numbers), "the sequences do not fit the tokens and rows"))?;
        let layout = Layout::new(kind, width, &sequences, at(hidden));
        if layout.file_bytes() != pieces.len() {
            return Err(broken(&pieces, at(blocks), "the checksums do not fit the sequences"));
        }
        Ok(Self { pieces, about, layout, sequences, blocks: block_bytes, whole: hash })
    }

    /// SHA-256, in hexadecimal, over all but the hidden states, and over the hashes of these.
    pub fn sha256(&self) -> String {
        hex(&self.whole)
    }

    /// Where it comes from.
    pub fn about(&self) -> &StoreIdentity {
        &self.about
    }

    /// How its numbers are kept.
    pub fn hidden_type(&self) -> HiddenType {
        self.layout.kind
    }

    /// Its sequences.
    pub fn sequences(&self) -> &[Sequence] {
        &self.sequences
    }

    /// The width H of a hidden state.
    pub fn width(&self) -> usize {
        self.layout.width
    }

    /// Refuses a store made with another head, or of other sequences. Sequences behind those asked for may be there; of
    /// `about`, model, text, device and arithmetic are told and do not decide.
    ///
    /// # Errors
    /// What differs, and the first place of it.
    pub fn check(&self, about: &StoreIdentity, width: usize, sequences: &[Sequence]) -> Result<()> {
        let (theirs, refuse) = (&self.about, |what: Message| Err(Error::file(self.pieces.path(), what)));
        if (theirs.vocab_size, self.width()) != (about.vocab_size, width) {
            return refuse(
                format!(
                    "made by {} with a vocabulary of {} tokens and {} hidden states a token; {} has {} and {width}",
                    theirs.model,
                    theirs.vocab_size,
                    self.width(),
                    about.model,
                    about.vocab_size
                )
                .into(),
            );
        }
        if theirs.head_sha256 != about.head_sha256 {
            return refuse(
                format!(
                    "made with another head (final norm and output matrix) than that of {}; give the {} that made it, or make it \
                 again",
                    about.model, theirs.model
                )
                .into(),
            );
        }
        if theirs.protocol != about.protocol {
            return refuse(format!("made of {}, not of {}; cut the text as it was", theirs.protocol, about.protocol).into());
        }
        for (i, (ours, stored)) in sequences.iter().zip(&self.sequences).enumerate() {
            if ours == stored {
                continue;
            }
            let place = ours.tokens.iter().zip(&stored.tokens).position(|(a, b)| a != b);
            return refuse(Message::from(match place {
                Some(at) => format!(
                    "made with other tokens: token {at} of sequence {i} is {}, and {} here; give the text that it was made of",
                    stored.tokens[at], ours.tokens[at]
                ),
                None => format!(
                    "sequence {i} has {} tokens of which {:?} are scored, not {} and {:?}; cut the text as it was",
                    stored.tokens.len(),
                    stored.scored,
                    ours.tokens.len(),
                    ours.scored
                ),
            }));
        }
        let there = self.sequences.len();
        if sequences.len() > there {
            return refuse(
                Message::from(format!("holds {there} sequences, {} are to be scored; give ", sequences.len()))
                    .then(CHUNKS.with(there)),
            );
        }
        Ok(())
    }

    /// The hidden states `[scored rows, H]` of a sequence.
    ///
    /// # Errors
    /// Bytes that are not those that were written; a file that cannot be read.
    pub fn rows(&self, sequence: usize) -> Result<Vec<f32>> {
        let (at, len) = self.layout.block(sequence);
        let bytes = self.pieces.bytes(at, len)?;
        if Sha256::digest(&bytes)[..] != self.blocks[sequence * HASH_BYTES..][..HASH_BYTES] {
            return Err(broken(&self.pieces, at, &format!("the checksum of sequence {sequence} does not match")));
        }
        Ok(match self.layout.kind {
            HiddenType::F32 => bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            HiddenType::F16 => bytes.as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b)).collect::<Vec<_>>().to_f32_vec(),
        })
    }
}

fn broken(pieces: &Pieces, offset: u64, what: &str) -> Error {
    pieces.error(offset, format!("{what}; the file is broken, make it again"))
}

/// The header, and where the data begin.
fn read_header(pieces: &Pieces) -> Result<(Metadata, u64)> {
    let none = |e: &dyn std::fmt::Display| pieces.error(0, format!("no reference store of bitworth: {e}"));
    let mut length = [0; 8];
    pieces.read(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Err(none(&format!("its header would have {length} bytes")));
    }
    let header = serde_json::from_slice(&pieces.bytes(8, length)?).map_err(|e| none(&e))?;
    Ok((header, 8 + length))
}

fn read_about(pieces: &Pieces, header: &Metadata) -> Result<StoreIdentity> {
    let text = header.metadata().as_ref().and_then(|all| all.get(KEY));
    let text = text.ok_or_else(|| pieces.error(8, format!("no reference store of bitworth: the header has no {KEY}")))?;
    let about: Versioned = serde_json::from_str(text).map_err(|e| broken(pieces, 8, &format!("{KEY}: {e}")))?;
    if about.version != VERSION {
        let what = format!(
            "a reference store of version {} (by bitworth {}), this program reads version {VERSION}; make it again",
            about.version, about.bitworth
        );
        return Err(pieces.error(8, what));
    }
    serde_json::from_value(about.rest).map_err(|e| broken(pieces, 8, &format!("{KEY}: {e}")))
}

/// The five parts, of the types and in the order that they should have; that they follow each other without gaps and have the
/// bytes of their shapes, the `safetensors` crate saw to.
fn parts<'a>(pieces: &Pieces, header: &'a Metadata) -> Result<[&'a TensorInfo; 5]> {
    let wrong = |name: &str| broken(pieces, 8, &format!("the part {name} is missing or not as it should be"));
    let mut parts = Vec::with_capacity(NAMES.len());
    for name in NAMES {
        let info = header.info(name).ok_or_else(|| wrong(name))?;
        let is_right = match (name, info.shape.as_slice()) {
            ("tokens", [_]) | ("sequences", [_, 3]) => info.dtype == Dtype::U32,
            ("hidden", [_, 1usize..=usize::MAX]) => matches!(info.dtype, Dtype::F32 | Dtype::F16),
            ("blocks", [_, HASH_BYTES]) | ("whole", [HASH_BYTES]) => info.dtype == Dtype::U8,
            _ => false,
        };
        let follows = parts.last().is_none_or(|before: &&TensorInfo| before.data_offsets.1 == info.data_offsets.0);
        if !is_right || !follows {
            return Err(wrong(name));
        }
        parts.push(info);
    }
    match <[_; 5]>::try_from(parts) {
        Ok(parts) if header.offset_keys().len() == NAMES.len() => Ok(parts),
        _ => Err(broken(pieces, 8, "there are other parts than those of a reference store")),
    }
}

fn hidden_type(dtype: Dtype) -> HiddenType {
    if dtype == Dtype::F16 { HiddenType::F16 } else { HiddenType::F32 }
}

/// The sequences whose tokens, one behind the other, are `tokens`; `None` where the numbers do not fit.
fn sequences(mut tokens: &[u32], numbers: &[u32]) -> Option<Vec<Sequence>> {
    let mut all = Vec::with_capacity(numbers.len() / 3);
    for &[count, start, end] in numbers.as_chunks::<3>().0 {
        let (own, rest) = tokens.split_at_checked(count as usize)?;
        if start > end || end >= count {
            return None;
        }
        all.push(Sequence { tokens: own.to_vec(), scored: start as usize..end as usize });
        tokens = rest;
    }
    tokens.is_empty().then_some(all)
}

//! `tokenizer.model`: the SentencePiece `ModelProto` (`sentencepiece_model.proto` of google/sentencepiece), as far as its
//! vocabulary goes: the pieces with their scores and types, and the algorithm it was trained for.
//!
//! The wire format is read here and not by prost: it would build all pieces before they can be counted, some twenty times the
//! bytes of a hostile file, and its errors do not say which piece is broken.
//!
//! Absent: the normalizer's and the denormalizer's rules, which llama.cpp's converter does not read either, and encoding.

use std::path::Path;

use super::{MAX_TOKENS, TokenType};
use crate::json::read_bytes;
use crate::message::Message;
use crate::{Error, Result, kind};

/// A token of a SentencePiece model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    /// With `▁` for spaces.
    pub text: String,
    /// Log-probability, or minus the rank of the merge that makes it.
    pub score: f32,
    /// User-defined pieces are normal ones here, as to llama.cpp's converter.
    pub kind: TokenType,
}

/// The pieces in `path` by id; `None` where there is no such file.
///
/// # Errors
/// The file cannot be read, is broken, too large, or made for another algorithm than BPE.
pub(super) fn read(path: &Path) -> Result<Option<Vec<Piece>>> {
    let Some(bytes) = read_bytes(path)? else { return Ok(None) };
    if let Some(what) = kind::of(&bytes) {
        return Err(Error::file(path, what));
    }
    parse(&bytes).map(Some).map_err(|what| Error::file(path, format!("is no SentencePiece model that can be read: {what}")))
}

/// The values of `TrainerSpec.model_type` other than BPE (2). The first is what an empty field means.
const OTHER_ALGORITHMS: [(u64, &str); 3] = [(1, "Unigram"), (3, "word"), (4, "character")];

fn parse(bytes: &[u8]) -> Result<Vec<Piece>, Message> {
    let mut pieces = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((field, value)) = reader.field()? {
        match (field, value) {
            (1, Field::Bytes(piece)) => {
                if pieces.len() == MAX_TOKENS {
                    return Err(format!("it has more than {MAX_TOKENS} pieces").into());
                }
                pieces.push(parse_piece(piece).map_err(|what| format!("piece {}: {what}", pieces.len()))?);
            }
            (2, Field::Bytes(trainer)) => check_trainer(trainer)?,
            (1 | 2, _) => return Err(format!("field {field} is no message").into()),
            _ => {}
        }
    }
    if pieces.is_empty() {
        return Err("it has no pieces".into());
    }
    Ok(pieces)
}

/// Merging by score, which is all that GGUF's `llama` vocabularies know, gives other ids than the other algorithms would.
fn check_trainer(bytes: &[u8]) -> Result<(), Message> {
    let mut model_type = OTHER_ALGORITHMS[0].0;
    let mut reader = Reader::new(bytes);
    while let Some((field, value)) = reader.field()? {
        if let (3, Field::Varint(value)) = (field, value) {
            model_type = value;
        }
    }
    match OTHER_ALGORITHMS.iter().find(|(id, _)| *id == model_type) {
        Some((_, name)) => Err(format!("it is a {name} model; only BPE models are supported").into()),
        None => Ok(()),
    }
}

fn parse_piece(bytes: &[u8]) -> Result<Piece, Message> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: TokenType::Normal };
    let mut reader = Reader::new(bytes);
    while let Some((field, value)) = reader.field()? {
        match (field, value) {
            (1, Field::Bytes(text)) => {
                piece.text = std::str::from_utf8(text).map_err(|_| "its text is no UTF-8")?.to_owned();
            }
            (2, Field::Fixed32(bits)) => piece.score = f32::from_le_bytes(bits),
            (3, Field::Varint(id)) => {
                let kind =
                    i32::try_from(id).ok().and_then(TokenType::from_id).ok_or_else(|| format!("its type {id} is unknown"))?;
                piece.kind = if kind == TokenType::UserDefined { TokenType::Normal } else { kind };
            }
            (1..=3, _) => return Err(format!("its field {field} is of another type").into()),
            _ => {}
        }
    }
    Ok(piece)
}

/// A field's value in Protocol Buffers' wire format. Fields of 8 bytes are of no use here and are not kept.
#[derive(Debug, PartialEq)]
enum Field<'a> {
    Varint(u64),
    Fixed64,
    Fixed32([u8; 4]),
    Bytes(&'a [u8]),
}

/// The fields of a message, in order.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and value; `None` at the end.
    fn field(&mut self) -> Result<Option<(u64, Field<'a>)>, Message> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed64)?,
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(length)?)
            }
            5 => {
                let mut bits = [0; 4];
                bits.copy_from_slice(self.take(4)?);
                Field::Fixed32(bits)
            }
            other => return Err(format!("wire type {other} is not supported").into()),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Message> {
        let split = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = split.ok_or_else(|| format!("{length} bytes are wanted, but {} are left", self.rest.len()))?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Message> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number has more than 64 bits".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message field of bytes.
    fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
        assert!(content.len() < 128);
        [&[field << 3 | 2, content.len() as u8], content].concat()
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        bytes(1, &[bytes(1, text.as_bytes()), [&[0x15][..], &score.to_le_bytes()].concat(), vec![0x18, kind]].concat())
    }

    /// Two pieces, a trainer for BPE with an unknown field of 8 bytes, and a normalizer.
    fn model() -> Vec<u8> {
        let trainer = [&[0x18, 2, 0x51][..], &[0; 8]].concat();
        [piece("<unk>", 0.0, 2), piece("▁t", -1.5, 4), bytes(2, &trainer), bytes(3, &bytes(1, b"identity"))].concat()
    }

    #[test]
    fn pieces_are_read_in_order() {
        let expected = [
            Piece { text: "<unk>".to_owned(), score: 0.0, kind: TokenType::Unknown },
            Piece { text: "▁t".to_owned(), score: -1.5, kind: TokenType::Normal },
        ];
        assert_eq!(parse(&model()).unwrap(), expected);
        let bare = [&model()[..], &bytes(1, &bytes(1, b"x"))[..]].concat();
        let last = Piece { text: "x".to_owned(), score: 0.0, kind: TokenType::Normal };
        assert_eq!(parse(&bare).unwrap().last(), Some(&last));
    }

    #[test]
    fn a_model_cut_anywhere_but_between_fields_is_refused() {
        let model = model();
        let ends: Vec<usize> = {
            let mut reader = Reader::new(&model);
            std::iter::from_fn(|| reader.field().unwrap().map(|_| model.len() - reader.rest.len())).collect()
        };
        for length in 0..model.len() {
            assert_eq!(parse(&model[..length]).is_ok(), ends.contains(&length), "{length} of {} bytes", model.len());
        }
    }

    #[test]
    fn what_is_broken_is_refused_with_its_reason() {
        for (bytes, what) in [
            (Vec::new(), "no pieces"),
            (bytes(1, &bytes(1, &[0xff])), "piece 0: its text is no UTF-8"),
            (bytes(1, &[0x18, 9]), "its type 9 is unknown"),
            (bytes(1, &[0x08, 1]), "its field 1 is of another type"),
            (vec![0x08, 1], "field 1 is no message"),
            (vec![0x0b], "wire type 3"),
            (vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], "4294967295 bytes are wanted, but 0 are left"),
            (vec![0xff; 11], "more than 64 bits"),
            ([piece("a", 0.0, 1), bytes(2, &[])].concat(), "a Unigram model"),
            ([piece("a", 0.0, 1), bytes(2, &[0x18, 3])].concat(), "a word model"),
        ] {
            let error = parse(&bytes).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}

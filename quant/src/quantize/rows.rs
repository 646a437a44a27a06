//! Some rows of one tensor on their way from one encoding to others, on one thread. What is absent: files, plans and threads.

use std::ops::Range;

use super::output::ALLOW_NON_FINITE;
use super::output::Clock;
use super::report::Sums;
use crate::checkpoint::Source;
use crate::message::Message;
use crate::tensor::Tensor;
use crate::tensor_bytes::TensorBytes;
use crate::{DType, Error, Result, mmap};

/// Weights that are decoded, encoded and measured at a time: few enough to stay in the processor's cache, rows of the error
/// report's sums. Part of what the report says, so it depends on nothing.
const PIECE_WEIGHTS: usize = 16 << 10;
/// Largest finite f16. Scales of quantized blocks are f16 and never larger than the largest weight of the block, so only
/// weights beyond this can make an encoding overflow.
const F16_MAX: f32 = 65504.0;

/// One encoding that is wanted of a tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct WantedEncoding<'a> {
    pub(super) dtype: DType,
    /// One weight per column, for tensors of experts one run of columns after another.
    pub(super) importance: Option<&'a [f32]>,
}

/// What one block of rows became in one encoding.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    /// Empty where the stored bytes are the encoded ones.
    pub(super) bytes: Vec<u8>,
    /// Of each piece, where the report is wanted.
    pub(super) sums: Vec<Sums>,
}

/// How rows are to be encoded, whichever they are.
#[derive(Clone, Copy)]
pub(super) struct Encoder<'a> {
    pub(super) source: &'a dyn Source,
    /// Whether weights may be infinite or not a number, and become so.
    pub(super) allow_non_finite: bool,
    /// Where the report is wanted.
    pub(super) clock: Option<Clock<'a>>,
}

/// Rows per piece of `tensor`.
pub(super) fn piece_rows(tensor: &Tensor) -> usize {
    (PIECE_WEIGHTS / tensor.cols().max(1)).max(1)
}

/// Rows per block: whole pieces of at most `weights`, but at least one.
pub(super) fn block_rows(tensor: &Tensor, weights: usize) -> usize {
    let piece = piece_rows(tensor);
    (weights / tensor.cols().max(1) / piece * piece).max(piece)
}

/// Bytes of a row of `tensor` in the encoding `dtype`.
pub(super) fn row_bytes(source: &dyn Source, tensor: &Tensor, dtype: DType) -> Result<usize> {
    dtype.row_bytes(tensor.cols()).ok_or_else(|| {
        let what = format!("rows of {} weights do not divide into {dtype} blocks of {}", tensor.cols(), dtype.block_len());
        Error::tensor(source.path(), &tensor.name, what)
    })
}

/// Encoded rows of the source; the pages of a mapped file are given back when it is dropped.
pub(super) struct SourceRows(TensorBytes);

impl std::ops::Deref for SourceRows {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for SourceRows {
    fn drop(&mut self) {
        if let TensorBytes::Mapped(map, range) = &self.0 {
            mmap::release(map, range);
        }
    }
}

impl SourceRows {
    /// Reads `rows` of `tensor`.
    pub(super) fn read(source: &dyn Source, tensor: &Tensor, rows: Range<usize>) -> Result<Self> {
        let stored = source.read(tensor, rows.clone())?;
        let row_bytes = row_bytes(source, tensor, tensor.dtype)?;
        if stored.len() != rows.len() * row_bytes {
            let what = format!("{} bytes were read for {} rows of {row_bytes} bytes", stored.len(), rows.len());
            return Err(Error::tensor(source.path(), &tensor.name, what));
        }
        if let TensorBytes::Mapped(map, range) = &stored {
            mmap::populate(map, range);
        }
        Ok(Self(stored))
    }
}

impl Encoder<'_> {
    /// `stored`, the rows of `tensor` from `first_row` on (the first of a piece), in each of the encodings of `encodings`.
    pub(super) fn encode(
        &self,
        tensor: &Tensor,
        first_row: usize,
        stored: &[u8],
        encodings: &[WantedEncoding],
    ) -> Result<Vec<Encoded>> {
        let cols = tensor.cols();
        let stored_row_bytes = row_bytes(self.source, tensor, tensor.dtype)?;
        let rows = stored.len() / stored_row_bytes;
        let mut encoded = Vec::with_capacity(encodings.len());
        for encoding in encodings {
            let row_bytes = row_bytes(self.source, tensor, encoding.dtype)?;
            let bytes = if encoding.dtype == tensor.dtype { Vec::new() } else { vec![0; rows * row_bytes] };
            encoded.push(Encoded { bytes, sums: Vec::new() });
        }
        let allow_non_finite = self.allow_non_finite || tensor.dtype.is_carried();
        let only_copies = self.clock.is_none() && encodings.iter().all(|encoding| encoding.dtype == tensor.dtype);
        if only_copies && (allow_non_finite || stored_is_finite(tensor.dtype, stored)) {
            return Ok(encoded);
        }

        let piece_rows = piece_rows(tensor).min(rows);
        let (mut buffer, mut back) = (vec![0.0; piece_rows * cols], Vec::new());
        for (p, piece) in stored.chunks(piece_rows * stored_row_bytes).enumerate() {
            let at = PieceStart { tensor, row: first_row + p * piece_rows };
            let n = piece.len() / stored_row_bytes;
            let weights = decode(tensor.dtype, piece, &mut buffer[..n * cols]);
            let fit = fit_f16(weights);
            if !fit && !allow_non_finite {
                let what = Message::from("in the source; use a checkpoint without such weights, or allow them with ")
                    .then(ALLOW_NON_FINITE);
                self.refuse_non_finite(at, weights, what)?;
            }
            for (encoding, encoded) in encodings.iter().zip(&mut encoded) {
                let row_bytes = encoded.bytes.len() / rows;
                let bytes = &mut encoded.bytes[p * piece_rows * row_bytes..][..n * row_bytes];
                let began = self.clock.map(|clock| clock());
                if encoding.dtype != tensor.dtype {
                    for (r, (row, out)) in weights.chunks_exact(cols).zip(bytes.chunks_exact_mut(row_bytes)).enumerate() {
                        encoding.dtype.encode_row(row, at.importance(encoding, r), out);
                    }
                }
                let took = self.clock.map(|clock| clock() - began.unwrap_or_default());
                let copied = encoding.dtype == tensor.dtype;
                // Weights that fit have scales that fit, unless the sums of a search overflow by their importance.
                let check = (!fit || encoding.importance.is_some()) && !copied && !self.allow_non_finite;
                if !copied && (check || took.is_some()) {
                    back.resize(weights.len(), 0.0);
                    encoding.dtype.decode_row(bytes, &mut back);
                }
                if check {
                    let largest = weights.iter().fold(0f32, |largest, w| largest.max(w.abs()));
                    let dtype = encoding.dtype;
                    let what = match fit {
                        true => format!("as {dtype}, because importance weights are too large; collect the matrix again"),
                        false => format!("as {dtype}, because the weights are as large as {largest:e}; choose bf16 or f32"),
                    };
                    self.refuse_non_finite(at, &back, what.into())?;
                }
                if let Some(seconds) = took {
                    let mut sums = Sums { seconds, ..Sums::default() };
                    let decoded = if copied { weights } else { &back };
                    for (r, (x, y)) in weights.chunks_exact(cols).zip(decoded.chunks_exact(cols)).enumerate() {
                        sums.add_row(x, y, at.importance(encoding, r));
                    }
                    encoded.sums.push(sums);
                }
            }
        }
        Ok(encoded)
    }

    /// The error for the first weight among `weights` that is not finite.
    fn refuse_non_finite(&self, at: PieceStart, weights: &[f32], what: Message) -> Result<()> {
        let Some(i) = weights.iter().position(|w| !w.is_finite()) else { return Ok(()) };
        let (row, column) = (at.row + i / at.tensor.cols(), i % at.tensor.cols());
        let what = Message::from(format!("row {row}, column {column}: the weight is {} ", weights[i])).then(what);
        Err(Error::tensor(self.source.path(), &at.tensor.name, what))
    }
}

/// Where a piece begins.
#[derive(Clone, Copy)]
struct PieceStart<'a> {
    tensor: &'a Tensor,
    row: usize,
}

impl PieceStart<'_> {
    /// The importance of the columns of row `r` of the piece: that of its expert.
    fn importance<'i>(&self, encoding: &WantedEncoding<'i>, r: usize) -> Option<&'i [f32]> {
        let expert = (self.row + r) / rows_per_expert(self.tensor);
        encoding.importance.map(|weights| &weights[expert * self.tensor.cols()..][..self.tensor.cols()])
    }
}

/// Rows that share one run of columns of an importance matrix: the matrix of one expert in a tensor of three dimensions.
pub(super) fn rows_per_expert(tensor: &Tensor) -> usize {
    tensor.shape.get(1).map_or(1, |&rows| rows.max(1))
}

/// The weights themselves where the stored bytes are such, else decoded into `buffer`.
pub(super) fn decode<'a>(dtype: DType, stored: &'a [u8], buffer: &'a mut [f32]) -> &'a [f32] {
    if cfg!(target_endian = "little")
        && dtype == DType::F32
        && let Ok(weights) = bytemuck::try_cast_slice(stored)
    {
        return weights;
    }
    dtype.decode_row(stored, buffer);
    buffer
}

/// Whether all weights are finite as f16, and so by far as anything else.
fn fit_f16(weights: &[f32]) -> bool {
    !weights.iter().fold(false, |any, w| any | (w.to_bits() & 0x7fff_ffff > F16_MAX.to_bits()))
}

/// Whether no stored weight is infinite or not a number, by the exponents alone; false where it must be decoded to know.
fn stored_is_finite(dtype: DType, stored: &[u8]) -> bool {
    let halves = |exponent: u16| {
        let halves = stored.as_chunks::<2>().0;
        !halves.iter().fold(false, |any, h| any | (u16::from_le_bytes(*h) & exponent == exponent))
    };
    match dtype {
        DType::F16 => halves(0x7c00),
        DType::BF16 => halves(0x7f80),
        DType::F32 => {
            let words = stored.as_chunks::<4>().0;
            !words.iter().fold(false, |any, w| any | (u32::from_le_bytes(*w) & 0x7f80_0000 == 0x7f80_0000))
        }
        _ => false,
    }
}

//! AWQ as AutoAWQ's `gemm` stores it: `qweight` I32 `[cols, rows / 8]`, `qzeros` I32 `[groups, rows / 8]`, `scales` F16
//! `[groups, rows]`. The eight numbers of a word are those of rows 0, 2, 4, 6, 1, 3, 5 and 7, low bits first.

use super::grouped::{GroupOf, Grouped};
use super::{Floats, Found, SourceFormat, Weight};
use crate::Result;

pub(super) const FORMAT: SourceFormat =
    SourceFormat { name: "AWQ", methods: &["awq"], markers: &[".qweight"], behind: true, read };

const BITS: usize = 4;
/// Rows in a word.
const IN_WORD: usize = 32 / BITS;
/// Where in a word each of its rows is.
const PLACES: [usize; IN_WORD] = [0, 4, 1, 5, 2, 6, 3, 7];

fn read(found: &Found) -> Result<Option<Weight>> {
    let settings = found.settings;
    if settings.method() != Some("awq") {
        // No other method has such a tensor.
        let method = settings.method().unwrap_or("nothing");
        let what = format!("is of GPTQ or AWQ, but quant_method says {method}; known: gptq, awq");
        return Err(found.error(found.tensor, what));
    }
    let version = settings.text("version")?.unwrap_or("gemm").to_ascii_lowercase();
    if version != "gemm" {
        return Err(settings.error("version", format!("{version:?} is not supported; only \"gemm\" is")));
    }
    let bits = settings.size("bits")?.or(settings.size("w_bit")?).unwrap_or(BITS);
    if bits != BITS {
        return Err(settings.error("bits", format!("is {bits}, but AWQ has {BITS}")));
    }
    let (codes, zeros, scales) = (found.tensor, found.require(".qzeros")?, found.require(".scales")?);
    for tensor in [codes, zeros] {
        found.check_type(tensor, &["I32"])?;
    }
    let ([cols, words], [groups, rows]) = (found.matrix(codes)?, found.matrix(scales)?);
    if words.checked_mul(IN_WORD) != Some(rows) {
        let what = format!("has the shape {:?}, but {} has {words} words of {IN_WORD} rows", scales.shape, codes.name);
        return Err(found.error(scales, what));
    }
    found.check_shape(zeros, &[groups, words])?;
    let size = settings.size("group_size")?.or(settings.size("q_group_size")?).unwrap_or(cols);
    if groups.checked_mul(size) != Some(cols) {
        let what = format!("has {groups} groups, but {cols} columns are no such number of groups of {size} (group_size)");
        return Err(found.error(scales, what));
    }
    let packed = Grouped {
        bits: BITS,
        rows,
        cols,
        groups,
        group_of: GroupOf::Size(size),
        codes: codes.span(),
        col_at: |m, col| (col * (m.rows / IN_WORD), 0),
        row_at: |_, row| (row / IN_WORD, bit(row)),
        step: 0,
        zeros: zeros.span(),
        zero_at: |m, row, group| (group * (m.rows / IN_WORD) + row / IN_WORD, bit(row)),
        zero_offset: 0,
        scales: Floats::of(found, scales)?,
    };
    let from = [Some(codes), Some(zeros), Some(scales)];
    Ok(Some(found.weight(format!("{}.weight", found.base), vec![rows, cols], packed, &from)))
}

/// Where in its word a row is.
fn bit(row: usize) -> usize {
    BITS * PLACES[row % IN_WORD]
}

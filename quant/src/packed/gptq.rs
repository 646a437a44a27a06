//! GPTQ as AutoGPTQ and GPTQModel store it: `qweight` I32 `[cols * bits / 32, rows]`, `qzeros` I32 `[groups, rows * bits / 32]`,
//! `scales` `[groups, rows]` and, for each column, its group in `g_idx`. Numbers follow each other from the low bits on, of 3
//! bits across words. Zero points are stored less 1, unless `checkpoint_format` is `gptq_v2`.

use super::grouped::{GroupOf, Grouped};
use super::{Floats, Found, SourceFormat, Weight};
use crate::Result;

pub(super) const FORMAT: SourceFormat =
    SourceFormat { name: "GPTQ", methods: &["gptq"], markers: &[".qweight"], behind: true, read };

const BITS: &[usize] = &[2, 3, 4, 8];
const LAYOUTS: &[&str] = &["gptq", "gptq_v2"];

fn read(found: &Found) -> Result<Option<Weight>> {
    let settings = found.settings;
    if settings.method() != Some("gptq") {
        return Ok(None);
    }
    let layout = settings.text("checkpoint_format")?.unwrap_or("gptq");
    if !LAYOUTS.contains(&layout) {
        return Err(settings.error("checkpoint_format", format!("{layout:?} is not supported; known: {}", LAYOUTS.join(", "))));
    }
    let stated = settings.size("bits")?.ok_or_else(|| settings.error("bits", "is missing"))?;
    let (codes, zeros, scales) = (found.tensor, found.require(".qzeros")?, found.require(".scales")?);
    for tensor in [codes, zeros] {
        found.check_type(tensor, &["I32"])?;
    }
    let ([words, rows], [groups, scale_rows]) = (found.matrix(codes)?, found.matrix(scales)?);
    let list = found.get(".g_idx");
    // Modules may have bits and groups of their own; then the list of groups says how many columns there are.
    let of_list = list.map(|list| list.shape.iter().product::<usize>()).filter(|&cols| cols > 0);
    let bits = match of_list.filter(|_| settings.has("dynamic")) {
        Some(cols) => words.saturating_mul(32) / cols,
        None => stated,
    };
    if !BITS.contains(&bits) {
        return Err(settings.error("bits", format!("is {bits} for {}; known: 2, 3, 4, 8", codes.name)));
    }
    let cols = words.checked_mul(32).filter(|bits_of| bits_of.is_multiple_of(bits)).map(|bits_of| bits_of / bits);
    let cols = cols.ok_or_else(|| found.error(codes, format!("has {words} words a row, which are no numbers of {bits} bits")))?;
    if scale_rows != rows || !(rows * bits).is_multiple_of(32) {
        let what = format!("has the shape {:?}, but {} has {rows} rows of {bits} bits", scales.shape, codes.name);
        return Err(found.error(scales, what));
    }
    found.check_shape(zeros, &[groups, rows * bits / 32])?;
    let stated = settings.size("group_size")?.unwrap_or(cols);
    let is_own = settings.has("dynamic") && groups > 0 && cols.is_multiple_of(groups);
    let size = if is_own { cols / groups } else { stated };
    if cols.div_ceil(size) != groups {
        let what =
            format!("has {groups} groups, but {cols} columns in groups of {size} (group_size) are {}", cols.div_ceil(size));
        return Err(found.error(scales, what));
    }
    let group_of = match list {
        Some(list) => {
            found.check_shape(list, &[cols])?;
            GroupOf::listed(found, list, groups, size)?
        }
        None if settings.flag("desc_act")? == Some(true) => {
            return Err(found
                .require(".g_idx")
                .err()
                .unwrap_or_else(|| settings.error("desc_act", "is true, and no list says which column is of which group")));
        }
        None => GroupOf::Size(size),
    };
    let packed = Grouped {
        bits,
        rows,
        cols,
        groups,
        group_of,
        codes: codes.span(),
        col_at: |m, col| (col * m.bits / 32 * m.rows, col * m.bits % 32),
        row_at: |_, row| (row, 0),
        step: rows,
        zeros: zeros.span(),
        zero_at: |m, row, group| (group * (m.rows * m.bits / 32) + row * m.bits / 32, row * m.bits % 32),
        zero_offset: i32::from(layout == "gptq"),
        scales: Floats::of(found, scales)?,
    };
    let from = [Some(codes), Some(zeros), Some(scales), list];
    Ok(Some(found.weight(format!("{}.weight", found.base), vec![rows, cols], packed, &from)))
}

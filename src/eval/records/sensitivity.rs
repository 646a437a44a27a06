//! Tables of sensitivities as parquet files: a row a unit and type, with what the whole table is of in each.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use bitworth_quant::{Error, Result};
use polars::prelude::{Column, DataFrame, IntoColumn, NamedFrom, Series};
use polars_io::SerReader;
use polars_io::prelude::{ParallelStrategy, ParquetReader};

use super::{FrameRow, bad_row, write_parquet};
use crate::sensitivity::{Sensitivity, SensitivityOrigin, SensitivityTable};
use bitworth_quant::message::{Command, Message};

/// Grows whenever the columns change.
const VERSION: u32 = 1;
/// More rows than units and types of any model; what has more is no such table.
const MOST_ROWS: usize = 10_000_000;

/// Writes a table in one step.
///
/// # Errors
/// A file that cannot be written.
pub fn write(path: &Path, table: &SensitivityTable) -> Result<()> {
    let SensitivityTable { origin, rows } = table;
    fn column<'a, T>(name: &str, rows: &'a [Sensitivity], get: impl Fn(&'a Sensitivity) -> Option<T>) -> Column
    where
        Series: NamedFrom<Vec<Option<T>>, [Option<T>]>,
    {
        Series::new(name.into(), rows.iter().map(get).collect::<Vec<Option<T>>>()).into_column()
    }
    let columns = vec![
        column("sensitivities", rows, |_| Some(VERSION)),
        column("bitworth", rows, |_| Some(origin.bitworth.as_str())),
        column("model_sha256", rows, |_| Some(origin.model_sha256.as_str())),
        column("text_sha256", rows, |_| Some(origin.text_sha256.as_str())),
        column("imatrix_sha256", rows, |_| origin.imatrix_sha256.as_deref()),
        column("tokens", rows, |_| Some(origin.tokens)),
        column("ctx", rows, |_| Some(origin.ctx)),
        column("unit", rows, |row| Some(row.unit.as_str())),
        column("block", rows, |row| row.block),
        column("type", rows, |row| Some(row.to.as_str())),
        column("bytes", rows, |row| Some(row.bytes)),
        column("err", rows, |row| Some(row.err)),
        column("kld", rows, |row| row.kld),
        column("kld_error", rows, |row| row.kld_error),
        column("shared", rows, |row| Some(row.shared)),
    ];
    write_parquet(path, DataFrame::new(rows.len(), columns))
}

/// Reads a table.
///
/// # Errors
/// A file that cannot be read or holds anything else, or rows of several measurements.
pub fn read(path: &Path) -> Result<SensitivityTable> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let frame = ParquetReader::new(file).read_parallel(ParallelStrategy::None).set_rechunk(true).finish();
    let frame = frame.map_err(|e| Error::file(path, format!("is not a readable parquet file: {e}")))?;
    let height = frame.height();
    if !(1..=MOST_ROWS).contains(&height) {
        return Err(Error::file(path, format!("has {height} rows, and is not a table of sensitivities")));
    }
    if frame.column("sensitivities").is_err() {
        let what = Message::from("is not a table of sensitivities; ").then(Command::Measure).then(" makes one");
        return Err(Error::file(path, what));
    }
    let mut table: Option<SensitivityTable> = None;
    let mut known = HashSet::new();
    for row in 0..height {
        let (origin, own) = parse(FrameRow { frame: &frame, row }).map_err(|what| bad_row(path, row, what))?;
        let table = table.get_or_insert_with(|| SensitivityTable { origin: origin.clone(), rows: Vec::with_capacity(height) });
        if table.origin != origin {
            return Err(bad_row(path, row, "is of another measurement than the rows before it".into()));
        }
        if !known.insert((own.unit.clone(), own.block, own.to.clone())) {
            return Err(bad_row(path, row, format!("{} in {} is there twice", own.unit, own.to).into()));
        }
        table.rows.push(own);
    }
    table.ok_or_else(|| Error::file(path, "is empty"))
}

fn parse(row: FrameRow<'_>) -> Result<(SensitivityOrigin, Sensitivity), Message> {
    let version = row.u32("sensitivities")?;
    if version != VERSION {
        return Err(format!("written in version {version}, this program reads {VERSION}; measure again").into());
    }
    let origin = SensitivityOrigin {
        bitworth: row.text("bitworth")?,
        model_sha256: row.text("model_sha256")?,
        text_sha256: row.text("text_sha256")?,
        imatrix_sha256: row.opt_text("imatrix_sha256")?,
        tokens: row.u64("tokens")?,
        ctx: row.u32("ctx")?,
    };
    let own = Sensitivity {
        unit: row.text("unit")?,
        block: row.opt_u32("block")?,
        to: row.text("type")?,
        bytes: row.u64("bytes")?,
        err: row.f64("err")?,
        kld: row.opt_f64("kld")?,
        kld_error: row.opt_f64("kld_error")?,
        shared: row.flag("shared")?,
    };
    let numbers = [Some(own.err), own.kld, own.kld_error];
    if numbers.into_iter().flatten().any(|number| !number.is_finite()) {
        return Err("holds a number that is infinite or none".into());
    }
    Ok((origin, own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> SensitivityTable {
        let origin = SensitivityOrigin {
            bitworth: "0".into(),
            model_sha256: "m".into(),
            text_sha256: "t".into(),
            imatrix_sha256: None,
            tokens: 512,
            ctx: 128,
        };
        let row = |unit: &str, block, to: &str, kld| Sensitivity {
            unit: unit.into(),
            block,
            to: to.into(),
            bytes: 77,
            err: 0.25,
            kld,
            kld_error: kld.map(|kld: f64| kld / 3.0),
            shared: false,
        };
        let rows = vec![
            row("token_embd", None, "q3_k", Some(0.125)),
            row("attn_qk", Some(0), "q3_k", Some(1e-9)),
            row("attn_qk", Some(0), "q4_k", None),
        ];
        SensitivityTable { origin, rows }
    }

    #[test]
    fn a_table_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.parquet");
        write(&path, &table()).unwrap();
        assert_eq!(read(&path).unwrap(), table());
    }

    #[test]
    fn other_tables_and_broken_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.parquet");
        let refused = |expected: &str| {
            let message = read(&path).unwrap_err().to_string();
            assert!(message.contains("s.parquet") && message.contains(expected), "{message}");
        };
        refused("s.parquet");
        std::fs::write(&path, "no table").unwrap();
        refused("not a readable parquet file");
        let other = Series::new("x".into(), vec![1u32]).into_column();
        write_parquet(&path, DataFrame::new(1, vec![other])).unwrap();
        refused("the command measure makes one");
        let mut twice = table();
        twice.rows.push(twice.rows[1].clone());
        write(&path, &twice).unwrap();
        refused("twice");
        let mut infinite = table();
        infinite.rows[0].err = f64::INFINITY;
        write(&path, &infinite).unwrap();
        refused("infinite");
        let mut empty = table();
        empty.rows.clear();
        write(&path, &empty).unwrap();
        refused("0 rows");
    }
}

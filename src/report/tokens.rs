//! Scored tokens and sequences as parquet files, for those who analyze them elsewhere. Nothing rounded; the reference lane has
//! nulls where a lane is compared with it. Absent: a report from them (see `bitworth_eval::records` for the records that reports
//! are made of).

use std::path::{Path, PathBuf};

use bitworth_quant::Result;
use polars::prelude::{Column, DataFrame, IntoColumn, NamedFrom, Series};

use bitworth_eval::record::{Against, Layer, SequenceRecord, Token, TokenAgainst, TokenSequence};
use bitworth_eval::records::write_parquet;

/// One lane's part in the files.
pub struct LaneTokens<'a> {
    /// The lane's name.
    pub lane: &'a str,
    /// The tokens of every sequence.
    pub sequences: &'a [TokenSequence],
    /// The records of the same sequences.
    pub records: &'a [SequenceRecord],
}

/// What all lanes have in common.
pub struct Common<'a> {
    /// The reference's name.
    pub model: &'a str,
    /// The device that ran.
    pub device: &'a str,
}

/// The files that [`write()`] makes in a folder: tokens, sequences.
pub fn paths(dir: &Path) -> [PathBuf; 2] {
    ["tokens.parquet", "sequences.parquet"].map(|name| dir.join(name))
}

/// Writes both files of [`paths`]: one row per lane, sequence and scored token; one row per lane and sequence.
///
/// # Errors
/// A file that cannot be written.
pub fn write(dir: &Path, common: &Common<'_>, lanes: &[LaneTokens<'_>]) -> Result<()> {
    let [tokens, sequences] = paths(dir);
    write_tokens(&tokens, lanes)?;
    write_sequences(&sequences, common, lanes)
}

/// The file of [`write_layers`] in a folder.
pub fn layers_path(dir: &Path) -> PathBuf {
    dir.join("layers.parquet")
}

/// Writes the errors of activations: one row per lane, block and sequence.
///
/// # Errors
/// A file that cannot be written.
#[rustfmt::skip] // one column a line
pub fn write_layers<'a>(path: &Path, lanes: impl Iterator<Item = (&'a str, &'a [Layer])>) -> Result<()> {
    let rows: Vec<(&str, &Layer)> = lanes.flat_map(|(lane, layers)| layers.iter().map(move |layer| (lane, layer))).collect();
    let r = || rows.iter();
    let columns = vec![
        column("lane", r().map(|r| r.0)),
        column("block", r().map(|r| r.1.block)),
        column("sequence", r().map(|r| r.1.sequence)),
        column("rows", r().map(|r| r.1.rows)),
        column("error_sq_sum", r().map(|r| r.1.error)),
        column("reference_sq_sum", r().map(|r| r.1.reference)),
        column("relative_error", r().map(|r| (r.1.error / r.1.reference).sqrt())),
    ];
    write_parquet(path, DataFrame::new(rows.len(), columns))
}

fn column<T>(name: &str, values: impl Iterator<Item = T>) -> Column
where
    Series: NamedFrom<Vec<T>, [T]>,
{
    Series::new(name.into(), values.collect::<Vec<T>>()).into_column()
}

fn optional<T>(name: &str, values: impl Iterator<Item = Option<T>>) -> Column
where
    Series: NamedFrom<Vec<Option<T>>, [Option<T>]>,
{
    Series::new(name.into(), values.collect::<Vec<_>>()).into_column()
}

#[rustfmt::skip] // one column a line
fn write_tokens(path: &Path, lanes: &[LaneTokens<'_>]) -> Result<()> {
    type TokenRow<'a> = (&'a str, &'a TokenSequence, u32, &'a Token);
    let rows: Vec<TokenRow<'_>> = lanes
        .iter()
        .flat_map(|lane| lane.sequences.iter().map(|s| (lane.lane, s)))
        .flat_map(|(lane, s)| (s.first..).zip(&s.tokens).map(move |(position, token)| (lane, s, position, token)))
        .collect();
    let r = || rows.iter();
    let against = |of: fn(TokenAgainst) -> f64| r().map(move |r| r.3.against.map(of));
    let columns = vec![
        column("lane", r().map(|r| r.0)),
        column("sequence", r().map(|r| r.1.sequence)),
        column("position", r().map(|r| r.2)),
        column("token", r().map(|r| r.3.token)),
        column("nll", r().map(|r| r.3.nll)),
        column("rank", r().map(|r| r.3.rank)),
        column("entropy", r().map(|r| r.3.entropy)),
        column("argmax", r().map(|r| r.3.argmax)),
        optional("kld", against(|a| a.kld)),
        optional("reverse_kld", against(|a| a.reverse_kld)),
        optional("delta_p", against(|a| a.delta_p)),
    ];
    write_parquet(path, DataFrame::new(rows.len(), columns))
}

#[rustfmt::skip] // one column a line
fn write_sequences(path: &Path, common: &Common<'_>, lanes: &[LaneTokens<'_>]) -> Result<()> {
    let rows: Vec<(&str, &TokenSequence, &SequenceRecord)> =
        lanes.iter().flat_map(|lane| lane.sequences.iter().zip(lane.records).map(|(s, r)| (lane.lane, s, r))).collect();
    let r = || rows.iter();
    let against = |of: fn(&Against) -> f64| r().map(move |r| r.2.against.as_ref().map(of));
    let columns = vec![
        column("model", r().map(|_| common.model)),
        column("device", r().map(|_| common.device)),
        column("text_sha256", r().map(|r| r.2.text_sha256.as_str())),
        column("ctx", r().map(|r| r.2.protocol.ctx)),
        column("lane", r().map(|r| r.0)),
        column("sequence", r().map(|r| r.1.sequence)),
        column("position", r().map(|r| r.1.first)),
        column("tokens", r().map(|r| r.2.tokens)),
        column("bytes", r().map(|r| r.1.bytes)),
        column("nll_sum", r().map(|r| r.2.nll_sum)),
        column("entropy_sum", r().map(|r| r.1.tokens.iter().map(|t| t.entropy).sum::<f64>())),
        optional("kld_sum", against(|a| a.kld.iter().sum())),
        optional("reverse_kld_sum", r().map(|r| {
            let sum = r.1.tokens.iter().map(|t| t.against.map(|a| a.reverse_kld)).sum::<Option<f64>>();
            sum.filter(|_| r.2.against.is_some())
        })),
        optional("top1_matches", r().map(|r| r.2.against.as_ref().map(|a| a.top1_matches))),
        optional("delta_p_sum", against(|a| a.delta_p_sum)),
        optional("delta_p_sq_sum", against(|a| a.delta_p_sq_sum)),
    ];
    write_parquet(path, DataFrame::new(rows.len(), columns))
}

#[cfg(test)]
mod tests {
    use polars::prelude::AnyValue;
    use polars_io::SerReader;
    use polars_io::prelude::ParquetReader;

    use super::*;
    use bitworth_eval::record::{Protocol, Windowing};

    fn token(nll: f64, against: Option<TokenAgainst>) -> Token {
        Token { token: 7, nll, rank: 3, entropy: 1.0 / 3.0, argmax: 9, against }
    }

    fn cells(path: &Path, row: usize) -> Vec<(String, String)> {
        let frame = ParquetReader::new(std::fs::File::open(path).unwrap()).finish().unwrap();
        let cell = |value: AnyValue<'_>| match value {
            AnyValue::String(text) => text.to_owned(),
            AnyValue::Float64(number) => format!("{number:?}"),
            other => other.to_string(),
        };
        frame.columns().iter().map(|c| (c.name().to_string(), cell(c.get(row).unwrap()))).collect()
    }

    #[track_caller]
    fn check(path: &Path, row: usize, expected: &[(&str, &str)]) {
        let cells = cells(path, row);
        for &(name, value) in expected {
            let cell = cells.iter().find(|(found, _)| found == name);
            assert_eq!(cell.map(|(_, value)| value.as_str()), Some(value), "{name} of row {row}");
        }
    }

    #[test]
    fn every_token_and_every_sequence_has_a_row() {
        let dir = tempfile::tempdir().unwrap();
        let against = |kld| TokenAgainst { kld, reverse_kld: 2.0 * kld, delta_p: -0.5, same_top: kld < 0.2 };
        let sequence = |tokens| TokenSequence { sequence: 4, bytes: 11, first: 256, tokens };
        let lanes = [
            vec![sequence(vec![token(0.1 + 0.2, None), token(2.0, None)])],
            vec![sequence(vec![token(1.0, Some(against(0.125))), token(2.5, Some(against(0.25)))])],
        ];
        let record = |s: &TokenSequence| {
            let (nll_sum, against) = s.sums();
            let protocol = Protocol { pass: Windowing::Windows, ctx: 512, first: 256, bos: true };
            SequenceRecord {
                text: None,
                kept: None,
                text_sha256: "00ff".into(),
                protocol,
                sequence: s.sequence,
                tokens: s.tokens.len() as u32,
                bytes: s.bytes,
                nll_sum,
                against,
            }
        };
        let records: Vec<Vec<SequenceRecord>> = lanes.iter().map(|lane| lane.iter().map(record).collect()).collect();
        let rows = |i: usize| LaneTokens { lane: ["ref", "q4_0"][i], sequences: &lanes[i], records: &records[i] };
        write(dir.path(), &Common { model: "m", device: "d" }, &[rows(0), rows(1)]).unwrap();
        let [tokens, sequences] = paths(dir.path());
        let own = [("lane", "ref"), ("sequence", "4"), ("position", "256"), ("token", "7"), ("nll", "0.30000000000000004")];
        check(&tokens, 0, &own);
        check(
            &tokens,
            0,
            &[("rank", "3"), ("entropy", "0.3333333333333333"), ("argmax", "9"), ("kld", "null"), ("delta_p", "null")],
        );
        let other =
            [("lane", "q4_0"), ("position", "257"), ("nll", "2.5"), ("kld", "0.25"), ("reverse_kld", "0.5"), ("delta_p", "-0.5")];
        check(&tokens, 3, &other);
        check(
            &sequences,
            0,
            &[("model", "m"), ("device", "d"), ("ctx", "512"), ("lane", "ref"), ("kld_sum", "null"), ("reverse_kld_sum", "null")],
        );
        let sums = [("tokens", "2"), ("bytes", "11"), ("nll_sum", "3.5"), ("kld_sum", "0.375"), ("reverse_kld_sum", "0.75")];
        check(&sequences, 1, &sums);
        check(&sequences, 1, &[("top1_matches", "1"), ("delta_p_sum", "-1.0"), ("delta_p_sq_sum", "0.5"), ("position", "256")]);
    }
}

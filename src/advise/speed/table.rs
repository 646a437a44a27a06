//! A table of measured or asked-for speeds, in the columns of a spreadsheet: one row a machine, backend, model, quantization and
//! workload. Reads and writes the text of such files; what the words in a row mean is the matter of `resolve`.

use std::path::Path;

use bitworth_quant::message::Message;
use bitworth_quant::{Error, Result};
use serde::Deserialize;

/// Most rows of a table, far beyond what anybody measured.
const MAX_ROWS: usize = 1_000_000;

/// One row. Numbers that are not there are `None`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SpeedRow {
    /// The machine's name.
    pub hardware: String,
    /// What tells it from others of that name.
    #[serde(default)]
    pub gpu_cores_or_variant: String,
    /// Memory of one device, GB.
    #[serde(default)]
    pub memory_gb: Option<f64>,
    /// Nominal bandwidth of one device, GB/s.
    #[serde(default)]
    pub bandwidth_gbs: Option<f64>,
    /// The backend, with driver or version.
    #[serde(default)]
    pub backend: String,
    /// When it was measured, or the software made: `2024-05`, `2023-11 to 2025`.
    #[serde(default)]
    pub date: String,
    /// The model's name.
    pub model: String,
    /// Its parameters, in 10^9.
    #[serde(default)]
    pub params_b: Option<f64>,
    /// The quantization's name.
    pub quant: String,
    /// Size of the file, GiB.
    #[serde(default)]
    pub model_file_gib: Option<f64>,
    /// Tokens of the prompt.
    #[serde(default)]
    pub n_prompt: Option<f64>,
    /// Measured prefill, tokens/s.
    #[serde(default)]
    pub pp_tok_s: Option<f64>,
    /// Decoded tokens.
    #[serde(default)]
    pub n_gen: Option<f64>,
    /// Measured decoding, tokens/s.
    #[serde(default)]
    pub tg_tok_s: Option<f64>,
    /// Tokens in the cache before.
    #[serde(default)]
    pub depth: Option<f64>,
    /// Identical devices.
    #[serde(default)]
    pub n_devices: Option<u32>,
    /// Whether the prefill is fit for judging forecasts.
    #[serde(default)]
    pub score_pp: Option<f64>,
    /// Whether the decoding is.
    #[serde(default)]
    pub score_tg: Option<f64>,
}

/// A table: the text of its cells, and what they say.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeedTable {
    /// The header.
    pub columns: Vec<String>,
    /// The cells, as they stand in the file.
    pub cells: Vec<Vec<String>>,
    /// The rows, read.
    pub rows: Vec<SpeedRow>,
}

impl SpeedTable {
    /// Reads a table from the text of a file.
    ///
    /// # Errors
    /// What is no CSV, lacks a column, or holds a number that is negative, not finite or no number, with its line.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.trim_start_matches('\u{feff}').as_bytes());
        let fail = |e: csv::Error| Error::file(path, e.to_string());
        let headers = reader.headers().map_err(fail)?.clone();
        for needed in ["hardware", "model", "quant"] {
            if !headers.iter().any(|h| h == needed) {
                let what = format!(
                    "has no column {needed}; a table of speeds has hardware, model, quant, backend, n_prompt, n_gen, depth, ..."
                );
                return Err(Error::file(path, what));
            }
        }
        let (mut cells, mut rows) = (Vec::new(), Vec::new());
        for record in reader.records() {
            let record = record.map_err(fail)?;
            let line = record.position().map_or(0, csv::Position::line);
            if rows.len() == MAX_ROWS {
                return Err(Error::file(path, format!("has more than {MAX_ROWS} rows")));
            }
            let row: SpeedRow = record.deserialize(Some(&headers)).map_err(fail)?;
            row.check().map_err(|what| Error::file(path, Message::from(format!("line {line}: ")).then(what)))?;
            cells.push(record.iter().map(str::to_owned).collect());
            rows.push(row);
        }
        Ok(Self { columns: headers.iter().map(str::to_owned).collect(), cells, rows })
    }

    /// The text of a file: the cells as they were, and further columns after them. Columns of those names that were there are
    /// replaced.
    pub fn render_with(&self, columns: &[&str], further: &[Vec<String>]) -> String {
        let kept: Vec<usize> = (0..self.columns.len()).filter(|i| !columns.contains(&self.columns[*i].as_str())).collect();
        let mut writer = csv::Writer::from_writer(Vec::new());
        let header = kept.iter().map(|i| self.columns[*i].as_str()).chain(columns.iter().copied());
        let in_memory = "writing into memory";
        writer.write_record(header).expect(in_memory);
        for (old, new) in self.cells.iter().zip(further) {
            writer.write_record(kept.iter().map(|i| &old[*i]).chain(new)).expect(in_memory);
        }
        String::from_utf8(writer.into_inner().expect(in_memory)).expect("the cells are UTF-8")
    }
}

impl SpeedRow {
    /// Refuses numbers that mean nothing.
    fn check(&self) -> std::result::Result<(), Message> {
        let positive = [
            ("memory_gb", self.memory_gb),
            ("bandwidth_gbs", self.bandwidth_gbs),
            ("params_b", self.params_b),
            ("model_file_gib", self.model_file_gib),
            ("pp_tok_s", self.pp_tok_s),
            ("tg_tok_s", self.tg_tok_s),
        ];
        for (name, value) in positive {
            if value.is_some_and(|v| !(v > 0.0 && v < 1e9)) {
                return Err(format!("{name} is {}, expected a number above 0", value.unwrap_or_default()).into());
            }
        }
        for (name, value) in [("n_prompt", self.n_prompt), ("n_gen", self.n_gen), ("depth", self.depth)] {
            if value.is_some_and(|v| !(0.0..1e9).contains(&v)) {
                return Err(format!("{name} is {}, expected a number of tokens", value.unwrap_or_default()).into());
            }
        }
        match self.n_devices {
            Some(n) if n == 0 || n > 1024 => Err(format!("n_devices is {n}, expected 1 to 1024").into()),
            _ => Ok(()),
        }
    }

    /// The date as a year with fraction: the mean of the years and months named; `None` where none is.
    pub fn year(&self) -> Option<f64> {
        let mut years = Vec::new();
        let words = self.date.split(|c: char| !c.is_ascii_digit() && c != '-').filter(|w| !w.is_empty());
        for word in words {
            let mut parts = word.split('-');
            let Some(year) = parts.next().filter(|y| y.len() == 4).and_then(|y| y.parse::<f64>().ok()) else { continue };
            if !(2020.0..2100.0).contains(&year) {
                continue;
            }
            let month = parts.next().and_then(|m| m.parse::<f64>().ok()).filter(|m| (1.0..=12.0).contains(m));
            years.push(year + month.map_or(0.5, |m| (m - 0.5) / 12.0));
        }
        (!years.is_empty()).then(|| years.iter().sum::<f64>() / years.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "id,hardware,model,quant,tg_tok_s,date,note\ns1,RTX 3090,Llama-2-7B,Q4_0,120.6,2023-12,\"a, b\"\n";

    fn parse(text: &str) -> Result<SpeedTable> {
        SpeedTable::parse(Path::new("t.csv"), text)
    }

    #[test]
    fn cells_come_out_as_they_went_in() {
        let table = parse(TEXT).unwrap();
        assert_eq!(table.rows[0].tg_tok_s, Some(120.6));
        assert_eq!(table.rows[0].n_devices, None);
        let text = table.render_with(&["tg_forecast"], &[vec!["1".into()]]);
        assert_eq!(
            text,
            "id,hardware,model,quant,tg_tok_s,date,note,tg_forecast\ns1,RTX 3090,Llama-2-7B,Q4_0,120.6,2023-12,\"a, b\",1\n"
        );
        let again = parse(&text).unwrap().render_with(&["tg_forecast"], &[vec!["2".into()]]);
        assert_eq!(again, text.replace(",1\n", ",2\n"), "a column of that name is replaced");
    }

    #[test]
    fn dates_become_years() {
        for (date, year) in [
            ("2024-01", 2024.0 + 0.5 / 12.0),
            ("2023-11 to 2025", (2023.0 + 10.5 / 12.0 + 2025.5) / 2.0),
            ("2026-05-16", 2026.375),
        ] {
            let row = SpeedRow { date: date.into(), ..parse(TEXT).unwrap().rows[0].clone() };
            assert!((row.year().unwrap() - year).abs() < 1e-9, "{date}: {:?}", row.year());
        }
        assert_eq!(SpeedRow { date: "b7938".into(), ..parse(TEXT).unwrap().rows[0].clone() }.year(), None);
    }

    #[test]
    fn bad_tables_are_refused_with_their_line() {
        for (text, expected) in [
            ("hardware,model\na,b\n", "no column quant"),
            ("hardware,model,quant,tg_tok_s\na,b,c,-1\n", "line 2: tg_tok_s is -1"),
            ("hardware,model,quant,tg_tok_s\na,b,c,fast\n", "invalid float"),
            ("hardware,model,quant,n_devices\na,b,c,0\n", "n_devices is 0"),
            ("hardware,model,quant\na,b\n", "found record with 2 fields"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("t.csv"), "{error}");
        }
    }
}

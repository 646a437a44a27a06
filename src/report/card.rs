//! A model card for the files of a run, ready to be put beside them on a hub: front matter, the table of quantizations, how they
//! were measured. Says what was measured and what it was told, and makes nothing up: what is not given is left out.

use bitworth_quant::{Error, Result};

use crate::Report;
use crate::findings::few_windows;
use crate::markdown::{escape, render_table};
use crate::number::bytes;
use crate::page::{Cell, Column, Table, TableRow};
use crate::sheet;
use crate::summary::Summary;

/// What a card says that no measurement can tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The model on the hub that was quantized: `owner/name`.
    pub base_model: Option<String>,
    /// The licence, by the hub's name for it: `apache-2.0`.
    pub license: Option<String>,
    /// Who quantized it.
    pub quantized_by: Option<String>,
    /// Tags, besides `gguf` and `quantized`.
    pub tags: Vec<String>,
}

/// The card as Markdown with YAML front matter.
///
/// # Errors
/// Records of several models: a card describes one.
pub fn render(report: &Report, facts: &Facts) -> Result<String> {
    let model = &report.rows[0].model;
    if let Some(other) = report.rows.iter().find(|r| r.model != *model) {
        let what =
            format!("are of several models ({model}, {}): a model card describes one, report the runs one by one", other.model);
        return Err(Error::file("records", what));
    }
    let mut out = front_matter(facts);
    out += &format!("\n# {}: GGUF\n", escape(model));
    if let Some(base) = &facts.base_model {
        let link = base.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        let name = if link { format!("[{base}](https://huggingface.co/{base})") } else { escape(base) };
        out += &format!("\nQuantizations of {name}.\n");
    }
    for answer in &report.findings.answers {
        out += &format!("\n{}\n", escape(answer));
    }
    out += &format!("\n## Files\n\n{}", render_table(&table(report)));
    out += "\n## How they were measured\n\n";
    for line in notes(report) {
        out += &format!("- {}\n", escape(&line));
    }
    Ok(out)
}

/// YAML in which every text is a JSON string, which YAML reads as it is.
fn front_matter(facts: &Facts) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut out = "---\n".to_owned();
    if let Some(base) = &facts.base_model {
        out += &format!("base_model: {}\nbase_model_relation: quantized\n", quoted(base));
    }
    if let Some(license) = &facts.license {
        out += &format!("license: {}\n", quoted(license));
    }
    if let Some(by) = &facts.quantized_by {
        out += &format!("quantized_by: {}\n", quoted(by));
    }
    out += "library_name: gguf\ntags:\n";
    for tag in ["gguf", "quantized"].into_iter().chain(facts.tags.iter().map(String::as_str)) {
        out += &format!("- {}\n", quoted(tag));
    }
    out + "---\n"
}

/// The files with what one chooses by; columns in which nothing was measured are left out.
fn table(report: &Report) -> Table {
    let rows = &report.rows;
    let labels = sheet::labels(rows);
    let file = |row: &Summary| row.file.as_deref().map(|f| f.rsplit(['/', '\\']).next().unwrap_or(f).to_owned());
    type Get<'a> = Box<dyn Fn(usize) -> Option<Cell> + 'a>;
    let columns: Vec<(Column, Get<'_>)> = vec![
        (Column::words("quantization", ""), Box::new(|i| Some(Cell::words(labels[i].clone())))),
        (Column::words("file", ""), Box::new(|i| file(&rows[i]).map(Cell::words))),
        (Column::numbers("size", ""), Box::new(|i| Some(Cell::words(bytes(rows[i].bytes))))),
        (Column::numbers("bits per weight", ""), Box::new(|i| Some(Cell::words(format!("{:.2}", rows[i].bpw))))),
        (Column::numbers("KLD", ""), Box::new(|i| Some(sheet::small(rows[i].kld?.mean)))),
        (Column::numbers("top-1 agreement", ""), Box::new(|i| Some(sheet::share(rows[i].top1?)))),
        (Column::numbers("perplexity ratio", ""), Box::new(|i| Some(sheet::spread(rows[i].ppl_ratio?, |v| format!("{v:.4}"))))),
        (Column::numbers("decode tok/s", ""), Box::new(|i| Some(sheet::rate(rows[i].decode?)))),
        (Column::numbers("prefill tok/s", ""), Box::new(|i| Some(sheet::rate(rows[i].prefill?)))),
        (
            Column::words("use", ""),
            Box::new(|i| Some(report.findings.uses[i].clone()).filter(|u| !u.is_empty()).map(Cell::words)),
        ),
    ];
    let filled = columns.iter().filter(|(_, get)| (0..rows.len()).any(|i| get(i).is_some()));
    let filled: Vec<&(Column, Get<'_>)> = filled.collect();
    let row = |i: usize| TableRow {
        cells: filled.iter().map(|(_, get)| get(i).unwrap_or_default()).collect(),
        marked: rows[i].is_reference,
    };
    Table {
        columns: filled.iter().map(|(column, _)| column.clone()).collect(),
        rows: (0..rows.len()).map(row).collect(),
        notes: Vec::new(),
    }
}

fn notes(report: &Report) -> Vec<String> {
    let rows = &report.rows;
    let mut notes = Vec::new();
    if rows.iter().any(|r| r.kld.is_some()) {
        let tokens = rows.iter().map(|r| r.tokens).max().unwrap_or(0);
        notes.push(format!(
            "KLD is the mean KL divergence from the original's predictions, in nats per token, over {tokens} tokens; top-1 \
             agreement the share of places where the likeliest token stays the same. Every file saw the same tokens. Ranges are \
             95 % intervals."
        ));
    }
    notes.extend(few_windows(rows));
    let mut devices: Vec<&str> = rows.iter().filter(|r| r.decode.or(r.prefill).is_some()).map(|r| r.device.as_str()).collect();
    devices.dedup();
    if !devices.is_empty() {
        notes.push(format!(
            "Speeds are those of bitworth's own engine on {}, median and range of the repetitions; other programs and machines \
             differ.",
            devices.join("; ")
        ));
    }
    if sheet::has_unsure_speeds(rows) {
        notes.push(format!("{}.", sheet::UNSURE));
    }
    notes.extend(report.protocol.iter().cloned());
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitworth_eval::sample;

    fn card(facts: &Facts) -> String {
        render(&Report::new(&sample::records()).unwrap(), facts).unwrap()
    }

    #[test]
    fn a_card_says_what_it_was_told_and_nothing_else() {
        let plain = card(&Facts::default());
        assert!(
            plain.starts_with("---\nlibrary_name: gguf\ntags:\n- \"gguf\"\n- \"quantized\"\n---\n\n# demo-model: GGUF\n"),
            "{plain}"
        );
        let facts = Facts {
            base_model: Some("owner/demo".into()),
            license: Some("apache-2.0".into()),
            quantized_by: Some("a: \"b\"\n- c".into()),
            tags: vec!["tiny".into()],
        };
        let full = card(&facts);
        assert!(
            full.starts_with(
                "---\nbase_model: \"owner/demo\"\nbase_model_relation: quantized\nlicense: \"apache-2.0\"\nquantized_by: \"a: \
             \\\"b\\\"\\n- c\"\n"
            ),
            "{full}"
        );
        assert!(full.contains("- \"tiny\"\n---\n") && full.contains("[owner/demo](https://huggingface.co/owner/demo)"));
    }

    #[test]
    fn every_file_has_a_line_with_its_use() {
        let card = card(&Facts::default());
        let lines: Vec<&str> = card.lines().filter(|l| l.starts_with("| ")).collect();
        assert_eq!(lines.len(), 14, "{card}");
        assert!(lines[0].ends_with("| decode tok/s | prefill tok/s | use |"), "{}", lines[0]);
        let q4 = lines.iter().find(|l| l.starts_with("| q4\\_k\\_m |")).unwrap();
        assert!(q4.contains("| demo-Q4\\_K\\_M.gguf | 1.29 MB | 4.95 | 0.00106<br>0.000998 – 0.00112 |"), "{q4}");
        assert!(q4.ends_with("| Perplexity +0.115 % (+0.093 % to +0.137 %): where nothing larger fits. |"), "{q4}");
    }

    #[test]
    fn a_card_describes_one_model() {
        let mut records = sample::records();
        let mut others = records.clone();
        others.iter_mut().for_each(|r| r.origin.model = "other".into());
        records.extend(others);
        let error = render(&Report::new(&records).unwrap(), &Facts::default()).unwrap_err().to_string();
        assert!(error.contains("demo-model, other") && error.contains("one by one"), "{error}");
    }
}

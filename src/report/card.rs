//! A model card for the files of a run, ready to be put beside them on a hub: front matter, the table of quantizations, how they
//! were measured. Says what was measured and what it was told, and makes nothing up: what is not given is left out.

use bitworth_quant::{Error, Result};

use crate::Report;
use crate::findings::few_windows;
use crate::joined::base_name;
use crate::markdown::{escape, render_table};
use crate::number::bytes;
use crate::page::{Cell, Column, Table, TableRow};
use crate::sheet;
use crate::summary::Summary;
use bitworth_eval::demo;
use bitworth_eval::record::{COLLECTED_ON, OWN_ENGINE};

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
    /// How a prompt has to be written for the model, as it is.
    pub prompt_format: Option<String>,
    /// Commands that run a file, with [`FILE`] in its place.
    pub commands: Vec<String>,
}

/// Stands in [`Facts::commands`] for a file's name.
pub const FILE: &str = "{file}";

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
    for answer in &report.of_files.answers {
        out += &format!("\n{}\n", escape(answer));
    }
    out += &format!("\n## Files\n\n{}", render_table(&table(report)));
    out += &usage(report, facts);
    out += "\n## How they were measured\n\n";
    for line in notes(report) {
        out += &format!("- {}\n", escape(&line));
    }
    Ok(out)
}

/// How to prompt the model and how to run each file, as far as it was told.
fn usage(report: &Report, facts: &Facts) -> String {
    let mut out = String::new();
    if let Some(format) = &facts.prompt_format {
        out += &format!("\n## Prompt format\n\n{}", fenced("", format));
    }
    // A folder of safetensors is no file that they open.
    let is_gguf = |file: &String| file.to_ascii_lowercase().ends_with(".gguf");
    let files = report.rows.iter().filter_map(|row| files(row).into_iter().next()).filter(is_gguf);
    let of_file = |file: String| -> Vec<String> {
        facts.commands.iter().map(|command| command.replace(FILE, &quoted_for_shell(&file))).collect()
    };
    let lines: Vec<String> = files.flat_map(of_file).collect();
    if !lines.is_empty() {
        out += &format!("\n## How to run them\n\n{}", fenced("sh", &lines.join("\n")));
    }
    out
}

/// A text as it is, between more backticks than it has itself.
fn fenced(language: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}\n", text.trim_end_matches('\n'))
}

/// A file's name as a shell reads it.
fn quoted_for_shell(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c)) && !name.starts_with('-');
    if plain { name.to_owned() } else { format!("'./{}'", name.replace('\'', "'\\''").replace(char::is_control, " ")) }
}

/// The names of a lane's files: of one that is split (`NAME-00001-of-00003.gguf`) all parts.
fn files(row: &Summary) -> Vec<String> {
    let Some(file) = row.file.as_deref() else { return Vec::new() };
    let name = file_name(file);
    let split = || {
        let (stem, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, number) = stem.rsplit_once('-')?;
        let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
        let parts: u32 = count.parse().ok().filter(|n| *n > 1 && digits(number) && digits(count))?;
        Some((1..=parts).map(|part| format!("{stem}-{part:05}-of-{count}.gguf")).collect())
    };
    split().unwrap_or_else(|| vec![name.to_owned()])
}

/// A file's name without its folders, in which a card's readers have no part; what comes with the program has none.
fn file_name(path: &str) -> &str {
    if path.starts_with(demo::PREFIX) { path } else { base_name(path) }
}

/// An importance matrix and its text, as far as it is told, by the names of their files.
fn matrix_name(told: &str) -> String {
    match told.split_once(COLLECTED_ON) {
        Some((file, text)) => format!("{}{COLLECTED_ON}{}", file_name(file), file_name(text)),
        None => file_name(told).to_owned(),
    }
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
    let file = |row: &Summary| {
        let files = files(row);
        let (first, rest) = files.split_first()?;
        Some(Cell::words(first.as_str()).with_detail(rest.join(", ")))
    };
    type Get<'a> = Box<dyn Fn(usize) -> Option<Cell> + 'a>;
    let columns: Vec<(Column, Get<'_>)> = vec![
        (Column::words("quantization", ""), Box::new(|i| Some(Cell::words(labels[i].clone())))),
        (Column::words("file", ""), Box::new(|i| file(&rows[i]))),
        (Column::numbers("size", ""), Box::new(|i| Some(Cell::words(bytes(rows[i].bytes))))),
        (Column::numbers("bits per weight", ""), Box::new(|i| Some(Cell::words(format!("{:.2}", rows[i].bpw))))),
        (Column::numbers("KLD", ""), Box::new(|i| Some(sheet::small(rows[i].kld?.mean)))),
        (Column::numbers("top-1 agreement", ""), Box::new(|i| Some(sheet::share(rows[i].top1?)))),
        (Column::numbers("perplexity ratio", ""), Box::new(|i| Some(sheet::spread(rows[i].ppl_ratio?, |v| format!("{v:.4}"))))),
        (Column::numbers("decode tok/s", ""), Box::new(|i| Some(sheet::rate(rows[i].decode?)))),
        (Column::numbers("prefill tok/s", ""), Box::new(|i| Some(sheet::rate(rows[i].prefill?)))),
        (
            Column::words("use", ""),
            Box::new(|i| Some(report.of_files.uses[i].clone()).filter(|u| !u.is_empty()).map(Cell::words)),
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
        // A lane on the fly has no file to download; the reference is what the others are measured against.
        rows: (0..rows.len()).filter(|&i| rows[i].can_be_taken()).map(row).collect(),
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
    if let Some(stored) = rows.iter().find(|r| r.is_reference).and_then(sheet::quantized_source) {
        notes.push(format!("The original's weights are stored as {stored}; what that lost is in no figure here."));
    }
    notes.extend(few_windows(rows));
    notes.extend(made_of(rows));
    let timed = rows.iter().filter(|r| r.decode.or(r.prefill).is_some());
    let mut devices: Vec<&str> = timed.filter_map(Summary::timed_on).collect();
    devices.dedup();
    if !devices.is_empty() {
        let (of, device) = match rows.iter().find_map(|row| row.timed.as_ref()).filter(|timed| timed.engine != OWN_ENGINE) {
            Some(timed) => (timed.engine.clone(), String::new()),
            None => ("bitworth's own engine".to_owned(), format!(" on {}", devices.join("; "))),
        };
        notes.push(format!(
            "Speeds are those of {of}{device}, median and range of the repetitions; other programs and machines differ."
        ));
        let shape = rows.iter().find_map(|row| row.timed.as_ref()?.shape.as_ref());
        notes.extend(shape.map(|shape| {
            format!("They are of models of the shape {shape} with random weights in each file's types, and not of these files.")
        }));
    }
    if sheet::has_unsure_speeds(rows) {
        notes.push(format!("{}.", sheet::UNSURE));
    }
    notes.extend(report.protocol.iter().cloned());
    notes
}

/// Importance matrices and what fell back, in sentences.
fn made_of(rows: &[Summary]) -> Vec<String> {
    let labels = sheet::labels(rows);
    // A lane without a file is no row of the table, and a recipe's path may stand in its name.
    let shown = || rows.iter().zip(&labels).filter(|(row, _)| row.can_be_taken());
    let mut matrices: Vec<(String, Vec<&str>)> = Vec::new();
    for (row, label) in shown() {
        let Some(matrix) = row.imatrix.as_deref().map(matrix_name) else { continue };
        match matrices.iter_mut().find(|(known, _)| *known == matrix) {
            Some((_, lanes)) => lanes.push(label),
            None => matrices.push((matrix, vec![label])),
        }
    }
    let quantized =
        matrices.into_iter().map(|(m, lanes)| format!("Quantized with the importance matrix {m}: {}.", lanes.join(", ")));
    let fell = shown().filter_map(|(row, label)| match row.fell_back? {
        0 => None,
        1 => Some(format!("{label} 1 tensor")),
        count => Some(format!("{label} {count} tensors")),
    });
    let fell: Vec<String> = fell.collect();
    let told = format!("Of another type than the recipe says, as their rows do not fit its blocks: {}.", fell.join(", "));
    quantized.chain((!fell.is_empty()).then_some(told)).collect()
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
            ..Facts::default()
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
    fn a_card_recommends_only_what_has_a_file() {
        let mut records = sample::records();
        for record in records.iter_mut().filter(|record| record.origin.lane == "q8_0") {
            if let bitworth_eval::record::Body::Lane(lane) = &mut record.body {
                lane.file = None;
            }
        }
        let report = Report::new(&records).unwrap();
        assert!(report.findings.answers[0].contains("q8_0 is the nearest"), "{:?}", report.findings.answers);
        let card = render(&report, &Facts::default()).unwrap();
        assert!(card.contains("q6\\_k is the nearest") && !card.contains("q8\\_0"), "{card}");
        assert_eq!(report.of_files.uses.len(), report.rows.len(), "places stay those of the rows");
        let whole = Report::new(&sample::records()).unwrap();
        assert_eq!(whole.of_files, whole.findings);
    }

    #[test]
    fn a_card_tells_parts_matrices_prompts_and_how_to_run() {
        let mut records = sample::records();
        for record in &mut records {
            let lane = record.origin.lane.clone();
            let bitworth_eval::record::Body::Lane(about) = &mut record.body else { continue };
            match lane.as_str() {
                "q8_0" => about.file = Some("out/demo q8-00001-of-00003.gguf".into()),
                "q4_0" => (about.imatrix, about.fell_back) = (Some("m.gguf of prose.txt".into()), Some(3)),
                "q2_k" => (about.imatrix, about.fell_back) = (Some("m.gguf of prose.txt".into()), Some(0)),
                _ => {}
            }
        }
        let report = Report::new(&records).unwrap();
        let facts = Facts {
            prompt_format: Some("<|user|>\n```{prompt}```\n".into()),
            commands: vec!["llama-cli -m {file}".into(), "bitworth generate {file}".into()],
            ..Facts::default()
        };
        let card = render(&report, &facts).unwrap();
        let part = |n: u32| format!("demo q8-0000{n}-of-00003.gguf");
        assert!(card.contains(&format!("| {}<br>{}, {} |", part(1), part(2), part(3))), "{card}");
        assert!(card.contains("- Quantized with the importance matrix m.gguf of prose.txt: q4\\_0, q2\\_k.\n"), "{card}");
        assert!(card.contains("do not fit its blocks: q4\\_0 3 tensors.\n"), "{card}");
        assert!(card.contains("## Prompt format\n\n````\n<|user|>\n```{prompt}```\n````\n"), "{card}");
        assert!(card.contains("```sh\nllama-cli -m './demo q8-00001-of-00003.gguf'\nbitworth generate './demo q8"), "{card}");
        assert!(card.contains("\nllama-cli -m demo-Q4_0.gguf\nbitworth generate demo-Q4_0.gguf\n") && !card.contains("-m bf16"));
        let plain = super::render(&report, &Facts::default()).unwrap();
        assert!(!plain.contains("## Prompt format") && !plain.contains("## How to run"));
    }

    #[test]
    fn a_card_names_files_without_the_folders_of_the_machine() {
        let mut records = sample::records();
        for record in &mut records {
            let lane = record.origin.lane.clone();
            let bitworth_eval::record::Body::Lane(about) = &mut record.body else { continue };
            let (file, matrix) = match lane.as_str() {
                "q8_0" => (Some("/home/me/q8.gguf"), "/home/me/m.gguf, collected on /home/me/prose.txt"),
                "q4_0" => (Some("C:\\home\\q4.gguf"), "C:\\home\\me\\m.gguf, collected on C:\\home\\prose.txt"),
                "q4_1" => (Some("out/q4_1.gguf"), "out/other.gguf"),
                "q6_k" => (Some("q6.gguf"), "m.gguf, collected on demo:data/calib.txt"),
                // On the fly, by a recipe whose path is its name.
                "q2_k" => (None, "/home/me/m.gguf, collected on /home/me/prose.txt"),
                _ => continue,
            };
            (about.file, about.imatrix, about.fell_back) = (file.map(str::to_owned), Some(matrix.to_owned()), Some(2));
        }
        records.iter_mut().filter(|r| r.origin.lane == "q2_k").for_each(|r| r.origin.lane = "@/home/me/r.toml".into());
        let card = render(&Report::new(&records).unwrap(), &Facts::default()).unwrap();
        for expected in [
            "matrix m.gguf, collected on prose.txt: q8\\_0, q4\\_0.\n",
            "matrix other.gguf: q4\\_1.\n",
            "matrix m.gguf, collected on demo:data/calib.txt: q6\\_k.\n",
        ] {
            assert!(card.contains(expected), "{card}");
        }
        assert!(!card.contains("home") && !card.contains("out/"), "{card}");
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

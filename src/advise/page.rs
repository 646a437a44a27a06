//! Advice as a page, a table and files for machines: `advice.md`, `advice.html`, `advice.csv`, `advice.parquet`. Renders values
//! of `advise`; decides nothing.

use std::path::{Path, PathBuf};

use bitworth_quant::Result;
use bitworth_report::columns::Columns;

use crate::advice::Advice;
use crate::choice::{Choice, FitVerdict};
use crate::claims::Checked;
use crate::quality::{Basis, RangedValue};
use crate::rank::{Yardstick, small};
use crate::speed::Forecast;
use bitworth_report::chart::{Axis, Better, Chart, Front, Plane, Plot, Point, Scale, Scope, Series};
use bitworth_report::number::bytes;
use bitworth_report::page::{Cell, Column, Page, PageBlock, Section, Table, TableRow};

/// Terminals get every choice up to this many, beyond it those on a front.
const MANY: usize = 48;
/// How to read the numbers.
const READING: &[&str] = &[
    "Speeds are forecasts of llama.cpp's speed, with half of the context filled; ranges beneath them held 4 of 5 measurements \
     that the forecast had not seen.",
    "KLD is the mean KL divergence from the unquantized model in nats per token: measured, published (the source is listed), or \
     estimated (~) from other figures, then with the range that held 4 of 5 figures that were left out.",
    "MMLU is the published score of the unquantized model, less what a divergence of that size takes from it. It is what makes \
     different models comparable; publishers' settings differ by a point or two.",
    "tok/s x quality is the decoding speed times the share of what the model knows beyond guessing that the recipe leaves.",
    "A choice on the front (*) is beaten by no other on its machine in both speed and quality.",
    "Of choices whose quality nobody could tell apart (a tenth of a point, or 0.006 nats), the faster one is picked.",
];

/// Writes page and data into `dir` and returns the paths: Markdown, HTML, CSV, parquet.
///
/// # Errors
/// A folder that cannot be written.
pub fn write(dir: &Path, advice: &Advice) -> Result<Vec<PathBuf>> {
    let [markdown, html] = bitworth_report::write_page(dir, "advice", &page(advice))?;
    let [csv, parquet] = ["csv", "parquet"].map(|extension| dir.join(format!("advice.{extension}")));
    let lines = lines(advice);
    columns(&lines).write_csv(&csv)?;
    columns(&lines).write_parquet(&parquet)?;
    Ok(vec![markdown, html, csv, parquet])
}

/// For a terminal: the choices, the picks and why.
pub fn text(advice: &Advice) -> String {
    let all = advice.choices.len() <= MANY;
    let mut text = bitworth_report::table::render(&table(advice, |i| all || advice.front[i]));
    if !all {
        text += &format!("Of {} choices, those on their machine's front.\n", advice.choices.len());
    }
    text += "\n";
    for pick in &advice.picks {
        text += &format!("{}\n", pick.sentence);
    }
    for comparison in &advice.comparisons {
        text += "\n";
        for sentence in &comparison.sentences {
            text += &format!("{sentence}\n");
        }
    }
    text
}

/// The page.
pub fn page(advice: &Advice) -> Page {
    let mut sections = Vec::new();
    let chart = chart(advice);
    if chart.can_be_drawn() {
        let note = "Only what fits. A bold name is on its machine's front; so are the bars, the 80 % ranges of the forecasts.";
        sections.push(Section::new("Quality against speed", vec![PageBlock::Charts(vec![chart]), PageBlock::Note(note.into())]));
    }
    for comparison in &advice.comparisons {
        let [first, second] = &comparison.contest.machines;
        let blocks = vec![PageBlock::List(comparison.sentences.clone())];
        sections.push(Section::new(format!("{first} or {second}"), blocks));
    }
    sections.push(Section::new("What fits", vec![PageBlock::Table(memory_table(advice))]));
    sections.push(Section::new("Every choice that fits", vec![PageBlock::Table(table(advice, |i| advice.choices[i].fits()))]));
    sections.push(Section::new("How to read this", vec![PageBlock::List(READING.iter().map(|s| (*s).to_owned()).collect())]));
    sections.push(Section::new("Sources", vec![PageBlock::List(sources(advice))]));
    let best = &advice.choices[advice.best.choice];
    let lead = std::iter::once(format!("Pick: {} with {}.", best.machine, best.title()));
    let lead = lead.chain(advice.comparisons.iter().map(|c| c.contest.headline()));
    let title = advice
        .request
        .title
        .clone()
        .unwrap_or_else(|| format!("{} on {}", advice.request.models.join(", "), advice.request.hardware.join(", ")));
    Page {
        title,
        lead: lead.chain(advice.picks.iter().map(|p| p.sentence.to_string())).collect(),
        about: about(advice),
        sections,
    }
}

fn about(advice: &Advice) -> Vec<String> {
    let needs = &advice.needs;
    let mut text = format!("Asked for: {}, a context of {} tokens", needs.purpose.name(), needs.context);
    if let Some(tps) = needs.min_tps {
        text += &format!(", at least {} tok/s", small(tps));
    }
    if let Some(kld) = needs.max_kld {
        text += &format!(", a divergence of at most {}", small(kld));
    }
    let mut about = vec![text + "."];
    about.extend(advice.notes.iter().cloned());
    about
}

/// Quality against speed, one series a machine.
fn chart(advice: &Advice) -> Chart {
    let mut series: Vec<Series> = Vec::new();
    for (i, choice) in advice.choices.iter().enumerate().filter(|(_, c)| c.fits()) {
        let (y, y_range) = match (advice.yardstick, &choice.accuracy) {
            (Yardstick::Divergence, _) => (choice.loss.kld.value, range(&choice.loss.kld)),
            (Yardstick::Accuracy, Some(a)) => (100.0 * a.value, range(a).map(|(low, high)| (100.0 * low, 100.0 * high))),
            (Yardstick::Accuracy, None) => continue,
        };
        let mut lines = vec![format!("on {}", choice.machine), crate::rank::speed(&choice.decode)];
        if advice.yardstick == Yardstick::Accuracy {
            let around = y_range.map_or(String::new(), |(low, high)| format!(" ({low:.1} to {high:.1})"));
            lines.push(format!("{y:.1} % expected in MMLU{around}"));
        }
        lines.push(format!("{}, KLD {}", bytes(choice.bytes), kld_text(&choice.loss.kld)));
        let decode = &choice.decode;
        let point = Point {
            label: choice.title(),
            x: decode.tps,
            y,
            x_range: Some((decode.low, decode.high)),
            y_range,
            lines,
            marked: advice.picks.iter().any(|p| p.pick.as_ref().is_some_and(|pick| pick.choice == i)),
            ..Point::default()
        };
        match series.iter_mut().find(|s| s.name == choice.machine) {
            Some(s) => s.points.push(point),
            None => series.push(Series { name: choice.machine.clone(), line: false, points: vec![point] }),
        }
    }
    let (y, better) = match advice.yardstick {
        Yardstick::Divergence => (Axis::new("KL divergence, nats per token", Scale::LogAbove(1e-4)), Better::Less),
        Yardstick::Accuracy => (Axis::new("expected MMLU, %", Scale::Linear), Better::More),
    };
    let x = Axis::new("decoding, tokens/s", Scale::Log);
    let front = Some(Front { x: Better::More, y: better, scope: Scope::EachSeries });
    let hint = "up and to the right is better".to_owned();
    let hint = if better == Better::Less { "down and to the right is better".to_owned() } else { hint };
    Chart { title: "Quality against decoding speed".into(), hint, plot: Plot::Plane(Plane { x, y, series, front }) }
}

/// One row a model and recipe: what each machine says to it.
fn memory_table(advice: &Advice) -> Table {
    let mut machines: Vec<&str> = Vec::new();
    let mut files: Vec<&Choice> = Vec::new();
    for choice in &advice.choices {
        if !machines.contains(&choice.machine.as_str()) {
            machines.push(&choice.machine);
        }
        if !files.iter().any(|c| c.title() == choice.title()) {
            files.push(choice);
        }
    }
    let mut columns = vec![
        Column::words("model and recipe", ""),
        Column::numbers("file", "exact size of the GGUF file"),
        Column::numbers("bpw", "bits per weight"),
    ];
    columns.extend(machines.iter().map(|m| Column::words(*m, "whether it fits, and the largest context that does")));
    let row = |file: &&Choice| {
        let mut cells = vec![
            Cell::words(file.title()),
            Cell::number(bytes(file.bytes), file.bytes as f64),
            Cell::number(small(file.bpw), file.bpw),
        ];
        for machine in &machines {
            let choice = advice.choices.iter().find(|c| c.machine == *machine && c.title() == file.title());
            cells.push(choice.map_or_else(Cell::default, |c| Cell::words(fit(c)).with_detail(memory(c))));
        }
        TableRow { cells, marked: false }
    };
    Table { columns, rows: files.iter().map(row).collect(), notes: Vec::new() }
}

fn memory(choice: &Choice) -> String {
    let gib = |bytes: u64| small(bytes as f64 / (1u64 << 30) as f64);
    let most = choice.room.raised.unwrap_or(choice.room.usable);
    let context =
        if choice.room.largest_context > 0 { format!(", up to {} tokens", choice.room.largest_context) } else { String::new() };
    format!(
        "{} of {} GiB{context}",
        gib(choice.room.needed),
        gib(if choice.room.fit == FitVerdict::Fits { choice.room.usable } else { most })
    )
}

fn fit(choice: &Choice) -> &'static str {
    match choice.room.fit {
        FitVerdict::Fits => "yes",
        FitVerdict::FitsRaised => "yes +",
        FitVerdict::DoesNotFit => "no",
    }
}

/// The same for programs.
fn fit_name(choice: &Choice) -> &'static str {
    match choice.room.fit {
        FitVerdict::Fits => "fits",
        FitVerdict::FitsRaised => "fits-raised",
        FitVerdict::DoesNotFit => "does-not-fit",
    }
}

/// The choices that `wanted` lets through, by their places.
pub fn table(advice: &Advice, wanted: impl Fn(usize) -> bool) -> Table {
    let mut columns = vec![
        Column::words("model and recipe", "* on the front of its machine"),
        Column::words("machine", ""),
        Column::numbers("file", "exact size of the GGUF file"),
        Column::words("fits", "at the context asked for; + with the limit on GPU memory raised"),
        Column::numbers("decode tok/s", "forecast with its 80 % range"),
        Column::numbers("prefill tok/s", "forecast with its 80 % range"),
        Column::numbers("KLD", "divergence from the unquantized model, nats per token; ~ estimated"),
    ];
    let several = advice.yardstick == Yardstick::Accuracy;
    if several {
        columns.push(Column::numbers("MMLU %", "expected, from the published score of the unquantized model"));
    }
    columns.push(Column::numbers("tok/s x quality", "decoding speed times the share of quality that is left"));
    let row = |(i, choice): (usize, &Choice)| {
        let star = if advice.front[i] { " *" } else { "" };
        let kld = &choice.loss.kld;
        let mut cells = vec![
            Cell::words(choice.title() + star),
            Cell::words(&choice.machine),
            Cell::number(bytes(choice.bytes), choice.bytes as f64),
            Cell::words(fit(choice)),
            forecast(&choice.decode),
            choice.prefill.as_ref().map_or_else(Cell::default, forecast),
            Cell::number(kld_text(kld), kld.value).with_detail(range_text(kld, 1.0)),
        ];
        if several {
            let accuracy = choice.accuracy.as_ref();
            cells.push(accuracy.map_or_else(Cell::default, |a| {
                Cell::number(format!("{:.1}", 100.0 * a.value), a.value).with_detail(range_text(a, 100.0))
            }));
        }
        cells.push(Cell::number(small(choice.worth()), choice.worth()));
        TableRow { cells, marked: advice.picks.iter().any(|p| p.pick.as_ref().is_some_and(|pick| pick.choice == i)) }
    };
    let rows = advice.choices.iter().enumerate().filter(|(i, _)| wanted(*i)).map(row).collect();
    Table { columns, rows, notes: advice.notes.clone() }
}

fn forecast(forecast: &Forecast) -> Cell {
    Cell::number(small(forecast.tps), forecast.tps).with_detail(format!("{} to {}", small(forecast.low), small(forecast.high)))
}

fn kld_text(kld: &RangedValue) -> String {
    let mark = if kld.basis == Basis::Estimated { "~" } else { "" };
    format!("{mark}{}", small(kld.value))
}

fn range(value: &RangedValue) -> Option<(f64, f64)> {
    (value.low < value.high).then_some((value.low, value.high))
}

fn range_text(value: &RangedValue, scale: f64) -> String {
    range(value).map_or(String::new(), |(low, high)| format!("{} to {}", small(scale * low), small(scale * high)))
}

/// Where the figures come from, each source once.
fn sources(advice: &Advice) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for choice in &advice.choices {
        let kld = &choice.loss.kld;
        let lines = [
            Some(format!("KLD of {}: {}", choice.model, kld.source)).filter(|_| kld.basis != Basis::Exact),
            choice.accuracy.as_ref().map(|a| format!("MMLU of {}: {}", choice.model, a.source)),
        ];
        for line in lines.into_iter().flatten() {
            if !found.contains(&line) {
                found.push(line);
            }
        }
    }
    found
}

/// A choice, whether it is on its machine's front, and whether it is picked.
struct Line<'a> {
    choice: &'a Choice,
    on_front: bool,
    picked: bool,
}

fn lines(advice: &Advice) -> Vec<Line<'_>> {
    let picked = |i: usize| advice.picks.iter().any(|p| p.pick.as_ref().is_some_and(|pick| pick.choice == i));
    let line = |(i, choice)| Line { choice, on_front: advice.front[i], picked: picked(i) };
    advice.choices.iter().enumerate().map(line).collect()
}

/// One row a choice, nothing rounded.
fn columns<'a>(lines: &'a [Line<'_>]) -> Columns<'a, Line<'a>> {
    let mut c = Columns::of(lines);
    c.text("machine", |l| Some(&l.choice.machine));
    c.text("model", |l| Some(&l.choice.model));
    c.text("recipe", |l| Some(&l.choice.recipe));
    c.count("bytes", |l| Some(l.choice.bytes));
    c.number("bpw", |l| Some(l.choice.bpw));
    c.text("fits", |l| Some(fit_name(l.choice)));
    c.count("memory_needed", |l| Some(l.choice.room.needed));
    c.count("memory_usable", |l| Some(l.choice.room.usable));
    c.count("memory_raised", |l| l.choice.room.raised);
    c.count("largest_context", |l| Some(u64::from(l.choice.room.largest_context)));
    c.number("decode_tps", |l| Some(l.choice.decode.tps));
    c.number("decode_low", |l| Some(l.choice.decode.low));
    c.number("decode_high", |l| Some(l.choice.decode.high));
    c.number("prefill_tps", |l| l.choice.prefill.map(|p| p.tps));
    c.number("prefill_low", |l| l.choice.prefill.map(|p| p.low));
    c.number("prefill_high", |l| l.choice.prefill.map(|p| p.high));
    c.number("kld", |l| Some(l.choice.loss.kld.value));
    c.number("kld_low", |l| Some(l.choice.loss.kld.low));
    c.number("kld_high", |l| Some(l.choice.loss.kld.high));
    c.text("kld_basis", |l| Some(l.choice.loss.kld.basis.name()));
    c.text("kld_source", |l| Some(&l.choice.loss.kld.source));
    c.number("ppl_ratio", |l| l.choice.loss.ppl_ratio.as_ref().map(|v| v.value));
    c.number("top1_agreement", |l| l.choice.loss.top1.as_ref().map(|v| v.value));
    c.number("mmlu", |l| l.choice.accuracy.as_ref().map(|v| v.value));
    c.number("mmlu_low", |l| l.choice.accuracy.as_ref().map(|v| v.low));
    c.number("mmlu_high", |l| l.choice.accuracy.as_ref().map(|v| v.high));
    c.number("worth_tps", |l| Some(l.choice.worth()));
    c.flag("on_front", |l| l.on_front);
    c.flag("picked", |l| l.picked);
    c
}

/// Claims and how they fare, a row each finding.
pub fn claims_table(checked: &[Checked]) -> Table {
    let mut rows = Vec::new();
    for claim in checked {
        for (i, finding) in claim.findings.iter().enumerate() {
            let first = |text: &str| if i == 0 { text.to_owned() } else { String::new() };
            let cells = vec![
                Cell::words(first(&claim.says)),
                Cell::words(first(claim.verdict.name())),
                Cell::words(&finding.of),
                Cell::words(format!("{}: {}", finding.verdict.name(), finding.figures)),
            ];
            rows.push(TableRow { cells, marked: i == 0 });
        }
        for published in &claim.published {
            let cells = ["", "", "published"].map(Cell::words).into_iter();
            let figure = Cell::words(format!("{}: {} [{}]", small(published.value), published.of, published.source));
            rows.push(TableRow { cells: cells.chain([figure]).collect(), marked: false });
        }
    }
    let columns = ["claim", "verdict", "of", "figures"].map(|head| Column::words(head, "")).to_vec();
    Table { columns, rows, notes: Vec::new() }
}

//! What the report of a run says, as a page: the answer, charts, tables, findings, how to read them. How it looks is the matter
//! of `html` and `markdown`.

use crate::Report;
use crate::chart::{Axis, Better, Chart, Front, Plane, Plot, Point, Scale, Scope, Series};
use crate::findings::few_windows;
use crate::number::{bytes, percent};
use crate::page::{Page, PageBlock, Section};
use crate::pareto::ROUNDING;
use crate::sheet::{self, ColumnGroup};
use crate::speed_words;
use crate::summary::{Summary, task, task_names};
use crate::svg;
use crate::task_tables;

/// How to read the numbers.
const READING: &[&str] = &[
    "KLD is the mean KL divergence between the reference's and the lane's prediction of the next token, in nats. It sees every \
     change, also where the likeliest token stays the same: 0 means that nothing was lost. It tells lanes apart long before \
     perplexity or tasks do.",
    "A KLD below 0.000001 is the rounding of 32-bit arithmetic, which can even be below 0, and counts as 0 in charts and \
     findings.",
    "Ranges are 95 % intervals. Those of KLD, perplexity and top-1 agreement take each sequence as one draw (tokens of a \
     sequence are not independent); those of tasks are Wilson's. Ranges of speeds are the slowest and the fastest repetition.",
    "All lanes saw the same tokens and items, so differences between lanes are surer than their ranges look: findings use paired \
     differences.",
    "A lane is as good as the reference where the paired interval of the perplexities' ratio holds 1 and is no wider than 1 % to \
     either side, the mean KLD is at most 0.01 (what a loss of 1 % would be on text that the reference itself would write) and \
     the likeliest token is the same in 95 % of places. Where the interval is wider, the text was too short to tell.",
    "A lane on the Pareto front is beaten by no other lane in both directions of a chart; every other lane has a better choice.",
    "bpw are the bits per weight over all tensors as they are stored, not what the type's name promises.",
];

/// What the numbers do not say.
const CAVEATS: &[&str] = &[
    "Quality is measured on the weights as stored, with 32-bit arithmetic. Programs that also round activations lose a little \
     more.",
    "Speeds are those of this program on the device named above, other programs and devices rank the types differently.",
    "Perplexities of different texts, windows or tokenizers must not be compared; see the protocol.",
    "Each comparison of texts is made at the 95 % level by itself: of twenty that hold no difference, one shows one by chance. \
     Those of tasks are corrected for their number (Holm 1979), and their sentences and verdicts follow the corrected p.",
];

/// The page.
pub fn page(report: &Report) -> Page {
    let rows = &report.rows;
    let findings = &report.findings;
    let few = few_windows(rows);
    let mut sections = Vec::new();
    let mut add = |heading: &str, blocks: Vec<PageBlock>| sections.push(Section::new(heading, blocks));
    let charts: Vec<Chart> = charts(rows).into_iter().filter(Chart::can_be_drawn).collect();
    if !charts.is_empty() {
        let note = "The reference diverges from itself by 0: it stands on the line of 0, as does what differs from it by \
             rounding alone. Bars are 95 % intervals, where they are larger than the dots; a bold name is on the Pareto front.";
        let mut blocks = vec![PageBlock::Charts(charts), PageBlock::Note(note.into())];
        blocks.extend(speed_words::notes(rows).into_iter().map(|note| PageBlock::Note(format!("{note}."))));
        if sheet::has_unsure_speeds(rows) {
            blocks.push(PageBlock::Note(
                "Hollow points: the machine drifted while their speed was timed. Their bars go from the slowest to the fastest \
                       timing; no front counts them."
                    .into(),
            ));
        }
        add("Quality against size and speed", blocks);
    }
    let skills = skills(rows);
    if let Some(losses) = task_tables::losses(rows) {
        let note = "Differences on the same items, with their 95 % intervals: one that reaches over 0 may be chance. What the \
             verdicts mean stands below the table of tasks.";
        let charts = skills.can_be_drawn().then(|| PageBlock::Charts(vec![skills]));
        let figures = [PageBlock::Table(losses), PageBlock::Note(note.into())];
        add("What each task loses", charts.into_iter().chain(figures).collect());
    }
    if let Some(table) = sheet::group(rows, ColumnGroup::Numbers) {
        add("Numbers", vec![PageBlock::Table(table)]);
    }
    if let Some(table) = sheet::by_text(rows) {
        let note = "The figures above are over all texts together; these are of each text alone.";
        add("By text", vec![PageBlock::Text(note.into()), PageBlock::Table(table)]);
    }
    let verdicts = sheet::labels(rows).into_iter().zip(findings.verdicts.clone()).filter(|(_, verdict)| !verdict.is_empty());
    let verdicts: Vec<(String, String)> = verdicts.collect();
    if !verdicts.is_empty() {
        add("Verdicts", vec![PageBlock::Terms(verdicts)]);
    }
    let left_out = report.left_out_terms();
    if !left_out.is_empty() {
        let text = "These candidates are no versions of the model, and were not measured.";
        add("Left out", vec![PageBlock::Text(text.into()), PageBlock::Terms(left_out)]);
    }
    if !report.notes.is_empty() {
        add("Timed and scored apart", vec![PageBlock::List(report.notes.clone())]);
    }
    if !findings.dominated.is_empty() {
        add("Lanes with a better choice", vec![PageBlock::List(findings.dominated.clone())]);
    }
    if !findings.ties.is_empty() {
        let text = "The intervals of the paired differences of perplexity, KLD and top-1 agreement all hold no difference and \
             are narrow: on this text, size and speed should decide between";
        add(
            "Lanes that are as near to the reference as each other",
            vec![PageBlock::Text(text.into()), PageBlock::List(findings.ties.clone())],
        );
    }
    if let Some(table) = sheet::group(rows, ColumnGroup::Tasks) {
        let verdicts = task_tables::scores(rows, report.judgement, report.subjects).map(PageBlock::Table);
        let sentences = PageBlock::List(findings.tasks.clone());
        // With their verdicts above, there is nothing left to unfold.
        let members = if report.subjects { Vec::new() } else { task_tables::members(rows) };
        let members = members.into_iter().map(|(group, table)| PageBlock::Fold(group, table));
        add("Tasks", [PageBlock::Table(table), sentences].into_iter().chain(verdicts).chain(members).collect());
    }
    let list = |lines: &[&str]| vec![PageBlock::List(lines.iter().map(|line| (*line).to_owned()).collect())];
    let caveats: Vec<&str> = few.as_deref().into_iter().chain(CAVEATS.iter().copied()).collect();
    add("Columns", vec![PageBlock::Terms(sheet::meanings(rows))]);
    add("How to read this", list(READING));
    add("Caveats", list(&caveats));
    add("Protocol", vec![PageBlock::List(report.protocol.clone())]);
    Page {
        title: format!("{}: quality and speed", models(report)),
        lead: findings.answers.iter().chain(&findings.skills).cloned().collect(),
        about: about(report),
        sections,
    }
}

/// The models of the report.
fn models(report: &Report) -> String {
    distinct(report.rows.iter().map(|r| r.model.as_str())).join(", ")
}

fn about(report: &Report) -> Vec<String> {
    let rows = &report.rows;
    let scored = || rows.iter().map(|r| r.tokens).filter(|tokens| *tokens > 0);
    // Lanes of one model were scored on the same tokens; other models have others.
    let tokens = match (scored().min(), scored().max()) {
        (Some(least), Some(most)) if several_models(rows) && least < most => format!(", {least} to {most} scored tokens each"),
        (_, Some(most)) => format!(", {most} scored tokens each"),
        _ => String::new(),
    };
    let labels = sheet::labels(rows);
    let references: Vec<String> = rows.iter().zip(labels).filter(|(r, _)| r.is_reference).map(|(_, label)| label).collect();
    let reference = match references.len() {
        0 => String::new(),
        1 => format!(", measured against {}", references[0]),
        _ => format!(", each measured against its own of {}", references.join(", ")),
    };
    let devices = distinct(rows.iter().map(|r| r.device.as_str())).join("; ");
    let about = format!("{} lanes{tokens}{reference}. Device: {devices}.", rows.len());
    [about].into_iter().chain(few_windows(rows)).collect()
}

fn several_models(rows: &[Summary]) -> bool {
    rows.iter().any(|row| row.model != rows[0].model)
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// Divergence against what a lane costs, and what it gains.
fn charts(rows: &[Summary]) -> Vec<Chart> {
    let (unit, divisor) = size_unit(rows);
    let (runs, labels) = (sheet::runs(rows), sheet::labels(rows));
    // Divergences from other references are no choice between lanes: every run has a front of its own.
    let scope = if runs.len() > 1 { Scope::EachSeries } else { Scope::All };
    let chart = |title: &str, hint: &str, x_title: String, better: Better, x: &dyn Fn(&Summary) -> Option<Place>| {
        let point = |&place: &usize| {
            let row = &rows[place];
            let mean = row.kld?.mean;
            let y_range = mean.interval.map(|i| (i.low, i.high));
            let Place { x, x_range, unsure } = x(row)?;
            Some(Point {
                label: labels[place].clone(),
                x,
                x_range,
                unsure,
                y: mean.value,
                y_range,
                lines: lines(row),
                marked: row.is_reference,
                ..Point::default()
            })
        };
        let series = |(run, places): &(String, Vec<usize>)| Series {
            name: if run.is_empty() { "lanes".into() } else { run.clone() },
            line: false,
            points: places.iter().filter_map(&point).collect(),
        };
        let plane = Plane {
            x: Axis::new(x_title, Scale::Linear),
            y: Axis::new("mean KL divergence (nats per token)", Scale::LogAbove(ROUNDING)),
            series: runs.iter().map(series).collect(),
            front: Some(Front { x: better, y: Better::Less, scope }),
        };
        Chart { title: title.into(), hint: hint.into(), plot: Plot::Plane(plane) }
    };
    let size = format!("size of the file ({unit})");
    let speed = format!("decode speed{} (tokens per second)", speed_words::subject_words(rows));
    vec![
        chart("Quality and size", "down and left is better", size, Better::Less, &|r| {
            Some(Place { x: r.bytes as f64 / divisor, ..Place::default() })
        }),
        chart("Quality and speed", "down and right is better", speed, Better::More, &|r| {
            let speed = r.decode?;
            let unsure = speed.is_unsure();
            Some(Place { x: speed.tps, x_range: unsure.then_some((speed.slowest, speed.fastest)), unsure })
        }),
    ]
}

/// Where a lane stands on the horizontal axis of [`charts`].
#[derive(Default)]
struct Place {
    x: f64,
    x_range: Option<(f64, f64)>,
    unsure: bool,
}

/// How much less than the reference the lanes get right, one line a task.
fn skills(rows: &[Summary]) -> Chart {
    let points =
        |row: &Summary, name: &str| Some(task(row, name)?.against_reference?.paired.difference.map(|share| 100.0 * share));
    let names = task_names(rows);
    let worst = |row: &Summary| {
        let all = names.iter().filter_map(|name| Some((name, points(row, name)?.value)));
        all.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(name, _)| name)
    };
    let series = |name: &String| {
        let point = |(row, label): (&Summary, String)| {
            let lost = points(row, name)?;
            let range = lost.interval.map(|i| (i.low, i.high));
            let around = range.map_or(String::new(), |(low, high)| format!(" ({low:+.1} to {high:+.1})"));
            Some(Point {
                label,
                x: row.bpw,
                y: lost.value,
                y_range: range,
                lines: vec![
                    format!("{name} {:+.1} points{around}", lost.value),
                    format!("{} of {} items right", percent(task(row, name)?.accuracy.value), task(row, name)?.items),
                    format!("size {}, {:.2} bpw", bytes(row.bytes), row.bpw),
                ],
                unnamed: worst(row) != Some(name),
                ..Point::default()
            })
        };
        let points = rows.iter().zip(sheet::labels(rows)).filter_map(point).collect();
        Series { name: name.clone(), line: true, points }
    };
    // A line joins lanes of one run; more tasks than colours cannot be told apart.
    let one_run = rows.iter().filter(|r| r.is_reference).count() == 1;
    let series = if one_run && names.len() <= svg::COLOURS { names.iter().map(series).collect() } else { Vec::new() };
    let plane = Plane {
        x: Axis::new("bits per weight", Scale::Log),
        y: Axis::new("right answers, points above the reference", Scale::Linear),
        series,
        front: None,
    };
    Chart { title: "Tasks by bits".into(), hint: "0 is where the reference stands".into(), plot: Plot::Plane(plane) }
}

/// What a point tells.
fn lines(row: &Summary) -> Vec<String> {
    let mut lines = vec![format!("size {}, {:.2} bpw", bytes(row.bytes), row.bpw)];
    let mut add = |name: &str, cell: Option<crate::page::Cell>| {
        if let Some(cell) = cell {
            let range = if cell.detail.is_empty() { String::new() } else { format!(" ({})", cell.detail) };
            lines.push(format!("{name} {}{range}", cell.text));
        }
    };
    add("KLD", row.kld.map(|k| sheet::small(k.mean)));
    add("top-1", row.top1.map(sheet::share));
    add("ppl ratio", row.ppl_ratio.map(|e| sheet::spread(e, |v| format!("{v:.4}"))));
    add("decode tokens/s", row.decode.map(sheet::rate));
    add("prefill tokens/s", row.prefill.map(sheet::rate));
    lines
}

/// The decimal unit in which the largest file has one to three digits before the point.
fn size_unit(rows: &[Summary]) -> (&'static str, f64) {
    match rows.iter().map(|r| r.bytes).max().unwrap_or(0) {
        0..1_000_000 => ("kB", 1e3),
        1_000_000..1_000_000_000 => ("MB", 1e6),
        _ => ("GB", 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{html, markdown};
    use bitworth_eval::record::{Body, Record};
    use bitworth_eval::sample;

    fn both(records: &[Record]) -> [String; 2] {
        let page = page(&Report::new(records).unwrap());
        [html::render(&page).unwrap(), markdown::render(&page)]
    }

    fn charts_in(page: &str) -> usize {
        page.matches("<figure>").count()
    }

    #[test]
    fn the_page_needs_nothing_from_outside() {
        let [page, _] = both(&sample::records());
        for foreign in ["<link", "src=", "@import", "url(", "https://", "fetch(", "import("] {
            assert!(!page.contains(foreign), "the page holds {foreign}");
        }
        // The only address is the name of the SVG language, which nothing fetches.
        assert_eq!(page.matches("http://").count(), page.matches("http://www.w3.org/2000/svg").count());
        assert_eq!(charts_in(&page), 3);
    }

    #[test]
    fn names_from_files_stay_text_everywhere() {
        let mut records = sample::records();
        for record in &mut records {
            record.origin.model = "<b>model</b>|\"x\n# c".into();
            record.origin.device = "<i>device</i>".into();
            record.origin.lane.insert_str(0, "<u>\" onfocus=\"");
            if let Body::Item(item) = &mut record.body {
                item.task.insert_str(0, "<s>");
            }
            if let Body::Lane(lane) = &mut record.body {
                lane.recipe.insert_str(0, "<em>");
            }
        }
        let [page, text] = both(&records);
        for written in [&page, &text] {
            for tag in ["<b>model", "<i>device", "<u>", "<s>", "<em>", "\" onfocus=\""] {
                assert!(!written.contains(tag) || (tag.starts_with('"') && written == &text), "{tag} was not escaped");
            }
        }
        assert!(page.contains("&lt;b&gt;model"));
        assert!(text.starts_with("# &lt;b&gt;model&lt;/b&gt;\\|\"x \\# c: quality and speed\n"), "{text}");
    }

    #[test]
    fn a_run_without_timings_or_comparisons_has_a_page_without_those_charts() {
        let mut records = sample::records();
        records.retain(|r| !matches!(r.body, Body::Speed(_)));
        assert_eq!(charts_in(&both(&records)[0]), 2);
        records.retain(|r| r.origin.lane == "bf16");
        assert_eq!(charts_in(&both(&records)[0]), 0);
        records.retain(|r| matches!(r.body, Body::Lane(_)));
        assert!(both(&records)[0].contains("bf16"));
    }

    #[test]
    fn candidates_that_were_left_out_stand_on_the_page() {
        let mut records = sample::records();
        assert!(!both(&records).concat().contains("Left out"));
        let origin = bitworth_eval::record::Origin { lane: "other.gguf".into(), ..records[0].origin.clone() };
        records.push(Record { origin, body: Body::LeftOut("other.gguf: its words differ".into()) });
        for page in both(&records) {
            assert!(page.contains("Left out") && page.contains("other.gguf") && page.contains("its words differ"), "{page}");
        }
        assert!(Report::new(&records).unwrap().to_text().contains("left out: other.gguf: its words differ\n"));
    }

    #[test]
    fn models_have_references_texts_and_fronts_of_their_own() {
        let mut records = sample::records();
        let mut other = sample::of_model("other");
        for record in &mut other {
            if let Body::Sequence(sequence) = &mut record.body {
                sequence.protocol.bos = false;
                sequence.tokens -= 1;
                if let Some(against) = &mut sequence.against {
                    against.kld.pop();
                }
            }
        }
        records.extend(other);
        let [page, text] = both(&records);
        let about =
            "24 lanes, 7560 to 7620 scored tokens each, each measured against its own of bf16 (demo-model), bf16 (other).";
        assert!(page.contains(about), "{page}");
        assert!(
            text.contains("On the Pareto front of demo-model: ") && text.contains("On the Pareto front of other: "),
            "{text}"
        );
        assert!(!text.contains("On the Pareto front: ") && !text.contains("## By text"), "{text}");
        assert!(text.contains("a reference: the other lanes of the same model and device are measured against it"), "{text}");
        for start in ["start token", "no start token"] {
            assert!(text.contains(&format!("scored from 128, {start}.")), "a protocol each: {text}");
        }
    }

    #[test]
    fn a_speed_of_a_machine_that_drifted_is_drawn_hollow() {
        let mut records = sample::records();
        for record in &mut records {
            if let (Body::Speed(speed), "q8_0") = (&mut record.body, record.origin.lane.as_str()) {
                speed.drifted = true;
            }
        }
        let [page, _] = both(&records);
        assert_eq!(page.matches("<g class=\"pt s0 unsure\"").count(), 1);
        assert!(page.contains("Hollow points"));
        assert!(!both(&sample::records()).concat().contains("Hollow points"));
    }

    #[test]
    fn every_point_is_named_and_tells_its_numbers() {
        let [page, _] = both(&sample::records());
        // 12 lanes in two charts; the 11 that are compared, with 4 tasks, in the third.
        let heads = page.find("What each task loses").unwrap();
        assert_eq!(page[..heads].matches("<g class=\"pt").count(), 24);
        assert_eq!(page.matches("data-tip=").count(), 24 + 11 * 4);
        assert!(page.contains("data-tip=\"iq2_xxs&#10;facts -"), "a lane's task tells what it lost");
        assert!(page.contains("data-tip=\"q4_k_m&#10;size 1.29 MB, 4.95 bpw&#10;KLD 0.00106 ("));
        assert!(page.contains("aria-label=\"bf16; size 4.07 MB, 16.01 bpw; KLD 0; top-1 100.0 %; decode"));
    }

    /// A task, and a group of two subjects.
    fn groups() -> Report {
        Report::new(&sample::asked(&[
            ("hellaswag", "", 4, [(1, 0), (1, 2)]),
            ("mmlu_anatomy", "mmlu", 4, [(0, 0), (1, 0)]),
            ("mmlu_virology", "mmlu", 4, [(0, 0), (0, 0)]),
        ]))
        .unwrap()
    }

    // Values by NumPy and SciPy: Agresti and Min's interval, Wilson's, and the items that decide at the margin of 0.5 points.
    #[test]
    fn what_each_task_loses_has_its_figures_in_both_forms() {
        let page = page(&groups());
        let section = |text: &str, next: &str| {
            let begin = text.find("What each task loses").unwrap();
            text[begin..begin + text[begin..].find(next).unwrap()].to_owned()
        };
        let text = section(&markdown::render(&page), "\n## ");
        assert!(text.contains("| task | items | q8\\_0 | q2\\_k |\n"), "{text}");
        let line = "| hellaswag | 4 | -25.0<br>-60.9 to +27.6: undecided; 26 items would decide | +25.0<br>-47.3 to +80.6: \
                    undecided; 52 items would decide |\n";
        assert!(text.contains(line) && text.contains("| mmlu | 8 | 0.0<br>"), "{text}");
        let html = section(&html::render(&page).unwrap(), "</section>");
        assert!(html.contains("-25.0<small>-60.9 to +27.6: undecided; 26 items would decide</small>"), "{html}");
        assert!(html.contains("+25.0<small>-47.3 to +80.6: undecided; 52 items would decide</small>"), "{html}");
        // A lane alone lost nothing that is known.
        let mut alone = sample::asked(&[("hellaswag", "", 4, [(1, 0), (1, 2)])]);
        alone.retain(|record| record.origin.lane == "bf16");
        assert!(!both(&alone).concat().contains("What each task loses"));
    }

    #[test]
    fn tasks_within_groups_are_shown_on_demand() {
        let mut report = groups();
        let of = |report: &Report| (report.to_text(), markdown::render(&page(report)));
        let (text, markdown) = of(&report);
        assert!(!text.contains("mmlu_anatomy"), "{text}");
        let fold = markdown.find("<details><summary>mmlu: its tasks</summary>").unwrap();
        assert!(!markdown[..fold].contains("anatomy") && markdown[fold..].contains("mmlu\\_anatomy"), "{markdown}");

        report.subjects = true;
        let (text, markdown) = of(&report);
        let line = text.lines().find(|line| line.starts_with("q2_k ") && line.contains("mmlu_anatomy")).unwrap();
        let words =
            "q2_k mmlu_anatomy acc 4 25.0 4.6 to 69.9 -25.0 -60.9 to +27.6 undecided; 26 items would decide −1 +0 1.0 1.0";
        assert_eq!(line.split_whitespace().collect::<Vec<_>>().join(" "), words);
        let line = "| q2\\_k | \u{2003}mmlu\\_anatomy | acc | 4 | 25.0<br>4.6 to 69.9 | -25.0<br>-60.9 to +27.6 | undecided; 26 \
                    items would decide | −1 +0 | 1.0 | 1.0 |  |\n";
        assert!(markdown.contains(line) && !markdown.contains("<details>"), "{markdown}");
        let note = "Tasks within groups stand below them, set in, and are corrected among themselves.\n";
        assert!(text.contains(note) && markdown.contains(note));
        // The group stands before its tasks.
        let places = ["hellaswag | acc |", "mmlu | acc |", "mmlu\\_anatomy | acc |", "mmlu\\_virology | acc |"];
        let places = places.map(|name| markdown.find(name).unwrap());
        assert!(places.is_sorted(), "{places:?}");
    }

    /// Writes the page of the sample where BITWORTH_SAMPLE_DIR says, to be looked at in a browser.
    #[test]
    fn the_sample_can_be_looked_at() {
        let temp = tempfile::tempdir().unwrap();
        let dir = std::env::var_os("BITWORTH_SAMPLE_DIR").map_or(temp.path().to_owned(), Into::into);
        let files = crate::write(&dir, &sample::records()).unwrap();
        let names: Vec<_> = files.iter().map(|f| f.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["summary.parquet", "summary.csv", "report.md", "report.html"]);
        assert!(files.iter().all(|f| std::fs::metadata(f).unwrap().len() > 1000));
    }
}

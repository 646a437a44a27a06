//! The report as one page of HTML that needs nothing else: no network, no script. What stands where is in `report.html.j2`.

use minijinja::{Environment, Value, context};

use crate::report::Report;
use crate::report::markdown::{devices, title};
use crate::report::plot::{Better, Chart, Point, chart};
use crate::report::sheet::{self, Column, Part};
use crate::report::summary::Summary;

/// How to read the numbers.
pub const READING: &[&str] = &[
    "KLD is the mean KL divergence between the reference's and the lane's prediction of the next token, in nats. It sees every \
     change, also where the likeliest token stays the same: 0 means that nothing was lost. It tells lanes apart long before \
     perplexity or tasks do.",
    "A KLD below 0.000001 is the rounding of 32-bit arithmetic, which can even be below 0, and counts as 0 in charts and findings.",
    "Ranges are 95 % intervals. Those of KLD, perplexity and top-1 agreement take each sequence as one draw (tokens of a sequence \
     are not independent); those of tasks are Wilson's. Ranges of speeds are the slowest and the fastest repetition.",
    "All lanes saw the same tokens and items, so differences between lanes are surer than their ranges look: findings use paired \
     differences.",
    "A lane on the Pareto front is beaten by no other lane in both directions of a chart; every other lane has a better choice.",
    "bpw are the bits per weight over all tensors as they are stored, not what the type's name promises.",
];

/// What the numbers do not say.
pub const CAVEATS: &[&str] = &[
    "Quality is measured on the weights as stored, with 32-bit arithmetic. Programs that also round activations lose a little more.",
    "Speeds are those of this program on the device named above, other programs and devices rank the types differently.",
    "Perplexities of different texts, windows or tokenizers must not be compared; see the protocol.",
    "Each comparison is made at the 95 % level by itself: of twenty that hold no difference, one shows one by chance.",
];

/// The page.
///
/// # Errors
/// The template's own, which a test rules out.
pub fn render(report: &Report) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    // The name ends with .html, so everything that is put in is escaped unless marked as safe.
    environment.add_template("report.html", include_str!("report.html.j2")).map_err(|e| e.to_string())?;
    let template = environment.get_template("report.html").map_err(|e| e.to_string())?;
    template.render(values(report)).map_err(|e| e.to_string())
}

fn values(report: &Report) -> Value {
    let rows = &report.rows;
    let findings = &report.findings;
    context! {
        title => title(report),
        devices => devices(report),
        tokens => rows.iter().map(|r| r.tokens).max().unwrap_or(0),
        lanes => rows.len(),
        reference => rows.iter().zip(sheet::labels(rows)).find(|(r, _)| r.is_reference).map_or(String::new(), |(_, l)| l),
        charts => charts(rows),
        columns => columns(rows),
        numbers => table(rows, Part::Numbers),
        task_scores => table(rows, Part::Tasks),
        dominated => findings.dominated.clone(),
        ties => findings.ties.clone(),
        tasks => findings.tasks.clone(),
        reading => READING.to_vec(),
        caveats => CAVEATS.to_vec(),
        protocol => report.protocol.clone(),
        version => env!("CARGO_PKG_VERSION"),
    }
}

/// The charts that can be drawn, with their titles.
fn charts(rows: &[Summary]) -> Vec<Value> {
    let points = |x: &dyn Fn(&Summary) -> Option<f64>| -> Vec<Point> {
        let point = |(row, label): (&Summary, String)| {
            let mean = row.kld?.mean;
            let ends = mean.interval.map(|i| (i.low, i.high));
            Some(Point { label, x: x(row)?, y: mean.value, ends, is_reference: row.is_reference })
        };
        rows.iter().zip(sheet::labels(rows)).filter_map(point).collect()
    };
    let (unit, divisor) = size_unit(rows);
    let speed = chart(&points(&|r| Some(r.decode?.tps)), "decode speed (tokens per second)", Better::Right);
    let size = chart(&points(&|r| Some(r.bytes as f64 / divisor)), &format!("size of the file ({unit})"), Better::Left);
    [("Quality and speed", "down and right is better", speed), ("Quality and size", "down and left is better", size)]
        .into_iter()
        .filter_map(|(title, hint, chart)| {
            let Chart { svg, front } = chart?;
            Some(context! { title, hint, front, svg => Value::from_safe_string(svg) })
        })
        .collect()
}

/// The decimal unit in which the largest file has one to three digits before the point.
fn size_unit(rows: &[Summary]) -> (&'static str, f64) {
    match rows.iter().map(|r| r.bytes).max().unwrap_or(0) {
        0..1_000_000 => ("kB", 1e3),
        1_000_000..1_000_000_000 => ("MB", 1e6),
        _ => ("GB", 1e9),
    }
}

fn columns(rows: &[Summary]) -> Vec<Value> {
    sheet::columns(rows).into_iter().map(|c| context! { head => c.head, meaning => c.meaning }).collect()
}

/// One part of the table; `None` where it would have no column but the lanes' names.
fn table(rows: &[Summary], part: Part) -> Option<Value> {
    let columns: Vec<Column> = sheet::columns(rows).into_iter().filter(|c| c.part == Part::Lane || c.part == part).collect();
    let cell = |c: &sheet::Cell| context! { text => c.text.clone(), detail => c.detail.clone() };
    let line = |i: usize| {
        let cells: Vec<Value> = columns.iter().map(|c| cell(&c.cells[i])).collect();
        context! { is_reference => rows[i].is_reference, cells }
    };
    let heads: Vec<Value> = columns.iter().map(|c| context! { head => c.head.clone(), meaning => c.meaning.clone() }).collect();
    (columns.len() > 1).then(|| context! { heads, rows => (0..rows.len()).map(line).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::record::{Body, Record};
    use crate::report::sample;

    fn page(records: &[Record]) -> String {
        render(&Report::new(records).unwrap()).unwrap()
    }

    #[test]
    fn the_page_needs_nothing_from_outside_and_no_script() {
        let page = page(&sample::records());
        for foreign in ["<script", "<link", "src=", "@import", "url(", "https://"] {
            assert!(!page.contains(foreign), "the page holds {foreign}");
        }
        // The only address is the name of the SVG language, which nothing fetches.
        assert_eq!(page.matches("http://").count(), page.matches("http://www.w3.org/2000/svg").count());
        assert_eq!(page.matches("<svg").count(), 2);
    }

    #[test]
    fn names_from_files_stay_text_everywhere() {
        let mut records = sample::records();
        for record in &mut records {
            record.origin.model = "<b>model</b>".into();
            record.origin.device = "<i>device</i>".into();
            record.origin.lane.insert_str(0, "<u>");
            if let Body::Item(item) = &mut record.body {
                item.task.insert_str(0, "<s>");
            }
            if let Body::Lane(lane) = &mut record.body {
                lane.recipe.insert_str(0, "<em>");
            }
        }
        let page = page(&records);
        for tag in ["<b>model", "<i>device", "<u>", "<s>", "<em>"] {
            assert!(!page.contains(tag), "{tag} was not escaped");
        }
        assert!(page.contains("&lt;b&gt;model"));
    }

    #[test]
    fn a_run_without_timings_or_comparisons_has_a_page_without_those_charts() {
        let mut records = sample::records();
        records.retain(|r| !matches!(r.body, Body::Speed(_)));
        assert_eq!(page(&records).matches("<svg").count(), 1);
        records.retain(|r| r.origin.lane == "bf16");
        assert_eq!(page(&records).matches("<svg").count(), 0);
        records.retain(|r| matches!(r.body, Body::Lane(_)));
        assert!(page(&records).contains("bf16"));
    }

    /// Writes the page of the sample where BITWORTH_SAMPLE_DIR says, to be looked at in a browser.
    #[test]
    fn the_sample_can_be_looked_at() {
        let temp = tempfile::tempdir().unwrap();
        let dir = std::env::var_os("BITWORTH_SAMPLE_DIR").map_or(temp.path().to_owned(), Into::into);
        let files = crate::report::write(&dir, &sample::records()).unwrap();
        let names: Vec<_> = files.iter().map(|f| f.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["summary.parquet", "summary.csv", "report.md", "report.html"]);
        assert!(files.iter().all(|f| std::fs::metadata(f).unwrap().len() > 1000));
    }
}

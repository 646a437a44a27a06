//! A page as one HTML file that needs nothing else: no network, no font, no library. What stands where is in `page.html.j2`, how
//! it looks in `page.css`, what pointing at it does in `page.js`.

use minijinja::{Environment, UndefinedBehavior, Value, context};

use crate::chart::Chart;
use crate::page::{Block, Page, Row, Section, Table};
use crate::svg;

/// The page as HTML.
///
/// # Errors
/// The template's own, which a test rules out.
pub fn render(page: &Page) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // The name ends with .html, so everything that is put in is escaped unless marked as safe.
    environment.add_template("page.html", include_str!("page.html.j2"))?;
    let template = environment.get_template("page.html")?;
    let values = context! {
        title => &page.title,
        lead => &page.lead,
        about => &page.about,
        sections => page.sections.iter().map(section).collect::<Vec<_>>(),
        style => Value::from_safe_string(include_str!("page.css").into()),
        script => Value::from_safe_string(include_str!("page.js").into()),
        version => env!("CARGO_PKG_VERSION"),
    };
    template.render(values)
}

fn section(section: &Section) -> Value {
    context! { heading => &section.heading, blocks => section.blocks.iter().map(block).collect::<Vec<_>>() }
}

fn block(block: &Block) -> Value {
    match block {
        Block::Text(text) => context! { kind => "text", text },
        Block::Note(text) => context! { kind => "note", text },
        Block::List(lines) => context! { kind => "list", lines },
        Block::Terms(terms) => context! { kind => "terms", terms },
        Block::Table(sheet) => context! { kind => "table", table => table(sheet) },
        Block::Charts(charts) => {
            context! { kind => "charts", charts => charts.iter().filter_map(|c| chart(c, charts.len() == 1)).collect::<Vec<_>>() }
        }
    }
}

fn table(table: &Table) -> Value {
    let columns: Vec<Value> =
        table.columns.iter().map(|c| context! { head => &c.head, meaning => &c.meaning, words => c.words }).collect();
    let row = |row: &Row| {
        let cells = row.cells.iter().map(|c| context! { text => &c.text, detail => &c.detail, order => c.order });
        context! { marked => row.marked, cells => cells.collect::<Vec<_>>() }
    };
    context! { columns, rows => table.rows.iter().map(row).collect::<Vec<_>>(), notes => &table.notes }
}

/// `None` for a chart with too few points.
fn chart(chart: &Chart, alone: bool) -> Option<Value> {
    let drawing = svg::draw(chart, alone)?;
    let entry = |(i, name): (usize, &str)| context! { name, key => Value::from_safe_string(svg::key(i)) };
    let legend: Vec<Value> = chart.legend().into_iter().enumerate().map(entry).collect();
    Some(context! {
        title => &chart.title,
        hint => &chart.hint,
        legend,
        front => chart.front_sentences(),
        svg => Value::from_safe_string(drawing),
    })
}

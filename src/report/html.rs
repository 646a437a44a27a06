//! A page as one HTML file that needs nothing else: no network, no font, no library. What stands where is in `page.html.j2`, how
//! it looks in `page.css`, what pointing at it does in `page.js`. The template is compiled with the program, so that it cannot
//! lack a value; templates of strangers are `bitworth_text`'s.

use std::fmt::{self, Write};

use askama::Template;

use crate::chart::Chart;
use crate::page::{Page, PageBlock};
use crate::svg;

/// The page as HTML.
///
/// # Errors
/// The template's own, which a test rules out.
pub fn render(page: &Page) -> Result<String, askama::Error> {
    let (style, script) = (include_str!("page.css"), include_str!("page.js"));
    PageTemplate { page, style, script, version: env!("CARGO_PKG_VERSION") }.render()
}

#[derive(Template)]
#[template(path = "page.html.j2", escape = "html")]
struct PageTemplate<'a> {
    page: &'a Page,
    style: &'a str,
    script: &'a str,
    version: &'a str,
}

/// Keeps what is put in from being read as markup, in text and in attributes.
#[derive(Debug, Clone, Copy)]
struct Escaper;

impl askama::filters::Escaper for Escaper {
    fn write_escaped_str<W: Write>(&self, mut out: W, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(['<', '>', '&', '"', '\'', '/']) {
            out.write_str(&rest[..at])?;
            out.write_str(match rest.as_bytes()[at] {
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'&' => "&amp;",
                b'"' => "&quot;",
                b'\'' => "&#x27;",
                _ => "&#x2f;",
            })?;
            rest = &rest[at + 1..];
        }
        out.write_str(rest)
    }
}

/// A chart as the template takes it.
struct Drawn<'a> {
    chart: &'a Chart,
    /// Marks and names of the series.
    legend: Vec<(String, &'a str)>,
    front: Vec<String>,
    svg: String,
}

/// Without the charts that have too few points.
fn drawn(charts: &[Chart]) -> Vec<Drawn<'_>> {
    let drawn = |chart| {
        let svg = svg::draw(chart, charts.len() == 1)?;
        let legend = chart.legend().into_iter().enumerate().map(|(i, name)| (svg::key(i), name)).collect();
        Some(Drawn { chart, legend, front: chart.front_sentences(), svg })
    };
    charts.iter().filter_map(drawn).collect()
}

/// A number to sort by, which `page.js` reads: always with a point.
fn order(value: &f64) -> String {
    let text = value.to_string();
    if text.contains('.') || !value.is_finite() { text } else { text + ".0" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{Cell, Column, Section, Table, TableRow};

    #[test]
    fn what_is_put_in_is_not_markup() {
        let table = Table {
            columns: vec![Column::words("a/b", "\"it's\" 1 < 2"), Column::numbers("n", "")],
            rows: vec![TableRow { cells: vec![Cell::words("<b>"), Cell::number("2", 2.0).with_detail("1 & 3")], marked: true }],
            notes: vec!["a > b".into()],
        };
        let page = Page {
            title: "<i>".into(),
            sections: vec![Section::new("", [PageBlock::Table(table), PageBlock::Terms(vec![("t".into(), "&".into())])])],
            ..Page::default()
        };
        let html = render(&page).unwrap();
        for expected in [
            "<title>&lt;i&gt;</title>",
            "<th scope=\"col\" class=\"words\" title=\"&quot;it&#x27;s&quot; 1 &lt; 2\">a&#x2f;b</th><th scope=\"col\">n</th>",
            "<tr class=\"marked\"><th scope=\"row\">&lt;b&gt;</th><td data-order=\"2.0\">2<small>1 &amp; 3</small></td></tr>",
            "<p class=\"soft\">a &gt; b</p>",
            "<dt>t</dt><dd>&amp;</dd>",
        ] {
            assert!(html.contains(expected), "{expected} is not in {html}");
        }
        assert!(html.ends_with("</html>"));
    }
}

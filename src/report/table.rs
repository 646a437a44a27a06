//! The summary as an aligned table of plain text for a terminal. Without intervals, which the report has.

use crate::report::sheet;
use crate::report::summary::Summary;

/// The table: a head, a rule, a line a lane, and below what `*` means. Every line ends with a newline.
pub fn render(rows: &[Summary]) -> String {
    let columns = sheet::columns(rows);
    let width = |c: &sheet::Column| c.cells.iter().map(|c| &c.text).chain([&c.head]).map(|t| t.chars().count()).max();
    let widths: Vec<usize> = columns.iter().map(|c| width(c).unwrap_or(0)).collect();
    let mut out = line(columns.iter().map(|c| c.head.as_str()), &widths);
    out += &line(widths.iter().map(|w| "-".repeat(*w)).collect::<Vec<_>>().iter().map(String::as_str), &widths);
    for row in 0..rows.len() {
        out += &line(columns.iter().map(|c| c.cells[row].text.as_str()), &widths);
    }
    if rows.iter().any(|r| r.is_reference) {
        out += "* the reference: the other lanes are measured against it\n";
    }
    out
}

/// One line: the first column to the left, the others to the right.
fn line<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let mut out = String::new();
    for (place, (cell, width)) in cells.zip(widths).enumerate() {
        if place == 0 {
            out += &format!("{:<width$}", clean(cell));
        } else {
            out += &format!("  {:>width$}", clean(cell));
        }
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

/// Names come from files: control characters must not reach a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{sample, summarize};

    #[test]
    fn every_lane_has_a_line_and_the_columns_stand_under_their_heads() {
        let rows = summarize(&sample::records()).unwrap();
        let text = render(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), rows.len() + 3);
        assert!(lines[0].starts_with("lane") && lines[2].starts_with("bf16 *"), "{text}");
        let end = lines[0].find("size").unwrap() + "size".len();
        for (line, row) in lines[2..].iter().zip(&rows) {
            assert!(line[..end].ends_with(&crate::report::number::bytes(row.bytes)), "{}: {text}", row.lane);
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut rows = summarize(&sample::records()).unwrap();
        rows[1].lane = "a\u{1b}[31mb\nc".into();
        let text = render(&rows);
        assert!(!text.contains('\u{1b}') && text.lines().count() == rows.len() + 3, "{text}");
    }
}

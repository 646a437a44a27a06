//! A table as aligned plain text for a terminal. Without intervals, which the report has.

use crate::page::Table;

/// The table: a head, a rule, a line a row, and its notes. Every line ends with a newline.
pub fn render(table: &Table) -> String {
    let columns = 0..table.columns.len();
    let texts = |i: usize| table.rows.iter().map(move |r| r.cells[i].text.as_str()).chain([table.columns[i].head.as_str()]);
    let shapes: Vec<(usize, bool)> =
        columns.map(|i| (texts(i).map(|t| t.chars().count()).max().unwrap_or(0), i == 0 || table.columns[i].words)).collect();
    let mut out = line(table.columns.iter().map(|c| c.head.as_str()), &shapes);
    let rules: Vec<String> = shapes.iter().map(|(width, _)| "-".repeat(*width)).collect();
    out += &line(rules.iter().map(String::as_str), &shapes);
    for row in &table.rows {
        out += &line(row.cells.iter().map(|c| c.text.as_str()), &shapes);
    }
    for note in &table.notes {
        out += &format!("{}\n", clean(note));
    }
    out
}

/// One line: words to the left, numbers to the right; `shapes` are the columns' widths and whether they hold words.
fn line<'a>(cells: impl Iterator<Item = &'a str>, shapes: &[(usize, bool)]) -> String {
    let mut out = String::new();
    for (place, (cell, (width, words))) in cells.zip(shapes).enumerate() {
        let gap = if place == 0 { "" } else { "  " };
        let cell = clean(cell);
        out += &if *words { format!("{gap}{cell:<width$}") } else { format!("{gap}{cell:>width$}") };
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

/// Names come from files: control characters must not reach a terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sheet, summarize};
    use bitworth_eval::sample;

    #[test]
    fn every_lane_has_a_line_and_the_columns_stand_under_their_heads() {
        let rows = summarize(&sample::records()).unwrap();
        let text = render(&sheet::table(&rows));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), rows.len() + 3);
        assert!(lines[0].starts_with("lane") && lines[2].starts_with("bf16 *"), "{text}");
        let end = lines[0].find("size").unwrap() + "size".len();
        for (line, row) in lines[2..].iter().zip(&rows) {
            assert!(line[..end].ends_with(&crate::number::bytes(row.bytes)), "{}: {text}", row.lane);
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut rows = summarize(&sample::records()).unwrap();
        rows[1].lane = "a\u{1b}[31mb\nc".into();
        let text = render(&sheet::table(&rows));
        assert!(!text.contains('\u{1b}') && text.lines().count() == rows.len() + 3, "{text}");
    }
}

//! A page as GitHub Markdown. Of charts only the fronts are named: their values stand in the tables.

use crate::page::{Page, PageBlock, Table};

/// The page as Markdown, with a heading of the first level.
pub fn render(page: &Page) -> String {
    let mut out = format!("# {}\n", escape(&page.title));
    for line in &page.lead {
        out += &format!("\n**{}**\n", escape(line));
    }
    for line in &page.about {
        out += &format!("\n{}\n", escape(line));
    }
    for section in &page.sections {
        if !section.heading.is_empty() {
            out += &format!("\n## {}\n", escape(&section.heading));
        }
        for block in &section.blocks {
            out += &render_block(block);
        }
    }
    out
}

fn render_block(block: &PageBlock) -> String {
    match block {
        PageBlock::Text(text) | PageBlock::Note(text) => format!("\n{}\n", escape(text)),
        PageBlock::List(lines) => list(lines.iter().map(|line| escape(line))),
        PageBlock::Terms(terms) => list(terms.iter().map(|(name, meaning)| format!("**{}**: {}", escape(name), escape(meaning)))),
        PageBlock::Table(table) => "\n".to_owned() + &render_table(table),
        PageBlock::Fold(title, table) => {
            format!("\n<details><summary>{}</summary>\n\n{}\n</details>\n", escape(title), render_table(table))
        }
        PageBlock::Charts(charts) => {
            let fronts = charts.iter().flat_map(|c| c.front_sentences().into_iter().map(|line| (c.title.as_str(), line)));
            list(fronts.map(|(title, line)| format!("{}: {}", escape(title), escape(&line))))
        }
    }
}

fn list(lines: impl Iterator<Item = String>) -> String {
    let lines: String = lines.map(|line| format!("- {line}\n")).collect();
    if lines.is_empty() { lines } else { "\n".to_owned() + &lines }
}

/// A table, with its notes.
pub fn render_table(table: &Table) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = line(table.columns.iter().map(|c| escape(&c.head)).collect());
    let rule = |(i, words): (usize, bool)| if i == 0 || words { "---".to_owned() } else { "---:".to_owned() };
    out += &line(table.columns.iter().map(|c| c.words).enumerate().map(rule).collect());
    for row in &table.rows {
        let detail = |detail: &str| if detail.is_empty() { String::new() } else { format!("<br>{}", escape(detail)) };
        out += &line(row.cells.iter().map(|c| escape(&c.text) + &detail(&c.detail)).collect());
    }
    for note in &table.notes {
        out += &format!("\n{}\n", escape(note));
    }
    out
}

/// Names come from files: what Markdown or HTML would read as more than text is escaped, line breaks become spaces.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{Cell, Column, TableRow};

    #[test]
    fn a_table_has_a_line_a_row_with_as_many_cells_as_heads() {
        let row = |name: &str| TableRow {
            cells: vec![Cell::words(name), Cell::number("1.5", 1.5).with_detail("1 – 2")],
            marked: false,
        };
        let table = Table {
            columns: vec![Column::words("lane", ""), Column::numbers("KLD", "")],
            rows: vec![row("a|b"), row("<script>\n# c *d*")],
            notes: vec!["a_b".into()],
        };
        assert_eq!(
            render_table(&table),
            "| lane | KLD |\n| --- | ---: |\n| a\\|b | 1.5<br>1 – 2 |\n| &lt;script&gt; \\# c \\*d\\* | 1.5<br>1 – 2 |\n\na\\_b\n"
        );
    }
}

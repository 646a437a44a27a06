//! The report as GitHub Markdown.

use crate::report::Report;
use crate::report::html::{CAVEATS, READING};
use crate::report::sheet;

/// The report: table, findings, how to read it, how it was measured.
pub fn render(report: &Report) -> String {
    let mut out = format!("# Quality and speed: {}\n\n", escape(&title(report)));
    out += &format!("Measured on {}.\n\n", escape(&devices(report).join("; ")));
    out += &table(report);
    let findings = &report.findings;
    let ties: Vec<String> = findings.ties.clone();
    for (head, lines) in
        [("Dominated", &findings.dominated), ("Divergences that cannot be told apart", &ties), ("Tasks", &findings.tasks)]
    {
        if !lines.is_empty() {
            out += &section(head, lines.iter().map(String::as_str));
        }
    }
    out += &section("How to read this", READING.iter().copied());
    out += &section("Caveats", CAVEATS.iter().copied());
    out + &section("Protocol", report.protocol.iter().map(String::as_str))
}

/// The models of the report.
pub(super) fn title(report: &Report) -> String {
    distinct(report.rows.iter().map(|r| r.model.as_str())).join(", ")
}

/// The devices that ran.
pub(super) fn devices(report: &Report) -> Vec<String> {
    distinct(report.rows.iter().map(|r| r.device.as_str()))
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in names {
        if !found.iter().any(|f| f == name) {
            found.push(name.to_owned());
        }
    }
    found
}

fn section<'a>(head: &str, lines: impl Iterator<Item = &'a str>) -> String {
    let mut out = format!("\n## {head}\n\n");
    for line in lines {
        out += &format!("- {}\n", escape(line));
    }
    out
}

fn table(report: &Report) -> String {
    let columns = sheet::columns(&report.rows);
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = line(columns.iter().map(|c| escape(&c.head)).collect());
    out += &line((0..columns.len()).map(|i| if i == 0 { "---".into() } else { "---:".into() }).collect());
    for row in 0..report.rows.len() {
        let cell = |c: &sheet::Column| {
            let cell = &c.cells[row];
            let detail = if cell.detail.is_empty() { String::new() } else { format!("<br>{}", escape(&cell.detail)) };
            escape(&cell.text) + &detail
        };
        out += &line(columns.iter().map(cell).collect());
    }
    out
}

/// Names come from files: what Markdown or HTML would read as more than text is escaped, line breaks become spaces.
fn escape(text: &str) -> String {
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
    use crate::report::sample;

    #[test]
    fn the_table_has_a_line_a_lane_with_as_many_cells_as_heads() {
        let report = Report::new(&sample::records()).unwrap();
        let text = render(&report);
        let lines: Vec<&str> = text.lines().filter(|l| l.starts_with('|')).collect();
        assert_eq!(lines.len(), report.rows.len() + 2);
        let bars = |l: &str| l.matches(" | ").count();
        assert!(lines.iter().all(|l| bars(l) == bars(lines[0])), "{text}");
    }

    #[test]
    fn names_from_files_stay_text() {
        let mut records = sample::records();
        for record in &mut records {
            record.origin.model = "a|b <script>\n# c *d*".into();
        }
        let text = render(&Report::new(&records).unwrap());
        assert!(text.starts_with("# Quality and speed: a\\|b &lt;script&gt; \\# c \\*d\\*\n"), "{text}");
    }
}

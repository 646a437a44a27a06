//! What a row lacks of what a template takes, for messages. Absent: rendering.

use bitworth_eval::kinds::DataRow;
use bitworth_text::template::{Template, TemplateError};

use crate::short::short;

/// More columns are not listed.
const MOST: usize = 24;

/// A template's error on a row, with the columns that it takes and the row lacks. What went wrong need not be one of these, as
/// templates may ask whether there is a column: so the error comes first.
pub(crate) fn describe(error: &TemplateError, template: &Template, row: &DataRow) -> String {
    let lacking: Vec<String> = template.names().into_iter().filter(|name| !row.contains_key(name)).collect();
    match lacking.is_empty() {
        true => error.to_string(),
        false => format!("{error}; the row has no column {}; it has {}", listed(&lacking, " or "), columns(row)),
    }
}

/// The columns of a row.
pub(crate) fn columns(row: &DataRow) -> String {
    if row.is_empty() { "none".to_owned() } else { listed(&row.keys().cloned().collect::<Vec<_>>(), ", ") }
}

fn listed(names: &[String], between: &str) -> String {
    let shown: Vec<String> = names.iter().take(MOST).map(|name| format!("{:?}", short(name))).collect();
    let more = names.len() - shown.len();
    shown.join(between) + &if more > 0 { format!(" and {more} more") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use bitworth_text::template::Scope;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn said(source: &str) -> String {
        let row = json!({"question": "q", "answerKey": "A"}).as_object().unwrap().clone();
        let template = Template::new(source).unwrap();
        let error = template.render(&Scope::new(&row)).unwrap_err();
        describe(&error, &template, &row)
    }

    #[test]
    fn columns_that_a_row_lacks_are_named() {
        let has = "; it has \"question\", \"answerKey\"";
        let arc = said("{{ choices.label.index(answerKey) }}");
        assert!(arc.ends_with(&format!("; the row has no column \"choices\"{has}")), "{arc}");
        // However far behind the name stands.
        let long = said(&format!("{}{{{{ questio }}}} {{{{ answer }}}}", "x".repeat(200)));
        assert!(long.ends_with(&format!("no column \"answer\" or \"questio\"{has}")), "{long}");
        assert!(!said("{{ question.a.b }}").contains("no column"));
        assert_eq!(columns(&DataRow::new()), "none");
        let many: Vec<String> = (0..MOST + 2).map(|n| n.to_string()).collect();
        assert!(listed(&many, ", ").ends_with("\"23\" and 2 more"));
    }
}

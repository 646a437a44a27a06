//! What is said of a template that fails, a chat's and a task's alike. Absent: what is done about it.

/// What is said of a template that takes too long.
pub(crate) const ENDLESS: &str = "it does not come to an end in reasonable time";

/// What went wrong and where in the template.
#[cfg(feature = "chat")]
pub(crate) fn describe(source: &str, error: &minijinja::Error) -> String {
    use minijinja::ErrorKind;

    let what = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => ENDLESS.to_owned(),
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    let line = error.line().and_then(|number| Some((number, source.lines().nth(number.checked_sub(1)?)?)));
    match line {
        Some((number, text)) => {
            let text = text.trim();
            let shown: String = text.chars().take(120).collect();
            let more = if shown.len() < text.len() { "..." } else { "" };
            format!("line {number}, `{shown}{more}`: {what}")
        }
        None => what,
    }
}

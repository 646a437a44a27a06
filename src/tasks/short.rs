//! Texts of strangers as messages show them.

/// The beginning of a text, for messages.
pub(crate) fn short(text: &str) -> String {
    let shown: String = text.chars().take(80).collect();
    if shown.len() < text.len() { shown + "..." } else { shown }
}

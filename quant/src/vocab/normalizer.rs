//! What SentencePiece does to a text first, as the `tokenizers` crate describes it.

use serde_json::{Value, json};

/// `▁` for spaces, also for one before the text.
pub(super) fn normalizer_of(add_space_prefix: bool) -> Value {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    match add_space_prefix {
        true => json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]}),
        false => replace,
    }
}

//! What of a `tokenizer.json` llama.cpp's keys cannot hold: normalizers, pre-tokenizers that differ from the one their name
//! stands for, added tokens that swallow the spaces beside them. A GGUF file made here has it under a key of our own, only where
//! there is something to say, so that the file gives the ids that the directory gives. Other programs do not read it.
//!
//! Absent: everything that llama.cpp's keys do hold (see `rebuild`).

use serde_json::{Map, Value as Json, json};
use tokenizers::{Model as _, ModelWrapper};

use super::normalizer::normalizer_of;
use super::pre::PreTokenizer;
use super::{TokenType, recognize};

/// What a file's other keys say of the same things.
pub(super) enum Known<'a> {
    /// Byte-level BPE with the pre-tokenizer of a name, where it can be built.
    ByteLevel(Option<&'a PreTokenizer>),
    /// SentencePiece, with or without a space before a text.
    SentencePiece { add_space_prefix: bool },
}

/// The parts of a `tokenizer.json` that `known` does not give; empty where there are none.
///
/// `tokens` are those of the file's keys.
pub(super) fn of(tokenizer: &Map<String, Json>, known: &Known, tokens: &[(TokenType, String)]) -> Map<String, Json> {
    let mut beyond = Map::new();
    let part = |name| tokenizer.get(name).unwrap_or(&Json::Null);
    let (normalizer, pre_tokenizer) = (plain(part("normalizer")), plain(part("pre_tokenizer")));
    let ignore_merges = part("model").get("ignore_merges").and_then(Json::as_bool).unwrap_or(false);
    let (known_normalizer, same_pre_tokenizer, known_ignore_merges) = match known {
        Known::ByteLevel(pre) => {
            (Json::Null, pre.is_some_and(|pre| recognize::is(&pre_tokenizer, pre)), pre.is_some_and(|pre| pre.ignore_merges))
        }
        Known::SentencePiece { add_space_prefix } => {
            // Where the normalizer leaves no space, there is nothing to split by spaces.
            let idle = pre_tokenizer["type"] == "Split" && pre_tokenizer["pattern"]["String"] == " ";
            let spaces_left = normalizer == Json::Null;
            let same = pre_tokenizer == Json::Null || idle && !spaces_left;
            (normalizer_of(*add_space_prefix), same, false)
        }
    };
    if normalizer != known_normalizer {
        beyond.insert("normalizer".to_owned(), normalizer.clone());
    }
    if !same_pre_tokenizer {
        beyond.insert("pre_tokenizer".to_owned(), pre_tokenizer);
    }
    if ignore_merges != known_ignore_merges && !merges_suffice(part("model")) {
        beyond.insert("ignore_merges".to_owned(), json!(ignore_merges));
    }
    let changed = normalizer != Json::Null && matches!(known, Known::ByteLevel(_));
    let added = added_tokens(part("added_tokens"), changed, tokens);
    if !added.is_empty() {
        beyond.insert("added_tokens".to_owned(), Json::Object(added));
    }
    beyond
}

/// Whether merging makes every token of its own text, so that it makes no difference to look for whole tokens first.
fn merges_suffice(model: &Json) -> bool {
    let mut model = model.clone();
    model["ignore_merges"] = false.into();
    let Ok(model) = serde_json::from_value::<ModelWrapper>(model) else { return false };
    let whole = |token: &String| model.tokenize(token).is_ok_and(|made| made.len() == 1);
    model.get_vocab().keys().all(whole)
}

/// The flags of added tokens, by id, that are set; of a token that the file's keys take for an ordinary one, or of which they
/// have another text, with its text and whether it is special. Whether a token is looked for in the text as it is or as it was
/// normalized makes a difference only where a text is changed or where some tokens are and others are not.
fn added_tokens(list: &Json, changed: bool, tokens: &[(TokenType, String)]) -> Map<String, Json> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    let set = |token: &Json, flag: &str| token.get(flag).and_then(Json::as_bool).unwrap_or(false);
    let normalized = list.iter().filter(|token| set(token, "normalized")).count();
    let mixed = normalized > 0 && (changed || normalized < list.len());
    let mut found = Map::new();
    for token in list {
        let mut flags: Map<String, Json> = FLAGS
            .iter()
            .filter(|&&flag| set(token, flag) && (flag != "normalized" || mixed))
            .map(|flag| ((*flag).to_owned(), json!(true)))
            .collect();
        let Some(id) = token.get("id").and_then(Json::as_u64) else { continue };
        let known = usize::try_from(id).ok().and_then(|id| tokens.get(id));
        let says_less = |content: &Json| known.is_some_and(|(kind, text)| *kind == TokenType::Normal || content != text.as_str());
        if let Some(content) = token.get("content").filter(|content| says_less(content)) {
            flags.insert(CONTENT.to_owned(), content.clone());
            flags.insert(SPECIAL.to_owned(), json!(set(token, SPECIAL)));
        }
        if !flags.is_empty() {
            found.insert(id.to_string(), Json::Object(flags));
        }
    }
    found
}

/// What is kept of an added token that the file's keys take for an ordinary one.
const CONTENT: &str = "content";
const SPECIAL: &str = "special";

/// The texts of added tokens that the file's other keys take for ordinary ones, which other programs cut to pieces.
pub(super) fn cut_elsewhere(beyond: &Map<String, Json>) -> Vec<&str> {
    let added = beyond.get("added_tokens").and_then(Json::as_object);
    added.into_iter().flat_map(|added| added.values()).filter_map(|flags| flags.get(CONTENT)?.as_str()).collect()
}

/// The flags of an added token.
const FLAGS: [&str; 4] = ["single_word", "lstrip", "rstrip", "normalized"];

/// Puts the parts in their places in a rebuilt `tokenizer.json`.
pub(super) fn put(beyond: &Map<String, Json>, tokenizer: &mut Json) {
    for name in ["normalizer", "pre_tokenizer"] {
        if let Some(part) = beyond.get(name) {
            tokenizer[name] = part.clone();
        }
    }
    if let Some(flag) = beyond.get("ignore_merges") {
        tokenizer["model"]["ignore_merges"] = flag.clone();
    }
    let Some(added) = beyond.get("added_tokens").and_then(Json::as_object) else { return };
    for (id, flags) in added {
        if let (Ok(id), Some(content)) = (id.parse::<u64>(), flags.get(CONTENT).and_then(Json::as_str)) {
            rename(&mut tokenizer["model"], id, content);
        }
    }
    let Some(list) = tokenizer["added_tokens"].as_array_mut() else { return };
    for (id, flags) in added {
        if let (Ok(id), Some(content)) = (id.parse::<u64>(), flags.get(CONTENT)) {
            list.retain(|token| token["id"] != id);
            list.push(json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": flags.get(SPECIAL).unwrap_or(&Json::Bool(true))}));
        }
    }
    list.sort_by_key(|token| token["id"].as_u64());
    for token in list {
        let flags = token["id"].as_u64().and_then(|id| added.get(&id.to_string()));
        for name in FLAGS {
            if let Some(flag) = flags.and_then(|flags| flags.get(name)) {
                token[name] = flag.clone();
            }
        }
    }
}

/// Gives a token of a model the text that `tokenizer.json` has for it. The text that the file's keys have is no token there, and
/// nothing merges to it or from it.
fn rename(model: &mut Json, id: u64, content: &str) {
    let Some(vocab) = model["vocab"].as_object_mut() else { return };
    let Some(old) = vocab.iter().find(|(_, known)| **known == id).map(|(text, _)| text.clone()) else { return };
    if old == content {
        return;
    }
    vocab.remove(&old);
    vocab.insert(content.to_owned(), json!(id));
    if let Some(merges) = model["merges"].as_array_mut() {
        let uses = |pair: &Json| {
            let parts = [&pair[0], &pair[1]].map(|part| part.as_str().unwrap_or_default());
            parts.contains(&old.as_str()) || parts.concat() == old
        };
        merges.retain(|pair| !uses(pair));
    }
}

/// A part without the sequences that hold one member or none.
fn plain(part: &Json) -> Json {
    if part.get("type").and_then(Json::as_str) != Some("Sequence") {
        return part.clone();
    }
    let list = ["normalizers", "pretokenizers"].into_iter().find_map(|name| Some((name, part.get(name)?.as_array()?)));
    let Some((name, members)) = list else { return part.clone() };
    let members: Vec<Json> = members.iter().map(plain).filter(|member| !member.is_null()).collect();
    match members.as_slice() {
        [] => Json::Null,
        [only] => only.clone(),
        _ => json!({"type": "Sequence", name: members}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::pre;

    #[track_caller]
    fn check(tokenizer: Json, known: &Known, expected: Json) {
        let tokens: Vec<_> = ["", "", "", "", "", "<x>", "<y>", "<old>"].map(|text| (TokenType::Control, text.to_owned())).into();
        assert_eq!(Json::Object(of(tokenizer.as_object().unwrap(), known, &tokens)), expected, "{tokenizer}");
    }

    #[test]
    fn nothing_is_kept_of_what_the_other_keys_say() {
        let qwen2 = pre::find("qwen2").unwrap();
        let empty = json!({"type": "Sequence", "normalizers": []});
        check(json!({"normalizer": empty, "pre_tokenizer": qwen2.to_json()}), &Known::ByteLevel(Some(qwen2)), json!({}));
        let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let split = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
        let gemma = Known::SentencePiece { add_space_prefix: false };
        check(json!({"normalizer": spaces, "pre_tokenizer": split}), &gemma, json!({}));
    }

    #[test]
    fn what_the_other_keys_cannot_say_is_kept() {
        let qwen2 = pre::find("qwen2").unwrap();
        let nfc = json!({"type": "NFC"});
        // "abc" is a token that no merge makes.
        let model = json!({"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "abc": 3}, "merges": [], "ignore_merges": true});
        let tokenizer = json!({"normalizer": nfc, "pre_tokenizer": qwen2.to_json(), "model": model});
        check(tokenizer, &Known::ByteLevel(Some(qwen2)), json!({"normalizer": nfc, "ignore_merges": true}));
        let own = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false});
        let added = json!([{"id": 5, "content": "<x>", "rstrip": true, "normalized": false}, {"id": 6, "content": "<y>"}]);
        check(
            json!({"normalizer": null, "pre_tokenizer": own, "added_tokens": added}),
            &Known::SentencePiece { add_space_prefix: true },
            json!({"normalizer": null, "pre_tokenizer": own, "added_tokens": {"5": {"rstrip": true}}}),
        );
        let renamed = json!([{"id": 7, "content": "<new>", "special": true}]);
        let kept = json!({"7": {"content": "<new>", "special": true}});
        check(
            json!({"pre_tokenizer": own, "added_tokens": renamed}),
            &Known::SentencePiece { add_space_prefix: true },
            json!({"normalizer": null, "pre_tokenizer": own, "added_tokens": kept}),
        );
    }

    #[test]
    fn a_renamed_token_stands_for_its_id_alone() {
        let beyond = json!({"added_tokens": {"2": {"content": "<new>", "special": true}}});
        let old = json!({"id": 2, "content": "ab", "special": false});
        let mut tokenizer = json!({"added_tokens": [old], "model": {"vocab": {"a": 0, "b": 1, "ab": 2, "aba": 3},
            "merges": [["a", "b"], ["ab", "a"], ["b", "a"]]}});
        put(beyond.as_object().unwrap(), &mut tokenizer);
        assert_eq!(tokenizer["model"]["vocab"], json!({"a": 0, "b": 1, "<new>": 2, "aba": 3}));
        assert_eq!(tokenizer["model"]["merges"], json!([["b", "a"]]));
        assert_eq!(tokenizer["added_tokens"].as_array().unwrap().len(), 1);
        assert_eq!(tokenizer["added_tokens"][0]["content"], "<new>");
    }
}

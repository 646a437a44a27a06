//! Special tokens and chat templates of a Hugging Face tokenizer, found as gguf-py finds them (b11434, `SpecialVocab` in
//! `gguf/vocab.py`): which tokens the post-processor adds, which ids `tokenizer_config.json` and `config.json` name.
//!
//! Absent: the tokens themselves (see `hf`).

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::files::Files;
use super::key;
use super::named::{KINDS, PLAIN_KINDS, content};
use crate::gguf::{Array, Metadata, Value};
use crate::json::{read_json, read_text};
use crate::{Error, Result};

/// What is known of the special tokens so far. Vectors keep the order of discovery, which is the order of writing.
pub(super) struct Special {
    /// The text of each kind, as the configuration names it or the post-processor corrects it.
    texts: Vec<(&'static str, Option<String>)>,
    ids: Vec<(&'static str, u32)>,
    add: Vec<(&'static str, bool)>,
    configured: bool,
    /// Ids from here on are left out.
    end: usize,
}

impl Special {
    /// What the files and `config.json` (`config`) say. Ids from `end` on, where it is given, are left out.
    pub(super) fn find(files: &Files, config: &Map<String, Json>, end: Option<usize>) -> Result<Self> {
        let mut found = Self::new(files.config.as_ref(), end.unwrap_or(usize::MAX));
        if let Some(tokenizer) = &files.tokenizer {
            found.read_post_processor(tokenizer);
        }
        if let Some(json) = &files.config {
            found.read_tokenizer_config(files.added_tokens(), json);
        }
        found.read_config(&files.path("config.json"), config)?;
        Ok(found)
    }

    /// Adds ids and flags.
    pub(super) fn add_keys(&self, m: &mut Metadata) {
        for (kind, id) in &self.ids {
            if let Some((_, Some(key), _)) = KINDS.iter().find(|(name, ..)| name == kind) {
                m.set(*key, Value::U32(*id));
            }
        }
        for (kind, add) in &self.add {
            if let Some((_, _, Some(key))) = KINDS.iter().find(|(name, ..)| name == kind) {
                m.set(*key, Value::Bool(*add));
            }
        }
    }

    /// A tokenizer whose begin or end goes by BERT's names (`cls`, `sep`) has them under both.
    fn new(tokenizer_config: Option<&Map<String, Json>>, end: usize) -> Self {
        let named = |kind: &str| {
            content(tokenizer_config?.get(&format!("{kind}_token"))).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let texts = KINDS[..PLAIN_KINDS]
            .iter()
            .map(|&(kind, ..)| {
                let text = match kind {
                    "bos" => named("bos").or_else(|| named("cls")),
                    "eos" => named("eos").or_else(|| named("sep")),
                    _ => named(kind),
                };
                (kind, text)
            })
            .collect();
        Self { texts, ids: Vec::new(), add: Vec::new(), configured: tokenizer_config.is_some(), end }
    }

    fn text(&self, kind: &str) -> Option<&str> {
        self.texts.iter().find(|(k, _)| *k == kind)?.1.as_deref()
    }

    fn set_text(&mut self, kind: &'static str, text: String) {
        match self.texts.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, slot)) => *slot = Some(text),
            None => self.texts.push((kind, Some(text))),
        }
    }

    fn set_add(&mut self, kind: &'static str, add: bool) {
        match self.add.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, slot)) => *slot = add,
            None => self.add.push((kind, add)),
        }
    }

    fn set_add_default(&mut self, kind: &'static str, add: bool) {
        if !self.add.iter().any(|(k, _)| *k == kind) {
            self.add.push((kind, add));
        }
    }

    /// Sets the id of a kind that has none yet.
    pub(super) fn set_id(&mut self, kind: &'static str, id: u32) {
        if (id as usize) < self.end && !self.ids.iter().any(|(k, _)| *k == kind) {
            self.ids.push((kind, id));
        }
    }

    fn read_post_processor(&mut self, tokenizer: &Map<String, Json>) {
        let Some(whole) = tokenizer.get("post_processor").filter(|p| !p.is_null()) else { return };
        let members = match whole.get("processors").and_then(Json::as_array) {
            Some(members) => members.as_slice(),
            None => std::slice::from_ref(whole),
        };
        for member in members {
            match member.get("type").and_then(Json::as_str) {
                Some("ByteLevel") => {
                    self.set_add_default("bos", false);
                    self.set_add_default("eos", false);
                }
                Some("TemplateProcessing") => self.read_template(member),
                _ => {}
            }
        }
    }

    /// Whether the template puts a begin token first and an end token last, and one between two texts.
    fn read_template(&mut self, template: &Json) {
        let pieces = |name| template.get(name).and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let (single, pair) = (pieces("single"), pieces("pair"));
        let (mut first, mut last) = (None, None);
        if single.len() > 1 {
            first = special_piece(single.first());
            last = special_piece(single.last());
        }
        if let Some(first) = first {
            if self.text("bos").is_none() {
                self.set_text("bos", first.to_owned());
            }
            let known = self.text("bos") == Some(first) || self.configured && self.text("cls").is_none_or(|cls| cls == first);
            if self.configured && self.text("cls").is_none() && self.text("bos") != Some(first) {
                self.set_text("cls", first.to_owned());
            }
            self.set_add("bos", known);
        }
        if let Some(last) = last {
            if self.configured && self.text("eos") != Some(last) {
                // What ended texts so far then ends a turn.
                if let Some(eos) = self.text("eos").map(str::to_owned) {
                    self.set_text("eot", eos);
                }
                self.set_text("eos", last.to_owned());
            }
            self.set_add("eos", true);
        }
        self.read_pair(pair, first, last);
    }

    fn read_pair(&mut self, mut pair: &[Json], first: Option<&str>, last: Option<&str>) {
        if let Some(first) = first
            && special_piece(pair.first()) == Some(first)
        {
            pair = &pair[1..];
        }
        if let Some(last) = last
            && special_piece(pair.last()) == Some(last)
        {
            pair = &pair[..pair.len() - 1];
        }
        let sequence = |piece: Option<&Json>| piece?.get("Sequence")?.get("id")?.as_str().map(str::to_owned);
        let [_, middle @ .., _] = pair else { return };
        if sequence(pair.first()).as_deref() != Some("A") || sequence(pair.last()).as_deref() != Some("B") || middle.is_empty() {
            return;
        }
        let separates = |piece: Option<&Json>| {
            special_piece(piece).is_some_and(|text| Some(text) == self.text("sep") || Some(text) == self.text("eos"))
        };
        let add = separates(middle.first()) && last.is_none() || middle.len() == 2 && separates(middle.get(1));
        self.set_add("sep", add);
        if add
            && self.configured
            && self.text("sep").is_none()
            && let Some(eos) = self.text("eos").map(str::to_owned)
        {
            self.set_text("sep", eos);
        }
    }

    fn read_tokenizer_config(&mut self, added: &[Json], json: &Map<String, Json>) {
        for &(kind, ..) in self.kinds() {
            if let Some(Json::Bool(add)) = json.get(&format!("add_{kind}_token")) {
                self.set_add_default(kind, *add);
            }
            let Some(text) = self.text(kind) else { continue };
            let same = added.iter().find(|token| token.get("content").and_then(Json::as_str) == Some(text));
            if let Some(id) = same.and_then(|t| t.get("id")).and_then(Json::as_u64).and_then(|id| u32::try_from(id).ok()) {
                self.set_id(kind, id);
            }
        }
    }

    fn read_config(&mut self, path: &Path, config: &Map<String, Json>) -> Result<()> {
        for &(kind, ..) in self.kinds() {
            let name = format!("{kind}_token_id");
            // Lists of ids are what generation stops at, not the token's id.
            let Some(number) = config.get(&name).filter(|v| v.is_i64() || v.is_u64()) else { continue };
            match number.as_u64().and_then(|id| u32::try_from(id).ok()) {
                Some(id) => self.set_id(kind, id),
                None => return Err(Error::key(path, name, format!("is {number}, which is no token id"))),
            }
        }
        Ok(())
    }

    /// The kinds that count.
    fn kinds(&self) -> &'static [(&'static str, Option<&'static str>, Option<&'static str>)] {
        if self.text("eot").is_some() { KINDS } else { &KINDS[..PLAIN_KINDS] }
    }
}

/// The special token that is a piece of a template.
fn special_piece(piece: Option<&Json>) -> Option<&str> {
    piece?.get("SpecialToken")?.get("id")?.as_str()
}

/// Adds the chat templates.
pub(super) fn add_templates(files: &Files, m: &mut Metadata) -> Result<()> {
    if let Some(json) = &files.config {
        Templates::read(files, json)?.add_keys(m);
    }
    Ok(())
}

/// The file of a template, as transformers writes it since 4.52.
const TEMPLATE_FILE: &str = "chat_template.jinja";

/// The template of a directory that stands in a file of its own.
///
/// # Errors
/// The file cannot be read.
pub fn template_file(dir: &Path) -> Result<Option<String>> {
    read_template(&dir.join(TEMPLATE_FILE))
}

/// A template as Python reads it: with newlines of one kind.
fn read_template(path: &Path) -> Result<Option<String>> {
    Ok(read_text(path)?.map(|text| text.replace("\r\n", "\n").replace('\r', "\n")))
}

/// Chat templates.
#[derive(Default)]
struct Templates {
    default: Option<String>,
    named: Vec<(String, String)>,
}

impl Templates {
    /// From `tokenizer_config.json`, or where it has none from a file of its own.
    fn read(files: &Files, tokenizer_config: &Map<String, Json>) -> Result<Self> {
        if let Some(value) = tokenizer_config.get("chat_template") {
            return Ok(Self::from_json(value));
        }
        if let Some(text) = read_template(&files.path(TEMPLATE_FILE))? {
            return Ok(Self { default: Some(text), named: additional(&files.path("additional_chat_templates"))? });
        }
        match read_json(&files.path("chat_template.json"))? {
            Some(json) => Ok(json.get("chat_template").map(Self::from_json).unwrap_or_default()),
            None => Ok(Self::default()),
        }
    }

    /// One template as text, or several with names.
    fn from_json(value: &Json) -> Self {
        let mut templates = Self::default();
        match value {
            Json::String(text) => templates.default = Some(text.clone()),
            Json::Array(list) => {
                for entry in list {
                    let text = |name| entry.get(name).and_then(Json::as_str);
                    match (text("name"), text("template")) {
                        (Some("default"), Some(template)) => templates.default = Some(template.to_owned()),
                        (Some(name), Some(template)) if !name.is_empty() => {
                            templates.named.push((plain(name), template.to_owned()))
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        templates
    }

    /// Names are sorted; the converter leaves their order to chance.
    fn add_keys(mut self, m: &mut Metadata) {
        for (name, template) in &self.named {
            m.set(format!("{}.{name}", key::CHAT_TEMPLATE), Value::String(template.clone()));
        }
        if !self.named.is_empty() {
            self.named.sort();
            self.named.dedup_by(|a, b| a.0 == b.0);
            let names = self.named.into_iter().map(|(name, _)| name).collect();
            m.set(key::CHAT_TEMPLATES, Value::Array(Array::String(names)));
        }
        // The converter writes no empty strings.
        if let Some(template) = self.default.filter(|template| !template.is_empty()) {
            m.set(key::CHAT_TEMPLATE, Value::String(template));
        }
    }
}

/// A template's name as a key may hold it.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// The templates beside the default one.
fn additional(dir: &Path) -> Result<Vec<(String, String)>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(dir, e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io(dir, e))?.path();
        if path.extension().is_some_and(|e| e == "jinja")
            && let (Some(stem), Some(text)) = (path.file_stem(), read_text(&path)?)
        {
            found.push((plain(&stem.to_string_lossy()), text));
        }
    }
    found.sort();
    Ok(found)
}

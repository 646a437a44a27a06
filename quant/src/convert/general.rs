//! The `general.*` keys a converter derives from what surrounds a model: its model card, `generation_config.json`, the name
//! in `config.json` and the directory's name, in that order of trust (gguf-py b11434, `gguf/metadata.py`).
//!
//! Absent: how a name is split (`naming`) and how a card is read (`card`). Keys that only an override file could set
//! (`general.quantized_by`, `general.uuid`, ...) are never written.

use std::path::Path;

use serde_json::Value as Json;

use super::card::{Card, CardValue};
use super::config::Config;
use super::naming::{self, model_name};
use super::weights::WeightCount;
use crate::Result;
use crate::gguf::{Array, Metadata, Value};
use crate::json::{read_bytes, read_json};

/// A GGUF key and the card's keys it is taken from; the first that is there counts.
const FROM_CARD: &[(Field, &[&str])] = &[
    (Field::Name, &["name", "model_name"]),
    (Field::Author, &["author", "model_author", "model_creator"]),
    (Field::Version, &["version", "model_version"]),
    (Field::Organization, &["organization", "model_organization"]),
    (Field::Finetune, &["finetune", "model_finetune"]),
    (Field::Basename, &["basename", "model_basename", "model_type"]),
    (Field::Description, &["description", "model_description"]),
    (Field::SizeLabel, &["size_label", "model_size_label"]),
    (Field::License, &["license"]),
    (Field::LicenseName, &["license_name"]),
    (Field::LicenseLink, &["license_link"]),
    (Field::SourceUrl, &["url", "model_url"]),
    (Field::SourceDoi, &["doi", "model_doi"]),
    (Field::SourceUuid, &["uuid", "model_uuid"]),
    (Field::SourceRepoUrl, &["repo_url", "model_repo_url"]),
];

/// The fields of one line of text, in the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Author,
    Version,
    Organization,
    Finetune,
    Basename,
    Description,
    SizeLabel,
    License,
    LicenseName,
    LicenseLink,
    SourceUrl,
    SourceDoi,
    SourceUuid,
    SourceRepoUrl,
}

impl Field {
    fn key(self) -> &'static str {
        match self {
            Self::Name => "general.name",
            Self::Author => "general.author",
            Self::Version => "general.version",
            Self::Organization => "general.organization",
            Self::Finetune => "general.finetune",
            Self::Basename => "general.basename",
            Self::Description => "general.description",
            Self::SizeLabel => "general.size_label",
            Self::License => "general.license",
            Self::LicenseName => "general.license.name",
            Self::LicenseLink => "general.license.link",
            Self::SourceUrl => "general.source.url",
            Self::SourceDoi => "general.source.doi",
            Self::SourceUuid => "general.source.uuid",
            Self::SourceRepoUrl => "general.source.repo_url",
        }
    }
}

/// Sampling defaults: the GGUF stem, the keys of `generation_config.json`, and whether the number is whole.
const SAMPLING: &[(&str, &[&str], bool)] = &[
    ("top_k", &["top_k"], true),
    ("top_p", &["top_p"], false),
    ("min_p", &["min_p"], false),
    ("xtc_probability", &["xtc_probability"], false),
    ("xtc_threshold", &["xtc_threshold"], false),
    ("temp", &["temperature"], false),
    ("penalty_last_n", &["penalty_last_n"], true),
    ("penalty_repeat", &["penalty_repeat", "repetition_penalty"], false),
    ("mirostat", &["mirostat"], true),
    ("mirostat_tau", &["mirostat_tau"], false),
    ("mirostat_eta", &["mirostat_eta"], false),
];

/// Adds the keys from `general.sampling.*` to `general.languages`.
pub(super) fn add_keys(config: &Config, dir: &Path, weights: &WeightCount, m: &mut Metadata) -> Result<()> {
    let parameter_count = weights.total;
    add_sampling(dir, m);
    // What is read of it is plain; a card in another encoding is none the worse for it.
    let card = read_bytes(&dir.join("README.md"))?.unwrap_or_default();
    let card = Card::parse(&String::from_utf8_lossy(&card));
    let mut texts: Vec<(Field, Option<String>)> =
        FROM_CARD.iter().map(|&(field, keys)| (field, from_card(&card, field, keys))).collect();
    let ids = [config.json.get("_name_or_path").and_then(Json::as_str).map(str::to_owned), Some(model_name(dir))];
    // A name with two slashes is somebody's path.
    for id in ids.into_iter().flatten().filter(|id| id.matches('/').count() <= 1) {
        fill_from_name(&mut texts, &id, parameter_count);
    }
    for (field, text) in texts {
        let text = match field {
            Field::SizeLabel => text.or_else(|| (parameter_count > 0).then(|| size_label(weights))),
            _ => text,
        };
        set_text(m, field.key(), text);
    }
    add_relations(&card, "base_model", &["base_model", "base_models", "base_model_sources"], parameter_count, m);
    add_relations(&card, "dataset", &["datasets", "dataset", "dataset_sources"], parameter_count, m);
    for (key, from) in [("general.tags", ["tags", "pipeline_tag"]), ("general.languages", ["languages", "language"])] {
        let list: Vec<String> = from.iter().filter_map(|name| card.list(name)).flatten().collect();
        if !list.is_empty() {
            m.set(key, Value::Array(Array::String(list)));
        }
    }
    Ok(())
}

/// `1.2B`, or `8x7B` of a mixture of experts: what one expert would make with all that is shared.
fn size_label(weights: &WeightCount) -> String {
    match weights.experts {
        0 => naming::size_label(weights.total),
        experts => format!("{experts}x{}", naming::size_label(weights.shared + weights.expert)),
    }
}

/// A broken `generation_config.json` is passed over, as the converter does: it holds advice only.
fn add_sampling(dir: &Path, m: &mut Metadata) {
    let Ok(Some(json)) = read_json(&dir.join("generation_config.json")) else { return };
    if let Some(Json::String(sequence)) = json.get("sequence") {
        m.set("general.sampling.sequence", Value::String(sequence.clone()));
    }
    for &(stem, keys, whole) in SAMPLING {
        let Some(number) = keys.iter().find_map(|key| json.get(*key)) else { continue };
        let value = match whole {
            true => number.as_i64().and_then(|v| i32::try_from(v).ok()).map(Value::I32),
            false => number.as_f64().map(|v| Value::F32(v as f32)),
        };
        if let Some(value) = value {
            m.set(format!("general.sampling.{stem}"), value);
        }
    }
}

/// The converter writes no empty strings.
fn set_text(m: &mut Metadata, key: &str, text: Option<String>) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        m.set(key, Value::String(text));
    }
}

fn from_card(card: &Card, field: Field, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| match card.get(key)? {
        CardValue::Text(text) => Some(text.clone()),
        CardValue::List(list) => (field == Field::License).then(|| list.join(",")),
    })
}

fn fill_from_name(texts: &mut [(Field, Option<String>)], id: &str, parameter_count: u64) {
    let parts = naming::split_name(id, parameter_count);
    for (field, found) in [
        (Field::Name, Some(naming::title(&parts.full_name))),
        (Field::Organization, parts.organization.as_deref().map(naming::title)),
        (Field::Basename, parts.basename),
        (Field::Finetune, parts.finetune),
        (Field::Version, parts.version),
        (Field::SizeLabel, parts.size_label),
    ] {
        if let Some((_, text)) = texts.iter_mut().find(|(f, text)| *f == field && text.is_none()) {
            *text = found;
        }
    }
}

/// Models or data sets this one was made from.
fn add_relations(card: &Card, stem: &str, keys: &[&str], parameter_count: u64, m: &mut Metadata) {
    let Some(ids) = keys.iter().find_map(|key| card.list(key)) else { return };
    m.set(format!("general.{stem}.count"), Value::U32(ids.len() as u32));
    for (i, id) in ids.iter().enumerate() {
        let url = ["http://", "https://", "ssh://"].iter().any(|scheme| id.starts_with(scheme));
        let hub_id = if url { hub_id(id) } else { Some(id.as_str()) };
        let parts = hub_id.map(|id| naming::split_name(id, parameter_count)).unwrap_or_default();
        let repo_url = match (&parts.organization, url) {
            (_, true) => Some(id.clone()),
            (Some(organization), false) => Some(format!("https://huggingface.co/{organization}/{}", parts.full_name)),
            (None, false) => None,
        };
        for (name, text) in [
            ("name", hub_id.map(|_| naming::title(&parts.full_name))),
            ("version", parts.version),
            ("organization", parts.organization.as_deref().map(naming::title)),
            ("repo_url", repo_url),
        ] {
            set_text(m, &format!("general.{stem}.{i}.{name}"), text);
        }
    }
}

/// `owner/name` of an address on the Hugging Face hub that has nothing after it.
fn hub_id(url: &str) -> Option<&str> {
    let path = url.strip_prefix("https://huggingface.co/").or_else(|| url.strip_prefix("http://huggingface.co/"))?;
    let (owner, name) = path.split_once('/')?;
    (!owner.is_empty() && !name.is_empty() && !name.contains('/')).then_some(path)
}

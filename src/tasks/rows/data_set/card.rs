//! The card of a data set: the configurations that the YAML block in front of its `README.md` describes, and a file
//! `.huggingface.yaml` with the same keys. It is a stranger's. Absent: which files patterns mean.
//!
//! Source: Hugging Face's `datasets` 5.2 (`utils/metadata.py`, `HubDatasetModuleFactory`), `huggingface_hub` 2.4
//! (`repocard.py`), the hub's guide "Data files configuration".

use std::path::Path;
use std::sync::Arc;

use bitworth_quant::front_matter::{CardReader, FrontMatter};
use bitworth_quant::message::Message;

use super::features::Features;
use super::pattern::{Splits, is_split};
use crate::files::source::merge;
use crate::files::yaml::{self, Entries, Node};

/// What a data set without names has one of.
pub(super) const DEFAULT: &str = "default";
/// Keys of a configuration that change how rows are read and are not followed here.
const NOT_FOLLOWED: [&str; 25] = [
    "header",
    "names",
    "column_names",
    "index_col",
    "usecols",
    "converters",
    "true_values",
    "false_values",
    "skipinitialspace",
    "skiprows",
    "nrows",
    "na_values",
    "keep_default_na",
    "na_filter",
    "thousands",
    "decimal",
    "quotechar",
    "quoting",
    "escapechar",
    "comment",
    "encoding",
    "skipfooter",
    "doublequote",
    "columns",
    "filters",
];

/// One configuration.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Config {
    /// Its name.
    pub(super) name: String,
    /// The folder that its patterns are seen from; empty: the data set's own.
    pub(super) folder: String,
    /// Its splits; `None`: those that names of files say.
    pub(super) splits: Option<Splits>,
    /// The key of a JSON object that holds the rows.
    pub(super) field: Option<String>,
    /// What stands between two fields of a line of CSV, where it is said.
    pub(super) separator: Option<u8>,
    is_default: bool,
    not_followed: Option<&'static str>,
}

/// The configurations of a data set, in the order of the card.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Card {
    pub(super) configs: Vec<Config>,
    info: Option<Node>,
}

impl Card {
    /// Reads the texts of `README.md` and `.huggingface.yaml`, as far as there are such files.
    ///
    /// # Errors
    /// What is no such YAML, with its line; configurations that are none.
    pub(super) fn read(readme: Option<&str>, yaml: Option<&str>) -> Result<Self, Message> {
        let mut entries = match readme.and_then(|text| FrontMatter::find(text, CardReader::HuggingFaceHub)) {
            Some(front) => parse(front.yaml, front.lines_before, "README.md")?,
            None => Entries::new(),
        };
        if let Some(text) = yaml {
            merge(&mut entries, parse(text, 0, ".huggingface.yaml")?);
        }
        let mut take = |wanted: &str| entries.iter().position(|(key, _)| key == wanted).map(|at| entries.swap_remove(at).1);
        let info = take("dataset_info");
        let configs = match take("configs") {
            // Old cards list mere names there, which now stand under `config_names`; they say nothing of files.
            Some(Node::List(items)) if items.iter().all(|item| matches!(item, Node::Text(_))) => Vec::new(),
            Some(Node::List(items)) => items,
            None | Some(Node::Null) => Vec::new(),
            Some(other) => return Err(format!("the card's configs must be a list, and are {}", other.kind()).into()),
        };
        Ok(Self { configs: configs.iter().map(Config::read).collect::<Result<_, Message>>()?, info })
    }

    /// The types of a configuration's columns, where the card says them.
    pub(super) fn features(&self, config: &str) -> Option<Features> {
        Features::of_config(self.info.as_ref()?, config)
    }

    /// The configuration of that name, or the one that is meant where none is named.
    ///
    /// # Errors
    /// There is no such configuration, or several are meant as much as each other.
    pub(super) fn find(&self, name: Option<&str>) -> Result<&Config, Message> {
        let names = || self.configs.iter().map(|config| config.name.as_str());
        let mut meant = self.configs.iter().filter(|config| config.is_default || config.name == DEFAULT);
        let default = match (meant.next(), meant.next(), self.configs.as_slice()) {
            (Some(one), Some(two), _) => {
                return Err(format!("its card has several default configurations: {} and {}", one.name, two.name).into());
            }
            (_, None, [one]) => Some(one),
            (one, None, _) => one,
            (None, Some(_), _) => None,
        };
        let found = match name {
            Some(name) => self.configs.iter().rfind(|config| config.name == name).ok_or_else(|| unknown_config(name, names()))?,
            None => default.ok_or_else(|| no_config(names()))?,
        };
        match found.not_followed {
            Some(key) => {
                let what = "which changes how its rows are read and is not followed here";
                Err(format!("its card gives {key} for the configuration {:?}, {what}", found.name).into())
            }
            None => Ok(found),
        }
    }
}

impl Config {
    fn read(node: &Node) -> Result<Self, Message> {
        let name = match node.get("config_name") {
            Some(Node::Text(name)) => name.clone(),
            Some(Node::Int(name)) => name.to_string(),
            _ => return Err("each configuration of its card needs a config_name".into()),
        };
        let wrong = |what: &str| Message::from(format!("the configuration {name:?} of its card: {what}"));
        let text = |key: &str| match node.get(key) {
            None | Some(Node::Null) => Ok(None),
            Some(Node::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(wrong(&format!("{key} must be a text"))),
        };
        let splits = match node.get("data_files") {
            None | Some(Node::Null) => None,
            Some(files) => Some(splits(files).map_err(|what| wrong(&what.to_string()))?),
        };
        let separator = match text("delimiter")?.or(text("sep")?) {
            None => None,
            Some(text) => match text.as_bytes() {
                [one] if one.is_ascii() => Some(*one),
                _ => return Err(wrong(&format!("fields of CSV are parted by one character, not by {text:?}"))),
            },
        };
        Ok(Self {
            folder: text("data_dir")?.unwrap_or_default(),
            splits,
            field: text("field")?,
            separator,
            is_default: matches!(node.get("default"), Some(Node::Bool(true))),
            not_followed: NOT_FOLLOWED.into_iter().find(|key| node.get(key).is_some_and(|value| *value != Node::Null)),
            name,
        })
    }
}

/// What is said of a configuration that is not there.
pub(super) fn unknown_config<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Message {
    format!("it has no configuration {name:?} (dataset_name); it has {}", listed(names)).into()
}

/// What is said where none is named and several are there.
pub(super) fn no_config<'a>(names: impl Iterator<Item = &'a str>) -> Message {
    format!("the task names no configuration (dataset_name), and the data set has {}", listed(names)).into()
}

/// What is said of a split that is not there.
pub(super) fn unknown_split<'a>(split: &str, names: impl Iterator<Item = &'a str>) -> Message {
    format!("it has no split {split:?}; it has {}", listed(names)).into()
}

/// How many names an error lists.
const SHOWN: usize = 40;

/// Names, the first ones of many.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    match names.is_empty() {
        true => "none".to_owned(),
        false => format!("{}{more}", names[..names.len().min(SHOWN)].join(", ")),
    }
}

/// `data_files`: a pattern, several (the split `train`), or a list of splits with their patterns.
fn splits(node: &Node) -> Result<Splits, Message> {
    let expected = || Message::from("data_files must be a path, several, or a list of splits, each with a split and a path");
    let patterns = |node: &Node| -> Result<Vec<String>, Message> {
        match node {
            Node::Text(one) => Ok(vec![one.clone()]),
            Node::List(items) => items.iter().map(|item| item.as_text().map(str::to_owned).ok_or_else(expected)).collect(),
            _ => Err(expected()),
        }
    };
    let Node::List(items) = node else { return Ok(vec![("train".to_owned(), patterns(node)?)]) };
    if !items.iter().any(|item| matches!(item, Node::Map(_))) {
        return Ok(vec![("train".to_owned(), patterns(node)?)]);
    }
    let mut splits = Splits::new();
    for item in items {
        let (Some(Node::Text(split)), Some(paths)) = (item.get("split"), item.get("path")) else { return Err(expected()) };
        if !is_split(split) {
            return Err(
                format!("the name of the split {split:?} has other characters than letters, digits, \"_\" and \".\"").into()
            );
        }
        if splits.iter().any(|(known, _)| known == split) {
            return Err(format!("the split {split:?} is there twice").into());
        }
        splits.push((split.clone(), patterns(paths)?));
    }
    Ok(splits)
}

/// The keys of a YAML mapping; `before` lines of the file stand in front of it.
fn parse(text: &str, before: usize, file: &str) -> Result<Entries, Message> {
    // Lines in errors are those of the file.
    let text = "\n".repeat(before) + &text.replace("\r\n", "\n");
    match yaml::parse(&text, &Arc::from(Path::new(""))).map_err(|what| Message::from(format!("its {file}: {what}")))? {
        Node::Map(entries) => Ok(entries),
        Node::Null => Ok(Entries::new()),
        other => Err(format!("its {file}: the card's data must be a mapping, and are {}", other.kind()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(yaml: &str) -> Result<Card, String> {
        Card::read(Some(&format!("---\n{yaml}\n---\n# Text\n")), None).map_err(|e| e.to_string())
    }

    #[test]
    fn mistakes_of_a_card_are_named() {
        for (yaml, expected) in [
            ("configs: x", "must be a list"),
            ("configs:\n- data_files: a", "config_name"),
            ("configs:\n- config_name: c\n  data_files: {a: b}", "\"c\""),
            ("configs:\n- config_name: c\n  data_files:\n  - split: a-b\n    path: x", "\"a-b\""),
            ("configs:\n- config_name: c\n  data_files:\n  - split: a\n    path: x\n  - split: a\n    path: y", "twice"),
            ("configs:\n- config_name: c\n  data_files:\n  - split: a", "split and a path"),
            ("configs:\n- config_name: c\n  sep: '||'", "one character"),
            ("configs:\n- config_name: c\n  data_dir: [x]", "data_dir"),
            ("license: [", "README.md: line"),
            ("- a", "mapping"),
        ] {
            let error = card(yaml).unwrap_err();
            assert!(error.contains(expected), "{yaml}: {error}");
        }
        let card = card("configs:\n- config_name: c\n  data_files: a.csv\n  skiprows: 1").unwrap();
        assert!(card.find(None).unwrap_err().to_string().contains("skiprows"));
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let error = Card::read(Some("\n---\nlicense: mit\nx: [\n---\n"), None).unwrap_err().to_string();
        assert!(error.contains("line 4") || error.contains("line 5"), "{error}");
    }

    #[test]
    fn a_file_of_its_own_counts_more() {
        let yaml = "configs:\n- config_name: b\n  data_files: b.csv\n  field: rows\n  delimiter: ';'\n";
        let both = Card::read(Some("---\nconfigs:\n- config_name: a\n---\n"), Some(yaml)).unwrap();
        let found = both.find(None).unwrap();
        assert_eq!((found.name.as_str(), found.field.as_deref(), found.separator), ("b", Some("rows"), Some(b';')));
        assert_eq!(Card::read(Some("# No block\n---\nconfigs: 1\n---\n"), None).unwrap(), Card::default());
        assert_eq!(Card::read(Some("---\nnever ends"), None).unwrap(), Card::default());
        assert_eq!(Card::read(Some("---\n---\n"), None).unwrap(), Card::default());
        assert_eq!(card("configs:\n- ax\n- cola\n").unwrap(), Card::default());
    }
}

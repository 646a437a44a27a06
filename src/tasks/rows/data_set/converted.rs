//! The hub's conversion of a data set to parquet, on a branch of its own: `CONFIG/SPLIT/0000.parquet`, and
//! `CONFIG/partial-SPLIT/` where only the beginning was converted. Absent: everything else.
//!
//! Source: the guide "Parquet" of Hugging Face's dataset viewer.

use std::collections::BTreeMap;

use bitworth_quant::message::Message;

use super::card::{no_config, unknown_config, unknown_split};

/// The branch.
pub(super) const CONVERTED: &str = "refs/convert/parquet";
/// What the folder of a split begins with that is not whole.
const PARTIAL: &str = "partial-";

/// The files of the branch by configuration and folder.
pub(super) struct Converted<'a> {
    configs: BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a str>>>,
}

/// The files of a split.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) paths: Vec<String>,
    /// Whether they hold only the beginning of it.
    pub(super) is_partial: bool,
}

impl<'a> Converted<'a> {
    /// Sorts the files of the branch, which are in order.
    pub(super) fn new(paths: &[&'a str]) -> Self {
        let mut configs: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
        for path in paths {
            let parts: Vec<&str> = path.split('/').collect();
            if let [config, split, file] = parts[..]
                && file.ends_with(".parquet")
            {
                configs.entry(config).or_default().entry(split).or_default().push(path);
            }
        }
        Self { configs }
    }

    /// The files of a split, or nothing where the branch is empty.
    ///
    /// # Errors
    /// There is no such configuration or split: those that are there. A part is missing.
    pub(super) fn find(&self, name: Option<&str>, split: &str) -> Result<Option<Split>, Message> {
        if self.configs.is_empty() {
            return Ok(None);
        }
        let names = || self.configs.keys().copied();
        let splits = match name {
            Some(name) => self.configs.get(name).ok_or_else(|| unknown_config(name, names()))?,
            None => {
                match self.configs.get("default").or_else(|| self.configs.values().next().filter(|_| self.configs.len() == 1)) {
                    Some(splits) => splits,
                    None => return Err(no_config(names())),
                }
            }
        };
        let whole = splits.get(split).map(|paths| (paths, false));
        let found = whole.or_else(|| splits.get(format!("{PARTIAL}{split}").as_str()).map(|paths| (paths, true)));
        let Some((paths, is_partial)) = found else {
            return Err(unknown_split(split, splits.keys().map(|name| name.strip_prefix(PARTIAL).unwrap_or(name))));
        };
        // Parts are counted from 0000 on.
        let number = |path: &str| path.rsplit('/').next()?.strip_suffix(".parquet")?.parse::<usize>().ok();
        if let Some(gap) = paths.iter().enumerate().find(|(at, path)| number(path).is_some_and(|number| number != *at)) {
            return Err(format!("of the parts of the split {split:?}, the one with the number {} is missing", gap.0).into());
        }
        Ok(Some(Split { paths: paths.iter().map(|path| (*path).to_owned()).collect(), is_partial }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 7] = [
        ".gitattributes",
        "ARC-Challenge/test/0000.parquet",
        "ARC-Easy/partial-train/0000.parquet",
        "ARC-Easy/test/0000.parquet",
        "ARC-Easy/test/0001.parquet",
        "ARC-Easy/validation/0000.parquet",
        "ARC-Easy/validation/0002.parquet",
    ];

    #[test]
    fn folders_are_configurations_and_splits() {
        let all = Converted::new(&FILES);
        let found = all.find(Some("ARC-Easy"), "test").unwrap().unwrap();
        assert_eq!(found.paths, ["ARC-Easy/test/0000.parquet", "ARC-Easy/test/0001.parquet"]);
        assert!(!found.is_partial && all.find(Some("ARC-Easy"), "train").unwrap().unwrap().is_partial);
        let only = Converted::new(&["x/test/0000.parquet"]);
        assert_eq!(only.find(None, "test").unwrap().unwrap().paths, ["x/test/0000.parquet"]);
        let default = Converted::new(&["a/test/0000.parquet", "default/test/0000.parquet"]);
        assert_eq!(default.find(None, "test").unwrap().unwrap().paths, ["default/test/0000.parquet"]);
        assert_eq!(Converted::new(&["README.md"]).find(None, "test").unwrap(), None);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let all = Converted::new(&FILES);
        let error = |name, split| all.find(name, split).unwrap_err().to_string();
        assert!(error(Some("ARC"), "test").contains("\"ARC\" (dataset_name); it has ARC-Challenge, ARC-Easy"));
        assert!(error(None, "test").contains("names no configuration"));
        assert!(error(Some("ARC-Easy"), "dev").ends_with("it has train, test, validation"));
        assert!(error(Some("ARC-Easy"), "validation").contains("number 1 is missing"));
    }
}

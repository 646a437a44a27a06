//! Patterns of data files: which files of a data set one matches, and those that hold where a data set names none.
//! Absent: what stands in files, and what their names say of their format ([`super::format`]).
//!
//! Source: Hugging Face's `datasets` 5.2 (`data_files.py`, with the glob of fsspec 2026), its guide "Structure your repository".

use std::collections::HashSet;

use bitworth_quant::message::Message;

use super::format;
use crate::fnmatch::NamePattern;

/// Splits with the patterns of their files, in order.
pub(super) type Splits = Vec<(String, Vec<String>)>;

/// Files that hold no rows, unless a pattern names them.
const NO_DATA: [&str; 6] =
    ["README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dummy_data.zip", "dataset_dict.json"];
/// What splits are called in the names of files and folders.
const KEYWORDS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "dev", "val"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];
/// What stands between such a word and the rest of a name.
const SEPARATORS: &str = "[-._ 0-9]";
/// Behind the split in the names of parts: `-00000-of-00003`.
const DIGITS: &str = "[0-9][0-9][0-9][0-9][0-9]";

/// A pattern inside of a folder, ready to be compared.
struct Pattern {
    parts: Vec<Part>,
    /// Whether it has wildcards.
    is_magic: bool,
    /// The name of the file, if it says one.
    last: String,
    hidden: usize,
    special: usize,
}

/// What stands between two slashes.
enum Part {
    /// `**`: folders, and at the end all below.
    Any,
    Name(NamePattern),
}

impl Pattern {
    /// `text` as seen from the folder `base` (empty: the data set's own).
    fn new(text: &str, base: &str) -> Result<Self, Message> {
        let refuse = || format!("the path {text:?} leads out of the data set; refused");
        let parts = |text: &str| -> Result<Vec<String>, Message> {
            if text.contains("://") || text.contains("::") || text.contains('\\') || text.starts_with('/') {
                return Err(refuse().into());
            }
            let parts = text.split('/').filter(|part| !matches!(*part, "" | ".")).map(str::to_owned).collect::<Vec<_>>();
            if parts.iter().any(|part| part == "..") { Err(refuse().into()) } else { Ok(parts) }
        };
        let own = parts(text)?;
        if own.iter().any(|part| part.contains("**") && part != "**") {
            return Err(format!("the pattern {text:?} has \"**\" beside other characters, where it means nothing").into());
        }
        let (base, last) = (parts(base)?, own.last().cloned().unwrap_or_default());
        let names: Vec<&String> = base.iter().chain(&own).collect();
        let folders = &names[..names.len().saturating_sub(1)];
        let (hidden, special) = (count(&names, "."), count(folders, "__"));
        // A folder's name is what it is; it has no wildcards.
        let plain = base.iter().map(|name| Part::Name(NamePattern::plain(name)));
        let own_parts = own.iter().map(|part| if part == "**" { Part::Any } else { Part::Name(NamePattern::new(part)) });
        let parts = plain.chain(own_parts).collect();
        Ok(Self { parts, is_magic: text.contains(['*', '?', '[']), last, hidden, special })
    }

    /// Whether the pattern means that file. Hidden files and folders (`.name`) and special folders (`__name`) count only where
    /// the pattern has as many of them.
    fn matches(&self, path: &str) -> bool {
        let names: Vec<&str> = path.split('/').collect();
        let name = names.last().copied().unwrap_or_default();
        if NO_DATA.contains(&name) && name != self.last {
            return false;
        }
        let folders = &names[..names.len() - 1];
        count(&names, ".") == self.hidden && count(folders, "__") == self.special && self.fits(&names)
    }

    /// In time of the product of both lengths, whatever the pattern.
    fn fits(&self, names: &[&str]) -> bool {
        // Which beginnings of the path the parts so far fit.
        let mut reached = vec![false; names.len() + 1];
        reached[0] = true;
        for (at, part) in self.parts.iter().enumerate() {
            let mut next = vec![false; names.len() + 1];
            match part {
                Part::Any => {
                    let least = usize::from(at + 1 == self.parts.len());
                    if let Some(first) = reached.iter().position(|&reached| reached) {
                        next[(first + least).min(names.len() + 1)..].fill(true);
                    }
                }
                Part::Name(pattern) => {
                    for (i, name) in names.iter().enumerate() {
                        next[i + 1] = reached[i] && pattern.fits(name);
                    }
                }
            }
            reached = next;
        }
        reached[names.len()]
    }
}

fn count(names: &[impl AsRef<str>], begin: &str) -> usize {
    names.iter().filter(|name| name.as_ref().starts_with(begin)).count()
}

/// The files that patterns mean, as seen from the folder `base`: in the order of the patterns, those of one in the order of their
/// names. A file that several patterns mean is there several times, as in `datasets`. Only files of data count.
///
/// # Errors
/// A path without wildcards that is not there, a path that leads out of the data set.
pub(super) fn resolve<'a>(files: &[&'a str], patterns: &[String], base: &str) -> Result<Vec<&'a str>, Message> {
    let mut found = Vec::new();
    for text in patterns {
        let (pattern, before) = (Pattern::new(text, base)?, found.len());
        found.extend(files.iter().filter(|path| pattern.matches(path) && format::is_data(path)));
        if found.len() == before && !pattern.is_magic {
            return Err(format!("the file {text:?} is not among its files of data").into());
        }
    }
    Ok(found)
}

/// Whether a pattern means several files.
pub(super) fn is_magic(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// The patterns that hold where none are named, in the folder `base`: names of parts, else folders and then files with the names
/// of splits, else all files.
///
/// # Errors
/// Names of splits that are none.
pub(super) fn by_default(files: &[&str], base: &str) -> Result<Splits, Message> {
    let sharded = |split: &str| format!("data/{split}-{DIGITS}-of-{DIGITS}*.*");
    let all = Pattern::new(&sharded("*"), base)?;
    let mut splits: Vec<&str> = files.iter().filter(|path| all.matches(path)).filter_map(|path| split_of_part(path)).collect();
    if !splits.is_empty() {
        splits.sort_unstable();
        splits.dedup();
        if let Some(odd) = splits.iter().find(|split| !is_split(split)) {
            return Err(
                format!("the name of the split {odd:?} has other characters than letters, digits, \"_\" and \".\"").into()
            );
        }
        let place = |split: &&str| KEYWORDS.iter().position(|(known, _)| known == split).unwrap_or(KEYWORDS.len());
        splits.sort_by_key(place);
        return Ok(splits.into_iter().map(|split| (split.to_owned(), vec![sharded(split)])).collect());
    }
    let sep = SEPARATORS;
    let in_folders = |word: &str| {
        let names = [word.to_owned(), format!("{word}{sep}*"), format!("*{sep}{word}"), format!("*{sep}{word}{sep}*")];
        names.map(|name| format!("**/{name}/**")).to_vec()
    };
    let in_files = |word: &str| vec![format!("**/{word}{sep}*"), format!("**/*{sep}{word}{sep}*")];
    for patterns_of in [&in_folders as &dyn Fn(&str) -> Vec<String>, &in_files] {
        let mut splits = Splits::new();
        for (split, words) in KEYWORDS {
            let patterns: Vec<String> = words.iter().flat_map(|word| patterns_of(word)).collect();
            for text in &patterns {
                let pattern = Pattern::new(text, base)?;
                if files.iter().any(|path| pattern.matches(path)) {
                    splits.push((split.to_owned(), patterns));
                    break;
                }
            }
        }
        if !splits.is_empty() {
            return Ok(splits);
        }
    }
    Ok(vec![("train".to_owned(), vec!["**".to_owned()])])
}

/// The split in the name of a part: what stands before `-00000-of-00003`.
fn split_of_part(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    let (at, _) = name.rmatch_indices("-of-").find(|(at, _)| part_at(name, *at).is_some())?;
    name.get(..at.checked_sub(6)?)
}

/// The number of a part and how many there are, where `-of-` at that place stands between two of five digits.
fn part_at(name: &str, at: usize) -> Option<(u32, u32)> {
    let number = |text: &str| (text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?;
    let before = name.get(at.checked_sub(6)?..at)?.strip_prefix('-')?;
    Some((number(before)?, number(name.get(at + 4..at + 9)?)?))
}

/// The first part of several that is missing among the files that a pattern means: the number and how many there are.
pub(super) fn missing_part(files: &[&str]) -> Option<(u32, u32)> {
    let part = |path: &&str| {
        let name = path.rsplit('/').next()?;
        name.rmatch_indices("-of-").find_map(|(at, _)| part_at(name, at))
    };
    let parts: HashSet<(u32, u32)> = files.iter().filter_map(part).collect();
    let count = parts.iter().map(|(_, count)| *count).max()?;
    (0..count.min(MOST_PARTS)).find(|number| !parts.contains(&(*number, count))).map(|number| (number, count))
}

/// More parts are not looked for.
const MOST_PARTS: u32 = 10_000;

/// Whether a text can be the name of a split: words with points between them.
pub(super) fn is_split(text: &str) -> bool {
    let word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_');
    text.split('.').all(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pattern, a path, and whether the one means the other.
    #[rustfmt::skip]
    const MATCHES: &[(&str, &str, bool)] = &[
        ("*.csv", "a.csv", true),
        ("*.csv", "b/a.csv", false),
        ("**/*.csv", "a.csv", true),
        ("**/*.csv", "b/c/a.csv", true),
        ("a/**", "a/b", true),
        ("a/**", "a/b/c", true),
        ("a/**", "a", false),
        ("**", "x/y", true),
        ("**/a/**", "a/b", true),
        ("**/a/**", "x/y/a/b", true),
        ("**/a/**", "x/a", false),
        ("a/*/c", "a/b/c", true),
        ("a/*/c", "a/c", false),
        ("f[1-3].csv", "f2.csv", true),
        ("f[1-3].csv", "f4.csv", false),
        ("f[!1-3].csv", "f4.csv", true),
        ("f[!1-3].csv", "f1.csv", false),
        ("f[].csv", "f].csv", false),
        ("f[]].csv", "f].csv", true),
        ("f[-._ 0-9]x", "f-x", true),
        ("f[-._ 0-9]x", "f5x", true),
        ("f[-._ 0-9]x", "f_x", true),
        ("f[-._ 0-9]x", "fax", false),
        ("f[x", "f[x", true),
        ("?x", "ax", true),
        ("?x", "x", false),
        ("a*b*c", "axxbyyc", true),
        ("a*b*c", "axxbyy", false),
        ("a*", "a", true),
        ("[a-]x", "-x", true),
        ("[c-a]x", "bx", false),
        ("é*", "éa", true),
        ("a.csv", "aXcsv", false),
        ("[!]x]y", "zy", true),
        ("[!]x]y", "]y", false),
        ("**/**/a", "a", true),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
    ];

    /// Expected: fsspec 2026.9 `glob_translate`, whose expression was asked about the path.
    #[test]
    fn patterns_match_as_those_of_fsspec() {
        let fits = |pattern: &str, path: &str| Pattern::new(pattern, "").unwrap().matches(path);
        for (pattern, path, expected) in MATCHES {
            assert_eq!(fits(pattern, path), *expected, "{pattern} {path}");
        }
        // No pattern takes long.
        let long = "a".repeat(200);
        assert!(!fits(&format!("{}b", "*a".repeat(60)), &long));
        assert!(!fits(&format!("{}b", "**/".repeat(200)), &vec!["a"; 100].join("/")));
    }

    #[test]
    fn patterns_that_lead_away_are_refused() {
        for bad in
            ["../x.csv", "a/../../x.csv", "/etc/passwd", "https://x/y.csv", "hf://datasets/a/b/c.csv", "zip://a::b", "a\\b"]
        {
            let error = resolve(&["x.csv"], &[bad.to_owned()], "").unwrap_err().to_string();
            assert!(error.contains("leads out"), "{bad}: {error}");
        }
        assert!(resolve(&["x.csv"], &["*".to_owned()], "../..").unwrap_err().to_string().contains("leads out"));
        assert!(resolve(&["x.csv"], &["x**".to_owned()], "").unwrap_err().to_string().contains("**"));
    }

    #[test]
    fn missing_parts_are_found() {
        let parts = ["data/t-00000-of-00003.parquet", "data/t-00002-of-00003.parquet"];
        assert_eq!(missing_part(&parts), Some((1, 3)));
        assert_eq!(missing_part(&["t-00000-of-00001-abc.parquet"]), None);
        assert_eq!(missing_part(&["c4-train.00000-of-01024.json.gz", "x.csv"]), None);
    }
}

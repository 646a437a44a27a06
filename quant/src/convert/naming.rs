//! What a model's name says about it: gguf-py's heuristics (b11434, `gguf/metadata.py`) that split `Llama-3.2-1B-Instruct`
//! into base name, size, version and fine-tune, and make a title of it. Absent: where names come from (see `general`).

use std::ffi::OsStr;
use std::path::Path;

/// The name of a model directory, also where it was given as `.` or with a trailing slash. A commit's directory in the cache of
/// Hugging Face's tools has the name of its repository, as if that had been cloned; the converter would take the commit for a
/// name.
pub fn model_name(dir: &Path) -> String {
    let text = |name: Option<&OsStr>| name.unwrap_or_default().to_string_lossy().into_owned();
    let full = || dir.canonicalize().unwrap_or_default();
    match dir.file_name() {
        Some(name) if is_commit(&name.to_string_lossy()) => repository_of(&full()).unwrap_or_else(|| text(Some(name))),
        Some(name) => text(Some(name)),
        None => repository_of(&full()).unwrap_or_else(|| text(full().file_name())),
    }
}

/// The repository's name of `.../models--OWNER--NAME/snapshots/COMMIT`.
fn repository_of(snapshot: &Path) -> Option<String> {
    let mut parts = snapshot.iter().rev().map(OsStr::to_string_lossy);
    let (commit, snapshots, repository) = (parts.next()?, parts.next()?, parts.next()?);
    let name = repository.strip_prefix("models--")?.rsplit("--").next()?;
    (is_commit(&commit) && snapshots == "snapshots" && !name.is_empty()).then(|| name.to_owned())
}

/// Whether a directory's name is a commit's hash, SHA-1 or SHA-256.
fn is_commit(name: &str) -> bool {
    matches!(name.len(), 40 | 64) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The parts of a model id, as far as they could be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NameParts {
    pub(super) full_name: String,
    pub(super) organization: Option<String>,
    pub(super) basename: Option<String>,
    pub(super) finetune: Option<String>,
    pub(super) version: Option<String>,
    pub(super) size_label: Option<String>,
}

/// What one hyphen-separated part of a name is.
#[derive(Debug, Default, Clone)]
struct NamePart {
    text: String,
    basename: bool,
    size_label: bool,
    finetune: bool,
    version: bool,
    quant_type: bool,
}

impl NamePart {
    fn kinds(&self) -> usize {
        [self.basename, self.size_label, self.finetune, self.version, self.quant_type].iter().filter(|&&k| k).count()
    }
}

/// Splits a model id such as `owner/Name-7B-chat`. `parameter_count` tells sizes from context lengths (`-128k`).
pub(super) fn split_name(id: &str, parameter_count: u64) -> NameParts {
    if id.contains(' ') {
        return NameParts { full_name: id.to_owned(), ..NameParts::default() };
    }
    let (organization, full_name) = match id.split_once('/') {
        Some((organization, name)) => ((!organization.starts_with('.')).then(|| organization.to_owned()), name),
        None => (None, id),
    };
    let mut parts: Vec<NamePart> = full_name
        .split('-')
        .filter(|part| !part.is_empty())
        .map(|part| NamePart { text: part.to_owned(), ..NamePart::default() })
        .collect();
    for (i, part) in parts.iter_mut().enumerate() {
        annotate(part, i == 0, parameter_count);
    }
    drop_word_sizes(&mut parts);
    mark_basename(&mut parts);

    let join = |wanted: fn(&NamePart) -> bool| {
        let texts: Vec<&str> = parts.iter().filter(|p| wanted(p)).map(|p| p.text.as_str()).collect();
        (!texts.is_empty()).then(|| texts.join("-"))
    };
    let mut sizes: Vec<&str> = Vec::new();
    for part in parts.iter().filter(|p| p.size_label) {
        if !sizes.contains(&part.text.as_str()) {
            sizes.push(&part.text);
        }
    }
    let size_label = (!sizes.is_empty()).then(|| sizes.join("-"));
    let finetune = join(|p| p.finetune);
    let version = join(|p| p.version && !p.basename);
    // With nothing else recognized, the whole name may be anything.
    let certain = size_label.is_some() || finetune.is_some() || version.is_some();
    let basename = join(|p| p.basename).filter(|_| certain);
    NameParts { full_name: full_name.to_owned(), organization, basename, finetune, version, size_label }
}

fn annotate(part: &mut NamePart, first: bool, parameter_count: u64) {
    // ASCII only: what is recognized below is then ASCII too, and can be cut at any byte.
    let lower = part.text.to_ascii_lowercase();
    if is_version(&lower) {
        part.version = true;
    } else if is_quant_type(&lower) {
        part.quant_type = true;
        part.text = part.text.to_uppercase();
    } else if !first && is_size(&lower) {
        part.text = normal_size(&part.text);
        if is_context_length(&part.text, parameter_count) {
            part.finetune = true;
            part.text = lower_last(&part.text);
        } else {
            part.size_label = true;
        }
    } else if !first && matches!(lower.as_str(), "chat" | "instruct" | "vision" | "lora") {
        part.finetune = true;
    }
}

/// Takes `count` or more ASCII digits off the front; `None` where there are fewer.
fn digits(text: &str, count: usize) -> Option<&str> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (text.len() - rest.len() >= count).then_some(rest)
}

/// `(v|iter)?\d+(\.\d+)*`, in lower case.
fn is_version(text: &str) -> bool {
    let text = text.strip_prefix("iter").or_else(|| text.strip_prefix('v')).unwrap_or(text);
    text.split('.').all(|number| digits(number, 1) == Some(""))
}

/// `i?q\d(_\w)*|b?fp?(16|32)`, in lower case.
fn is_quant_type(text: &str) -> bool {
    let quant = || {
        let rest = text.strip_prefix('i').unwrap_or(text).strip_prefix('q')?;
        let mut chars = rest.chars();
        chars.next().filter(char::is_ascii_digit)?;
        let tail: Vec<char> = chars.collect();
        let word = |c: char| c.is_alphanumeric() || c == '_';
        tail.chunks(2).all(|pair| matches!(pair, ['_', c] if word(*c))).then_some(())
    };
    let float = || {
        let rest = text.strip_prefix('b').unwrap_or(text).strip_prefix('f')?;
        matches!(rest.strip_prefix('p').unwrap_or(rest), "16" | "32").then_some(())
    };
    quant().or_else(float).is_some()
}

/// `(([A]|\d+[x])?\d+([._]\d+)?[KMBT][\d]?|small|mini|medium|large|x?xl)`, in lower case.
fn is_size(text: &str) -> bool {
    if matches!(text, "small" | "mini" | "medium" | "large" | "xl" | "xxl") {
        return true;
    }
    let number = |text: &str| {
        let rest = digits(text, 1)?;
        let rest = match rest.strip_prefix(['.', '_']) {
            Some(fraction) => digits(fraction, 1)?,
            None => rest,
        };
        let rest = rest.strip_prefix(['k', 'm', 'b', 't'])?;
        (rest.is_empty() || rest.len() == 1 && rest.as_bytes()[0].is_ascii_digit()).then_some(())
    };
    let experts = || number(digits(text, 1)?.strip_prefix('x')?);
    let active = || number(text.strip_prefix('a')?);
    number(text).or_else(experts).or_else(active).is_some()
}

/// `7b1` is 7.1b; a suffix after a digit becomes upper case.
fn normal_size(text: &str) -> String {
    let mut text = text.replace('_', ".");
    let bytes = text.as_bytes();
    let n = bytes.len();
    if n >= 2 && bytes[n - 1].is_ascii_digit() {
        text = format!("{}.{}{}", &text[..n - 2], &text[n - 1..], &text[n - 2..n - 1]);
    }
    let bytes = text.as_bytes();
    let n = bytes.len();
    if n >= 2 && bytes[n - 2].is_ascii_digit() && matches!(bytes[n - 1], b'k' | b'm' | b'b' | b't') {
        text = format!("{}{}", &text[..n - 1], text[n - 1..].to_uppercase());
    }
    text
}

/// Whether a size is so far from the model's that it will be a context length.
fn is_context_length(size: &str, parameter_count: u64) -> bool {
    if parameter_count == 0 {
        return false;
    }
    let (number, suffix) = size.split_at(size.len() - 1);
    let Ok(number) = number.parse::<f64>() else { return false };
    let exponent = match suffix {
        "K" => 1,
        "M" => 2,
        "B" => 3,
        "T" => 4,
        _ => -1,
    };
    let claimed = number * 1000f64.powi(exponent);
    (claimed - parameter_count as f64).abs() > (u128::from(parameter_count) * 7 / 8) as f64
}

fn lower_last(text: &str) -> String {
    let (head, last) = text.split_at(text.len() - 1);
    format!("{head}{}", last.to_lowercase())
}

/// `small` and the like say nothing beside a number.
fn drop_word_sizes(parts: &mut [NamePart]) {
    if parts.iter().any(|p| p.size_label && p.text.chars().any(|c| c.is_ascii_digit())) {
        for part in parts.iter_mut().filter(|p| p.size_label && p.text.chars().all(char::is_alphabetic)) {
            part.size_label = false;
        }
    }
}

/// The base name is what comes before anything recognized but a version; a version at its end is not part of it.
fn mark_basename(parts: &mut [NamePart]) {
    let mut at_start = true;
    for part in parts.iter_mut() {
        let unknown = part.kinds() == 0;
        if at_start && (unknown && part.text.starts_with(char::is_alphabetic) || part.version) {
            part.basename = true;
        } else {
            at_start = false;
            part.finetune |= unknown;
        }
    }
    for part in parts.iter_mut().rev() {
        if !(part.basename && part.kinds() > 1) {
            break;
        }
        part.basename = false;
    }
}

/// A title of a name: hyphens to spaces, lower-case words capitalized unless they are versions or numbers.
pub(super) fn title(name: &str) -> String {
    let name = name.trim().replace('-', " ");
    name.split_whitespace()
        .map(|word| if is_lower(word) && !keeps_case(word) { capitalize(word) } else { word.to_owned() })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether a word has letters and no upper-case ones (Python's `str.islower`).
fn is_lower(word: &str) -> bool {
    word.chars().any(char::is_lowercase) && !word.chars().any(char::is_uppercase)
}

/// `v\d+(\.\d+)*|\d.*`
fn keeps_case(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        || word.strip_prefix('v').is_some_and(|rest| rest.split('.').all(|number| digits(number, 1) == Some("")))
}

/// Every letter that follows no letter in upper case (Python's `str.title`).
fn capitalize(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut after_letter = false;
    for c in word.chars() {
        let cased = c.is_lowercase() || c.is_uppercase();
        match cased && !after_letter {
            true => out.extend(c.to_uppercase()),
            false => out.push(c),
        }
        after_letter = cased;
    }
    out
}

/// `886K`, `1.2B`: a number of weights with at least two digits (gguf-py's `model_weight_count_rounded_notation`).
pub(super) fn size_label(parameter_count: u64) -> String {
    let count = parameter_count as f64;
    let (scaled, suffix) = match parameter_count {
        n if n > 1_000_000_000_000 => (count * 1e-12, "T"),
        n if n > 1_000_000_000 => (count * 1e-9, "B"),
        n if n > 1_000_000 => (count * 1e-6, "M"),
        _ => (count * 1e-3, "K"),
    };
    let whole = format!("{scaled:.0}");
    let decimals = 2usize.saturating_sub(whole.trim_start_matches('0').len());
    format!("{scaled:.decimals$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts `[organization, basename, finetune, version, size_label]`, where `""` means none.
    fn check(id: &str, parameter_count: u64, expected: [&str; 5]) {
        let p = split_name(id, parameter_count);
        let found = [p.organization, p.basename, p.finetune, p.version, p.size_label].map(Option::unwrap_or_default);
        assert_eq!(found, expected, "{id}");
    }

    // Expected values: gguf-py b11434, Metadata.get_model_id_components.
    #[test]
    fn names_are_split_as_gguf_py_splits_them() {
        check("llama31_gqa", 886_000, ["", "", "", "", ""]);
        check("demo-model", 2_000_000, ["", "", "", "", ""]);
        check("meta-llama/Llama-3.2-1B-Instruct", 1_235_814_400, ["meta-llama", "Llama-3.2", "Instruct", "", "1B"]);
        check("SmolLM2-135M", 134_515_008, ["", "SmolLM2", "", "", "135M"]);
        check("SmolLM2-135M-Instruct-Q8_0", 134_515_008, ["", "SmolLM2", "Instruct", "", "135M"]);
        check("TinyLlama-1.1B-Chat-v1.0", 1_100_048_384, ["", "TinyLlama", "Chat", "v1.0", "1.1B"]);
        check("Phi-3-mini-128k-instruct", 3_821_079_552, ["", "Phi-3", "128k-instruct", "", "mini"]);
        check("bloom-7b1", 7_069_016_064, ["", "bloom", "", "", "7.1B"]);
        check("Mixtral-8x7B-v0.1", 46_702_792_704, ["", "Mixtral", "", "v0.1", "8x7B"]);
        check("model with spaces 7B", 7_000_000_000, ["", "", "", "", ""]);
        check("./local-7B", 7_000_000_000, ["", "local", "", "", "7B"]);
    }

    #[test]
    fn letters_that_only_resemble_a_suffix_make_no_size() {
        // U+212A, the Kelvin sign, is a K in lower case only.
        check("kelvin-7\u{212a}", 7000, ["", "kelvin", "7\u{212a}", "", ""]);
    }

    #[test]
    fn titles_are_those_of_python() {
        for (name, expected) in [
            ("llama31_gqa", "Llama31_Gqa"),
            ("llama_linear_bias", "Llama_Linear_Bias"),
            ("demo-model", "Demo Model"),
            ("Llama-3.2-1B-Instruct", "Llama 3.2 1B Instruct"),
            ("smollm2-135m", "Smollm2 135m"),
            ("tiny-v1.0-v1x", "Tiny v1.0 V1X"),
            ("", ""),
        ] {
            assert_eq!(title(name), expected);
        }
    }

    #[test]
    fn size_labels_have_two_digits_or_more() {
        for (count, expected) in [
            (886_000, "886K"),
            (999_999, "1000K"),
            (1_000_001, "1.0M"),
            (134_515_008, "135M"),
            (1_235_814_400, "1.2B"),
            (8_030_261_248, "8.0B"),
            (70_553_706_496, "71B"),
            (999, "1.0K"),
            (7, "0.01K"),
        ] {
            assert_eq!(size_label(count), expected);
        }
    }

    #[test]
    fn a_directory_in_the_shared_cache_has_its_repositorys_name() {
        let cache = tempfile::TempDir::new().unwrap();
        let check = |path: &str, expected: &str| {
            let dir = cache.path().join(path);
            std::fs::create_dir_all(&dir).unwrap();
            assert_eq!(model_name(&dir), expected, "{path}");
        };
        let commit = "0123456789abcdef0123456789abcdef01234567";
        check(&format!("models--owner--My-Model-1B/snapshots/{commit}"), "My-Model-1B");
        check(&format!("models--gpt2/snapshots/{commit}"), "gpt2");
        check(&format!("models--o--n/snapshots/{commit}/deeper"), "deeper");
        check("models--o--n/snapshots/main", "main");
        check(&format!("models--o--n/other/{commit}"), commit);
        check(&format!("elsewhere/snapshots/{commit}"), commit);
        check("My-Model-1B", "My-Model-1B");
    }
}

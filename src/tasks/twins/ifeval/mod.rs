//! The twin of IFEval: whether an answer follows the instructions of its prompt, 25 kinds of them.
//!
//! Twenty kinds give lm-evaluation-harness's verdicts, as it gives them with nltk 3.9: from 3.10 on nltk cuts words by another
//! engine, which does not take ² or ½ for letters and does take marks above letters. Five kinds are approximate
//! ([`APPROXIMATE`]), as they rest on trained tables of others: the language of a text (langdetect, which draws at random
//! besides), the sentences of a text (nltk's Punkt), and words by sentences. What hangs on them is said once, and two figures
//! of our own leave it out: `prompt_level_strict_acc_exact` and `prompt_level_loose_acc_exact`, the shares of those prompts of
//! which every instruction is judged exactly.
//!
//! Source: lm-evaluation-harness 0.4.13, `ifeval/utils.py`, `ifeval/instructions.py`, `ifeval/instructions_util.py`; rewritten.

mod json;
mod language;
mod sentences;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Once};

use bitworth_quant::message::Message;
use bitworth_text::python::{self, re::Regex};
use serde_json::{Map, Value};

use super::Figures;
use crate::rows::DataRow;

/// The kinds whose verdicts are not always lm-evaluation-harness's.
pub const APPROXIMATE: [&str; 5] = [
    "language:response_language",
    "length_constraints:number_sentences",
    "change_case:capital_word_frequency",
    "change_case:english_capital",
    "change_case:english_lowercase",
];

/// Whether verdicts of this kind of instruction are approximate.
pub fn is_approximate(kind: &str) -> bool {
    APPROXIMATE.contains(&kind)
}

/// A kind of instruction.
struct Kind {
    name: &'static str,
    /// What an instruction of this kind says.
    options: &'static [&'static str],
    follows: fn(&Options, &str) -> Result<bool, Message>,
}

const fn kind(
    name: &'static str,
    options: &'static [&'static str],
    follows: fn(&Options, &str) -> Result<bool, Message>,
) -> Kind {
    Kind { name, options, follows }
}

const KINDS: &[Kind] = &[
    kind("keywords:existence", &["keywords"], |options, text| all_words(&options.texts("keywords")?, text)),
    kind("keywords:frequency", &["keyword", "frequency", "relation"], |options, text| {
        let count = matches(&format!("(?i){}", fold(python::strip(options.text("keyword")?))), &fold(text))?;
        options.holds(count, "frequency", "relation")
    }),
    kind("keywords:forbidden_words", &["forbidden_words"], |options, text| {
        let words = options.texts("forbidden_words")?.into_iter().map(|word| format!(r"\b{word}\b"));
        Ok(!any_word(&words.collect::<Vec<_>>(), text)?)
    }),
    kind("keywords:letter_frequency", &["letter", "let_frequency", "let_relation"], |options, text| {
        let letter = python::strip(options.text("letter")?).to_lowercase();
        options.holds(text.to_lowercase().matches(&letter).count(), "let_frequency", "let_relation")
    }),
    kind("language:response_language", &["language"], |options, text| {
        Ok(language::detect(text).is_none_or(|found| Ok(found) == options.text("language")))
    }),
    kind("length_constraints:number_sentences", &["num_sentences", "relation"], |options, text| {
        options.holds(sentences::split(text).len(), "num_sentences", "relation")
    }),
    kind("length_constraints:number_paragraphs", &["num_paragraphs"], |options, text| {
        options.equals(filled(&paragraphs(text)), "num_paragraphs")
    }),
    kind("length_constraints:number_words", &["num_words", "relation"], |options, text| {
        options.holds(matches(r"\w+", text)?, "num_words", "relation")
    }),
    kind("length_constraints:nth_paragraph_first_word", &["num_paragraphs", "nth_paragraph", "first_word"], first_word),
    kind("detectable_content:number_placeholders", &["num_placeholders"], |options, text| {
        Ok(matches(r"\[.*?\]", text)? as f64 >= options.count("num_placeholders")?)
    }),
    kind("detectable_content:postscript", &["postscript_marker"], |options, text| {
        let pattern = match python::strip(options.text("postscript_marker")?) {
            "P.P.S" => r"(?m)\s*p\.\s?p\.\s?s.*$".to_owned(),
            "P.S." => r"(?m)\s*p\.\s?s\..*$".to_owned(),
            other => format!(r"(?m)\s*{}.*$", other.to_lowercase()),
        };
        Ok(matches(&pattern, &text.to_lowercase())? > 0)
    }),
    kind("detectable_format:number_bullet_lists", &["num_bullets"], |options, text| {
        let count = matches(r"(?m)^\s*\*[^\*].*$", text)? + matches(r"(?m)^\s*-.*$", text)?;
        options.equals(Some(count), "num_bullets")
    }),
    kind("detectable_format:constrained_response", &[], |_, text| {
        Ok(["yes", "no", "maybe"].iter().any(|answer| text.contains(&format!("My answer is {answer}."))))
    }),
    kind("detectable_format:number_highlighted_sections", &["num_highlights"], |options, text| {
        let is_some = |text: &str| !python::strip(text).is_empty();
        let single = found(r"\*[^\n\*]*\*", text)?.iter().filter(|part| is_some(part.trim_matches('*'))).count();
        let double = found(r"\*\*[^\n\*]*\*\*", text)?.iter().filter(|part| is_some(part.trim_matches('*'))).count();
        Ok((single + double) as f64 >= options.count("num_highlights")?)
    }),
    kind("detectable_format:multiple_sections", &["section_spliter", "num_sections"], |options, text| {
        let pattern = format!(r"\s?{}\s?\d+\s?", python::strip(options.text("section_spliter")?));
        let cuts = matches(&pattern, text)?;
        // Where the pattern has groups, Python counts their texts as sections.
        let groups = compiled(&pattern)?.search(text).map_err(pattern_error)?.map_or(0, |groups| groups.len() - 1);
        Ok((cuts * (1 + groups)) as f64 >= options.count("num_sections")?)
    }),
    kind("detectable_format:json_format", &[], |_, text| {
        let mut text = python::strip(text);
        for mark in ["```json", "```Json", "```JSON", "```"] {
            text = text.strip_prefix(mark).unwrap_or(text);
        }
        Ok(json::is_json(python::strip(text.strip_suffix("```").unwrap_or(text))))
    }),
    kind("detectable_format:title", &[], |_, text| {
        let titles = found(r"<<[^\n]+>>", text)?;
        Ok(titles.iter().any(|title| !python::strip(title.trim_start_matches('<').trim_end_matches('>')).is_empty()))
    }),
    kind("combination:two_responses", &[], |_, text| {
        let parts: Vec<&str> = text.split("******").collect();
        let answers: Vec<&str> = parts.iter().map(|part| python::strip(part)).filter(|part| !part.is_empty()).collect();
        Ok(filled(&parts) == Some(2) && matches!(answers[..], [one, other] if one != other))
    }),
    kind("combination:repeat_prompt", &["prompt_to_repeat"], |options, text| {
        let prompt = python::strip(options.text("prompt_to_repeat")?).to_lowercase();
        Ok(python::strip(text).to_lowercase().starts_with(&prompt))
    }),
    kind("startend:end_checker", &["end_phrase"], |options, text| {
        let phrase = python::strip(options.text("end_phrase")?).to_lowercase();
        Ok(python::strip(text).trim_matches('"').to_lowercase().ends_with(python::strip(&phrase)))
    }),
    kind("startend:quotation", &[], |_, text| {
        let text = python::strip(text);
        Ok(text.len() > 1 && text.starts_with('"') && text.ends_with('"'))
    }),
    kind("change_case:capital_word_frequency", &["capital_frequency", "capital_relation"], |options, text| {
        let words = sentences::words(text);
        options.holds(words.iter().filter(|word| is_upper(word)).count(), "capital_frequency", "capital_relation")
    }),
    kind("change_case:english_capital", &[], |_, text| Ok(is_upper(text) && language::is_english(text))),
    kind("change_case:english_lowercase", &[], |_, text| Ok(is_lower(text) && language::is_english(text))),
    kind("punctuation:no_comma", &[], |_, text| Ok(!text.contains(','))),
];

/// What an instruction says; what counts as nothing in Python is not there.
struct Options(Map<String, Value>);

impl Options {
    fn new(kind: &Kind, options: &Value) -> Result<Self, Message> {
        let options = options.as_object().ok_or_else(|| Message::from("\"kwargs\" must be a list of mappings"))?;
        let is_something = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(items) => !items.is_empty(),
            Value::Bool(true) => true,
        };
        let kept: Map<String, Value> =
            options.iter().filter(|(_, value)| is_something(value)).map(|(key, value)| (key.clone(), value.clone())).collect();
        match kept.keys().find(|key| !kind.options.contains(&key.as_str())) {
            Some(key) => Err(format!("the instruction {} has no option {key:?}", kind.name).into()),
            None => Ok(Self(kept)),
        }
    }

    /// lm-evaluation-harness draws what is missing or out of range at random.
    fn drawn(name: &str) -> Message {
        format!("lm-evaluation-harness would draw the option {name:?} of an instruction at random").into()
    }

    fn text(&self, name: &str) -> Result<&str, Message> {
        self.0.get(name).and_then(Value::as_str).ok_or_else(|| Self::drawn(name))
    }

    fn texts(&self, name: &str) -> Result<Vec<String>, Message> {
        let items = self.0.get(name).and_then(Value::as_array).ok_or_else(|| Self::drawn(name))?;
        let text = |item: &Value| item.as_str().map(str::to_owned);
        items.iter().map(text).collect::<Option<_>>().ok_or_else(|| format!("{name:?} must be a list of texts").into())
    }

    fn count(&self, name: &str) -> Result<f64, Message> {
        self.0.get(name).and_then(Value::as_f64).filter(|count| *count >= 0.0).ok_or_else(|| Self::drawn(name))
    }

    fn equals(&self, count: Option<usize>, name: &str) -> Result<bool, Message> {
        let wanted = self.count(name)?;
        Ok(count.is_some_and(|count| count as f64 == wanted))
    }

    /// Whether there are as many as an option asks for, or fewer, by another option's word.
    fn holds(&self, count: usize, name: &str, relation: &str) -> Result<bool, Message> {
        let wanted = self.count(name)?;
        match self.text(relation)? {
            "less than" => Ok((count as f64) < wanted),
            "at least" => Ok(count as f64 >= wanted),
            other => Err(format!("the option {relation:?} must be \"less than\" or \"at least\", not {other:?}").into()),
        }
    }
}

fn pattern_error(e: python::re::PatternError) -> Message {
    e.to_string().into()
}

/// A pattern, compiled once, as every answer is tried in eight forms; patterns of documents are forgotten when there are many.
fn compiled(pattern: &str) -> Result<Arc<Regex>, Message> {
    static KNOWN: Mutex<Option<HashMap<String, Arc<Regex>>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(|e| e.into_inner());
    let known = known.get_or_insert_default();
    if let Some(regex) = known.get(pattern) {
        return Ok(Arc::clone(regex));
    }
    let regex = Arc::new(Regex::new(pattern).map_err(pattern_error)?);
    if known.len() >= 64 {
        known.clear();
    }
    known.insert(pattern.to_owned(), Arc::clone(&regex));
    Ok(regex)
}

fn matches(pattern: &str, text: &str) -> Result<usize, Message> {
    Ok(compiled(pattern)?.findall(text).map_err(pattern_error)?.len())
}

/// The matches of a pattern without groups.
fn found(pattern: &str, text: &str) -> Result<Vec<String>, Message> {
    let found = compiled(pattern)?.findall(text).map_err(pattern_error)?;
    let one = |found| match found {
        python::re::Found::One(text) => text,
        python::re::Found::Groups(groups) => groups.concat(),
    };
    Ok(found.into_iter().map(one).collect())
}

/// The parts between dividers of three asterisks, each of which takes one character of white space on either side.
fn paragraphs(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("***") {
        let (part, behind) = (&rest[..at], &rest[at + 3..]);
        parts.push(part.strip_suffix(python::is_space).unwrap_or(part));
        rest = behind.strip_prefix(python::is_space).unwrap_or(behind);
    }
    parts.push(rest);
    parts
}

/// How many parts are more than white space; `None` where one between others is not.
fn filled(parts: &[&str]) -> Option<usize> {
    let mut count = 0;
    for (at, part) in parts.iter().enumerate() {
        match python::strip(part).is_empty() {
            false => count += 1,
            true if at == 0 || at + 1 == parts.len() => {}
            true => return None,
        }
    }
    Some(count)
}

/// What Python takes for an `i` where case is ignored, and Rust does not, as an `i`.
fn fold(text: &str) -> String {
    text.replace(['\u{130}', '\u{131}'], "i")
}

fn all_words(words: &[String], text: &str) -> Result<bool, Message> {
    let text = fold(text);
    for word in words {
        if compiled(&format!("(?i){}", fold(word)))?.search(&text).map_err(pattern_error)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn any_word(words: &[String], text: &str) -> Result<bool, Message> {
    let text = fold(text);
    for word in words {
        if compiled(&format!("(?i){}", fold(word)))?.search(&text).map_err(pattern_error)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether there are so many paragraphs, and the named one begins with the word.
fn first_word(options: &Options, text: &str) -> Result<bool, Message> {
    let (wanted, nth) = (options.count("num_paragraphs")?, options.count("nth_paragraph")?);
    if nth > wanted {
        return Err(Options::drawn("nth_paragraph"));
    }
    let paragraphs: Vec<&str> = text.split("\n\n").collect();
    let count = paragraphs.iter().filter(|paragraph| !python::strip(paragraph).is_empty()).count();
    if nth > count as f64 {
        return Ok(false);
    }
    // Empty paragraphs are not counted, but have a place.
    let Some(word) = paragraphs[nth as usize - 1].split(python::is_space).find(|word| !word.is_empty()) else {
        return Ok(false);
    };
    let word = word.trim_start_matches('\'').trim_start_matches('"');
    let word: String = word.chars().take_while(|c| !".,?!'\"".contains(*c)).flat_map(char::to_lowercase).collect();
    Ok(count as f64 == wanted && word == options.text("first_word")?.to_lowercase())
}

/// A letter in title case, which is neither large nor small.
fn is_title(c: char) -> bool {
    !c.is_uppercase() && !c.is_lowercase() && !c.to_lowercase().eq([c]) && !c.to_uppercase().eq([c])
}

/// `str.isupper`.
fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(|c| c.is_lowercase() || is_title(c))
}

/// `str.islower`.
fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(|c| c.is_uppercase() || is_title(c))
}

/// The instructions of a document.
struct Instruction {
    kind: &'static Kind,
    options: Options,
    /// Whether the verdict is always lm-evaluation-harness's.
    exact: bool,
}

fn instructions(doc: &DataRow) -> Result<Vec<Instruction>, Message> {
    let (names, options) = (super::list(doc, "instruction_id_list")?, super::list(doc, "kwargs")?);
    if options.len() < names.len() {
        return Err(format!("{} instructions have {} mappings in \"kwargs\"", names.len(), options.len()).into());
    }
    let one = |(name, options): (&Value, &Value)| {
        let found = KINDS.iter().find(|kind| name == kind.name);
        let kind = found.ok_or_else(|| Message::from(format!("the instruction {} is unknown", python::repr(name))))?;
        let options = Options::new(kind, options)?;
        // Asked for a mark that is no letter, lm-evaluation-harness counts a letter that it draws at random.
        let is_letter = |text: &str| matches!(text.as_bytes(), [c] if c.is_ascii_alphabetic());
        let drawn = kind.options.contains(&"letter") && !options.text("letter").is_ok_and(is_letter);
        Ok(Instruction { kind, options, exact: !drawn && !is_approximate(kind.name) })
    };
    names.iter().zip(options).map(one).collect()
}

/// The answer, and what is left of it without its first line, its last line, or both, each with and without asterisks.
fn loosened(answer: &str) -> Vec<String> {
    let lines: Vec<&str> = answer.split('\n').collect();
    let joined = |lines: &[&str]| python::strip(&lines.join("\n")).to_owned();
    let inner = lines.get(1..lines.len() - 1).unwrap_or_default();
    let parts = [answer.to_owned(), joined(&lines[1..]), joined(&lines[..lines.len() - 1]), joined(inner)];
    let bare = parts.each_ref().map(|part| part.replace('*', ""));
    parts.into_iter().chain(bare).collect()
}

/// Which instructions an answer, or one of several forms of it, follows.
fn followed(instructions: &[Instruction], answers: &[String]) -> Result<Vec<bool>, Message> {
    let one = |Instruction { kind, options, .. }: &Instruction| {
        for answer in answers.iter().filter(|answer| !python::strip(answer).is_empty()) {
            if (kind.follows)(options, answer)? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    instructions.iter().map(one).collect()
}

/// The figures of a document, strict and loose, by prompt and by instruction.
pub(super) fn results(doc: &DataRow, answers: &[Value]) -> Result<Figures, Message> {
    static SAID: Once = Once::new();
    let answer = answers.first().and_then(Value::as_str).ok_or_else(|| Message::from("there is no answer"))?;
    let instructions = instructions(doc)?;
    let exact = instructions.iter().all(|instruction| instruction.exact);
    if !exact {
        SAID.call_once(|| {
            tracing::warn!(
                "IFEval: {} of {} kinds of instructions ({}) rest on trained tables of other programs and are judged \
                 approximately, as is a frequency of marks that are no letters; figures whose names end in _exact \
                 leave their prompts out",
                APPROXIMATE.len(),
                KINDS.len(),
                APPROXIMATE.join(", ")
            );
        });
    }
    let strict = followed(&instructions, &[answer.to_owned()])?;
    let loose = followed(&instructions, &loosened(answer))?;
    let mut figures = Figures::new();
    for (name, followed) in [("strict", &strict), ("loose", &loose)] {
        figures.push((format!("prompt_level_{name}_acc"), followed.iter().all(|followed| *followed).into()));
        figures.push((format!("inst_level_{name}_acc"), followed.clone().into()));
    }
    if exact {
        figures.push(("prompt_level_strict_acc_exact".to_owned(), strict.iter().all(|followed| *followed).into()));
        figures.push(("prompt_level_loose_acc_exact".to_owned(), loose.iter().all(|followed| *followed).into()));
    }
    Ok(figures)
}

/// The share of instructions that were followed.
pub(super) fn share(values: &[Value]) -> Result<f64, Message> {
    let flat: Vec<Value> = values.iter().filter_map(Value::as_array).flatten().cloned().collect();
    let mut sum = 0.0;
    for value in &flat {
        sum += crate::metrics::number(value)?;
    }
    match flat.len() {
        0 => Err("there is no instruction".into()),
        count => Ok(sum / count as f64),
    }
}

#[cfg(test)]
mod tests;

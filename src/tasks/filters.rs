//! Filters: what is taken of a model's answers before they are judged, one step a type. Absent: filters that are Python
//! (`twins`), steps one behind the other (`pipeline`).
//!
//! To add one: a function here and a row in [`FILTERS`].
//!
//! Source: lm-evaluation-harness 0.4.13, `lm_eval/filters/`.

use bitworth_quant::message::Message;
use std::collections::HashMap;
use std::sync::Arc;

use bitworth_text::python::re::{Found, Regex};
use bitworth_text::python::{self, re};
use serde_json::{Map, Value};

use crate::rows::DataRow;

/// One step: answers of all requests, with the documents they are about. What a request has is a list of answers until a step
/// takes one of them.
pub trait Filter: Send + Sync {
    /// The answers after this step.
    ///
    /// # Errors
    /// Answers or documents that the step cannot take; says what is wrong.
    fn apply(&self, answers: Vec<Value>, docs: &[Arc<DataRow>]) -> Result<Vec<Value>, Message>;
}

/// Makes a step of its options.
pub type Make = fn(&Map<String, Value>) -> Result<Box<dyn Filter>, Message>;

/// Every filter with its name.
pub const FILTERS: &[(&str, Make)] = &[
    ("take_first", |options| {
        known(options, &[])?;
        Ok(Box::new(TakeFirst))
    }),
    ("take_first_k", |options| {
        known(options, &["k"])?;
        let k = options.get("k").and_then(Value::as_u64).ok_or_else(|| Message::from("take_first_k needs the option k"))?;
        Ok(Box::new(TakeFirstK(k as usize)))
    }),
    ("majority_vote", |options| {
        known(options, &[])?;
        Ok(Box::new(MajorityVote))
    }),
    ("remove_whitespace", |options| {
        known(options, &[])?;
        Ok(Box::new(Each(|text| Value::from(python::strip(text)))))
    }),
    ("lowercase", |options| {
        known(options, &[])?;
        Ok(Box::new(Each(|text| text.to_lowercase().into())))
    }),
    ("uppercase", |options| {
        known(options, &[])?;
        Ok(Box::new(Each(|text| text.to_uppercase().into())))
    }),
    ("map", |options| {
        known(options, &["mapping_dict", "default_value"])?;
        let mapping = options.get("mapping_dict").and_then(Value::as_object).cloned().unwrap_or_default();
        Ok(Box::new(Mapped { mapping, default: options.get("default_value").cloned().unwrap_or_default() }))
    }),
    ("regex", |options| {
        known(options, &["regex_pattern", "group_select", "fallback"])?;
        Ok(Box::new(Pattern::new(options)?))
    }),
    ("format_span", |options| {
        known(options, &[])?;
        Ok(Box::new(FormatSpan::new()?))
    }),
    ("multi_choice_regex", |options| Ok(Box::new(MultiChoice::new(options, choices_of_doc)?))),
];

/// Refuses options that a step does not have.
pub(crate) fn known(options: &Map<String, Value>, names: &[&str]) -> Result<(), Message> {
    match options.keys().find(|key| !names.contains(&key.as_str())) {
        Some(key) => Err(format!("the option {key:?} is unknown").into()),
        None => Ok(()),
    }
}

fn list(answer: Value) -> Result<Vec<Value>, Message> {
    match answer {
        Value::Array(items) => Ok(items),
        other => Err(format!("it needs a list of answers, and has {}", python::repr(&other)).into()),
    }
}

/// Does something with every answer of every list.
pub(crate) fn each(
    answers: Vec<Value>,
    mut one: impl FnMut(usize, Value) -> Result<Value, Message>,
) -> Result<Vec<Value>, Message> {
    let mut made = Vec::with_capacity(answers.len());
    for (at, answer) in answers.into_iter().enumerate() {
        made.push(list(answer)?.into_iter().map(|item| one(at, item)).collect::<Result<Value, _>>()?);
    }
    Ok(made)
}

/// The first answer of every list.
pub(crate) struct TakeFirst;

impl Filter for TakeFirst {
    fn apply(&self, answers: Vec<Value>, _: &[Arc<DataRow>]) -> Result<Vec<Value>, Message> {
        let first = |answer| list(answer)?.into_iter().next().ok_or_else(|| Message::from("a request has no answer"));
        answers.into_iter().map(first).collect()
    }
}

struct TakeFirstK(usize);

impl Filter for TakeFirstK {
    fn apply(&self, answers: Vec<Value>, _: &[Arc<DataRow>]) -> Result<Vec<Value>, Message> {
        let first = |answer| {
            let items = list(answer)?;
            match items.len() < self.0 {
                true => {
                    Err(format!("it needs {} answers a request, and there are {}; raise repeats", self.0, items.len()).into())
                }
                false => Ok(items.into_iter().take(self.0).collect()),
            }
        };
        answers.into_iter().map(first).collect()
    }
}

/// The most frequent answer, the first of equals, as a list of one.
struct MajorityVote;

impl Filter for MajorityVote {
    fn apply(&self, answers: Vec<Value>, _: &[Arc<DataRow>]) -> Result<Vec<Value>, Message> {
        let vote = |answer| {
            let items = list(answer)?;
            let mut counts: HashMap<String, usize> = HashMap::new();
            items.iter().for_each(|item| *counts.entry(python::repr(item)).or_default() += 1);
            let count = |item: &Value| counts.get(&python::repr(item)).copied().unwrap_or_default();
            let best = items.iter().map(count).max().ok_or_else(|| Message::from("a request has no answer"))?;
            Ok(Value::Array(items.into_iter().find(|item| count(item) == best).into_iter().collect()))
        };
        answers.into_iter().map(vote).collect()
    }
}

/// One text for another.
struct Each(fn(&str) -> Value);

impl Filter for Each {
    fn apply(&self, answers: Vec<Value>, _: &[Arc<DataRow>]) -> Result<Vec<Value>, Message> {
        each(answers, |_, item| item.as_str().map(self.0).ok_or_else(|| Message::from("an answer is no text")))
    }
}

struct Mapped {
    mapping: Map<String, Value>,
    default: Value,
}

impl Filter for Mapped {
    fn apply(&self, answers: Vec<Value>, _: &[Arc<DataRow>]) -> Result<Vec<Value>, Message> {
        each(answers, |_, item| Ok(self.mapping.get(&python::str(&item)).unwrap_or(&self.default).clone()))
    }
}

/// `regex`: one of the matches, without blanks around it.
pub(crate) struct Pattern {
    regex: Regex,
    select: i64,
    pub(crate) fallback: Value,
}

impl Pattern {
    pub(crate) fn new(options: &Map<String, Value>) -> Result<Self, Message> {
        let pattern = options.get("regex_pattern").map_or(Ok(r"#### (\-?[0-9\.\,]+)"), |pattern| {
            pattern.as_str().ok_or_else(|| Message::from("regex_pattern must be a text"))
        })?;
        Self::of(pattern, options)
    }

    pub(crate) fn of(pattern: &str, options: &Map<String, Value>) -> Result<Self, Message> {
        let regex = Regex::new(pattern).map_err(|e| Message::from(e.to_string()))?;
        let select = options
            .get("group_select")
            .map_or(Some(0), Value::as_i64)
            .ok_or_else(|| Message::from("group_select must be an integer"))?;
        Ok(Self { regex, select, fallback: options.get("fallback").cloned().unwrap_or_else(|| "[invalid]".into()) })
    }

    /// The chosen match of a pattern; of several groups the first that matched something. `None` without a match.
    pub(crate) fn find(&self, regex: &Regex, text: &str) -> Result<Option<String>, Message> {
        let mut found = regex.findall(text).map_err(|e| Message::from(e.to_string()))?;
        if found.is_empty() {
            return Ok(None);
        }
        let at = if self.select < 0 { found.len() as i64 + self.select } else { self.select };
        if at < 0 || at >= found.len() as i64 {
            return Err(
                format!("group_select {} lies outside of {} matches of {:?}", self.select, found.len(), regex.pattern()).into()
            );
        }
        Ok(match found.swap_remove(at as usize) {
            Found::One(text) => Some(python::strip(&text).to_owned()),
            Found::Groups(groups) => groups.iter().find(|group| !group.is_empty()).map(|group| python::strip(group).to_owned()),
        })
    }

    pub(crate) fn own(&self) -> &Regex {
        &self.regex
    }
}

impl Filter for Pattern {
    fn apply(&self, answers: Vec<Value>, _: &[Arc<DataRow>]) -> Result<Vec<Value>, Message> {
        each(answers, |_, item| {
            let found = self.find(&self.regex, item.as_str().unwrap_or_default())?;
            Ok(found.map_or_else(|| self.fallback.clone(), Value::from))
        })
    }
}

/// Words for kinds of names before a colon, and the kinds, in the order in which they are replaced.
const KINDS_OF_NAMES: [(&str, &str); 15] = [
    ("person", "PER"),
    ("location", "LOC"),
    ("organization", "ORG"),
    ("counties", "LOC"),
    ("places", "LOC"),
    ("people", "PER"),
    ("persons", "PER"),
    ("company", "ORG"),
    ("country", "LOC"),
    ("continent", "LOC"),
    ("time", "DATE"),
    ("date", "DATE"),
    ("per", "PER"),
    ("loc", "LOC"),
    ("org", "ORG"),
];

/// `format_span`: names of an answer as `kind: name $ kind: name`.
struct FormatSpan {
    words: Vec<(Regex, String)>,
    names: Regex,
}

impl FormatSpan {
    fn new() -> Result<Self, Message> {
        let compiled = |pattern: &str| Regex::new(pattern).map_err(|e| Message::from(e.to_string()));
        let word = |(word, kind): &(&str, &str)| Ok((compiled(&format!(r"\b{word}\s*:"))?, format!("{kind}:")));
        let words = KINDS_OF_NAMES.iter().map(word).collect::<Result<_, Message>>()?;
        Ok(Self { words, names: compiled(r"\b(PER|LOC|ORG|DATE):\s*([^$]+)")? })
    }

    fn of(&self, text: &str) -> Result<String, Message> {
        let fail = |e: re::PatternError| Message::from(e.to_string());
        let mut text = text.to_lowercase();
        for (regex, kind) in &self.words {
            text = regex.sub(kind, &text, 0).map_err(fail)?;
        }
        let text = text.replace("$$", "$");
        let text = text.trim_end_matches('$').replace('\n', "$");
        let mut names = Vec::new();
        for found in self.names.findall(python::strip(&text)).map_err(fail)? {
            let Found::Groups(groups) = found else { continue };
            let own = groups[1].split(',').map(python::strip).filter(|name| name.to_lowercase() != "none");
            names.extend(own.map(|name| format!("{}: {name}", groups[0].to_lowercase())));
        }
        Ok(names.join(" $ "))
    }
}

impl Filter for FormatSpan {
    fn apply(&self, answers: Vec<Value>, _: &[Arc<DataRow>]) -> Result<Vec<Value>, Message> {
        each(answers, |_, item| {
            let text = item.as_str().ok_or_else(|| Message::from("an answer is no text"))?;
            Ok(self.of(text)?.into())
        })
    }
}

/// What answers are rid of before they are compared with choices.
pub(crate) struct Ignored {
    regexes: Vec<Regex>,
    case: bool,
    punctuation: bool,
}

impl Ignored {
    pub(crate) fn new(options: &Map<String, Value>) -> Result<Self, Message> {
        let flag = |key: &str| options.get(key).and_then(Value::as_bool).unwrap_or(false);
        let regexes = options.get("regexes_to_ignore").and_then(Value::as_array).into_iter().flatten();
        let regexes = regexes.map(|pattern| Regex::new(&python::str(pattern)).map_err(|e| Message::from(e.to_string())));
        Ok(Self {
            regexes: regexes.collect::<Result<_, _>>()?,
            case: flag("ignore_case"),
            punctuation: flag("ignore_punctuation"),
        })
    }

    pub(crate) fn apply(&self, text: &str) -> Result<String, Message> {
        let mut text = text.to_owned();
        for regex in &self.regexes {
            text = regex.sub("", &text, 0).map_err(|e| Message::from(e.to_string()))?;
        }
        if self.case {
            text = text.to_lowercase();
        }
        text.retain(|c| !(self.punctuation && python::is_punctuation(c)));
        Ok(text)
    }
}

/// `multi_choice_regex`: a letter in brackets, else the text of a choice, else a letter behind a colon.
pub(crate) struct MultiChoice {
    pattern: Pattern,
    ignored: Ignored,
    choices: fn(&DataRow) -> Result<Vec<String>, Message>,
}

impl MultiChoice {
    pub(crate) fn new(
        options: &Map<String, Value>,
        choices: fn(&DataRow) -> Result<Vec<String>, Message>,
    ) -> Result<Self, Message> {
        let own = ["regex_pattern", "group_select", "fallback", "ignore_case", "ignore_punctuation", "regexes_to_ignore"];
        known(options, &own)?;
        Ok(Self { pattern: Pattern::new(options)?, ignored: Ignored::new(options)?, choices })
    }
}

fn choices_of_doc(doc: &DataRow) -> Result<Vec<String>, Message> {
    let choices =
        doc.get("choices").and_then(Value::as_array).ok_or_else(|| Message::from("documents must have a list \"choices\""))?;
    Ok(choices.iter().map(|choice| python::strip(&python::str(choice)).to_owned()).collect())
}

/// The letter of choice `at`, and of what follows behind Z.
fn letter(at: usize) -> char {
    char::from_u32('A' as u32 + at as u32).unwrap_or('?')
}

impl Filter for MultiChoice {
    fn apply(&self, answers: Vec<Value>, docs: &[Arc<DataRow>]) -> Result<Vec<Value>, Message> {
        let mut made = Vec::with_capacity(answers.len());
        for (answer, doc) in answers.into_iter().zip(docs) {
            let choices = (self.choices)(doc)?;
            let choices: Vec<String> = choices.iter().map(|choice| self.ignored.apply(choice)).collect::<Result<_, _>>()?;
            let mut texts: Vec<String> = choices.iter().map(|choice| re::escape(choice)).collect();
            // Longest first, so that a choice does not hide one that begins with it.
            texts.sort_by_key(|text| std::cmp::Reverse(text.chars().count()));
            let by_text = Regex::new(&texts.join("|")).map_err(|e| Message::from(e.to_string()))?;
            let letters: Vec<String> = (0..choices.len()).map(|at| letter(at).to_string()).collect();
            let by_letter = Regex::new(&format!(r":[\s]*({})", letters.join("|"))).map_err(|e| Message::from(e.to_string()))?;
            let one = |item: Value| -> Result<Value, Message> {
                let text = item.as_str().unwrap_or_default();
                let own = self.pattern.find(self.pattern.own(), text)?.filter(|found| !found.is_empty());
                if let Some(found) = own {
                    return Ok(found.into());
                }
                let found = self.pattern.find(&by_text, &self.ignored.apply(text)?)?.filter(|found| !found.is_empty());
                if let Some(found) = found {
                    // The last of equal choices counts.
                    let at = choices.iter().rposition(|choice| *choice == found);
                    return Ok(at.map_or(found, |at| format!("({})", letter(at))).into());
                }
                let found = self.pattern.find(&by_letter, text)?.filter(|found| !found.is_empty());
                Ok(match found {
                    Some(found) if letters.contains(&found) => format!("({found})").into(),
                    Some(found) => found.into(),
                    None => self.pattern.fallback.clone(),
                })
            };
            made.push(list(answer)?.into_iter().map(one).collect::<Result<Value, _>>()?);
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(name: &str, options: Value, answers: Value, expected: Value) {
        let (_, make) = FILTERS.iter().find(|(own, _)| *own == name).unwrap();
        let filter = make(options.as_object().unwrap()).unwrap();
        let doc = json!({"choices": ["Guilty", "Guilty of romance", "free!"]}).as_object().unwrap().clone();
        let Value::Array(answers) = answers else { panic!() };
        let doc = Arc::new(doc);
        let docs: Vec<_> = answers.iter().map(|_| Arc::clone(&doc)).collect();
        assert_eq!(Value::Array(filter.apply(answers, &docs).unwrap()), expected, "{name}");
    }

    /// Expected: the classes of lm-evaluation-harness 0.4.13 on the same answers.
    #[test]
    fn filters_give_what_lm_eval_gives() {
        check("take_first", json!({}), json!([["a", "b"]]), json!(["a"]));
        check("take_first_k", json!({"k": 2}), json!([["a", "b", "c"]]), json!([["a", "b"]]));
        check("majority_vote", json!({}), json!([["a", "b", "b", "a", "c"]]), json!([["a"]]));
        check("remove_whitespace", json!({}), json!([[" a\u{1f}\n"]]), json!([["a"]]));
        check("map", json!({"mapping_dict": {"a": 1}, "default_value": 0}), json!([["a", "b"]]), json!([[1, 0]]));
        check("regex", json!({}), json!([["#### 1, x", "no", 3]]), json!([["1,", "[invalid]", "[invalid]"]]));
        let flexible = json!({"group_select": -1, "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)"});
        check("regex", flexible, json!([["2 and $12.5 "]]), json!([["$12.5"]]));
        check("regex", json!({"regex_pattern": "(a*)(b*)", "fallback": "-"}), json!([["x"]]), json!([["-"]]));
        let answers = json!([[
            "Person: Ade, Bola $$ LOCATION : the Lake $$ date: none",
            "per: x$$org: A\nloc: B, None,",
            "people: A persons: B $ time:  3 May",
            "no names",
            "country:Kenya, $$$$ $$",
            "Companyx: y company: Z$",
            "PER: Ünal\n\nORG: İx, y"
        ]]);
        let expected = json!([[
            "per: ade $ per: bola $ loc: the lake",
            "per: x $ org: a $ loc: b $ loc: ",
            "per: a PER: b $ date: 3 may",
            "",
            "loc: kenya $ loc: ",
            "org: z",
            "per: ünal $ org: i̇x $ org: y"
        ]]);
        check("format_span", json!({}), answers, expected);
        let answers = json!([["(B) it is", "I say guilty of Romance.", "answer: C", "free", "nothing"]]);
        let options = json!({"regex_pattern": "(\\([A-Z]\\))", "ignore_case": true, "ignore_punctuation": true});
        check("multi_choice_regex", options, answers, json!([["(B)", "(B)", "(C)", "(C)", "[invalid]"]]));
    }

    #[test]
    fn what_a_filter_cannot_take_is_named() {
        let fail = |name: &str, options: Value| {
            let (_, make) = FILTERS.iter().find(|(own, _)| *own == name).unwrap();
            make(options.as_object().unwrap()).err().unwrap().to_string()
        };
        assert!(fail("take_first", json!({"x": 1})).contains("\"x\" is unknown"));
        assert!(fail("take_first_k", json!({})).contains("needs the option k"));
        assert!(fail("regex", json!({"regex_pattern": "("})).contains("does not compile"));
        let pattern = Pattern::new(json!({"group_select": 2}).as_object().unwrap()).unwrap();
        assert!(pattern.apply(vec![json!(["#### 1"])], &[]).unwrap_err().to_string().contains("group_select 2"));
    }
}

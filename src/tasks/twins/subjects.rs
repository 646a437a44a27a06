//! Twins of questions in many languages: MMLU's descendants and AfriXNLI. Words that a task's module writes in another language
//! are read from it.
//!
//! Source: lm-evaluation-harness 0.4.13, the modules of the same names; rewritten.

use std::fmt::Write;

use bitworth_quant::message::Message;
use bitworth_text::python::{self, literal};
use serde_json::Value;

use super::choice::{capital, fields};
use super::module::{Module, filled};
use super::{MakeField, list, text};
use crate::rows::{DataRow, Docs};

/// The options that MMLU-ProX has at most.
const MAX_OPTIONS: usize = 10;

/// A field that must be there, as Python prints it.
fn printed(doc: &DataRow, name: &str) -> Result<String, Message> {
    Ok(python::str(field(doc, name)?))
}

fn field<'a>(doc: &'a DataRow, name: &str) -> Result<&'a Value, Message> {
    doc.get(name).ok_or_else(|| Message::from(format!("the field {name:?} is missing")))
}

/// Whether Python takes the field for nothing.
fn is_nothing(doc: &DataRow, name: &str) -> Result<bool, Message> {
    Ok(matches!(field(doc, name)?, Value::Null) || field(doc, name)?.as_str() == Some(""))
}

/// The place of an answer's letter.
fn place(doc: &DataRow, letters: usize) -> Result<usize, Message> {
    let answer = text(doc, "answer")?;
    let found = (0..letters).find(|at| capital(*at).is_ok_and(|letter| answer.chars().eq([letter])));
    found.ok_or_else(|| format!("the answer {answer:?} is none of the first {letters} letters").into())
}

/// The words of MMLU-ProX in the language of the module's folder.
fn prox_words(module: &Module) -> Result<[String; 4], Message> {
    let all = module.beside("../lang_libs")?.value("LANG_LIBS = ")?;
    let own = all.get(module.folder()).and_then(Value::as_array);
    let word = |at: usize| own.and_then(|own| own.get(at)).and_then(Value::as_str).map(str::to_owned);
    match [word(0), word(1), word(2), word(4)] {
        [Some(question), Some(options), Some(answer), Some(english)] => Ok([question, options, answer, english]),
        _ => Err(format!("there are no words of the language {:?}", module.folder()).into()),
    }
}

fn prox_begin(doc: &DataRow, question: &str, options: &str) -> Result<String, Message> {
    let mut made = format!("{question}\n{}\n{options}\n", text(doc, "question")?);
    for at in 0..MAX_OPTIONS {
        let option = field(doc, &format!("option_{at}"))?;
        if !option.is_null() {
            writeln!(made, "{}. {}", capital(at)?, python::str(option)).unwrap_or_default();
        }
    }
    Ok(made)
}

/// MMLU-ProX's question with its options.
pub(super) fn mmlu_prox_question(module: &Module) -> Result<MakeField, Message> {
    let [question, options, answer, _] = prox_words(module)?;
    Ok(Box::new(move |doc| Ok((prox_begin(doc, &question, &options)? + &answer).into())))
}

/// The same with what leads to the answer.
pub(super) fn mmlu_prox_shot(module: &Module) -> Result<MakeField, Message> {
    let [question, options, answer, begin] = prox_words(module)?;
    Ok(Box::new(move |doc| {
        let thoughts = text(doc, "cot_content")?.replace(&begin, &answer);
        Ok((prox_begin(doc, &question, &options)? + &thoughts + "\n\n").into())
    }))
}

fn label(doc: &DataRow, names: [&str; 3]) -> Result<Value, Message> {
    let at = field(doc, "label")?.as_u64().and_then(|at| names.get(at as usize).copied());
    at.map(Value::from).ok_or_else(|| Message::from("the label must be 0, 1 or 2"))
}

/// AfriXNLI's labels in words.
pub(super) fn entailment(doc: &DataRow) -> Result<Value, Message> {
    label(doc, ["entailment", "neutral", "contradiction"])
}

/// The same in other words.
pub(super) fn neither(doc: &DataRow) -> Result<Value, Message> {
    label(doc, ["True", "Neither", "False"])
}

/// The same as the fifth prompt has them.
pub(super) fn inconclusive(doc: &DataRow) -> Result<Value, Message> {
    label(doc, ["true", "false", "inconclusive"])
}

/// AfriXNLI's question.
pub(super) fn afrixnli_text(module: &Module) -> Result<MakeField, Message> {
    let template = module.text("output = ")?;
    Ok(Box::new(move |doc| {
        let (premise, hypothesis) = (printed(doc, "premise")?, printed(doc, "hypothesis")?);
        Ok(filled(&template, &[("premise", &premise), ("hypothesis", &hypothesis)])?.into())
    }))
}

/// AfriMMLU's choices, which its rows have as a Python literal.
pub(super) fn afrimmlu_choice(doc: &DataRow) -> Result<Value, Message> {
    literal::eval(text(doc, "choices")?).ok_or_else(|| Message::from("the choices are no Python literal"))
}

/// AfriMMLU's question.
pub(super) fn afrimmlu_text(module: &Module) -> Result<MakeField, Message> {
    let template = module.text("output = ")?;
    Ok(Box::new(move |doc| {
        let choices = afrimmlu_choice(doc)?;
        let choice =
            |at: usize| choices.get(at).map(python::str).ok_or_else(|| Message::from("there are fewer than four choices"));
        let (subject, question) = (printed(doc, "subject")?, printed(doc, "question")?);
        let (a, b, c, d) = (choice(0)?, choice(1)?, choice(2)?, choice(3)?);
        let values = [
            ("subject", subject.as_str()),
            ("question", &question),
            ("choice1", &a),
            ("choice2", &b),
            ("choice3", &c),
            ("choice4", &d),
        ];
        Ok(filled(&template, &values)?.into())
    }))
}

/// The Arabic leaderboard's questions of right and wrong.
pub(super) fn avca(module: &Module, docs: &Docs) -> Result<Docs, Message> {
    let (template, choices) = (module.text("\"query\": f")?, module.texts("\"choices\": ")?);
    docs.map(|doc| {
        let gold = choices.iter().position(|choice| field(doc, "answer").is_ok_and(|answer| answer == choice));
        let gold = gold.ok_or_else(|| Message::from("the answer is none of the choices"))?;
        let query = filled(&template, &[("question", &printed(doc, "question")?)])?;
        Ok(fields([("query", query.into()), ("choices", choices.clone().into()), ("gold", gold.into())]))
    })
}

/// The Arabic leaderboard's MMLU.
pub(super) fn arabic_mmlu(module: &Module, docs: &Docs) -> Result<Docs, Message> {
    let (instruction, end) = (module.text("instruction = f")?, module.text(")\n        query += ")?);
    let letters: Vec<String> = module.texts("LETTER_INDICES_AR = ")?.into_iter().take(4).collect();
    docs.map(|doc| {
        let topic = text(doc, "subject")?.replace('_', " ");
        let mut query = filled(&instruction, &[("topic.replace('_', ' ')", &topic)])? + &printed(doc, "question")? + "\n";
        for (letter, name) in letters.iter().zip(["A", "B", "C", "D"]) {
            writeln!(query, "{letter}. {}", printed(doc, name)?).unwrap_or_default();
        }
        let gold = place(doc, 26)?;
        Ok(fields([("query", (query + &end).into()), ("choices", letters.clone().into()), ("gold", gold.into())]))
    })
}

/// The Arabic leaderboard's translated tasks: every column but question and answer is a choice.
pub(super) fn arabic_mt(module: &Module, docs: &Docs) -> Result<Docs, Message> {
    let (instruction, begin) = (module.text("instruction = ")?, module.text("query = f")?);
    let end = module.text("\n        query += ")?;
    docs.map(|doc| {
        let label = printed(doc, "label")?;
        let gold: i64 = python::strip(&label).parse().map_err(|_| "the field \"label\" must be a number")?;
        let is_choice = |name: &str| !["query", "label", "__few_shots"].contains(&name);
        let choices: Vec<Value> = doc.iter().filter(|(name, _)| is_choice(name)).map(|(_, value)| value.clone()).collect();
        let mut query = filled(&begin, &[("instruction", &instruction), ("question", &printed(doc, "query")?)])?;
        for (at, choice) in choices.iter().enumerate() {
            writeln!(query, "{at}) {}", python::str(choice)).unwrap_or_default();
        }
        Ok(fields([("query", (query + &end).into()), ("choices", choices.into()), ("gold", gold.into())]))
    })
}

/// Choices behind their labels, line by line.
fn labelled(choices: &[Value], labels: &[String]) -> Result<String, Message> {
    if choices.len() > labels.len() {
        return Err(format!("there are {} choices, and {} labels", choices.len(), labels.len()).into());
    }
    let lines = labels.iter().zip(choices).map(|(label, choice)| format!("{label} {}", python::str(choice)));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// GreekMMLU's question.
pub(super) fn greek_text(module: &Module) -> Result<MakeField, Message> {
    let (prompt, labels, subjects) = (module.text("PROMPT = ")?, module.texts("LABELS = ")?, module.value("subjects_gr = ")?);
    Ok(Box::new(move |doc| {
        let own = printed(doc, "subject")?;
        let subject = subjects.get(&own).and_then(Value::as_str).unwrap_or(&own);
        let choices = labelled(list(doc, "choices")?, &labels)?;
        Ok(filled(&prompt, &[("", subject), ("", &printed(doc, "question")?), ("", &choices)])?.into())
    }))
}

/// GreekMMLU's choices: the letters of its labels.
pub(super) fn greek_choice(module: &Module) -> Result<MakeField, Message> {
    let labels = module.texts("LABELS = ")?;
    Ok(Box::new(move |doc| {
        let count = list(doc, "choices")?.len();
        let letter =
            |at: usize| labels.get(at).and_then(|label| label.chars().next()).map(|letter| Value::from(letter.to_string()));
        (0..count).map(|at| letter(at).ok_or_else(|| Message::from("there are more choices than labels"))).collect()
    }))
}

/// The Latin letters of a document's choices, five at most.
pub(super) fn letters(doc: &DataRow) -> Result<Value, Message> {
    let count = list(doc, "choices")?.len();
    match count {
        0..=5 => (0..count).map(|at| Ok(Value::from(capital(at)?.to_string()))).collect(),
        _ => Err("there are more choices than labels".into()),
    }
}

/// DarijaMMLU's and EgyMMLU's question, which has the subject in a field of this name.
fn with_context(module: &Module, subject: &'static str) -> Result<MakeField, Message> {
    let (prompt, labels) = (module.text("PROMPT = ")?, module.texts("alpha = ")?);
    Ok(Box::new(move |doc| {
        let mut question = printed(doc, "question")?;
        if field(doc, "context")?.as_str() != Some("") {
            question = format!("{}\n\n{question}", printed(doc, "context")?);
        }
        let choices = labelled(list(doc, "choices")?, &labels)?;
        Ok(filled(&prompt, &[("", &printed(doc, subject)?), ("", &question), ("", &choices)])?.into())
    }))
}

/// DarijaMMLU's question.
pub(super) fn darija_text(module: &Module) -> Result<MakeField, Message> {
    with_context(module, "subject_darija")
}

/// EgyMMLU's question.
pub(super) fn egyptian_text(module: &Module) -> Result<MakeField, Message> {
    with_context(module, "egy_subject")
}

/// The names of ArabicMMLU's options.
const OPTIONS: [&str; 5] = ["Option 1", "Option 2", "Option 3", "Option 4", "Option 5"];

/// ArabicMMLU's question.
pub(super) fn arabicmmlu_text(module: &Module) -> Result<MakeField, Message> {
    let (prompt, levels) = (module.text("PROMPT = ")?, module.value("level_en = ")?);
    Ok(Box::new(move |doc| {
        let mut about = printed(doc, "Subject")? + " question";
        if !is_nothing(doc, "Level")? {
            let level = levels.get(text(doc, "Level")?).and_then(Value::as_str);
            about = about + " for " + level.ok_or_else(|| Message::from("the level is unknown"))?;
        }
        if !is_nothing(doc, "Country")? {
            about = about + " in " + text(doc, "Country")?;
        }
        let mut question = printed(doc, "Question")?;
        if !is_nothing(doc, "Context")? {
            question = format!("{}\n\n{question}", printed(doc, "Context")?);
        }
        let mut options = Vec::new();
        for (at, name) in OPTIONS.iter().enumerate() {
            if is_nothing(doc, name)? {
                break;
            }
            options.push(format!("{}. {}", capital(at)?, printed(doc, name)?));
        }
        Ok(filled(&prompt, &[("", &about), ("", &question), ("", &options.join("\n"))])?.into())
    }))
}

/// ArabicMMLU's choices: the letters of the options that are there.
pub(super) fn arabicmmlu_choice(doc: &DataRow) -> Result<Value, Message> {
    let mut letters = Vec::new();
    for (at, name) in OPTIONS.iter().enumerate() {
        if !is_nothing(doc, name)? {
            letters.push(capital(at)?.to_string());
        }
    }
    Ok(letters.into())
}

/// AraDICE's ArabicMMLU: its prompt, choices and answer, in the words of a dialect.
pub(super) fn aradice_mmlu(module: &Module, docs: &Docs) -> Result<Docs, Message> {
    let prompt = filled(&module.text("PROMPT = f")?, &[("PROMPT", &module.text("PROMPT = ")?)])?;
    let (labels, letters) = (module.texts("alpa_ar = ")?, module.texts("all_choices = ")?);
    let (levels, countries) = (module.value("level_ar = ")?, module.value("country_ar = ")?);
    let subjects = module.value("subject_ar = ")?;
    let word = |words: &Value, doc: &DataRow, name: &str| {
        let key = text(doc, name)?;
        let found = words.get(key).and_then(Value::as_str).map(str::to_owned);
        found.ok_or_else(|| Message::from(format!("the field {name:?} has the unknown value {key:?}")))
    };
    docs.map(|doc| {
        let mut about = word(&subjects, doc, "Subject")?;
        for (words, name) in [(&levels, "Level"), (&countries, "Country")] {
            if !is_nothing(doc, name)? {
                about = about + " " + &word(words, doc, name)?;
            }
        }
        let mut question = text(doc, "question")?.to_owned();
        if !is_nothing(doc, "context")? {
            question = format!("{}\n\n{question}", printed(doc, "context")?);
        }
        let options = field(doc, "options")?;
        let options = ["A", "B", "C", "D", "E"].map(|letter| options.get(letter).filter(|option| !option.is_null()));
        let options: Vec<Value> = options.into_iter().map_while(|option| option.cloned()).collect();
        let prompt = prompt.replace("[MAIN_META_DATA]", &about).replace("[INPUT]", &question);
        let prompt = prompt.replace("[OPTION]", &labelled(&options, &labels)?);
        let choices: Vec<Value> = letters.iter().take(options.len()).map(|letter| letter.as_str().into()).collect();
        let answer = text(doc, "Answer Key")?;
        let target = ["A", "B", "C", "D", "E"].iter().position(|letter| *letter == answer);
        let target = target.ok_or_else(|| Message::from(format!("the answer {answer:?} is no letter up to E")))?;
        Ok(fields([("prompt", prompt.into()), ("choices", choices.into()), ("target", target.into())]))
    })
}

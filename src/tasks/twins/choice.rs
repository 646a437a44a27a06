//! Twins of multiple-choice tasks: HellaSwag, WinoGrande, COPA, RACE, MuSR, MMLU-Pro, GPQA.
//!
//! Source: lm-evaluation-harness 0.4.13, the modules of the same names; rewritten.

use bitworth_quant::message::Message;
use std::sync::OnceLock;

use bitworth_text::python::{self, literal, re::Regex};
use serde_json::{Value, json};

use super::{Module, list, text};
use crate::random::Random;
use crate::rows::{DataRow, Docs};

/// WikiHow's marks taken out: titles, brackets where `brackets` says so, double spaces once.
fn clean(text: &str, brackets: bool) -> Result<String, Message> {
    static BRACKETS: OnceLock<Option<Regex>> = OnceLock::new();
    let mut text = python::strip(text).replace(" [title]", ". ");
    if brackets {
        let regex = BRACKETS
            .get_or_init(|| Regex::new(r"\[.*?\]").ok())
            .as_ref()
            .ok_or_else(|| Message::from("its pattern does not compile"))?;
        text = regex.sub("", &text, 0).map_err(|e| Message::from(e.to_string()))?;
    }
    Ok(text.replace("  ", " "))
}

/// `query`, `choices` and `gold` of an item of HellaSwag.
pub(super) fn hellaswag(docs: &Docs, _: &str) -> Result<Docs, Message> {
    docs.map(|doc| {
        let question =
            format!("{}: {} {}", text(doc, "activity_label")?, text(doc, "ctx_a")?, python::capitalize(text(doc, "ctx_b")?));
        let mut choices = Vec::new();
        for ending in list(doc, "endings")? {
            choices.push(clean(ending.as_str().ok_or_else(|| Message::from("the endings must be texts"))?, true)?);
        }
        let gold = doc.get("label").map(python::str).unwrap_or_default();
        let gold: i64 = python::strip(&gold).parse().map_err(|_| "the field \"label\" must be a number")?;
        Ok(fields([("query", clean(&question, true)?.into()), ("choices", choices.into()), ("gold", gold.into())]))
    })
}

pub(super) fn fields<const N: usize>(fields: [(&str, Value); N]) -> DataRow {
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The place of the right option.
pub(super) fn winogrande_text(doc: &DataRow) -> Result<Value, Message> {
    match text(doc, "answer")? {
        "1" => Ok(0.into()),
        "2" => Ok(1.into()),
        other => Err(format!("the answer {other:?} is neither 1 nor 2").into()),
    }
}

fn winogrande_parts(doc: &DataRow) -> Result<(&str, &str), Message> {
    text(doc, "sentence")?.split_once('_').ok_or_else(|| Message::from("the sentence has no gap `_`"))
}

/// What stands behind the gap.
pub(super) fn winogrande_target(doc: &DataRow) -> Result<Value, Message> {
    Ok(python::strip(winogrande_parts(doc)?.1).into())
}

/// What stands before the gap, with each option.
pub(super) fn winogrande_choice(doc: &DataRow) -> Result<Value, Message> {
    let (before, _) = winogrande_parts(doc)?;
    Ok(json!([format!("{before}{}", text(doc, "option1")?), format!("{before}{}", text(doc, "option2")?)]))
}

/// The premise without its period, and the word that connects.
pub(super) fn copa_text(doc: &DataRow) -> Result<Value, Message> {
    let word = match text(doc, "question")? {
        "cause" => "because",
        "effect" => "therefore",
        other => return Err(format!("the question {other:?} is neither cause nor effect").into()),
    };
    let mut premise = python::strip(text(doc, "premise")?).chars();
    premise.next_back();
    Ok(format!("{} {word}", premise.as_str()).into())
}

fn copa_option(doc: &DataRow, name: &str) -> Result<String, Message> {
    let option = text(doc, name)?;
    let mut rest = option.chars();
    let first = rest.next().ok_or_else(|| Message::from(format!("the field {name:?} is empty")))?;
    Ok(format!(" {}{}", first.to_lowercase(), rest.as_str()))
}

/// The right option.
pub(super) fn copa_target(doc: &DataRow) -> Result<Value, Message> {
    let is_first = doc.get("label").is_some_and(|label| python::equal(label, &json!(0)));
    Ok(copa_option(doc, if is_first { "choice1" } else { "choice2" })?.into())
}

/// Both options.
pub(super) fn copa_choice(doc: &DataRow) -> Result<Value, Message> {
    Ok(json!([copa_option(doc, "choice1")?, copa_option(doc, "choice2")?]))
}

/// The problems of a passage of RACE, which are a Python literal.
fn race_problems(doc: &DataRow) -> Result<Vec<DataRow>, Message> {
    let wrong = || Message::from("the field \"problems\" must be a list of problems, as Python writes it");
    let Some(Value::Array(problems)) = literal::eval(text(doc, "problems")?) else { return Err(wrong()) };
    let problems: Option<Vec<DataRow>> = problems.into_iter().map(|problem| problem.as_object().cloned()).collect();
    problems.filter(|problems| !problems.is_empty()).ok_or_else(wrong)
}

fn letter(problem: &DataRow) -> Result<usize, Message> {
    let letters = ["A", "B", "C", "D"];
    let answer = text(problem, "answer")?;
    letters
        .iter()
        .position(|letter| *letter == answer)
        .ok_or_else(|| Message::from(format!("the answer {answer:?} is none of A to D")))
}

fn option(problem: &DataRow, at: usize) -> Result<&str, Message> {
    list(problem, "options")?.get(at).and_then(Value::as_str).ok_or_else(|| Message::from(format!("option {at} is missing")))
}

/// The passage with the problems that are answered already, and the last one's question.
pub(super) fn race_text(doc: &DataRow) -> Result<Value, Message> {
    let problems = race_problems(doc)?;
    let mut made = format!("Article: {}\n\n", text(doc, "article")?);
    for problem in &problems[..problems.len() - 1] {
        let question = text(problem, "question")?;
        let answer = option(problem, letter(problem)?)?;
        // A gap at the end is filled in.
        made += &match question.strip_suffix("  _  .") {
            Some(before) => format!("{before} {answer}\n"),
            None => format!("Question: {question}\nAnswer: {answer}\n"),
        };
    }
    Ok((made + text(&problems[problems.len() - 1], "question")?).into())
}

/// The place of the right option of the last problem.
pub(super) fn race_target(doc: &DataRow) -> Result<Value, Message> {
    let problems = race_problems(doc)?;
    Ok(letter(&problems[problems.len() - 1])?.into())
}

/// The options of the last problem.
pub(super) fn race_choice(doc: &DataRow) -> Result<Value, Message> {
    let problems = race_problems(doc)?;
    (0..4).map(|at| option(&problems[problems.len() - 1], at).map(Value::from)).collect()
}

/// The choices, which are a Python literal.
pub(super) fn musr_choice(doc: &DataRow) -> Result<Value, Message> {
    let choices = literal::eval(text(doc, "choices")?);
    choices.filter(Value::is_array).ok_or_else(|| Message::from("the field \"choices\" must be a list, as Python writes it"))
}

/// The story, the question and the numbered choices.
pub(super) fn musr_text(doc: &DataRow) -> Result<Value, Message> {
    let choices = musr_choice(doc)?;
    let lines = choices.as_array().into_iter().flatten().zip(1..).map(|(choice, n)| format!("{n} - {}\n", python::str(choice)));
    Ok(format!("{}\n\n{}\n\n{}\nAnswer:", text(doc, "narrative")?, text(doc, "question")?, lines.collect::<String>()).into())
}

/// The letters of as many choices as there are.
pub(super) fn mmlu_pro_letters(doc: &DataRow) -> Result<Value, Message> {
    (0..list(doc, "options")?.len()).map(|at| capital(at).map(|letter| Value::from(letter.to_string()))).collect()
}

pub(super) fn capital(at: usize) -> Result<char, Message> {
    ('A'..='Z').nth(at).ok_or_else(|| Message::from("there are more choices than letters"))
}

/// The question with lettered choices, all of them.
pub(super) fn mmlu_pro_letters_text(doc: &DataRow) -> Result<Value, Message> {
    let mut made = format!("{}\n", text(doc, "question")?);
    for (at, choice) in list(doc, "options")?.iter().enumerate() {
        made += &format!("{}. {}\n", capital(at)?, python::str(choice));
    }
    Ok((made + "Answer:").into())
}

/// The question with at most ten lettered choices, and how an answer begins.
pub(super) fn mmlu_pro_text(doc: &DataRow) -> Result<Value, Message> {
    let mut made = format!("Question:\n{}\nOptions:\n", text(doc, "question")?);
    for (at, choice) in list(doc, "options")?.iter().take(10).enumerate() {
        made += &format!(
            "{}. {}\n",
            capital(at)?,
            python::strip(choice.as_str().ok_or_else(|| Message::from("the options must be texts"))?)
        );
    }
    Ok((made + "Answer: Let's think step by step.").into())
}

/// A shot's reasoning, without how it begins.
pub(super) fn mmlu_pro_shot_target(doc: &DataRow) -> Result<Value, Message> {
    Ok(text(doc, "cot_content")?.replace("A: Let's think step by step. ", "").into())
}

/// Seed of the order of GPQA's choices. lm-evaluation-harness shuffles without one, so its order differs from run to run.
const GPQA_SEED: u64 = 1234;

/// Four choices in an order of our own, always the same, and the letter of the right one in brackets.
fn gpqa(docs: &Docs, brackets: bool, as_list: bool) -> Result<Docs, Message> {
    let random = std::cell::RefCell::new(Random::new(GPQA_SEED));
    docs.map(|doc| {
        let option = |name: &str| match doc.get(name) {
            None | Some(Value::Null) => Ok(" ".to_owned()),
            Some(_) => clean(text(doc, name)?, brackets),
        };
        let right = option("Correct Answer")?;
        let mut choices =
            vec![option("Incorrect Answer 1")?, option("Incorrect Answer 2")?, option("Incorrect Answer 3")?, right.clone()];
        random.borrow_mut().shuffle(&mut choices);
        let gold = choices.iter().position(|choice| *choice == right).unwrap_or_default();
        let mut made = DataRow::new();
        for (choice, n) in choices.iter().zip(1..) {
            made.insert(format!("choice{n}"), choice.as_str().into());
        }
        if as_list {
            made.insert("choices".to_owned(), choices.into());
        }
        made.insert("answer".to_owned(), format!("({})", capital(gold)?).into());
        Ok(made)
    })
}

/// GPQA, zero-shot.
pub(super) fn gpqa_plain(docs: &Docs, _: &str) -> Result<Docs, Message> {
    gpqa(docs, false, false)
}

/// GPQA with the choices as a list too.
pub(super) fn gpqa_list(docs: &Docs, _: &str) -> Result<Docs, Message> {
    gpqa(docs, false, true)
}

/// GPQA of the leaderboard, which takes brackets out.
pub(super) fn gpqa_brackets(docs: &Docs, _: &str) -> Result<Docs, Message> {
    gpqa(docs, true, false)
}

/// ARC in many languages.
pub(super) fn okapi_arc(docs: &Docs, _: &str) -> Result<Docs, Message> {
    docs.map(|doc| {
        let id = doc.get("id").cloned().ok_or_else(|| Message::from("the field \"id\" is missing"))?;
        let mut choices = Vec::new();
        for name in ["option_a", "option_b", "option_c", "option_d", "option_e"] {
            match doc.get(name).ok_or_else(|| Message::from(format!("the field {name:?} is missing")))? {
                Value::Null => {}
                Value::String(text) if text.is_empty() => {}
                _ => choices.push(Value::from(clean(text(doc, name)?, true)?)),
            }
        }
        let answer = text(doc, "answer")?;
        let gold = ["A", "B", "C", "D", "E"].iter().position(|letter| *letter == answer);
        let gold = gold.ok_or_else(|| Message::from(format!("the answer {answer:?} is no letter up to E")))?;
        let query = format!("Question: {}\nAnswer:", clean(text(doc, "instruction")?, true)?);
        Ok(fields([("id", id), ("query", query.into()), ("choices", choices.into()), ("gold", gold.into())]))
    })
}

/// TruthfulQA in many languages; the module has the questions and answers that stand before each.
pub(super) fn okapi_truthfulqa(module: &Module, docs: &Docs) -> Result<Docs, Message> {
    let before = module.text("QA_PROMPT = ")?;
    docs.map(|doc| {
        let field = |name: &str| doc.get(name).cloned().ok_or_else(|| Message::from(format!("the field {name:?} is missing")));
        let question = match field("question")? {
            Value::Null => " ".to_owned(),
            _ => clean(text(doc, "question")?, true)?,
        };
        Ok(fields([
            ("query", format!("{before}\n\nQ: {question}\nA:").into()),
            ("question", question.into()),
            ("mc1_choices", field("mc1_targets_choices")?),
            ("mc2_choices", field("mc2_targets_choices")?),
            ("mc2_targets", Value::Object(fields([("labels", field("mc2_targets_labels")?)]))),
            ("gold", " ".into()),
        ]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doc(value: Value) -> DataRow {
        value.as_object().unwrap().clone()
    }

    /// Expected: what lm-evaluation-harness 0.4.13 makes of the same rows.
    #[test]
    fn questions_are_lm_evals() {
        let race = doc(json!({
            "article": "A.",
            "problems": "[{'question': 'He  _  .', 'answer': 'B', 'options': ['a', 'ran', 'c', 'd']}, \
                         {'question': 'Why?', 'answer': 'A', 'options': ['x', 'b', 'c', 'd']}, \
                         {'question': 'Who?', 'answer': 'D', 'options': ['1', '2', '3', '4']}]"
        }));
        assert_eq!(race_text(&race).unwrap(), json!("Article: A.\n\nHe ran\nQuestion: Why?\nAnswer: x\nWho?"));
        assert_eq!((race_target(&race).unwrap(), race_choice(&race).unwrap()), (json!(3), json!(["1", "2", "3", "4"])));
        let copa =
            doc(json!({"premise": "It rained. ", "question": "effect", "choice1": "The floor", "choice2": "I ran", "label": 1}));
        assert_eq!(copa_text(&copa).unwrap(), json!("It rained therefore"));
        assert_eq!(copa_target(&copa).unwrap(), json!(" i ran"));
        let pro = doc(json!({"question": "Q?", "options": [" a ", "b"], "cot_content": "A: Let's think step by step. So (B)."}));
        assert_eq!(mmlu_pro_text(&pro).unwrap(), json!("Question:\nQ?\nOptions:\nA. a\nB. b\nAnswer: Let's think step by step."));
        assert_eq!(mmlu_pro_letters_text(&pro).unwrap(), json!("Q?\nA.  a \nB. b\nAnswer:"));
        assert_eq!(mmlu_pro_shot_target(&pro).unwrap(), json!("So (B)."));
        let musr = doc(json!({"narrative": "N", "question": "Q?", "choices": "['x', 'y']"}));
        assert_eq!(musr_text(&musr).unwrap(), json!("N\n\nQ?\n\n1 - x\n2 - y\n\nAnswer:"));
    }

    #[test]
    fn gpqa_has_one_order() {
        let row = doc(
            json!({"Correct Answer": "r ", "Incorrect Answer 1": "a", "Incorrect Answer 2": null, "Incorrect Answer 3": "c"}),
        );
        let docs = Docs::new(vec![row; 8]);
        let made = gpqa_list(&docs, "").unwrap();
        let places: Vec<String> = made.rows.iter().map(|row| python::str(&row["answer"])).collect();
        assert!(places.iter().any(|place| *place != places[0]), "{places:?}");
        for row in &made.rows {
            let at = (python::str(&row["answer"]).as_bytes()[1] - b'A') as usize;
            assert_eq!(row["choices"][at], json!("r"));
        }
        assert_eq!(made, gpqa_list(&docs, "").unwrap());
    }

    /// The letter that is named as the answer stands before the right choice, wherever the order puts it.
    #[test]
    fn gpqas_answer_is_the_right_choice() {
        let row = |n: usize| {
            let text = |kind: &str| format!("{kind} [{n}] answer");
            let names = ["Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"];
            names.map(|name| (name.to_owned(), Value::from(text(name)))).into_iter().collect::<DataRow>()
        };
        let docs = Docs::new((0..24).map(row).collect());
        for (brackets, made) in [(false, gpqa_plain(&docs, "")), (true, gpqa_brackets(&docs, ""))] {
            let made = made.unwrap();
            let mut letters = std::collections::BTreeSet::new();
            for (n, row) in made.rows.iter().enumerate() {
                let answer = python::str(&row["answer"]);
                let choice = ["(A)", "(B)", "(C)", "(D)"].iter().position(|letter| *letter == answer).unwrap() + 1;
                let right = if brackets { "Correct Answer answer".to_owned() } else { format!("Correct Answer [{n}] answer") };
                assert_eq!(row[&format!("choice{choice}")], json!(right), "row {n}");
                letters.insert(answer);
            }
            assert_eq!(letters.len(), 4, "the right choice is at every place");
        }
    }

    #[test]
    fn rows_that_do_not_fit_are_named() {
        let bad = doc(json!({"sentence": "no gap", "answer": "3"}));
        assert!(winogrande_choice(&bad).unwrap_err().to_string().contains("gap"));
        assert!(winogrande_text(&bad).unwrap_err().to_string().contains("neither"));
        assert!(race_text(&doc(json!({"article": "", "problems": "[]"}))).is_err());
        assert!(hellaswag(&Docs::new(vec![bad]), "").unwrap_err().to_string().contains("row 0"));
    }
}

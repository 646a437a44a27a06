//! Twins of Hendrycks' MATH: the answer in the last `\boxed{...}`, and two answers as texts made alike.
//!
//! Source: lm-evaluation-harness 0.4.13, `hendrycks_math/utils.py`; rewritten, its oddities included.

use bitworth_quant::message::Message;
use bitworth_text::python;
use serde_json::{Value, json};

use super::{Figures, text};
use crate::rows::{DataRow, Docs};

/// Where the source's Python would raise an exception and go on with the texts as they are.
struct Raised;

/// `answer` of every document.
pub(super) fn hendrycks_docs(docs: &Docs, _: &str) -> Result<Docs, Message> {
    docs.map(|doc| {
        let answer = boxed(text(doc, "solution")?)?;
        Ok(DataRow::from_iter([("answer".to_owned(), answer.into())]))
    })
}

/// Whether the answer, or what stands in it between dollar signs, is the solution's.
pub(super) fn hendrycks_results(doc: &DataRow, answers: &[Value]) -> Result<Figures, Message> {
    let answer = answers.first().and_then(Value::as_str).ok_or_else(|| Message::from("the answer must be a text"))?;
    let given = match (answer.find('$'), answer.rfind('$')) {
        (Some(first), Some(last)) if first < last => &answer[first + 1..last],
        _ => answer,
    };
    let same = is_same(given, &boxed(text(doc, "solution")?)?);
    Ok(vec![("exact_match".to_owned(), json!(u8::from(same)))])
}

/// What stands in the last box of a solution.
fn boxed(solution: &str) -> Result<String, Message> {
    let none = || Message::from("the solution has no \\boxed{...}");
    if let Some(at) = solution.rfind("\\boxed ") {
        let behind = &solution[at + "\\boxed ".len()..];
        return Ok(behind.split('$').next().unwrap_or_default().to_owned());
    }
    let begin = solution.rfind("\\boxed").or_else(|| solution.rfind("\\fbox")).ok_or_else(none)?;
    let mut open = 0_i64;
    for (at, c) in solution[begin..].char_indices() {
        match c {
            '{' => open += 1,
            '}' => {
                open -= 1;
                if open == 0 {
                    let whole = &solution[begin..=begin + at];
                    return whole
                        .strip_prefix("\\boxed{")
                        .and_then(|rest| rest.strip_suffix('}'))
                        .map(str::to_owned)
                        .ok_or_else(none);
                }
            }
            _ => {}
        }
    }
    Err(none())
}

fn is_same(a: &str, b: &str) -> bool {
    match (alike(a), alike(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// A formula without what does not change its value.
fn alike(formula: &str) -> Result<String, Raised> {
    let mut made = formula.replace('\n', "");
    for (old, new) in [
        ("\\!", ""),
        ("\\\\", "\\"),
        ("tfrac", "frac"),
        ("dfrac", "frac"),
        ("\\left", ""),
        ("\\right", ""),
        ("^{\\circ}", ""),
        ("^\\circ", ""),
        ("\\$", ""),
    ] {
        made = made.replace(old, new);
    }
    let parts: Vec<&str> = made.split("\\text{ ").collect();
    made = match parts.as_slice() {
        [one] => (*one).to_owned(),
        [before, _] => (*before).to_owned(),
        _ => return Err(Raised),
    };
    made = made.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.");
    if made.is_empty() {
        return Ok(made);
    }
    if made.starts_with('.') {
        made.insert(0, '0');
    }
    if let [left, right] = made.split('=').collect::<Vec<_>>().as_slice()
        && left.chars().count() <= 2
    {
        made = (*right).to_owned();
    }
    made = roots(&made)?.replace(' ', "");
    made = fractions(&made)?;
    if made == "0.5" {
        made = "\\frac{1}{2}".to_owned();
    }
    slash(&made)
}

/// `\sqrt3` with braces.
fn roots(formula: &str) -> Result<String, Raised> {
    let mut parts = formula.split("\\sqrt");
    let mut made = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let first = part.chars().next().ok_or(Raised)?;
        match first {
            '{' => made += &format!("\\sqrt{part}"),
            _ => made += &format!("\\sqrt{{{first}}}{}", &part[first.len_utf8()..]),
        }
    }
    Ok(made)
}

/// `\frac12` and `\frac1{72}` with braces.
fn fractions(formula: &str) -> Result<String, Raised> {
    let mut parts = formula.split("\\frac");
    let mut made = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        made += "\\frac";
        let mut chars = part.chars();
        let first = chars.next().ok_or(Raised)?;
        if first == '{' {
            made += part;
            continue;
        }
        let Some(second) = chars.next() else { return Ok(formula.to_owned()) };
        made += &match second {
            '{' => format!("{{{first}}}{{{}", chars.as_str()),
            _ => format!("{{{first}}}{{{second}}}{}", chars.as_str()),
        };
    }
    Ok(made)
}

/// `a/b` of whole numbers as a fraction.
fn slash(formula: &str) -> Result<String, Raised> {
    let [a, b] = *formula.split('/').collect::<Vec<_>>().as_slice() else { return Ok(formula.to_owned()) };
    // What Python's `int` reads, and whether it writes it in the same way.
    let number = |text: &str| -> Result<bool, Raised> {
        let digits = python::strip(text);
        let digits = digits.strip_prefix(['+', '-']).unwrap_or(digits);
        let sound = !digits.is_empty()
            && digits.chars().all(|c| c.is_ascii_digit() || c == '_')
            && !digits.starts_with('_')
            && !digits.ends_with('_')
            && !digits.contains("__");
        if !sound {
            return Err(Raised);
        }
        let plain = text.strip_prefix('-').unwrap_or(text);
        let zero = digits.chars().all(|c| matches!(c, '0' | '_'));
        Ok(plain == digits && !digits.contains('_') && if zero { text == "0" } else { !digits.starts_with('0') })
    };
    let both = number(a)? & number(b)?;
    Ok(if both { format!("\\frac{{{a}}}{{{b}}}") } else { formula.to_owned() })
}

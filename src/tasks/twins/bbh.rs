//! Twins of BIG-Bench Hard's filters: what of a free answer counts.
//!
//! Source: lm-evaluation-harness 0.4.13, `bbh/zeroshot/utils.py`, and word2number 1.1, `w2n.py`; rewritten.

use bitworth_quant::message::Message;
use std::sync::Arc;

use bitworth_text::python::{self, re::Found, re::Regex};
use serde_json::{Map, Value};

use super::text;
use crate::filters::{Filter, Ignored, MultiChoice, Pattern, each, known};
use crate::rows::DataRow;

/// A letter in brackets, or the text of an option that the question lists behind such letters.
pub(super) fn multi_choice(options: &Map<String, Value>) -> Result<Box<dyn Filter>, Message> {
    Ok(Box::new(MultiChoice::new(options, |doc| {
        let regex = Regex::new(r"\([A-Z]\)([^\n^(]*)").map_err(|e| Message::from(e.to_string()))?;
        let found = regex.findall(text(doc, "input")?).map_err(|e| Message::from(e.to_string()))?;
        let one = |found| match found {
            Found::One(text) => python::strip(&text).to_owned(),
            Found::Groups(groups) => groups.concat(),
        };
        Ok(found.into_iter().map(one).collect())
    })?))
}

/// One value for every pattern.
struct Mapped {
    whole: Pattern,
    values: Vec<(Regex, Value)>,
    ignored: Ignored,
}

/// The value of the first pattern that the chosen match fits.
pub(super) fn map(options: &Map<String, Value>) -> Result<Box<dyn Filter>, Message> {
    let own = ["regex_pattern_to_value", "group_select", "fallback", "ignore_case", "ignore_punctuation", "regexes_to_ignore"];
    known(options, &own)?;
    let pairs = options.get("regex_pattern_to_value").and_then(Value::as_object).cloned().unwrap_or_default();
    let all = pairs.keys().map(String::as_str).collect::<Vec<_>>().join("|");
    let regex = |(pattern, value): (String, Value)| Ok((Regex::new(&pattern).map_err(|e| Message::from(e.to_string()))?, value));
    Ok(Box::new(Mapped {
        whole: Pattern::of(&all, options)?,
        values: pairs.into_iter().map(regex).collect::<Result<_, Message>>()?,
        ignored: Ignored::new(options)?,
    }))
}

impl Filter for Mapped {
    fn apply(&self, answers: Vec<Value>, _: &[Arc<DataRow>]) -> Result<Vec<Value>, Message> {
        each(answers, |_, item| {
            let answer = self.ignored.apply(item.as_str().ok_or_else(|| Message::from("an answer is no text"))?)?;
            let whole = self.whole.find(self.whole.own(), &answer)?.filter(|found| !found.is_empty());
            if let Some(whole) = whole {
                let whole = self.ignored.apply(&whole)?;
                for (regex, value) in &self.values {
                    if self.whole.find(regex, &whole)?.is_some_and(|found| !found.is_empty()) {
                        return Ok(value.clone());
                    }
                }
            }
            Ok(self.whole.fallback.clone())
        })
    }
}

/// Numbers: the chosen match of a pattern, else a number in English words.
struct Numbers {
    pattern: Pattern,
    words: Regex,
}

/// For tasks that count.
pub(super) fn number_parse(options: &Map<String, Value>) -> Result<Box<dyn Filter>, Message> {
    let own = ["regex_pattern", "group_select", "fallback", "ignore_case", "ignore_punctuation", "regexes_to_ignore"];
    known(options, &own)?;
    // Words of numbers with what may join them. As in the source, a bare "six", "seven", "eight" or "nine" is none at the end.
    let few = "zero|one|two|three|four|five";
    let stems = "(?:twen|thir|for|fif|six|seven|nine)";
    let many = "ten|eleven|twelve|fourteen|hundred|thousand|(?:m|b|tr)illion";
    let first = format!("{few}|{stems}(?:teen|ty)|eight(?:|een|y)|{many}");
    let inner = format!(r"{few}|{stems}(?:|teen|ty)|eight(?:een|y)|{many}|(?![\r\n])\s|,|and|&");
    let last = format!("{few}|{stems}(?:teen|ty)|eight(?:een|y)|{many}");
    let words = Regex::new(&format!("((?:(?:{first})(?:{inner})+)?(?:{last}))")).map_err(|e| Message::from(e.to_string()))?;
    Ok(Box::new(Numbers { pattern: Pattern::new(options)?, words }))
}

impl Filter for Numbers {
    fn apply(&self, answers: Vec<Value>, _: &[Arc<DataRow>]) -> Result<Vec<Value>, Message> {
        each(answers, |_, item| {
            let answer = item.as_str().ok_or_else(|| Message::from("an answer is no text"))?;
            let found = self.pattern.find(self.pattern.own(), answer)?.filter(|found| !found.is_empty());
            if let Some(found) = found {
                return Ok(found.into());
            }
            Ok(match self.pattern.find(&self.words, &answer.to_lowercase())? {
                Some(words) => number_of(&words)
                    .ok_or_else(|| Message::from(format!("word2number, and lm-evaluation-harness with it, fails on {words:?}")))?
                    .to_string()
                    .into(),
                None => self.pattern.fallback.clone(),
            })
        })
    }
}

/// Words that word2number knows, from zero to nineteen, then tens, then greater ones.
const NUMBERS: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const HUNDRED: i64 = 100;
/// The words that part a number, greatest first.
const PARTS: [(&str, i64); 3] = [("billion", 1_000_000_000), ("million", 1_000_000), ("thousand", 1000)];

fn value_of(word: &str) -> Option<i64> {
    let small = NUMBERS.iter().position(|known| *known == word);
    let tens = TENS.iter().position(|known| *known == word).map(|at| 10 * (at + 2));
    let great = PARTS.iter().find(|(known, _)| *known == word).map(|(_, value)| *value);
    small.or(tens).map(|value| value as i64).or(great).or((word == "hundred").then_some(HUNDRED))
}

/// A number of words without thousands, as word2number counts: of more than four words the first.
fn below_thousand(numbers: &[i64]) -> Option<i64> {
    match numbers {
        [a, b, c, d] => Some(a * b + c + d),
        [a, b, c] => Some(a * b + c),
        [a, b] if numbers.contains(&HUNDRED) => Some(a * b),
        [a, b] => Some(a + b),
        _ => numbers.first().copied(),
    }
}

/// `w2n.word_to_num`; `None` where it fails. Words that it does not know, "trillion" among them, are passed over.
fn number_of(text: &str) -> Option<i64> {
    let words = text.split(python::is_space);
    let numbers: Vec<i64> = words.filter_map(value_of).collect();
    let is_part = |value: &&i64| PARTS.iter().any(|(_, part)| part == *value);
    let parts: Vec<i64> = numbers.iter().filter(is_part).copied().collect();
    // Each part once, greater ones first.
    if numbers.is_empty() || parts.windows(2).any(|pair| pair[0] <= pair[1]) {
        return None;
    }
    if let [one] = numbers[..] {
        return Some(one);
    }
    let (mut sum, mut begin, mut rest) = (0, 0, numbers.as_slice());
    for part in parts {
        let at = begin + numbers[begin..].iter().position(|value| *value == part)?;
        sum += below_thousand(&numbers[begin..at])? * part;
        begin = at + 1;
        // Behind a part that ends the number, what stood behind the one before counts once more; such is the source.
        rest = match numbers.get(begin..) {
            Some(behind @ [_, ..]) => behind,
            _ if rest.len() == numbers.len() => &[],
            _ => rest,
        };
    }
    Some(sum + if rest.is_empty() { 0 } else { below_thousand(rest)? })
}

/// The words of the question's list, in the order in which the answer names them last.
struct WordSort;

/// For the task that sorts words.
pub(super) fn word_sort(options: &Map<String, Value>) -> Result<Box<dyn Filter>, Message> {
    known(options, &[])?;
    Ok(Box::new(WordSort))
}

impl Filter for WordSort {
    fn apply(&self, answers: Vec<Value>, docs: &[Arc<DataRow>]) -> Result<Vec<Value>, Message> {
        each(answers, |at, item| {
            let doc = docs.get(at).ok_or_else(|| Message::from("there are more answers than documents"))?;
            let input = text(doc, "input")?.split("List:").nth(1).ok_or_else(|| Message::from("the input has no \"List:\""))?;
            // The words stand in the pattern as they are, as in the source.
            let words: Vec<String> =
                input.split(python::is_space).filter(|word| !word.is_empty()).map(|word| format!(r"\b{word}\b")).collect();
            let regex = Regex::new(&words.join("|")).map_err(|e| Message::from(e.to_string()))?;
            let found = regex
                .findall(item.as_str().ok_or_else(|| Message::from("an answer is no text"))?)
                .map_err(|e| Message::from(e.to_string()))?;
            let mut last: Vec<String> = Vec::new();
            for found in found.into_iter().rev() {
                let word = match found {
                    Found::One(text) => text,
                    Found::Groups(groups) => groups.concat(),
                };
                if !last.contains(&word) {
                    last.push(word);
                }
            }
            last.reverse();
            Ok(last.join(" ").into())
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(make: crate::filters::Make, options: Value, input: &str, pairs: &[(&str, &str)]) {
        let filter = make(options.as_object().unwrap()).unwrap();
        let doc = Arc::new(DataRow::from_iter([("input".to_owned(), json!(input))]));
        for (answer, expected) in pairs {
            let made = filter.apply(vec![json!([answer])], &[Arc::clone(&doc)]).unwrap();
            assert_eq!(made, [json!([expected])], "{answer}");
        }
    }

    /// Expected: the classes of lm-evaluation-harness 0.4.13 on the same answers.
    #[test]
    fn answers_are_taken_as_lm_eval_takes_them() {
        let letters =
            json!({"group_select": 0, "ignore_case": true, "ignore_punctuation": true, "regex_pattern": "(\\([A-Z]\\))"});
        let input = "Which?\nOptions:\n(A) 12/11/1937\n(B) the cat";
        check(
            multi_choice,
            letters,
            input,
            &[("so (B).", "(B)"), ("The Cat", "(B)"), ("is: A", "(A)"), ("12/11/1937!", "(A)"), ("?", "[invalid]")],
        );
        let pairs = json!({"\\b(no|invalid)\\b": "No", "\\b(yes|ok)\\b": "Yes"});
        let values = json!({"group_select": -1, "ignore_case": true, "regex_pattern_to_value": pairs});
        check(map, values, "", &[("Yes or no", "No"), ("YES!", "Yes"), ("maybe", "[invalid]")]);
        let numbers = json!({"group_select": 0, "regex_pattern": "([-0-9]+)"});
        let pairs = [
            ("It is 12 and 3.", "12"),
            ("I have twelve apples", "12"),
            ("two thousand and forty nine", "2040"),
            ("Twenty three", "23"),
            ("six", "[invalid]"),
            ("fourteen", "4"),
            ("two million three hundred thousand and one", "2300001"),
            ("three trillion", "3"),
            ("one one one one one", "1"),
            ("seventy seven hundred", "590"),
            ("forty two billion", "42000000000"),
            ("two million three thousand", "2004003"),
            ("twenty\ntwo", "20"),
            ("twentyone", "20"),
            ("ten hundred ten", "1010"),
        ];
        check(number_parse, numbers.clone(), "", &pairs);
        let filter = number_parse(numbers.as_object().unwrap()).unwrap();
        for answer in ["thousand five", "thousand thousand", "one thousand one million"] {
            assert!(filter.apply(vec![json!([answer])], &[]).unwrap_err().to_string().contains("word2number"), "{answer}");
        }
        check(word_sort, json!({}), "Sort. List: b a c", &[("first b, then a b c", "a b c"), ("none", "")]);
    }
}

//! `exact_match`: whether two texts are the same, but for what is to be ignored.
//!
//! Source: lm-evaluation-harness 0.4.13, `exact_match_hf_evaluate`.

use bitworth_quant::message::Message;
use bitworth_text::python::re::Regex;
use serde_json::{Map, Value};

/// Python's `string.punctuation`.
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// What is ignored.
#[derive(Debug, Default)]
pub struct ExactMatch {
    regexes: Vec<Regex>,
    case: bool,
    punctuation: bool,
    numbers: bool,
}

impl ExactMatch {
    /// From the options of a metric.
    ///
    /// # Errors
    /// An unknown option, one of the wrong kind, or a pattern that does not compile.
    pub fn new(options: &Map<String, Value>) -> Result<Self, Message> {
        let mut made = Self::default();
        for (key, value) in options {
            let flag = value.as_bool().ok_or_else(|| Message::from(format!("{key} must be true or false")));
            match key.as_str() {
                "regexes_to_ignore" => {
                    let patterns = value.as_array().ok_or_else(|| Message::from("regexes_to_ignore must be a list"))?;
                    let regex = |pattern: &Value| {
                        Regex::new(pattern.as_str().unwrap_or_default()).map_err(|e| Message::from(e.to_string()))
                    };
                    made.regexes = patterns.iter().map(regex).collect::<Result<_, _>>()?;
                }
                "ignore_case" => made.case = flag?,
                "ignore_punctuation" => made.punctuation = flag?,
                "ignore_numbers" => made.numbers = flag?,
                _ => return Err(format!("exact_match has no option {key:?}").into()),
            }
        }
        Ok(made)
    }

    /// Whether they are the same.
    ///
    /// # Errors
    /// A pattern that takes too much work.
    pub fn is_match(&self, reference: &str, answer: &str) -> Result<bool, Message> {
        Ok(self.bare(reference)? == self.bare(answer)?)
    }

    fn bare(&self, text: &str) -> Result<String, Message> {
        let mut text = text.to_owned();
        for regex in &self.regexes {
            text = regex.sub("", &text, 0).map_err(|e| Message::from(e.to_string()))?;
        }
        if self.case {
            text = text.to_lowercase();
        }
        text.retain(|c| !(self.punctuation && PUNCTUATION.contains(c) || self.numbers && c.is_ascii_digit()));
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Expected: lm-evaluation-harness 0.4.13 on the same texts.
    #[test]
    fn what_is_to_be_ignored_is() {
        let gsm8k = json!({"regexes_to_ignore": [",", "\\$", "(?s).*#### ", "\\.$"], "ignore_case": true});
        let gsm8k = ExactMatch::new(gsm8k.as_object().unwrap()).unwrap();
        assert!(gsm8k.is_match("so\nit is\n#### 1,200", "$1200.").unwrap());
        assert!(!gsm8k.is_match("#### 12", "12.5").unwrap());
        let all = json!({"ignore_punctuation": true, "ignore_numbers": true, "ignore_case": true});
        assert!(ExactMatch::new(all.as_object().unwrap()).unwrap().is_match("It's 5!", "its ").unwrap());
        assert!(!ExactMatch::default().is_match("a", "A").unwrap());
        assert!(ExactMatch::new(json!({"x": true}).as_object().unwrap()).unwrap_err().to_string().contains("\"x\""));
    }
}

//! Metrics of translations over a whole task: BLEU and chrF as sacrebleu computes them by default. A figure is a list of the
//! right translation (or several) and the given one. Absent: other tokenizers than 13a; TER stands in [`super::ter`].
//!
//! Source: sacrebleu 2.6, `metrics/bleu.py`, `metrics/chrf.py`, `tokenizers/tokenizer_13a.py`; K. Papineni 2002, M. Popović 2015.

use std::collections::HashMap;
use std::sync::OnceLock;

use bitworth_quant::message::Message;
use bitworth_text::python::{self, re::Regex};
use serde_json::Value;

/// N-grams of words that BLEU counts.
const WORD_ORDER: usize = 4;
/// N-grams of characters that chrF counts.
const CHAR_ORDER: usize = 6;
/// How much more recall weighs than precision in chrF, squared.
const BETA_SQUARED: f64 = 4.0;
/// Python's `string.punctuation`.
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// The right translations and the given one.
pub(super) fn pair(value: &Value) -> Result<(Vec<&str>, &str), Message> {
    let wrong = || Message::from(format!("{} is no pair of a right and a given text", python::repr(value)));
    let [gold, given] = value.as_array().map(Vec::as_slice).ok_or_else(wrong)? else { return Err(wrong()) };
    let golds = match gold {
        Value::Array(several) => several.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
        one => one.as_str().map(|one| vec![one]),
    };
    let given = match given {
        Value::Array(one) if one.len() == 1 => one[0].as_str(),
        one => one.as_str(),
    };
    match (golds, given) {
        (Some(golds), Some(given)) if !golds.is_empty() => Ok((golds, given)),
        _ => Err(wrong()),
    }
}

/// The words of a text by NIST's rules for mteval-v13a.
fn words_13a(text: &str) -> Result<Vec<String>, Message> {
    static RULES: OnceLock<Result<Vec<(Regex, &str)>, Message>> = OnceLock::new();
    let rules = RULES.get_or_init(|| {
        let rules = [
            (r"([\{-\~\[-\` -\&\(-\+\:-\@\/])", r" \1 "),
            (r"([^0-9])([\.,])", r"\1 \2 "),
            (r"([\.,])([^0-9])", r" \1 \2"),
            (r"([0-9])(-)", r"\1 \2 "),
        ];
        rules
            .into_iter()
            .map(|(pattern, new)| Ok((Regex::new(pattern).map_err(|e| Message::from(e.to_string()))?, new)))
            .collect()
    });
    let rules = rules.as_ref().map_err(Clone::clone)?;
    let mut line = python::rstrip(text).replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    for (entity, c) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        line = line.replace(entity, c);
    }
    line = format!(" {line} ");
    for (regex, new) in rules {
        line = regex.sub(new, &line, 0).map_err(|e| Message::from(e.to_string()))?;
    }
    Ok(line.split(python::is_space).filter(|word| !word.is_empty()).map(str::to_owned).collect())
}

fn counts<T: std::hash::Hash + Eq + Clone>(items: &[T], order: usize) -> HashMap<&[T], usize> {
    let mut counts = HashMap::new();
    for gram in items.windows(order) {
        *counts.entry(gram).or_default() += 1;
    }
    counts
}

/// BLEU of all texts together, in percent, smoothed as sacrebleu smooths (`exp`).
pub(super) fn bleu(values: &[Value]) -> Result<f64, Message> {
    let (mut right, mut all) = ([0_usize; WORD_ORDER], [0_usize; WORD_ORDER]);
    let (mut given_length, mut gold_length) = (0, 0);
    for value in values {
        let (golds, given) = pair(value)?;
        let given = words_13a(given)?;
        let golds = golds.into_iter().map(words_13a).collect::<Result<Vec<_>, _>>()?;
        given_length += given.len();
        gold_length +=
            golds.iter().map(Vec::len).min_by_key(|length| (length.abs_diff(given.len()), *length)).unwrap_or_default();
        for n in 1..=WORD_ORDER {
            let mut most: HashMap<&[String], usize> = HashMap::new();
            for gold in &golds {
                for (gram, count) in counts(gold, n) {
                    let own = most.entry(gram).or_default();
                    *own = count.max(*own);
                }
            }
            for (gram, count) in counts(&given, n) {
                right[n - 1] += count.min(most.get(gram).copied().unwrap_or_default());
                all[n - 1] += count;
            }
        }
    }
    if right.iter().all(|count| *count == 0) {
        return Ok(0.0);
    }
    let mut smoothing = 1.0;
    let mut sum = 0.0;
    for n in 0..WORD_ORDER {
        let precision = match (all[n], right[n]) {
            (0, _) => 0.0,
            (all, 0) => {
                smoothing *= 2.0;
                100.0 / (smoothing * all as f64)
            }
            (all, right) => 100.0 * right as f64 / all as f64,
        };
        // sacrebleu's logarithm of 0.
        sum += if precision == 0.0 { -9_999_999_999.0 } else { f64::ln(precision) };
    }
    let (given, gold) = (given_length as f64, gold_length as f64);
    let brevity = if given < gold { (1.0 - gold / given).exp() } else { 1.0 };
    Ok(brevity * (sum / WORD_ORDER as f64).exp())
}

/// N-grams of one order in the given text (none where the right one has none), in the right one, and in both.
type Shared = [usize; 3];

/// Counts of characters' n-grams without white space, then of words' where `word_order` asks for them.
fn shared(given: &str, gold: &str, word_order: usize) -> Vec<Shared> {
    let bare = |text: &str| text.chars().filter(|c| !python::is_space(*c)).collect::<Vec<char>>();
    let (given_chars, gold_chars) = (bare(given), bare(gold));
    let (given_words, gold_words) = (parted(given), parted(gold));
    let chars = (1..=CHAR_ORDER).map(|n| in_both(&counts(&given_chars, n), &counts(&gold_chars, n)));
    let words = (1..=word_order).map(|n| in_both(&counts(&given_words, n), &counts(&gold_words, n)));
    chars.chain(words).collect()
}

fn in_both<T: std::hash::Hash + Eq>(given: &HashMap<&[T], usize>, gold: &HashMap<&[T], usize>) -> Shared {
    let both = given.iter().map(|(gram, count)| *count.min(gold.get(gram).unwrap_or(&0))).sum();
    // Where the right text is too short for n-grams of this order, those of the given text do not count either.
    let all = if gold.is_empty() { 0 } else { given.values().sum() };
    [all, gold.values().sum(), both]
}

/// The words of a text, with a punctuation mark at an end as a word of its own.
fn parted(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for word in text.split(python::is_space).filter(|word| !word.is_empty()) {
        let chars: Vec<char> = word.chars().collect();
        let is_mark = |c: char| PUNCTUATION.contains(c);
        match chars.as_slice() {
            [rest @ .., last] if chars.len() > 1 && is_mark(*last) => words.extend([rest.iter().collect(), last.to_string()]),
            [first, rest @ ..] if chars.len() > 1 && is_mark(*first) => words.extend([first.to_string(), rest.iter().collect()]),
            _ => words.push(word.to_owned()),
        }
    }
    words
}

/// The F-score of counts, in percent: precision and recall are means over the orders that occur.
fn f_score(orders: &[Shared]) -> f64 {
    let (mut precision, mut recall, mut count) = (0.0, 0.0, 0.0);
    for [given, gold, both] in orders.iter().filter(|[given, gold, _]| *given > 0 && *gold > 0) {
        precision += *both as f64 / *given as f64;
        recall += *both as f64 / *gold as f64;
        count += 1.0;
    }
    if count == 0.0 || precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / count, recall / count);
    100.0 * (1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
}

fn chrf_of(values: &[Value], word_order: usize) -> Result<f64, Message> {
    let mut sums: Vec<Shared> = vec![[0; 3]; CHAR_ORDER + word_order];
    for value in values {
        let (golds, given) = pair(value)?;
        // Of several right texts the one that fits best counts, the first among equals.
        let mut best: Option<(f64, Vec<Shared>)> = None;
        for gold in golds {
            let own = shared(given, gold, word_order);
            let score = f_score(&own);
            if best.as_ref().is_none_or(|(most, _)| score > *most) {
                best = Some((score, own));
            }
        }
        for (sum, own) in sums.iter_mut().zip(best.map(|(_, own)| own).unwrap_or_default()) {
            sum.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
        }
    }
    Ok(f_score(&sums))
}

/// chrF: characters alone.
pub(super) fn chrf(values: &[Value]) -> Result<f64, Message> {
    chrf_of(values, 0)
}

/// chrF++: characters, and words and pairs of words.
pub(super) fn chrf_plus(values: &[Value]) -> Result<f64, Message> {
    chrf_of(values, 2)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Pairs of right and given texts.
    fn texts() -> Vec<Value> {
        PAIRS.iter().map(|(gold, given)| json!([gold, given])).collect()
    }

    const PAIRS: [(&str, &str); 5] = [
        ("The cat sat on the mat, quietly.", "The cat is on the mat quietly ."),
        ("It costs $1,234.50 (about 10-20 % more)!", "It cost 1,234.50 $, about 10-20% more."),
        ("Grüße aus Köln &amp; Bonn", "Grüße von Köln & Bonn"),
        ("\"Well,\" he said.", "Well he said"),
        ("No overlap here", "something else entirely different"),
    ];

    #[track_caller]
    fn check(of: fn(&[Value]) -> Result<f64, Message>, values: &[Value], expected: f64) {
        let found = of(values).unwrap();
        assert!((found - expected).abs() < 1e-9, "{found}, sacrebleu {expected}");
    }

    /// Expected: sacrebleu 2.6 by way of lm-evaluation-harness 0.4.13's `bleu`, `chrf`, `chrfpp`.
    #[test]
    fn translations_are_scored_as_sacrebleu_scores_them() {
        check(bleu, &texts(), 30.118999954443165);
        check(bleu, &texts()[..1], 26.66354429712651);
        check(bleu, &texts()[4..], 0.0);
        check(bleu, &[json!([["a b c d e", "a b c d x y"], "a b c d y"])], 70.71067811865478);
        check(chrf, &texts(), 50.28205060849138);
        check(chrf_plus, &texts(), 47.87895357105378);
        check(chrf, &[json!([["abc", "xyz"], "xyw"])], 38.888888888888886);
        check(chrf, &[json!(["a", ""])], 0.0);
        assert!(bleu(&[json!([1, "a"])]).is_err());
    }

    /// Expected: sacrebleu 2.6 by way of lm-evaluation-harness 0.4.13's `bleu`, `chrf`, `chrfpp`. Right texts are too short for
    /// n-grams of an order beside longer ones, are empty, or are several.
    #[test]
    fn short_texts_beside_long_ones_are_scored_as_sacrebleu_scores_them() {
        let table = json!([
            [[["yes", "absolutely yes"], ["hello there", "hello there"]], 0.0, 94.07324196809705, 94.92557587753937],
            [[["yes", "absolutely yes"]], 0.0, 49.294117647058826, 62.13364595545136],
            [[["", "something"], ["hello there", "hello"]], 0.0, 40.69078647589538, 43.23691564081263],
            [[["hello there", ""], ["a", "a b c d e f g"]], 6.567274736060395, 9.80392156862745, 19.337016574585633],
            [[["日本語", "日本語 です"], ["Ünïcödé, ja!", "unicode ja"]], 0.0, 15.357142857142856, 16.753585990971313],
            [
                [["one", "(one) two, three"], ["two words", "two words"], ["a b", "c d e f"]],
                10.967283441270773,
                89.21932838201005,
                76.44348506928645
            ],
            [[[["ab", "abcdefgh"], "abcdef"], [["x y z", "x"], "x y"]], 0.0, 64.91253124755877, 62.73501827883652],
            [[[["", "no"], "nothing"], [["hello there", "hello"], "hello there"]], 0.0, 97.71754636233952, 94.15480751687649],
        ]);
        for row in table.as_array().unwrap() {
            let values = row[0].as_array().unwrap();
            for (of, place) in [(bleu as fn(&[Value]) -> Result<f64, Message>, 1), (chrf, 2), (chrf_plus, 3)] {
                check(of, values, row[place].as_f64().unwrap());
            }
        }
    }
}

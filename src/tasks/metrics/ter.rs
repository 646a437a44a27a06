//! TER, the translation edit rate, over a whole task, as sacrebleu computes it by default: small letters, words between white
//! space, edits of words and shifts of phrases, in percent of the right texts' words. A figure is a list of the right
//! translation (or several) and the given one. Absent: tercom's normalization, its options for punctuation and Asian scripts.
//!
//! Source: M. Snover 2006; sacrebleu 2.6, `metrics/ter.py`, `metrics/lib_ter.py`, whose limits stand in for tercom's.

use std::collections::HashMap;

use bitworth_quant::message::Message;
use bitworth_text::python;
use serde_json::{Value, json};

use super::number;
use super::translation::pair;

/// The longest phrase that is shifted.
const MAX_SHIFT_WORDS: usize = 10;
/// The farthest that a phrase stands from where it is shifted to.
const MAX_SHIFT_DISTANCE: usize = 50;
/// Cells on either side of the diagonal that are computed.
const BEAM: usize = 25;
/// Shifts that are tried for one pair of texts.
const MAX_TRIED: usize = 1000;
/// The cost of a cell that is not computed.
const FAR: u32 = u32::MAX / 2;

/// What makes a cell of the matrix from an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    /// The words are the same.
    Keep,
    /// Another word.
    Replace,
    /// A word of the right text is missing.
    Insert,
    /// A word of the given text is too many.
    Delete,
}

type Cell = (u32, Edit);

/// Edit distances of one right text from given texts of one length. Rows that a text shares with the one before are kept.
struct Distance<'a> {
    gold: &'a [u32],
    given: Vec<u32>,
    rows: Vec<Vec<Cell>>,
}

impl<'a> Distance<'a> {
    fn new(gold: &'a [u32]) -> Self {
        let first = (0..=gold.len()).map(|j| (j as u32, Edit::Insert)).collect();
        Self { gold, given: Vec::new(), rows: vec![first] }
    }

    /// Edits that make the right text of the given one.
    fn of(&mut self, given: &[u32]) -> u32 {
        let same = self.given.iter().zip(given).take_while(|(a, b)| a == b).count();
        self.rows.truncate(same + 1);
        let ratio = if given.is_empty() { 1.0 } else { self.gold.len() as f64 / given.len() as f64 };
        // A wider band where texts differ so much in length that neighbouring rows would not meet.
        let beam = if (BEAM as f64) < ratio / 2.0 { (ratio / 2.0 + BEAM as f64).ceil() as usize } else { BEAM };
        for i in same + 1..=given.len() {
            let diagonal = (i as f64 * ratio).floor() as usize;
            let end = if i == given.len() { self.gold.len() + 1 } else { (self.gold.len() + 1).min(diagonal + beam) };
            let above = &self.rows[i - 1];
            let mut row = vec![(FAR, Edit::Replace); self.gold.len() + 1];
            for j in diagonal.saturating_sub(beam)..end {
                if j == 0 {
                    row[0] = (above[0].0 + 1, Edit::Delete);
                    continue;
                }
                let (cost, edit) = if given[i - 1] == self.gold[j - 1] { (0, Edit::Keep) } else { (1, Edit::Replace) };
                // The first of equals counts.
                let ways = [(above[j - 1].0 + cost, edit), (above[j].0 + 1, Edit::Delete), (row[j - 1].0 + 1, Edit::Insert)];
                for way in ways {
                    if row[j].0 > way.0 {
                        row[j] = way;
                    }
                }
            }
            self.rows.push(row);
        }
        self.given = given.to_vec();
        self.rows[given.len()][self.gold.len()].0
    }

    /// How the two texts of the last call lie beside each other.
    fn alignment(&self) -> Alignment {
        let (mut i, mut j) = (self.given.len(), self.gold.len());
        let mut edits = Vec::with_capacity(i + j);
        while i > 0 || j > 0 {
            let edit = self.rows[i][j].1;
            edits.push(edit);
            i = i.saturating_sub(usize::from(edit != Edit::Insert));
            j = j.saturating_sub(usize::from(edit != Edit::Delete));
        }
        let mut made = Alignment::default();
        for edit in edits.into_iter().rev() {
            let wrong = edit != Edit::Keep;
            if edit != Edit::Insert {
                made.given_wrong.push(wrong);
            }
            if edit != Edit::Delete {
                made.behind.push(made.given_wrong.len());
                made.gold_wrong.push(wrong);
            }
        }
        made
    }
}

#[derive(Default)]
struct Alignment {
    /// For every word of the right text: how many given words stand up to its place.
    behind: Vec<usize>,
    gold_wrong: Vec<bool>,
    given_wrong: Vec<bool>,
}

/// The words with those of a phrase moved to a place between words.
fn shifted(words: &[u32], start: usize, count: usize, place: usize) -> Vec<u32> {
    let phrase = &words[start..start + count];
    match place {
        _ if place < start => [&words[..place], phrase, &words[place..start], &words[start + count..]].concat(),
        _ if place > start + count => [&words[..start], &words[start + count..place], phrase, &words[place..]].concat(),
        // A place within the phrase counts from its end.
        _ => {
            let behind = (count + place).min(words.len());
            [&words[..start], &words[start + count..behind], phrase, &words[behind..]].concat()
        }
    }
}

/// Words of one text that stand in the other: where in the given text, where in the right one, how many.
fn phrases(given: &[u32], gold: &[u32]) -> Vec<(usize, usize, usize)> {
    let mut found = Vec::new();
    for start in 0..given.len() {
        for other in (0..gold.len()).filter(|other| other.abs_diff(start) <= MAX_SHIFT_DISTANCE) {
            let same = given[start..].iter().zip(&gold[other..]).take(MAX_SHIFT_WORDS).take_while(|(a, b)| a == b).count();
            found.extend((1..=same).map(|count| (start, other, count)));
        }
    }
    found
}

/// The shift that spares the most edits, what it spares, and the words after it; counts what it tries.
fn best_shift(given: &[u32], distance: &mut Distance, tried: &mut usize) -> Option<(i64, Vec<u32>)> {
    let before = distance.of(given);
    let alignment = distance.alignment();
    let mut best = None;
    for (start, other, count) in phrases(given, distance.gold) {
        let right = |wrong: &[bool], at: usize| !wrong[at..at + count].contains(&true);
        if right(&alignment.given_wrong, start) || right(&alignment.gold_wrong, other) {
            continue;
        }
        // The place of a word is the one before what stands up to it; shifts within the phrase are none.
        if (start + 1..=start + count).contains(&alignment.behind[other]) {
            continue;
        }
        let mut last = None;
        // First before the phrase's own place, then behind each of its words.
        for step in 0..=count {
            let place = match (other + step).checked_sub(1) {
                None => 0,
                Some(at) => match alignment.behind.get(at) {
                    Some(place) => *place,
                    None => break,
                },
            };
            if last == Some(place) {
                continue;
            }
            last = Some(place);
            let words = shifted(given, start, count, place);
            let spared = i64::from(before) - i64::from(distance.of(&words));
            *tried += 1;
            // More is better; then longer phrases, then earlier ones, then earlier places.
            let rank = (spared, count, std::cmp::Reverse(start), std::cmp::Reverse(place));
            if best.as_ref().is_none_or(|(most, _)| rank > *most) {
                best = Some((rank, words));
            }
        }
        if *tried >= MAX_TRIED {
            break;
        }
    }
    best.map(|((spared, ..), words)| (spared, words))
}

/// Edits and shifts that make the right text of the given one.
fn edits(given: &[u32], gold: &[u32]) -> usize {
    if gold.is_empty() {
        return given.len();
    }
    let mut distance = Distance::new(gold);
    let (mut words, mut shifts, mut tried) = (given.to_vec(), 0, 0);
    while let Some((spared, moved)) = best_shift(&words, &mut distance, &mut tried) {
        if tried >= MAX_TRIED || spared <= 0 {
            break;
        }
        shifts += 1;
        words = moved;
    }
    shifts + distance.of(&words) as usize
}

/// What a document adds to the rate: the edits to the nearest right text, and the mean length of the right texts.
pub(super) fn count(value: &Value) -> Result<Value, Message> {
    let (golds, given) = pair(value)?;
    let mut numbers: HashMap<String, u32> = HashMap::new();
    let mut words = |text: &str| -> Vec<u32> {
        let text = text.to_lowercase();
        let words = text.split(python::is_space).filter(|word| !word.is_empty());
        let mut number = |word: &str| {
            let next = numbers.len() as u32;
            *numbers.entry(word.to_owned()).or_insert(next)
        };
        words.map(&mut number).collect()
    };
    let given = words(given);
    let golds: Vec<Vec<u32>> = golds.into_iter().map(&mut words).collect();
    let fewest = golds.iter().map(|gold| edits(&given, gold)).min().unwrap_or_default();
    let length = golds.iter().map(Vec::len).sum::<usize>() as f64 / golds.len() as f64;
    Ok(json!([fewest, length]))
}

/// TER of all texts together, in percent, of what [`count`] made of each.
pub(super) fn ter(counts: &[Value]) -> Result<f64, Message> {
    let (mut edits, mut length) = (0.0, 0.0);
    for own in counts {
        edits += number(own.get(0).unwrap_or(&Value::Null))?;
        length += number(own.get(1).unwrap_or(&Value::Null))?;
    }
    Ok(100.0
        * match length {
            length if length > 0.0 => edits / length,
            _ if edits > 0.0 => 1.0,
            _ => 0.0,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::find_aggregation;
    use crate::task::Aggregate;

    fn found(pairs: &Value) -> Result<f64, Message> {
        let aggregate = Aggregate::Known(find_aggregation("ter").unwrap());
        aggregate.of(&aggregate.counts(pairs.as_array().unwrap().clone())?)
    }

    /// Expected: sacrebleu 2.6 by way of lm-evaluation-harness 0.4.13's `ter`, on made-up pairs of right and given texts: empty
    /// ones, long ones, shifted phrases, other scripts, given texts that repeat themselves, right texts far longer than the
    /// given.
    #[test]
    fn edits_are_sacrebleus() {
        let lines: Vec<Value> =
            include_str!("ter_golden.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &lines {
            let (found, expected) = (found(&line["pairs"]).unwrap(), line["ter"].as_f64().unwrap());
            assert!((found - expected).abs() <= 1e-12, "{line}: {found}");
        }
        assert_eq!(lines.len(), 18);
    }

    #[test]
    fn what_is_no_pair_is_named() {
        assert!(found(&json!([[1, "a"]])).unwrap_err().to_string().contains("no pair"));
    }
}

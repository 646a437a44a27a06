//! Whether texts share runs of words: a task's item that stands in the text of an importance matrix, or in another text that
//! shaped a lane, says less about the lane. Absent: what to do about it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;

use bitworth_quant::message::Message;

/// The runs of words of some texts, kept as 64-bit hashes.
///
/// A word is what stands between white space, in lower case and without its punctuation: "Don't!" is `dont`, a dash alone is no
/// word. So does the decontamination of lm-evaluation-harness (`lm_eval/decontamination/janitor.py`), which follows appendix C of
/// GPT-3's paper (Brown and others 2020, "Language Models are Few-Shot Learners", arXiv 2005.14165). That one drops ASCII's
/// punctuation and lowers ASCII's letters alone; here all characters but letters and digits go, and all letters are lowered, so
/// that typographic quotes hide nothing. Control characters part words.
///
/// Texts of fewer words than a run share nothing, nor do languages that are written without white space. Two runs have the same
/// hash by chance once in 2^64: with a million runs on both sides some text is taken for an overlap once in 18 million times.
#[derive(Debug, Clone)]
pub struct Ngrams {
    words: NonZeroUsize,
    most: usize,
    seen: HashSet<u64>,
}

impl Ngrams {
    /// The words of a run in GPT-3's appendix C and in lm-evaluation-harness.
    pub const WORDS: NonZeroUsize = NonZeroUsize::new(13).unwrap();

    /// Runs of `words` words, at most `most` different ones; each takes some 10 to 20 bytes.
    pub fn new(words: NonZeroUsize, most: usize) -> Self {
        Self { words, most, seen: HashSet::new() }
    }

    /// Takes up the runs of a text.
    ///
    /// # Errors
    /// There are more than allowed. Those before stay.
    pub fn add(&mut self, text: &str) -> Result<(), Message> {
        for run in runs(text, self.words) {
            if self.seen.len() >= self.most && !self.seen.contains(&run) {
                let (most, words) = (self.most, self.words);
                return Err(format!("the texts have more than {most} different runs of {words} words").into());
            }
            self.seen.insert(run);
        }
        Ok(())
    }

    /// Whether a text has one of the runs.
    pub fn shares(&self, text: &str) -> bool {
        runs(text, self.words).any(|run| self.seen.contains(&run))
    }

    /// How many different runs there are.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

/// The hashes of the runs of `length` words, in order.
fn runs(text: &str, length: NonZeroUsize) -> impl Iterator<Item = u64> {
    let hashes: Vec<u64> = words(text).map(|word| hash_of(&word)).collect();
    let count = (hashes.len() + 1).saturating_sub(length.get());
    (0..count).map(move |start| hash_of(&hashes[start..start + length.get()]))
}

/// The words of a text, as [`Ngrams`] says.
fn words(text: &str) -> impl Iterator<Item = String> {
    let bare = |part: &str| part.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    text.split(|c: char| c.is_whitespace() || c.is_control()).map(bare).filter(|word| !word.is_empty())
}

fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "The ferry left at 7:45 -- late, as ever -- and nobody aboard the \"Gull\" (not even the cook!) could say why;
the harbour-master's log shows nothing. The ferry left at 7:45 -- late, as ever.";
    const NEAR: &str = "nobody aboard the Gull, not even the cook, could say WHY: the harbourmasters log shows little";
    const FAR: &str = "nobody aboard the Gull, not even the cook, could tell why the harbourmasters log shows nothing of it";

    fn of(words: usize, text: &str) -> Ngrams {
        let mut runs = Ngrams::new(NonZeroUsize::new(words).unwrap(), 1000);
        runs.add(text).unwrap();
        runs
    }

    // lm-evaluation-harness 0.4.13: `register_contaminant_python(TEXT)` of a `Janitor(ngram_n=words)`, the size of its
    // `dirt_ngrams`, and whether one of `word_ngrams(normalize_string(other), words)` is among them.
    #[test]
    fn runs_are_those_of_the_harness_decontamination() {
        for (words, count, near, far) in [(1, 22, true, true), (3, 25, true, true), (13, 21, true, false)] {
            let runs = of(words, TEXT);
            assert_eq!((runs.len(), runs.shares(NEAR), runs.shares(FAR)), (count, near, far), "{words} words");
        }
    }

    #[test]
    fn a_run_is_thirteen_words_in_order() {
        assert_eq!(Ngrams::WORDS.get(), 13);
        let runs = of(13, "a b c d e f g h i j k l m");
        assert_eq!(runs.len(), 1);
        assert!(runs.shares("x A, B. c - d e f g h i\nj\tk l m y"));
        assert!(!runs.shares("a b c d e f g h i j k l"));
        assert!(!runs.shares("b a c d e f g h i j k l m"));
        // Words do not run together.
        assert!(!of(2, "ab c").shares("a bc"));
        assert!(of(13, "a b c d e f g h i j k l").is_empty());
    }

    #[test]
    fn typographic_signs_and_capitals_of_all_scripts_hide_nothing() {
        let runs = of(3, "“Ça va — ÉTÉ’s end”");
        assert!(runs.shares("ça va étés end"));
        assert!(of(2, "one\u{1c}two").shares("one two"));
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut runs = Ngrams::new(NonZeroUsize::MIN, 2);
        runs.add("a b a b").unwrap();
        runs.add("b a").unwrap();
        let error = runs.add("a c").unwrap_err();
        assert_eq!(error.to_string(), "the texts have more than 2 different runs of 1 words");
        assert_eq!(runs.len(), 2);
        assert!(runs.shares("b") && !runs.shares("c"));
    }
}

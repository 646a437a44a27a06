//! Whether texts share runs of words: a task's item that stands in the text of an importance matrix, or in another text that
//! shaped a lane, says less about the lane. Absent: what to do about it.

use std::collections::{BTreeSet, HashSet};
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

/// Some runs of words of texts, few enough for a file's metadata: of each text those with the smallest hashes. Which they are
/// depends on the text alone, so that a copy that was renamed, edited or cut has about as large a share of them as it has of all
/// runs. (Broder 1997, "On the resemblance and containment of documents", sketches of the `s` smallest.)
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunSample(Vec<u64>);

impl RunSample {
    /// At most so many runs of [`Ngrams::WORDS`] words of a text.
    pub fn of(text: &str, most: usize) -> Self {
        let mut smallest = BTreeSet::new();
        for run in runs(text, Ngrams::WORDS) {
            if smallest.len() < most || smallest.last().is_some_and(|&largest| run < largest) {
                smallest.insert(run);
                if smallest.len() > most {
                    smallest.pop_last();
                }
            }
        }
        Self(smallest.into_iter().collect())
    }

    /// Those of several texts.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let all: BTreeSet<u64> = self.0.into_iter().chain(other.0).collect();
        Self(all.into_iter().collect())
    }

    /// As a file holds them.
    pub fn hashes(&self) -> &[u64] {
        &self.0
    }

    /// The inverse of [`Self::hashes`].
    pub fn from_hashes(hashes: &[u64]) -> Self {
        Self(hashes.to_vec()).and(Self::default())
    }

    /// How many of them a text has.
    pub fn shared_with(&self, text: &str) -> usize {
        if self.0.is_empty() {
            return 0;
        }
        let shared = runs(text, Ngrams::WORDS).filter(|run| self.0.binary_search(run).is_ok());
        shared.collect::<HashSet<u64>>().len()
    }
}

/// The hashes of the runs of `length` words, in order.
fn runs(text: &str, length: NonZeroUsize) -> impl Iterator<Item = u64> {
    let hashes: Vec<u64> = words(text).map(|word| hash_of(word.bytes())).collect();
    let count = (hashes.len() + 1).saturating_sub(length.get());
    (0..count).map(move |start| hash_of(hashes[start..start + length.get()].iter().flat_map(|hash| hash.to_le_bytes())))
}

/// The words of a text, as [`Ngrams`] says.
fn words(text: &str) -> impl Iterator<Item = String> {
    let bare = |part: &str| part.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    text.split(|c: char| c.is_whitespace() || c.is_control()).map(bare).filter(|word| !word.is_empty())
}

/// FNV-1a of 64 bits, its bits mixed as SplitMix64 mixes its own. Files hold such hashes: they must never change.
fn hash_of(bytes: impl Iterator<Item = u8>) -> u64 {
    let fnv = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
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

    /// Files hold these hashes. (Computed apart from this program, in Python.)
    #[test]
    fn hashes_stay_what_they_are_in_files() {
        let thirteen = "The quick brown fox -- jumps over the lazy dog, and then it sleeps.";
        assert_eq!(RunSample::of(thirteen, 9).hashes(), [0xcb28_63fd_73f5_6945]);
    }

    #[test]
    fn a_sample_knows_copies_that_were_edited_or_cut() {
        let word = |i: usize| format!("w{} ", (i * 2_654_435_761) % 100_003);
        let text: String = (0..5000).map(word).collect();
        let sample = RunSample::of(&text, 64);
        assert_eq!((sample.hashes().len(), sample.shared_with(&text)), (64, 64));
        assert_eq!(RunSample::from_hashes(sample.hashes()), sample);
        // About as many as of all runs: half of the text, a tenth, and every thirtieth word another one.
        let cut = |words: std::ops::Range<usize>| sample.shared_with(&words.map(word).collect::<String>());
        let [half, tenth] = [cut(0..2500), cut(4000..4512)];
        assert!((20..44).contains(&half) && (1..16).contains(&tenth), "{half} {tenth}");
        let edited: String = (0..5000).map(|i| if i % 30 == 0 { "other ".to_owned() } else { word(i) }).collect();
        assert!((22..52).contains(&sample.shared_with(&edited)), "{}", sample.shared_with(&edited));
        assert_eq!(sample.shared_with(&(5000..9000).map(word).collect::<String>()), 0);
        assert_eq!(RunSample::default().shared_with(&text), 0);
        let both = sample.clone().and(RunSample::of("a b c d e f g h i j k l m", 64));
        assert_eq!((both.hashes().len(), both.shared_with("a b c d e f g h i j k l m n")), (65, 1));
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

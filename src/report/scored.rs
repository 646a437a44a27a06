//! The scored sequences of one lane by text and number, and lanes paired by them.

use std::collections::BTreeMap;
use std::fmt;

use bitworth_eval::record::{Protocol, SequenceRecord};

/// A text and the protocol of a pass over it: sequences are numbered within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TextKey<'a> {
    /// The text's SHA-256, in hexadecimal.
    pub sha256: &'a str,
    /// How it was cut and scored.
    pub protocol: &'a Protocol,
}

impl<'a> TextKey<'a> {
    fn of(sequence: &'a SequenceRecord) -> Self {
        Self { sha256: &sequence.text_sha256, protocol: &sequence.protocol }
    }

    /// What tells it from the other texts of `names`: the hash, or where a text was cut in two ways, the protocol.
    pub(crate) fn mark(&self, names: &BTreeMap<TextKey<'_>, String>) -> String {
        let same_text = names.keys().filter(|other| other.sha256 == self.sha256 && other.protocol.pass == self.protocol.pass);
        if same_text.count() > 1 { self.protocol.to_string() } else { self.sha256.chars().take(8).collect() }
    }
}

impl fmt::Display for TextKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "text {}, {}", self.sha256, self.protocol)
    }
}

/// The sequences of one text, by number.
pub type SequencesOfText<'a> = BTreeMap<u32, &'a SequenceRecord>;

/// The sequences that one lane has of one pass, by text and number.
#[derive(Debug, Default)]
pub struct Sequences<'a>(BTreeMap<TextKey<'a>, SequencesOfText<'a>>);

impl<'a> Sequences<'a> {
    /// Keeps a sequence once; another one of the same text and number is refused.
    pub(crate) fn insert(&mut self, sequence: &'a SequenceRecord) -> Result<(), ()> {
        keep_once(self.0.entry(TextKey::of(sequence)).or_default(), sequence.sequence, sequence)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The texts.
    pub fn keys(&self) -> impl Iterator<Item = &TextKey<'a>> {
        self.0.keys()
    }

    /// Whether a text is among them.
    pub fn contains(&self, key: &TextKey<'_>) -> bool {
        self.of(key).is_some()
    }

    /// The sequences of one text, by number.
    pub fn of(&self, key: &TextKey<'_>) -> Option<&SequencesOfText<'a>> {
        // A map is asked in the lifetime of its own keys: the few texts of a lane are gone through instead.
        self.0.iter().find(|(own, _)| *own == key).map(|(_, sequences)| sequences)
    }

    /// The texts with their sequences.
    pub fn by_text(&self) -> impl Iterator<Item = (&TextKey<'a>, &SequencesOfText<'a>)> {
        self.0.iter()
    }

    /// All sequences, by text and number.
    pub fn all(&self) -> impl Iterator<Item = &'a SequenceRecord> {
        self.0.values().flat_map(|sequences| sequences.values().copied())
    }

    /// The sequences that both have, by text and number.
    pub fn pairs<'b>(&self, other: &Sequences<'b>) -> Vec<(&'a SequenceRecord, &'b SequenceRecord)> {
        let both = self.0.iter().filter_map(|(key, own)| Some((own, other.of(key)?)));
        both.flat_map(|(own, others)| pairs(own, others)).collect()
    }
}

/// The sequences of one text that both have, by number.
pub fn pairs<'a, 'b>(own: &SequencesOfText<'a>, others: &SequencesOfText<'b>) -> Vec<(&'a SequenceRecord, &'b SequenceRecord)> {
    own.iter().filter_map(|(number, one)| Some((*one, *others.get(number)?))).collect()
}

/// Keeps one of equal values; different ones under one number are refused.
pub(crate) fn keep_once<'a, T: PartialEq>(kept: &mut BTreeMap<u32, &'a T>, number: u32, value: &'a T) -> Result<(), ()> {
    let known = kept.entry(number).or_insert(value);
    if std::ptr::eq(*known, value) || *known == value { Ok(()) } else { Err(()) }
}

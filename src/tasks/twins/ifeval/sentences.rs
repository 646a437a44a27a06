//! Sentences and words of English texts, near to what nltk makes of them. Words are cut by nltk's rules, as far as letters go.
//! Sentences are cut by Punkt's rules, but its trained tables (abbreviations, pairs of words, how often words begin sentences)
//! are not here: short lists of our own stand in for them, so that the count may differ behind abbreviations, initials and
//! numbers.
//!
//! Source: T. Kiss and J. Strunk 2006; nltk 3.9, `tokenize/punkt.py`, `tokenize/destructive.py`; rewritten.

use bitworth_text::python;

/// Common abbreviations without their last period.
const ABBREVIATIONS: &str = " mr mrs ms dr prof st jr sr gen col lt maj adm sen rep reps messrs inc ltd co corp cos bros vs ft \
    ave mg jan feb aug sep sept oct nov dec mon tues wed fri u.s u.k u.n u.s.a u.s.s.r d.c n.y l.a n.j a.m p.m ph.d a.d b.c \
    m.b.a yr va pa calif fla mich minn wis wash tenn ok ";

/// Words that often begin a sentence and are seldom names.
const STARTERS: &str = " the a an this that these those he she it they we you i there here in on at by for from with to of as \
    and but or so yet if when while although though since because after before however moreover thus instead meanwhile indeed \
    also then now what who why how where which some many most both each every all no not my our your his her its their one do \
    is are was ";

/// The word's place in one of the lists.
fn listed(list: &str, word: &str) -> bool {
    !word.is_empty() && list.contains(&format!(" {} ", word.to_lowercase()))
}

/// Marks that end a word, beside white space.
fn is_mark(c: char) -> bool {
    ")\";}]*:@'({[!?".contains(c)
}

/// Marks that close what a sentence ends in.
fn closes(c: char) -> bool {
    "\"')]}".contains(c)
}

/// Whether the period at the end of `before` ends a sentence, with what follows: white space and a word, or a mark.
fn ends(before: &str, behind: &str) -> bool {
    let begin = before.rfind(|c| python::is_space(c) || is_mark(c)).map_or(0, |at| {
        let mark = before[at..].chars().next().map_or(1, char::len_utf8);
        at + mark
    });
    let word = before[begin..].trim_start_matches(['-', ',', '#', '&', '`']);
    let word = word.strip_suffix('.').unwrap_or(word);
    let next = python::lstrip(behind);
    let first = next.chars().next().unwrap_or(' ');
    let next: String = next.chars().take_while(|c| c.is_alphanumeric() || *c == '\'').collect();
    let starts = first.is_uppercase() && listed(STARTERS, &next);
    if word.ends_with('.') {
        return starts;
    }
    let is_initial = word.chars().count() == 1 && word.chars().all(char::is_alphabetic);
    let is_number = word.contains(|c: char| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_digit() || ".,-".contains(c));
    let last = word.rsplit('-').next().unwrap_or(word);
    if is_initial {
        // "J. Bach" goes on; "plan B. The other" does not.
        return starts;
    }
    if listed(ABBREVIATIONS, word) || listed(ABBREVIATIONS, last) {
        return starts;
    }
    !(is_number && (first.is_lowercase() || ";:,.!?".contains(first)))
}

/// The sentences of a text.
pub(super) fn split(text: &str) -> Vec<&str> {
    let mut cuts = Vec::new();
    let mut begin = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| ".?!".contains(*c)) {
        let end = at + c.len_utf8();
        let behind = &text[end..];
        let next = behind.chars().next().unwrap_or(' ');
        let has_word = next.is_whitespace() && !python::strip(behind).is_empty();
        if end > begin && (has_word || is_mark(next)) && (c != '.' || ends(&text[begin..end], behind)) {
            cuts.push((begin, end));
            begin = if has_word { text.len() - python::lstrip(behind).len() } else { end };
        }
    }
    cuts.push((begin, python::rstrip(text).len().max(begin)));
    aligned(text, &cuts)
}

/// Moves marks that close a sentence from the begin of the next one to its end.
fn aligned<'a>(text: &'a str, cuts: &[(usize, usize)]) -> Vec<&'a str> {
    let mut sentences = Vec::new();
    let mut moved = 0;
    for (i, (begin, end)) in cuts.iter().enumerate() {
        let begin = (begin + moved).min(*end);
        let own = &text[begin..*end];
        moved = 0;
        let Some((next, next_end)) = cuts.get(i + 1) else {
            sentences.extend((!own.is_empty()).then_some(own));
            continue;
        };
        let following = &text[*next..*next_end];
        let rest = following.trim_start_matches(closes);
        let is_end = rest.is_empty() || rest.starts_with("--") || rest.starts_with(python::is_space);
        if rest.len() < following.len() && is_end {
            let marks = following.len() - rest.len();
            sentences.push(&text[begin..next + marks]);
            moved = following.len() - python::lstrip(rest).len();
        } else {
            sentences.extend((!own.is_empty()).then_some(own));
        }
    }
    sentences
}

/// Marks that are words of their own wherever they stand.
fn is_word(c: char) -> bool {
    "«“‘„`»”’\";@#$%&?!*[](){}<>".contains(c) || ('\u{2012}'..='\u{2015}').contains(&c)
}

/// Endings that are words of their own, the second group behind the first.
const ENDINGS: [&[&str]; 2] = [&["'s", "'S", "'m", "'M", "'d", "'D"], &["'ll", "'LL", "'re", "'RE", "'ve", "'VE", "n't", "N'T"]];

/// Words of two, and where they are cut.
const JOINED: [(&str, usize); 8] =
    [("cannot", 3), ("gimme", 3), ("gonna", 3), ("gotta", 3), ("lemme", 3), ("wanna", 3), ("'tis", 2), ("'twas", 2)];

/// The words of a text, without marks that are words.
pub(super) fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for sentence in split(text) {
        let bare = sentence.trim_end_matches(|c| python::is_space(c) || closes(c) || ">»”’".contains(c));
        // The period of the sentence; periods within it stay with their words.
        let bare = bare.strip_suffix('.').filter(|rest| !rest.ends_with('.')).unwrap_or(bare);
        for part in bare.split(|c| python::is_space(c) || is_word(c)).flat_map(|part| part.split("--")) {
            part.split("..").for_each(|part| clauses(part.trim_start_matches('.'), &mut words));
        }
    }
    words
}

/// Cuts at commas and colons that no digit follows.
fn clauses<'a>(part: &'a str, words: &mut Vec<&'a str>) {
    let mut begin = 0;
    for (at, _) in part.match_indices([',', ':']) {
        if !part[at + 1..].starts_with(|c: char| c.is_numeric()) {
            endings(&part[begin..at], words);
            begin = at + 1;
        }
    }
    endings(&part[begin..], words);
}

/// Cuts endings off, and words of two.
fn endings<'a>(word: &'a str, words: &mut Vec<&'a str>) {
    let mut word = word;
    for group in ENDINGS {
        let cut = group.iter().find_map(|ending| word.strip_suffix(ending));
        if let Some(stem) = cut.filter(|stem| !stem.is_empty() && !stem.ends_with('\'')) {
            words.push(&word[stem.len()..]);
            word = stem;
        }
    }
    match JOINED.iter().find(|(joined, _)| joined.eq_ignore_ascii_case(word)) {
        Some((_, at)) => words.extend([&word[..*at], &word[*at..]]),
        None => words.extend((!word.is_empty()).then_some(word)),
    }
}

//! Names against the patterns of Python's `fnmatch`: `*`, `?`, `[...]` and `[!...]`. Absent: slashes, `**`
//! (`rows/data_set/pattern.rs`).
//!
//! Source: CPython's `Lib/fnmatch.py`.

/// A pattern of one name, ready to be compared.
pub(crate) struct NamePattern(Vec<Token>);

/// One character of a name, or several.
enum Token {
    /// `*`
    Many,
    /// `?`
    One,
    Is(char),
    /// `[a-z]`; the first says whether the ranges are those that do not fit.
    Class(bool, Vec<(char, char)>),
}

impl NamePattern {
    /// Whether a text may stand for more than one name.
    pub(crate) fn is_one(text: &str) -> bool {
        text.contains(['*', '?', '['])
    }

    /// The pattern as `fnmatch` reads it.
    pub(crate) fn new(text: &str) -> Self {
        Self(tokens(text))
    }

    /// A name that stands for itself alone, whatever characters it has.
    pub(crate) fn plain(name: &str) -> Self {
        Self(name.chars().map(Token::Is).collect())
    }

    /// Whether a name fits: where it does not go on behind a `*`, that takes one character more.
    pub(crate) fn fits(&self, name: &str) -> bool {
        let chars: Vec<char> = name.chars().collect();
        let (mut token, mut at) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        loop {
            let fit = match self.0.get(token) {
                Some(Token::Many) => {
                    star = Some((token + 1, at));
                    token += 1;
                    continue;
                }
                None if at == chars.len() => return true,
                None => false,
                Some(one) => chars.get(at).is_some_and(|c| one.is(*c)),
            };
            if fit {
                (token, at) = (token + 1, at + 1);
                continue;
            }
            match star {
                Some((behind, from)) if from < chars.len() => {
                    (token, at) = (behind, from + 1);
                    star = Some((behind, from + 1));
                }
                _ => return false,
            }
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        at += 1;
        match c {
            '*' => tokens.push(Token::Many),
            '?' => tokens.push(Token::One),
            '[' => {
                let negated = chars.get(at) == Some(&'!');
                let begin = at + usize::from(negated);
                // A bracket right at the beginning is one of the characters.
                let end = chars.iter().skip(begin + 1).position(|c| *c == ']').map(|more| begin + 1 + more);
                match end {
                    Some(end) => {
                        tokens.push(Token::Class(negated, ranges(&chars[begin..end])));
                        at = end + 1;
                    }
                    None => tokens.push(Token::Is('[')),
                }
            }
            other => tokens.push(Token::Is(other)),
        }
    }
    tokens
}

fn ranges(chars: &[char]) -> Vec<(char, char)> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        match chars[at..] {
            [from, '-', to, ..] => {
                ranges.push((from, to));
                at += 3;
            }
            _ => {
                ranges.push((chars[at], chars[at]));
                at += 1;
            }
        }
    }
    ranges
}

impl Token {
    fn is(&self, c: char) -> bool {
        match self {
            Self::Many | Self::One => true,
            Self::Is(own) => *own == c,
            Self::Class(negated, ranges) => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pattern, a name, and whether it fits. Expected: CPython 3.11.
    #[rustfmt::skip]
    const FITS: &[(&str, &str, bool)] = &[
        ("mmlu_*", "mmlu_anatomy", true),
        ("mmlu_?", "mmlu_", false),
        ("*", "", true),
        ("a.c", "abc", false),
        ("[^a]", "^", true),
        ("[^a]", "b", false),
        ("[!]x]", "y", true),
        ("[!]x]", "]", false),
        ("[!c-a]", "b", true),
        ("[c-a]", "b", false),
        ("[a-c-e]", "d", false),
        ("[a-c-e]", "-", true),
        ("[\\]", "\\", true),
        ("[ab", "[ab", true),
        ("a*b", "a\nb", true),
    ];

    #[test]
    fn names_fit_as_in_python() {
        for (pattern, name, expected) in FITS {
            assert_eq!(NamePattern::new(pattern).fits(name), *expected, "{pattern} {name}");
        }
        assert!(NamePattern::plain("[a]*").fits("[a]*") && !NamePattern::plain("*").fits("a"));
    }
}

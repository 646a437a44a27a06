//! Lines of words, as `textwrap.wrap` of Python cuts them. Absent: indents, tabs, limits on lines.
//!
//! Source: CPython's `Lib/textwrap.py`.

use crate::python::{self, re::Found, re::PatternError, re::Regex};

/// Where words may be cut: at white space, at dashes, behind the hyphens of words.
const HYPHENS: &str = concat!(
    r#"[\t\n\x0b\x0c\r ]+|(?<=[\w!"'&.,?])-{2,}(?=\w)|[^\t\n\x0b\x0c\r ]+?(?:"#,
    r"-(?:(?<=[^\d\W][^\d\W]-)|(?<=[^\d\W]-[^\d\W]-))(?=[^\d\W]-?[^\d\W])",
    r#"|(?=[\t\n\x0b\x0c\r ]|\Z)|(?<=[\w!"'&.,?])(?=-{2,}\w))"#
);
const BLANKS: &str = r"[\t\n\x0b\x0c\r ]+|[^\t\n\x0b\x0c\r ]+";

fn width(text: &str) -> usize {
    text.chars().count()
}

/// `textwrap.wrap(text, width)` without a change of tabs and blanks.
pub(super) fn lines(text: &str, most: usize, long: bool, hyphens: bool) -> Result<Vec<String>, PatternError> {
    let found = Regex::new(if hyphens { HYPHENS } else { BLANKS })?.findall(text)?;
    let mut chunks: Vec<String> = found
        .into_iter()
        .filter_map(|found| match found {
            Found::One(chunk) => Some(chunk),
            Found::Groups(_) => None,
        })
        .filter(|chunk| !chunk.is_empty())
        .collect();
    chunks.reverse();
    let blank = |chunk: &str| python::strip(chunk).is_empty();
    let mut lines: Vec<String> = Vec::new();
    while !chunks.is_empty() {
        let (mut line, mut length): (Vec<String>, usize) = (Vec::new(), 0);
        if !lines.is_empty() {
            chunks.pop_if(|chunk| blank(&*chunk));
        }
        while let Some(chunk) = chunks.pop_if(|chunk| length + width(chunk) <= most) {
            length += width(&chunk);
            line.push(chunk);
        }
        if chunks.last().is_some_and(|chunk| width(chunk) > most)
            && let Some(chunk) = chunks.pop()
        {
            if long {
                let (begin, rest) = cut(&chunk, most - length, hyphens);
                line.push(begin);
                chunks.push(rest);
            } else if line.is_empty() {
                line.push(chunk);
            } else {
                chunks.push(chunk);
            }
        }
        line.pop_if(|chunk| blank(&*chunk));
        if !line.is_empty() {
            lines.push(line.concat());
        }
    }
    Ok(lines)
}

/// The first characters of a long word, up to a hyphen where one fits.
fn cut(chunk: &str, room: usize, hyphens: bool) -> (String, String) {
    let chars: Vec<char> = chunk.chars().collect();
    let hyphen = chars[..room].iter().rposition(|c| *c == '-').filter(|at| *at > 0 && chars[..*at].iter().any(|c| *c != '-'));
    let end = hyphen.filter(|_| hyphens).map_or(room, |at| at + 1);
    (chars[..end].iter().collect(), chars[end..].iter().collect())
}

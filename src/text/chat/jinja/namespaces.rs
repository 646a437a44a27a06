//! Namespaces are the only values of a template that can be changed, and so the only ones that can be made to hold themselves.
//! Printing or comparing such a one never ends, and no limit on work or time helps where it is the stack that runs out. So
//! they may be used for what they are for, setting and reading their attributes, and for nothing else; published templates
//! know no other use.
//!
//! Absent: anything else about Jinja: this looks at words and what stands beside them.

use std::collections::HashSet;

/// A word of a template's code, and where it stands.
struct Word<'a> {
    text: &'a str,
    line: usize,
    /// The last character before it and the first behind it that are no spaces.
    before: char,
    behind: char,
    /// The variable that it is assigned to by `set`.
    assigned_to: Option<&'a str>,
}

/// The line of the first use of a namespace as a value, and what is wrong with it.
pub(crate) fn misused(source: &str) -> Option<(usize, &'static str)> {
    let words = words(source);
    let makes = |word: &Word| word.text == "namespace" && word.behind == '(' && word.before != '.';
    let names: HashSet<&str> = words.iter().filter(|word| makes(word)).filter_map(|word| word.assigned_to).collect();
    words.iter().find_map(|word| {
        if makes(word) {
            return (word.assigned_to.is_none()).then_some((word.line, "a namespace that is not put into a variable"));
        }
        let known = word.text == "namespace" || names.contains(word.text);
        let attribute = word.before == '.';
        let used = known && !attribute && word.behind != '.' && word.behind != '=';
        used.then_some((word.line, "a namespace that is used as a value"))
    })
}

/// The words of all code, without strings and comments.
fn words(source: &str) -> Vec<Word<'_>> {
    let bytes = source.as_bytes();
    let (mut words, mut at, mut inside) = (Vec::new(), 0, false);
    let mut line = 1;
    let mut before = ' ';
    // The last word, whether it stands behind `set`, and how many `=` and nothing else have come since.
    let (mut last, mut set, mut equals): (Option<&str>, bool, usize) = (None, false, 0);
    while at < bytes.len() {
        let two = &bytes[at..bytes.len().min(at + 2)];
        match (inside, two) {
            (false, b"{{" | b"{%") => {
                (inside, before, last) = (true, ' ', None);
                at += 2;
            }
            (false, b"{#") => {
                let end = source[at..].find("#}").map_or(bytes.len(), |end| at + end + 2);
                line += source[at..end].matches('\n').count();
                at = end;
            }
            (true, b"}}" | b"%}") => {
                inside = false;
                at += 2;
            }
            (true, [quote @ (b'"' | b'\''), ..]) => {
                let mut end = at + 1;
                while end < bytes.len() && bytes[end] != *quote {
                    end += if bytes[end] == b'\\' { 2 } else { 1 };
                }
                let end = (end + 1).min(bytes.len());
                line += bytes[at..end].iter().filter(|&&b| b == b'\n').count();
                (at, before, last) = (end, '"', None);
            }
            (true, [first, ..]) if first.is_ascii_alphabetic() || *first == b'_' => {
                let end = (at..bytes.len()).find(|&i| !(bytes[i].is_ascii_alphanumeric() || bytes[i] == b'_'));
                let end = end.unwrap_or(bytes.len());
                let text = &source[at..end];
                let rest = source[end..].trim_start();
                // A comparison is no assignment.
                let behind = if rest.starts_with("==") { '?' } else { rest.chars().next().unwrap_or(' ') };
                let assigned_to = last.filter(|_| set && equals == 1);
                set = last == Some("set") && equals == 0;
                words.push(Word { text, line, before, behind, assigned_to });
                (at, before, last, equals) = (end, 'a', Some(text), 0);
            }
            (_, [byte, ..]) => {
                if *byte == b'\n' {
                    line += 1;
                }
                if inside && !byte.is_ascii_whitespace() {
                    before = char::from(*byte);
                    if *byte == b'=' {
                        equals += 1;
                    } else {
                        last = None;
                    }
                }
                at += 1;
            }
            (_, []) => break,
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::misused;

    #[test]
    fn attributes_are_what_namespaces_are_for() {
        for sound in [
            "{% set ns = namespace(found=false) %}{% for m in messages %}{% set ns.found = true %}{{ ns.found }}{% endfor %}",
            "{%- set ns = namespace(a='', b=[]) -%}{%- set ns.b = ns.b + [m.content] -%}{{ 'ns is a word' }}",
            "a namespace in a text {# and ns = namespace() in a comment #}{{ x.ns }}{{ x.namespace }}",
            "{% set ns = namespace() %}{% if ns.x == ns.y %}{% endif %}{% set ns = namespace(x=1) %}",
        ] {
            assert_eq!(misused(sound), None, "{sound}");
        }
    }

    #[test]
    fn as_a_value_it_could_hold_itself() {
        for bad in [
            "{% set ns = namespace() %}\n{% set ns.x = ns %}",
            "{% set ns = namespace() %}\n{% set l = [ns] %}",
            "{% set ns = namespace() %}\n{{ ns }}",
            "{% set ns = namespace() %}\n{{ f(ns) }}{{ ns.x }}",
            "{% set ns = namespace() %}\n{{ ns == ns.x }}",
            "{% set ns = namespace() %}\n{{ ns['x'] }}",
            "\n{{ namespace() }}",
            "\n{% set f = namespace %}",
            "\n{% set ns = [namespace()] %}",
            "\n{% set ns = namespace(x=namespace()) %}",
            "\n{% set a.b = namespace() %}{{ b }}",
        ] {
            assert_eq!(misused(bad).map(|found| found.0), Some(2), "{bad}");
        }
    }
}

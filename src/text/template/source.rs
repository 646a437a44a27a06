//! A template's source before minijinja reads it: the operator `%` behind a text becomes a filter, as minijinja knows it for
//! numbers only; and what minijinja would read otherwise than jinja2 does is refused. Line breaks stay where they are.
//!
//! Absent: `%` behind anything but a literal text, which fails by itself where it is rendered.

/// The filter that `'...' % x` becomes.
pub(super) const PERCENT: &str = "__mod__";

/// What a piece of code is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Name,
    Number,
    Text,
    /// One character, or `**` and `//`.
    Sign,
}

#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    begin: usize,
}

impl Token<'_> {
    fn end(&self) -> usize {
        self.begin + self.text.len()
    }

    fn is(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }
}

/// A template as minijinja takes it.
///
/// # Errors
/// The line of what is not supported, and what it is.
pub(super) fn prepare(source: &str) -> Result<String, (usize, String)> {
    let mut edits: Vec<(usize, usize, String)> = Vec::new();
    let mut at = 0;
    while let Some(begin) = source[at..].find('{').map(|n| at + n) {
        let tail = &source[begin..];
        at = if tail.starts_with("{#") {
            tail.find("#}").map_or(source.len(), |n| begin + n + 2)
        } else if tail.starts_with("{{") || tail.starts_with("{%") {
            let close = if tail.starts_with("{{") { "}}" } else { "%}" };
            let (tokens, end) = tokens(source, begin + 2, close);
            let tag = tokens.iter().find(|token| token.kind != Kind::Sign).filter(|_| close == "%}");
            refuse(&tokens, tag.map(|token| token.text)).map_err(|(at, what)| (source[..at].matches('\n').count() + 1, what))?;
            rewrite(&tokens, begin + 2, &mut edits);
            match tag.is_some_and(|tag| tag.text == "raw") {
                true => end_of_raw(source, end),
                false => end,
            }
        } else {
            begin + 1
        };
    }
    edits.sort_by_key(|edit| edit.0);
    let (mut made, mut done) = (String::with_capacity(source.len() + 16 * edits.len()), 0);
    for (at, length, text) in edits {
        made += &source[done..at];
        made += &text;
        done = at + length;
    }
    Ok(made + &source[done..])
}

/// Behind the tag that ends raw text.
fn end_of_raw(source: &str, begin: usize) -> usize {
    let mut at = begin;
    while let Some(tag) = source[at..].find("{%").map(|n| at + n) {
        let inner = source[tag + 2..].trim_start_matches(['-', '+']).trim_start();
        at = tag + 2;
        if inner.starts_with("endraw") {
            return source[at..].find("%}").map_or(source.len(), |n| at + n + 2);
        }
    }
    source.len()
}

/// The tokens of one tag, and where it ends.
fn tokens<'a>(source: &'a str, begin: usize, close: &str) -> (Vec<Token<'a>>, usize) {
    let (mut tokens, mut at, mut depth) = (Vec::new(), begin, 0_usize);
    while let Some(c) = source[at..].chars().next() {
        let rest = &source[at..];
        if depth == 0 && rest.starts_with(close) {
            return (tokens, at + close.len());
        }
        let while_true = |wanted: fn(char) -> bool| rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        let (kind, length) = match c {
            '"' | '\'' => (Kind::Text, text_length(rest, c)),
            c if c.is_alphabetic() || c == '_' => (Kind::Name, while_true(|c| c.is_alphanumeric() || c == '_')),
            c if c.is_ascii_digit() => (Kind::Number, while_true(|c| c.is_ascii_alphanumeric() || c == '_')),
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '*' | '/' if rest[1..].starts_with(c) => (Kind::Sign, 2),
            c => {
                match c {
                    '(' | '[' | '{' => depth += 1,
                    ')' | ']' | '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                (Kind::Sign, c.len_utf8())
            }
        };
        tokens.push(Token { kind, text: &rest[..length], begin: at });
        at += length;
    }
    (tokens, source.len())
}

fn text_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return i + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The place of what is not supported, and what it is.
fn refuse(tokens: &[Token], tag: Option<&str>) -> Result<(), (usize, String)> {
    let begin = tokens.first().map_or(0, |token| token.begin);
    match tag {
        Some(tag @ ("continue" | "break" | "do" | "trans" | "debug")) => {
            return Err((begin, format!("the tag {tag}, which templates of lm-evaluation-harness do not have")));
        }
        Some("autoescape") => return Err((begin, "the tag autoescape, which is not supported".to_owned())),
        _ => {}
    }
    let named = tokens.iter().find(|token| token.kind == Kind::Text && token.text.contains("\\N{"));
    named.map_or(Ok(()), |token| Err((token.begin, "a character by its name (\\N{...}), which is not supported".to_owned())))
}

/// Notes what becomes of `%` behind texts, and of `+` before numbers. The tag's code begins at `inner`.
fn rewrite(tokens: &[Token], inner: usize, edits: &mut Vec<(usize, usize, String)>) {
    for (i, token) in tokens.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| tokens[i]);
        if token.is("%")
            && let Some(first) = left(tokens, i)
            && !first.checked_sub(1).is_some_and(|i| ["*", "/", "//", "%", "**"].iter().any(|sign| tokens[i].is(sign)))
            && let Some(end) = operand(tokens, i + 1)
        {
            edits.push((token.begin, 1, format!("|{PERCENT}(")));
            edits.push((tokens[end - 1].end(), 0, ")".to_owned()));
        }
        let unary = before.is_none_or(|before| before.kind == Kind::Sign && ![")", "]", "}"].contains(&before.text));
        let number = tokens.get(i + 1).is_some_and(|next| next.kind == Kind::Number);
        // A sign that begins a tag is about white space.
        if token.is("+") && unary && number && token.begin > inner {
            edits.push((token.begin, 1, " ".to_owned()));
        }
    }
}

/// The first token of the literal text that ends before `at`, which may stand in brackets.
fn left(tokens: &[Token], at: usize) -> Option<usize> {
    let last = at.checked_sub(1)?;
    let texts = |end: usize| (0..=end).rev().take_while(|i| tokens[*i].kind == Kind::Text).last();
    if tokens[last].is(")") {
        let first = texts(last.checked_sub(1)?)?;
        let open = first.checked_sub(1)?;
        let called = open.checked_sub(1).is_some_and(|i| {
            let before = tokens[i];
            before.kind == Kind::Name && !["in", "and", "or", "not", "if", "else", "is"].contains(&before.text)
                || [")", "]"].contains(&before.text)
        });
        return (tokens[open].is("(") && !called).then_some(open);
    }
    texts(last)
}

/// Behind the last token of the operand that begins at `at`, powers included.
fn operand(tokens: &[Token], at: usize) -> Option<usize> {
    let mut at = at;
    loop {
        while tokens.get(at)?.is("-") || tokens[at].is("+") {
            at += 1;
        }
        at = match tokens.get(at)?.kind {
            Kind::Name | Kind::Number => at + 1,
            Kind::Text => at + tokens[at..].iter().take_while(|token| token.kind == Kind::Text).count(),
            Kind::Sign => group(tokens, at)?,
        };
        while let Some(token) = tokens.get(at) {
            at = match (token.kind, token.text) {
                (Kind::Sign, "." | "|") => at + 2,
                (Kind::Sign, "(" | "[") => group(tokens, at)?,
                (Kind::Name, "is") => return None,
                _ => break,
            };
        }
        if !tokens.get(at).is_some_and(|token| token.is("**")) {
            return (at <= tokens.len()).then_some(at);
        }
        at += 1;
    }
}

/// Brackets within brackets that are followed, so that the work stays within so many times the source; minijinja takes fewer.
const MAX_DEPTH: usize = 200;

/// Behind the bracket that closes the one at `at`.
fn group(tokens: &[Token], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (i, token) in tokens.iter().enumerate().skip(at) {
        match (token.kind, token.text) {
            (Kind::Sign, "(" | "[" | "{") => depth += 1,
            (Kind::Sign, ")" | "]" | "}") => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return (i > at).then_some(i + 1);
        }
        if depth > MAX_DEPTH {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::prepare;

    #[test]
    fn only_percent_behind_texts_is_rewritten() {
        for (source, expected) in [
            ("{{ '%s' % x }} 5 % x", "{{ '%s' |__mod__( x) }} 5 % x"),
            ("{{ '%s|%s' % (a, b)|upper }}", "{{ '%s|%s' |__mod__( (a, b)|upper) }}"),
            ("{{ ('%s') % d.a[0] ~ 'x' }}", "{{ ('%s') |__mod__( d.a[0]) ~ 'x' }}"),
            ("{%- set a = '%d' % -x %}", "{%- set a = '%d' |__mod__( -x) %}"),
            ("{{ 7 % 3 }}{{ f('a') % x }}{{ a % '%s' }}", "{{ 7 % 3 }}{{ f('a') % x }}{{ a % '%s' }}"),
            ("{% raw %}{{ '%s' % x }}{% endraw %}{# '%s' % x #}", "{% raw %}{{ '%s' % x }}{% endraw %}{# '%s' % x #}"),
            ("{{ [+5, 1 + 5] }}{{ +5 }}{{+ 5 }}", "{{ [ 5, 1 + 5] }}{{  5 }}{{+ 5 }}"),
        ] {
            assert_eq!(prepare(source).as_deref(), Ok(expected));
        }
        assert_eq!(prepare("\n{% for i in x %}{% continue %}{% endfor %}").unwrap_err().0, 2);
        assert!(prepare("{{ '\\N{BULLET}' }}").is_err());
    }
}

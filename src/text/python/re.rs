//! Python's `re` on `fancy-regex`: the pattern is rewritten where both read the same text otherwise (`$`, `\Z`, `\s`, `\w`, `\b`,
//! brackets inside of classes, braces that count nothing), and matches follow each other as Python's do. Work is bounded by
//! fancy-regex's limit on backtracking.
//!
//! Known to differ: behind an empty match Python tries the same place once more for one that is not empty; here the search goes
//! on at the next character. Absent: bytes, locales, `\N{...}`, groups that are referred to by number beside named ones.
//!
//! Source: CPython's `Lib/re/_parser.py` and the documentation of `re`.

use std::fmt::Write;

use fancy_regex::{Captures, Expander, Regex as Fancy};

/// Longer patterns are none.
const MAX_PATTERN: usize = 1 << 16;
/// What `\w` takes: `str.isalnum` and `_`.
const WORD: &str = r"\p{L}\p{N}_";
/// What `\s` takes: `str.isspace`.
const SPACE: &str = r"\s\x1c-\x1f";

/// What is wrong with a pattern, or that it takes too much work on a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the regular expression {pattern:?} {what}")]
pub struct PatternError {
    pattern: String,
    what: String,
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Regex {
    pattern: String,
    fancy: Fancy,
}

/// One match of `findall`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Of a pattern without groups, the match; with one, the group.
    One(String),
    /// All groups; those without a match are empty.
    Groups(Vec<String>),
}

impl Regex {
    /// `re.compile(pattern)`.
    ///
    /// # Errors
    /// A pattern that does not compile, is too long, or refers back to a group where case is ignored.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        let wrong = |what: String| PatternError { pattern: pattern.chars().take(200).collect(), what };
        if pattern.len() > MAX_PATTERN {
            return Err(wrong(format!("has {} bytes; at most {MAX_PATTERN} are supported", pattern.len())));
        }
        let rewritten = rewrite(pattern)
            .ok_or_else(|| wrong("refers back to a group where case is ignored, which is not supported".to_owned()))?;
        let fancy = Fancy::new(&rewritten).map_err(|e| wrong(format!("does not compile: {e}")))?;
        Ok(Self { pattern: pattern.to_owned(), fancy })
    }

    /// The pattern as it was given.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// `findall(text)`.
    ///
    /// # Errors
    /// Too much work.
    pub fn findall(&self, text: &str) -> Result<Vec<Found>, PatternError> {
        let groups = self.fancy.captures_len() - 1;
        let group = |captures: &Captures, i: usize| captures.get(i).map(|m| m.as_str().to_owned()).unwrap_or_default();
        let mut found = Vec::new();
        self.walk(text, |captures| {
            found.push(match groups {
                0 | 1 => Found::One(group(captures, groups)),
                _ => Found::Groups((1..=groups).map(|i| group(captures, i)).collect()),
            });
            true
        })?;
        Ok(found)
    }

    /// The groups of `search(text)`, the whole match first.
    ///
    /// # Errors
    /// Too much work.
    pub fn search(&self, text: &str) -> Result<Option<Vec<Option<String>>>, PatternError> {
        let captures = self.fancy.captures(text).map_err(|e| self.fail(&e))?;
        Ok(captures.map(|captures| captures.iter().map(|m| m.map(|m| m.as_str().to_owned())).collect()))
    }

    /// `sub(replacement, text, count)`; 0 replaces all.
    ///
    /// # Errors
    /// Too much work, or a replacement that names a group there is not.
    pub fn sub(&self, replacement: &str, text: &str, count: usize) -> Result<String, PatternError> {
        let template = replacement_template(replacement);
        let expander = Expander::python();
        expander.check(&template, &self.fancy).map_err(|e| self.fail(&e))?;
        let (mut made, mut at, mut done) = (String::with_capacity(text.len()), 0, 0);
        self.walk(text, |captures| {
            if let Some(whole) = captures.get(0) {
                made += &text[at..whole.start()];
                made += &expander.expansion(&template, captures);
                at = whole.end();
                done += 1;
            }
            count == 0 || done < count
        })?;
        Ok(made + &text[at..])
    }

    /// All matches from left to right, until `each` says that it has enough.
    fn walk<'t>(&self, text: &'t str, mut each: impl FnMut(&Captures<'t>) -> bool) -> Result<(), PatternError> {
        let mut at = 0;
        while at <= text.len() {
            let Some(captures) = self.fancy.captures_from_pos(text, at).map_err(|e| self.fail(&e))? else { break };
            let Some((begin, end)) = captures.get(0).map(|m| (m.start(), m.end())) else { break };
            if !each(&captures) {
                break;
            }
            at = match end > begin {
                true => end,
                false => end + text[end..].chars().next().map_or(1, char::len_utf8),
            };
        }
        Ok(())
    }

    fn fail(&self, error: &fancy_regex::Error) -> PatternError {
        PatternError { pattern: self.pattern.chars().take(200).collect(), what: format!("fails: {error}") }
    }
}

/// `re.escape(text)`.
pub fn escape(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    for c in text.chars() {
        if "()[]{}?*+-|^$\\.&~# \t\n\r\u{b}\u{c}".contains(c) {
            made.push('\\');
        }
        made.push(c);
    }
    made
}

/// Escapes of a replacement that stand for a character; groups stay.
fn replacement_template(replacement: &str) -> String {
    let mut made = String::with_capacity(replacement.len());
    let mut chars = replacement.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            made.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => made.push('\n'),
            Some('t') => made.push('\t'),
            Some('r') => made.push('\r'),
            Some('f') => made.push('\u{c}'),
            Some('v') => made.push('\u{b}'),
            Some('a') => made.push('\u{7}'),
            Some('0') => made.push('\0'),
            Some(other) => made.extend(['\\', other]),
            None => made.push_str("\\\\"),
        }
    }
    made
}

/// The flags that hold at a place of a pattern, as far as both read them otherwise.
#[derive(Debug, Clone, Copy)]
struct Mode {
    /// `\w`, `\s`, `\d` and cases are ASCII's.
    ascii: bool,
    ignore_case: bool,
}

impl Mode {
    fn word(self) -> &'static str {
        if self.ascii { "a-zA-Z0-9_" } else { WORD }
    }

    fn space(self) -> &'static str {
        if self.ascii { r"\x09-\x0d\x20" } else { SPACE }
    }

    fn digit(self) -> &'static str {
        if self.ascii { "0-9" } else { r"\d" }
    }
}

/// A pattern of Python's in fancy-regex's syntax; `None` where it refers back to a group while case is ignored, as fancy-regex
/// would look for the very letters.
fn rewrite(pattern: &str) -> Option<String> {
    let chars: Vec<char> = pattern.chars().collect();
    let flags = inline_flags(&chars);
    let mut mode = Mode { ascii: flags.contains(&'a'), ignore_case: flags.contains(&'i') };
    // The flags around the groups that are open.
    let mut around: Vec<Mode> = Vec::new();
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut at = 0;
    while at < chars.len() {
        let refers_back = match &chars[at..] {
            ['\\', digit, ..] => ('1'..='9').contains(digit),
            rest => rest.starts_with(&['(', '?', 'P', '=']),
        };
        if refers_back && mode.ignore_case {
            return None;
        }
        at = match chars[at] {
            '\\' => escaped(&chars, at + 1, false, mode, &mut out),
            '[' => class(&chars, at + 1, mode, &mut out),
            '$' if !flags.contains(&'m') => {
                out.push_str(r"(?=\n?\z)");
                at + 1
            }
            '(' if chars[at..].starts_with(&['(', '?', '#']) => {
                chars[at..].iter().position(|c| *c == ')').map_or(chars.len(), |n| at + n + 1)
            }
            '(' if chars[at..].starts_with(&['(', '?']) => {
                let before = mode;
                let (end, opens) = flag_group(&chars, at, &mut mode, &mut out);
                if opens {
                    around.push(before);
                }
                end
            }
            '(' => {
                around.push(mode);
                out.push('(');
                at + 1
            }
            ')' => {
                mode = around.pop().unwrap_or(mode);
                out.push(')');
                at + 1
            }
            '{' => braces(&chars, at, &mut out),
            c @ ('}' | ']') => {
                out.extend(['\\', c]);
                at + 1
            }
            c => {
                cased(c, mode, &mut out);
                at + 1
            }
        };
    }
    Some(out)
}

/// The letters that Python takes for one where case is ignored, and Unicode's simple folding does not.
const DOTS: &str = "iI\u{130}\u{131}";

/// A character outside of classes that stands for itself: where case is ignored, Python knows other pairs.
fn cased(c: char, mode: Mode, out: &mut String) {
    let written = match (mode.ignore_case, mode.ascii, c) {
        (true, false, c) if DOTS.contains(c) => write!(out, "[{DOTS}]"),
        (true, true, 'k' | 'K') => write!(out, "(?-i:[kK])"),
        (true, true, 's' | 'S') => write!(out, "(?-i:[sS])"),
        (true, true, c) if !c.is_ascii() => write!(out, "(?-i:{c})"),
        _ => write!(out, "{c}"),
    };
    written.unwrap_or_default();
}

/// The letters of flags that the pattern begins with.
fn inline_flags(chars: &[char]) -> Vec<char> {
    match chars {
        ['(', '?', rest @ ..] => {
            let letters: Vec<char> = rest.iter().copied().take_while(|c| "aiLmsux".contains(*c)).collect();
            if rest.get(letters.len()) == Some(&')') { letters } else { Vec::new() }
        }
        _ => Vec::new(),
    }
}

/// `(?...`: flags that Rust has no letters for (`a`, `L`, `u`) are left out. Where it ends, and whether it opens a group.
fn flag_group(chars: &[char], at: usize, mode: &mut Mode, out: &mut String) -> (usize, bool) {
    let letters: String = chars[at + 2..].iter().take_while(|c| "aiLmsux-".contains(**c)).collect();
    let end = at + 2 + letters.chars().count();
    match chars.get(end) {
        Some(close @ (')' | ':')) if !letters.is_empty() => {
            let (set, unset) = letters.split_once('-').unwrap_or((&letters, ""));
            mode.ascii = (mode.ascii || set.contains('a')) && !set.contains('u');
            mode.ignore_case = (mode.ignore_case || set.contains('i')) && !unset.contains('i');
            let kept = letters.replace(['a', 'L', 'u'], "");
            match (kept.as_str(), close) {
                ("", ')') => {}
                (kept, close) => write!(out, "(?{kept}{close}").unwrap_or_default(),
            }
            (end + 1, *close == ':')
        }
        _ => {
            // Names of groups are no text to be found.
            let (opening, closing, kept) = match &chars[at + 2..] {
                ['P', '<', ..] => ("(?P<", '>', 4),
                ['P', '=', ..] => ("(?P=", ')', 4),
                ['(', first, ..] if first.is_ascii_digit() => ("(?(", ')', 3),
                ['(', ..] => ("(?(<", ')', 3),
                _ => {
                    out.push_str("(?");
                    return (at + 2, true);
                }
            };
            let begin = at + kept;
            let end = chars[begin..].iter().position(|c| *c == closing).map_or(chars.len(), |n| begin + n);
            out.push_str(opening);
            out.extend(&chars[begin..end]);
            match opening {
                "(?P=" => return (end, true),
                "(?(<" => out.push_str(">)"),
                _ => out.push(closing),
            }
            ((end + 1).min(chars.len()), true)
        }
    }
}

/// `{m,n}`, or a brace that counts nothing.
fn braces(chars: &[char], at: usize, out: &mut String) -> usize {
    let end = chars[at..].iter().position(|c| *c == '}').map(|n| at + n);
    let inner: Option<String> = end.map(|end| chars[at + 1..end].iter().collect());
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if let (Some(inner), Some(end)) = (inner, end) {
        let counts = match inner.split_once(',') {
            Some((low, high)) if digits(low) && digits(high) && inner != "," => {
                Some(format!("{{{},{high}}}", if low.is_empty() { "0" } else { low }))
            }
            None if !inner.is_empty() && digits(&inner) => Some(format!("{{{inner}}}")),
            _ => None,
        };
        if let Some(counts) = counts {
            out.push_str(&counts);
            return end + 1;
        }
    }
    out.push_str("\\{");
    at + 1
}

/// What follows a backslash at `at`.
fn escaped(chars: &[char], at: usize, in_class: bool, mode: Mode, out: &mut String) -> usize {
    let (word, space, digit) = (mode.word(), mode.space(), mode.digit());
    let Some(&c) = chars.get(at) else {
        out.push('\\');
        return at;
    };
    let hex = |digits: usize, out: &mut String| {
        let code: String = chars[at + 1..].iter().take(digits).collect();
        write!(out, "\\x{{{code}}}").unwrap_or_default();
        at + 1 + code.chars().count()
    };
    match (c, in_class) {
        ('x', _) => return hex(2, out),
        ('u', _) => return hex(4, out),
        ('U', _) => return hex(8, out),
        ('d', true) => out.push_str(digit),
        ('d', false) => write!(out, "[{digit}]").unwrap_or_default(),
        ('D', _) => write!(out, "[^{digit}]").unwrap_or_default(),
        ('s', true) => out.push_str(space),
        ('w', true) => out.push_str(word),
        ('S', true) => write!(out, "[^{space}]").unwrap_or_default(),
        ('W', true) => write!(out, "[^{word}]").unwrap_or_default(),
        ('s', false) => write!(out, "[{space}]").unwrap_or_default(),
        ('S', false) => write!(out, "[^{space}]").unwrap_or_default(),
        ('w', false) => write!(out, "[{word}]").unwrap_or_default(),
        ('W', false) => write!(out, "[^{word}]").unwrap_or_default(),
        ('b', true) => out.push_str("\\x08"),
        ('b', false) => write!(out, "(?:(?<=[{word}])(?![{word}])|(?<![{word}])(?=[{word}]))").unwrap_or_default(),
        ('B', false) => write!(out, "(?:(?<=[{word}])(?=[{word}])|(?<![{word}])(?![{word}]))").unwrap_or_default(),
        ('Z', false) => out.push_str("\\z"),
        ('0', _) => out.push_str("\\x00"),
        (c, _) if c.is_ascii_alphanumeric() => out.extend(['\\', c]),
        (c, _) => literal(c, out),
    }
    at + 1
}

/// A character that stands for itself, in a class or outside.
fn literal(c: char, out: &mut String) {
    if "()[]{}?*+-|^$\\.&~#".contains(c) {
        out.push('\\');
    }
    out.push(c);
}

/// A class, behind its opening bracket.
fn class(chars: &[char], mut at: usize, mode: Mode, out: &mut String) -> usize {
    out.push('[');
    if chars.get(at) == Some(&'^') {
        out.push('^');
        at += 1;
    }
    let begin = at;
    let mut dots = false;
    while let Some(&c) = chars.get(at) {
        match c {
            ']' if at > begin => {
                out.push_str(if dots && mode.ignore_case && !mode.ascii { DOTS } else { "" });
                out.push(']');
                return at + 1;
            }
            '\\' => at = escaped(chars, at + 1, true, mode, out),
            // A range, unless it stands at an end or beside another hyphen.
            '-' if at > begin && !matches!(chars.get(at + 1), Some(']' | '-')) && chars[at - 1] != '-' => {
                let class_before = at >= 2 && chars[at - 2] == '\\' && "sSwWdD".contains(chars[at - 1]);
                out.push_str(if class_before { "\\-" } else { "-" });
                at += 1;
            }
            c => {
                // A range from the character before the hyphen, or the character alone.
                let low = if at >= begin + 2 && chars[at - 1] == '-' { chars[at - 2] } else { c };
                dots |= DOTS.chars().any(|dot| (low..=c).contains(&dot));
                literal(c, out);
                at += 1;
            }
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, text: &str, expected: &[&str]) {
        let found = Regex::new(pattern).unwrap().findall(text).unwrap();
        let found: Vec<String> = found
            .into_iter()
            .map(|found| match found {
                Found::One(text) => text,
                Found::Groups(groups) => groups.join("|"),
            })
            .collect();
        assert_eq!(found, expected, "{pattern} on {text:?}");
    }

    #[test]
    fn what_would_be_compared_otherwise_is_refused() {
        for pattern in [r"(?i)(a)\1", r"(?i)(?P<a>a)(?P=a)", r"(a)(?i:\1)"] {
            assert!(Regex::new(pattern).unwrap_err().to_string().contains("refers back to a group where case is ignored"));
        }
    }

    /// Expected: CPython 3.11.
    #[test]
    fn findall_finds_what_python_finds() {
        check(r"#### (\-?[0-9\.\,]+)", "so\n#### 1,234.\n#### -5", &["1,234.", "-5"]);
        check(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", "It costs $12.50 or 7", &["$12.50|", "|7"]);
        check(r"(?<=the answer is )(.*)(?=.)", "so the answer is 12.\nthe answer is x", &["12", ""]);
        check(r"(\([A-Z]\))", "(A) or (B)", &["(A)", "(B)"]);
        check(r"a$", "a\n", &["a"]);
        check(r"a\Z", "a\n", &[]);
        check(r"(?m)a$", "a\na", &["a", "a"]);
        check(r"x*", "abxd", &["", "", "x", "", ""]);
        check(r"[[a]", "[a]", &["[", "a"]);
        check(r"[]a]+", "]a", &["]a"]);
        check(r"[^]a]+", "]ab", &["b"]);
        check(r"[\w-]+", "a-b c", &["a-b", "c"]);
        check(r"[a&&b~~-]+", "a&b~-", &["a&b~-"]);
        check(r"\s+", "a\u{1c}\u{1f} b", &["\u{1c}\u{1f} "]);
        check(r"[\s,]+", "a\u{1c},b", &["\u{1c},"]);
        check(r"\b\w+\b", "नि a", &["न", "a"]);
        check(r"a{,2}b", "aaab", &["aab"]);
        check(r"{a}", "{a}", &["{a}"]);
        check(r"a{x", "a{x", &["a{x"]);
        check(r"\<b\>", "<b>", &["<b>"]);
        check(r"\u0041\x42\/", "AB/", &["AB/"]);
        check(r"(?i)answer", "ANSWER", &["ANSWER"]);
        check(r"(?P<digit>\d)-(?P=digit)", "1-1 2-3", &["1"]);
        check(r"(?ai)(?P<kiss>k)", "kK\u{212a}", &["k", "K"]);
        check(r"(?i)(?P<digit>i)(?-i:(?P<x>.)(?P=x))", "Iaa IaA", &["I|a"]);
        check(r"(?i)(?P<digit>\()?i(?(digit)\))", "(I) i (i", &["(", "", ""]);
        check(r"(?i)(\()?i(?(1)\))", "(I) i (i", &["(", "", ""]);
        check(r"(?a)\d(?#note)", "1", &["1"]);
        check(r"(?a:\w+)\w", "aé_1ß", &["aé", "_1ß"]);
        check(r"(?a)\w|\D", "é٣3", &["é", "٣", "3"]);
        check(r"(?i)i", "İiIıa", &["İ", "i", "I", "ı"]);
        check(r"(?i)[a-z]İ", "ıi", &["ıi"]);
        check(r"(?ai)[i]|k", "İıIK\u{212a}", &["I", "K"]);
        check(r"(?i:i)i", "Ii II", &["Ii"]);
        check(r"(a)\1", "aa", &["a"]);
        check(r"(?P<q>['\x22])x(?P=q)", "'x'", &["'"]);
    }

    /// Expected: CPython 3.11.
    #[test]
    fn sub_replaces_as_python_does() {
        for (pattern, replacement, text, expected) in [
            ("(?s).*#### ", "", "a\n#### 5", "5"),
            (r"\.$", "", "5.\n", "5\n"),
            (r" (['.,])", r"\1", "a 's b .", "a's b."),
            ("x*", "-", "abxd", "-a-b--d-"),
            ("(?P<w>a)", r"<\g<w>>\n", "a", "<a>\n"),
            ("[.*?]", "", "a.*b?", "ab"),
            (r"\[.*?\]", "", "a [x] b [y]", "a  b "),
        ] {
            let regex = Regex::new(pattern).unwrap();
            let found = regex.sub(replacement, text, 0).unwrap();
            assert_eq!(found, expected, "{pattern}");
        }
        assert_eq!(Regex::new("a").unwrap().sub("b", "aaa", 2).unwrap(), "bba");
    }

    #[test]
    fn broken_patterns_are_named() {
        for pattern in ["(", "[", "a**", "(?P<a"] {
            assert!(Regex::new(pattern).unwrap_err().to_string().contains("does not compile"), "{pattern}");
        }
        assert!(Regex::new("a").unwrap().sub(r"\2", "a", 0).is_err());
        let slow = Regex::new(r"(a|a|aa)*(?=b)c").unwrap();
        assert!(slow.findall(&"a".repeat(60)).unwrap_err().to_string().contains("fails"));
    }
}

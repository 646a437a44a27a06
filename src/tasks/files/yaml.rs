//! YAML as PyYAML's safe loader reads it: YAML 1.1's booleans, numbers and merges, and lm-evaluation-harness's tag `!function`.
//! Syntax is `saphyr-parser`'s matter. Work and depth are bounded. Absent: files and includes ([`super::source`]), several
//! documents in one file, other tags.
//!
//! Source: PyYAML 6 `resolver.py` and `constructor.py`; YAML 1.1.

use bitworth_quant::message::Message;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value as Json};

/// More nodes are no task file: aliases make exponentially many of few.
const MAX_NODES: usize = 4_000_000;
/// Deeper files are none.
const MAX_DEPTH: usize = 64;

/// A value of a task file.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `null`.
    Null,
    /// `true`, `yes`, `on` and their opposites.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(String, Node)>),
    /// `!function`.
    Function(Function),
}

/// The keys of a mapping with their values, in the order of the file.
pub type Entries = Vec<(String, Node)>;

/// A Python function that a task file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// What stands behind the tag: `module.function`.
    pub name: String,
    /// The folder of the file that names it, where its module lies.
    pub folder: Arc<Path>,
}

impl Node {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.iter().find(|(known, _)| known == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of a text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
            Self::Function(_) => "a Python function",
        }
    }

    /// The value as JSON; functions are texts `!function NAME`.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::Float(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
            Self::Text(text) => text.as_str().into(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect::<Map<_, _>>().into(),
            Self::Function(function) => format!("!function {}", function.name).into(),
        }
    }

    fn count(&self) -> usize {
        1 + match self {
            Self::List(items) => items.iter().map(Self::count).sum(),
            Self::Map(entries) => entries.iter().map(|(_, value)| value.count()).sum(),
            _ => 0,
        }
    }
}

/// Reads the only document of a file that lies in `folder`.
///
/// # Errors
/// What is no YAML or nested too deep, with its line; an unknown tag.
pub fn parse(text: &str, folder: &Arc<Path>) -> Result<Node, Message> {
    let mut text = std::borrow::Cow::Borrowed(text);
    // Lines that got blanks in front, the last one of them.
    let mut indented: Option<(usize, usize)> = None;
    loop {
        let (line, what) = match parse_once(&text, folder) {
            Ok(node) => return Ok(node),
            Err(wrong) => wrong,
        };
        let next = match what.as_str() {
            // Of a quoted text the line is named where it begins.
            QUOTED => indented.filter(|(begin, _)| *begin == line).map_or(line + 1, |(_, last)| last + 1),
            CLOSING | INSIDE if indented != Some((line, line)) => line,
            _ => 0,
        };
        if next == 0 || next > line + MOST_INDENTED || next > text.lines().count() {
            return Err(format!("line {line}: {what}").into());
        }
        let one = |(number, own): (usize, &str)| if number + 1 == next { " ".repeat(MORE) + own } else { own.to_owned() };
        text = std::borrow::Cow::Owned(text.split('\n').enumerate().map(one).collect::<Vec<_>>().join("\n"));
        indented = Some((line, next));
    }
}

/// YAML 1.2 wants lines of quoted texts and what stands in brackets further right than the block that they stand in; PyYAML
/// (YAML 1.1) does not, and strangers' files make use of it. Blanks in front of such a line change nothing, so it gets some.
const QUOTED: &str = "invalid indentation in quoted scalar";
const CLOSING: &str = "invalid indentation";
const INSIDE: &str = "invalid indentation in flow construct";
/// How many blanks.
const MORE: usize = 2 * MAX_DEPTH;
/// In how many lines of one text.
const MOST_INDENTED: usize = 400;

/// The document, or the line with what is wrong there.
fn parse_once(text: &str, folder: &Arc<Path>) -> Result<Node, (usize, String)> {
    let mut reader = Reader { folder, events: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0, line: 1 };
    let node = reader.document();
    node.map_err(|what| (reader.line, what.to_string()))
}

struct Reader<'a> {
    folder: &'a Arc<Path>,
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    line: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, Message> {
        match self.events.next() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(event)
            }
            Some(Err(e)) => {
                self.line = e.marker().line();
                Err(e.info().into())
            }
            None => Err("it ends early".into()),
        }
    }

    fn document(&mut self) -> Result<Node, Message> {
        loop {
            match self.next()? {
                Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
                Event::StreamEnd | Event::DocumentEnd => return Ok(Node::Null),
                event => {
                    let node = self.node(event, 0)?;
                    return loop {
                        match self.next()? {
                            Event::StreamEnd => break Ok(node),
                            Event::DocumentStart(_) => break Err("it holds several documents".into()),
                            _ => {}
                        }
                    };
                }
            }
        }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Node, Message> {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(format!("more than {MAX_NODES} values or {MAX_DEPTH} levels are no task file").into());
        }
        match event {
            Event::Alias(id) => {
                let node =
                    self.anchors.get(&id).cloned().ok_or_else(|| Message::from("an alias stands inside of what it names"))?;
                self.nodes += node.count();
                Ok(node)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let node = scalar(&text, style, tag.as_deref(), self.folder)?;
                self.keep(anchor, &node);
                Ok(node)
            }
            Event::SequenceStart(anchor, tag) => {
                no_tag(tag.as_deref())?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break,
                        event => items.push(self.node(event, depth + 1)?),
                    }
                }
                let node = Node::List(items);
                self.keep(anchor, &node);
                Ok(node)
            }
            Event::MappingStart(anchor, tag) => {
                no_tag(tag.as_deref())?;
                let node = Node::Map(self.entries(depth)?);
                self.keep(anchor, &node);
                Ok(node)
            }
            other => Err(format!("unexpected {other:?}").into()),
        }
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<(String, Node)>, Message> {
        let (mut entries, mut merged) = (Entries::new(), Entries::new());
        loop {
            let event = match self.next()? {
                Event::MappingEnd => break,
                event => event,
            };
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.node(event, depth + 1)?;
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            if is_merge {
                let sources = match value {
                    Node::List(items) => items,
                    one => vec![one],
                };
                for source in sources {
                    let Node::Map(more) = source else { return Err("only mappings can be merged".into()) };
                    merged.extend(
                        more.into_iter().filter(|(key, _)| !merged.iter().any(|(known, _)| known == key)).collect::<Vec<_>>(),
                    );
                }
                continue;
            }
            let key = match key {
                Node::Text(text) => text,
                Node::Int(n) => n.to_string(),
                Node::Bool(value) => if value { "True" } else { "False" }.to_owned(),
                Node::Float(value) => bitworth_text::python::float_repr(value),
                Node::Null => "None".to_owned(),
                other => return Err(format!("{} cannot be a key", other.kind()).into()),
            };
            // The last of equal keys counts, at the place of the first.
            match entries.iter_mut().find(|(known, _)| *known == key) {
                Some(entry) => entry.1 = value,
                None => entries.push((key, value)),
            }
        }
        if merged.is_empty() {
            return Ok(entries);
        }
        merged.retain(|(key, _)| !entries.iter().any(|(known, _)| known == key));
        merged.extend(entries);
        Ok(merged)
    }

    fn keep(&mut self, anchor: usize, node: &Node) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
    }
}

fn no_tag(tag: Option<&Tag>) -> Result<(), Message> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && matches!(tag.suffix.as_str(), "map" | "seq")) => {
            Err(format!("the tag {tag} is unknown; tags of texts are !function and those of YAML").into())
        }
        _ => Ok(()),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, folder: &Arc<Path>) -> Result<Node, Message> {
    match tag {
        Some(tag) if tag.handle == "!" && tag.suffix == "function" => {
            Ok(Node::Function(Function { name: text.trim().to_owned(), folder: Arc::clone(folder) }))
        }
        Some(tag) if tag.is_yaml_core_schema() => match (tag.suffix.as_str(), plain(text)) {
            ("str", _) => Ok(Node::Text(text.to_owned())),
            ("float", Node::Int(n)) => Ok(Node::Float(n as f64)),
            ("int" | "float" | "bool" | "null", node) if !matches!(node, Node::Text(_)) => Ok(node),
            (kind, _) => Err(format!("{text:?} is no {kind}").into()),
        },
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(Node::Text(text.to_owned())),
        Some(tag) => Err(format!("the tag {tag} is unknown; tags of texts are !function and those of YAML").into()),
        None if style == ScalarStyle::Plain => Ok(plain(text)),
        None => Ok(Node::Text(text.to_owned())),
    }
}

/// What an untagged text without quotes is by YAML 1.1.
fn plain(text: &str) -> Node {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Node::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Node::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Node::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Node::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Node::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Node::Float(f64::NAN),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return Node::Text(text.to_owned());
    }
    integer(text).map(Node::Int).or_else(|| float(text).map(Node::Float)).unwrap_or_else(|| Node::Text(text.to_owned()))
}

fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = sign(text);
    let all = |digits: &str, radix: u32| {
        let sound = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix) || c == '_') && digits != "_";
        sound.then(|| i64::from_str_radix(&digits.replace('_', ""), radix).ok()).flatten()
    };
    let value = if let Some(digits) = digits.strip_prefix("0b") {
        all(digits, 2)?
    } else if let Some(digits) = digits.strip_prefix("0x") {
        all(digits, 16)?
    } else if digits.len() > 1 && digits.starts_with('0') && !digits.contains(':') {
        all(&digits[1..], 8)?
    } else if digits.contains(':') {
        // Base 60: 1:30 is 90.
        let mut parts = digits.split(':');
        let first = parts.next().filter(|first| first.starts_with(|c: char| ('1'..='9').contains(&c)))?;
        let mut value = all(first, 10)?;
        for part in parts {
            let part = part.parse::<i64>().ok().filter(|n| (0..60).contains(n) && part.len() <= 2)?;
            value = value.checked_mul(60)?.checked_add(part)?;
        }
        value
    } else {
        digits.starts_with(|c: char| c.is_ascii_digit()).then(|| all(digits, 10)).flatten()?
    };
    Some(if negative { -value } else { value })
}

/// A float has a point, and the exponent of one has a sign.
fn float(text: &str) -> Option<f64> {
    let (negative, digits) = sign(text);
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        Some(at) => (&digits[..at], Some(&digits[at + 1..])),
        None => (digits, None),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    let sound = |part: &str| part.chars().all(|c| c.is_ascii_digit() || c == '_');
    if !sound(whole) || !sound(fraction) || whole.starts_with('_') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    if let Some(exponent) = exponent {
        let digits = exponent.strip_prefix(['-', '+'])?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
    }
    let value: f64 = digits.replace('_', "").parse().ok()?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Result<Node, String> {
        super::parse(text, &Arc::from(Path::new("folder"))).map_err(|e| e.to_string())
    }

    #[track_caller]
    fn check(text: &str, expected: Json) {
        assert_eq!(parse(text).unwrap().to_json(), expected, "{text}");
    }

    /// Expected: PyYAML 6.0 `safe_load`.
    #[test]
    fn values_are_read_as_pyyaml_reads_them() {
        check(
            "a: yes\nb: No\nc: 'no'\nd: ~\ne: 010\nf: 1e3\ng: 1.0e+3\nh: 1_000\ni: .5\nj: 1:30\nk: 0x1F",
            json!({
                "a": true, "b": false, "c": "no", "d": null, "e": 8, "f": "1e3", "g": 1000.0, "h": 1000, "i": 0.5,
                "j": 90, "k": 31
            }),
        );
        check(
            "a: 09\nb: +1\nc: -1.\nd: 1.5e3\ne: y\nf: 2.0\ng: '1'",
            json!({"a": "09", "b": 1, "c": -1.0, "d": "1.5e3", "e": "y", "f": 2.0, "g": "1"}),
        );
    }

    /// Expected: PyYAML 6.0 `safe_load`.
    #[test]
    fn texts_fold_as_pyyaml_folds_them() {
        check(
            "a: 'x\n\n\n  y'\nb: \"l\\\n  m\\n\"\nc: |\n  one\n  two\nd: >-\n  one\n  two\n",
            json!({"a": "x\n\ny", "b": "lm\n", "c": "one\ntwo\n", "d": "one two"}),
        );
        check("\"a\": \"x\\\n  \\ y\"", json!({"a": "x y"}));
        check("d: 'Q: {{input}}\n\n  A:'", json!({"d": "Q: {{input}}\nA:"}));
    }

    /// Expected: PyYAML 6.0 `safe_load`.
    #[test]
    fn lines_that_stand_too_far_left_are_read() {
        check("a: \"x\ny\n\nz\"\nb: 1", json!({"a": "x y\nz", "b": 1}));
        check("a:\n  b: 'x\n y\n  z'\nc: 'x\n\ny'", json!({"a": {"b": "x y z"}, "c": "x\ny"}));
        check("a:\n  b: [\n    1,\n  2\n]\nc: 1", json!({"a": {"b": [1, 2]}, "c": 1}));
    }

    #[test]
    fn functions_anchors_and_merges_are_read() {
        check(
            "f: !function utils.f\nx: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\nz: *x",
            json!({"f": "!function utils.f", "x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}, "z": {"a": 1, "b": 2}}),
        );
    }

    #[test]
    fn broken_files_are_errors_with_a_line() {
        for (text, expected) in [
            ("a: 1\nb: [", "line"),
            ("a: !python/object:os.system x", "unknown"),
            ("a: !env [x]", "unknown"),
            ("a: *x", "line 1"),
            ("a: 1\n---\nb: 2", "several"),
            ("? [a]\n: b", "cannot be a key"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let deep = "[".repeat(5000);
        assert!(parse(&deep).is_err());
        let bomb = (0..40).fold("a0: &a0 [x,x]\n".to_owned(), |text, i| text + &format!("a{0}: &a{0} [*a{i},*a{i}]\n", i + 1));
        assert!(parse(&bomb).unwrap_err().contains("more than"));
    }
}

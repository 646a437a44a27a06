//! `"%5.2f" % value`, and the methods `format` and `format_map` of Python's strings. Absent: attributes in fields
//! (`{0.name}`), which are Python's and not a document's; numbers (`python/format.rs`).

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::given::wrong;
use super::print;
use crate::python::format::{Field, Spec, number, percent};

/// A value that is formatted as itself; all others by their text.
fn field(value: &Value) -> Option<Field> {
    match value.kind() {
        ValueKind::Bool => Some(Field::Bool(value.is_true())),
        ValueKind::Number if value.is_integer() => {
            let text = value.to_string();
            let digits = text.strip_prefix('-');
            Some(Field::Int(digits.is_some(), digits.unwrap_or(&text).parse().ok()?))
        }
        ValueKind::Number => f64::try_from(value.clone()).ok().map(Field::Float),
        ValueKind::String => Some(Field::Text(value.as_str()?.to_owned())),
        _ => None,
    }
}

/// `ascii(value)`.
fn ascii(value: &Value) -> Result<String, Error> {
    let mut made = String::new();
    for c in print::repr(value)?.chars() {
        match u32::from(c) {
            0..=0x7f => made.push(c),
            code @ ..=0xff => made += &format!("\\x{code:02x}"),
            code @ ..=0xffff => made += &format!("\\u{code:04x}"),
            code => made += &format!("\\U{code:08x}"),
        }
    }
    Ok(made)
}

/// `template % args`, where `args` is a tuple, a dictionary, or one value.
pub(super) fn printf(state: &State, template: &str, args: &Value) -> Result<Value, Error> {
    let tuple = args.is_tuple();
    let items: Vec<Value> = if tuple { args.try_iter()?.collect() } else { vec![args.clone()] };
    let mut items = items.into_iter();
    let mut next = || items.next().ok_or_else(|| wrong("not enough arguments for format string"));
    let mut named = false;
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        out += &rest[..at];
        rest = &rest[at + 1..];
        let mut given = None;
        if let Some(behind) = rest.strip_prefix('(') {
            let (key, behind) = behind.split_once(')').ok_or_else(|| wrong("incomplete format key"))?;
            if args.kind() != ValueKind::Map {
                return Err(wrong("format requires a mapping"));
            }
            let item = args.get_item(&Value::from(key))?;
            if item.is_undefined() {
                return Err(wrong(format!("the format names {key:?}, which is not given")));
            }
            (given, rest, named) = (Some(item), behind, true);
        }
        let mut spec = Spec::default();
        while let Some(flag) = rest.chars().next().filter(|c| "-+ #0".contains(*c)) {
            match flag {
                '-' => spec.align = Some('<'),
                '+' => spec.sign = '+',
                ' ' if spec.sign != '+' => spec.sign = ' ',
                '#' => spec.alternate = true,
                '0' => spec.zero = true,
                _ => {}
            }
            rest = &rest[1..];
        }
        let mut size = |rest: &mut &str| -> Result<Option<i64>, Error> {
            if let Some(behind) = rest.strip_prefix('*') {
                *rest = behind;
                return i64::try_from(next()?).map(Some).map_err(|_| wrong("* wants an integer"));
            }
            let (n, behind) = number(rest).map_err(wrong)?;
            *rest = behind;
            Ok(n.map(|n| n as i64))
        };
        let width = size(&mut rest)?.unwrap_or(0);
        if width < 0 {
            spec.align = Some('<');
        }
        let bounded = |n: i64| number(&n.unsigned_abs().to_string()).map(|(n, _)| n.unwrap_or(0)).map_err(wrong);
        spec.width = bounded(width)?;
        if let Some(behind) = rest.strip_prefix('.') {
            rest = behind;
            spec.precision = Some(bounded(size(&mut rest)?.unwrap_or(0).max(0))?);
        }
        rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
        let kind = rest.chars().next().ok_or_else(|| wrong("incomplete format"))?;
        rest = &rest[kind.len_utf8()..];
        spec.kind = Some(kind);
        if kind == '%' {
            out.push('%');
            continue;
        }
        if !"diuxXoeEfFgGcrsa".contains(kind) {
            return Err(wrong(format!("unsupported format character {kind:?}")));
        }
        let value = match given {
            Some(value) => value,
            None => next()?,
        };
        let content = match kind {
            's' => Field::Text(print::text(state, &value)?),
            'r' => Field::Text(print::repr(&value)?),
            'a' => Field::Text(ascii(&value)?),
            'c' => Field::Text(character(&value)?),
            _ => field(&value).ok_or_else(|| wrong(format!("%{kind} takes a number, not {}", value.kind())))?,
        };
        let made = percent(&spec, &content).map_err(wrong)?;
        state.consume_fuel((made.len() / 64) as u64)?;
        out += &made;
    }
    out += rest;
    // Lists and dictionaries may be left over, as whatever can be asked for an item by name.
    let mapping = !tuple && matches!(args.kind(), ValueKind::Map | ValueKind::Seq | ValueKind::Iterable);
    if !named && !mapping && items.next().is_some() {
        return Err(wrong("not all arguments converted during string formatting"));
    }
    Ok(Value::from(out))
}

/// `%c`: a character, or its code.
fn character(value: &Value) -> Result<String, Error> {
    let code = || u32::try_from(value.clone()).ok().filter(|_| value.is_integer()).and_then(char::from_u32);
    match value.as_str() {
        Some(text) if text.chars().count() == 1 => Some(text.to_owned()),
        Some(_) => None,
        None => code().map(String::from),
    }
    .ok_or_else(|| wrong("%c requires int or char"))
}

/// What `format` is given: values by number and by name.
pub(super) struct Given<'a> {
    pub(super) items: &'a [Value],
    pub(super) named: &'a dyn Fn(&str) -> Option<Value>,
}

/// Fields take numbers of their own, or have them.
#[derive(Clone, Copy, PartialEq)]
enum Numbers {
    Unknown,
    Counted(usize),
    Written,
}

/// `template.format(...)`.
pub(super) fn format(state: &State, template: &str, given: &Given) -> Result<Value, Error> {
    let mut numbers = Numbers::Unknown;
    expand(state, template, given, &mut numbers, 2).map(Value::from)
}

fn expand(state: &State, template: &str, given: &Given, numbers: &mut Numbers, depth: usize) -> Result<String, Error> {
    let Some(depth) = depth.checked_sub(1) else { return Err(wrong("max string recursion exceeded")) };
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        out += &rest[..at];
        let double = rest[at..].starts_with("{{") || rest[at..].starts_with("}}");
        if double {
            out += &rest[at..=at];
            rest = &rest[at + 2..];
            continue;
        }
        if rest[at..].starts_with('}') {
            return Err(wrong("a format with a single '}'"));
        }
        let inner = &rest[at + 1..];
        let end = closing(inner).ok_or_else(|| wrong("a format with a '{' that is not closed"))?;
        let made = one(state, &inner[..end], given, numbers, depth)?;
        state.consume_fuel((made.len() / 64) as u64)?;
        out += &made;
        rest = &inner[end + 1..];
    }
    Ok(out + rest)
}

/// Where the field ends.
fn closing(text: &str) -> Option<usize> {
    let (mut open, mut bracket) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            '[' if open == 0 => bracket = true,
            ']' => bracket = false,
            '{' if !bracket => open += 1,
            '}' if !bracket && open == 0 => return Some(i),
            '}' if !bracket => open -= 1,
            _ => {}
        }
    }
    None
}

/// `name!conversion:spec`.
fn one(state: &State, text: &str, given: &Given, numbers: &mut Numbers, depth: usize) -> Result<String, Error> {
    let name_end = text.find(['!', ':', '[']).map_or(text.len(), |at| match text[at..].starts_with('[') {
        true => text[at..].rfind(']').map_or(text.len(), |n| at + n + 1),
        false => at,
    });
    let (name, rest) = text.split_at(name_end);
    let (conversion, spec) = match rest.strip_prefix('!') {
        Some(rest) => {
            let (conversion, spec) = rest.split_once(':').unwrap_or((rest, ""));
            (Some(conversion), spec)
        }
        None => (None, rest.strip_prefix(':').unwrap_or(rest)),
    };
    let value = lookup(name, given, numbers)?;
    let spec = if spec.contains('{') { expand(state, spec, given, numbers, depth)? } else { spec.to_owned() };
    let content = match conversion {
        None => field(&value),
        Some("s") => Some(Field::Text(print::text(state, &value)?)),
        Some("r") => Some(Field::Text(print::repr(&value)?)),
        Some("a") => Some(Field::Text(ascii(&value)?)),
        Some(other) => return Err(wrong(format!("unknown conversion {other:?} in a format"))),
    };
    if spec.is_empty() {
        return match content {
            Some(Field::Text(text)) => Ok(text),
            _ => print::text(state, &value),
        };
    }
    let content = content.ok_or_else(|| wrong(format!("a value of the kind {} takes no format {spec:?}", value.kind())))?;
    Spec::parse(&spec).and_then(|spec| spec.write(&content)).map_err(wrong)
}

/// `0`, `name`, `0[1]`, `name[key]`.
fn lookup(name: &str, given: &Given, numbers: &mut Numbers) -> Result<Value, Error> {
    let (first, mut rest) = name.split_at(name.find('[').unwrap_or(name.len()));
    if first.contains('.') || rest.contains("].") {
        return Err(wrong(format!("the field {{{name}}} reads an attribute, which is not supported")));
    }
    let mixed = || wrong("fields with and without numbers in one format");
    let by_number = |at: usize| given.items.get(at).cloned().ok_or_else(|| wrong(format!("the format lacks argument {at}")));
    let mut value = if first.is_empty() {
        let at = match *numbers {
            Numbers::Unknown => 0,
            Numbers::Counted(at) => at,
            Numbers::Written => return Err(mixed()),
        };
        *numbers = Numbers::Counted(at + 1);
        by_number(at)?
    } else if let Ok(at) = first.parse::<usize>() {
        if matches!(numbers, Numbers::Counted(_)) {
            return Err(mixed());
        }
        *numbers = Numbers::Written;
        by_number(at)?
    } else {
        (given.named)(first).ok_or_else(|| wrong(format!("the format names {first:?}, which is not given")))?
    };
    while let Some(inner) = rest.strip_prefix('[') {
        let (key, behind) = inner.split_once(']').ok_or_else(|| wrong(format!("the field {{{name}}} is not closed")))?;
        let key = key.parse::<usize>().map_or_else(|_| Value::from(key), Value::from);
        value = value.get_item(&key)?;
        if value.is_undefined() {
            return Err(wrong(format!("the field {{{name}}} names what is not there")));
        }
        rest = behind;
    }
    Ok(value)
}

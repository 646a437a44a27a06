//! Numbers and texts in a width and a precision, as `format(value, spec)` and `"%5.2f" % value` of Python write them. Absent:
//! what a template's values are, and the pattern that names them (`template/format.rs`).
//!
//! Sources: Python's documentation, "Format Specification Mini-Language" and "printf-style String Formatting"; CPython's
//! `Python/formatter_unicode.c`.

use bitworth_quant::message::Message;

use super::float_repr;

/// Wider fields and finer numbers are none of a task's.
const MOST: usize = 1 << 12;

/// What a field holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    Bool(bool),
    /// Whether it is negative, and its magnitude.
    Int(bool, u128),
    Float(f64),
    Text(String),
}

/// How a field is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub fill: char,
    pub align: Option<char>,
    /// `+`, a blank, or `-`.
    pub sign: char,
    pub alternate: bool,
    pub zero: bool,
    pub width: usize,
    pub grouping: Option<char>,
    pub precision: Option<usize>,
    pub kind: Option<char>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            fill: ' ',
            align: None,
            sign: '-',
            alternate: false,
            zero: false,
            width: 0,
            grouping: None,
            precision: None,
            kind: None,
        }
    }
}

/// The number that a text begins with, and what follows.
pub fn number(text: &str) -> Result<(Option<usize>, &str), Message> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Ok((None, rest));
    }
    match digits.parse() {
        Ok(n) if n <= MOST => Ok((Some(n), rest)),
        _ => Err(format!("a width or precision of {digits}; at most {MOST} are supported").into()),
    }
}

impl Spec {
    /// `[[fill]align][sign][#][0][width][grouping][.precision][type]`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, Message> {
        let mut spec = Self::default();
        let mut rest = text;
        let is_align = |c: char| matches!(c, '<' | '>' | '=' | '^');
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(fill), Some(align)) if is_align(align) => {
                (spec.fill, spec.align) = (fill, Some(align));
                rest = chars.as_str();
            }
            (Some(align), _) if is_align(align) => {
                spec.align = Some(align);
                rest = &text[1..];
            }
            _ => {}
        }
        let take = |rest: &mut &str, wanted: &[char]| {
            let c = rest.chars().next().filter(|c| wanted.contains(c))?;
            *rest = &rest[c.len_utf8()..];
            Some(c)
        };
        spec.sign = take(&mut rest, &['+', '-', ' ']).unwrap_or('-');
        spec.alternate = take(&mut rest, &['#']).is_some();
        if take(&mut rest, &['0']).is_some() {
            spec.zero = true;
            if spec.align.is_none() {
                spec.fill = '0';
            }
        }
        let (width, behind) = number(rest)?;
        (spec.width, rest) = (width.unwrap_or(0), behind);
        spec.grouping = take(&mut rest, &[',', '_']);
        if take(&mut rest, &['.']).is_some() {
            let (precision, behind) = number(rest)?;
            (spec.precision, rest) = (Some(precision.ok_or("a format without a precision behind its point")?), behind);
        }
        spec.kind = rest.chars().next();
        match rest.chars().count() {
            0 | 1 => Ok(spec),
            _ => Err(format!("{text:?} is no format").into()),
        }
    }

    /// `format(field, spec)`.
    ///
    /// # Errors
    /// A format that such a value does not have.
    pub fn write(&self, field: &Field) -> Result<String, Message> {
        match field {
            Field::Text(text) => self.text(text),
            Field::Bool(value) if *self == Self::default() => Ok(if *value { "True" } else { "False" }.to_owned()),
            Field::Bool(value) => self.integer(false, u128::from(*value)),
            Field::Int(negative, magnitude) => self.integer(*negative, *magnitude),
            Field::Float(value) => self.float(*value),
        }
    }

    fn unknown(&self, what: &str) -> Message {
        format!("{what} cannot be formatted with {:?}", self.kind.unwrap_or(' ')).into()
    }

    fn text(&self, text: &str) -> Result<String, Message> {
        if !matches!(self.kind, None | Some('s')) {
            return Err(self.unknown("a string"));
        }
        if self.sign != '-' || self.alternate || self.grouping.is_some() || self.align == Some('=') {
            return Err("a sign, an alternate form and grouping are for numbers, not for strings".into());
        }
        let cut: String = text.chars().take(self.precision.unwrap_or(usize::MAX)).collect();
        Ok(pad(&cut, self.fill, self.align.unwrap_or('<'), self.width))
    }

    fn integer(&self, negative: bool, magnitude: u128) -> Result<String, Message> {
        let kind = self.kind.unwrap_or('d');
        if "eEfFgG%".contains(kind) {
            let float = magnitude as f64;
            return self.float(if negative { -float } else { float });
        }
        if self.precision.is_some() {
            return Err("an integer takes no precision".into());
        }
        let (prefix, digits) = match kind {
            'd' | 'n' => ("", magnitude.to_string()),
            'x' => ("0x", format!("{magnitude:x}")),
            'X' => ("0X", format!("{magnitude:X}")),
            'o' => ("0o", format!("{magnitude:o}")),
            'b' => ("0b", format!("{magnitude:b}")),
            'c' => {
                let code = u32::try_from(magnitude).ok().filter(|_| !negative).and_then(char::from_u32);
                let c = code.ok_or_else(|| format!("{magnitude} is no character"))?;
                return Ok(pad(&c.to_string(), self.fill, self.align.unwrap_or('>'), self.width));
            }
            _ => return Err(self.unknown("an integer")),
        };
        if kind == 'n' && self.grouping.is_some() || self.grouping == Some(',') && kind != 'd' {
            return Err(self.unknown("a grouped integer"));
        }
        let prefix = if self.alternate { prefix } else { "" };
        let every = if kind == 'd' { 3 } else { 4 };
        Ok(self.number(negative, prefix, &digits, "", every))
    }

    fn float(&self, value: f64) -> Result<String, Message> {
        if let Some(kind) = self.kind.filter(|kind| !"eEfFgGn%".contains(*kind)) {
            return Err(format!("a float cannot be formatted with {kind:?}").into());
        }
        let negative = value.is_sign_negative() && !value.is_nan();
        let value = value.abs();
        let body = match (self.kind, self.precision) {
            (None, None) => float_repr(value),
            (None, Some(precision)) => general(value, precision, self.alternate, true),
            (Some('%'), precision) => float(value * 100.0, 'f', precision, self.alternate),
            (Some('n'), precision) => float(value, 'g', precision, self.alternate),
            (Some(kind), precision) => float(value, kind, precision, self.alternate),
        };
        let end = body.find(|c: char| !c.is_ascii_digit()).unwrap_or(body.len());
        let (whole, rest) = if value.is_finite() { body.split_at(end) } else { ("", body.as_str()) };
        let rest = if self.kind == Some('%') { format!("{rest}%") } else { rest.to_owned() };
        Ok(self.number(negative, "", whole, &rest, 3))
    }

    /// Sign, prefix, digits in groups, and what stands behind them.
    fn number(&self, negative: bool, prefix: &str, digits: &str, rest: &str, every: usize) -> String {
        let sign = match (negative, self.sign) {
            (true, _) => "-",
            (false, '+') => "+",
            (false, ' ') => " ",
            _ => "",
        };
        let head = format!("{sign}{prefix}");
        let inner = self.align == Some('=') || self.zero && self.align.is_none();
        let taken = head.len() + rest.chars().count();
        let digits = match self.grouping {
            // Zeros that fill a width are grouped with the digits.
            Some(mark) if inner && self.fill == '0' => grouped(digits, mark, every, self.width.saturating_sub(taken)),
            Some(mark) => grouped(digits, mark, every, 0),
            None => digits.to_owned(),
        };
        if inner {
            let missing = self.width.saturating_sub(taken + digits.chars().count());
            return format!("{head}{}{digits}{rest}", self.fill.to_string().repeat(missing));
        }
        pad(&format!("{head}{digits}{rest}"), self.fill, self.align.unwrap_or('>'), self.width)
    }
}

/// Digits in groups, with zeros before them until they are `width` wide.
fn grouped(digits: &str, mark: char, every: usize, width: usize) -> String {
    let mut back: Vec<char> = Vec::new();
    let mut source = digits.chars().rev();
    let mut count = 0;
    loop {
        let next = source.next();
        if next.is_none() && back.len() >= width {
            break;
        }
        if count > 0 && count % every == 0 {
            back.push(mark);
        }
        back.push(next.unwrap_or('0'));
        count += 1;
    }
    back.into_iter().rev().collect()
}

/// A text in a width.
pub fn pad(text: &str, fill: char, align: char, width: usize) -> String {
    let missing = width.saturating_sub(text.chars().count());
    let before = match align {
        '<' => 0,
        '^' => missing / 2,
        _ => missing,
    };
    let fill = |n: usize| fill.to_string().repeat(n);
    fill(before) + text + &fill(missing - before)
}

/// A number that is not negative as `%e`, `%f` and `%g` write it; capitals likewise.
pub fn float(value: f64, kind: char, precision: Option<usize>, alternate: bool) -> String {
    let precision = precision.unwrap_or(6);
    let made = match kind.to_ascii_lowercase() {
        _ if !value.is_finite() => float_repr(value),
        'e' => exponent(&format!("{value:.precision$e}"), alternate),
        'g' => general(value, precision, alternate, false),
        _ => {
            let made = format!("{value:.precision$}");
            if alternate && precision == 0 { made + "." } else { made }
        }
    };
    if kind.is_ascii_uppercase() { made.to_ascii_uppercase() } else { made }
}

/// Rust's exponent as C writes it: with a sign and at least two digits.
fn exponent(text: &str, alternate: bool) -> String {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    let point = if alternate && !digits.contains('.') { "." } else { "" };
    format!("{digits}{point}e{sign}{exponent:0>2}")
}

/// `%g`; with `float`, as `format` without a type writes floats: with a digit behind the point.
fn general(value: f64, precision: usize, alternate: bool, float: bool) -> String {
    if !value.is_finite() {
        return float_repr(value);
    }
    let precision = precision.max(1);
    let scientific = format!("{value:.*e}", precision - 1);
    let power: i64 = scientific.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0);
    let limit = precision as i64 - i64::from(float);
    let strip = |text: &str| match text.contains('.') && !alternate {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if power < -4 || power >= limit {
        let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        return exponent(&format!("{}e{power}", strip(digits)), alternate);
    }
    let decimals = usize::try_from(precision as i64 - 1 - power).unwrap_or(0);
    let fixed = format!("{value:.decimals$}");
    let made = strip(&if alternate && decimals == 0 { fixed + "." } else { fixed });
    if float && !made.contains('.') { made + ".0" } else { made }
}

/// `"%5.2f" % value`: one conversion, of which `spec` has the flags (`align` is `<` for `-`).
///
/// # Errors
/// A conversion that such a value does not have.
pub fn percent(spec: &Spec, field: &Field) -> Result<String, Message> {
    let kind = spec.kind.unwrap_or('s');
    let left = spec.align == Some('<');
    let whole = |field: &Field| match field {
        Field::Bool(value) => Ok((false, u128::from(*value))),
        Field::Int(negative, magnitude) => Ok((*negative, *magnitude)),
        Field::Float(value) if value.is_finite() && value.abs() < 1e38 && "diu".contains(kind) => {
            Ok((*value <= -1.0, value.abs().trunc() as u128))
        }
        _ => Err(Message::from(format!("%{kind} takes a number, not this value"))),
    };
    let (negative, prefix, digits) = match kind {
        's' | 'r' | 'a' | 'c' => {
            let text = match field {
                Field::Text(text) => text,
                _ => return Err(format!("%{kind} takes a text").into()),
            };
            let cut: String = text.chars().take(spec.precision.filter(|_| kind != 'c').unwrap_or(usize::MAX)).collect();
            return Ok(pad(&cut, ' ', if left { '<' } else { '>' }, spec.width));
        }
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let (negative, magnitude) = whole(field)?;
            let (prefix, digits) = match kind {
                'x' => ("0x", format!("{magnitude:x}")),
                'X' => ("0X", format!("{magnitude:X}")),
                'o' => ("0o", format!("{magnitude:o}")),
                _ => ("", magnitude.to_string()),
            };
            let digits = pad(&digits, '0', '>', spec.precision.unwrap_or(0));
            (negative, if spec.alternate { prefix } else { "" }, digits)
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let value = match field {
                Field::Float(value) => *value,
                Field::Bool(_) | Field::Int(..) => {
                    let (negative, magnitude) = whole(field)?;
                    if negative { -(magnitude as f64) } else { magnitude as f64 }
                }
                Field::Text(_) => return Err(format!("%{kind} takes a number, not a string").into()),
            };
            let negative = value.is_sign_negative() && !value.is_nan();
            (negative, "", float(value.abs(), kind, spec.precision, spec.alternate))
        }
        _ => return Err(format!("%{kind} is no conversion").into()),
    };
    let sign = match (negative, spec.sign) {
        (true, _) => "-",
        (false, '+') => "+",
        (false, ' ') => " ",
        _ => "",
    };
    let missing = spec.width.saturating_sub(sign.len() + prefix.len() + digits.chars().count());
    Ok(match (left, spec.zero) {
        (true, _) => format!("{sign}{prefix}{digits}{}", " ".repeat(missing)),
        (false, true) => format!("{sign}{prefix}{}{digits}", "0".repeat(missing)),
        (false, false) => format!("{}{sign}{prefix}{digits}", " ".repeat(missing)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: CPython 3.11.
    #[test]
    fn numbers_are_formatted_as_python_formats_them() {
        for (value, spec, expected) in [
            (1234567.891, ",.2f", "1,234,567.89"),
            (-3.15159, "010.2f", "-000003.15"),
            (1e-7, "g", "1e-07"),
            (1234567.0, ".3g", "1.23e+06"),
            (2.5, ".0f", "2"),
            (3.0, ".3", "3.0"),
            (0.123, ".1%", "12.3%"),
            (1234.5, "012,.1f", "00,001,234.5"),
            (100.0, ".3", "1e+02"),
            (2.0, "#g", "2.00000"),
        ] {
            let made = Spec::parse(spec).and_then(|parsed| parsed.write(&Field::Float(value)));
            assert_eq!(made.as_deref(), Ok(expected), "{value} {spec}");
        }
        for (value, spec, expected) in [(5, "=+8d", "+      5"), (255, "#x", "0xff"), (7, "03d", "007"), (7, ">3", "  7")] {
            let made = Spec::parse(spec).and_then(|parsed| parsed.write(&Field::Int(false, value)));
            assert_eq!(made.as_deref(), Ok(expected), "{value} {spec}");
        }
        assert!(Spec::parse("d").unwrap().write(&Field::Float(1.5)).is_err());
        assert!(Spec::parse("s").unwrap().write(&Field::Int(false, 1)).is_err());
        assert!(Spec::parse("9999999").is_err());
    }
}

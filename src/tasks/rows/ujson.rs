//! Hugging Face's `datasets` passes some rows through ujson, the JSON library of pandas. This does to numbers and strings what
//! ujson does: floats keep ten decimals, and strings that hold JSON are parsed. Absent: which rows these are
//! ([`super::inferred`]).
//!
//! Source: pandas 3.1 (`ujson_dumps`, `ujson_loads`).

use bitworth_text::python;
use serde_json::Value;

/// Decimals that are written.
const DECIMALS: usize = 10;
/// Digits behind the point that are read.
const MOST_DIGITS: usize = 15;
const TENTHS: [f64; MOST_DIGITS + 1] =
    [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15];

/// A text that is a number of which there is none here: infinite, or an integer of more than 64 bits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// A float that was read and written, and then read by another reader.
pub(super) fn written(x: f64) -> f64 {
    let text = text_of(float(&python::float_repr(x)));
    text.parse().unwrap_or(x)
}

/// A float that was read, written and read.
pub(super) fn read_again(x: f64) -> f64 {
    float(&text_of(float(&python::float_repr(x))))
}

/// All floats in a value.
pub(super) fn each_float(value: &mut Value, make: fn(f64) -> f64) {
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(made) = number.as_f64().map(make).and_then(serde_json::Number::from_f64) {
                *value = Value::Number(made);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_float(item, make)),
        Value::Object(fields) => fields.values_mut().for_each(|item| each_float(item, make)),
        _ => {}
    }
}

/// What a text says as JSON, or nothing where it is none.
pub(super) fn value(text: &str) -> Result<Option<Value>, TooLarge> {
    let text = text.trim_matches([' ', '\t', '\n', '\r']);
    match text {
        "NaN" => return Ok(Some(Value::Null)),
        "Infinity" | "-Infinity" => return Err(TooLarge),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => return number(text),
        _ => {}
    }
    let mut value: Option<Value> = serde_json::from_str(text).ok();
    if let Some(value) = &mut value {
        each_float(value, |x| float(&python::float_repr(x)));
    }
    Ok(value)
}

/// A number; ujson minds neither zeros in front nor digits that are missing.
fn number(text: &str) -> Result<Option<Value>, TooLarge> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(mantissa, rest)| (mantissa, Some(rest)));
    let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
    let (whole, fraction) = unsigned.split_once('.').map_or((unsigned, None), |(whole, rest)| (whole, Some(rest)));
    let power = exponent.map_or("", |text| text.strip_prefix(['+', '-']).unwrap_or(text));
    if !(digits(whole) && digits(fraction.unwrap_or_default()) && digits(power)) {
        return Ok(None);
    }
    if fraction.is_some() || exponent.is_some() {
        let made = serde_json::Number::from_f64(float(text)).ok_or(TooLarge)?;
        return Ok(Some(Value::Number(made)));
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    if mantissa.len() == unsigned.len() {
        return whole.parse::<u64>().map(|n| Some(n.into())).map_err(|_| TooLarge);
    }
    format!("-{whole}").parse::<i64>().map(|n| Some(n.into())).map_err(|_| TooLarge)
}

/// A float as it is read: whole and fraction each as a float.
fn float(text: &str) -> f64 {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, ""));
    let (sign, unsigned) = mantissa.strip_prefix('-').map_or((1.0, mantissa), |rest| (-1.0, rest));
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let kept = &fraction.as_bytes()[..fraction.len().min(MOST_DIGITS)];
    let behind = kept.iter().fold(0.0, |sum, digit| sum * 10.0 + f64::from(digit - b'0'));
    let whole = if whole.is_empty() { 0.0 } else { whole.parse().unwrap_or(f64::NAN) };
    let read = (whole + behind * TENTHS[kept.len()]) * sign;
    match exponent {
        "" => read,
        power => read * 10f64.powf(power.parse().unwrap_or(0.0)),
    }
}

/// A float as it is written.
fn text_of(x: f64) -> String {
    let size = x.abs();
    if size > 1e16 - 1.0 || (size != 0.0 && size < 1e-15) {
        // C's `%.10g`.
        let written = format!("{x:.9e}");
        let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
        return format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'));
    }
    let mut whole = size as u64;
    let scaled = (size - whole as f64) * 1e10;
    let mut fraction = scaled as u64;
    let rest = scaled - fraction as f64;
    // Halves go up from odd digits, and from none.
    if rest > 0.5 || (rest == 0.5 && (fraction == 0 || fraction % 2 == 1)) {
        fraction += 1;
    }
    if fraction >= 10_000_000_000 {
        (whole, fraction) = (whole + 1, 0);
    }
    let behind = format!("{fraction:0DECIMALS$}");
    let behind = behind.trim_end_matches('0');
    // The sign of a zero is lost.
    format!("{}{whole}.{}", if x < 0.0 { "-" } else { "" }, if behind.is_empty() { "0" } else { behind })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Expected: `load_dataset("json", ...)` of datasets 5.2 with pandas 3.1.
    #[test]
    fn floats_keep_ten_decimals() {
        for (x, expected) in [
            (-0.0, 0.0),
            (0.12345678901234567, 0.123456789),
            (1e-12, 0.0),
            (1e22, 1e22),
            (1.5e-20, 1.5e-20),
            (1e300, 1e300),
            (1234567.125, 1234567.125),
            (0.99999999999, 1.0),
            (-2.5, -2.5),
        ] {
            assert_eq!(written(x).to_bits(), f64::to_bits(expected), "{x}");
        }
        for (x, expected) in [(0.12345678901234567, 0.12345678900000001), (1.5e-20, 1.4999999999999998e-20), (-0.0, 0.0)] {
            assert_eq!(read_again(x).to_bits(), f64::to_bits(expected), "{x}");
        }
    }

    /// Expected: `ujson_loads` of pandas 3.1.
    #[test]
    fn texts_say_what_ujson_reads() {
        for (text, expected) in [
            ("5", json!(5)),
            (" 5 ", json!(5)),
            ("-0", json!(0)),
            ("-", json!(0)),
            ("01", json!(1)),
            ("-007", json!(-7)),
            ("1.", json!(1.0)),
            ("-.5", json!(-0.5)),
            ("1e5", json!(100_000.0)),
            ("1e", json!(1.0)),
            ("NaN", json!(null)),
            ("true ", json!(true)),
            ("\"q\"", json!("q")),
            ("[1]", json!([1])),
            ("{}", json!({})),
        ] {
            assert_eq!(value(text), Ok(Some(expected)), "{text}");
        }
        for text in
            ["", "tru", "nan", "inf", "x", "+5", ".5", "'a'", "1 2", "0x1", "12:30", "1/2", "5 apples", "-x", "2020-01-02"]
        {
            assert_eq!(value(text), Ok(None), "{text}");
        }
        for text in ["Infinity", "-Infinity", "1e400", "123456789012345678901"] {
            assert_eq!(value(text), Err(TooLarge), "{text}");
        }
    }
}

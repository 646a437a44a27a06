//! Texts that Arrow takes for times of seconds, and what Python prints for them. Absent: which columns become times.
//!
//! Source: pyarrow 26 (`read_json`, by experiment).

use chrono::{NaiveDate, NaiveDateTime, TimeDelta};

/// The time that a text is, in UTC: `YYYY-MM-DD`, maybe behind a blank or `T` with `HH`, `HH:MM` or `HH:MM:SS` and a zone
/// (`Z`, `+HH`, `+HHMM`, `+HH:MM`).
pub(super) fn time(text: &str) -> Option<NaiveDateTime> {
    let (date, rest) = text.split_at_checked(10)?;
    let [year, month, day] = numbers(date, '-', 4)?[..] else { return None };
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    let (clock, zone) = match rest {
        "" => ("00", ""),
        rest => {
            let rest = rest.strip_prefix([' ', 'T'])?;
            rest.split_at(rest.find(['Z', '+', '-']).unwrap_or(rest.len()))
        }
    };
    let clock = numbers(clock, ':', 2)?;
    let part = |at: usize| clock.get(at).copied().unwrap_or(0);
    let time = if clock.len() > 3 { None } else { date.and_hms_opt(part(0), part(1), part(2)) }?;
    let time = time.checked_sub_signed(TimeDelta::minutes(offset(zone)?))?;
    // Python has no others.
    ("0001".."9999~").contains(&time.to_string().as_str()).then_some(time)
}

/// How many minutes a zone is before UTC.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z") {
        return Some(0);
    }
    let (sign, digits) = zone.split_at_checked(1)?;
    let parts = match digits.len() {
        4 => [numbers(digits.get(..2)?, ':', 2)?, numbers(digits.get(2..)?, ':', 2)?].concat(),
        2 | 5 => numbers(digits, ':', 2)?,
        _ => return None,
    };
    let (hours, minutes) = (*parts.first()?, parts.get(1).copied().unwrap_or(0));
    let minutes = (hours < 24 && minutes < 60).then(|| i64::from(hours * 60 + minutes))?;
    Some(if sign == "-" { -minutes } else { minutes })
}

/// Numbers with a sign between them: the first of that many digits, others of two.
fn numbers(text: &str, between: char, first: usize) -> Option<Vec<u32>> {
    let one = |(at, part): (usize, &str)| {
        let is_number = part.len() == if at == 0 { first } else { 2 } && part.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { part.parse().ok() } else { None }
    };
    text.split(between).enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: `load_dataset("json", ...)` of datasets 5.2 with pyarrow 26.
    #[test]
    fn texts_are_times_where_arrow_takes_them_for_some() {
        for (text, expected) in [
            ("2020-01-02", "2020-01-02 00:00:00"),
            ("2020-01-02T10:00:00Z", "2020-01-02 10:00:00"),
            ("2020-01-02 10:00:00", "2020-01-02 10:00:00"),
            ("2020-01-02 10:00", "2020-01-02 10:00:00"),
            ("2020-01-02 10", "2020-01-02 10:00:00"),
            ("2020-01-02T10Z", "2020-01-02 10:00:00"),
            ("2020-01-02T10:00:00+02:00", "2020-01-02 08:00:00"),
            ("2020-01-02 10:00:00+2359", "2020-01-01 10:01:00"),
            ("2020-01-02 10:00:00-02", "2020-01-02 12:00:00"),
            ("2020-01-02T10:00:00-00:30", "2020-01-02 10:30:00"),
            ("0001-01-01", "0001-01-01 00:00:00"),
            ("9999-12-31", "9999-12-31 00:00:00"),
            ("2020-02-29", "2020-02-29 00:00:00"),
        ] {
            assert_eq!(time(text).map(|time| time.to_string()).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "2020",
            "10:00",
            "2020-1-2",
            "20200102",
            "2020-13-02",
            "2020-02-30",
            "1900-02-29",
            "2020-01-02 ",
            "2020-01-02Z",
            "2020-01-02T10:00:00.5",
            "2020-01-02 24:00:00",
            "2020-01-02 100000",
            "2020-01-02T10:00:60",
            "2020-01-02t10:00:00z",
            "2020-01-02 10:00:00 +02:00",
            "2020-01-02 10:00:00+24:00",
            "2020-01-02 10:00:00+23:60",
            "2020-01-02 23:60",
            "2020-01-02  10:00",
            "2020-01-02T1:00",
            "-2020-01-01",
            "+2020-01-01",
            "2020-01-02Tä",
            "20ä0-01-02",
        ] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}

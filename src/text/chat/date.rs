//! The day that a template may ask for, and Python's `strftime` of it, by chrono. No clock: the day is given.

use std::fmt::Write;
use std::str::FromStr;

use chrono::{NaiveDate, NaiveTime};

/// A format that a day cannot be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A code that is not known.
    #[error("strftime_now does not know %{0}")]
    Unknown(char),
    /// A code that is missing.
    #[error("strftime_now was given a format that ends with %")]
    Open,
}

/// A text that is no day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no day; write it as 2024-07-26")]
pub struct NoDate(String);

/// A day of the Gregorian calendar. Its time is midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date(NaiveDate);

impl Date {
    /// The day of chats whose results are kept, so that the same inputs give the same records whenever they are made: the one
    /// that Llama 3's templates name where there is no clock.
    pub const OF_RECORDS: Self = Self(NaiveDate::from_ymd_opt(2024, 7, 26).unwrap());

    /// The day so many days after 1 January 1970; the last one there is where there are not so many.
    pub fn from_days(days: i64) -> Self {
        // 1 January of the year 1 is day 1.
        let day = i32::try_from(days.saturating_add(719_163)).ok().and_then(NaiveDate::from_num_days_from_ce_opt);
        Self(day.unwrap_or(NaiveDate::MAX))
    }

    /// The day as Python's `strftime` writes it, in English.
    ///
    /// # Errors
    /// The code that is not known.
    pub fn format(self, format: &str) -> Result<String, FormatError> {
        let midnight = self.0.and_time(NaiveTime::MIN);
        let mut text = String::new();
        let mut rest = format;
        while let Some((before, code)) = rest.split_once('%') {
            text += before;
            // With a hyphen: without leading zeros.
            let (hyphen, code) = code.strip_prefix('-').map_or(("", code), |code| ("-", code));
            let Some(letter) = code.chars().next() else {
                return Err(FormatError::Open);
            };
            rest = &code[letter.len_utf8()..];
            // chrono would take signs and digits for codes of its own.
            let is_code = letter.is_ascii_alphabetic() || letter == '%';
            match letter {
                // Python gives microseconds, chrono nanoseconds.
                'f' => text += "000000",
                // A time without a zone, as `datetime.now()` gives.
                'z' | 'Z' => {}
                _ if is_code && write!(text, "{}", midnight.format(&format!("%{hyphen}{letter}"))).is_ok() => {}
                _ => return Err(FormatError::Unknown(letter)),
            }
        }
        Ok(text + rest)
    }
}

impl FromStr for Date {
    type Err = NoDate;

    fn from_str(text: &str) -> Result<Self, NoDate> {
        let error = || NoDate(text.to_owned());
        let parts: Vec<u32> = text.split('-').map(|part| part.parse().ok()).collect::<Option<_>>().ok_or_else(error)?;
        let &[year @ 1..=9999, month, day] = parts.as_slice() else { return Err(error()) };
        NaiveDate::from_ymd_opt(year as i32, month, day).map(Self).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(day: &str, format: &str, expected: &str) {
        assert_eq!(day.parse::<Date>().unwrap().format(format).unwrap(), expected);
    }

    #[test]
    fn days_are_written_as_python_writes_them() {
        check("2024-07-26", "%d %b %Y", "26 Jul 2024");
        check("2024-02-29", "%A, %B %-d, %Y (%j)", "Thursday, February 29, 2024 (060)");
        check("2000-01-01", "%Y-%m-%d %a %y %H:%M:%S %p 100%%", "2000-01-01 Sat 00 00:00:00 AM 100%");
        check("1999-12-31", "%F %w%u %x %X %e", "1999-12-31 55 12/31/99 00:00:00 31");
        check("2026-11-25", "%c", "Wed Nov 25 00:00:00 2026");
        check("2026-01-04", "%D %T %R %I %h %f [%z%Z] %-m/%-d %n%t.", "01/04/26 00:00:00 00:00 12 Jan 000000 [] 1/4 \n\t.");
        check("2026-01-04", "%G-W%V %U %W %C", "2026-W01 01 00 20");
        for code in ["%Q", "%:", "%+", "%.", "%3", "%é"] {
            assert!(Date::OF_RECORDS.format(code).unwrap_err().to_string().ends_with(code), "{code}");
        }
        assert!(Date::OF_RECORDS.format("x%").is_err());
    }

    #[test]
    fn days_are_counted_from_1970() {
        assert!(Date::from_days(i64::MAX).format("%Y").is_ok());
        for (days, expected) in [(0, "1970-01-01"), (19_930, "2024-07-26"), (11_016, "2000-02-29"), (-1, "1969-12-31")] {
            assert_eq!(Date::from_days(days).format("%F").unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in ["", "2024", "2024-13-01", "2023-02-29", "2024-00-10", "24-7", "2024-07-26-1", "a-b-c", "2024-7-0"] {
            assert!(text.parse::<Date>().is_err(), "{text}");
        }
    }
}

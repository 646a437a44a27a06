//! The day that a template may ask for, and Python's `strftime` of it. No clock: the day is given.

use std::str::FromStr;

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
pub struct Date {
    year: i32,
    /// From 1.
    month: u32,
    /// From 1.
    day: u32,
}

impl Date {
    /// The day of chats whose results are kept, so that the same inputs give the same records whenever they are made: the one
    /// that Llama 3's templates name where there is no clock.
    pub const OF_RECORDS: Self = Self { year: 2024, month: 7, day: 26 };

    /// The day so many days after 1 January 1970 (H. Hinnant, "chrono-compatible low-level date algorithms").
    pub fn from_days(days: i64) -> Self {
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let of_era = z.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { year: year as i32, month: month as u32, day: day as u32 }
    }

    /// Its place in the year, from 1.
    fn day_of_year(self) -> u32 {
        (1..self.month).map(|month| days_of(self.year, month)).sum::<u32>() + self.day
    }

    /// From 0 for Sunday (Zeller's congruence by way of the days since year 0).
    fn weekday(self) -> usize {
        let before = i64::from(self.year) - 1;
        let leaps = before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
        (before * 365 + leaps + i64::from(self.day_of_year())).rem_euclid(7) as usize
    }

    /// The day as Python's `strftime` writes it, in English.
    ///
    /// # Errors
    /// The code that is not known.
    pub fn format(self, format: &str) -> Result<String, FormatError> {
        let mut text = String::new();
        let mut rest = format.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                text.push(c);
                continue;
            }
            let mut code = rest.next();
            let plain = code == Some('-');
            if plain {
                code = rest.next();
            }
            let number = |n: u32, width: usize| if plain { n.to_string() } else { format!("{n:0width$}") };
            let name = |list: [&str; 7]| list[self.weekday()].to_owned();
            let month = MONTHS[self.month as usize - 1];
            text += &match code {
                Some('Y') => self.year.to_string(),
                Some('y') => number(self.year.rem_euclid(100) as u32, 2),
                Some('m') => number(self.month, 2),
                Some('d') => number(self.day, 2),
                Some('e') => format!("{:2}", self.day),
                Some('j') => number(self.day_of_year(), 3),
                Some('B') => month.to_owned(),
                Some('b' | 'h') => month[..3].to_owned(),
                Some('A') => name(WEEKDAYS),
                Some('a') => name(WEEKDAYS)[..3].to_owned(),
                Some('w') => self.weekday().to_string(),
                Some('u') => (1 + (self.weekday() + 6) % 7).to_string(),
                Some('H' | 'M' | 'S') => number(0, 2),
                Some('I') => number(12, 2),
                Some('p') => "AM".to_owned(),
                Some('f') => "000000".to_owned(),
                // A time without a zone, as `datetime.now()` gives.
                Some('z' | 'Z') => String::new(),
                Some('F') => self.format("%Y-%m-%d")?,
                Some('D' | 'x') => self.format("%m/%d/%y")?,
                Some('T' | 'X') => "00:00:00".to_owned(),
                Some('R') => "00:00".to_owned(),
                Some('c') => self.format("%a %b %e %T %Y")?,
                Some('n') => "\n".to_owned(),
                Some('t') => "\t".to_owned(),
                Some('%') => "%".to_owned(),
                Some(other) => return Err(FormatError::Unknown(other)),
                None => return Err(FormatError::Open),
            };
        }
        Ok(text)
    }
}

impl FromStr for Date {
    type Err = NoDate;

    fn from_str(text: &str) -> Result<Self, NoDate> {
        let error = || NoDate(text.to_owned());
        let parts: Vec<u32> = text.split('-').map(|part| part.parse().ok()).collect::<Option<_>>().ok_or_else(error)?;
        let &[year @ 1..=9999, month @ 1..=12, day] = parts.as_slice() else { return Err(error()) };
        let year = year as i32;
        if day == 0 || day > days_of(year, month) {
            return Err(error());
        }
        Ok(Self { year, month, day })
    }
}

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

fn days_of(year: i32, month: u32) -> u32 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
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
        assert!(Date::OF_RECORDS.format("%Q").unwrap_err().to_string().contains("%Q"));
        assert!(Date::OF_RECORDS.format("x%").is_err());
    }

    #[test]
    fn days_are_counted_from_1970() {
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

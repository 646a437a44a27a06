//! Numbers for people: sizes, shares, small values to a few digits. The files for machines (`export`) never round.

/// Bytes in decimal units, three digits: `1.29 MB`, `4.37 GB`.
pub fn bytes(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{} {}", significant(value, 3), units[unit]) }
}

/// A share in percent with one digit behind the point: `93.3 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// About `digits` significant digits, without an exponent, and at most six behind the point: `12.1`, `0.00123`, `1234`.
pub fn plain(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".into() } else { value.to_string() };
    }
    let decimals = (digits as i32 - 1 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    format!("{value:.decimals$}")
}

/// `digits` significant digits, without an exponent from 0.00001 to 10 million, with one elsewhere.
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".into() } else { value.to_string() };
    }
    let scientific = format!("{:.*e}", digits.saturating_sub(1), value);
    // The exponent after rounding: 9.996 to three digits is 1.00e1.
    let exponent: i32 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    if !(-5..=6).contains(&exponent) {
        return scientific;
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(actual: String, expected: &str) {
        assert_eq!(actual, expected);
    }

    #[test]
    fn sizes_have_three_digits_and_a_decimal_unit() {
        check(bytes(0), "0 B");
        check(bytes(999), "999 B");
        check(bytes(1_289_696), "1.29 MB");
        check(bytes(999_600), "1.00 MB");
        check(bytes(4_366_000_000), "4.37 GB");
        check(bytes(u64::MAX), "18447 PB");
    }

    #[test]
    fn shares_are_percentages() {
        check(percent(0.9333), "93.3 %");
        check(percent(1.0), "100.0 %");
    }

    #[test]
    fn plain_numbers_have_no_exponent() {
        check(plain(0.0, 3), "0");
        check(plain(12.14, 3), "12.1");
        check(plain(0.001_234, 3), "0.00123");
        check(plain(0.000_000_12, 3), "0.000000");
        check(plain(-1234.5, 4), "-1234");
        check(plain(123_456_789.0, 4), "123456789");
        check(plain(f64::NAN, 4), "NaN");
    }

    #[test]
    fn small_and_large_values_keep_their_digits() {
        check(significant(0.0, 3), "0");
        check(significant(0.00192, 3), "0.00192");
        check(significant(0.0000712, 3), "0.0000712");
        check(significant(0.00000712, 3), "7.12e-6");
        check(significant(9.996, 3), "10.0");
        check(significant(1234.5, 3), "1234");
        check(significant(123_456_789.0, 3), "1.23e8");
        check(significant(-0.5, 2), "-0.50");
        check(significant(f64::INFINITY, 3), "inf");
        check(significant(f64::NAN, 3), "NaN");
    }
}

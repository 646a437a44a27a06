//! Names in free spelling: as words of letters or digits, in any order (`rtx4090`, `RTX 4090`), and the known names that are
//! closest to an unknown one.
//!
//! Absent: what the names mean.

/// The words of a name: runs of letters or of digits, in lower case.
pub fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last = None;
    for c in text.chars().flat_map(char::to_lowercase) {
        // `Max+` and `Max` are one name; `7.5` is two numbers, which are always written in that order.
        let class = if c.is_alphabetic() {
            Some(true)
        } else if c.is_numeric() {
            Some(false)
        } else {
            None
        };
        match words.last_mut() {
            Some(word) if class.is_some() && class == last => word.push(c),
            _ if class.is_some() => words.push(c.to_string()),
            _ => {}
        }
        last = class;
    }
    words
}

/// The known names most like `name`, at most `count`, the closest first: by shared pairs of neighbouring characters (Dice 1945).
pub fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>, count: usize) -> Vec<&'a str> {
    let plain = |text: &str| words(text).concat();
    let own = plain(name);
    let mut ranked: Vec<(f64, &str)> =
        known.into_iter().map(|known| (strsim::sorensen_dice(&own, &plain(known)), known)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    ranked.dedup_by(|a, b| a.1 == b.1);
    ranked.into_iter().take(count).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_or_digits() {
        assert_eq!(words("Ryzen AI Max+ 395 / RX7900-XTX"), ["ryzen", "ai", "max", "395", "rx", "7900", "xtx"]);
        assert!(words(" -+ ").is_empty());
    }

    #[test]
    fn the_closest_name_comes_first() {
        assert_eq!(closest("m2 utlra", ["m2-ultra", "m2-max", "rtx-4090"], 2), ["m2-ultra", "m2-max"]);
    }
}

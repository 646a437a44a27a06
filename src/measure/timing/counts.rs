//! Lists of numbers on the command line, in llama-bench's grammar: `first[-last[+step|*factor]]`, comma after comma. Unlike
//! there, what names no number at all is an error.

use std::str::FromStr;

use bitworth_quant::message::Message;

/// Most numbers in one list.
const MOST: usize = 1 << 12;

/// A list of numbers, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts(pub Vec<usize>);

impl FromStr for Counts {
    type Err = Message;

    fn from_str(s: &str) -> Result<Self, Message> {
        let mut all = Vec::new();
        // llama-bench takes a comma at the end.
        for part in s.strip_suffix(',').unwrap_or(s).split(',') {
            extend(&mut all, part).map_err(|why| Message::from(format!("{part:?}: ")).then(why))?;
        }
        Ok(Self(all))
    }
}

fn extend(all: &mut Vec<usize>, part: &str) -> Result<(), Message> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<usize>().ok()).flatten().ok_or_else(|| {
            format!("{text:?} is no number; give numbers such as 128,512 or ranges such as 128-512, 128-512+128, 128-512*2")
        })
    };
    let (first, rest) = part.split_once('-').map_or((part, None), |(first, rest)| (first, Some(rest)));
    let (last, step) = match rest.map(|rest| (rest, rest.find(['+', '*']))) {
        None => (first, None),
        Some((last, None)) => (last, None),
        Some((rest, Some(at))) => (&rest[..at], Some((rest.as_bytes()[at], &rest[at + 1..]))),
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("the range ends at {last}, before it begins at {first}").into());
    }
    let (operator, step) = step.map_or(Ok((b'+', 1)), |(operator, step)| number(step).map(|step| (operator, step)))?;
    let mut value = first;
    loop {
        all.push(value);
        if all.len() > MOST {
            return Err(format!("more than {MOST} numbers; give a larger step").into());
        }
        let next = if operator == b'+' { value.checked_add(step) } else { value.checked_mul(step) };
        match next {
            Some(next) if next <= value => return Err(format!("a step of {step} from {value} leads nowhere").into()),
            Some(next) if next <= last => value = next,
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[usize]) {
        assert_eq!(text.parse(), Ok(Counts(expected.to_vec())), "{text}");
    }

    #[track_caller]
    fn check_refused(text: &str, named: &str) {
        let error = text.parse::<Counts>().unwrap_err().to_string();
        assert!(error.contains(named), "{text}: {error}");
    }

    // What llama-bench's parse_int_range makes of the same texts.
    #[test]
    fn lists_and_ranges_are_those_of_llama_bench() {
        check("512", &[512]);
        check("512,", &[512]);
        check("128,256,0", &[128, 256, 0]);
        check("3-6", &[3, 4, 5, 6]);
        check("128-512+128", &[128, 256, 384, 512]);
        check("128-500+128", &[128, 256, 384]);
        check("1-16*2,7", &[1, 2, 4, 8, 16, 7]);
        check("5-5", &[5]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        check_refused("", "no number");
        check_refused("1,,2", "no number");
        check_refused("-5", "no number");
        check_refused("1-", "no number");
        check_refused("1-4+", "no number");
        check_refused("1-4|2", "no number");
        check_refused(" 1", "no number");
        check_refused("512-128", "before it begins");
        check_refused("1-4+0", "leads nowhere");
        check_refused("1-4*1", "leads nowhere");
        check_refused("5-5+0", "leads nowhere");
        check_refused("0-4*2", "leads nowhere");
        check_refused("0-99999999999", "larger step");
        check_refused("99999999999999999999999", "no number");
    }
}

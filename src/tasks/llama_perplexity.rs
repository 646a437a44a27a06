//! The multiple-choice files of llama.cpp's llama-perplexity (options hellaswag, winogrande and multiple-choice): their formats,
//! which questions it draws in which order, and which tokens it scores. Absent: tokens and models.
//!
//! Source: llama.cpp b11434, `tools/perplexity/perplexity.cpp`; GCC's `uniform_int_distribution` (`bits/uniform_int_dist.h`).
//!
//! One fault of llama.cpp's is not repeated: where few tokens stand behind WinoGrande's blank, it takes the first of the second
//! text's predictions from the last token of the first text. Here it comes from the token before, as for the first text.

use std::ops::Range;
use std::path::Path;

use bitworth_eval::job::{PerplexityKind, PerplexitySpec};
use bitworth_quant::message::Message;
use bitworth_quant::{Error, Result, kind};

use crate::random::Random;

/// How many questions llama-perplexity draws of HellaSwag without being told.
const HELLASWAG: usize = 400;
/// More answers to one question are none that llama-perplexity reads.
const MOST_ANSWERS: usize = 100;
/// Tokens that must stand behind the first difference of both texts, so that those of the choices are left out of the score.
const TRAILING: usize = 3;
/// The seed that it draws with.
const SEED: u32 = 1;

/// One question: texts of which one is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its number in the file, from 0.
    pub number: usize,
    /// The texts to be scored, a choice each.
    pub texts: Vec<String>,
    /// Of WinoGrande: the texts up to the end of the choice.
    pub begins: Option<[String; 2]>,
    /// The right ones.
    pub right: Vec<bool>,
}

/// The tokens of a text that are scored, by the place of the token before the first of them up to that before the last.
pub type Scored = Range<usize>;

impl Question {
    /// Which tokens of each text llama-perplexity scores; `texts` are the tokens of [`Question::texts`], `begins` how many those
    /// of [`Question::begins`] are. `None` where a text has nothing that is scored.
    pub fn scored(&self, texts: &[Vec<u32>], begins: Option<[usize; 2]>) -> Option<Vec<Scored>> {
        let first = texts.first()?;
        let common = (0..first.len()).take_while(|&i| texts.iter().all(|text| text.get(i) == first.get(i))).count();
        let is_long = texts.iter().all(|text| text.len() - common > TRAILING);
        let range = |(i, text): (usize, &Vec<u32>)| {
            let Some(begins) = begins else { return (common, text.len() - 1) };
            // With nothing behind the choice there is only the choice.
            let begin = if is_long && begins[i] < text.len() { begins[i] } else { common };
            let last = usize::from(text.len() - begin > 1);
            (begin, text.len() - 1 - last)
        };
        let one = |place| {
            let (begin, end) = range(place);
            (begin > 0 && end >= begin).then(|| begin - 1..end)
        };
        texts.iter().enumerate().map(one).collect()
    }
}

/// Reads the questions of a file that llama-perplexity would ask, in its order.
///
/// # Errors
/// A file that is not of the form, named with the line or the question.
pub fn read(spec: &PerplexitySpec) -> Result<Vec<Question>> {
    let path = Path::new(&spec.file);
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let all = match spec.kind {
        PerplexityKind::Hellaswag => hellaswag(&text(path, &bytes)?),
        PerplexityKind::Winogrande => winogrande(&text(path, &bytes)?),
        PerplexityKind::MultipleChoice => multiple_choice(&bytes),
    };
    let all = all.map_err(|what| Error::file(path, what))?;
    if all.is_empty() {
        return Err(Error::file(
            path,
            "holds no question that llama-perplexity asks (of WinoGrande it leaves out the last line)",
        ));
    }
    let drawn = match (spec.kind, spec.count) {
        (PerplexityKind::Hellaswag, count) => draw_hellaswag(all.len(), count.unwrap_or(HELLASWAG)),
        (_, Some(count)) if count < all.len() => draw(all.len(), count),
        _ => (0..all.len()).collect(),
    };
    Ok(drawn.into_iter().map(|place| all[place].clone()).collect())
}

fn text(path: &Path, bytes: &[u8]) -> Result<String> {
    kind::utf8(bytes.to_vec()).map_err(|what| Error::file(path, what))
}

/// Six lines a question: the context, the number of the right ending, four endings.
fn hellaswag(text: &str) -> Result<Vec<Question>, Message> {
    // As getline: a last line without an end counts, nothing behind the last end does not.
    let lines: Vec<&str> = text.strip_suffix('\n').unwrap_or(text).split('\n').collect();
    if !lines.len().is_multiple_of(6) {
        let what = "which is no multiple of 6: context, number of the right ending, four endings";
        return Err(format!("has {} lines, {what}", lines.len()).into());
    }
    let question = |(number, six): (usize, &[&str])| {
        let right = six[1].trim().parse::<usize>().ok().filter(|right| *right < 4);
        let right = right.ok_or_else(|| Message::from(format!("line {}: {:?} must be from 0 to 3", 6 * number + 2, six[1])))?;
        Ok(Question {
            number,
            texts: six[2..].iter().map(|ending| format!("{} {ending}", six[0])).collect(),
            begins: None,
            right: (0..4).map(|ending| ending == right).collect(),
        })
    };
    lines.chunks_exact(6).enumerate().map(question).collect()
}

/// A line a question: index, sentence with `_`, both choices, 1 or 2; quotes only around the sentence. llama-perplexity takes the
/// last line's end off and then leaves out what has no end: the last question is never asked.
fn winogrande(text: &str) -> Result<Vec<Question>, Message> {
    let mut questions = Vec::new();
    let asked = text.strip_suffix('\n').unwrap_or(text).rsplit_once('\n').map_or("", |(asked, _)| asked);
    for (number, line) in asked.lines().enumerate() {
        let fail = |what: &str| Message::from(format!("line {}: {what}", number + 1));
        let mut commas = Vec::new();
        let mut quoted = false;
        for (at, byte) in line.bytes().enumerate() {
            match byte {
                b'"' => quoted = !quoted,
                b',' if !quoted => commas.push(at),
                _ => {}
            }
        }
        let [a, b, c, d, ..] = commas[..] else {
            return Err(fail("must be index,sentence,choice,choice,answer"));
        };
        let sentence = &line[a + 1..b];
        let sentence = sentence.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(sentence);
        let (first, second) = sentence.split_once('_').ok_or_else(|| fail("the sentence has no blank (_)"))?;
        let choices = [&line[b + 1..c], &line[c + 1..d]];
        let right = match line[d + 1..].trim() {
            "1" => [true, false],
            "2" => [false, true],
            _ => return Err(fail("the answer must be 1 or 2")),
        };
        questions.push(Question {
            number,
            texts: choices.iter().map(|choice| format!("{first}{choice}{second}")).collect(),
            begins: Some(choices.map(|choice| format!("{first}{choice}"))),
            right: right.to_vec(),
        });
    }
    Ok(questions)
}

/// A count, the place of every question in the file, and the questions: the question, answers with one that is right, answers of
/// which several may be; texts behind their lengths, all numbers of 32 bits, the least byte first.
fn multiple_choice(bytes: &[u8]) -> Result<Vec<Question>, Message> {
    let mut reader = Reader { bytes, at: 0 };
    let count = reader.number()? as usize;
    // A place and the shortest question take more bytes than this.
    if count > bytes.len() / 4 {
        return Err(format!("says that it holds {count} questions, and is too short for them").into());
    }
    for _ in 0..count {
        reader.number()?;
    }
    let question = |number: usize| {
        let fail = |what: Message| Message::from(format!("question {}: ", number + 1)).then(what);
        let question = reader.text().map_err(fail)?;
        let (answers, labels) = reader.answers().map_err(fail)?;
        reader.answers().map_err(fail)?;
        if question.is_empty() || answers.is_empty() || answers.iter().any(String::is_empty) {
            return Err(fail("the question or an answer is empty".into()));
        }
        let texts = answers.iter().map(|answer| format!("{question} {answer}")).collect();
        Ok(Question { number, texts, begins: None, right: labels.iter().map(|label| *label == 1).collect() })
    };
    (0..count).map(question).collect()
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8], Message> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end =
            end.ok_or_else(|| Message::from(format!("ends at byte {}, where {count} more are expected", self.bytes.len())))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, Message> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn text(&mut self) -> Result<String, Message> {
        let length = self.number()? as usize;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|e| format!("a text is not UTF-8: {e}").into())
    }

    fn answers(&mut self) -> Result<(Vec<String>, Vec<u32>), Message> {
        let count = self.number()? as usize;
        if count > MOST_ANSWERS {
            return Err(format!("has {count} answers, more than {MOST_ANSWERS}").into());
        }
        let texts = (0..count).map(|_| self.text()).collect::<Result<_, _>>()?;
        Ok((texts, (0..count).map(|_| self.number()).collect::<Result<_, _>>()?))
    }
}

/// Places of HellaSwag's questions: each drawn from those left, as C++'s `uniform_int_distribution` of GCC draws from `mt19937`.
fn draw_hellaswag(total: usize, count: usize) -> Vec<usize> {
    let mut random = Random::of_seed(SEED);
    let mut left: Vec<usize> = (0..total).collect();
    (0..count.min(total)).map(|_| left.remove(uniform(&mut random, left.len() as u32) as usize)).collect()
}

/// A number below `n` (Lemire 2019, "Fast Random Integer Generation in an Interval").
fn uniform(random: &mut Random, n: u32) -> u32 {
    let mut product = u64::from(random.next_u32()) * u64::from(n);
    if (product as u32) < n {
        let threshold = n.wrapping_neg() % n;
        while (product as u32) < threshold {
            product = u64::from(random.next_u32()) * u64::from(n);
        }
    }
    (product >> 32) as u32
}

/// Places of the other files' questions: each drawn from those left, whose gap the last one fills; in 32-bit floats, which may
/// round up to the end.
fn draw(total: usize, count: usize) -> Vec<usize> {
    let mut random = Random::of_seed(SEED);
    let mut left: Vec<usize> = (0..total).collect();
    let one = |_| {
        let place = (2f32.powi(-32) * random.next_u32() as f32 * left.len() as f32) as usize;
        left.swap_remove(place.min(left.len() - 1))
    };
    (0..count).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // A C++ program with GCC's library: the first seven of `uniform_int_distribution<size_t>(0, left - 1)` by `mt19937(1)`, each
    // taken out of what is left.
    #[test]
    fn hellaswag_is_drawn_as_gccs_library_draws() {
        assert_eq!(draw_hellaswag(7, 400), [2, 6, 4, 5, 0, 1, 3]);
        assert_eq!(draw_hellaswag(1000, 7), [417, 997, 719, 931, 0, 128, 302]);
    }

    // The same for `int(scale * rng() * left)` in floats, the last one filling the gap.
    #[test]
    fn other_files_are_drawn_in_floats() {
        assert_eq!(draw(7, 6), [2, 5, 3, 4, 0, 6]);
        assert_eq!(draw(1267, 6), [528, 1262, 911, 1178, 0, 161]);
    }

    #[test]
    fn hellaswag_has_six_lines_a_question() {
        let questions = hellaswag("a\n2\nb\nc\nd\ne\nf\n0\ng\nh\ni\nj\n").unwrap();
        assert_eq!(questions[0].texts, ["a b", "a c", "a d", "a e"]);
        assert_eq!((questions[0].right.as_slice(), questions[1].number), (&[false, false, true, false][..], 1));
        assert!(hellaswag("a\n2\n").unwrap_err().to_string().contains("2 lines"));
        assert!(hellaswag("a\n4\nb\nc\nd\ne").unwrap_err().to_string().contains("line 2: \"4\""));
    }

    #[test]
    fn winogrande_is_csv_with_quotes_around_the_sentence() {
        let questions = winogrande("0,\"Ann, who saw _ go, sat.\",Bo,Cy,2\n1,It was _.,a,b,1\n2,last _,a,b,1\n").unwrap();
        assert_eq!(questions.len(), 2, "as llama-perplexity, which loads 1,266 of 1,267 lines");
        assert_eq!(questions[0].texts, ["Ann, who saw Bo go, sat.", "Ann, who saw Cy go, sat."]);
        assert_eq!(questions[0].begins.as_ref().unwrap()[1], "Ann, who saw Cy");
        assert_eq!((questions[0].right.as_slice(), questions[1].texts[1].as_str()), (&[false, true][..], "It was b."));
        for (line, what) in [("0,no blank,a,b,1", "no blank"), ("0,a _,b,c", "index,sentence"), ("0,a _,b,c,3", "1 or 2")] {
            let error = winogrande(&format!("{line}\nlast\n")).unwrap_err().to_string();
            assert!(error.contains("line 1") && error.contains(what), "{error}");
        }
    }

    /// The bytes of a file of multiple choice.
    fn binary(questions: &[(&str, &[&str], &[u32])]) -> Vec<u8> {
        let number = |n: usize| (n as u32).to_le_bytes();
        let text = |text: &str| [&number(text.len())[..], text.as_bytes()].concat();
        let mut out = number(questions.len()).to_vec();
        out.extend(questions.iter().flat_map(|_| number(0)));
        for (question, answers, labels) in questions {
            out.extend(text(question));
            out.extend(number(answers.len()));
            out.extend(answers.iter().flat_map(|answer| text(answer)));
            out.extend(labels.iter().flat_map(|label| label.to_le_bytes()));
            out.extend(number(0));
        }
        out
    }

    #[test]
    fn multiple_choice_is_binary() {
        let bytes = binary(&[("Q?", &["yes", "no"], &[0, 1]), ("R", &["x"], &[1])]);
        let questions = multiple_choice(&bytes).unwrap();
        assert_eq!(
            (questions[0].texts.as_slice(), questions[0].right.as_slice()),
            (&["Q? yes".into(), "Q? no".into()][..], &[false, true][..])
        );
        assert_eq!(questions[1].texts, ["R x"]);
        for end in 0..bytes.len() {
            assert!(multiple_choice(&bytes[..end]).is_err(), "cut at {end}");
        }
        assert!(multiple_choice(&u32::MAX.to_le_bytes()).unwrap_err().to_string().contains("too short"));
    }

    #[test]
    fn tokens_behind_the_common_ones_are_scored() {
        let question =
            |count: usize| Question { number: 0, texts: vec![String::new(); count], begins: None, right: vec![true; count] };
        let texts = [vec![1, 2, 3, 4], vec![1, 2, 5]];
        assert_eq!(question(2).scored(&texts, None), Some(vec![1..3, 1..2]));
        assert_eq!(question(2).scored(&[vec![1, 2], vec![1, 2]], None), None, "nothing tells them apart");
        assert_eq!(question(2).scored(&[vec![1], vec![2]], None), None, "nothing stands before the first");
        // WinoGrande: with more than three tokens behind the difference, those of the choices are left out, and the last one is.
        let texts = [vec![1, 2, 7, 8, 9, 10, 11], vec![1, 3, 4, 8, 9, 10, 11]];
        assert_eq!(question(2).scored(&texts, Some([2, 3])), Some(vec![1..5, 2..5]));
        // With fewer, the choices count.
        let texts = [vec![1, 2, 8, 9], vec![1, 3, 8, 9]];
        assert_eq!(question(2).scored(&texts, Some([2, 2])), Some(vec![0..2, 0..2]));
    }
}

//! Where the YAML block in front of a `README.md` begins and ends. Two programs read such blocks, and differ in details: cards
//! of models are read as llama.cpp's converter reads them, cards of data sets as the hub's library does.
//!
//! Absent: what the block says.

/// Whose reading counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardReader {
    /// gguf-py's (llama.cpp b11434, `load_model_card` in `gguf/metadata.py`): the text begins with the block, and a block without
    /// an end goes on to the end of the text.
    GgufPy,
    /// `huggingface_hub`'s (2.4, `repocard.py`): white space may stand before the block, and a block without an end is none.
    HuggingFaceHub,
}

/// A block in front of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrontMatter<'a> {
    /// How many lines of the text stand before it, its opening line `---` included.
    pub lines_before: usize,
    /// What stands between the two lines `---`.
    pub yaml: &'a str,
}

impl<'a> FrontMatter<'a> {
    /// The block in front of `text`; `None` where there is none.
    pub fn find(text: &'a str, reader: CardReader) -> Option<Self> {
        let begin = match reader {
            CardReader::GgufPy => 0,
            CardReader::HuggingFaceHub => text.len() - text.trim_start().len(),
        };
        let behind = text[begin..].strip_prefix("---")?;
        let block = behind.strip_prefix("\r\n").or_else(|| behind.strip_prefix('\n'))?;
        let lines_before = text[..text.len() - block.len()].matches('\n').count();
        let mut end = 0;
        for line in block.split_inclusive('\n') {
            let closes = match reader {
                CardReader::GgufPy => ["---", "---\n", "---\r\n"].contains(&line),
                CardReader::HuggingFaceHub => line.strip_prefix("---").is_some_and(|rest| rest.trim_end().is_empty()),
            };
            if closes {
                return Some(Self { lines_before, yaml: &block[..end] });
            }
            end += line.len();
        }
        (reader == CardReader::GgufPy).then_some(Self { lines_before, yaml: block })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the two programs take, and how many lines stand before it.
    #[track_caller]
    fn check(text: &str, gguf_py: Option<(usize, &str)>, hub: Option<(usize, &str)>) {
        let found = |reader| FrontMatter::find(text, reader).map(|found| (found.lines_before, found.yaml));
        assert_eq!(found(CardReader::GgufPy), gguf_py, "{text:?}");
        assert_eq!(found(CardReader::HuggingFaceHub), hub, "{text:?}");
    }

    #[test]
    fn a_block_stands_between_two_lines_in_front_of_the_text() {
        for text in ["---\na: 1\n---\n# T\n---\n", "---\na: 1\n---"] {
            check(text, Some((1, "a: 1\n")), Some((1, "a: 1\n")));
        }
        check("---\r\na: 1\r\n---\r\n# T", Some((1, "a: 1\r\n")), Some((1, "a: 1\r\n")));
        check("---\na: ---\n--- b\n---\n", Some((1, "a: ---\n--- b\n")), Some((1, "a: ---\n--- b\n")));
        for text in ["", "# T\n---\na: 1\n---\n", "----\na: 1\n---\n", "--- a: 1\n---\n"] {
            check(text, None, None);
        }
    }

    #[test]
    fn the_two_programs_do_not_agree_on_white_space_and_missing_ends() {
        check("\n \n---\na: 1\n---\n", None, Some((3, "a: 1\n")));
        check("---\na: 1\n", Some((1, "a: 1\n")), None);
    }
}

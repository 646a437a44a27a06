//! Text to token ids and back, on the `tokenizers` crate, from whichever description the checkpoint carries.
//!
//! The start token is put in front by us, by the rule the model's vocabulary states, so that a Hugging Face directory and
//! the GGUF made of it give the same ids. Absent: reading vocabularies (see `bitworth_quant::vocab`).

use std::path::PathBuf;
use std::sync::Arc;

use bitworth_quant::Checkpoint;
use bitworth_quant::message::Message;
use tokenizers::Encoding;

/// What to do with the text of special tokens (`<|endoftext|>`) inside a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialText {
    /// It is the special token, as in a prompt.
    Parse,
    /// It is plain text, as llama-perplexity reads a file.
    Plain,
}

/// A tokenizer that cannot be built or cannot encode.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The model's vocabulary cannot be read.
    #[error(transparent)]
    Model(#[from] bitworth_quant::Error),
    /// The `tokenizers` crate refuses.
    #[error("{}: tokenizer: {what}", path.display())]
    Unfit {
        /// The model.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl TokenizerError {
    /// All of what it says, causes included.
    pub fn message(&self) -> Message {
        match self {
            Self::Model(e) => e.message(),
            Self::Unfit { .. } => self.to_string().into(),
        }
    }
}

/// A model's tokenizer.
#[derive(Clone)]
pub struct Tokenizer {
    path: PathBuf,
    parsing: Arc<tokenizers::Tokenizer>,
    plain: Arc<tokenizers::Tokenizer>,
    start: Vec<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    ends: Vec<u32>,
    adds_eos: bool,
}

/// A tokenized text, and up to where it stays so whatever follows.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its ids.
    pub ids: Vec<u32>,
    /// Ids that do not depend on what follows.
    kept: usize,
    /// Bytes of the text that they are of.
    cut: usize,
}

impl Head {
    /// Whether less than all of the text is tokenized again with what follows.
    pub fn is_shortened(&self) -> bool {
        self.kept > 0
    }
}

/// Words (what the tokenizer's first step splits a text into) that are tokenized again with what follows.
const WORDS_AGAIN: usize = 8;

/// The last place where a text can be cut so that what follows cannot reach before it: ids before it and its byte. Steps that
/// split texts look at the words beside a place (blanks at the end, groups of digits from the right), so there must be several
/// words and two runs of blanks behind it.
fn safe_cut(text: &str, words: &[Option<u32>], offsets: &[(usize, usize)]) -> Option<(usize, usize)> {
    let mut again = 0;
    for place in (1..words.len()).rev() {
        if words[place] == words[place - 1] {
            continue;
        }
        again += 1;
        let (before, cut) = (offsets[place - 1].1, offsets[place].0);
        let is_clean = before == cut && text.is_char_boundary(cut) && words[place].is_some() && words[place - 1].is_some();
        if again > WORDS_AGAIN && is_clean && text[cut..].split_whitespace().count() > 2 {
            return Some((place, cut));
        }
    }
    None
}

/// Bytes that texts must have in common for their beginning to be tokenized once.
const WORTH_SHARING: usize = 256;

/// Tokenizes texts that many continuations stand behind: [`Tokenizer::encode_behind`] then tokenizes the end of a text with each
/// of them and no more, where that gives the same. Texts that begin like an earlier one, as questions behind the same examples
/// do, have their beginning tokenized once.
pub struct Heads<'t> {
    tokenizer: &'t Tokenizer,
    special: SpecialText,
    base: Option<Base>,
    reused: usize,
}

/// A text that others may begin like.
struct Base {
    text: String,
    encoding: Encoding,
    /// Of its bytes, those that the cut was made for, and the cut: ids before it, and its byte.
    shared: (usize, Option<(usize, usize)>),
}

impl<'t> Heads<'t> {
    /// With nothing tokenized so far.
    pub fn new(tokenizer: &'t Tokenizer, special: SpecialText) -> Self {
        Self { tokenizer, special, base: None, reused: 0 }
    }

    /// How many texts had a beginning that was known.
    pub fn reused(&self) -> usize {
        self.reused
    }

    /// The next text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn next(&mut self, text: &str) -> Result<Head, TokenizerError> {
        let Some((mut ids, cut)) = self.beginning(text)? else {
            let encoding = self.tokenizer.encoding(text, self.special)?;
            let head = self.head(text, encoding.get_ids().to_vec(), (0, 0), &encoding)?;
            self.base = Some(Base { text: text.to_owned(), encoding, shared: (text.len(), None) });
            return Ok(head);
        };
        self.reused += 1;
        let encoding = self.tokenizer.encoding(&text[cut..], self.special)?;
        let kept = ids.len();
        ids.extend(encoding.get_ids());
        self.head(text, ids, (kept, cut), &encoding)
    }

    /// A text's head from its ids and the encoding of what stands behind the first `kept` of them, at the byte `cut`.
    fn head(&self, text: &str, ids: Vec<u32>, (kept, cut): (usize, usize), rest: &Encoding) -> Result<Head, TokenizerError> {
        let Some((more, at)) = safe_cut(&text[cut..], rest.get_word_ids(), rest.get_offsets()) else {
            return Ok(Head { ids, kept, cut });
        };
        let (end_kept, end_cut) = (kept + more, cut + at);
        let is_same = self.is_same(&text[end_cut..], &ids[end_kept..])?;
        Ok(if is_same { Head { ids, kept: end_kept, cut: end_cut } } else { Head { ids, kept, cut } })
    }

    /// A tokenizer that treats the beginning of a text otherwise shows it here.
    fn is_same(&self, text: &str, ids: &[u32]) -> Result<bool, TokenizerError> {
        Ok(self.tokenizer.encode(text, self.special)? == ids)
    }

    /// The ids that a text has in common with the one that was tokenized whole, and the byte behind them; `None` where that is
    /// not worth it.
    fn beginning(&mut self, text: &str) -> Result<Option<(Vec<u32>, usize)>, TokenizerError> {
        let Some(base) = &self.base else { return Ok(None) };
        let common = base.text.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
        let common = (0..=common).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let (limit, mut cut) = base.shared;
        if common < limit || cut.is_none() {
            cut = self.cut_within(base, common)?;
            if let Some(base) = &mut self.base {
                base.shared = (common, cut);
            }
        }
        let Some(base) = &self.base else { return Ok(None) };
        Ok(cut.map(|(kept, cut)| (base.encoding.get_ids()[..kept].to_vec(), cut)))
    }

    /// Where a text can be cut of which no more than the first `common` bytes are known.
    fn cut_within(&self, base: &Base, common: usize) -> Result<Option<(usize, usize)>, TokenizerError> {
        if common < WORTH_SHARING {
            return Ok(None);
        }
        let (words, offsets) = (base.encoding.get_word_ids(), base.encoding.get_offsets());
        let known = offsets.partition_point(|&(_, end)| end <= common);
        let Some((kept, cut)) = safe_cut(&base.text[..common], &words[..known], &offsets[..known]) else { return Ok(None) };
        let is_same = self.is_same(&base.text[cut..], &base.encoding.get_ids()[kept..])?;
        Ok(is_same.then_some((kept, cut)))
    }
}

impl Tokenizer {
    /// The tokenizer of a checkpoint.
    ///
    /// # Errors
    /// A checkpoint without one, or with one of a kind that is not supported.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self, TokenizerError> {
        let path = checkpoint.path().to_owned();
        let error = |e: tokenizers::Error| TokenizerError::Unfit { path: path.clone(), what: e.to_string() };
        let vocab = checkpoint.vocab()?;
        let json = checkpoint.tokenizer_json()?.to_string().into_bytes();
        let mut parsing = tokenizers::Tokenizer::from_bytes(json).map_err(error)?;
        // Files for training carry these; a text is never cut or padded here.
        parsing.with_truncation(None).map_err(error)?;
        parsing.with_padding(None);
        let mut plain = parsing.clone();
        plain.set_encode_special_tokens(true);
        let ends = vocab.ends();
        let start = vocab.bos.filter(|_| vocab.add_bos).into_iter().collect();
        let (parsing, plain) = (Arc::new(parsing), Arc::new(plain));
        Ok(Self { path: path.clone(), parsing, plain, start, bos: vocab.bos, eos: vocab.eos, ends, adds_eos: vocab.add_eos })
    }

    /// The same for texts that hold their start token themselves where they want one, as rendered chats do.
    pub fn without_start(&self) -> Self {
        Self { start: Vec::new(), ..self.clone() }
    }

    fn inner(&self, special: SpecialText) -> &tokenizers::Tokenizer {
        match special {
            SpecialText::Parse => &self.parsing,
            SpecialText::Plain => &self.plain,
        }
    }

    /// The ids of `text` alone, without start or end token.
    ///
    /// # Errors
    /// A text the tokenizer cannot encode (a character outside a vocabulary without byte fallback).
    pub fn encode(&self, text: &str, special: SpecialText) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.inner(special).encode_fast(text, false);
        let encoding = encoding.map_err(|e| TokenizerError::Unfit { path: self.path.clone(), what: e.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    fn encoding(&self, text: &str, special: SpecialText) -> Result<Encoding, TokenizerError> {
        let encoding = self.inner(special).encode(text, false);
        encoding.map_err(|e| TokenizerError::Unfit { path: self.path.clone(), what: e.to_string() })
    }

    /// The ids of a text with a continuation: those of [`Tokenizer::encode`] of both as one text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_behind(
        &self,
        (head, text): (&Head, &str),
        continuation: &str,
        special: SpecialText,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = head.ids[..head.kept].to_vec();
        ids.extend(self.encode(&format!("{}{continuation}", &text[head.cut..]), special)?);
        Ok(ids)
    }

    /// The ids of `text` and, for each, the byte of `text` behind it. Tokens that share a character share its end.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_ends(&self, text: &str, special: SpecialText) -> Result<(Vec<u32>, Vec<usize>), TokenizerError> {
        let encoding = self.encoding(text, special)?;
        Ok((encoding.get_ids().to_vec(), encoding.get_offsets().iter().map(|&(_, end)| end).collect()))
    }

    /// The ids of `text` behind the start token, if the model wants one: what a prompt is.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str, special: SpecialText) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = self.start.clone();
        ids.extend(self.encode(text, special)?);
        Ok(ids)
    }

    /// The text of `ids`, special tokens left out.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.parsing.decode(ids, true).map_err(|e| TokenizerError::Unfit { path: self.path.clone(), what: e.to_string() })
    }

    /// The start token that prompts begin with, if the model wants one.
    pub fn start(&self) -> Option<u32> {
        self.start.first().copied()
    }

    /// What a text without context is scored behind: the start token, or else the end token, as lm-evaluation-harness does.
    pub fn prefix(&self) -> Option<u32> {
        self.bos.or(self.eos)
    }

    /// Whether a model that says this token has finished: the end of a text or of a turn.
    pub fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// Whether the model's texts are closed by an end token (llama-perplexity refuses such models).
    pub fn adds_eos(&self) -> bool {
        self.adds_eos
    }
}

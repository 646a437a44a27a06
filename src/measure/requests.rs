//! Answers requests in batches: log-likelihoods through one sweep over all requests and lanes, packed without padding;
//! generated text lane by lane.

use std::ops::Range;

use rayon::prelude::*;

use super::Watch;
use super::error::{At, Error, Result};
use super::generation::{self, Prompt};

use bitworth_engine::backend::{Backend, HeadRow};
use bitworth_engine::sweep::{self, Lane, Sequence, SweepOptions};
use bitworth_eval::request::{Answer, Loglikelihood, Request};
use bitworth_text::python;
use bitworth_text::tokenizer::{Head, Heads, SpecialText, Tokenizer};

/// Requests as a model takes them: tokenized, cut where they are too long, with what answers are put together of.
#[derive(Debug, Default)]
pub struct Packed {
    sequences: Vec<Sequence>,
    /// By request: what its answer is made of.
    pieces: Vec<Piece>,
    prompts: Vec<Prompt>,
    /// How many requests lost the beginning of their context.
    pub cut: usize,
}

/// What one request's answer is made of.
#[derive(Debug)]
enum Piece {
    /// These sequences, and the UTF-8 bytes of the text that they score.
    Scored { sequences: Range<usize>, bytes: usize },
    /// The text of the next prompt.
    Text,
}

/// Questions that one thread tokenizes one after the other.
const QUESTIONS: usize = 64;

/// One request, ready.
enum Ready {
    Scored { sequences: Vec<Sequence>, bytes: usize, is_cut: bool },
    Text { prompt: Prompt, is_cut: bool },
}

impl Packed {
    /// Tokenizes requests, on all processors; `context` is the most ids that the model takes.
    ///
    /// # Errors
    /// A request that does not fit the model's context (named by its number), a model without a start token where one is needed.
    pub fn new(tokenizer: &Tokenizer, requests: &[Request], context: usize) -> Result<Self> {
        // Requests about one question stand together, and their context is tokenized once; questions behind the same examples
        // stand together, too.
        let questions: Vec<&[Request]> = requests.chunk_by(|a, b| a.context().is_some() && a.context() == b.context()).collect();
        let chunks: Vec<Vec<Result<Ready>>> = questions
            .par_chunks(QUESTIONS)
            .flat_map_iter(|questions| {
                let mut heads = Heads::new(tokenizer, SpecialText::Parse);
                questions.iter().map(move |question| {
                    match question[0].context().map(|given| heads.next(python::rstrip(given))).transpose() {
                        Ok(head) => question.iter().map(|request| ready(tokenizer, request, head.as_ref(), context)).collect(),
                        Err(e) => vec![Err(e.into())],
                    }
                })
            })
            .collect();
        let mut packed = Self::default();
        for (number, ready) in chunks.into_iter().flatten().enumerate() {
            packed.add(ready.at(|| format!("request {}", number + 1))?);
        }
        Ok(packed)
    }

    /// Sequences of which each is a request by itself, with the bytes of its text.
    pub fn of_sequences(sequences: Vec<(Sequence, usize)>) -> Self {
        let mut packed = Self::default();
        for (sequence, bytes) in sequences {
            packed.add(Ready::Scored { sequences: vec![sequence], bytes, is_cut: false });
        }
        packed
    }

    fn add(&mut self, ready: Ready) {
        match ready {
            Ready::Scored { sequences, bytes, is_cut } => {
                let begin = self.sequences.len();
                self.sequences.extend(sequences);
                self.cut += usize::from(is_cut);
                self.pieces.push(Piece::Scored { sequences: begin..self.sequences.len(), bytes });
            }
            Ready::Text { prompt, is_cut } => {
                self.prompts.push(prompt);
                self.cut += usize::from(is_cut);
                self.pieces.push(Piece::Text);
            }
        }
    }

    /// How many requests there are.
    pub fn count(&self) -> usize {
        self.pieces.len()
    }

    /// The sequences that are scored; text is generated without any.
    pub fn sequences(&self) -> &[Sequence] {
        &self.sequences
    }

    /// The prompts that text is generated for.
    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    /// The answers to the requests, in order, of the scores of [`Packed::sequences`] and the texts of [`Packed::prompts`].
    pub fn answers(&self, scores: &[Vec<HeadRow>], texts: Vec<String>) -> Vec<Answer> {
        let mut texts = texts.into_iter();
        let one = |piece: &Piece| match piece {
            Piece::Text => Answer::Text(texts.next().unwrap_or_default()),
            Piece::Scored { sequences, bytes } => Answer::Loglikelihood(self.sum(sequences.clone(), *bytes, scores)),
        };
        self.pieces.iter().map(one).collect()
    }

    fn sum(&self, pieces: Range<usize>, bytes: usize, scores: &[Vec<HeadRow>]) -> Loglikelihood {
        let mut sum = Loglikelihood { logprob: 0.0, tokens: 0, is_greedy: true, bytes };
        for piece in pieces {
            let sequence = &self.sequences[piece];
            for (row, at) in scores[piece].iter().zip(sequence.scored.clone()) {
                sum.logprob += row.target_logit - row.log_sum_exp;
                sum.tokens += 1;
                sum.is_greedy &= row.argmax == sequence.tokens[at + 1];
            }
        }
        sum
    }
}

/// Answers requests with every lane: per lane one answer per request, in order. What is scored is taken up again as `options`
/// say; texts are generated anew.
///
/// # Errors
/// A model that cannot be read, a device that fails, state of another sweep, an interruption.
pub fn answer<B: Backend>(
    backend: &B,
    lanes: &[Lane],
    tokenizer: &Tokenizer,
    packed: &Packed,
    options: &SweepOptions<'_>,
    watch: Watch<'_>,
) -> Result<Vec<Vec<Answer>>> {
    let scores = match packed.sequences() {
        [] => lanes.iter().map(|_| Vec::new()).collect(),
        sequences => sweep::sweep(backend, lanes, sequences, options, watch.progress, watch.stop)?.lanes,
    };
    let one = |(lane, scores): (&Lane, Vec<Vec<HeadRow>>)| {
        let texts = generation::answer(backend, &lane.variant, tokenizer, packed.prompts(), watch)?;
        Ok(packed.answers(&scores, texts))
    };
    lanes.iter().zip(scores).map(one).collect()
}

/// `head` is the request's context without the white space at its end, where it has one.
fn ready(tokenizer: &Tokenizer, request: &Request, head: Option<&Head>, context: usize) -> Result<Ready> {
    Ok(match request {
        Request::GenerateUntil { prompt, stop, max_tokens } => {
            let (ids, is_cut) = generation::cut_prompt(tokenizer, prompt, *max_tokens, context)?;
            Ready::Text { prompt: Prompt { ids, stop: stop.clone(), max_tokens: *max_tokens }, is_cut }
        }
        Request::Loglikelihood { context: given, continuation } => {
            let Cut { sequence, is_cut } = pair(tokenizer, given, continuation, head, context)?;
            let bytes = given.len() - python::rstrip(given).len() + continuation.len();
            Ready::Scored { sequences: vec![sequence], bytes, is_cut }
        }
        Request::LoglikelihoodRolling { text } => {
            Ready::Scored { sequences: rolling(tokenizer, text, context)?, bytes: text.len(), is_cut: false }
        }
    })
}

/// The ids of a text behind the start token, where the model wants one and the text does not begin with it itself.
fn with_start(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    Ok(behind_start(tokenizer, tokenizer.encode(text, SpecialText::Parse)?))
}

fn behind_start(tokenizer: &Tokenizer, ids: Vec<u32>) -> Vec<u32> {
    let start = tokenizer.start().filter(|start| ids.first() != Some(start));
    start.into_iter().chain(ids).collect()
}

/// A sequence, and whether ids at its beginning were left out because it would not fit.
struct Cut {
    sequence: Sequence,
    is_cut: bool,
}

/// Context and continuation as lm-evaluation-harness splits them: white space at the end of the context moves to the
/// continuation, both are tokenized together, and what lies behind the context's own ids is scored. Without context there is
/// the start token, or the end token, unless the continuation begins with it: then that is the context. What is too long loses
/// its beginning.
///
/// `head` is the context without the white space at its end.
fn pair(tokenizer: &Tokenizer, context: &str, continuation: &str, head: Option<&Head>, limit: usize) -> Result<Cut> {
    let (mut tokens, mut first) = match head.filter(|_| !context.is_empty()) {
        None => (tokenizer.encode(continuation, SpecialText::Parse)?, 0),
        Some(head) => {
            let given = python::rstrip(context);
            let rest = format!("{}{continuation}", &context[given.len()..]);
            let whole = behind_start(tokenizer, tokenizer.encode_behind((head, given), &rest, SpecialText::Parse)?);
            let known = behind_start(tokenizer, head.ids.clone()).len().min(whole.len());
            (whole, known)
        }
    };
    if first >= tokens.len() {
        return Err(Error::unfit("the continuation adds no token to its context"));
    }
    if first == 0 {
        let Some(prefix) = tokenizer.prefix() else {
            return Err(Error::unfit("nothing stands before the first token, and the model has no start token"));
        };
        if tokens[0] != prefix {
            tokens.insert(0, prefix);
        }
        first = 1;
        if tokens.len() == 1 {
            return Err(Error::unfit("the continuation is the start token alone, before which nothing stands"));
        }
    }
    let scored = tokens.len() - first;
    if scored > limit {
        return Err(Error::unfit(format!("a continuation of {scored} tokens does not fit the model's context of {limit}")));
    }
    let over = (tokens.len() - 1).saturating_sub(limit);
    tokens.drain(..over);
    first -= over;
    Ok(Cut { sequence: Sequence { scored: first - 1..tokens.len() - 1, tokens }, is_cut: over > 0 })
}

/// The windows of a rolling log-likelihood as lm-evaluation-harness makes them: the first behind the start token, each further
/// one sees one id of the one before; the last reaches back as far as the context allows. A start token that the tokenizer adds
/// is scored like any other.
fn rolling(tokenizer: &Tokenizer, text: &str, limit: usize) -> Result<Vec<Sequence>> {
    let Some(prefix) = tokenizer.prefix() else {
        return Err(Error::unfit("nothing stands before the first token, and the model has no start token"));
    };
    let mut ids = vec![prefix];
    ids.extend(with_start(tokenizer, text)?);
    if ids.len() == 1 {
        return Err(Error::unfit("the text has no tokens"));
    }
    let mut sequences = Vec::new();
    let mut done = 1;
    while done < ids.len() {
        let end = (done + limit).min(ids.len());
        let begin = if done == 1 { 0 } else { end - limit - 1 };
        let tokens = ids[begin..end].to_vec();
        sequences.push(Sequence { scored: done - 1 - begin..tokens.len() - 1, tokens });
        done = end;
    }
    Ok(sequences)
}

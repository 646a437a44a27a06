//! Answers requests in batches: log-likelihoods through one sweep over all requests and lanes, packed without padding;
//! generated text lane by lane.

use super::Watch;
use super::error::{At, Error, Result};
use super::generation;
use bitworth_quant::Checkpoint;

use bitworth_engine::backend::{Backend, HeadRow};
use bitworth_engine::sweep::{self, Lane, Sequence, SweepLimits};
use bitworth_eval::request::{Answer, Loglikelihood, Request};
use bitworth_eval::task::Task;
use bitworth_text::chat::{ChatRole, ChatTemplate, Date, Message};
use bitworth_text::python;
use bitworth_text::tokenizer::{SpecialText, Tokenizer};

/// Answers `requests` with every lane: per lane one answer per request, in order.
///
/// # Errors
/// A request that does not fit the model's context (named by its number), a model without a start token where one is needed,
/// a device that fails.
pub fn answer<B: Backend>(
    backend: &B,
    lanes: &[Lane],
    tokenizer: &Tokenizer,
    requests: &[Request],
    cut: SweepLimits,
    watch: Watch<'_>,
) -> Result<Vec<Vec<Answer>>> {
    let context = lanes.first().map_or(0, |lane| sweep::longest_sequence(lane.variant.hparams()));
    let packed = Packed::new(tokenizer, requests, context)?;
    if packed.cut > 0 {
        tracing::warn!(
            "{} requests are longer than the model's context of {context} tokens; their beginning was left out, as in lm-eval",
            packed.cut
        );
    }
    let scores = match packed.sequences.as_slice() {
        [] => lanes.iter().map(|_| Vec::new()).collect(),
        sequences => sweep::score(backend, lanes, sequences, cut, watch.progress, watch.stop)?,
    };
    let mut answers = Vec::with_capacity(lanes.len());
    for (lane, scores) in lanes.iter().zip(scores) {
        let mut texts = generation::answer(backend, &lane.variant, tokenizer, requests, watch)?.into_iter();
        let one = |(request, pieces): (&Request, &Pieces)| match request {
            Request::GenerateUntil { .. } => Answer::Text(texts.next().unwrap_or_default()),
            Request::Loglikelihood { .. } | Request::LoglikelihoodRolling { .. } => {
                Answer::Loglikelihood(packed.sum(pieces, &scores))
            }
        };
        answers.push(requests.iter().zip(&packed.pieces).map(one).collect());
    }
    Ok(answers)
}

/// `tasks` asked as chats, and the tokenizer for their texts. Their day is always the same (see [`Date::OF_RECORDS`]), so that
/// the answers are.
///
/// # Errors
/// A model without a chat template, or one that refuses an item; a task that cannot be asked so.
pub fn as_chats(checkpoint: &Checkpoint, tokenizer: &Tokenizer, tasks: Vec<Task>) -> Result<(Vec<Task>, Tokenizer)> {
    let template = ChatTemplate::of(checkpoint, Date::OF_RECORDS)?;
    let render = |text: &str| template.render(&[Message::new(ChatRole::User, text)]).map_err(|e| e.message());
    let tasks = tasks.into_iter().map(|task| task.as_chat(render)).collect::<bitworth_quant::Result<_>>()?;
    Ok((tasks, tokenizer.without_start()))
}

/// Checks that every request can be asked, without asking.
///
/// # Errors
/// As [`answer`].
pub fn check(tokenizer: &Tokenizer, requests: &[Request], context: usize) -> Result<()> {
    Packed::new(tokenizer, requests, context).map(drop)
}

/// The sequences that are scored to answer `requests`; text is generated without any.
///
/// # Errors
/// As [`answer`].
pub fn sequences(tokenizer: &Tokenizer, requests: &[Request], context: usize) -> Result<Vec<Sequence>> {
    Ok(Packed::new(tokenizer, requests, context)?.sequences)
}

/// All requests' sequences one behind the other.
#[derive(Default)]
struct Packed {
    sequences: Vec<Sequence>,
    /// Which sequences belong to which request.
    pieces: Vec<Pieces>,
    /// How many requests lost the beginning of their context.
    cut: usize,
}

/// The sequences of one request, and the UTF-8 bytes of the text that they score.
struct Pieces {
    sequences: std::ops::Range<usize>,
    bytes: usize,
}

impl Packed {
    fn new(tokenizer: &Tokenizer, requests: &[Request], context: usize) -> Result<Self> {
        let mut packed = Self::default();
        for (number, request) in requests.iter().enumerate() {
            packed.add(tokenizer, request, context).at(|| format!("request {}", number + 1))?;
        }
        Ok(packed)
    }

    fn add(&mut self, tokenizer: &Tokenizer, request: &Request, context: usize) -> Result<()> {
        let begin = self.sequences.len();
        let bytes = match request {
            Request::GenerateUntil { prompt, max_tokens, .. } => {
                generation::prompt(tokenizer, prompt, *max_tokens, context)?;
                0
            }
            Request::Loglikelihood { context: given, continuation } => {
                let Cut { sequence, is_cut } = pair(tokenizer, given, continuation, context)?;
                self.sequences.push(sequence);
                self.cut += usize::from(is_cut);
                given.len() - python::rstrip(given).len() + continuation.len()
            }
            Request::LoglikelihoodRolling { text } => {
                self.sequences.extend(rolling(tokenizer, text, context)?);
                text.len()
            }
        };
        self.pieces.push(Pieces { sequences: begin..self.sequences.len(), bytes });
        Ok(())
    }

    fn sum(&self, pieces: &Pieces, scores: &[Vec<HeadRow>]) -> Loglikelihood {
        let mut sum = Loglikelihood { logprob: 0.0, tokens: 0, is_greedy: true, bytes: pieces.bytes };
        for piece in pieces.sequences.clone() {
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

/// The ids of a text behind the start token, where the model wants one and the text does not begin with it itself.
fn with_start(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let ids = tokenizer.encode(text, SpecialText::Parse)?;
    let start = tokenizer.start().filter(|start| ids.first() != Some(start));
    Ok(start.into_iter().chain(ids).collect())
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
fn pair(tokenizer: &Tokenizer, context: &str, continuation: &str, limit: usize) -> Result<Cut> {
    let given = python::rstrip(context);
    let (mut tokens, mut first) = if context.is_empty() {
        (tokenizer.encode(continuation, SpecialText::Parse)?, 0)
    } else {
        let whole = with_start(tokenizer, &format!("{context}{continuation}"))?;
        let known = with_start(tokenizer, given)?.len().min(whole.len());
        (whole, known)
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

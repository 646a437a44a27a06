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
                self.sequences.push(pair(tokenizer, given, continuation, context)?);
                given.len() - given.trim_end().len() + continuation.len()
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

/// Context and continuation as lm-evaluation-harness splits them: blanks at the end of the context move to the
/// continuation, both are tokenized together, and what lies behind the context's own ids is scored.
fn pair(tokenizer: &Tokenizer, context: &str, continuation: &str, limit: usize) -> Result<Sequence> {
    let given = context.trim_end();
    let moved = format!("{}{continuation}", &context[given.len()..]);
    let whole = tokenizer.encode(&format!("{given}{moved}"), SpecialText::Parse)?;
    let known = tokenizer.encode(given, SpecialText::Parse)?.len().min(whole.len());
    let mut tokens = Vec::with_capacity(whole.len() + 1);
    tokens.extend(if given.is_empty() { tokenizer.prefix() } else { tokenizer.start() });
    let first = tokens.len() + known;
    tokens.extend(whole);
    if first >= tokens.len() {
        return Err(Error::unfit("the continuation adds no token to its context"));
    }
    let Some(before) = first.checked_sub(1) else {
        return Err(Error::unfit("nothing stands before the first token, and the model has no start token"));
    };
    if tokens.len() - 1 > limit {
        return Err(Error::unfit(format!("{} tokens do not fit the model's context of {limit}", tokens.len() - 1)));
    }
    Ok(Sequence { scored: before..tokens.len() - 1, tokens })
}

/// The windows of a rolling log-likelihood as lm-evaluation-harness makes them: the first behind the start token, each
/// further one sees one id of the one before; the last reaches back as far as the context allows.
fn rolling(tokenizer: &Tokenizer, text: &str, limit: usize) -> Result<Vec<Sequence>> {
    let Some(prefix) = tokenizer.prefix() else {
        return Err(Error::unfit("nothing stands before the first token, and the model has no start token"));
    };
    let mut ids = vec![prefix];
    ids.extend(tokenizer.encode(text, SpecialText::Parse)?);
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

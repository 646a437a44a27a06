//! Text from a model: greedy or sampled, until a stop text, an end token or a limit.

use std::collections::VecDeque;

use super::Watch;
use super::error::{Error, Result};
use bitworth_quant::progress::Unit;
use bitworth_quant::random::SplitMix64;

use bitworth_engine::backend::Backend;
use bitworth_engine::generate::Generator;
use bitworth_engine::model::Variant;
use bitworth_text::tokenizer::{SpecialText, Tokenizer};

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The likeliest one.
    Greedy,
    /// Drawn at a temperature from the likeliest tokens that together reach `top_p`, reproducibly from a seed.
    Random {
        /// Divides the logits; above 0.
        temperature: f32,
        /// Probability to reach, in (0, 1].
        top_p: f32,
        /// Start of the random sequence.
        seed: u64,
    },
}

/// A prompt to be continued until a text ends it.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// Its ids.
    pub ids: Vec<u32>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// The most new tokens.
    pub max_tokens: usize,
}

/// The likeliest answers to `prompts`, in order.
///
/// # Errors
/// A device that fails, an interruption.
pub fn answer<B: Backend>(
    backend: &B,
    variant: &Variant,
    tokenizer: &Tokenizer,
    prompts: &[Prompt],
    watch: Watch<'_>,
) -> Result<Vec<String>> {
    if prompts.is_empty() {
        return Ok(Vec::new());
    }
    let room = prompts.iter().map(|prompt| prompt.ids.len() + prompt.max_tokens).max().unwrap_or(0);
    let mut generator = Generator::new(backend, variant, room, 1)?;
    watch.progress.start(prompts.len() as u64, Unit::Items, "generating");
    let mut texts = Vec::with_capacity(prompts.len());
    for Prompt { ids, stop, max_tokens } in prompts {
        generator.rewind(0, 0)?;
        let mut show = |_: &str| {};
        let asked = Continuation { prompt: ids, stop, max_tokens: *max_tokens, sampling: Sampling::Greedy };
        texts.push(generate(&mut generator, tokenizer, &asked, watch, &mut show)?.text);
        watch.progress.advance(1);
    }
    watch.progress.finish();
    Ok(texts)
}

/// The ids of a prompt, without those at its beginning that would leave no room for `max_tokens` in a context of `context`
/// (lm-evaluation-harness 0.4.13, `lm_eval/models/utils.py`); and whether there are such.
///
/// # Errors
/// A prompt without tokens, or an answer that has no room with any prompt.
pub fn cut_prompt(tokenizer: &Tokenizer, text: &str, max_tokens: usize, context: usize) -> Result<(Vec<u32>, bool)> {
    if max_tokens >= context {
        return Err(Error::unfit(format!(
            "{max_tokens} new tokens leave no room for a prompt in the model's context of {context}"
        )));
    }
    let mut ids = ids_of(tokenizer, text)?;
    let over = (ids.len() + max_tokens).saturating_sub(context);
    ids.drain(..over);
    Ok((ids, over > 0))
}

/// The ids of a prompt that leaves room for its answer.
///
/// # Errors
/// A prompt without tokens, or one that together with `max_tokens` is longer than `context`.
pub fn prompt(tokenizer: &Tokenizer, text: &str, max_tokens: usize, context: usize) -> Result<Vec<u32>> {
    let ids = ids_of(tokenizer, text)?;
    if ids.len().saturating_add(max_tokens) > context {
        return Err(Error::unfit(format!(
            "a prompt of {} and {max_tokens} new tokens do not fit the model's context of {context}",
            ids.len()
        )));
    }
    Ok(ids)
}

fn ids_of(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let ids = tokenizer.encode_prompt(text, SpecialText::Parse)?;
    match ids.is_empty() {
        true => Err(Error::unfit("the prompt has no tokens, and the model has no start token to begin with")),
        false => Ok(ids),
    }
}

/// What was generated.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The new text, without the prompt.
    pub text: String,
    /// The new ids.
    pub tokens: Vec<u32>,
}

/// What to continue, and how far.
#[derive(Debug, Clone, Copy)]
pub struct Continuation<'a> {
    /// The ids to continue, see [`prompt`].
    pub prompt: &'a [u32],
    /// Texts that end it.
    pub stop: &'a [String],
    /// The most new ids.
    pub max_tokens: usize,
    /// How they are chosen.
    pub sampling: Sampling,
}

/// Continues what is `asked` in sequence 0 of a generator; `show` sees each piece of text as it comes. Behind what is made the
/// sequence may have further tokens that the device chose before anybody saw that the text ends.
///
/// # Errors
/// An empty prompt (see [`prompt`]), a sequence without room, a device that fails, an interruption.
pub fn generate<B: Backend>(
    generator: &mut Generator<'_, B>,
    tokenizer: &Tokenizer,
    asked: &Continuation<'_>,
    watch: Watch<'_>,
    show: &mut dyn FnMut(&str),
) -> Result<Generated> {
    let &Continuation { prompt, stop, max_tokens, sampling } = asked;
    let mut made = Generated { text: String::new(), tokens: Vec::new() };
    let mut random = SplitMix64::new(match sampling {
        Sampling::Random { seed, .. } => seed,
        Sampling::Greedy => 0,
    });
    let mut input = prompt.to_vec();
    let mut ahead = VecDeque::new();
    while made.tokens.len() < max_tokens {
        if watch.stopped() {
            return Err(Error::interrupted());
        }
        let next = match sampling {
            Sampling::Greedy => {
                if ahead.is_empty() {
                    ahead.extend(generator.greedy_ahead(0, &input, max_tokens - made.tokens.len())?);
                }
                let Some(next) = ahead.pop_front() else { break };
                next
            }
            Sampling::Random { temperature, top_p, .. } => draw(&generator.logits(0, &input)?, temperature, top_p, random.unit()),
        };
        if tokenizer.is_end(next) {
            break;
        }
        made.tokens.push(next);
        let text = tokenizer.decode(&made.tokens)?;
        // A character of several tokens is whole only with its last one.
        if !text.ends_with('\u{fffd}') {
            if let Some(new) = text.strip_prefix(made.text.as_str()) {
                show(new);
            }
            made.text = text;
        }
        if stop.iter().any(|stop| made.text.contains(stop.as_str())) || (ahead.is_empty() && generator.room(0) == 0) {
            break;
        }
        input = vec![next];
    }
    Ok(made)
}

/// Nucleus sampling (Holtzman et al. 2020): the token at which the summed probability of the likeliest passes `u` of the
/// nucleus.
pub(crate) fn draw(logits: &[f32], temperature: f32, top_p: f32, u: f64) -> u32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut weights: Vec<(u32, f64)> =
        logits.iter().zip(0..).map(|(&l, id)| (id, libm::exp(f64::from((l - max) / temperature)))).collect();
    weights.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let total: f64 = weights.iter().map(|w| w.1).sum();
    let mut nucleus = 0.0;
    let mut count = 0;
    for (_, weight) in &weights {
        nucleus += weight;
        count += 1;
        if nucleus >= f64::from(top_p) * total {
            break;
        }
    }
    let mut rest = u * nucleus;
    for &(id, weight) in &weights[..count] {
        rest -= weight;
        if rest < 0.0 {
            return id;
        }
    }
    weights[count - 1].0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_nucleus() {
        let logits = [0.0, 2.0, 1.0, -50.0];
        assert_eq!(draw(&logits, 1.0, 0.1, 0.99), 1, "a small nucleus holds the likeliest alone");
        assert_eq!(draw(&logits, 1.0, 1.0, 0.0), 1);
        assert_eq!(draw(&logits, 1.0, 1.0, 0.95), 0);
        assert_eq!(draw(&logits, 0.01, 1.0, 0.999), 1, "a low temperature leaves the likeliest alone");
    }
}

//! The requests of tasks as models take them, and models' answers as they are judged. Absent: both of their meanings.

use std::sync::Arc;

use bitworth_eval::request::{Answer, Request};
use bitworth_quant::Result;
use serde_json::{Value, json};

use crate::ask::{Arguments, Built};
use crate::files::config::OutputType;

/// New tokens where `max_gen_toks` says nothing (lm-evaluation-harness 0.4.13, `lm_eval/defaults.py`).
const MAX_GEN_TOKS: usize = 256;

/// How text is generated.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Generation {
    stop: Vec<String>,
    max_tokens: usize,
}

fn generation(built: &Built) -> Result<Generation> {
    let options = built.definition.config.generation_kwargs.clone().unwrap_or_default();
    let fail = |what: &str| Err(built.definition.fail(format!("generation_kwargs: {what}")));
    let temperature = options.get("temperature").and_then(Value::as_f64).unwrap_or(0.0);
    if options.get("do_sample") == Some(&Value::Bool(true)) && temperature > 0.0 {
        return fail("sampling is not done for tasks; text is the likeliest (do_sample: false)");
    }
    let stop = match options.get("until") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => several.iter().filter_map(|stop| stop.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    let max_tokens =
        match options.get("max_gen_toks").or_else(|| options.get("max_tokens")).or_else(|| options.get("max_new_tokens")) {
            None => MAX_GEN_TOKS,
            Some(count) => match count.as_u64() {
                Some(count) => count as usize,
                None => return fail("max_gen_toks must be a number"),
            },
        };
    // An empty text would end every answer at once.
    Ok(Generation { stop: stop.into_iter().filter(|stop| !stop.is_empty()).collect(), max_tokens })
}

/// All requests of a task, document by document.
///
/// # Errors
/// A task whose answers are to be drawn at random.
pub fn requests(built: &Built) -> Result<Vec<Request>> {
    let Generation { stop, max_tokens } = match built.definition.config.output_type {
        OutputType::GenerateUntil => generation(built)?,
        _ => Generation { stop: Vec::new(), max_tokens: 0 },
    };
    let one = |arguments: &Arguments| match arguments {
        Arguments::Pair(context, continuation) => {
            Request::Loglikelihood { context: context.clone(), continuation: continuation.clone() }
        }
        Arguments::Text(text) => Request::LoglikelihoodRolling { text: text.clone() },
        Arguments::Prompt(prompt) => Request::GenerateUntil { prompt: prompt.clone(), stop: stop.clone(), max_tokens },
    };
    Ok(built.asked.iter().flat_map(|asked| &asked.requests).map(one).collect())
}

/// The requests of tasks as lines of JSON, a line for a document: see [`Built::line`].
pub fn lines(built: &[Arc<Built>]) -> String {
    let of_task =
        |task: &Arc<Built>| task.asked.iter().map(|asked| format!("{}\n", Value::Object(task.line(asked)))).collect::<String>();
    built.iter().map(of_task).collect()
}

/// A model's answers to [`requests`], by document, as [`crate::judge::judge`] takes them.
///
/// # Errors
/// More or fewer answers than requests.
pub fn answers(built: &Built, given: &[Answer]) -> Result<Vec<Vec<Value>>> {
    let expected: usize = built.asked.iter().map(|asked| asked.requests.len()).sum();
    if given.len() != expected {
        return Err(built.definition.fail(format!("there are {expected} requests, and the answers are {}", given.len())));
    }
    let rolling = built.definition.config.output_type == OutputType::LoglikelihoodRolling;
    let one = |answer: &Answer| {
        Ok(match answer {
            Answer::Loglikelihood(score) if rolling => json!(score.logprob),
            Answer::Loglikelihood(score) => json!([score.logprob, score.is_greedy]),
            Answer::Text(text) => text_answer(built, text)?,
        })
    };
    let mut rest = given.iter();
    built.asked.iter().map(|asked| rest.by_ref().take(asked.requests.len()).map(one).collect()).collect()
}

/// A generated text as it is judged: what stands before the first of the texts that end it, as often as the task asks for it; the
/// likeliest text is the same each time.
///
/// # Errors
/// As [`requests`].
pub(crate) fn text_answer(built: &Built, text: &str) -> Result<Value> {
    let stop = generation(built)?.stop;
    let end = stop.iter().filter_map(|stop| text.find(stop.as_str())).min().unwrap_or(text.len());
    Ok(match built.definition.config.repeats {
        0 | 1 => json!(text[..end]),
        repeats => json!(vec![&text[..end]; repeats]),
    })
}

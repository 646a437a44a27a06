//! `bitworth generate`: hear whether a model still speaks.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;

use super::session::Session;
use super::{DecodingArgs, DeviceArgs, Outcome, output};
use bitworth_engine::backend::Backend;
use bitworth_engine::generate::Generator;
use bitworth_engine::model::Variant;
use bitworth_engine::sweep;
use bitworth_measure::device::Device;
use bitworth_measure::generation::{self, Continuation, Generated, Sampling};
use bitworth_measure::models;
use bitworth_measure::on_device;
use bitworth_text::chat::{ChatRole, ChatTemplate, Date, Message};
use bitworth_text::tokenizer::Tokenizer;

/// Continue a prompt, greedily or sampled.
#[derive(Args)]
pub struct GenerateArgs {
    /// Hugging Face directory, GGUF file or hf:OWNER/NAME.
    model: String,
    /// The text to continue; special tokens' names are understood.
    #[arg(long, allow_hyphen_values = true)]
    prompt: String,
    /// Ask as a chat: the prompt is what the user says, put into the model's chat template.
    #[arg(long)]
    chat: bool,
    /// What the system says first in the chat.
    #[arg(long, value_name = "TEXT", requires = "chat", allow_hyphen_values = true)]
    system: Option<String>,
    /// The day of the chat, for templates that name it, as 2024-07-26 [default: today].
    #[arg(long, value_name = "DAY", requires = "chat")]
    date: Option<Date>,
    /// Most tokens to make.
    #[arg(long, default_value_t = 64, value_name = "N")]
    max_tokens: usize,
    /// End at this text (may be given several times).
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Sample at this temperature instead of taking the likeliest token.
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    temperature: f32,
    /// Sample from the likeliest tokens that together have this probability.
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    top_p: f32,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    decoding: DecodingArgs,
}

pub fn run(args: &GenerateArgs, session: &Session) -> Result<Outcome> {
    let sound = args.temperature >= 0.0 && args.temperature.is_finite() && args.top_p > 0.0 && args.top_p <= 1.0;
    if args.stop.iter().any(String::is_empty) {
        bail!("--stop must not be empty: every text contains that");
    }
    if !sound {
        bail!("--temperature must be 0 or more and --top-p must lie in (0, 1]");
    }
    let checkpoint = models::open(&args.model, session.watch())?;
    let mut tokenizer = Tokenizer::new(&checkpoint)?;
    let mut text = args.prompt.clone();
    if args.chat {
        let template = ChatTemplate::of(&checkpoint, args.date.unwrap_or_else(today))?;
        let system = args.system.iter().map(|system| Message::new(ChatRole::System, system.as_str()));
        let messages: Vec<Message> = system.chain([Message::new(ChatRole::User, text)]).collect();
        text = template.render(&messages)?;
        tokenizer = tokenizer.without_start();
    }
    let variant = Variant::Stored(checkpoint);
    let limit = sweep::longest_sequence(variant.hparams());
    let prompt = generation::prompt(&tokenizer, &text, args.max_tokens, limit)?;
    let device = Device::open(args.device.device)?;
    let made = on_device!(&device, backend => continue_prompt(backend, &variant, &tokenizer, &prompt, args, session))?;
    if session.is_json() {
        let document = json!({ "prompt_tokens": prompt, "tokens": made.tokens, "text": made.text, "device": device.info() });
        output::json(&document)?;
    } else {
        output::text("")?;
    }
    Ok(Outcome::Done)
}

/// Today, in UTC.
fn today() -> Date {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Date::from_days((since.as_secs() / 86_400) as i64)
}

fn continue_prompt<B: Backend>(
    backend: &B,
    variant: &Variant,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    args: &GenerateArgs,
    session: &Session,
) -> Result<Generated> {
    let arithmetic = args.decoding.arithmetic.unwrap_or_else(|| backend.decoding_arithmetic());
    let mut generator = Generator::with_arithmetic(backend, variant, arithmetic, prompt.len() + args.max_tokens, 1)?;
    let sampling = match args.temperature {
        0.0 => Sampling::Greedy,
        temperature => Sampling::Random { temperature, top_p: args.top_p, seed: args.seed },
    };
    let mut show = |piece: &str| {
        if !session.is_json() {
            // A closed pipe ends the showing, not the generation.
            let _ = output::part(piece);
        }
    };
    let asked = Continuation { prompt, stop: &args.stop, max_tokens: args.max_tokens, sampling };
    Ok(generation::generate(&mut generator, tokenizer, &asked, session.watch(), &mut show)?)
}

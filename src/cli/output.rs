//! The only place that writes to stdout and stderr.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::Result;
use bitworth_advise::settings;
use bitworth_engine::backend::DeviceError;
use bitworth_engine::error::{EngineError, MAX_MEMORY};
use bitworth_eval::job::FIT;
use bitworth_measure::settings::{CHUNKS, CTX, NOISE_FLOOR, REQUESTS};
use bitworth_quant::checkpoint::LeftOut;
use bitworth_quant::message::{Command, Message, Names, Setting, Subject};
use bitworth_quant::plan::options::{ALLOW_REQUANTIZE, IMATRIX, TENSOR_TYPE};
use bitworth_quant::quantize::ALLOW_NON_FINITE;
use bitworth_text::chat::ChatError;
use bitworth_text::tokenizer::TokenizerError;
use clap::CommandFactory;
use serde::Serialize;

/// Prints a result.
///
/// # Errors
/// stdout is full. A reader that has seen enough and went away is no error.
pub fn text(text: &str) -> Result<()> {
    write(text, if text.ends_with('\n') { "" } else { "\n" })
}

/// Prints part of a result at once, without a newline (text that a model is saying).
///
/// # Errors
/// As [`text`].
pub fn part(text: &str) -> Result<()> {
    write(text, "")
}

fn write(text: &str, end: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = [text, end].iter().try_for_each(|part| out.write_all(part.as_bytes())).and_then(|()| out.flush());
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Prints the one JSON document of a command.
///
/// # Errors
/// As [`text`].
pub fn json(value: &impl Serialize) -> Result<()> {
    text(&serde_json::to_string_pretty(value)?)
}

/// Says something beside the result.
pub fn note(text: &str) {
    to_stderr(text);
}

/// A line to stderr. Whoever closed it does not want to hear.
fn to_stderr(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// What of a model's directory is of no language model, where anything is.
pub fn left_out(parts: LeftOut) -> Option<String> {
    let mib = parts.bytes as f64 / f64::from(1 << 20);
    let encoders =
        (parts.tensors > 0).then(|| format!("{} tensors of encoders for images or sound, {mib:.1} MiB", parts.tensors));
    let count = parts.uncounted;
    let blocks =
        (count > 0).then(|| format!("{count} tensors of blocks that predict further tokens, which config.json does not count"));
    let parts: Vec<String> = encoders.into_iter().chain(blocks).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Says why the command failed.
pub fn error(text: &str) {
    to_stderr(&format!("error: {}", tame(text)));
}

/// A text in which strangers' names may stand, without what would steer a terminal.
pub fn tame(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Whether a person sees stderr at once.
pub fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Settings that no option sets: columns of tables and keys of files, which go by their own names.
const NO_OPTIONS: [Setting; 4] = [settings::BACKEND, settings::COLUMN, settings::MODEL_FILE_GIB, settings::RUNTIME];

/// What `bitworth quantize` can be asked for, and a recipe on the fly cannot.
const OF_QUANTIZE: [Setting; 5] = [ALLOW_NON_FINITE, ALLOW_REQUANTIZE, FIT, IMATRIX, TENSOR_TYPE];

/// The command that runs; none in tests.
static COMMAND: OnceLock<String> = OnceLock::new();

/// Says which command runs: messages name its options and no others.
pub fn runs(command: &str) {
    let _ = COMMAND.set(command.to_owned());
}

/// What a user types for a setting, `--max-memory`, or a command.
pub fn flag(subject: Subject) -> String {
    match subject {
        Subject::Setting(setting) => flag_of(COMMAND.get().map(String::as_str), setting),
        Subject::Command(command) => typed(command),
    }
}

/// The same of one command. A setting that it has no option for goes by its own name, as keys of files do, or by the command
/// that has one.
fn flag_of(command: Option<&str>, setting: Setting) -> String {
    let option = setting.name().replace('_', "-");
    let is_known = command.is_none_or(|command| has_option(command, &option));
    if is_known && !NO_OPTIONS.contains(&setting) {
        format!("--{option}")
    } else if OF_QUANTIZE.contains(&setting) {
        format!("the option {option} of {}", typed(Command::Quantize))
    } else {
        setting.name().to_owned()
    }
}

/// What a user types for a command.
fn typed(command: Command) -> String {
    format!("`bitworth {}`", command.name())
}

/// Whether a command shows an option of that name, aliases included.
fn has_option(command: &str, option: &str) -> bool {
    let mut cli = super::Cli::command();
    cli.build();
    let arguments = cli.find_subcommand(command).into_iter().flat_map(|command| command.get_arguments());
    arguments.filter_map(|argument| argument.get_long_and_visible_aliases()).flatten().any(|name| name == option)
}

/// Settings that a configuration of `bitworth run` holds, with their keys there.
const KEYS: [(Setting, &str); 7] = [
    (MAX_MEMORY, "max_memory_mib"),
    (CHUNKS, "chunks"),
    (CTX, "ctx"),
    (FIT, "[fit]"),
    (IMATRIX, "[imatrix]"),
    (NOISE_FLOOR, "noise_floor"),
    (REQUESTS, "requests"),
];

/// What a user writes for a setting where a configuration holds it, `max_memory_mib`, and types for others and for commands.
pub fn key(subject: Subject) -> String {
    let own = KEYS.iter().find(|(known, _)| Subject::Setting(*known) == subject);
    own.map_or_else(|| flag(subject), |(_, key)| (*key).to_owned())
}

/// An error and its causes in one line, each cause once, with settings and commands as the user types them.
pub fn chain(error: &anyhow::Error) -> String {
    told(error, &flag)
}

/// The same with settings and commands by the names that `name` gives them.
pub fn told(error: &anyhow::Error, name: Names<'_>) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let message = message(cause);
        let told = message.as_ref().map_or_else(|| cause.to_string(), |message| message.describe(name));
        if !line.contains(&told) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&told);
        }
        // The libraries' errors say what led to them.
        if message.is_some() {
            break;
        }
    }
    line
}

/// What an error of the libraries says.
fn message(error: &(dyn Error + 'static)) -> Option<Message> {
    let quant = || Some(error.downcast_ref::<bitworth_quant::Error>()?.message());
    let device = || Some(error.downcast_ref::<DeviceError>()?.message());
    let engine = || Some(error.downcast_ref::<EngineError>()?.message());
    let tokenizer = || Some(error.downcast_ref::<TokenizerError>()?.message());
    let chat = || Some(error.downcast_ref::<ChatError>()?.message());
    let measure = || Some(error.downcast_ref::<bitworth_measure::Error>()?.message());
    quant().or_else(device).or_else(engine).or_else(tokenizer).or_else(chat).or_else(measure)
}

/// Sends the library's log to stderr, at the level that `RUST_LOG` asks for (where it is not set: errors, and
/// warnings of our own).
pub fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    // Drivers' validation chatter is not the user's business unless asked for.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error,bitworth=warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).without_time().with_target(false);
    let _ = log.with_writer(|| Once).try_init();
}

/// Writes each line to stderr once: what is true of a model is not said for each of its lanes.
struct Once;

impl Write for Once {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        static SAID: Mutex<BTreeSet<Vec<u8>>> = Mutex::new(BTreeSet::new());
        if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(line.to_vec()) {
            io::stderr().lock().write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use bitworth_eval::records::OUT;

    use super::*;

    #[test]
    fn every_setting_that_a_message_may_name_is_an_option() {
        let mut cli = crate::cli::Cli::command();
        cli.build();
        let options: BTreeSet<String> = cli
            .get_subcommands()
            .flat_map(|command| command.get_arguments())
            .filter_map(|argument| Some(format!("--{}", argument.get_long()?)))
            .collect();
        let all = [
            bitworth_quant::SETTINGS,
            bitworth_engine::SETTINGS,
            bitworth_eval::SETTINGS,
            bitworth_advise::SETTINGS,
            bitworth_measure::SETTINGS,
            bitworth_tasks::SETTINGS,
        ];
        for &setting in all.concat().iter().filter(|setting| !NO_OPTIONS.contains(setting)) {
            let typed = flag(Subject::Setting(setting));
            assert!(options.contains(&typed), "no command has {typed}");
        }
    }

    #[test]
    fn every_command_that_a_message_may_name_is_one() {
        let cli = crate::cli::Cli::command();
        for &command in Command::ALL {
            assert!(cli.find_subcommand(command.name()).is_some(), "{command:?}");
        }
        let names: [Names<'_>; 2] = [&flag, &key];
        for name in names {
            assert_eq!(Message::from("see ").then(Command::Inspect).describe(name), "see `bitworth inspect`");
        }
    }

    #[test]
    fn a_setting_is_an_option_only_where_the_command_has_it() {
        let check = |command, setting, expected: &str| assert_eq!(flag_of(Some(command), setting), expected);
        check("quantize", ALLOW_REQUANTIZE, "--allow-requantize");
        for command in ["compare", "score", "eval", "run"] {
            check(command, ALLOW_REQUANTIZE, "the option allow-requantize of `bitworth quantize`");
        }
        check("compare", IMATRIX, "--imatrix");
        check("score", IMATRIX, "the option imatrix of `bitworth quantize`");
        check("eval", OUT, "--out");
        check("run", CTX, "ctx");
        check("forecast", settings::HARDWARE, "hardware");
        assert_eq!(flag_of(None, MAX_MEMORY), "--max-memory");
        assert_eq!(key(Subject::Setting(IMATRIX)), "[imatrix]");
    }

    #[test]
    fn a_chain_says_everything_once_and_settings_as_they_are_typed() {
        let tensor = || bitworth_quant::Error::tensor("m.gguf", "t", Message::from("allow it with ").then(ALLOW_REQUANTIZE));
        let told = "m.gguf: tensor t: allow it with --allow-requantize";
        assert_eq!(chain(&tensor().into()), told);
        assert_eq!(chain(&EngineError::from(tensor()).into()), told);
        let measure = bitworth_measure::Error::from(EngineError::from(tensor()));
        let error = Err::<(), _>(measure).context("recipe r").unwrap_err();
        assert_eq!(chain(&error), format!("recipe r: {told}"));
        let io = bitworth_quant::Error::io("f", io::Error::other("gone"));
        assert_eq!(chain(&Err::<(), _>(io).context("why").unwrap_err()), "why: f: gone");
    }
}

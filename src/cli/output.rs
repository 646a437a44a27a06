//! The only place that writes to stdout and stderr.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
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

/// An error and its causes in one line, each cause once.
pub fn chain(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !line.contains(&cause) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&cause);
        }
    }
    line
}

/// Sends the library's log to stderr, at the level that `RUST_LOG` asks for (where it is not set: errors, and
/// warnings of our own).
pub fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    // Drivers' validation chatter is not the user's business unless asked for.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error,bitworth=warn"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).try_init();
}

//! Progress for a person: a bar with ETA on a terminal, a plain line now and then on a pipe, nothing with `--quiet`.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use bitworth_quant::Progress;
use bitworth_quant::progress::Unit;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output;

/// How often a pipe gets a line.
const PIPE_INTERVAL: Duration = Duration::from_secs(5);

/// Where progress goes.
pub enum Reporter {
    /// Nowhere.
    Quiet,
    /// A bar on the terminal.
    Bar(ProgressBar),
    /// Lines on a pipe.
    Lines(Mutex<Lines>),
}

/// Progress on a pipe.
pub struct Lines {
    what: String,
    unit: Unit,
    total: u64,
    done: u64,
    begin: Instant,
    last: Instant,
}

impl Reporter {
    /// For this process's stderr.
    pub fn new(quiet: bool) -> Self {
        if quiet {
            Self::Quiet
        } else if output::is_terminal() {
            Self::Bar(ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()))
        } else {
            let now = Instant::now();
            Self::Lines(Mutex::new(Lines { what: String::new(), unit: Unit::Items, total: 0, done: 0, begin: now, last: now }))
        }
    }
}

impl Progress for Reporter {
    fn start(&self, total: u64, unit: Unit, what: &str) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => {
                bar.set_draw_target(ProgressDrawTarget::stderr());
                bar.set_style(style(unit));
                bar.set_message(what.to_owned());
                bar.set_length(total);
                bar.reset();
            }
            Self::Lines(lines) => {
                if let Ok(mut lines) = lines.lock() {
                    let now = Instant::now();
                    *lines = Lines { what: what.to_owned(), unit, total, done: 0, begin: now, last: now };
                }
            }
        }
    }

    fn advance(&self, delta: u64) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => bar.inc(delta),
            Self::Lines(lines) => {
                if let Ok(mut lines) = lines.lock() {
                    lines.done += delta;
                    if lines.last.elapsed() >= PIPE_INTERVAL {
                        lines.last = Instant::now();
                        output::note(&lines.line());
                    }
                }
            }
        }
    }

    fn stage(&self, what: &str) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => bar.set_message(what.to_owned()),
            Self::Lines(lines) => {
                if let Ok(mut lines) = lines.lock() {
                    what.clone_into(&mut lines.what);
                }
            }
        }
    }

    fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn style(unit: Unit) -> ProgressStyle {
    let template = match unit {
        Unit::Bytes => "{msg} [{bar:40}] {percent:>3}% {decimal_bytes_per_sec}, {elapsed} elapsed, {eta} left",
        Unit::Items => "{msg} [{bar:40}] {percent:>3}% {elapsed} elapsed, {eta} left",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

impl Lines {
    fn line(&self) -> String {
        let part = self.done as f64 / self.total.max(1) as f64;
        let elapsed = self.begin.elapsed();
        let left = elapsed.mul_f64(((1.0 - part) / part.max(1e-9)).clamp(0.0, 1e6));
        let rate = match self.unit {
            Unit::Bytes => format!("{:.0} MB/s, ", self.done as f64 / 1e6 / elapsed.as_secs_f64().max(1e-9)),
            Unit::Items => String::new(),
        };
        format!("{}: {:.0} %, {rate}{} left", self.what, 100.0 * part, HumanDuration(left))
    }
}

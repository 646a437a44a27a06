//! Progress for a person: a bar with ETA on a terminal, a plain line now and then on a pipe, nothing with `--quiet`.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use bitworth_quant::Progress;
use bitworth_quant::progress::Unit;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output;

/// How often a pipe gets a line.
const PIPE_INTERVAL: Duration = Duration::from_secs(5);
/// What is told so soon after the first is what an earlier run had done, and says nothing of the speed.
const FOUND: Duration = Duration::from_secs(1);
/// The time that is left is told once so much of the whole was done, or after a while ...
const ENOUGH: f64 = 0.02;
/// ... somewhat less.
const A_LITTLE: f64 = 0.001;

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
    /// When work was first told of.
    first: Option<Instant>,
    /// What had been done soon after, and when: speeds are those of the rest.
    found: (u64, Instant),
    /// When a line was written.
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
            Self::Lines(Mutex::new(Lines::new("", Unit::Items, 0, Instant::now())))
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
                    *lines = Lines::new(what, unit, total, Instant::now());
                }
            }
        }
    }

    fn advance(&self, delta: u64) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => bar.inc(delta),
            Self::Lines(lines) => {
                if let Ok(mut lines) = lines.lock()
                    && let Some(line) = lines.advance(delta, Instant::now())
                {
                    output::note(&line);
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
    fn new(what: &str, unit: Unit, total: u64, now: Instant) -> Self {
        Self { what: what.to_owned(), unit, total, done: 0, first: None, found: (0, now), last: now }
    }

    /// Counts what was done, and says so now and then.
    fn advance(&mut self, delta: u64, now: Instant) -> Option<String> {
        self.done += delta;
        if delta > 0 && now - *self.first.get_or_insert(now) < FOUND {
            self.found = (self.done, now);
        }
        (now - self.last >= PIPE_INTERVAL).then(|| {
            self.last = now;
            self.line(now)
        })
    }

    fn line(&self, now: Instant) -> String {
        let share = |count: u64| count as f64 / self.total.max(1) as f64;
        let (found, since) = self.found;
        let (own, elapsed) = (self.done - found, now - since);
        let name = if self.what.is_empty() { String::new() } else { format!("{}: ", self.what) };
        let mut line = format!("{name}{:.0} %", 100.0 * share(self.done));
        if self.unit == Unit::Bytes {
            line += &format!(", {:.0} MB/s", own as f64 / 1e6 / elapsed.as_secs_f64().max(1e-9));
        }
        let is_known = share(own) >= ENOUGH || (elapsed >= PIPE_INTERVAL && share(own) >= A_LITTLE);
        if is_known {
            let left = elapsed.mul_f64(share(self.total.saturating_sub(self.done)) / share(own));
            line += &format!(", {} left", HumanDuration(left));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_by_the_speed_of_this_run_and_not_too_soon() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut lines = Lines::new("scoring", Unit::Items, 1_000_000, begin);
        // Half was done by an earlier run, and is told when the model was read.
        assert_eq!(lines.advance(500_000, at(60)).as_deref(), Some("scoring: 50 %"));
        assert_eq!(lines.advance(10, at(62)), None, "not yet");
        assert_eq!(lines.advance(10, at(66)).as_deref(), Some("scoring: 50 %"), "a speed that nothing may rest on");
        // 50,000 in 100 seconds: 450,000 in 900.
        assert_eq!(lines.advance(49_980, at(160)).as_deref(), Some("scoring: 55 %, 15 minutes left"));
        let mut fresh = Lines::new("", Unit::Bytes, 1_000_000_000, begin);
        assert_eq!(fresh.advance(1, at(0)), None);
        assert_eq!(fresh.advance(99_999_999, at(20)).as_deref(), Some("10 %, 5 MB/s, 3 minutes left"));
    }
}

//! What all commands share: threads, progress, Ctrl-C, and the switch between text and JSON.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::progress::Reporter;
use super::{Global, output};
use bitworth_measure::Watch;

/// A worker's stack: commands run on one of them, and a main thread would have as much.
const STACK: usize = 8 << 20;

/// One run of the program.
pub struct Session {
    json: bool,
    reporter: Reporter,
    stop: Arc<AtomicBool>,
}

impl Session {
    /// Sets up threads and Ctrl-C: the first one asks the work to end cleanly, the second ends the program.
    ///
    /// # Errors
    /// An impossible number of threads.
    pub fn start(global: &Global) -> Result<Self> {
        if let Some(threads) = global.threads.filter(|&n| n == 0 || n > 4096) {
            bail!("--threads {threads}: give a number from 1 to 4096");
        }
        // 0 means all of them to rayon.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(global.threads.unwrap_or(0)).stack_size(STACK);
        pool.build_global().context("--threads")?;
        bitworth_quant::cut_files::end_with_an_error();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        ctrlc::set_handler(move || {
            if asked.swap(true, Ordering::Relaxed) {
                std::process::exit(2);
            }
        })
        .context("cannot watch for Ctrl-C")?;
        Ok(Self { json: global.json, reporter: Reporter::new(global.quiet), stop })
    }

    /// What long calls are given.
    pub fn watch(&self) -> Watch<'_> {
        Watch { progress: &self.reporter, stop: &self.stop }
    }

    /// Prints the result: `text` for a person, `json` for a program.
    ///
    /// # Errors
    /// stdout is closed or full.
    pub fn print(&self, json: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        if self.json { output::json(json) } else { output::text(&text()) }
    }

    /// Says something beside the result, unless `--quiet` asks not to.
    pub fn note(&self, text: &str) {
        if !matches!(self.reporter, Reporter::Quiet) {
            output::note(text);
        }
    }

    /// Whether the result is to be JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }
}

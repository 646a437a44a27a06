//! llama.cpp's llama-bench as the program that is timed: the file as its users will run it, on any backend that it was built for.
//! One test a call, so that models and programs take turns; what it prints is read as JSON lines
//! (llama.cpp's `tools/llama-bench/llama-bench.cpp`, `jsonl_printer`).

use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use bitworth_engine::model::Variant;
use bitworth_eval::record::{Phase, SpeedTest};
use bitworth_quant::message::Message;
use serde::Deserialize;

use crate::Watch;
use crate::error::{Error, Result};
use crate::settings::{BATCH, LLAMA_BENCH};

/// What the program is called where it is on the PATH.
const NAME: &str = "llama-bench";
/// The most that is read of what it prints: a test is one line of some two thousand characters.
const MOST_OUTPUT: u64 = 1 << 20;
/// Lines of its messages that an error repeats.
const LAST_LINES: usize = 3;
/// What the names of files that it opens end with.
const ENDING: &str = "gguf";

/// The program.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaBench {
    program: PathBuf,
}

/// A file for it.
pub struct LlamaBenchModel<'a> {
    bench: &'a LlamaBench,
    file: PathBuf,
}

/// What it says of one test.
#[derive(Debug, PartialEq)]
pub struct Timing {
    pub seconds: f64,
    /// Its name with build and backend.
    pub engine: String,
}

/// The keys of a line that are read.
#[derive(Deserialize)]
struct Line {
    build_commit: String,
    build_number: i64,
    backends: String,
    n_prompt: u64,
    n_gen: u64,
    /// Absent in builds without depths.
    #[serde(default)]
    n_depth: u64,
    samples_ns: Vec<u64>,
}

impl LlamaBench {
    /// The program at `path`, or the one on the PATH. Whether it is there shows when it is run.
    pub fn new(path: Option<&Path>) -> Self {
        Self { program: path.unwrap_or(Path::new(NAME)).to_owned() }
    }

    /// A model's file for it, which need not be one that this program can run.
    ///
    /// # Errors
    /// A model that is no GGUF file; tests that it does not have.
    pub fn open(&self, model: &Variant, tests: &[SpeedTest]) -> Result<LlamaBenchModel<'_>> {
        let file = match model {
            Variant::Stored(checkpoint) => {
                checkpoint.files().first().filter(|file| file.extension().is_some_and(|e| e == ENDING))
            }
            Variant::Planned(..) => None,
        };
        let Some(file) = file else {
            let what =
                format!("{}: {NAME} opens GGUF files only; convert or quantize the model first", model.checkpoint().name());
            return Err(Error::unfit(what));
        };
        if file.to_string_lossy().contains(',') {
            let what = format!("{}: {NAME} takes a name with a comma for several; rename the file", file.display());
            return Err(Error::unfit(what));
        }
        if let Some(test) = tests.iter().find(|test| test.batch > 1) {
            let what = format!("{}: {NAME} times one sequence at once; leave it out, or time with ", test.name());
            return Err(Error::unfit(Message::from(what).then(BATCH.with("1"))));
        }
        Ok(LlamaBenchModel { bench: self, file: file.clone() })
    }

    fn failed(&self, file: &Path, what: impl Into<Message>) -> Error {
        Error::unfit(Message::from(format!("{}: {}: ", file.display(), self.program.display())).then(what))
    }
}

impl LlamaBenchModel<'_> {
    /// One test.
    ///
    /// # Errors
    /// A program that is not there, fails or prints something else; an interruption.
    pub fn time(&self, test: SpeedTest, warm_up: bool, watch: Watch<'_>) -> Result<Timing> {
        let Self { bench, file } = self;
        let (prompt, generate) = match test.phase {
            Phase::Prefill => (test.tokens, 0),
            Phase::Decode => (0, test.tokens),
        };
        let mut command = Command::new(&bench.program);
        command.arg("-m").arg(file).args(["-o", "jsonl", "-r", "1"]);
        // Builds without depths do not know the option.
        let depth = (test.depth > 0).then_some(("-d", test.depth));
        let counts = [("-p", prompt), ("-n", generate), ("-t", rayon::current_num_threads())];
        for (option, value) in counts.into_iter().chain(depth) {
            command.arg(option).arg(value.to_string());
        }
        if !warm_up {
            command.arg("--no-warmup");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                bench.failed(file, Message::from("there is no such program; name llama.cpp's with ").then(LLAMA_BENCH))
            }
            _ => bench.failed(file, e.to_string()),
        })?;
        let ended = wait(child, watch).map_err(|e| bench.failed(file, e.to_string()))?;
        let Some((status, printed, said)) = ended else { return Err(Error::interrupted()) };
        if !status.success() {
            return Err(bench.failed(file, format!("failed ({status}){}", last_lines(&said))));
        }
        read(&printed, prompt, generate, test.depth).map_err(|what| bench.failed(file, what))
    }
}

/// What it prints for one test.
fn read(printed: &str, prompt: usize, generate: usize, depth: usize) -> Result<Timing, Message> {
    let mut lines = printed.lines().filter(|line| !line.trim().is_empty());
    let (Some(line), None) = (lines.next(), lines.next()) else {
        let what = "did not print one line for one test; is it llama.cpp's llama-bench?";
        return Err(format!("{what} (it printed {} lines)", printed.lines().count()).into());
    };
    let told: Line = serde_json::from_str(line)
        .map_err(|e| Message::from(format!("did not print a test as llama.cpp's llama-bench does ({e})")))?;
    let wanted = [prompt, generate, depth].map(|count| count as u64);
    if [told.n_prompt, told.n_gen, told.n_depth] != wanted {
        return Err(format!("timed another test ({} prompt, {} new tokens)", told.n_prompt, told.n_gen).into());
    }
    match told.samples_ns[..] {
        [nanoseconds] if nanoseconds > 0 => {
            let Line { build_number, build_commit, backends, .. } = told;
            let engine = format!("{NAME} b{build_number} ({build_commit}), {backends}");
            Ok(Timing { seconds: nanoseconds as f64 / 1e9, engine })
        }
        _ => Err(format!("printed {} timings for one repetition", told.samples_ns.len()).into()),
    }
}

type Ended = (std::process::ExitStatus, String, String);

/// Waits for it; `None` where the user wants to stop, and it is stopped, too.
fn wait(mut child: Child, watch: Watch<'_>) -> io::Result<Option<Ended>> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let printed = scope.spawn(|| stdout.map(drain).unwrap_or_default());
        let said = scope.spawn(|| stderr.map(drain).unwrap_or_default());
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if watch.stopped() {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(5));
        };
        let text = |thread: thread::ScopedJoinHandle<'_, String>| thread.join().unwrap_or_default();
        Ok(Some((status, text(printed), text(said))))
    })
}

/// All that a stream holds, of which the beginning is kept: a program that waits for its reader would never end.
fn drain(mut from: impl Read) -> String {
    let mut kept = Vec::new();
    // What cannot be read shows in what is missing.
    let _ = from.by_ref().take(MOST_OUTPUT).read_to_end(&mut kept);
    let _ = io::copy(&mut from, &mut io::sink());
    String::from_utf8_lossy(&kept).into_owned()
}

/// The end of its messages, behind a colon.
fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    if last.is_empty() { String::new() } else { format!(": {}", last.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(changed: (&str, &str)) -> String {
        let line = concat!(
            r#"{"build_commit": "a1b2c3d", "build_number": 11434, "backends": "CPU", "n_prompt": 0, "n_gen": 128, "#,
            r#""n_depth": 64, "avg_ns": 2000000000, "samples_ns": [ 2000000000 ], "samples_ts": [ 64.0 ]}"#
        );
        line.replace(changed.0, changed.1)
    }

    #[test]
    fn a_line_is_a_timing_with_build_and_backend() {
        let timing = read(&line(("", "")), 0, 128, 64).unwrap();
        assert_eq!(timing, Timing { seconds: 2.0, engine: "llama-bench b11434 (a1b2c3d), CPU".into() });
    }

    #[test]
    fn anything_else_is_refused() {
        let refused = |printed: &str, what: &str| {
            let error = read(printed, 0, 128, 64).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        };
        refused("", "0 lines");
        refused("| model | size |\n| --- | --- |\n", "2 lines");
        refused("llama 1B Q4_0 | 64.0 t/s", "as llama.cpp's llama-bench does");
        refused(&line(("\"n_gen\": 128", "\"n_gen\": 64")), "another test");
        refused(&line(("[ 2000000000 ]", "[]")), "0 timings");
        refused(&line(("[ 2000000000 ]", "[0]")), "1 timings");
        refused(&line(("11434", "null")), "as llama.cpp's llama-bench does");
    }

    #[test]
    fn the_end_of_its_messages_is_repeated() {
        assert_eq!(last_lines("a\nb\n\n c \nd\n"), ": b; c; d");
        assert_eq!(last_lines("\n"), "");
    }
}

//! The command line: arguments to configuration, one library call, print. Only here is anything printed or exited.
//!
//! stdout carries the result (with `--json` one JSON document and nothing else); progress and messages go to stderr. Exit
//! codes: 0 done, 1 a stated gate failed, 2 bad input or failure.

mod advise;
mod allocate;
mod bench;
mod calibrate;
mod compare;
mod convert;
mod devices;
mod eval;
mod files;
mod fit;
mod forecast;
mod generate;
mod imatrix;
mod inspect;
mod job;
mod lm_eval;
mod logits;
mod measure;
mod output;
mod perplexity;
mod plan_args;
mod probe;
mod progress;
mod quantize;
mod reference;
mod report;
mod run;
mod score;
mod scored;
mod session;
mod size;
mod sweep;
mod synth;
mod text_args;
mod tokenize;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use bitworth_engine::backend::{Arithmetic, Backend};
use bitworth_measure::device::{Device, DeviceSelector};
use bitworth_measure::on_device;

/// What is each bit worth? Quantizes language models, scores every quantization against its reference, times it, and says what
/// each bit costs and gains.
#[derive(Parser)]
#[command(name = "bitworth", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// Options of every command.
#[derive(Args)]
struct Global {
    /// Print one JSON document on stdout and nothing else there.
    #[arg(long, global = true)]
    json: bool,
    /// Threads to use [default: all].
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    /// No progress.
    #[arg(long, short, global = true)]
    quiet: bool,
}

/// The device option of commands that run a model.
#[derive(Args)]
struct DeviceArgs {
    /// Device to run on: auto (a hardware GPU if there is one, else cpu), cpu, gpu, or gpu:N (N as in `bitworth devices`).
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: DeviceSelector,
}

/// The arithmetic of commands that make text or time it.
#[derive(Args)]
struct DecodingArgs {
    /// Products of activations with weights: q8 (activations in 8 bits, as llama.cpp's CPU kernels have them; weights that are
    /// floats stay in f32), or f32 [default: q8 on the CPU, f32 elsewhere].
    #[arg(long, value_name = "ARITHMETIC")]
    arithmetic: Option<Arithmetic>,
}

/// The same with the arithmetic, for commands that score.
#[derive(Args)]
struct ScoringArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Products of activations with weights: f32, or q8 (faster: activations in 8 bits, as llama.cpp's CPU kernels have them,
    /// with weights that are integers times a scale; f32 with others; cpu only).
    #[arg(long, default_value = "f32", value_name = "ARITHMETIC")]
    arithmetic: Arithmetic,
}

impl ScoringArgs {
    /// The device, which knows the arithmetic.
    fn open(&self) -> anyhow::Result<Device> {
        let device = Device::open(self.device.device)?;
        on_device!(&device, backend => backend.check_arithmetic(self.arithmetic))?;
        Ok(device)
    }
}

#[derive(Subcommand)]
enum Command {
    Run(run::RunArgs),
    Quantize(quantize::QuantizeArgs),
    Imatrix(imatrix::ImatrixArgs),
    Measure(measure::MeasureArgs),
    Allocate(allocate::AllocateArgs),
    Convert(convert::ConvertArgs),
    Inspect(inspect::InspectArgs),
    Verify(verify::VerifyArgs),
    Perplexity(perplexity::PerplexityArgs),
    Compare(compare::CompareArgs),
    Eval(eval::EvalArgs),
    Score(score::ScoreArgs),
    Logits(logits::LogitsArgs),
    Tokenize(tokenize::TokenizeArgs),
    Generate(generate::GenerateArgs),
    Bench(bench::BenchArgs),
    Forecast(forecast::ForecastArgs),
    Calibrate(calibrate::CalibrateArgs),
    Probe(probe::ProbeArgs),
    Advise(advise::AdviseArgs),
    Report(report::ReportArgs),
    Synth(synth::SynthArgs),
    Devices(devices::DevicesArgs),
}

/// Runs the program with these arguments.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (cli, command) = match parse(args) {
        Ok(parsed) => parsed,
        Err(e) => {
            // Help and version are no errors; clap knows where each belongs.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    output::runs(&command);
    output::log_to_stderr();
    // On a worker of the thread pool, so that each of the many short parallel loops of decoding begins without a handover.
    match session::Session::start(&cli.global).and_then(|session| rayon::scope(|_| dispatch(cli.command, &session))) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::GateFailed(what)) => {
            output::error(&what);
            ExitCode::from(1)
        }
        Err(e) => {
            output::error(&output::chain(&e));
            ExitCode::from(2)
        }
    }
}

/// The arguments, and the name of the command.
fn parse(args: impl IntoIterator<Item = OsString>) -> Result<(Cli, String), clap::Error> {
    let mut program = Cli::command();
    let mut matches = program.try_get_matches_from_mut(args)?;
    let command = matches.subcommand_name().unwrap_or_default().to_owned();
    let cli = Cli::from_arg_matches_mut(&mut matches).map_err(|e| e.format(&mut program))?;
    Ok((cli, command))
}

/// How a command ended, if it did not fail.
enum Outcome {
    /// All was done.
    Done,
    /// All was done, and a bound the user set was not met.
    GateFailed(String),
}

fn dispatch(command: Command, session: &session::Session) -> anyhow::Result<Outcome> {
    match command {
        Command::Run(args) => run::run(&args, session),
        Command::Quantize(args) => quantize::run(&args, session),
        Command::Imatrix(args) => imatrix::run(&args, session),
        Command::Measure(args) => measure::run(&args, session),
        Command::Allocate(args) => allocate::run(&args, session),
        Command::Convert(args) => convert::run(&args, session),
        Command::Inspect(args) => inspect::run(&args, session),
        Command::Verify(args) => verify::run(&args, session),
        Command::Perplexity(args) => perplexity::run(&args, session),
        Command::Compare(args) => compare::run(&args, session),
        Command::Eval(args) => eval::run(&args, session),
        Command::Score(args) => score::run(&args, session),
        Command::Logits(args) => logits::run(&args, session),
        Command::Tokenize(args) => tokenize::run(&args, session),
        Command::Generate(args) => generate::run(&args, session),
        Command::Bench(args) => bench::run(&args, session),
        Command::Forecast(args) => forecast::run(&args, session),
        Command::Calibrate(args) => calibrate::run(&args, session),
        Command::Probe(args) => probe::run(&args, session),
        Command::Advise(args) => advise::run(&args, session),
        Command::Report(args) => report::run(&args, session),
        Command::Synth(args) => synth::run(&args, session),
        Command::Devices(args) => devices::run(&args, session),
    }
}

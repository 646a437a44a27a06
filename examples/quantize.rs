//! Quantizes a model to a GGUF file and says what became of its tensors: `cargo run --example quantize [MODEL] [RECIPE] [FILE]`.
//! Without arguments it takes the embedded demo model, `q4_k_m`, and a temporary folder.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use bitworth::quant::quantize::quantize;
use bitworth::quant::{Output, PlanOptions, QuantizeOptions};
use bitworth::{Checkpoint, Recipe, Silent, Watch, open};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| "demo:demo-model".to_owned());
    let recipe = Recipe::find(&arguments.next().unwrap_or_else(|| "q4_k_m".to_owned()))?;
    let stop = AtomicBool::new(false);
    let checkpoint = open(&model, Watch { progress: &Silent, stop: &stop })?;
    let temporary = tempfile::tempdir()?;
    let file = arguments.next().map_or_else(|| temporary.path().join("model.gguf"), PathBuf::from);

    // The plan comes first: which tensor becomes what, and why. Nothing is written yet.
    let output = Output::of(checkpoint.as_ref(), &recipe, &PlanOptions::default(), &file)?;
    for entry in output.plan.entries.iter().take(4) {
        println!("{:24} {} -> {}", entry.tensor, entry.from, entry.to);
    }
    quantize(checkpoint.as_ref(), &[output], &QuantizeOptions::default(), &stop, &Silent)?;

    let made = Checkpoint::open(&file)?;
    println!("{}: {} tensors, {} bytes", file.display(), made.tensors().len(), made.total_bytes());
    Ok(())
}

//! Scores recipes of a model against the model itself on a text: `cargo run --example score [MODEL] [TEXT]`. Without arguments it
//! takes the embedded demo model and its text.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::sync::atomic::AtomicBool;

use bitworth::{Cpu, Silent, SweepLimits, TextMetrics, TextWindows, Tokenizer, Watch, candidate, demo, open, reference, score};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| "demo:demo-model".to_owned());
    let text = String::from_utf8(demo::read(&arguments.next().unwrap_or_else(|| "demo:data/eval.txt".to_owned()))?)?;
    let stop = AtomicBool::new(false);
    let watch = Watch { progress: &Silent, stop: &stop };
    let checkpoint = open(&model, watch)?;

    // Lane 0 is what the others are compared with; a recipe is applied to each layer when it is read.
    let mut lanes = vec![reference(&checkpoint)];
    for recipe in ["@q8_0", "@q4_k_m", "@q2_k"] {
        lanes.push(candidate(&checkpoint, recipe, None, watch)?);
    }
    let windows = TextWindows::windows(&Tokenizer::new(&checkpoint)?, &text, 256, Some(8))?;
    let scored = score(&Cpu::new(), &lanes, &windows, 0..windows.sequences.len(), SweepLimits::default(), watch)?;
    for (lane, sequences) in lanes.iter().zip(&scored) {
        let Some(metrics) = TextMetrics::of(&sequences.iter().collect::<Vec<_>>()) else { continue };
        let kld = metrics.against.map_or("-".to_owned(), |against| format!("{:.5}", against.kld.mean.value));
        println!("{:10} perplexity {:8.4}  KLD {kld}", lane.name, metrics.perplexity.value);
    }
    Ok(())
}

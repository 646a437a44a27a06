//! Makes a report from records: `cargo run --example report [RUN...]`, where each RUN is a folder that `bitworth run` left.
//! Without arguments it scores a recipe of the embedded demo model and makes the records itself.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use bitworth::eval::record::{Body, LaneRecord, Origin};
use bitworth::{
    Cpu, Record, Report, Silent, SweepLimits, TextWindows, Tokenizer, Watch, candidate, demo, open, reference, score,
};

fn main() -> Result<(), Box<dyn Error>> {
    let runs: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    let records = if runs.is_empty() { records()? } else { bitworth::report::load(&runs)? };
    let report = Report::new(&records)?;
    println!("{}", report.to_text());
    let folder = tempfile::tempdir()?;
    for file in report.write(folder.path())? {
        println!("wrote {}", file.display());
    }
    Ok(())
}

/// A lane is described by one record; each sequence that it scored is another one.
fn records() -> Result<Vec<Record>, Box<dyn Error>> {
    let stop = AtomicBool::new(false);
    let watch = Watch { progress: &Silent, stop: &stop };
    let checkpoint = open("demo:demo-model", watch)?;
    let lanes = [reference(&checkpoint), candidate(&checkpoint, "@q4_k_m", None, watch)?];
    let text = String::from_utf8(demo::read("demo:data/eval.txt")?)?;
    let windows = TextWindows::windows(&Tokenizer::new(&checkpoint)?, &text, 256, Some(8))?;
    let cpu = Cpu::new();
    let scored = score(&cpu, &lanes, &windows, 0..windows.sequences.len(), SweepLimits::default(), watch)?;
    let mut records = Vec::new();
    for (number, (lane, sequences)) in lanes.iter().zip(scored).enumerate() {
        let weights: u64 = lane.variant.types().iter().map(|(_, weights)| weights).sum();
        let about = LaneRecord {
            recipe: lane.name.trim_start_matches('@').to_owned(),
            is_reference: number == 0,
            file: None,
            bytes: lane.variant.bytes(),
            bpw: 8.0 * lane.variant.bytes() as f64 / weights as f64,
            sha256: None,
            types: None,
            imatrix: None,
            fell_back: None,
            parts: None,
        };
        let origin = Origin::new(checkpoint.name(), lane.name.trim_start_matches('@'), "cpu", "f32");
        let bodies = std::iter::once(Body::Lane(about)).chain(sequences.into_iter().map(Body::Sequence));
        records.extend(bodies.map(|body| Record { origin: origin.clone(), body }));
    }
    Ok(records)
}

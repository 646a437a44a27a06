//! Files of random weights for timings alone: their rows repeat, so that even a search over scales takes no time to speak of. A
//! product reads and multiplies them as it would any others. Absent: files whose weights all differ (see `quantize`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Synth;
use crate::checkpoint::Source;
use crate::formats::DType;
use crate::progress::Unit;
use crate::quantize::{Output, Sink, Written, encode_rows};
use crate::tensor::Tensor;
use crate::{Error, Progress, Result};

/// Rows of a tensor that differ.
const DISTINCT_ROWS: usize = 32;
/// Bytes that are written at once.
const AT_ONCE: usize = 16 << 20;

/// Writes the files of `outputs`, which are not split, from a few rows of each tensor, over and over. Types
/// that are of use only with an importance matrix are made without one. The same inputs give the same bytes.
///
/// # Errors
/// As [`crate::quantize::quantize`], disk space included.
pub fn write_repeated(synth: &Synth, outputs: Vec<Output>, cancel: &AtomicBool, progress: &dyn Progress) -> Result<Vec<Written>> {
    let types: Vec<Vec<(String, DType)>> =
        outputs.iter().map(|o| o.plan.entries.iter().map(|e| (e.source().to_owned(), e.to)).collect()).collect();
    let total = outputs.iter().map(|output| output.plan.bytes()).sum();
    progress.start(total, Unit::Bytes, "writing random weights");
    let sinks: Vec<Arc<Sink>> = Sink::create_all(synth, outputs)?.into_iter().map(Arc::new).collect();
    for tensor in synth.tensors() {
        for (sink, types) in sinks.iter().zip(&types) {
            let Some((_, to)) = types.iter().find(|(name, _)| *name == tensor.name) else { continue };
            put(synth, tensor, *to, sink, cancel, progress)?;
        }
    }
    let finish = |sink: Arc<Sink>| Arc::into_inner(sink).map(|sink| sink.finish(synth)).transpose();
    let written = sinks.into_iter().filter_map(|sink| finish(sink).transpose()).collect();
    progress.finish();
    written
}

/// The rows of one tensor, in one file.
fn put(synth: &Synth, tensor: &Tensor, to: DType, sink: &Sink, cancel: &AtomicBool, progress: &dyn Progress) -> Result<()> {
    let distinct = tensor.rows().min(DISTINCT_ROWS);
    let rows = encode_rows(synth, &tensor.name, 0..distinct, to, None)?;
    let row_bytes = rows.len() / distinct.max(1);
    // Whole repetitions, so that the n-th row is the same whatever is written at once.
    let repeated = rows.repeat((AT_ONCE / rows.len().max(1)).clamp(1, tensor.rows().div_ceil(distinct.max(1))));
    let at_once = repeated.len() / row_bytes.max(1);
    for first in (0..tensor.rows()).step_by(at_once.max(1)) {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let count = at_once.min(tensor.rows() - first);
        sink.put(tensor, first, &repeated[..count * row_bytes])?;
        progress.advance((count * row_bytes) as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Model;
    use crate::progress::Silent;
    use crate::quantize::Split;
    use crate::synth::shape;
    use crate::{Checkpoint, Plan, PlanOptions, Recipe};

    #[test]
    fn rows_repeat_and_the_file_is_that_of_the_recipe_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let shape = shape::load("smollm2-135m", Some(2)).unwrap();
        let synth = Synth::new(&shape.name, &shape.config, 0).unwrap();
        let recipes = ["q4_k_m", "iq2_xxs", "f16"];
        let output = |name: &str| {
            let recipe = Recipe::find(name).unwrap();
            // Not `Output::of`, which refuses a type that needs an importance matrix.
            let plan = Plan::of(&synth, &recipe, &PlanOptions::default()).unwrap();
            let metadata = plan.metadata(&synth.output_metadata().unwrap());
            Output { plan, path: dir.path().join(format!("{name}.gguf")), metadata, imatrix: None, split: Split::None }
        };
        let written = write_repeated(&synth, recipes.map(output).into(), &AtomicBool::new(false), &Silent).unwrap();
        assert_eq!(written.len(), 3);
        for (name, written) in recipes.iter().zip(&written) {
            let file = Checkpoint::open(&written.path).unwrap();
            let plan = output(name).plan;
            assert_eq!(file.tensors().len(), plan.entries.len());
            for tensor in file.tensors() {
                let entry = plan.get(&tensor.name).unwrap();
                assert_eq!((entry.to, &entry.shape), (tensor.dtype, &tensor.shape), "{name}: {}", tensor.name);
                let first = encode_rows(&synth, &tensor.name, 0..tensor.rows().min(3), tensor.dtype, None).unwrap();
                let all = file.read(tensor, 0..tensor.rows()).unwrap();
                assert_eq!(all[..first.len()], first, "{name}: {}", tensor.name);
                let row_bytes = first.len() / tensor.rows().min(3);
                let last = tensor.rows() - 1;
                let like = last % DISTINCT_ROWS;
                assert_eq!(all[last * row_bytes..], all[like * row_bytes..][..row_bytes], "{name}: {}", tensor.name);
            }
        }
        let stopped = write_repeated(&synth, vec![output("q8_0")], &AtomicBool::new(true), &Silent);
        assert!(matches!(stopped, Err(Error::Cancelled)) && !dir.path().join("q8_0.gguf").exists());
    }
}

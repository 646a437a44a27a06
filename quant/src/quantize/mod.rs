//! Carrying plans out: one read of a model, any number of GGUF files. Rows are read in small blocks, decoded to f32 once,
//! encoded by all processors for every file that wants them, and written to the place the layout gives them; so memory does
//! not grow with the model. What is absent: deciding (see `plan`) and the encoders (see `formats`).
//!
//! Every file is written as `.NAME.partial` and renamed when all files of the run are whole and on the disk. Renames come one
//! after another: where one fails, the files renamed before it stand, whole, under their names, and the error says which one
//! failed. A run with [`QuantizeOptions::resume`] keeps its unfinished files, each output with a journal beside its first file
//! (`.NAME.partial.json`), and takes up what an earlier one left, tensor by tensor.

mod block;
mod checks;
mod encode;
mod hash;
mod journal;
mod measured;
mod output;
mod parts;
mod pipeline;
mod report;
mod rows;
mod sink;
mod space;
mod split;
mod verify;
mod writer;

use std::sync::atomic::AtomicBool;

pub use crate::checkpoint::Source;
pub use crate::plan::quantized_metadata;
use crate::{Error, Progress, Result};
use checks::{check_plan, refuse_same_paths};
pub use encode::{encode_rows, encode_tensor};
pub use measured::{Known, KnownOf};
pub use output::{ALLOW_NON_FINITE, Clock, Output, QuantizeOptions, Written, WrittenFile};
pub use report::{Fitting, TensorReport};
pub use sink::{CompleteFile, Finish, Sink};
pub use split::Split;
pub use verify::{Match, TensorMatch, verify};
use writer::Writer;

/// Makes all `outputs` from one read of `source`. Files appear under their names when all of them are whole; on any error,
/// and when `cancel` becomes true, none is left behind, unless [`QuantizeOptions::resume`] is set.
///
/// `progress` counts bytes of the source, once for each output that gets something made of them. Work runs on the current
/// rayon pool, one more thread per output writes; the bytes do not depend on the pool's size.
///
/// # Errors
/// [`Error::Tensor`] where a weight is infinite or not a number, or does not fit its new encoding, or where the importance
/// matrix is of another model; [`Error::File`] and [`Error::Io`] where a file cannot be written, is being written by another
/// process, or would not fit the disk; [`Error::Cancelled`], or [`Error::Suspended`] where there is something to resume.
pub fn quantize(
    source: &dyn Source,
    outputs: &[Output],
    options: &QuantizeOptions,
    cancel: &AtomicBool,
    progress: &dyn Progress,
) -> Result<Vec<Written>> {
    for output in outputs {
        check_plan(source, output)?;
        output.plan.entries.iter().try_for_each(|entry| output.importance(entry).map(drop))?;
    }
    refuse_same_paths(source, outputs)?;
    let writers = outputs.iter().map(|output| Writer::open(source, output, options)).collect::<Result<Vec<_>>>()?;
    space::check(writers.iter().flat_map(Writer::parts))?;
    let mut writers = pipeline::run(source, outputs, writers, options, cancel, progress).map_err(|e| match (e, outputs) {
        (Error::Cancelled, [first, ..]) if options.resume => Error::Suspended { path: first.path.clone() },
        (e, _) => e,
    })?;
    // First all of them to the disk, where most failures are, then all names.
    writers.iter_mut().try_for_each(Writer::finish)?;
    let written = writers.into_iter().map(Writer::commit).collect::<Result<Vec<_>>>()?;
    progress.finish();
    Ok(written)
}

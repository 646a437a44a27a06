//! Collects importance matrices: sums of squares (and of the activations themselves) by input column of every matrix, on a walk
//! through the layers. Absent: files (see `bitworth_quant::imatrix`), sums of products (see `second_moment`).
//!
//! Columns are summed in f64 in the order of the rows, whatever the threads and the cut of the walk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bitworth_quant::Checkpoint;
use bitworth_quant::imatrix::{Entry, Sums};
use bitworth_quant::message::Message;
use rayon::prelude::*;

use super::Watch;
use super::error::{At, Error, Result};
use super::readers::{matrices, readers};
use super::second_moment::SecondMoments;
use super::settings::{CHUNKS, FROM_CHUNK, SECOND_MOMENT};
use super::text::TextWindows;
use bitworth_engine::backend::Backend;
use bitworth_engine::error::{EngineError, MAX_MEMORY, Result as EngineResult};
use bitworth_engine::model::Variant;
use bitworth_engine::observe::{Observed, Observer, Site};
use bitworth_engine::sweep::{self, Observation, SweepLimits};
use bitworth_text::tokenizer::Tokenizer;

/// Columns that one thread sums.
const COLUMNS: usize = 128;

/// What to collect, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Collect<'a> {
    /// How the walk is cut.
    pub cut: SweepLimits,
    /// Whether the input of the output matrix is collected, too.
    pub output: bool,
    /// Where the second moments go, if they are asked for.
    pub second_moment: Option<&'a Path>,
}

/// Cuts a text as llama-imatrix does: as [`TextWindows::windows`], of which every token counts, without the first `skip`
/// windows, and with at most `limit` of the others.
///
/// # Errors
/// As [`TextWindows::windows`]; no window left.
pub fn windows(tokenizer: &Tokenizer, text: &str, ctx: usize, skip: usize, limit: Option<usize>) -> Result<Vec<Vec<u32>>> {
    let windows = TextWindows::windows(tokenizer, text, ctx, limit.map(|limit| limit.saturating_add(skip)))?;
    if skip >= windows.sequences.len() {
        let what = format!(": the text has {} windows of {ctx} tokens", windows.sequences.len());
        return Err(Error::unfit(FROM_CHUNK.with(skip).then(what)));
    }
    Ok(windows.sequences.into_iter().skip(skip).map(|sequence| sequence.tokens).collect())
}

/// Runs `variant` over `sequences` of up to `chunk_size` tokens and returns what went into its matrices, by tensor name.
///
/// # Errors
/// As [`sweep::observe`]; activations that are not numbers; with second moments, activations that do not fit into one pass, and
/// what writing a file may meet.
pub fn collect<B: Backend>(
    backend: &B,
    variant: &Variant,
    sequences: &[Vec<u32>],
    chunk_size: u32,
    how: Collect<'_>,
    watch: Watch<'_>,
) -> Result<Sums> {
    let checkpoint = variant.checkpoint().as_ref();
    let rows: usize = sequences.iter().map(Vec::len).sum();
    let moments = match how.second_moment {
        None => None,
        Some(path) => {
            let width = variant.hparams().embedding_length;
            if rows > sweep::pass_rows(variant.hparams(), how.cut) {
                // Half of the memory is for activations.
                let mib = (2 * rows * width * size_of::<f32>()).div_ceil(1 << 20);
                let rows = format!(": the activations of {rows} tokens must be in memory at once; give ");
                let what =
                    Message::from(SECOND_MOMENT).then(rows).then(MAX_MEMORY.with(mib)).then(" (MiB) or fewer ").then(CHUNKS);
                return Err(Error::unfit(what));
            }
            Some(Mutex::new(SecondMoments::create(path, checkpoint, how.output)?))
        }
    };
    let collector = Collector { checkpoint, places: Mutex::default(), moments };
    let observation = Observation { variant, sequences, limits: how.cut, output: how.output, observer: &collector };
    sweep::observe(backend, &observation, watch.progress, watch.stop)?;
    if let Some(moments) = collector.moments {
        moments.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?;
    }
    let mut entries = BTreeMap::new();
    for ((block, site), entry) in collector.places.into_inner().unwrap_or_else(PoisonError::into_inner) {
        for tensor in readers(checkpoint, block, site) {
            entries.insert(tensor.name.clone(), entry.clone());
        }
    }
    Ok(Sums { entries, datasets: Vec::new(), chunk_size })
}

/// Sums of squares of several files added up, the first of which says how large a chunk is.
///
/// # Errors
/// As [`Sums::open`] and [`Sums::add`]; with a `model`, files that are not of it.
pub fn merge(files: &[impl AsRef<Path>], chunk_size: u32, model: Option<&Checkpoint>) -> Result<Sums> {
    let mut all = Sums::default();
    for file in files {
        let path = file.as_ref();
        let sums = Sums::open(path, if all.chunk_size > 0 { all.chunk_size } else { chunk_size })?;
        if let Some(model) = model {
            sums.check_model(path, model.tensors()).at(|| model.path().display().to_string())?;
        }
        all.add(sums, path)?;
    }
    Ok(all)
}

/// Sums up what it observes.
struct Collector<'a> {
    checkpoint: &'a Checkpoint,
    places: Mutex<BTreeMap<(usize, Site), Entry>>,
    moments: Option<Mutex<SecondMoments>>,
}

impl<B: Backend> Observer<B> for Collector<'_> {
    fn observe(&self, backend: &B, observed: &Observed<'_, B>) -> EngineResult<()> {
        let &Observed { block, site, x, cols, parts, .. } = observed;
        let tensors = readers(self.checkpoint, block, site);
        let Some(first) = tensors.first() else { return Ok(()) };
        let unfit = |what: &str| EngineError::Unfit {
            model: self.checkpoint.path().display().to_string(),
            what: format!("tensor {}: {what}", first.name),
        };
        let matrices = matrices(first);
        if tensors.iter().any(|t| t.cols() != cols) || parts.iter().any(|(matrix, _)| *matrix >= matrices) {
            return Err(unfit("what goes into it has another shape"));
        }
        let rows = parts.iter().map(|(_, rows)| rows.end).max().unwrap_or(0);
        let x = backend.read(x, 0..rows * cols)?;
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = places.entry((block, site)).or_insert_with(|| Entry {
            squares: vec![0.0; cols * matrices],
            activations: Some(vec![0.0; cols * matrices]),
            counts: vec![0; if site.is_routed() { matrices } else { 1 }],
        });
        for (matrix, rows) in parts {
            let x = &x[rows.start * cols..rows.end * cols];
            let place = matrix * cols..(matrix + 1) * cols;
            let squares = &mut entry.squares[place.clone()];
            if let Some(sums) = &mut entry.activations {
                add_rows(x, squares, &mut sums[place]);
            }
            if squares.iter().any(|sum| !sum.is_finite()) {
                return Err(unfit(
                    "what goes into it is infinite or not a number; some weights before it must be, too; quantizing names the \
                     first such weight",
                ));
            }
            // All heads of a tensor get every row, and share one count.
            if site.is_routed() {
                entry.counts[*matrix] += rows.len() as u64;
            } else if *matrix == 0 {
                entry.counts[0] += rows.len() as u64;
            }
        }
        if let Some(moments) = &self.moments {
            let mut moments = moments.lock().unwrap_or_else(PoisonError::into_inner);
            parts
                .iter()
                .try_for_each(|(matrix, rows)| moments.add(block, site, *matrix, &x[rows.start * cols..rows.end * cols]))?;
        }
        Ok(())
    }
}

/// Adds rows to the sums of their columns, one row after the other.
fn add_rows(x: &[f32], squares: &mut [f64], sums: &mut [f64]) {
    let cols = squares.len();
    let parts = squares.par_chunks_mut(COLUMNS).zip(sums.par_chunks_mut(COLUMNS)).enumerate();
    parts.for_each(|(i, (squares, sums))| {
        for row in x.chunks_exact(cols) {
            for ((square, sum), &x) in squares.iter_mut().zip(sums.iter_mut()).zip(&row[i * COLUMNS..]) {
                let x = f64::from(x);
                *square += x * x;
                *sum += x;
            }
        }
    });
}

//! The way from the source to the outputs. Every thread of the rayon pool takes the next block of rows, reads, decodes and
//! encodes it alone, and hands it to the threads that write (see `writer`); so reading, encoding and writing overlap, small
//! tensors cost no waiting, and blocks come nearly in order. A fixed number of blocks is under way at any time, from before
//! a block is read until all outputs have written it, which bounds the memory. What is absent: files.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::block::{EncodedRows, Payload, Permit, Permits};
use super::output::{Output, QuantizeOptions};
use super::rows::{self, Encoder, SourceRows, WantedEncoding};
use super::writer::Writer;
use crate::checkpoint::Source;
use crate::progress::Unit;
use crate::tensor::Tensor;
use crate::{DType, Error, Progress, Result};

/// Most weights in a block: enough that its bookkeeping does not count, few enough that the slowest encoders end together.
const BLOCK_WEIGHTS: usize = 256 << 10;

/// How many blocks ahead of the one that is begun the system is asked to read; they are in its cache, not in our memory.
const READ_AHEAD: usize = 64;

/// One tensor and all that is wanted of it.
struct TensorJob<'a> {
    tensor: &'a Tensor,
    block_rows: usize,
    /// Number of its first block in the run.
    first_block: usize,
    /// Each encoding once, and who wants it.
    encodings: Vec<WantedEncoding<'a>>,
    targets: Vec<Vec<Target>>,
}

impl TensorJob<'_> {
    fn blocks(&self) -> usize {
        self.tensor.rows().div_ceil(self.block_rows)
    }
}

/// What one output makes of a tensor.
struct Target {
    output: usize,
    /// Entry of the output's plan.
    entry: usize,
    /// Number of the tensor's first block among those that the output gets.
    first_block: usize,
}

/// A run under way.
struct Run<'a> {
    encoder: Encoder<'a>,
    jobs: Vec<TensorJob<'a>>,
    blocks: usize,
    next: AtomicUsize,
    cancel: &'a AtomicBool,
    permits: Arc<Permits>,
    stopped: AtomicBool,
    /// The failure of the earliest block, whichever was seen first.
    failure: Mutex<Option<(usize, Error)>>,
}

/// Encodes all that `writers` (one per output) do not have yet, and has them write it.
pub(super) fn run<'a>(
    source: &'a dyn Source,
    outputs: &'a [Output],
    writers: Vec<Writer<'a>>,
    options: &QuantizeOptions<'a>,
    cancel: &'a AtomicBool,
    progress: &dyn Progress,
) -> Result<Vec<Writer<'a>>> {
    let threads = rayon::current_num_threads();
    // One block in each thread, as many waiting to be written, and some for a disk that hesitates.
    let under_way = 2 * threads + 4;
    let jobs = jobs(source, outputs, &writers, options, under_way)?;
    let source_bytes = |job: &TensorJob| stored_bytes(job.tensor) * job.targets.iter().flatten().count() as u64;
    progress.start(jobs.iter().map(source_bytes).sum(), Unit::Bytes, "quantizing");
    let run = Run {
        encoder: Encoder { source, allow_non_finite: options.allow_non_finite, clock: options.report },
        blocks: jobs.last().map_or(0, |job| job.first_block + job.blocks()),
        jobs,
        next: AtomicUsize::new(0),
        cancel,
        permits: Arc::default(),
        stopped: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    run.permits.add(under_way);
    let finished = std::thread::scope(|scope| {
        let mut senders = Vec::with_capacity(writers.len());
        let mut running = Vec::with_capacity(writers.len());
        for writer in writers {
            let (sender, blocks) = channel();
            senders.push(sender);
            let run = &run;
            running.push(scope.spawn(move || {
                let _guard = StopOnPanic(run);
                // Failures of a block come first: they are the same in every run.
                writer.run(&blocks, progress).map_err(|e| run.fail(usize::MAX, e)).ok()
            }));
        }
        rayon::scope(|pool| (0..threads).for_each(|_| pool.spawn(|_| run.work(&senders))));
        drop(senders);
        let join = |writer: std::thread::ScopedJoinHandle<'_, Option<Writer<'a>>>| match writer.join() {
            Ok(writer) => writer,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        running.into_iter().filter_map(join).collect()
    });
    match run.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(finished),
    }
}

/// Ends a run of which a thread panics; the others would wait for its block.
struct StopOnPanic<'r, 'a>(&'r Run<'a>);

impl Drop for StopOnPanic<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

impl Run<'_> {
    /// Encodes one block after another until there are no more.
    fn work(&self, senders: &[Sender<EncodedRows>]) {
        let _guard = StopOnPanic(self);
        loop {
            let permit = self.permits.take();
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            if self.cancel.load(Ordering::Relaxed) {
                return self.fail(usize::MAX, Error::Cancelled);
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.blocks {
                return;
            }
            if let Err(e) = self.block(number, permit, senders) {
                return self.fail(number, e);
            }
        }
    }

    /// The tensor and the rows of a block, and its number within the tensor.
    fn rows_of(&self, number: usize) -> (&TensorJob<'_>, usize, Range<usize>) {
        let job = &self.jobs[self.jobs.partition_point(|job| job.first_block <= number) - 1];
        let block = number - job.first_block;
        let rows = block * job.block_rows..job.tensor.rows().min((block + 1) * job.block_rows);
        (job, block, rows)
    }

    fn block(&self, number: usize, permit: Permit, senders: &[Sender<EncodedRows>]) -> Result<()> {
        if number + READ_AHEAD < self.blocks {
            let (job, _, rows) = self.rows_of(number + READ_AHEAD);
            self.encoder.source.will_need(job.tensor, rows);
        }
        let (job, block, rows) = self.rows_of(number);
        let tensor = job.tensor;
        let stored = SourceRows::read(self.encoder.source, tensor, rows.clone())?;
        let encoded = self.encoder.encode(tensor, rows.start, &stored, &job.encodings)?;
        let payload = Arc::new(Payload { stored, encoded, _permit: permit });
        for (encoding, targets) in job.targets.iter().enumerate() {
            let row_bytes = rows::row_bytes(self.encoder.source, tensor, job.encodings[encoding].dtype)?;
            for target in targets {
                let block = EncodedRows {
                    number: target.first_block + block,
                    entry: target.entry,
                    at: rows.start as u64 * row_bytes as u64,
                    source_bytes: payload.stored.len() as u64,
                    payload: Arc::clone(&payload),
                    encoding,
                };
                // A writer that has failed takes no more, and has said so.
                let _ = senders[target.output].send(block);
            }
        }
        Ok(())
    }

    fn fail(&self, block: usize, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.as_ref().is_none_or(|(first, _)| block < *first) {
            *failure = Some((block, error));
        }
        drop(failure);
        self.stop();
    }

    /// Has all threads end, those that wait too.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.permits.add(usize::MAX / 2);
    }
}

/// What is to be done: the tensors in the order of the first output, so that it is written from front to back; then those
/// that only others want.
fn jobs<'a>(
    source: &'a dyn Source,
    outputs: &'a [Output],
    writers: &[Writer],
    options: &QuantizeOptions,
    under_way: usize,
) -> Result<Vec<TensorJob<'a>>> {
    let tensors: Vec<&Tensor> = source.kept_tensors().iter().chain(source.tensors()).collect();
    let numbers: HashMap<(&str, DType), usize> =
        tensors.iter().enumerate().map(|(i, t)| ((t.name.as_str(), t.dtype), i)).collect();
    let mut place: HashMap<usize, usize> = HashMap::new();
    let mut jobs: Vec<TensorJob> = Vec::new();
    for (o, (output, writer)) in outputs.iter().zip(writers).enumerate() {
        for (e, entry) in output.plan.entries.iter().enumerate().filter(|&(e, _)| !writer.has(e)) {
            let Some(&number) = numbers.get(&(entry.source(), entry.from)) else { continue };
            let job = *place.entry(number).or_insert_with(|| {
                let tensor = tensors[number];
                jobs.push(TensorJob { tensor, block_rows: 0, first_block: 0, encodings: Vec::new(), targets: Vec::new() });
                jobs.len() - 1
            });
            let job = &mut jobs[job];
            let encoding = WantedEncoding { dtype: entry.to, importance: output.importance(entry)? };
            let same = |own: &WantedEncoding| {
                own.dtype == encoding.dtype && own.importance.map(<[f32]>::as_ptr) == encoding.importance.map(<[f32]>::as_ptr)
            };
            let target = Target { output: o, entry: e, first_block: 0 };
            match job.encodings.iter().position(same) {
                Some(encoding) => job.targets[encoding].push(target),
                None => {
                    job.encodings.push(encoding);
                    job.targets.push(vec![target]);
                }
            }
        }
    }
    let mut blocks = 0;
    let mut blocks_of = vec![0; outputs.len()];
    for job in &mut jobs {
        job.block_rows = block_rows(source, job, options.max_memory / under_way as u64)?;
        job.first_block = blocks;
        blocks += job.blocks();
        let n = job.blocks();
        for target in job.targets.iter_mut().flatten() {
            target.first_block = blocks_of[target.output];
            blocks_of[target.output] += n;
        }
    }
    Ok(jobs)
}

/// Rows per block of `job`, of which everything takes at most `bytes`, or the smallest piece.
fn block_rows(source: &dyn Source, job: &TensorJob, bytes: u64) -> Result<usize> {
    let mut row_bytes = stored_bytes(job.tensor) / job.tensor.rows().max(1) as u64;
    for encoding in job.encodings.iter().filter(|encoding| encoding.dtype != job.tensor.dtype) {
        row_bytes += rows::row_bytes(source, job.tensor, encoding.dtype)? as u64;
    }
    let rows = usize::try_from(bytes / row_bytes.max(1)).unwrap_or(usize::MAX);
    Ok(rows::block_rows(job.tensor, rows.saturating_mul(job.tensor.cols()).min(BLOCK_WEIGHTS)))
}

fn stored_bytes(tensor: &Tensor) -> u64 {
    (tensor.cols() / tensor.dtype.block_len() * tensor.dtype.block_bytes()) as u64 * tensor.rows() as u64
}

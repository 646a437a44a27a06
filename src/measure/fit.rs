//! Files whose weights are fitted to what goes into them (`bitworth_quant::fit`): one walk over a text collects the second moment
//! of every input, block by block; when the next block begins, the matrices that read an input are encoded for all files.
//!
//! Windows go in turn to one half of the text and to the other, so that what was fitted to one half can be judged by the other.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::{Mutex, PoisonError};

use bitworth_quant::checkpoint::{Source, Tensor};
use bitworth_quant::fit::{self, FitInput, FitReport, Moments, SAMPLED_ROWS, Shrinkage};
use bitworth_quant::gguf::Value;
use bitworth_quant::quantize::{Output, Sink, Written, hex};
use bitworth_quant::{Checkpoint, DType};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::error::{At, Error, Result};
use super::readers::{matrices, readers};
use super::second_moment::Moment;
use super::{Watch, imatrix, models};
use bitworth_engine::backend::Backend;
use bitworth_engine::cpu::Cpu;
use bitworth_engine::error::{EngineError, Result as EngineResult};
use bitworth_engine::model::Variant;
use bitworth_engine::observe::{Observed, Observer, Site};
use bitworth_engine::sweep::{self, Observation, SweepLimits};
use bitworth_eval::job::FitSpec;
use bitworth_text::tokenizer::Tokenizer;

/// Rows of experts that go to one half of the text before the other has its turn.
const ROUTED_ROWS: usize = 64;
/// Weights that are fitted at once.
const FITTED_WEIGHTS: usize = 16 << 20;
/// The widest input that is fitted to: its moments take 16 bytes times the square of it.
const WIDEST_INPUT: usize = 16384;
/// The hashes of the texts, in a file's metadata.
const TEXTS: &str = "bitworth.fit.texts_sha256";
/// Larger weights overflow the scales of encodings.
const F16_MAX: f32 = 65504.0;

/// Texts that files are fitted to, cut into windows.
#[derive(Debug, Clone)]
pub struct FitText {
    /// Windows of tokens, all of one length.
    pub sequences: Vec<Vec<u32>>,
    /// SHA-256 of each text.
    pub sha256: Vec<String>,
}

impl FitText {
    /// Reads the texts: of each the first windows, the same number.
    ///
    /// # Errors
    /// A text that cannot be read or is shorter than a window.
    pub fn read(spec: &FitSpec, tokenizer: &Tokenizer) -> Result<Self> {
        let (mut sequences, mut sha256) = (Vec::new(), Vec::new());
        for name in &spec.texts {
            let text = models::read_text(name)?;
            sha256.push(hex(&Sha256::digest(text.as_bytes())));
            let windows = imatrix::windows(tokenizer, &text, spec.ctx, 0, Some(spec.windows()));
            sequences.extend(windows.at(|| name.clone())?);
        }
        Ok(Self { sequences, sha256 })
    }
}

/// The hashes of the texts that a file says its weights were fitted to.
pub fn texts_of(checkpoint: &Checkpoint) -> Vec<String> {
    match checkpoint.metadata().get(TEXTS) {
        Some(Value::String(texts)) => texts.split(',').map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// What became of one tensor in one encoding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FittedTensor {
    /// Its name.
    pub tensor: String,
    /// The encoding.
    pub to: String,
    /// How its input was shrunk.
    pub shrinkage: Shrinkage,
    /// Rows and losses.
    #[serde(flatten)]
    pub report: FitReport,
}

/// Makes the files of `outputs` on a walk over a text. Tensors that read no input of a block (embedding, head), and those in
/// encodings that cannot be fitted, are encoded as without a text.
///
/// # Errors
/// As [`Sink::create_all`] and [`sweep::observe`]; activations that do not fit into memory at once.
pub fn fit<B: Backend>(
    backend: &B,
    variant: &Variant,
    outputs: Vec<Output>,
    text: &FitText,
    cut: SweepLimits,
    watch: Watch<'_>,
) -> Result<(Vec<Written>, Vec<FittedTensor>)> {
    let checkpoint = variant.checkpoint().as_ref();
    let rows: usize = text.sequences.iter().map(Vec::len).sum();
    if rows > sweep::pass_rows(variant.hparams(), cut) {
        return Err(Error::unfit(format!(
            "the activations of {rows} tokens must be in memory at once to fit weights to them; give more memory or fewer tokens"
        )));
    }
    let wanted: Vec<Wanted> = outputs.iter().map(Wanted::new).collect();
    let wide = checkpoint
        .tensors()
        .iter()
        .find(|tensor| tensor.cols() > WIDEST_INPUT && wanted.iter().any(|wanted| wanted.0.contains_key(&tensor.name)));
    if let Some(Tensor { name, .. }) = wide {
        let what = format!("tensor {name}: rows of more than {WIDEST_INPUT} weights cannot be fitted");
        return Err(Error::unfit(what));
    }
    let outputs = outputs.into_iter().map(|output| with_origin(output, text, rows)).collect();
    let sinks = Sink::create_all(checkpoint, outputs)?;
    let window = text.sequences.iter().map(Vec::len).max().unwrap_or(1).max(1);
    let state = State { checkpoint, cpu: Cpu::new(), wanted, sinks: &sinks, window, open: BTreeMap::new(), fitted: Vec::new() };
    let fitter = Fitter(Mutex::new(state));
    let observation = Observation { variant, sequences: &text.sequences, limits: cut, output: false, observer: &fitter };
    sweep::observe(backend, &observation, watch.progress, watch.stop)?;
    let mut state = fitter.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.flush()?;
    let fitted = state.fitted;
    let written = sinks.into_iter().map(|sink| Ok(sink.finish(checkpoint)?)).collect::<Result<Vec<_>>>()?;
    Ok((written, fitted))
}

/// The file says what it was fitted to.
fn with_origin(mut output: Output, text: &FitText, rows: usize) -> Output {
    output.metadata.set(TEXTS, Value::String(text.sha256.join(",")));
    output.metadata.set("bitworth.fit.tokens", Value::U64(rows as u64));
    output.metadata.set("bitworth.fit.version", Value::String(env!("CARGO_PKG_VERSION").to_owned()));
    output
}

/// By tensor of the source: what it becomes in one file.
struct Wanted(BTreeMap<String, DType>);

impl Wanted {
    fn new(output: &Output) -> Self {
        let kept = output.plan.entries.iter().filter(|entry| entry.from != entry.to && fit::fits(entry.to));
        Self(kept.map(|entry| (entry.source().to_owned(), entry.to)).collect())
    }
}

struct Fitter<'a>(Mutex<State<'a>>);

struct State<'a> {
    checkpoint: &'a Checkpoint,
    cpu: Cpu,
    wanted: Vec<Wanted>,
    sinks: &'a [Sink],
    window: usize,
    /// By place and matrix: both halves, and the rows that came.
    open: BTreeMap<(usize, Site), Vec<Halves>>,
    fitted: Vec<FittedTensor>,
}

/// The sums of one matrix's input.
struct Halves {
    moments: [Moment; 2],
    rows: usize,
}

impl<B: Backend> Observer<B> for Fitter<'_> {
    fn observe(&self, backend: &B, observed: &Observed<'_, B>) -> EngineResult<()> {
        let &Observed { block, site, x, cols, parts } = observed;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tensors = readers(state.checkpoint, block, site);
        let Some(first) = tensors.first() else { return Ok(()) };
        if tensors.iter().all(|tensor| state.encodings(tensor).is_empty()) {
            return Ok(());
        }
        let count = matrices(first);
        if tensors.iter().any(|t| t.cols() != cols) || parts.iter().any(|(matrix, _)| *matrix >= count) {
            return Err(state.unfit(first, "what goes into it has another shape"));
        }
        if state.open.keys().next().is_some_and(|&(open, _)| open != block) {
            state.flush()?;
        }
        let rows = parts.iter().map(|(_, rows)| rows.end).max().unwrap_or(0);
        let x = backend.read(x, 0..rows * cols)?;
        let unit = if site.is_routed() { ROUTED_ROWS } else { state.window };
        let State { cpu, open, .. } = &mut *state;
        let halves = open.entry((block, site)).or_insert_with(|| (0..count).map(|_| Halves::new(cols)).collect());
        for (matrix, rows) in parts {
            halves[*matrix].add(cpu, &x[rows.start * cols..rows.end * cols], cols, unit)?;
        }
        Ok(())
    }
}

impl Halves {
    fn new(cols: usize) -> Self {
        Self { moments: [Moment::new(cols), Moment::new(cols)], rows: 0 }
    }

    /// Adds rows, `unit` of them to one half and then as many to the other.
    fn add(&mut self, cpu: &Cpu, mut x: &[f32], cols: usize, unit: usize) -> EngineResult<()> {
        while !x.is_empty() {
            let half = self.rows / unit % 2;
            let (here, rest) = x.split_at(((unit - self.rows % unit) * cols).min(x.len()));
            self.moments[half].add(cpu, here, cols)?;
            self.rows += here.len() / cols;
            x = rest;
        }
        Ok(())
    }

    fn finish(self, cpu: &Cpu, cols: usize) -> EngineResult<Moments> {
        let [mut a, mut b] = self.moments;
        a.take_block(cpu, cols)?;
        b.take_block(cpu, cols)?;
        let counts = [a.count, b.count];
        Ok(Moments { cols, sums: [a, b].map(|half| half.sum.into_iter().map(|v| v as f32).collect()), counts })
    }
}

impl State<'_> {
    /// What a tensor becomes in the files, each encoding once.
    fn encodings(&self, tensor: &Tensor) -> Vec<DType> {
        let mut found = Vec::new();
        for &dtype in self.wanted.iter().filter_map(|wanted| wanted.0.get(&tensor.name)) {
            if !found.contains(&dtype) {
                found.push(dtype);
            }
        }
        found
    }

    /// Encodes the matrices whose inputs are complete.
    fn flush(&mut self) -> EngineResult<()> {
        for ((block, site), halves) in std::mem::take(&mut self.open) {
            let tensors: Vec<Tensor> = readers(self.checkpoint, block, site).into_iter().cloned().collect();
            let Some(cols) = tensors.first().map(Tensor::cols) else { continue };
            for (matrix, halves) in halves.into_iter().enumerate() {
                let moments = halves.finish(&self.cpu, cols)?;
                if moments.sums.iter().flatten().any(|sum| !sum.is_finite()) {
                    return Err(self.unfit(&tensors[0], "what goes into it is infinite or not a number"));
                }
                self.fit_matrices(&tensors, matrix, &moments)?;
            }
        }
        Ok(())
    }

    /// Encodes one matrix of each of the tensors that read an input.
    fn fit_matrices(&mut self, tensors: &[Tensor], matrix: usize, moments: &Moments) -> EngineResult<()> {
        let mut inputs: HashMap<DType, FitInput> = HashMap::new();
        for tensor in tensors {
            let rows = tensor.rows() / matrices(tensor);
            let first = matrix * rows;
            for dtype in self.encodings(tensor) {
                // One choice for all matrices of an input, made with the first of them.
                let input = match inputs.entry(dtype) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => {
                        let sample = self.sample(tensor, first, rows)?;
                        place.insert(FitInput::new(moments, dtype, &sample))
                    }
                };
                let row_bytes = dtype.row_bytes(moments.cols).unwrap_or(0);
                let at_once = (FITTED_WEIGHTS / moments.cols).max(1);
                let mut report = FitReport::default();
                for start in (first..first + rows).step_by(at_once) {
                    let part = start..(start + at_once).min(first + rows);
                    let mut bytes = vec![0; part.len() * row_bytes];
                    report = report.and(input.encode(dtype, &self.read(tensor, part.clone())?, &mut bytes));
                    for (sink, wanted) in self.sinks.iter().zip(&self.wanted) {
                        if wanted.0.get(&tensor.name) == Some(&dtype) {
                            sink.put(tensor, part.start, &bytes)?;
                        }
                    }
                }
                let (tensor, to) = (tensor.name.clone(), dtype.name().to_owned());
                self.fitted.push(FittedTensor { tensor, to, shrinkage: input.shrinkage, report });
            }
        }
        Ok(())
    }

    /// Rows spread over a matrix.
    fn sample(&self, tensor: &Tensor, first: usize, rows: usize) -> EngineResult<Vec<f32>> {
        let count = rows.min(SAMPLED_ROWS);
        let mut sample = Vec::with_capacity(count * tensor.cols());
        for i in 0..count {
            let row = first + i * rows / count;
            sample.extend(self.read(tensor, row..row + 1)?);
        }
        Ok(sample)
    }

    /// Rows of weights, decoded.
    fn read(&self, tensor: &Tensor, rows: std::ops::Range<usize>) -> EngineResult<Vec<f32>> {
        let mut weights = vec![0.0; rows.len() * tensor.cols()];
        let stored = Source::read(self.checkpoint, tensor, rows)?;
        tensor.dtype.decode_row(&stored, &mut weights);
        if weights.iter().any(|weight| weight.is_nan() || weight.abs() > F16_MAX) {
            return Err(self.unfit(tensor, "it has weights that are infinite, not a number, or beyond the range of f16"));
        }
        Ok(weights)
    }

    fn unfit(&self, tensor: &Tensor, what: &str) -> EngineError {
        let (model, what) = (self.checkpoint.path().display().to_string(), format!("tensor {}: {what}", tensor.name));
        EngineError::Unfit { model, what }
    }
}

/// What was fitted, in one line.
pub fn summary(fitted: &[FittedTensor]) -> String {
    let all = fitted.iter().fold(FitReport::default(), |all, one| all.and(one.report));
    let unfitted = fitted.iter().filter(|one| one.report.fitted == 0).count();
    let share = if all.loss_before > 0.0 { 100.0 * (all.loss_after / all.loss_before - 1.0) } else { 0.0 };
    let kept = if unfitted > 0 { format!("; {unfitted} keep the importance matrix's bytes") } else { String::new() };
    format!("{} tensors fitted, loss of their outputs {share:+.1} %{kept}", fitted.len() - unfitted)
}

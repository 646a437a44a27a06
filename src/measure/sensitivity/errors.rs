//! How far off the outputs of matrices are in each type: some rows of every input are kept on a walk over a text, and multiplied
//! with what the encoder changed of the weights. Absent: what that does to the model (see the module above).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bitworth_quant::arch::Role;
use bitworth_quant::checkpoint::{Source, Tensor, TensorBytes};
use bitworth_quant::quantize::encode_rows;
use bitworth_quant::{Checkpoint, DType, Imatrix};
use serde::{Deserialize, Serialize};

use crate::Watch;
use crate::error::Result;
use crate::readers::{matrices, readers};
use bitworth_engine::backend::{Backend, HostTensor};
use bitworth_engine::cpu::Cpu;
use bitworth_engine::error::{EngineError, Result as EngineResult};
use bitworth_engine::model::Variant;
use bitworth_engine::observe::{Observed, Observer, Site};
use bitworth_engine::sweep::{self, Observation, SweepLimits};

/// Rows of an input that are kept, spread over the text.
const ROWS: usize = 512;
/// Rows that are kept for each expert, the first ones that reach it.
const EXPERT_ROWS: usize = 64;
/// Weights that are multiplied at once.
const WEIGHTS: usize = 16 << 20;

/// Sums of squares over rows and outputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct OutputError {
    /// Of what differs.
    pub error: f64,
    /// Of what it should be.
    pub output: f64,
}

impl OutputError {
    /// The error as a share; 0 where nothing comes out.
    pub fn relative(self) -> f64 {
        if self.output > 0.0 { self.error / self.output } else { 0.0 }
    }

    fn add(&mut self, error: f64, output: f64) {
        self.error += error;
        self.output += output;
    }
}

/// What is asked of a walk.
pub struct Walk<'a> {
    /// The model as it is.
    pub variant: &'a Variant,
    /// By tensor: its number in the result, and what it becomes, by type asked for.
    pub wanted: &'a HashMap<String, (usize, Vec<DType>)>,
    /// How many units and types there are.
    pub size: [usize; 2],
    /// What encoders weigh by.
    pub imatrix: Option<&'a Imatrix>,
    /// Windows of the text.
    pub sequences: &'a [Vec<u32>],
    /// How it is cut.
    pub limits: SweepLimits,
}

/// By unit and type. Tensors that rows are picked from by tokens are judged by the text's tokens; those that no matrix product
/// of a block reads, by their weights alone.
///
/// # Errors
/// As [`sweep::observe`]; weights that cannot be encoded.
pub fn errors<B: Backend>(backend: &B, asked: &Walk<'_>, watch: Watch<'_>) -> Result<Vec<Vec<OutputError>>> {
    let rows: usize = asked.sequences.iter().map(Vec::len).sum();
    let [units, types] = asked.size;
    let state = State {
        asked,
        checkpoint: asked.variant.checkpoint(),
        cpu: Cpu::new(),
        stride: rows.div_ceil(ROWS).max(1),
        open: BTreeMap::new(),
        seen: BTreeMap::new(),
        met: HashSet::new(),
        sums: vec![vec![OutputError::default(); types]; units],
    };
    let collector = Collector(Mutex::new(state));
    let Walk { variant, sequences, limits, .. } = *asked;
    let observation = Observation { variant, sequences, limits, output: true, observer: &collector };
    sweep::observe(backend, &observation, watch.progress, watch.stop)?;
    let mut state = collector.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.flush()?;
    state.rest()?;
    Ok(state.sums)
}

struct Collector<'a>(Mutex<State<'a>>);

struct State<'a> {
    asked: &'a Walk<'a>,
    checkpoint: &'a Checkpoint,
    cpu: Cpu,
    /// Every how manieth row is kept.
    stride: usize,
    /// By place: the rows that were kept for each matrix of a tensor.
    open: BTreeMap<(usize, Site), Vec<Vec<f32>>>,
    /// By place and matrix: the rows that came, in all passes.
    seen: BTreeMap<(usize, Site, usize), usize>,
    /// Tensors whose errors are summed.
    met: HashSet<String>,
    sums: Vec<Vec<OutputError>>,
}

impl<B: Backend> Observer<B> for Collector<'_> {
    fn observe(&self, backend: &B, observed: &Observed<'_, B>) -> EngineResult<()> {
        let &Observed { block, site, x, cols, parts, .. } = observed;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = |&(open, at): &(usize, Site)| (open, at == Site::Output);
        if state.open.keys().next().is_some_and(|open| place(open) != (block, site == Site::Output)) {
            state.flush()?;
        }
        let tensors = readers(state.checkpoint, block, site);
        let Some(first) = tensors.first().filter(|_| tensors.iter().any(|t| state.asked.wanted.contains_key(&t.name))) else {
            return Ok(());
        };
        let count = matrices(first);
        if tensors.iter().any(|t| t.cols() != cols) || parts.iter().any(|(matrix, _)| *matrix >= count) {
            return Err(state.unfit(first, "what goes into it has another shape"));
        }
        let rows = parts.iter().map(|(_, rows)| rows.end).max().unwrap_or(0);
        let x = backend.read(x, 0..rows * cols)?;
        if x.iter().any(|x| !x.is_finite()) {
            return Err(state.unfit(first, "what goes into it is infinite or not a number"));
        }
        let State { open, seen, stride, .. } = &mut *state;
        let kept = open.entry((block, site)).or_insert_with(|| vec![Vec::new(); count]);
        for (matrix, rows) in parts {
            let seen = seen.entry((block, site, *matrix)).or_default();
            for row in rows.clone() {
                let keep = if site.is_routed() { *seen < EXPERT_ROWS } else { seen.is_multiple_of(*stride) };
                if keep {
                    kept[*matrix].extend_from_slice(&x[row * cols..(row + 1) * cols]);
                }
                *seen += 1;
            }
        }
        Ok(())
    }
}

impl State<'_> {
    /// Sums up what the open inputs say.
    fn flush(&mut self) -> EngineResult<()> {
        for ((block, site), kept) in std::mem::take(&mut self.open) {
            let tensors: Vec<Tensor> = readers(self.checkpoint, block, site).into_iter().cloned().collect();
            for tensor in tensors.iter().filter(|tensor| self.asked.wanted.contains_key(&tensor.name)) {
                self.met.insert(tensor.name.clone());
                let rows = tensor.rows() / matrices(tensor);
                for (matrix, x) in kept.iter().enumerate().filter(|(_, x)| !x.is_empty()) {
                    self.compare(tensor, matrix * rows..(matrix + 1) * rows, |cpu, w, rows| {
                        square_of_product(cpu, x, w, rows, tensor.cols())
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Adds what becomes of rows of a tensor in all types, as `square` judges rows of weights.
    fn compare(
        &mut self,
        tensor: &Tensor,
        rows: Range<usize>,
        square: impl Fn(&Cpu, &[f32], Range<usize>) -> EngineResult<f64>,
    ) -> EngineResult<()> {
        let Some((unit, types)) = self.asked.wanted.get(&tensor.name) else { return Ok(()) };
        let sums = &mut self.sums[*unit];
        let at_once = (WEIGHTS / tensor.cols().max(1)).max(1);
        for first in rows.clone().step_by(at_once) {
            let part = first..(first + at_once).min(rows.end);
            let stored = Source::read(self.checkpoint, tensor, part.clone())?;
            let mut weights = vec![0.0; part.len() * tensor.cols()];
            tensor.dtype.decode_row(&stored, &mut weights);
            let output = square(&self.cpu, &weights, part.clone())?;
            let mut known: HashMap<DType, f64> = HashMap::new();
            for (sum, &dtype) in sums.iter_mut().zip(types) {
                let error = match known.get(&dtype) {
                    Some(&error) => error,
                    None => {
                        let bytes = encode_rows(self.checkpoint, &tensor.name, part.clone(), dtype, self.asked.imatrix)?;
                        let mut decoded = vec![0.0; weights.len()];
                        dtype.decode_row(&bytes, &mut decoded);
                        decoded.iter_mut().zip(&weights).for_each(|(decoded, weight)| *decoded -= weight);
                        let error = square(&self.cpu, &decoded, part.clone())?;
                        known.insert(dtype, error);
                        error
                    }
                };
                sum.add(error, output);
            }
        }
        Ok(())
    }

    /// Tensors that nothing was multiplied with.
    fn rest(&mut self) -> EngineResult<()> {
        let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
        for &token in self.asked.sequences.iter().flatten() {
            *counts.entry(token).or_default() += 1.0;
        }
        let is_left = |t: &&Tensor| self.asked.wanted.contains_key(&t.name) && !self.met.contains(&t.name);
        let left: Vec<Tensor> = self.checkpoint.tensors().iter().filter(is_left).cloned().collect();
        for tensor in &left {
            let cols = tensor.cols();
            let squares = |w: &[f32]| w.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>();
            if matches!(tensor.role(), Some((Role::TokenEmbd, _))) {
                for (&token, &count) in &counts {
                    let row = token as usize;
                    self.compare(tensor, row..row + 1, |_, w, _| Ok(count * squares(w)))?;
                }
            } else {
                self.compare(tensor, 0..tensor.rows(), |_, w, _| Ok(w.chunks_exact(cols).map(squares).sum()))?;
            }
        }
        Ok(())
    }

    fn unfit(&self, tensor: &Tensor, what: &str) -> EngineError {
        let (model, what) = (self.checkpoint.path().display().to_string(), format!("tensor {}: {what}", tensor.name));
        EngineError::Unfit { model, what }
    }
}

/// The sum of squares of `x w^T`: `[n, K], [R, K] -> [n, R]`.
fn square_of_product(cpu: &Cpu, x: &<Cpu as Backend>::Buffer, w: &[f32], rows: Range<usize>, cols: usize) -> EngineResult<f64> {
    let bytes = TensorBytes::Owned(bytemuck::cast_slice(w).to_vec());
    let weight = cpu.weight(HostTensor { dtype: DType::F32, rows: rows.len(), cols, bytes })?;
    let count = x.len() / cols;
    let mut products = vec![0.0; count * rows.len()];
    cpu.matmul(x, 0..count, &weight, 0..rows.len(), &mut products)?;
    Ok(products.iter().map(|&v| f64::from(v) * f64::from(v)).sum())
}

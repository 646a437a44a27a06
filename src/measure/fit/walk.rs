//! What is collected on the walk, and the encoding of the matrices of a block when all of its inputs are complete. Absent: which
//! files, and what they say of themselves (see the module above).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bitworth_quant::checkpoint::{Source, Tensor};
use bitworth_quant::fit::{FitInput, FitReport, FitSample, Moments, SAMPLED_ROWS, Shrinkage, column_groups};
use bitworth_quant::quantize::{Clock, Sink};
use bitworth_quant::{Checkpoint, DType};

use super::journal::{DoneInput, DoneTensor, Journal};
use super::plan::FITTED_WEIGHTS;
use super::{FitOptions, FitPlan, FitText, FittedTensor, SiteKey, Wanted};
use crate::readers::{matrices, readers};
use crate::second_moment::Moment;
use bitworth_engine::backend::Backend;
use bitworth_engine::cpu::Cpu;
use bitworth_engine::error::{EngineError, Result};
use bitworth_engine::observe::{Observed, Observer, Site};

/// Matrices of a tensor (experts, heads) that `rho` is chosen with.
const SAMPLED_MATRICES: usize = 4;
/// Larger weights overflow the scales of encodings.
const F16_MAX: f32 = 65504.0;

/// Collects and encodes.
pub(super) struct Fitter<'a>(pub(super) Mutex<State<'a>>);

/// What is collected, and what came of it.
pub(super) struct State<'a> {
    checkpoint: &'a Checkpoint,
    cpu: Cpu,
    wanted: Vec<Wanted>,
    sinks: &'a [Sink],
    plan: &'a FitPlan,
    text: &'a FitText,
    clock: Option<Clock<'a>>,
    note: &'a (dyn Fn(&str) + Sync),
    /// By place and matrix: what every part of the text gave.
    open: BTreeMap<(usize, Site), Vec<PartSums>>,
    /// What became of tensors.
    pub(super) fitted: Vec<FittedTensor>,
    /// The shares of the diagonal that were used.
    pub(super) rho: BTreeMap<SiteKey, f32>,
    /// By tensor, where there is a clock: how much each column matters, one matrix after the other.
    pub(super) importance: BTreeMap<String, Vec<f32>>,
    /// What an earlier call did.
    done: BTreeSet<(usize, Site)>,
    /// Where the call can be taken up again.
    pub(super) journal: Option<Journal>,
}

/// The sums of one matrix's input, of each part of the text, by group of columns.
struct PartSums(Vec<Vec<Moment<f32>>>);

/// An input: columns, and columns of a group.
#[derive(Clone, Copy)]
struct Shape {
    cols: usize,
    width: usize,
}

impl<'a> Fitter<'a> {
    pub(super) fn new(state: State<'a>) -> Self {
        Self(Mutex::new(state))
    }
}

impl<B: Backend> Observer<B> for Fitter<'_> {
    fn observe(&self, backend: &B, observed: &Observed<'_, B>) -> Result<()> {
        let &Observed { block, site, x, cols, parts, .. } = observed;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tensors = readers(state.checkpoint, block, site);
        let Some(first) = tensors.first() else { return Ok(()) };
        if state.done.contains(&(block, site)) || tensors.iter().all(|tensor| state.encodings(tensor).is_empty()) {
            return Ok(());
        }
        let count = matrices(first);
        if tensors.iter().any(|t| t.cols() != cols) || parts.iter().any(|(matrix, _)| *matrix >= count) {
            return Err(state.unfit(first, "what goes into it has another shape"));
        }
        // The output matrix is in no block.
        let place = |block: usize, site: Site| (block, site == Site::Output);
        if state.open.keys().next().is_some_and(|&(open, other)| place(open, other) != place(block, site)) {
            state.flush()?;
        }
        let rows = parts.iter().map(|(_, rows)| rows.end).max().unwrap_or(0);
        let x = backend.read(x, 0..rows * cols)?;
        let shape = Shape { cols, width: state.plan.width(block, site, cols) };
        let State { cpu, open, text, .. } = &mut *state;
        let new = || -> Vec<PartSums> { (0..count).map(|_| PartSums::new(shape, text.part_count())).collect() };
        let sums = open.entry((block, site)).or_insert_with(new);
        for (matrix, rows) in parts {
            // A token is in one part, whichever experts it goes to.
            let part = |row: usize| text.part_of(observed.row(rows.start + row));
            sums[*matrix].add(cpu, &x[rows.start * cols..rows.end * cols], shape, part)?;
        }
        Ok(())
    }
}

impl PartSums {
    fn new(shape: Shape, parts: usize) -> Self {
        let part = |_: usize| -> Vec<Moment<f32>> {
            column_groups(shape.cols, shape.width).map(|group| Moment::new(group.len())).collect()
        };
        Self((0..parts).map(part).collect())
    }

    /// Adds rows; `part_of` says which part of the text each of them is of.
    fn add(&mut self, cpu: &Cpu, x: &[f32], shape: Shape, part_of: impl Fn(usize) -> usize) -> Result<()> {
        let Shape { cols, width } = shape;
        let (mut start, rows) = (0, x.len() / cols);
        while start < rows {
            let part = part_of(start);
            let end = (start + 1..rows).find(|&row| part_of(row) != part).unwrap_or(rows);
            let here = &x[start * cols..end * cols];
            for (moment, group) in self.0[part].iter_mut().zip(column_groups(cols, width)) {
                let own = match group.len() == cols {
                    true => Cow::Borrowed(here),
                    false => here.chunks_exact(cols).flat_map(|row| &row[group.clone()]).copied().collect(),
                };
                moment.add(cpu, &own, group.len())?;
            }
            start = end;
        }
        Ok(())
    }

    fn finish(self, cpu: &Cpu, shape: Shape, left_out: Range<usize>) -> Result<Moments> {
        let Shape { cols, width } = shape;
        let (mut sums, mut counts) = (Vec::new(), Vec::new());
        for moments in self.0 {
            let (mut part, mut count) = (Vec::with_capacity(Moments::sums_of(cols, width)), 0);
            for (mut moment, group) in moments.into_iter().zip(column_groups(cols, width)) {
                moment.finish(cpu, group.len())?;
                count = moment.count;
                part.extend(moment.sum);
            }
            sums.push(part);
            counts.push(count);
        }
        Ok(Moments { cols, width, sums, counts, left_out })
    }
}

impl<'a> State<'a> {
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        wanted: Vec<Wanted>,
        sinks: &'a [Sink],
        plan: &'a FitPlan,
        (text, options): (&'a FitText, &FitOptions<'a>),
    ) -> Self {
        Self {
            checkpoint,
            cpu: Cpu::new(),
            wanted,
            sinks,
            plan,
            text,
            clock: options.report,
            note: options.note,
            open: BTreeMap::new(),
            fitted: Vec::new(),
            rho: BTreeMap::new(),
            importance: BTreeMap::new(),
            done: BTreeSet::new(),
            journal: None,
        }
    }

    /// With what an earlier call did.
    pub(super) fn taking_up(mut self, mut journal: Option<Journal>) -> Self {
        for input in journal.as_mut().map(Journal::take_inputs).unwrap_or_default() {
            let Some(site) = site_of(input.site) else { continue };
            self.done.insert((input.block, site));
            for (name, bits) in &input.rho {
                if let Some(dtype) = DType::from_name(name) {
                    self.rho.insert((input.block, site, dtype.name()), f32::from_bits(*bits));
                }
            }
            for tensor in input.tensors {
                let (fitted, importance) = tensor.read();
                if !importance.is_empty() {
                    self.importance.insert(fitted.tensor.clone(), importance);
                }
                self.fitted.push(fitted);
            }
        }
        self.journal = journal;
        self
    }

    /// What a tensor becomes in the files, each encoding once.
    fn encodings(&self, tensor: &Tensor) -> Vec<DType> {
        let mut found = Vec::new();
        for dtype in self.wanted.iter().filter_map(|wanted| wanted.of(tensor)) {
            if !found.contains(&dtype) {
                found.push(dtype);
            }
        }
        found
    }

    /// Encodes the matrices whose inputs are complete.
    pub(super) fn flush(&mut self) -> Result<()> {
        let open = std::mem::take(&mut self.open);
        let is_done = open.is_empty();
        for ((block, site), sums) in open {
            self.fit_input(block, site, sums)?;
        }
        if let (Some(journal), false) = (&mut self.journal, is_done) {
            // First the weights, then the journal that speaks of them.
            self.sinks.iter().try_for_each(Sink::sync)?;
            if let Some(note) = journal.write()? {
                (self.note)(&note);
            }
        }
        Ok(())
    }

    /// Encodes the matrices of an input.
    fn fit_input(&mut self, block: usize, site: Site, sums: Vec<PartSums>) -> Result<()> {
        let tensors: Vec<Tensor> = readers(self.checkpoint, block, site).into_iter().cloned().collect();
        let Some(cols) = tensors.first().map(Tensor::cols) else { return Ok(()) };
        let shape = Shape { cols, width: self.plan.width(block, site, cols) };
        let finish = |sums: PartSums| sums.finish(&self.cpu, shape, self.text.left_out.clone());
        let all = sums.into_iter().map(finish).collect::<Result<Vec<Moments>>>()?;
        if all.iter().flat_map(|moments| moments.sums.iter().flatten()).any(|sum| !sum.is_finite()) {
            return Err(self.unfit(&tensors[0], "what goes into it is infinite or not a number"));
        }
        // Experts see few rows each; heads see all of them.
        let pool = if site.is_routed() && all.len() > 1 { Moments::pool(&all) } else { None };
        let mut chosen: Vec<(DType, Shrinkage)> = Vec::new();
        for tensor in &tensors {
            for dtype in self.encodings(tensor) {
                // One choice for all matrices of an input, made with the first of them.
                if chosen.iter().any(|(known, _)| *known == dtype) {
                    continue;
                }
                let shrinkage = self.choose(tensor, dtype, &all, pool.as_ref())?;
                chosen.push((dtype, shrinkage));
            }
        }
        let before = self.fitted.len();
        for (matrix, own) in all.iter().enumerate() {
            let joined = pool.as_ref().map(|pool| own.with_pool(pool));
            for &(dtype, shrinkage) in &chosen {
                let input = FitInput::of(own, joined.as_ref().unwrap_or(own), dtype, shrinkage);
                let used = input.shrinkage.rho;
                self.rho.entry((block, site, dtype.name())).and_modify(|rho| *rho = rho.min(used)).or_insert(used);
                for tensor in &tensors {
                    if self.encodings(tensor).contains(&dtype) {
                        let rows = tensor.rows() / all.len();
                        self.fit_rows(tensor, matrix * rows..(matrix + 1) * rows, dtype, &input, before)?;
                    }
                }
            }
        }
        if let Some(journal) = &mut self.journal {
            let key =
                |dtype: DType| self.rho.get(&(block, site, dtype.name())).map(|rho| (dtype.name().to_owned(), rho.to_bits()));
            let rho = chosen.iter().filter_map(|(dtype, _)| key(*dtype)).collect();
            let importance = |one: &FittedTensor| self.importance.get(&one.tensor).map_or(&[][..], Vec::as_slice);
            let tensors = self.fitted[before..].iter().map(|one| DoneTensor::new(one, importance(one))).collect();
            journal.add(&DoneInput { block, site: number_of(site), rho, tensors })?;
        }
        Ok(())
    }

    /// Encodes the rows of a matrix, and adds what came of it to the tensors that were fitted since the first `before` ones.
    fn fit_rows(&mut self, tensor: &Tensor, rows: Range<usize>, dtype: DType, input: &FitInput, before: usize) -> Result<()> {
        let began = self.clock.map(|clock| clock());
        let row_bytes = dtype.row_bytes(tensor.cols()).unwrap_or(0);
        let at_once = (FITTED_WEIGHTS / tensor.cols()).max(1);
        let mut report = FitReport::default();
        for start in rows.clone().step_by(at_once) {
            let part = start..(start + at_once).min(rows.end);
            let mut bytes = vec![0; part.len() * row_bytes];
            report = report.and(input.encode(dtype, &self.read(tensor, part.clone())?, &mut bytes));
            for (sink, wanted) in self.sinks.iter().zip(&self.wanted) {
                if wanted.of(tensor) == Some(dtype) {
                    sink.put(tensor, part.start, &bytes)?;
                }
            }
        }
        let seconds = self.clock.zip(began).map_or(0.0, |(clock, began)| clock() - began);
        if self.clock.is_some() {
            let importance = self.importance.entry(tensor.name.clone()).or_default();
            // Once, whatever the number of encodings.
            if importance.len() == rows.start / rows.len().max(1) * tensor.cols() {
                importance.extend_from_slice(input.importance());
            }
        }
        let to = dtype.name();
        match self.fitted[before..].iter_mut().find(|one| one.tensor == tensor.name && one.to == to) {
            Some(one) => {
                one.report = one.report.and(report);
                one.shrinkage.rho = one.shrinkage.rho.min(input.shrinkage.rho);
                one.seconds += seconds;
            }
            None => {
                let (tensor, shrinkage) = (tensor.name.clone(), input.shrinkage);
                self.fitted.push(FittedTensor { tensor, to: to.to_owned(), shrinkage, report, seconds });
            }
        }
        Ok(())
    }

    /// How much of the diagonal is taken, by some of the matrices: those that saw enough of the text.
    fn choose(&self, tensor: &Tensor, dtype: DType, all: &[Moments], pool: Option<&Moments>) -> Result<Shrinkage> {
        let usable: Vec<usize> = (0..all.len()).filter(|&matrix| all[matrix].has_enough_rows()).collect();
        let count = usable.len().min(SAMPLED_MATRICES);
        let rows = tensor.rows() / all.len();
        let mut read = Vec::with_capacity(count);
        for i in 0..count {
            // Spread over all of them.
            let matrix = usable[i * usable.len() / count];
            let own = &all[matrix];
            let moments = pool.map_or(Cow::Borrowed(own), |pool| Cow::Owned(own.with_pool(pool)));
            read.push((moments, self.sample(tensor, matrix * rows, rows, SAMPLED_ROWS.div_ceil(count))?));
        }
        let samples: Vec<FitSample<'_>> = read.iter().map(|(moments, rows)| FitSample { moments, rows }).collect();
        Ok(Shrinkage::choose(dtype, &samples))
    }

    /// At most `count` rows spread over a matrix.
    fn sample(&self, tensor: &Tensor, first: usize, rows: usize, count: usize) -> Result<Vec<f32>> {
        let count = rows.min(count);
        let mut sample = Vec::with_capacity(count * tensor.cols());
        for i in 0..count {
            let row = first + i * rows / count;
            sample.extend(self.read(tensor, row..row + 1)?);
        }
        Ok(sample)
    }

    /// Rows of weights, decoded.
    fn read(&self, tensor: &Tensor, rows: Range<usize>) -> Result<Vec<f32>> {
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

/// The number of a site in a journal.
fn number_of(site: Site) -> usize {
    Site::OF_BLOCK.iter().position(|known| *known == site).unwrap_or(Site::OF_BLOCK.len())
}

/// The inverse of [`number_of`].
fn site_of(number: usize) -> Option<Site> {
    Site::OF_BLOCK.into_iter().chain([Site::Output]).nth(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitworth_quant::random::SplitMix64;

    /// Two parts of rows of `cols` columns, with groups of `width`.
    fn moments(x: &[f32], cols: usize, width: usize) -> Moments {
        let (cpu, shape) = (Cpu::new(), Shape { cols, width });
        let mut sums = PartSums::new(shape, 2);
        // In pieces that windows of 50 rows do not divide into.
        for (number, piece) in x.chunks(70 * cols).enumerate() {
            sums.add(&cpu, piece, shape, |row| (70 * number + row) / 50 % 2).unwrap();
        }
        sums.finish(&cpu, shape, 1..2).unwrap()
    }

    /// Tokens are numbers that only they have, in a column of their window's: what one expert has in one part no other has in
    /// another, however many tokens each of them sees.
    #[test]
    fn a_token_is_in_one_part_for_all_experts() {
        const COLS: usize = 32;
        let (cpu, shape) = (Cpu::new(), Shape { cols: COLS, width: COLS });
        let window = 10;
        for (every, parts) in [(1, 2), (3, 3), (7, 4)] {
            let part_of = |token: usize| token / window % parts;
            let tokens: Vec<usize> = (0..300).step_by(every).collect();
            let mut sums = PartSums::new(shape, parts);
            for tokens in tokens.chunks(25) {
                let row = |&token: &usize| (0..COLS).map(move |col| if col == token / window { 1.0 } else { 0.0 });
                let x: Vec<f32> = tokens.iter().flat_map(row).collect();
                sums.add(&cpu, &x, shape, |row| part_of(tokens[row])).unwrap();
            }
            let found = sums.finish(&cpu, shape, 0..parts).unwrap();
            assert_eq!((found.sums.len(), found.left_out.clone()), (parts, 0..parts));
            for (col, part) in (0..30).flat_map(|col| (0..parts).map(move |part| (col, part))) {
                let own = tokens.iter().filter(|&&token| token / window == col).count() as f32;
                let expected = if part == col % parts { own } else { 0.0 };
                assert_eq!(found.sums[part][col * COLS + col], expected, "window {col}, part {part}, every {every}");
            }
        }
    }

    #[test]
    fn sites_in_a_journal_come_back() {
        for site in Site::OF_BLOCK.into_iter().chain([Site::Output]) {
            assert_eq!(site_of(number_of(site)), Some(site));
        }
        assert_eq!(site_of(Site::OF_BLOCK.len() + 1), None);
    }

    #[test]
    fn groups_hold_the_products_of_their_columns_in_each_part_of_the_text() {
        let (cols, width, rows) = (80, 32, 300);
        let mut random = SplitMix64::new(3);
        let x: Vec<f32> = (0..rows * cols).map(|_| random.unit() as f32 - 0.3).collect();
        let found = moments(&x, cols, width);
        assert_eq!(found.counts, [150, 150]);
        let mut at = 0;
        for group in column_groups(cols, width) {
            for (i, j) in group.clone().flat_map(|i| group.clone().map(move |j| (i, j))) {
                for half in [0, 1] {
                    let own = x.chunks_exact(cols).enumerate().filter(|(row, _)| row / 50 % 2 == half);
                    let expected: f64 = own.map(|(_, x)| f64::from(x[i]) * f64::from(x[j])).sum();
                    let found = f64::from(found.sums[half][at]);
                    assert!((found - expected).abs() < 1e-3, "{i} {j} {half}: {found} and {expected}");
                }
                at += 1;
            }
        }
        assert!(found.sums.iter().all(|sums| sums.len() == at));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| moments(&x, cols, width))
        };
        assert_eq!(run(1), run(3));
    }
}

//! Second moments: for every input of a matrix the sums of products of its columns, X^T X, which quantizers with error feedback
//! start from (GPTQ: Frantar et al. 2023). Written layer by layer as safetensors. Absent: dividing by counts, damping.
//!
//! Products are summed in f32 over `BLOCK_ROWS` rows, by the CPU backend whatever the device, and the blocks in f64 in order,
//! so that the result depends on neither threads nor the cut of the walk. Memory holds the inputs of one block of the model:
//! 8 K^2 bytes each, for experts each. Of products that are equal only one is computed.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::ops::AddAssign;
use std::path::Path;

use bitworth_quant::atomic_file::AtomicFile;
use bitworth_quant::checkpoint::TensorBytes;
use bitworth_quant::disk::check_room;
use bitworth_quant::{Checkpoint, DType};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value, json};

use super::error::{Error, Result};
use super::readers::{matrices, readers};
use bitworth_engine::backend::{Backend, HostTensor};
use bitworth_engine::cpu::Cpu;
use bitworth_engine::error::{EngineError, Result as EngineResult};
use bitworth_engine::observe::Site;

/// Rows whose products are summed in f32.
pub(super) const BLOCK_ROWS: usize = 256;
/// The fewest columns that are multiplied at once; in wider inputs it is an eighth of all columns.
const LEAST_COLUMNS: usize = 256;
/// Sums that are mirrored together.
const TILE: usize = 64;
/// A safetensors header longer than this is not believed, as in the safetensors library.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// A file of second moments in the making: for each input of matrices one tensor NAME of F32 `[K, K]` (`[matrices, K, K]` for
/// tensors of experts or heads) and NAME.counts of I64 `[1]` (`[matrices]`), where NAME is the first tensor that reads the input.
/// The metadata key `readers` is a JSON object from the name of every tensor of the model to that NAME.
pub struct SecondMoments {
    file: AtomicFile,
    cpu: Cpu,
    places: BTreeMap<(usize, Site), MomentLayout>,
    /// The block that is being collected, with its sums.
    open: BTreeMap<(usize, Site), Vec<Moment<f64>>>,
}

/// Where the moments of a site go.
struct MomentLayout {
    counts_at: u64,
    moments_at: u64,
    matrices: usize,
    cols: usize,
}

/// Sums of products on the way, in f64 or in f32.
pub(super) struct Moment<T> {
    /// Rows that make no whole block yet.
    pending: Vec<f32>,
    /// `[K, K]`; until it is finished only the half left of the diagonal counts.
    pub(super) sum: Vec<T>,
    pub(super) count: u64,
}

impl SecondMoments {
    /// Begins the file for a model.
    ///
    /// # Errors
    /// A place that cannot be written, or a disk without the room.
    pub fn create(path: &Path, checkpoint: &Checkpoint, output: bool) -> Result<Self> {
        let blocks = (0..checkpoint.hparams().block_count).flat_map(|block| Site::OF_BLOCK.map(|site| (block, site)));
        let sites = blocks.chain(output.then_some((0, Site::Output)));
        let (mut names, mut inputs) = (Map::new(), Vec::new());
        for (block, site) in sites {
            let tensors = readers(checkpoint, block, site);
            let Some(first) = tensors.first() else { continue };
            for tensor in &tensors {
                names.insert(tensor.name.clone(), json!(first.name));
            }
            inputs.push(((block, site), first.name.clone(), matrices(first), first.cols()));
        }
        let mut places = BTreeMap::new();
        let (mut tensors, mut at) = (Vec::new(), 0_usize);
        let mut put = |name: String, dtype: Dtype, bytes: usize, shape: Vec<usize>| -> Result<u64> {
            let size = shape.iter().try_fold(bytes, |size, &d| size.checked_mul(d));
            let end = size
                .and_then(|size| at.checked_add(size))
                .ok_or_else(|| Error::unfit("the second moments would be too large for a file"))?;
            tensors.push((name, TensorInfo { dtype, shape, data_offsets: (at, end) }));
            Ok(std::mem::replace(&mut at, end) as u64)
        };
        // The wider numbers first, so that all are aligned.
        for (key, name, matrices, cols) in &inputs {
            let counts_at = put(format!("{name}.counts"), Dtype::I64, 8, vec![*matrices])?;
            places.insert(*key, MomentLayout { counts_at, moments_at: 0, matrices: *matrices, cols: *cols });
        }
        for (key, name, matrices, cols) in &inputs {
            let shape = if *matrices > 1 { vec![*matrices, *cols, *cols] } else { vec![*cols, *cols] };
            let moments_at = put(name.clone(), Dtype::F32, 4, shape)?;
            places.entry(*key).and_modify(|place| place.moments_at = moments_at);
        }
        let about = HashMap::from([("readers".to_owned(), Value::Object(names).to_string())]);
        let header = Metadata::new(Some(about), tensors).map_err(|e| Error::unfit(e.to_string()))?;
        let mut text = serde_json::to_vec(&header).map_err(|e| Error::unfit(e.to_string()))?;
        text.resize(text.len().next_multiple_of(8), b' ');
        let data = 8 + text.len() as u64;
        let size = data.saturating_add(at as u64);
        let mut file = AtomicFile::create(path)?;
        check_room(path, size)?;
        file.write_at(0, &(text.len() as u64).to_le_bytes())?;
        file.write_at(8, &text)?;
        file.set_len(size)?;
        for place in places.values_mut() {
            place.counts_at += data;
            place.moments_at += data;
        }
        Ok(Self { file, cpu: Cpu::new(), places, open: BTreeMap::new() })
    }

    /// Adds rows `x [T, K]` that go into one of the matrices of a site. When the next block of the model begins, the one before
    /// is written.
    pub(super) fn add(&mut self, block: usize, site: Site, matrix: usize, x: &[f32]) -> EngineResult<()> {
        let key = (block, site);
        if self.open.keys().next().is_some_and(|&(open, at)| open != block || (at == Site::Output) != (site == Site::Output)) {
            self.flush()?;
        }
        let Some(place) = self.places.get(&key) else {
            // What is written already comes again in a second pass, which `collect` rules out.
            let what = format!("more goes into {site:?} of block {block}, whose second moment is written already");
            return Err(EngineError::Unfit { model: self.file.path().display().to_string(), what });
        };
        let cols = place.cols;
        let moments = self.open.entry(key).or_insert_with(|| (0..place.matrices).map(|_| Moment::new(cols)).collect());
        moments[matrix].add(&self.cpu, x, cols)
    }

    /// Writes what is open.
    fn flush(&mut self) -> EngineResult<()> {
        for (key, moments) in std::mem::take(&mut self.open) {
            let Some(place) = self.places.remove(&key) else { continue };
            let (cols, stride) = (place.cols, (place.cols * place.cols * size_of::<f32>()) as u64);
            for (i, mut moment) in moments.into_iter().enumerate() {
                moment.finish(&self.cpu, cols)?;
                let bytes: Vec<u8> = moment.sum.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect();
                self.file.write_at(place.moments_at + i as u64 * stride, &bytes)?;
                self.file.write_at(place.counts_at + 8 * i as u64, &(moment.count as i64).to_le_bytes())?;
            }
        }
        Ok(())
    }

    /// Writes the rest and puts the file in place.
    ///
    /// # Errors
    /// An input that was never met; what writing a file may meet.
    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        if let Some((block, site)) = self.places.keys().next() {
            return Err(Error::unfit(format!("{}: nothing went into {site:?} of block {block}", self.file.path().display())));
        }
        Ok(self.file.commit()?)
    }
}

impl<T: From<f32> + AddAssign + Copy + Send + Sync> Moment<T> {
    pub(super) fn new(cols: usize) -> Self {
        Self { pending: Vec::new(), sum: vec![T::from(0.0f32); cols * cols], count: 0 }
    }

    /// Adds rows `x` (`[T, K]`).
    pub(super) fn add(&mut self, cpu: &Cpu, x: &[f32], cols: usize) -> EngineResult<()> {
        self.count += (x.len() / cols) as u64;
        for row in x.chunks_exact(cols) {
            self.pending.extend_from_slice(row);
            if self.pending.len() == BLOCK_ROWS * cols {
                self.take_block(cpu, cols)?;
            }
        }
        Ok(())
    }

    /// Adds what is pending, and fills the other half.
    pub(super) fn finish(&mut self, cpu: &Cpu, cols: usize) -> EngineResult<()> {
        self.take_block(cpu, cols)?;
        for (top, left) in (0..cols).step_by(TILE).flat_map(|top| (0..=top).step_by(TILE).map(move |left| (top, left))) {
            for row in top..(top + TILE).min(cols) {
                for col in left..(left + TILE).min(row) {
                    self.sum[col * cols + row] = self.sum[row * cols + col];
                }
            }
        }
        Ok(())
    }

    /// Adds the products of the pending rows.
    fn take_block(&mut self, cpu: &Cpu, cols: usize) -> EngineResult<()> {
        let rows = self.pending.len() / cols;
        if rows == 0 {
            return Ok(());
        }
        let mut turned = vec![0.0f32; rows * cols];
        turned.par_chunks_mut(rows).enumerate().for_each(|(col, out)| {
            out.iter_mut().enumerate().for_each(|(row, out)| *out = self.pending[row * cols + col]);
        });
        let bytes = TensorBytes::Owned(bytemuck::cast_slice(&turned).to_vec());
        let weight = cpu.weight(HostTensor { dtype: DType::F32, rows: cols, cols: rows, bytes })?;
        let at_once = cols.div_ceil(8).next_multiple_of(TILE).max(LEAST_COLUMNS);
        for start in (0..cols).step_by(at_once) {
            let end = (start + at_once).min(cols);
            // [part of K, R] x [K up to its end, R]^T
            let part = turned[start * rows..end * rows].to_vec();
            let mut products = vec![0.0; (end - start) * end];
            cpu.matmul(&part, 0..end - start, &weight, 0..end, &mut products)?;
            let sums = self.sum[start * cols..end * cols].par_chunks_mut(cols).zip(products.par_chunks(end));
            sums.for_each(|(sums, products)| sums.iter_mut().zip(products).for_each(|(sum, &product)| *sum += T::from(product)));
        }
        self.pending.clear();
        Ok(())
    }
}

/// Whether a file holds second moments, by its header.
pub fn is_one(path: &Path) -> bool {
    let header = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length).min(MAX_HEADER_BYTES);
        let mut header = Vec::new();
        file.take(length).read_to_end(&mut header)?;
        Ok(header)
    };
    let json = header().ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    json.is_some_and(|header| header["__metadata__"]["readers"].is_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitworth_quant::random::SplitMix64;

    /// More columns than go at once, and no whole number of parts or tiles.
    #[test]
    fn both_halves_hold_the_sums_of_products() {
        let (cols, rows, cpu) = (2 * LEAST_COLUMNS + 75, BLOCK_ROWS + 20, Cpu::new());
        let mut random = SplitMix64::new(6);
        let x: Vec<f32> = (0..rows * cols).map(|_| random.unit() as f32 - 0.4).collect();
        let (mut exact, mut short) = (Moment::<f64>::new(cols), Moment::<f32>::new(cols));
        exact.add(&cpu, &x, cols).and_then(|()| exact.finish(&cpu, cols)).unwrap();
        short.add(&cpu, &x, cols).and_then(|()| short.finish(&cpu, cols)).unwrap();
        for (i, j) in (0..cols).flat_map(|i| (0..cols).map(move |j| (i, j))) {
            let at = i * cols + j;
            assert!(exact.sum[at].to_bits() == exact.sum[j * cols + i].to_bits(), "{i} {j}");
            assert!((exact.sum[at] - f64::from(short.sum[at])).abs() < 1e-4, "{i} {j}");
            if (i + 3 * j).is_multiple_of(97) {
                let expected: f64 = x.chunks_exact(cols).map(|x| f64::from(x[i]) * f64::from(x[j])).sum();
                assert!((exact.sum[at] - expected).abs() < 1e-3, "{i} {j}: {} and {expected}", exact.sum[at]);
            }
        }
    }
}

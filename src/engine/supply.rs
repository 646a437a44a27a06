//! What the lanes of a sweep have in common when they read weights: a tensor that several of them want in the same encoding is
//! encoded once, files that are made on the way get what was encoded, and the pages of mapped files are remembered, to be given
//! back when they were used. Absent: devices, and the order of reading (see `sweep`).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bitworth_quant::checkpoint::{Pages, Tensor, TensorBytes};
use bitworth_quant::quantize::Sink;
use bitworth_quant::{Checkpoint, DType};

use super::error::Result;
use super::variant::Variant;

/// See the module.
#[derive(Default)]
pub struct Supply {
    /// How many lanes want a tensor so encoded, where it is more than one.
    wanted: HashMap<Encoding, usize>,
    /// The files that are made of what is read, and the variants that they are of.
    sinks: Vec<(Variant, Arc<Sink>)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What was encoded, and how many lanes still want it.
    made: HashMap<(Encoding, Range<usize>), (TensorBytes, usize)>,
    /// What was read.
    read: Vec<TensorRows>,
}

/// Rows of a tensor as it is stored.
pub struct TensorRows {
    checkpoint: Arc<Checkpoint>,
    tensor: String,
    rows: Range<usize>,
}

impl TensorRows {
    /// Says that its pages are not needed for now.
    pub fn release(&self, pages: Pages) {
        if let Some(tensor) = self.checkpoint.tensor(&self.tensor) {
            self.checkpoint.release(tensor, self.rows.clone(), pages);
        }
    }
}

/// A tensor of a checkpoint in an encoding that it is not stored in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Encoding {
    /// What it is encoded from and by: addresses of what the lanes hold while they live.
    source: [usize; 2],
    tensor: String,
    dtype: DType,
}

impl Encoding {
    fn of(variant: &Variant, tensor: &Tensor, dtype: DType) -> Self {
        Self { source: variant.source_identity(), tensor: tensor.name.clone(), dtype }
    }
}

impl Supply {
    /// For lanes of these variants, and files of some of them that are made on the way.
    pub fn new<'v>(variants: impl Iterator<Item = &'v Variant>, sinks: Vec<(Variant, Arc<Sink>)>) -> Self {
        let mut wanted: HashMap<Encoding, usize> = HashMap::new();
        for variant in variants {
            for tensor in variant.checkpoint().tensors() {
                let dtype = variant.dtype(tensor);
                if dtype != tensor.dtype {
                    *wanted.entry(Encoding::of(variant, tensor, dtype)).or_default() += 1;
                }
            }
        }
        wanted.retain(|_, lanes| *lanes > 1);
        Self { wanted, sinks, state: Mutex::default() }
    }

    /// Some rows of a tensor for one of the lanes.
    ///
    /// # Errors
    /// A model that cannot be read or encoded, a file that cannot be written.
    pub fn rows(&self, variant: &Variant, tensor: &Tensor, rows: Range<usize>, dtype: DType) -> Result<TensorBytes> {
        let key = (Encoding::of(variant, tensor, dtype), rows.clone());
        let bytes = match self.take(&key) {
            Some(bytes) => bytes,
            None => {
                let mut bytes = variant.encoded(tensor, rows.clone(), dtype)?;
                bytes.populate();
                if let (TensorBytes::Owned(owned), Some(&lanes)) = (&mut bytes, self.wanted.get(&key.0)) {
                    bytes = TensorBytes::Shared(Arc::new(std::mem::take(owned)));
                    self.state().made.insert(key, (bytes.clone(), lanes - 1));
                }
                let checkpoint = variant.checkpoint().clone();
                self.state().read.push(TensorRows { checkpoint, tensor: tensor.name.clone(), rows: rows.clone() });
                bytes
            }
        };
        // Lanes that read the same are read for once.
        for (of, sink) in &self.sinks {
            if of.dtype(tensor) == dtype && of.source_identity() == variant.source_identity() {
                sink.put(tensor, rows.start, &bytes)?;
            }
        }
        Ok(bytes)
    }

    /// What was read since the last call.
    pub fn take_read(&self) -> Vec<TensorRows> {
        std::mem::take(&mut self.state().read)
    }

    /// Forgets what was encoded for lanes that did not come for it.
    pub fn forget(&self) {
        self.state().made.clear();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, key: &(Encoding, Range<usize>)) -> Option<TensorBytes> {
        let mut state = self.state();
        let (bytes, lanes) = state.made.get_mut(key)?;
        let bytes = bytes.clone();
        *lanes -= 1;
        if *lanes == 0 {
            state.made.remove(key);
        }
        Some(bytes)
    }
}

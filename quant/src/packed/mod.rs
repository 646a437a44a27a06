//! Weights of published checkpoints that are no floats: what each way to store them looks like in safetensors files, and their
//! rows as floats. A way to store weights is one file here and one row of [`FORMATS`]; the tensors that it needs for a weight
//! become one tensor, under the name that the weight has in a checkpoint of floats. Which weights are stored so, the tensors say;
//! what tensors do not say (sizes of groups, versions) `config.json` does.
//!
//! Values are those of llama.cpp's converter (`dequant_model` in conversion/base.py, b11434) where it reads the format.
//!
//! Absent: names and layouts of GGUF (see `checkpoint`).

mod awq;
mod bitnet;
mod bitsandbytes;
mod factored;
mod gptq;
mod grouped;
mod integers;
mod lora;
mod mxfp4;
mod nvfp4;
mod scaled;
mod settings;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use crate::mmap::Span;
use crate::packing::Packed;
use crate::safetensors::{HfTensor, HfTensors};
use crate::{DType, Error, Result};
pub(crate) use factored::Factored;
pub use lora::Adapter;
pub(crate) use lora::merge;
pub(crate) use settings::Settings;

/// What a pattern of a stranger's may take when it is compiled.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// A stranger's pattern, compiled; `None` where it is not supported or takes too much.
fn compiled(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).build().ok()
}

/// A way to store weights.
struct SourceFormat {
    /// For messages.
    name: &'static str,
    /// What `quant_method` says of it.
    methods: &'static [&'static str],
    /// What the name of one of its tensors ends with; what is before it is the base of all their names.
    markers: &'static [&'static str],
    /// Whether the converter writes such weights behind all others.
    behind: bool,
    /// The weight that the marker is of; `None` where the other tensors are of another format.
    read: fn(&Found) -> Result<Option<Weight>>,
}

/// Every way that is read. Of several with the same marker the first that takes the tensors counts.
const FORMATS: &[SourceFormat] = &[
    bitsandbytes::FOUR_BITS,
    bitsandbytes::INT8,
    gptq::FORMAT,
    awq::FORMAT,
    integers::FORMAT,
    mxfp4::COMPRESSED,
    mxfp4::BLOCKS,
    nvfp4::COMPRESSED,
    nvfp4::MODELOPT,
    bitnet::FORMAT,
    scaled::FORMAT,
];

/// What no weight is made from: scales of activations and of keys and values that are kept between tokens.
const OF_ACTIVATIONS: &[&str] = &[
    ".activation_scale",
    "_activation_scale",
    ".input_scale",
    ".input_global_scale",
    ".input_zero_point",
    ".output_scale",
    ".k_scale",
    ".v_scale",
    ".k_zero_point",
    ".v_zero_point",
    ".qscale_act",
];

/// A weight that was found.
struct Weight {
    /// Its name among floats.
    name: String,
    /// Rows first.
    shape: Vec<usize>,
    packed: Arc<dyn Packed>,
    /// The names of all tensors it is made from.
    from: Vec<String>,
    /// Their bytes.
    bytes: u64,
}

/// A marker, and where to look for the tensors that belong to it.
struct Found<'a> {
    format: &'static SourceFormat,
    /// The marker.
    tensor: &'a HfTensor,
    /// What the names have in common.
    base: &'a str,
    all: &'a HashMap<&'a str, &'a HfTensor>,
    settings: &'a Settings,
}

impl<'a> Found<'a> {
    /// The tensor whose name ends with this.
    fn get(&self, end: &str) -> Option<&'a HfTensor> {
        self.all.get(format!("{}{end}", self.base).as_str()).copied()
    }

    /// The same, which must be there.
    fn require(&self, end: &str) -> Result<&'a HfTensor> {
        self.get(end).ok_or_else(|| {
            let what = format!("is missing; {} is stored as {} and cannot be read without", self.tensor.name, self.format.name);
            Error::tensor(&self.tensor.file, format!("{}{end}", self.base), what)
        })
    }

    /// The error for one of the tensors.
    fn error(&self, tensor: &HfTensor, what: impl std::fmt::Display) -> Error {
        Error::tensor(&tensor.file, &tensor.name, format!("{what} ({})", self.format.name))
    }

    /// A tensor must be of one of these types.
    fn check_type(&self, tensor: &HfTensor, known: &[&str]) -> Result<()> {
        let stored = tensor.stored_dtype();
        if known.contains(&stored.as_str()) {
            return Ok(());
        }
        Err(self.error(tensor, format!("is {stored}, but must be {}", known.join(" or "))))
    }

    /// A tensor must have this shape.
    fn check_shape(&self, tensor: &HfTensor, expected: &[usize]) -> Result<()> {
        if tensor.shape == expected {
            return Ok(());
        }
        Err(self.error(tensor, format!("has the shape {:?}, but must have {expected:?}", tensor.shape)))
    }

    /// The two dimensions of a matrix that is not empty.
    fn matrix(&self, tensor: &HfTensor) -> Result<[usize; 2]> {
        match tensor.shape[..] {
            [rows, cols] if rows > 0 && cols > 0 => Ok([rows, cols]),
            _ => Err(self.error(tensor, format!("has the shape {:?}, but must be a matrix", tensor.shape))),
        }
    }

    /// All numbers of a tensor of floats, which are few.
    fn numbers(&self, tensor: &HfTensor) -> Result<Vec<f32>> {
        self.check_type(tensor, &["F32", "F16", "BF16"])?;
        let mut values = vec![0.0; tensor.shape.iter().product()];
        tensor.dtype()?.decode_row(tensor.bytes(), &mut values);
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => Err(self.error(tensor, "holds numbers that are not finite")),
        }
    }

    fn weight(&self, name: String, shape: Vec<usize>, packed: impl Packed + 'static, from: &[Option<&HfTensor>]) -> Weight {
        let from: Vec<&HfTensor> = from.iter().copied().flatten().collect();
        let bytes = from.iter().map(|tensor| tensor.range.len() as u64).sum();
        Weight { name, shape, packed: Arc::new(packed), from: from.iter().map(|tensor| tensor.name.clone()).collect(), bytes }
    }
}

/// Floats of a tensor that are read as they are needed.
#[derive(Clone)]
struct Floats {
    span: Span,
    dtype: DType,
}

impl Floats {
    fn of(found: &Found, tensor: &HfTensor) -> Result<Self> {
        found.check_type(tensor, &["F32", "F16", "BF16"])?;
        Ok(Self { span: tensor.span(), dtype: tensor.dtype()? })
    }

    fn get(&self, index: usize) -> f32 {
        let width = self.dtype.block_bytes();
        let mut value = [0.0];
        self.dtype.decode_row(&self.span.bytes()[index * width..(index + 1) * width], &mut value);
        value[0]
    }
}

/// A 32-bit word of a tensor of such, by its number.
fn word(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes.as_chunks().0[index])
}

/// Puts tensors together that are one weight, in the order in which the converter has them: weights where they stand, or behind
/// all others.
///
/// # Errors
/// A tensor of a weight is missing or has another shape or type than the weight needs, `config.json` asks for a version or a
/// size that is not known, or weights are stored in a way that is not read.
pub(crate) fn unpack(files: HfTensors, settings: &Settings) -> Result<HfTensors> {
    settings.check(files.tensors())?;
    let all: HashMap<&str, &HfTensor> = files.tensors().iter().map(|t| (t.name.as_str(), t)).collect();
    let mut gone: HashSet<String> = HashSet::new();
    let mut made: HashMap<String, HfTensor> = HashMap::new();
    let mut behind = Vec::new();
    for tensor in files.tensors().iter().filter(|tensor| is_marker(&tensor.name)) {
        let Some((weight, format)) = find(tensor, &all, settings)? else { continue };
        let packed = HfTensor::packed(tensor, weight.name, weight.shape, weight.packed, weight.bytes);
        if all.contains_key(packed.name.as_str()) && !weight.from.contains(&packed.name) || made.contains_key(&packed.name) {
            let what = format!("stands for the weight {}, which is there already", packed.name);
            return Err(Error::tensor(&tensor.file, &tensor.name, what));
        }
        gone.extend(weight.from);
        match format.behind || !all.contains_key(packed.name.as_str()) {
            true => behind.push(packed),
            false => drop(made.insert(packed.name.clone(), packed)),
        }
    }
    if settings.method().is_none() && gone.is_empty() {
        return Ok(files);
    }
    let is_gone = |name: &str| gone.contains(name) || OF_ACTIVATIONS.iter().any(|end| name.ends_with(end));
    let mut tensors = Vec::with_capacity(files.tensors().len());
    for tensor in files.tensors() {
        match made.remove(&tensor.name) {
            Some(packed) => tensors.push(packed),
            None if is_gone(&tensor.name) => {}
            None => tensors.push(tensor.clone()),
        }
    }
    tensors.extend(behind);
    settings.check_method(&tensors, FORMATS.iter().flat_map(|format| format.methods).copied())?;
    Ok(files.with_tensors(tensors))
}

fn is_marker(name: &str) -> bool {
    FORMATS.iter().flat_map(|format| format.markers).any(|marker| name.ends_with(marker))
}

/// The weight that a tensor is a marker of.
fn find(
    tensor: &HfTensor,
    all: &HashMap<&str, &HfTensor>,
    settings: &Settings,
) -> Result<Option<(Weight, &'static SourceFormat)>> {
    for format in FORMATS {
        let Some(base) = format.markers.iter().find_map(|marker| tensor.name.strip_suffix(marker)) else { continue };
        if let Some(weight) = (format.read)(&Found { format, tensor, base, all, settings })? {
            return Ok(Some((weight, format)));
        }
    }
    Ok(None)
}

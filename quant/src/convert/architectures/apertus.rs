//! Metadata of apertus: a llama's, and the parameters of its feed-forward network's function from the tensors that hold them.

use super::llama;
use crate::convert::config::Config;
use crate::convert::keys::ComputedTensor;
use crate::gguf::{Array, Metadata, Value};
use crate::safetensors::HfTensor;
use crate::{Error, Result};

const PARAMETERS: [&str; 4] = ["alpha_n", "alpha_p", "beta", "eps"];
/// What the framework begins training with, for models without weights of their own (see `crate::synth`).
const INITIAL: [f32; 4] = [0.45, 0.45, 0.5, -1e-6];

/// The divisors of rotary frequencies, and before them the parameters, block by block.
pub(super) fn computed(config: &Config, stored: &[HfTensor], m: &mut Metadata) -> Result<Vec<ComputedTensor>> {
    for (name, initial) in PARAMETERS.into_iter().zip(INITIAL) {
        let value = |block: u32| if stored.is_empty() { Ok(initial) } else { scalar(config, stored, block, name) };
        let values = (0..config.block_count).map(value).collect::<Result<Vec<f32>>>()?;
        m.set(format!("xielu.{name}"), Value::Array(Array::F32(values)));
    }
    llama::rope_factors(config, stored, m)
}

/// A tensor of one number.
fn scalar(config: &Config, stored: &[HfTensor], block: u32, parameter: &str) -> Result<f32> {
    let name = format!("model.layers.{block}.mlp.act_fn.{parameter}");
    let found = stored.iter().find(|tensor| tensor.name == name);
    let tensor = found.ok_or_else(|| Error::tensor(&config.path, &name, "is missing"))?;
    let mut value = [0.0];
    match tensor.dtype()? {
        dtype if tensor.range.len() == dtype.block_bytes() && tensor.shape.iter().all(|&n| n == 1) => {
            dtype.decode_row(&tensor.map[tensor.range.clone()], &mut value);
        }
        _ => return Err(Error::tensor(&tensor.file, &name, format!("has the shape {:?}, but must be one number", tensor.shape))),
    }
    Ok(value[0])
}

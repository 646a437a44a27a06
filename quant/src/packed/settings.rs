//! What `config.json` says of how weights are stored, beyond what their tensors say: `quantization_config`, or ModelOpt's
//! `hf_quant_config.json` where that is missing.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::compiled;
use crate::convert::config::Config;
use crate::json::read_json;
use crate::safetensors::HfTensor;
use crate::{Error, Result};

/// The keys of `config.json`, and what stands in for them.
const KEYS: [&str; 2] = ["quantization_config", "compression_config"];
const MODELOPT: &str = "hf_quant_config.json";

/// The description of how weights are stored.
pub(crate) struct Settings {
    path: PathBuf,
    key: &'static str,
    object: Map<String, Value>,
    method: Option<String>,
}

/// How the weights of a group of modules are stored, as compressed-tensors describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scheme {
    pub(super) bits: usize,
    /// `int` or `float`.
    pub(super) kind: String,
    pub(super) strategy: String,
    /// Columns that share a scale.
    pub(super) group_size: Option<usize>,
    /// Rows and columns that do.
    pub(super) block: Option<[usize; 2]>,
    /// Whether there are no zero points.
    pub(super) symmetric: bool,
    /// Whether groups are of columns in another order than theirs.
    pub(super) is_ordered: bool,
}

impl Settings {
    /// What the files of `dir` say.
    ///
    /// # Errors
    /// A file cannot be read, or a description is no object.
    pub(crate) fn read(dir: &Path, config: &Config) -> Result<Self> {
        let path = config.path.clone();
        for key in KEYS {
            match config.json.get(key) {
                None | Some(Value::Null) => {}
                Some(Value::Object(object)) if object.is_empty() => {}
                Some(Value::Object(object)) => return Self::new(path, key, object.clone()),
                Some(other) => {
                    let shown: String = other.to_string().chars().take(80).collect();
                    return Err(Error::key(&path, key, format!("is {shown}, but must be an object")));
                }
            }
        }
        let path_modelopt = dir.join(MODELOPT);
        let described = read_json(&path_modelopt)?.and_then(|mut json| json.remove("quantization"));
        match described {
            Some(Value::Object(mut object)) if !object.is_empty() => {
                object.entry("quant_method").or_insert_with(|| "modelopt".into());
                Self::new(path_modelopt, "quantization", object)
            }
            _ => Ok(Self { path, key: KEYS[0], object: Map::new(), method: None }),
        }
    }

    fn new(path: PathBuf, key: &'static str, object: Map<String, Value>) -> Result<Self> {
        const METHOD: &str = "quant_method";
        let method = match object.get(METHOD) {
            None | Some(Value::Null) => None,
            Some(Value::String(method)) => Some(method.to_ascii_lowercase()),
            Some(other) => {
                return Err(Error::key(&path, format!("{key}.{METHOD}"), format!("is {other}, but must be a name")));
            }
        };
        Ok(Self { path, key, object, method })
    }

    /// The name of the method, in small letters.
    pub(super) fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    pub(super) fn is_compressed_tensors(&self) -> bool {
        matches!(self.method(), Some("compressed-tensors" | "compressed_tensors"))
    }

    /// The error for one of the keys.
    pub(super) fn error(&self, key: &str, what: impl Into<crate::message::Message>) -> Error {
        Error::key(&self.path, format!("{}.{key}", self.key), what)
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// A text under a key.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.error(key, format!("is {other}, but must be a text"))),
        }
    }

    /// A truth value under a key.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.error(key, format!("is {other}, but must be true or false"))),
        }
    }

    /// A number above 0 under a key; `None` where it is missing or -1, which stands for all.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>> {
        self.get(key).map_or(Ok(None), |value| self.size_of(key, value))
    }

    fn size_of(&self, key: &str, value: &Value) -> Result<Option<usize>> {
        match (value.as_i64(), value.as_u64().and_then(|size| usize::try_from(size).ok())) {
            (Some(-1), _) => Ok(None),
            (_, Some(size)) if size > 0 => Ok(Some(size)),
            _ => Err(self.error(key, format!("is {value}, but must be a whole number above 0"))),
        }
    }

    /// Whether a key has anything to say.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Rows and columns that share a scale.
    pub(super) fn weight_block_size(&self) -> Result<Option<[usize; 2]>> {
        const KEY: &str = "weight_block_size";
        self.get(KEY).map_or(Ok(None), |value| self.pair(KEY, value).map(Some))
    }

    /// Two sizes: a list, or as `128x128`.
    fn pair(&self, key: &str, value: &Value) -> Result<[usize; 2]> {
        let numbers: Option<Vec<usize>> = match value {
            Value::Array(list) => list.iter().map(|v| v.as_u64().and_then(|size| usize::try_from(size).ok())).collect(),
            Value::String(text) => text.split('x').map(|size| size.parse().ok()).collect(),
            _ => None,
        };
        match numbers.as_deref() {
            Some(&[rows, cols]) if rows > 0 && cols > 0 => Ok([rows, cols]),
            _ => Err(self.error(key, format!("is {value}, but must be two whole numbers above 0"))),
        }
    }

    /// Refuses what changes the computation in a way that no tensor shows, and formats that are not known of tensors that are not
    /// plain.
    pub(super) fn check(&self, tensors: &[HfTensor]) -> Result<()> {
        const TRANSFORMS: &str = "transform_config";
        let transforms = self.get(TRANSFORMS).and_then(|value| value.get("config_groups")).and_then(Value::as_object);
        if transforms.is_some_and(|groups| !groups.is_empty()) {
            return Err(self.error(TRANSFORMS, "rotations of activations are not supported; only an empty one is"));
        }
        if self.method() == Some("bitnet") {
            for (key, value) in [("linear_class", "autobitlinear"), ("quantization_mode", "online")] {
                if self.text(key)? == Some(value) {
                    let what = format!(
                        "{value:?} is not supported: programs do not agree on what such weights are multiplied by; convert the \
                         checkpoint to BF16 first"
                    );
                    return Err(self.error(key, what));
                }
            }
        }
        if self.is_compressed_tensors() && !tensors.iter().all(is_plain) {
            self.check_format(self.text("format")?)?;
            for group in self.groups()? {
                self.check_format(group.get("format").and_then(Value::as_str))?;
            }
        }
        Ok(())
    }

    fn check_format(&self, format: Option<&str>) -> Result<()> {
        /// Of compressed-tensors.
        const KNOWN: &[&str] = &[
            "dense",
            "float-quantized",
            "int-quantized",
            "mixed-precision",
            "mxfp4-pack-quantized",
            "naive-quantized",
            "nvfp4-pack-quantized",
            "pack-quantized",
        ];
        match format.filter(|format| !KNOWN.contains(format)) {
            Some(format) => Err(self.error("format", format!("{format:?} is not supported; known: {}", KNOWN.join(", ")))),
            None => Ok(()),
        }
    }

    /// A method that is not known is of no account where all weights are floats.
    pub(super) fn check_method(&self, tensors: &[HfTensor], known: impl Iterator<Item = &'static str>) -> Result<()> {
        let Some(method) = self.method() else { return Ok(()) };
        let mut known: Vec<&str> = known.collect();
        known.sort_unstable();
        known.dedup();
        match tensors.iter().find(|tensor| !is_plain(tensor)).filter(|_| !known.contains(&method)) {
            None => Ok(()),
            Some(t) => {
                let what = format!(
                    "the method {method:?} is not supported ({} is {}); known: {}. Convert the checkpoint to BF16 first",
                    t.name,
                    t.stored_dtype(),
                    known.join(", ")
                );
                Err(self.error("quant_method", what))
            }
        }
    }

    fn groups(&self) -> Result<Vec<&Map<String, Value>>> {
        const KEY: &str = "config_groups";
        let Some(groups) = self.get(KEY) else { return Ok(Vec::new()) };
        let groups = groups.as_object().ok_or_else(|| self.error(KEY, "must be an object"))?;
        let as_object = |group: &'_ Value| group.as_object().is_some();
        if !groups.values().all(as_object) {
            return Err(self.error(KEY, "must hold objects"));
        }
        Ok(groups.values().filter_map(Value::as_object).collect())
    }

    /// How the weights of `module` are stored: of the groups that fit what its tensors show the only one, or the one that names
    /// it, by name or pattern before class.
    ///
    /// # Errors
    /// No group fits, or several that differ and of which none names it.
    pub(super) fn scheme(&self, tensor: &HfTensor, module: &str, fits: impl Fn(&Scheme) -> bool) -> Result<Scheme> {
        let mut fitting: Vec<(&Map<String, Value>, Scheme)> = Vec::new();
        for group in self.groups()? {
            let Some(weights) = group.get("weights").and_then(Value::as_object) else { continue };
            let scheme = self.scheme_of(weights)?;
            if fits(&scheme) {
                fitting.push((group, scheme));
            }
        }
        let Some((_, first)) = fitting.first() else {
            let what = format!("no group of weights is stored as {} is", tensor.name);
            return Err(self.error("config_groups", what));
        };
        if fitting.iter().all(|(_, scheme)| scheme == first) {
            return Ok(first.clone());
        }
        let mut by_class = None;
        for (group, scheme) in &fitting {
            let targets = group.get("targets").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            for target in targets.iter().filter_map(Value::as_str) {
                if self.names(target, module)? {
                    return Ok(scheme.clone());
                }
                // A class of modules; that of all that are quantized.
                if !target.contains(['.', ':']) && by_class.is_none() {
                    by_class = Some(scheme.clone());
                }
            }
        }
        by_class.ok_or_else(|| {
            let what = format!("several groups may be that of {module}, and none of their targets names it");
            self.error("config_groups", what)
        })
    }

    /// Whether a target names a module: itself, or by a pattern that fits its beginning, as Python's `re.match`.
    fn names(&self, target: &str, module: &str) -> Result<bool> {
        let Some(pattern) = target.strip_prefix("re:") else { return Ok(target == module) };
        let what = || self.error("config_groups", format!("the pattern {target:?} is not supported"));
        Ok(compiled(&format!("^(?:{pattern})")).ok_or_else(what)?.is_match(module))
    }

    fn scheme_of(&self, weights: &Map<String, Value>) -> Result<Scheme> {
        let get = |key: &str| weights.get(key).filter(|value| !value.is_null());
        let text = |key: &str| get(key).and_then(Value::as_str).map(str::to_owned);
        let size = |key: &str| get(key).map_or(Ok(None), |value| self.size_of(key, value));
        let group_size = size("group_size")?;
        // As compressed-tensors fills it in.
        let strategy = text("strategy").unwrap_or_else(|| if group_size.is_some() { "group" } else { "tensor" }.to_owned());
        Ok(Scheme {
            bits: size("num_bits")?.unwrap_or(8),
            kind: text("type").unwrap_or_else(|| "int".to_owned()),
            strategy,
            group_size,
            block: get("block_structure").map(|value| self.pair("block_structure", value)).transpose()?,
            symmetric: get("symmetric").and_then(Value::as_bool).unwrap_or(true),
            // `ActivationOrdering` of compressed-tensors: the others leave columns where they are.
            is_ordered: match get("actorder") {
                Some(Value::Bool(ordered)) => *ordered,
                Some(Value::String(order)) => ["group", "dynamic"].contains(&order.to_ascii_lowercase().as_str()),
                _ => false,
            },
        })
    }
}

/// Whether a tensor needs no description: its numbers are floats, or it is a buffer of positions (integers of eight bytes).
fn is_plain(tensor: &HfTensor) -> bool {
    tensor.is_packed() || tensor.dtype().is_ok() || tensor.stored_dtype() == "I64" || tensor.shape.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(json: Value) -> Settings {
        Settings::new("config.json".into(), KEYS[0], json.as_object().unwrap().clone()).unwrap()
    }

    #[test]
    fn targets_are_names_or_patterns_from_the_beginning() {
        let settings = settings(json!({"quant_method": "compressed-tensors"}));
        let check = |target: &str, module: &str, expected: bool| {
            assert_eq!(settings.names(target, module).unwrap(), expected, "{target}");
        };
        check("model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj", true);
        check("mlp.up_proj", "model.layers.0.mlp.up_proj", false);
        check("re:.*up_proj$", "model.layers.0.mlp.up_proj", true);
        check("re:up_proj", "model.layers.0.mlp.up_proj", false);
        let error = settings.names("re:(?!x)", "x").unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains("config_groups") && error.contains("(?!x)"), "{error}");
    }

    #[test]
    fn what_no_tensor_shows_is_refused() {
        let refused = |json: Value, said: &str| {
            let error = settings(json).check(&[]).unwrap_err().to_string();
            assert!(error.starts_with("config.json: quantization_config.") && error.contains(said), "{error}");
        };
        refused(json!({"transform_config": {"config_groups": {"u": {}}}}), "transform_config");
        refused(json!({"quant_method": "bitnet", "linear_class": "autobitlinear"}), "autobitlinear");
        let sound = json!({"quant_method": "compressed-tensors", "format": "mixed-precision", "transform_config": {}});
        settings(sound).check(&[]).unwrap();
    }
}

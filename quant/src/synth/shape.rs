//! Shapes of models by name: the configurations that come with the program, or one from a file.
//!
//! A shape holds what a `config.json` holds, under the same keys; in a TOML file, `like` names the model whose keys hold where
//! the file has none of its own, and `[figures]` is not part of it. Absent: weights, and what a shape costs to run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::MODELS;
use crate::convert::config::Config;
use crate::convert::model_name;
use crate::json::read_json;
use crate::spelling::closest;
use crate::{Error, Result};

/// The keys of a `config.json`.
type ConfigMap = Map<String, Value>;

/// The key of a TOML file that names another model.
const LIKE: &str = "like";
/// The table of a TOML file that holds what a configuration does not say.
const FIGURES: &str = "figures";
/// The key without which a file has figures alone.
const ARCHITECTURES: &str = "architectures";
/// How many names an error gives.
const CLOSEST: usize = 8;

/// A model without its weights.
#[derive(Debug)]
pub struct Shape {
    /// A name for files.
    pub name: String,
    /// Everything else.
    pub config: Config,
}

/// What a file of a model says.
pub struct Parsed {
    /// The configuration; none where the file has figures alone.
    pub keys: Option<ConfigMap>,
    /// The table `[figures]`.
    pub figures: Value,
}

/// The models that come with the program and have a shape.
pub fn names() -> impl Iterator<Item = &'static str> {
    let has_shape = |text: &str| text.lines().any(|line| line.starts_with(ARCHITECTURES) || line.starts_with(LIKE));
    MODELS.iter().filter(move |(_, text)| has_shape(text)).map(|(name, _)| *name)
}

/// The shape of a name in [`names`], of a `.toml` file with the same keys, of a `config.json`, or of a folder that has one.
/// `layers`, where given, takes the place of the shape's own number of layers.
///
/// # Errors
/// An unknown name; a file that cannot be read; a key that is missing or not supported.
pub fn load(shape: &str, layers: Option<u32>) -> Result<Shape> {
    let (name, path, keys) = match embedded(shape)? {
        Some((path, parsed)) => (shape.to_owned(), path, parsed.keys),
        None => read(Path::new(shape))?,
    };
    let Some(mut keys) = keys else {
        let known: Vec<&str> = names().collect();
        let known = known.join(", ");
        let what = format!("is missing: this model's figures are known, its shape is not; name one of these shapes: {known}");
        return Err(Error::key(path, ARCHITECTURES, what));
    };
    if let Some(layers) = layers {
        keys.insert("num_hidden_layers".to_owned(), layers.into());
    }
    Ok(Shape { name, config: Config::parse(path, keys)? })
}

/// What the file of a model that comes with the program says.
pub fn embedded(id: &str) -> Result<Option<(PathBuf, Parsed)>> {
    let Some((_, text)) = MODELS.iter().find(|(name, _)| *name == id) else { return Ok(None) };
    let path = PathBuf::from(format!("configs/models/{id}.toml"));
    let parsed = parse(&path, text)?;
    Ok(Some((path, parsed)))
}

/// The shape of a folder or of a `config.json`, however weights beside it are encoded.
pub fn of_folder(path: &Path) -> Result<Shape> {
    const ENCODING: &str = "quantization_config";
    let (name, path, keys) = read(path)?;
    let mut keys = keys.unwrap_or_default();
    keys.remove(ENCODING);
    if let Some(Value::Object(text)) = keys.get_mut("text_config") {
        text.remove(ENCODING);
    }
    Ok(Shape { name, config: Config::parse(path, keys)? })
}

/// Name, file and keys of a shape that does not come with the program.
fn read(shape: &Path) -> Result<(String, PathBuf, Option<ConfigMap>)> {
    let file = if shape.is_dir() { shape.join("config.json") } else { shape.to_owned() };
    let text = || std::fs::read_to_string(&file).map_err(|e| Error::io(&file, e));
    match file.extension().and_then(OsStr::to_str) {
        Some("toml") => {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let keys = parse(&file, &text()?)?.keys;
            Ok((name, file, keys))
        }
        Some("json") => {
            // The file has the same name everywhere; its folder is called as the model is.
            let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let missing = || Error::io(&file, std::io::ErrorKind::NotFound.into());
            let keys = read_json(&file)?.ok_or_else(missing)?;
            Ok((model_name(folder), file, Some(keys)))
        }
        _ => {
            let found = shape.to_string_lossy();
            let known = closest(&found, names(), CLOSEST).into_iter().chain(["...", "a .toml file", "a config.json"]);
            Err(Error::unknown("shape", found.as_ref(), known))
        }
    }
}

/// Reads the TOML file of a model.
pub fn parse(path: &Path, text: &str) -> Result<Parsed> {
    let mut keys: ConfigMap = toml::from_str(text).map_err(|e| Error::file(path, e.to_string().trim_end()))?;
    let figures = keys.remove(FIGURES).unwrap_or(Value::Object(Map::new()));
    let keys = match keys.remove(LIKE) {
        None => keys.contains_key(ARCHITECTURES).then_some(keys),
        Some(like) => Some(ConfigMap::from_iter(base(path, &like)?.into_iter().chain(keys))),
    };
    Ok(Parsed { keys, figures })
}

/// The keys of the model that `like` names: one of the program's that has keys of its own.
fn base(path: &Path, like: &Value) -> Result<ConfigMap> {
    let bases = MODELS.iter().filter(|(_, text)| text.lines().any(|line| line.starts_with(ARCHITECTURES)));
    let Some((_, text)) = bases.clone().find(|(name, _)| Some(*name) == like.as_str()) else {
        let names = closest(like.as_str().unwrap_or_default(), bases.map(|(name, _)| *name), CLOSEST);
        return Err(Error::key(path, LIKE, format!("{like} is not a model with keys of its own, as {}", names.join(", "))));
    };
    let mut keys: ConfigMap = toml::from_str(text).map_err(|e| Error::file(path, e.to_string().trim_end()))?;
    keys.remove(FIGURES);
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Synth;

    #[test]
    fn every_shape_can_be_made() {
        for name in names() {
            let shape = load(name, None).unwrap();
            Synth::new(&shape.name, &shape.config, 0).unwrap();
        }
    }

    #[test]
    fn layers_can_be_overridden() {
        assert_eq!(load("llama-8b", Some(3)).unwrap().config.block_count, 3);
    }

    #[test]
    fn a_file_may_say_what_it_differs_in_from_a_known_model() {
        let path = Path::new("mine.toml");
        let parsed = parse(path, "like = \"llama-8b\"\nvocab_size = 32000\n").unwrap();
        let config = Config::parse(path.to_owned(), parsed.keys.unwrap()).unwrap();
        assert_eq!((config.vocab_size, config.block_count), (32000, 32));
        let error = parse(path, "like = \"llama-9b\"").err().unwrap().to_string();
        assert!(error.starts_with("mine.toml: like: ") && error.contains("llama-8b"), "{error}");
    }

    #[test]
    fn an_unknown_shape_is_refused_with_the_closest_ones() {
        let error = load("llama-9b", None).unwrap_err().to_string();
        assert!(error.contains("llama-9b") && error.contains("llama-8b") && error.contains("a .toml file"), "{error}");
        let error = load("dots.llm1", None).unwrap_err().to_string();
        assert!(error.contains("figures are known"), "{error}");
    }
}

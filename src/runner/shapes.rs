//! Shapes of models by name: the configurations that come with the program, or one from a file.
//!
//! A shape holds what a `config.json` holds, under the same keys. Absent: weights, and what a shape costs to run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use quant::convert::config::Config;
use quant::convert::model_name;
use quant::{Error, Result};
use serde_json::{Map, Value};

/// The shapes that come with the program: name and file. A test compares this with the folder.
pub const SHAPES: [(&str, &str); 13] = [
    ("command-r-plus", include_str!("../../configs/models/command-r-plus.toml")),
    ("deepseek-v3", include_str!("../../configs/models/deepseek-v3.toml")),
    ("gpt-oss-120b", include_str!("../../configs/models/gpt-oss-120b.toml")),
    ("llama-1b", include_str!("../../configs/models/llama-1b.toml")),
    ("llama-2-7b", include_str!("../../configs/models/llama-2-7b.toml")),
    ("llama-405b", include_str!("../../configs/models/llama-405b.toml")),
    ("llama-70b", include_str!("../../configs/models/llama-70b.toml")),
    ("llama-8b", include_str!("../../configs/models/llama-8b.toml")),
    ("mixtral-8x7b", include_str!("../../configs/models/mixtral-8x7b.toml")),
    ("qwen2.5-7b", include_str!("../../configs/models/qwen2.5-7b.toml")),
    ("qwen3-30b-a3b", include_str!("../../configs/models/qwen3-30b-a3b.toml")),
    ("random-615m", include_str!("../../configs/models/random-615m.toml")),
    ("smollm2-135m", include_str!("../../configs/models/smollm2-135m.toml")),
];

/// The keys of a `config.json`.
type Keys = Map<String, Value>;

/// A model without its weights.
#[derive(Debug)]
pub struct Shape {
    /// A name for files.
    pub name: String,
    /// Everything else.
    pub config: Config,
}

/// The shape of a name in [`SHAPES`], of a `.toml` file with the same keys, of a `config.json`, or of a folder that has one.
/// `layers`, where given, takes the place of the shape's own number of layers.
///
/// # Errors
/// An unknown name; a file that cannot be read; a key that is missing or not supported.
pub fn load(shape: &str, layers: Option<u32>) -> Result<Shape> {
    let (name, path, mut keys) = match SHAPES.iter().find(|(name, _)| *name == shape) {
        Some((name, text)) => {
            let path = PathBuf::from(format!("configs/models/{name}.toml"));
            ((*name).to_owned(), path.clone(), from_toml(&path, text)?)
        }
        None => read(Path::new(shape))?,
    };
    if let Some(layers) = layers {
        keys.insert("num_hidden_layers".to_owned(), layers.into());
    }
    Ok(Shape { name, config: Config::parse(path, keys)? })
}

/// Name, file and keys of a shape that does not come with the program.
fn read(shape: &Path) -> Result<(String, PathBuf, Keys)> {
    let file = if shape.is_dir() { shape.join("config.json") } else { shape.to_owned() };
    let text = || std::fs::read_to_string(&file).map_err(|e| Error::io(&file, e));
    match file.extension().and_then(OsStr::to_str) {
        Some("toml") => {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let keys = from_toml(&file, &text()?)?;
            Ok((name, file, keys))
        }
        Some("json") => {
            // The file has the same name everywhere; its folder is called as the model is.
            let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let keys = serde_json::from_str(&text()?).map_err(|e| Error::file(&file, e.to_string()))?;
            Ok((model_name(folder), file, keys))
        }
        _ => {
            let names = SHAPES.iter().map(|(name, _)| *name);
            Err(Error::unknown("shape", shape.to_string_lossy(), names.chain(["a .toml file", "a config.json"])))
        }
    }
}

fn from_toml(path: &Path, text: &str) -> Result<Keys> {
    toml::from_str(text).map_err(|e| Error::file(path, e.to_string().trim_end()))
}

#[cfg(test)]
mod tests {
    use quant::synth::Synth;

    use super::*;

    #[test]
    fn every_shape_of_the_folder_is_in_the_table_and_can_be_made() {
        let mut names: Vec<String> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/models"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, SHAPES.map(|(name, _)| name), "SHAPES and configs/models differ");
        for name in names {
            let shape = load(&name, None).unwrap();
            Synth::new(&shape.name, &shape.config, 0).unwrap();
        }
    }

    #[test]
    fn shapes_have_the_published_numbers_of_parameters() {
        // In millions, of the model cards; without the biases of Qwen.
        for (name, expected) in [
            ("llama-1b", 1236),
            ("llama-8b", 8030),
            ("llama-70b", 70554),
            ("llama-2-7b", 6738),
            ("smollm2-135m", 135),
            ("qwen2.5-7b", 7615),
            ("random-615m", 616),
            ("llama-405b", 405_853),
            ("mixtral-8x7b", 46_703),
            ("qwen3-30b-a3b", 30_532),
            ("gpt-oss-120b", 116_829),
            ("deepseek-v3", 671_026),
            ("command-r-plus", 103_811),
        ] {
            let shape = load(name, None).unwrap();
            let count = Synth::new(&shape.name, &shape.config, 0).unwrap().parameter_count();
            assert_eq!((count + 500_000) / 1_000_000, expected, "{name}");
        }
    }

    #[test]
    fn layers_can_be_overridden() {
        assert_eq!(load("llama-8b", Some(3)).unwrap().config.block_count, 3);
    }

    #[test]
    fn an_unknown_shape_is_refused_with_the_known_ones() {
        let error = load("llama-9b", None).unwrap_err().to_string();
        assert!(error.contains("llama-9b") && error.contains("llama-8b, mixtral-8x7b"), "{error}");
    }
}

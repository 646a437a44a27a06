//! Models without their weights: what of a model costs memory and time, by name, from a shape, or from a checkpoint's header.
//!
//! One TOML file a model under `configs/models/`: the keys of a `config.json`, from which all is computed, and a table
//! `[figures]` with names and sources. A model of an architecture that is not known here has figures alone. Absent: quality.

mod figures;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use bitworth_quant::checkpoint::{Checkpoint, Container, Model};
use bitworth_quant::synth::Synth;
use bitworth_quant::{Error, Result};

use super::file_size::FileSize;
use bitworth_quant::spelling::{closest, words};
pub use bitworth_quant::synth::MODELS;
use bitworth_quant::synth::shape;
pub use figures::{KvLayers, ModelFigures};
pub(crate) use figures::{bytes_per_element, is_expert};

/// Words of a model's name that change neither its shape nor its size.
const SILENT: &[&str] = &["instruct", "it", "chat", "text", "meta", "gguf", "hf", "base"];
/// How many names an error gives.
const CLOSEST: usize = 6;

/// Id and names of a model that comes with the program.
struct Names {
    id: &'static str,
    names: Vec<String>,
}

static NAMES: LazyLock<Result<Vec<Names>>> = LazyLock::new(|| {
    let of = |&(id, text): &(&'static str, &str)| {
        let parsed = shape::parse(Path::new(&format!("configs/models/{id}.toml")), text)?;
        let list = |key: &str| match &parsed.figures[key] {
            serde_json::Value::String(name) => vec![name.clone()],
            serde_json::Value::Array(names) => names.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        Ok(Names { id, names: [vec![id.to_owned()], list("name"), list("aliases")].concat() })
    };
    MODELS.iter().map(of).collect()
});

/// What was found before: a shape's tensors are laid out once.
static FOUND: LazyLock<Mutex<HashMap<&'static str, Arc<ModelFigures>>>> = LazyLock::new(Mutex::default);

/// The words by which names are compared.
fn key(name: &str) -> String {
    // In `Command R+` it tells two models apart.
    let mut words = words(&name.replace('+', " plus "));
    words.retain(|word| !SILENT.contains(&word.as_str()));
    words.join(" ")
}

fn names() -> &'static [Names] {
    // A test parses every one of the embedded files.
    NAMES.as_ref().expect("the embedded models are sound")
}

/// Ids and names of the models that come with the program.
pub fn known() -> impl Iterator<Item = (&'static str, &'static str)> {
    names().iter().map(|names| (names.id, names.names.get(1).map_or(names.id, String::as_str)))
}

/// The figures of a model: of one that comes with the program by id, name or alias in any spelling (an owner before a `/` is
/// passed over), of a `.toml` file like those of `configs/models`, or of a checkpoint on disk, GGUF or safetensors.
///
/// # Errors
/// [`Error::Unknown`] with the closest names; what is wrong with a file.
pub fn find(name: &str) -> Result<Arc<ModelFigures>> {
    let without_owner = name.rsplit_once('/').map_or(name, |(_, name)| name);
    for spelled in [name, without_owner] {
        let key = key(spelled);
        // An id as it is written comes before everything that sounds like it.
        let exact = names().iter().find(|n| n.id == spelled);
        let found = exact.or_else(|| names().iter().find(|n| n.names.iter().any(|name| self::key(name) == key)));
        if let Some(found) = found {
            return embedded(found.id);
        }
    }
    let path = Path::new(name);
    if path.extension().is_some_and(|e| e == "toml") {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        return ModelFigures::parse(path, &text).map(Arc::new);
    }
    if path.exists() {
        return open(path).map(Arc::new);
    }
    let all = names().iter().flat_map(|names| names.names.iter().map(String::as_str));
    let known =
        closest(name, all, CLOSEST).into_iter().chain(["...", "a .toml file like those of configs/models", "a checkpoint"]);
    Err(Error::unknown("model", name, known))
}

fn embedded(id: &'static str) -> Result<Arc<ModelFigures>> {
    // Whoever panicked while holding it had put in whole values.
    let mut found = FOUND.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(figures) = found.get(id) {
        return Ok(Arc::clone(figures));
    }
    let (path, parsed) = shape::embedded(id)?.expect("the id stands in the table");
    let figures = Arc::new(ModelFigures::of_parsed(&path, id, parsed)?);
    found.insert(id, Arc::clone(&figures));
    Ok(figures)
}

/// The figures of a checkpoint on disk, from its headers.
fn open(path: &Path) -> Result<ModelFigures> {
    match Checkpoint::open(path) {
        Ok(checkpoint) => Ok(ModelFigures::of_checkpoint(checkpoint)),
        // A GGUF file of an architecture that is not known here has a header all the same.
        Err(error) => match Container::open(path) {
            Ok(container) => ModelFigures::of_container(container).map_err(|_| error),
            // Weights of a directory that are missing, or in an encoding that is not read, change nothing of its shape.
            Err(_) => of_config(path).map_err(|_| error),
        },
    }
}

/// The figures of a directory by its configuration alone.
fn of_config(path: &Path) -> Result<ModelFigures> {
    let shape::Shape { name, config } = shape::of_folder(path)?;
    let figures = ModelFigures::of_synth(&name, Synth::new(&name, &config, 0)?, &config)?;
    Ok(ModelFigures { source: "config.json".into(), evidence: "read".into(), ..figures })
}

/// A model that its figures keep, for plans.
type Planned = Arc<dyn Model + Send + Sync>;

/// What was computed before, by the name of the recipe.
pub(super) type Sizes = Mutex<HashMap<String, Arc<FileSize>>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_of_the_folder_is_in_the_table_and_sound() {
        let mut names: Vec<String> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/models"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| path.file_name().unwrap().to_string_lossy().trim_end_matches(".toml").to_owned())
            .collect();
        names.sort();
        let table: Vec<&str> = MODELS.iter().map(|(id, _)| *id).collect();
        assert_eq!(names, table, "MODELS and configs/models differ");
        let mut seen = HashMap::new();
        for names in super::names() {
            let figures = find(names.id).unwrap();
            assert_eq!(figures.id, names.id);
            assert!(!figures.source.is_empty() && !figures.evidence.is_empty(), "{} has no source", names.id);
            let layers: u32 = figures.kv.iter().map(|kv| kv.layers).sum();
            assert!(layers > 0 && layers <= figures.layers, "{}", names.id);
            for name in &names.names {
                assert_eq!(seen.insert(key(name), names.id).unwrap_or(names.id), names.id, "{name} names two models");
                assert_eq!(find(name).unwrap().id, names.id, "{name}");
            }
        }
    }

    #[test]
    fn models_are_found_in_free_spelling() {
        for (name, id) in [
            ("Llama-3-8B", "llama-3-8b"),
            ("llama 3 8b instruct", "llama-3-8b"),
            ("meta-llama/Llama-3.1-8B-Instruct", "llama-8b"),
            ("DeepSeek-V3 / R1", "deepseek-v3"),
            ("deepseek-r1", "deepseek-v3"),
            ("gpt_oss_120b", "gpt-oss-120b"),
            ("Command R (35B)", "command-r"),
            ("Mistral-Small-3.1-24B", "mistral-small-3.1-24b"),
            ("Gemma-3-12B", "gemma-3-12b"),
            ("Llama-4-Scout", "llama-4-scout"),
        ] {
            assert_eq!(find(name).unwrap_or_else(|e| panic!("{name}: {e}")).id, id, "{name}");
        }
        let error = find("lama-3-8b").unwrap_err().to_string();
        assert!(error.contains("unknown model \"lama-3-8b\"") && error.contains("llama-3-8b"), "{error}");
        assert!(find("").is_err() && find("nowhere/none.toml").unwrap_err().to_string().contains("nowhere"));
    }

    #[test]
    fn shapes_have_the_published_numbers() {
        // Weights of the published files, as llama-bench prints them; millions of weights that take part in a token; bytes of
        // keys and values a token at f16, by hand from the configurations.
        let mut wrong = Vec::new();
        for (name, params, active, kv) in [
            // Dense: all of them.
            ("llama-1b", "1.24 B", 1_236, 32_768),
            ("llama-8b", "8.03 B", 8_030, 131_072),
            ("llama-70b", "70.55 B", 70_554, 327_680),
            ("llama-405b", "405.85 B", 405_853, 516_096),
            ("llama-2-7b", "6.74 B", 6_738, 524_288),
            ("smollm2-135m", "134.52 M", 135, 23_040),
            ("qwen2.5-7b", "7.62 B", 7_616, 57_344),
            ("command-r-plus", "103.81 B", 103_811, 262_144),
            ("command-r", "34.98 B", 34_981, 1_310_720),
            ("gemma-3-27b", "27.01 B", 27_009, 507_904),
            ("gemma-4-31b", "30.70 B", 30_697, 901_120),
            ("qwen3.5-0.8b", "752.39 M", 752, 12_288),
            ("qwen3.5-9b", "8.95 B", 8_954, 32_768),
            ("qwen3.5-27b", "26.90 B", 26_896, 65_536),
            ("devstral-small-2-24b", "23.57 B", 23_572, 163_840),
            ("lfm2-1.2b", "1.17 B", 1_170, 12_288),
            ("granite-4.0-h-micro", "3.19 B", 3_191, 8_192),
            ("devstral-2-123b", "125.03 B", 125_026, 360_448),
            ("gemma-3-270m", "268.10 M", 268, 18_432),
            ("qwen3.5-4b", "4.21 B", 4_206, 32_768),
            ("phi-4-mini", "3.84 B", 3_836, 131_072),
            // What takes part is what the publisher says.
            ("gemma-4-e2b", "4.65 B", 2_300, 18_432),
            ("gemma-4-e4b", "7.52 B", 4_500, 57_344),
            ("gemma-4-26b-a4b", "25.23 B", 3_800, 225_280),
            ("qwen3.8-27b", "27.32 B", 26_900, 65_536),
            ("qwen3-30b-a3b", "30.53 B", 3_350, 98_304),
            ("gpt-oss-120b", "116.83 B", 5_130, 73_728),
            ("deepseek-v3", "671.03 B", 37_000, 70_272),
            ("glm-4.5", "358.34 B", 32_000, 376_832),
            ("glm-4.5-air", "110.47 B", 12_000, 188_416),
            ("llama-4-scout", "107.77 B", 17_000, 196_608),
            ("llama-4-maverick", "400.71 B", 17_000, 196_608),
            ("nemotron-3-nano-30b-a3b", "31.58 B", 3_580, 6_144),
            ("qwen3-coder-480b-a35b", "480.15 B", 35_000, 253_952),
            ("minimax-m2", "228.69 B", 10_000, 253_952),
            ("kimi-k2", "1026.41 B", 32_000, 70_272),
            // Counts, of what publishers round: parameters of transformers' class (5.24) made of the same configuration, and of
            // experts as many as a token uses.
            ("mixtral-8x7b", "46.70 B", 12_880, 131_072),
            ("qwen3.5-122b-a10b", "122.11 B", 9_771, 24_576),
            ("qwen3-next-80b-a3b", "79.67 B", 3_875, 24_576),
            ("glm-4.7-flash", "29.94 B", 3_897, 54_144),
            ("qwen3.5-35b-a3b", "34.66 B", 3_455, 20_480),
            ("qwen3-coder-next-80b-a3b", "79.67 B", 3_875, 24_576),
            ("hunyuan-a13b", "80.39 B", 12_747, 131_072),
            ("lfm2-8b-a1b", "8.34 B", 1_558, 12_288),
            ("granite-4.0-h-tiny", "6.94 B", 1_465, 8_192),
            ("granite-4.0-h-small", "32.21 B", 8_803, 16_384),
            // Of our own, and so counted in full.
            ("random-615m", "615.56 M", 616, 11_264),
        ] {
            let figures = find(name).unwrap();
            let [billions, millions] = [1e9, 1e6].map(|unit| figures.params as f64 / unit);
            let has = if billions < 1.0 { format!("{millions:.2} M") } else { format!("{billions:.2} B") };
            let takes_part = (figures.active_params + 500_000) / 1_000_000;
            let bytes = figures.kv_bytes_per_token(bitworth_quant::DType::F16);
            if has != params || takes_part != active || bytes != f64::from(kv) {
                wrong.push(format!("{name}: {has}, {takes_part} and {bytes}, not {params}, {active} and {kv}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn what_a_token_sees_is_bounded_by_windows() {
        let gemma = find("gemma-3-1b").unwrap();
        // 22 of 26 blocks see 512 tokens; each keeps 2 x 256 numbers a token.
        assert_eq!(gemma.kv_bytes_read(2048, bitworth_quant::DType::F16), 2.0 * 512.0 * (22.0 * 512.0 + 4.0 * 2048.0));
        assert_eq!(
            gemma.kv_bytes_read(100, bitworth_quant::DType::F16),
            100.0 * gemma.kv_bytes_per_token(bitworth_quant::DType::F16)
        );
        let ratio = gemma.kv_bytes_per_token(bitworth_quant::DType::Q8_0) / gemma.kv_bytes_per_token(bitworth_quant::DType::F16);
        assert_eq!(ratio, 8.5 / 16.0);
    }

    #[test]
    fn a_window_that_llama_cpp_makes_no_use_of_bounds_nothing() {
        let phi = find("phi-3-mini-4k").unwrap();
        // It states a window of 2047 tokens; each of 32 blocks keeps 2 x 32 x 96 numbers a token.
        assert_eq!(phi.kv_bytes_read(4096, bitworth_quant::DType::F16), 2.0 * 4096.0 * 32.0 * (2.0 * 32.0 * 96.0));
    }

    #[test]
    fn figures_without_a_shape_are_checked() {
        let check = |change: (&str, &str), expected: &[&str]| {
            let text = "[figures]\narchitecture = \"new\"\nparams_b = 10.0\nactive_params_b = 1.0\nhidden = 64\nlayers = 2\n\
                 heads = 4\nkv_heads = 2\nhead_dim = 16\nvocab = 1000\nmax_context = 4096\nkv = [{ layers = 2, elements = 64 \
                 }]\n";
            let changed = text.replace(change.0, change.1);
            assert_ne!(changed, text, "{}", change.0);
            let error = ModelFigures::parse(Path::new("mine.toml"), &changed).unwrap_err().to_string();
            assert!(error.starts_with("mine.toml: ") && expected.iter().all(|part| error.contains(part)), "{error}");
            ModelFigures::parse(Path::new("mine.toml"), text).unwrap();
        };
        check(("params_b = 10.0\n", ""), &["figures.params_b: is missing"]);
        check(("params_b = 10.0\n", "params_b = -10.0\n"), &["figures.params_b: is -10"]);
        check(("active_params_b = 1.0", "active_params_b = 11.0"), &["figures.active_params_b: is 11", "at most at 10"]);
        check(("vocab = 1000", "vocab = 0"), &["figures.vocab: is 0"]);
        check(("layers = 2, ", "layers = 0, "), &["figures.kv.layers: is 0"]);
        check(("kv = [{ layers = 2, elements = 64 }]", ""), &["figures.kv: is missing"]);
        check(("hidden = 64", "hiden = 64"), &["figures", "hiden"]);
    }
}

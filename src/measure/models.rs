//! Models and lanes by the names users give them: a path, a model on the hub, or `@recipe` for the reference quantized on the
//! fly.

use std::path::PathBuf;
use std::sync::Arc;

use bitworth_quant::checkpoint::{Model, open_model};
use bitworth_quant::message::{Command, Message};
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::{Checkpoint, Imatrix, Plan, Recipe, content, kind};

use super::Watch;
use super::error::{At, Error, Result};
use bitworth_engine::backend::Arithmetic;
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::Lane;
use bitworth_eval::demo;
use bitworth_eval::job::free_name;

/// Opens MODEL: a Hugging Face directory, a GGUF file, `hf:OWNER/NAME` on the hub, `demo:PATH` inside the embedded
/// demo world, or `demo` for its model.
///
/// # Errors
/// As [`Checkpoint::open`] and `bitworth_hub::fetch`; a demo path that does not exist.
pub fn open(model: &str, watch: Watch) -> Result<Arc<Checkpoint>> {
    Ok(Arc::new(Checkpoint::open(&fetched_path(model, watch)?)?))
}

/// Opens MODEL to convert or to quantize it, which works for GGUF files of any architecture.
///
/// # Errors
/// As [`open`].
pub fn open_to_quantize(model: &str, watch: Watch) -> Result<Box<dyn Model>> {
    Ok(open_model(&fetched_path(model, watch)?)?)
}

/// Where MODEL stands, for those who look at files that hold no model, too.
///
/// # Errors
/// As [`open`], but for those of the model itself.
pub fn locate(model: &str, watch: Watch) -> Result<PathBuf> {
    fetched_path(model, watch)
}

/// Whether MODEL is no path: it stands on the hub or in the embedded demo world.
pub fn is_elsewhere(model: &str) -> bool {
    model.starts_with(demo::HUB_PREFIX) || model.starts_with(demo::PREFIX) || demo::is_model(model)
}

/// Where MODEL stands, which may have to be fetched.
fn fetched_path(model: &str, watch: Watch) -> Result<PathBuf> {
    if model.starts_with(demo::HUB_PREFIX) {
        return fetch(model, watch);
    }
    if demo::is_model(model) {
        return Ok(demo::resolve("demo:demo-model", &demo_dir())?);
    }
    let path = demo::resolve(model, &demo_dir())?;
    match on_the_hub(model).filter(|_| !path.exists()) {
        Some(name) => {
            Err(Error::unfit(format!("{model}: there is no such file or folder; a model on the hub is written {name}")))
        }
        None => Ok(path),
    }
}

/// How a name that other programs take for a model on the hub is written here: `OWNER/NAME`, with a type behind a colon, and the
/// address of a page.
fn on_the_hub(model: &str) -> Option<String> {
    let rest = model.strip_prefix("https://").or_else(|| model.strip_prefix("http://"));
    let is_address = rest.is_some() || ["huggingface.co/", "hf.co/"].iter().any(|host| model.starts_with(host));
    let name = match rest.unwrap_or(model).split_once('/') {
        Some(("huggingface.co" | "www.huggingface.co" | "hf.co", path)) if is_address => path,
        _ if is_address => return None,
        _ => model,
    };
    let mut parts = name.trim_end_matches('/').split('/');
    let (owner, last) = (parts.next()?, parts.next()?);
    let (name, quantized) = last.split_once(':').map_or((last, None), |(name, quant)| (name, Some(quant)));
    let plain = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(known)
    };
    // More parts are of a page's address, or of a path.
    if !plain(owner) || !plain(name) || (parts.next().is_some() && !is_address) {
        return None;
    }
    Some(match quantized {
        Some(_) => format!("hf:{owner}/{name}/FILE.gguf, with the name of the file of that type"),
        None => format!("hf:{owner}/{name}"),
    })
}

#[cfg(feature = "hub")]
fn fetch(model: &str, watch: Watch) -> Result<PathBuf> {
    use bitworth_hub::{ModelName, Settings};
    let stop = || watch.stopped();
    let name = ModelName::parse(model)?;
    Ok(bitworth_hub::fetch(&name, &Settings::from_env()?, bitworth_hub::FetchWatch { progress: watch.progress, stop: &stop })?)
}

#[cfg(not(feature = "hub"))]
fn fetch(model: &str, _: Watch) -> Result<PathBuf> {
    Err(Error::unfit(format!(
        "{model}: this program was built without the feature `hub`, which fetches models; give a folder or a file"
    )))
}

/// The reference as a lane, named by the type most of its weights have as they are stored.
pub fn reference(checkpoint: &Arc<Checkpoint>) -> Lane {
    let variant = Variant::Stored(checkpoint.clone());
    let name = match checkpoint.published().and_then(|published| published.types.first()) {
        Some((name, _)) => name.clone(),
        None => variant.types().first().map_or("reference", |(dtype, _)| dtype.name()).to_lowercase(),
    };
    Lane { name, variant, arithmetic: Arithmetic::F32 }
}

/// The name of the recipe that made a model, as its file says; of one that says none, the type most of its weights have.
pub fn recipe_name(checkpoint: &Arc<Checkpoint>) -> String {
    Recipe::of_file_type(checkpoint.metadata()).map_or_else(|| reference(checkpoint).name, |recipe| recipe.name.clone())
}

/// The lane of a candidate: `@recipe` applied to `reference`, with `imatrix` where there is one, or a model of its own.
///
/// # Errors
/// An unknown recipe, a model that cannot be opened; [`Error::OtherModel`] for one of other words.
pub fn candidate(reference: &Arc<Checkpoint>, name: &str, imatrix: Option<&Arc<Imatrix>>, watch: Watch) -> Result<Lane> {
    let Some(recipe) = name.strip_prefix('@') else {
        let checkpoint = open(name, watch)?;
        check_vocabulary(reference, &checkpoint)?;
        return Ok(Lane {
            name: checkpoint.name().to_owned(),
            variant: Variant::Stored(checkpoint),
            arithmetic: Arithmetic::F32,
        });
    };
    planned(reference, name, &Recipe::find(recipe)?, imatrix.map_or(Importance::None, Importance::There))
}

/// What a lane on the fly knows of the importance of weights.
#[derive(Debug, Clone, Copy)]
pub enum Importance<'a> {
    /// Nothing.
    None,
    /// This.
    There(&'a Arc<Imatrix>),
    /// It is yet to be collected: the lane is to be planned again.
    Awaited,
}

/// The lane `name`: a recipe applied to `reference`.
///
/// # Errors
/// A recipe that the model cannot have, or that is of use only with an importance matrix where there will be none.
pub fn planned(reference: &Arc<Checkpoint>, name: &str, recipe: &Arc<Recipe>, importance: Importance<'_>) -> Result<Lane> {
    let imatrix = match importance {
        Importance::There(imatrix) => Some(imatrix.clone()),
        Importance::None | Importance::Awaited => None,
    };
    let planned = Plan::of(reference.as_ref(), recipe, &PlanOptions { imatrix, ..PlanOptions::default() });
    let planned = planned.and_then(|plan| match importance {
        // One that is yet to be collected covers every matrix.
        Importance::Awaited => Ok(plan),
        Importance::None | Importance::There(_) => plan.check_importance(reference.path()).map(|()| plan),
    });
    // A lane on the fly has no options but the matrix.
    let place = || Message::from(format!("{name} (a file that ")).then(Command::Quantize);
    let plan = planned.at(|| place().then(" makes can be given in its place)"))?;
    Ok(Lane { name: name.to_owned(), variant: Variant::Planned(reference.clone(), Arc::new(plan)), arithmetic: Arithmetic::F32 })
}

/// A quantization has its reference's architecture; another architecture is another model, whatever its tokens.
///
/// # Errors
/// [`Error::OtherModel`] where they differ.
pub fn check_architecture(reference: &Checkpoint, candidate: &Checkpoint) -> Result<()> {
    let (ours, theirs) = (candidate.arch().name, reference.arch().name);
    if ours == theirs {
        return Ok(());
    }
    let what = format!(
        "{}: its architecture is {ours}, but that of {} is {theirs}; compare a model with quantizations of its own",
        candidate.path().display(),
        reference.path().display()
    );
    Err(Error::OtherModel { what: what.into() })
}

/// Two models can be compared token by token only where a token means the same in both.
fn check_vocabulary(reference: &Checkpoint, candidate: &Checkpoint) -> Result<()> {
    // A model without a readable tokenizer can still be scored; then only the size of the vocabulary is compared.
    let (Ok(a), Ok(b)) = (reference.vocab(), candidate.vocab()) else { return Ok(()) };
    match (0..a.tokens.len().max(b.tokens.len())).find(|&i| a.tokens.get(i) != b.tokens.get(i)) {
        None => Ok(()),
        Some(id) => {
            let text = |tokens: &[String]| tokens.get(id).map_or_else(|| "missing".to_owned(), |text| format!("{text:?}"));
            let what = format!(
                "{}: token {id} is {}, but {} in {}; they cannot be compared token by token",
                candidate.path().display(),
                text(&b.tokens),
                text(&a.tokens),
                reference.path().display()
            );
            Err(Error::OtherModel { what: what.into() })
        }
    }
}

/// Makes lanes of one name distinct, so that records and tables are unambiguous.
pub fn number_duplicates(lanes: &mut [Lane]) {
    for i in 1..lanes.len() {
        lanes[i].name = free_name(&lanes[i].name, '#', |name| lanes[..i].iter().any(|lane| lane.name == name));
    }
}

/// Bytes of the file or files that hold a checkpoint's weights.
///
/// # Errors
/// A file that went away.
pub fn stored_bytes(checkpoint: &Checkpoint) -> Result<u64> {
    let size = |path: &PathBuf| std::fs::metadata(path).map(|m| m.len()).map_err(|e| Error::io(path, e));
    checkpoint.files().iter().map(size).sum()
}

/// Where the embedded demo world is put on the disk: the user's cache folder.
fn demo_dir() -> PathBuf {
    content::cache_folder().join(concat!("demo-", env!("CARGO_PKG_VERSION")))
}

/// Reads a text file; `demo:PATH` reads the embedded demo world. Bytes that are not UTF-8 are taken as [`kind::prose`] takes
/// them.
///
/// # Errors
/// A file that cannot be read, is empty, or is no text in UTF-8.
pub fn read_text(path: &str) -> Result<String> {
    let path = demo::resolve(path, &demo_dir())?;
    let text = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
    let (text, broken) = kind::prose(text).map_err(|what| bitworth_quant::Error::file(&path, what))?;
    if broken > 0 {
        let path = path.display();
        tracing::warn!("{path}: bytes that are not UTF-8 are read as U+FFFD each, as llama.cpp does; it has {broken} of them");
    }
    if text.is_empty() {
        return Err(Error::unfit(format!("{}: the text is empty", path.display())));
    }
    Ok(text)
}

/// The name of the file that a recipe makes of a checkpoint: `<model>-Q4_K_M.gguf`.
pub fn file_name(checkpoint: &Checkpoint, recipe: &Recipe) -> String {
    format!("{}-{}.gguf", checkpoint.name(), recipe.file_stem_suffix())
}

#[cfg(test)]
mod tests {
    use super::on_the_hub;

    #[test]
    fn names_as_other_programs_take_them_are_spelled_out() {
        let check = |given: &str, expected: Option<&str>| assert_eq!(on_the_hub(given).as_deref(), expected, "{given}");
        check("org/name", Some("hf:org/name"));
        check("https://huggingface.co/org/name", Some("hf:org/name"));
        check("https://huggingface.co/org/name/tree/main", Some("hf:org/name"));
        check("hf.co/org/name", Some("hf:org/name"));
        check("org/name:Q4_K_M", Some("hf:org/name/FILE.gguf, with the name of the file of that type"));
        for path in ["./org/name", "../name", "/org/name", "a/b/c", "model.gguf", "~/x", "https://example.org/a/b"] {
            check(path, None);
        }
    }
}

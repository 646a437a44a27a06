//! What the commands that write GGUF files share: their options, where the files go, and what is said of them afterwards.
//! Absent: choosing types (see `quantize`).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bitworth_quant::atomic_file::AtomicFile;
use bitworth_quant::quantize::{Output, QuantizeOptions, Source, Split, Written};
use bitworth_quant::{DType, Recipe};
use clap::Args;
use serde_json::{Value, json};

use super::output;
use super::session::Session;
use super::size::{MEMORY_HELP, parse_file_size, parse_memory};
use bitworth_report::tensors;

/// How files are written.
#[derive(Args)]
pub struct WriteArgs {
    // As much as is good where none is given: 256M for quantizing, what it takes for fitting.
    #[arg(
        long,
        value_parser = parse_memory,
        value_name = "SIZE",
        help = format!("{MEMORY_HELP} [default: 256M; with --fit what it takes]")
    )]
    pub max_memory: Option<u64>,
    /// Take up the unfinished files of an earlier run of the same command, and leave them when this one ends early.
    #[arg(long)]
    pub resume: bool,
    /// Cut files into parts with at most so many bytes of tensors, as 5G or 500M (thousands, as llama.cpp counts them).
    #[arg(long, value_parser = parse_file_size, value_name = "SIZE")]
    split_max_size: Option<u64>,
    /// Cut files into parts with at most so many tensors.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    split_max_tensors: Option<u64>,
    /// The first part holds the metadata and no tensor.
    #[arg(long)]
    no_tensor_first_split: bool,
    /// Say the SHA-256 of each file.
    #[arg(long)]
    pub sha256: bool,
    /// Write what each tensor lost (type, reason, RMSE, largest error, cosine, weighted error, time) to this parquet file, and
    /// where weights are fitted what that chose and gained.
    #[arg(long, value_name = "FILE.parquet")]
    pub report: Option<PathBuf>,
    /// Write weights that are infinite or not a number, too, which otherwise end the run.
    #[arg(long)]
    allow_non_finite: bool,
}

impl WriteArgs {
    /// How outputs are cut, `Split::None` where nothing is asked for.
    pub fn split(&self) -> Split {
        if self.split_max_size.is_none() && self.split_max_tensors.is_none() {
            return Split::None;
        }
        Split::Limits {
            max_bytes: self.split_max_size,
            max_tensors: self.split_max_tensors.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            metadata_alone: self.no_tensor_first_split,
        }
    }

    /// Refuses what is not done where weights are fitted to a text.
    ///
    /// # Errors
    /// The option that was given.
    pub fn refuse_with_fit(&self) -> Result<()> {
        if self.allow_non_finite {
            bail!("--allow-non-finite does not go with --fit: what goes into matrices must be numbers");
        }
        Ok(())
    }

    /// Makes `outputs` and says what was made; `document` makes the JSON document of one entry per output: `recipe`, `file`,
    /// `bytes`, `bpw`, and where there are any `parts` and `sha256`.
    ///
    /// # Errors
    /// As [`bitworth_quant::quantize::quantize`]; a report that cannot be written.
    pub fn write(
        &self,
        source: &dyn Source,
        outputs: &[Output],
        session: &Session,
        document: impl FnOnce(Vec<Value>) -> Value,
    ) -> Result<()> {
        let mut folders = NewFolders::default();
        for folder in outputs.iter().filter_map(|output| output.path.parent()) {
            folders.create("--out", folder)?;
        }
        self.check_report(outputs)?;
        Output::notes(outputs).iter().for_each(|note| session.note(note));
        let begin = Instant::now();
        let clock = || begin.elapsed().as_secs_f64();
        let options = QuantizeOptions::default();
        let options = QuantizeOptions {
            max_memory: self.max_memory.unwrap_or(options.max_memory),
            allow_non_finite: self.allow_non_finite,
            resume: self.resume,
            sha256: self.sha256,
            report: self.report.is_some().then_some(&clock),
            note: &|text| session.note(text),
            ..options
        };
        let watch = session.watch();
        let written = bitworth_quant::quantize::quantize(source, outputs, &options, watch.stop, watch.progress)?;
        self.write_report(outputs, &written)?;
        folders.keep();
        let rows: Vec<_> = written.iter().zip(outputs).collect();
        let entries = rows.iter().map(|(written, output)| entry(written, output)).collect();
        session.print(&document(entries), || rows.iter().map(|(written, output)| lines(written, output)).collect())
    }

    /// The report must be possible to write and be none of the files: known now, and not when hours of work are done.
    ///
    /// # Errors
    /// Where it is not so.
    pub fn check_report(&self, outputs: &[Output]) -> Result<()> {
        let Some(report) = &self.report else { return Ok(()) };
        check_report(report)?;
        let place = std::path::absolute(report).with_context(|| report.display().to_string())?;
        for output in outputs {
            if output.files()?.iter().any(|(path, _)| std::path::absolute(path).is_ok_and(|path| path == place)) {
                bail!("--report {}: is one of the files to be made", report.display());
            }
        }
        Ok(())
    }

    /// Writes the report where one is asked for.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_report(&self, outputs: &[Output], written: &[Written]) -> Result<()> {
        let Some(path) = &self.report else { return Ok(()) };
        let names: Vec<&str> = outputs.iter().map(|output| output.plan.recipe.name.as_str()).collect();
        Ok(tensors::parquet(path, &names, written, &output::flag)?)
    }
}

/// Folders made for files; those that are empty go away again, unless the files were made.
#[derive(Default)]
pub struct NewFolders(Vec<PathBuf>);

impl NewFolders {
    /// Makes the `folder` of an option and those above it, where they are missing.
    ///
    /// # Errors
    /// A file of that name, a place that cannot be written.
    pub fn create(&mut self, option: &str, folder: &Path) -> Result<()> {
        if folder.is_file() {
            let or_file = if option == "--out" { ", or a file name that ends with .gguf" } else { "" };
            bail!("{option} {}: is a file; give a folder{or_file}", folder.display());
        }
        let missing = folder.ancestors().filter(|f| !f.as_os_str().is_empty()).take_while(|f| !f.exists());
        let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        for folder in missing.into_iter().rev() {
            std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
            self.0.push(folder);
        }
        Ok(())
    }

    /// They stay.
    pub fn keep(&mut self) {
        self.0.clear();
    }
}

impl Drop for NewFolders {
    fn drop(&mut self) {
        for folder in self.0.iter().rev() {
            // One that has something in it (unfinished files to be resumed) stays.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Whether a file is a parquet file, by its first bytes.
pub fn is_parquet(path: &Path) -> bool {
    let mut magic = [0; 4];
    path.is_file() && File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"PAR1"
}

/// An output may replace an earlier one of its kind, and neither what it is made from nor anything else.
///
/// # Errors
/// `out` is one of `inputs`, or there and not of the `kind` that `is_one` knows.
pub fn check_replaceable<'a>(
    out: &Path,
    inputs: impl Iterator<Item = &'a Path>,
    kind: &str,
    is_one: impl Fn(&Path) -> bool,
) -> Result<()> {
    let Ok(place) = out.canonicalize() else { return Ok(()) };
    if inputs.filter_map(|input| input.canonicalize().ok()).any(|input| input == place) {
        bail!("{}: is a file to be read for this; write to another name", out.display());
    }
    if !is_one(&place) {
        bail!("{}: is there and no {kind}; remove it or write to another name", out.display());
    }
    Ok(())
}

/// The same, and it can be written: known now, and not when hours of work are done.
///
/// # Errors
/// As [`check_replaceable`]; a place that cannot be written.
pub fn check_output<'a>(
    out: &Path,
    inputs: impl Iterator<Item = &'a Path>,
    kind: &str,
    is_one: impl Fn(&Path) -> bool,
) -> Result<()> {
    check_replaceable(out, inputs, kind, is_one)?;
    check_writable(out)
}

/// That a file can be written here.
///
/// # Errors
/// A place that cannot be written.
pub fn check_writable(path: &Path) -> Result<()> {
    drop(AtomicFile::create(path)?);
    Ok(())
}

/// A report may replace an earlier one and nothing else, and must be possible to write.
fn check_report(path: &Path) -> Result<()> {
    if path.exists() && !is_parquet(path) {
        bail!("--report {}: is there and no parquet file; remove it or write to another name", path.display());
    }
    check_writable(path)
}

/// Of one output, for a program.
pub fn entry(written: &Written, output: &Output) -> Value {
    let plan = &output.plan;
    let mut entry = json!({
        "recipe": plan.recipe.name, "file": written.path, "bytes": written.bytes, "bpw": plan.bits_per_weight(),
    });
    if written.files.len() > 1 {
        entry["parts"] = json!(written.files);
    } else if let Some(sha256) = written.files.first().and_then(|file| file.sha256.as_ref()) {
        entry["sha256"] = json!(sha256);
    }
    entry
}

/// Of one output, for a person. The size is that of its files, with metadata and padding; bits per weight are of the tensors
/// alone.
pub fn lines(written: &Written, output: &Output) -> String {
    let (plan, mib) = (&output.plan, written.bytes as f64 / (1 << 20) as f64);
    let (files, parts) = match written.files.len() {
        0 | 1 => ("1 file".to_owned(), String::new()),
        count => (format!("{count} files"), format!(" and {} more", count - 1)),
    };
    let (name, bpw, path) = (&plan.recipe.name, plan.bits_per_weight(), written.path.display());
    let mut out = format!("{name:8} {mib:10.1} MiB in {files}  {bpw:5.2} bits per weight in tensors  {path}{parts}\n");
    for file in &written.files {
        if let Some(sha256) = &file.sha256 {
            out += &format!("{sha256}  {}\n", file.path.display());
        }
    }
    out
}

/// All recipes and types, for the end of a help text.
pub fn names_help() -> String {
    let list = |names: Vec<String>| names.join(" ");
    let recipes = list(Recipe::all().iter().map(|recipe| recipe.name.clone()).collect());
    let types = list(DType::ALL.iter().map(|dtype| dtype.name().to_lowercase()).collect());
    format!("Recipes: {recipes}\nTypes: {types}")
}

/// The recipes of those names, each asked for once.
///
/// # Errors
/// An unknown name; two recipes of one name.
pub fn recipes(names: &[String]) -> Result<Vec<std::sync::Arc<Recipe>>> {
    let recipes = names.iter().map(|name| Recipe::find(name.trim())).collect::<Result<Vec<_>, _>>()?;
    for (i, recipe) in recipes.iter().enumerate() {
        if recipes[..i].iter().any(|r| r.name == recipe.name) {
            bail!("--to names {} twice", recipe.name);
        }
    }
    Ok(recipes)
}

/// Where the file of a recipe goes: `out` itself, where one recipe is asked for and `out` ends with `.gguf`; else
/// `out/STEM-RECIPE.gguf`.
///
/// # Errors
/// Several recipes for one file.
pub fn output_paths(out: &Path, stem: &str, recipes: &[std::sync::Arc<Recipe>]) -> Result<Vec<PathBuf>> {
    let is_file = out.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) && !out.is_dir();
    if is_file && recipes.len() > 1 {
        bail!("--out {}: {} recipes need a folder, not a file", out.display(), recipes.len());
    }
    let place = |recipe: &std::sync::Arc<Recipe>| match is_file {
        true => out.to_owned(),
        false => out.join(format!("{stem}-{}.gguf", recipe.file_stem_suffix())),
    };
    Ok(recipes.iter().map(place).collect())
}

//! What the tests share: where the golden data is, how the program is run, how tables are read.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bitworth::engine::adapter::GpuSelector;
use bitworth::engine::gpu::Gpu;
use bitworth_quant::progress::{Progress, Unit};
use serde_json::Value;

use crate::skip::skip;

/// A file or folder of the golden data beside the repository (`../shared`, or `BITWORTH_SHARED`). Where there is none the caller
/// skips and says so; in CI that is a failure, because nothing may be skipped there.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("BITWORTH_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    skip("golden data (../shared, or what BITWORTH_SHARED names)", &format!("{} is missing", found.display()));
    None
}

/// Says what a test measured.
#[allow(clippy::print_stderr)]
pub fn say(text: &str) {
    eprintln!("{text}");
}

/// Any GPU, a software adapter if there is no other. Without one the test fails, unless `BITWORTH_SKIP_GPU=1` asks to leave
/// GPU tests out; in CI even that fails.
pub fn gpu() -> Option<Gpu> {
    match Gpu::open(GpuSelector::Any) {
        Ok(gpu) => Some(gpu),
        Err(e) if std::env::var_os("BITWORTH_SKIP_GPU").is_some_and(|v| v == "1") => {
            skip("a GPU", &e.to_string());
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// The program in a folder, with its copy of the demo world in a folder of the test's own.
pub fn bitworth(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitworth"));
    command.current_dir(dir).env("XDG_CACHE_HOME", dir.join("cache")).env_remove("RUST_LOG");
    if let Some(folder) = shader_cache() {
        command.env("MESA_SHADER_CACHE_DIR", folder);
    }
    command
}

/// Where Mesa keeps the kernels that it compiled. All programs that tests start share it: a software adapter takes several times
/// as long to compile them as the tests themselves take, and a kernel is found by its hash.
fn shader_cache() -> Option<PathBuf> {
    let own = ["MESA_SHADER_CACHE_DIR", "XDG_CACHE_HOME"].into_iter().find_map(std::env::var_os);
    own.map(PathBuf::from).or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")))
}

/// Runs the program to its end, without a network.
pub fn run(dir: &Path, args: &[&str]) -> Output {
    bitworth(dir).args(args).env("HF_HUB_OFFLINE", "1").output().unwrap()
}

/// The JSON document that a command prints.
#[track_caller]
pub fn json(dir: &Path, args: &[&str]) -> Value {
    let output = run(dir, &[args, &["--json", "--quiet"]].concat());
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("stdout holds one JSON document and nothing else")
}

/// A parquet file as rows of text, for comparing.
pub struct Table(polars::prelude::DataFrame);

/// Reads a parquet file.
pub fn parquet(path: &Path) -> Table {
    use polars_io::SerReader;
    Table(polars_io::prelude::ParquetReader::new(std::fs::File::open(path).unwrap()).finish().unwrap())
}

impl Table {
    /// The columns.
    pub fn names(&self) -> Vec<String> {
        self.0.get_column_names().iter().map(ToString::to_string).collect()
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.0.height()
    }

    /// Row `i`, every cell in full precision.
    pub fn row(&self, i: usize) -> Vec<String> {
        self.0.columns().iter().map(|column| format!("{:?}", column.get(i).unwrap())).collect()
    }
}

/// Whether a golden model is not read yet (`quant/tests/it/convert.rs` holds it to its refusal).
pub fn is_refused(name: &str) -> bool {
    let rows = include_str!("../../quant/tests/fixtures/refused.tsv").lines();
    rows.filter_map(|line| line.split_once('\t')).any(|(refused, _)| refused == name)
}

/// Progress that sets `stop` once it has counted `limit` rows.
pub struct StopAfter<'a> {
    pub rows: AtomicU64,
    limit: u64,
    stop: &'a AtomicBool,
}

impl<'a> StopAfter<'a> {
    pub fn new(limit: u64, stop: &'a AtomicBool) -> Self {
        Self { rows: AtomicU64::new(0), limit, stop }
    }
}

impl Progress for StopAfter<'_> {
    fn start(&self, _total: u64, _unit: Unit, _what: &str) {}

    fn advance(&self, by: u64) {
        if self.rows.fetch_add(by, Ordering::Relaxed) + by >= self.limit {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn finish(&self) {}
}

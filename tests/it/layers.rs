//! What the compiler does not hold: which crate may use which, where a large dependency may be known, and the shape of files.
//! Every rule is a function of a path and a text, and has a test that it can fail. Absent: the `--flags` of messages.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Every crate with its folder, and the crates of ours that it may use: those of the layers below it.
pub(crate) const LAYERS: [(&str, &[&str]); 10] = [
    ("quant", &[]),
    ("src/engine", &["quant"]),
    ("src/text", &["quant"]),
    ("src/hub", &["quant"]),
    ("src/eval", &["quant"]),
    ("src/tasks", &["quant", "text", "eval"]),
    ("src/measure", &["quant", "engine", "text", "hub", "eval", "tasks"]),
    ("src/report", &["quant", "eval"]),
    ("src/advise", &["quant", "engine", "eval", "report"]),
    ("", &["quant", "engine", "text", "hub", "eval", "tasks", "measure", "report", "advise"]),
];

/// Words that only some places may know.
const HOMES: [(&str, &[&str]); 10] = [
    ("polars", &["src/eval/records", "src/report/", "src/tasks/rows/parquet"]),
    ("polars_io", &["src/eval/records", "src/report/", "src/tasks/rows/parquet"]),
    ("wgpu", &["src/engine/gpu/"]),
    ("minijinja", &["src/text/"]),
    ("clap", &["src/cli/"]),
    ("println!", &["src/cli/"]),
    ("print!", &["src/cli/"]),
    ("eprintln!", &["src/cli/"]),
    ("eprint!", &["src/cli/"]),
    ("process::exit", &["src/cli/"]),
];

const MOST_COLUMNS: usize = 130;
/// Files of patterns that have no place to be broken at.
const WIDE_FILES: [&str; 1] = ["quant/src/vocab/pre.rs"];
const MOST_LINES: usize = 700;

/// Every folder with files that git tracks.
const FOLDERS: [&str; 8] = ["src", "quant", "tests", "benches", "examples", "datasets", "configs", "results/sample"];
const MOST_FIXTURES: u64 = 16 << 20;
/// Of all files together, so that a clone is quick.
const MOST_BYTES: u64 = 25 << 20;

/// Dependencies that a crate's layer does not allow; `manifest` is its Cargo.toml.
fn layers(path: &str, manifest: &str) -> Vec<String> {
    let folder = path.strip_suffix("Cargo.toml").unwrap_or(path).trim_end_matches('/');
    let Some((_, allowed)) = LAYERS.iter().find(|(known, _)| *known == folder) else {
        return vec![format!("{path}: a crate without a layer; give it a row in LAYERS")];
    };
    let manifest = toml::Value::Table(manifest.parse().unwrap());
    let of_targets = manifest.get("target").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::values);
    let tables = std::iter::once(&manifest).chain(of_targets).filter_map(|table| table.get("dependencies"));
    let names = tables.filter_map(toml::Value::as_table).flat_map(toml::Table::keys);
    let ours = names.filter_map(|name| name.strip_prefix("bitworth-")).filter(|name| !allowed.contains(name));
    ours.map(|name| format!("{path}: {name} is not below this crate")).collect()
}

/// Words of [`HOMES`] where they are not at home. Tests and benchmarks stand outside of the layers.
fn homes(path: &str, text: &str) -> Vec<String> {
    if !(path.starts_with("src/") || path.starts_with("quant/src/")) || path.ends_with("/tests.rs") {
        return Vec::new();
    }
    let away = HOMES.iter().filter(|(_, homes)| !homes.iter().any(|home| path.starts_with(home)));
    let in_line = |(line, number): (&str, usize)| {
        let code = line.split("//").next().unwrap_or_default();
        let words = away.clone().filter(|(word, _)| has_word(code, word));
        words.map(|(word, homes)| format!("{path}:{number}: {word} belongs to {}", homes.join(" and "))).collect::<Vec<_>>()
    };
    text.lines().zip(1..).flat_map(in_line).collect()
}

/// Whether `word` stands in `code` as a word of its own, followed by what a path or a macro goes on with.
fn has_word(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let behind = &code[at + word.len()..];
        let path = word.ends_with('!') || word.contains("::") || behind.starts_with("::") || behind.starts_with(';');
        !code[..at].ends_with(part) && !behind.starts_with(part) && path
    })
}

fn columns(path: &str, text: &str) -> Vec<String> {
    if WIDE_FILES.contains(&path) {
        return Vec::new();
    }
    let lines = text.lines().map(|line| line.chars().count()).zip(1..);
    lines.filter(|(columns, _)| *columns > MOST_COLUMNS).map(|(columns, n)| format!("{path}:{n}: {columns} columns")).collect()
}

fn lines(path: &str, text: &str) -> Vec<String> {
    let count = text.lines().count();
    if count > MOST_LINES { vec![format!("{path}: {count} lines")] } else { Vec::new() }
}

fn opening(path: &str, text: &str) -> Vec<String> {
    if !path.ends_with(".rs") || text.starts_with("//! ") {
        return Vec::new();
    }
    vec![format!("{path}: does not open with what it is for (`//!`)")]
}

/// Functions of many arguments take a structure with names instead.
fn arguments(path: &str, text: &str) -> Vec<String> {
    let lint = concat!("too_many", "_arguments");
    let lines = text.lines().zip(1..).filter(|(line, _)| line.contains(lint));
    lines.map(|(_, number)| format!("{path}:{number}: allows {lint}")).collect()
}

/// Paths of the repository's files with one of these names or endings, from its root, in order.
pub(crate) fn files(endings: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    if endings.iter().any(|ending| "Cargo.toml".ends_with(ending)) {
        found.push("Cargo.toml".to_owned());
    }
    let mut folders = FOLDERS.map(str::to_owned).to_vec();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(root.join(&folder)) else { continue };
        for entry in entries.map(Result::unwrap) {
            let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true if path.ends_with("/target") => {}
                true => folders.push(path),
                false if endings.iter().any(|ending| path.ends_with(ending)) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

type Rule = fn(&str, &str) -> Vec<String>;

/// What a rule says of all files with one of these endings.
#[track_caller]
fn check(rule: Rule, endings: &[&str]) {
    let files = files(endings);
    assert!(files.len() >= LAYERS.len(), "{files:?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found: Vec<String> = files.iter().flat_map(|path| rule(path, &fs::read_to_string(root.join(path)).unwrap())).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_crate_uses_those_below_it() {
    check(layers, &["Cargo.toml"]);
}

#[test]
fn large_dependencies_have_one_home() {
    check(homes, &[".rs"]);
}

#[test]
fn lines_fit() {
    check(columns, &[".rs", ".wgsl"]);
}

#[test]
fn files_are_short() {
    check(lines, &[".rs"]);
}

#[test]
fn files_say_what_they_are_for() {
    check(opening, &[".rs"]);
}

#[test]
fn a_clone_is_small() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bytes = |path: &str| fs::metadata(root.join(path)).unwrap().len();
    let files = files(&[""]);
    let fixtures: u64 = files.iter().filter(|path| path.contains("/fixtures/")).map(|path| bytes(path)).sum();
    assert!(fixtures > 1 << 20 && fixtures <= MOST_FIXTURES, "{fixtures} bytes of fixtures");
    let at_root = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
    let at_root: u64 = at_root.filter(|metadata| metadata.is_file()).map(|metadata| metadata.len()).sum();
    let all = at_root + files.iter().map(|path| bytes(path)).sum::<u64>();
    assert!(all <= MOST_BYTES, "{all} bytes");
}

#[test]
fn many_arguments_have_names() {
    check(arguments, &[".rs"]);
}

/// The crates that cargo would build with these arguments, for this machine.
fn tree(arguments: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let plain = ["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{lib}"];
    let found = Command::new(cargo).current_dir(env!("CARGO_MANIFEST_DIR")).args(plain).args(arguments).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stdout).unwrap().lines().filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[test]
fn features_bring_their_dependencies_and_nothing_else_does() {
    let heavy = ["wgpu", "ureq", "minijinja"];
    let of = |arguments: &[&str]| {
        let all = tree(arguments);
        heavy.into_iter().filter(|&name| all.contains(name)).collect::<Vec<_>>()
    };
    assert_eq!(of(&["-p", "bitworth"]), heavy);
    for crates in [["-p", "bitworth-report"], ["-p", "bitworth-advise"], ["-p", "bitworth-eval"], ["-p", "bitworth-quant"]] {
        let found = of(&crates);
        assert!(!found.contains(&"wgpu") && !found.contains(&"ureq"), "{crates:?} has {found:?}");
    }
    let without = ["-p", "bitworth", "--no-default-features"];
    assert!(of(&without).is_empty());
    for (feature, name) in [("gpu", "wgpu"), ("hub", "ureq"), ("chat", "minijinja")] {
        assert_eq!(of(&[&without[..], &["--features", feature]].concat()), [name]);
    }
}

#[test]
fn an_import_against_the_direction_is_found() {
    let measure = |manifest: &str| layers("src/measure/Cargo.toml", manifest);
    assert!(measure("[dependencies]\nbitworth-engine.workspace = true\n[dev-dependencies]\nbitworth-advise = '1'").is_empty());
    assert_eq!(
        measure("[dependencies]\nbitworth-report.workspace = true"),
        ["src/measure/Cargo.toml: report is not below this crate"]
    );
    assert_eq!(measure("[target.'cfg(unix)'.dependencies]\nbitworth-advise = {}").len(), 1);
    assert_eq!(layers("src/eval/Cargo.toml", "[dependencies]\nbitworth-text = { path = 'x', optional = true }").len(), 1);
    assert_eq!(layers("quant/Cargo.toml", "[dependencies]\nbitworth-eval = '1'").len(), 1);
    assert!(layers("Cargo.toml", "[dependencies]\nbitworth-advise = '1'").is_empty());
    assert_eq!(layers("src/new/Cargo.toml", "").len(), 1);
}

#[test]
fn a_word_away_from_home_is_found() {
    assert_eq!(
        homes("src/advise/a.rs", "use polars::prelude::*;"),
        ["src/advise/a.rs:1: polars belongs to src/eval/records and src/report/ and src/tasks/rows/parquet"]
    );
    assert!(homes("src/report/a.rs", "use polars::prelude::*;").is_empty());
    assert!(homes("src/measure/a.rs", "// polars::x\nlet my_polars = 1;\n\"polars is a crate\"").is_empty());
    assert_eq!(homes("src/engine/cpu/a.rs", "\nfn f(b: wgpu::Buffer) {}").len(), 1);
    assert_eq!(homes("src/measure/a.rs", "println!(\"x\")").len(), 1);
    assert_eq!(homes("quant/src/a.rs", "std::process::exit(1)").len(), 1);
    assert_eq!(homes("src/report/a.rs", "use clap::Args;").len(), 1);
    assert!(homes("src/cli/a.rs", "use clap::Args;").is_empty());
    assert!(homes("tests/it/a.rs", "println!()").is_empty());
}

#[test]
fn files_out_of_shape_are_found() {
    assert_eq!(columns("a.rs", &format!("ok\n{}", "é".repeat(131))), ["a.rs:2: 131 columns"]);
    assert!(columns("a.rs", &"é".repeat(130)).is_empty());
    assert_eq!(lines("a.rs", &"x\n".repeat(701)), ["a.rs: 701 lines"]);
    assert!(lines("a.rs", &"x\n".repeat(700)).is_empty());
    assert_eq!(opening("a.rs", "use std::fs;").len(), 1);
    assert!(opening("a.rs", "//! It is for a test.").is_empty() && opening("a.wgsl", "fn f() {}").is_empty());
    assert_eq!(arguments("a.rs", concat!("\n#[allow(clippy::too_many", "_arguments)]")).len(), 1);
}

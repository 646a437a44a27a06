//! What no compiler checks of the source text: each rule is a small function from a file's path and text to what is wrong with
//! it. Absent: what rustfmt and clippy hold.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// What is wrong with a file of this path (seen from the repository) and text, one line each.
type Rule = fn(&str, &str) -> Vec<String>;

/// Every rule.
const RULES: &[Rule] = &[
    libraries_name_no_flags,
    libraries_name_no_commands,
    libraries_have_typed_errors,
    settings_are_in_their_tables,
    examples_are_run,
];

#[test]
fn every_file_keeps_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    ["src", "quant/src"].iter().for_each(|folder| collect(&root.join(folder), &mut files));
    assert!(files.len() > 100, "{} files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let path = file.strip_prefix(root).unwrap().display().to_string().replace('\\', "/");
        let text = std::fs::read_to_string(&file).unwrap();
        wrong.extend(RULES.iter().flat_map(|rule| rule(&path, &text)).map(|what| format!("{path}: {what}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, files),
            false if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
            false => {}
        }
    }
}

/// Whether a file is of the program, which has a command line, and not of a library.
fn is_program(path: &str) -> bool {
    path.starts_with("src/cli/") || path == "src/main.rs"
}

/// The lines of a library's file that are neither comments nor tests, with their numbers.
fn library_lines<'a>(path: &str, text: &'a str) -> Vec<(usize, &'a str)> {
    if is_program(path) || path.ends_with("/tests.rs") {
        return Vec::new();
    }
    static TESTS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^#\[cfg\(test\)\]\n(pub(\(\w+\))? )?mod \w+ \{").unwrap());
    let code = &text[..TESTS.find(text).map_or(text.len(), |tests| tests.start())];
    (1..).zip(code.lines()).filter(|(_, line)| !line.trim_start().starts_with("//")).collect()
}

fn lines_with(path: &str, text: &str, pattern: &Regex, what: &str) -> Vec<String> {
    let found = library_lines(path, text).into_iter().filter(|(_, line)| pattern.is_match(line));
    found.map(|(number, line)| format!("line {number}: {what}: {}", line.trim())).collect()
}

/// Files that name the options of another program, which they start.
const OTHER_PROGRAMS: [&str; 1] = ["src/measure/timing/llama_bench.rs"];

/// A library has settings (`bitworth_quant::message`); only the program knows what a user types for one.
fn libraries_name_no_flags(path: &str, text: &str) -> Vec<String> {
    if OTHER_PROGRAMS.contains(&path) {
        return Vec::new();
    }
    static FLAG: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"(^|[\s"'(`=])--[a-z]"#).unwrap());
    lines_with(path, text, &FLAG, "an option of the program, give a `Setting`")
}

/// What files say of the program that made them is no advice.
const MADE_BY: [&str; 2] = ["# Made by `bitworth ", "# Written by `bitworth "];

/// The same of what a user asks the program to do.
fn libraries_name_no_commands(path: &str, text: &str) -> Vec<String> {
    static COMMAND: LazyLock<Regex> = LazyLock::new(|| Regex::new("`bitworth [a-z]").unwrap());
    let text = MADE_BY.iter().fold(text.to_owned(), |text, made_by| text.replace(made_by, "# "));
    lines_with(path, &text, &COMMAND, "a command of the program, give a `Command`")
}

/// Callers tell errors apart by their types.
fn libraries_have_typed_errors(path: &str, text: &str) -> Vec<String> {
    static ANYHOW: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\banyhow\b").unwrap());
    static UNTYPED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"Result<.*, ?(String|&'static str)>|type Err = String").unwrap());
    let mut wrong = lines_with(path, text, &ANYHOW, "anyhow is for the program");
    wrong.extend(lines_with(path, text, &UNTYPED, "an error without a type"));
    wrong
}

/// The tables of settings are what a test of the program walks (`src/cli/output.rs`).
fn settings_are_in_their_tables(path: &str, text: &str) -> Vec<String> {
    let tables = [
        bitworth::quant::SETTINGS,
        bitworth::engine::SETTINGS,
        bitworth::eval::SETTINGS,
        bitworth::advise::SETTINGS,
        bitworth::measure::SETTINGS,
        bitworth::tasks::SETTINGS,
    ];
    let all = tables.concat();
    static NEW: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"Setting::new\("([^"]*)"\)"#).unwrap());
    let names = library_lines(path, text).into_iter().flat_map(|(_, line)| NEW.captures_iter(line));
    let missing = names.filter(|name| !all.iter().any(|setting| setting.name() == &name[1]));
    missing.map(|name| format!("the setting {} is in no table SETTINGS", &name[1])).collect()
}

/// Examples in documentation are run in the two crates that are for others to use; the others have `doctest = false`.
fn examples_are_run(path: &str, text: &str) -> Vec<String> {
    if path.starts_with("quant/src/") || path == "src/lib.rs" {
        return Vec::new();
    }
    static FENCE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\s*//[/!] ```").unwrap());
    // Every second one closes.
    let opened = (1..).zip(text.lines()).filter(|(_, line)| FENCE.is_match(line)).step_by(2);
    let examples = opened.filter(|(_, line)| !["```text", "```toml"].iter().any(|other| line.ends_with(other)));
    examples.map(|(number, _)| format!("line {number}: an example that no test runs")).collect()
}

#[test]
fn the_rules_see_what_they_are_for() {
    let check = |rule: Rule, text: &str, lines: usize| assert_eq!(rule("src/eval/x.rs", text).len(), lines, "{text}");
    check(libraries_name_no_flags, "let what = \"use --device cpu\";", 1);
    check(libraries_name_no_flags, "bail!(\n    \"--from-chunk {skip}\"\n);", 1);
    check(libraries_name_no_flags, "/// `--pure`\nlet x = 1; let name = \"models--o--n\";", 0);
    check(libraries_name_no_flags, "#[cfg(test)]\nmod tests {\n    const X: &str = \"--pure\";\n}", 0);
    assert!(libraries_name_no_flags("src/cli/run.rs", "\"--device\"").is_empty());
    check(libraries_name_no_commands, "let what = \"`bitworth inspect` lists their names\";", 1);
    check(libraries_name_no_commands, "let what = format!(\n    \"{by}; `bitworth report` \\\n     reads it\"\n);", 1);
    check(libraries_name_no_commands, "// `bitworth inspect` lists them.\nlet x = \"bitworth does\";", 0);
    check(libraries_name_no_commands, "let head = \"# Made by `bitworth calibrate`: constants\";", 0);
    assert!(libraries_name_no_commands("src/cli/run.rs", "\"`bitworth inspect`\"").is_empty());
    check(libraries_have_typed_errors, "use anyhow::Result;\nfn f() -> Result<(), String> {", 2);
    check(libraries_have_typed_errors, "fn f() -> Result<BTreeMap<String, u32>, Error> {\n    type Err = String;", 1);
    check(settings_are_in_their_tables, "const X: Setting = Setting::new(\"no_such_setting\");", 1);
    check(settings_are_in_their_tables, "const X: Setting = Setting::new(\"allow_requantize\");", 0);
    check(examples_are_run, "//! ```\n//! let x = 1;\n//! ```\n", 1);
    check(examples_are_run, "/// ```text\n/// a | b\n/// ```\n    /// ```text\n    /// ```\n", 0);
    assert!(examples_are_run("src/lib.rs", "//! ```\n//! ```\n").is_empty());
}

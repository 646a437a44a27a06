//! The documents tell the truth about the tree and the program.

use std::path::Path;

use crate::common;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Texts between single backticks that look like paths of this repository.
fn paths(text: &str) -> Vec<&str> {
    let inline = text.split("```").step_by(2).flat_map(|part| part.split('`').skip(1).step_by(2));
    inline.filter(|code| code.contains('/') && !code.contains(['<', '*', ' ', ':']) && !code.starts_with("..")).collect()
}

#[test]
fn every_path_in_the_maps_exists() {
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = read(document);
        let paths = paths(&text);
        assert!(paths.len() > 5, "{document} names no paths");
        for path in paths {
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{document} names {path}, which is not there");
        }
    }
}

#[test]
fn the_readme_lists_every_class_and_architecture() {
    let readme = read("README.md");
    for arch in bitworth_quant::arch::ARCHITECTURES {
        let row = readme.lines().find(|line| line.starts_with("| `") && line.contains(&format!("| `{}` |", arch.name)));
        let row = row.unwrap_or_else(|| panic!("README.md has no row for {}", arch.name));
        for class in arch.hf {
            assert!(row.contains(&format!("`{}`", class.name)), "README.md does not list {} under {}", class.name, arch.name);
        }
    }
}

#[test]
fn the_readme_lists_every_command() {
    let readme = read("README.md");
    let help = common::run(Path::new("."), &["--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let names: Vec<&str> = commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(names.len() >= 14, "{names:?}");
    for name in names {
        assert!(readme.contains(&format!("| `{name}")), "README.md does not list {name}");
    }
}

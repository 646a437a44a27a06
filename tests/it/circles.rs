//! Files of a crate import in one direction: there is no circle of files, nor one of the modules that the crate's root names.
//! What counts are paths from `crate::` or `super::`, in imports and elsewhere, up to the file that has the item (`pub use` is
//! followed). Absent: what `mod.rs` and the files of its folder take of each other, methods, tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use crate::layers::{LAYERS, files};

/// Modules that know each other though their files do not: shapes and rules of an architecture are functions of hyper-parameters,
/// and these are read as an architecture says.
const PAIRS: [&str; 2] = ["quant/src: arch -> hparams", "quant/src: hparams -> arch"];

/// Imports that hand on, and paths that begin at the crate's root or at the module above.
static HANDED_ON: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^\s*pub(?:\([^)]*\))? use ([^;]+);").unwrap());
static PATHS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?:^|[^\w:])((?:crate|super)::[\w:]*(?:\{[^;]*)?)").unwrap());

type Module = Vec<String>;

/// The files of a crate.
#[derive(Default)]
struct Sources {
    /// The code of each, by its module.
    files: BTreeMap<Module, String>,
    /// What a module hands on under a name (`pub use`), as the path there.
    handed_on: BTreeMap<(Module, String), Module>,
}

impl Sources {
    /// Of paths as seen from the crate's root, with texts.
    fn new(texts: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut sources = Self::default();
        for (path, text) in texts {
            // Tests come last in a file.
            let lines = text.lines().take_while(|line| !line.starts_with("mod tests {"));
            let code = lines.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
            let stem = path.trim_end_matches(".rs").trim_end_matches("/mod");
            let module: Module = if stem == "lib" { Vec::new() } else { stem.split('/').map(str::to_owned).collect() };
            for (path, name) in HANDED_ON.captures_iter(&code).flat_map(|found| branches(&found[1])) {
                sources.handed_on.insert((module.clone(), name), path);
            }
            sources.files.insert(module, code);
        }
        sources
    }

    /// The module of the file that has what `path` means in `module`; `None` outside of the crate.
    fn resolve(&self, module: &[String], path: &[String]) -> Option<Module> {
        let up = path.iter().take_while(|part| *part == "super").count();
        let path = match path.first()?.as_str() {
            "crate" => path[1..].to_vec(),
            "self" => [module, &path[1..]].concat(),
            "super" => [&module[..module.len().checked_sub(up)?], &path[up..]].concat(),
            _ => Some([module, path].concat()).filter(|path| self.files.contains_key(&path[..=module.len()]))?,
        };
        let length = (0..=path.len()).rev().find(|&length| self.files.contains_key(&path[..length]))?;
        let (home, rest) = path.split_at(length);
        match rest.first().and_then(|name| self.handed_on.get(&(home.to_vec(), name.clone()))) {
            Some(from) => self.resolve(home, &[&from[..], &rest[1..]].concat()),
            None => Some(home.to_vec()),
        }
    }

    /// Who takes from whom on a circle, of files and of modules at the crate's root.
    fn circles(&self) -> Vec<String> {
        let mut found = Vec::new();
        for parts in [usize::MAX, 1] {
            let name = |module: &Module| module.iter().take(parts).cloned().collect::<Vec<_>>().join("::");
            let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for (module, code) in &self.files {
                let paths = PATHS.captures_iter(code).flat_map(|found| branches(&found[1]));
                let targets = paths.filter_map(|(path, _)| self.resolve(module, &path));
                let apart = targets.filter(|target| !target.starts_with(module) && !module.starts_with(target));
                graph.entry(name(module)).or_default().extend(apart.map(|target| name(&target)));
            }
            let reaches = |from: &str, to: &str| {
                let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
                while let Some(at) = open.pop() {
                    let targets = graph.get(at).filter(|_| seen.insert(at)).into_iter().flatten();
                    open.extend(targets.map(String::as_str));
                }
                seen.contains(to)
            };
            for (from, targets) in &graph {
                let back = targets.iter().filter(|&to| to != from && reaches(to, from));
                found.extend(back.map(|to| format!("{from} -> {to}")));
            }
        }
        found
    }
}

/// The paths of a tree such as `a::{self, b, c::{d as e}}`, with the name that each gets.
fn branches(tree: &str) -> Vec<(Module, String)> {
    let parts = |text: &str| -> Module { text.split("::").map(|part| part.trim().to_owned()).collect() };
    let Some((head, inner)) = tree.split_once("::{") else {
        let (path, name) = tree.split_once(" as ").unwrap_or((tree, ""));
        let mut path = parts(path);
        path.retain(|part| !["", "*", "self"].contains(&part.as_str()));
        let name = if name.is_empty() { path.last().cloned().unwrap_or_default() } else { name.trim().to_owned() };
        return vec![(path, name)];
    };
    let (head, mut depth) = (parts(head), 0);
    let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner).split(|c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0 && c == ','
    });
    let inner = inner.filter(|part| !part.trim().is_empty()).flat_map(branches);
    inner.map(|(path, name)| ([&head[..], &path].concat(), name)).collect()
}

#[test]
fn files_of_a_crate_import_in_one_direction() {
    let (repository, all) = (Path::new(env!("CARGO_MANIFEST_DIR")), files(&[".rs"]));
    for (layer, _) in LAYERS {
        let (root, folder) = match layer {
            "" => ("src", "src/cli"),
            "quant" => ("quant/src", "quant/src"),
            room => (room, room),
        };
        let is_own = |path: &str| path.starts_with(folder) || path == format!("{root}/lib.rs");
        let own = all.iter().filter(|path| is_own(path) && !path.contains("/tests"));
        let read = |path: &String| (path[root.len() + 1..].to_owned(), fs::read_to_string(repository.join(path)).unwrap());
        let sources = Sources::new(own.map(read));
        assert!(sources.files.len() > 5, "{root}");
        let found = sources.circles().into_iter().map(|edge| format!("{root}: {edge}"));
        let found: Vec<String> = found.filter(|edge| !PAIRS.contains(&edge.as_str())).collect();
        assert!(found.is_empty(), "on a circle:\n{}", found.join("\n"));
    }
}

#[test]
fn a_circle_is_found() {
    let of = |a: &str, deep: &str| {
        let b = "mod deep;\npub(crate) use deep::{self as other, Thing as Known};\nuse self::deep::Thing;";
        let texts = [("lib.rs", "mod a;\nmod b;"), ("a.rs", a), ("b/mod.rs", b), ("b/deep.rs", deep)];
        Sources::new(texts.map(|(path, text)| (path.to_owned(), text.to_owned()))).circles()
    };
    let both = ["a -> b::deep", "b::deep -> a", "a -> b", "b -> a"];
    assert_eq!(of("use crate::b::{\n    Known,\n    c::{self, Other},\n};", "fn f() { crate::a::g() }"), both);
    assert_eq!(of("use super::b::{deep::{self}};", "use super::super::{a::X};\nuse super::Y;"), both);
    assert_eq!(of("use crate::b::Own;", "use crate::a;"), ["a -> b", "b -> a"]);
    assert!(of("use crate::b::Known;", "// crate::a\nuse super::Own;\n#[cfg(test)]\nmod tests {\n    use crate::a;").is_empty());
    assert!(of("use std::fs;", "use crate::a::X;").is_empty());
}

//! Which files belong to what, against the referee; and what becomes of rows. Absent: the network.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::Deserialize;
use serde_json::json;

use super::*;

/// Data sets in a folder: `REVISION/FILE` with its text.
#[derive(Debug)]
struct Shelf {
    dir: tempfile::TempDir,
    files: BTreeMap<String, Vec<(String, u64)>>,
    whole: bool,
    fetched: Mutex<Vec<String>>,
}

impl Shelf {
    fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str, &'a [u8])>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut listed: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
        for (revision, path, bytes) in files {
            let place = dir.path().join(revision).join(path);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(place, bytes).unwrap();
            listed.entry(revision.to_owned()).or_default().push((path.to_owned(), bytes.len() as u64));
        }
        Self { dir, files: listed, whole: true, fetched: Mutex::new(Vec::new()) }
    }

    fn rows(&self, name: Option<&str>, split: &str, kwargs: Value) -> Result<Vec<Value>, String> {
        self.docs(name, split, kwargs).map(|docs| docs.rows.iter().map(|row| Value::Object(DataRow::clone(row))).collect())
    }

    fn docs(&self, name: Option<&str>, split: &str, kwargs: Value) -> Result<Docs, String> {
        rows(self, &task(name, kwargs), "o/set", split).map_err(|e| e.to_string())
    }
}

impl DataSetFiles for Shelf {
    fn list(&self, data_set: &str, revision: &str) -> Result<Option<Listed>, Message> {
        assert_eq!(data_set, "o/set");
        Ok(self.files.get(revision).map(|files| Listed { files: files.clone(), whole: self.whole }))
    }

    fn fetch(&self, _: &str, revision: &str, paths: &[&str]) -> Result<Vec<PathBuf>, Message> {
        self.fetched.lock().unwrap().extend(paths.iter().map(|path| (*path).to_owned()));
        Ok(paths.iter().map(|path| self.dir.path().join(revision).join(path)).collect())
    }
}

/// A task that asks for the data set.
fn task(name: Option<&str>, kwargs: Value) -> TaskConfig {
    let dir = tempfile::tempdir().unwrap();
    let name = name.map_or_else(String::new, |name| format!("dataset_name: {name}\n"));
    let text = format!("task: t\ndataset_path: o/set\n{name}dataset_kwargs: {kwargs}\ntest_split: test\n");
    std::fs::write(dir.path().join("t.yaml"), text).unwrap();
    let index = crate::files::index::Index::read(&[dir.path().to_owned()]).unwrap();
    let chosen = index.select(&["t".to_owned()]).unwrap();
    TaskConfig::new(&chosen.tasks[0]).unwrap()
}

/// What `datasets` makes of a folder.
#[derive(Deserialize)]
struct Case {
    files: Vec<String>,
    readme: Option<String>,
    name: Option<String>,
    #[serde(default)]
    kwargs: Map<String, Value>,
    /// Absent where it is an error.
    splits: Option<Vec<(String, Vec<String>)>>,
}

/// The lines of `referee.jsonl` are of datasets 5.2.0 (fsspec 2026.9.0): folders with these files and this `README.md`, and
/// `load_dataset_builder(folder, name, **kwargs).config.data_files`.
#[test]
fn files_belong_to_the_splits_that_datasets_gives_them_to() {
    let cases: Vec<Case> = include_str!("referee.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(cases.len() > 50);
    for case in cases {
        let about = format!("{:?} {:?} {:?} {:?}", case.files, case.readme, case.name, case.kwargs);
        let text = |path: &str| if path.ends_with("infos.json") { b"{}".as_slice() } else { b"a\n1\n".as_slice() };
        let readme = case.readme.iter().map(|text| (MAIN, README, text.as_bytes()));
        let shelf = Shelf::new(case.files.iter().map(|path| (MAIN, path.as_str(), text(path))).chain(readme));
        let repository = Repository::open(&shelf, "o/set", MAIN).unwrap().unwrap();
        let find = |split: &str| {
            let options = Options::new(&case.kwargs).map_err(|e| e.to_string())?;
            let card = repository.card().map_err(|e| e.to_string())?;
            repository.find(&card, &options, case.name.as_deref(), split).map(|found| found.paths).map_err(|e| e.to_string())
        };
        let Some(splits) = case.splits else {
            for split in ["train", "test", "a-b", "t"] {
                assert!(find(split).is_err(), "{about}: {split}: {:?}", find(split));
            }
            continue;
        };
        for (split, files) in &splits {
            match files.is_empty() {
                true => assert!(find(split).unwrap_err().contains("no file of data fits"), "{about}"),
                false => assert_eq!(find(split).as_ref(), Ok(files), "{about}: {split}"),
            }
        }
        let names: Vec<&str> = splits.iter().map(|(split, _)| split.as_str()).collect();
        let error = find("no_such").unwrap_err();
        assert!(error.ends_with(&format!("it has no split \"no_such\"; it has {}", names.join(", "))), "{about}: {error}");
    }
}

/// A parquet file with a column `a`.
fn parquet(values: &[i64]) -> Vec<u8> {
    use polars::prelude::{DataFrame, IntoColumn, NamedFrom, Series};
    let column = Series::new("a".into(), values).into_column();
    let mut bytes = Vec::new();
    polars_io::prelude::ParquetWriter::new(&mut bytes).finish(&mut DataFrame::new(values.len(), vec![column]).unwrap()).unwrap();
    bytes
}

fn values(rows: Result<Vec<Value>, String>) -> Vec<i64> {
    rows.unwrap().iter().map(|row| row["a"].as_i64().unwrap()).collect()
}

#[test]
fn rows_of_all_files_of_a_split_are_read_once() {
    let (one, two) = (parquet(&[1, 2]), parquet(&[3]));
    let readme = b"---\nconfigs:\n- config_name: c\n  data_files:\n  - split: test\n    path: c/*.parquet\n---\n";
    let shelf = Shelf::new([
        (MAIN, README, readme.as_slice()),
        (MAIN, "c/1.parquet", &two),
        (MAIN, "c/0.parquet", &one),
        (CONVERTED, "c/test/0000.parquet", &two),
    ]);
    assert_eq!(values(shelf.rows(Some("c"), "test", Value::Null)), [1, 2, 3]);
    assert_eq!(*shelf.fetched.lock().unwrap(), [README, "c/0.parquet", "c/1.parquet"]);
    let error = shelf.rows(Some("d"), "test", Value::Null).unwrap_err();
    assert_eq!(error, "the data set o/set: it has no configuration \"d\" (dataset_name); it has c");
}

#[test]
fn without_a_card_the_conversion_is_taken() {
    let bytes = parquet(&[7]);
    let converted = (CONVERTED, "default/test/0000.parquet", bytes.as_slice());
    let shelf = Shelf::new([(MAIN, "test.csv", b"a\n1\n".as_slice()), converted]);
    assert_eq!(values(shelf.rows(None, "test", Value::Null)), [7]);
    assert!(shelf.rows(None, "dev", Value::Null).unwrap_err().ends_with("it has test"));
    // Another revision has no conversion, and an option of a reader was not known to who converted.
    let shelf = Shelf::new([("v1", "test.csv", b"a\n1\n".as_slice()), (MAIN, "test.json", b"{\"x\": [{\"a\": 2}]}"), converted]);
    assert_eq!(values(shelf.rows(None, "test", json!({"revision": "v1"}))), [1]);
    assert_eq!(values(shelf.rows(None, "test", json!({"field": "x"}))), [2]);
    // The conversion itself, as a task names it.
    assert_eq!(values(shelf.rows(Some("default"), "test", json!({"revision": CONVERTED}))), [7]);
    let files = json!({"revision": CONVERTED, "data_files": {"test": "default/test/0000.parquet"}});
    assert_eq!(values(shelf.rows(None, "test", files)), [7]);
    assert!(shelf.rows(None, "test", json!({"revision": "v2"})).unwrap_err().contains("no revision \"v2\""));
}

#[test]
fn a_program_is_never_taken_for_its_rows() {
    let bytes = parquet(&[7]);
    let (script, raw) = ((MAIN, "set.py", b"import".as_slice()), (MAIN, "test.csv", b"a\n1\n".as_slice()));
    let shelf = Shelf::new([script, raw]);
    let error = shelf.rows(None, "test", Value::Null).unwrap_err();
    assert!(error.contains("set.py makes its rows") && error.contains("data_map"), "{error}");
    let readme = (MAIN, README, b"---\nconfigs:\n- config_name: c\n  data_files: test.csv\n---\n".as_slice());
    let shelf = Shelf::new([script, raw, readme, (CONVERTED, "c/train/0000.parquet", &bytes)]);
    assert_eq!(values(shelf.rows(Some("c"), "train", Value::Null)), [7]);
    assert_eq!(values(Shelf::new([script, raw, readme]).rows(Some("c"), "train", Value::Null)), [1]);
}

#[test]
fn a_beginning_is_taken_only_where_the_rest_cannot_be_read() {
    let bytes = parquet(&[7]);
    let beginning = (CONVERTED, "default/partial-test/0000.parquet", bytes.as_slice());
    let shelf = Shelf::new([(MAIN, "test.csv", b"a\n1\n2\n".as_slice()), beginning]);
    assert_eq!(values(shelf.rows(None, "test", Value::Null)), [1, 2]);
    let shelf = Shelf::new([(MAIN, "test.tar", b"".as_slice()), beginning]);
    assert_eq!(values(shelf.rows(None, "test", Value::Null)), [7]);
}

#[test]
fn a_known_part_is_not_taken_for_the_whole() {
    let bytes = parquet(&[7]);
    let part = (MAIN, "data/test-00001-of-00002.parquet", bytes.as_slice());
    let mut shelf = Shelf::new([part]);
    assert_eq!(values(shelf.rows(None, "test", Value::Null)), [7]);
    shelf.whole = false;
    let error = shelf.rows(None, "test", Value::Null).unwrap_err();
    assert!(error.contains("of 2 parts") && error.contains("number 0"), "{error}");
}

#[test]
fn what_a_stranger_may_write_is_refused() {
    let with = |readme: &str| {
        let shelf = Shelf::new([(MAIN, README, readme.as_bytes()), (MAIN, "test.csv", b"a\n1\n".as_slice())]);
        shelf.rows(None, "test", Value::Null).unwrap_err()
    };
    for (yaml, expected) in [
        ("configs:\n- config_name: c\n  data_files:\n  - split: test\n    path: ../../x.csv", "leads out of the data set"),
        (
            "configs:\n- config_name: c\n  data_dir: /etc\n  data_files:\n  - split: test\n    path: '*'",
            "leads out of the data set",
        ),
        ("configs:\n- config_name: c\n  data_files:\n  - split: test\n    path: https://x/y.csv", "leads out of the data set"),
        ("configs:\n- config_name: c\n  data_files:\n  - split: test\n    path: gone.csv", "\"gone.csv\" is not among"),
        ("configs: [", "README.md"),
    ] {
        let error = with(&format!("---\n{yaml}\n---\n"));
        assert!(error.contains(expected) && error.contains("o/set"), "{yaml}: {error}");
    }
    let mut large = Shelf::new([(MAIN, "test.csv", b"a\n1\n".as_slice())]);
    large.files.get_mut(MAIN).unwrap()[0].1 = MAX_BYTES + 1;
    assert!(large.rows(None, "test", Value::Null).unwrap_err().contains("has 4294967297 bytes"));
    assert!(large.fetched.lock().unwrap().is_empty(), "fetched what is refused");
    large.files.get_mut(MAIN).unwrap().push((README.to_owned(), MAX_CARD_BYTES + 1));
    assert!(large.rows(None, "test", Value::Null).unwrap_err().contains("README.md is larger"));
    let broken = Shelf::new([(MAIN, "test.parquet", b"PAR1PAR1".as_slice())]);
    assert!(broken.rows(None, "test", Value::Null).unwrap_err().contains("is not a readable parquet file"));
}

#[test]
fn options_that_change_rows_are_followed_or_refused() {
    let readme = b"---
configs:
- {config_name: c, field: rows, data_files: t.json}
- {config_name: d, sep: ';', data_files: t.csv}
---
";
    let shelf = Shelf::new([
        (MAIN, README, readme.as_slice()),
        (MAIN, "t.json", b"{\"rows\": [{\"a\": 4}], \"more\": [{\"a\": 5}]}"),
        (MAIN, "t.csv", b"b;a\n0;6\n"),
    ]);
    assert_eq!(values(shelf.rows(Some("c"), "train", Value::Null)), [4]);
    assert_eq!(values(shelf.rows(Some("c"), "train", json!({"field": "more", "trust_remote_code": true}))), [5]);
    assert_eq!(values(shelf.rows(Some("d"), "train", Value::Null)), [6]);
    assert!(shelf.rows(Some("c"), "train", json!({"split": "train[:1]"})).unwrap_err().contains("\"split\""));
    assert!(shelf.rows(Some("c"), "train", json!({"revision": 1})).unwrap_err().contains("revision must be a text"));
}

/// Expected: `load_dataset` of datasets 5.2.
#[test]
fn columns_have_the_types_of_the_card() {
    let info =
        "dataset_info:\n  features:\n  - {name: i, dtype: string}\n  - {name: x, dtype: float64}\n  - {name: f, dtype: string}\n";
    let files = [(MAIN, "a.csv", b"f,i,x\n1.0,007,1\n2.5,010,2\n".as_slice())];
    let cards = [format!("---\n{info}---\n"), format!("---\n{info}configs:\n- config_name: default\n  data_files: a.csv\n---\n")];
    for card in &cards {
        let shelf = Shelf::new(files.into_iter().chain([(MAIN, README, card.as_bytes())]));
        for kwargs in [Value::Null, json!({"data_files": "*.csv"})] {
            let docs = shelf.docs(None, "train", kwargs).unwrap();
            assert_eq!(docs.columns, ["i", "x", "f"]);
            let rows = docs.rows.iter().map(|row| Value::Object(DataRow::clone(row))).collect::<Vec<_>>();
            assert_eq!(rows, [json!({"i": "7", "x": 1.0, "f": "1"}), json!({"i": "10", "x": 2.0, "f": "2.5"})]);
        }
    }
    let shelf = Shelf::new([(MAIN, README, cards[0].as_bytes()), (MAIN, "a.csv", b"i,x\nz,z\n")]);
    let error = shelf.rows(None, "train", Value::Null).unwrap_err();
    assert!(error.contains("a.csv: row 0: by its card, \"x\" is a number"), "{error}");
}

#[test]
fn a_file_is_found_by_its_address() {
    let shelf = Shelf::new([(MAIN, "data/x.jsonl", b"{}".as_slice()), (CONVERTED, "c/test/0000.parquet", b"")]);
    let at = |address: &str| at_address(Some(&shelf), address).map(|found| found.map_err(|e| e.to_string()));
    assert_eq!(at("hf://datasets/o/set/data/*.jsonl").unwrap().unwrap(), [shelf.dir.path().join("main/data/x.jsonl")]);
    let converted = at("hf://datasets/o/set@refs%2Fconvert%2Fparquet/c/test/0000.parquet").unwrap().unwrap();
    assert_eq!(converted, [shelf.dir.path().join(CONVERTED).join("c/test/0000.parquet")]);
    assert!(at("hf://datasets/o/set/../x.jsonl").unwrap().unwrap_err().contains("leads out"));
    assert!(at("hf://datasets/o/set@v1/x.jsonl").unwrap().unwrap_err().contains("no revision"));
    assert!(at("hf://datasets/o").unwrap().unwrap_err().contains("no address"));
    assert!(at("data/x.jsonl").is_none());
    assert!(at_address(None, "hf://datasets/o/set/x.jsonl").unwrap().unwrap_err().to_string().contains("data_map"));
}

//! Rows of data sets of a hub on this machine, from the task file to the rows, as a program joins both crates. Absent: which
//! files belong to what (`rows/data_set/tests.rs`), what the hub's refusals say (`src/hub/tests`).

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitworth_hub::{DataSets, Settings, Watcher};
use bitworth_quant::message::Message;
use bitworth_tasks::files::config::TaskConfig;
use bitworth_tasks::files::index::Index;
use bitworth_tasks::rows::DataSources;
use bitworth_tasks::rows::data_set::{DataSetFiles, Listed};
use rayon::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use super::server::{Commit, Hub};

const CONVERTED: &str = "refs/convert/parquet";
/// Columns `a` of 1 and 2, and of 3: `pyarrow.parquet.write_table` of pyarrow 26.
const FIRST: &[u8] = include_bytes!("first.parquet");
const SECOND: &[u8] = include_bytes!("second.parquet");

/// The hub as a source of data sets.
#[derive(Debug)]
struct OfHub(DataSets);

impl DataSetFiles for OfHub {
    fn list(&self, data_set: &str, revision: &str) -> Result<Option<Listed>, Message> {
        let list = self.0.list(data_set, revision).map_err(|e| e.message())?;
        Ok(list.map(|list| Listed { files: list.files, whole: list.whole }))
    }

    fn fetch(&self, data_set: &str, revision: &str, paths: &[&str]) -> Result<Vec<PathBuf>, Message> {
        self.0.fetch(data_set, revision, paths).map_err(|e| e.message())
    }
}

fn sources(hub: &str, cache: &Path, offline: bool) -> DataSources {
    let variable = |name: &str| -> Option<OsString> {
        match name {
            "HF_ENDPOINT" => Some(hub.into()),
            "HF_HUB_CACHE" => Some(cache.into()),
            "HF_HUB_OFFLINE" => offline.then(|| "1".into()),
            _ => None,
        }
    };
    let sets = DataSets::with_settings(Settings::read(&variable).unwrap(), Watcher::silent());
    DataSources { map: None, data_sets: Some(Arc::new(OfHub(sets))) }
}

/// A task of these lines.
fn task(lines: &str) -> TaskConfig {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("t.yaml"), format!("task: t\n{lines}\n")).unwrap();
    let index = Index::read(&[dir.path().to_owned()]).unwrap();
    TaskConfig::new(&index.select(&["t".to_owned()]).unwrap().tasks[0]).unwrap()
}

/// The column `a` of the rows of a split.
fn values(sources: &DataSources, lines: &str, split: &str) -> bitworth_quant::Result<Vec<Value>> {
    let docs = sources.rows(&task(lines), split)?;
    Ok(docs.rows.iter().map(|row| row["a"].clone()).collect())
}

#[test]
fn many_tasks_ask_once() {
    let config = |i: usize| format!("- config_name: c{i}\n  data_files:\n  - split: test\n    path: c{i}/test-*.jsonl\n");
    let readme = format!("---\nconfigs:\n{}---\n", (0..57).map(config).collect::<String>());
    let names: Vec<&'static str> = (0..57).map(|i| &*format!("c{i}/test-00000-of-00001.jsonl").leak()).collect();
    let files = names.iter().enumerate().map(|(i, name)| (*name, format!("{{\"a\": {i}}}\n").into_bytes()));
    let hub = Hub::new([Commit::new("o/many", "main", files.chain([("README.md", readme.into_bytes())]))]);
    let dir = TempDir::new().unwrap();
    let check = |sources: &DataSources| {
        (0..57_usize).into_par_iter().for_each(|i| {
            let lines = format!("dataset_path: o/many\ndataset_name: c{i}");
            assert_eq!(values(sources, &lines, "test").unwrap(), [Value::from(i)]);
        });
    };
    check(&sources(&hub.address, dir.path(), false));
    let asked = hub.asked();
    assert_eq!(asked.len(), 57 + 2, "{asked:?}");
    assert_eq!(asked.iter().filter(|path| path.ends_with("README.md")).count(), 1);
    check(&sources(&hub.address, dir.path(), true));
    assert!(hub.asked().is_empty());
    let error = values(&sources(&hub.address, dir.path(), true), "dataset_path: o/many\ndataset_name: c57", "test");
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("t.yaml")
            && error.contains("task t: split \"test\": the data set o/many: it has no configuration \"c57\""),
        "{error}"
    );
    assert!(error.contains("c38, c39 and 17 more; or name a local file"), "{error}");
}

#[test]
fn conversions_plain_files_and_addresses_are_read() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(b"{\"a\": 4}\n{\"a\": 5}\n").unwrap();
    let plain = [("test.jsonl.gz", packed.finish().unwrap()), ("train.jsonl", b"{\"a\": 6}\n".to_vec())];
    let made = [("made.py", b"raise".to_vec()), ("raw/test.csv", b"a\n0\n".to_vec())];
    let converted = [("c/test/0000.parquet", FIRST.to_vec()), ("c/test/0001.parquet", SECOND.to_vec())];
    let hub = Hub::new([
        Commit::new("plain", "main", plain),
        Commit::new("o/made", "main", made),
        Commit::new("o/made", CONVERTED, converted),
        Commit::new("o/lost", "main", [("lost.py", b"raise".to_vec())]),
    ]);
    let dir = TempDir::new().unwrap();
    for offline in [false, true] {
        let sources = sources(&hub.address, dir.path(), offline);
        let values = |lines: &str, split: &str| values(&sources, lines, split);
        assert_eq!(values("dataset_path: plain", "test").unwrap(), [4, 5]);
        assert_eq!(values("dataset_path: plain", "train").unwrap(), [6]);
        assert!(values("dataset_path: plain", "dev").unwrap_err().to_string().contains("no split \"dev\"; it has train, test"));
        assert_eq!(values("dataset_path: o/made\ndataset_name: c", "test").unwrap(), [1, 2, 3]);
        assert_eq!(values("dataset_path: o/made", "test").unwrap(), [1, 2, 3]);
        let kwargs = "dataset_kwargs: {revision: refs/convert/parquet, data_files: {test: c/test/0001.parquet}}";
        assert_eq!(values(&format!("dataset_path: o/made\n{kwargs}"), "test").unwrap(), [3]);
        let kwargs = "dataset_kwargs: {data_files: {test: 'hf://datasets/o/made@refs%2Fconvert%2Fparquet/c/test/*'}}";
        assert_eq!(values(&format!("dataset_path: parquet\n{kwargs}"), "test").unwrap(), [1, 2, 3]);
        if !offline {
            let error = values("dataset_path: o/lost", "test").unwrap_err().to_string();
            assert!(error.contains("lost.py makes its rows") && error.contains("data_map"), "{error}");
        }
    }
    let error = values(&sources(&hub.address, dir.path(), false), "dataset_path: o/none", "test");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("t.yaml") && error.contains("no such data set"), "{error}");
}

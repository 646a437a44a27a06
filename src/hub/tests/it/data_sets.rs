//! Lists and files of data sets. The cache's layout is that of huggingface_hub 2.4, which read what is written here
//! (`hf_hub_download` and `get_cached_repo_tree` with `HF_HUB_OFFLINE=1`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bitworth_hub::{DataSets, Settings, Watcher};
use tempfile::TempDir;

use super::server::host::{git_hash, sha256};
use super::server::{Answer, Commit, Hub};

const ID: &str = "owner/set";
const CONVERTED: &str = "refs/convert/parquet";

fn main_commit() -> Commit {
    let files = [("README.md", b"# Card\n".to_vec()), ("data/test.parquet", vec![7; 5000]), ("data/train.parquet", vec![8; 9])];
    Commit::new(ID, "main", files)
}

/// Data sets as a process has them whose environment says this.
fn data_sets(hub: &str, cache: &Path, more: &[(&str, &str)]) -> DataSets {
    let variable = |name: &str| -> Option<OsString> {
        match name {
            "HF_ENDPOINT" => Some(hub.into()),
            "HF_HUB_CACHE" => Some(cache.into()),
            _ => more.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into()),
        }
    };
    DataSets::with_settings(Settings::read(&variable).unwrap(), Watcher::silent())
}

fn blobs(cache: &Path) -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(cache.join("datasets--owner--set/blobs")) else { return Vec::new() };
    let mut names: Vec<String> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn lists_and_files_are_asked_for_once_and_laid_out_as_other_tools_have_them() {
    let (hub, dir) = (Hub::new([main_commit()]), TempDir::new().unwrap());
    let commit = main_commit().commit;
    let sets = data_sets(&hub.address, dir.path(), &[]);
    let list = sets.list(ID, "main").unwrap().unwrap();
    let expected = [("README.md", 7), ("data/test.parquet", 5000), ("data/train.parquet", 9)];
    assert_eq!((list.files, list.whole), (expected.map(|(path, size)| (path.to_owned(), size)).to_vec(), true));
    assert!(!dir.path().join("datasets--owner--set").exists(), "a list alone is not kept");
    assert_eq!(sets.list(ID, CONVERTED).unwrap(), None);

    let places = sets.fetch(ID, "main", &["data/test.parquet", "README.md"]).unwrap();
    assert_eq!(std::fs::read(&places[0]).unwrap(), vec![7; 5000]);
    assert_eq!(std::fs::read(&places[1]).unwrap(), b"# Card\n");
    let root = dir.path().join("datasets--owner--set");
    assert_eq!(places[0], root.join("snapshots").join(&commit).join("data/test.parquet"));
    if cfg!(unix) {
        let target = std::fs::read_link(&places[0]).unwrap();
        assert_eq!(target, Path::new("../../../blobs").join(sha256(&[7; 5000])));
    }
    let mut expected = [git_hash(b"# Card\n"), sha256(&[7; 5000])];
    expected.sort();
    assert_eq!(blobs(dir.path()), expected);
    assert_eq!(std::fs::read_to_string(root.join("refs/main")).unwrap(), commit);
    let tree: serde_json::Value =
        serde_json::from_slice(&std::fs::read(root.join(format!("trees/{commit}.json"))).unwrap()).unwrap();
    assert_eq!(tree["format_version"], 1);
    assert_eq!(tree["files"]["README.md"], serde_json::json!({"size": 7, "blob_id": git_hash(b"# Card\n")}));
    assert_eq!(tree["files"]["data/test.parquet"]["lfs_sha256"], sha256(&[7; 5000]));

    for _ in 0..57 {
        sets.list(ID, "main").unwrap();
        sets.list(ID, CONVERTED).unwrap();
        sets.fetch(ID, "main", &["README.md", "data/test.parquet"]).unwrap();
    }
    let asked = hub.asked();
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert_eq!(asked.iter().filter(|path| path.starts_with("/api/datasets/owner/set/revision/")).count(), 2);
}

#[test]
fn without_a_network_the_cache_is_asked() {
    let (hub, dir) =
        (Hub::new([main_commit(), Commit::new("owner/other", "main", [("a.csv", b"a\n".to_vec())])]), TempDir::new().unwrap());
    let sets = data_sets(&hub.address, dir.path(), &[]);
    sets.list(ID, "main").unwrap();
    sets.fetch(ID, "main", &["README.md"]).unwrap();
    hub.asked();

    let check = |sets: &DataSets, why: &str| {
        assert_eq!(sets.list(ID, "main").unwrap().unwrap().files.len(), 3);
        assert_eq!(sets.list(ID, CONVERTED).unwrap(), None);
        let places = sets.fetch(ID, "main", &["README.md"]).unwrap();
        assert_eq!(std::fs::read(&places[0]).unwrap(), b"# Card\n");
        let error = sets.fetch(ID, "main", &["data/test.parquet"]).unwrap_err().to_string();
        assert!(error.contains("owner/set: data/test.parquet: is not in ") && error.contains(why), "{error}");
    };
    let offline = data_sets(&hub.address, dir.path(), &[("HF_HUB_OFFLINE", "1")]);
    check(&offline, "HF_HUB_OFFLINE");
    let error = offline.list("owner/other", "main").unwrap_err().to_string();
    assert!(error.contains("owner/other") && error.contains("HF_HUB_OFFLINE"), "{error}");
    assert!(hub.asked().is_empty());
    // A port that nobody listens at.
    let gone = "http://127.0.0.1:9";
    check(&data_sets(gone, dir.path(), &[]), "gives no answer");
    let error = data_sets(gone, dir.path(), &[]).list("owner/other", "main").unwrap_err().to_string();
    assert!(error.contains("owner/other") && error.contains("check the network"), "{error}");
}

#[test]
fn what_other_tools_fetched_is_found_without_a_list() {
    let (hub, dir) = (Hub::new([main_commit()]), TempDir::new().unwrap());
    data_sets(&hub.address, dir.path(), &[]).fetch(ID, "main", &["README.md", "data/train.parquet"]).unwrap();
    std::fs::remove_dir_all(dir.path().join("datasets--owner--set/trees")).unwrap();
    let offline = data_sets(&hub.address, dir.path(), &[("HF_HUB_OFFLINE", "1")]);
    let list = offline.list(ID, "main").unwrap().unwrap();
    assert_eq!(list.files, [("README.md".to_owned(), 7), ("data/train.parquet".to_owned(), 9)]);
    assert!(!list.whole);
    assert_eq!(std::fs::read(&offline.fetch(ID, "main", &["data/train.parquet"]).unwrap()[0]).unwrap(), vec![8; 9]);
    // Of a commit whose list is kept, nothing is asked but missing files.
    let commit = main_commit().commit;
    data_sets(&hub.address, dir.path(), &[]).fetch(ID, &commit, &["README.md"]).unwrap();
    hub.asked();
    let places = data_sets(&hub.address, dir.path(), &[]).fetch(ID, &commit, &["README.md", "data/test.parquet"]).unwrap();
    assert_eq!(std::fs::read(&places[1]).unwrap(), vec![7; 5000]);
    assert_eq!(hub.asked(), [format!("/datasets/owner/set/resolve/{commit}/data/test.parquet")]);
}

/// What is said where the hub answers otherwise than well.
#[track_caller]
fn refused(rule: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static, token: &[(&str, &str)], expected: &[&str]) {
    let (hub, dir) = (Hub::with([main_commit()], rule), TempDir::new().unwrap());
    let sets = data_sets(&hub.address, dir.path(), token);
    let error = sets.list(ID, "main").and_then(|_| sets.fetch(ID, "main", &["data/test.parquet"])).unwrap_err().to_string();
    for part in expected.iter().chain(&["the data set owner/set"]) {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
    assert!(blobs(dir.path()).is_empty(), "{:?}", blobs(dir.path()));
    assert!(!dir.path().join("datasets--owner--set/refs").exists());
}

#[test]
fn refusals_say_what_to_do() {
    let said =
        |status: u16, code: &'static str| move |_: &str| Some((status, vec![("x-error-code", code.to_owned())], Vec::new()));
    let files = |status: u16, code: &'static str| {
        move |path: &str| if path.contains("/resolve/") { said(status, code)(path) } else { None }
    };
    let token = [("HF_TOKEN", "hf_x")];
    refused(said(401, "RepoNotFound"), &[], &["no such data set", "private", "/datasets/owner/set", "HF_TOKEN"]);
    refused(said(404, "RepoNotFound"), &token, &["no such data set", "token sees it"]);
    refused(
        files(401, "GatedRepo"),
        &[],
        &["data/test.parquet", "gated", "accept its conditions", "/datasets/owner/set", "HF_TOKEN"],
    );
    refused(files(403, "GatedRepo"), &token, &["gated", "no access"]);
    refused(files(404, "EntryNotFound"), &[], &["is not in the repository"]);
    refused(|_| Some((200, Vec::new(), b"<html>".to_vec())), &[], &["no list of files", "HF_ENDPOINT"]);
}

#[test]
fn another_content_than_listed_is_not_kept() {
    let answer = |bytes: Vec<u8>| move |path: &str| path.contains("/resolve/").then(|| (200, Vec::new(), bytes.clone()));
    refused(answer(vec![9; 5000]), &[], &["data/test.parquet", "its hash is", "removed"]);
    refused(answer(vec![7; 5001]), &[], &["has 5001 bytes, the hub lists 5000"]);
    let list = |path: &'static str| {
        move |asked: &str| {
            let files = serde_json::json!([{"rfilename": path, "size": 1, "blobId": "00".repeat(20)}]);
            let json = serde_json::json!({"sha": "12".repeat(20), "siblings": files}).to_string();
            asked.starts_with("/api/").then(|| (200, Vec::new(), json.into_bytes()))
        }
    };
    refused(list("../../x"), &[], &["\"../../x\"", "would not stay in its folder"]);
    refused(list("a.csv"), &[], &["data/test.parquet: is not in the repository"]);
}

#[test]
fn names_are_checked_and_old_ones_followed() {
    let rule = |path: &str| {
        let to = path.strip_prefix("/api/datasets/old/").map(|rest| format!("/api/datasets/owner/set/{rest}"));
        let to = to.or_else(|| path.strip_prefix("/datasets/old/").map(|rest| format!("/datasets/owner/set/{rest}")));
        to.map(|to| (307, vec![("location", to.split('?').next().unwrap().to_owned())], Vec::new()))
    };
    let (hub, dir) = (Hub::with([main_commit()], rule), TempDir::new().unwrap());
    let sets = data_sets(&hub.address, dir.path(), &[]);
    let places: Vec<PathBuf> = sets.fetch("old", "main", &["README.md"]).unwrap();
    assert!(places[0].starts_with(dir.path().join("datasets--old/snapshots")) && places[0].is_file());
    for (id, revision) in [("../x", "main"), ("a/b/c", "main"), ("a/b", "../..")] {
        assert!(sets.list(id, revision).unwrap_err().to_string().contains(&format!("the data set {id}: ")));
    }
    assert!(sets.fetch(ID, "v1", &["README.md"]).unwrap_err().to_string().contains("no revision \"v1\""));
}

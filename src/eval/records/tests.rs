//! Tests of [`super`].

use super::*;
use crate::sample;

fn origin() -> Origin {
    Origin::new("model", "lane/ä", "device", "f32")
}

#[test]
fn every_record_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = sample::records();
    records.truncate(400);
    records.extend(sample::rolling(&records, 0.1 + 0.2));
    records.extend(sample::with_tokens(&records));
    let text = Body::Item(ItemRecord {
        task: "sums".into(),
        task_version: "2".into(),
        item: 7,
        value: Some(0.0),
        text: Some("5\n\"8\"".into()),
        ..ItemRecord::default()
    });
    let choices = Body::Item(ItemRecord {
        task: "mmlu_anatomy".into(),
        task_version: "1.0, 5-shot".into(),
        item: u32::MAX,
        value: Some(0.1 + 0.2),
        metric: Some("f1,none".into()),
        logprobs: vec![-1.5, f64::NEG_INFINITY],
        greedy: Some(vec![true, false]),
        text: None,
        gold: Some(1),
        group: Some("mmlu/mmlu_stem".into()),
        cluster: Some("a passage\nof two lines".into()),
        scores: vec![("acc,none".into(), 1.0), ("f1,none".into(), 1.0 / 3.0)],
    });
    let lane = Body::Lane(LaneRecord {
        recipe: "q4_k_m".into(),
        is_reference: false,
        file: Some("a.gguf".into()),
        bytes: u64::MAX,
        bpw: 1.0 / 3.0,
        sha256: Some("00ff".into()),
        types: Some("Q4_K 3".into()),
        imatrix: Some("m.gguf, prose.txt".into()),
        fell_back: Some(u64::MAX),
        parts: Some(2),
    });
    records.extend([text, choices, lane].map(|body| Record { origin: origin(), body }));
    append(dir.path(), "everything", &records, None).unwrap();
    assert!(load(dir.path()).unwrap() == records);
}

#[test]
fn items_are_loaded_in_the_order_of_their_names_and_replaced_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let record = |seconds| {
        let body = Body::Speed(Speed {
            phase: crate::record::Phase::Decode,
            tokens: 1,
            depth: 0,
            batch: 1,
            repetition: 0,
            seconds,
            drifted: seconds > 3.0,
            joules: (seconds > 2.0).then_some(seconds / 3.0),
            arithmetic: "q8".into(),
            engine: "llama-bench 1 (a), CPU".into(),
            shape: (seconds > 3.0).then(|| "llama-1b".into()),
            footprint: Footprint { load_seconds: None, memory_bytes: Some(u64::MAX), device_bytes: None },
        });
        Record { origin: origin(), body }
    };
    append(dir.path(), "b", &[record(1.0)], None).unwrap();
    append(dir.path(), "a", &[record(2.0), record(3.0)], None).unwrap();
    append(dir.path(), "b", &[record(4.0)], None).unwrap();
    append(dir.path(), "none", &[], None).unwrap();
    assert_eq!(load(dir.path()).unwrap(), [record(2.0), record(3.0), record(4.0)]);
}

#[test]
fn a_file_says_which_session_measured_its_records() {
    let dir = tempfile::tempdir().unwrap();
    let records = &sample::records()[..3];
    let written = SessionInfo {
        unix_seconds: 1_700_000_000,
        host: Some("a \"host\" /ä".into()),
        system: None,
        threads: 3,
        bitworth: "1.2.3".into(),
        commit: Some("0123456789ab".into()),
    };
    append(dir.path(), "told", records, Some(&written)).unwrap();
    append(dir.path(), "untold", records, None).unwrap();
    let of = |item: &str| session(&path(dir.path(), item));
    assert_eq!((of("told").unwrap(), of("untold").unwrap()), (Some(written), None));
    // The records themselves are the same.
    assert!(load_item(dir.path(), "told").unwrap() == records && load_item(dir.path(), "untold").unwrap() == records);
    let metadata = Some(vec![(SESSION.to_owned(), "{\"threads\": -1}".to_owned())]);
    write_frame(&path(dir.path(), "wrong"), frame(records), metadata).unwrap();
    let error = of("wrong").unwrap_err().to_string();
    assert!(error.contains("wrong.parquet") && error.contains(SESSION), "{error}");
    assert!(of("none").unwrap_err().to_string().contains("none.parquet"));
    std::fs::write(path(dir.path(), "text"), "no parquet").unwrap();
    assert!(of("text").unwrap_err().to_string().contains("text.parquet"));
}

#[test]
fn an_item_is_done_once_its_file_is_there() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!has(dir.path(), "text"));
    append(dir.path(), "text", &sample::records()[..1], None).unwrap();
    assert!(has(dir.path(), "text") && !has(dir.path(), "tex"));
}

#[test]
fn any_item_name_is_one_file_in_the_folder() {
    let dir = Path::new("run");
    assert_eq!(path(dir, "lane-1_q4.k"), Path::new("run/records/lane-1_q4.k.parquet"));
    assert_eq!(path(dir, "../a b%"), Path::new("run/records/..%2Fa%20b%25.parquet"));
}

#[track_caller]
fn check_damage(damage: impl Fn(Vec<u8>) -> Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    append(dir.path(), "item", &sample::records()[..200], None).unwrap();
    let file = path(dir.path(), "item");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, damage(bytes)).unwrap();
    let error = load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("item.parquet"), "{error}");
}

#[test]
fn damaged_files_are_named() {
    check_damage(|_| Vec::new());
    check_damage(|_| b"not parquet at all".to_vec());
    check_damage(|bytes| bytes[..bytes.len() / 2].to_vec());
    check_damage(|bytes| bytes[bytes.len() / 2..].to_vec());
}

#[test]
fn a_file_with_other_columns_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let recipes = Series::new("recipe".into(), ["bf16", "q8_0"]).into_column();
    write_parquet(&path(dir.path(), "summary"), DataFrame::new(2, vec![recipes])).unwrap();
    let error = load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("column schema is missing"), "{error}");
}

#[test]
fn records_of_the_first_version_are_read_without_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = sample::records();
    records.iter_mut().for_each(|record| record.origin.schema = 1);
    let mut table = frame(&records).unwrap();
    let since_3 = ["text_name", "token_ids", "token_nll", "token_rank", "token_entropy", "token_argmax"];
    let compared = ["token_reverse_kld", "token_delta_p", "token_same_top"];
    let since_2 =
        ["speed_engine", "speed_shape", "speed_arithmetic", "drifted", "joules", "load_seconds", "memory_bytes", "device_bytes"];
    let since_6 = ["value", "metric", "greedy", "gold", "task_group", "cluster", "score_names", "scores"];
    for later in [&since_3[..], &compared, &since_2, &since_6].concat() {
        table = table.drop(later).unwrap();
    }
    let versions: Vec<Option<u32>> = records.iter().map(|r| r.as_item()?.task_version.parse().ok()).collect();
    table.replace("task_version", Series::new("task_version".into(), versions).into_column()).unwrap();
    write_parquet(&path(dir.path(), "item"), Ok(table)).unwrap();
    assert!(load(dir.path()).unwrap() == records);
}

#[test]
fn a_later_record_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut record = sample::records().remove(0);
    record.origin.schema = SCHEMA_VERSION + 1;
    append(dir.path(), "item", &[record], None).unwrap();
    let error = load(dir.path()).unwrap_err().to_string();
    assert!(error.contains(&format!("record version {}", SCHEMA_VERSION + 1)) && error.contains("item.parquet"), "{error}");
}

#[test]
fn a_folder_without_records_is_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(load(dir.path()).unwrap_err().to_string().contains(RECORDS));
    std::fs::create_dir(dir.path().join(RECORDS)).unwrap();
    assert!(load(dir.path()).unwrap_err().to_string().contains("holds no records"));
}

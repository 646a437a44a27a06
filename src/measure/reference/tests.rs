//! Both files: what was written comes back, and what was changed, cut short or made of something else is refused by name.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::log_probs::{self, CodeScale};
use super::logits_file::{LogitsFile, LogitsWriter};
use super::store::{HiddenType, Store, StoreIdentity, StoreWriter};
use crate::text::TextWindows;
use bitworth_engine::sweep::Sequence;
use bitworth_eval::record::{Protocol, Windowing};

const VOCAB: usize = 7;
const WIDTH: usize = 3;

fn about() -> StoreIdentity {
    StoreIdentity {
        model: "tiny".into(),
        vocab_size: VOCAB,
        head_sha256: "aa".into(),
        text_sha256: "bb".into(),
        protocol: "windows of 6".into(),
        arithmetic: "f32".into(),
        device: "cpu".into(),
    }
}

/// Ragged ones, one without a scored row among them.
fn sequences() -> Vec<Sequence> {
    vec![
        Sequence { tokens: vec![1, 2, 3, 4], scored: 1..3 },
        Sequence { tokens: vec![5], scored: 0..0 },
        Sequence { tokens: vec![6, 0, 6, 1, 2], scored: 0..4 },
    ]
}

fn hidden(rows: usize) -> Vec<f32> {
    (0..rows * WIDTH).map(|i| (i as f32).mul_add(0.37, -1.0)).collect()
}

fn write_store(path: &Path, kind: HiddenType) {
    let sequences = sequences();
    let mut writer = StoreWriter::create(path, &about(), kind, WIDTH, &sequences).unwrap();
    // In another order than they lie in.
    for i in [2, 0, 1] {
        writer.put(i, &hidden(sequences[i].scored.len())).unwrap();
    }
    writer.finish().unwrap();
}

/// All that a store says, or its error.
fn read_store(path: &Path) -> bitworth_quant::Result<Vec<Vec<f32>>> {
    let store = Store::open(path)?;
    store.check(&about(), WIDTH, &sequences())?;
    (0..store.sequences().len()).map(|i| store.rows(i)).collect()
}

/// Windows of 6 tokens, scored from 3: two rows each.
fn text(windows: &[[u32; 6]], bos: Option<u32>) -> TextWindows {
    let sequences = windows
        .iter()
        .map(|ids| {
            let mut tokens = ids.to_vec();
            tokens[0] = bos.unwrap_or(tokens[0]);
            Sequence { tokens, scored: 3..5 }
        })
        .collect();
    TextWindows {
        name: None,
        protocol: Protocol { pass: Windowing::Windows, ctx: 6, first: 3, bos: bos.is_some() },
        sha256: "bb".into(),
        sequences,
        first_ids: windows.iter().map(|ids| ids[0]).collect(),
        bytes: vec![2; windows.len()],
        covered: 0,
    }
}

fn two_windows() -> TextWindows {
    text(&[[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]], Some(0))
}

fn logits(rows: usize) -> Vec<f32> {
    (0..rows * VOCAB).map(|i| ((i * 37 % 50) as f32).mul_add(0.4, -7.0)).collect()
}

fn write_logits(path: &Path, text: &TextWindows) {
    let mut writer = LogitsWriter::create(path, text, VOCAB).unwrap();
    let all = logits(text.sequences.len() * 2);
    let (a, b) = all.split_at(VOCAB);
    writer.put(1, b).unwrap();
    writer.put(0, a).unwrap();
    writer.finish().unwrap();
}

fn read_logits(path: &Path) -> bitworth_quant::Result<Vec<f32>> {
    let file = LogitsFile::open(path)?;
    file.check(&two_windows(), VOCAB)?;
    let mut out = vec![0.0; 4 * VOCAB];
    file.tile(0..4, 0..VOCAB, &mut out)?;
    Ok(out)
}

fn folder() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("reference.bin");
    (dir, path)
}

/// The error of a file with these contents, which must name the file.
#[track_caller]
fn refusal<T: std::fmt::Debug>(path: &Path, contents: &[u8], read: impl Fn(&Path) -> bitworth_quant::Result<T>) -> String {
    std::fs::write(path, contents).unwrap();
    let error = read(path).expect_err("is to be refused").to_string();
    assert!(error.starts_with(&path.display().to_string()), "{error}");
    error
}

#[track_caller]
fn has(error: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
}

#[test]
fn a_store_gives_back_what_was_put() {
    let (_dir, path) = folder();
    for kind in [HiddenType::F32, HiddenType::F16] {
        write_store(&path, kind);
        let store = Store::open(&path).unwrap();
        assert_eq!(
            (store.about(), store.sequences(), store.width(), store.hidden_type()),
            (&about(), &*sequences(), WIDTH, kind)
        );
        for (i, sequence) in sequences().iter().enumerate() {
            let expected = hidden(sequence.scored.len());
            let rounded = expected.iter().map(|&v| if kind == HiddenType::F32 { v } else { half::f16::from_f32(v).to_f32() });
            assert_eq!(store.rows(i).unwrap(), rounded.collect::<Vec<_>>());
        }
    }
}

#[test]
fn the_same_store_has_the_same_bytes_and_is_safetensors() {
    let (dir, path) = folder();
    let other = dir.path().join("other.bin");
    write_store(&path, HiddenType::F32);
    write_store(&other, HiddenType::F32);
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes, std::fs::read(&other).unwrap());
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let expected: Vec<u8> = [hidden(2), hidden(4)].concat().iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(tensors.tensor("hidden").unwrap().data(), expected);
}

#[test]
fn a_store_with_any_byte_changed_is_refused() {
    let (_dir, path) = folder();
    write_store(&path, HiddenType::F16);
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        for flip in [1, 0x80] {
            let mut changed = whole.clone();
            changed[at] ^= flip;
            refusal(&path, &changed, read_store);
        }
    }
}

#[test]
fn a_file_of_any_other_length_is_refused() {
    let (_dir, path) = folder();
    write_store(&path, HiddenType::F32);
    let whole = std::fs::read(&path).unwrap();
    for len in 0..whole.len() {
        has(&refusal(&path, &whole[..len], read_store), &["at byte"]);
    }
    has(&refusal(&path, &[&whole[..], b"x"].concat(), read_store), &["should end at byte"]);

    write_logits(&path, &two_windows());
    let whole = std::fs::read(&path).unwrap();
    for len in 0..whole.len() {
        has(&refusal(&path, &whole[..len], read_logits), &["at byte"]);
    }
    has(&refusal(&path, &[&whole[..], b"x"].concat(), read_logits), &["at byte 8", "the file has"]);
}

#[test]
fn a_store_names_what_of_it_is_broken() {
    let (_dir, path) = folder();
    write_store(&path, HiddenType::F32);
    let whole = std::fs::read(&path).unwrap();
    let find = |text: &str| whole.windows(text.len()).position(|part| part == text.as_bytes()).unwrap();
    let changed = |text: &str, by: &str| {
        let mut changed = whole.clone();
        changed[find(text)..][..by.len()].copy_from_slice(by.as_bytes());
        changed
    };
    has(&refusal(&path, b"GGUF\x03\0\0\0 and so on", read_store), &["at byte 0", "no reference store"]);
    has(&refusal(&path, &changed("bitworth.reference", "bitwurst"), read_store), &["no reference store", "bitworth.reference"]);
    has(
        &refusal(&path, &changed("version\\\":1", "version\\\":9"), read_store),
        &["version 9", "reads version 1", "make it again"],
    );
    has(&refusal(&path, &changed("sequences", "sequencez"), read_store), &["sequences", "missing"]);
    has(&refusal(&path, &changed("tiny", "tinz"), read_store), &["checksum", "make it again"]);
    let mut rows = whole.clone();
    let blocks = 4 * 8 + 32 * 4;
    let hidden = whole.len() - blocks - 6 * WIDTH * 4 + 32;
    rows[hidden] ^= 1;
    has(&refusal(&path, &rows, read_store), &["checksum of sequence 0", &format!("at byte {hidden}")]);
}

#[test]
fn a_store_of_something_else_is_refused_by_name() {
    let (_dir, path) = folder();
    write_store(&path, HiddenType::F32);
    let store = Store::open(&path).unwrap();
    #[track_caller]
    fn check(store: &Store, change: impl FnOnce(&mut StoreIdentity, &mut usize, &mut Vec<Sequence>), parts: &[&str]) {
        let (mut about, mut width, mut sequences) = (about(), WIDTH, sequences());
        change(&mut about, &mut width, &mut sequences);
        let error = store.check(&about, width, &sequences).unwrap_err().to_string();
        has(&error, &[parts, &["reference.bin"]].concat());
    }
    check(&store, |about, _, _| about.vocab_size = 8, &["vocabulary of 7", "has 8"]);
    check(&store, |_, width, _| *width = 4, &["3 hidden states", "4"]);
    check(&store, |about, _, _| about.head_sha256 = "ab".into(), &["another head", "tiny"]);
    check(&store, |about, _, _| about.protocol = "windows of 8".into(), &["windows of 6", "windows of 8"]);
    check(&store, |_, _, s| s[2].tokens[3] = 5, &["token 3 of sequence 2 is 1, and 5 here"]);
    check(&store, |_, _, s| s[0].scored = 0..3, &["sequence 0", "1..3", "0..3"]);
    check(&store, |_, _, s| s[0].tokens.push(9), &["sequence 0 has 4 tokens"]);
    check(&store, |_, _, s| s.push(s[0].clone()), &["holds 3 sequences, 4 are", "chunks 3"]);
    // Another name, device or text around the same windows is no other reference.
    let renamed = StoreIdentity { model: "t".into(), device: "gpu".into(), text_sha256: "cc".into(), ..about() };
    store.check(&renamed, WIDTH, &sequences()[..2]).unwrap();
}

#[test]
fn what_cannot_be_stored_is_refused() {
    let (dir, path) = folder();
    let sequences = sequences();
    let refused = |kind, sequence, rows: &[f32]| {
        let mut writer = StoreWriter::create(&path, &about(), kind, WIDTH, &sequences).unwrap();
        writer.put(sequence, rows).unwrap_err().to_string()
    };
    has(&refused(HiddenType::F32, 0, &hidden(3)), &["sequence 0", "9", "6"]);
    has(&refused(HiddenType::F32, 0, &[f32::NAN; 6]), &["sequence 0", "NaN"]);
    has(&refused(HiddenType::F16, 2, &[7e4; 12]), &["sequence 2", "70000", "reference_type f32"]);
    let mut writer = StoreWriter::create(&path, &about(), HiddenType::F32, WIDTH, &sequences).unwrap();
    writer.put(0, &hidden(2)).unwrap();
    has(&writer.finish().unwrap_err().to_string(), &["sequence 1 is missing"]);
    let mut writer = LogitsWriter::create(&path, &two_windows(), VOCAB).unwrap();
    has(&writer.put(1, &[f32::NAN; 2 * VOCAB]).unwrap_err().to_string(), &["scored row 1", "not numbers"]);
    writer.put(0, &logits(3)).unwrap();
    has(&writer.finish().unwrap_err().to_string(), &["scored row 3 is missing"]);
    let mut rolling = two_windows();
    rolling.protocol.pass = Windowing::Rolling;
    has(&LogitsWriter::create(&path, &rolling, VOCAB).err().unwrap().to_string(), &["second half"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_logits_file_is_laid_out_as_llama_perplexity_does_it() {
    let (_dir, path) = folder();
    write_logits(&path, &two_windows());
    let bytes = std::fs::read(&path).unwrap();
    let mut expected = b"_logits_".to_vec();
    // The ids of the text, not the start token that the model sees.
    for number in [6, 7, 2, 1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1i32] {
        expected.extend(number.to_le_bytes());
    }
    // Scale, smallest, seven codes and one for alignment: 12 u16.
    for row in logits(4).chunks(VOCAB) {
        let mut codes = vec![0; 12];
        log_probs::encode(row, &mut codes).unwrap();
        expected.extend(codes.iter().flat_map(|code| code.to_le_bytes()));
    }
    assert_eq!(bytes, expected);
}

#[test]
fn tiles_are_parts_of_the_rows() {
    let (_dir, path) = folder();
    write_logits(&path, &two_windows());
    let file = LogitsFile::open(&path).unwrap();
    let whole = read_logits(&path).unwrap();
    for (row, logits) in logits(4).chunks(VOCAB).enumerate() {
        let log_sum = logits.iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln();
        for (token, &logit) in logits.iter().enumerate() {
            let exact = f64::from(logit) - log_sum;
            let found = file.log_prob(row, token as u32).unwrap();
            assert!((f64::from(found) - exact.max(f64::from(found).min(-16.0))).abs() < 3e-4, "{found} {exact}");
            let counted = if found > -16.0 { found } else { log_probs::NOTHING };
            assert_eq!(whole[row * VOCAB + token], counted);
        }
    }
    let mut part = vec![0.0; 4];
    file.tile(1..3, 4..6, &mut part).unwrap();
    assert_eq!(part, [&whole[VOCAB + 4..VOCAB + 6], &whole[2 * VOCAB + 4..2 * VOCAB + 6]].concat());
}

#[test]
fn every_field_of_a_logits_file_is_checked() {
    let (_dir, path) = folder();
    write_logits(&path, &two_windows());
    let whole = std::fs::read(&path).unwrap();
    let with = |at: usize, number: i32| {
        let mut changed = whole.clone();
        changed[at..at + 4].copy_from_slice(&number.to_le_bytes());
        changed
    };
    for at in 0..8 {
        let mut changed = whole.clone();
        changed[at] ^= 0x20;
        has(&refusal(&path, &changed, read_logits), &["at byte 0", "_logits_"]);
    }
    for (at, name) in [(8, "n_ctx"), (12, "n_vocab"), (16, "n_chunk")] {
        for number in [0, -1, i32::MIN] {
            has(&refusal(&path, &with(at, number), read_logits), &[&format!("at byte {at}"), name, &number.to_string()]);
        }
        for number in [5, 1000, i32::MAX] {
            has(&refusal(&path, &with(at, number), read_logits), &["at byte 8", "bytes, the file has"]);
        }
    }
    // 8 tokens would take the same bytes as 7.
    has(&refusal(&path, &with(12, 8), read_logits), &["vocabulary of 8", "has 7"]);
    for token in 0..12 {
        let at = 20 + 4 * token;
        has(&refusal(&path, &with(at, 7), read_logits), &[&format!("at byte {at}"), "token 7", "vocabulary of 7"]);
        has(&refusal(&path, &with(at, -2), read_logits), &["token -2"]);
    }
    let rows_at = 20 + 4 * 12;
    for (row, at) in [(0, rows_at), (3, rows_at + 3 * 24 + 4)] {
        let error = refusal(&path, &with(at, f32::NAN.to_bits() as i32), read_logits);
        has(&error, &[&format!("at byte {}", rows_at + row * 24), &format!("scored row {row}")]);
    }
}

#[test]
fn logits_of_something_else_are_refused_by_name() {
    let (_dir, path) = folder();
    write_logits(&path, &two_windows());
    let file = LogitsFile::open(&path).unwrap();
    assert_eq!(file.windows(), 2);
    let check = |text: &TextWindows, vocab: usize, parts: &[&str]| {
        let error = file.check(text, vocab).unwrap_err().to_string();
        has(&error, &[parts, &["reference.bin"]].concat());
    };
    check(&two_windows(), 9, &["vocabulary of 7", "has 9"]);
    let mut other = two_windows();
    other.protocol.ctx = 8;
    check(&other, VOCAB, &["windows of 6", "not 8", "ctx 6"]);
    check(&text(&[[1, 2, 3, 4, 5, 6], [6, 5, 4, 2, 2, 1]], Some(0)), VOCAB, &["token 3 of window 1 is 3, and 2 here"]);
    check(&text(&[[2, 2, 3, 4, 5, 6]], Some(0)), VOCAB, &["token 0 of window 0 is 1, and 2 here"]);
    let windows = [[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1], [0; 6]];
    check(&text(&windows, Some(0)), VOCAB, &["2 windows, 3 are to be scored", "chunks 2"]);
    // Fewer windows, and a start token where the text had something else.
    file.check(&text(&windows[..1], Some(0)), VOCAB).unwrap();
    file.check(&text(&[[5, 2, 3, 4, 5, 6]], Some(1)), VOCAB).unwrap();
    check(&text(&[[5, 2, 3, 4, 5, 6]], None), VOCAB, &["token 0 of window 0"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_logits_come_back_within_half_a_step(rows in prop::collection::vec(prop::collection::vec(-30.0f32..30.0, VOCAB), 4)) {
        let (_dir, path) = folder();
        let mut writer = LogitsWriter::create(&path, &two_windows(), VOCAB).unwrap();
        writer.put(0, &rows.concat()).unwrap();
        writer.finish().unwrap();
        let file = LogitsFile::open(&path).unwrap();
        for (row, logits) in rows.iter().enumerate() {
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let log_sum = logits.iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln();
            for (token, &logit) in logits.iter().enumerate() {
                let exact = f64::from(logit.max(max - 16.0)) - log_sum;
                let found = f64::from(file.log_prob(row, token as u32).unwrap());
                prop_assert!((found - exact).abs() <= 0.5 * 16.0 / 65535.0 + 1e-5, "{} {}", found, exact);
            }
        }
    }

    /// Contents of a stranger's are an error or are read, and never a panic.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), scale in any::<[u8; 8]>()) {
        let (_dir, path) = folder();
        for magic in [&b"_logits_"[..], &24u64.to_le_bytes()] {
            std::fs::write(&path, [magic, &bytes].concat()).unwrap();
            let _ = read_logits(&path);
            let _ = read_store(&path);
        }
        if let Some(scale) = CodeScale::of(scale) {
            prop_assert!(scale.counted(u16::MAX).is_finite() && scale.counted(0).is_finite());
        }
    }
}

//! `bitworth report` on records of our own: the card, the comparison of two runs, and the page in a browser. Headless Chromium
//! runs a copy of the page with a script of ours in it that acts as a reader would and writes down what it saw.

use std::path::{Path, PathBuf};
use std::process::Command;

use bitworth::eval::record::{
    Against, Body, Footprint, LaneRecord, OWN_ENGINE, Origin, Phase, Protocol, Record, SequenceRecord, Speed, Windowing,
};
use bitworth::report;
use serde_json::Value;
use tempfile::TempDir;

use crate::common;
use crate::skip::skip;

const LANES: u32 = 200;
/// A desktop's window and a phone's.
const SIZES: [&str; 2] = ["--window-size=1280,900", "--window-size=390,800"];

/// Records of a run with `lanes` lanes: the divergence falls with the size, the speed as well.
fn records(lanes: u32) -> Vec<Record> {
    let mut records = Vec::new();
    for lane in 0..lanes {
        let origin = Origin::new("a <b>model</b>", format!("lane-{lane}"), "device", "f32");
        let size = 1.0 + f64::from(lane * 37 % lanes) / f64::from(lanes);
        let kld = 0.1 * (-6.0 * (size - 1.0)).exp() * (1.0 + f64::from(lane % 5));
        let mut bodies = vec![Body::Lane(LaneRecord {
            recipe: "q4_k_m".into(),
            is_reference: lane == 0,
            file: None,
            bytes: if lane == 0 { 4_000_000_000 } else { (size * 1e9) as u64 },
            bpw: 4.0 * size,
            sha256: None,
            types: None,
            imatrix: None,
            fell_back: None,
            parts: None,
        })];
        bodies.extend((0..40).map(|number| {
            let wave = 1.0 + 0.1 * f64::from((number * 7 + lane) % 11);
            let against = Against { kld: vec![kld * wave; 16], top1_matches: 15, delta_p_sum: -0.1, delta_p_sq_sum: 0.01 };
            Body::Sequence(SequenceRecord {
                text: None,
                kept: None,
                text_sha256: "00".into(),
                protocol: Protocol { pass: Windowing::Windows, ctx: 32, first: 16, bos: true },
                sequence: number,
                tokens: 16,
                bytes: 64,
                nll_sum: 16.0 + if lane == 0 { 0.0 } else { kld * wave },
                against: (lane != 0).then_some(against),
            })
        }));
        bodies.extend((0..3).map(|repetition| {
            let seconds = size * (1.0 + 0.01 * f64::from(repetition));
            let (phase, footprint) = (Phase::Decode, Footprint::default());
            Body::Speed(Speed {
                phase,
                tokens: 64,
                depth: 0,
                batch: 1,
                repetition,
                seconds,
                drifted: false,
                joules: None,
                arithmetic: "f32".into(),
                engine: OWN_ENGINE.into(),
                shape: None,
                footprint,
            })
        }));
        records.extend(bodies.into_iter().map(|body| Record { origin: origin.clone(), body }));
    }
    records
}

/// What a reader does, and what is then seen. Each answer is a value of the JSON that ends up in the element `seen`.
const READER: &str = r##"
<script>
"use strict";
{
  const tip = document.getElementById("tip");
  const fire = (target, name, more) => target.dispatchEvent(
    Object.assign(new Event(name, { bubbles: true, cancelable: true }), more));
  const points = (chart) => [...chart.querySelectorAll(".pt")];
  const charts = [...document.querySelectorAll(".plot svg")];
  const seen = { charts: charts.length, points: charts.map((c) => points(c).length) };
  const box = points(charts[0])[0].querySelector(".dot").getBoundingClientRect();
  seen.drawn = box.width > 2 && box.height > 2 && charts.every((c) => c.getBoundingClientRect().height > 100);
  const names = [...charts[0].querySelectorAll(".name")].map((n) => n.getBoundingClientRect()).filter((r) => r.width > 0);
  const covers = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 4
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4;
  seen.overlaps = names.flatMap((a, i) => names.slice(i + 1).filter((b) => covers(a, b))).length;
  seen.hidden_before = getComputedStyle(tip).display === "none";
  fire(points(charts[0])[3], "pointerover");
  seen.hover = tip.innerText;
  seen.visible = getComputedStyle(tip).display !== "none";
  const at = tip.getBoundingClientRect();
  seen.inside = at.left >= 0 && at.right <= innerWidth && at.top >= 0 && at.height > 20;
  fire(points(charts[0])[3], "pointerout");
  seen.hidden_after = tip.hidden;
  const last = charts[charts.length - 1];
  const first = last.querySelector('.pt[tabindex="0"]');
  first.focus();
  seen.focus = tip.innerText.split("\n")[0] === first.dataset.tip.split("\n")[0] && !tip.hidden;
  fire(first, "keydown", { key: "ArrowRight" });
  seen.arrow = document.activeElement === points(last)[1] && tip.innerText.startsWith(points(last)[1].dataset.tip.split("\n")[0]);
  fire(document.activeElement, "keydown", { key: "Escape" });
  seen.escape = tip.hidden;
  const paper = () => getComputedStyle(document.body).backgroundColor;
  const ink = () => getComputedStyle(document.querySelector(".tick")).fill;
  const light = [paper(), ink()];
  document.getElementById("theme").click();
  seen.dark = paper() !== light[0] && ink() !== light[1];
  document.getElementById("theme").click();
  seen.light = paper() === light[0];
  const table = document.querySelector("table");
  const column = [...table.tHead.rows[0].cells].findIndex((head) => ["size", "file"].includes(head.textContent));
  const sizes = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[column].dataset.order));
  table.tHead.rows[0].cells[column].click();
  seen.sorted = sizes().every((size, i, all) => i === 0 || all[i - 1] <= size) && sizes().length;
  seen.wide = document.documentElement.scrollWidth <= innerWidth;
  document.body.append(Object.assign(document.createElement("pre"), { id: "seen", textContent: JSON.stringify(seen) }));
}
</script>
"##;

/// Chromium's headless shell, or Chromium; `BITWORTH_CHROMIUM` names another. Without one the caller skips and says so; in CI,
/// which installs it, that is a failure.
fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("BITWORTH_CHROMIUM").map(PathBuf::from);
    let names = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        named.or_else(|| names.iter().flat_map(|n| std::env::split_paths(&path).map(move |p| p.join(n))).find(|p| p.is_file()));
    if found.is_none() {
        skip("Chromium", "Chromium is missing");
    }
    found
}

/// Runs Chromium on `page` and returns what it prints, and what it logs.
fn browse(chromium: &Path, page: &Path, options: &[&str]) -> (String, String) {
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=5000"])
        .arg(format!("--user-data-dir={}", page.with_extension("profile").display()))
        .args(options)
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What the page's console says.
fn console(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("CONSOLE")).collect()
}

/// A copy of `page` beside it, with `script` at its end.
fn with_script(page: &Path, name: &str, script: &str) -> PathBuf {
    let html = std::fs::read_to_string(page).unwrap();
    assert_eq!(html.matches("</body>").count(), 1);
    let path = page.with_file_name(name);
    std::fs::write(&path, html.replace("</body>", &format!("{script}</body>"))).unwrap();
    path
}

/// Lets the reader act on `page`, checks what holds for every page, and returns what was seen.
fn act(chromium: &Path, page: &Path, size: &str) -> Value {
    let (dom, log) = browse(chromium, &with_script(page, "read.html", READER), &["--dump-dom", size]);
    assert_eq!(console(&log), [""; 0], "{size}");
    let seen = dom.split("<pre id=\"seen\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let seen = seen.unwrap_or_else(|| panic!("the script did not run to its end: {log}"));
    let seen: Value = serde_json::from_str(&seen.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")).unwrap();
    for name in
        ["drawn", "hidden_before", "visible", "inside", "hidden_after", "focus", "arrow", "escape", "dark", "light", "wide"]
    {
        assert_eq!(seen[name], true, "{name}, {size}: {seen}");
    }
    seen
}

#[test]
fn the_page_of_advice_works_in_a_browser() {
    let Some(chromium) = chromium() else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/runs/m2-ultra-vs-ryzen-395.toml");
    let advice = common::json(dir.path(), &["advise", run.to_str().unwrap(), "--out", "advice"]);
    let choices = advice["advice"]["choices"].as_array().unwrap();
    let fits = choices.iter().filter(|c| c["room"]["fit"] != "does-not-fit").count();
    assert!(fits > 100 && fits < choices.len(), "{fits}");
    for size in SIZES {
        let seen = act(&chromium, &dir.path().join("advice/advice.html"), size);
        assert_eq!((&seen["charts"], &seen["points"]), (&1.into(), &serde_json::json!([fits])), "{size}");
        let hover = seen["hover"].as_str().unwrap();
        for part in ["on A", "tok/s (", "% expected in MMLU", "KLD "] {
            assert!(hover.contains(part), "{part} in {hover}");
        }
        assert_eq!(seen["overlaps"], 0, "names that cover each other, {size}");
    }
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(chromium) = chromium() else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let records = records(LANES);
    let begin = std::time::Instant::now();
    report::write(dir.path(), &records).unwrap();
    common::say(&format!("the report of {LANES} lanes took {:.2} s", begin.elapsed().as_secs_f64()));
    let plain = dir.path().join("report.html");
    for size in SIZES {
        let seen = act(&chromium, &plain, size);
        assert_eq!((&seen["charts"], &seen["points"]), (&2.into(), &serde_json::json!([LANES, LANES])), "{size}");
        let hover = seen["hover"].as_str().unwrap();
        assert!(
            hover.starts_with("lane-")
                && hover.contains("size 1.")
                && hover.contains("KLD 0.")
                && hover.contains("decode tokens/s")
        );
        assert_eq!(seen["sorted"], LANES, "{size}");
    }
    let broken = with_script(&plain, "broken.html", "<script>no_such_function()</script>");
    assert_eq!(console(&browse(&chromium, &broken, &["--dump-dom"]).1).len(), 1, "an error would be seen");

    let pdf = dir.path().join("report.pdf");
    browse(&chromium, &plain, &["--no-pdf-header-footer", &format!("--print-to-pdf={}", pdf.display())]);
    let printed = std::fs::read(&pdf).unwrap();
    assert!(printed.starts_with(b"%PDF") && printed.len() > 20_000, "{} bytes", printed.len());
}

/// A run folder with these records.
fn folder(dir: &Path, name: &str, records: &[Record]) {
    bitworth::eval::records::append(&dir.join(name), "all", records, None).unwrap();
}

#[test]
fn a_run_that_became_worse_fails_the_gate() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let old = records(4);
    let mut new = old.clone();
    for record in new.iter_mut().filter(|r| r.origin.lane == "lane-2") {
        if let Body::Sequence(s) = &mut record.body {
            s.nll_sum += 0.1 + 0.001 * f64::from(s.sequence);
        }
    }
    folder(dir, "old", &old);
    folder(dir, "new", &new);
    let same = common::json(dir, &["report", "--compare", "old", "old"]);
    assert_eq!((&same["regressions"], same["comparison"]["changes"][0]["verdict"].as_str()), (&0.into(), Some("same")));
    let worse = common::run(dir, &["report", "--compare", "old", "new", "--json", "--quiet", "--out", "written"]);
    assert_eq!(worse.status.code(), Some(1), "{}", String::from_utf8_lossy(&worse.stderr));
    let document: Value = serde_json::from_slice(&worse.stdout).unwrap();
    assert_eq!(document["regressions"], 1);
    let changes = document["comparison"]["changes"].as_array().unwrap();
    let found = changes.iter().find(|c| c["verdict"] == "regression").unwrap();
    assert_eq!(
        (found["lane"].as_str(), found["measure"].as_str(), found["paired"].as_bool()),
        (Some("lane-2"), Some("perplexity"), Some(true))
    );
    assert!(String::from_utf8_lossy(&worse.stderr).contains("1 regression: lane-2 perplexity"));
    let written = std::fs::read_to_string(dir.join("written/comparison.md")).unwrap();
    assert!(written.contains("## Regressions") && dir.join("written/comparison.html").is_file());
    assert_eq!(common::run(dir, &["report", "--compare", "new", "old"]).status.code(), Some(0), "what became better passes");

    let mut other = old.clone();
    other
        .iter_mut()
        .filter_map(|r| if let Body::Sequence(s) = &mut r.body { Some(s) } else { None })
        .for_each(|s| s.text_sha256 = "ff".into());
    folder(dir, "other", &other);
    let refused = common::run(dir, &["report", "--compare", "old", "other"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot be compared"));
}

#[test]
fn files_that_bench_timed_and_compare_scored_have_one_row() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    common::json(dir, &["quantize", "demo", "--to", "q4_0", "--out", "q4.gguf"]);
    let file = dir.join("q4.gguf").display().to_string();
    // By other names of the same places, and with products in another arithmetic than scores are in.
    let bench = ["bench", file.as_str(), "demo", "-p", "4", "-n", "2", "-r", "2", "--no-warmup", "--drift-bound", "1000"];
    common::json(dir, &[&bench[..], &["--arithmetic", "q8", "--device", "cpu", "--records", "timed"]].concat());
    let compare = ["compare", "demo", "q4.gguf", "--text", "demo:data/eval.txt", "--ctx", "64", "--chunks", "2"];
    common::json(dir, &[&compare[..], &["--device", "cpu", "--records", "compared"]].concat());
    for folders in [["timed", "compared"], ["compared", "timed"]] {
        let report = common::json(dir, &[&["report"], &folders[..], &["--out", "both"]].concat());
        let rows = report["summary"].as_array().unwrap();
        let lanes: Vec<(&str, bool)> =
            rows.iter().map(|row| (row["lane"].as_str().unwrap(), row["is_reference"].as_bool().unwrap())).collect();
        assert_eq!(lanes, [("demo-model", true), ("q4", false)]);
        for row in rows {
            assert!(row["ppl"].is_f64() && row["kld_mean"].is_f64() && row["decode_tps"].is_f64(), "{row}");
            assert_eq!((&row["decode_repetitions"], &row["prefill_repetitions"]), (&2.into(), &2.into()));
            assert_eq!((row["activation_arithmetic"].as_str(), row["speed_arithmetic"].as_str()), (Some("f32"), Some("q8")));
            assert!(row["speed_device"].is_string() && row["speed_device"] == row["device"], "{row}");
        }
        assert_eq!(report["notes"].as_array().unwrap().len(), 0);
    }
    // Another file of that name, which is no version of what was timed.
    std::fs::create_dir(dir.join("other")).unwrap();
    common::json(dir, &["quantize", "demo", "--to", "q8_0", "--out", "other/q4.gguf"]);
    let other = ["compare", "demo", "other/q4.gguf", "--text", "demo:data/eval.txt", "--ctx", "64", "--chunks", "2"];
    common::json(dir, &[&other[..], &["--device", "cpu", "--records", "differs"]].concat());
    let report = common::json(dir, &["report", "timed", "differs", "--out", "apart"]);
    assert_eq!(report["summary"].as_array().unwrap().len(), 3);
    let note = report["notes"][0].as_str().unwrap();
    assert!(note.starts_with("Lane q4 was timed and lane q4 of demo-model scored"), "{note}");
    let bytes = |file: &str| dir.join(file).metadata().unwrap().len();
    let differ = format!("bytes (timed {}, scored {})", bytes("q4.gguf"), bytes("other/q4.gguf"));
    assert!(note.contains("recipe (timed q4_0, scored q8_0)") && note.contains(&differ), "{note}");
    let said = common::run(dir, &["report", "compared", "differs", "--out", "apart"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("lane q4: is described twice, differently: in recipe (q4_0 and q8_0)"), "{said}");
}

#[test]
fn columns_are_told_in_plain_markdown() {
    let output = common::run(Path::new("."), &["report", "--columns"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("| `<task>_items` | items | items that were asked |\n"), "{text}");
    assert!(!text.contains("\\`") && !text.contains("&lt;"), "{text}");
}

#[test]
fn a_card_is_written_when_asked_for() {
    let dir = TempDir::new().unwrap();
    folder(dir.path(), "run", &records(4));
    let plain = common::json(dir.path(), &["report", "run"]);
    assert_eq!(plain["files"].as_array().unwrap().len(), 4);
    let facts = ["--card", "--base-model", "owner/name", "--license", "mit", "--quantized-by", "me", "--tag", "tiny"];
    let carded = common::json(dir.path(), &[&["report", "run"], &facts[..]].concat());
    assert_eq!(carded["files"][4], "run/model-card.md");
    let card = std::fs::read_to_string(dir.path().join("run/model-card.md")).unwrap();
    assert!(card.starts_with("---\nbase_model: \"owner/name\"\n") && card.contains("quantized_by: \"me\""), "{card}");
    assert_eq!(common::run(dir.path(), &["report", "run", "--license", "mit"]).status.code(), Some(2), "a licence is for a card");
}

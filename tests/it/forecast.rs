//! The speed model as a user meets it: tables of speeds, and the calibration that comes with the program.

use std::path::Path;

use tempfile::TempDir;

use crate::common;

const HEADER: &str = "hardware,gpu_cores_or_variant,memory_gb,bandwidth_gbs,backend,date,model,\
                      params_b,quant,model_file_gib,n_prompt,n_gen,depth,n_devices\n";

/// The forecast of the rows, as cells by column.
fn forecast(rows: &str) -> Vec<std::collections::BTreeMap<String, String>> {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("in.csv"), format!("{HEADER}{rows}")).unwrap();
    common::json(dir.path(), &["forecast", "--rows", "in.csv", "--out", "out.csv"]);
    let mut reader = csv::Reader::from_path(dir.path().join("out.csv")).unwrap();
    let header = reader.headers().unwrap().clone();
    let cells = |record: csv::StringRecord| header.iter().zip(record.iter()).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    reader.records().map(|record| cells(record.unwrap())).collect()
}

fn number(row: &std::collections::BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column}: {row:?}"))
}

#[test]
fn rows_get_forecasts_with_ranges_or_a_reason() {
    let rows = forecast(
        "Apple M2 Ultra,76-core GPU,192,800,Metal,2025-06,Llama-3-70B,70.55,Q4_K_M,39.59,512,128,0,1\n\
         M2 Ultra,,64,,,,llama-3-8b,,q8_0,,512,128,8192,\n\
         NVIDIA RTX 4090,,24,,CUDA,2025-06,Llama-3-70B,,Q4_K_M,,512,128,0,1\n\
         Abacus 9000,,8,,CUDA,2025-06,Llama-3-8B,,Q4_0,,512,128,0,1\n\
         RTX 4090,,24,,CUDA,2025-06,GPT-9,,Q4_0,,512,128,0,1\n\
         RTX 4090,,24,,CUDA,2025-06,Llama-3-8B,,Q77_Z,,512,128,0,1\n\
         RTX 4090,,24,,Metal,2025-06,Llama-3-8B,,Q4_0,,512,128,0,1\n\
         RTX 4090,,24,,CPU,2025-06,Llama-3-8B,,Q4_0,,512,128,0,1\n\
         RTX 4090,,24,,CUDA,2025-06,Llama-3-8B,,Q4_0,1e8,512,128,0,1\n",
    );
    for row in &rows[..3] {
        for phase in ["tg", "pp"] {
            let [low, middle, high] = ["low", "forecast", "high"].map(|c| number(row, &format!("{phase}_{c}")));
            assert!(low < middle && middle < high && low > 0.0, "{row:?}");
        }
    }
    // Published: 12.1 tok/s.
    assert!((9.0..16.0).contains(&number(&rows[0], "tg_forecast")), "{:?}", rows[0]);
    assert_eq!([&rows[0]["fits"], &rows[1]["fits"], &rows[2]["fits"]], ["yes", "yes", "no"]);
    assert!(rows[2]["reason"].contains("GiB"), "{:?}", rows[2]);
    for (row, reason) in
        rows[3..].iter().zip(["Abacus 9000", "GPT-9", "Q77_Z", "Metal: does not run", "CPU: does not run", "model_file_gib"])
    {
        assert!(row["reason"].contains(reason), "{row:?}");
        assert!(
            ["tg_forecast", "tg_low", "tg_high", "pp_forecast", "pp_low", "pp_high", "fits"].iter().all(|c| row[*c].is_empty())
        );
    }
}

#[test]
fn forecasts_follow_what_physics_says() {
    let rows = forecast(
        "RTX 4090,,24,,CUDA,2025-06,Llama-3-8B,,Q4_K_M,,512,128,0,1\n\
         RTX 4090,,24,,CUDA,2025-06,Llama-3-8B,,Q8_0,,512,128,0,1\n\
         RTX 4090,,24,,CUDA,2025-06,Llama-3-8B,,Q4_K_M,,512,128,32768,1\n\
         RTX 3060 12GB,,12,,CUDA,2025-06,Llama-3-8B,,Q4_K_M,,512,128,0,1\n\
         RTX 4090,,24,,CUDA,2025-06,Qwen3-30B-A3B,,Q4_K_M,,512,128,0,1\n\
         RTX 4090,,24,,CUDA,2025-06,Qwen3-32B,,Q4_K_M,,512,128,0,1\n",
    );
    let tps = |i: usize| number(&rows[i], "tg_forecast");
    assert!(tps(0) > tps(1), "more bytes are slower");
    assert!(tps(0) > tps(2), "a deep cache is slower");
    assert!(tps(0) > tps(3), "less bandwidth is slower");
    assert!(tps(4) > 2.0 * tps(5), "three of thirty billion weights are faster than all of thirty-two");
}

/// The command ends with 2 and one message that holds all of `expected`.
fn fails(dir: &Path, args: &[&str], expected: &[&str]) {
    let output = common::run(dir, args);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(expected.iter().all(|e| message.contains(e)), "{message}");
}

#[test]
fn bad_tables_end_with_2_and_leave_nothing() {
    let dir = TempDir::new().unwrap();
    for (text, expected) in [
        ("hardware,model\na,b\n", "no column quant"),
        ("hardware,model,quant,bandwidth_gbs\nRTX 4090,Llama-3-8B,Q4_0,-5\n", "line 2: bandwidth_gbs is -5"),
        ("hardware,model,quant,depth\nRTX 4090,Llama-3-8B,Q4_0,1e30\n", "line 2: depth"),
    ] {
        std::fs::write(dir.path().join("in.csv"), text).unwrap();
        fails(dir.path(), &["forecast", "--rows", "in.csv", "--out", "out.csv"], &["in.csv", expected]);
        assert!(!dir.path().join("out.csv").exists());
    }
    let row = "hardware,model,quant,tg_tok_s\nRTX 4090,Llama-3-8B,Q4_0,100\n";
    std::fs::write(dir.path().join("in.csv"), row).unwrap();
    fails(dir.path(), &["calibrate", "--rows", "in.csv", "--out", "out.toml"], &["in.csv", "has 1 measured speeds of decode"]);
    assert!(!dir.path().join("out.toml").exists());
    std::fs::write(dir.path().join("c.toml"), "rows_sha256 = \"\"\n").unwrap();
    std::fs::write(dir.path().join("in.csv"), HEADER).unwrap();
    fails(dir.path(), &["forecast", "--rows", "in.csv", "--out", "out.csv", "--calibration", "c.toml"], &["c.toml", "decode"]);
}

/// The published measurements give the calibration that comes with the program, and it forecasts as well as is stated.
#[test]
fn the_calibration_is_repeatable_and_keeps_its_promises() {
    let Some(rows) = common::shared("published/speed_public.csv") else { return };
    let dir = TempDir::new().unwrap();
    let document = common::json(dir.path(), &["calibrate", "--rows", rows.to_str().unwrap(), "--out", "speed.toml"]);
    let made = std::fs::read_to_string(dir.path().join("speed.toml")).unwrap();
    let kept = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/speed.toml")).unwrap();
    assert!(made == kept, "make configs/speed.toml again with bitworth calibrate");
    for (phase, most, share) in [("decode", 0.12, 0.9), ("prefill", 0.25, 0.0)] {
        for validation in document[phase]["validation"].as_array().unwrap() {
            let scheme = validation["left_out"].as_str().unwrap();
            if scheme == "machines" || scheme == "models" {
                assert!(validation["median_error"].as_f64().unwrap() <= most, "{phase}: {validation}");
                assert!(validation["within_30"].as_f64().unwrap() >= share, "{phase}: {validation}");
                assert!((0.75..=0.85).contains(&validation["in_range"].as_f64().unwrap()), "{phase}: {validation}");
            }
        }
    }
}

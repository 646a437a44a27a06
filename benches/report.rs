//! How long a large report takes: `cargo bench --bench report`. 200 lanes on 20 texts of 5 windows, with 8 tasks.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use bitworth::eval::record::{
    Against, Body, ItemRecord, LaneRecord, OWN_ENGINE, Origin, Phase, Protocol, Record, SequenceRecord, Speed, Token,
    TokenAgainst, Windowing,
};

use bitworth::report::{Report, contents, export, html, markdown};

const LANES: u32 = 200;
const TEXTS: u32 = 20;
const WINDOWS: u32 = 5;
const TOKENS: u32 = 64;
const TASKS: u32 = 8;
const ITEMS: u32 = 100;

/// A number between 0 and 1 that depends on all of these.
fn chance(parts: [u32; 4]) -> f64 {
    let mixed = parts
        .iter()
        .fold(0x9e37_79b9_7f4a_7c15_u64, |h, p| (h ^ u64::from(*p)).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29));
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

fn sequence(lane: u32, text: u32, number: u32, keep: bool) -> SequenceRecord {
    let tokens: Vec<Token> = (0..TOKENS)
        .map(|i| {
            let even = chance([lane, text, number, i]);
            let against =
                TokenAgainst { kld: 0.01 * even, reverse_kld: 0.012 * even, delta_p: 0.1 * (even - 0.5), same_top: even < 0.95 };
            Token {
                token: i,
                nll: 1.0 + chance([0, text, number, i]) + 0.01 * even,
                rank: (10.0 * even) as u32,
                entropy: 1.0 + even,
                argmax: i,
                against: (lane > 0).then_some(against),
            }
        })
        .collect();
    let compared: Vec<TokenAgainst> = tokens.iter().filter_map(|t| t.against).collect();
    let against = Against {
        kld: compared.iter().map(|a| a.kld).collect(),
        top1_matches: compared.iter().filter(|a| a.same_top).count() as u32,
        delta_p_sum: compared.iter().map(|a| a.delta_p).sum(),
        delta_p_sq_sum: compared.iter().map(|a| a.delta_p * a.delta_p).sum(),
    };
    SequenceRecord {
        text: Some(format!("text {text}")),
        text_sha256: format!("{text:064x}"),
        protocol: Protocol { pass: Windowing::Windows, ctx: 2 * TOKENS, first: TOKENS - 1, bos: true },
        sequence: number,
        tokens: TOKENS,
        bytes: u64::from(4 * TOKENS),
        nll_sum: tokens.iter().map(|t| t.nll).sum(),
        against: (lane > 0).then_some(against),
        kept: keep.then_some(tokens),
    }
}

fn records(keep: bool) -> Vec<Record> {
    let lane = |lane: u32| {
        let about = LaneRecord {
            recipe: "q4_k_m".into(),
            is_reference: lane == 0,
            file: Some(format!("lane-{lane}.gguf")),
            bytes: u64::from(4_000_000 - 10_000 * lane),
            bpw: 16.0 - f64::from(lane) / 20.0,
            sha256: None,
            types: None,
            imatrix: None,
            fell_back: None,
            parts: None,
        };
        let sequences = (0..TEXTS).flat_map(move |text| (0..WINDOWS).map(move |n| Body::Sequence(sequence(lane, text, n, keep))));
        let items = (0..TASKS).flat_map(move |task| {
            (0..ITEMS).map(move |item| {
                let value = Some(f64::from(u8::from(chance([lane, task, item, 7]) < 0.7)));
                let task = format!("task {task}");
                let logprobs = vec![-1.0, -2.0];
                Body::Item(ItemRecord { task, task_version: "1".into(), item, value, logprobs, ..ItemRecord::default() })
            })
        });
        let speeds = (0..5).flat_map(move |repetition| {
            [Phase::Prefill, Phase::Decode].map(|phase| {
                let seconds = 1.0 + 0.01 * chance([lane, repetition, 3, 9]);
                let (drifted, joules, footprint) = (false, Some(10.0), Default::default());
                let (arithmetic, batch) = ("q8".into(), 1);
                Body::Speed(Speed {
                    phase,
                    tokens: 64,
                    depth: 0,
                    batch,
                    repetition,
                    seconds,
                    drifted,
                    joules,
                    arithmetic,
                    engine: OWN_ENGINE.into(),
                    shape: None,
                    footprint,
                })
            })
        });
        let origin = Origin::new("model", format!("lane-{lane}"), "device", "f32");
        let bodies: Vec<Body> = std::iter::once(Body::Lane(about)).chain(sequences).chain(items).chain(speeds).collect();
        bodies.into_iter().map(move |body| Record { origin: origin.clone(), body })
    };
    (0..LANES).flat_map(lane).collect()
}

fn timed(what: &str, begin: Instant) {
    println!("  {what:10} {:.3} s", begin.elapsed().as_secs_f64());
}

fn main() {
    for keep in [false, true] {
        let records = records(keep);
        println!("{} records, tokens kept: {keep}", records.len());
        let begin = Instant::now();
        let gathered = bitworth::report::gather::gather(&records).unwrap();
        timed("gather", begin);
        let begin = Instant::now();
        let rows = bitworth::report::summary::summarize(&gathered, Default::default());
        timed("summarize", begin);
        let begin = Instant::now();
        let findings = bitworth::report::findings::findings(&gathered, &rows, Default::default());
        timed("findings", begin);
        assert!(findings.verdicts.len() == rows.len());
        let begin = Instant::now();
        let report = Report::new(&records).unwrap();
        timed("report", begin);
        let parts = Instant::now();
        let page = contents::page(&report);
        timed("page", parts);
        let parts = Instant::now();
        let text = html::render(&page).unwrap();
        timed("html", parts);
        let parts = Instant::now();
        let length = text.len() + markdown::render(&page).len();
        timed("markdown", parts);
        let parts = Instant::now();
        let dir = tempfile::tempdir().unwrap();
        export::csv(&dir.path().join("summary.csv"), &report.rows).unwrap();
        export::parquet(&dir.path().join("summary.parquet"), &report.rows).unwrap();
        timed("exports", parts);
        let parts = Instant::now();
        let length = length + report.to_text().len();
        timed("text", parts);
        let all = begin.elapsed();
        println!("  all of it {:.3} s, {length} bytes", all.as_secs_f64());
    }
}

//! Made-up records for the tests of the report: the lanes of the demo model with sizes, divergences and accuracies near those of
//! an earlier demo model, and invented speeds. The same numbers every time.

use crate::record::{
    Against, Body, Footprint, ItemRecord, LaneRecord, OWN_ENGINE, Origin, Phase, Protocol, Record, SequenceRecord, Speed, Token,
    TokenAgainst, Windowing,
};

const SEQUENCES: u32 = 60;
const TOKENS: u32 = 127;

/// Recipe, bytes, bits per weight, mean nll less the reference's, mean KLD, top-1 agreement, decode tok/s.
#[rustfmt::skip]
const LANES: &[(&str, u64, f64, f64, f64, f64, f64)] = &[
    ("bf16",    4_069_936, 16.01, 0.0,     0.0,     1.0,    812.0),
    ("q8_0",    2_195_680,  8.51, 0.00004, 0.00007, 0.9859, 1190.0),
    ("q6_k",    1_703_648,  6.57, 0.0002,  0.00043, 0.9666, 1105.0),
    ("q5_k_m",  1_490_400,  5.74, 0.0003,  0.00057, 0.9643, 1212.0),
    ("q5_0",    1_452_256,  5.60, 0.0004,  0.00058, 0.9635, 1105.0),
    ("q4_1",    1_340_128,  5.16, 0.0017,  0.00171, 0.9401, 1302.0),
    ("q4_k_m",  1_289_696,  4.95, 0.0011,  0.00109, 0.9615, 1396.0),
    ("q4_0",    1_247_456,  4.78, 0.0022,  0.00192, 0.9332, 1455.0),
    ("iq4_xs",  1_192_352,  4.56, 0.0015,  0.00146, 0.9534, 1240.0),
    ("q3_k_m",  1_112_032,  4.25, 0.0036,  0.00248, 0.9368, 1310.0),
    ("q2_k",      902_624,  3.42, 0.0125,  0.01150, 0.9111, 1520.0),
    ("iq2_xxs",   680_608,  2.54, 0.0293,  0.02431, 0.8684, 1120.0),
];

/// Task, items, accuracy, and how much a lane of the largest divergence loses.
const TASKS: &[(&str, u32, f64, f64)] =
    &[("arithmetic", 250, 0.456, 0.02), ("facts", 300, 0.93, 0.04), ("grammar", 250, 1.0, 0.0), ("sums", 100, 0.08, 0.0)];

/// A small generator of even numbers between 0 and 1 (the 64-bit generator of Knuth's MMIX). Not SplitMix64 as elsewhere: what
/// tests say of these records follows from its numbers.
struct Chance(u64);

impl Chance {
    fn even(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal: the sum of twelve even numbers.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.even()).sum::<f64>() - 6.0
    }
}

/// The records of a whole run.
pub fn records() -> Vec<Record> {
    LANES.iter().flat_map(lane).collect()
}

/// The records of the same run of another model.
pub fn of_model(name: &str) -> Vec<Record> {
    let mut records = records();
    records.iter_mut().for_each(|record| name.clone_into(&mut record.origin.model));
    records
}

/// The sequences of `records` again as a rolling pass, with `factor` times the negative log-likelihood.
pub fn rolling(records: &[Record], factor: f64) -> Vec<Record> {
    let again = |r: &Record| match &r.body {
        Body::Sequence(s) => {
            let mut s = s.clone();
            s.protocol = Protocol { pass: Windowing::Rolling, ctx: 256, first: 0, bos: true };
            s.nll_sum *= factor;
            Some(Record { origin: r.origin.clone(), body: Body::Sequence(s) })
        }
        _ => None,
    };
    records.iter().filter_map(again).collect()
}

/// The sequences of `records` as scored on another text, with every token.
pub fn with_tokens(records: &[Record]) -> Vec<Record> {
    let again = |r: &Record| match &r.body {
        Body::Sequence(s) => {
            let token = |i: usize| {
                let part = s.nll_sum / f64::from(s.tokens) * (0.5 + (i % 3) as f64 / 2.0);
                let against = s.against.as_ref().map(|a| TokenAgainst {
                    kld: a.kld[i],
                    reverse_kld: 1.5 * a.kld[i],
                    delta_p: -0.001 * i as f64,
                    same_top: i as u32 >= s.tokens - a.top1_matches,
                });
                Token { token: i as u32, nll: part, rank: i as u32 % 7, entropy: part / 3.0, argmax: i as u32 + 1, against }
            };
            let tokens: Vec<Token> = (0..s.tokens as usize).map(token).collect();
            let s = SequenceRecord { text: Some("prose".into()), text_sha256: "00ff".into(), kept: Some(tokens), ..s.clone() };
            Some(Record { origin: r.origin.clone(), body: Body::Sequence(s) })
        }
        _ => None,
    };
    records.iter().filter_map(again).collect()
}

/// The run of [`records`] on its text and on another one, of which every token was kept.
pub fn two_texts() -> Vec<Record> {
    let records = records();
    let more = with_tokens(&records);
    [records, more].concat()
}

/// A lane's items that only the reference got right, and those that only the lane did (two at most).
pub type Flips = (u32, u32);

/// The lanes bf16 (the reference), q8_0 and q2_k, which were asked tasks and nothing else. Of each task: its name, the groups
/// above it, its items (two at least), and how the two smaller lanes differ from the reference.
pub fn asked(tasks: &[(&str, &str, u32, [Flips; 2])]) -> Vec<Record> {
    const ASKED: [&str; 3] = ["bf16", "q8_0", "q2_k"];
    let mut asked: Vec<Record> = records().into_iter().filter(|record| record.as_lane().is_some()).collect();
    asked.retain(|record| ASKED.contains(&record.origin.lane.as_str()));
    for origin in asked.iter().map(|record| record.origin.clone()).collect::<Vec<_>>() {
        let smaller = ASKED[1..].iter().position(|lane| *lane == origin.lane);
        for &(task, group, items, flips) in tasks {
            let (lost, won) = smaller.map_or((0, 0), |place| flips[place]);
            let body = |item: u32| {
                let right = (lost..items - 2).contains(&item) || item >= items - won;
                Body::Item(ItemRecord {
                    task: task.into(),
                    task_version: "1".into(),
                    item,
                    value: Some(f64::from(u8::from(right))),
                    group: (!group.is_empty()).then(|| group.to_owned()),
                    ..ItemRecord::default()
                })
            };
            asked.extend((0..items).map(|item| Record { origin: origin.clone(), body: body(item) }));
        }
    }
    asked
}

fn lane(lane: &(&str, u64, f64, f64, f64, f64, f64)) -> Vec<Record> {
    let &(name, bytes, bpw, nll, kld, top1, decode) = lane;
    let is_reference = name == "bf16";
    let about = LaneRecord {
        recipe: name.to_owned(),
        is_reference,
        file: (!is_reference).then(|| format!("demo-{}.gguf", name.to_uppercase())),
        bytes,
        bpw,
        sha256: None,
        types: None,
        imatrix: None,
        fell_back: None,
        parts: None,
    };
    let mut bodies = vec![Body::Lane(about)];
    bodies.extend((0..SEQUENCES).map(|s| Body::Sequence(sequence(s, nll, (!is_reference).then_some((kld, top1))))));
    bodies.extend(TASKS.iter().flat_map(|task| items(task, kld)));
    bodies.extend((0..5).flat_map(|r| [timing(Phase::Prefill, r, 9000.0 - decode), timing(Phase::Decode, r, decode)]));
    let origin = Origin::new("demo-model", name, "AMD EPYC 7B13 (2 cores, AVX2)", "f32");
    bodies.into_iter().map(|body| Record { origin: origin.clone(), body }).collect()
}

fn sequence(number: u32, nll: f64, against: Option<(f64, f64)>) -> SequenceRecord {
    let mut text = Chance(u64::from(number) + 1);
    text.normal();
    let hardness = 0.969 + 0.08 * text.normal();
    let mut own = Chance(u64::from(number) + 1000 + against.map_or(0, |(kld, _)| (kld * 1e9) as u64));
    own.normal();
    let noise = nll * (1.0 + 0.8 * own.normal());
    let strain = (0.2 * text.normal()).exp();
    let against = against.map(|(kld, top1)| {
        let values: Vec<f64> = (0..TOKENS).map(|_| kld * strain * (1.5 * own.normal() - 1.125).exp()).collect();
        let matches = (0..TOKENS).filter(|_| own.even() < top1).count() as u32;
        let spread = f64::from(TOKENS) * kld / 4.0;
        Against { kld: values, top1_matches: matches, delta_p_sum: -spread * own.even(), delta_p_sq_sum: spread }
    });
    SequenceRecord {
        text: None,
        kept: None,
        text_sha256: "637a866d274f29d082fa82b167f5599f9a8005bed9dd2b3114be8387f23ad3c0".into(),
        protocol: Protocol { pass: Windowing::Windows, ctx: 256, first: 128, bos: true },
        sequence: number,
        tokens: TOKENS,
        bytes: 330,
        nll_sum: f64::from(TOKENS) * (hardness + noise),
        against,
    }
}

/// The items of a task: hardness is the item's, so that lanes are right and wrong together.
fn items(&(task, count, accuracy, loss): &(&str, u32, f64, f64), kld: f64) -> Vec<Body> {
    let item = |number| {
        let mut hardness = Chance(u64::from(number) * 77 + task.len() as u64);
        hardness.normal();
        let wobble =
            if kld > 0.0 && accuracy < 1.0 { 0.03 * (Chance((kld * 1e9) as u64 + u64::from(number)).normal()) } else { 0.0 };
        let correct = hardness.even() + wobble < accuracy - loss * (kld / 0.02431);
        Body::Item(ItemRecord {
            task: task.into(),
            task_version: "1".into(),
            item: number,
            value: Some(f64::from(u8::from(correct))),
            logprobs: vec![-1.5, -2.25],
            ..ItemRecord::default()
        })
    };
    (0..count).map(item).collect()
}

fn timing(phase: Phase, repetition: u32, tps: f64) -> Body {
    let tokens = if phase == Phase::Prefill { 512 } else { 128 };
    let seconds = f64::from(tokens) / tps * (1.0 + 0.01 * (f64::from(repetition) - 2.0));
    Body::Speed(Speed {
        phase,
        tokens,
        depth: 0,
        batch: 1,
        repetition,
        seconds,
        drifted: false,
        joules: None,
        arithmetic: "f32".into(),
        engine: OWN_ENGINE.into(),
        shape: None,
        footprint: Footprint::default(),
    })
}

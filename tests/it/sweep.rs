//! The sweep as a whole: whatever is shared, cut, stopped or written on the way, the numbers are the same to the last bit.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bitworth::engine::backend::{Arithmetic, Backend};
use bitworth::engine::cpu::Cpu;
use bitworth::engine::error::EngineError;
use bitworth::engine::model::Variant;
use bitworth::engine::state::KvColumns;
use bitworth::engine::sweep::{self, Lane, Resume, Sequence, SweepLimits, SweepOptions};
use bitworth::eval::request::Request;
use bitworth::measure::requests::{self, Packed};
use bitworth::{Tokenizer, Watch};
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::progress::Silent;
use bitworth_quant::quantize::{Output, Sink, quantize};
use bitworth_quant::{Checkpoint, Plan, Recipe};
use tempfile::TempDir;

use crate::common::{self, StopAfter};

const RECIPES: [&str; 3] = ["q8_0", "q4_k_m", "q5_0"];

/// A model and recipes of it; two of the same, which share what is encoded.
fn lanes(model: &Path) -> Vec<Lane> {
    let checkpoint = Arc::new(Checkpoint::open(model).unwrap());
    let lane = |name: &str, variant| Lane { name: name.into(), variant, arithmetic: Arithmetic::F32 };
    let mut lanes = vec![lane("reference", Variant::Stored(checkpoint.clone()))];
    for recipe in RECIPES.into_iter().chain(["q8_0"]) {
        let recipe = Recipe::find(recipe).unwrap();
        let plan = Plan::of(checkpoint.as_ref(), &recipe, &PlanOptions::default()).unwrap();
        lanes.push(lane(&recipe.name, Variant::Planned(checkpoint.clone(), Arc::new(plan))));
    }
    lanes
}

/// The reference, and lanes that differ from it in one place each: an embedding or a head alone, one tensor of a block, and the
/// same tensor in two types.
fn branches(model: &Path) -> Vec<Lane> {
    let checkpoint = Arc::new(Checkpoint::open(model).unwrap());
    let lane = |name: &str, variant| Lane { name: name.into(), variant, arithmetic: Arithmetic::F32 };
    let mut lanes = vec![lane("reference", Variant::Stored(checkpoint.clone()))];
    let last = checkpoint.hparams().block_count - 1;
    let places = ["token_embd.weight", "output.weight", "blk.0.attn_q.weight", "blk.1.ffn_down.weight"].map(str::to_owned);
    for name in places.into_iter().chain([format!("blk.{last}.ffn_up.weight")]) {
        for recipe in ["q4_0", "q8_0"] {
            let options = PlanOptions { pure: true, ..PlanOptions::default() };
            let mut plan = Plan::of(checkpoint.as_ref(), &Recipe::find(recipe).unwrap(), &options).unwrap();
            plan.entries.iter_mut().filter(|entry| entry.tensor != name).for_each(|entry| entry.to = entry.from);
            if plan.entries.iter().any(|entry| entry.to != entry.from) {
                lanes.push(lane(&format!("{name} {recipe}"), Variant::Planned(checkpoint.clone(), Arc::new(plan))));
            }
        }
    }
    // As the reference in all places.
    lanes.push(Lane { name: "again".into(), ..lanes[0].clone() });
    lanes
}

#[test]
fn lanes_that_begin_alike_score_as_each_alone() {
    let dir = TempDir::new().unwrap();
    let untied = Path::new(env!("CARGO_MANIFEST_DIR")).join("quant/tests/fixtures/hf/stablelm_qknorm");
    // Keys of earlier blocks, and inputs beside the stream.
    let lending = common::shared("oracle/models/gemma4_e2b");
    for model in [demo_model(&dir), untied].into_iter().chain(lending) {
        check_alike(&Cpu::new(), &branches(&model), usize::MAX);
    }
    check_stopped(&branches(&demo_model(&dir)), &dir.path().join("state"));
}

#[test]
fn lanes_that_begin_alike_score_as_each_alone_on_a_gpu() {
    let Some(gpu) = common::gpu() else { return };
    let dir = TempDir::new().unwrap();
    // A software adapter takes its time: the prompts of one question, whose beginnings are shared.
    check_alike(&gpu, &branches(&demo_model(&dir)), 4);
}

/// Lanes on the first prompts.
#[track_caller]
fn check_alike<B: Backend>(backend: &B, lanes: &[Lane], count: usize) {
    assert!(lanes.len() >= 8, "{}", lanes.len());
    let sequences: Vec<Sequence> = prompts(lanes[0].variant.hparams().vocab_size as u32).into_iter().take(count).collect();
    let row = 4 * bitworth::engine::footprint::WorkspaceColumns::of(lanes[0].variant.hparams()).widest();
    let small = SweepLimits { buffer_bytes: 24 * row, activation_bytes: 40 * row, ..SweepLimits::default() };
    let together = score(backend, lanes, &sequences, SweepLimits::default());
    assert_eq!(together, score(backend, lanes, &sequences, small));
    for (lane, found) in lanes.iter().zip(&together).skip(1) {
        let alone = score(backend, &[lanes[0].clone(), lane.clone()], &sequences, SweepLimits::default());
        assert_eq!(&alone[1], found, "{}", lane.name);
    }
    let klds: Vec<f64> = together.iter().map(|lane| lane.iter().flatten().map(|row| row.kld).sum()).collect();
    let (last, changed) = klds[1..].split_last().unwrap();
    assert_eq!(*last, 0.0);
    assert!(changed.iter().all(|kld| *kld > 0.0), "{klds:?}");
}

fn demo_model(dir: &TempDir) -> std::path::PathBuf {
    bitworth::eval::demo::materialize(dir.path()).unwrap().join("demo-model")
}

/// Examples before every question, endings behind every question, and texts that have nothing in common with them.
fn prompts(vocabulary: u32) -> Vec<Sequence> {
    let tokens = |seed: u32, count: u32| (0..count).map(move |i| (seed * 7919 + i * 389 + 7) % vocabulary);
    let mut prompts = Vec::new();
    for question in 0..3 {
        for ending in 0..3 {
            let mut all: Vec<u32> = tokens(1, 20).collect();
            all.extend(tokens(10 + question, 9 + question));
            let context = all.len();
            all.extend(tokens(20 + ending, 1 + ending % 2));
            prompts.push(Sequence { scored: context - 1..all.len() - 1, tokens: all });
        }
        let alone: Vec<u32> = tokens(30 + question, 13).collect();
        prompts.push(Sequence { scored: 0..alone.len() - 1, tokens: alone });
    }
    // The same again, and the beginning of another.
    prompts.push(prompts[0].clone());
    prompts.push(Sequence { tokens: prompts[0].tokens[..15].to_vec(), scored: 3..14 });
    prompts
}

fn score<B: Backend>(backend: &B, lanes: &[Lane], sequences: &[Sequence], limits: SweepLimits) -> Vec<sweep::LaneScores> {
    sweep::score(backend, lanes, sequences, limits, &Silent, &AtomicBool::new(false)).unwrap()
}

/// Prompts that share beginnings score what they score alone, in chunks of any size.
#[track_caller]
fn check_shared<B: Backend>(backend: &B, lanes: &[Lane]) {
    let prompts = prompts(lanes[0].variant.hparams().vocab_size as u32);
    let plan = sweep::plan(backend, lanes, &prompts, &SweepLimits::default()).unwrap();
    assert!(3 * plan.rows_computed < 2 * plan.rows_given, "{} of {} rows", plan.rows_computed, plan.rows_given);
    let alone =
        |prompt: &Sequence| sweep::plan(backend, lanes, std::slice::from_ref(prompt), &SweepLimits::default()).unwrap().flops;
    assert!(plan.flops < prompts.iter().map(alone).sum(), "what is shared is computed once");
    let together = score(backend, lanes, &prompts, SweepLimits::default());
    for (i, prompt) in prompts.iter().enumerate() {
        let alone = score(backend, lanes, std::slice::from_ref(prompt), SweepLimits::default());
        for (lane, (alone, together)) in lanes.iter().zip(alone.iter().zip(&together)) {
            assert_eq!(alone[0], together[i], "prompt {i}, lane {}, {}", lane.name, lane.variant.checkpoint().path().display());
        }
    }
    let row = 4 * bitworth::engine::footprint::WorkspaceColumns::of(lanes[0].variant.hparams()).widest();
    for buffer_bytes in [1, 5 * row, 24 * row] {
        for activation_bytes in [usize::MAX, 40 * row] {
            let limits = SweepLimits { buffer_bytes, activation_bytes, ..SweepLimits::default() };
            assert_eq!(score(backend, lanes, &prompts, limits), together, "{limits:?}");
        }
    }
}

#[test]
fn prompts_with_common_beginnings_score_what_they_score_alone() {
    let dir = TempDir::new().unwrap();
    // Two lanes of one recipe share what is encoded; which type it is makes no difference to common beginnings.
    let all = lanes(&demo_model(&dir));
    check_shared(&Cpu::new(), &[0, 1, 4].map(|lane| all[lane].clone()));
}

#[test]
fn prompts_with_common_beginnings_score_what_they_score_alone_on_a_gpu() {
    let Some(gpu) = common::gpu() else { return };
    let dir = TempDir::new().unwrap();
    check_shared(&gpu, &lanes(&demo_model(&dir))[..2]);
}

/// Windows, sinks, experts, latent attention and angles by length, too; where the golden data is at hand, mixers with a state,
/// keys that several blocks use and inputs beside the stream.
#[test]
fn every_kind_of_attention_takes_common_beginnings() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("quant/tests/fixtures/hf");
    let fixtures = ["gemma3_pattern", "gpt_oss_mxfp4", "deepseek_v2_groups", "llama31_gqa", "phi4_mini", "stablelm_qknorm"];
    let oracle = ["gemma4", "gemma4_e2b", "gemma4_moe", "qwen35", "lfm2_moe", "nemotron_h_moe", "falcon_h1"];
    let at_hand = oracle.iter().filter_map(|model| common::shared(&format!("oracle/models/{model}")));
    for model in fixtures.iter().map(|model| models.join(model)).chain(at_hand) {
        let checkpoint = Arc::new(Checkpoint::open(&model).unwrap());
        let lane = Lane { name: "stored".into(), variant: Variant::Stored(checkpoint), arithmetic: Arithmetic::F32 };
        check_shared(&Cpu::new(), &[lane]);
    }
}

#[test]
fn a_sweep_that_was_stopped_at_any_layer_goes_on_with_the_same_numbers() {
    let dir = TempDir::new().unwrap();
    check_stopped(&lanes(&demo_model(&dir)), &dir.path().join("state"));
    if let Some(model) = common::shared("oracle/models/gemma4_e2b") {
        check_stopped(&lanes(&model), &dir.path().join("state"));
    }
}

fn check_stopped(lanes: &[Lane], folder: &Path) {
    let prompts = prompts(lanes[0].variant.hparams().vocab_size as u32);
    let columns = |lane: &Lane| lane.variant.hparams().embedding_length + KvColumns::lent(lane.variant.hparams());
    let row: usize = lanes.iter().map(|lane| 4 * columns(lane)).sum();
    // Two passes.
    let limits = SweepLimits { activation_bytes: 70 * row, ..SweepLimits::default() };
    let plan = sweep::plan(&Cpu::new(), lanes, &prompts, &limits).unwrap();
    assert_eq!(plan.passes.len(), 2);
    let whole = SweepOptions { limits, layers: true, ..SweepOptions::default() };
    let expected = sweep::sweep(&Cpu::new(), lanes, &prompts, &whole, &Silent, &AtomicBool::new(false)).unwrap();
    let steps = (lanes[0].variant.hparams().block_count + 1) * lanes.len() * plan.rows_computed;
    let options = SweepOptions { resume: Some(Resume { folder, every_layer: true, renews: false }), ..whole };
    // Every sweep gets one layer further than what it found, until one reaches the end.
    let (mut ends, mut last) = (0, 0);
    let found = loop {
        let stop = AtomicBool::new(false);
        let progress = StopAfter::new(last + 1, &stop);
        let result = sweep::sweep(&Cpu::new(), lanes, &prompts, &options, &progress, &stop);
        let reached = progress.rows.load(Ordering::Relaxed);
        match result {
            Ok(found) => break found,
            Err(EngineError::Interrupted) => {}
            Err(e) => panic!("{e}"),
        }
        ends += 1;
        last += (steps / 40) as u64;
        assert!(folder.join("sweep.json").is_file() && reached >= last - (steps / 40) as u64);
        assert!(ends < 100);
    };
    assert!(ends > 20, "{ends} stops");
    assert_eq!(found, expected);
    assert!(!folder.exists(), "the state of a finished sweep is still there");
}

#[test]
fn requests_that_were_stopped_go_on_with_the_same_answers() {
    let dir = TempDir::new().unwrap();
    let lanes = lanes(&demo_model(&dir));
    let tokenizer = Tokenizer::new(lanes[0].variant.checkpoint()).unwrap();
    let request = |i: usize| Request::Loglikelihood { context: format!("the sun {i}"), continuation: " is warm".into() };
    let packed = Packed::new(&tokenizer, &(0..20).map(request).collect::<Vec<_>>(), 256).unwrap();
    let folder = dir.path().join("state");
    let resumable =
        SweepOptions { resume: Some(Resume { folder: &folder, every_layer: true, renews: false }), ..SweepOptions::default() };
    let answer = |options: &SweepOptions<'_>, limit: u64| {
        let stop = AtomicBool::new(false);
        let progress = StopAfter::new(limit, &stop);
        requests::answer(&Cpu::new(), &lanes, &tokenizer, &packed, options, Watch { progress: &progress, stop: &stop })
    };
    let whole = answer(&SweepOptions::default(), u64::MAX).unwrap();
    let plan = sweep::plan(&Cpu::new(), &lanes, packed.sequences(), &SweepLimits::default()).unwrap();
    let half = (lanes[0].variant.hparams().block_count + 1) * lanes.len() * plan.rows_computed / 2;
    assert!(answer(&resumable, half as u64).unwrap_err().is_interruption());
    assert!(folder.join("sweep.json").is_file());
    assert_eq!(answer(&resumable, u64::MAX).unwrap(), whole);
    assert!(!folder.exists(), "the state of finished requests is still there");
}

#[test]
fn state_of_another_sweep_or_a_broken_one_is_refused() {
    let dir = TempDir::new().unwrap();
    let lanes = lanes(&demo_model(&dir));
    let prompts = prompts(1024);
    let folder = dir.path().join("state");
    let options =
        SweepOptions { resume: Some(Resume { folder: &folder, every_layer: true, renews: false }), ..SweepOptions::default() };
    let sweep = |lanes: &[Lane], prompts: &[Sequence], limit: u64| {
        let stop = AtomicBool::new(false);
        let progress = StopAfter::new(limit, &stop);
        sweep::sweep(&Cpu::new(), lanes, prompts, &options, &progress, &stop).map(drop).map_err(|e| e.to_string())
    };
    let plan = sweep::plan(&Cpu::new(), &lanes, &prompts, &SweepLimits::default()).unwrap();
    let half = (lanes[0].variant.hparams().block_count + 1) * lanes.len() * plan.rows_computed / 2;
    assert_eq!(sweep(&lanes, &prompts, half as u64).unwrap_err(), "interrupted");
    let refused = |lanes: &[Lane], prompts: &[Sequence], expected: &str| {
        let message = sweep(lanes, prompts, u64::MAX).unwrap_err();
        assert!(message.contains(expected) && message.contains("state"), "{message}");
    };
    refused(&lanes, &prompts[1..], "other tokens");
    refused(&lanes[..3], &prompts, "other lanes");
    let layer = folder.join("pass-00000.layer");
    let bytes = std::fs::read(&layer).unwrap();
    for at in [0, 8, bytes.len() / 2, bytes.len() - 1] {
        let mut broken = bytes.clone();
        broken[at] ^= 1;
        std::fs::write(&layer, &broken).unwrap();
        refused(&lanes, &prompts, "altered");
    }
    for length in [0, 10, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&layer, &bytes[..length]).unwrap();
        refused(&lanes, &prompts, "altered");
    }
    std::fs::write(&layer, &bytes).unwrap();
    sweep(&lanes, &prompts, u64::MAX).unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("letter.txt"), "mine").unwrap();
    refused(&lanes, &prompts, "other files");
}

#[test]
fn state_that_may_be_thrown_away_never_changes_a_number() {
    let dir = TempDir::new().unwrap();
    let lanes = lanes(&demo_model(&dir));
    let prompts = prompts(1024);
    let folder = dir.path().join("state");
    let row: usize = lanes.iter().map(|lane| 4 * lane.variant.hparams().embedding_length).sum();
    let limits = |rows: usize| SweepLimits { activation_bytes: rows * row, ..SweepLimits::default() };
    let sweep = |lanes: &[Lane], limits: SweepLimits, steps: usize| {
        let stop = AtomicBool::new(false);
        let progress = StopAfter::new(steps as u64, &stop);
        let resume = Some(Resume { folder: &folder, every_layer: true, renews: true });
        let options = SweepOptions { limits, resume, ..SweepOptions::default() };
        let scores = sweep::sweep(&Cpu::new(), lanes, &prompts, &options, &progress, &stop);
        scores.map(|scores| scores.lanes).map_err(|e| e.to_string())
    };
    let plan = sweep::plan(&Cpu::new(), &lanes, &prompts, &limits(70)).unwrap();
    assert_eq!(plan.passes.len(), 2);
    let steps = (lanes[0].variant.hparams().block_count + 1) * lanes.len() * plan.rows_computed;
    // The first pass is done, of the second one some blocks.
    let stopped = || {
        assert_eq!(sweep(&lanes, limits(70), steps * 5 / 6).unwrap_err(), "interrupted");
        let names = ["sweep.json", "pass-00000.scores", "pass-00001.layer"];
        assert!(names.iter().all(|name| folder.join(name).is_file()));
    };
    let whole = score(&Cpu::new(), &lanes, &prompts, SweepLimits::default());
    let check = |what: &str| {
        assert_eq!(sweep(&lanes, limits(70), usize::MAX).as_ref(), Ok(&whole), "{what}");
        assert!(!folder.exists(), "{what}");
    };
    stopped();
    let fewer = score(&Cpu::new(), &lanes[..3], &prompts, SweepLimits::default());
    assert_eq!(sweep(&lanes[..3], limits(70), usize::MAX), Ok(fewer), "other lanes");
    stopped();
    assert_eq!(sweep(&lanes, SweepLimits::default(), usize::MAX).as_ref(), Ok(&whole), "other memory");
    for (name, at) in [("pass-00000.scores", 20), ("pass-00001.layer", 15), ("pass-00001.layer", 5000)] {
        stopped();
        let mut bytes = std::fs::read(folder.join(name)).unwrap();
        bytes[at] ^= 64;
        std::fs::write(folder.join(name), bytes).unwrap();
        check(name);
    }
    stopped();
    std::fs::write(folder.join("sweep.json"), "{\"version").unwrap();
    check("a torn description");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(".sweep.json.partial"), "{").unwrap();
    check("killed before there was a description");
    // What is not all its own is refused, and stays.
    stopped();
    std::fs::write(folder.join("letter.txt"), "mine").unwrap();
    assert!(sweep(&lanes[..3], limits(70), usize::MAX).unwrap_err().contains("other lanes"));
    assert!(folder.join("pass-00001.layer").is_file() && folder.join("letter.txt").is_file());
    assert!(!sweep::discard_state(&folder).unwrap());
    std::fs::remove_file(folder.join("letter.txt")).unwrap();
    assert!(sweep::discard_state(&folder).unwrap() && !folder.exists());
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("sweep.json"), "{\"mine\": 1}").unwrap();
    assert!(sweep(&lanes, limits(70), usize::MAX).unwrap_err().contains("another sweep"));
    assert!(!sweep::discard_state(&folder).unwrap() && folder.join("sweep.json").is_file());
}

#[test]
fn files_made_on_the_way_are_what_quantize_makes() {
    let dir = TempDir::new().unwrap();
    let model = demo_model(&dir);
    let lanes = lanes(&model);
    let checkpoint = Checkpoint::open(&model).unwrap();
    let outputs = |folder: &str| -> Vec<Output> {
        std::fs::create_dir(dir.path().join(folder)).unwrap();
        let output = |recipe: &str| {
            let path = dir.path().join(folder).join(recipe);
            Output::of(&checkpoint, &Recipe::find(recipe).unwrap(), &PlanOptions::default(), &path).unwrap()
        };
        RECIPES.map(output).to_vec()
    };
    let expected = outputs("quantized");
    quantize(&checkpoint, &expected, &bitworth_quant::quantize::QuantizeOptions::default(), &AtomicBool::new(false), &Silent)
        .unwrap();
    let sinks: Vec<Arc<Sink>> = Sink::create_all(&checkpoint, outputs("swept")).unwrap().into_iter().map(Arc::new).collect();
    let by_lane: Vec<_> = std::iter::once(None).chain(sinks.iter().cloned().map(Some)).chain([None]).collect();
    // In two passes, of which only the first writes.
    let row: usize = lanes.iter().map(|lane| 4 * lane.variant.hparams().embedding_length).sum();
    let limits = SweepLimits { activation_bytes: 70 * row, ..SweepLimits::default() };
    let options = SweepOptions { limits, sinks: &by_lane, ..SweepOptions::default() };
    sweep::sweep(&Cpu::new(), &lanes, &prompts(1024), &options, &Silent, &AtomicBool::new(false)).unwrap();
    drop(by_lane);
    for (sink, expected) in sinks.into_iter().zip(expected) {
        let written = Arc::into_inner(sink).unwrap().finish(&checkpoint).unwrap();
        let bytes = |path| std::fs::read(path).unwrap();
        assert!(bytes(&written.path) == bytes(&expected.path), "{}", written.path.display());
    }
}

#[test]
fn errors_of_activations_grow_from_the_reference_on() {
    let dir = TempDir::new().unwrap();
    let lanes = lanes(&demo_model(&dir));
    // Prompts of two questions: cut to single rows, every prompt encodes the lanes anew.
    let prompts: Vec<Sequence> = prompts(1024).into_iter().take(6).collect();
    let options = SweepOptions { layers: true, ..SweepOptions::default() };
    let scores = sweep::sweep(&Cpu::new(), &lanes, &prompts, &options, &Silent, &AtomicBool::new(false)).unwrap();
    let blocks = lanes[0].variant.hparams().block_count;
    assert_eq!(scores.layers.len(), (lanes.len() - 1) * blocks * prompts.len());
    for error in &scores.layers {
        assert_eq!(error.rows, prompts[error.sequence].scored.end);
        assert!(error.relative() > 0.0 && error.relative() < 0.5, "{error:?}");
    }
    let of = |lane: usize, block: usize| -> f64 {
        let of = scores.layers.iter().filter(|error| (error.lane, error.block) == (lane, block));
        of.map(|error| error.error).sum()
    };
    // Four bits lose more than eight, and two lanes of the same recipe the same.
    assert!((0..blocks).all(|block| of(2, block) > 4.0 * of(1, block) && of(1, block) == of(4, block)));
    let small = SweepLimits { buffer_bytes: 1, activation_bytes: 1, ..SweepLimits::default() };
    let cut = SweepOptions { limits: small, layers: true, ..SweepOptions::default() };
    assert_eq!(sweep::sweep(&Cpu::new(), &lanes, &prompts, &cut, &Silent, &AtomicBool::new(false)).unwrap(), scores);
}

#[test]
fn memory_that_holds_no_layer_is_refused_with_what_would_do() {
    let dir = TempDir::new().unwrap();
    let lanes = lanes(&demo_model(&dir));
    let limits = SweepLimits { memory_bytes: 16 << 20, ..SweepLimits::default() };
    let message = sweep::plan(&Cpu::new(), &lanes, &prompts(1024), &limits).unwrap_err().to_string();
    let needed: usize = message.split("max_memory ").nth(1).unwrap().split(')').next().unwrap().parse().unwrap();
    let limits = |mib: usize| SweepLimits { memory_bytes: mib << 20, ..SweepLimits::default() };
    sweep::plan(&Cpu::new(), &lanes, &prompts(1024), &limits(needed)).unwrap();
    sweep::plan(&Cpu::new(), &lanes, &prompts(1024), &limits(needed - 2)).unwrap_err();
}

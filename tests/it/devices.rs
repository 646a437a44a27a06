//! Devices against each other on a real graph: the demo model, whole sequences, every scored type.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bitworth::engine::backend::{Arithmetic, Backend};
use bitworth::engine::cpu::Cpu;
use bitworth::engine::generate::Generator;
use bitworth::engine::model::Variant;
use bitworth::engine::sweep::{self, Lane, Sequence, SweepLimits};
use bitworth::measure::Watch;
use bitworth::measure::generation::{self, Continuation, Sampling};
use bitworth::text::tokenizer::Tokenizer;
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::progress::Silent;
use bitworth_quant::quantize::{Output, QuantizeOptions, quantize};
use bitworth_quant::{Checkpoint, Plan, Recipe};
use tempfile::TempDir;

use crate::common;

fn demo_model(dir: &TempDir) -> Arc<Checkpoint> {
    let world = bitworth::eval::demo::materialize(dir.path()).unwrap();
    Arc::new(Checkpoint::open(&world.join("demo-model")).unwrap())
}

fn lane(name: &str, checkpoint: Arc<Checkpoint>) -> Lane {
    Lane { name: name.into(), variant: Variant::Stored(checkpoint), arithmetic: Arithmetic::F32 }
}

/// The demo model, and the file of every recipe that needs no importance matrix. Lanes that are encoded on the fly have the same
/// bytes (`sweep.rs`), but every walk would encode them again.
fn lanes(dir: &TempDir) -> Vec<Lane> {
    let checkpoint = demo_model(dir);
    let mut outputs = Vec::new();
    let mut names = Vec::new();
    for recipe in Recipe::all() {
        let plan = Plan::of(checkpoint.as_ref(), recipe, &PlanOptions::default()).unwrap();
        if plan.check_importance(checkpoint.path()).is_err() {
            continue; // needs an importance matrix
        }
        let path = dir.path().join(format!("{}.gguf", recipe.name));
        outputs.push(Output::of(checkpoint.as_ref(), recipe, &PlanOptions::default(), &path).unwrap());
        names.push((recipe.name.clone(), path));
    }
    quantize(checkpoint.as_ref(), &outputs, &QuantizeOptions::default(), &AtomicBool::new(false), &Silent).unwrap();
    let files = names.iter().map(|(name, path)| lane(name, Arc::new(Checkpoint::open(path).unwrap())));
    std::iter::once(lane("reference", checkpoint.clone())).chain(files).collect()
}

/// Ragged sequences of tokens that the model knows.
fn sequences() -> Vec<Sequence> {
    [40usize, 1, 17]
        .iter()
        .map(|&len| Sequence { tokens: (0..=len as u32).map(|i| (i * 389 + 7) % 1024).collect(), scored: 0..len })
        .collect()
}

fn score<B: Backend>(backend: &B, lanes: &[Lane], sequences: &[Sequence]) -> Vec<sweep::LaneScores> {
    sweep::score(backend, lanes, sequences, SweepLimits::default(), &Silent, &AtomicBool::new(false)).unwrap()
}

/// A GPU chooses tokens ahead of who looks at them. A text is the one of single steps nevertheless, up to a stop text within what
/// was chosen ahead, to the number of tokens, or to the end of the room.
#[test]
fn a_text_from_a_gpu_is_that_of_single_steps_and_ends_where_it_should() {
    let Some(gpu) = common::gpu() else { return };
    let dir = TempDir::new().unwrap();
    let checkpoint = demo_model(&dir);
    let tokenizer = Tokenizer::new(&checkpoint).unwrap();
    let variant = Variant::Stored(checkpoint);
    let prompt = generation::prompt(&tokenizer, "The old", 20, 64).unwrap();
    let room = prompt.len() + 20;
    let mut generator = Generator::new(&gpu, &variant, room, 1).unwrap();
    let mut expected = vec![generator.greedy(0, &prompt).unwrap()];
    while generator.room(0) > 0 && !tokenizer.is_end(expected[expected.len() - 1]) {
        expected.push(generator.greedy(0, &expected[expected.len() - 1..]).unwrap());
    }
    expected.retain(|&token| !tokenizer.is_end(token));
    assert!(expected.len() > 10, "{expected:?}");
    let stop = tokenizer.decode(&expected[..4]).unwrap();
    for (stop, max_tokens, length) in [(vec![], 100, expected.len()), (vec![], 10, 10), (vec![stop], 100, 4)] {
        generator.rewind(0, 0).unwrap();
        let asked = Continuation { prompt: &prompt, stop: &stop, max_tokens, sampling: Sampling::Greedy };
        let watch = Watch { progress: &Silent, stop: &AtomicBool::new(false) };
        let made = generation::generate(&mut generator, &tokenizer, &asked, watch, &mut |_: &str| {}).unwrap();
        assert_eq!(made.tokens, expected[..length], "{stop:?}, {max_tokens}");
    }
}

#[test]
fn a_gpu_and_the_cpu_agree_on_logits_and_divergences() {
    let Some(gpu) = common::gpu() else { return };
    let cpu = Cpu::new();
    let dir = TempDir::new().unwrap();
    let (lanes, sequences) = (lanes(&dir), sequences());
    let (a, b) = (score(&cpu, &lanes, &sequences), score(&gpu, &lanes, &sequences));
    assert_eq!((a.len(), b.len()), (lanes.len(), lanes.len()));
    for ((lane, a), b) in lanes.iter().zip(&a).zip(&b) {
        for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
            let close = |x: f64, y: f64, bound: f64| assert!((x - y).abs() < bound, "{}: {a:?} on the CPU, {b:?}", lane.name);
            close(a.log_sum_exp, b.log_sum_exp, 1e-4);
            close(a.target_logit, b.target_logit, 1e-4);
            // A divergence is a mean of differences of logits, each of which has the rounding of f32: where single tokens lie
            // nats apart, as on these sequences without meaning, so many times the error.
            close(a.kld, b.kld, 1e-5 * a.kld.max(1.0));
            close(a.reverse_kld, b.reverse_kld, 1e-5 * a.reverse_kld.max(1.0));
            // A mean of log-probabilities, as exact as these.
            close(a.entropy, b.entropy, 1e-4);
        }
    }
    for (i, lane) in lanes.iter().enumerate() {
        let tokens = [sequences[0].tokens.clone()];
        let (on_cpu, on_gpu) = (all_logits(&cpu, &lane.variant, &tokens), all_logits(&gpu, &lane.variant, &tokens));
        let vocabulary = on_cpu.len() / tokens[0].len();
        for (rows, logits) in [(&a[i][0], &on_cpu), (&b[i][0], &on_gpu)] {
            for ((row, logits), &target) in rows.iter().zip(logits.chunks(vocabulary)).zip(&tokens[0][1..]) {
                let target = target as usize;
                let before = |&(id, &l): &(usize, &f32)| l > logits[target] || (l == logits[target] && id < target);
                let rank = logits.iter().enumerate().filter(before).count();
                assert_eq!((row.rank as usize, row.target_logit), (rank, logits[target].into()), "{}: {row:?}", lane.name);
            }
        }
        for (a, b) in on_cpu.chunks(vocabulary).zip(on_gpu.chunks(vocabulary)) {
            let apart = divergence(a, b);
            assert!(apart.abs() < 1e-5, "{}: {apart} nats between the CPU and the GPU", lane.name);
        }
        let error = on_cpu.iter().zip(&on_gpu).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
        let norm = on_cpu.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>().sqrt();
        assert!(error / norm < 1e-3, "{}: relative distance {}", lane.name, error / norm);
    }
}

/// The KL divergence of the distribution with logits `b` from the one with logits `a`.
fn divergence(a: &[f32], b: &[f32]) -> f64 {
    let log_probs = |logits: &[f32]| {
        let max = logits.iter().fold(f64::NEG_INFINITY, |max, &x| max.max(x.into()));
        let log_sum = max + logits.iter().map(|&x| (f64::from(x) - max).exp()).sum::<f64>().ln();
        logits.iter().map(|&x| f64::from(x) - log_sum).collect::<Vec<_>>()
    };
    log_probs(a).iter().zip(log_probs(b)).map(|(a, b)| a.exp() * (a - b)).sum()
}

fn all_logits<B: Backend>(backend: &B, variant: &Variant, tokens: &[Vec<u32>]) -> Vec<f32> {
    let mut all = Vec::new();
    sweep::logits(backend, variant, tokens, &Silent, &AtomicBool::new(false), |_, logits| {
        all.extend(logits);
        Ok(())
    })
    .unwrap();
    all
}

#[test]
fn the_reference_has_no_distance_from_itself() {
    let dir = TempDir::new().unwrap();
    let checkpoint = demo_model(&dir);
    let twice = [lane("a", checkpoint.clone()), lane("b", checkpoint)];
    let scores = score(&Cpu::new(), &twice, &sequences());
    assert!(scores[1].iter().flatten().all(|row| row.kld == 0.0));
}

#[test]
fn a_sequence_scores_the_same_alone_in_a_batch_and_in_any_cut() {
    let dir = TempDir::new().unwrap();
    let (lanes, sequences) = (lanes(&dir), sequences());
    let together = score(&Cpu::new(), &lanes, &sequences);
    for (i, sequence) in sequences.iter().enumerate() {
        let alone = score(&Cpu::new(), &lanes, std::slice::from_ref(sequence));
        for (lane, scores) in alone.iter().enumerate() {
            assert_eq!(scores[0], together[lane][i], "sequence {i} of lane {lane}");
        }
    }
    let small = SweepLimits { activation_bytes: 1, buffer_bytes: 1, ..SweepLimits::default() };
    // Row by row: every row decodes all lanes' weights, so the longest sequence is left out.
    let cut = sweep::score(&Cpu::new(), &lanes, &sequences[1..], small, &Silent, &AtomicBool::new(false)).unwrap();
    for (lane, scores) in cut.iter().enumerate() {
        assert_eq!(scores[..], together[lane][1..], "lane {lane}");
    }
}

/// Lanes in 8 bits: near the same lanes in f32, the same bits in any cut, and refused by a device that has no such products.
#[test]
fn lanes_in_8_bits_are_near_those_in_f32() {
    let dir = TempDir::new().unwrap();
    let (exact, sequences) = (lanes(&dir), sequences());
    let in_q8 = |lane: &Lane| Lane { arithmetic: Arithmetic::Q8, name: lane.name.clone(), variant: lane.variant.clone() };
    let mut rounded = 0;
    for lane in &exact {
        let in_f32 = Lane { arithmetic: Arithmetic::F32, ..in_q8(lane) };
        let scores = score(&Cpu::new(), &[in_f32, in_q8(lane)], &sequences);
        let klds: Vec<f64> = scores[1].iter().flatten().map(|row| row.kld).collect();
        let mean = klds.iter().sum::<f64>() / klds.len() as f64;
        // What llama.cpp's 8-bit activations (and Q8_0 weights) cost SmolLM2-135M.
        assert!(mean < 4e-3, "{}: mean divergence {mean:e}", lane.name);
        rounded += usize::from(klds.iter().any(|kld| *kld != 0.0));
        let together = score(&Cpu::new(), &[in_q8(lane)], &sequences);
        let alone = score(&Cpu::new(), &[in_q8(lane)], &sequences[1..2]);
        assert_eq!(alone[0][0], together[0][1], "{}", lane.name);
    }
    assert!(rounded > 0 && rounded < exact.len(), "floats stay in f32, {rounded} of {} lanes were rounded", exact.len());
    if let Some(gpu) = common::gpu() {
        let lane = [in_q8(&exact[0])];
        let refused = sweep::score(&gpu, &lane, &sequences, SweepLimits::default(), &Silent, &AtomicBool::new(false));
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("q8") && message.contains("or device cpu"), "{message}");
    }
}

//! What the engine really allocates against the memory model, by a counting allocator. A program of its own with one test,
//! because the count is of the whole process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bitworth::advise::hardware::MachineKind;
use bitworth::advise::memory::{Runtime, Usage, need};
use bitworth::advise::models::ModelFigures;
use bitworth::engine::backend::Arithmetic;
use bitworth::engine::cpu::Cpu;
use bitworth::engine::generate::Generator;
use bitworth::engine::model::Variant;
use bitworth::engine::sweep::{Lane, Sequence, SweepLimits, plan, score};
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::progress::Silent;
use bitworth_quant::quantize::{Output, QuantizeOptions, quantize};
use bitworth_quant::synth::Synth;
use bitworth_quant::synth::shape;
use bitworth_quant::{Checkpoint, Recipe};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const THREADS: u32 = 2;

/// A made model of this shape as a Q8_0 file.
fn file_of(folder: &Path, keys: &str) -> (PathBuf, PathBuf) {
    let (path, file) = (folder.join("small.toml"), folder.join("small.gguf"));
    std::fs::write(&path, keys).unwrap();
    let shape = shape::load(path.to_str().unwrap(), None).unwrap();
    let synth = Synth::new("small", &shape.config, 0).unwrap();
    let output = Output::of(&synth, &Recipe::find("q8_0").unwrap(), &PlanOptions::default(), &file).unwrap();
    quantize(&synth, &[output], &QuantizeOptions::default(), &AtomicBool::new(false), &Silent).unwrap();
    (path, file)
}

/// The most that is allocated while something runs. A vector that grows counts twice for the moment, though the system's own
/// allocator remaps large ones; so it falls short a bit.
fn allocated(run: impl FnOnce()) -> u64 {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    run();
    (ALLOCATED.peak_usage() - before) as u64
}

/// Decodes a token behind a full context and compares the most that was allocated, and the file that is mapped, with the need.
fn check(folder: &Path, keys: &str, context: u32, sequences: u32) {
    let (path, file) = file_of(folder, keys);
    let figures = ModelFigures::parse(&path, keys).unwrap();
    let size = figures.size(&Recipe::find("q8_0").unwrap()).unwrap();
    assert_eq!(size.file_bytes, std::fs::metadata(&file).unwrap().len(), "{keys}: the planned size is the file's");
    let usage = Usage { runtime: Runtime::Bitworth, threads: THREADS, sequences, ..Usage::of_context(context) };
    let need = need(&figures, &size, &usage, MachineKind::Cpu).unwrap();

    let (cpu, tokens) = (Cpu::new(), vec![1; context as usize - 1]);
    let variant = Variant::Stored(Arc::new(Checkpoint::open(&file).unwrap()));
    // Threads of its own: what they keep from one product to the next is counted anew every time.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS as usize).build().unwrap();
    let run = || {
        let mut generator = Generator::new(&cpu, &variant, context as usize, sequences as usize).unwrap();
        let next = generator.greedy(0, &tokens).unwrap();
        generator.greedy_each(&vec![next; sequences as usize]).unwrap();
    };
    let allocated = pool.install(|| allocated(run));

    // Weights are mapped, the rest is allocated; so the bound on the rest is the stricter one.
    let buffers = need.kv + need.compute;
    let off = buffers as f64 / allocated as f64 - 1.0;
    assert!(off.abs() < 0.05, "{keys}{context} x {sequences}: {buffers} bytes of buffers forecast, {allocated} allocated");
    assert_eq!(need.weights, size.tensor_bytes);
}

/// Scores contexts with two endings each, and as many rows of sequences that share nothing: what sharing takes more, in states
/// that are kept for the second ending and in keys, is what the plan counts more.
fn check_sweep(folder: &Path, keys: &str, contexts: u32) {
    let (_, file) = file_of(folder, keys);
    let variant = Variant::Stored(Arc::new(Checkpoint::open(&file).unwrap()));
    let lanes = [Lane { name: "small".into(), variant, arithmetic: Arithmetic::F32 }];
    let sequence = |tokens: Vec<u32>, scored: usize| Sequence { scored: tokens.len() - 1 - scored..tokens.len() - 1, tokens };
    let ending = |context: u32, end: u32| sequence([vec![context; 20], (end..end + 11).collect()].concat(), 10);
    let shared: Vec<Sequence> = (0..contexts).flat_map(|context| [ending(context, 100), ending(context, 200)]).collect();
    let alone: Vec<Sequence> = (0..contexts).map(|context| sequence((context..context + 41).collect(), 20)).collect();
    let cpu = Cpu::new();
    let of = |sequences: &[Sequence]| {
        let limits = SweepLimits::default();
        let plan = plan(&cpu, &lanes, sequences, &limits).unwrap();
        assert_eq!((plan.rows_computed, plan.passes.len()), (40 * contexts as usize, 1));
        let run = || drop(score(&cpu, &lanes, sequences, limits, &Silent, &AtomicBool::new(false)).unwrap());
        (plan.peak_bytes, allocated(run))
    };
    // What threads keep from one product to the next is taken by the first sweep, and this thread stays the one that calls.
    of(&alone);
    let ((planned, taken), (planned_alone, taken_alone)) = (of(&shared), of(&alone));
    let (planned, taken) = (planned - planned_alone, taken - taken_alone);
    let off = planned as f64 / taken as f64 - 1.0;
    assert!(off.abs() < 0.05, "{keys}{contexts} contexts: {planned} bytes more planned, {taken} more allocated");
}

#[test]
fn the_need_is_what_the_engine_allocates() {
    let folder = tempfile::tempdir().unwrap();
    let dense = "like = \"llama-1b\"\nnum_hidden_layers = 3\nvocab_size = 4096\nhidden_size = 768\nintermediate_size = 3072\n\
                 num_attention_heads = 12\nnum_key_value_heads = 4\n";
    let experts = "like = \"qwen3-30b-a3b\"\nnum_hidden_layers = 2\nvocab_size = 4096\nhidden_size = 512\nnum_attention_heads = \
         8\nnum_key_value_heads = 2\nnum_experts = 16\nnum_experts_per_tok = 4\nmoe_intermediate_size = 256\n";
    let windows =
        "like = \"gemma-3-1b\"\nnum_hidden_layers = 6\nvocab_size = 4096\nhidden_size = 512\nintermediate_size = 1024\n";
    // States outweigh keys and values where contexts are short and sequences many.
    let delta_nets = "like = \"qwen3.5-0.8b\"\nnum_hidden_layers = 4\nvocab_size = 4096\nhidden_size = 512\nintermediate_size = \
                      1024\nnum_attention_heads = 4\nnum_key_value_heads = 1\n";
    let delta_nets_and_experts = "like = \"qwen3.5-397b-a17b\"\nnum_hidden_layers = 4\nvocab_size = 4096\nhidden_size = 512\n\
                                  num_attention_heads = 4\nnum_key_value_heads = 1\nnum_experts = 16\nnum_experts_per_tok = 4\n\
                                  moe_intermediate_size = 256\nshared_expert_intermediate_size = 256\n";
    // The last four of eight blocks use the keys and values of earlier ones.
    let window = "\"sliding_attention\"";
    let types = [[window; 3].join(", "), "\"full_attention\"".into()].join(", ");
    let shared = format!(
        "like = \"gemma-4-e4b\"\nnum_hidden_layers = 8\nnum_kv_shared_layers = 4\nlayer_types = [{types}, {types}]\nvocab_size = \
         4096\nvocab_size_per_layer_input = 4096\nhidden_size = 512\nintermediate_size = 1024\n"
    );
    let wide = "like = \"gemma-4-31b\"\nnum_hidden_layers = 6\nvocab_size = 4096\nhidden_size = 512\nintermediate_size = 1024\n\
                num_attention_heads = 4\nnum_key_value_heads = 2\nnum_global_key_value_heads = 1\n";
    for (keys, context, sequences) in [
        (dense, 512, 1),
        (dense, 2048, 1),
        (experts, 1024, 1),
        (windows, 512, 1),
        (windows, 1024, 1),
        (delta_nets, 512, 1),
        (delta_nets, 256, 8),
        (delta_nets, 2048, 1),
        (delta_nets_and_experts, 512, 4),
        (&shared, 1024, 1),
        (&shared, 512, 4),
        (wide, 1024, 2),
    ] {
        check(folder.path(), keys, context, sequences);
    }
    // Without a head that takes more than blocks do.
    let [dense, delta_nets, delta_nets_and_experts] =
        [dense, delta_nets, delta_nets_and_experts].map(|keys| keys.replace("vocab_size = 4096", "vocab_size = 512"));
    for (keys, contexts) in [(&delta_nets, 4), (&delta_nets, 12), (&delta_nets_and_experts, 12), (&dense, 12)] {
        check_sweep(folder.path(), keys, contexts);
    }
}

//! What decoding and scoring cost a graphics device beside its kernels: steps, submissions, and what is made on the way.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bitworth_quant::checkpoint::Checkpoint;
use bitworth_quant::progress::Silent;

use super::Gpu;
use super::device::Counts;
use super::tests::{fresh, open};
use crate::backend::{Arithmetic, AttentionInputs, AttentionShape, Backend};
use crate::generate::Generator;
use crate::model::Variant;
use crate::sweep::{self, Lane, Sequence, SweepLimits};

/// The folder of a model of the repository.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../quant/tests/fixtures/hf").join(name)
}

fn model(name: &str) -> Variant {
    Variant::Stored(Arc::new(Checkpoint::open(&fixture(name)).unwrap()))
}

/// With all that the adapter offers, and with no more than WebGPU's default limits.
fn devices() -> Option<[Gpu; 2]> {
    Some([fresh()?, open().unwrap()])
}

/// What `work` costs.
fn cost(gpu: &Gpu, work: impl FnOnce()) -> Counts {
    let before = gpu.counts();
    work();
    gpu.counts().since(before)
}

#[test]
fn a_token_is_one_pass_and_one_submission_and_makes_nothing_after_the_first() {
    let Some(devices) = devices() else { return };
    let model = model("llama31_gqa");
    let blocks = model.hparams().block_count as u64;
    let mut said = Vec::new();
    for gpu in &devices {
        let mut generator = Generator::new(gpu, &model, 64, 1).unwrap();
        let mut tokens = vec![generator.greedy(0, &[1, 2, 3]).unwrap()];
        for step in 0..10 {
            let last = [tokens[step]];
            let counts = cost(gpu, || tokens.push(generator.greedy(0, &last).unwrap()));
            if step < 2 {
                continue;
            }
            let made = (counts.buffers, counts.bind_groups);
            assert_eq!(made, (0, 0), "buffers and bind groups of token {step}");
            assert_eq!((counts.passes, counts.submits, counts.readbacks), (1, 1, 1), "passes, submissions, readbacks");
            // Norms (2), products (7), rotations (2), keys and values into the cache (2), attention, gate, residuals (2); the
            // embedding before them, and behind them the last row, its norm, the output matrix, and the choice (2).
            assert_eq!(counts.dispatches, 17 * blocks + 6);
        }
        said.push((tokens, generator.logits(0, &[5]).unwrap()));
    }
    assert!(said[0] == said[1], "parameters as immediates and in a buffer give the same");
}

/// Tokens that the device chooses by itself are those that it gives one by one, are read together, and make nothing either.
#[test]
fn eight_greedy_tokens_are_read_together() {
    let Some(devices) = devices() else { return };
    for gpu in &devices {
        for name in ["llama31_gqa", "gemma3_pattern", "phi4_mini", "nemotron_h_bias"] {
            let model = model(name);
            let (mut alone, mut ahead) =
                (Generator::new(gpu, &model, 64, 1).unwrap(), Generator::new(gpu, &model, 64, 1).unwrap());
            let mut expected = vec![alone.greedy(0, &[1, 2, 3]).unwrap()];
            while alone.room(0) > 0 {
                expected.push(alone.greedy(0, &expected[expected.len() - 1..]).unwrap());
            }
            let mut found = ahead.greedy_ahead(0, &[1, 2, 3], 8).unwrap();
            while ahead.room(0) > 0 {
                let last = found[found.len() - 1..].to_vec();
                let (there, mut made) = (found.len(), Vec::new());
                let counts = cost(gpu, || made = ahead.greedy_ahead(0, &last, 8).unwrap());
                found.extend(made);
                if name == "llama31_gqa" && there >= 24 && found.len() - there == 8 {
                    assert_eq!((counts.readbacks, counts.submits, counts.passes), (1, 1, 1), "of eight tokens");
                    assert_eq!((counts.buffers, counts.bind_groups), (0, 0), "buffers and bind groups of eight tokens");
                }
            }
            assert_eq!(found, expected, "{name}");
            // Nothing that was said is forgotten.
            ahead.rewind(0, 10).unwrap();
            assert_eq!(ahead.greedy_ahead(0, &expected[7..8], 3).unwrap()[..1], expected[8..9], "{name}, rewound");
        }
    }
}

/// A model that gives no numbers behind one of its tokens gives those before it, wherever the host looks, and then an error.
#[test]
fn tokens_chosen_ahead_end_where_the_model_gives_no_numbers() {
    let Some(gpu) = fresh() else { return };
    let expected = Generator::new(&gpu, &model("stablelm_qknorm"), 16, 1).unwrap().greedy_ahead(0, &[1, 2, 3], 8).unwrap();
    let broken = (0..8).find(|&at| at > 1 && !expected[..at].contains(&expected[at])).unwrap();
    assert!(broken < 7 && ![1, 2, 3].contains(&expected[broken]), "{expected:?}");

    let folder = std::env::temp_dir().join(format!("bitworth-broken-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for file in std::fs::read_dir(fixture("stablelm_qknorm")).unwrap().map(|entry| entry.unwrap()) {
        std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    let weights = folder.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let header_bytes = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
    let table = &header["model.embed_tokens.weight"];
    let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
    let [begin, end] = [0, 1].map(|i| 8 + header_bytes + number(&table["data_offsets"][i]));
    let row_bytes = (end - begin) / number(&table["shape"][0]);
    bytes[begin + expected[broken] as usize * row_bytes..][..row_bytes].fill(0xff);
    std::fs::write(&weights, bytes).unwrap();

    let model = Variant::Stored(Arc::new(Checkpoint::open(&folder).unwrap()));
    let mut generator = Generator::new(&gpu, &model, 16, 1).unwrap();
    assert_eq!(generator.greedy_ahead(0, &[1, 2, 3], 8).unwrap(), expected[..=broken]);
    assert_eq!(generator.length(0), 3 + broken);
    let message = generator.greedy_ahead(0, &expected[broken..=broken], 8).unwrap_err().to_string();
    assert!(message.contains("not numbers"), "{message}");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A thread that reads weights ahead does not wait while another one records.
#[test]
fn uploads_do_not_wait_for_the_recorder() {
    let Some(gpu) = fresh() else { return };
    let recording = gpu.recorder();
    std::thread::scope(|threads| {
        let (done, uploaded) = mpsc::channel();
        let gpu = &gpu;
        threads.spawn(move || done.send(gpu.upload(&[1.0; 1000])).unwrap());
        let uploaded = uploaded.recv_timeout(Duration::from_secs(20));
        drop(recording);
        assert_eq!(gpu.read(&uploaded.expect("the upload waits").unwrap(), 0..1000).unwrap(), [1.0; 1000]);
    });
}

/// What is written to a buffer that was in use does not reach the steps that were recorded before.
#[test]
fn a_buffer_is_used_again_only_behind_the_steps_that_read_it() {
    let Some(gpu) = fresh() else { return };
    let mut sums = gpu.upload(&[0.0; 16]).unwrap();
    for number in 1..=4u8 {
        gpu.add(&mut sums, &gpu.upload(&[f32::from(number); 16]).unwrap(), 1.0, 16).unwrap();
    }
    assert_eq!(gpu.read(&sums, 0..16).unwrap(), [10.0; 16]);
    let free = cost(&gpu, || drop((gpu.upload(&[7.0; 16]).unwrap(), gpu.upload(&[8.0; 16]).unwrap())));
    assert_eq!(free.buffers, 0, "what was dropped is used again");
}

/// The logits of targets are at most three products and what picks them, however many different ones there are.
#[test]
fn the_targets_of_a_chunk_take_four_dispatches_at_most() {
    let Some(gpu) = fresh() else { return };
    let lanes = [Lane { name: "model".into(), variant: model("llama31_gqa"), arithmetic: Arithmetic::F32 }];
    let dispatches = |tokens: Vec<u32>| {
        let sequences = [Sequence { scored: 0..tokens.len() - 1, tokens }];
        let score = || sweep::score(&gpu, &lanes, &sequences, SweepLimits::default(), &Silent, &AtomicBool::new(false));
        cost(&gpu, || drop(score().unwrap())).dispatches
    };
    // One target is a product and a gather.
    assert_eq!(dispatches((0..250).map(|i| i * 7 % 384).collect()), dispatches(vec![5; 250]) + 2);
}

/// Attention to many keys is split between workgroups and joined; to few keys it is one dispatch.
#[test]
fn many_keys_are_split() {
    let Some(gpu) = fresh() else { return };
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 8, value_dim: 8, scale: 1.0, softcap: 0.0 };
    let buffer = |len: usize| gpu.upload(&vec![0.5; len]).unwrap();
    let (q, k, v, mut out) = (buffer(2 * 32), buffer(1024 * 16), buffer(1024 * 16), buffer(2 * 32));
    for (longest, dispatches) in [(256, 1), (257, 2), (1024, 2)] {
        let spans = gpu.indices(&[0, longest, 3, 5]).unwrap();
        let inputs = AttentionInputs { q: &q, k: &k, v: &v, spans: &spans, sinks: None };
        let attend = || {
            gpu.attention_few(inputs, 2, shape, &mut out).unwrap();
            gpu.synchronize().unwrap();
        };
        assert_eq!(cost(&gpu, attend).dispatches, dispatches, "{longest} keys");
    }
}

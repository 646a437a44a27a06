//! Golden logits: what the reference framework computed in f32 for tiny models, against every device we have.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bitworth::engine::backend::Backend;
use bitworth::engine::cpu::Cpu;
use bitworth::engine::generate::Generator;
use bitworth::engine::model::Variant;
use bitworth::engine::sweep;
use quant::Checkpoint;
use quant::progress::Silent;
use safetensors::SafeTensors;

use crate::common;

/// The llama-shaped models of the golden data: grouped queries and llama3 rope scaling, linear scaling with biases, shards,
/// and plain multi-head attention.
const MODELS: &[&str] = &["llama31_gqa", "llama_linear_bias", "llama_yi", "llama2_mha"];

fn golden(dir: &Path, name: &str) -> Vec<u8> {
    let bytes = std::fs::read(dir.join("golden.safetensors")).unwrap();
    SafeTensors::deserialize(&bytes).unwrap().tensor(name).unwrap().data().to_vec()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Token ids, which the file keeps as 32-bit integers.
fn ids(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|b| u32::try_from(i32::from_le_bytes(b.try_into().unwrap())).unwrap()).collect()
}

/// ‖a - b‖ / ‖b‖
fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());

    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|v| v * v).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b))) / norm(&mut b.iter().map(|b| f64::from(*b)))
}

/// Every golden sequence of every model on `backend`.
fn check<B: Backend>(backend: &B, bound: f64) {
    for name in MODELS {
        // The first model's golden data is in the repository, the others' beside it.
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("quant/tests/fixtures/hf").join(name);
        let dir = if here.exists() { Some(here) } else { common::shared(&format!("oracle/models/{name}")) };
        let Some(dir) = dir else { continue };
        let variant = Variant::Stored(Arc::new(Checkpoint::open(&dir).unwrap()));
        for sequence in ["a", "b"] {
            let tokens = ids(&golden(&dir, &format!("ids_{sequence}")));
            let expected = floats(&golden(&dir, &format!("logits_{sequence}")));
            sweep::logits(backend, &variant, std::slice::from_ref(&tokens), &Silent, &AtomicBool::new(false), |_, logits| {
                let error = relative(&logits, &expected);
                assert!(error < bound, "{name}, sequence {sequence}: relative error {error:e}");
                Ok(())
            })
            .unwrap();
            let greedy = ids(&golden(&dir, &format!("greedy_{sequence}")));
            let mut generator = Generator::new(backend, &variant, tokens.len() + greedy.len(), 1).unwrap();
            let mut next = generator.greedy(0, &tokens).unwrap();
            for (i, expected) in greedy.iter().enumerate() {
                assert_eq!(next, *expected, "{name}, sequence {sequence}: greedy token {i}");
                next = generator.greedy(0, &[next]).unwrap();
            }
        }
    }
}

#[test]
fn the_cpu_gives_the_golden_logits_and_greedy_tokens() {
    check(&Cpu::new(), 1e-4);
}

#[test]
fn a_gpu_gives_the_golden_logits_and_greedy_tokens() {
    if let Some(gpu) = common::gpu() {
        check(&gpu, 1e-3);
    }
}

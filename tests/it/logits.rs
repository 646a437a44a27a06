//! Golden models: what the reference framework computed in f32 for tiny models of every architecture, against every device we
//! have, from the Hugging Face directory and from the GGUF file made of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bitworth::engine::backend::Backend;
use bitworth::engine::cpu::Cpu;
use bitworth::engine::generate::Generator;
use bitworth::engine::model::Variant;
use bitworth::engine::sweep;
use bitworth_quant::arch::ARCHITECTURES;
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::progress::Silent;
use bitworth_quant::quantize::{Output, QuantizeOptions, quantize};
use bitworth_quant::{Checkpoint, Recipe};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use tempfile::TempDir;

use crate::common;

/// Every golden model and what is special about it. Those that are committed are tested everywhere, the others where the golden
/// data is at hand, as it always is in CI.
const MODELS: &[(&str, &str)] = &[
    ("apertus", "xIELU, head norms, llama3 scaling"),
    ("cohere", "parallel attention and MLP, layer norm without bias, scaled logits"),
    ("cohere2", "windows in three of four blocks, no positions in the fourth"),
    ("cohere_qknorm", "a layer norm for each head"),
    ("deepseek_v2", "latent attention without compressed queries, shared experts, a dense block first"),
    ("deepseek_v2_groups", "experts by groups, YaRN with mscale"),
    ("deepseek_v3", "sigmoid routing with a bias, groups by two"),
    ("ernie4_5", "adjacent pairs without a permutation, one key head"),
    ("ernie4_5_moe", "softmax routing with a bias, shared experts, a dense block first"),
    ("exaone4", "windows in three of four blocks, no positions in the fourth, norms behind"),
    ("falcon_h1", "Mamba-2 and attention side by side, factors in the weights"),
    ("fmt_awq", "AWQ"),
    ("fmt_ct_fp8", "FP8 with a scale for each row"),
    ("fmt_ct_int4", "integers of 4 bits in groups"),
    ("fmt_ct_int4_zp", "the same with zero points"),
    ("fmt_ct_mxfp4", "MXFP4 outside of experts"),
    ("fmt_ct_nvfp4", "NVFP4 with reciprocal factors"),
    ("fmt_fp8_block", "FP8 with a scale for each block"),
    ("fmt_fp8_block_moe", "the same in experts"),
    ("fmt_fp8_tensor", "FP8 with a scale for each tensor"),
    ("fmt_gptq_act", "GPTQ with columns in the order of activations"),
    ("fmt_nvfp4", "NVFP4"),
    ("fmt_nvfp4_moe", "the same in experts"),
    ("fmt_nvfp4_qwen35", "the same in gated delta nets"),
    ("gemma", "gated GELU, scaled embeddings"),
    ("gemma2", "capped scores and logits, norms behind, alternating windows"),
    ("gemma2_scalar", "a scale of attention and a base that GGUF does not say"),
    ("gemma3_pattern", "every second block windowed, linear scaling in the others"),
    ("gemma3_text", "a base of its own in windowed blocks, head norms"),
    ("gemma3_wrap", "inside of a model with an image encoder"),
    ("gemma4", "wider heads and keys for values in blocks without a window, a factor on blocks"),
    ("gemma4_bias", "biases of attention, whose keys are never the values"),
    ("gemma4_e2b", "inputs of blocks beside the stream, keys of earlier blocks"),
    ("gemma4_moe", "experts beside a dense network"),
    ("glm4", "half of each head rotated, fused gate and up, norms behind"),
    ("glm4_moe", "sigmoid routing, half of each head rotated, a block that predicts further tokens"),
    ("glm4_moe_lite", "latent attention, sigmoid routing that GGUF does not say"),
    ("glm4_moe_lite_bias", "biases of what latent attention compresses, and of its output"),
    ("glm4v", "inside of a model with an image encoder, rows in another order for sections of rotary embedding"),
    ("glm4v_moe", "sigmoid routing inside of a model with an image encoder"),
    ("gpt2", "learned positions, fused attention, plain GELU"),
    ("gpt_oss", "sinks, biased experts, clamped SwiGLU, YaRN"),
    ("gpt_oss_mxfp4", "MXFP4 experts"),
    ("gpt_oss_yarn", "YaRN without rounding"),
    ("granite", "factors on embedding, attention, residual stream and logits"),
    ("granite_hybrid", "Mamba-2 in two of three blocks, no positions in the third, experts with a shared one"),
    ("hunyuan_v1_dense", "head norms behind rotary embedding, an enlarged base"),
    ("hunyuan_v1_moe", "the same with experts, a shared one"),
    ("lfm2", "short convolutions in three of four blocks"),
    ("lfm2_moe", "the same with experts behind the first block"),
    ("llama2_mha", "multi-head attention, SentencePiece"),
    ("llama31_gqa", "grouped queries, llama3 scaling, tied"),
    ("llama4", "chunks, unweighted head norms, a factor on queries by position, one weighed expert"),
    ("llama4_text", "the same by itself, every other block dense, tied"),
    ("llama_linear_bias", "linear scaling, biases, F32"),
    ("llama_yi", "one key head, three shards"),
    ("mamba2", "Mamba-2 alone"),
    ("minimax_m2", "sigmoid routing, norms over all heads, half of each rotated"),
    ("ministral3", "YaRN, a factor on queries by position"),
    ("mistral3", "inside of a model with an image encoder"),
    ("mistral3_ministral", "Ministral 3 inside of one"),
    ("mistral_nemo", "heads narrower than the embedding divided"),
    ("mistral_swa", "a sliding window that GGUF does not say"),
    ("mixtral", "a mixture of experts"),
    ("mixtral_k", "experts with whole 256-blocks"),
    ("muse_glimmer", "gated attention, a norm on embeddings, windows, no positions in the last block, capped logits"),
    ("nemotron_h", "blocks of Mamba-2, of attention without positions, of a network of squared ReLU"),
    ("nemotron_h_bias", "biases of the networks"),
    ("nemotron_h_moe", "the same with experts without gates"),
    ("olmo2", "no norm before, norms behind and over all heads"),
    ("olmo3", "windows that are not stretched, YaRN elsewhere"),
    ("phi3", "fused attention and MLP"),
    ("phi3_longrope", "LongRoPE, short and long"),
    ("phi3_swa", "a sliding window"),
    ("phi4_mini", "LongRoPE on three quarters of each head, tied"),
    ("phimoe", "layer norms, biases up to the logits, two experts chosen one after the other"),
    ("qwen2", "attention biases, tied"),
    ("qwen2_moe", "a gated shared expert, unnormalized weights"),
    ("qwen2_moe_mixed", "dense blocks among those with experts"),
    ("qwen2_swa", "windows from the second block on"),
    ("qwen2_yarn", "YaRN"),
    ("qwen3", "head norms"),
    ("qwen35", "gated delta nets in three of four blocks, gated attention, a block that predicts further tokens"),
    ("qwen35_moe", "the same with experts in one tensor"),
    ("qwen35_moe_text", "the same with experts one by one"),
    ("qwen35_text", "two heads of values for each key"),
    ("qwen3_moe", "many experts"),
    ("qwen3_moe_mixed", "dense blocks among those with experts, one key head"),
    ("qwen3_next", "gated delta nets with keys, values and gates in one matrix"),
    ("qwen3_vl", "inside of a model with an image encoder, sections of rotary embedding"),
    ("qwen3_vl_moe", "all experts in one transposed tensor"),
    ("seed_oss", "biases on queries, keys and values"),
    ("smollm3", "no positions in every fourth block"),
    ("smollm3_nope", "no positions in other blocks"),
    ("stablelm", "layer norms with bias, a quarter of each head rotated"),
    ("stablelm_qknorm", "head norms, parallel attention and MLP"),
    ("starcoder2", "biases throughout, plain GELU, a window"),
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("quant/tests/fixtures/hf").join(name)
}

/// A golden model's folder, where it is at hand.
fn folder(name: &str) -> Option<PathBuf> {
    let here = fixture(name);
    if here.join("golden.safetensors").exists() { Some(here) } else { common::shared(&format!("oracle/models/{name}")) }
}

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

/// The logits of some sequences, computed together.
fn logits<B: Backend>(backend: &B, variant: &Variant, sequences: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let mut all = Vec::new();
    sweep::logits(backend, variant, sequences, &Silent, &AtomicBool::new(false), |_, logits| {
        all.push(logits);
        Ok(())
    })
    .unwrap();
    all
}

/// Both golden sequences of a model, whose logits and greedy continuations must be the golden ones.
fn check<B: Backend>(backend: &B, dir: &Path, variant: &Variant, bound: f64) -> Vec<Vec<f32>> {
    let sequences = ["a", "b"].map(|s| ids(&golden(dir, &format!("ids_{s}"))));
    let found = logits(backend, variant, &sequences);
    for ((s, tokens), found) in ["a", "b"].into_iter().zip(&sequences).zip(&found) {
        let error = relative(found, &floats(&golden(dir, &format!("logits_{s}"))));
        assert!(error < bound, "sequence {s}: relative error {error:e}");
        let greedy = ids(&golden(dir, &format!("greedy_{s}")));
        let mut generator = Generator::new(backend, variant, tokens.len() + greedy.len(), 1).unwrap();
        let mut next = generator.greedy(0, tokens).unwrap();
        for (i, expected) in greedy.iter().enumerate() {
            assert_eq!(next, *expected, "sequence {s}: greedy token {i}");
            next = generator.greedy(0, &[next]).unwrap();
        }
    }
    found
}

/// Runs `check` for every model at hand, and says all for which it fails.
fn for_all_models(check: impl Fn(&Path)) {
    let at_hand = MODELS.iter().filter_map(|(name, what)| Some((folder(name)?, *what)));
    for_all(at_hand, check);
}

fn for_all<'a>(models: impl Iterator<Item = (PathBuf, &'a str)>, check: impl Fn(&Path)) {
    let run = |(dir, what): (PathBuf, &str)| {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&dir)));
        result.is_err().then(|| format!("{} ({what})", dir.display()))
    };
    let failed: Vec<String> = models.filter_map(run).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

fn open(path: &Path) -> Variant {
    Variant::Stored(Arc::new(Checkpoint::open(path).unwrap()))
}

#[test]
fn the_cpu_gives_the_golden_logits_and_greedy_tokens_from_the_directory_and_from_its_gguf() {
    for_all_models(check_on_the_cpu);
}

fn check_on_the_cpu(dir: &Path) {
    let temp = TempDir::new().unwrap();
    let variant = open(dir);
    let from_directory = check(&Cpu::new(), dir, &variant, 1e-4);
    check_sequences_side_by_side(&Cpu::new(), dir, &variant);
    let path = temp.path().join("model.gguf");
    let checkpoint = variant.checkpoint();
    let recipe = Recipe::find("f32").unwrap();
    let output = Output::of(checkpoint.as_ref(), &recipe, &PlanOptions::default(), &path).unwrap();
    quantize(checkpoint.as_ref(), &[output], &QuantizeOptions::default(), &AtomicBool::new(false), &Silent).unwrap();
    let sequences = ["a", "b"].map(|s| ids(&golden(dir, &format!("ids_{s}"))));
    let from_gguf = logits(&Cpu::new(), &open(&path), &sequences);
    assert!(from_directory == from_gguf, "the GGUF file gives other logits than the directory");
    for (tokens, together) in sequences.iter().zip(&from_directory) {
        let alone = logits(&Cpu::new(), &variant, std::slice::from_ref(tokens));
        assert!(alone[0] == *together, "a sequence alone has other logits than beside another");
    }
}

/// Two sequences of different lengths that share a cache continue as each does alone.
fn check_sequences_side_by_side<B: Backend>(backend: &B, dir: &Path, variant: &Variant) {
    let read = |what: &str| ["a", "b"].map(|s| ids(&golden(dir, &format!("{what}_{s}"))));
    let (sequences, greedy) = (read("ids"), read("greedy"));
    let context = sequences.iter().zip(&greedy).map(|(tokens, greedy)| tokens.len() + greedy.len()).max().unwrap();
    let mut generator = Generator::new(backend, variant, context, 2).unwrap();
    let mut next: Vec<u32> = (0..2).map(|i| generator.greedy(i, &sequences[i]).unwrap()).collect();
    for (step, (a, b)) in greedy[0].iter().zip(&greedy[1]).enumerate() {
        assert_eq!(next, [*a, *b], "token {step} of two sequences side by side");
        next = generator.greedy_each(&next).unwrap();
    }
}

#[test]
fn a_forked_sequence_goes_on_as_the_first_one_and_one_that_is_rewound_begins_anew() {
    for_all_models(|dir| check_fork(&Cpu::new(), dir, &open(dir)));
    // What is copied does not depend on the architecture: one with latent attention and one with windows stand for all.
    if let Some(gpu) = common::gpu() {
        ["deepseek_v2_groups", "gemma3_pattern"].iter().for_each(|name| check_fork(&gpu, &fixture(name), &open(&fixture(name))));
    }
}

fn check_fork<B: Backend>(backend: &B, dir: &Path, variant: &Variant) {
    let (tokens, greedy) = (ids(&golden(dir, "ids_a")), ids(&golden(dir, "greedy_a")));
    let (last, begin) = tokens.split_last().unwrap();
    let mut generator = Generator::new(backend, variant, tokens.len() + greedy.len(), 2).unwrap();
    generator.prefill(0, begin).unwrap();
    generator.prefill(1, &tokens[..1]).unwrap();
    generator.fork(0, 1).unwrap();
    assert_eq!(generator.length(1), begin.len());
    let mut next = generator.greedy_each(&[*last; 2]).unwrap();
    for (step, expected) in greedy.iter().enumerate() {
        assert_eq!(next, [*expected; 2], "token {step} of a sequence and its fork");
        next = generator.greedy_each(&next).unwrap();
    }
    generator.rewind(1, begin.len()).unwrap();
    assert_eq!(generator.greedy(1, &[*last]).unwrap(), greedy[0], "the first token of a sequence that was rewound");
}

/// There is no golden model whose experts read and write something narrower than the stream. One whose stream goes there and back
/// as it is computes what the model without that does.
#[test]
fn experts_behind_identities_are_those_that_read_the_stream() {
    let Some(dir) = folder("nemotron_h_moe") else { return };
    let temp = TempDir::new().unwrap();
    let changed = temp.path().join("latent");
    std::fs::create_dir(&changed).unwrap();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), changed.join(entry.file_name())).unwrap();
    }
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
    let width = config["hidden_size"].as_u64().unwrap() as usize;
    config["moe_latent_size"] = width.into();
    std::fs::write(changed.join("config.json"), config.to_string()).unwrap();
    let weights = std::fs::read(dir.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&weights).unwrap();
    let identity: Vec<u8> = (0..width * width).flat_map(|i| f32::from(u8::from(i % (width + 1) == 0)).to_le_bytes()).collect();
    let view = || TensorView::new(safetensors::Dtype::F32, vec![width, width], &identity).unwrap();
    let names = [1, 4].into_iter().flat_map(|block| {
        ["fc1", "fc2"].map(|matrix| (format!("backbone.layers.{block}.mixer.{matrix}_latent_proj.weight"), view()))
    });
    let tensors: Vec<(String, TensorView<'_>)> = file.tensors().into_iter().chain(names).collect();
    safetensors::serialize_to_file(tensors, None, &changed.join("model.safetensors")).unwrap();
    let tokens = [ids(&golden(&dir, "ids_a"))];
    let variant = open(&changed);
    assert!(variant.checkpoint().tensor("blk.4.ffn_latent_up.weight").is_some());
    assert!(logits(&Cpu::new(), &variant, &tokens) == logits(&Cpu::new(), &open(&dir), &tokens));
    if let Some(gpu) = common::gpu() {
        check(&gpu, &dir, &variant, 1e-3);
    }
}

/// Golden models of your own, made by the oracle's script with other shapes: `BITWORTH_GOLDEN=FOLDER cargo test --workspace
/// --test it other_golden -- --ignored` checks every folder in FOLDER, on the CPU and on a GPU.
#[test]
#[ignore = "needs BITWORTH_GOLDEN"]
fn other_golden_models() {
    let folder = std::env::var_os("BITWORTH_GOLDEN").expect("BITWORTH_GOLDEN names a folder of golden models");
    let mut models: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    models.sort();
    let all = || models.iter().map(|dir| (dir.clone(), "on the CPU"));
    for_all(all(), check_on_the_cpu);
    if let Some(gpu) = common::gpu() {
        for_all(models.iter().map(|dir| (dir.clone(), "on the GPU")), |dir| drop(check(&gpu, dir, &open(dir), 1e-3)));
    }
}

#[test]
fn a_gpu_gives_the_golden_logits_and_greedy_tokens() {
    let Some(gpu) = common::gpu() else { return };
    for_all_models(|dir| drop(check(&gpu, dir, &open(dir), 1e-3)));
}

/// The commands, as a user gives them: what they say of a directory they say of the GGUF file that `convert` makes of it.
#[test]
fn the_commands_agree_on_every_golden_model() {
    for_all_models(|dir| {
        let temp = TempDir::new().unwrap();
        let here = temp.path();
        let dir_text = dir.to_str().unwrap();
        let json = |args: &[&str]| common::json(here, args);
        json(&["convert", dir_text, "--to", "f32", "--out", "model.gguf"]);

        let tokens = ids(&golden(dir, "ids_b"));
        std::fs::write(here.join("in.json"), serde_json::json!({ "sequences": [tokens] }).to_string()).unwrap();
        let logits = |model: &str, out: &str| {
            json(&["logits", model, "--tokens", "in.json", "--out", out, "--device", "cpu"]);
            let bytes = std::fs::read(here.join(out)).unwrap();
            floats(SafeTensors::deserialize(&bytes).unwrap().tensor("logits.0").unwrap().data())
        };
        let found = logits(dir_text, "dir.safetensors");
        assert!(relative(&found, &floats(&golden(dir, "logits_b"))) < 1e-4);
        assert!(found == logits("model.gguf", "gguf.safetensors"), "logits");

        let facts: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("golden.json")).unwrap()).unwrap();
        let cases = facts["tokenizer_cases"].as_array().unwrap();
        let case = cases.iter().max_by_key(|case| case["text"].as_str().unwrap().len()).unwrap();
        std::fs::write(here.join("text.txt"), case["text"].as_str().unwrap()).unwrap();
        for model in [dir_text, "model.gguf"] {
            assert_eq!(json(&["tokenize", model, "--text", "text.txt"])["tokens"], case["with_special"], "{model}");
        }

        let say = |model: &str| {
            let said = json(&["generate", model, "--prompt", "The reader", "--max-tokens", "8", "--device", "cpu"]);
            (said["prompt_tokens"].clone(), said["tokens"].clone(), said["text"].clone())
        };
        assert_eq!(say(dir_text), say("model.gguf"));
        let about = |model: &str| json(&["inspect", model])["model"].clone();
        assert!(about(dir_text)["active_parameters"].is_u64());
        assert_eq!(about(dir_text), about("model.gguf"));
    });
}

/// Whoever adds an architecture adds a golden model to the table, and whoever adds a golden model a row.
#[test]
fn the_table_covers_every_architecture_and_every_golden_model() {
    if let Some(models) = common::shared("oracle/models") {
        let mut names: Vec<String> =
            std::fs::read_dir(models).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !common::is_refused(name));
        // Some are committed and stand nowhere else.
        names.extend(MODELS.iter().map(|(name, _)| (*name).to_owned()).filter(|name| fixture(name).join("golden.json").exists()));
        names.sort();
        names.dedup();
        let listed: Vec<&str> = MODELS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, listed);
        for arch in ARCHITECTURES {
            for class in arch.hf {
                let has = |name: &&str| {
                    let config = std::fs::read_to_string(folder(name).unwrap().join("config.json")).unwrap();
                    config.contains(&format!("\"{}\"", class.name))
                };
                assert!(listed.iter().any(has), "no golden model of {}", class.name);
            }
        }
    }
}

//! Plans against llama-quantize's own choices: `type_choice.json` of the oracle holds what it picks for published model
//! shapes. `fixtures/gguf/type_choice.json` is a cut of it that is always there (two models, our recipes); to cut it anew:
//! `cargo test -p bitworth-quant --test it plan::cut_the_fixture -- --ignored`.

use std::path::Path;
use std::sync::Arc;

use bitworth_quant::checkpoint::Tensor;
use bitworth_quant::gguf::{Metadata, Value as Kv};
use bitworth_quant::plan::{ModelOrigin, PlanInput, PlanOptions};
use bitworth_quant::recipe::ModelFacts;
use bitworth_quant::{DType, Imatrix, Plan, Recipe};
use serde_json::{Value, json};

use crate::support::{fixture, is_refused, json, oracle};

const FIXTURE_MODELS: [&str; 2] = ["llama-3-8b", "smollm2-135m"];

fn facts(model: &Value) -> ModelFacts {
    let dim = |key: &str| model["dims"][key].as_u64().unwrap() as usize;
    ModelFacts {
        arch: model["arch"].as_str().unwrap().to_owned(),
        block_count: dim("layers"),
        head_count: dim("heads"),
        head_count_kv: dim("kv"),
        expert_count: dim("experts"),
    }
}

fn shape(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect()
}

/// The tensors of a model in the oracle, as the files were from which llama-quantize chose: F16, small ones F32.
fn tensors(model: &Value) -> Vec<Tensor> {
    let (names, shapes) = (model["names"].as_array().unwrap(), model["shapes"].as_array().unwrap());
    let tensor = |(name, dims): (&Value, &Value)| {
        let (name, shape) = (name.as_str().unwrap().to_owned(), shape(dims));
        let small = shape.len() < 2 || name.ends_with("ffn_gate_inp.weight") || name.ends_with("bias");
        Tensor { name, dtype: if small { DType::F32 } else { DType::F16 }, shape }
    };
    names.iter().zip(shapes).map(tensor).collect()
}

fn plan(model: &Value, recipe: &Arc<Recipe>) -> Plan {
    let (facts, mut tensors) = (facts(model), tensors(model));
    // The plan must find llama-quantize's order by itself.
    tensors.reverse();
    let input = PlanInput { path: Path::new("model.gguf"), origin: ModelOrigin::Gguf, model: &facts, tensors: &tensors };
    Plan::new(&input, recipe, &PlanOptions::default()).unwrap()
}

/// Compares every tensor of every file type in the oracle; the number of comparisons.
fn check_model(name: &str, model: &Value) -> usize {
    let legend = model["legend"].as_array().unwrap();
    let mut compared = 0;
    for (recipe, choice) in model["choice"].as_object().unwrap() {
        let plan = plan(model, &Recipe::find(recipe).unwrap());
        let choice = choice.as_array().unwrap();
        assert_eq!(plan.entries.len(), choice.len(), "{name} {recipe}");
        for ((entry, expected), i) in plan.entries.iter().zip(model["names"].as_array().unwrap()).zip(choice) {
            assert_eq!(entry.tensor, expected.as_str().unwrap(), "{name} {recipe}: order");
            let expected = legend[i.as_u64().unwrap() as usize].as_str().unwrap();
            assert_eq!(entry.to.name(), expected, "{name} {recipe}: {} ({})", entry.tensor, entry.reason);
            compared += 1;
        }
    }
    compared
}

#[test]
fn the_fixture_models_get_llama_quantizes_types() {
    let fixture = json(&fixture("type_choice.json"));
    for name in FIXTURE_MODELS {
        assert!(check_model(name, &fixture[name]) > 8000);
    }
}

#[test]
fn every_published_shape_gets_llama_quantizes_types() {
    let Some(path) = oracle("type_choice.json") else { return };
    let models = json(&path);
    let models = models.as_object().unwrap();
    assert_eq!(models.len(), 12);
    let compared: usize = models.iter().map(|(name, model)| check_model(name, model)).sum();
    assert_eq!(compared, 30 * models.values().map(|m| m["names"].as_array().unwrap().len()).sum::<usize>());
}

#[test]
#[ignore = "rewrites the fixture from the oracle"]
fn cut_the_fixture() {
    let path = oracle("type_choice.json").unwrap();
    let models = json(&path);
    let cut: serde_json::Map<String, Value> =
        FIXTURE_MODELS.map(|name| (name.to_owned(), models[name].clone())).into_iter().collect();
    std::fs::write(fixture("type_choice.json"), serde_json::to_string(&cut).unwrap() + "\n").unwrap();
}

/// The numbers, texts and truth values of a manifest's metadata; arrays are told by their hashes only.
fn metadata(manifest: &Value) -> Metadata {
    let mut out = Metadata::new();
    for (key, entry) in manifest["metadata"].as_object().unwrap() {
        let value = &entry["value"];
        let value = match entry["type"].as_str().unwrap() {
            "UINT32" => Kv::U32(value.as_u64().unwrap() as u32),
            "FLOAT32" => Kv::F32(value.as_f64().unwrap() as f32),
            "BOOL" => Kv::Bool(value.as_bool().unwrap()),
            "STRING" => Kv::String(value.as_str().unwrap().to_owned()),
            _ => continue,
        };
        out.set(key.as_str(), value);
    }
    out
}

/// Compares one run of llama-quantize on the F32 file of a model: types, order, changed metadata, or that it refused.
fn check_run(model: &str, manifest: &Value, run: &str, expected: &Value) {
    let source = metadata(manifest);
    let facts = ModelFacts::of(&source);
    let tensor = |t: &Value| Tensor {
        name: t["name"].as_str().unwrap().to_owned(),
        dtype: DType::from_name(t["type"].as_str().unwrap()).unwrap(),
        shape: shape(&t["shape"]),
    };
    let tensors: Vec<Tensor> = manifest["tensors"].as_array().unwrap().iter().map(tensor).collect();
    let (recipe, imatrix) = match run.strip_suffix("+imatrix") {
        None => (run, None),
        Some(recipe) => {
            let path = oracle(&format!("quant/imatrix/{model}.gguf")).unwrap();
            (recipe, Some(Arc::new(Imatrix::open(&path).unwrap())))
        }
    };
    let input = PlanInput { path: Path::new(model), origin: ModelOrigin::Gguf, model: &facts, tensors: &tensors };
    let choices = PlanOptions { imatrix, ..PlanOptions::default() };
    let plan = Plan::new(&input, &Recipe::find(recipe).unwrap(), &choices);
    let plan = plan.and_then(|plan| plan.check_importance(input.path).map(|()| plan));
    if let Some(refused) = expected["error"].as_str() {
        let error = plan.unwrap_err().to_string();
        let ours = match refused {
            _ if refused.contains("imatrix") => "importance matrix; give one with imatrix",
            _ if refused.contains("requantizing") => "allow the loss with allow_requantize",
            _ => "meant to stand in",
        };
        assert!(error.contains(ours), "{model} {run}: {refused:?}, but {error:?}");
        return;
    }
    let plan = plan.unwrap_or_else(|e| panic!("{model} {run}: {e}"));
    let changed: Vec<_> = plan.entries.iter().filter(|e| e.to != e.from).map(|e| (e.tensor.as_str(), e.to.name())).collect();
    let wanted = expected["tensors"].as_object().unwrap().iter();
    let wanted: Vec<_> = wanted.map(|(name, t)| (name.as_str(), t[0].as_str().unwrap())).collect();
    assert_eq!(changed, wanted, "{model} {run}");

    let made = plan.metadata(&source);
    for (key, value) in expected["metadata"].as_object().unwrap() {
        let same = match made.get(key).unwrap_or_else(|| panic!("{model} {run}: {key} is missing")) {
            Kv::U32(number) => value.as_u64() == Some(u64::from(*number)),
            // The oracle's files stood in another folder, under longer names.
            Kv::String(text) if key == "quantize.imatrix.file" => text.ends_with(&format!("{model}.gguf")),
            Kv::String(text) => Some(text.as_str()) == value.as_str(),
            _ => false,
        };
        assert!(same, "{model} {run}: {key} is {:?} instead of {value}", made.get(key));
    }
}

#[test]
fn every_run_of_llama_quantize_on_the_oracles_models_is_planned_alike() {
    let Some(folder) = oracle("quant") else { return };
    let mut runs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        // llama.cpp could not load this model at all.
        if path.extension().is_none_or(|e| e != "json") || stem == "deepseek_v2" || is_refused(stem) {
            continue;
        }
        let manifest = json(&oracle(&format!("manifests/{stem}.f32.json")).unwrap());
        for (run, expected) in json(&path)["runs"].as_object().unwrap() {
            check_run(stem, &manifest, run, expected);
            runs += 1;
        }
    }
    assert!(runs > 600, "{runs}");
}

/// A model of `layers` layers of one matrix each, the head tied.
fn small(arch: &str, layers: usize, kind: &str) -> (ModelFacts, Vec<Tensor>) {
    let facts = ModelFacts { arch: arch.into(), block_count: layers, head_count: 64, head_count_kv: 8, expert_count: 0 };
    let matrix = |name: String| Tensor { name, dtype: DType::F16, shape: vec![256, 4] };
    let mut tensors = vec![matrix("token_embd.weight".into())];
    tensors.extend((0..layers).map(|i| matrix(format!("blk.{i}.{kind}.weight"))));
    (facts, tensors)
}

fn types(facts: &ModelFacts, tensors: &[Tensor], recipe: &str) -> Vec<DType> {
    let input = PlanInput { path: Path::new("model.gguf"), origin: ModelOrigin::Gguf, model: facts, tensors };
    let plan = Plan::new(&input, &Recipe::find(recipe).unwrap(), &PlanOptions::default()).unwrap();
    plan.entries.iter().map(|e| e.to).collect()
}

#[test]
fn more_bits_go_to_the_outer_eighths_and_every_third_layer_between() {
    use DType::{Q4_K, Q6_K};
    let (facts, tensors) = small("llama", 16, "ffn_down");
    let layers = [
        [Q6_K, Q6_K, Q4_K, Q4_K], // 0 and 1 are the first eighth
        [Q6_K, Q4_K, Q4_K, Q6_K],
        [Q4_K, Q4_K, Q6_K, Q4_K],
        [Q4_K, Q6_K, Q6_K, Q6_K], // 14 and 15 are the last eighth
    ];
    let expected = [vec![Q6_K], layers.concat()].concat();
    assert_eq!(types(&facts, &tensors, "q4_k_m"), expected);
}

#[test]
fn a_70b_gets_more_bits_for_its_values() {
    let check = |arch: &str, layers: usize, kv: usize, expected: DType| {
        let (mut facts, tensors) = small(arch, layers, "attn_v");
        facts.head_count_kv = kv;
        // Entry 11 is layer 10, the first one that no other rule gives more bits.
        assert_eq!(types(&facts, &tensors, "q4_k_m")[11], expected, "{arch} of {layers} layers, {kv} key heads");
    };
    check("llama", 80, 8, DType::Q5_K);
    check("llama", 80, 64, DType::Q4_K);
    check("llama", 79, 8, DType::Q4_K);
    check("qwen2", 80, 64, DType::Q5_K);
}

#[test]
fn a_falcon_has_its_own_ffn_down() {
    use DType::{Q4_K, Q5_K, Q6_K, Q8_0};
    let (facts, tensors) = small("falcon", 32, "ffn_down");
    let types = types(&facts, &tensors, "q4_k_m");
    assert_eq!(types[..8], [Q8_0, Q6_K, Q6_K, Q5_K, Q5_K, Q4_K, Q4_K, Q5_K]);
}

#[test]
fn experts_are_counted_by_name_and_must_have_one() {
    let (mut facts, mut tensors) = small("llama", 4, "ffn_down_exps");
    facts.expert_count = 4;
    types(&facts, &tensors, "q4_k_m");
    tensors.push(Tensor { name: "ffn_down.weight".into(), dtype: DType::F16, shape: vec![256, 4] });
    let input = PlanInput { path: Path::new("model.gguf"), origin: ModelOrigin::Gguf, model: &facts, tensors: &tensors };
    let error = Plan::new(&input, &Recipe::find("q4_k_m").unwrap(), &PlanOptions::default()).unwrap_err().to_string();
    assert!(error.contains("model.gguf: tensor ffn_down.weight: does not say its layer"), "{error}");
}

#[test]
fn plain_recipes_from_a_checkpoint_follow_the_converter() {
    let facts = small("llama", 1, "attn_q").0;
    let tensor = |name: &str, shape: &[usize]| Tensor { name: name.into(), dtype: DType::BF16, shape: shape.to_vec() };
    let tensors = [
        tensor("token_embd.weight", &[100, 7]),
        tensor("blk.0.attn_norm.weight", &[100]),
        tensor("blk.0.attn_q.weight", &[100, 100]),
        tensor("blk.0.attn_q.bias", &[100]),
        tensor("blk.0.ffn_gate_inp.weight", &[100, 8]),
    ];
    let input = PlanInput { path: Path::new("model"), origin: ModelOrigin::Safetensors, model: &facts, tensors: &tensors };
    for (name, matrix) in [("f32", DType::F32), ("f16", DType::F16), ("bf16", DType::BF16)] {
        let plan = Plan::new(&input, &Recipe::find(name).unwrap(), &PlanOptions::default()).unwrap();
        let seen: Vec<_> = plan.entries.iter().map(|e| (e.tensor.as_str(), e.to)).collect();
        let expected = [matrix, DType::F32, matrix, DType::F32, DType::F32];
        assert_eq!(seen, tensors.iter().map(|t| t.name.as_str()).zip(expected).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn kept_tensors_are_f32_from_a_checkpoint_and_as_they_are_from_a_gguf() {
    let (facts, mut tensors) = small("llama", 1, "attn_q");
    tensors.push(Tensor { name: "blk.0.ffn_gate_inp.weight".into(), dtype: DType::BF16, shape: vec![256, 8] });
    for (origin, expected) in [(ModelOrigin::Safetensors, DType::F32), (ModelOrigin::Gguf, DType::BF16)] {
        let input = PlanInput { path: Path::new("model"), origin, model: &facts, tensors: &tensors };
        let plan = Plan::new(&input, &Recipe::find("q8_0").unwrap(), &PlanOptions::default()).unwrap();
        assert_eq!(plan.get("blk.0.ffn_gate_inp.weight").unwrap().to, expected);
    }
}

#[test]
fn a_quantized_model_is_not_quantized_again() {
    let (facts, mut tensors) = small("llama", 2, "attn_q");
    tensors.iter_mut().for_each(|t| t.dtype = DType::Q8_0);
    let input = PlanInput { path: Path::new("model.gguf"), origin: ModelOrigin::Gguf, model: &facts, tensors: &tensors };
    let error = Plan::new(&input, &Recipe::find("q4_0").unwrap(), &PlanOptions::default()).unwrap_err().to_string();
    assert!(error.contains("model.gguf: tensor token_embd.weight: is Q8_0 already and would become Q6_K"), "{error}");
    let same = Plan::new(&input, &Recipe::find("q8_0").unwrap(), &PlanOptions::default()).unwrap();
    assert!(same.entries.iter().all(|e| e.from == e.to), "what stays as it is may be copied");
}

#[test]
fn a_plan_is_sized_and_shown() {
    let (facts, tensors) = small("llama", 2, "attn_q");
    let input = PlanInput { path: Path::new("model.gguf"), origin: ModelOrigin::Gguf, model: &facts, tensors: &tensors };
    let plan = Plan::new(&input, &Recipe::find("q4_0").unwrap(), &PlanOptions::default()).unwrap();
    // 1024 weights of Q6_K at 210 bytes per 256, twice 1024 of Q4_0 at 18 per 32.
    assert_eq!(plan.bytes(), 840 + 2 * 576);
    assert_eq!(plan.weights(), 3072);
    assert!((plan.bits_per_weight() - 8.0 * 1992.0 / 3072.0).abs() < 1e-12);
    let expected = "\
tensor                shape  from  to    bytes  why
token_embd.weight   256 x 4  F16   Q6_K    840  head
blk.0.attn_q.weight  256 x 4  F16   Q4_0    576  the recipe's type
";
    let shown = plan.to_string();
    let columns =
        |text: &str| text.lines().map(|l| l.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>();
    assert_eq!(columns(&shown)[..3], columns(expected)[..]);
    assert!(shown.ends_with("q4_0: 3 tensors of 1992 bytes, 5.188 bits per weight"), "{shown}");
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["recipe"], "q4_0");
    assert_eq!(json["tensors"][1]["to"], "Q4_0");
    assert_eq!(json["tensors"][1]["shape"], json!([256, 4]));
}

#[test]
fn experts_become_mxfp4_by_their_names_alone() {
    let (mut facts, _) = small("deepseek2", 1, "attn_q");
    facts.expert_count = 4;
    let tensor = |name: &str, shape: &[usize]| Tensor { name: name.into(), dtype: DType::F16, shape: shape.to_vec() };
    let tensors = [
        tensor("blk.0.attn_k_b.weight", &[64, 32, 4]),
        tensor("blk.0.ffn_down_chexps.weight", &[64, 32, 4]),
        tensor("blk.0.ffn_down_exps.weight", &[64, 32, 4]),
        tensor("blk.0.ffn_down_shexp.weight", &[64, 32]),
        tensor("blk.0.ffn_up_exps.weight", &[64, 32]),
        tensor("output.weight", &[64, 32]),
    ];
    use DType::{MXFP4, Q8_0};
    // The head comes first. Latent attention's stack of matrices is of no experts. One expert's stack has two dimensions.
    assert_eq!(types(&facts, &tensors, "mxfp4_moe"), [Q8_0, Q8_0, MXFP4, MXFP4, Q8_0, MXFP4]);
}

//! The options of a plan, each with the meaning that llama-quantize gives it, and custom recipes. With `LLAMA_QUANTIZE`
//! set to the program (b11434), the ignored test compares plans and metadata with what it makes:
//! `LLAMA_QUANTIZE=... cargo test -p bitworth-quant --test it plan_options::against -- --ignored`.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bitworth_quant::checkpoint::Tensor;
use bitworth_quant::gguf::{Array, GgufFile, Metadata, Value};
use bitworth_quant::plan::{ModelOrigin, PlanEntry, PlanInput, PlanOptions, TensorType, parse_override_kv, parse_prune_layers};
use bitworth_quant::recipe::ModelFacts;
use bitworth_quant::{DType, Imatrix, Plan, Recipe, Result};

use crate::support::{json, oracle};

/// A model of 8 blocks of a few small matrices, and a head if `head`.
fn model(head: bool) -> (Metadata, Vec<Tensor>) {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::String("llama".into()));
    for (stem, number) in [("block_count", 8), ("attention.head_count", 8), ("attention.head_count_kv", 2)] {
        metadata.set(format!("llama.{stem}"), Value::U32(number));
    }
    let tensor = |name: &str, dtype, shape: &[usize]| Tensor { name: name.to_owned(), dtype, shape: shape.to_vec() };
    let mut tensors = vec![tensor("token_embd.weight", DType::F16, &[256, 4])];
    if head {
        tensors.push(tensor("output.weight", DType::F16, &[256, 4]));
    }
    for block in 0..8 {
        for kind in ["attn_q", "attn_v", "ffn_down"] {
            tensors.push(tensor(&format!("blk.{block}.{kind}.weight"), DType::F16, &[256, 4]));
        }
        tensors.push(tensor(&format!("blk.{block}.attn_norm.weight"), DType::F32, &[256]));
    }
    (metadata, tensors)
}

fn plan_of(metadata: &Metadata, tensors: &[Tensor], recipe: &str, choices: &PlanOptions) -> Result<Plan> {
    let facts = ModelFacts::of(metadata);
    let input = PlanInput { path: Path::new("model.gguf"), origin: ModelOrigin::Gguf, model: &facts, tensors };
    Plan::new(&input, &Recipe::find(recipe).unwrap(), choices)
}

fn plan(head: bool, recipe: &str, choices: &PlanOptions) -> Result<Plan> {
    let (metadata, tensors) = model(head);
    plan_of(&metadata, &tensors, recipe, choices)
}

fn patterns(texts: &[&str]) -> Vec<TensorType> {
    texts.iter().map(|text| TensorType::parse(text).unwrap()).collect()
}

#[track_caller]
fn check(plan: &Plan, tensor: &str, to: DType, reason: &str) {
    let entry: &PlanEntry = plan.get(tensor).unwrap();
    assert!(entry.to == to && entry.reason.to_string().contains(reason), "{tensor}: {} because {}", entry.to, entry.reason);
}

#[track_caller]
fn refused(plan: Result<Plan>, expected: &[&str]) {
    let error = plan.unwrap_err().to_string();
    assert!(expected.iter().all(|part| error.contains(part)), "{error}");
}

#[test]
fn pure_is_the_default_everywhere() {
    let plan = plan(true, "q4_k_m", &PlanOptions { pure: true, ..PlanOptions::default() }).unwrap();
    for entry in plan.entries.iter().filter(|e| e.shape.len() > 1) {
        check(&plan, &entry.tensor, DType::Q4_K, "pure");
    }
}

#[test]
fn head_and_embedding_have_options_of_their_own() {
    let choices = PlanOptions {
        output_tensor_type: Some(DType::Q5_0),
        token_embedding_type: Some(DType::BF16),
        pure: true,
        ..PlanOptions::default()
    };
    let apart = plan(true, "q4_k_m", &choices).unwrap();
    check(&apart, "output.weight", DType::Q5_0, "output_tensor_type");
    check(&apart, "token_embd.weight", DType::BF16, "token_embedding_type");
    let tied = plan(false, "q4_k_m", &choices).unwrap();
    check(&tied, "token_embd.weight", DType::BF16, "token_embedding_type");
    // The embedding that is the head too follows the head's option only where rules are asked.
    let head_only = PlanOptions { token_embedding_type: None, ..choices };
    check(&plan(false, "q4_k_m", &head_only).unwrap(), "token_embd.weight", DType::Q4_K, "pure");
    let head_only = PlanOptions { pure: false, ..head_only };
    check(&plan(false, "q4_k_m", &head_only).unwrap(), "token_embd.weight", DType::Q5_0, "output_tensor_type");
    check(&plan(true, "f16", &head_only).unwrap(), "output.weight", DType::Q5_0, "output_tensor_type");
    check(&plan(false, "f16", &head_only).unwrap(), "token_embd.weight", DType::F16, "the recipe's type");

    let (metadata, mut tensors) = model(true);
    tensors[1].shape = vec![96, 4];
    let choices = PlanOptions { output_tensor_type: Some(DType::Q6_K), ..PlanOptions::default() };
    refused(plan_of(&metadata, &tensors, "q4_0", &choices), &["output.weight", "rows of 96", "Q6_K", "choose another"]);
}

#[test]
fn the_first_pattern_decides_before_any_rule() {
    let tensor_types = patterns(&["BLK\\.[01]\\..*=q8_0", "attn_v=q3_k", "ffn_down\\.weight$=f16"]);
    let choices = PlanOptions { tensor_types, ..PlanOptions::default() };
    let made = plan(true, "q4_k_m", &choices).unwrap();
    check(&made, "blk.0.attn_v.weight", DType::Q8_0, r"tensor_type blk\.[01]\..*");
    check(&made, "blk.2.attn_v.weight", DType::Q3_K, "tensor_type attn_v");
    check(&made, "blk.7.ffn_down.weight", DType::F16, "tensor_type");
    check(&made, "blk.7.attn_q.weight", DType::Q4_K, "the recipe's type");
    check(&made, "blk.0.attn_norm.weight", DType::F32, "single row");
    // Patterns go before --pure, and are nothing to recipes of floats.
    let pure = PlanOptions { pure: true, ..choices.clone() };
    check(&plan(true, "q4_k_m", &pure).unwrap(), "blk.2.attn_v.weight", DType::Q3_K, "tensor_type");
    check(&plan(true, "bf16", &choices).unwrap(), "blk.2.attn_v.weight", DType::BF16, "for recipes that quantize");
    // The options for head and embedding go before patterns.
    let both = PlanOptions {
        tensor_types: patterns(&["embd=q3_k", "output=q3_k"]),
        token_embedding_type: Some(DType::Q8_0),
        ..PlanOptions::default()
    };
    check(&plan(true, "q4_k_m", &both).unwrap(), "token_embd.weight", DType::Q8_0, "token_embedding_type");
    check(&plan(true, "q4_k_m", &both).unwrap(), "output.weight", DType::Q3_K, "tensor_type output");
}

#[test]
fn what_a_pattern_takes_is_not_counted_as_a_layer() {
    // Of 8 blocks the first and the last, and every third between, get more bits: 0, 3, 6, 7.
    let layers = |plan: &Plan| -> Vec<usize> {
        (0..8).filter(|b| plan.get(&format!("blk.{b}.ffn_down.weight")).unwrap().to == DType::Q6_K).collect()
    };
    assert_eq!(layers(&plan(true, "q4_k_m", &PlanOptions::default()).unwrap()), [0, 3, 6, 7]);
    let choices = PlanOptions { tensor_types: patterns(&["blk.[01].ffn_down=q5_k"]), ..PlanOptions::default() };
    assert_eq!(layers(&plan(true, "q4_k_m", &choices).unwrap()), [2, 5]);
}

#[test]
fn a_table_of_embeddings_per_layer_may_be_named_by_a_pattern() {
    let (metadata, mut tensors) = model(true);
    tensors.push(Tensor { name: "per_layer_token_embd.weight".into(), dtype: DType::F16, shape: vec![256, 4] });
    let mut choices = PlanOptions { token_embedding_type: Some(DType::Q8_0), ..PlanOptions::default() };
    let made = plan_of(&metadata, &tensors, "q4_0", &choices).unwrap();
    check(&made, "per_layer_token_embd.weight", DType::Q8_0, "token_embedding_type");
    choices.tensor_types = patterns(&["token_embd=q5_0"]);
    let made = plan_of(&metadata, &tensors, "q4_0", &choices).unwrap();
    check(&made, "per_layer_token_embd.weight", DType::Q5_0, "tensor_type");
    check(&made, "token_embd.weight", DType::Q8_0, "token_embedding_type");
}

#[test]
fn a_pattern_that_does_nothing_is_refused() {
    let choices = |text: &str| PlanOptions { tensor_types: patterns(&["attn=q8_0", text]), ..PlanOptions::default() };
    refused(plan(true, "q4_0", &choices("blk.8=q8_0")), &["tensor_type blk.8=Q8_0", "fits no tensor"]);
    refused(plan(true, "q4_0", &choices("norm=q8_0")), &["tensor_type norm=Q8_0", "left as they are", "blk.0.attn_norm.weight"]);
    refused(plan(false, "q4_0", &choices("^output=q8_0")), &["fits no tensor"]);
}

#[test]
fn rows_too_odd_for_a_type_without_stand_in_are_refused() {
    let (metadata, mut tensors) = model(true);
    tensors[2].shape = vec![192, 4];
    refused(
        plan_of(&metadata, &tensors, "q1_0", &PlanOptions::default()),
        &["blk.0.attn_q.weight", "192", "Q1_0", "tensor_type"],
    );
    let choices = PlanOptions { tensor_types: patterns(&["blk.0.attn_q=q5_k"]), ..PlanOptions::default() };
    let made = plan_of(&metadata, &tensors, "q1_0", &choices).unwrap();
    check(&made, "blk.0.attn_q.weight", DType::Q5_1, "rows of 192 do not divide into Q5_K blocks");
}

#[test]
fn the_head_may_be_left_as_it_is() {
    let choices = PlanOptions { leave_output_tensor: true, output_tensor_type: Some(DType::Q4_0), ..PlanOptions::default() };
    check(&plan(true, "q4_k_m", &choices).unwrap(), "output.weight", DType::F16, "leave_output_tensor");
    check(&plan(false, "q4_k_m", &choices).unwrap(), "token_embd.weight", DType::Q4_0, "output_tensor_type");
}

#[test]
fn quantized_tensors_become_others_only_when_allowed() {
    let (metadata, mut tensors) = model(true);
    tensors.iter_mut().filter(|t| t.shape.len() > 1).for_each(|t| t.dtype = DType::Q8_0);
    refused(plan_of(&metadata, &tensors, "q4_0", &PlanOptions::default()), &["is Q8_0 already", "allow_requantize"]);
    let choices = PlanOptions { allow_requantize: true, ..PlanOptions::default() };
    let made = plan_of(&metadata, &tensors, "q4_0", &choices).unwrap();
    check(&made, "blk.0.attn_q.weight", DType::Q4_0, "the recipe's type");
    check(&plan_of(&metadata, &tensors, "f32", &choices).unwrap(), "output.weight", DType::F32, "the recipe's type");
}

#[test]
fn copy_leaves_everything_and_the_file_type() {
    let (mut metadata, mut tensors) = model(true);
    tensors[0].dtype = DType::Q8_0;
    let choices = PlanOptions { pure: true, output_tensor_type: Some(DType::Q8_0), ..PlanOptions::default() };
    let made = plan_of(&metadata, &tensors, "copy", &choices).unwrap();
    assert!(made.entries.iter().all(|e| e.from == e.to && e.reason == "copied".into()));
    assert_eq!(made.metadata(&metadata).u64("general.file_type"), Some(1024 + 1), "mostly F16, guessed");
    metadata.set("general.file_type", Value::U32(7));
    assert_eq!(made.metadata(&metadata).u64("general.file_type"), Some(7));
}

#[test]
fn overrides_reach_the_rules_and_the_metadata() {
    let (metadata, _) = model(true);
    let keys = ["llama.block_count=int:16", "llama.expert_count=int:8", "general.name=str:x", "a.b=float:0.5", "a.c=bool:true"];
    let override_kv = keys.map(|text| parse_override_kv(text).unwrap()).to_vec();
    let made = plan(true, "q4_k_m", &PlanOptions { override_kv, ..PlanOptions::default() }).unwrap();
    check(&made, "blk.1.ffn_down.weight", DType::Q6_K, "more bits"); // 1 is in the first eighth of 16, not of 8
    check(&made, "blk.4.attn_v.weight", DType::Q8_0, "8 experts");
    let written = made.metadata(&metadata);
    let last: Vec<&str> = written.iter().skip(written.len() - 7).map(|(key, _)| key).collect();
    let expected =
        ["general.quantization_version", "general.file_type", "llama.block_count", "llama.expert_count", "general.name"];
    assert_eq!((&last[..5], &last[5..]), (&expected[..], &["a.b", "a.c"][..]));
    assert_eq!(written.get("a.b"), Some(&Value::F32(0.5)));
    let override_kv = vec![parse_override_kv("llama.block_count=float:2").unwrap()];
    refused(
        plan(true, "q4_0", &PlanOptions { override_kv, ..PlanOptions::default() }),
        &["override_kv llama.block_count", "int"],
    );
}

#[test]
fn pruned_blocks_go_and_the_rest_move_up() {
    let (metadata, _) = model(true);
    let prune = |text: &str| PlanOptions { prune_layers: parse_prune_layers(text).unwrap(), ..PlanOptions::default() };
    let made = plan(true, "q4_0", &prune("2,5")).unwrap();
    assert_eq!(made.entries.len(), 2 + 6 * 4);
    let source = |name: &str| made.get(name).unwrap().source();
    assert_eq!(source("blk.1.attn_q.weight"), "blk.1.attn_q.weight");
    assert_eq!(source("blk.2.attn_q.weight"), "blk.3.attn_q.weight");
    assert_eq!(source("blk.5.attn_q.weight"), "blk.7.attn_q.weight");
    assert_eq!(made.metadata(&metadata).iter().last(), Some(("llama.block_count", &Value::U32(6))));
    // Lists by block lose what is gone.
    let mut source = Metadata::new();
    let list = |blocks: [bool; 8]| Value::Array(Array::Bool(blocks.to_vec()));
    source.set("bitworth.rope.blocks", list([true, true, false, true, true, false, true, true]));
    let left = made.metadata(&source).get("bitworth.rope.blocks").cloned();
    assert_eq!(left, Some(Value::Array(Array::Bool(vec![true; 6]))));
    refused(plan(true, "q4_0", &prune("8")), &["prune_layers 8", "8 blocks"]);
    refused(plan(true, "q4_0", &prune("0,1,2,3,4,5,6,7")), &["prune_layers", "no block"]);
}

fn shipped(name: &str) -> String {
    format!("{}/../configs/recipes/{name}.toml", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_shipped_recipes_are_sound_and_named_like_their_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/recipes");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let recipe = Recipe::open(&path).unwrap();
        assert_eq!(recipe.name, path.file_stem().unwrap().to_str().unwrap());
        plan(true, path.to_str().unwrap(), &PlanOptions::default()).unwrap();
        seen += 1;
    }
    assert!(seen >= 3);
}

#[test]
fn own_rules_decide_before_those_of_the_base() {
    let made = plan(true, &shipped("q4_k_m_safe"), &PlanOptions::default()).unwrap();
    check(&made, "token_embd.weight", DType::Q8_0, "embedding and head");
    check(&made, "blk.3.attn_q.weight", DType::Q8_0, "attention");
    check(&made, "blk.3.ffn_down.weight", DType::Q6_K, "a layer that gets more bits");
    check(&made, "blk.4.ffn_down.weight", DType::Q4_K, "the recipe's type");
    assert_eq!(made.metadata(&model(true).0).u64("general.file_type"), Some(15));
    let edges = plan(true, &shipped("q3_edges"), &PlanOptions::default()).unwrap();
    check(&edges, "blk.0.ffn_down.weight", DType::Q5_K, "first blocks");
    check(&edges, "blk.1.ffn_down.weight", DType::Q3_K, "the recipe's type");
    check(&edges, "blk.7.attn_q.weight", DType::Q5_K, "last blocks");
    check(&edges, "blk.7.attn_v.weight", DType::Q6_K, "keys and values");
}

/// A mixture of experts of the oracle, by its manifest.
#[test]
fn experts_get_few_bits_by_the_shipped_recipe() {
    let Some(path) = oracle("manifests/mixtral_k.f32.json") else { return };
    let manifest = json(&path);
    let number = |key: &str| Value::U32(manifest["metadata"][key]["value"].as_u64().unwrap() as u32);
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::String("llama".into()));
    ["llama.block_count", "llama.expert_count", "llama.attention.head_count"]
        .into_iter()
        .for_each(|k| metadata.set(k, number(k)));
    let tensor = |t: &serde_json::Value| Tensor {
        name: t["name"].as_str().unwrap().to_owned(),
        dtype: DType::F32,
        shape: t["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect(),
    };
    let tensors: Vec<Tensor> = manifest["tensors"].as_array().unwrap().iter().map(tensor).collect();
    let made = plan_of(&metadata, &tensors, &shipped("moe_low_experts"), &PlanOptions::default()).unwrap();
    check(&made, "blk.0.ffn_up_exps.weight", DType::Q3_K, "experts");
    check(&made, "blk.0.ffn_down_exps.weight", DType::Q5_K, "ffn_down in blocks that get more bits");
    check(&made, "blk.0.attn_q.weight", DType::Q6_K, "the recipe's type");
    check(&made, "token_embd.weight", DType::Q8_0, "embedding and head");
}

/// Options as they stand on llama-quantize's command line.
fn choices_of(arguments: &[&str]) -> PlanOptions {
    let mut choices = PlanOptions::default();
    let (mut kept, mut dropped) = (Vec::new(), Vec::new());
    let mut rest = arguments.iter().copied();
    while let Some(option) = rest.next() {
        let mut value = || rest.next().unwrap();
        match option {
            "--pure" => choices.pure = true,
            "--leave-output-tensor" => choices.leave_output_tensor = true,
            "--allow-requantize" => choices.allow_requantize = true,
            "--output-tensor-type" => choices.output_tensor_type = DType::from_name(value()),
            "--token-embedding-type" => choices.token_embedding_type = DType::from_name(value()),
            "--tensor-type" => choices.tensor_types.push(TensorType::parse(value()).unwrap()),
            "--override-kv" => choices.override_kv.push(parse_override_kv(value()).unwrap()),
            "--prune-layers" => choices.prune_layers = parse_prune_layers(value()).unwrap(),
            "--imatrix" => choices.imatrix = Some(Arc::new(Imatrix::open(Path::new(value())).unwrap())),
            "--include-weights" => kept.push(value().to_owned()),
            "--exclude-weights" => dropped.push(value().to_owned()),
            _ => panic!("{option}"),
        }
    }
    if let Some(matrix) = choices.imatrix.take() {
        let matrix = Arc::unwrap_or_clone(matrix).without(&dropped).unwrap();
        choices.imatrix = Some(Arc::new(if kept.is_empty() { matrix } else { matrix.only(&kept).unwrap() }));
    }
    choices
}

/// Runs llama-quantize and compares metadata, order and types of its file with the plan.
fn against(program: &Path, source: &Path, arguments: &[&str], recipe: &str) {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made.gguf");
    let run = Command::new(program).args(arguments).args([source, &made]).args([recipe, "2"]).output().unwrap();
    let file = GgufFile::open(source).unwrap();
    let tensor = |t: &bitworth_quant::gguf::TensorEntry| Tensor { name: t.name.clone(), dtype: t.dtype, shape: t.shape.clone() };
    let tensors: Vec<Tensor> = file.tensors.iter().map(tensor).collect();
    let plan = plan_of(&file.metadata, &tensors, recipe, &choices_of(arguments));
    let plan = plan.and_then(|plan| plan.check_importance(source).map(|()| plan));
    if !run.status.success() {
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        let said = said.lines().find(|line| line.contains("failed to quantize")).unwrap_or("nothing");
        assert!(plan.is_err(), "{recipe} {arguments:?}: llama-quantize refused: {said}");
        return;
    }
    let plan = plan.unwrap_or_else(|e| panic!("{recipe} {arguments:?}: {e}"));
    let made = GgufFile::open(&made).unwrap();
    let theirs: Vec<_> = made.tensors.iter().map(|t| (t.name.as_str(), t.dtype, t.shape.as_slice())).collect();
    let ours: Vec<_> = plan.entries.iter().map(|e| (e.tensor.as_str(), e.to, e.shape.as_slice())).collect();
    assert_eq!(ours, theirs, "{recipe} {arguments:?}");
    let written = plan.metadata(&file.metadata);
    let (ours, theirs): (Vec<_>, Vec<_>) = (written.iter().collect(), made.metadata.iter().collect());
    assert_eq!(ours, theirs, "{recipe} {arguments:?}");
}

#[test]
#[ignore = "needs llama-quantize"]
fn against_llama_quantize() {
    let program = std::env::var_os("LLAMA_QUANTIZE").expect("LLAMA_QUANTIZE is the path of llama-quantize");
    let program = Path::new(&program);
    let matrix = oracle("quant/imatrix/llama31_gqa.gguf").unwrap();
    let matrix = matrix.to_str().unwrap();
    let mut combinations: Vec<Vec<&str>> = vec![
        vec![],
        vec!["--pure"],
        vec!["--leave-output-tensor"],
        vec!["--output-tensor-type", "q5_1"],
        vec!["--output-tensor-type", "q5_1", "--pure"],
        vec!["--token-embedding-type", "q3_k", "--output-tensor-type", "f16"],
        vec!["--tensor-type", "attn_v=q8_0"],
        vec!["--tensor-type", "BLK\\.0\\.=q5_k", "--tensor-type", "ffn_(up|down)=iq4_nl", "--pure"],
        vec!["--tensor-type", "ffn_down=q4_0", "--tensor-type", "blk\\.[1-9]=bf16"],
        vec!["--tensor-type", "embd=q4_1", "--token-embedding-type", "q8_0"],
        vec!["--tensor-type", "ffn_down=tq2_0", "--tensor-type", "attn_k=mxfp4", "--tensor-type", "attn_q=q2_0"],
        vec!["--override-kv", "general.name=str:other", "--override-kv", "x.y=int:3", "--override-kv", "x.z=float:0.1"],
        vec!["--override-kv", "llama.block_count=int:16"],
        vec!["--override-kv", "x.b=bool:false"],
        vec!["--override-kv", "llama.attention.head_count_kv=int:4"],
        vec!["--override-kv", "general.file_type=int:3"],
        vec!["--prune-layers", "0"],
        vec!["--prune-layers", "1"],
    ];
    let with_matrix: [&[&str]; 5] = [
        &[],
        &["--include-weights", "attn"],
        &["--exclude-weights", "ffn_down"],
        &["--prune-layers", "0"],
        &["--override-kv", "x.y=int:1", "--pure"],
    ];
    combinations.extend(with_matrix.iter().map(|more| [&["--imatrix", matrix], *more].concat()));
    let source = oracle("keep/public.llama31_gqa.bf16.gguf").unwrap();
    for arguments in &combinations {
        for recipe in Recipe::all() {
            against(program, &source, arguments, &recipe.file_stem_suffix());
        }
    }
    for name in ["keep/public.llama2_mha.f16.gguf", "keep/public.gpt_oss_mxfp4.bf16.gguf", "keep/public.llama31_gqa.Q4_K_M.gguf"]
    {
        for arguments in [&[][..], &["--allow-requantize"], &["--allow-requantize", "--pure"]] {
            for recipe in Recipe::all() {
                against(program, &oracle(name).unwrap(), arguments, &recipe.file_stem_suffix());
            }
        }
    }
}

//! What llama.cpp calls the pre-tokenizer of a `tokenizer.json`.
//!
//! llama.cpp's converter tells pre-tokenizers apart by a hash over the token ids of a sample text, which knows published
//! vocabularies only (see `published`). For all others the structure decides: the steps, the flag `ignore_merges`, and where
//! several names share those, the class of the model. Absent: building pre-tokenizers (see `pre`).

use serde_json::{Map, Value};

use super::pre::{
    BAILING, DEEPSEEK_HAN, DEEPSEEK_LETTERS, DEEPSEEK_LLM, DEEPSEEK_PUNCTUATION, DEEPSEEK3, GPT4O, LLAMA3, PreTokenizer, QWEN2,
    QWEN35, SEED_CODER, Step, TEKKEN,
};
use crate::message::Message;

/// A structure as files have it, and its names.
struct Structure {
    steps: &'static [Step<'static>],
    /// The flag that the structure goes with; `None` for either.
    ignore_merges: Option<bool>,
    /// Names that models of these classes (`architectures[0]`) have for it.
    by_class: &'static [(&'static str, &'static [&'static str])],
    /// The name for all other classes.
    name: &'static str,
}

/// Names of Llama 3's expression that do not depend on `ignore_merges`.
const LLAMA3_BY_CLASS: &[(&str, &[&str])] = &[
    ("smaug-bpe", &["SmolLM3ForCausalLM"]),
    (
        "glm4",
        &[
            "Glm4ForCausalLM",
            "Glm4MoeForCausalLM",
            "Glm4MoeLiteForCausalLM",
            "Glm4vForConditionalGeneration",
            "Glm4vMoeForConditionalGeneration",
        ],
    ),
    (
        "dbrx",
        &[
            "Olmo2ForCausalLM",
            "Olmo3ForCausalLM",
            "Phi3ForCausalLM",
            "PhiMoEForCausalLM",
            "GraniteForCausalLM",
            "GraniteMoeForCausalLM",
            "GraniteMoeHybridForCausalLM",
        ],
    ),
    ("lfm2", &["Lfm2ForCausalLM", "Lfm2MoeForCausalLM"]),
    ("falcon-h1", &["FalconH1ForCausalLM"]),
];

/// The same of Mistral's newer expression.
const TEKKEN_BY_CLASS: &[(&str, &[&str])] = &[("pixtral", &["NemotronHForCausalLM"])];

/// Every structure that is known.
const STRUCTURES: &[Structure] = &[
    Structure { ignore_merges: Some(true), by_class: LLAMA3_BY_CLASS, ..plain("llama-bpe", &[Step::Split(LLAMA3)]) },
    Structure { by_class: LLAMA3_BY_CLASS, ..plain("smaug-bpe", &[Step::Split(LLAMA3)]) },
    Structure {
        by_class: &[("olmo", &["OlmoForCausalLM"]), ("exaone4", &["Exaone4ForCausalLM"])],
        ..plain("gpt-2", &[Step::Gpt2])
    },
    Structure {
        by_class: &[
            ("command-r", &["CohereForCausalLM", "Cohere2ForCausalLM"]),
            ("starcoder", &["Starcoder2ForCausalLM", "GPTBigCodeForCausalLM"]),
            ("refact", &["GraniteForCausalLM", "GraniteMoeForCausalLM"]),
        ],
        ..plain("smollm", &[Step::Digits, Step::Gpt2])
    },
    Structure {
        by_class: &[("stablelm2", &["StableLmForCausalLM"]), ("hunyuan", &["HunYuanMoEV1ForCausalLM"])],
        ..plain("qwen2", &[Step::Split(QWEN2)])
    },
    Structure { ignore_merges: Some(true), by_class: TEKKEN_BY_CLASS, ..plain("tekken", &[Step::Split(TEKKEN)]) },
    Structure { by_class: TEKKEN_BY_CLASS, ..plain("tekken", &[Step::Split(TEKKEN)]) },
    Structure {
        ignore_merges: None,
        by_class: &[
            ("llama4", &["Llama4ForCausalLM", "Llama4ForConditionalGeneration", "MuseGlimmerForConditionalGeneration"]),
            ("minimax-m2", &["MiniMaxM2ForCausalLM"]),
        ],
        ..plain("gpt-4o", &[Step::Split(GPT4O)])
    },
    plain("qwen35", &[Step::Split(QWEN35)]),
    plain("seed-coder", &[Step::Split(SEED_CODER)]),
    plain("bailingmoe", &[Step::Split(BAILING)]),
    plain("tiny_aya", &[Step::Split(r"\d{1,3}(?=(?:\d{3})*\b)"), Step::Split(GPT4O)]),
    Structure { by_class: &[("hunyuan-dense", &["HunYuanDenseV1ForCausalLM"])], ..plain("deepseek-v3", DEEPSEEK3) },
    plain("deepseek-llm", DEEPSEEK_LLM),
    // Files that take numbers apart; llama.cpp makes no difference.
    plain(
        "deepseek-llm",
        &[Step::Split(r"[\r\n]"), DEEPSEEK_LETTERS, DEEPSEEK_PUNCTUATION, Step::Split(r"\s+$"), DEEPSEEK_HAN, Step::Digits],
    ),
    // Files that know no letters beyond Latin ones.
    plain(
        "deepseek-llm",
        &[
            Step::Split(r"[\r\n]"),
            Step::Split(r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯ]+"),
            DEEPSEEK_PUNCTUATION,
            Step::Split(r"\s+$"),
            DEEPSEEK_HAN,
            Step::Split(r"\p{N}+"),
        ],
    ),
    plain(
        "deepseek-coder",
        &[Step::Split(r"[\r\n]"), Step::Split(r"\s?\p{L}+"), Step::Split(r"\s?\p{P}+"), DEEPSEEK_HAN, Step::Digits],
    ),
];

const fn plain(name: &'static str, steps: &'static [Step<'static>]) -> Structure {
    Structure { steps, ignore_merges: Some(false), by_class: &[], name }
}

/// Expressions that match every character, so that to keep the matches only is to keep all.
const TOTAL: [&str; 5] = [LLAMA3, QWEN2, QWEN35, TEKKEN, GPT4O];

/// llama.cpp's name for the `pre_tokenizer` of a `tokenizer.json` that belongs to a model of `class`.
///
/// # Errors
/// What about its structure is not known.
pub(super) fn name(pre_tokenizer: &Value, ignore_merges: bool, class: &str) -> Result<&'static str, Message> {
    let steps = read_steps(pre_tokenizer)?;
    let fits = |s: &&Structure| same_steps(s.steps, &steps) && s.ignore_merges.is_none_or(|flag| flag == ignore_merges);
    let Some(structure) = STRUCTURES.iter().find(fits) else {
        let known: Vec<_> = STRUCTURES.iter().map(|s| s.name).collect();
        return Err(format!("its steps {steps:?} with ignore_merges {ignore_merges} are none of: {}", known.join(", ")).into());
    };
    let own = structure.by_class.iter().find(|(_, classes)| classes.contains(&class));
    Ok(own.map_or(structure.name, |(name, _)| name))
}

/// Whether a `pre_tokenizer` does what `known` does, or is one of the variants in [`STRUCTURES`] that pass for it.
pub(super) fn is(pre_tokenizer: &Value, known: &PreTokenizer) -> bool {
    let Ok(steps) = read_steps(pre_tokenizer) else { return false };
    let variants = STRUCTURES.iter().filter(|s| known.names.contains(&s.name)).map(|s| s.steps);
    variants.chain([known.steps]).any(|known| same_steps(known, &steps))
}

/// The steps before byte-level encoding.
fn read_steps(pre_tokenizer: &Value) -> Result<Vec<Step<'_>>, Message> {
    let mut parts = Vec::new();
    flatten(pre_tokenizer, &mut parts)?;
    let mut steps = Vec::new();
    let mut byte_level = false;
    for part in parts {
        if byte_level {
            return Err("byte-level encoding is not its last step".into());
        }
        match read_step(part)? {
            Read::Step(step) => steps.push(step),
            Read::ByteLevel { regex } => {
                byte_level = true;
                steps.extend(regex.then_some(Step::Gpt2));
            }
        }
    }
    if !byte_level {
        return Err("it has no byte-level encoding".into());
    }
    Ok(steps)
}

fn same_steps(a: &[Step], b: &[Step]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_step(a, b))
}

/// Whether two steps are the same, whether expressions spell line breaks out and escape quotes or not.
fn same_step(a: &Step, b: &Step) -> bool {
    let spelled = |regex: &str| regex.replace('\r', r"\r").replace('\n', r"\n").replace(r#"\""#, "\"");
    match (a, b) {
        (Step::Split(a), Step::Split(b)) => spelled(a) == spelled(b),
        _ => a == b,
    }
}

/// A sequence's members, however nested.
fn flatten<'a>(value: &'a Value, parts: &mut Vec<&'a Map<String, Value>>) -> Result<(), Message> {
    let object = value.as_object().ok_or("it is missing")?;
    if object.get("type").and_then(Value::as_str) != Some("Sequence") {
        parts.push(object);
        return Ok(());
    }
    let members = object.get("pretokenizers").and_then(Value::as_array).ok_or("a Sequence has no pretokenizers")?;
    members.iter().try_for_each(|member| flatten(member, parts))
}

enum Read<'a> {
    Step(Step<'a>),
    ByteLevel { regex: bool },
}

fn read_step(part: &Map<String, Value>) -> Result<Read<'_>, Message> {
    let flag = |name, default| part.get(name).and_then(Value::as_bool).unwrap_or(default);
    match part.get("type").and_then(Value::as_str) {
        Some("ByteLevel") if flag("add_prefix_space", true) => Err("ByteLevel with add_prefix_space is not supported".into()),
        Some("ByteLevel") => Ok(Read::ByteLevel { regex: flag("use_regex", true) }),
        Some("Digits") if flag("individual_digits", false) => Ok(Read::Step(Step::Digits)),
        Some("Split") => {
            let regex = part.get("pattern").and_then(|p| p.get("Regex")).and_then(Value::as_str).ok_or("a Split has no Regex")?;
            match (part.get("behavior").and_then(Value::as_str), flag("invert", false)) {
                (Some("Isolated"), false) => Ok(Read::Step(Step::Split(regex))),
                (Some("Removed"), true) if TOTAL.contains(&regex) => Ok(Read::Step(Step::Split(regex))),
                _ => Err(format!("a Split by {regex} that leaves text out or is not Isolated is not supported").into()),
            }
        }
        Some(other) => Err(format!("{other} is not supported").into()),
        None => Err("a step has no type".into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vocab::pre;

    #[test]
    fn every_structure_has_names_that_can_be_built_and_is_recognized_by_each() {
        for structure in STRUCTURES {
            let ignore_merges = structure.ignore_merges.unwrap_or(false);
            let built = pre::find(structure.name).unwrap();
            // Where the pre-tokenizer built is another, it is because files spell it in several ways.
            let json = pre::PreTokenizer { names: &[], steps: structure.steps, ignore_merges, add_bos: false }.to_json();
            assert_eq!(name(&json, ignore_merges, "").unwrap(), structure.name);
            assert_eq!(name(&built.to_json(), built.ignore_merges, "").unwrap(), structure.name);
            for (own, classes) in structure.by_class {
                // llama.cpp builds Llama 3's for this one; files get a key of our own with the steps.
                if *own != "pixtral" {
                    assert_eq!(pre::find(own).unwrap().steps, structure.steps, "{own}");
                }
                for class in *classes {
                    assert_eq!(name(&json, ignore_merges, class).unwrap(), *own, "{class}");
                }
            }
        }
    }

    #[test]
    fn to_keep_the_matches_of_a_total_expression_is_to_split_by_it() {
        let keep = |regex: &str| {
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Removed", "invert": true},
                {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})
        };
        assert_eq!(name(&keep(LLAMA3), false, "Olmo2ForCausalLM").unwrap(), "dbrx");
        assert!(name(&keep("x+"), false, "").unwrap_err().to_string().contains("leaves text out"));
    }

    fn check_refused(pre_tokenizer: Value, what: &str) {
        let error = name(&pre_tokenizer, false, "LlamaForCausalLM").unwrap_err().to_string();
        assert!(error.contains(what), "{pre_tokenizer}: {error}");
    }

    #[test]
    fn an_unknown_structure_is_refused_with_its_reason() {
        let byte_level = || json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true});
        check_refused(Value::Null, "missing");
        check_refused(json!({"type": "Whitespace"}), "Whitespace is not supported");
        check_refused(json!({"type": "Sequence"}), "no pretokenizers");
        check_refused(json!({"type": "Digits", "individual_digits": true}), "no byte-level");
        check_refused(json!({"type": "Digits", "individual_digits": false}), "Digits is not supported");
        check_refused(json!({"type": "ByteLevel", "add_prefix_space": true}), "add_prefix_space");
        check_refused(
            json!({"type": "Sequence", "pretokenizers": [byte_level(), {"type": "Digits", "individual_digits": true}]}),
            "last step",
        );
        let split = json!({"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": false});
        check_refused(json!({"type": "Sequence", "pretokenizers": [split, byte_level()]}), "none of: llama-bpe");
    }
}

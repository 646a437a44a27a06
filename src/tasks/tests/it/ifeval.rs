//! IFEval's own prompts: every instruction is understood, and it is known of which prompts the verdict is exact.

use bitworth_tasks::twins::{TWINS, Twin};
use serde_json::json;

use crate::common::{lines, shared};

/// 387 of 541 prompts have no approximate kind; for one of those lm-evaluation-harness draws a letter at random, as it asks for a
/// mark that is none.
#[test]
fn every_prompt_is_judged() {
    let Some(file) = shared("data/ifeval/input_data.jsonl") else { return };
    let entry = TWINS.iter().find(|entry| entry.key == "ifeval/utils.process_results").unwrap();
    let Twin::Results(judge) = entry.twin else { panic!() };
    let docs = lines(&file);
    let exact = docs.iter().filter(|doc| {
        let figures = judge(doc.as_object().unwrap(), &[json!("My answer is yes.")]).unwrap();
        figures.iter().any(|(name, _)| name == "prompt_level_strict_acc_exact")
    });
    assert_eq!((exact.count(), docs.len()), (386, 541));
}

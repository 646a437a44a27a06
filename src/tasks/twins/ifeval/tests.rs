//! Verdicts on made-up answers to made-up instructions, held against lm-evaluation-harness's own.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::*;

/// Verdicts that are lm-evaluation-harness's, and all, strict and loose, by kind.
fn agreement(lines: &str) -> BTreeMap<&'static str, (usize, usize)> {
    let mut counts: BTreeMap<&'static str, (usize, usize)> = BTreeMap::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let doc = Map::from_iter([
            ("instruction_id_list".to_owned(), line["ids"].clone()),
            ("kwargs".to_owned(), line["kwargs"].clone()),
        ]);
        let instructions = instructions(&doc).unwrap();
        let answer = line["answer"].as_str().unwrap();
        for (name, answers) in [("strict", vec![answer.to_owned()]), ("loose", loosened(answer))] {
            let found = followed(&instructions, &answers).unwrap();
            for ((instruction, found), expected) in instructions.iter().zip(found).zip(line[name].as_array().unwrap()) {
                let same = json!(u8::from(found)) == *expected;
                assert!(same || !instruction.exact, "{name}, {}: {found}\n{line}", instruction.kind.name);
                let count = counts.entry(instruction.kind.name).or_default();
                count.0 += usize::from(same);
                count.1 += 1;
            }
        }
    }
    counts
}

/// `golden.jsonl`: 615 answers made by a script from lists of words, judged by lm-evaluation-harness 0.4.13 with nltk 3.9.4 and
/// langdetect 1.0.9 (with a fixed seed). Exact kinds give its very verdicts; of the others nine in ten.
#[test]
fn verdicts_are_lm_evals() {
    let counts = agreement(include_str!("golden.jsonl"));
    assert_eq!(counts.len(), KINDS.len());
    for (kind, (same, all)) in counts {
        assert!(all >= 38, "{kind}: {all}");
        assert!(same * 10 >= all * 9, "{kind}: {same} of {all} verdicts are lm-eval's");
    }
}

#[test]
fn kinds_that_are_approximate_are_known() {
    assert!(APPROXIMATE.iter().all(|name| KINDS.iter().any(|kind| kind.name == *name)));
    assert_eq!(KINDS.iter().filter(|kind| !is_approximate(kind.name)).count(), 20);
}

fn doc(ids: &[&str], kwargs: Value) -> DataRow {
    DataRow::from_iter([("instruction_id_list".to_owned(), json!(ids)), ("kwargs".to_owned(), kwargs)])
}

#[test]
fn prompts_without_approximate_kinds_have_figures_of_their_own() {
    let names = |figures: Figures| figures.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let own = ["prompt_level_strict_acc", "inst_level_strict_acc", "prompt_level_loose_acc", "inst_level_loose_acc"];
    let exact = results(&doc(&["punctuation:no_comma"], json!([{}])), &[json!("a, b\nc")]).unwrap();
    assert_eq!(
        exact.iter().map(|(_, value)| value.clone()).collect::<Value>(),
        json!([false, [false], true, [true], false, true])
    );
    assert_eq!(names(exact)[..4], own);
    let both = doc(&["punctuation:no_comma", "change_case:english_capital"], json!([{}, {}]));
    assert_eq!(names(results(&both, &[json!("A")]).unwrap()), own);
    // lm-evaluation-harness draws a letter where a mark is asked for.
    let mark = json!([{"letter": "#", "let_frequency": 2, "let_relation": "at least"}]);
    let figures = results(&doc(&["keywords:letter_frequency"], mark), &[json!("##")]).unwrap();
    assert_eq!(figures[0].1, json!(true));
    assert_eq!(names(figures), own);
}

#[test]
fn what_an_instruction_lacks_is_named() {
    let fail = |ids: &[&str], kwargs: Value| results(&doc(ids, kwargs), &[json!("a")]).unwrap_err().to_string();
    assert!(fail(&["a:b"], json!([{}])).contains("'a:b' is unknown"));
    assert!(fail(&["punctuation:no_comma"], json!([{"n": 1}])).contains("no option \"n\""));
    assert!(fail(&["punctuation:no_comma"], json!([])).contains("0 mappings"));
    assert!(fail(&["detectable_format:number_bullet_lists"], json!([{"num_bullets": null}])).contains("at random"));
    let relation = json!([{"num_words": 1, "relation": "at most"}]);
    assert!(fail(&["length_constraints:number_words"], relation).contains("\"at most\""));
}

#[test]
fn instructions_are_counted_over_all_prompts() {
    assert_eq!(share(&[json!([true, false, true]), json!([false])]), Ok(0.5));
    assert!(share(&[]).is_err());
}

//! Tasks of lm-evaluation-harness that come with the program, so that they can be asked without its files: written by us
//! (`configs/lm_eval/`) and held to its requests. Task files of a folder replace those of the same name. Absent: their data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitworth_quant::{Error, Result};

use crate::files::index::{Index, Source};
use crate::files::source::merge;
use crate::files::yaml::{self, Node};

/// Name and file of every task that has a file of its own. A test compares this with the folder.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("arc_challenge", include_str!("../../configs/lm_eval/arc_challenge.yaml")),
    ("arc_easy", include_str!("../../configs/lm_eval/arc_easy.yaml")),
    ("boolq", include_str!("../../configs/lm_eval/boolq.yaml")),
    ("commonsense_qa", include_str!("../../configs/lm_eval/commonsense_qa.yaml")),
    ("copa", include_str!("../../configs/lm_eval/copa.yaml")),
    ("gsm8k", include_str!("../../configs/lm_eval/gsm8k.yaml")),
    ("hellaswag", include_str!("../../configs/lm_eval/hellaswag.yaml")),
    ("ifeval", include_str!("../../configs/lm_eval/ifeval.yaml")),
    ("lambada_openai", include_str!("../../configs/lm_eval/lambada_openai.yaml")),
    ("leaderboard_ifeval", include_str!("../../configs/lm_eval/leaderboard_ifeval.yaml")),
    ("leaderboard_mmlu_pro", include_str!("../../configs/lm_eval/leaderboard_mmlu_pro.yaml")),
    ("openbookqa", include_str!("../../configs/lm_eval/openbookqa.yaml")),
    ("piqa", include_str!("../../configs/lm_eval/piqa.yaml")),
    ("wikitext", include_str!("../../configs/lm_eval/wikitext.yaml")),
    ("winogrande", include_str!("../../configs/lm_eval/winogrande.yaml")),
];

/// Name and file of groups of tasks, with the shots that they are asked with.
const GROUPS: &[(&str, &str)] = &[
    ("leaderboard_v1", include_str!("../../configs/lm_eval/leaderboard_v1.yaml")),
    ("leaderboard_v2", include_str!("../../configs/lm_eval/leaderboard_v2.yaml")),
];

/// Tasks that differ in one key.
struct Family {
    /// The name of the file of what they share.
    name: &'static str,
    /// That file.
    text: &'static str,
    /// The key in which they differ.
    key: &'static str,
    /// Each with its value of the key.
    tasks: &'static [(&'static str, &'static str)],
    /// The metric by which they are a group, which has the file's name.
    grouped_by: Option<&'static str>,
}

/// Every family. A test compares this with the folder.
const FAMILIES: &[Family] = &[
    Family {
        name: "gpqa_zeroshot",
        text: include_str!("../../configs/lm_eval/gpqa_zeroshot.yaml"),
        key: "dataset_name",
        tasks: &[
            ("gpqa_diamond_zeroshot", "gpqa_diamond"),
            ("gpqa_extended_zeroshot", "gpqa_extended"),
            ("gpqa_main_zeroshot", "gpqa_main"),
        ],
        grouped_by: None,
    },
    Family {
        name: "leaderboard_gpqa",
        text: include_str!("../../configs/lm_eval/leaderboard_gpqa.yaml"),
        key: "dataset_name",
        tasks: &[
            ("leaderboard_gpqa_diamond", "gpqa_diamond"),
            ("leaderboard_gpqa_extended", "gpqa_extended"),
            ("leaderboard_gpqa_main", "gpqa_main"),
        ],
        grouped_by: Some("acc_norm"),
    },
    Family {
        name: "leaderboard_musr",
        text: include_str!("../../configs/lm_eval/leaderboard_musr.yaml"),
        key: "test_split",
        tasks: &[
            ("leaderboard_musr_murder_mysteries", "murder_mysteries"),
            ("leaderboard_musr_object_placements", "object_placements"),
            ("leaderboard_musr_team_allocation", "team_allocation"),
        ],
        grouped_by: Some("acc_norm"),
    },
];

/// What the subjects of MMLU share.
const MMLU: &str = include_str!("../../configs/lm_eval/mmlu.yaml");

/// MMLU's subjects by the group that they count in (Hendrycks 2021).
const SUBJECTS: [(&str, &[&str]); 4] = [
    (
        "stem",
        &[
            "abstract_algebra",
            "anatomy",
            "astronomy",
            "college_biology",
            "college_chemistry",
            "college_computer_science",
            "college_mathematics",
            "college_physics",
            "computer_security",
            "conceptual_physics",
            "electrical_engineering",
            "elementary_mathematics",
            "high_school_biology",
            "high_school_chemistry",
            "high_school_computer_science",
            "high_school_mathematics",
            "high_school_physics",
            "high_school_statistics",
            "machine_learning",
        ],
    ),
    (
        "other",
        &[
            "business_ethics",
            "clinical_knowledge",
            "college_medicine",
            "global_facts",
            "human_aging",
            "management",
            "marketing",
            "medical_genetics",
            "miscellaneous",
            "nutrition",
            "professional_accounting",
            "professional_medicine",
            "virology",
        ],
    ),
    (
        "social_sciences",
        &[
            "econometrics",
            "high_school_geography",
            "high_school_government_and_politics",
            "high_school_macroeconomics",
            "high_school_microeconomics",
            "high_school_psychology",
            "human_sexuality",
            "professional_psychology",
            "public_relations",
            "security_studies",
            "sociology",
            "us_foreign_policy",
        ],
    ),
    (
        "humanities",
        &[
            "formal_logic",
            "high_school_european_history",
            "high_school_us_history",
            "high_school_world_history",
            "international_law",
            "jurisprudence",
            "logical_fallacies",
            "moral_disputes",
            "moral_scenarios",
            "philosophy",
            "prehistory",
            "professional_law",
            "world_religions",
        ],
    ),
];

/// The folder that their files are said to lie in, for messages and for functions.
const FOLDER: &str = "configs/lm_eval";

/// Puts the tasks into an index.
///
/// # Errors
/// A file that does not parse.
pub(crate) fn add_to(index: &mut Index) -> Result<()> {
    for (name, text) in BUILT_IN.iter().chain(GROUPS) {
        index.add(source(name, text)?);
    }
    for Family { name, text, key, tasks, grouped_by } in FAMILIES {
        for (task, value) in *tasks {
            let mut source = source(name, text)?;
            let own = [("task", *task), (*key, *value)];
            merge(&mut source.entries, own.map(|(key, value)| (key.to_owned(), Node::Text(value.to_owned()))).into());
            index.add(source);
        }
        if let Some(metric) = grouped_by {
            index.add(group(name, name, name, metric, tasks.iter().map(|(task, _)| (*task).to_owned()))?);
        }
    }
    for (group, subjects) in SUBJECTS {
        for subject in subjects {
            let mut task = source("mmlu", MMLU)?;
            let about = subject.replace('_', " ");
            let description = format!("The following are multiple choice questions (with answers) about {about}.\n\n");
            let own = [
                ("task", format!("mmlu_{subject}")),
                ("task_alias", (*subject).to_owned()),
                ("dataset_name", (*subject).to_owned()),
                ("description", description),
            ];
            merge(&mut task.entries, own.map(|(key, value)| (key.to_owned(), Node::Text(value))).into());
            index.add(task);
        }
        let members = subjects.iter().map(|subject| format!("mmlu_{subject}"));
        index.add(self::group("mmlu", &format!("mmlu_{group}"), group, "acc", members)?);
    }
    index.add(group("mmlu", "mmlu", "mmlu", "acc", SUBJECTS.iter().map(|(group, _)| format!("mmlu_{group}")))?);
    Ok(())
}

fn source(name: &str, text: &str) -> Result<Source> {
    let path = PathBuf::from(format!("{FOLDER}/{name}.yaml"));
    let wrong = |what: &str| Error::file(&path, what);
    match yaml::parse(text, &Arc::from(Path::new(FOLDER))).map_err(|e| wrong(&e.to_string()))? {
        Node::Map(mut entries) => {
            entries.iter_mut().for_each(|(_, node)| place(node));
            Ok(Source { path, entries })
        }
        _ => Err(wrong("is no mapping")),
    }
}

/// `folder/module.function`, wherever it stands, as the function of a module in a folder, which is on no disk.
fn place(node: &mut Node) {
    match node {
        Node::List(items) => items.iter_mut().for_each(place),
        Node::Map(entries) => entries.iter_mut().for_each(|(_, node)| place(node)),
        Node::Function(function) => {
            if let Some((folder, name)) = function.name.clone().rsplit_once('/') {
                function.folder = Arc::from(Path::new(FOLDER).join("modules").join(folder).as_path());
                function.name = name.to_owned();
            }
        }
        _ => {}
    }
}

/// A group of the tasks of a file, whose metric is weighted by the number of documents.
fn group(file: &str, name: &str, alias: &str, metric: &str, members: impl Iterator<Item = String>) -> Result<Source> {
    let members: String = members.map(|member| format!("- {member}\n")).collect();
    let text = format!(
        "group: {name}\ngroup_alias: {alias}\ntask:\n{members}\
         aggregate_metric_list: [{{metric: {metric}, weight_by_size: true}}]"
    );
    source(file, &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::config::TaskConfig;
    use crate::task::Definition;

    #[test]
    fn the_table_holds_every_file() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/lm_eval");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = files.filter_map(|name| Some(name.strip_suffix(".yaml")?.to_owned())).collect();
        names.retain(|name| name != "mmlu");
        names.sort();
        names.retain(|name| GROUPS.iter().all(|(group, _)| group != name));
        names.retain(|name| FAMILIES.iter().all(|family| family.name != name));
        assert!(names.iter().eq(BUILT_IN.iter().map(|(name, _)| name)), "{names:?}");
    }

    // The Open LLM Leaderboard's first form: 25, 10, 5, 5 and 5 shots.
    #[test]
    fn the_leaderboards_tasks_have_its_shots() {
        let selection = Index::read(&[]).unwrap().select(&["leaderboard_v1".to_owned()]).unwrap();
        let shots = |name: &str| {
            let chosen = selection.tasks.iter().find(|task| task.name == name).unwrap();
            TaskConfig::new(chosen).unwrap().num_fewshot
        };
        let found = ["arc_challenge", "hellaswag", "mmlu_anatomy", "winogrande", "gsm8k"].map(shots);
        assert_eq!(found, [25, 10, 5, 5, 5].map(Some));
        assert_eq!(selection.tasks.len(), 4 + 57);
    }

    // lm-evaluation-harness 0.4.13, `leaderboard/leaderboard.yaml` and the groups in it, but for BBH and MATH.
    #[test]
    fn the_second_leaderboards_tasks_are_lm_evals() {
        let selection = Index::read(&[]).unwrap().select(&["leaderboard_v2".to_owned()]).unwrap();
        let names: Vec<&str> = selection.tasks.iter().map(|task| task.name.as_str()).collect();
        let expected = [
            "leaderboard_mmlu_pro",
            "leaderboard_gpqa_diamond",
            "leaderboard_gpqa_extended",
            "leaderboard_gpqa_main",
            "leaderboard_ifeval",
            "leaderboard_musr_murder_mysteries",
            "leaderboard_musr_object_placements",
            "leaderboard_musr_team_allocation",
        ];
        assert_eq!(names, expected);
        let shots = selection.tasks.iter().filter_map(|task| TaskConfig::new(task).unwrap().num_fewshot);
        assert_eq!(shots.collect::<Vec<_>>(), [5, 0, 0, 0, 0]);
    }

    #[test]
    fn every_task_is_understood() {
        let index = Index::read(&[]).unwrap();
        let own = BUILT_IN.iter().map(|(name, _)| (*name).to_owned());
        let families = FAMILIES.iter().flat_map(|family| family.tasks).map(|(task, _)| (*task).to_owned());
        let names: Vec<String> = own.chain(families).chain(["mmlu".to_owned()]).collect();
        let selection = index.select(&names).unwrap();
        assert_eq!((selection.tasks.len(), selection.groups.len()), (names.len() - 1 + 57, 5));
        for task in &selection.tasks {
            let config = TaskConfig::new(task).unwrap();
            assert!(Definition::new(config).is_ok(), "{}", task.name);
        }
    }
}

//! Tasks of lm-evaluation-harness that come with the program, so that they can be asked without its files: written by us
//! (`configs/lm_eval/`) and held to its requests. Task files of a folder replace those of the same name. Absent: their data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitworth_quant::{Error, Result};

use crate::files::index::{Index, Source};
use crate::files::source::merge;
use crate::files::yaml::{self, Node};

/// Name and file of every task but MMLU's. A test compares this with the folder.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("arc_challenge", include_str!("../../configs/lm_eval/arc_challenge.yaml")),
    ("arc_easy", include_str!("../../configs/lm_eval/arc_easy.yaml")),
    ("boolq", include_str!("../../configs/lm_eval/boolq.yaml")),
    ("commonsense_qa", include_str!("../../configs/lm_eval/commonsense_qa.yaml")),
    ("copa", include_str!("../../configs/lm_eval/copa.yaml")),
    ("gsm8k", include_str!("../../configs/lm_eval/gsm8k.yaml")),
    ("hellaswag", include_str!("../../configs/lm_eval/hellaswag.yaml")),
    ("lambada_openai", include_str!("../../configs/lm_eval/lambada_openai.yaml")),
    ("openbookqa", include_str!("../../configs/lm_eval/openbookqa.yaml")),
    ("piqa", include_str!("../../configs/lm_eval/piqa.yaml")),
    ("wikitext", include_str!("../../configs/lm_eval/wikitext.yaml")),
    ("winogrande", include_str!("../../configs/lm_eval/winogrande.yaml")),
];

/// Name and file of groups of tasks, with the shots that they are asked with.
const GROUPS: &[(&str, &str)] = &[("leaderboard_v1", include_str!("../../configs/lm_eval/leaderboard_v1.yaml"))];

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
        index.add(self::group(&format!("mmlu_{group}"), group, members)?);
    }
    index.add(group("mmlu", "mmlu", SUBJECTS.iter().map(|(group, _)| format!("mmlu_{group}")))?);
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

/// `folder/module.function` as the function of a module in a folder, which is on no disk.
fn place(node: &mut Node) {
    let Node::Function(function) = node else { return };
    if let Some((folder, name)) = function.name.clone().rsplit_once('/') {
        function.folder = Arc::from(Path::new(FOLDER).join("modules").join(folder).as_path());
        function.name = name.to_owned();
    }
}

/// A group whose accuracy is weighted by the number of documents.
fn group(name: &str, alias: &str, members: impl Iterator<Item = String>) -> Result<Source> {
    let members: String = members.map(|member| format!("- {member}\n")).collect();
    let text = format!(
        "group: {name}\ngroup_alias: {alias}\ntask:\n{members}aggregate_metric_list: [{{metric: acc, weight_by_size: true}}]\n\
         metadata: {{version: 2}}"
    );
    source("mmlu", &text)
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

    #[test]
    fn every_task_is_understood() {
        let index = Index::read(&[]).unwrap();
        let names: Vec<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).chain(["mmlu".to_owned()]).collect();
        let selection = index.select(&names).unwrap();
        assert_eq!((selection.tasks.len(), selection.groups.len()), (BUILT_IN.len() + 57, 5));
        for task in &selection.tasks {
            let config = TaskConfig::new(task).unwrap();
            assert!(Definition::new(config).is_ok(), "{}", task.name);
        }
    }
}

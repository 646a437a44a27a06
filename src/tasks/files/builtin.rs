//! Tasks of lm-evaluation-harness that come with the program, so that they can be asked without its files: written by us
//! (`configs/lm_eval/`) and held to its requests. Task files of a folder replace those of the same name. Absent: their data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitworth_quant::{Error, Result};

use crate::files::source::{TaskSource, merge};
use crate::files::yaml::{self, Node};

/// Name and file of every task that has a file of its own. A test compares this with the folder.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("arc_challenge", include_str!("../../../configs/lm_eval/arc_challenge.yaml")),
    ("arc_easy", include_str!("../../../configs/lm_eval/arc_easy.yaml")),
    ("boolq", include_str!("../../../configs/lm_eval/boolq.yaml")),
    ("commonsense_qa", include_str!("../../../configs/lm_eval/commonsense_qa.yaml")),
    ("copa", include_str!("../../../configs/lm_eval/copa.yaml")),
    ("gsm8k", include_str!("../../../configs/lm_eval/gsm8k.yaml")),
    ("hellaswag", include_str!("../../../configs/lm_eval/hellaswag.yaml")),
    ("ifeval", include_str!("../../../configs/lm_eval/ifeval.yaml")),
    ("lambada_openai", include_str!("../../../configs/lm_eval/lambada_openai.yaml")),
    ("lambada_standard", include_str!("../../../configs/lm_eval/lambada_standard.yaml")),
    ("leaderboard_ifeval", include_str!("../../../configs/lm_eval/leaderboard_ifeval.yaml")),
    ("leaderboard_mmlu_pro", include_str!("../../../configs/lm_eval/leaderboard_mmlu_pro.yaml")),
    ("openbookqa", include_str!("../../../configs/lm_eval/openbookqa.yaml")),
    ("piqa", include_str!("../../../configs/lm_eval/piqa.yaml")),
    ("race", include_str!("../../../configs/lm_eval/race.yaml")),
    ("rte", include_str!("../../../configs/lm_eval/rte.yaml")),
    ("sciq", include_str!("../../../configs/lm_eval/sciq.yaml")),
    ("social_iqa", include_str!("../../../configs/lm_eval/social_iqa.yaml")),
    ("triviaqa", include_str!("../../../configs/lm_eval/triviaqa.yaml")),
    ("wikitext", include_str!("../../../configs/lm_eval/wikitext.yaml")),
    ("winogrande", include_str!("../../../configs/lm_eval/winogrande.yaml")),
];

/// Name and file of groups of tasks, with the shots that they are asked with.
const GROUPS: &[(&str, &str)] = &[
    ("leaderboard_v1", include_str!("../../../configs/lm_eval/leaderboard_v1.yaml")),
    ("leaderboard_v2", include_str!("../../../configs/lm_eval/leaderboard_v2.yaml")),
];

/// Tasks that differ in one key.
struct Family {
    /// The name of the file of what they share.
    name: &'static str,
    /// That file.
    text: &'static str,
    /// The key in which they differ.
    key: &'static str,
    /// Its values.
    values: &'static [&'static str],
    /// The name of each, with `*` for its value.
    task: &'static str,
    /// The keys of their group, which has the file's name.
    group: Option<&'static str>,
}

impl Family {
    /// The name of the task with a value.
    fn task(&self, value: &str) -> String {
        self.task.replace('*', value)
    }
}

const GPQA: [&str; 3] = ["gpqa_diamond", "gpqa_extended", "gpqa_main"];

/// Every family. A test compares this with the folder.
const FAMILIES: &[Family] = &[
    Family {
        name: "blimp",
        text: include_str!("../../../configs/lm_eval/blimp.yaml"),
        key: "dataset_name",
        values: &[
            "adjunct_island",
            "anaphor_gender_agreement",
            "anaphor_number_agreement",
            "animate_subject_passive",
            "animate_subject_trans",
            "causative",
            "complex_NP_island",
            "coordinate_structure_constraint_complex_left_branch",
            "coordinate_structure_constraint_object_extraction",
            "determiner_noun_agreement_1",
            "determiner_noun_agreement_2",
            "determiner_noun_agreement_irregular_1",
            "determiner_noun_agreement_irregular_2",
            "determiner_noun_agreement_with_adj_2",
            "determiner_noun_agreement_with_adj_irregular_1",
            "determiner_noun_agreement_with_adj_irregular_2",
            "determiner_noun_agreement_with_adjective_1",
            "distractor_agreement_relational_noun",
            "distractor_agreement_relative_clause",
            "drop_argument",
            "ellipsis_n_bar_1",
            "ellipsis_n_bar_2",
            "existential_there_object_raising",
            "existential_there_quantifiers_1",
            "existential_there_quantifiers_2",
            "existential_there_subject_raising",
            "expletive_it_object_raising",
            "inchoative",
            "intransitive",
            "irregular_past_participle_adjectives",
            "irregular_past_participle_verbs",
            "irregular_plural_subject_verb_agreement_1",
            "irregular_plural_subject_verb_agreement_2",
            "left_branch_island_echo_question",
            "left_branch_island_simple_question",
            "matrix_question_npi_licensor_present",
            "npi_present_1",
            "npi_present_2",
            "only_npi_licensor_present",
            "only_npi_scope",
            "passive_1",
            "passive_2",
            "principle_A_c_command",
            "principle_A_case_1",
            "principle_A_case_2",
            "principle_A_domain_1",
            "principle_A_domain_2",
            "principle_A_domain_3",
            "principle_A_reconstruction",
            "regular_plural_subject_verb_agreement_1",
            "regular_plural_subject_verb_agreement_2",
            "sentential_negation_npi_licensor_present",
            "sentential_negation_npi_scope",
            "sentential_subject_island",
            "superlative_quantifiers_1",
            "superlative_quantifiers_2",
            "tough_vs_raising_1",
            "tough_vs_raising_2",
            "transitive",
            "wh_island",
            "wh_questions_object_gap",
            "wh_questions_subject_gap",
            "wh_questions_subject_gap_long_distance",
            "wh_vs_that_no_gap",
            "wh_vs_that_no_gap_long_distance",
            "wh_vs_that_with_gap",
            "wh_vs_that_with_gap_long_distance",
        ],
        task: "blimp_*",
        group: Some("aggregate_metric_list: [{metric: acc, weight_by_size: false}]\nmetadata: {version: 2.0}"),
    },
    Family {
        name: "gpqa_zeroshot",
        text: include_str!("../../../configs/lm_eval/gpqa_zeroshot.yaml"),
        key: "dataset_name",
        values: &GPQA,
        task: "*_zeroshot",
        group: None,
    },
    Family {
        name: "leaderboard_gpqa",
        text: include_str!("../../../configs/lm_eval/leaderboard_gpqa.yaml"),
        key: "dataset_name",
        values: &GPQA,
        task: "leaderboard_*",
        group: Some("aggregate_metric_list: [{metric: acc_norm, weight_by_size: true}]"),
    },
    Family {
        name: "leaderboard_musr",
        text: include_str!("../../../configs/lm_eval/leaderboard_musr.yaml"),
        key: "test_split",
        values: &["murder_mysteries", "object_placements", "team_allocation"],
        task: "leaderboard_musr_*",
        group: Some("aggregate_metric_list: [{metric: acc_norm, weight_by_size: true}]"),
    },
];

/// What the subjects of MMLU share.
const MMLU: &str = include_str!("../../../configs/lm_eval/mmlu.yaml");

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

/// The tasks and groups, in the order in which an index takes them.
///
/// # Errors
/// A file that does not parse.
pub(crate) fn sources() -> Result<Vec<TaskSource>> {
    let mut sources = Vec::new();
    for (name, text) in BUILT_IN.iter().chain(GROUPS) {
        sources.push(source(name, text)?);
    }
    for family in FAMILIES {
        for value in family.values {
            let mut task = source(family.name, family.text)?;
            let own = [("task", family.task(value)), (family.key, (*value).to_owned())];
            merge(&mut task.entries, own.map(|(key, value)| (key.to_owned(), Node::Text(value))).into());
            sources.push(task);
        }
        if let Some(keys) = family.group {
            let members = family.values.iter().map(|value| family.task(value));
            sources.push(group(family.name, family.name, family.name, keys, members)?);
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
            sources.push(task);
        }
        let members = subjects.iter().map(|subject| format!("mmlu_{subject}"));
        sources.push(self::group("mmlu", &format!("mmlu_{group}"), group, MMLU_GROUP, members)?);
    }
    sources.push(group("mmlu", "mmlu", "mmlu", MMLU_GROUP, SUBJECTS.iter().map(|(group, _)| format!("mmlu_{group}")))?);
    Ok(sources)
}

fn source(name: &str, text: &str) -> Result<TaskSource> {
    let path = PathBuf::from(format!("{FOLDER}/{name}.yaml"));
    let wrong = |what: &str| Error::file(&path, what);
    match yaml::parse(text, &Arc::from(Path::new(FOLDER))).map_err(|e| wrong(&e.to_string()))? {
        Node::Map(mut entries) => {
            entries.iter_mut().for_each(|(_, node)| place(node));
            Ok(TaskSource { path, entries })
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

/// The keys of MMLU's groups.
const MMLU_GROUP: &str = "aggregate_metric_list: [{metric: acc, weight_by_size: true}]\nmetadata: {version: 2}";

/// A group of the tasks of a file, with further `keys`.
fn group(file: &str, name: &str, alias: &str, keys: &str, members: impl Iterator<Item = String>) -> Result<TaskSource> {
    let members: String = members.map(|member| format!("- {member}\n")).collect();
    let text = format!("group: {name}\ngroup_alias: {alias}\ntask:\n{members}{keys}");
    source(file, &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::config::TaskConfig;
    use crate::files::index::Index;
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

    // lm-evaluation-harness 0.4.13: the tags of the task files of these names.
    #[test]
    fn tags_stand_for_their_tasks() {
        let index = Index::read(&[]).unwrap();
        let tasks = |tag: &str| {
            let selection = index.select(&[tag.to_owned()]).unwrap();
            selection.tasks.into_iter().map(|task| task.name).collect::<Vec<_>>()
        };
        assert_eq!(tasks("lambada"), ["lambada_openai", "lambada_standard"]);
        assert_eq!(tasks("gpqa"), GPQA.map(|subset| format!("{subset}_zeroshot")));
        assert!(index.select(&["glue".to_owned()]).is_err(), "RTE alone is not GLUE");
    }

    #[test]
    fn every_task_is_understood() {
        let index = Index::read(&[]).unwrap();
        let own = BUILT_IN.iter().map(|(name, _)| (*name).to_owned());
        let families = FAMILIES.iter().flat_map(|family| family.values.iter().map(move |value| family.task(value)));
        let names: Vec<String> = own.chain(families).chain(["mmlu".to_owned()]).collect();
        let selection = index.select(&names).unwrap();
        assert_eq!((selection.tasks.len(), selection.groups.len()), (names.len() - 1 + 57, 5));
        for task in &selection.tasks {
            let config = TaskConfig::new(task).unwrap();
            assert!(Definition::new(config).is_ok(), "{}", task.name);
        }
    }
}

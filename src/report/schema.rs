//! What every column of a summary means, in which unit: the reference of `export`, made of the same lists as the columns.

use serde::Serialize;

use crate::export::{TASK_ENDS, TEXT_ENDS};
use crate::statistics;

/// One column, or one for every task or text: `<task>_low`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnMeaning {
    /// Its name; `<task>` and `<text>` stand for names.
    #[serde(rename = "column")]
    pub name: String,
    /// Its unit; empty for words and numbers without one.
    pub unit: &'static str,
    /// What it is.
    pub meaning: String,
}

/// What names of tasks' columns begin with in the schema.
pub(crate) const TASK: &str = "<task>";
/// What names of texts' columns begin with in the schema.
pub(crate) const TEXT: &str = "<text>";

/// Name, unit and meaning of the columns that every summary has.
#[rustfmt::skip] // one column a line
const ALWAYS: &[(&str, &str, &str)] = &[
    ("recipe", "", "the recipe, or the stored type of an unquantized model"),
    ("bytes", "bytes", "size of the file, or of the file that would be written"),
    ("bpw", "bits/weight", "bits per weight over all tensors as they are stored"),
    ("ppl", "", "perplexity: exp of the mean negative log-likelihood of a token; less is better"),
    ("ppl_low", "", "lower end of the 95 % interval of `ppl`, sequences as draws"),
    ("ppl_high", "", "upper end of the 95 % interval of `ppl`, sequences as draws"),
    ("kld_mean", "nats/token", "mean KL(reference || lane); 0 for the reference itself; less is better"),
    ("kld_low", "nats/token", "lower end of the 95 % interval of `kld_mean`, sequences as draws"),
    ("kld_high", "nats/token", "upper end of the 95 % interval of `kld_mean`, sequences as draws"),
    ("kld_p99", "nats", "KL(reference || lane) that one token in a hundred exceeds"),
    ("top1_agreement", "share", "share of tokens whose likeliest successor is the reference's; more is better"),
    ("bits_per_byte", "bits/byte", "bits per byte of text, of the rolling pass; less is better"),
    ("prefill_tps", "tokens/s", "prompt tokens per second, median of the repetitions; empty where all drifted"),
    ("decode_tps", "tokens/s", "new tokens per second, median of the repetitions; empty where all drifted"),
    ("device", "", "the device that ran, as its driver names it"),
    ("model", "", "the model's name"),
    ("lane", "", "the lane's name, unique among those of a model"),
    ("is_reference", "", "whether the other lanes are measured against this one"),
    ("activation_arithmetic", "", "the arithmetic of the activations: f32 or q8"),
    ("types", "", "how many weights have which type"),
    ("imatrix", "", "the importance matrix that it was quantized with, and its text"),
    ("fell_back", "tensors", "tensors that have another type than the recipe says, as their rows do not fit its blocks"),
    ("parts", "files", "files that it is split into"),
    ("tokens", "tokens", "scored tokens behind `ppl`, `kld_*` and `top1_*`, of all texts together"),
    ("sequences", "sequences", "scored sequences behind them: the draws of their intervals"),
    ("kld_median", "nats", "median of KL(reference || lane) over tokens"),
    ("kld_p90", "nats", "KL(reference || lane) that one token in ten exceeds"),
    ("kld_p999", "nats", "KL(reference || lane) that one token in a thousand exceeds"),
    ("kld_max", "nats", "largest KL(reference || lane) of a token"),
    ("top1_low", "share", "lower end of the 95 % interval of `top1_agreement`, sequences as draws"),
    ("top1_high", "share", "upper end of the 95 % interval of `top1_agreement`, sequences as draws"),
    ("ppl_ratio", "", "perplexity over the reference's, from paired sequences"),
    ("ppl_ratio_low", "", "lower end of the 95 % interval of `ppl_ratio`, paired"),
    ("ppl_ratio_high", "", "upper end of the 95 % interval of `ppl_ratio`, paired"),
    ("delta_ppl", "", "perplexity less the reference's, on the sequences of `ppl_ratio`"),
    ("delta_p_mean", "share", "mean change of the probability of the token that came, lane less reference"),
    ("delta_p_mean_low", "share", "lower end of the 95 % interval of `delta_p_mean`, sequences as draws"),
    ("delta_p_mean_high", "share", "upper end of the 95 % interval of `delta_p_mean`, sequences as draws"),
    ("delta_p_rms", "share", "root mean square of that change"),
    ("delta_p_rms_low", "share", "lower end of the 95 % interval of `delta_p_rms`, sequences as draws"),
    ("delta_p_rms_high", "share", "upper end of the 95 % interval of `delta_p_rms`, sequences as draws"),
    ("bits_per_byte_low", "bits/byte", "lower end of the 95 % interval of `bits_per_byte`, sequences as draws"),
    ("bits_per_byte_high", "bits/byte", "upper end of the 95 % interval of `bits_per_byte`, sequences as draws"),
    ("prefill_tps_slowest", "tokens/s", "the slowest repetition of `prefill_tps`; of all, where half of them or more drifted"),
    ("prefill_tps_fastest", "tokens/s", "the fastest repetition of `prefill_tps`; of all, where half of them or more drifted"),
    ("decode_tps_slowest", "tokens/s", "the slowest repetition of `decode_tps`; of all, where half of them or more drifted"),
    ("decode_tps_fastest", "tokens/s", "the fastest repetition of `decode_tps`; of all, where half of them or more drifted"),
    ("decode_tokens_per_joule", "tokens/J", "new tokens per joule of energy that the system counted"),
    ("prefill_repetitions", "", "repetitions behind `prefill_tps`; 0 where all drifted"),
    ("decode_repetitions", "", "repetitions behind `decode_tps`; 0 where all drifted"),
    ("drifted_repetitions", "", "timings of a machine that drifted, of both phases: they are in no median"),
    ("memory_bytes", "bytes", "the most memory that the model took while it was timed"),
    ("speed_arithmetic", "", "arithmetic of the timed products: f32, q8 (activations in 8 bits), or own, of another program"),
    ("speed_engine", "", "the program that was timed, another one with its build and backend"),
    ("speed_shape", "", "the shape of the model of random weights that was timed in the lane's place; empty for the lane itself"),
    ("speed_device", "", "the device that was timed; `device` is that of the scores"),
];

/// Unit and meaning of a task's columns, by what they end with.
#[rustfmt::skip] // one column a line
const OF_TASK: [(&str, &str); TASK_ENDS.len()] = [
    ("share", "share of right items, or mean of the task's metric; one such group of columns for every task"),
    ("share", "lower end of its 95 % interval: Wilson's for independent items that are right or wrong, else Student's"),
    ("share", "upper end of the 95 % interval of `<task>`"),
    ("items", "items that were asked"),
    ("share", "`<task>` less the reference's on the same items; empty for the reference"),
    ("share", "lower end of the 95 % interval of `<task>_diff`, paired"),
    ("share", "upper end of the 95 % interval of `<task>_diff`, paired"),
    ("", "p that lane and reference are equally good: McNemar's exact test, or Student's t of the differences, clustered"),
    ("", "the same, corrected for all lanes and tasks (Holm 1979)"),
    ("", "`worse`, `not worse` or `undecided`, by the margin"),
    ("items", "items that only the reference got right"),
    ("items", "items that only the lane got right"),
    ("nats", "mean of log P(right choice among the choices)"),
    ("", "the metric that `<task>` is the mean of, with its filter where it has one"),
    ("", "mean of Brier's score of the choices"),
];

/// Every column that a summary can have, in the order in which it has them.
pub fn schema() -> Vec<ColumnMeaning> {
    let plain = |(name, unit, meaning): &(&str, &'static str, &str)| ColumnMeaning {
        name: (*name).to_owned(),
        unit,
        meaning: (*meaning).to_owned(),
    };
    let (first, rest) = ALWAYS.split_at(crate::export::COLUMNS.len());
    let mut all: Vec<ColumnMeaning> = first.iter().map(plain).collect();
    let task = |(end, (unit, meaning)): (&&str, &(&'static str, &str))| ColumnMeaning {
        name: format!("{TASK}{end}"),
        unit,
        meaning: (*meaning).to_owned(),
    };
    let tasks: Vec<ColumnMeaning> = TASK_ENDS.iter().zip(&OF_TASK).map(task).collect();
    // A task's score and its interval stand before the rest, the other columns of tasks behind it.
    let (scores, details) = tasks.split_at(3);
    all.extend_from_slice(scores);
    all.extend(rest.iter().map(plain));
    for figure in statistics::of_lane(None).into_iter().chain(statistics::of_comparison(None)) {
        if !all.iter().any(|c| c.name == figure.name) {
            let meaning = format!("{}; where every token was kept", figure.meaning);
            all.push(ColumnMeaning { name: figure.name, unit: figure.unit, meaning });
        }
    }
    all.extend_from_slice(details);
    // A text's columns are the lane's own, of one text alone.
    let of_text = |end: &&str| {
        let own = all.iter().find(|c| format!("_{}", c.name) == **end)?;
        Some(ColumnMeaning {
            name: format!("{TEXT}{end}"),
            unit: own.unit,
            meaning: format!("`{}` of this text alone; where there are several", own.name),
        })
    };
    let texts: Vec<ColumnMeaning> = TEXT_ENDS.iter().filter_map(of_text).collect();
    all.extend(texts);
    all
}

/// The schema as Markdown, names as code. All of it is our own text: only what would end a cell is escaped.
pub fn markdown() -> String {
    let row = |c: ColumnMeaning| format!("| `{}` | {} | {} |\n", c.name, c.unit, c.meaning.replace('|', "\\|"));
    let rows: String = schema().into_iter().map(row).collect();
    format!("| column | unit | meaning |\n| --- | --- | --- |\n{rows}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{export, summarize};
    use bitworth_eval::sample;

    /// The columns of summaries with and without kept tokens, with `<task>` and `<text>` for names.
    fn exported() -> Vec<String> {
        let mut kept = sample::two_texts();
        kept.retain(|r| r.as_sequence().is_none_or(|s| s.kept.is_some()));
        let tokens = export::columns(&summarize(&kept).unwrap()).names();
        let mut names = export::columns(&summarize(&sample::two_texts()).unwrap()).names();
        names.extend(tokens);
        let tasks = ["arithmetic", "facts", "grammar", "sums"].map(|name| (name, TASK));
        let names = names.into_iter().map(|name| {
            let of = |(own, _): &(&str, &str)| name.strip_prefix(own).is_some_and(|end| end.is_empty() || end.starts_with('_'));
            match tasks.into_iter().chain([("prose", TEXT), ("637a866d", TEXT)]).find(of) {
                Some((own, general)) => name.replacen(own, general, 1),
                None => name,
            }
        });
        names.collect()
    }

    #[test]
    fn every_exported_column_has_a_meaning_and_every_meaning_a_column() {
        let (schema, exported) = (schema(), exported());
        for name in &exported {
            assert!(schema.iter().any(|c| c.name == *name && !c.meaning.is_empty()), "{name} has no meaning");
        }
        for column in &schema {
            assert!(exported.contains(&column.name), "{} is not exported", column.name);
            assert_eq!(schema.iter().filter(|c| c.name == column.name).count(), 1, "{}", column.name);
        }
    }

    #[test]
    fn the_table_has_a_line_a_column() {
        let text = markdown();
        assert_eq!(text.lines().count(), schema().len() + 2);
        assert!(text.contains("| `kld_mean` | nats/token | mean KL(reference \\|\\| lane); 0 for"), "{text}");
        assert!(text.contains("| `ppl_low` |  | lower end of the 95 % interval of `ppl`, sequences as draws |"), "{text}");
        assert!(text.contains("| `rank_p999` |  | rank (0 is the likeliest) that 99.9 % of the tokens stay below"), "{text}");
    }
}

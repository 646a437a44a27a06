//! What the numbers show, in sentences: how each lane compares with the reference and with the next larger lane, which lanes
//! are worse than another in everything, which lanes show no difference, what the tasks decide and what they leave undecided,
//! and what follows. All of it rests on paired differences, because every lane saw the same tokens and items.

mod differences;
mod dominance;
mod standing;
mod tasks;
#[cfg(test)]
mod tests;

use bitworth_eval::stats::Estimate;
use serde::Serialize;

use crate::gather::Gathered;
use crate::gathered::LaneKey;
use crate::number::{bytes, percent, significant};
use crate::sheet::labels;
use crate::summary::Summary;
use crate::tasks::Judgement;
use differences::LaneSums;
pub use differences::{Differences, lane_sums};
pub(crate) use standing::few_sequences;
pub use standing::{AGREEMENT, DIVERGENCE, FEW, RESOLUTION, Standing, few_windows, resolution};

/// The sentences, by subject.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Findings {
    /// The answer: which lane is the smallest that is as good as the reference. One sentence a run.
    pub answers: Vec<String>,
    /// How each lane stands; by row, empty where nothing was compared.
    pub verdicts: Vec<String>,
    /// What each lane is good for; by row.
    pub uses: Vec<String>,
    /// Lanes that another lane beats in size, divergence and (where timed) speed.
    pub dominated: Vec<String>,
    /// Lanes that are as near to the reference as each other, by perplexity, divergence and agreement.
    pub ties: Vec<String>,
    /// Which tasks lose first as lanes get smaller, which lose no more than the margin, and which are undecided. One sentence a
    /// run.
    pub skills: Vec<String>,
    /// Where tasks show a difference from the reference, where it stays within the margin, and where they are undecided.
    pub tasks: Vec<String>,
}

/// Draws the conclusions; `rows` are the summaries of the lanes in `gathered`, judged by `judgement`.
pub fn findings(gathered: &Gathered<'_>, rows: &[Summary], judgement: Judgement) -> Findings {
    conclude(&Lanes {
        keys: gathered.lanes.iter().map(|l| &l.key).collect(),
        sums: gathered.lanes.iter().map(lane_sums).collect(),
        rows,
        labels: labels(rows),
        margin: judgement.margin,
    })
}

/// The same of the rows that [can be taken](Summary::can_be_taken), as if there were no others. Verdicts and uses stand at the
/// places of `rows`; they are empty for the others.
pub fn of_files(gathered: &Gathered<'_>, rows: &[Summary], judgement: Judgement) -> Findings {
    let taken: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].can_be_taken()).collect();
    let own: Vec<Summary> = taken.iter().map(|&i| rows[i].clone()).collect();
    let all = labels(rows);
    let found = conclude(&Lanes {
        keys: taken.iter().map(|&i| &gathered.lanes[i].key).collect(),
        sums: taken.iter().map(|&i| lane_sums(&gathered.lanes[i])).collect(),
        rows: &own,
        labels: taken.iter().map(|&i| all[i].clone()).collect(),
        margin: judgement.margin,
    });
    let placed = |of: Vec<String>| {
        let mut placed = vec![String::new(); rows.len()];
        taken.iter().zip(of).for_each(|(&place, sentence)| placed[place] = sentence);
        placed
    };
    Findings { verdicts: placed(found.verdicts), uses: placed(found.uses), ..found }
}

fn conclude(lanes: &Lanes<'_>) -> Findings {
    let rows = lanes.rows;
    Findings {
        answers: lanes.answers(),
        verdicts: (0..rows.len()).map(|i| lanes.verdict(i)).collect(),
        uses: (0..rows.len()).map(|i| lanes.good_for(i)).collect(),
        dominated: lanes.dominated(),
        ties: lanes.ties(),
        skills: lanes.skills(),
        tasks: tasks::tasks(rows, &lanes.labels, lanes.margin),
    }
}

/// The lanes of a report, ready to be compared.
struct Lanes<'a> {
    keys: Vec<&'a LaneKey>,
    sums: Vec<Option<LaneSums<'a>>>,
    rows: &'a [Summary],
    labels: Vec<String>,
    /// By which tasks were judged, in points.
    margin: f64,
}

impl Lanes<'_> {
    /// The paired differences of two lanes; `None` where they were not measured against the same reference.
    fn differences(&self, first: usize, second: usize) -> Option<Differences> {
        let same = self.keys[first].same_run(self.keys[second]);
        Some(Differences::of(self.sums[first].as_ref().filter(|_| same)?, self.sums[second].as_ref()?))
    }

    /// Whether two lanes are as near to the reference as each other.
    fn are_as_near(&self, first: usize, second: usize) -> bool {
        self.differences(first, second).is_some_and(|d| d.show_none())
    }

    fn ties(&self) -> Vec<String> {
        let tied = |i: usize| -> Vec<&str> {
            (i + 1..self.rows.len()).filter(|j| self.are_as_near(i, *j)).map(|j| self.labels[j].as_str()).collect()
        };
        let say = |i: usize| match tied(i)[..] {
            [] => None,
            [one] => Some(format!("{} and {one}", self.labels[i])),
            ref many => Some(format!("{} and each of {}", self.labels[i], many.join(", "))),
        };
        (0..self.rows.len()).filter_map(say).collect()
    }

    /// The row of the reference that a lane was measured against.
    fn reference_of(&self, i: usize) -> Option<usize> {
        (0..self.rows.len()).find(|j| self.rows[*j].is_reference && self.keys[*j].same_run(self.keys[i]))
    }

    /// The lane of the same run that is the next larger one, other than the reference: rows go from large to small.
    fn next_larger(&self, i: usize) -> Option<usize> {
        i.checked_sub(1).filter(|j| !self.rows[*j].is_reference && self.keys[*j].same_run(self.keys[i]))
    }

    fn answers(&self) -> Vec<String> {
        let say = |reference: usize| {
            let run: Vec<usize> = (0..self.rows.len()).filter(|i| self.keys[*i].same_run(self.keys[reference])).collect();
            let compared = || {
                run.iter().copied().filter(|i| !matches!(Standing::of(&self.rows[*i]), Standing::Reference | Standing::Unknown))
            };
            let smaller = |i: &usize| self.rows[*i].bytes < self.rows[reference].bytes;
            let as_good = compared().filter(smaller).filter(|i| Standing::of(&self.rows[*i]).is_as_good());
            let name = &self.labels[reference];
            if let Some(i) = as_good.min_by_key(|i| self.rows[*i].bytes) {
                return Some(format!(
                    "{} is the smallest that is as good as {name} by perplexity, KLD and top-1 agreement: {}.",
                    self.labels[i],
                    self.numbers(i, reference)
                ));
            }
            let nearest = compared().filter(smaller).min_by(|a, b| {
                let kld = |i: &usize| self.rows[*i].kld.map_or(f64::INFINITY, |k| k.mean.value);
                kld(a).total_cmp(&kld(b))
            })?;
            let row = &self.rows[nearest];
            let beginning = match (Standing::of(row), standing::limits(row)) {
                (Standing::Unresolved | Standing::Changed, Some(limits)) => {
                    format!("No smaller lane is shown to be as good as {name} (with {}, {limits})", self.labels[nearest])
                }
                _ => format!("Every smaller lane can be told apart from {name}"),
            };
            Some(format!("{beginning}; {} is the nearest: {}.", self.labels[nearest], self.numbers(nearest, reference)))
        };
        (0..self.rows.len()).filter(|i| self.rows[*i].is_reference).filter_map(say).collect()
    }

    /// Size, perplexity and agreement of a lane beside its reference.
    fn numbers(&self, i: usize, reference: usize) -> String {
        let row = &self.rows[i];
        let share = row.bytes as f64 / self.rows[reference].bytes.max(1) as f64;
        let mut parts = vec![format!("{}, {} of the size", bytes(row.bytes), percent(share))];
        if let Some(ratio) = row.ppl_ratio {
            parts.push(format!("perplexity {}", percent_change(ratio)));
        }
        parts.push(standing::predictions(row));
        parts.extend(standing::speed_ratio(row, &self.rows[reference]));
        parts.retain(|part| !part.is_empty());
        parts.join("; ")
    }

    /// How a lane stands to the reference and to the next larger lane.
    fn verdict(&self, i: usize) -> String {
        let Some(standing) = standing::words(&self.rows[i]) else { return String::new() };
        let mut parts = vec![standing];
        if let Some((larger, differences)) = self.next_larger(i).and_then(|j| Some((j, self.differences(i, j)?))) {
            parts.extend(self.beside(larger, &differences));
        }
        parts.join("; ") + "."
    }

    /// Compares a lane with the next larger one, in words, by paired differences. `None`: too few sequences for an interval.
    fn beside(&self, larger: usize, differences: &Differences) -> Option<String> {
        let (label, show) = (&self.labels[larger], |v: f64| significant(v.abs(), 3));
        let range = |low: f64, high: f64| format!("{} – {}", show(low), show(high));
        let difference = differences.divergence()?;
        Some(match difference.interval? {
            _ if differences.show_none() => {
                format!("as near to it as {label}, the next larger, by perplexity, KLD and top-1 agreement")
            }
            interval if interval.contains(0.0) => {
                let mut unseen = format!(
                    "its KLD tells no difference from {label}, the next larger (differences under {} cannot be seen)",
                    show(0.5 * (interval.high - interval.low))
                );
                let apart = |e: Option<Estimate>, none: f64| e.filter(|e| e.interval.is_some_and(|i| !i.contains(none)));
                if let Some(agreement) = apart(differences.agreement(), 0.0) {
                    unseen += &format!(", its top-1 agreement does ({:+.1} points)", 100.0 * agreement.value);
                }
                if let Some(ratio) = apart(differences.perplexity_ratio(), 1.0) {
                    unseen += &format!(", its perplexity does ({})", percent_change(ratio));
                }
                unseen
            }
            interval if interval.low > 0.0 => {
                let range = range(interval.low, interval.high);
                format!("worse than {label}, the next larger, by a KLD of {} ({range})", show(difference.value))
            }
            interval => {
                let range = range(interval.high, interval.low);
                let by = show(difference.value);
                format!("nearer to the reference than {label}, the next larger, by a KLD of {by} ({range})")
            }
        })
    }

    /// The largest lane that this one can stand in for: larger, and as near to the reference by a direct comparison. Nothing
    /// stands in for a lane that is as good as the reference unless it was shown to be so itself.
    fn stands_in_for(&self, i: usize) -> Option<usize> {
        let larger = |j: &usize| {
            self.rows[*j].bytes > self.rows[i].bytes && !self.rows[*j].is_reference && !Standing::of(&self.rows[*j]).is_as_good()
        };
        (0..i).filter(larger).find(|j| self.are_as_near(i, *j))
    }

    /// What a lane is good for, in one sentence that the paired intervals carry.
    fn good_for(&self, i: usize) -> String {
        let row = &self.rows[i];
        let standing = Standing::of(row);
        // A copy without loss is not told to be exchanged for the original that is to be replaced.
        let better =
            self.beaten_by(i).filter(|b| !(row.is_reference || standing == Standing::Lossless && self.rows[*b].is_reference));
        if let Some(better) = better {
            return format!("Better take {}.", self.labels[better]);
        }
        let smaller_as_good = || {
            (0..self.rows.len()).any(|j| {
                self.rows[j].bytes < row.bytes && self.keys[j].same_run(self.keys[i]) && Standing::of(&self.rows[j]).is_as_good()
            })
        };
        match standing {
            Standing::Reference => "What the others are measured against.".to_owned(),
            Standing::Unknown => String::new(),
            Standing::Lossless | Standing::AsGood if self.reference_of(i).is_none() => String::new(),
            Standing::Lossless => "Predicts as the original, up to rounding.".to_owned(),
            Standing::AsGood if !smaller_as_good() => {
                "The smallest that is as good as the original by perplexity, KLD and top-1 agreement: the one to begin with."
                    .to_owned()
            }
            Standing::AsGood => "As good as the original by perplexity, KLD and top-1 agreement.".to_owned(),
            Standing::Unresolved => {
                let limits = standing::limits(row).unwrap_or_default();
                format!("Not told from the original, but {limits}: score more text before relying on it.")
            }
            Standing::Changed | Standing::Worse | Standing::Lower => match (self.stands_in_for(i), row.ppl_ratio) {
                (Some(larger), _) => format!("As near to the original as {}, and smaller.", self.labels[larger]),
                (None, Some(_)) if standing == Standing::Changed => {
                    format!("Changed ({}): where nothing larger fits.", standing::predictions(row))
                }
                (None, Some(ratio)) => format!("Perplexity {}: where nothing larger fits.", percent_change(ratio)),
                (None, None) => String::new(),
            },
        }
    }
}

/// A ratio as a change in percent with its interval: `+0.11 % (+0.06 % to +0.17 %)`.
pub fn percent_change(ratio: Estimate) -> String {
    let percents = ratio.map(|v| 100.0 * (v - 1.0));
    let parts = [Some(percents.value), percents.low(), percents.high()];
    let decimals = if parts.iter().flatten().any(|v| v.abs() < 0.1) { 3 } else { 2 };
    let show = |v: f64| format!("{v:+.decimals$} %");
    let range = percents.interval.map_or(String::new(), |i| format!(" ({} to {})", show(i.low), show(i.high)));
    show(percents.value) + &range
}

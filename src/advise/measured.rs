//! What the user's own runs say of models and recipes, in the form of published figures: divergences, and accuracies in one task.
//! Absent: where figures are used (see `quality`).

use std::collections::BTreeSet;
use std::path::Path;

use bitworth_eval::stats::Estimate;
use bitworth_quant::Result;
use bitworth_report::Summary;

use crate::advice::Advice;
use crate::quality::figures::{Evidence, Figure, FigureInterval};
use crate::quality::scores::TASK;

/// What a folder of records gives.
#[derive(Debug)]
pub struct Measured {
    /// Where its figures say that they are from.
    source: String,
    /// What it says of models and recipes.
    pub figures: Vec<Figure>,
    /// What else it holds, in words.
    holds: String,
}

impl Measured {
    /// Reads the records below a folder.
    ///
    /// # Errors
    /// No records, or such that do not belong together.
    pub fn load(dir: &Path) -> Result<Self> {
        let records = bitworth_report::load(&[dir.to_owned()])?;
        let rows = bitworth_report::summarize(&records)?;
        let source = format!("records in {}", dir.display());
        let figures = rows.iter().filter_map(|row| figure(row, &source)).collect();
        Ok(Self { figures, holds: holdings(&rows), source })
    }

    /// What to say of it where no choice rests on it.
    pub fn note(&self, advice: &Advice) -> Option<String> {
        let is_used = advice.choices.iter().any(|choice| {
            let loss = &choice.loss;
            let all = [Some(&loss.kld), loss.ppl_ratio.as_ref(), loss.top1.as_ref(), choice.accuracy.as_ref()];
            all.into_iter().flatten().any(|value| value.source == self.source)
        });
        (!is_used).then(|| {
            let Self { source, holds, .. } = self;
            format!(
                "{source}: nothing of them is used; they hold {holds}, and what is used are divergences and accuracies in \
                 {TASK} of the models and recipes that are asked for"
            )
        })
    }
}

/// What was measured of which models.
fn holdings(rows: &[Summary]) -> String {
    let mut parts = Vec::new();
    if rows.iter().any(|row| !row.is_reference && row.kld.is_some()) {
        parts.push("divergences".to_owned());
    }
    let tasks: BTreeSet<&str> = rows.iter().flat_map(|row| &row.tasks).map(|task| task.name.as_str()).collect();
    if !tasks.is_empty() {
        parts.push(format!("accuracies in {}", tasks.into_iter().collect::<Vec<_>>().join(", ")));
    }
    if rows.iter().any(|row| row.decode.or(row.prefill).is_some()) {
        parts.push("speeds".to_owned());
    }
    let models: BTreeSet<&str> = rows.iter().map(|row| row.model.as_str()).collect();
    let what = if parts.is_empty() { "no figures".to_owned() } else { parts.join(" and ") };
    format!("{what} of {}", models.into_iter().collect::<Vec<_>>().join(", "))
}

/// What is measured of a lane, and counts here; `None` where that is nothing.
fn figure(row: &Summary, source: &str) -> Option<Figure> {
    let interval = |e: &Estimate| {
        let (low, high) = e.interval.map_or((e.value, e.value), |i| (i.low, i.high));
        FigureInterval { value: e.value, low, high }
    };
    // The reference lost nothing against itself, whatever it is.
    let compared = Some(row).filter(|row| !row.is_reference);
    let task = row.tasks.iter().find(|task| task.name == TASK);
    let figure = Figure {
        bpw: Some(row.bpw),
        ppl_ratio: compared.and_then(|row| row.ppl_ratio.as_ref().map(interval)),
        kld: compared.and_then(|row| row.kld.as_ref().map(|kld| interval(&kld.mean))),
        top1: compared.and_then(|row| row.top1.as_ref().map(interval)),
        accuracy: task.map(|task| (task.name.clone(), interval(&task.accuracy))),
        ..Figure::new(&row.model, &row.recipe, Evidence::Measured, source)
    };
    let is_any = figure.ppl_ratio.or(figure.kld).or(figure.top1).is_some() || figure.accuracy.is_some();
    is_any.then_some(figure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitworth_eval::sample;

    #[test]
    fn a_folder_says_what_it_holds_and_what_counts_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let records: Vec<_> = sample::records();
        bitworth_eval::records::append(dir.path(), "all", &records, None).unwrap();
        let measured = Measured::load(dir.path()).unwrap();
        // Every lane but the reference was compared; what the reference lost counts nowhere.
        let lanes = records.iter().filter(|record| record.as_lane().is_some_and(|lane| !lane.is_reference)).count();
        assert_eq!(measured.figures.len(), lanes);
        assert!(measured.figures.iter().all(|figure| figure.kld.is_some() && figure.accuracy.is_none()));
        for part in ["divergences", "accuracies in arithmetic, facts, grammar, sums", "speeds"] {
            assert!(measured.holds.contains(part), "{}", measured.holds);
        }
        assert!(Measured::load(&dir.path().join("none")).is_err());
    }
}

//! The groups of tasks that an item was asked through, as [`crate::record::ItemRecord::group`] keeps them: ways from an outermost
//! group to the task, with `|` between them and `/` between the groups of a way; behind a group's name what its score is. Absent:
//! scores.

/// What a group's name ends with whose score is the plain mean over its tasks.
const MACRO_MARK: &str = "~macro";
/// What stands between a group's name and the metric that its score is of.
const METRIC_MARK: &str = "~metric=";
/// Characters that mean something here, and what stands for them in names.
const ESCAPES: [(char, &str); 4] = [('%', "%25"), ('/', "%2F"), ('|', "%7C"), ('~', "%7E")];

/// A group on the way to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Whether its score is the plain mean over its tasks, whatever their sizes.
    pub is_macro: bool,
    /// The metric that its score is of, and behind a comma the filter where that is said; `None` for what stands for its tasks.
    pub metric: Option<String>,
}

/// Groups from an outermost one inward.
pub type Way = Vec<Step>;

fn escaped(text: &str) -> String {
    // The first is the sign of the others.
    ESCAPES.iter().fold(text.to_owned(), |text, (c, code)| text.replace(*c, code))
}

fn plain(text: &str) -> String {
    ESCAPES.iter().rev().fold(text.to_owned(), |text, (c, code)| text.replace(code, &c.to_string()))
}

impl Step {
    fn text(&self) -> String {
        let metric = self.metric.as_ref().map(|metric| format!("{METRIC_MARK}{}", escaped(metric)));
        escaped(&self.name) + metric.as_deref().unwrap_or_default() + if self.is_macro { MACRO_MARK } else { "" }
    }

    fn read(text: &str) -> Self {
        let (text, is_macro) = text.strip_suffix(MACRO_MARK).map_or((text, false), |text| (text, true));
        let (name, metric) = text.split_once(METRIC_MARK).map_or((text, None), |(name, metric)| (name, Some(plain(metric))));
        Self { name: plain(name), is_macro, metric }
    }
}

/// Ways as records keep them; `None` where there is none.
pub fn text(ways: &[Way]) -> Option<String> {
    let one = |way: &Way| way.iter().map(Step::text).collect::<Vec<_>>().join("/");
    (!ways.is_empty()).then(|| ways.iter().map(one).collect::<Vec<_>>().join("|"))
}

/// The ways that a record keeps.
pub fn ways(text: Option<&str>) -> Vec<Way> {
    let steps = |way: &str| way.split('/').filter(|step| !step.is_empty()).map(Step::read).collect::<Way>();
    text.into_iter().flat_map(|text| text.split('|')).map(steps).filter(|way| !way.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, is_macro: bool, metric: Option<&str>) -> Step {
        Step { name: name.to_owned(), is_macro, metric: metric.map(str::to_owned) }
    }

    #[test]
    fn ways_are_read_as_they_were_written() {
        let all = vec![
            vec![step("mmlu", false, None), step("mmlu_stem", true, None)],
            vec![step("a/b|c~d %2F e~macro", true, Some("exact_match,strict~/|"))],
        ];
        assert_eq!(ways(text(&all).as_deref()), all);
        assert_eq!(text(&all[..1]).unwrap(), "mmlu/mmlu_stem~macro", "as records before had it");
        assert_eq!((text(&[]), ways(None)), (None, Vec::new()));
    }
}

//! Two runs of the same lanes, an old and a new one: what became worse or better beyond noise. Quality by paired differences on
//! the sequences and items that both saw, speed and energy by the spread of the repetitions, memory by that of the starts, size
//! exactly. Nothing is measured here.

mod alike;
mod tolerance;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::findings::{Differences, few_windows, lane_sums};
use crate::gather::{self, Gathered, GatheredText};
use crate::gathered::GatheredLane;
use crate::pareto::ROUNDING;
use crate::scored::{Sequences, TextKey};
use crate::speeds::{SpeedSummary, Timed};
use crate::summary::{self, Summary};
use crate::tasks::Judgement;
use bitworth_eval::record::{ItemRecord, Record, SequenceRecord, Windowing};
use bitworth_eval::stats::{self, Cluster, Estimate, Interval, PairedItem};
use bitworth_quant::{Error, Result};

pub use tolerance::{Bound, NAMES, Tolerance, Tolerances};

/// Speeds, energies and memory of two runs that differ by less are equal, whatever the spread within each: what two runs of
/// `bench` on a quiet machine agree within.
pub const RUN_TO_RUN: f64 = 0.03;

/// What two runs say about each other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Regression {
    /// Every figure that both runs have, lane by lane.
    pub changes: Vec<Change>,
    /// Lanes that only the old run has.
    pub only_old: Vec<String>,
    /// Lanes that only the new run has.
    pub only_new: Vec<String>,
    /// What could not be compared, and why, in sentences.
    pub notes: Vec<String>,
    /// What was tolerated, in words: `decode 5 %`.
    pub tolerated: Vec<String>,
    /// What readers of the figures should know: that their intervals rest on few windows.
    #[serde(skip)]
    pub warnings: Vec<String>,
    /// What was tolerated because nobody said otherwise, in words.
    pub by_default: Vec<String>,
}

/// One figure of one lane in both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The lane, with the model's and the device's name where lanes of the run differ in them.
    pub lane: String,
    /// What was measured.
    pub measure: Measure,
    /// The task, for [`Measure::Accuracy`].
    pub task: Option<String>,
    /// The old value.
    pub old: f64,
    /// The new value.
    pub new: f64,
    /// New over old where [`Measure::is_ratio`], new less old elsewhere; with the interval of the pairs, or, for speeds, of the
    /// repetitions.
    pub change: Estimate,
    /// Whether the interval is that of paired differences.
    pub paired: bool,
    /// Whether both values are single figures of what could be measured again: they have no spread.
    pub one_figure_each: bool,
    /// The range of what was seen in the old run, where the machine drifted in half of the repetitions or more: `old` is one
    /// value of it.
    pub old_drifted: Option<Interval>,
    /// The same of the new run.
    pub new_drifted: Option<Interval>,
    /// What it means.
    pub verdict: ChangeVerdict,
}

impl Change {
    /// A change whose lane is named when it joins the others.
    fn of(measure: Measure, (old, new): (f64, f64), change: Estimate, verdict: ChangeVerdict) -> Self {
        let (lane, task, paired, one_figure_each) = (String::new(), None, false, false);
        let (old_drifted, new_drifted) = (None, None);
        Self { lane, measure, task, old, new, change, paired, one_figure_each, old_drifted, new_drifted, verdict }
    }
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Bytes of the file; less is better.
    Bytes,
    /// Perplexity; less is better.
    Perplexity,
    /// Bits per byte of text; less is better.
    BitsPerByte,
    /// Mean KL divergence from the reference, nats per token; less is better.
    Divergence,
    /// Share of tokens with the reference's likeliest successor; more is better.
    Agreement,
    /// Share of right answers; more is better.
    Accuracy,
    /// Prompt tokens per second; more is better.
    Prefill,
    /// New tokens per second; more is better.
    Decode,
    /// The most memory while the model was timed, in bytes; less is better.
    Memory,
    /// New tokens per joule; more is better.
    Energy,
}

impl Measure {
    /// Whether a change is a ratio, not a difference.
    pub fn is_ratio(self) -> bool {
        !matches!(self, Self::Divergence | Self::Agreement | Self::Accuracy)
    }

    fn more_is_better(self) -> bool {
        matches!(self, Self::Agreement | Self::Accuracy | Self::Prefill | Self::Decode | Self::Energy)
    }

    /// What rounding alone may change.
    fn rounding(self) -> f64 {
        match self {
            Self::Perplexity | Self::BitsPerByte | Self::Divergence => ROUNDING,
            Self::Prefill | Self::Decode | Self::Memory | Self::Energy => RUN_TO_RUN,
            Self::Bytes | Self::Agreement | Self::Accuracy => 0.0,
        }
    }
}

/// What a change means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeVerdict {
    /// Worse beyond noise, and by more than is tolerated.
    Regression,
    /// Worse beyond noise, and within what is tolerated.
    Tolerated,
    /// Better beyond noise.
    Improvement,
    /// Within noise.
    Same,
    /// Too little was measured to tell: one sequence, or one repetition.
    Undecided,
    /// Not judged: the machine drifted in half of the repetitions or more, in one of the runs.
    Drifted,
}

/// Compares the records of two runs; nothing that became worse is tolerated, but for sizes and a little memory.
///
/// # Errors
/// See [`of_within`].
pub fn of(old: &[Record], new: &[Record]) -> Result<Regression> {
    of_within(old, new, &Tolerances::default())
}

/// Compares the records of two runs; what became worse within `tolerances` is no regression.
///
/// # Errors
/// Records that make no report ([`gather::gather`]); no lane in common; a text, protocol, tokenization or task version that
/// differs.
pub fn of_within(old: &[Record], new: &[Record], tolerances: &Tolerances) -> Result<Regression> {
    let (old, new) = (Run::of(old)?, Run::of(new)?);
    same_texts(&old, &new)?;
    let pairs = pairs(&old, &new);
    if pairs.is_empty() {
        return Err(not_comparable(alike::why_no_lane(&old, &new)));
    }
    let mut comparison = Regression {
        changes: Vec::new(),
        only_old: missing(&old.labels, pairs.iter().map(|p| p.0)),
        only_new: missing(&new.labels, pairs.iter().map(|p| p.1)),
        notes: alike::uneven(&old, &new, &pairs),
        tolerated: tolerances.words(),
        warnings: few_windows(old.rows.iter().chain(&new.rows)).into_iter().collect(),
        by_default: tolerances.default_words(),
    };
    for (i, j) in pairs {
        Pair { old: (&old, i), new: (&new, j), tolerances, into: &mut comparison }.judge()?;
    }
    Ok(comparison)
}

impl Regression {
    /// The changes that mean this.
    pub fn with(&self, verdict: ChangeVerdict) -> Vec<&Change> {
        self.changes.iter().filter(|c| c.verdict == verdict).collect()
    }
}

/// A pass that both runs made, they made over the same texts.
fn same_texts(old: &Run<'_>, new: &Run<'_>) -> Result<()> {
    for pass in [Windowing::Windows, Windowing::Rolling] {
        let of = |run: &Run<'_>| -> Vec<String> {
            let mut texts: Vec<TextKey<'_>> = run.gathered.texts.iter().map(GatheredText::key).collect();
            texts.retain(|key| key.protocol.pass == pass);
            texts.sort();
            texts.iter().map(ToString::to_string).collect()
        };
        let (known, other) = (of(old), of(new));
        if !known.is_empty() && !other.is_empty() && known != other {
            // Of many texts those that one run alone has say what is wrong.
            let alone = |of: &[String], others: &[String]| {
                let alone: Vec<&str> = of.iter().filter(|t| !others.contains(t)).map(String::as_str).collect();
                if alone.is_empty() { "nothing else".to_owned() } else { alone.join("; ") }
            };
            let (known, other) = (alone(&known, &other), alone(&other, &known));
            return Err(not_comparable(format!("the old run scored {known}, the new one {other}")));
        }
    }
    Ok(())
}

/// Whether every item of a task has a value by itself.
fn has_values(items: &BTreeMap<u32, &ItemRecord>) -> bool {
    items.values().all(|item| item.value.is_some())
}

fn mean_value(items: &BTreeMap<u32, &ItemRecord>) -> f64 {
    items.values().filter_map(|item| item.value).sum::<f64>() / items.len() as f64
}

fn not_comparable(what: String) -> Error {
    Error::file("records", format!("the runs cannot be compared: {what}; compare runs of one configuration"))
}

/// The record version since which a timing holds the same work.
const LAST_TIMINGS: u32 = 4;

struct Run<'a> {
    /// The record versions of its timings, the earliest and the latest: what a timing holds changed between them.
    timings: Option<(u32, u32)>,
    gathered: Gathered<'a>,
    rows: Vec<Summary>,
    labels: Vec<String>,
}

impl<'a> Run<'a> {
    fn of(records: &'a [Record]) -> Result<Self> {
        let gathered = gather::gather(records)?;
        let rows = summary::summarize(&gathered, Judgement::default());
        let labels = crate::sheet::labels(&rows);
        let timed = || records.iter().filter(|r| r.as_speed().is_some()).map(|r| r.origin.schema.min(LAST_TIMINGS));
        Ok(Self { timings: timed().min().zip(timed().max()), gathered, rows, labels })
    }

    fn reference_name(&self, lane: usize) -> Option<&str> {
        let lanes = &self.gathered.lanes;
        self.gathered.reference_of(&lanes[lane]).map(|i| lanes[i].key.lane.as_str())
    }
}

/// Lanes of the same name, model, arithmetic and device; where only the device differs, the one lane on each side.
fn pairs(old: &Run<'_>, new: &Run<'_>) -> Vec<(usize, usize)> {
    let matches = |a: &GatheredLane<'_>, b: &GatheredLane<'_>| {
        (&a.key.model, &a.key.lane, &a.key.arithmetic) == (&b.key.model, &b.key.lane, &b.key.arithmetic)
    };
    let alike = |run: &Run<'_>, lane: &GatheredLane<'_>| {
        let found = run.gathered.lanes.iter().enumerate().filter(|(_, other)| matches(lane, other)).map(|(i, _)| i);
        found.collect::<Vec<usize>>()
    };
    let partner = |lane: &GatheredLane<'_>| {
        let same = new.gathered.lanes.iter().position(|other| other.key == lane.key);
        same.or_else(|| match (&alike(new, lane)[..], alike(old, lane).len()) {
            ([one], 1) => Some(*one),
            _ => None,
        })
    };
    old.gathered.lanes.iter().enumerate().filter_map(|(i, lane)| Some((i, partner(lane)?))).collect()
}

fn missing(labels: &[String], present: impl Iterator<Item = usize>) -> Vec<String> {
    let present: Vec<usize> = present.collect();
    labels.iter().enumerate().filter(|(i, _)| !present.contains(i)).map(|(_, label)| label.clone()).collect()
}

/// One lane in both runs.
struct Pair<'a> {
    old: (&'a Run<'a>, usize),
    new: (&'a Run<'a>, usize),
    tolerances: &'a Tolerances,
    into: &'a mut Regression,
}

impl<'a> Pair<'a> {
    fn label(&self) -> &str {
        &self.new.0.labels[self.new.1]
    }

    fn rows(&self) -> (&Summary, &Summary) {
        (&self.old.0.rows[self.old.1], &self.new.0.rows[self.new.1])
    }

    fn lanes(&self) -> (&'a GatheredLane<'a>, &'a GatheredLane<'a>) {
        (&self.old.0.gathered.lanes[self.old.1], &self.new.0.gathered.lanes[self.new.1])
    }

    fn push(&mut self, change: Change) {
        let is_tolerated = self.tolerances.allow(change.measure, change.change.value, change.old);
        let verdict = match change.verdict {
            ChangeVerdict::Regression if is_tolerated => ChangeVerdict::Tolerated,
            verdict => verdict,
        };
        let lane = self.label().to_owned();
        self.into.changes.push(Change { lane, verdict, ..change });
    }

    fn note(&mut self, what: &str) {
        let note = format!("{}: {what}.", self.label());
        self.into.notes.push(note);
    }

    fn judge(&mut self) -> Result<()> {
        let (old, new) = (self.rows().0.bytes, self.rows().1.bytes);
        let verdict = match new.cmp(&old) {
            std::cmp::Ordering::Less => ChangeVerdict::Improvement,
            std::cmp::Ordering::Equal => ChangeVerdict::Same,
            std::cmp::Ordering::Greater => ChangeVerdict::Regression,
        };
        let ratio = Estimate { value: new as f64 / old.max(1) as f64, interval: None };
        self.push(Change::of(Measure::Bytes, (old as f64, new as f64), ratio, verdict));
        self.texts()?;
        self.tasks()?;
        self.speeds();
        Ok(())
    }

    /// Perplexity and bits per byte from the passes that both have, divergence and agreement from the first of them.
    fn texts(&mut self) -> Result<()> {
        let (old, new) = self.lanes();
        let passes = [
            (Windowing::Windows, Measure::Perplexity, &old.windows, &new.windows),
            (Windowing::Rolling, Measure::BitsPerByte, &old.rolling, &new.rolling),
        ];
        let mut quality = Vec::new();
        for (pass, measure, old, new) in passes {
            if old.is_empty() != new.is_empty() {
                quality.push(Err(format!("only one of the runs made the pass over {}", pass.name())));
                continue;
            }
            let common = old.pairs(new);
            if common.iter().any(|(a, b)| (a.tokens, a.bytes) != (b.tokens, b.bytes)) {
                return Err(not_comparable(format!("{} was tokenized in another way", self.label())));
            }
            // For bits per byte the clusters count bytes, so that the ratio is of nats per byte; it is that of the bits.
            let value = |sequences: &Sequences<'_>| {
                let of = |s: &SequenceRecord| Cluster {
                    sum: s.nll_sum,
                    count: if pass == Windowing::Windows { u64::from(s.tokens) } else { s.bytes },
                };
                let clusters: Vec<Cluster> = sequences.all().map(of).collect();
                if pass == Windowing::Windows { stats::perplexity(&clusters) } else { stats::bits_per_byte(&clusters) }
            };
            let (Some(before), Some(after)) = (value(old), value(new)) else {
                continue;
            };
            let difference = |(a, b): &(&SequenceRecord, &SequenceRecord)| Cluster {
                sum: b.nll_sum - a.nll_sum,
                count: if pass == Windowing::Windows { u64::from(b.tokens) } else { b.bytes },
            };
            let paired = stats::mean(&common.iter().map(difference).collect::<Vec<_>>());
            let change = match (pass, paired) {
                (Windowing::Windows, paired) => paired.map(|mean| mean.map(libm::exp)),
                // The old value is common to all draws: the paired difference in bits over it, plus 1.
                (Windowing::Rolling, paired) => paired.map(|mean| mean.map(|d| 1.0 + d / std::f64::consts::LN_2 / before.value)),
            };
            quality.push(Ok((measure, before, after, change)));
        }
        for result in quality {
            match result {
                Ok((measure, before, after, change)) => self.estimate(measure, before, after, change),
                Err(note) => self.note(&note),
            }
        }
        self.against();
        Ok(())
    }

    /// Divergence from the reference and agreement with it, where both runs have the same reference.
    fn against(&mut self) {
        let rows = self.rows();
        let (Some(old_kld), Some(new_kld)) = (rows.0.kld, rows.1.kld) else {
            return;
        };
        let (Some(old_top), Some(new_top)) = (rows.0.top1, rows.1.top1) else {
            return;
        };
        if rows.0.is_reference && rows.1.is_reference {
            return;
        }
        if self.old.0.reference_name(self.old.1) != self.new.0.reference_name(self.new.1) {
            self.note("the references are different lanes, so divergences are not compared");
            return;
        }
        let (old, new) = self.lanes();
        if old.windows.is_empty() != new.windows.is_empty() {
            return;
        }
        let paired = lane_sums(new).zip(lane_sums(old)).map(|(new, old)| Differences::of(&new, &old));
        let (kld, top1) = (paired.as_ref().and_then(Differences::divergence), paired.as_ref().and_then(Differences::agreement));
        self.estimate(Measure::Divergence, old_kld.mean, new_kld.mean, kld);
        self.estimate(Measure::Agreement, old_top, new_top, top1);
    }

    /// Two estimates and, where they are paired, the change between them; else their intervals decide.
    fn estimate(&mut self, measure: Measure, old: Estimate, new: Estimate, paired: Option<Estimate>) {
        let none = if measure.is_ratio() { 1.0 } else { 0.0 };
        let unpaired = || {
            let value = if measure.is_ratio() { new.value / old.value } else { new.value - old.value };
            let interval = new.interval.zip(old.interval).map(|(n, o)| match measure.is_ratio() {
                true => Interval { low: n.low / o.high, high: n.high / o.low },
                false => Interval { low: n.low - o.high, high: n.high - o.low },
            });
            Estimate { value, interval }
        };
        let change = paired.unwrap_or_else(unpaired);
        let verdict = match change.interval {
            _ if (change.value - none).abs() <= measure.rounding() => ChangeVerdict::Same,
            None => ChangeVerdict::Undecided,
            Some(i) if i.contains(none) => ChangeVerdict::Same,
            Some(i) if (i.low > none) == measure.more_is_better() => ChangeVerdict::Improvement,
            Some(_) => ChangeVerdict::Regression,
        };
        self.push(Change { paired: paired.is_some(), ..Change::of(measure, (old.value, new.value), change, verdict) });
    }

    fn tasks(&mut self) -> Result<()> {
        let (before, after) = self.lanes();
        let [old, new] = [before, after].map(|lane| lane.items.iter().filter(|(_, items)| has_values(items)).collect::<Vec<_>>());
        for &(task, items) in &old {
            let Some((_, others)) = new.iter().find(|(name, _)| *name == task) else {
                self.note(&format!("only the old run has the task {task}"));
                continue;
            };
            let version =
                |items: &BTreeMap<u32, &ItemRecord>| items.values().next().map_or("", |item| &item.task_version).to_owned();
            let versions = [items, *others].map(version);
            if versions[0] != versions[1] {
                let what = format!("task {task} has version {} in the old run and {} in the new one", versions[0], versions[1]);
                return Err(not_comparable(what));
            }
            let both = others
                .iter()
                .filter_map(|(i, own)| Some(PairedItem { reference: items.get(i)?.value?, lane: own.value?, cluster: None }));
            let Some(pair) = stats::paired(&both.collect::<Vec<_>>()) else {
                self.note(&format!("no item of the task {task} is in both runs"));
                continue;
            };
            let verdict = match pair.p_value < 0.05 {
                false => ChangeVerdict::Same,
                true if pair.difference.value < 0.0 => ChangeVerdict::Regression,
                true => ChangeVerdict::Improvement,
            };
            let values = (mean_value(items), mean_value(others));
            let change = Change::of(Measure::Accuracy, values, pair.difference, verdict);
            self.push(Change { task: Some((*task).to_owned()), paired: true, ..change });
        }
        for (task, _) in new.iter().filter(|(name, _)| !old.iter().any(|(other, _)| other == name)) {
            self.note(&format!("only the new run has the task {task}"));
        }
        Ok(())
    }

    fn speeds(&mut self) {
        let (old, new) = self.rows();
        let phases = [(Measure::Decode, old.decode, new.decode), (Measure::Prefill, old.prefill, new.prefill)];
        let [old_device, new_device] = [old, new].map(|row| row.timed_on().unwrap_or(&row.device).to_owned());
        if old_device != new_device && phases.iter().any(|p| p.1.is_some() && p.2.is_some()) {
            self.note(&format!("speeds are not compared: the old run was made on {old_device}, the new one on {new_device}"));
            return;
        }
        if let (Some(before), Some(after)) = (&old.timed, &new.timed)
            && !before.is_like(after)
        {
            let of = |timed: &Timed| match &timed.shape {
                Some(shape) => format!("{} on the shape {shape}", timed.program()),
                None => format!("{} on the lane itself", timed.program()),
            };
            self.note(&format!("speeds are not compared: the old run timed {}, the new one {}", of(before), of(after)));
            return;
        }
        if let (Some(before), Some(after)) = (self.old.0.timings, self.new.0.timings)
            && (before != after || before.0 != before.1)
        {
            self.note("timings of different record versions are not compared: they do not hold the same work");
            return;
        }
        for (measure, old, new) in phases {
            let name = if measure == Measure::Decode { "decode" } else { "prefill" };
            match (old, new) {
                (Some(old), Some(new)) if shape(&old) != shape(&new) => {
                    self.note(&format!("{name} was timed with other tokens, depth or batch"));
                }
                (Some(old), Some(new)) => self.speed(measure, old, new),
                (Some(_), None) => self.note(&format!("the new run has no timing of {name} that counts")),
                (None, Some(_)) => self.note(&format!("the old run has no timing of {name} that counts")),
                (None, None) => {}
            }
        }
        self.footprint();
    }

    /// Memory by what every start took, and energy by the spread of its repetitions.
    fn footprint(&mut self) {
        let (old, new) = self.rows();
        let memory = old.memory_range.zip(new.memory_range);
        let decode = old.decode.zip(new.decode).filter(|(old, new)| shape(old) == shape(new));
        if let Some((old, new)) = memory {
            self.memory(old, new);
        }
        let energy = |speed: SpeedSummary| {
            let (value, range) = (speed.tokens_per_joule?, speed.tokens_per_joule_range?);
            // One repetition has no extremes.
            Some(Repeated { value, range, several: range.low < range.high, drifted: speed.is_unsure() })
        };
        if let Some((old, new)) = decode.and_then(|(old, new)| energy(old).zip(energy(new))) {
            self.repeated(Measure::Energy, old, new);
        }
    }

    /// The least and the most that starts of the program took. A start has one figure of it: where each side has one alone,
    /// nothing says what chance does, and the tolerance decides; of several, the ranges must lie apart as well.
    fn memory(&mut self, old: (u64, u64), new: (u64, u64)) {
        let one_figure_each = old.0 == old.1 && new.0 == new.1;
        let [old, new] = [old, new].map(|(least, most)| Interval { low: least as f64, high: most as f64 });
        let interval = (!one_figure_each).then(|| Interval { low: new.low / old.high, high: new.high / old.low });
        let change = Estimate { value: new.high / old.high, interval };
        let verdict = match change.value - 1.0 {
            by if by.abs() <= Measure::Memory.rounding() || interval.is_some_and(|i| i.contains(1.0)) => ChangeVerdict::Same,
            by if by > 0.0 => ChangeVerdict::Regression,
            _ => ChangeVerdict::Improvement,
        };
        let change = Change::of(Measure::Memory, (old.high, new.high), change, verdict);
        self.push(Change { one_figure_each, ..change });
    }

    fn speed(&mut self, measure: Measure, old: SpeedSummary, new: SpeedSummary) {
        let rates = |speed: SpeedSummary| Repeated {
            value: speed.tps,
            range: Interval { low: speed.slowest, high: speed.fastest },
            several: speed.repetitions > 1,
            drifted: speed.is_unsure(),
        };
        self.repeated(measure, rates(old), rates(new));
    }

    /// What was measured several times changed where the extremes do not overlap.
    fn repeated(&mut self, measure: Measure, old: Repeated, new: Repeated) {
        let interval = Interval { low: new.range.low / old.range.high, high: new.range.high / old.range.low };
        let change = Estimate { value: new.value / old.value, interval: Some(interval) };
        let verdict = match () {
            () if old.drifted || new.drifted => ChangeVerdict::Drifted,
            () if !old.several || !new.several => ChangeVerdict::Undecided,
            () if (change.value - 1.0).abs() <= measure.rounding() || interval.contains(1.0) => ChangeVerdict::Same,
            () if change.value < 1.0 => ChangeVerdict::Regression,
            () => ChangeVerdict::Improvement,
        };
        let one_figure_each = !old.several && !new.several && verdict == ChangeVerdict::Undecided;
        let [old_drifted, new_drifted] = [old, new].map(|side| side.drifted.then_some(side.range));
        let change = Change::of(measure, (old.value, new.value), change, verdict);
        self.push(Change { one_figure_each, old_drifted, new_drifted, ..change });
    }
}

/// What was measured several times in one run.
#[derive(Debug, Clone, Copy)]
struct Repeated {
    value: f64,
    /// The extremes.
    range: Interval,
    /// Whether there is more than one, so that they say something.
    several: bool,
    /// Whether the machine drifted in half of the repetitions or more.
    drifted: bool,
}

fn shape(speed: &SpeedSummary) -> (u32, u32, u32) {
    (speed.tokens, speed.depth, speed.batch)
}

#[cfg(test)]
mod tests;

//! One row of numbers a lane: perplexity, divergence, agreement, bits per byte, tasks, speed. Numbers only; how they look is the
//! matter of `sheet`, which files they go to of `export`.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::gather::{Gathered, GatheredText};
use crate::gathered::GatheredLane;
use crate::scored::pairs;
use crate::speeds::{self, EngineSpeeds, LaneSpeeds, SpeedSummary, Subject, Timed};
use crate::tasks::{self, Judgement, TaskScore};
use bitworth_eval::metrics::{AgainstMetrics, TextMetrics};
use bitworth_eval::record::{Protocol, SequenceRecord, TokenSequence};
use bitworth_eval::stats::{self, Cluster, DeltaP, Divergence, Estimate};
use bitworth_eval::tokens::TokenMetrics;

/// A lane's row. What was not measured is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The model's name.
    pub model: String,
    /// The lane's name.
    pub lane: String,
    /// The recipe, or the stored type of an unquantized model.
    pub recipe: String,
    /// Whether the others are measured against this lane.
    pub is_reference: bool,
    /// The file, if there is one.
    pub file: Option<String>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bits per weight.
    pub bpw: f64,
    /// How many weights have which type, where known.
    pub types: Option<String>,
    /// The importance matrix and its text, where one was used and is known.
    pub imatrix: Option<String>,
    /// Tensors that have another type than the recipe says, where known.
    pub fell_back: Option<u64>,
    /// Files that it is split into, where known.
    pub parts: Option<u32>,
    /// The device that ran.
    pub device: String,
    /// The arithmetic of the activations.
    pub arithmetic: String,
    /// Scored tokens behind `ppl`, `kld` and `top1`, of all texts together.
    pub tokens: u64,
    /// Scored sequences behind them: the draws of their intervals.
    pub sequences: u64,
    /// Perplexity.
    pub ppl: Option<Estimate>,
    /// Perplexity over the reference's, from the paired differences of the sequences.
    pub ppl_ratio: Option<Estimate>,
    /// KL divergence from the reference, nats per token; exactly 0 for the reference itself.
    pub kld: Option<Divergence>,
    /// Share of tokens whose most probable successor is the reference's.
    pub top1: Option<Estimate>,
    /// Change of the probability of the token that came.
    pub delta_p: Option<DeltaP>,
    /// Bits per byte of text, from the rolling pass where there is one.
    pub bits_per_byte: Option<Estimate>,
    /// Speed of taking in a prompt.
    pub prefill: Option<SpeedSummary>,
    /// Speed of making tokens.
    pub decode: Option<SpeedSummary>,
    /// What both are speeds of: the same for all lanes of a run.
    pub timed: Option<Timed>,
    /// The same of other programs, or of other models, that were timed as well.
    pub other_speeds: Vec<EngineSpeeds>,
    /// The most memory that the model took while it was timed, in bytes: the device's own where it has some, or else the
    /// process's.
    pub memory_bytes: Option<u64>,
    /// The least and the most of it over the starts of the program that timed the lane: the same where one did.
    pub memory_range: Option<(u64, u64)>,
    /// What the kept tokens of the windows say, of all texts together; `None` where some were not kept.
    pub token_metrics: Option<Box<TokenMetrics>>,
    /// Texts, by name.
    pub texts: Vec<TextScore>,
    /// Tasks, by name.
    pub tasks: Vec<TaskScore>,
}

/// A lane's figures on one text: those that [`Summary`] has over all texts together.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)] // see the fields of `Summary`
pub struct TextScore {
    /// The text's name.
    pub name: String,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// How it was cut and scored.
    pub protocol: Protocol,
    pub tokens: u64,
    pub sequences: u64,
    pub ppl: Option<Estimate>,
    pub ppl_ratio: Option<Estimate>,
    pub kld: Option<Divergence>,
    pub top1: Option<Estimate>,
    pub bits_per_byte: Option<Estimate>,
}

/// One row a lane, in the order of `gathered`.
pub fn summarize(gathered: &Gathered<'_>, judgement: Judgement) -> Vec<Summary> {
    // The tokens of a reference are laid out once for all lanes of its run.
    let mut reference: Option<(usize, Option<Vec<TokenSequence>>)> = None;
    let subjects = speeds::subjects(&gathered.lanes);
    let mut rows = Vec::with_capacity(gathered.lanes.len());
    for lane in &gathered.lanes {
        let place = gathered.reference_of(lane);
        let subject = subjects.get(&(&lane.key.model, &lane.key.device));
        let mut row = summary(lane, place.map(|i| &gathered.lanes[i]), &gathered.texts, subject);
        if let Some(place) = place.filter(|place| reference.as_ref().is_none_or(|known| known.0 != *place)) {
            reference = Some((place, kept_tokens(&gathered.lanes[place])));
        }
        row.token_metrics = kept_tokens(lane).and_then(|own| {
            let others = match place {
                Some(_) => Some(reference.as_ref()?.1.as_deref()?),
                None => None,
            };
            TokenMetrics::of(&own, others).map(Box::new)
        });
        rows.push(row);
    }
    // Lanes of other references are other families of comparisons.
    let places: BTreeSet<Option<usize>> = gathered.lanes.iter().map(|lane| gathered.reference_of(lane)).collect();
    for place in places {
        let own = rows.iter_mut().zip(&gathered.lanes).filter(|(_, lane)| gathered.reference_of(lane) == place);
        tasks::judge(own.map(|(row, _)| &mut row.tasks).collect(), judgement);
    }
    rows
}

/// The tokens of every window; `None` where there is no window or one whose tokens were not kept.
fn kept_tokens(lane: &GatheredLane<'_>) -> Option<Vec<TokenSequence>> {
    let sequence = |s: &SequenceRecord| {
        let tokens = s.kept.clone()?;
        Some(TokenSequence { sequence: s.sequence, bytes: s.bytes, first: s.protocol.first + 1, tokens })
    };
    lane.windows.all().map(sequence).collect::<Option<Vec<_>>>().filter(|sequences| !sequences.is_empty())
}

impl Summary {
    /// Whether there is a file of it, or others are measured against it: a lane on the fly can be had nowhere.
    pub fn can_be_taken(&self) -> bool {
        self.file.is_some() || self.is_reference
    }

    /// The device that its speeds are of; `None` without a speed.
    pub fn timed_on(&self) -> Option<&str> {
        let timed = self.timed.as_ref()?;
        Some(timed.device.as_deref().unwrap_or(&self.device))
    }

    /// The lane's figures on all texts together in the form in which single texts are evaluated; `None` where nothing was scored.
    pub fn text_metrics(&self) -> Option<TextMetrics> {
        let against = |delta_p| Some(AgainstMetrics { kld: self.kld?, top1_agreement: self.top1?, delta_p });
        Some(TextMetrics {
            tokens: self.tokens,
            perplexity: self.ppl?,
            bits_per_byte: self.bits_per_byte,
            against: self.delta_p.and_then(against),
        })
    }
}

fn summary(
    lane: &GatheredLane<'_>,
    reference: Option<&GatheredLane<'_>>,
    texts: &[GatheredText],
    subject: Option<&Subject>,
) -> Summary {
    let speeds = LaneSpeeds::of(&lane.speeds, &lane.key.device, subject);
    let (key, about, scored) = (&lane.key, lane.lane, lane.scored());
    let figures = Figures::of(scored.all(), about.is_reference);
    Summary {
        model: key.model.clone(),
        lane: key.lane.clone(),
        recipe: about.recipe.clone(),
        is_reference: about.is_reference,
        file: about.file.clone(),
        bytes: about.bytes,
        bpw: about.bpw,
        types: about.types.clone(),
        imatrix: about.imatrix.clone(),
        fell_back: about.fell_back,
        parts: about.parts,
        device: key.device.clone(),
        arithmetic: key.arithmetic.clone(),
        tokens: figures.tokens,
        sequences: scored.all().filter(|s| s.tokens > 0).count() as u64,
        ppl: figures.ppl,
        ppl_ratio: reference.and_then(|r| perplexity_ratio(&scored.pairs(r.scored()))),
        kld: figures.kld,
        top1: figures.top1,
        delta_p: figures.delta_p,
        bits_per_byte: bits_per_byte(lane.rolling.all()),
        prefill: speeds.own.as_ref().and_then(|own| own.prefill),
        decode: speeds.own.as_ref().and_then(|own| own.decode),
        timed: speeds.own.map(|own| own.timed),
        other_speeds: speeds.others,
        memory_bytes: speeds.memory.map(|range| range.1),
        memory_range: speeds.memory,
        token_metrics: None,
        texts: texts.iter().filter_map(|text| text_score(text, lane, reference)).collect(),
        tasks: tasks::scores(lane, reference),
    }
}

/// What sequences say of a lane by themselves and by what they recorded of the reference.
#[derive(Default)]
struct Figures {
    tokens: u64,
    ppl: Option<Estimate>,
    kld: Option<Divergence>,
    top1: Option<Estimate>,
    delta_p: Option<DeltaP>,
}

impl Figures {
    fn of<'a>(sequences: impl Iterator<Item = &'a SequenceRecord>, is_reference: bool) -> Self {
        let Some(metrics) = TextMetrics::of(&sequences.collect::<Vec<_>>()) else { return Self::default() };
        let against = metrics.against;
        Self {
            tokens: metrics.tokens,
            ppl: Some(metrics.perplexity),
            kld: if is_reference { Some(NO_DIVERGENCE) } else { against.map(|a| a.kld) },
            top1: if is_reference { Some(exactly(1.0)) } else { against.map(|a| a.top1_agreement) },
            delta_p: against.map(|a| a.delta_p),
        }
    }
}

fn bits_per_byte<'a>(sequences: impl Iterator<Item = &'a SequenceRecord>) -> Option<Estimate> {
    let cluster = |s: &SequenceRecord| Cluster { sum: s.nll_sum, count: s.bytes };
    stats::bits_per_byte(&sequences.map(cluster).collect::<Vec<_>>())
}

/// A lane's figures on one text of the pass that its perplexity is of; bits per byte are those of the rolling pass over it.
fn text_score(text: &GatheredText, lane: &GatheredLane<'_>, reference: Option<&GatheredLane<'_>>) -> Option<TextScore> {
    let own = lane.scored().of(&text.key())?;
    let others = reference.and_then(|r| r.scored().of(&text.key()));
    let figures = Figures::of(own.values().copied(), lane.lane.is_reference);
    let rolling = lane.rolling.by_text().find(|(key, _)| key.sha256 == text.sha256);
    Some(TextScore {
        name: text.name.clone(),
        sha256: text.sha256.clone(),
        protocol: text.protocol.clone(),
        tokens: figures.tokens,
        sequences: own.values().filter(|s| s.tokens > 0).count() as u64,
        ppl: figures.ppl,
        ppl_ratio: others.and_then(|others| perplexity_ratio(&pairs(own, others))),
        kld: figures.kld,
        top1: figures.top1,
        bits_per_byte: rolling.and_then(|(_, sequences)| bits_per_byte(sequences.values().copied())),
    })
}

/// A value that is known, not measured: it has no interval.
const fn exactly(value: f64) -> Estimate {
    Estimate { value, interval: None }
}

/// The divergence of the reference from itself.
const NO_DIVERGENCE: Divergence = Divergence { mean: exactly(0.0), median: 0.0, p90: 0.0, p99: 0.0, p99_9: 0.0, max: 0.0 };

/// Exp of the mean difference of negative log-likelihoods, over the sequences that both lanes have: of this one (first) and the
/// reference.
fn perplexity_ratio(pairs: &[(&SequenceRecord, &SequenceRecord)]) -> Option<Estimate> {
    let same = pairs.iter().filter(|(own, other)| own.tokens == other.tokens);
    let difference = same.map(|(own, other)| Cluster { sum: own.nll_sum - other.nll_sum, count: u64::from(own.tokens) });
    stats::perplexity(&difference.collect::<Vec<_>>())
}

/// A lane's figures on the text `name`.
pub(crate) fn text<'a>(row: &'a Summary, name: &str) -> Option<&'a TextScore> {
    row.texts.iter().find(|t| t.name == name)
}

/// The names of all texts that any lane was scored on, sorted.
pub(crate) fn text_names(rows: &[Summary]) -> Vec<String> {
    let names: BTreeSet<&String> = rows.iter().flat_map(|r| &r.texts).map(|t| &t.name).collect();
    names.into_iter().cloned().collect()
}

/// A lane's score in the task `name`.
pub(crate) fn task<'a>(row: &'a Summary, name: &str) -> Option<&'a TaskScore> {
    row.tasks.iter().find(|t| t.name == name)
}

/// The names of all tasks that any lane has, sorted.
pub(crate) fn task_names(rows: &[Summary]) -> Vec<String> {
    let names: BTreeSet<&String> = rows.iter().flat_map(|r| &r.tasks).map(|t| &t.name).collect();
    names.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summarize;
    use bitworth_eval::record::{Body, Record};
    use bitworth_eval::sample;

    fn rows() -> Vec<Summary> {
        summarize(&sample::records()).unwrap()
    }

    #[test]
    fn the_reference_diverges_from_itself_by_nothing() {
        let reference = rows().remove(0);
        assert!(reference.is_reference);
        let kld = reference.kld.unwrap();
        assert_eq!((kld.mean.value, kld.p99, kld.max), (0.0, 0.0, 0.0));
        assert_eq!((kld.mean.interval, reference.top1.unwrap().interval), (None, None), "nothing was measured");
        assert_eq!(reference.top1.unwrap().value, 1.0);
        assert_eq!((reference.ppl_ratio, reference.delta_p), (None, None));
        assert!(reference.tasks.iter().all(|t| t.against_reference.is_none()));
    }

    #[test]
    fn perplexity_ratio_is_the_ratio_of_the_perplexities() {
        let rows = rows();
        for row in &rows[1..] {
            let ratio = row.ppl.unwrap().value / rows[0].ppl.unwrap().value;
            assert!((row.ppl_ratio.unwrap().value / ratio - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn a_paired_interval_is_narrower_than_the_two_it_compares() {
        let rows = rows();
        let width = |e: Estimate| e.high().unwrap() - e.low().unwrap();
        assert!(width(rows[1].ppl_ratio.unwrap()) < 0.2 * width(rows[1].ppl.unwrap()));
    }

    #[test]
    fn bits_per_byte_are_those_of_the_rolling_pass() {
        let mut records = sample::records();
        assert_eq!(summarize(&records).unwrap()[0].bits_per_byte, None);
        let lane = rows()[0].lane.clone();
        let scored = |r: &'_ bitworth_eval::record::Record| match &r.body {
            bitworth_eval::record::Body::Sequence(s) if r.origin.lane == lane => Some(s.clone()),
            _ => None,
        };
        let windows: Vec<_> = records.iter().filter_map(scored).collect();
        let windows: Vec<_> = windows.iter().collect();
        let windows = TextMetrics::of(&windows).unwrap().bits_per_byte.unwrap().value;
        records.extend(sample::rolling(&records, 2.0));
        let rows = summarize(&records).unwrap();
        assert!((rows[0].bits_per_byte.unwrap().value / windows - 2.0).abs() < 1e-12);
        assert_eq!(rows[0].ppl, self::rows()[0].ppl, "perplexity stays that of the windows");
    }

    #[test]
    fn figures_of_several_texts_are_of_all_together_and_of_each_alone() {
        let alone = rows();
        assert_eq!(alone[3].texts.len(), 1);
        assert_eq!((alone[3].texts[0].ppl, alone[3].texts[0].kld), (alone[3].ppl, alone[3].kld), "one text is all texts");
        let mut records = sample::two_texts();
        for record in &mut records {
            if let Body::Sequence(s) = &mut record.body
                && s.text_sha256 == "00ff"
            {
                s.nll_sum *= 2.0;
            }
        }
        let rows = summarize(&records).unwrap();
        let ln = |e: Option<Estimate>| e.unwrap().value.ln();
        for (row, alone) in rows.iter().zip(&alone) {
            let [first, second] = &row.texts[..] else { panic!("{:?}", row.texts) };
            assert_eq!((first.name.as_str(), second.name.as_str()), ("637a866d", "prose"));
            assert_eq!((first.ppl, first.kld, first.top1, first.ppl_ratio), (alone.ppl, alone.kld, alone.top1, alone.ppl_ratio));
            assert_eq!((row.tokens, row.sequences), (2 * alone.tokens, 120));
            assert!((ln(second.ppl) / ln(first.ppl) - 2.0).abs() < 1e-12);
            assert!((ln(row.ppl) / ln(first.ppl) - 1.5).abs() < 1e-12);
        }
    }

    #[test]
    fn task_scores_are_shares_of_items_paired_with_the_reference() {
        for row in &rows()[1..] {
            for task in &row.tasks {
                let paired = task.against_reference.unwrap();
                assert_eq!(paired.paired.items, task.items);
                assert!(task.accuracy.interval.unwrap().contains(task.accuracy.value));
            }
        }
    }

    #[test]
    fn a_lane_alone_has_no_comparison() {
        let of_reference = |r: &Record| r.origin.lane == "bf16";
        let mut records: Vec<Record> = sample::records().into_iter().filter(of_reference).collect();
        for record in &mut records {
            if let Body::Lane(lane) = &mut record.body {
                lane.is_reference = false;
            }
        }
        let row = summarize(&records).unwrap().remove(0);
        assert!(row.ppl.is_some());
        assert_eq!((row.kld, row.top1, row.ppl_ratio), (None, None, None));
    }
}

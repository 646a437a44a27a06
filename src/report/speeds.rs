//! The speeds of a lane: which program was timed on what, the median of the timings that count, and their range.

use std::collections::BTreeMap;

use bitworth_eval::record::{OWN_ENGINE, Phase, Speed};
use bitworth_eval::stats::{self, Interval};
use serde::Serialize;

use crate::gathered::{GatheredLane, GatheredSpeed};

/// Timings of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SpeedSummary {
    /// Median over the repetitions that count, tokens per second; over those that drifted where none counts.
    pub tps: f64,
    /// The slowest repetition; of all of them, where the speed is unsure.
    pub slowest: f64,
    /// The fastest repetition; of all of them, where the speed is unsure.
    pub fastest: f64,
    /// Repetitions that count: 0 where the machine drifted in all of them, and the numbers are of those that drifted.
    pub repetitions: usize,
    /// Tokens of one repetition.
    pub tokens: u32,
    /// Tokens that stood before them, per sequence.
    pub depth: u32,
    /// Sequences at once.
    pub batch: u32,
    /// Repetitions of a machine that drifted: they are in none of the numbers, unless all are.
    pub drifted: usize,
    /// Tokens per joule, over the repetitions whose energy was counted.
    pub tokens_per_joule: Option<f64>,
    /// The least and the most of it over these repetitions.
    pub tokens_per_joule_range: Option<Interval>,
}

impl SpeedSummary {
    /// Whether the machine drifted in half of the repetitions or more: nothing should rest on such a speed.
    pub fn is_unsure(&self) -> bool {
        self.drifted > 0 && self.drifted >= self.repetitions
    }
}

/// What was timed, seen from a lane: a program, the shape of a model of random weights where not the lane itself was, and the
/// device where it is another one than that of the lane's scores.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    engine: String,
    shape: Option<String>,
    device: Option<String>,
}

impl Subject {
    /// That of a timing of a lane with scores of `device`.
    fn of(timing: &GatheredSpeed<'_>, device: &str) -> Self {
        let elsewhere = (timing.device != device).then(|| timing.device.to_owned());
        Self { engine: timing.speed.engine.clone(), shape: timing.speed.shape.clone(), device: elsewhere }
    }
}

/// What a speed is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Timed {
    /// The program, with its build and backend where it is another one.
    pub engine: String,
    /// The arithmetic of its products: `f32` or `q8`; `own` where it is another program's own business.
    pub arithmetic: String,
    /// The shape of the model of random weights that was timed in the lane's place; `None` for the lane itself.
    pub shape: Option<String>,
    /// The device that was timed, where it is another one than that of the lane's scores.
    pub device: Option<String>,
}

impl Timed {
    /// The program's name alone.
    pub fn program(&self) -> &str {
        self.engine.split(' ').next().unwrap_or(&self.engine)
    }

    /// Whether speeds of the two may be compared: the same program, whatever its build, on the same model.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.program(), &self.shape) == (other.program(), &other.shape)
    }

    /// Whether they stand in one column of a table: also on the same device, as far as that is another one than their lanes'.
    pub(crate) fn is_of_one_column(&self, other: &Self) -> bool {
        self.is_like(other) && self.device == other.device
    }
}

/// The speeds of one program on one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EngineSpeeds {
    /// What they are of.
    pub timed: Timed,
    /// Speed of taking in a prompt.
    pub prefill: Option<SpeedSummary>,
    /// Speed of making tokens.
    pub decode: Option<SpeedSummary>,
}

/// All speeds of a lane.
pub(crate) struct LaneSpeeds {
    /// Those that its run is compared by.
    pub own: Option<EngineSpeeds>,
    pub others: Vec<EngineSpeeds>,
    /// The least and the most memory while the device was timed that `own` is of.
    pub memory: Option<(u64, u64)>,
}

/// By model and device: what lanes are compared by. What most of them were timed with; of several, the device of their scores
/// before others, another program before this one, as it is the one that the files are for, and a shape before the lanes
/// themselves.
pub(crate) fn subjects<'a>(lanes: &'a [GatheredLane<'_>]) -> BTreeMap<(&'a String, &'a String), Subject> {
    let mut lanes_of: BTreeMap<(&String, &String), BTreeMap<Subject, usize>> = BTreeMap::new();
    for lane in lanes {
        let mut own: Vec<Subject> = lane.speeds.iter().map(|timing| Subject::of(timing, &lane.key.device)).collect();
        own.sort();
        own.dedup();
        let counts = lanes_of.entry((&lane.key.model, &lane.key.device)).or_default();
        own.into_iter().for_each(|subject| *counts.entry(subject).or_default() += 1);
    }
    let rank = |(subject, count): &(Subject, usize)| {
        (*count, subject.device.is_none(), subject.engine != OWN_ENGINE, subject.shape.is_some())
    };
    let most = |counts: BTreeMap<Subject, usize>| counts.into_iter().max_by_key(rank).map(|(subject, _)| subject);
    lanes_of.into_iter().filter_map(|(key, counts)| Some((key, most(counts)?))).collect()
}

impl LaneSpeeds {
    /// The timings of a lane with scores of `device`; those of `subject` are its own.
    pub fn of(timings: &[GatheredSpeed<'_>], device: &str, subject: Option<&Subject>) -> Self {
        let mut all: BTreeMap<Subject, Vec<&Speed>> = BTreeMap::new();
        timings.iter().for_each(|timing| all.entry(Subject::of(timing, device)).or_default().push(timing.speed));
        let timed_on = subject.and_then(|subject| subject.device.as_deref()).unwrap_or(device);
        let there: Vec<&Speed> = timings.iter().filter(|t| t.device == timed_on).map(|t| t.speed).collect();
        let (mut own, mut others) = (None, Vec::new());
        for (of, speeds) in all {
            // Timings in two arithmetics are not speeds of the same thing: q8 counts where there are both.
            let counted = speeds.iter().map(|speed| speed.arithmetic.as_str()).max().unwrap_or_default().to_owned();
            let speeds: Vec<&Speed> = speeds.into_iter().filter(|speed| speed.arithmetic == counted).collect();
            let is_own = Some(&of) == subject;
            let timed = Timed { engine: of.engine, arithmetic: counted, shape: of.shape, device: of.device };
            let (prefill, decode) = (speed(&speeds, Phase::Prefill), speed(&speeds, Phase::Decode));
            let speeds = EngineSpeeds { timed, prefill, decode };
            if is_own { own = Some(speeds) } else { others.push(speeds) }
        }
        Self { own, others, memory: memory(&there) }
    }
}

/// The timings of one phase. Where several shapes were timed, those of the least depth, then the smallest batch, then the most
/// tokens count, so that lanes are compared in the same shape. Timings of a machine that drifted do not count, unless there are
/// no others.
fn speed(speeds: &[&Speed], phase: Phase) -> Option<SpeedSummary> {
    let shape = |s: &Speed| (s.depth, s.batch, std::cmp::Reverse(s.tokens));
    let timed = || speeds.iter().copied().filter(|s| s.phase == phase && s.seconds > 0.0 && s.tokens > 0);
    let chosen = timed().filter(|s| !s.drifted).map(shape).min().or_else(|| timed().map(shape).min())?;
    let (drifted, kept): (Vec<&Speed>, Vec<&Speed>) = timed().filter(|s| shape(s) == chosen).partition(|s| s.drifted);
    let shown = if kept.is_empty() { &drifted } else { &kept };
    let is_unsure = !drifted.is_empty() && drifted.len() >= kept.len();
    let sorted = |mut rates: Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates
    };
    let rate = |s: &&Speed| f64::from(s.tokens) / s.seconds;
    let rates = sorted(shown.iter().map(rate).collect());
    // A range of a machine that drifted is that of all that was seen.
    let seen = if is_unsure { sorted(drifted.iter().chain(&kept).map(rate).collect()) } else { rates.clone() };
    let counted: Vec<(f64, f64)> =
        shown.iter().filter_map(|s| Some((f64::from(s.tokens), s.joules.filter(|j| *j > 0.0)?))).collect();
    let (tokens, joules) = counted.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let efficiencies = sorted(counted.iter().map(|(tokens, joules)| tokens / joules).collect());
    let range = efficiencies.first().zip(efficiencies.last()).map(|(low, high)| Interval { low: *low, high: *high });
    Some(SpeedSummary {
        tps: stats::quantile(&rates, 0.5)?,
        slowest: *seen.first()?,
        fastest: *seen.last()?,
        repetitions: kept.len(),
        tokens: chosen.2.0,
        depth: chosen.0,
        batch: chosen.1,
        drifted: drifted.len(),
        tokens_per_joule: (joules > 0.0).then(|| tokens / joules),
        tokens_per_joule_range: range,
    })
}

/// The least and the most memory over all timings, of which those of one start have one figure. A model that fits into what the
/// process had before takes none that could be told.
fn memory(speeds: &[&Speed]) -> Option<(u64, u64)> {
    let range = |of: fn(&Speed) -> Option<u64>| {
        let told = || speeds.iter().filter_map(|s| of(s)).filter(|bytes| *bytes > 0);
        told().min().zip(told().max())
    };
    range(|s| s.footprint.device_bytes).or_else(|| range(|s| s.footprint.memory_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitworth_eval::record::Footprint;

    fn speed(speeds: &[Speed], phase: Phase) -> Option<SpeedSummary> {
        super::speed(&speeds.iter().collect::<Vec<_>>(), phase)
    }

    fn memory(speeds: &[Speed]) -> Option<(u64, u64)> {
        super::memory(&speeds.iter().collect::<Vec<_>>())
    }

    fn timing(depth: u32, tokens: u32, seconds: f64) -> Speed {
        let (phase, footprint) = (Phase::Decode, Default::default());
        let (arithmetic, engine, shape) = ("q8".to_owned(), OWN_ENGINE.to_owned(), None);
        let (batch, repetition, drifted, joules) = (1, 0, false, None);
        Speed { phase, tokens, depth, batch, repetition, seconds, drifted, joules, arithmetic, engine, shape, footprint }
    }

    #[test]
    fn speed_is_the_median_of_the_shallowest_timings() {
        let speeds = [timing(0, 10, 1.0), timing(0, 10, 2.0), timing(0, 10, 4.0), timing(64, 10, 0.1), timing(0, 5, 0.1)];
        let s = speed(&speeds, Phase::Decode).unwrap();
        assert_eq!((s.tps, s.slowest, s.fastest, s.repetitions, s.tokens), (5.0, 2.5, 10.0, 3, 10));
        assert_eq!(speed(&speeds, Phase::Prefill), None);
        assert_eq!(speed(&[timing(0, 10, 0.0)], Phase::Decode), None);
        let drifted = Speed { drifted: true, ..timing(0, 10, 9.0) };
        let drifted = std::slice::from_ref(&drifted);
        let with_drifted = speed(&[&speeds[..], drifted].concat(), Phase::Decode);
        assert_eq!(with_drifted, Some(SpeedSummary { drifted: 1, ..s }));
        assert!(!with_drifted.unwrap().is_unsure());
        let alone = speed(drifted, Phase::Decode).unwrap();
        assert_eq!((alone.repetitions, alone.drifted, alone.is_unsure()), (0, 1, true));
        assert!((alone.tps - 10.0 / 9.0).abs() < 1e-12, "what drifted is shown where there is nothing else");
        let half = [drifted, &speeds[..1]].concat();
        assert!(speed(&half, Phase::Decode).unwrap().is_unsure(), "half is too much");
    }

    #[test]
    fn energy_is_that_of_the_repetitions_whose_energy_was_counted() {
        let counted = |joules| Speed { joules, ..timing(0, 10, 1.0) };
        let s = speed(&[counted(Some(4.0)), counted(None), counted(Some(1.0)), counted(Some(0.0))], Phase::Decode).unwrap();
        assert_eq!((s.tokens_per_joule, s.repetitions), (Some(4.0), 4));
        assert_eq!(s.tokens_per_joule_range, Some(Interval { low: 2.5, high: 10.0 }));
        assert_eq!(speed(&[timing(0, 10, 1.0)], Phase::Decode).unwrap().tokens_per_joule, None);
    }

    #[test]
    fn memory_is_the_most_that_was_taken_on_the_device_where_it_has_its_own() {
        let with = |memory_bytes, device_bytes| Speed {
            footprint: Footprint { load_seconds: None, memory_bytes, device_bytes },
            ..timing(0, 10, 1.0)
        };
        assert_eq!(memory(&[with(Some(7), None), with(Some(9), None), with(None, None)]), Some((7, 9)));
        assert_eq!(memory(&[with(Some(7), Some(5)), with(Some(9), None)]), Some((5, 5)));
        assert_eq!(memory(&[timing(0, 10, 1.0), with(Some(0), None)]), None);
    }

    fn by(engine: &str, shape: Option<&str>, seconds: f64) -> Speed {
        Speed { engine: engine.into(), shape: shape.map(str::to_owned), ..timing(0, 10, seconds) }
    }

    #[test]
    fn devices_do_not_mix_and_memory_is_that_of_the_one_that_counts() {
        let with = |seconds: f64, memory: u64| Speed {
            footprint: Footprint { memory_bytes: Some(memory), ..Footprint::default() },
            ..timing(0, 10, seconds)
        };
        let [here, there] = [with(1.0, 7), with(4.0, 9)];
        let all = [("here", &here), ("there", &there)].map(|(device, speed)| GatheredSpeed { device, speed });
        let own = |device: Option<&str>| {
            let subject = Subject { engine: OWN_ENGINE.into(), shape: None, device: device.map(str::to_owned) };
            let speeds = LaneSpeeds::of(&all, "here", Some(&subject));
            let own = speeds.own.unwrap();
            assert_eq!((own.timed.device.as_deref(), speeds.others.len()), (device, 1));
            assert!(!own.timed.is_of_one_column(&speeds.others[0].timed) && own.timed.is_like(&speeds.others[0].timed));
            (own.decode.unwrap().tps, speeds.memory)
        };
        assert_eq!(own(None), (10.0, Some((7, 7))));
        assert_eq!(own(Some("there")), (2.5, Some((9, 9))));
    }

    #[test]
    fn programs_and_shapes_do_not_mix() {
        let theirs = "llama-bench b1 (c), CPU";
        let all = [by(OWN_ENGINE, None, 1.0), by(theirs, None, 2.0), by(OWN_ENGINE, Some("llama-1b"), 4.0)];
        let all: Vec<GatheredSpeed<'_>> = all.iter().map(|speed| GatheredSpeed { device: "here", speed }).collect();
        let own = |engine: &str, shape: Option<&str>| {
            let subject = Subject { engine: engine.into(), shape: shape.map(str::to_owned), device: None };
            let speeds = LaneSpeeds::of(&all, "here", Some(&subject));
            (speeds.own.map(|own| own.decode.unwrap().tps), speeds.others.len())
        };
        assert_eq!(own(OWN_ENGINE, None), (Some(10.0), 2));
        assert_eq!(own(theirs, None), (Some(5.0), 2));
        assert_eq!(own(OWN_ENGINE, Some("llama-1b")), (Some(2.5), 2));
        assert_eq!(own(theirs, Some("llama-1b")), (None, 3));
        let timed = |engine: &str, shape: Option<&str>| Timed {
            engine: engine.into(),
            arithmetic: "q8".into(),
            shape: shape.map(str::to_owned),
            device: None,
        };
        assert!(timed(theirs, None).is_like(&timed("llama-bench b2 (d), CPU", None)));
        assert!(!timed(theirs, None).is_like(&timed(OWN_ENGINE, None)));
        assert!(!timed(theirs, None).is_like(&timed(theirs, Some("llama-1b"))));
    }
}

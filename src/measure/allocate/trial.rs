//! Choices judged by what they lose on a text: whether one is better than llama.cpp's mix, and how small a file may become.
//! Absent: scoring (the caller brings a [`Judge`]).

use std::sync::Arc;

use bitworth_eval::stats::Estimate;
use bitworth_quant::Recipe;
use serde_json::{Value, json};

use super::{Allocator, Candidate, Target};
use crate::error::Error;

/// How far off the size of the two neighbours is that are measured beside a choice.
const NEIGHBOUR: f64 = 0.03;
/// Walks over the text in search of a small file.
const ROUNDS: usize = 4;
/// Sizes that are tried on one walk.
const SIZES: usize = 4;
/// How far apart sizes are while no size is known that is too small, or none that is large enough.
const STEP: f64 = 0.05;
/// The sizes of what holds and of what does not are no more than this share apart where no more is tried.
const NEAR: f64 = 0.002;

/// A candidate with what was measured of it.
#[derive(Debug)]
pub struct Tried {
    /// The mix's name, `choice`, or how it differs from that.
    pub what: String,
    /// The recipe.
    pub candidate: Candidate,
    /// Mean KL divergence from the model; `None` where it was not measured.
    pub kld: Option<Estimate>,
    /// Less that of the mix, paired by window; `None` for the mix itself.
    pub against_mix: Option<Estimate>,
}

impl Tried {
    /// The head of [`Tried::line`].
    pub const HEADER: &str =
        "                          bytes     bpw predicted KLD  measured KLD                       against the mix\n";

    /// For programs.
    pub fn document(&self) -> Value {
        let Tried { what, candidate, kld, against_mix } = self;
        json!({
            "what": what, "bytes": candidate.bytes, "bpw": candidate.bpw, "predicted_kld": candidate.predicted_kld,
            "kld": kld.map(|kld| kld.value), "kld_low": kld.and_then(|kld| kld.low()), "kld_high": kld.and_then(|kld| kld.high()),
            "against_base": against_mix.map(|pair| pair.value),
            "against_base_low": against_mix.and_then(|pair| pair.low()),
            "against_base_high": against_mix.and_then(|pair| pair.high()),
        })
    }

    /// For people, under [`Tried::HEADER`].
    pub fn line(&self) -> String {
        let interval = |estimate: Option<Estimate>| match estimate {
            None => "-".to_owned(),
            Some(Estimate { value, interval: None }) => format!("{value:.6}"),
            Some(Estimate { value, interval: Some(i) }) => format!("{value:.6} ({:.6} to {:.6})", i.low, i.high),
        };
        let Candidate { bytes, bpw, predicted_kld, .. } = self.candidate;
        let predicted = predicted_kld.map_or_else(|| "-".to_owned(), |kld| format!("{kld:.6}"));
        let (kld, pair) = (interval(self.kld), interval(self.against_mix));
        format!("{:<16} {bytes:>14} {bpw:>7.3} {predicted:>13}  {kld:<34} {pair}\n", self.what)
    }
}

/// What came of a trial.
#[derive(Debug)]
pub struct Chosen {
    /// All that was tried: the mix, the choice, others.
    pub tried: Vec<Tried>,
    /// The one to take.
    pub taken: usize,
    /// Why.
    pub ruling: Ruling,
}

/// What the measured losses say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ruling {
    /// Nothing was measured: the choice is taken.
    Unmeasured,
    /// The choice surely loses less than the mix.
    Better,
    /// It does not, and the mix, which fits, is taken.
    MixTaken,
    /// It does not, and the mix is too large.
    MixTooLarge,
    /// The choice loses `kld` nats, surely at most `high`, which is within the bound.
    Holds {
        /// Mean divergence.
        kld: f64,
        /// The upper end of its interval.
        high: f64,
    },
    /// No choice that was tried holds the bound; the largest may lose this much.
    TooMuch {
        /// The upper end of its interval.
        high: f64,
    },
}

/// What candidates lost: their mean divergences, and these less the first one's.
pub type Losses = Vec<(Option<Estimate>, Option<Estimate>)>;

/// Scores candidates on one text, in one walk.
pub type Judge<'j, E> = &'j dyn Fn(&[&Candidate]) -> Result<Losses, E>;

/// A model's choices beside one of llama.cpp's mixes.
pub struct Trial<'a> {
    /// What is known of the model's units.
    pub allocator: &'a Allocator<'a>,
    /// The mix.
    pub base: &'a Arc<Recipe>,
    /// The name of the recipe that is made.
    pub name: &'a str,
}

impl Trial<'_> {
    fn choose(&self, target: Target) -> Result<Candidate, Error> {
        self.allocator.choose(target, self.base, self.name)
    }

    /// The choice of a size; with a judge also whether it is better than the mix, which is taken unless the choice surely is.
    ///
    /// # Errors
    /// A target that no choice keeps; as `judge`.
    pub fn at<E: From<Error>>(&self, target: Target, judge: Option<Judge<'_, E>>) -> Result<Chosen, E> {
        let mix = self.allocator.mix(self.base, self.name)?;
        let choice = self.choose(target)?;
        let fits = match target {
            Target::FileBytes(most) => mix.bytes <= most,
            Target::BitsPerWeight(most) => mix.bpw <= most,
            Target::Divergence(_) => true,
        };
        let mut candidates = vec![(self.base.name.clone(), mix), ("choice".to_owned(), choice)];
        let Some(judge) = judge else {
            let tried = candidates.into_iter().map(|(what, candidate)| Tried { what, candidate, kld: None, against_mix: None });
            return Ok(Chosen { tried: tried.collect(), taken: 1, ruling: Ruling::Unmeasured });
        };
        for (sign, name) in [(-1.0, "3 % smaller"), (1.0, "3 % larger")] {
            let scaled = |of: f64| of * (1.0 + sign * NEIGHBOUR);
            let target = match target {
                Target::FileBytes(bytes) => Target::FileBytes(scaled(bytes as f64) as u64),
                Target::BitsPerWeight(bpw) => Target::BitsPerWeight(scaled(bpw)),
                Target::Divergence(kld) => Target::Divergence(scaled(kld)),
            };
            // There may be nothing smaller.
            if let Ok(neighbour) = self.choose(target) {
                candidates.push((name.to_owned(), neighbour));
            }
        }
        let tried = judged(candidates, judge)?;
        let wins = tried[1].against_mix.and_then(|pair| pair.high()).is_some_and(|high| high < 0.0);
        let (taken, ruling) = match (wins, fits) {
            (true, _) => (1, Ruling::Better),
            (false, true) => (0, Ruling::MixTaken),
            (false, false) => (1, Ruling::MixTooLarge),
        };
        Ok(Chosen { tried, taken, ruling })
    }

    /// The smallest choice that surely (upper end of the interval) loses no more than `most` nats, to about 0.2 % of its size:
    /// a few sizes are tried on each walk, at first around the one that is predicted to lose so much, then between the smallest
    /// that holds and the largest below it that does not.
    ///
    /// # Errors
    /// A loss that no choice is predicted to keep; a text of one window; as `judge`.
    pub fn below<E: From<Error>>(&self, most: f64, judge: Judge<'_, E>) -> Result<Chosen, E> {
        let mix = self.allocator.mix(self.base, self.name)?;
        let start = self.choose(Target::Divergence(most))?.bytes as f64;
        let mut sizes: Vec<f64> = (0..SIZES).map(|i| start * (1.0 + STEP * (i as f64 - 1.0))).collect();
        let mut all: Vec<Tried> = Vec::new();
        let mut of_mix = None;
        for _ in 0..ROUNDS {
            let mut candidates = vec![(self.base.name.clone(), mix.clone())];
            for size in sizes {
                let Ok(candidate) = self.choose(Target::FileBytes(size as u64)) else { continue };
                let mut known = all.iter().map(|tried| &tried.candidate).chain(candidates[1..].iter().map(|(_, known)| known));
                if known.all(|known| known.text != candidate.text) {
                    candidates.push((String::new(), candidate));
                }
            }
            if candidates.len() == 1 {
                break;
            }
            let mut tried = judged(candidates, judge)?;
            of_mix = Some(tried.remove(0));
            all.extend(tried);
            all.sort_by_key(|tried| tried.candidate.bytes);
            let Some(kept) = smallest(&all, most)? else {
                let largest = all.last().map_or(start, |tried| tried.candidate.bytes as f64);
                sizes = (1..=SIZES).map(|i| largest * (1.0 + STEP * i as f64)).collect();
                continue;
            };
            let held = all[kept].candidate.bytes as f64;
            sizes = match kept.checked_sub(1).map(|below| all[below].candidate.bytes as f64) {
                None => (1..=SIZES).map(|i| held * (1.0 - STEP * i as f64)).collect(),
                Some(failed) if held - failed <= NEAR * held => break,
                Some(failed) => (1..=SIZES).map(|i| failed + (held - failed) * i as f64 / (SIZES + 1) as f64).collect(),
            };
        }
        let kept = smallest(&all, most)?;
        let taken = kept.or(all.len().checked_sub(1)).ok_or_else(|| Error::unfit("no size could be tried"))?;
        let choice = all.remove(taken);
        let (kld, high) = upper(&choice)?;
        let ruling = if kept.is_some() { Ruling::Holds { kld, high } } else { Ruling::TooMuch { high } };
        let named = |tried: Tried| {
            let what = if tried.candidate.bytes < choice.candidate.bytes { "smaller" } else { "larger" };
            Tried { what: what.to_owned(), ..tried }
        };
        let others: Vec<Tried> = all.into_iter().map(named).collect();
        let choice = Tried { what: "choice".to_owned(), ..choice };
        let tried = of_mix.into_iter().chain([choice]).chain(others).collect();
        Ok(Chosen { tried, taken: 1, ruling })
    }
}

/// The first of candidates, from small to large, that holds a bound.
fn smallest(all: &[Tried], most: f64) -> Result<Option<usize>, Error> {
    for (at, tried) in all.iter().enumerate() {
        if upper(tried)?.1 <= most {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// What a candidate lost, and the upper end of its interval.
fn upper(tried: &Tried) -> Result<(f64, f64), Error> {
    let found = tried.kld.and_then(|kld| Some((kld.value, kld.high()?)));
    let what = "one window says nothing about the spread; give a longer text or smaller windows";
    found.ok_or_else(|| Error::unfit(what))
}

fn judged<E: From<Error>>(candidates: Vec<(String, Candidate)>, judge: Judge<'_, E>) -> Result<Vec<Tried>, E> {
    let losses = judge(&candidates.iter().map(|(_, candidate)| candidate).collect::<Vec<_>>())?;
    let tried = candidates.into_iter().zip(losses);
    Ok(tried.map(|((what, candidate), (kld, against_mix))| Tried { what, candidate, kld, against_mix }).collect())
}

//! Choices judged by what they lose on a text: whether one is better than llama.cpp's mix, and how small a file may become. A
//! file that is looked for by what was measured is measured again where nothing was looked for: the smallest of many sizes that
//! holds a bound on some windows holds it there partly by chance. Absent: scoring (the caller brings a [`Judge`]).

use std::sync::Arc;

use bitworth_eval::stats::{Estimate, Interval};
use bitworth_quant::Recipe;
use serde_json::{Value, json};

use super::{Allocator, Candidate, Target};
use crate::error::Error;

/// How far off the size of the two neighbours is that are measured beside a choice.
const NEIGHBOUR: f64 = 0.03;
/// Walks over the text in search of a small file.
const ROUNDS: usize = 4;
/// Walks over the text for larger files, where none of those that were found holds on windows that none was chosen by.
const MORE_ROUNDS: usize = 2;
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
    /// What was measured; `None` where nothing was.
    pub loss: Option<Loss>,
}

/// What a candidate lost on a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// Mean KL divergence from the model, on the windows that choices are made by.
    pub kld: Estimate,
    /// The same on windows that no choice is made by; `None` where all of them are of the first kind.
    pub unseen: Option<Estimate>,
    /// Less that of the mix, paired by window; `None` for the mix itself.
    pub against_mix: Option<Estimate>,
}

impl Loss {
    /// The windows that are scored to be `unseen`: every other one, so that both halves are of the whole text.
    pub fn is_unseen(window: u32) -> bool {
        window % 2 == 1
    }
}

impl Tried {
    /// The head of [`Tried::line`].
    pub fn header() -> String {
        let [predicted, kld, pair] = ["predicted KLD", "measured KLD", "against the mix"];
        format!("{:<16} {:>14} {:>7} {predicted:<32} {kld:<32} {pair:<33} on unseen windows\n", "", "bytes", "bpw")
    }

    /// For programs.
    pub fn document(&self) -> Value {
        let Tried { what, candidate, loss } = self;
        let Candidate { bytes, bpw, predicted_kld, predicted_range, .. } = candidate;
        let mut row = json!({
            "what": what, "bytes": bytes, "bpw": bpw, "predicted_kld": predicted_kld,
            "predicted_kld_low": predicted_range.map(|range| range.low),
            "predicted_kld_high": predicted_range.map(|range| range.high),
        });
        let (pair, unseen) = (loss.and_then(|loss| loss.against_mix), loss.and_then(|loss| loss.unseen));
        for (name, estimate) in [("kld", loss.map(|loss| loss.kld)), ("against_base", pair), ("unseen_kld", unseen)] {
            row[name] = json!(estimate.map(|estimate| estimate.value));
            row[format!("{name}_low")] = json!(estimate.and_then(|estimate| estimate.low()));
            row[format!("{name}_high")] = json!(estimate.and_then(|estimate| estimate.high()));
        }
        row
    }

    /// For people, under [`Tried::header`].
    pub fn line(&self) -> String {
        let text = |estimate: Option<Estimate>| match estimate {
            None => "-".to_owned(),
            Some(Estimate { value, interval: None }) => format!("{value:.6}"),
            Some(Estimate { value, interval: Some(i) }) => format!("{value:.6} ({:.6} to {:.6})", i.low, i.high),
        };
        let Candidate { bytes, bpw, predicted_kld, predicted_range: interval, .. } = self.candidate;
        let predicted = text(predicted_kld.map(|value| Estimate { value, interval }));
        let (kld, pair) = (text(self.loss.map(|loss| loss.kld)), text(self.loss.and_then(|loss| loss.against_mix)));
        let unseen = text(self.loss.and_then(|loss| loss.unseen));
        format!("{:<16} {bytes:>14} {bpw:>7.3} {predicted:<32} {kld:<32} {pair:<33} {unseen}\n", self.what)
    }

    /// The upper ends of what it lost on windows that choices are made by, and of what it lost on others.
    fn upper(&self) -> Result<(f64, Interval), Error> {
        let found = self.loss.and_then(|loss| Some((loss.kld.high()?, loss.unseen?.interval?)));
        let what = "one window says nothing about the spread; give a longer text or smaller windows";
        found.ok_or_else(|| Error::unfit(what))
    }

    /// Whether it surely loses no more than this, by the windows that choices are made by.
    fn seems_to_hold(&self, most: f64) -> Result<bool, Error> {
        Ok(self.upper()?.0 <= most)
    }

    /// The same by the others, too.
    fn holds(&self, most: f64) -> Result<bool, Error> {
        let (seen, unseen) = self.upper()?;
        Ok(seen <= most && unseen.high <= most)
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
    /// What is taken loses `kld` nats on windows that it was not chosen by, surely at most `high`, which is within the bound.
    Holds {
        /// Mean divergence.
        kld: f64,
        /// The upper end of its interval.
        high: f64,
    },
    /// Nothing that was tried holds the bound, and nothing is to be taken; the largest may lose this much.
    TooMuch {
        /// The upper end of the interval, on the windows where that is larger.
        high: f64,
    },
}

impl Ruling {
    /// Whether there is anything to take.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::TooMuch { .. })
    }
}

/// What candidates lost, in their order.
pub type Losses = Vec<Loss>;

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
            Target::FileBytes(most) => self.allocator.file_bytes(&mix) <= most,
            Target::BitsPerWeight(most) => mix.bpw <= most,
            Target::Divergence(_) => true,
        };
        let mut candidates = vec![(self.base.name.clone(), mix), ("choice".to_owned(), choice)];
        let Some(judge) = judge else {
            let tried = candidates.into_iter().map(|(what, candidate)| Tried { what, candidate, loss: None });
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
        let wins = tried[1].loss.and_then(|loss| loss.against_mix?.high()).is_some_and(|high| high < 0.0);
        let (taken, ruling) = match (wins, fits) {
            (true, _) => (1, Ruling::Better),
            (false, true) => (0, Ruling::MixTaken),
            (false, false) => (1, Ruling::MixTooLarge),
        };
        Ok(Chosen { tried, taken, ruling })
    }

    /// The smallest choice that surely (upper end of the interval) loses no more than `most` nats, to about 0.2 % of its size:
    /// a few sizes are tried on each walk, at first around the one that is predicted to lose so much, then between the smallest
    /// that seems to hold and the largest below it that does not. The judge must keep windows unseen: what seems to hold must
    /// hold on those, too, or else the next larger one that was tried, or else larger ones, are asked. The mix is taken where it
    /// holds and is no larger. Nothing is taken where nothing holds ([`Ruling::TooMuch`]); the largest stands second then.
    ///
    /// # Errors
    /// A loss that no choice is predicted to keep; a text of too few windows; as `judge`.
    pub fn below<E: From<Error>>(&self, most: f64, judge: Judge<'_, E>) -> Result<Chosen, E> {
        let mix = self.allocator.mix(self.base, self.name)?;
        let start = self.choose(Target::Divergence(most))?.bytes as f64;
        let mut sizes: Vec<f64> = (0..SIZES).map(|i| start * (1.0 + STEP * (i as f64 - 1.0))).collect();
        let mut all: Vec<Tried> = Vec::new();
        let (mut of_mix, mut grows) = (None, false);
        for round in 0..ROUNDS + MORE_ROUNDS {
            let mut candidates = vec![(self.base.name.clone(), mix.clone())];
            for size in sizes {
                let Ok(candidate) = self.choose(Target::FileBytes(size as u64)) else { continue };
                let mut known = all.iter().map(|tried| &tried.candidate).chain(candidates[1..].iter().map(|(_, known)| known));
                if known.all(|known| known.text != candidate.text) {
                    candidates.push((String::new(), candidate));
                }
            }
            if candidates.len() == 1 {
                // Nothing is left between those that were tried; larger ones may still hold.
                if grows || first(&all, |tried| tried.holds(most))?.is_some() {
                    break;
                }
                (sizes, grows) = (larger(&all, start), true);
                continue;
            }
            let mut tried = judged(candidates, judge)?;
            of_mix = Some(tried.remove(0));
            all.extend(tried);
            all.sort_by_key(|tried| tried.candidate.bytes);
            let holds = first(&all, |tried| tried.holds(most))?.is_some();
            let Some(kept) = first(&all, |tried| tried.seems_to_hold(most))? else {
                (sizes, grows) = (larger(&all, start), true);
                continue;
            };
            let held = all[kept].candidate.bytes as f64;
            let failed = kept.checked_sub(1).map(|below| all[below].candidate.bytes as f64);
            let searched = round + 1 >= ROUNDS || failed.is_some_and(|failed| held - failed <= NEAR * held);
            grows = searched && !holds;
            sizes = match failed {
                _ if grows => larger(&all, start),
                _ if searched => break,
                None => (1..=SIZES).map(|i| held * (1.0 - STEP * i as f64)).collect(),
                Some(failed) => (1..=SIZES).map(|i| failed + (held - failed) * i as f64 / (SIZES + 1) as f64).collect(),
            };
        }
        let of_mix = of_mix.ok_or_else(|| Error::unfit("no size could be tried"))?;
        let kept = first(&all, |tried| tried.holds(most))?;
        let taken = kept.or(all.len().checked_sub(1)).ok_or_else(|| Error::unfit("no size could be tried"))?;
        let choice = all.remove(taken);
        let mix_taken = of_mix.holds(most)? && (kept.is_none() || of_mix.candidate.bytes <= choice.candidate.bytes);
        let best = if mix_taken { &of_mix } else { &choice };
        let unseen = best.loss.and_then(|loss| loss.unseen).map_or(f64::NAN, |unseen| unseen.value);
        let (seen_high, unseen_high) = best.upper().map(|(seen, unseen)| (seen, unseen.high))?;
        let ruling = match kept.is_some() || mix_taken {
            true => Ruling::Holds { kld: unseen, high: unseen_high },
            false => Ruling::TooMuch { high: seen_high.max(unseen_high) },
        };
        let named = |tried: Tried| {
            let what = if tried.candidate.bytes < choice.candidate.bytes { "smaller" } else { "larger" };
            Tried { what: what.to_owned(), ..tried }
        };
        let others: Vec<Tried> = all.into_iter().map(named).collect();
        let choice = Tried { what: "choice".to_owned(), ..choice };
        let tried = [of_mix, choice].into_iter().chain(others).collect();
        Ok(Chosen { tried, taken: usize::from(!mix_taken), ruling })
    }
}

/// Sizes above all that were tried.
fn larger(all: &[Tried], start: f64) -> Vec<f64> {
    let largest = all.last().map_or(start, |tried| tried.candidate.bytes as f64);
    (1..=SIZES).map(|i| largest * (1.0 + STEP * i as f64)).collect()
}

/// The first of candidates, from small to large, that something is true of.
fn first(all: &[Tried], is_true: impl Fn(&Tried) -> Result<bool, Error>) -> Result<Option<usize>, Error> {
    for (at, tried) in all.iter().enumerate() {
        if is_true(tried)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn judged<E: From<Error>>(candidates: Vec<(String, Candidate)>, judge: Judge<'_, E>) -> Result<Vec<Tried>, E> {
    let losses = judge(&candidates.iter().map(|(_, candidate)| candidate).collect::<Vec<_>>())?;
    let tried = candidates.into_iter().zip(losses);
    Ok(tried.map(|((what, candidate), loss)| Tried { what, candidate, loss: Some(loss) }).collect())
}

//! Which choices are worth having, and which one meets a need. Pure functions of [`Choice`]s.
//!
//! Within one model quality is the divergence; across models it is the task score that is expected after it. Differences nobody
//! would notice ([`Yardstick::notable`]) do not decide: the faster one wins.

use bitworth_quant::message::{Message, Setting};
use bitworth_report::number::plain;
use bitworth_report::pareto::beats;
use serde::Serialize;

use super::choice::Choice;
use super::settings::{CONTEXT, MAX_KLD, MIN_TPS};

/// What the machine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Conversation: the smartest that is no slower than people read.
    #[default]
    Chat,
    /// Programming: little loss, quick answers, long prompts taken in within a minute.
    Code,
    /// Many documents, nobody waits: the most work done.
    Batch,
}

impl Use {
    /// Every use by its name.
    pub const ALL: [(&str, Self); 3] = [("chat", Self::Chat), ("code", Self::Code), ("batch", Self::Batch)];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, u)| *u == self).map_or("", |(name, _)| name)
    }

    /// Tokens per second where none are asked for. Chat: silent reading at 238 words a minute (Brysbaert 2019) with 1.3 tokens a
    /// word. Code: four times that, for answers that are skimmed.
    fn min_tps(self) -> f64 {
        match self {
            Self::Chat => 5.0,
            Self::Code => 20.0,
            Self::Batch => 0.0,
        }
    }

    /// Divergence where none is asked for: programs break by single tokens, and at 0.05 about one in ten is another one.
    fn max_kld(self) -> f64 {
        if self == Self::Code { 0.05 } else { f64::INFINITY }
    }

    /// Seconds for taking in half a context.
    fn max_wait(self) -> f64 {
        if self == Self::Code { 60.0 } else { f64::INFINITY }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Needs {
    /// What for.
    pub purpose: Use,
    /// Tokens of context that must fit.
    pub context: u32,
    /// Tokens per second while decoding.
    pub min_tps: Option<f64>,
    /// Mean divergence, nats per token.
    pub max_kld: Option<f64>,
}

impl Needs {
    fn tps(&self) -> f64 {
        self.min_tps.unwrap_or(self.purpose.min_tps())
    }

    fn kld(&self) -> f64 {
        self.max_kld.unwrap_or(self.purpose.max_kld())
    }

    fn is_met(&self, choice: &Choice) -> bool {
        let wait = choice.prefill.map_or(0.0, |prefill| f64::from(self.context / 2) / prefill.tps);
        self.is_met_as_stated(choice)
            && choice.decode.tps >= self.tps()
            && choice.loss.kld.value <= self.kld()
            && wait <= self.purpose.max_wait()
    }

    /// What of it a choice does not meet, in words.
    fn obstacle(&self, choice: &Choice) -> String {
        if !choice.fits() {
            let gib = |bytes: u64| small(bytes as f64 / (1u64 << 30) as f64);
            let most = choice.room.raised.unwrap_or(choice.room.usable);
            return format!("does not fit ({} GiB of {})", gib(choice.room.needed), gib(most));
        }
        if choice.decode.tps < self.tps() {
            return format!("reaches {} tok/s of {}", small(choice.decode.tps), small(self.tps()));
        }
        if choice.loss.kld.value > self.kld() {
            return format!("diverges by {} (at most {})", small(choice.loss.kld.value), small(self.kld()));
        }
        "takes too long over prompts".to_owned()
    }

    /// The needs the user stated, without those that follow from the purpose.
    fn is_met_as_stated(&self, choice: &Choice) -> bool {
        choice.fits()
            && self.min_tps.is_none_or(|min| choice.decode.tps >= min)
            && self.max_kld.is_none_or(|max| choice.loss.kld.value <= max)
    }
}

/// What quality is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Yardstick {
    /// Divergence: one model.
    Divergence,
    /// Expected task score: several models.
    Accuracy,
}

impl Yardstick {
    /// The one for these choices.
    pub fn of(choices: &[Choice]) -> Self {
        let one_model = choices.windows(2).all(|pair| pair[0].model == pair[1].model);
        if one_model { Self::Divergence } else { Self::Accuracy }
    }

    /// How good a choice is, more is better; `None` for a model without a published score.
    pub fn merit(self, choice: &Choice) -> Option<f64> {
        match self {
            Self::Divergence => Some(-choice.loss.kld.value),
            Self::Accuracy => choice.accuracy.as_ref().map(|a| a.value),
        }
    }

    /// Differences below this nobody notices: what separates 6 bits from 16, or a tenth of a point.
    pub fn notable(self) -> f64 {
        match self {
            Self::Divergence => 0.006,
            Self::Accuracy => 0.001,
        }
    }

    /// How good a choice is, in words.
    pub fn words(self, choice: &Choice) -> String {
        match (self, &choice.accuracy) {
            (Self::Accuracy, Some(accuracy)) => format!("{:.1} % expected in MMLU", 100.0 * accuracy.value),
            _ => format!("KLD {}", small(choice.loss.kld.value)),
        }
    }
}

/// The choice that meets the needs best.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pick {
    /// Its place among the choices.
    pub choice: usize,
    /// Whether all that the purpose implies is met, too; if not, it is the nearest to it.
    pub meets_purpose: bool,
    /// Why, in a sentence.
    pub reason: String,
}

/// The best of those choices that `of` lets through; `None` where no choice meets what was stated.
pub fn pick(choices: &[Choice], needs: &Needs, of: impl Fn(&Choice) -> bool) -> Option<Pick> {
    let yardstick = Yardstick::of(choices);
    let able = |met: &dyn Fn(&Choice) -> bool| -> Vec<usize> {
        let wanted = |i: &usize| of(&choices[*i]) && met(&choices[*i]) && yardstick.merit(&choices[*i]).is_some();
        (0..choices.len()).filter(wanted).collect()
    };
    let full = able(&|c| needs.is_met(c));
    if full.is_empty() {
        let stated = able(&|c| needs.is_met_as_stated(c));
        let choice = stated.into_iter().max_by(|a, b| choices[*a].decode.tps.total_cmp(&choices[*b].decode.tps))?;
        let what = format!("nothing here is all that {} wants; this is the fastest of what was asked for", needs.purpose.name());
        let reason = reason(&choices[choice], needs, yardstick, &what) + ".";
        return Some(Pick { choice, meets_purpose: false, reason });
    }
    let merit = |i: usize| yardstick.merit(&choices[i]).unwrap_or(f64::NEG_INFINITY);
    let best = if needs.purpose == Use::Batch {
        let work = |i: usize| choices[i].decode.tps * quality(&choices[i], yardstick);
        full.iter().copied().max_by(|a, b| work(*a).total_cmp(&work(*b)))?
    } else {
        let top = full.iter().map(|i| merit(*i)).fold(f64::NEG_INFINITY, f64::max);
        let equals = full.iter().copied().filter(|i| merit(*i) >= top - yardstick.notable());
        equals.max_by(|a, b| choices[*a].decode.tps.total_cmp(&choices[*b].decode.tps))?
    };
    let what = match needs.purpose {
        Use::Batch => "the most tokens per second times quality",
        _ if full.len() == 1 => "the only one that meets the needs",
        _ => "the smartest that meets the needs, of equals the fastest",
    };
    let mut reason = reason(&choices[best], needs, yardstick, what);
    // What would be smarter, and what stands in its way.
    let smarter = (0..choices.len()).filter(|i| of(&choices[*i]) && merit(*i) > merit(best) + yardstick.notable());
    if let Some(missed) =
        smarter.filter(|i| !needs.is_met(&choices[*i])).max_by(|a, b| merit(*a).total_cmp(&merit(*b)).then(b.cmp(a)))
    {
        reason += &format!("; {} would be smarter, but {}", choices[missed].title(), needs.obstacle(&choices[missed]));
    }
    Some(Pick { choice: best, meets_purpose: true, reason: reason + "." })
}

/// What a choice is worth in work done: what it knows beyond guessing.
fn quality(choice: &Choice, yardstick: Yardstick) -> f64 {
    match (yardstick, &choice.accuracy) {
        (Yardstick::Accuracy, Some(accuracy)) => (accuracy.value - super::quality::scores::CHANCE).max(0.0),
        _ => super::quality::scores::kept(choice.loss.kld.value),
    }
}

fn reason(choice: &Choice, needs: &Needs, yardstick: Yardstick, what: &str) -> String {
    let mut text = format!("{}: {what} ({}, {})", choice.title(), yardstick.words(choice), speed(&choice.decode));
    if choice.decode.low < needs.tps() && choice.decode.tps >= needs.tps() {
        text += &format!("; the low end of the forecast misses {} tok/s", small(needs.tps()));
    }
    if let Some(remedy) = &choice.room.remedy {
        text += &format!("; {remedy}");
    }
    text
}

/// `12.1 tok/s (10.4 to 13.9)`.
pub fn speed(rate: &super::speed::Forecast) -> String {
    format!("{} tok/s ({} to {})", small(rate.tps), small(rate.low), small(rate.high))
}

/// Three significant digits at most, without an exponent.
pub fn small(value: f64) -> String {
    plain(value, 3)
}

/// For every choice whether it is on its machine's Pareto front: no other that fits there is at least as fast and as good, and
/// better in one. Choices that do not fit, and models without a score beside others, are not.
pub fn front(choices: &[Choice]) -> Vec<bool> {
    let yardstick = Yardstick::of(choices);
    // As costs, of which less is better.
    let costs = |c: &Choice| yardstick.merit(c).filter(|_| c.fits()).map(|merit| [-c.decode.tps, -merit]);
    let on_front = |c: &Choice| {
        let same = choices.iter().filter(|d| d.machine == c.machine);
        costs(c).is_some_and(|own| !same.filter_map(costs).any(|other| beats(&other, &own)))
    };
    choices.iter().map(on_front).collect()
}

/// A need to relax, and how far.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Relaxation {
    /// What to ask for instead: `min_tps 7.3`.
    pub instead: Vec<Message>,
    /// What then meets the needs: its place among the choices.
    pub choice: usize,
}

/// What to relax where no choice meets the stated needs: each single need that is enough, else the two that it takes.
pub fn relaxations(choices: &[Choice], needs: &Needs) -> Vec<Relaxation> {
    let slower = |c: &Choice| needs.min_tps.filter(|min| c.decode.tps < *min);
    let lossier = |c: &Choice| needs.max_kld.filter(|max| c.loss.kld.value > *max);
    // A smaller context is no slower: the forecast at the one asked for holds.
    let longer = |c: &Choice| (!c.fits()).then_some(c.room.largest_context);
    let tps = |c: &Choice| slower(c).map(|_| MIN_TPS.with(round(c.decode.tps, f64::floor)));
    let kld = |c: &Choice| lossier(c).map(|_| MAX_KLD.with(round(c.loss.kld.value, f64::ceil)));
    let context = |c: &Choice| longer(c).map(|tokens| CONTEXT.with(tokens));
    // How far a choice is from the needs, and in how many.
    let far = |c: &Choice| {
        let ratios = [
            slower(c).map(|min| min / c.decode.tps),
            lossier(c).map(|max| c.loss.kld.value / max.max(1e-6)),
            longer(c).map(|tokens| f64::from(needs.context) / f64::from(tokens)),
        ];
        let logs: Vec<f64> = ratios.into_iter().flatten().map(f64::ln).collect();
        (logs.len(), logs.iter().sum::<f64>())
    };
    let mut found: Vec<(usize, f64, Relaxation)> = Vec::new();
    for (choice, c) in choices.iter().enumerate() {
        if longer(c) == Some(0) {
            continue;
        }
        let (count, distance) = far(c);
        let instead = [tps(c), kld(c), context(c)].into_iter().flatten().collect();
        found.push((count, distance, Relaxation { instead, choice }));
    }
    let fewest = found.iter().map(|f| f.0).min().unwrap_or(0);
    found.retain(|f| f.0 == fewest && fewest > 0);
    found.sort_by(|a, b| a.1.total_cmp(&b.1));
    // The nearest choice for each set of needs.
    let mut kept: Vec<Relaxation> = Vec::new();
    let kinds = |r: &Relaxation| -> Vec<Setting> { r.instead.iter().flat_map(Message::settings).collect() };
    for (_, _, relaxation) in found {
        if kept.iter().all(|other| kinds(other) != kinds(&relaxation)) {
            kept.push(relaxation);
        }
    }
    kept
}

/// Two significant digits, rounded by `to`, so that what is suggested is really met.
fn round(value: f64, to: fn(f64) -> f64) -> f64 {
    if value <= 0.0 {
        return 0.0;
    }
    let digits = 1 - value.log10().floor() as i32;
    // Dividing by a power of ten gives the decimal that prints short, multiplying by its inverse would not.
    if digits >= 0 { to(value * 10f64.powi(digits)) / 10f64.powi(digits) } else { to(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::sample::{choice, too_large};

    fn needs(min_tps: Option<f64>, max_kld: Option<f64>) -> Needs {
        Needs { purpose: Use::Chat, context: 8192, min_tps, max_kld }
    }

    fn ladder() -> Vec<Choice> {
        vec![
            too_large(choice("a", "m", "f16", 3.0, 0.0, None), 0),
            too_large(choice("a", "m", "q8_0", 5.5, 0.001, None), 2048),
            choice("a", "m", "q6_k", 7.0, 0.005, None),
            choice("a", "m", "q4_k_m", 10.0, 0.03, None),
            choice("a", "m", "q4_0", 9.5, 0.07, None),
            choice("a", "m", "q2_k", 14.0, 0.44, None),
        ]
    }

    #[track_caller]
    fn check_pick(choices: &[Choice], needs: &Needs, expected: Option<&str>) -> Option<Pick> {
        let found = pick(choices, needs, |_| true);
        assert_eq!(found.as_ref().map(|p| choices[p.choice].recipe.as_str()), expected, "{found:?}");
        found
    }

    #[test]
    fn the_smartest_that_meets_the_needs_is_picked() {
        let all = ladder();
        check_pick(&all, &needs(None, None), Some("q6_k"));
        check_pick(&all, &needs(Some(9.0), None), Some("q4_k_m"));
        check_pick(&all, &needs(Some(12.0), None), Some("q2_k"));
        check_pick(&all, &needs(Some(12.0), Some(0.1)), None);
        let batch = Needs { purpose: Use::Batch, ..needs(None, None) };
        check_pick(&all, &batch, Some("q2_k"));
    }

    #[test]
    fn what_nobody_can_tell_apart_is_decided_by_speed() {
        let all = [choice("a", "m", "f16", 8.0, 0.0, None), choice("a", "m", "q8_0", 15.0, 0.001, None)];
        check_pick(&all, &needs(None, None), Some("q8_0"));
    }

    #[test]
    fn what_would_be_smarter_is_said_with_what_stands_in_its_way() {
        let reason = |choices: &[Choice], needs: &Needs, recipe| check_pick(choices, needs, Some(recipe)).unwrap().reason;
        let text = reason(&ladder(), &needs(Some(9.0), None), "q4_k_m");
        assert!(text.ends_with("; m f16 would be smarter, but does not fit (30.0 GiB of 20.0)."), "{text}");
        let text = reason(&ladder()[2..], &needs(Some(9.0), None), "q4_k_m");
        assert!(text.ends_with("; m q6_k would be smarter, but reaches 7.00 tok/s of 9.00."), "{text}");
        assert!(!reason(&ladder()[2..], &needs(None, None), "q6_k").contains("would be"));
    }

    #[test]
    fn a_low_end_that_misses_the_need_is_said() {
        let found = check_pick(&ladder(), &needs(Some(9.8), None), Some("q4_k_m")).unwrap();
        assert!(found.reason.contains("low end of the forecast misses 9.80 tok/s"), "{}", found.reason);
        let found = check_pick(&ladder(), &needs(Some(8.0), None), Some("q4_k_m")).unwrap();
        assert!(!found.reason.contains("misses"), "{}", found.reason);
    }

    #[test]
    fn a_purpose_that_nothing_serves_is_no_contradiction() {
        let code = Needs { purpose: Use::Code, ..needs(None, None) };
        let found = check_pick(&ladder(), &code, Some("q2_k")).unwrap();
        assert!(!found.meets_purpose && found.reason.contains("code"), "{found:?}");
    }

    #[test]
    fn models_are_compared_by_their_scores_and_left_out_without_one() {
        let all = [
            choice("a", "small", "q8_0", 50.0, 0.001, Some(0.66)),
            choice("a", "large", "q4_k_m", 8.0, 0.03, Some(0.79)),
            choice("a", "unknown", "q8_0", 90.0, 0.0, None),
        ];
        assert_eq!(Yardstick::of(&all), Yardstick::Accuracy);
        check_pick(&all, &needs(None, None), Some("q4_k_m"));
        check_pick(&all, &needs(Some(20.0), None), Some("q8_0"));
        assert_eq!(front(&all), [true, true, false]);
    }

    #[test]
    fn the_front_is_by_machine_and_leaves_out_what_does_not_fit() {
        assert_eq!(front(&ladder()), [false, false, true, true, false, true]);
        let mut both = ladder();
        both.push(choice("b", "m", "q4_0", 9.5, 0.07, None));
        assert!(front(&both)[6]);
    }

    #[test]
    fn each_need_that_is_enough_to_relax_is_named_with_how_far() {
        let all = ladder();
        let asked = needs(Some(12.0), Some(0.1));
        let found = relaxations(&all, &asked);
        let instead: Vec<_> = found.iter().flat_map(|r| &r.instead).map(Message::to_string).collect();
        assert_eq!((found.len(), instead), (2, vec!["min_tps 10".to_owned(), "max_kld 0.44".to_owned()]));
        // What is suggested is met.
        assert!(pick(&all, &needs(Some(10.0), Some(0.1)), |_| true).is_some());
        assert!(pick(&all, &needs(Some(12.0), Some(0.44)), |_| true).is_some());
    }

    #[test]
    fn a_context_that_is_too_long_is_shortened_to_what_fits() {
        let all = [too_large(choice("a", "m", "q8_0", 5.5, 0.001, None), 2048)];
        let found = relaxations(&all, &needs(Some(5.0), None));
        assert_eq!(found[0].instead, [CONTEXT.with(2048)]);
        assert!(relaxations(&[too_large(all[0].clone(), 0)], &needs(None, None)).is_empty());
    }

    #[test]
    fn two_needs_are_relaxed_where_one_is_not_enough() {
        let all = [choice("a", "m", "q4_k_m", 10.37, 0.0312, None)];
        let found = relaxations(&all, &needs(Some(20.0), Some(0.01)));
        assert_eq!(found[0].instead, [MIN_TPS.with(10), MAX_KLD.with(0.032)]);
    }

    #[test]
    fn suggested_numbers_are_on_the_safe_side() {
        assert_eq!([9.99, 10.37, 0.0449, 123.4].map(|v| round(v, f64::floor)), [9.9, 10.0, 0.044, 123.0]);
        assert_eq!([0.0312, 0.44, 0.0].map(|v| round(v, f64::ceil)), [0.032, 0.44, 0.0]);
    }
}

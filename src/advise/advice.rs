//! The advice: every choice with its place on the front, the pick for each machine, where machines overtake each other. Assembled
//! from [`Choice`]s; rendered by `report`, printed by `cli`.

use bitworth_quant::message::{Message, Names};
use bitworth_quant::{Error, Result};
use serde::Serialize;

use super::choice::{Choice, FitVerdict};
use super::overtake::{self, Contest};
use super::quality::Basis;
use super::rank::{self, Needs, Pick, Yardstick};
use super::request::AdviceRequest;
use super::settings::{CONTEXT, MAX_KLD, MIN_TPS};

/// A machine's pick.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MachinePick {
    /// The machine.
    pub machine: String,
    /// The pick; `None` where nothing meets the needs.
    pub pick: Option<Pick>,
    /// The pick in a sentence, or why there is none.
    pub sentence: Message,
}

/// Two machines against each other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MachineComparison {
    /// Who leads at which speed.
    pub contest: Contest,
    /// The same in sentences.
    pub sentences: Vec<String>,
}

/// The advice.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// What was asked.
    pub request: AdviceRequest,
    /// The needs it comes to.
    pub needs: Needs,
    /// What quality is measured by.
    pub yardstick: Yardstick,
    /// Every choice: by machine, model and recipe in the order of the request.
    pub choices: Vec<Choice>,
    /// For every choice whether it is on its machine's front.
    pub front: Vec<bool>,
    /// The best pick over all machines.
    pub best: Pick,
    /// The pick for each machine.
    pub picks: Vec<MachinePick>,
    /// Each pair of machines.
    pub comparisons: Vec<MachineComparison>,
    /// What has to be known beside the numbers, in sentences.
    pub notes: Vec<String>,
}

impl Advice {
    /// Ranks `choices`.
    ///
    /// # Errors
    /// [`Error::Settings`] where no choice meets the stated needs, saying which to relax and how far.
    pub fn new(request: AdviceRequest, needs: Needs, machines: &[String], choices: Vec<Choice>) -> Result<Self> {
        let best = rank::pick(&choices, &needs, |_| true);
        let Some(best) = best else { return Err(contradiction(&choices, &needs)) };
        let yardstick = Yardstick::of(&choices);
        let picks = machines.iter().map(|machine| machine_pick(&choices, &needs, machine)).collect();
        let mut comparisons = Vec::new();
        for (i, first) in machines.iter().enumerate() {
            for second in &machines[i + 1..] {
                if let Some(contest) = overtake::contest(&choices, first, second) {
                    let sentences = contest.sentences(&choices);
                    comparisons.push(MachineComparison { contest, sentences });
                }
            }
        }
        let front = rank::front(&choices);
        let notes = notes(&choices, yardstick, needs.context);
        Ok(Self { request, needs, yardstick, front, best, picks, comparisons, notes, choices })
    }

    /// The same advice with the names that `name` gives to settings.
    #[must_use]
    pub fn named(mut self, name: Names<'_>) -> Self {
        for pick in &mut self.picks {
            pick.sentence = pick.sentence.named(name);
        }
        self
    }
}

fn machine_pick(choices: &[Choice], needs: &Needs, machine: &str) -> MachinePick {
    let pick = rank::pick(choices, needs, |choice| choice.machine == machine);
    let sentence = match &pick {
        Some(pick) => format!("{machine}: {}", pick.reason).into(),
        None => {
            let ours: Vec<Choice> = choices.iter().filter(|c| c.machine == machine).cloned().collect();
            let relax = rank::relaxations(&ours, needs);
            Message::from(format!("{machine}: nothing meets the needs")).then(alternatives(&ours, &relax)).then(".")
        }
    };
    MachinePick { machine: machine.to_owned(), pick, sentence }
}

/// `; it takes A (gets X) or B (gets Y)`.
fn alternatives(choices: &[Choice], relax: &[rank::Relaxation]) -> Message {
    let one = |r: &rank::Relaxation| {
        let c = &choices[r.choice];
        let (speed, kld) = (rank::speed(&c.decode), rank::small(c.loss.kld.value));
        let then = format!(" ({} on {}: {speed}, KLD {kld})", c.title(), c.machine);
        Message::joined(r.instead.iter().cloned(), " and ").then(then)
    };
    match relax {
        [] => "; nothing here fits at any context".into(),
        _ => Message::from("; relax to ").then(Message::joined(relax.iter().map(one), ", or to ")),
    }
}

fn contradiction(choices: &[Choice], needs: &Needs) -> Error {
    let mut stated = Vec::new();
    if let Some(tps) = needs.min_tps {
        stated.push(MIN_TPS.with(tps));
    }
    if let Some(kld) = needs.max_kld {
        stated.push(MAX_KLD.with(kld));
    }
    stated.push(CONTEXT.with(needs.context));
    let relax = rank::relaxations(choices, needs);
    let scoreless = relax.is_empty() && choices.iter().any(Choice::fits);
    let what = if scoreless {
        let models: Vec<&str> = models(choices).into_iter().filter(|m| has_no_score(choices, m)).collect();
        let models = models.join(", ");
        format!("no published score compares {models}; ask for one model at a time, or add scores to configs/scores").into()
    } else {
        Message::from("nothing meets all needs at once").then(alternatives(choices, &relax))
    };
    Error::Settings { settings: Message::joined(stated, " "), what }
}

fn models(choices: &[Choice]) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for choice in choices {
        if !found.contains(&choice.model.as_str()) {
            found.push(&choice.model);
        }
    }
    found
}

fn has_no_score(choices: &[Choice], model: &str) -> bool {
    choices.iter().any(|c| c.model == model && c.accuracy.is_none())
}

fn notes(choices: &[Choice], yardstick: Yardstick, context: u32) -> Vec<String> {
    let mut notes = Vec::new();
    let estimated = choices.iter().filter(|c| c.loss.kld.basis == Basis::Estimated).count();
    if estimated > 0 {
        notes.push(format!(
            "{estimated} of {} divergences are estimates (~): none is published for that model under that recipe.",
            choices.len()
        ));
    }
    let without: Vec<&str> = models(choices).into_iter().filter(|m| has_no_score(choices, m)).collect();
    if yardstick == Yardstick::Accuracy && !without.is_empty() {
        notes.push(format!("No published score: {} cannot be compared with other models and is not picked.", without.join(", ")));
    }
    for model in models(choices) {
        let trained = choices.iter().find(|c| c.model == model).map_or(0, |c| c.trained_context);
        if trained > 0 && trained < context {
            notes.push(format!(
                "{model} was trained for {trained} tokens of context: {context} take stretching its positions, with losses that \
                 are not counted here."
            ));
        }
    }
    if choices.iter().any(|c| c.room.fit == FitVerdict::FitsRaised) {
        notes.push("+ fits once the system's limit on GPU memory is raised.".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::sample::{choice, too_large};
    use crate::rank::Use;

    fn request() -> AdviceRequest {
        AdviceRequest {
            models: vec!["m".into()],
            hardware: vec!["a".into(), "b".into()],
            context: 8192,
            ..AdviceRequest::default()
        }
    }

    fn advise(choices: Vec<Choice>, min_tps: Option<f64>, max_kld: Option<f64>) -> Result<Advice> {
        let needs = Needs { purpose: Use::Chat, context: 8192, min_tps, max_kld };
        Advice::new(request(), needs, &["a".into(), "b".into()], choices)
    }

    fn choices() -> Vec<Choice> {
        vec![
            choice("a", "m", "q4_k_m", 12.0, 0.03, None),
            too_large(choice("a", "m", "q8_0", 8.0, 0.001, None), 0),
            choice("b", "m", "q4_k_m", 5.0, 0.03, None),
            choice("b", "m", "q8_0", 3.0, 0.001, None),
        ]
    }

    #[test]
    fn a_context_beyond_the_training_is_told() {
        let told = |context| notes(&choices(), Yardstick::Divergence, context).iter().any(|n| n.contains("trained for 16384"));
        assert!(!told(16384) && told(16385));
    }

    #[test]
    fn each_machine_gets_a_pick_and_each_pair_a_comparison() {
        let advice = advise(choices(), None, None).unwrap();
        assert_eq!(advice.best.choice, 0);
        assert_eq!(advice.picks.iter().map(|p| p.pick.as_ref().unwrap().choice).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(advice.comparisons.len(), 1);
        assert!(advice.comparisons[0].sentences[0].contains("b is smarter: m q8_0"), "{:?}", advice.comparisons[0].sentences);
    }

    #[test]
    fn a_machine_that_cannot_meet_the_needs_says_what_it_takes() {
        let advice = advise(choices(), Some(10.0), None).unwrap();
        assert_eq!(advice.picks[1].pick, None);
        assert!(
            advice.picks[1].sentence.to_string().contains("b: nothing meets the needs; relax to min_tps 5"),
            "{}",
            advice.picks[1].sentence
        );
    }

    #[test]
    fn needs_that_contradict_each_other_are_an_error_that_says_what_to_relax() {
        let error = advise(choices(), Some(10.0), Some(0.01)).unwrap_err().to_string();
        assert!(error.contains("min_tps 10 max_kld 0.01 context 8192: nothing meets all needs"), "{error}");
        assert!(error.contains("max_kld 0.03 (m q4_k_m on a: 12.0 tok/s") && error.contains("min_tps 3 (m q8_0 on b"), "{error}");
        // What it says helps.
        assert!(advise(choices(), Some(10.0), Some(0.03)).is_ok() && advise(choices(), Some(3.0), Some(0.01)).is_ok());
        let none = vec![too_large(choice("a", "m", "f16", 1.0, 0.0, None), 0)];
        let error = advise(none, None, None).unwrap_err().to_string();
        assert!(error.starts_with("context 8192: ") && error.contains("nothing here fits at any context"), "{error}");
    }

    #[test]
    fn models_without_a_score_are_named() {
        let all = vec![choice("a", "m", "q8_0", 9.0, 0.0, Some(0.7)), choice("a", "n", "q8_0", 9.0, 0.0, None)];
        let advice = advise(all.clone(), None, None).unwrap();
        assert!(advice.notes.iter().any(|n| n.contains("No published score: n cannot")), "{:?}", advice.notes);
        let neither = all.into_iter().map(|c| Choice { accuracy: None, ..c }).collect();
        let error = advise(neither, None, None).unwrap_err().to_string();
        assert!(error.contains("no published score compares m, n"), "{error}");
    }
}

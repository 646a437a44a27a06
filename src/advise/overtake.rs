//! Where one machine overtakes the other: which one's best choice is smarter, as a function of the speed that is demanded. Pure.
//!
//! A larger memory holds smarter models, a wider one runs the same models faster: below some speed the one leads, above it the
//! other. Forecasts have ranges, so between "surely this one" and "surely that one" lies a zone that is uncertain.

use serde::Serialize;

use super::choice::Choice;
use super::rank::{Yardstick, small, speed};

/// Who is smarter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Leader {
    /// The first machine.
    First,
    /// The second machine.
    Second,
    /// Nobody would notice a difference.
    Neither,
}

/// Demanded speeds between which the same machine leads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stretch {
    /// From this demand, tokens per second (excluded).
    pub from: f64,
    /// To this one (included).
    pub to: f64,
    /// Who leads.
    pub leader: Leader,
    /// Demands within it at which the ranges of the forecasts leave no doubt: the part that is sure, if any.
    pub sure: Option<(f64, f64)>,
    /// The best choices next to where the lead changes, of the first machine and the second: at the upper end of the first of
    /// several stretches, at the lower end of the others.
    pub best: [Option<usize>; 2],
}

/// What two machines can offer at each demanded speed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contest {
    /// The machines.
    pub machines: [String; 2],
    /// What quality is measured by.
    pub yardstick: Yardstick,
    /// From the lowest demand to the highest that any choice meets.
    pub stretches: Vec<Stretch>,
}

/// Compares two machines over `choices`; `None` where neither has anything that fits.
pub fn contest(choices: &[Choice], first: &str, second: &str) -> Option<Contest> {
    let yardstick = Yardstick::of(choices);
    let machines = [first, second];
    let offers = |machine: &str| -> Vec<(usize, f64, &Choice)> {
        let merit = |(i, c): (usize, &'_ Choice)| yardstick.merit(c).map(|m| (i, m));
        let ours = choices.iter().enumerate().filter(|(_, c)| c.machine == machine && c.fits());
        ours.filter_map(|(i, c)| merit((i, c)).map(|(i, m)| (i, m, c))).collect()
    };
    let offers = machines.map(offers);
    let best = |machine: usize, tps: f64, get: fn(&Choice) -> f64| {
        let able = offers[machine].iter().filter(|(_, _, c)| get(c) >= tps);
        // Of equals the faster, so that the answer does not depend on the order.
        able.max_by(|a, b| a.1.total_cmp(&b.1).then(a.2.decode.tps.total_cmp(&b.2.decode.tps))).map(|(i, merit, _)| (*i, *merit))
    };
    let all = offers.iter().flatten().flat_map(|(_, _, c)| [c.decode.low, c.decode.tps, c.decode.high]);
    let end = offers.iter().flatten().map(|(_, _, c)| c.decode.tps).fold(0.0, f64::max);
    let mut demands: Vec<f64> = all.filter(|tps| *tps <= end).collect();
    demands.sort_by(f64::total_cmp);
    demands.dedup();
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut from = 0.0;
    let mut before = [None, None];
    for to in demands {
        let central = [0, 1].map(|machine| best(machine, to, |c| c.decode.tps));
        let leader = leader(central.map(|b| b.map(|(_, merit)| merit)), yardstick);
        let (low, high) = (|c: &Choice| c.decode.low, |c: &Choice| c.decode.high);
        let surely = |ahead: usize| {
            let merit = |b: Option<(usize, f64)>| b.map_or(f64::NEG_INFINITY, |(_, merit)| merit);
            merit(best(ahead, to, low)) > merit(best(1 - ahead, to, high)) + yardstick.notable()
        };
        let sure = match leader {
            Leader::First => surely(0),
            Leader::Second => surely(1),
            Leader::Neither => false,
        };
        let best = central.map(|b| b.map(|(i, _)| i));
        match stretches.last_mut() {
            Some(last) if last.leader == leader => {
                last.to = to;
                if sure {
                    last.sure = Some((last.sure.map_or(from, |(start, _)| start), to));
                }
            }
            _ => {
                if let [first] = &mut stretches[..] {
                    first.best = before;
                }
                stretches.push(Stretch { from, to, leader, sure: sure.then_some((from, to)), best });
            }
        }
        before = best;
        from = to;
    }
    let names = machines.map(str::to_owned);
    (!stretches.is_empty()).then_some(Contest { machines: names, yardstick, stretches })
}

fn leader(merits: [Option<f64>; 2], yardstick: Yardstick) -> Leader {
    match merits {
        [Some(a), Some(b)] if (a - b).abs() < yardstick.notable() => Leader::Neither,
        [Some(a), Some(b)] => {
            if a > b {
                Leader::First
            } else {
                Leader::Second
            }
        }
        [Some(_), None] => Leader::First,
        [None, Some(_)] => Leader::Second,
        [None, None] => Leader::Neither,
    }
}

impl Contest {
    /// In one sentence where a machine leads beyond doubt.
    pub fn headline(&self) -> String {
        let [first, second] = &self.machines;
        let sure = self.stretches.iter().filter_map(|stretch| {
            let (from, to) = stretch.sure?;
            let name = if stretch.leader == Leader::First { first } else { second };
            let between = |from: f64, to: f64| {
                if from == 0.0 { format!("up to {}", small(to)) } else { format!("from {} to {}", small(from), small(to)) }
            };
            let whole = between(stretch.from, stretch.to);
            let doubt = if (from, to) == (stretch.from, stretch.to) {
                String::new()
            } else {
                format!(" (beyond doubt {})", between(from, to))
            };
            Some((format!("{name} is smarter {whole} tok/s{doubt}"), doubt.is_empty()))
        });
        let (sure, whole): (Vec<String>, Vec<bool>) = sure.unzip();
        if sure.is_empty() {
            return format!("At no speed is {first} or {second} smarter beyond doubt.");
        }
        let all = sure.len() == self.stretches.len() && whole.iter().all(|w| *w);
        format!("{}{}.", sure.join("; "), if all { "" } else { "; at other speeds neither surely is" })
    }

    /// One sentence a stretch, with the numbers.
    pub fn sentences(&self, choices: &[Choice]) -> Vec<String> {
        self.stretches.iter().map(|stretch| self.sentence(stretch, choices)).collect()
    }

    fn sentence(&self, stretch: &Stretch, choices: &[Choice]) -> String {
        let [first, second] = &self.machines;
        let is_last = self.stretches.last() == Some(stretch);
        let when = match (stretch.from, is_last) {
            (0.0, true) => "At every speed".to_owned(),
            (0.0, false) => format!("Up to {} tok/s", small(stretch.to)),
            (from, true) => format!("Above {} tok/s", small(from)),
            (from, false) => format!("From {} to {} tok/s", small(from), small(stretch.to)),
        };
        let offer = |machine: usize| {
            let of = |i: usize| {
                let c = &choices[i];
                format!("{} with {} at {}", c.title(), self.yardstick.words(c), speed(&c.decode))
            };
            stretch.best[machine].map_or_else(|| "nothing as fast".to_owned(), of)
        };
        let what = match stretch.leader {
            Leader::First => format!("{first} is smarter: {}, against {} on {second}", offer(0), offer(1)),
            Leader::Second => format!("{second} is smarter: {}, against {} on {first}", offer(1), offer(0)),
            Leader::Neither => format!("they are as smart as each other: {} on {first}, {} on {second}", offer(0), offer(1)),
        };
        let doubt = match (stretch.leader, stretch.sure) {
            (Leader::Neither, _) => String::new(),
            (_, None) => "; the ranges of the forecasts leave it open".to_owned(),
            (_, Some((from, to))) if from <= stretch.from && to >= stretch.to => String::new(),
            (_, Some((from, to))) => format!("; beyond doubt from {} to {} tok/s", small(from), small(to)),
        };
        format!("{when} {what}{doubt}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::sample::{choice, too_large};

    /// A wide machine of little memory, and a narrow one of much.
    fn two_machines() -> Vec<Choice> {
        vec![
            choice("wide", "small", "q8_0", 60.0, 0.001, Some(0.66)),
            choice("wide", "middle", "q4_k_m", 12.0, 0.03, Some(0.79)),
            too_large(choice("wide", "large", "q4_k_m", 7.0, 0.03, Some(0.84)), 0),
            choice("narrow", "small", "q8_0", 20.0, 0.001, Some(0.66)),
            choice("narrow", "middle", "q4_k_m", 5.0, 0.03, Some(0.79)),
            choice("narrow", "large", "q4_k_m", 3.0, 0.03, Some(0.84)),
        ]
    }

    #[test]
    fn the_one_with_memory_leads_at_low_speeds_and_the_wide_one_above() {
        let all = two_machines();
        let found = contest(&all, "wide", "narrow").unwrap();
        let summary: Vec<_> = found.stretches.iter().map(|s| (s.leader, s.from, s.to)).collect();
        assert_eq!(
            summary,
            [
                (Leader::Second, 0.0, 3.0),
                // Both have the middle model up to 5.
                (Leader::Neither, 3.0, 5.0),
                (Leader::First, 5.0, 12.0),
                (Leader::Neither, 12.0, 20.0),
                (Leader::First, 20.0, 60.0),
            ]
        );
        // Sure as long as the low end of its forecast meets the demand.
        assert_eq!(found.stretches[0].sure, Some((0.0, 2.7)));
        let sure = found.stretches[2].sure.unwrap();
        assert!((sure.0 - 5.5).abs() < 1e-9 && (sure.1 - 10.8).abs() < 1e-9, "{sure:?}");
        assert_eq!(
            found.headline(),
            "narrow is smarter up to 3.00 tok/s (beyond doubt up to 2.70); wide is smarter from 5.00 to 12.0 tok/s (beyond doubt \
             from 5.50 to 10.8); wide is smarter from 20.0 to 60.0 tok/s (beyond doubt from 22.0 to 54.0); at other speeds \
             neither surely is."
        );
        let text = found.sentences(&all);
        assert!(text[0].starts_with("Up to 3.00 tok/s narrow is smarter: large q4_k_m with 84.0 %"), "{}", text[0]);
        assert!(text[0].contains("beyond doubt from 0 to 2.70 tok/s"), "{}", text[0]);
        assert!(text[2].contains("against small q8_0"), "{}", text[2]);
        assert!(text[4].starts_with("Above 20.0 tok/s wide is smarter") && text[4].contains("nothing as fast"), "{}", text[4]);
    }

    #[test]
    fn the_order_of_machines_and_choices_does_not_matter() {
        let mut all = two_machines();
        let forth = contest(&all, "wide", "narrow").unwrap();
        let back = contest(&all, "narrow", "wide").unwrap();
        let mirrored = |leader| match leader {
            Leader::First => Leader::Second,
            Leader::Second => Leader::First,
            Leader::Neither => Leader::Neither,
        };
        let of = |c: &Contest| c.stretches.iter().map(|s| (s.leader, s.from, s.to, s.sure)).collect::<Vec<_>>();
        assert_eq!(of(&forth), of(&back).into_iter().map(|(l, f, t, s)| (mirrored(l), f, t, s)).collect::<Vec<_>>());
        all.reverse();
        assert_eq!(of(&forth), of(&contest(&all, "wide", "narrow").unwrap()));
    }

    #[test]
    fn machines_that_hold_nothing_have_no_contest() {
        let none = [too_large(choice("a", "m", "f16", 3.0, 0.0, None), 0)];
        assert_eq!(contest(&none, "a", "b"), None);
        let one = [choice("a", "m", "q8_0", 3.0, 0.0, None)];
        let found = contest(&one, "a", "b").unwrap();
        assert_eq!(
            (found.stretches.len(), found.stretches[0].leader, found.stretches[0].sure),
            (1, Leader::First, Some((0.0, 2.7)))
        );
    }
}

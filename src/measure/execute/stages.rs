//! The progress of a whole job: its stages have names and numbers, and one estimate of the time that is left.

use std::sync::{Mutex, PoisonError};

use bitworth_quant::Progress;
use bitworth_quant::progress::Unit;

/// What progress counts to.
const WHOLE: f64 = 1e6;

/// Puts the progress of single calls into that of the whole.
pub struct Stages<'a> {
    inner: &'a dyn Progress,
    count: usize,
    /// By model, the number of its first stage.
    first: Vec<usize>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the stages' names begin with.
    title: String,
    /// Shares of the whole by stage, in order.
    shares: Vec<f64>,
    /// Stages that were begun.
    begun: usize,
    /// The whole's share of the stages that are done.
    done: f64,
    /// What the present call counts to, and what it has counted.
    call: (u64, u64),
    /// Which of how many calls of the stage it is; a stage is one call unless it says otherwise.
    part: (usize, usize),
    /// What was told of the whole.
    told: u64,
}

impl<'a> Stages<'a> {
    /// Stages of these weights, by model.
    pub fn new(inner: &'a dyn Progress, weights: &[Vec<f64>]) -> Self {
        let sum: f64 = weights.iter().flatten().sum::<f64>().max(f64::MIN_POSITIVE);
        let shares: Vec<f64> = weights.iter().flatten().map(|weight| weight / sum).collect();
        let first = weights.iter().scan(0, |next, own| Some(std::mem::replace(next, *next + own.len()))).collect();
        inner.start(WHOLE as u64, Unit::Items, "preparing");
        Self { inner, count: shares.len(), first, state: Mutex::new(State { shares, ..State::default() }) }
    }

    /// Goes on to the stages of a model, whose names begin with `title`; what was not done of the model before is left behind.
    pub fn enter(&self, model: usize, title: String) {
        let mut state = self.state();
        state.title = title;
        state.begun = self.first.get(model).copied().unwrap_or(self.count);
        state.call = (0, 0);
        state.done = state.shares[..state.begun].iter().sum();
        // Of no stage yet.
        let now = (WHOLE * state.done) as u64;
        self.inner.advance(now.saturating_sub(state.told));
        state.told = state.told.max(now);
    }

    /// Begins the next stage and returns its number, for [`Stages::end`].
    pub fn begin(&self, name: &str) -> usize {
        let mut state = self.state();
        let number = state.begun;
        state.begun += 1;
        state.call = (0, 0);
        state.part = (0, 1);
        // A stage that nobody planned (a part that a later job added) counts as the last one.
        let count = self.count.max(number + 1);
        self.inner.stage(&format!("{}[{}/{count}] {name}", state.title, number + 1));
        number
    }

    /// Goes on to a call of the stage, of as many that are about as long: the `number`-th, from 0 on.
    pub fn part(&self, number: usize, of: usize) {
        let mut state = self.state();
        state.part = (number, of);
        state.call = (0, 0);
        self.tell(&mut state);
    }

    /// Ends a stage.
    pub fn end(&self, number: usize) {
        let mut state = self.state();
        state.done += state.shares.get(number).copied().unwrap_or(0.0);
        state.call = (0, 0);
        state.part = (0, 1);
        self.tell(&mut state);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the whole's progress, which never goes back.
    fn tell(&self, state: &mut State) {
        let share = state.begun.checked_sub(1).and_then(|number| state.shares.get(number)).copied().unwrap_or(0.0);
        let (number, of) = (state.part.0 as f64, state.part.1.max(1) as f64);
        let part = (number + (state.call.1 as f64 / state.call.0.max(1) as f64).min(1.0)) / of;
        let now = (WHOLE * (state.done + share * part.min(1.0)).min(1.0)) as u64;
        if now > state.told {
            self.inner.advance(now - state.told);
            state.told = now;
        }
    }
}

impl Progress for Stages<'_> {
    fn start(&self, total: u64, _unit: Unit, _what: &str) {
        self.state().call = (total, 0);
    }

    fn advance(&self, delta: u64) {
        let mut state = self.state();
        state.call.1 += delta;
        self.tell(&mut state);
    }

    fn finish(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told {
        names: Mutex<Vec<String>>,
        sum: Mutex<u64>,
    }

    impl Progress for Told {
        fn start(&self, total: u64, _: Unit, _: &str) {
            assert_eq!(total, 1_000_000);
        }

        fn advance(&self, delta: u64) {
            *self.sum.lock().unwrap() += delta;
        }

        fn finish(&self) {}

        fn stage(&self, name: &str) {
            self.names.lock().unwrap().push(name.to_owned());
        }
    }

    #[test]
    fn the_stages_of_several_models_are_one_whole() {
        let told = Told::default();
        let stages = Stages::new(&told, &[vec![1.0, 1.0], vec![2.0]]);
        let sum = || *told.sum.lock().unwrap();
        stages.enter(0, "m: ".into());
        let first = stages.begin("a");
        stages.end(first);
        stages.enter(1, "n: ".into());
        assert_eq!(sum(), 500_000, "a stage that was not needed counts as done");
        let second = stages.begin("b");
        stages.start(2, Unit::Items, "");
        stages.advance(1);
        assert_eq!(sum(), 750_000);
        stages.end(second);
        assert_eq!(sum(), 1_000_000);
        assert_eq!(*told.names.lock().unwrap(), ["m: [1/3] a", "n: [3/3] b"]);
    }

    #[test]
    fn a_stage_of_several_calls_ends_with_the_last_one() {
        let told = Told::default();
        let stages = Stages::new(&told, &[vec![1.0, 1.0]]);
        stages.enter(0, String::new());
        let first = stages.begin("a");
        for number in 0..2 {
            stages.part(number, 2);
            stages.start(4, Unit::Items, "");
            stages.advance(4);
            assert_eq!(*told.sum.lock().unwrap(), 250_000 * (number as u64 + 1));
        }
        stages.end(first);
        assert_eq!(*told.sum.lock().unwrap(), 500_000);
    }

    #[test]
    fn stages_are_numbered_and_add_up_to_the_whole() {
        let told = Told::default();
        let stages = Stages::new(&told, &[vec![1.0, 3.0]]);
        stages.enter(0, "m: ".into());
        let sum = || *told.sum.lock().unwrap();
        let first = stages.begin("a");
        stages.start(10, Unit::Items, "whatever");
        stages.advance(5);
        assert_eq!(sum(), 125_000);
        stages.advance(50);
        assert_eq!(sum(), 250_000, "no more than its share");
        stages.end(first);
        let second = stages.begin("b");
        stages.start(4, Unit::Bytes, "x");
        stages.advance(2);
        assert_eq!(sum(), 625_000);
        stages.start(4, Unit::Bytes, "once more");
        stages.advance(1);
        assert_eq!(sum(), 625_000, "it never goes back");
        stages.end(second);
        assert_eq!(sum(), 1_000_000);
        assert_eq!(*told.names.lock().unwrap(), ["m: [1/2] a", "m: [2/2] b"]);
    }
}

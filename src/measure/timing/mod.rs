//! Speeds as llama-bench means them: prefill of a prompt, and decoding one token after the other, behind an optional depth of
//! earlier tokens; every prompt and every number of tokens is a test of its own, at every depth and batch.
//!
//! What a timing holds (llama.cpp's `tools/llama-bench/llama-bench.cpp`, `test_prompt` and `test_gen`): all tokens of the test
//! through the model, with the head behind the last token of a prompt and behind every decoded token; not the tokens that stand
//! in the cache before. As there, what is fed are pseudo-random tokens and never the model's own, so that experts are chosen as
//! by changing text. Two differences: the likeliest token is found on the device, where llama-bench copies the logits to the
//! host; and the head is computed once per prompt, where llama-bench computes it every 2048 tokens. `batch` is the number of
//! sequences at once (llama-batched-bench's `-npl`); prompts of a batch follow each other.
//!
//! Absent: how results are shown.

mod anchor;
mod counts;
mod divergence;
mod energy;
mod llama_bench;
mod memory;
pub mod records;
mod together;

use std::time::{Duration, Instant};

use bitworth_quant::HParams;
use bitworth_quant::message::Message;
use bitworth_quant::progress::Unit;

use self::anchor::Anchor;
pub use self::counts::Counts;
pub use self::divergence::{ArithmeticDivergence, FromF32, divergence, from_f32};
use self::energy::EnergyMeter;
pub use self::energy::NoEnergy;
pub use self::llama_bench::LlamaBench;
use self::llama_bench::LlamaBenchModel;
use self::memory::PeakMemory;
pub use self::together::groups;
use super::Watch;
use super::error::{Error, Result};
use super::settings::DELAY;
use bitworth_engine::backend::{Arithmetic, Backend};
use bitworth_engine::generate::Generator;
use bitworth_engine::model::Variant;
use bitworth_engine::sweep;
use bitworth_eval::record::{Footprint, OWN_ENGINE, Phase, Speed, SpeedTest};

/// What to time. Every number of tokens in `prompt` is a prefill, every one in `generate` a decoding, each at every depth and
/// batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Tokens of prompts; 0 stands for none.
    pub prompt: Vec<usize>,
    /// Tokens to decode; 0 stands for none.
    pub generate: Vec<usize>,
    /// Tokens that stand in the cache before, per sequence.
    pub depth: Vec<usize>,
    /// Sequences at once.
    pub batch: Vec<usize>,
    /// How often. As many more are made where too many of them drifted.
    pub repetitions: usize,
    /// Whether every test is done once before, uncounted.
    pub warm_up: bool,
    /// A pause before every timing, to let the machine cool.
    pub delay: Duration,
    /// By what share the machine's speed may differ from its median before a timing has drifted.
    pub drift_bound: f64,
    /// Of the products; `None` for the device's own ([`Backend::decoding_arithmetic`]).
    pub arithmetic: Option<Arithmetic>,
    /// The programs that are timed, in turn.
    pub engines: Vec<TimedEngine>,
}

/// A program that is timed.
#[derive(Debug, Clone, PartialEq)]
pub enum TimedEngine {
    /// This one.
    Bitworth,
    /// llama.cpp's.
    LlamaBench(LlamaBench),
}

impl Default for Workload {
    /// llama-bench's own.
    fn default() -> Self {
        Self {
            prompt: vec![512],
            generate: vec![128],
            depth: vec![0],
            batch: vec![1],
            repetitions: 5,
            warm_up: true,
            delay: Duration::ZERO,
            drift_bound: 0.1,
            arithmetic: None,
            engines: vec![TimedEngine::Bitworth],
        }
    }
}

impl Workload {
    /// Most sequences at once, most repetitions, and most tests.
    const MOST: usize = 1 << 12;
    /// The longest pause.
    const LONGEST_DELAY: Duration = Duration::from_secs(3600);

    /// The tests in llama-bench's order: by batch, then by depth, prefills before decoding.
    pub fn tests(&self) -> Vec<SpeedTest> {
        let mut tests = Vec::new();
        for &batch in &self.batch {
            for &depth in &self.depth {
                for (phase, counts) in [(Phase::Prefill, &self.prompt), (Phase::Decode, &self.generate)] {
                    let some = counts.iter().filter(|&&tokens| tokens > 0);
                    tests.extend(some.map(|&tokens| SpeedTest { phase, tokens, depth, batch }));
                }
            }
        }
        tests
    }

    /// Bytes of the keys and values that a model keeps for it.
    pub fn cache_bytes(&self, h: &HParams) -> u64 {
        let tests = self.tests();
        let most = |of: fn(&SpeedTest) -> usize| tests.iter().map(of).max().unwrap_or(0) as u64;
        let rows = most(|test| test.depth.saturating_add(test.tokens)).saturating_mul(most(|test| test.batch));
        let width_of = |block: usize| h.kv_heads(block) * (h.key_width(block) + h.value_width(block));
        let width: usize = (0..h.block_count).map(width_of).sum();
        rows.saturating_mul(width as u64).saturating_mul(size_of::<f32>() as u64)
    }

    /// Whether a model with this context can do it.
    ///
    /// # Errors
    /// Nothing to do, the same thing twice, more than anyone would wait for, or more tokens than the context holds.
    pub fn check(&self, context: usize) -> Result<()> {
        for (name, count) in self.batch.iter().map(|&batch| ("batch", batch)).chain([("repetitions", self.repetitions)]) {
            if count == 0 || count > Self::MOST {
                return Err(Error::unfit(format!("{name} {count}: must lie between 1 and {}", Self::MOST)));
            }
        }
        let lists = [("prompt", &self.prompt), ("generate", &self.generate), ("depth", &self.depth), ("batch", &self.batch)];
        for (name, list) in lists {
            if let Some(twice) = (1..list.len()).find(|&i| list[..i].contains(&list[i])) {
                return Err(Error::unfit(format!(
                    "{name} names {} twice; name every number once and use repetitions",
                    list[twice]
                )));
            }
        }
        if self.delay > Self::LONGEST_DELAY {
            return Err(Error::unfit(format!("delay: at most {} seconds", Self::LONGEST_DELAY.as_secs())));
        }
        if !(self.drift_bound > 0.0 && self.drift_bound <= 10.0) {
            return Err(Error::unfit(format!("drift bound {}: must lie above 0 and be at most 10 (1000 %)", self.drift_bound)));
        }
        let counts = [self.prompt.len() + self.generate.len(), self.depth.len(), self.batch.len()];
        if counts.iter().product::<usize>() > Self::MOST {
            return Err(Error::unfit(format!("more than {} tests; give shorter lists", Self::MOST)));
        }
        let tests = self.tests();
        if tests.is_empty() {
            return Err(Error::unfit("nothing to time: prompt and generate are both 0"));
        }
        match tests.iter().find(|test| test.depth.saturating_add(test.tokens) > context) {
            Some(SpeedTest { depth, tokens, .. }) => {
                Err(Error::unfit(format!("depth {depth} and {tokens} tokens do not fit the model's context of {context}")))
            }
            None => Ok(()),
        }
    }
}

/// What timing gave.
pub struct Timings {
    /// The timings of each model, by repetition, then by program and test.
    pub speeds: Vec<Vec<Speed>>,
    /// What the anchors took, in seconds: one before all timings and one after each.
    pub anchors: Vec<f64>,
    /// What counted the energy, or why nothing did.
    pub energy: Result<Vec<String>, NoEnergy>,
    /// What to do where too many timings drifted.
    pub drift: Option<Message>,
    /// What another program did not time, and why.
    pub failed: Vec<Message>,
    /// Whether it was stopped early. All timings there are complete.
    pub interrupted: bool,
}

/// Times models against each other: all of them stay open, and repetition r of every test of every model comes before repetition
/// r + 1 of any, so that what changes in the machine meets all alike.
///
/// # Errors
/// A workload longer than a model's context, a model that cannot be opened beside the others, a device that fails; another
/// program that fails, where nothing else is timed. An interruption is an error only before the first timing.
pub fn measure<B: Backend>(backend: &B, models: &[&Variant], load: &Workload, watch: Watch<'_>) -> Result<Timings> {
    for model in models {
        load.check(sweep::longest_sequence(model.hparams()))?;
    }
    let tests = load.tests();
    let per_round = models.len() * load.engines.len() * tests.len();
    let own = if load.engines.contains(&TimedEngine::Bitworth) { models.len() * tests.len() } else { 0 };
    let warm_ups = if load.warm_up { own } else { 0 };
    watch.progress.start((warm_ups + load.repetitions * per_round) as u64, Unit::Items, "timing");
    let meter = EnergyMeter::open(backend.info().kind);
    let mut timers = Vec::new();
    for (number, model) in models.iter().enumerate() {
        for engine in &load.engines {
            timers.push(Timer::open(backend, (number, model), engine, load, watch)?);
        }
    }
    let mut anchor = Anchor::new(backend)?;
    let mut anchors = vec![anchor.measure()?];
    // By time, each with the number of its timer.
    let mut done: Vec<(usize, Speed)> = Vec::new();
    let mut interrupted = false;
    'all: for repetition in 0..2 * load.repetitions {
        if repetition == load.repetitions {
            if enough_steady(&done, &timers, &tests, load) {
                break;
            }
            tracing::warn!("the machine is not steady: timings that drifted are made up for");
            watch.progress.start((load.repetitions * per_round) as u64, Unit::Items, "timing again");
        } else if repetition > load.repetitions && enough_steady(&done, &timers, &tests, load) {
            break;
        }
        for (number, timer) in timers.iter_mut().enumerate() {
            for test in &tests {
                watch.progress.advance(1);
                if timer.failed.is_some() {
                    continue;
                }
                let timing = pause(load.delay, watch).and_then(|()| timer.time(*test, meter.as_ref().ok(), load, watch));
                match timing {
                    Ok(speed) => {
                        done.push((number, Speed { repetition: repetition as u32, ..speed }));
                        anchors.push(anchor.measure()?);
                    }
                    Err(e) if e.is_interruption() => {
                        interrupted = true;
                        break 'all;
                    }
                    // What is timed beside it goes on.
                    Err(e) if matches!(timer.what, Timed::Elsewhere(_)) => timer.failed = Some(e),
                    Err(e) => return Err(e),
                }
            }
        }
        flag(&mut done, &anchors, load.drift_bound);
    }
    flag(&mut done, &anchors, load.drift_bound);
    watch.progress.finish();
    let mut speeds = vec![Vec::new(); models.len()];
    let drift = drift(&done, load);
    for (number, speed) in done {
        speeds[timers[number].model].push(speed);
    }
    let mut failed: Vec<Error> = timers.into_iter().filter_map(|timer| timer.failed).collect();
    if speeds.iter().all(Vec::is_empty) {
        return Err(if failed.is_empty() { Error::interrupted() } else { failed.swap_remove(0) });
    }
    let failed = failed.iter().map(Error::message).collect();
    Ok(Timings { speeds, anchors, energy: meter.map(|meter| meter.sources()), drift, failed, interrupted })
}

fn flag(done: &mut [(usize, Speed)], anchors: &[f64], bound: f64) {
    for ((_, speed), drifted) in done.iter_mut().zip(anchor::drifted(anchors, bound)) {
        speed.drifted = drifted;
    }
}

/// Whether every test of every timer has as many steady timings as it should have repetitions, or nearly: half of them drifted is
/// what is made up for.
fn enough_steady<B: Backend>(done: &[(usize, Speed)], timers: &[Timer<'_, B>], tests: &[SpeedTest], load: &Workload) -> bool {
    let steady = |number: usize, test: &SpeedTest| {
        done.iter().filter(|(of, speed)| *of == number && SpeedTest::of(speed) == *test && !speed.drifted).count()
    };
    let is_enough = |number: usize| tests.iter().all(|test| 2 * steady(number, test) >= load.repetitions);
    timers.iter().enumerate().all(|(number, timer)| timer.failed.is_some() || is_enough(number))
}

/// What to do where at least half of the timings drifted.
fn drift(done: &[(usize, Speed)], load: &Workload) -> Option<Message> {
    let drifted = done.iter().filter(|(_, speed)| speed.drifted).count();
    if 2 * drifted < done.len() {
        return None;
    }
    let (all, percent) = (done.len(), 100.0 * load.drift_bound);
    let changed = format!(
        "{drifted} of {all} timings drifted: the machine's own speed changed by more than {percent:.0} % meanwhile. Close other \
         programs, let it cool ("
    );
    Some(Message::from(changed).then(DELAY).then("), and time again"))
}

/// Waits, unless asked to stop.
fn pause(delay: Duration, watch: Watch<'_>) -> Result<()> {
    let end = Instant::now() + delay;
    loop {
        if watch.stopped() {
            return Err(Error::interrupted());
        }
        match end.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => std::thread::sleep(left.min(Duration::from_millis(50))),
            _ => return Ok(()),
        }
    }
}

/// A model in a program.
struct Timer<'a, B: Backend> {
    /// The model's number.
    model: usize,
    what: Timed<'a, B>,
    /// Why it is not timed any more.
    failed: Option<Error>,
}

enum Timed<'a, B: Backend> {
    Here(Box<OpenModel<'a, B>>),
    /// `None` where the program cannot open it.
    Elsewhere(Option<LlamaBenchModel<'a>>),
}

impl<'a, B: Backend> Timer<'a, B> {
    fn open(
        backend: &'a B,
        (number, model): (usize, &Variant),
        engine: &'a TimedEngine,
        load: &Workload,
        watch: Watch<'_>,
    ) -> Result<Self> {
        let tests = load.tests();
        let (what, failed) = match engine {
            TimedEngine::Bitworth => (Timed::Here(Box::new(OpenModel::open(backend, model, load, &tests, watch)?)), None),
            TimedEngine::LlamaBench(bench) => match bench.open(model, &tests) {
                Ok(model) => (Timed::Elsewhere(Some(model)), None),
                Err(e) => (Timed::Elsewhere(None), Some(e)),
            },
        };
        Ok(Self { model: number, what, failed })
    }

    /// One timing, as the first repetition.
    fn time(&mut self, test: SpeedTest, meter: Option<&EnergyMeter>, load: &Workload, watch: Watch<'_>) -> Result<Speed> {
        let (seconds, joules, arithmetic, engine, footprint) = match &mut self.what {
            Timed::Here(model) => {
                // From within the threads that compute, which then need not be woken for each product.
                let (seconds, joules) = rayon::scope(|_| model.time(test, meter, watch))?;
                (seconds, joules, model.arithmetic.name(), OWN_ENGINE.to_owned(), model.footprint)
            }
            Timed::Elsewhere(model) => {
                let Some(model) = model else { return Err(Error::unfit("the model is not open")) };
                let timing = model.time(test, load.warm_up, watch)?;
                // Its energy would include reading the file, which is no part of the test.
                (timing.seconds, None, "own", timing.engine, Footprint::default())
            }
        };
        Ok(Speed {
            phase: test.phase,
            tokens: (test.tokens * test.batch) as u32,
            depth: test.depth as u32,
            batch: test.batch as u32,
            repetition: 0,
            seconds,
            drifted: false,
            joules,
            arithmetic: arithmetic.to_owned(),
            engine,
            shape: None,
            footprint,
        })
    }
}

/// A model that is open in this program.
struct OpenModel<'a, B: Backend> {
    generator: Generator<'a, B>,
    arithmetic: Arithmetic,
    /// Pseudo-random ids, the same for every model with this vocabulary.
    tokens: Vec<u32>,
    footprint: Footprint,
}

impl<'a, B: Backend> OpenModel<'a, B> {
    /// Opens a model with room for all tests, and warms it up.
    fn open(backend: &'a B, model: &Variant, load: &Workload, tests: &[SpeedTest], watch: Watch<'_>) -> Result<Self> {
        let room = tests.iter().map(|test| test.depth + test.tokens).max().unwrap_or(1);
        let batch = tests.iter().map(|test| test.batch).max().unwrap_or(1);
        let vocab = model.hparams().vocab_size as u32;
        let tokens = (0..room as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) % vocab).collect();
        let (memory, device_before, begin) = (PeakMemory::begin(), backend.allocated_bytes(), Instant::now());
        let arithmetic = load.arithmetic.unwrap_or_else(|| backend.decoding_arithmetic());
        let generator = Generator::with_arithmetic(backend, model, arithmetic, room, batch)?;
        generator.synchronize()?;
        let load_seconds = Some(begin.elapsed().as_secs_f64());
        let footprint = Footprint { load_seconds, ..Footprint::default() };
        let mut open = Self { generator, arithmetic, tokens, footprint };
        if load.warm_up {
            for test in tests {
                open.time(*test, None, watch)?;
                watch.progress.advance(1);
            }
            // Only a warm model has read all of its weights.
            open.footprint.memory_bytes = memory.growth();
            let device = backend.allocated_bytes().zip(device_before);
            open.footprint.device_bytes = device.map(|(after, before)| after.saturating_sub(before));
        }
        Ok(open)
    }

    /// Seconds and, where they are counted, joules of one test.
    fn time(&mut self, test: SpeedTest, meter: Option<&EnergyMeter>, watch: Watch<'_>) -> Result<(f64, Option<f64>)> {
        let SpeedTest { phase, tokens: count, depth, batch } = test;
        for index in 0..batch {
            self.generator.rewind(index, depth)?;
            let there = self.generator.length(index);
            self.generator.prefill(index, &self.tokens[there..depth])?;
        }
        self.generator.synchronize()?;
        if watch.stopped() {
            return Err(Error::interrupted());
        }
        let from = meter.map(EnergyMeter::read);
        let begin = Instant::now();
        match phase {
            Phase::Prefill => {
                for index in 0..batch {
                    self.generator.greedy(index, &self.tokens[depth..][..count])?;
                }
            }
            Phase::Decode => {
                let mut step = vec![0; batch];
                for i in 0..count {
                    if watch.stopped() {
                        return Err(Error::interrupted());
                    }
                    // Other tokens in each sequence, so that they do not all choose the same experts.
                    step.iter_mut().enumerate().for_each(|(s, t)| *t = self.tokens[(depth + i + s) % self.tokens.len()]);
                    self.generator.greedy_each(&step)?;
                }
            }
        }
        self.generator.synchronize()?;
        let seconds = begin.elapsed().as_secs_f64();
        let joules = meter.zip(from).and_then(|(meter, from)| meter.joules(&from, &meter.read()));
        Ok((seconds, joules))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use bitworth_quant::Checkpoint;
    use bitworth_quant::progress::Silent;

    use super::*;
    use bitworth_engine::cpu::Cpu;

    fn demo(dir: &tempfile::TempDir) -> Variant {
        bitworth_eval::demo::materialize(dir.path()).unwrap();
        Variant::Stored(Arc::new(Checkpoint::open(&dir.path().join("demo-model")).unwrap()))
    }

    #[test]
    fn tests_are_crossed_as_llama_bench_crosses_them() {
        let load =
            Workload { prompt: vec![512, 0], generate: vec![128], depth: vec![0, 64], batch: vec![1, 4], ..Workload::default() };
        let names: Vec<String> = load.tests().iter().map(SpeedTest::name).collect();
        let expected =
            ["pp512", "tg128", "pp512 @ d64", "tg128 @ d64", "pp512 x4", "tg128 x4", "pp512 x4 @ d64", "tg128 x4 @ d64"];
        assert_eq!(names, expected);
    }

    #[track_caller]
    fn check_refused(load: &Workload, named: &str) {
        let error = load.check(1024).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }

    #[test]
    fn what_cannot_be_timed_is_refused() {
        let load = Workload::default;
        load().check(512).unwrap();
        check_refused(&Workload { depth: vec![0, 1000], ..load() }, "depth 1000 and 512 tokens");
        check_refused(&Workload { depth: vec![usize::MAX], ..load() }, "context of 1024");
        check_refused(&Workload { batch: vec![1, 0], ..load() }, "batch 0");
        check_refused(&Workload { prompt: vec![0], generate: vec![], ..load() }, "nothing to time");
        check_refused(&Workload { depth: vec![1, 2, 1], ..load() }, "depth names 1 twice");
        check_refused(&Workload { delay: Duration::MAX, ..load() }, "delay");
        check_refused(&Workload { drift_bound: f64::NAN, ..load() }, "drift bound");
        let long: Vec<usize> = (1..=100).collect();
        check_refused(&Workload { prompt: long.clone(), depth: long, ..load() }, "tests");
    }

    #[test]
    fn a_sequence_goes_on_from_where_it_was_rewound_to() {
        let dir = tempfile::tempdir().unwrap();
        let (model, cpu) = (demo(&dir), Cpu::new());
        let tokens: Vec<u32> = (10..30).collect();
        let fresh = Generator::new(&cpu, &model, 32, 1).unwrap().logits(0, &tokens).unwrap();
        let mut generator = Generator::new(&cpu, &model, 32, 1).unwrap();
        generator.prefill(0, &tokens[..8]).unwrap();
        generator.prefill(0, &[1, 2, 3, 4, 5, 6, 7]).unwrap();
        generator.rewind(0, 99).unwrap();
        assert_eq!(generator.length(0), 15);
        generator.rewind(0, 8).unwrap();
        assert_eq!(generator.length(0), 8);
        assert_eq!(generator.logits(0, &tokens[8..]).unwrap(), fresh);
    }

    #[test]
    fn drift_is_made_up_for_by_at_most_as_many_repetitions() {
        let dir = tempfile::tempdir().unwrap();
        let (model, cpu, stop) = (demo(&dir), Cpu::new(), AtomicBool::new(false));
        let watch = Watch { progress: &Silent, stop: &stop };
        let load =
            |drift_bound| Workload { prompt: vec![4], generate: vec![2], repetitions: 2, drift_bound, ..Workload::default() };
        // No machine is as steady as that.
        let never = measure(&cpu, &[&model], &load(1e-12), watch).unwrap();
        assert!(never.speeds[0].len() == 8 && never.speeds[0].iter().all(|speed| speed.drifted), "{:?}", never.speeds);
        assert_eq!((never.anchors.len(), never.interrupted), (9, false));
        let always = measure(&cpu, &[&model, &model], &load(10.0), watch).unwrap();
        assert!(always.speeds.iter().all(|speeds| speeds.len() == 4 && speeds.iter().all(|speed| speed.seconds > 0.0)));
        let repetitions: Vec<u32> = always.speeds[1].iter().map(|speed| speed.repetition).collect();
        assert_eq!(repetitions, [0, 0, 1, 1]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let error = measure(&cpu, &[&model], &load(10.0), watch).err().unwrap();
        assert!(error.is_interruption(), "{error}");
    }
}

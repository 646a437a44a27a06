//! Operations on the states of mixers: convolutions and recurrences along the rows of runs that begin with each other's states.

use bitworth_quant::DType;

use super::guarded::{Guarded, input};
use super::{Random, U, check, check_bits, f64s};
use crate::backend::{Backend, ConvFilter, RecurInputs, RecurShape, Recurrence, Run, RunList};

const SLOTS: usize = 4;

/// Runs of a step by their rows and slots. A row that nobody owns stands between any two.
fn runs(parts: &[(usize, Option<usize>, Option<usize>)]) -> Vec<Run> {
    let mut first = 1;
    let run = |&(len, from, to): &(usize, Option<usize>, Option<usize>)| {
        let rows = first..first + len;
        first = rows.end + 1;
        Run { rows, position: 0, from, to }
    };
    parts.iter().map(run).collect()
}

/// Steps of every kind: beginnings, decoding, sequences in several pieces, shared beginnings, slots that change hands.
fn steps() -> Vec<(&'static str, Vec<Run>)> {
    let [a, b, c, d] = [0, 1, 2, 3].map(Some);
    vec![
        ("nothing", runs(&[])),
        ("one run", runs(&[(9, None, None)])),
        ("one run that is kept", runs(&[(9, None, b)])),
        ("decoding", runs(&[(1, c, c), (1, a, a), (3, b, b), (1, None, d)])),
        ("chain", runs(&[(5, None, b), (2, b, b), (1, b, b), (7, b, a)])),
        ("fork", runs(&[(6, d, a), (4, a, None), (2, a, b), (3, a, a), (1, b, None)])),
        ("slots written over", runs(&[(3, a, None), (2, None, a), (2, a, b), (1, None, a), (2, a, c)])),
        ("runs without rows", runs(&[(0, b, c), (2, c, None), (0, None, d), (0, None, None), (0, a, a)])),
    ]
}

fn rows_of(runs: &[Run]) -> usize {
    runs.last().map_or(1, |run| run.rows.end + 1)
}

/// Whether a number of a matrix with so many columns belongs to the rows of a run.
fn in_rows(runs: &[Run], cols: usize) -> impl Fn(usize) -> bool {
    move |place| runs.iter().any(|run| run.rows.contains(&(place / cols)))
}

/// Whether a number belongs to a slot that is left by a run.
fn in_slots(runs: &[Run], cols: usize) -> impl Fn(usize) -> bool {
    move |place| runs.iter().any(|run| run.to == Some(place / cols))
}

/// A sum of few products, and after it silu with the rounding of its exponential function.
pub(super) fn conv<B: Backend>(b: &B) {
    let mut random = Random::new(30);
    let cases = [(DType::F32, 2, 1), (DType::F32, 3, 7), (DType::F32, 4, 64), (DType::F16, 4, 130), (DType::F32, 5, 300)];
    for (number, (dtype, taps, channels)) in cases.into_iter().enumerate() {
        let (tensor, weight) = random.weight(dtype, channels, taps);
        let (tensor, before) = (b.weight(tensor).unwrap(), taps - 1);
        for (name, runs) in steps() {
            for silu in [false, true] {
                let what = format!("conv {dtype} {taps} x {channels}, silu {silu}, {name}");
                let x = random.numbers(rows_of(&runs) * channels);
                let old = random.numbers(SLOTS * before * channels);
                let bias = (number % 2 == 0).then(|| random.numbers(channels));
                let (mut expected, mut bounds, mut state) = (f64s(&x), vec![0.0; x.len()], f64s(&old));
                for run in &runs {
                    let len = before * channels;
                    let mut seen = run.from.map_or(vec![0.0; len], |slot| state[slot * len..][..len].to_vec());
                    seen.extend(x[run.rows.start * channels..run.rows.end * channels].iter().map(|&x| f64::from(x)));
                    for (at, place) in (run.rows.start * channels..run.rows.end * channels).enumerate() {
                        let channel = place % channels;
                        let bias = bias.as_ref().map_or(0.0, |bias| f64::from(bias[channel]));
                        let (mut sum, mut size) = (bias, bias.abs());
                        for tap in 0..taps {
                            let term = f64::from(weight[channel * taps + tap]) * seen[at + tap * channels];
                            (sum, size) = (sum + term, size + term.abs());
                        }
                        let rounding = (taps + 1) as f64 * U * size;
                        let f = if silu { sum / (1.0 + (-sum).exp()) } else { sum };
                        let after = if silu { (16.0 + 4.0 * sum.abs()) * U * f.abs() + 1e-30 } else { 0.0 };
                        (expected[place], bounds[place]) = (f, 1.2 * rounding + after);
                    }
                    if let Some(slot) = run.to {
                        state[slot * len..][..len].copy_from_slice(&seen[seen.len() - len..]);
                    }
                }
                let (mut device_x, mut device_state) = (Guarded::new(b, &x), Guarded::new(b, &old));
                let device_bias = bias.as_ref().map(|bias| input(b, bias));
                let filter = ConvFilter { weight: &tensor, bias: device_bias.as_ref(), silu };
                let list = RunList::new(b, &runs).unwrap();
                b.conv(&mut device_x.buffer, filter, &list, &mut device_state.buffer).unwrap();
                check(&what, &device_x.check(&what, in_rows(&runs, channels)), &expected, |i| bounds[i]);
                let left = device_state.check(&what, in_slots(&runs, before * channels));
                check(&format!("{what}: state"), &left, &state, |_| 0.0);
            }
        }
    }
}

const SCANS: [Recurrence; 2] =
    [Recurrence::Scan { dt_min: 0.0, dt_max: f32::INFINITY }, Recurrence::Scan { dt_min: 0.05, dt_max: 1.5 }];

fn shape(kind: Recurrence, [heads, key_heads, key_dim, value_dim]: [usize; 4], tiled: bool) -> RecurShape {
    RecurShape { kind, heads, key_heads, key_dim, value_dim, tiled }
}

/// What a recurrence reads, on the host.
struct Inputs {
    q: Vec<f32>,
    k: Vec<f32>,
    gate: Vec<f32>,
    beta: Vec<f32>,
    parameters: Vec<f32>,
    values: Vec<f32>,
}

impl Inputs {
    /// Keys of length 1, as a delta net has them, and gates of any size.
    fn new(random: &mut Random, shape: RecurShape, rows: usize) -> Self {
        let RecurShape { heads, key_heads, key_dim, value_dim, .. } = shape;
        let mut keys = || {
            let mut keys = random.numbers(rows * key_heads * key_dim);
            for key in keys.chunks_mut(key_dim) {
                let length = key.iter().map(|x| x * x).sum::<f32>().sqrt();
                key.iter_mut().for_each(|x| *x /= length);
            }
            keys
        };
        let (q, k) = (keys(), keys());
        let mut gates = |extremes: [f32; 4]| {
            let mut gates: Vec<f32> = random.numbers(rows * heads).iter().map(|x| 2.0 * x).collect();
            gates.iter_mut().rev().step_by(5).zip(extremes).for_each(|(gate, extreme)| *gate = extreme);
            gates
        };
        let (gate, beta) = (gates([-100.0, 30.0, -25.0, 100.0]), gates([100.0, -100.0, 30.0, -25.0]));
        let mut parameters = random.numbers(3 * heads);
        parameters[..heads].iter_mut().for_each(|a| *a = -0.02 - a.abs());
        Self { q, k, gate, beta, parameters, values: random.numbers(rows * heads * value_dim) }
    }
}

/// The state of a head, and for each of its columns how far a device may be from it.
#[derive(Clone)]
struct Head {
    state: Vec<f64>,
    bounds: Vec<f64>,
}

/// A rounding of a column counts relative to its length: neither recurrence makes an error of a column longer than the decay
/// leaves it. What a row adds to it are the roundings of two sums over the keys, which walk at random, and of the gates, for
/// whose exponential functions graphics interfaces allow some units in the last place.
fn recurrence(inputs: &Inputs, shape: RecurShape, runs: &[Run], old: &[f32]) -> [(Vec<f64>, Vec<f64>); 2] {
    let RecurShape { kind, heads, key_heads, key_dim, value_dim, tiled } = shape;
    let unit = (40.0 + 2.0 * (key_dim as f64).sqrt()) * U;
    let head_len = key_dim * value_dim;
    let head_of = |state: &[f32]| Head { state: f64s(state), bounds: vec![0.0; value_dim] };
    let mut slots: Vec<Head> = old.chunks(head_len).map(head_of).collect();
    let (mut out, mut out_bounds) = (f64s(&inputs.values), vec![0.0; inputs.values.len()]);
    let softplus = |x: f64| if x > 30.0 { x } else { x.exp().ln_1p() };
    for (run, head) in runs.iter().flat_map(|run| (0..heads).map(move |head| (run, head))) {
        let mut own = match run.from {
            Some(slot) => slots[slot * heads + head].clone(),
            None => head_of(&vec![0.0; head_len]),
        };
        let [a, bias, multiple] = [0, 1, 2].map(|row| f64::from(inputs.parameters[row * heads + head]));
        let key_head = if tiled { head % key_heads } else { head * key_heads / heads };
        for t in run.rows.clone() {
            let vector = |of: &[f32]| f64s(&of[(t * key_heads + key_head) * key_dim..][..key_dim]);
            let (q, k) = (vector(&inputs.q), vector(&inputs.k));
            let length = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
            let dt = softplus(f64::from(inputs.gate[t * heads + head]) + bias);
            let (dt, factor) = match kind {
                Recurrence::Delta => (dt, 1.0 / (1.0 + (-f64::from(inputs.beta[t * heads + head])).exp())),
                Recurrence::Scan { dt_min, dt_max } => {
                    let dt = dt.clamp(dt_min.into(), dt_max.into());
                    (dt, dt)
                }
            };
            let decay = (a * dt).exp();
            for column in 0..value_dim {
                let place = (t * heads + head) * value_dim + column;
                let v = f64::from(inputs.values[place]);
                let mut s: Vec<f64> = (0..key_dim).map(|i| decay * own.state[i * value_dim + column]).collect();
                let decayed = length(&s);
                let known = if kind == Recurrence::Delta { s.iter().zip(&k).map(|(s, k)| s * k).sum() } else { 0.0 };
                let d = (v - known) * factor;
                s.iter_mut().zip(&k).for_each(|(s, k)| *s += k * d);
                s.iter().enumerate().for_each(|(i, s)| own.state[i * value_dim + column] = *s);
                let bound = &mut own.bounds[column];
                *bound = decay * *bound + unit * (decayed + factor * v.abs()) + 1e-30;
                let multiple = if kind == Recurrence::Delta { 0.0 } else { multiple };
                out[place] = s.iter().zip(&q).map(|(s, q)| s * q).sum::<f64>() + multiple * v;
                out_bounds[place] = *bound + unit * (length(&s) + (multiple * v).abs());
            }
        }
        if let Some(slot) = run.to {
            slots[slot * heads + head] = own;
        }
    }
    let state = slots.iter().flat_map(|head| head.state.iter().copied()).collect();
    let bounds = slots.iter().flat_map(|head| (0..head_len).map(|i| head.bounds[i % value_dim])).collect();
    [(out, out_bounds), (state, bounds)]
}

fn recur<B: Backend>(b: &B, inputs: &Inputs, shape: RecurShape, runs: &[Run], state: &mut B::Buffer, values: &mut B::Buffer) {
    let [q, k, gate, beta] = [&inputs.q, &inputs.k, &inputs.gate, &inputs.beta].map(|data| input(b, data));
    let parameters = input(b, &inputs.parameters);
    let beta = (shape.kind == Recurrence::Delta).then_some(&beta);
    let inputs = RecurInputs { q: &q, k: &k, gate: &gate, beta, parameters: &parameters };
    b.recur(inputs, shape, &RunList::new(b, runs).unwrap(), state, values).unwrap();
}

/// See [`recurrence`] for the bounds.
pub(super) fn recurrences<B: Backend>(b: &B) {
    let mut random = Random::new(31);
    let sizes = [
        ([1, 1, 32, 48], false),
        ([3, 1, 48, 32], true),
        ([4, 2, 5, 3], true),
        ([8, 4, 128, 70], false),
        ([8, 2, 128, 64], true),
        ([6, 3, 256, 33], false),
    ];
    for (number, (sizes, tiled)) in sizes.into_iter().enumerate() {
        for kind in [Recurrence::Delta, SCANS[number % 2]] {
            let shape = shape(kind, sizes, tiled);
            let [heads, _, key_dim, value_dim] = sizes;
            let slot = heads * key_dim * value_dim;
            for (name, runs) in steps() {
                let what = format!("recur {shape:?}, {name}");
                let inputs = Inputs::new(&mut random, shape, rows_of(&runs));
                let old = random.numbers(SLOTS * slot);
                let [(out, out_bounds), (state, bounds)] = recurrence(&inputs, shape, &runs, &old);
                let (mut values, mut states) = (Guarded::new(b, &inputs.values), Guarded::new(b, &old));
                recur(b, &inputs, shape, &runs, &mut states.buffer, &mut values.buffer);
                check(&what, &values.check(&what, in_rows(&runs, heads * value_dim)), &out, |i| out_bounds[i]);
                check(&format!("{what}: state"), &states.check(&what, in_slots(&runs, slot)), &state, |i| bounds[i]);
            }
        }
    }
}

/// Three sequences of 11 rows, the first two alike in their first 4, as calls of runs: whole, in pieces of one call, row by row
/// in as many calls, and with what is shared computed once. Rows of a sequence lie one behind the other.
fn cuts() -> Vec<(&'static str, Vec<Vec<Run>>)> {
    let run = |sequence: usize, rows: std::ops::Range<usize>, from: Option<usize>, to: usize| {
        let rows = sequence * 11 + rows.start..sequence * 11 + rows.end;
        Run { rows, position: 0, from, to: Some(to) }
    };
    let piece = |sequence: usize, start: usize, end: usize| run(sequence, start..end, (start > 0).then_some(sequence), sequence);
    let whole = |sequence| piece(sequence, 0, 11);
    let ends = [[0, 1, 3, 11], [0, 5, 6, 11], [0, 2, 10, 11]];
    let pieces = |sequence: usize| ends[sequence].windows(2).map(move |ends| piece(sequence, ends[0], ends[1]));
    let shared = vec![run(0, 0..4, None, 3), run(0, 4..11, Some(3), 0), run(1, 4..11, Some(3), 1), whole(2)];
    vec![
        ("whole", vec![vec![whole(0), whole(1), whole(2)]]),
        ("alone", vec![vec![whole(2)], vec![whole(0)], vec![whole(1)]]),
        ("in pieces", vec![(0..3).flat_map(pieces).collect()]),
        ("row by row", (0..11).map(|t| (0..3).map(|sequence| piece(sequence, t, t + 1)).collect()).collect()),
        ("shared", vec![shared]),
    ]
}

/// What calls of runs make of the same rows and states.
type Walk<'a> = dyn Fn(&[Vec<Run>]) -> [Vec<f32>; 2] + 'a;

/// However rows are cut into runs and calls, every row and every state that is left has the same bits.
pub(super) fn results_do_not_depend_on_runs<B: Backend>(b: &B) {
    let mut random = Random::new(32);
    let rows = 33;
    // The second sequence begins as the first does.
    let share = |data: &mut [f32]| data.copy_within(0..data.len() / rows * 4, data.len() / 3);
    let same = |what: &str, cols: usize, slot: usize, walk: &Walk<'_>| {
        let cuts = cuts();
        let whole = walk(&cuts[0].1);
        for (name, calls) in &cuts[1..] {
            let [x, state] = walk(calls);
            let what = format!("{what}, {name}");
            for run in calls.iter().flatten() {
                let part = run.rows.start * cols..run.rows.end * cols;
                check_bits(&what, &x[part.clone()], &whole[0][part]);
            }
            check_bits(&format!("{what}: state"), &state[..3 * slot], &whole[1][..3 * slot]);
        }
    };
    let (channels, taps) = (130, 4);
    let (weight, mut x) = (b.weight(random.weight(DType::F32, channels, taps).0).unwrap(), random.numbers(rows * channels));
    share(&mut x);
    let old = random.numbers(SLOTS * 3 * channels);
    same("conv", channels, 3 * channels, &|calls| {
        let (mut x, mut state) = (Guarded::new(b, &x), Guarded::new(b, &old));
        for runs in calls {
            let filter = ConvFilter { weight: &weight, bias: None, silu: true };
            b.conv(&mut x.buffer, filter, &RunList::new(b, runs).unwrap(), &mut state.buffer).unwrap();
        }
        [x.check("conv", |_| true), state.check("conv", |_| true)]
    });
    for kind in [Recurrence::Delta, SCANS[0]] {
        let sizes @ [heads, _, key_dim, value_dim] = [8, 2, 128, 70];
        let shape = shape(kind, sizes, false);
        let mut inputs = Inputs::new(&mut random, shape, rows);
        let Inputs { q, k, gate, beta, values, .. } = &mut inputs;
        [q, k, gate, beta, values].into_iter().for_each(|data| share(data));
        let slot = heads * key_dim * value_dim;
        let old = random.numbers(SLOTS * slot);
        same(&format!("{kind:?}"), heads * value_dim, slot, &|calls| {
            let (mut values, mut state) = (Guarded::new(b, &inputs.values), Guarded::new(b, &old));
            calls.iter().for_each(|runs| recur(b, &inputs, shape, runs, &mut state.buffer, &mut values.buffer));
            [values.check("recur", |_| true), state.check("recur", |_| true)]
        });
    }
}

//! The angles of rotary position embedding (Su et al. 2021), with every stretching of positions that models have. Tables are
//! computed once on the host, the same bits on every machine; backends only look angles up.
//!
//! Some stretchings depend on the length of the whole sequence (LongRoPE's short and long divisors, dynamic NTK). Sequences are
//! sorted into classes by length; a table has a part for each class, and a token's position counts within its class's part.
//!
//! Absent: the rotation itself (see `backend`) and which blocks rotate (see `forward`).

use std::collections::HashMap;

use bitworth_quant::HParams;
use bitworth_quant::arch::LongRope;
use bitworth_quant::hparams::{RopeScaling, Yarn};

use super::backend::Arithmetic;
use super::error::Result;
use super::model::{Reader, Variant};

/// What the angles of one model depend on.
#[derive(Debug, Clone)]
pub struct Rope {
    dim: usize,
    base: f32,
    scaling: RopeScaling,
    original_context: usize,
    magnitude: f32,
    /// The same beyond the original context.
    long_magnitude: f32,
    /// Base in blocks with a sliding window, where it is another.
    local_base: Option<f32>,
    /// What is rotated of a head there.
    local_dim: usize,
    divisors: Divisors,
}

/// Divisors of the frequencies, one a pair.
#[derive(Debug, Clone)]
enum Divisors {
    None,
    Fixed(Vec<f32>),
    /// LongRoPE (Ding et al. 2024): up to the original context, and beyond it.
    ByLength {
        short: Vec<f32>,
        long: Vec<f32>,
    },
}

impl Rope {
    /// Of a model.
    ///
    /// # Errors
    /// Tensors that cannot be read.
    pub fn of(variant: &Variant) -> Result<Self> {
        let h: &HParams = variant.hparams();
        let reader = Reader::alone(variant, Arithmetic::F32);
        let long_rope = variant.checkpoint().block_traits()?.long_rope;
        let divisors = match (reader.rope_freqs()?, reader.longrope_factors()?) {
            (_, Some((short, _))) if long_rope == LongRope::ShortAlways => Divisors::Fixed(short),
            (_, Some((short, long))) => Divisors::ByLength { short, long },
            (Some(fixed), None) => Divisors::Fixed(fixed),
            (None, None) => Divisors::None,
        };
        Ok(Self {
            dim: h.rope_dim,
            base: h.rope_freq_base,
            scaling: h.rope_scaling,
            original_context: h.rope_original_context,
            magnitude: h.rope_magnitude,
            long_magnitude: h.rope_long_magnitude,
            local_base: h.rope_local_base,
            local_dim: h.rope_local_dim,
            divisors,
        })
    }

    /// Two sequences whose lengths give the same number here have the same angles.
    fn class_of(&self, length: usize) -> usize {
        let beyond = length > self.original_context;
        match (&self.divisors, self.scaling) {
            (_, RopeScaling::Dynamic { .. }) if beyond => length,
            (Divisors::ByLength { .. }, _) => usize::from(beyond),
            _ if self.magnitude != self.long_magnitude => usize::from(beyond),
            _ => 0,
        }
    }

    /// Angle by position of every pair, for sequences of `length` tokens.
    ///
    /// Frequencies are rounded to f32 as the reference implementation does (transformers 5.23, `modeling_rope_utils.py`).
    fn frequencies(&self, length: usize) -> Vec<f32> {
        let divisor = |pair: usize| match &self.divisors {
            Divisors::None => 1.0,
            Divisors::Fixed(list) => list.get(pair).copied().unwrap_or(1.0),
            Divisors::ByLength { short, long } => {
                let list = if length > self.original_context { long } else { short };
                list.get(pair).copied().unwrap_or(1.0)
            }
        };
        let base = match self.scaling {
            RopeScaling::Dynamic { factor } if length > self.original_context => {
                let (factor, dim) = (f64::from(factor), self.dim as f64);
                let growth = factor * length as f64 / self.original_context as f64 - (factor - 1.0);
                f64::from(self.base) * libm::pow(growth, dim / (dim - 2.0))
            }
            _ => f64::from(self.base),
        };
        let plain = plain_frequencies(base, self.dim);
        match self.scaling {
            RopeScaling::Yarn(yarn) => self.yarn(&yarn, &plain),
            RopeScaling::Linear { factor } => plain.iter().enumerate().map(|(i, f)| f / divisor(i) / factor).collect(),
            _ => plain.iter().enumerate().map(|(i, f)| f / divisor(i)).collect(),
        }
    }

    /// High frequencies as they are, low ones divided, blended in between (Peng et al. 2023, section 3.2).
    fn yarn(&self, yarn: &Yarn, plain: &[f32]) -> Vec<f32> {
        let dim = self.dim as f64;
        let pair_of_turns = |turns: f32| {
            let wavelength = self.original_context as f64 / (f64::from(turns) * std::f64::consts::TAU);
            dim * libm::log(wavelength) / (2.0 * libm::log(f64::from(self.base)))
        };
        let (mut low, mut high) = (pair_of_turns(yarn.beta_fast), pair_of_turns(yarn.beta_slow));
        if yarn.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        let blend = |(i, &frequency): (usize, &f32)| {
            let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            let keep = (1.0 - ramp) * yarn.extrapolation;
            frequency / yarn.factor * (1.0 - keep) + frequency * keep
        };
        plain.iter().enumerate().map(blend).collect()
    }

    /// `cos, sin` of every pair at every position, for each class of lengths: `[classes * positions, dim / 2, 2]`.
    pub fn table(&self, classes: &LengthClasses) -> Vec<f32> {
        let parts = classes.lengths.iter().zip(&classes.positions);
        let magnitude = |length: usize| if length > self.original_context { self.long_magnitude } else { self.magnitude };
        parts.flat_map(|(&length, &positions)| angles(&self.frequencies(length), positions, magnitude(length))).collect()
    }

    /// The same for blocks with a sliding window, where those have a base of their own.
    pub fn local_table(&self, classes: &LengthClasses) -> Option<Vec<f32>> {
        let frequencies = plain_frequencies(f64::from(self.local_base?), self.local_dim);
        Some(classes.positions.iter().flat_map(|&positions| angles(&frequencies, positions, 1.0)).collect())
    }
}

/// The frequency of every pair of a part of a head that is `dim` wide.
fn plain_frequencies(base: f64, dim: usize) -> Vec<f32> {
    let frequency = |i: usize| {
        let exponent = (2 * i) as f32 / dim as f32;
        1.0 / libm::pow(base, f64::from(exponent)) as f32
    };
    (0..dim / 2).map(frequency).collect()
}

fn angles(frequencies: &[f32], positions: usize, magnitude: f32) -> Vec<f32> {
    let at = |position: usize| {
        frequencies.iter().flat_map(move |frequency| {
            let angle = f64::from(position as f32 * frequency);
            [libm::cos(angle) as f32 * magnitude, libm::sin(angle) as f32 * magnitude]
        })
    };
    (0..positions).flat_map(at).collect()
}

/// Classes of sequences by length: within one, the angles of every model that goes through it together are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LengthClasses {
    /// Positions of each class's part of a table: its longest sequence.
    positions: Vec<usize>,
    /// A length of every class.
    lengths: Vec<usize>,
    /// What [`Rope::class_of`] says of it, for each model.
    keys: Vec<Vec<usize>>,
}

impl LengthClasses {
    /// For sequences of these lengths, in models with these embeddings.
    pub fn new(ropes: &[&Rope], lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut classes = Self { positions: Vec::new(), lengths: Vec::new(), keys: Vec::new() };
        let mut known = HashMap::new();
        for length in lengths {
            let key: Vec<usize> = ropes.iter().map(|rope| rope.class_of(length)).collect();
            let class = *known.entry(key.clone()).or_insert_with(|| {
                classes.lengths.push(length);
                classes.positions.push(length);
                classes.keys.push(key);
                classes.keys.len() - 1
            });
            classes.positions[class] = classes.positions[class].max(length);
        }
        classes
    }

    /// Where in a table the positions of a sequence of `length` tokens begin.
    pub fn first_position(&self, ropes: &[&Rope], length: usize) -> u32 {
        let key: Vec<usize> = ropes.iter().map(|rope| rope.class_of(length)).collect();
        let class = self.keys.iter().position(|known| *known == key).unwrap_or(0);
        self.positions[..class].iter().sum::<usize>() as u32
    }

    /// Whether a table for these classes serves a sequence of `length` tokens.
    pub fn serves(&self, ropes: &[&Rope], length: usize) -> bool {
        let key: Vec<usize> = ropes.iter().map(|rope| rope.class_of(length)).collect();
        self.keys.contains(&key)
    }

    /// The same with positions up to `positions`.
    pub fn reaching(self, positions: usize) -> Self {
        Self { positions: self.positions.iter().map(|&own| own.max(positions)).collect(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(scaling: RopeScaling, divisors: Divisors) -> Rope {
        let (magnitude, long_magnitude) = (1.0, 1.0);
        Rope {
            dim: 8,
            base: 10000.0,
            scaling,
            original_context: 64,
            magnitude,
            long_magnitude,
            local_base: None,
            local_dim: 8,
            divisors,
        }
    }

    fn check(found: &[f32], expected: [f64; 4]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) / expected - 1.0).abs() < 1e-6, "{found:?} is not {expected:?}");
        }
    }

    /// Values by transformers 5.23 (`ROPE_INIT_FUNCTIONS`) for a head of 8 components, base 10000, original context 64.
    #[test]
    fn frequencies_are_those_of_the_reference() {
        let plain = [1.0, 0.1, 0.01, 0.001];
        check(&rope(RopeScaling::None, Divisors::None).frequencies(10), plain);
        check(&rope(RopeScaling::Linear { factor: 4.0 }, Divisors::None).frequencies(10), plain.map(|f| f / 4.0));
        let dynamic = rope(RopeScaling::Dynamic { factor: 2.0 }, Divisors::None);
        check(&dynamic.frequencies(64), plain);
        // The base becomes 10000 * (2 * 128 / 64 - 1)^(8 / 6).
        let base: f64 = 10000.0 * 3f64.powf(8.0 / 6.0);
        check(&dynamic.frequencies(128), [1.0, base.powf(-0.25), base.powf(-0.5), base.powf(-0.75)]);
        let long = Divisors::ByLength { short: vec![1.0, 1.0, 2.0, 2.0], long: vec![1.0, 4.0, 4.0, 8.0] };
        check(&rope(RopeScaling::None, long.clone()).frequencies(64), [1.0, 0.1, 0.005, 0.0005]);
        check(&rope(RopeScaling::None, long).frequencies(65), [1.0, 0.025, 0.0025, 0.000_125]);
    }

    #[test]
    fn yarn_keeps_high_frequencies_and_divides_low_ones() {
        let yarn = Yarn { factor: 8.0, extrapolation: 1.0, beta_fast: 32.0, beta_slow: 1.0, truncate: true };
        // The ramp reaches from pair 0 (32 turns in 64 positions) to pair 2 (1.008 for one turn, rounded up).
        let expected = [1.0, 0.1 * (0.5 + 0.5 / 8.0), 0.01 / 8.0, 0.001 / 8.0];
        check(&rope(RopeScaling::Yarn(yarn), Divisors::None).frequencies(10), expected);
        let open = Yarn { truncate: false, ..yarn };
        let at = 8.0 * (64.0f64 / std::f64::consts::TAU).ln() / (2.0 * 10000f64.ln());
        let ramp = 1.0 / at;
        let expected = [1.0, 0.1 * (ramp / 8.0 + 1.0 - ramp), 0.01 / 8.0, 0.001 / 8.0];
        check(&rope(RopeScaling::Yarn(open), Divisors::None).frequencies(10), expected);
    }

    #[test]
    fn lengths_are_sorted_by_what_their_angles_depend_on() {
        let plain = rope(RopeScaling::None, Divisors::None);
        let dynamic = rope(RopeScaling::Dynamic { factor: 2.0 }, Divisors::None);
        let classes = LengthClasses::new(&[&plain], [10, 64, 100]);
        assert_eq!((classes.lengths.len(), &classes.positions[..]), (1, &[100][..]));
        let both = [&plain, &dynamic];
        let classes = LengthClasses::new(&both, [10, 64, 100, 70, 100]);
        assert_eq!(classes.lengths, [10, 100, 70]);
        assert_eq!([10, 64, 100, 70].map(|length| classes.first_position(&both, length)), [0, 0, 64, 164]);
        assert!(classes.serves(&both, 63) && classes.serves(&both, 70) && !classes.serves(&both, 71));
        assert_eq!(classes.clone().reaching(200).first_position(&both, 100), 200);
        let louder = Rope { long_magnitude: 2.0, ..plain };
        let classes_by_magnitude = LengthClasses::new(&[&louder], [10, 64, 100]);
        assert_eq!(classes_by_magnitude.positions, [64, 100]);
        assert_eq!(louder.table(&classes_by_magnitude)[64 * 8..][..2], [2.0, 0.0]);
        let table = dynamic.table(&classes);
        assert_eq!(table.len(), (64 + 100 + 70) * 8);
        assert_eq!(table[..8], [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    }
}

//! CPython's `random.Random`, as lm-evaluation-harness draws shots and bootstrap samples with it: the Mersenne twister seeded by
//! an integer, `sample`, `choices`, `shuffle`. Absent: other seeds and distributions.
//!
//! Source: CPython's `Modules/_randommodule.c` and `Lib/random.py`; M. Matsumoto and T. Nishimura, "Mersenne Twister", 1998.

const N: usize = 624;
const M: usize = 397;

/// A generator.
#[derive(Clone)]
pub struct Random {
    state: [u32; N],
    at: usize,
}

impl Random {
    /// C++'s `std::mt19937(seed)`.
    pub fn of_seed(seed: u32) -> Self {
        let mut state = [0_u32; N];
        state[0] = seed;
        for i in 1..N {
            state[i] = 1_812_433_253_u32.wrapping_mul(state[i - 1] ^ (state[i - 1] >> 30)).wrapping_add(i as u32);
        }
        Self { state, at: N }
    }

    /// `random.Random(seed)`.
    pub fn new(seed: u64) -> Self {
        // The seed's 32-bit digits, the least first; at least one.
        let key: &[u32] = &[seed as u32, (seed >> 32) as u32];
        let key = if key[1] == 0 { &key[..1] } else { key };
        let Self { mut state, .. } = Self::of_seed(19_650_218);
        let (mut i, mut j) = (1, 0);
        for _ in 0..N.max(key.len()) {
            let mixed = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_664_525);
            state[i] = (state[i] ^ mixed).wrapping_add(key[j]).wrapping_add(j as u32);
            i += 1;
            j += 1;
            if i >= N {
                state[0] = state[N - 1];
                i = 1;
            }
            if j >= key.len() {
                j = 0;
            }
        }
        for _ in 0..N - 1 {
            let mixed = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_566_083_941);
            state[i] = (state[i] ^ mixed).wrapping_sub(i as u32);
            i += 1;
            if i >= N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        Self { state, at: N }
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.at >= N {
            for k in 0..N {
                let y = (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % N] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[k] = self.state[(k + M) % N] ^ (y >> 1) ^ odd;
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// `random()`: 53 bits in [0, 1).
    pub fn random(&mut self) -> f64 {
        let (a, b) = (self.next_u32() >> 5, self.next_u32() >> 6);
        (f64::from(a) * 67_108_864.0 + f64::from(b)) / 9_007_199_254_740_992.0
    }

    /// `getrandbits(bits)` of at most 64.
    fn bits(&mut self, bits: u32) -> u64 {
        match bits {
            0 => 0,
            1..=32 => u64::from(self.next_u32() >> (32 - bits)),
            _ => {
                let low = u64::from(self.next_u32());
                low | (u64::from(self.next_u32() >> (64 - bits)) << 32)
            }
        }
    }

    /// `_randbelow(n)`; 0 where `n` is.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 {
            return 0;
        }
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let drawn = self.bits(bits) as usize;
            if drawn < n {
                return drawn;
            }
        }
    }

    /// The places of `sample(population, k)` in a population of `n`; `None` where it is too small.
    pub fn sample(&mut self, n: usize, k: usize) -> Option<Vec<usize>> {
        if k > n {
            return None;
        }
        // The size of a set of k, against that of a list of n.
        let mut set_size = 21_usize;
        if k > 5 {
            let power = ((k * 3) as f64).log(4.0).ceil();
            set_size = set_size.saturating_add(4_f64.powf(power) as usize);
        }
        let mut drawn = Vec::with_capacity(k);
        if n <= set_size {
            let mut pool: Vec<usize> = (0..n).collect();
            for i in 0..k {
                let j = self.below(n - i);
                drawn.push(pool[j]);
                pool[j] = pool[n - i - 1];
            }
        } else {
            let mut chosen = std::collections::HashSet::with_capacity(k);
            for _ in 0..k {
                let mut j = self.below(n);
                while !chosen.insert(j) {
                    j = self.below(n);
                }
                drawn.push(j);
            }
        }
        Some(drawn)
    }

    /// One place of `choices(population, k=...)` in a population of `n`.
    pub fn choice(&mut self, n: usize) -> usize {
        (self.random() * n as f64).floor() as usize
    }

    /// `shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i + 1);
            items.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: CPython 3.11.
    #[test]
    fn the_generator_is_cpythons() {
        let mut random = Random::new(1234);
        assert_eq!([random.random(), random.random()], [0.9664535356921388, 0.4407325991753527]);
        assert_eq!(Random::new(0).random(), 0.8444218515250481);
        assert_eq!(Random::new(1 << 40).random(), 0.1036394562812375);
        assert_eq!(Random::new(1234).sample(200, 6).unwrap(), [199, 112, 29, 1, 23, 149]);
        assert_eq!(
            Random::new(1234).sample(50, 26).unwrap(),
            [49, 28, 7, 0, 5, 37, 2, 42, 45, 6, 22, 15, 1, 44, 36, 39, 30, 29, 9, 43, 41, 34, 3, 46, 16, 38]
        );
        assert_eq!(Random::new(1234).sample(5, 6), None);
        let mut items: Vec<usize> = (0..10).collect();
        Random::new(42).shuffle(&mut items);
        assert_eq!(items, [7, 3, 2, 8, 5, 6, 9, 4, 0, 1]);
        let mut random = Random::new(7);
        assert_eq!((0..6).map(|_| random.choice(40)).collect::<Vec<_>>(), [12, 6, 26, 2, 21, 14]);
    }
}

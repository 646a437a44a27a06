//! A grid of code tuples (see `grid_points.rs`) and, for a tuple that is not on it, the points near by that ggml looks at.
//!
//! The lists of points near by, and their order, decide the bytes: those of the smallest distances (as many different
//! distances as a type wants), nearest first, then by index (`iq2xs_init_impl`, `iq3xs_init_impl` in llama.cpp's
//! `ggml/src/ggml-quants.c`, b11434). They are derived when a type is first encoded. Searching for scales is not here.

use std::sync::OnceLock;

use super::simd::{Array8, F32x8, SIMD_WIDTH};

/// Tuples of `D` codes, packed into the lower bits: eight codes 0..=2 of two bits, or four codes 0..=7 of three.
pub(super) struct Grid<const D: usize> {
    points: &'static [u16],
    /// How many different distances count as near.
    shells: usize,
    near: OnceLock<Near>,
    /// By point: what its codes stand for, a byte each.
    levels: OnceLock<Vec<u64>>,
}

/// Where each tuple stands.
pub(super) struct Near {
    /// By tuple: the number of lists in the lower byte; above it the first of them, or the index where there are none.
    places: Vec<u32>,
    /// Points, padded with repetitions of the last one.
    lists: Vec<Array8<u16>>,
}

/// Where a tuple stands.
pub(super) enum GridMatch<'a> {
    /// On the grid.
    On,
    /// Off the grid; the points to choose from.
    Off(&'a [Array8<u16>]),
}

impl<const D: usize> Grid<D> {
    pub(super) const BITS: u32 = if D == 8 { 2 } else { 3 };
    /// Codes are `0..LEVELS`.
    pub(super) const LEVELS: u32 = if D == 8 { 3 } else { 8 };

    pub(super) const fn new(points: &'static [u16], shells: usize) -> Self {
        Self { points, shells, near: OnceLock::new(), levels: OnceLock::new() }
    }

    /// The tuple at `index`, which is less than the number of points.
    #[inline(always)]
    pub(super) fn point(&self, index: usize) -> u16 {
        self.points[index]
    }

    /// By point: `level(code)` of each of its codes, a byte each from the lowest on. A grid has one `level`.
    pub(super) fn levels(&self, level: fn(u32) -> u32) -> &[u64] {
        let code = |point: u16, i: usize| u32::from(point) >> (i as u32 * Self::BITS) & ((1 << Self::BITS) - 1);
        let packed = |&point: &u16| (0..D).fold(0, |all, i| all | u64::from(level(code(point, i))) << (8 * i));
        self.levels.get_or_init(|| self.points.iter().map(packed).collect())
    }

    pub(super) fn near(&self) -> &Near {
        self.near.get_or_init(|| self.find_near())
    }

    fn find_near(&self) -> Near {
        // The squared difference to every point along one axis, by axis and code.
        let axes: Vec<Vec<Vec<u8>>> = (0..D as u32)
            .map(|axis| {
                let code = |point: u16| u32::from(point) >> (axis * Self::BITS) & ((1 << Self::BITS) - 1);
                let squares = |c: u32| self.points.iter().map(|&point| code(point).abs_diff(c).pow(2) as u8).collect();
                (0..Self::LEVELS).map(squares).collect()
            })
            .collect();

        let mut near = Near { places: vec![0; 1 << (D as u32 * Self::BITS)], lists: Vec::new() };
        let (mut distances, mut candidates) = (vec![0u8; self.points.len()], vec![(0, 0); self.points.len()]);
        for tuple in 0..near.places.len() {
            let codes: [usize; D] = std::array::from_fn(|i| tuple >> (i as u32 * Self::BITS) & ((1 << Self::BITS) - 1));
            if codes.iter().any(|&code| code >= Self::LEVELS as usize) {
                continue;
            }
            if let Ok(index) = self.points.binary_search(&(tuple as u16)) {
                near.places[tuple] = (index as u32) << 8;
                continue;
            }
            distances.fill(0);
            for (axis, code) in axes.iter().zip(codes) {
                distances.iter_mut().zip(&axis[code]).for_each(|(distance, square)| *distance += square);
            }
            let mut shells = [0; 3];
            let shells = &mut shells[..self.shells];
            let mut last = 0;
            for shell in shells.iter_mut() {
                last = distances.iter().map(|&d| if d > last { d } else { u8::MAX }).fold(u8::MAX, u8::min);
                *shell = last;
            }
            let mut count = 0;
            for (&distance, &point) in distances.iter().zip(self.points) {
                candidates[count] = (distance, point);
                count += usize::from(distance <= last);
            }
            let of = |&shell: &u8| candidates[..count].iter().filter(move |(distance, _)| *distance == shell);
            let mut list: Vec<u16> = shells.iter().flat_map(of).map(|&(_, point)| point).collect();
            list.resize(list.len().next_multiple_of(SIMD_WIDTH), list[list.len() - 1]);
            near.places[tuple] = (near.lists.len() << 8 | (list.len() / SIMD_WIDTH)) as u32;
            near.lists.extend_from_slice(list.as_chunks().0);
        }
        near
    }
}

impl Near {
    #[inline(always)]
    pub(super) fn lookup(&self, tuple: u16) -> GridMatch<'_> {
        let place = self.places[usize::from(tuple)] as usize;
        let (first, count) = (place >> 8, place & 0xff);
        if count == 0 { GridMatch::On } else { GridMatch::Off(&self.lists[first..first + count]) }
    }

    /// The index of a point of the grid.
    #[inline(always)]
    pub(super) fn index(&self, point: u16) -> u16 {
        (self.places[usize::from(point)] >> 8) as u16
    }
}

/// The point of `lists` with the least sum of costs, the first one among equals; the first of all if every sum is NaN or
/// infinite. `costs` has for each axis the cost of every code, twice over where there are four.
#[inline(always)]
pub(super) fn cheapest<V: F32x8, const D: usize>(lists: &[Array8<u16>], costs: &[V; D]) -> u16 {
    let (mut least, mut at) = (V::splat(f32::MAX), V::splat(0.0));
    for (j, list) in lists.iter().enumerate() {
        let list = V::packed(list);
        let mut sum = costs[0].pick(list, 0);
        #[allow(clippy::needless_range_loop)] // this form is unrolled, so that the costs stay in registers: twice as fast
        for i in 1..D {
            sum = sum + costs[i].pick(list, i as u32 * Grid::<D>::BITS);
        }
        let less = sum.lt(least);
        least = V::select(less, sum, least);
        at = V::select(less, V::splat(j as f32), at);
    }
    let (least, at) = (least.store(), at.store());
    let mut best = 0;
    for l in 1..SIMD_WIDTH {
        if least[l] < least[best] || (least[l] == least[best] && at[l] < at[best]) {
            best = l;
        }
    }
    lists[at[best] as usize][best]
}

/// Seven signs and the eighth, which makes the number of minus signs even (`ksigns_iq2xs`).
#[inline(always)]
pub(super) fn even_signs(seven: u32) -> u32 {
    const EVEN: [u8; 128] = {
        let mut even = [0; 128];
        let mut seven = 0u32;
        while seven < 128 {
            even[seven as usize] = (seven | (seven.count_ones() & 1) << 7) as u8;
            seven += 1;
        }
        even
    };
    u32::from(EVEN[(seven & 127) as usize])
}

/// Eight numbers of a byte each, from 1 to 127, negative where `signs` has a bit; a byte each again.
#[inline(always)]
pub(super) fn signed(levels: u64, signs: u32) -> [i8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Bit i in byte i, then all of the byte's bits.
    let bits = (u64::from(signs & 255) * ONES) & 0x8040_2010_0804_0201;
    let ones = (bits + 127 * ONES) >> 7 & ONES;
    // No number is 0, so that its complement is not 255 and adding 1 carries nowhere.
    bytemuck::cast(((levels ^ (ones * 255)) + ones).to_le_bytes())
}

/// The weights at a point: `scale * level(code)`, negative where `signs` has a bit.
#[inline(always)]
pub(super) fn decode_point<const D: usize>(point: u16, signs: u32, scale: f32, level: impl Fn(u32) -> u32, out: &mut [f32]) {
    for i in 0..D as u32 {
        let code = u32::from(point) >> (i * Grid::<D>::BITS) & ((1 << Grid::<D>::BITS) - 1);
        let x = scale * level(code) as f32;
        out[i as usize] = f32::from_bits(x.to_bits() ^ (signs >> i & 1) << 31);
    }
}

/// What the codes of the IQ2 types stand for, times 8: 8, 25, 43.
#[inline(always)]
pub(super) fn iq2_level(code: u32) -> u32 {
    8 + 17 * code + (code >> 1)
}

#[cfg(test)]
mod tests {
    use super::super::grid_points;
    use super::super::simd::Plain;
    use super::*;

    #[test]
    fn points_near_by_come_nearest_first_then_by_index() {
        fn check<const D: usize>(points: &'static [u16], shells: usize) {
            assert!(points.is_sorted(), "an index is found by bisection");
            let grid = Grid::<D>::new(points, shells);
            let near = grid.near();
            let codes =
                |tuple: u16| (0..D as u32).map(move |i| i32::from(tuple >> (i * Grid::<D>::BITS) & ((1 << Grid::<D>::BITS) - 1)));
            for tuple in (0..1u32 << (D as u32 * Grid::<D>::BITS)).step_by(7).map(|tuple| tuple as u16) {
                if codes(tuple).any(|code| code >= Grid::<D>::LEVELS as i32) {
                    continue;
                }
                let distance = |point: u16| codes(tuple).zip(codes(point)).map(|(a, b)| (a - b).pow(2)).sum::<i32>();
                let mut all: Vec<(i32, usize)> = points.iter().enumerate().map(|(i, &point)| (distance(point), i)).collect();
                all.sort();
                match near.lookup(tuple) {
                    GridMatch::On => assert_eq!(all[0], (0, usize::from(near.index(tuple)))),
                    GridMatch::Off(lists) => {
                        let last = all.chunk_by(|a, b| a.0 == b.0).nth(shells - 1).unwrap()[0].0;
                        all.retain(|&(distance, _)| distance <= last);
                        let found: Vec<u16> = lists.as_flattened()[..all.len()].to_vec();
                        assert_eq!(found, all.iter().map(|&(_, i)| points[i]).collect::<Vec<_>>());
                        assert!(lists.as_flattened()[all.len()..].iter().all(|padding| Some(padding) == found.last()));
                    }
                }
            }
        }
        check::<8>(&grid_points::IQ1, 3);
        check::<8>(&grid_points::IQ2_XXS, 2);
        check::<4>(&grid_points::IQ3_S, 3);
    }

    #[test]
    fn signs_turn_single_bytes() {
        let levels = [1, 2, 8, 25, 43, 62, 127, 1u8];
        for signs in 0..256 {
            let expected: [i8; 8] =
                std::array::from_fn(|i| if signs >> i & 1 == 1 { -(levels[i] as i8) } else { levels[i] as i8 });
            assert_eq!(signed(u64::from_le_bytes(levels), signs), expected, "{signs:08b}");
        }
    }

    #[test]
    fn the_first_among_equals_is_cheapest() {
        let lists = [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15]];
        let costs = |low: Array8| [Plain::load(&low), Plain::splat(1.0), Plain::splat(0.0), Plain::splat(0.0)];
        assert_eq!(cheapest(&lists, &costs([3.0, 2.0, 2.0, 4.0, 5.0, 5.0, 2.0, 9.0])), 1);
        assert_eq!(cheapest(&lists, &costs([f32::NAN; 8])), 0);
        assert_eq!(cheapest(&lists, &costs([f32::INFINITY; 8])), 0);
    }
}

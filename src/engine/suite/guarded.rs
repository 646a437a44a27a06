//! Sentinels: numbers that no operation computes, in front of, between and behind what an operation may write. After it they
//! must stand there to the last bit. ggml's test-backend-ops has the idea. Absent: what the operation should have written.
//!
//! A buffer is always longer than the operation needs, and so are its operands and lists: one that goes by their lengths, or
//! takes one number too many, is caught at the first sentinel that it changes.

use super::super::backend::Backend;

/// Numbers behind every output and operand: more than the widest row of the suite, so that a row too many is one of sentinels.
const MARGIN: usize = 1024;

/// The sentinel at a place: about 0.87, other bits at every place. Near the size of an activation, so that whatever is added to
/// it, or multiplied with it, changes its bits.
fn sentinel(place: usize) -> f32 {
    f32::from_bits(0x3f5e_0000 | (place as u32 & 0xffff))
}

fn sentinels(places: std::ops::Range<usize>) -> Vec<f32> {
    places.map(sentinel).collect()
}

/// `data` with sentinels behind it.
fn with_margin(data: &[f32]) -> Vec<f32> {
    [data, &sentinels(data.len()..data.len() + MARGIN)].concat()
}

/// An operand: `data` with more behind it than the operation needs.
pub(super) fn input<B: Backend>(b: &B, data: &[f32]) -> B::Buffer {
    b.upload(&with_margin(data)).unwrap()
}

/// An index list: `data`, and its beginning once more behind it.
pub(super) fn list<B: Backend>(b: &B, data: &[u32]) -> B::Indices {
    b.indices(&data.iter().cycle().take(data.len() + 16).copied().collect::<Vec<_>>()).unwrap()
}

/// What an operation writes to an output of `len` numbers, which holds nothing but sentinels before.
pub(super) fn output<B: Backend>(b: &B, what: &str, len: usize, operation: impl FnOnce(&mut B::Buffer)) -> Vec<f32> {
    let mut guarded = Guarded::new(b, &sentinels(0..len));
    operation(&mut guarded.buffer);
    guarded.check(what, |_| true)
}

/// What an operation makes of `data`.
pub(super) fn in_place<B: Backend>(b: &B, what: &str, data: &[f32], operation: impl FnOnce(&mut B::Buffer)) -> Vec<f32> {
    let mut guarded = Guarded::new(b, data);
    operation(&mut guarded.buffer);
    guarded.check(what, |_| true)
}

/// A buffer of which an operation owns some places, and what stood in it before.
pub(super) struct Guarded<'b, B: Backend> {
    backend: &'b B,
    pub buffer: B::Buffer,
    before: Vec<f32>,
    len: usize,
}

impl<'b, B: Backend> Guarded<'b, B> {
    /// `data` with sentinels behind it.
    pub fn new(backend: &'b B, data: &[f32]) -> Self {
        let before = with_margin(data);
        Self { backend, buffer: backend.upload(&before).unwrap(), before, len: data.len() }
    }

    /// Nothing but sentinels, with more behind the `len` numbers that are read.
    pub fn blank(backend: &'b B, len: usize) -> Self {
        Self::new(backend, &sentinels(0..len))
    }

    /// What stands there now. All but the places that the operation `owned` must be what it was at the last check.
    pub fn check(&mut self, what: &str, owned: impl Fn(usize) -> bool) -> Vec<f32> {
        let mut now = self.backend.read(&self.buffer, 0..self.before.len()).unwrap();
        for (place, (before, now)) in self.before.iter().zip(&now).enumerate() {
            let free = place < self.len && owned(place);
            assert!(
                free || before.to_bits() == now.to_bits(),
                "{what}: wrote {now} over {before} at {place} of {} numbers, which is not its own",
                self.len
            );
        }
        self.before.clone_from(&now);
        now.truncate(self.len);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;

    fn add(len: usize) -> Vec<f32> {
        let cpu = Cpu::new();
        in_place(&cpu, "add", &[1.0; 5], |x| cpu.add(x, &input(&cpu, &[2.0; 5]), 1.0, len).unwrap())
    }

    #[test]
    fn what_an_operation_owns_is_its_own() {
        assert_eq!(add(5), [3.0; 5]);
    }

    #[test]
    #[should_panic(expected = "add: wrote")]
    fn one_number_too_many_is_caught() {
        add(6);
    }

    #[test]
    #[should_panic(expected = "at 2 of 4 numbers, which is not its own")]
    fn a_number_between_its_own_is_caught() {
        let cpu = Cpu::new();
        let mut guarded = Guarded::blank(&cpu, 4);
        cpu.copy(&vec![1.0; 3], 0, &mut guarded.buffer, 1, 3).unwrap();
        guarded.check("copy", |place| place != 2);
    }
}

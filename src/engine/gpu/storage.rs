//! Buffers, and the bind groups through which kernels see them: both are made once and used again, as making them takes longer
//! than a step of decoding does on the device. Knows nothing of what stands in them.
//!
//! A buffer is free when nobody holds it: neither who made it, nor a recorded step that was not submitted. What is written to
//! it then comes behind all that was submitted before.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of the largest buffer that is kept for another use.
const MOST_KEPT: u64 = 8 << 20;
/// Bytes of all buffers that wait for another use.
const ALL_KEPT: u64 = 32 << 20;
/// Bind groups that are kept, more than the steps of the deepest models have.
const GROUPS_KEPT: usize = 1 << 14;

/// A buffer of the device.
#[derive(Clone)]
pub(super) struct Storage(Arc<Inner>);

struct Inner {
    raw: wgpu::Buffer,
    /// Stays the same where the buffer is used again, and with it all bind groups.
    id: u64,
    pool: Arc<Pool>,
}

impl Storage {
    /// What wgpu knows it as.
    pub fn raw(&self) -> &wgpu::Buffer {
        &self.0.raw
    }

    /// What no other buffer has.
    pub fn id(&self) -> u64 {
        self.0.id
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.pool.take_back(&self.raw, self.id);
    }
}

/// What a device has done so far, for tests: decoding should do little of it.
#[derive(Default)]
pub(super) struct Counters {
    pub buffers: AtomicU64,
    pub bind_groups: AtomicU64,
    pub dispatches: AtomicU64,
    pub passes: AtomicU64,
    pub submits: AtomicU64,
    pub readbacks: AtomicU64,
}

/// One more of something.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Buffers that are free, and all bind groups.
#[derive(Default)]
pub(super) struct Pool {
    kept: Mutex<Kept>,
    ids: AtomicU64,
    pub counters: Counters,
}

/// A pipeline and the buffers that are bound, by their numbers.
type Key = Arc<[u64]>;

#[derive(Default)]
struct Kept {
    /// The longest unused first.
    free: VecDeque<(wgpu::Buffer, u64)>,
    free_bytes: u64,
    groups: HashMap<Key, wgpu::BindGroup>,
    /// By buffer: what must go with it.
    of_buffer: HashMap<u64, HashSet<Key>>,
}

impl Pool {
    /// Bytes that a buffer gets where `bytes` are needed and it may have `most`: one of few sizes where it may be used again.
    pub fn size(bytes: u64, most: u64) -> u64 {
        let even = bytes.max(64).next_multiple_of(16);
        if even > MOST_KEPT {
            return even;
        }
        // Eight sizes between a power of two and the next.
        even.next_multiple_of((even.next_power_of_two() / 16).max(16)).min(most).max(even)
    }

    /// A free buffer of that size and use, as whoever had it left it.
    pub fn reuse(self: &Arc<Self>, size: u64, usage: wgpu::BufferUsages) -> Option<Storage> {
        let mut kept = self.kept();
        // The oldest: then a token gets the same ones in the same order as the token before, and finds its bind groups.
        let fits = kept.free.iter().enumerate().filter(|(_, (raw, _))| raw.size() == size && raw.usage() == usage);
        let at = fits.min_by_key(|(_, (_, id))| *id)?.0;
        let (raw, id) = kept.free.remove(at)?;
        kept.free_bytes -= size;
        Some(Storage(Arc::new(Inner { raw, id, pool: self.clone() })))
    }

    /// A buffer that was just made.
    pub fn adopt(self: &Arc<Self>, raw: wgpu::Buffer) -> Storage {
        count(&self.counters.buffers);
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        Storage(Arc::new(Inner { raw, id, pool: self.clone() }))
    }

    /// The bind group of a pipeline with these buffers, made by `make` where there is none.
    pub fn bind_group(&self, pipeline: u64, buffers: &[&Storage], make: impl FnOnce() -> wgpu::BindGroup) -> wgpu::BindGroup {
        let key: Vec<u64> = std::iter::once(pipeline).chain(buffers.iter().map(|buffer| buffer.id())).collect();
        let mut kept = self.kept();
        if let Some(group) = kept.groups.get(&key[..]) {
            return group.clone();
        }
        if kept.groups.len() >= GROUPS_KEPT {
            kept.groups.clear();
            kept.of_buffer.clear();
        }
        count(&self.counters.bind_groups);
        let (key, group) = (Key::from(key), make());
        for &id in &key[1..] {
            kept.of_buffer.entry(id).or_default().insert(key.clone());
        }
        kept.groups.insert(key, group.clone());
        group
    }

    /// Nobody holds this buffer any more.
    fn take_back(&self, raw: &wgpu::Buffer, id: u64) {
        let mut kept = self.kept();
        if raw.size() > MOST_KEPT {
            return kept.forget(id);
        }
        kept.free_bytes += raw.size();
        kept.free.push_back((raw.clone(), id));
        while kept.free_bytes > ALL_KEPT {
            let Some((oldest, id)) = kept.free.pop_front() else { break };
            kept.free_bytes -= oldest.size();
            kept.forget(id);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Drops the bind groups of a buffer, which would keep its memory.
    fn forget(&mut self, id: u64) {
        for key in self.of_buffer.remove(&id).unwrap_or_default() {
            self.groups.remove(&key);
            for other in key[1..].iter().filter(|&&other| other != id) {
                if let Some(keys) = self.of_buffer.get_mut(other) {
                    keys.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_KEPT, Pool};

    #[test]
    fn buffers_have_few_sizes_and_are_an_eighth_too_large_at_most() {
        for bytes in [1, 64, 65, 100, 4096, 5000, 100_000, MOST_KEPT - 1, MOST_KEPT, MOST_KEPT + 1] {
            let size = Pool::size(bytes, u64::MAX);
            assert!(size >= bytes && size.is_multiple_of(16), "{bytes}: {size}");
            assert!(size <= 64 || size <= bytes + bytes / 8 + 16, "{bytes}: {size}");
        }
        assert_eq!(Pool::size(1030, 2048), Pool::size(1100, 2048));
        assert_eq!(Pool::size(2040, 2048), 2048);
        assert_eq!(Pool::size(4500, 4512), 4512);
    }
}

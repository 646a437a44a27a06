//! A mutable slice that several threads fill at once, each its own elements.
#![allow(unsafe_code)]

use std::marker::PhantomData;

/// The slice. Whoever writes through it proves that no element is touched by two threads.
pub struct SharedMut<'a> {
    data: *mut f32,
    len: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: only `as_ptr`, `slice` and `read` give access, and their callers promise disjoint elements.
unsafe impl Sync for SharedMut<'_> {}
// SAFETY: as above; f32 may move between threads.
unsafe impl Send for SharedMut<'_> {}

impl<'a> SharedMut<'a> {
    /// Shares `slice` until the value is dropped.
    pub fn new(slice: &'a mut [f32]) -> Self {
        Self { data: slice.as_mut_ptr(), len: slice.len(), life: PhantomData }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Pointer to the first element.
    pub fn as_ptr(&self) -> *mut f32 {
        self.data
    }

    /// Elements `range` as a slice.
    ///
    /// # Safety
    /// No other thread touches these elements while the slice lives.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, range: std::ops::Range<usize>) -> &mut [f32] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds by the assertion, unshared by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(range.start), range.len()) }
    }

    /// Elements `range`, to be read by any number of threads.
    ///
    /// # Safety
    /// Nobody writes to these elements while the slice lives.
    pub unsafe fn read(&self, range: std::ops::Range<usize>) -> &[f32] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds by the assertion, not written to by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.data.add(range.start), range.len()) }
    }
}

//! A mutable slice that several tasks write to at once, each to its own part.

use std::marker::PhantomData;

/// A `&mut [T]` handed to the tasks of a pool, which take disjoint parts of it.
pub(crate) struct Disjoint<'a, T> {
    pointer: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: tasks reach the slice only through the unsafe methods, whose callers promise disjoint parts.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Disjoint {
            pointer: slice.as_mut_ptr(),
            len: slice.len(),
            owner: PhantomData,
        }
    }

    /// `len` elements from `start`; panics when they are not all inside.
    ///
    /// # Safety
    ///
    /// No other live reference may overlap the part.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(
            start <= self.len && len <= self.len - start,
            "part outside the slice"
        );
        // SAFETY: inside the slice by the assertion, not aliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), len) }
    }

    /// Writes one element; panics when it is not inside.
    ///
    /// # Safety
    ///
    /// No other live reference may include the element.
    #[inline]
    pub(crate) unsafe fn set(&self, index: usize, value: T) {
        assert!(index < self.len, "element outside the slice");
        // SAFETY: inside the slice by the assertion, not aliased by the caller's promise; the old value is dropped.
        unsafe { *self.pointer.add(index) = value };
    }

    /// The start of the slice, for kernels that compute their own addresses.
    #[inline]
    pub(crate) fn pointer(&self) -> *mut T {
        self.pointer
    }
}

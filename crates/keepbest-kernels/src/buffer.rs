//! Aligned memory for activations, weights and scratch.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Bytes from which a buffer is laid out for huge pages.
const HUGE: usize = 4 << 20;
const HUGE_PAGE: usize = 2 << 20;

/// Lets Linux back the memory with huge pages, which saves page faults and address translation.
#[cfg(all(target_os = "linux", not(miri)))]
fn ask_for_huge_pages(data: NonNull<u8>, bytes: usize) {
    use rustix::mm::{Advice, madvise};
    // SAFETY: whole pages of an allocation of ours, and the advice changes no contents. A refusal costs only speed.
    let _ = unsafe {
        madvise(
            data.as_ptr().cast(),
            bytes / HUGE_PAGE * HUGE_PAGE,
            Advice::LinuxHugepage,
        )
    };
}

#[cfg(any(not(target_os = "linux"), miri))]
fn ask_for_huge_pages(_data: NonNull<u8>, _bytes: usize) {}

/// Fixed-length `f32` memory, aligned to 64 bytes (2 MiB when large, so that the kernel can back it with huge pages).
///
/// ```
/// let mut buffer = keepbest_kernels::Buffer::zeroed(100);
/// buffer[3] = 1.0;
/// assert_eq!(buffer.as_ptr() as usize % 64, 0);
/// assert_eq!(buffer.as_bytes()[12..16], 1.0f32.to_ne_bytes());
/// ```
pub struct Buffer {
    base: NonNull<u8>,
    data: NonNull<f32>,
    len: usize,
    layout: Layout,
}

// SAFETY: a buffer owns its memory alone, as a `Vec<f32>` does.
unsafe impl Send for Buffer {}
// SAFETY: shared access is read-only.
unsafe impl Sync for Buffer {}

fn alignment(bytes: usize) -> usize {
    if bytes >= HUGE { HUGE_PAGE } else { 64 }
}

/// What is allocated for `len` floats; `None` when they do not fit the address space. It is over-allocated and aligned by hand:
/// `alloc_zeroed` with a large alignment would write the zeros itself and so touch every page.
fn layout(len: usize) -> Option<Layout> {
    let bytes = len.checked_mul(4)?;
    let size = bytes.checked_add(alignment(bytes))?;
    Layout::from_size_align(size, 16).ok()
}

impl Buffer {
    /// `len` zeros. Large buffers take memory only when first touched.
    ///
    /// # Panics
    ///
    /// When `len` floats do not fit the address space. Aborts when memory is exhausted, as `Vec` does.
    pub fn zeroed(len: usize) -> Buffer {
        let layout = layout(len).expect("buffer length overflows the address space");
        Self::try_zeroed(len).unwrap_or_else(|| handle_alloc_error(layout))
    }

    /// As [`zeroed`](Self::zeroed), for a length that nobody has checked: `None` when there is no memory for it.
    pub fn try_zeroed(len: usize) -> Option<Buffer> {
        let layout = layout(len)?;
        let bytes = len * 4;
        let align = alignment(bytes);
        // SAFETY: the layout is not empty, `align` being added to its size.
        let pointer = unsafe { alloc_zeroed(layout) };
        let base = NonNull::new(pointer)?;
        let offset = base.as_ptr().align_offset(align);
        assert!(offset <= align, "allocation cannot be aligned");
        // SAFETY: `offset <= align`, so `bytes` bytes from there lie within the allocation.
        let data = unsafe { base.add(offset) }.cast::<f32>();
        if bytes >= HUGE {
            ask_for_huge_pages(data.cast(), bytes);
        }
        Some(Buffer {
            base,
            data,
            len,
            layout,
        })
    }

    /// A buffer holding a copy of `values`.
    pub fn from_slice(values: &[f32]) -> Buffer {
        let mut buffer = Buffer::zeroed(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// The floats as bytes, in the machine's order.
    pub fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }

    /// The floats as bytes to write to, in the machine's order.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(self)
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `len` initialised (zeroed) floats from `data` are ours.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and we are borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: `base` came from `alloc_zeroed` with this layout.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        Buffer::from_slice(self)
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_zeroed_and_cloned() {
        for len in [0, 1, 17, 4096, (4 << 20) / 4 + 3] {
            let mut buffer = Buffer::zeroed(len);
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|&v| v == 0.0));
            if let Some(last) = buffer.last_mut() {
                *last = 2.0;
            }
            assert_eq!(*buffer.clone(), *buffer);
            assert_eq!(buffer.as_bytes().len(), 4 * len);
        }
    }
}

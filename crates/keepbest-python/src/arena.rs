//! Memory that a model is copied into. The writer thread reads it while training goes on, so it is written to only while
//! no snapshot holds it.

#![allow(
    unsafe_code,
    reason = "reads and writes memory of Python's, by its address"
)]

use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use memmap2::MmapMut;
use pyo3::exceptions::{PyMemoryError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// One thread copies at least so many bytes: starting another costs about as much as copying this.
const BYTES_PER_THREAD: usize = 4 << 20;

/// Threads beyond this do not make a copy faster: memory is what limits it.
const MOST_THREADS: usize = 8;

/// The place where the bytes lie.
enum Memory {
    /// Anonymous pages of this process.
    Own(MmapMut),
    /// Memory of a Python object, such as a page-locked tensor, which is kept alive.
    Foreign {
        address: usize,
        len: usize,
        _owner: Py<PyAny>,
    },
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Own(map) => map,
            // SAFETY: whoever made the arena of it vouched for address and length; the owner lives as long as this.
            Self::Foreign { address, len, .. } => unsafe {
                std::slice::from_raw_parts(*address as *const u8, *len)
            },
        }
    }
}

/// Shared, so that a snapshot can outlive the Python object.
#[derive(Clone)]
struct Shared(Arc<Memory>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

/// Memory for one model and the state beside it. Reused from save to save, so that its pages are there already.
#[pyclass(frozen, module = "keepbest._native")]
pub(crate) struct Arena {
    memory: Shared,
}

#[pymethods]
impl Arena {
    /// Memory of so many bytes.
    #[new]
    fn new(len: usize) -> PyResult<Self> {
        // A mapping of nothing is an error.
        let map = MmapMut::map_anon(len.max(1)).map_err(|error| {
            PyMemoryError::new_err(format!("no memory for a copy of {len} bytes: {error}"))
        })?;
        #[cfg(target_os = "linux")]
        // Fewer, larger pages are a matter of speed alone.
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self {
            memory: Shared(Arc::new(Memory::Own(map))),
        })
    }

    /// An arena in the memory of `owner`: `len` bytes from `address` on, which stay valid while `owner` lives.
    #[staticmethod]
    fn of(owner: Py<PyAny>, address: usize, len: usize) -> PyResult<Self> {
        if address == 0 {
            return Err(PyValueError::new_err("an arena cannot lie at address 0"));
        }
        let memory = Memory::Foreign {
            address,
            len,
            _owner: owner,
        };
        Ok(Self {
            memory: Shared(Arc::new(memory)),
        })
    }

    /// Bytes in it.
    fn __len__(&self) -> usize {
        self.memory.as_ref().len()
    }

    /// The address at which it begins.
    #[getter]
    fn address(&self) -> usize {
        self.memory.as_ref().as_ptr().addr()
    }

    /// Whether no snapshot reads it, so that it may be written to.
    #[getter]
    fn is_free(&self) -> bool {
        Arc::strong_count(&self.memory.0) == 1
    }

    /// Copies memory into it: `(offset, address, bytes)` for each piece. Other threads of Python run meanwhile, so the objects that
    /// the addresses belong to must be held by the caller.
    ///
    /// Raises `RuntimeError` when a snapshot still reads the arena, `ValueError` when a piece does not fit.
    fn copy(&self, py: Python<'_>, pieces: Vec<(usize, usize, usize)>) -> PyResult<()> {
        if !self.is_free() {
            return Err(PyRuntimeError::new_err(
                "the arena is read by a save that is under way",
            ));
        }
        let len = self.memory.as_ref().len();
        for &(offset, address, bytes) in &pieces {
            let fits = offset.checked_add(bytes).is_some_and(|end| end <= len);
            if !fits || (address == 0 && bytes > 0) {
                return Err(PyValueError::new_err(format!(
                    "{bytes} bytes at {offset} do not fit an arena of {len}"
                )));
            }
        }
        let target = self.address();
        py.detach(|| copy_all(target, &pieces));
        Ok(())
    }
}

impl Arena {
    /// The bytes, shared: the arena is not free until all of it is dropped.
    pub(crate) fn bytes(&self) -> Bytes {
        Bytes::from_owner(self.memory.clone())
    }
}

/// Copies on as many threads as pay.
fn copy_all(target: usize, pieces: &[(usize, usize, usize)]) {
    let total: usize = pieces.iter().map(|piece| piece.2).sum();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = (total / BYTES_PER_THREAD).clamp(1, cores.min(MOST_THREADS));
    let share = total.div_ceil(threads).next_multiple_of(LINE).max(LINE);
    // The share of thread t: bytes t * share and on, of all pieces one after another.
    let copy_share = |thread: usize| {
        let (begin, end) = (thread * share, ((thread + 1) * share).min(total));
        let mut at = 0;
        for &(offset, address, bytes) in pieces {
            let (from, to) = (begin.max(at), end.min(at + bytes));
            if from < to {
                let skip = from - at;
                // SAFETY: the caller holds the objects at the source addresses, `copy` checked that the target lies in the arena, which
                // nothing reads, and shares of threads do not overlap.
                unsafe {
                    copy_past_caches(
                        (address + skip) as *const u8,
                        (target + offset + skip) as *mut u8,
                        to - from,
                    );
                }
            }
            at += bytes;
        }
    };
    thread::scope(|scope| {
        for thread in 1..threads {
            let copy_share = &copy_share;
            scope.spawn(move || copy_share(thread));
        }
        copy_share(0);
    });
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Copies without reading the target and without driving what training works with out of the caches: about half the traffic of
/// a plain copy, and half its time where memory is what limits it.
///
/// # Safety
/// As of [`std::ptr::copy_nonoverlapping`].
unsafe fn copy_past_caches(from: *const u8, to: *mut u8, bytes: usize) {
    let head = to.align_offset(LINE).min(bytes);
    let lines = (bytes - head) / LINE;
    let tail = head + lines * LINE;
    // SAFETY: head, lines and tail are parts of what the caller vouched for, and the lines begin at a multiple of `LINE`.
    unsafe {
        std::ptr::copy_nonoverlapping(from, to, head);
        copy_lines(from.add(head), to.add(head), lines);
        std::ptr::copy_nonoverlapping(from.add(tail), to.add(tail), bytes - tail);
    }
}

/// Copies whole cache lines to a target that begins with one.
#[cfg(target_arch = "x86_64")]
unsafe fn copy_lines(from: *const u8, to: *mut u8, lines: usize) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    const PARTS: usize = LINE / size_of::<__m128i>();
    // SAFETY: every x86-64 has SSE2. Loads may lie anywhere, and stores are aligned as the target is.
    unsafe {
        for line in 0..lines {
            let (from, to) = (from.add(line * LINE), to.add(line * LINE));
            let parts: [__m128i; PARTS] =
                std::array::from_fn(|part| _mm_loadu_si128(from.cast::<__m128i>().add(part)));
            for (part, value) in parts.into_iter().enumerate() {
                _mm_stream_si128(to.cast::<__m128i>().add(part), value);
            }
        }
        // Such stores are seen by other threads only after this.
        _mm_sfence();
    }
}

/// Copies whole cache lines.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy_lines(from: *const u8, to: *mut u8, lines: usize) {
    // SAFETY: the caller's.
    unsafe { std::ptr::copy_nonoverlapping(from, to, lines * LINE) }
}

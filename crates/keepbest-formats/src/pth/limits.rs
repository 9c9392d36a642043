//! Limits of what a file may ask for.

/// Bounds on what reading a PyTorch file may take. They are checked before memory is allocated.
///
/// The defaults fit any checkpoint that is no bomb: raise one when an error names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one pickle (tensors' data not included).
    pub pickle_bytes: u64,
    /// Values in one pickle; and, as values can be in many places, places looked at for tensors.
    pub values: usize,
    /// Tensors in a state dict.
    pub tensors: usize,
    /// Levels of containers and modules in one another that are followed.
    pub depth: usize,
    /// Bytes that may be copied (inflated entries, tensors that are not contiguous) for each byte of
    /// the file, beyond 64 MiB that are always allowed. Tensors that lie ready in the file are not
    /// copied and do not count.
    pub copies_per_byte: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pickle_bytes: 64 << 20,
            values: 4_000_000,
            tensors: 100_000,
            depth: 200,
            copies_per_byte: 20,
        }
    }
}

impl Limits {
    /// Bytes that may be copied for a file of `length` bytes.
    pub(super) fn copies(&self, length: usize) -> u64 {
        (64u64 << 20).saturating_add((length as u64).saturating_mul(self.copies_per_byte))
    }
}

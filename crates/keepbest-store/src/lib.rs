//! Run directories: staged write, commit, refs, journal, locks, fsck. Knows bytes, not tensors.

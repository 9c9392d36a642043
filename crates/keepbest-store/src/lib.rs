//! Run directories: staged write, commit, refs, journal, locks, fsck. Knows bytes, not tensors.
//!
//! ```text
//! runs/<name>/
//!   run.toml            resolved configuration, written once
//!   journal.jsonl       append-only, one checksummed event a line
//!   best.safetensors    hard link to a checkpoint (a copy where links are not possible)
//!   best.<monitor>.safetensors   the best by each further objective, likewise
//!   last.safetensors    the resume point, likewise
//!   checkpoints/        <step>-<digest8>[.<copy>][.params].safetensors, never written again once named
//!   archives/           <number>.kbarchive: old checkpoints, packed
//!   lock                held while someone writes; names the owner
//! ```
//!
//! [`RunWriter`] says in which order things are written and what that guarantees.

#![forbid(unsafe_code)]

#[cfg(not(unix))]
compile_error!("keepbest-store builds on Unix systems only");

mod archive;
mod attestation;
mod error;
#[cfg(feature = "test-support")]
pub mod faulty;
mod file;
mod fs;
mod fsck;
mod in_use;
mod journal;
mod layout;
mod lock;
mod patient;
mod probe;
mod read_back;
mod reader;
mod refs;
mod regular;
mod staged;
mod state;
mod writer;

pub use archive::{
    ARCHIVES_DIR, ArchiveLostEvent, ArchivedEvent, CommittedArchive, StagedArchive, archive_path,
};
pub use attestation::{Attestation, NotAttested, ParseAttestationError};
pub use error::{
    BoxError, CommitError, CreateError, IoError, JournalError, OpenError, PromoteError, PruneError,
};
pub use file::{holds, replace_unsynced, write_file, write_file_on};
pub use fs::{FileSystem, RealFileSystem, SharedFileSystem, Stat, WritableFile, names_in};
pub use fsck::{
    Depth, Finding, FindingKind, FsckReport, Testimony, Verified, Verifier, VerifyError, fsck,
    fsck_on, restore_config,
};
pub use in_use::{InUse, is_in_use};
pub use journal::{
    Entry, Event, FinishedEvent, InterruptedEvent, Journal, OtherEvent, PinnedEvent, PromotedEvent,
    PrunedEvent, RejectedEvent, RepairedEvent, ResumedEvent, SaveFailedEvent, SavedEvent,
    StartedEvent, SupersededEvent, TornTail,
};
pub use layout::{
    CHECKPOINTS_DIR, CONFIG_FILE, CheckpointKind, CheckpointName, CheckpointNameError,
    DAMAGED_SUFFIX, JOURNAL_FILE, LOCK_FILE, MODEL_FILE, OUTCOMES_DIR, RUN_FORMAT, RefName,
    RefNameError, STAGED_PREFIX, free_aside,
};
pub use lock::{LockError, Owner, active_writer};
pub use probe::Guarantee;
pub use read_back::ReadBack;
pub use reader::RunReader;
pub use regular::{FileKind, Links, NotRegular, open_regular, read_regular};
pub use staged::{Committed, StagedCheckpoint};
pub use state::{CheckpointState, RefState, RunState, RunStatus};
pub use writer::{RunDir, RunWriter, ensure_space};

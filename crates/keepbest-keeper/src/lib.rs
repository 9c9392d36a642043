//! The heart of keepbest: takes an evaluation of a snapshot, decides, saves, promotes, prunes. Knows no engine, so any training
//! loop can use it.
//!
//! - [`Keeper`]: the only way to save. [`Snapshot`] is what a training loop implements, [`Evaluation`] what it offers.
//! - [`RunView`]: reading a run; [`Selector`]: one of its checkpoints.
//! - [`prune_run`], [`pin`], [`explain`]: retention between trainings, and the reasons for it.
//! - [`fsck`]: finding and mending what a crash left behind.

#![forbid(unsafe_code)]

mod archive;
mod audit;
mod background;
mod best_copy;
mod best_progress;
mod config;
mod copy_format;
mod error;
mod evaluation;
mod event;
mod explain;
mod forgotten;
mod front;
mod fsck;
mod goal;
mod keeper;
mod maintain;
mod open;
mod own;
mod prune;
mod queue;
mod resume_point;
mod save;
mod select;
mod stamp;
mod view;

pub use archive::{
    ArchiveRunError, Archived, archive_run, archive_run_on, read_archived, restore, restore_on,
};
pub use audit::{Contradiction, audit_file, audit_journal};
pub use config::{KeeperConfig, ParseSaveModeError, SaveMode};
pub use copy_format::CopyFormat;
pub use error::{CreateError, FinishError, OfferError, ResumeError, SelectError};
pub use evaluation::Evaluation;
pub use event::{BestRecord, KeeperEvent, KeeperSummary, SaveFailure, UnsavedBest};
pub use explain::{
    BestExplained, CheckpointExplained, Explanation, Fate, RunnerUp, UnsavedExplained, explain,
};
pub use forgotten::Forgotten;
pub use front::{Front, fronts};
pub use fsck::fsck;
pub use keeper::{Keeper, Resumed, Saves};
pub use maintain::{MaintainError, Removal, RetentionRules, pin, prunable, prune_run, unpin};
pub use open::verify_checkpoint;
pub use own::run_of_own_file;
pub use prune::retention_plan;
pub use resume_point::ResumePoint;
pub use select::Selector;
pub use stamp::provenance_of;
pub use view::RunView;

// For training loops that depend on this crate alone.
pub use keepbest_core;
pub use keepbest_formats::{self, OwnedSnapshot, Snapshot, SnapshotHandle, Wanted};
pub use keepbest_store as store;

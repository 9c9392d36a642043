//! Old checkpoints in one file, each the exact difference from the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use keepbest_core::text::with_causes;
use keepbest_formats::archive::{Archive, ArchiveError, ArchiveWriter};
use keepbest_formats::model_file::{ModelFile, ModelFileError};
use keepbest_store::{
    ARCHIVES_DIR, BoxError, CheckpointName, CommitError, Event, JournalError, OpenError,
    PinnedEvent, RealFileSystem, RunState, RunWriter, SavedEvent, SharedFileSystem, archive_path,
};
use thiserror::Error;

use crate::config::SaveMode;
use crate::error::SelectError;
use crate::forgotten::Forgotten;
use crate::open::{is_refused, map_own, verify_checkpoint};
use crate::prune::retention_plan;
use crate::select::{Selector, find, find_archived};
use crate::view::RunView;

/// Why a run's checkpoints were not archived or restored. No checkpoint is lost by any of these.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArchiveRunError {
    /// The run cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its journal knows less than its files.
    #[error(transparent)]
    Forgotten(#[from] Forgotten),
    /// There is no such checkpoint.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A checkpoint cannot be read, or is damaged: it is not archived.
    #[error("checkpoint {checkpoint} cannot be archived")]
    #[non_exhaustive]
    Checkpoint {
        /// The checkpoint.
        checkpoint: CheckpointName,
        /// Why.
        source: BoxError,
    },
    /// The archive cannot be written or does not read back.
    #[error("cannot write the archive")]
    Commit(#[from] CommitError),
    /// The archive cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] std::io::Error),
    /// It could not be journalled.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An archive cannot be read.
    #[error("{}", path.display())]
    #[non_exhaustive]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why.
        source: ArchiveError,
    },
    /// What an archive holds is not what the journal says.
    #[error("{} does not hold checkpoint {checkpoint} as the journal has it", path.display())]
    #[non_exhaustive]
    NotThere {
        /// The archive.
        path: PathBuf,
        /// The checkpoint.
        checkpoint: CheckpointName,
    },
    /// A restored checkpoint is damaged.
    #[error("checkpoint {checkpoint}, restored, is damaged")]
    #[non_exhaustive]
    Model {
        /// The checkpoint.
        checkpoint: CheckpointName,
        /// Why.
        source: Box<ModelFileError>,
    },
}

/// What [`archive_run`] did.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Archived {
    /// The file; none when there was nothing to archive.
    pub archive: Option<PathBuf>,
    /// The checkpoints in it.
    pub checkpoints: Vec<CheckpointName>,
    /// Bytes of those checkpoints.
    pub bytes: u64,
    /// Bytes of the file.
    pub packed: u64,
    /// Time to read, encode and write.
    pub encoding: Duration,
    /// Time to restore every one of them from the file and compare.
    pub verifying: Duration,
    /// Originals that are archived and could not be removed, with the reason.
    pub left: Vec<(CheckpointName, String)>,
}

/// Puts a run's old checkpoints into an archive: all but best, last, pinned ones, those in use and the one the run was resumed from.
///
/// The archive is staged, synced, named, and read back by restoring each checkpoint; then it is journalled; only then are the
/// originals removed. A crash at any point leaves them, or the archive, or both.
///
/// # Errors
/// [`ArchiveRunError`]; every checkpoint is still there.
pub fn archive_run(path: &Path) -> Result<Archived, ArchiveRunError> {
    require_whole(path)?;
    archive_run_on(RealFileSystem::shared(), path)
}

/// With more events in it, a journal that was cut short would hide what it lost.
fn require_whole(path: &Path) -> Result<(), ArchiveRunError> {
    let forgotten = RunView::open(path)?.forgotten();
    forgotten.map_or(Ok(()), |found| Err(found.into()))
}

/// [`archive_run`] on a given file system.
///
/// # Errors
/// As there.
pub fn archive_run_on(fs: SharedFileSystem, path: &Path) -> Result<Archived, ArchiveRunError> {
    let mut run = RunWriter::open_on(fs, path)?;
    let mut archived = Archived::default();
    let candidates = archivable(run.state());
    let fresh: Vec<CheckpointName> = candidates
        .iter()
        .filter(|name| !run.state().archived.contains_key(name))
        .cloned()
        .collect();
    if !fresh.is_empty() {
        write(&mut run, fresh, &mut archived)?;
    }
    for name in candidates {
        // Also those that were archived when a crash came before their removal.
        let Some(archive) = run.state().archived.get(&name).cloned() else {
            continue;
        };
        if !archived.checkpoints.contains(&name)
            && let Err(error) = read(run.path(), run.state(), &name)
        {
            archived.left.push((name, with_causes(&error)));
            continue;
        }
        let reason = format!("archived in {ARCHIVES_DIR}/{archive}");
        if let Err(error) = run.prune(&name, &reason) {
            archived.left.push((name, with_causes(&error)));
        }
    }
    Ok(archived)
}

fn archivable(state: &RunState) -> Vec<CheckpointName> {
    // With no rules, only what is protected stays.
    let plan = retention_plan(state, &[], SaveMode::Full);
    let mut names: Vec<CheckpointName> = plan
        .dropped
        .iter()
        .filter_map(|dropped| dropped.name.parse().ok())
        .collect();
    // Alike ones follow each other.
    names.sort_by(|a, b| (a.kind(), a).cmp(&(b.kind(), b)));
    names
}

fn write(
    run: &mut RunWriter,
    names: Vec<CheckpointName>,
    archived: &mut Archived,
) -> Result<(), ArchiveRunError> {
    let begun = Instant::now();
    let lengths = Lengths::of(all_saved(run.state()));
    let total: u64 = names
        .iter()
        .filter_map(|name| lengths.limit(&name.to_string()))
        .sum();
    let refused = |checkpoint: &CheckpointName| {
        let checkpoint = checkpoint.clone();
        |source| ArchiveRunError::Checkpoint { checkpoint, source }
    };
    let directory = run.path().to_owned();
    let mut encoding = Duration::ZERO;
    let superseded = |archive: &Path| {
        let whole = |name: &CheckpointName| verify_checkpoint(&name.path(run.path())).is_ok();
        members(archive).is_some_and(|members| members.iter().all(whole))
    };
    let (committed, verifying) = run.stage_archive(total, superseded)?.commit(
        |out| {
            let mut writer = ArchiveWriter::new(out).map_err(ArchiveRunError::Write)?;
            for name in &names {
                let path = name.path(run.path());
                let found =
                    verify_checkpoint(&path).map_err(|error| refused(name)(error.into()))?;
                let known = run.state().checkpoints.get(name);
                if known.is_none_or(|known| known.saved.weights != found.weights) {
                    return Err(refused(name)(
                        "it holds other weights than were saved".into(),
                    ));
                }
                let file = map_own(&path).map_err(|error| refused(name)(error.into()))?;
                writer
                    .add(&name.to_string(), file)
                    .map_err(ArchiveRunError::Write)?;
            }
            writer.finish().map_err(ArchiveRunError::Write)?;
            encoding = begun.elapsed();
            Ok(())
        },
        |back| {
            let archive = open_archive(back.path()?)?;
            let begun = Instant::now();
            let mut expected = names.iter();
            archive.restore_all::<BoxError>(
                |name| lengths.limit(name),
                |member, file| {
                    let original = expected
                        .next()
                        .filter(|name| name.to_string() == member.name)
                        .ok_or("it holds other checkpoints than were written")?;
                    if map_own(&original.path(&directory))? != *file {
                        return Err("a checkpoint does not come back as it was".into());
                    }
                    Ok(())
                },
            )?;
            match expected.next() {
                None => Ok(begun.elapsed()),
                Some(_) => Err(BoxError::from(
                    "it holds fewer checkpoints than were written",
                )),
            }
        },
    )?;
    archived.encoding = encoding;
    archived.verifying = verifying;
    run.record_archived(&committed, names.clone())?;
    archived.archive = archive_path(run.path(), committed.name());
    archived.bytes = total;
    archived.packed = committed.bytes();
    archived.checkpoints = names;
    Ok(())
}

/// The length of each checkpoint, as the journal says: what a member of an archive may take.
struct Lengths(BTreeMap<String, u64>);

impl Lengths {
    fn of<'a>(saved: impl IntoIterator<Item = &'a SavedEvent>) -> Self {
        let lengths = saved
            .into_iter()
            .map(|saved| (saved.checkpoint.to_string(), saved.bytes));
        Self(lengths.collect())
    }

    fn limit(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }
}

fn all_saved(state: &RunState) -> impl Iterator<Item = &SavedEvent> {
    state.checkpoints.values().map(|known| &known.saved)
}

/// The bytes of an archived checkpoint, compared with the archive's digest and the journal's, every tensor verified.
fn read(run: &Path, state: &RunState, name: &CheckpointName) -> Result<Bytes, ArchiveRunError> {
    let archive = state.archived.get(name).map_or("", String::as_str);
    let path = archive_path(run, archive).unwrap_or_else(|| run.join(ARCHIVES_DIR));
    let known = state
        .checkpoints
        .get(name)
        .ok_or_else(|| ArchiveRunError::NotThere {
            path: path.clone(),
            checkpoint: name.clone(),
        })?;
    let opened = open_archive(&path).map_err(|source| ArchiveRunError::Archive {
        path: path.clone(),
        source,
    })?;
    read_member(&opened, &path, &known.saved, &Lengths::of(all_saved(state)))
}

fn read_member(
    archive: &Archive,
    path: &Path,
    saved: &SavedEvent,
    lengths: &Lengths,
) -> Result<Bytes, ArchiveRunError> {
    let not_there = || ArchiveRunError::NotThere {
        path: path.to_owned(),
        checkpoint: saved.checkpoint.clone(),
    };
    let text = saved.checkpoint.to_string();
    let member = archive
        .members()
        .iter()
        .position(|member| member.name == text)
        .ok_or_else(not_there)?;
    let file = archive
        .restore(member, |name| lengths.limit(name))
        .map_err(|source| ArchiveRunError::Archive {
            path: path.to_owned(),
            source,
        })?;
    match is_as_saved(&file, saved)? {
        true => Ok(file),
        false => Err(not_there()),
    }
}

/// Whether a restored file is the one that was saved, or of an earlier version holds the same weights; an error if it is damaged.
fn is_as_saved(file: &Bytes, saved: &SavedEvent) -> Result<bool, ArchiveRunError> {
    let model = ModelFile::from_bytes(file.clone()).map_err(|source| ArchiveRunError::Model {
        checkpoint: saved.checkpoint.clone(),
        source: Box::new(source),
    })?;
    let found = model.seal.as_ref().map(|seal| seal.file_digest);
    Ok(model.weights_digest() == saved.weights && (saved.file.is_none() || saved.file == found))
}

fn open_archive(path: &Path) -> Result<Archive, ArchiveError> {
    Archive::from_bytes(map_own(path)?)
}

/// Whether an archive is there and could not be read, which says nothing about what it holds.
fn is_unread(error: &ArchiveError) -> bool {
    let ArchiveError::Io(error) = error else {
        return false;
    };
    error.kind() != ErrorKind::NotFound && !is_refused(error)
}

/// The checkpoints of `members` that do not come back from an archive, each with the reason.
///
/// # Errors
/// When the archive is there and cannot be read.
pub(crate) fn lost_in_archive(
    path: &Path,
    members: &[SavedEvent],
) -> Result<Vec<(CheckpointName, String)>, BoxError> {
    let archive = match open_archive(path) {
        Ok(archive) => archive,
        Err(error) if is_unread(&error) => return Err(error.into()),
        Err(error) => {
            let reason = with_causes(&error);
            let lost = members.iter().map(|saved| saved.checkpoint.clone());
            return Ok(lost.map(|name| (name, reason.clone())).collect());
        }
    };
    let by_name: BTreeMap<String, &SavedEvent> = members
        .iter()
        .map(|saved| (saved.checkpoint.to_string(), saved))
        .collect();
    let lengths = Lengths::of(members);
    let mut whole = BTreeSet::new();
    // In one pass as far as it goes. What is left is tried one by one: a damaged one need not be the end of the others.
    let _ = archive.restore_all::<BoxError>(
        |name| lengths.limit(name),
        |member, file| {
            if let Some(saved) = by_name.get(&member.name)
                && is_as_saved(file, saved)?
            {
                whole.insert(member.name.clone());
            }
            Ok(())
        },
    );
    let lost = by_name
        .into_iter()
        .filter(|(name, _)| !whole.contains(name))
        .filter_map(|(_, saved)| {
            let error = read_member(&archive, path, saved, &lengths).err()?;
            Some((saved.checkpoint.clone(), with_causes(&error)))
        });
    Ok(lost.collect())
}

/// The checkpoints that an archive holds by its index; `None` when it cannot be read.
pub(crate) fn members(path: &Path) -> Option<Vec<CheckpointName>> {
    let archive = Archive::open(path).ok()?;
    let names = archive.members().iter();
    Some(
        names
            .filter_map(|member| member.name.parse().ok())
            .collect(),
    )
}

/// The name and the bytes of an archived checkpoint, verified.
///
/// # Errors
/// [`ArchiveRunError`].
pub fn read_archived(
    view: &RunView,
    which: &Selector,
) -> Result<(CheckpointName, Bytes), ArchiveRunError> {
    let name = match find_archived(view.state(), which) {
        Some(found) => found.saved.checkpoint.clone(),
        None => {
            // Says what there is, or why it was removed.
            let found = find(view.path(), view.state(), which)?;
            let checkpoint = found.saved.checkpoint.clone();
            let path = checkpoint.path(view.path());
            let refused = |source| ArchiveRunError::Checkpoint {
                checkpoint: checkpoint.clone(),
                source,
            };
            verify_checkpoint(&path).map_err(|error| refused(error.into()))?;
            let file = map_own(&path).map_err(|error| refused(error.into()))?;
            return Ok((checkpoint, file));
        }
    };
    let file = read(view.path(), view.state(), &name)?;
    Ok((name, file))
}

/// Puts an archived checkpoint back under its name, and pins it: retention would remove it again.
///
/// # Errors
/// [`ArchiveRunError`]; the archive keeps it in any case.
pub fn restore(path: &Path, which: &Selector) -> Result<CheckpointName, ArchiveRunError> {
    require_whole(path)?;
    restore_on(RealFileSystem::shared(), path, which)
}

/// [`restore`] on a given file system.
///
/// # Errors
/// As there.
pub fn restore_on(
    fs: SharedFileSystem,
    path: &Path,
    which: &Selector,
) -> Result<CheckpointName, ArchiveRunError> {
    let mut run = RunWriter::open_on(fs, path)?;
    let Some(found) = find_archived(run.state(), which).cloned() else {
        return Ok(find(run.path(), run.state(), which)?
            .saved
            .checkpoint
            .clone());
    };
    let saved = found.saved;
    let file = read(run.path(), run.state(), &saved.checkpoint)?;
    let staged = run.stage(saved.checkpoint.clone(), file.len() as u64)?;
    let (committed, ()) = staged.commit(
        |out| out.write_all(&file).map_err(ArchiveRunError::Write),
        |back| match map_own(back.path()?)? == file {
            true => Ok(()),
            false => Err("it does not hold what was restored".into()),
        },
    )?;
    run.append(Event::Pinned(PinnedEvent {
        checkpoint: saved.checkpoint.clone(),
    }))?;
    let committed = committed.with_file(saved.file);
    run.record_saved(&committed, saved.step, saved.epoch, saved.weights)?;
    Ok(saved.checkpoint)
}

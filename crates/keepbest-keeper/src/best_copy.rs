//! Best in another form beside it, for programs that do not read safetensors.
//!
//! The file follows best: it is derived from best as it is on disk, after best has moved, and its failure is its own. Whether it is
//! in step needs no record: it is when every byte is what best gives.

use std::io::Write;
use std::path::{Path, PathBuf};

use keepbest_core::WeightsDigest;
use keepbest_core::text::with_causes;
use keepbest_formats::model_file::{self, ModelFile};
use keepbest_formats::pth::{self, PthFile, PthImage, Tree};
use keepbest_formats::weights_digest;
use keepbest_store::{
    BoxError, CheckpointState, CommitError, Event, FileKind, Finding, FindingKind, FsckReport,
    IoError, OpenError, RealFileSystem, RepairedEvent, RunState, RunWriter, SharedFileSystem,
    free_aside, holds, write_file_on,
};
use thiserror::Error;

use crate::copy_format::CopyFormat;
use crate::open::open_model;
use crate::view::RunView;

/// Why the file is not what best is. Best is not touched by it.
#[derive(Debug, Error)]
pub(crate) enum CopyError {
    #[error("cannot read best")]
    Best(#[from] model_file::OpenError),
    #[error("cannot put best in another form")]
    Encode(#[from] pth::WriteError),
    #[error(transparent)]
    Write(#[from] CommitError),
    #[error(transparent)]
    Io(#[from] IoError),
}

/// The state of the file beside best.
enum Standing {
    InStep,
    Missing,
    /// It holds something else.
    Behind,
    /// It holds weights that no file holds any more and that were, or may be, better than the best that is left.
    Lost,
}

/// The file as best would have it.
pub(crate) struct BestCopy<'a> {
    format: CopyFormat,
    fs: &'a SharedFileSystem,
    run: &'a Path,
    state: &'a RunState,
    best: ModelFile,
    image: PthImage,
}

impl<'a> BestCopy<'a> {
    /// `None` while there is no best.
    pub(crate) fn new(
        format: CopyFormat,
        fs: &'a SharedFileSystem,
        run: &'a Path,
        state: &'a RunState,
    ) -> Result<Option<Self>, CopyError> {
        let Some(best) = state.best() else {
            return Ok(None);
        };
        let best = open_model(&best.checkpoint.path(run))?;
        let image = pth::encode(&Tree::from(&best.weights))?;
        Ok(Some(Self {
            format,
            fs,
            run,
            state,
            best,
            image,
        }))
    }

    fn path(&self) -> PathBuf {
        self.format.path(self.run)
    }

    fn put(&self, mut out: &mut dyn Write) -> std::io::Result<()> {
        self.image.write_to(&mut out)
    }

    fn standing(&self) -> Result<Standing, CopyError> {
        let path = self.path();
        let stat = self.fs.stat(&path).map_err(IoError::at("examine", &path))?;
        match stat.map(|stat| stat.kind) {
            None => return Ok(Standing::Missing),
            Some(FileKind::File) => {}
            // A link is replaced, not what it leads to.
            Some(_) => return Ok(Standing::Behind),
        }
        if holds(&path, |out| self.put(out)).map_err(IoError::at("read", &path))? {
            return Ok(Standing::InStep);
        }
        Ok(match read_digest(&path) {
            Ok(held) if self.is_lost(held) => Standing::Lost,
            _ => Standing::Behind,
        })
    }

    /// Whether weights are those of a better model than best, or of one that nothing is known of, and in no checkpoint.
    fn is_lost(&self, held: WeightsDigest) -> bool {
        let saved = self.state.checkpoints.values();
        let of_them: Vec<_> = saved.filter(|it| it.saved.weights == held).collect();
        if held == self.best.weights_digest() || of_them.iter().any(|it| it.pruned.is_none()) {
            return false;
        }
        let score = |it: &CheckpointState| it.evaluation.as_ref()?.score;
        let objectives = self.state.objectives();
        let best = self.state.best().and_then(|best| best.score);
        match (
            of_them.into_iter().find_map(score),
            best,
            objectives.first(),
        ) {
            (Some(held), Some(best), Some((_, objective))) => {
                objective.compare_total(&held, &best).is_gt()
            }
            _ => true,
        }
    }

    /// What is wrong with the file, and what would be done about it.
    fn finding(&self) -> Option<(Finding, String)> {
        let anew = "made from best".to_owned();
        let (kind, problem, action) = match self.standing() {
            Ok(Standing::InStep) => return None,
            Ok(Standing::Missing) => (FindingKind::MissingRef, "is missing".to_owned(), anew),
            Ok(Standing::Behind) => (FindingKind::WrongRef, "is not best".to_owned(), anew),
            Ok(Standing::Lost) => (
                FindingKind::WrongRef,
                "holds weights that no other file holds, not those of the best that is left"
                    .to_owned(),
                format!("kept as {}, {anew}", self.format.aside()),
            ),
            Err(error) => (FindingKind::DamagedRef, with_causes(&error), anew),
        };
        let finding = Finding {
            kind,
            subject: self.format.file_name().to_owned(),
            problem,
            action: None,
        };
        Some((finding, action))
    }

    /// Moves a FIFO, a device or a socket away, which a rename would replace. A directory stays, and is told.
    fn clear(&self, path: &Path) -> Result<(), IoError> {
        let stat = self.fs.stat(path).map_err(IoError::at("examine", path))?;
        if stat.is_none_or(|stat| {
            matches!(
                stat.kind,
                FileKind::File | FileKind::Link | FileKind::Directory
            )
        }) {
            return Ok(());
        }
        let aside = free_aside(&**self.fs, path)?;
        self.fs
            .rename(path, &aside)
            .map_err(IoError::at("rename", path))
    }

    /// Writes the file unless it is in step. The one before it stays until the new one is there, whole; where it goes on under
    /// another name, that is the answer.
    pub(crate) fn follow(&self) -> Result<Option<PathBuf>, CopyError> {
        let path = self.path();
        let mut aside = None;
        match self.standing()? {
            Standing::InStep => return Ok(None),
            Standing::Missing | Standing::Behind => self.clear(&path)?,
            Standing::Lost => {
                let to = self.lost_aside()?;
                self.fs
                    .rename(&path, &to)
                    .map_err(IoError::at("rename", &path))?;
                aside = Some(to);
            }
        }
        let verify = |staged: &Path| {
            if !holds(staged, |out| self.put(out))?
                || read_digest(staged)? != self.best.weights_digest()
            {
                return Err(BoxError::from("it holds other weights than best"));
            }
            Ok(())
        };
        let length = self.image.total_len();
        write_file_on(self.fs, &path, true, length, |out| self.put(out), verify)?;
        Ok(aside)
    }

    /// A name that no file has yet: `best.lost.pth`, `best.lost.2.pth`.
    fn lost_aside(&self) -> Result<PathBuf, IoError> {
        let first = self.run.join(self.format.aside());
        let mut path = first.clone();
        let mut number = 1;
        while self
            .fs
            .stat(&path)
            .map_err(IoError::at("examine", &path))?
            .is_some()
        {
            number += 1;
            path = first.with_extension(format!("{number}.pth"));
        }
        Ok(path)
    }
}

fn read_digest(path: &Path) -> Result<WeightsDigest, pth::PthError> {
    Ok(weights_digest(&PthFile::open(path)?.weights(None)?.weights))
}

/// Examines the file and, with `repair`, brings it in step.
pub(crate) fn check(run: &Path, repair: bool, report: &mut FsckReport) -> Result<(), OpenError> {
    if report.active_writer.is_some() {
        // It may be on its way.
        return Ok(());
    }
    // Held to the end.
    let mut writer = repair.then(|| RunWriter::open(run)).transpose()?;
    // A journal or a best that cannot be read has been reported.
    let Ok(view) = RunView::open(run) else {
        return Ok(());
    };
    let fs = RealFileSystem::shared();
    let copy =
        CopyFormat::of(view.state()).map(|format| BestCopy::new(format, &fs, run, view.state()));
    let Some(Ok(Some(copy))) = copy else {
        return Ok(());
    };
    let Some((mut finding, action)) = copy.finding() else {
        return Ok(());
    };
    if let Some(writer) = &mut writer {
        writer.append(Event::Repaired(RepairedEvent {
            finding: finding.to_string(),
            action: action.clone(),
        }))?;
        match copy.follow() {
            Ok(_) => finding.action = Some(action),
            Err(error) => finding.problem = with_causes(&error),
        }
    }
    report.findings.push(finding);
    Ok(())
}

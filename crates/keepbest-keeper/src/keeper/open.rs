//! The beginning of a keeper: a run is begun, or taken up again.

use std::path::Path;
use std::sync::Arc;

use keepbest_core::{EarlyStopping, History, Objective};
use keepbest_store::{
    Depth, Event, FsckReport, Guarantee, OpenError, RUN_FORMAT, RealFileSystem, RefName,
    ResumedEvent, RunDir, RunWriter, SharedFileSystem, StartedEvent,
};

use super::Keeper;
use crate::background;
use crate::best_progress::BestProgress;
use crate::config::KeeperConfig;
use crate::error::{CreateError, ResumeError};
use crate::event::{BestRecord, best_record};
use crate::fsck::ModelFiles;
use crate::goal::{Goal, Replay};
use crate::queue::Queue;
use crate::resume_point::{ResumePoint, resume_point};

/// A keeper that goes on where an earlier one stopped.
#[derive(Debug)]
#[non_exhaustive]
pub struct Resumed {
    /// The keeper.
    pub keeper: Keeper,
    /// The best model on disk.
    pub best: Option<BestRecord>,
    /// The evaluations up to the resume point.
    pub history: History,
    /// The point at which training goes on; `None` when nothing had been saved yet: it then begins anew.
    pub point: Option<ResumePoint>,
    /// What the interruption left behind, and what was done about it.
    pub repairs: FsckReport,
}

impl Keeper {
    /// Begins a run: creates its directory, writes `run.toml`, journals the start.
    ///
    /// # Errors
    /// [`CreateError`]: the name is taken, or the directory cannot be written.
    pub fn create(run: &Path, run_toml: &str, config: KeeperConfig) -> Result<Self, CreateError> {
        Self::create_on(RealFileSystem::shared(), run, run_toml, config)
    }

    /// Begins a run on a given file system.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_on(
        fs: SharedFileSystem,
        run: &Path,
        run_toml: &str,
        config: KeeperConfig,
    ) -> Result<Self, CreateError> {
        Objective::check_distinct(std::iter::once(&config.objective).chain(&config.others))?;
        let mut writer = RunDir::create_on(SharedFileSystem::clone(&fs), run)?;
        let guarantee = match Self::begin(&mut writer, run_toml, &config) {
            Ok(guarantee) => guarantee,
            Err(error) => {
                // So that the name is free again.
                writer.discard();
                return Err(error);
            }
        };
        Self::start(writer, config, guarantee, History::new(), 0).map_err(|error| {
            discard(fs, run);
            CreateError::Thread(error)
        })
    }

    /// Writes what a run begins with.
    fn begin(
        writer: &mut RunWriter,
        run_toml: &str,
        config: &KeeperConfig,
    ) -> Result<Guarantee, CreateError> {
        writer.write_config(run_toml)?;
        let guarantee = writer.probe()?;
        writer.append(Event::Started(started(config, guarantee)))?;
        Ok(guarantee)
    }

    /// Goes on with a run: mends what an interruption left, then rebuilds best, history and patience from the journal.
    ///
    /// # Errors
    /// [`ResumeError`]: there is no run, another process writes to it, its journal is damaged, or `config` has other objectives
    /// than the run.
    pub fn resume(run: &Path, config: KeeperConfig) -> Result<Resumed, ResumeError> {
        Self::resume_on(RealFileSystem::shared(), run, config)
    }

    /// Goes on with a run on a given file system.
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    pub fn resume_on(
        fs: SharedFileSystem,
        run: &Path,
        config: KeeperConfig,
    ) -> Result<Resumed, ResumeError> {
        let mut writer = RunWriter::open_on(fs, run)?;
        let guarantee = writer.probe().map_err(OpenError::Io)?;
        if let Some(begun) = &writer.state().started
            && (begun.objective != config.objective || begun.others != config.others)
        {
            return Err(ResumeError::ObjectiveDiffers {
                path: run.to_owned(),
                stored: in_words(&begun.objective, &begun.others),
                given: in_words(&config.objective, &config.others),
            });
        }
        // Where it was killed between the first file and the first event, or the journal was cut to nothing, it begins now.
        let begin = started(&config, guarantee);
        let repairs = writer.recover(Some(begin), Depth::Refs, &ModelFiles)?;
        let point = resume_point(writer.state(), writer.path())?;
        let (step, epoch) = point
            .as_ref()
            .map_or((0, 0), |point| (point.step, point.epoch));
        writer.append(Event::Resumed(ResumedEvent {
            step,
            epoch,
            checkpoint: point
                .as_ref()
                .and_then(|point| point.path.file_name()?.to_str()?.parse().ok()),
            session: config.session.clone(),
        }))?;
        let history = writer.state().history.clone();
        let best = best_record(run, writer.state(), RefName::BEST);
        let keeper = Self::start(writer, config, guarantee, history.clone(), step)
            .map_err(ResumeError::Thread)?;
        Ok(Resumed {
            keeper,
            best,
            history,
            point,
            repairs,
        })
    }

    /// Training goes on from `step`.
    fn start(
        writer: RunWriter,
        config: KeeperConfig,
        guarantee: Guarantee,
        history: History,
        step: u64,
    ) -> std::io::Result<Self> {
        let run = writer.path().to_owned();
        let (mut goals, mut progress) = (Vec::new(), Vec::new());
        for (place, (reference, objective)) in writer.state().objectives().into_iter().enumerate() {
            let best = best_record(&run, writer.state(), reference.clone());
            let ahead = best.as_ref().filter(|best| best.step > step);
            goals.push(Goal {
                reference: reference.clone(),
                objective: objective.clone(),
                replay: ahead.map(|best| Replay {
                    on_disk: best.score,
                    on_disk_step: best.step,
                    best: history
                        .best_by(place)
                        .and_then(|record| record.judgement(place)?.score),
                }),
            });
            progress.push(BestProgress::new(reference, objective.clone(), best));
        }
        let queue = Arc::new(Queue::new(progress));
        let mut stopping = EarlyStopping::new(config.early_stopping.clone());
        let mut stop = None;
        for record in &history {
            stop = record.judgement(0).and_then(|judgement| {
                stopping.observe(&config.objective, &judgement, record.epoch)
            });
        }
        let also = config.also;
        let (keep_last, save) = (config.keep_last, config.save);
        let retention = config.retention.clone();
        let thread = background::start(&queue, writer, config, history.clone())?;
        Ok(Self {
            run,
            guarantee,
            queue,
            thread: Some(thread),
            goals,
            also,
            keep_last,
            save,
            retention,
            stopping,
            stop,
            history,
        })
    }
}

/// Removes a run that was just created and could not begin.
fn discard(fs: SharedFileSystem, run: &Path) {
    if let Ok(writer) = RunWriter::open_on(fs, run) {
        writer.discard();
    }
}

fn started(config: &KeeperConfig, guarantee: Guarantee) -> StartedEvent {
    StartedEvent {
        keepbest: env!("CARGO_PKG_VERSION").to_owned(),
        format: RUN_FORMAT,
        objective: config.objective.clone(),
        others: config.others.clone(),
        settings: config.settings(),
        guarantee: Some(guarantee),
        session: config.session.clone(),
    }
}

fn in_words(first: &Objective, others: &[Objective]) -> String {
    let all = std::iter::once(first).chain(others);
    all.map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

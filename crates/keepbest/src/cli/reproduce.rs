//! `keepbest reproduce RUN`: trains it again, and compares.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keepbest_core::{History, Objective};
use keepbest_keeper::RunView;
use keepbest_model::words::count;
use keepbest_model::{
    LATENCY, MetricDifference, Model, RunSummary, changed_origin, is_timed, open_whole_run,
};
use keepbest_store::names_in;
use keepbest_train::{
    Event, Observer, Outcome, PlanChange, ScheduleKind, Settings, TrainError, Wish,
    changed_settings, plan_changes, resume, settings_when_saved, settle_places, train,
    use_own_model,
};
use serde_json::json;
use tempfile::TempDir;

use crate::cli::args::ReproduceArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::gauge::watched;
use crate::cli::output;
use crate::cli::painter::Painter;
use crate::cli::signals::{end_at_next_signal, stop_on_signals};
use crate::cli::terminal::Terminal;

/// The point at which the two runs part.
struct Difference {
    /// `epoch 4`, `the val images`, `lr`: what differs first.
    what: String,
    told: String,
}

pub(super) fn run(args: &ReproduceArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let path = args.of.directory()?;
    let view = open_whole_run(&path)?;
    let best = view.best().ok_or_else(|| {
        let message = format!("{} has no best to reproduce", path.display());
        Failure::new(Exit::Failed, message)
    })?;
    let settings = Settings::from_file(&path.join("run.toml"))?;
    let model = Model::open_trained(&best.path)?;
    let by_time = trained_by_time(&view, &settings);
    let in_force = settings_when_saved(&view, &settings, &best.weights);
    let mut difference = before(args, &model, &in_force, terminal)?;
    if difference.is_none() {
        difference = again(args, &view, &path, settings, terminal)?;
        end_at_next_signal();
        if let (Some(found), Some(by_time)) = (&mut difference, by_time) {
            found.told = format!("{}; {by_time}", found.told);
        }
    }
    let engine = promised(&model);
    if let (Some(found), Some(promised)) = (&mut difference, &engine) {
        found.told = format!("{}; {promised}", found.told);
    }
    let held = engine.map_or_else(String::new, |promised| format!("; {promised}"));
    if args.of.json {
        output::json(&json!({
            "run": path,
            "reproduced": difference.is_none(),
            "evaluations": view.history().len(),
            "digest": best.weights,
            "best_compared": !chosen_by_time(&view),
            "difference": difference
                .as_ref()
                .map(|found| json!({"what": found.what, "told": found.told})),
        }))?;
    } else {
        let style = terminal.style();
        match &difference {
            None if chosen_by_time(&view) => output::line(format!(
                "{}reproduced{:#}  {} are the same to the last bit; {LATENCY}, a time, is not compared, nor is the best \
                 that it decides{held}",
                style.good,
                style.good,
                count(view.history().len() as u64, "evaluation"),
            ))?,
            None => output::line(format!(
                "{}reproduced{:#}  {} and the best of epoch {} are the same to the last bit; weights {}{held}",
                style.good,
                style.good,
                count(view.history().len() as u64, "evaluation"),
                best.epoch,
                best.weights
            ))?,
            Some(found) => output::line(format!(
                "{}NOT reproduced{:#}  {} differs: {}",
                style.bad, style.bad, found.what, found.told
            ))?,
        }
    }
    Ok(if difference.is_none() {
        Exit::Done
    } else {
        Exit::CheckFailed
    })
}

/// What is promised of the bits, where the engine does not promise the same ones everywhere.
fn promised(model: &Model) -> Option<String> {
    let environment = model.provenance.as_ref()?.environment.as_ref()?;
    environment.software.as_ref()?;
    Some(format!(
        "the run was trained by {}, which gives the same bits on the same kind of device with the same software at most",
        environment.engine()
    ))
}

/// What can be seen before training: settings, images and the model it starts from must be those recorded.
fn before(
    args: &ReproduceArgs,
    model: &Model,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Option<Difference>, Failure> {
    let Some(recorded) = &model.provenance else {
        return Err(Failure::new(
            Exit::Failed,
            "the best does not record how it was trained",
        ));
    };
    if let Some(changed) = changed_settings(settings, &recorded.config).first() {
        let told = format!(
            "run.toml has {}, the best was trained with {}",
            changed.found, changed.recorded
        );
        let what = changed.key.clone();
        return Ok(Some(Difference { what, told }));
    }
    let changed = watched(terminal, |watch| {
        changed_origin(model, &args.images.source(), watch)
    })?;
    Ok(changed.map(|changed| Difference {
        what: changed.what(),
        told: changed.to_string(),
    }))
}

/// A folder to train again in: hidden, beside the run, or where temporary files go when nothing can be written there. It goes when it
/// is no longer needed; what cannot be removed is hidden and harmless.
fn scratch(view: &RunView, path: &Path, terminal: &Terminal) -> Result<TempDir, Failure> {
    let beside = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let prefix = format!(".reproducing-{}-", view.name());
    let names = names_in(beside).unwrap_or_default();
    for left in names.iter().filter_map(|name| name.to_str()) {
        if left.starts_with(&prefix) {
            terminal.note(&format!(
                "{} is of a reproduce that is under way or was killed: when none is, it can be removed",
                beside.join(left).display()
            ));
        }
    }
    let make = |folder: &Path| {
        let made = tempfile::Builder::new().prefix(&prefix).tempdir_in(folder);
        made.map_err(|error| (folder.to_owned(), error))
    };
    let made = make(beside).or_else(|(folder, error)| match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            make(&tempfile::env::temp_dir())
        }
        _ => Err((folder, error)),
    });
    made.map_err(|(folder, error)| {
        let message = format!("cannot make a folder in {}", folder.display());
        let hint = "where a run's folder cannot be written to, TMPDIR=FOLDER says where".to_owned();
        Failure {
            causes: vec![error.to_string()],
            ..Failure::new(Exit::Failed, message).with_hint(hint)
        }
    })
}

/// Trains again, as far as the run came.
fn again(
    args: &ReproduceArgs,
    view: &RunView,
    path: &Path,
    mut settings: Settings,
    terminal: &Terminal,
) -> Result<Option<Difference>, Failure> {
    let scratch = scratch(view, path, terminal)?;
    use_own_model(&mut settings, path);
    let (data, dir) = (args.images.data.clone(), args.images.sets.path());
    let written = settings.data.clone();
    if data.is_some() || dir.is_some() {
        (settings.data, settings.data_dir) = (None, None);
    }
    settle_places(&mut settings, &path.join("run.toml"))
        .map_err(|error| Failure::of(Exit::Failed, &error).with_hint(error.hint()))?;
    if data.is_some() || dir.is_some() {
        settings.data = data.or(written);
        settings.data_dir = dir.map(|dir| Some(dir.to_owned()));
    }
    settings.name = Some("run".into());
    settings.runs_dir = Some(scratch.path().to_owned());
    // Among others, how long a session lasted: it ends where the run did, however long that takes here.
    settings = settings.result_alone();
    let timed = chosen_by_time(view);
    // Measured anew, a time would end it elsewhere.
    if timed {
        settings.patience = Some(None);
        settings.target = Some(None);
    }
    if let Some(threads) = args.threads {
        settings.threads = Some(Some(threads.into()));
    }
    let stop = stop_on_signals()?;
    let planned = settings.epochs.unwrap_or_default();
    let mut changes = plan_changes(view, planned).into_iter();
    let mut change = changes.next();
    let mut watch = Watch {
        until: change,
        painter: Painter::new(*terminal, args.quiet, stop.clone()),
        recorded: view.history(),
        to_the_end: !timed && came_to_its_own_end(view),
        step: 0,
        difference: None,
        seen: 0,
        stop: stop.clone(),
    };
    let mut outcome = train(&settings, "", &mut watch, &stop);
    // Session by session, as the run was made longer.
    while let (Some(longer), Ok(_), None) = (change, &outcome, &watch.difference) {
        if !watch.reached(&longer) {
            break;
        }
        change = changes.next();
        watch.until = change;
        stop.store(false, Ordering::Relaxed);
        let mut given = Settings::default();
        given.epochs = Some(longer.epochs);
        given.threads = settings.threads;
        given.data_dir.clone_from(&settings.data_dir);
        outcome = resume(&scratch.path().join("run"), &given, &mut watch, &stop);
    }
    watch.painter.clear();
    let (difference, seen) = (watch.difference, watch.seen);
    match outcome {
        Ok(_) | Err(TrainError::Diverged { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    if difference.is_some() {
        return Ok(difference);
    }
    let expected = view.history().len();
    if let (Ok(Outcome::Interrupted { .. }), true) = (&outcome, seen < expected) {
        return Err(Failure::new(
            Exit::Interrupted,
            "interrupted before the end",
        ));
    }
    let new = RunView::open(scratch.path().join("run"))
        .map_err(|error| Failure::of(Exit::Failed, &error))?;
    Ok(compare(view, &new))
}

/// The first evaluation, by its weights, or the best that differs.
fn compare(recorded: &RunView, new: &RunView) -> Option<Difference> {
    let records = recorded.history().iter().zip(new.history());
    for (was, is) in records {
        // A snapshot that was superseded before it could be read has no digest.
        if let (Some(was_digest), Some(is_digest)) = (was.digest, is.digest)
            && was_digest != is_digest
        {
            return Some(Difference {
                what: format!("epoch {}", was.epoch),
                told: format!("its weights are {is_digest}, recorded were {was_digest}"),
            });
        }
    }
    let (was, is) = (recorded.history().len(), new.history().len());
    if was != is {
        return Some(Difference {
            what: "the number of evaluations".into(),
            told: format!("{is} came out, {was} are recorded"),
        });
    }
    if chosen_by_time(recorded) {
        return None;
    }
    let weights = |view: &RunView| view.best().map(|best| best.weights.to_string());
    let (was, is) = (weights(recorded), weights(new));
    (was != is).then(|| Difference {
        what: "the best".into(),
        told: format!(
            "its weights are {}, recorded were {}",
            is.unwrap_or_default(),
            was.unwrap_or_default()
        ),
    })
}

/// Whether the run, repeated, ends where it did. Of one that was cut off there is no more to compare.
fn came_to_its_own_end(view: &RunView) -> bool {
    RunSummary::of(view).is_some_and(|summary| !summary.cut_short)
}

/// Whether the best was decided by a time, which another measurement finds to be another.
fn chosen_by_time(view: &RunView) -> bool {
    objective(view).is_some_and(|objective| objective.metric_names().into_iter().any(is_timed))
}

fn objective(view: &RunView) -> Option<&Objective> {
    Some(&view.state().started.as_ref()?.objective)
}

/// What a time decides in training itself, where it does: then another training may come out otherwise.
fn trained_by_time(view: &RunView, settings: &Settings) -> Option<String> {
    let monitor = objective(view)?.monitor();
    let plateau = settings.schedule == Some(ScheduleKind::Plateau)
        && monitor.metric_names().into_iter().any(is_timed);
    let averaged = settings.ema.flatten().or(settings.swa.flatten()).is_some();
    let decided = [
        (plateau, "the learning rates (schedule plateau)"),
        (averaged, "which of two weights is kept (ema, swa)"),
    ];
    let decided = decided.into_iter().filter(|(decides, _)| *decides);
    let decided: Vec<&str> = decided.map(|(_, what)| what).collect();
    (chosen_by_time(view) && !decided.is_empty()).then(|| {
        format!(
            "in this run {LATENCY}, a time, decides {}, which no other training is sure to repeat",
            decided.join(" and ")
        )
    })
}

/// Compares while training goes on, and ends it at the first difference. Asks for the evaluations that the run was asked for.
struct Watch<'a> {
    painter: Painter,
    /// The point at which the run was made longer: training ends there, to go on by the new plan.
    until: Option<PlanChange>,
    recorded: &'a History,
    to_the_end: bool,
    /// Steps taken.
    step: u64,
    seen: usize,
    difference: Option<Difference>,
    stop: Arc<AtomicBool>,
}

impl Watch<'_> {
    /// Whether it has come to where the run was made longer.
    fn reached(&self, change: &PlanChange) -> bool {
        self.step >= change.step && self.seen >= change.evaluations
    }
}

impl Observer for Watch<'_> {
    fn on(&mut self, event: Event<'_>) {
        if let Event::Stepped(progress) = &event {
            self.step = progress.step;
        }
        if let Event::Measured(judged) = &event
            && let Some(recorded) = self.recorded.records().get(self.seen)
        {
            self.seen += 1;
            let what = format!("epoch {}", recorded.epoch);
            self.difference = if judged.step != recorded.step {
                let told = format!(
                    "step {} was measured, {} is recorded",
                    judged.step, recorded.step
                );
                Some(Difference { what, told })
            } else {
                MetricDifference::first_of_all(&judged.metrics, &recorded.metrics).map(|it| {
                    Difference {
                        what,
                        told: it.to_string(),
                    }
                })
            };
            let all = self.seen == self.recorded.len() && !self.to_the_end && self.until.is_none();
            if self.difference.is_some() || all {
                self.stop.store(true, Ordering::Relaxed);
            }
        }
        if self.until.is_some_and(|change| self.reached(&change)) {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.painter.on(event);
    }

    fn wish(&mut self) -> Option<Wish> {
        let next = self.recorded.records().get(self.seen)?;
        // What the settings have is not asked for: it must come of itself.
        (next.unscheduled && next.step == self.step).then_some(Wish::Evaluate)
    }
}

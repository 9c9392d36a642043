//! `keepbest train`.

use keepbest_core::text::wrapped;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use keepbest_core::text::shell_word;
use keepbest_model::words::{count, value};
use keepbest_model::{DEFAULT_RUNS_DIR, find_resumable};
use keepbest_train::{Finished, Observer, Outcome, Profiled, Rederived, Settings, settle_above};
use serde_json::{Value, json};

use crate::cli::args::TrainArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::measured::metric_words;
use crate::cli::output;
use crate::cli::painter::Painter;
use crate::cli::profile::{self, Profiling};
use crate::cli::runs::best_json;
use crate::cli::signals::{end_at_next_signal, stop_on_signals};
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;
use crate::cli::tui::Tui;
use crate::cli::words::{shorten, tail};

pub(super) fn run(args: &TrainArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let mut given = args.settings.settings()?;
    if let Some(config) = &args.config {
        let file = Settings::from_file(config)?;
        if let (Some(Some(recipe)), Some(_)) = (given.recipe, file.recipe) {
            let message = format!(
                "--recipe {recipe} would change nothing: {} is of a run, and has every setting",
                config.display()
            );
            let hint = "leave --config out, or give the settings to change as flags";
            return Err(Failure::new(Exit::Usage, message).with_hint(Some(hint.into())));
        }
        let following;
        (given, following) = settle_above(given, file, config)
            .map_err(|error| Failure::of(Exit::Failed, &error).with_hint(error.hint()))?;
        for Rederived {
            name,
            recorded,
            from,
            ..
        } in following.iter().filter(|_| !args.quiet)
        {
            say!(
                "note     {name}, {recorded} in {}, follows from the new {from}",
                config.display()
            );
        }
    }
    let mut profiled = None;
    let outcome = if args.tui {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tui = Tui::start(stop.clone())?;
        let mut watched = Profiling::new(&mut tui, args.profile, &mut profiled);
        // Given back when it is dropped, before anything else is told.
        train(args, &given, &mut watched, &stop)
    } else {
        let stop = stop_on_signals()?;
        let mut painter = Painter::new(*terminal, args.quiet, stop.clone());
        let mut watched = Profiling::new(&mut painter, args.profile, &mut profiled);
        let outcome = train(args, &given, &mut watched, &stop);
        painter.clear();
        outcome
    };
    end_at_next_signal();
    let profiled = profiled.as_ref();
    match outcome? {
        Outcome::Interrupted {
            run,
            step,
            epoch,
            failures,
            lost,
        } => interrupted(args, &run, (step, epoch), (&failures, &lost), profiled),
        Outcome::Finished(finished) => finish(args, &finished, profiled, terminal),
        _ => Err(Failure::new(
            Exit::Failed,
            "the run ended in a way that this program does not know",
        )),
    }
}

/// Trains anew, or goes on.
fn train(
    args: &TrainArgs,
    given: &Settings,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome, Failure> {
    let outcome = match &args.resume {
        Some(run) => {
            let runs_dir = given
                .runs_dir
                .clone()
                .unwrap_or_else(|| DEFAULT_RUNS_DIR.into());
            keepbest_train::resume(&find_resumable(run, &runs_dir)?, given, observer, stop)
        }
        None => keepbest_train::train(given, &preface(), observer, stop),
    };
    Ok(outcome?)
}

/// What stands above the settings in `run.toml`.
fn preface() -> String {
    format!(
        "Every setting of this run, written by keepbest {}.\n\
         `keepbest train --config FILE` with this file trains the same model again, as a new run.",
        env!("CARGO_PKG_VERSION")
    )
}

fn interrupted(
    args: &TrainArgs,
    run: &Path,
    (step, epoch): (u64, u64),
    (failures, lost): (&[String], &[String]),
    profiled: Option<&Profiled>,
) -> Result<Exit, Failure> {
    let told = || -> Result<(), Failure> {
        if args.json {
            let mut told =
                json!({"ended": "interrupted", "run": run, "step": step, "epoch": epoch});
            add_profile(&mut told, profiled);
            output::json(&told)
        } else if let Some(profiled) = profiled {
            output::lines(&profile::table(profiled))
        } else {
            Ok(())
        }
    };
    let told = told();
    if let Some(failure) = failures.last() {
        return Err(Failure::new(
            Exit::Failed,
            format!("interrupted, and {failure}"),
        ));
    }
    if !args.quiet {
        let last = run.join("last.safetensors");
        say!(
            "interrupted in epoch {epoch} after {}; saved {}",
            count(step, "step"),
            last.display()
        );
        say!("go on with: keepbest train --resume {}", shell_word(run));
    }
    told?;
    none_lost(lost)?;
    Ok(Exit::Interrupted)
}

fn finish(
    args: &TrainArgs,
    finished: &Finished,
    profiled: Option<&Profiled>,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    // What became of the run counts, whether or not it can be shown.
    let shown = show(args, finished, profiled, terminal);
    judge(args, finished, terminal)?;
    shown.map(|()| Exit::Done)
}

fn show(
    args: &TrainArgs,
    finished: &Finished,
    profiled: Option<&Profiled>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    if args.json {
        let mut told = finished_json(finished);
        add_profile(&mut told, profiled);
        return output::json(&told);
    }
    let mut shown = Ok(());
    if !args.quiet {
        say!("");
        shown = output::lines(&told(finished));
    }
    // It was asked for, quiet or not.
    if let Some(profiled) = profiled {
        shown = shown.and_then(|()| output::lines(&profile::table(profiled)));
    }
    if !args.quiet {
        next_commands(finished, terminal);
    }
    shown
}

/// Whether all went well.
fn judge(args: &TrainArgs, finished: &Finished, terminal: &Terminal) -> Result<(), Failure> {
    if !finished.best_is_saved {
        let message = unsaved_words(finished);
        let causes = finished.failures.last().cloned().into_iter().collect();
        return Err(Failure {
            causes,
            hint: Some(go_on(finished)),
            ..Failure::new(Exit::Failed, message)
        });
    }
    if !finished.also_is_saved {
        let message = "the other form of best could not be brought in step with it";
        let causes = finished.failures.last().cloned().into_iter().collect();
        return Err(Failure {
            causes,
            ..Failure::new(Exit::Failed, message)
        });
    }
    if let Some(failure) = finished.unresolved.last() {
        let message = "the best is saved; what else was to be saved is not all there";
        return Err(Failure {
            causes: vec![failure.clone()],
            ..Failure::new(Exit::Failed, message)
        });
    }
    if let Some(error) = &finished.end_error {
        let message = "the best is saved; the run did not end in order";
        return Err(Failure {
            causes: vec![error.clone()],
            hint: Some(go_on(finished)),
            ..Failure::new(Exit::Failed, message)
        });
    }
    let Some(best) = &finished.best else {
        let message = format!(
            "{} has no best: no evaluation could be one",
            finished.run.display()
        );
        let hint = format!("keepbest show {} says why", shell_word(&finished.run));
        return Err(Failure::new(Exit::Failed, message).with_hint(Some(hint)));
    };
    let test = finished
        .test
        .as_ref()
        .and_then(|test| test.report.metric(&finished.selection.as_ref()?.scored));
    if let Some(warning) = finished
        .selection
        .as_ref()
        .and_then(|selection| selection.warning(test))
        .filter(|_| !args.quiet)
    {
        warn(terminal, &warning);
    }
    for found in finished.seen_before.iter().filter(|_| !args.quiet) {
        let warning = format!(
            "it, or a model that it comes from, was {found}: the score on them flatters it"
        );
        warn(terminal, &warning);
    }
    if let Some(difference) = finished
        .recheck
        .as_ref()
        .and_then(|recheck| recheck.difference.as_ref())
    {
        let message = format!(
            "{} read back and measured again: {difference}",
            best.path.display()
        );
        return Err(Failure::new(Exit::CheckFailed, message));
    }
    none_lost(&finished.lost)
}

/// A warning that may be too long for one line.
fn warn(terminal: &Terminal, text: &str) {
    let warn = terminal.error_style().warn;
    for (at, line) in wrapped(text, 70).iter().enumerate() {
        match at {
            0 => say!("{warn}warning:{warn:#} {line}"),
            _ => say!("         {line}"),
        }
    }
}

/// What was lost before this session is in its exit code.
fn none_lost(lost: &[String]) -> Result<(), Failure> {
    if lost.is_empty() {
        return Ok(());
    }
    Err(Failure {
        causes: lost.to_vec(),
        ..Failure::new(
            Exit::CheckFailed,
            "a best was lost before this session began",
        )
    })
}

/// How to go on once what hindered it is gone.
fn go_on(finished: &Finished) -> String {
    let run = shell_word(&finished.run);
    format!("once that is mended: keepbest train --resume {run}")
}

/// Which best could not be saved, and what is on disk.
fn unsaved_words(finished: &Finished) -> String {
    let unsaved = finished.unsaved.iter().map(|unsaved| {
        let on_disk = finished
            .best
            .iter()
            .chain(&finished.others)
            .find(|best| best.reference == unsaved.reference);
        let what = format!(
            "{} ({}, epoch {}) could not be saved",
            unsaved.reference,
            value(unsaved.score.value),
            unsaved.epoch
        );
        match on_disk {
            Some(best) => format!(
                "{what}; {} is that of epoch {} ({})",
                best.path.display(),
                best.epoch,
                value(best.score.value)
            ),
            None => format!("{what}, and none is on disk"),
        }
    });
    unsaved.collect::<Vec<_>>().join("; ")
}

/// The result in a few lines: best, test, answers.
fn told(finished: &Finished) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(reason) = finished.ending.reason() {
        lines.push(format!("stopped  after epoch {}: {reason}", finished.epoch));
    }
    if let (Some(best), Some(recheck)) = (&finished.best, &finished.recheck) {
        let again = match recheck.difference {
            None => "read back from disk and measured again: the same",
            Some(_) => "read back from disk and measured again: NOT the same",
        };
        lines.push(format!(
            "best     {} (epoch {})",
            best.path.display(),
            best.epoch
        ));
        lines.push(format!("         {again}"));
        for other in &finished.others {
            let path = other.path.display();
            lines.push(format!("         {path} (epoch {})", other.epoch));
        }
        if let Some(also) = finished.also.as_ref().filter(|_| finished.also_is_saved) {
            lines.push(format!("also     {}", also.display()));
        }
    }
    if let Some(test) = &finished.test {
        let metrics = test.metrics("test");
        let seen = finished.seen_before.iter().find(|of| of.split == "test");
        let images = match seen {
            Some(found) => {
                let images = count(test.report.count(), "image");
                format!("{images}, {}", found.not_unseen())
            }
            None if finished.seen_unknown => {
                count(test.report.count(), "image") + " that this run has not seen"
            }
            None => count(test.report.count(), "unseen image"),
        };
        let intervals = finished.test_intervals.as_ref();
        let mut head = "test".to_owned();
        for name in ["accuracy", "log_loss"] {
            let full = format!("test/{name}");
            let interval = intervals.and_then(|of| of.metrics.get(&full));
            if let Some(number) = metrics.get(&full) {
                let words = metric_words(name, number, interval);
                lines.push(format!("{head:8} {words}"));
                head.clear();
            }
        }
        lines.push(format!("         on {images}"));
    }
    if !finished.examples.is_empty() {
        lines.push(String::new());
        let mut table = Table::new(["image", "label", "the best says", ">sure"]);
        for example in &finished.examples {
            let right = if example.guess.label == example.label {
                ""
            } else {
                "  (wrong)"
            };
            table.row([
                tail(&example.source, 30),
                shorten(&example.label, 16),
                format!("{}{right}", shorten(&example.guess.label, 16)),
                format!("{:.1}%", 100.0 * example.guess.probability),
            ]);
        }
        lines.extend(table.lines());
    }
    lines
}

fn next_commands(finished: &Finished, terminal: &Terminal) {
    let dim = terminal.error_style().dim;
    let name = shell_word(&finished.run);
    say!("");
    say!("{dim}try next{dim:#}");
    say!("  keepbest show {name}");
    say!("  keepbest evaluate {name}");
    if keepbest_data::list(None)
        .iter()
        .any(|set| set.name == finished.data)
    {
        say!("  keepbest data sample {} --to samples", finished.data);
        say!("  keepbest predict {name} samples");
    } else {
        say!("  keepbest predict {name} IMAGE...");
    }
}

/// With `--profile`, one more key.
fn add_profile(told: &mut Value, profiled: Option<&Profiled>) {
    if let Some(profiled) = profiled {
        told["profile"] = json!(profiled);
    }
}

fn finished_json(finished: &Finished) -> Value {
    json!({
        "ended": finished.ending.name(),
        "reason": finished.ending.reason(),
        "run": finished.run,
        "step": finished.step,
        "epoch": finished.epoch,
        "best": finished.best.as_ref().map(best_json),
        "others": finished.others.iter().map(best_json).collect::<Vec<_>>(),
        "rechecked": finished.recheck.as_ref().map(|recheck| recheck.difference.is_none()),
        "saved": finished.best_is_saved,
        "also": finished.also,
        "failures": finished.failures,
        "unresolved": finished.unresolved,
        "lost": finished.lost,
        "test": finished.test.as_ref().map(|test| test.metrics("test")),
        "seen_before": finished.seen_before,
        "test_intervals": finished.test_intervals.as_ref().map(|of| &of.metrics),
        "selection": finished.selection,
        "examples": finished.examples.iter().map(|example| json!({
            "image": example.source,
            "label": example.label,
            "predicted": example.guess,
        })).collect::<Vec<_>>(),
    })
}

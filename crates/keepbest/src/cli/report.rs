//! `keepbest report RUN`: the run as one page.

use std::path::Path;

use keepbest_keeper::RunView;
use keepbest_model::{MeasureOptions, Model, RecordedImages, Watch, open_whole_run, write};
use keepbest_train::{Closeup, Report, Selection};
use serde_json::json;

use crate::cli::args::ReportArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::gauge::watched;
use crate::cli::output;
use crate::cli::png::png;
use crate::cli::terminal::Terminal;

pub(super) fn run(args: &ReportArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let path = args.of.directory()?;
    let view = open_whole_run(&path)?;
    let mut report = Report::of(&view);
    let own = path.join(keepbest_train::REPORT_FILE);
    let page = args.to.clone().unwrap_or_else(|| own.clone());
    // The run's own page is kept up to date anyway. Refused before the best is measured, which may take a while.
    write::refuse_existing(&page, args.force || is_same(&page, &own))?;
    write::refuse_no_page(&page)?;
    refuse_plots(args, &report)?;
    report.selection = Selection::of(&view);
    if report.selects_less_than(&page) {
        let message = format!(
            "{} stays as it is: it tells how the best stands among the other epochs, and a new page could not",
            page.display()
        );
        let traces = path.join(keepbest_store::OUTCOMES_DIR);
        let hint = format!(
            "what tells it was in {}; --to FILE writes a page without it",
            traces.display()
        );
        return Err(Failure::new(Exit::Failed, message).with_hint(hint));
    }
    if let Err(failure) = measure(args, &view, &mut report, terminal) {
        report.closeups.clear();
        if report.shows_less_than(&page) {
            let message = format!(
                "{} stays as it is: it shows the best closely, and a new page could not",
                page.display()
            );
            let causes = std::iter::once(failure.message).chain(failure.causes);
            return Err(Failure {
                causes: causes.collect(),
                hint: failure.hint,
                ..Failure::new(failure.exit, message)
            });
        }
        // Without its images a run still has its curves.
        failure.warn(terminal);
        report.notes.push(format!(
            "The best is not shown closely: {}.",
            failure.message
        ));
    }
    refuse_plots(args, &report)?;
    report
        .write(&page)
        .map_err(|error| cannot_write(&page, &error))?;
    let mut written = vec![page];
    if let Some(folder) = &args.plots {
        for (name, plot) in report.plots() {
            let file = folder.join(name);
            let pixels = png(&plot).map_err(|error| {
                let message = format!("cannot draw {}: {error}", file.display());
                Failure::new(Exit::Failed, message)
            })?;
            for (file, content) in [
                (file.with_extension("png"), pixels.as_slice()),
                (file, plot.as_bytes()),
            ] {
                write::write_bytes(&file, args.force, content)?;
                written.push(file);
            }
        }
    }
    if args.of.json {
        output::json(&json!({ "written": written }))?;
    } else {
        for file in &written {
            output::line(file.display().to_string())?;
        }
    }
    Ok(Exit::Done)
}

/// Refuses plots that are in the way, before one is written.
fn refuse_plots(args: &ReportArgs, report: &Report) -> Result<(), Failure> {
    let Some(folder) = &args.plots else {
        return Ok(());
    };
    for (name, _) in report.plots() {
        let file = folder.join(name);
        write::refuse_existing(&file.with_extension("png"), args.force)?;
        write::refuse_existing(&file, args.force)?;
    }
    Ok(())
}

/// Whether both are one file that is there.
fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The best measured again, on test where there is one, and on val.
fn measure(
    args: &ReportArgs,
    view: &RunView,
    report: &mut Report,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let Some(best) = view.best() else {
        return Ok(());
    };
    let model = Model::open_trained(&best.path)?;
    report.provenance.clone_from(&model.provenance);
    report.thresholds.clone_from(&model.thresholds);
    let open = |watch: Watch<'_>| RecordedImages::open(&model, &args.images.source(), watch);
    let subject = watched(terminal, open)?;
    // Of other images the page would not be this run's.
    if let Some(changed) = subject.changed_split(&["test", "val"])? {
        let hint = match args.images.data {
            None => "--data says where they lie now",
            Some(_) => "the page is of the images that the run was trained with, to the last one",
        };
        let failure = Failure::new(Exit::CheckFailed, changed.words());
        return Err(failure.with_hint(hint.to_owned()));
    }
    for split in ["test", "val"] {
        if let Some(images) = subject.data.split(split) {
            let how = MeasureOptions {
                keep_outcomes: true,
                threads: args.threads.count(),
                ..MeasureOptions::default()
            };
            let measured = watched(terminal, |watch| subject.measure(split, how, watch))?;
            let closeup = Closeup::of(&measured, split, images)
                .map_err(|error| Failure::of(Exit::Failed, &error))?
                .with_intervals(&measured)
                .map_err(|error| Failure::of(Exit::Failed, &error))?;
            report.closeups.push(closeup);
        }
    }
    Ok(())
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure {
        causes: vec![error.to_string()],
        ..Failure::new(Exit::Failed, format!("cannot write {}", path.display()))
    }
}

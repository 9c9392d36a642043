//! `keepbest verify`: a model against what was recorded about it.

use keepbest_model::{Check, VerifyOptions, VerifyReport};
use keepbest_train::{check_device, compare_settings};

use crate::cli::args::VerifyArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::gauge::watched;
use crate::cli::output;
use crate::cli::terminal::Terminal;

pub(super) fn run(args: &VerifyArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    check_device(&args.on.device)?;
    let options = VerifyOptions {
        digest_only: args.digest_only,
        test: args.test,
        against: args.against.clone(),
        images: args.of.images.source(),
        threads: args.of.threads.count(),
        device: Some(args.on.device.clone()),
        settings: Some(&|run, weights, recorded| Ok(compare_settings(run, weights, recorded)?)),
    };
    let report = watched(terminal, |watch| {
        keepbest_model::verify(&args.of.model, &args.of.runs.runs_dir, &options, watch)
    })?;
    tell(args, &report, terminal)?;
    let holds = report.holds();
    match report.cut_short {
        // What was found before something could not be examined is known.
        Some(error) if holds => return Err(error.into()),
        Some(error) => Failure::from(error).print(terminal),
        None => {}
    }
    Ok(if holds { Exit::Done } else { Exit::CheckFailed })
}

fn tell(args: &VerifyArgs, report: &VerifyReport, terminal: &Terminal) -> Result<(), Failure> {
    if args.of.json {
        return output::json(report);
    }
    let style = terminal.style();
    output::line(report.model.display().to_string())?;
    for Check {
        check, ok, told, ..
    } in &report.checks
    {
        let (word, colour) = if *ok {
            ("ok", style.good)
        } else {
            ("FAILED", style.bad)
        };
        output::line(format!("{check:<8} {colour}{word:<6}{colour:#} {told}"))?;
    }
    for what in &report.not_checked {
        output::line(format!("not checked: {what}"))?;
    }
    Ok(())
}

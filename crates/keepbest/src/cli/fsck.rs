//! `keepbest fsck RUN`: what a crash left behind, and mending it.

use keepbest_core::text::shell_word;
use keepbest_model::words::count;
use keepbest_store::{CONFIG_FILE, FsckReport, LockError, OpenError};
use serde_json::json;

use crate::cli::args::FsckArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;

pub(super) fn run(args: &FsckArgs) -> Result<Exit, Failure> {
    let path = args.of.directory()?;
    // First, since without it there is no run to examine.
    let config = match args.repair {
        true => keepbest_store::restore_config(&path, keepbest_train::written_anew),
        false => Ok(None),
    };
    let report = config.and_then(|config| {
        let mut report = keepbest_keeper::fsck(&path, args.repair)?;
        report.findings.splice(0..0, config);
        Ok(report)
    });
    let report = report.map_err(|error| {
        let failure = Failure::of(Exit::Failed, &error);
        match error {
            OpenError::NotARun {
                missing: CONFIG_FILE,
                ..
            } if !args.repair => failure.with_hint(Some(format!(
                "keepbest fsck {} --repair writes it anew by what the journal says",
                shell_word(&path)
            ))),
            OpenError::Lock(LockError::Held { .. }) => {
                failure.with_hint(Some("wait for it to end, or leave --repair out".to_owned()))
            }
            OpenError::Unread { .. } => failure.with_hint(Some(
                "nothing was changed; give it memory, permission or a disk that answers, and try again"
                    .to_owned(),
            )),
            _ => failure,
        }
    })?;
    let mended = args.repair && report.is_mended() && report.lost_bests().next().is_none();
    let held = report.is_clean() || mended;
    if args.of.json {
        output::json(&json!({
            "run": path,
            "ok": held,
            "findings": report.findings,
            "verified": report.verified.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "active_writer": report.active_writer,
        }))?;
    } else {
        tell(&path.display().to_string(), &report, args.repair)?;
    }
    Ok(if held { Exit::Done } else { Exit::CheckFailed })
}

fn tell(run: &str, report: &FsckReport, repair: bool) -> Result<(), Failure> {
    for finding in &report.findings {
        output::line(finding.to_string())?;
    }
    if let Some(owner) = &report.active_writer {
        say!("note: {owner} is writing to the run");
    }
    let verified = count(report.verified.len() as u64, "checkpoint");
    match (report.is_clean(), repair) {
        (true, _) => output::line(format!("{run}: clean; {verified} verified")),
        (_, true) if report.is_mended() => {
            output::line(format!("{run}: mended; {verified} verified"))
        }
        (_, true) => output::line(format!(
            "{run}: not all could be mended; {verified} verified"
        )),
        (_, false) => {
            output::line(format!(
                "{run}: {}; {verified} verified",
                count(report.findings.len() as u64, "finding")
            ))?;
            say!("hint: keepbest fsck {} --repair", shell_word(run));
            Ok(())
        }
    }
}

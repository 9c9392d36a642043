//! `keepbest archive RUN`: old checkpoints in one small file. `keepbest restore RUN@step:N`: one of them back.

use std::path::Path;

use keepbest_keeper::{ArchiveRunError, archive_run, read_archived, restore};
use keepbest_model::words::count;
use keepbest_model::{ModelPlace, find_model, open_run, write};
use keepbest_store::{LockError, OpenError};
use serde_json::json;

use crate::cli::args::{RestoreArgs, RunArgs};
use crate::cli::failure::{Exit, Failure, fsck_hint};
use crate::cli::output;
use crate::cli::terminal::Terminal;
use crate::cli::words::bytes;

pub(super) fn run(args: &RunArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let path = args.directory()?;
    let done = archive_run(&path)?;
    let exit = if done.left.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    };
    let seconds = |time: std::time::Duration| time.as_secs_f64().max(1e-9);
    let ratio = done.packed as f64 / (done.bytes.max(1)) as f64;
    let bad = terminal.error_style().bad;
    for (checkpoint, error) in &done.left {
        say!("{bad}error:{bad:#} {checkpoint} is still there: {error}");
    }
    if args.json {
        output::json(&json!({
            "run": path,
            "archive": done.archive,
            "checkpoints": done.checkpoints,
            "bytes": done.bytes,
            "packed": done.packed,
            "ratio": done.archive.as_ref().map(|_| ratio),
            "encode_seconds": done.encoding.as_secs_f64(),
            "verify_seconds": done.verifying.as_secs_f64(),
        }))?;
        return Ok(exit);
    }
    let Some(archive) = &done.archive else {
        output::line("nothing to archive: best, last, pinned ones and those in use stay")?;
        return Ok(exit);
    };
    let speed = |time| bytes((done.bytes as f64 / seconds(time)) as u64);
    output::lines(&[
        format!(
            "archived {}: {} in {} ({:.1} %)",
            count(done.checkpoints.len() as u64, "checkpoint"),
            bytes(done.bytes),
            bytes(done.packed),
            100.0 * ratio
        ),
        format!(
            "written at {}/s, each restored and compared at {}/s",
            speed(done.encoding),
            speed(done.verifying)
        ),
        archive.display().to_string(),
    ])?;
    Ok(exit)
}

pub(super) fn restored(args: &RestoreArgs) -> Result<Exit, Failure> {
    let (run, which) = match find_model(&args.checkpoint, &args.runs.runs_dir)? {
        ModelPlace::Run { run, which } if args.checkpoint.contains('@') => (run, which),
        _ => {
            return Err(Failure::new(
                Exit::Usage,
                format!("{:?} names no checkpoint", args.checkpoint),
            )
            .with_hint("name a run's checkpoint: run@step:1200, run@epoch:7".to_owned()));
        }
    };
    let (checkpoint, path) = match &args.to {
        None => {
            let checkpoint = restore(&run, &which)?;
            let path = checkpoint.path(&run);
            (checkpoint, path)
        }
        Some(to) => {
            let (checkpoint, file) = read_archived(&open_run(&run)?, &which)?;
            let write = |out: &mut dyn std::io::Write| out.write_all(&file);
            let verify = |staged: &Path| match std::fs::read(staged)? == file {
                true => Ok(()),
                false => Err("it does not read back as written".into()),
            };
            write::write(to, args.force, file.len() as u64, write, verify)?;
            (checkpoint, to.clone())
        }
    };
    if args.json {
        output::json(&json!({"run": run, "checkpoint": checkpoint, "path": path}))?;
    } else {
        output::line(path.display().to_string())?;
    }
    Ok(Exit::Done)
}

impl From<ArchiveRunError> for Failure {
    fn from(error: ArchiveRunError) -> Self {
        let (exit, hint) = match &error {
            ArchiveRunError::Open(OpenError::Lock(LockError::Held { .. })) => (
                Exit::Failed,
                Some("wait for the training to end".to_owned()),
            ),
            ArchiveRunError::Open(error) => (Exit::Failed, fsck_hint(error)),
            ArchiveRunError::Forgotten(found) => (Exit::CheckFailed, Some(found.hint())),
            ArchiveRunError::Checkpoint { .. } => {
                let hint = "keepbest fsck RUN --repair".to_owned();
                (Exit::Failed, Some(hint))
            }
            _ => (Exit::Failed, None),
        };
        Self::of(exit, &error).with_hint(hint)
    }
}

//! Flags of the verbs about runs and their checkpoints.

use std::path::PathBuf;

use clap::Args;
use keepbest_model::{ModelRefError, find_run};

use super::shared::{Images, RunsDir, Threads};
use crate::cli::filter::Condition;

/// A run, and how to tell of it.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The run: its name or its directory
    pub run: String,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl RunArgs {
    /// The run's directory.
    ///
    /// # Errors
    /// [`ModelRefError::NotFound`] and [`ModelRefError::NotARun`].
    pub(crate) fn directory(&self) -> Result<PathBuf, ModelRefError> {
        find_run(&self.run, &self.runs.runs_dir)
    }
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Order: name, status, epoch, best, size, begun, when, a metric or a setting; - before it turns it round
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// Only runs of which this holds, such as `lr >= 0.1`, `status = completed`; several must all hold
    #[arg(long = "where", value_name = "CONDITION")]
    pub conditions: Vec<Condition>,
    /// Which runs' bests no other is as good as or better than by each of two or more metrics, such as
    /// `val/f1_macro,model_bytes`
    #[arg(long, value_name = "METRICS")]
    pub pareto: Option<String>,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(mut_arg("data", |data| data.help("Where the data lies now, when not where it was")))]
pub(crate) struct ReportArgs {
    /// File to write; report.html in the run by default
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Also write each plot as SVG and as PNG to this folder
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
    /// Replace files that are there; the run's own page always is
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub images: Images,
    #[command(flatten)]
    pub threads: Threads,
    #[command(flatten)]
    pub of: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Tell what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub of: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PinArgs {
    /// One of a run's checkpoints: run@step:1200, run@epoch:7, run@best
    #[arg(value_name = "RUN@WHICH")]
    pub checkpoint: String,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// One of a run's checkpoints: run@step:1200, run@epoch:7
    #[arg(value_name = "RUN@WHICH")]
    pub checkpoint: String,
    /// File to write; by default back into the run, pinned
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Replace the file if there is one
    #[arg(long, requires = "to")]
    pub force: bool,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    /// Mend what can be mended
    #[arg(long)]
    pub repair: bool,
    #[command(flatten)]
    pub of: RunArgs,
}

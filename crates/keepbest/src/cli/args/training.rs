//! Flags of the verbs that train.

use std::path::PathBuf;

use clap::Args;

use super::run::RunArgs;
use super::shared::Images;
use crate::cli::settings_args::SettingsArgs;

/// Of a flag given twice, the last one counts, so that a line can be taken up again with something added.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Go on with an interrupted run
    #[arg(long, value_name = "RUN", conflicts_with = "config")]
    pub resume: Option<String>,
    /// Take settings from a file such as a run's own run.toml; flags win
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Time every layer, and print where the time went
    #[arg(long)]
    pub profile: bool,
    /// Say only what went wrong
    #[arg(long, short)]
    pub quiet: bool,
    /// Watch it on the whole terminal: live curves, resources, keys to evaluate now or to stop
    #[arg(long, conflicts_with = "quiet")]
    pub tui: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Of a flag given twice, the last one counts, as for `train`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct LrFindArgs {
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// The first rate
    #[arg(long, value_name = "RATE", default_value_t = 1e-5)]
    pub min: f64,
    /// The last rate
    #[arg(long, value_name = "RATE", default_value_t = 1.0)]
    pub max: f64,
    /// Steps from one to the other
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(10..))]
    pub steps: u32,
    /// Also draw the loss by the rate, as an SVG file
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Replace the file if there is one
    #[arg(long, requires = "to")]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(mut_arg("data", |data| data.help("Where the data lies now, when not where it was")))]
pub(crate) struct ReproduceArgs {
    #[command(flatten)]
    pub images: Images,
    /// Threads; those of the run by default. The result does not depend on them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Say only how it came out
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub of: RunArgs,
}

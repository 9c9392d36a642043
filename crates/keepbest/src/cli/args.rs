//! The command line: verbs and their flags.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use keepbest_core::Pareto;
use keepbest_train::{DEFAULT_DATA, DEFAULT_RUNS_DIR};

use crate::cli::filter::Condition;
use crate::cli::settings_args::SettingsArgs;

const ABOUT: &str =
    "Trains convolutional networks on the CPU and keeps the best model of every run";

const EXAMPLES: &str = "\
A MODEL is a file, a run (its best), or one of a run's models:
run@best, run@best:val/loss, run@last, run@step:1200, run@epoch:7.

Start with `keepbest train`: it brings its own images and takes about a minute.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a check did not hold,
130 interrupted.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "keepbest", version, about = ABOUT, after_help = EXAMPLES)]
#[command(
    max_term_width = 80,
    arg_required_else_help = true,
    infer_subcommands = false
)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Train a model, keeping the best
    ///
    /// With no arguments: images of clothes that ship inside the program, a small network, about a minute.
    Train(TrainArgs),
    /// Find a learning rate: a few steps at rising rates, and where the loss falls fastest
    ///
    /// Takes the settings of `train`; nothing is kept.
    LrFind(LrFindArgs),
    /// Measure a model on a split: all metrics and the confusion matrix
    Evaluate(EvaluateArgs),
    /// Tell what images show
    Predict(PredictArgs),
    /// Average the weights of models, or of a run's best checkpoints where that is better
    Average(AverageArgs),
    /// Tell what is in a model file, without running anything in it
    Inspect(InspectArgs),
    /// Make a full model of a file from elsewhere: safetensors or PyTorch's
    ///
    /// Nothing in the file is run. The result predicts, evaluates and trains on like any other model.
    Import(ImportArgs),
    /// Write a model for others: PyTorch, ONNX, safetensors
    Export(ExportArgs),
    /// List the runs
    List(ListArgs),
    /// Show one run
    Show(ShowArgs),
    /// Measure models on the same images, and tell whether they differ
    Compare(CompareArgs),
    /// Write a run as one page: curves, confusion, calibration, its worst mistakes
    ///
    /// `train` keeps the same page up to date while it goes on, as report.html in the run.
    Report(ReportArgs),
    /// Write a model card in Hugging Face's form, from what is recorded
    Card(CardArgs),
    /// List the networks there are, or show one
    Models(ModelsArgs),
    /// List the data sets there are, or look into one
    Data(DataArgs),
    /// Check a model file against what was recorded; exit code 3 when it does not hold
    ///
    /// First the digests of its bytes, then its metrics, measured again on the recorded split.
    Verify(VerifyArgs),
    /// Train a run again from its run.toml; exit code 3 unless every evaluation and the best come out the same
    ///
    /// Settings, images and the model it starts from must be those recorded. The first difference ends it and is named.
    Reproduce(ReproduceArgs),
    /// Tell why a run's best is the best, and why each other checkpoint is there or not
    Explain(ExplainArgs),
    /// Remove the checkpoints that a run's rules do not keep
    ///
    /// Best, last, pinned ones, those open elsewhere and the one it was resumed from always stay.
    Prune(PruneArgs),
    /// Keep a checkpoint whatever the rules say
    Pin(PinArgs),
    /// Leave a pinned checkpoint to the rules again
    Unpin(PinArgs),
    /// Pack a run's old checkpoints into one smaller file, exactly
    ///
    /// Best, last, pinned ones, those open elsewhere and the one it was resumed from stay files. Packed ones answer to run@step:N
    /// as before.
    Archive(ArchiveArgs),
    /// Unpack a checkpoint, to a file or back into its run
    Restore(RestoreArgs),
    /// Check a run's directory and mend what a crash left behind
    Fsck(FsckArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// Where runs are looked up.
#[derive(Debug, Args)]
pub struct RunsDir {
    /// Folder that holds the runs
    #[arg(long, value_name = "DIR", default_value = DEFAULT_RUNS_DIR)]
    pub runs_dir: PathBuf,
}

/// How a model is brought to run.
#[derive(Debug, Args)]
pub struct Compute {
    /// Network of a file that holds the weights alone (`keepbest models` lists them)
    #[arg(long = "model", value_name = "NAME")]
    pub network: Option<String>,
    /// Images at a time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch_size: u16,
    /// Threads; one a core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// What computes
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub device: String,
}

/// Of a flag given twice, the last one counts, so that a line can be taken up again with something added.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct TrainArgs {
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
pub struct LrFindArgs {
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
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// The model
    pub model: String,
    /// Images to measure on; those of its training by default
    #[arg(long, value_name = "DATA")]
    pub data: Option<String>,
    /// Where a named set lies, when not at its usual place
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Which part of the data; test where there is one, val otherwise
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<Split>,
    /// K of the top-k accuracy; 5 by default, with more than 5 classes
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Also F-beta scores with this beta
    #[arg(long, value_name = "BETA")]
    pub beta: Option<f64>,
    /// Also a 95 % interval of every metric, from 1,000 resamples of the images
    #[arg(long)]
    pub intervals: bool,
    #[command(flatten)]
    pub compute: Compute,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The models; the first is compared with each of the others
    #[arg(required = true, num_args = 2.., value_name = "MODEL")]
    pub models: Vec<String>,
    /// Images to measure on; those of the first model's training by default
    #[arg(long, value_name = "DATA")]
    pub data: Option<String>,
    /// Where a named set lies, when not at its usual place
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Which part of the data
    #[arg(long, value_name = "SPLIT", default_value = "val")]
    pub split: Split,
    /// Also write a page with the runs' curves over each other
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub compute: Compute,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// What was trained on
    Train,
    /// What the best was chosen on
    Val,
    /// What nothing was chosen on
    Test,
}

#[derive(Debug, Args)]
pub struct PredictArgs {
    /// The model
    pub model: String,
    /// Images, folders of images, or - for one image from stdin
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Likeliest classes to show for each image
    #[arg(long, short = 'k', value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub top_k: u16,
    #[command(flatten)]
    pub compute: Compute,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON: one object a line for each image
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct AverageArgs {
    /// The models, of one network and the same images; the first says how to measure
    #[arg(required_unless_present = "soup", num_args = 2.., value_name = "MODEL", conflicts_with = "soup")]
    pub models: Vec<String>,
    /// Greedy soup of a run's best checkpoints: each is added where that is better on val; written where any was
    #[arg(long, value_name = "RUN")]
    pub soup: Option<String>,
    /// Checkpoints to try for a soup
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..))]
    pub top: u32,
    /// File to write, .safetensors
    #[arg(long = "out", value_name = "FILE")]
    pub to: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    pub force: bool,
    /// Images to measure on; those of the first model's training by default
    #[arg(long, value_name = "DATA")]
    pub data: Option<String>,
    /// Where a named set lies, when not at its usual place
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Threads; one a core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The file, or a MODEL
    pub file: String,
    /// State dict to show, in a checkpoint of several
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The file: safetensors, .pth, .pt, .ckpt
    pub file: PathBuf,
    /// Network that the weights belong to (`keepbest models` lists them)
    #[arg(long = "model", value_name = "NAME")]
    pub network: Option<String>,
    /// Class names by label: a,b,c or a file with one a line
    #[arg(long, value_name = "NAMES")]
    pub classes: Option<String>,
    /// How images become input: pixels, imagenet, a JSON file, or size=32,mean=0.5,std=0.25
    ///
    /// `pixels` divides by 255 (the default); `imagenet` is 224x224 with ImageNet's mean and standard deviation.
    /// Settings are parted by commas, values of channels by slashes: mean=0.49/0.48/0.45; resize is none, exact or crop.
    #[arg(long, value_name = "HOW")]
    pub preprocess: Option<String>,
    /// Rename tensors: a pattern that matches whole names, and what they become
    #[arg(long, value_name = "OLD=NEW")]
    pub map: Vec<String>,
    /// Take what fits and start the rest anew
    #[arg(long)]
    pub partial: bool,
    /// State dict to take, in a checkpoint of several
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// File to write, .safetensors
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The model
    pub model: String,
    /// File to write; its ending says what: .pth (state dict), .pt (checkpoint), .onnx, .safetensors (parameters)
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Network of a file that holds the weights alone (`keepbest models` lists them)
    #[arg(long = "model", value_name = "NAME")]
    pub network: Option<String>,
    /// ONNX: take images as bytes, [N, height, width, channels], and normalise them in the graph
    #[arg(long)]
    pub preprocess_in_graph: bool,
    /// ONNX: make each batch norm part of the convolution before it
    #[arg(long)]
    pub fold_batch_norm: bool,
    /// Replace the file if there is one
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Order: name, status, epoch, best, size, begun, when, a metric or a setting; - before it turns it round
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// Only runs of which this holds, such as `lr >= 0.1`, `status = completed`; several must all hold
    #[arg(long = "where", value_name = "CONDITION")]
    pub conditions: Vec<Condition>,
    /// Which runs' bests no other is as good as or better than by each of two or more metrics, such as
    /// `val/f1_macro,model_bytes`
    #[arg(long, value_name = "METRICS")]
    pub pareto: Option<Pareto>,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The run: its name or its directory
    pub run: String,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CardArgs {
    /// The model
    pub model: String,
    /// File to write instead of stdout
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    #[command(flatten)]
    pub runs: RunsDir,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The run: its name or its directory
    pub run: String,
    /// File to write; report.html in the run by default
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Also write each plot as SVG and as PNG to this folder
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
    /// Where a named set lies, when not at its usual place
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Threads; one a core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ReproduceArgs {
    /// The run: its name or its directory
    pub run: String,
    /// Where a named set lies, when not at its usual place
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Threads; those of the run by default. The result does not depend on them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Say only how it came out
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ModelsArgs {
    #[command(subcommand)]
    pub verb: Option<ModelsVerb>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum ModelsVerb {
    /// List them
    List,
    /// Print a network as a TOML model file, which `train --model FILE` takes, changed as you like
    Show {
        #[command(flatten)]
        what: NetworkArgs,
        /// Print shapes, parameters, work and memory by layer instead
        #[arg(long)]
        table: bool,
    },
    /// Draw a network as an SVG image
    Draw {
        #[command(flatten)]
        what: NetworkArgs,
        /// File to write
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

/// A network for images of some size.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// The network's name, or a TOML model file
    pub name: String,
    /// Input, such as 3x224x224: channels, height and width
    #[arg(long, value_name = "CxHxW", value_parser = input_size)]
    pub input: Option<[usize; 3]>,
    /// Number of classes; 10 unless a model file says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub classes: Option<u32>,
}

fn input_size(text: &str) -> Result<[usize; 3], String> {
    let sizes: Option<Vec<usize>> = text
        .split('x')
        .map(|size| size.parse().ok().filter(|size| *size > 0))
        .collect();
    sizes
        .and_then(|sizes| sizes.try_into().ok())
        .ok_or_else(|| "expected channels, height and width, such as 3x224x224".to_owned())
}

#[derive(Debug, Args)]
pub struct DataArgs {
    #[command(subcommand)]
    pub verb: Option<DataVerb>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum DataVerb {
    /// List the sets there are
    List,
    /// Write a few images of a set as PNG files, to try a model on
    Sample {
        /// A set's name, or a folder
        #[arg(default_value = DEFAULT_DATA)]
        data: String,
        /// Folder to write to
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
        /// Which part of the set; test where there is one, train otherwise
        #[arg(long, value_name = "SPLIT")]
        split: Option<Split>,
        /// One folder a class
        #[arg(long)]
        by_class: bool,
        /// Where a named set lies, when not at its usual place
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Write a sheet of training images as the network sees them: after augmentation, with their labels
    Preview(PreviewArgs),
    /// Tell what a set holds: splits, classes, image sizes, fingerprints
    Info {
        /// A set's name, or a folder
        data: String,
        /// Where a named set lies, when not at its usual place
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub struct PreviewArgs {
    /// A set's name, or a folder
    #[arg(default_value = DEFAULT_DATA)]
    pub data: String,
    /// File to write, .png
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Random changes, as `train --augment` takes them; by default what suits the data
    #[arg(long, value_name = "HOW")]
    pub augment: Option<String>,
    /// Size that images are brought to, such as 32 or 24x32; by default their own
    #[arg(long, value_name = "SIZE")]
    pub image_size: Option<String>,
    /// Stretch images of other sizes instead of cutting out their centre
    #[arg(long)]
    pub stretch: bool,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub count: u32,
    /// The epoch whose first images are shown
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub epoch: u64,
    /// Everything random follows from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Where a named set lies, when not at its usual place
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The model
    pub model: String,
    /// Check the digests alone
    #[arg(long)]
    pub digest_only: bool,
    /// Where the data lies now, when not where it was
    #[arg(long, value_name = "DATA")]
    pub data: Option<String>,
    /// Where a named set lies, when not at its usual place
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Threads; one a core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The run: its name or its directory
    pub run: String,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// The run: its name or its directory
    pub run: String,
    /// Tell what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PinArgs {
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
pub struct ArchiveArgs {
    /// The run: its name or its directory
    pub run: String,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
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
pub struct FsckArgs {
    /// The run: its name or its directory
    pub run: String,
    /// Mend what can be mended
    #[arg(long)]
    pub repair: bool,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

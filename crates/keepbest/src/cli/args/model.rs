//! Flags of the verbs about a model: measure it, use it, exchange it.

use std::path::PathBuf;

use clap::Args;
use keepbest_core::classification::DecisionMetric;
use keepbest_store::Attestation;

use super::shared::{Compute, Images, OnDevice, Part, RunsDir, Threads, Unlike};

#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// The model
    pub model: String,
    #[command(flatten)]
    pub images: Images,
    /// Which part of the data: train, val, test or all
    ///
    /// By default test where the data has one, and else val of the data it was trained on and all of any other.
    #[arg(long, value_name = "SPLIT", hide_possible_values = true)]
    pub split: Option<Part>,
    #[command(flatten)]
    pub unlike: Unlike,
    /// K of the top-k accuracy; 5 by default, with more than 5 classes
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Also F-beta scores with this beta
    #[arg(long, value_name = "BETA")]
    pub beta: Option<f64>,
    #[command(flatten)]
    pub compute: Compute,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(mut_arg("data", |data| data.help("Images to measure on; those of the first model's training by default")))]
pub(crate) struct CompareArgs {
    /// The models; the first is compared with each of the others
    #[arg(required = true, num_args = 2.., value_name = "MODEL")]
    pub models: Vec<String>,
    #[command(flatten)]
    pub images: Images,
    /// Which part of the data: train, val, test or all
    ///
    /// By default test where the data has one, and else val of the data the first was trained on and all of any other.
    #[arg(long, value_name = "SPLIT", hide_possible_values = true)]
    pub split: Option<Part>,
    #[command(flatten)]
    pub unlike: Unlike,
    /// Also write a page with the runs' curves over each other
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Replace the file if there is one
    #[arg(long, requires = "html")]
    pub force: bool,
    #[command(flatten)]
    pub compute: Compute,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// The model
    pub model: String,
    /// Images, folders of images, or - for one image from stdin
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Likeliest classes to show for each image
    #[arg(long, short = 'k', value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub top_k: u16,
    /// Refuse images of a size or kind that the model has not seen, instead of converting them
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub compute: Compute,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON: one object a line for each image
    #[arg(long)]
    pub json: bool,
}

/// A model, and the images that it was trained with.
#[derive(Debug, Args)]
#[command(mut_arg("data", |data| data.help("Where the data lies now, when not where it was")))]
pub(crate) struct TrainedArgs {
    /// The model
    pub model: String,
    #[command(flatten)]
    pub images: Images,
    #[command(flatten)]
    pub threads: Threads,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Check the digests alone
    #[arg(long)]
    pub digest_only: bool,
    /// Also measure test again, against the figures that the run recorded at its end
    #[arg(long, conflicts_with = "digest_only")]
    pub test: bool,
    /// Also check that the run is the one that this line of `keepbest attest` is about
    #[arg(long, value_name = "LINE")]
    pub against: Option<Attestation>,
    #[command(flatten)]
    pub on: OnDevice,
    #[command(flatten)]
    pub of: TrainedArgs,
}

/// The metrics of decisions, in words.
fn decision_metrics() -> String {
    let names = DecisionMetric::names().join(", ");
    format!("Metric to make highest: {names}, or fbeta2_macro and so on for any beta")
}

#[derive(Debug, Args)]
pub(crate) struct ThresholdsArgs {
    #[arg(long, value_name = "METRIC", help = decision_metrics())]
    pub metric: String,
    /// File to write, .safetensors
    #[arg(long = "out", value_name = "FILE")]
    pub to: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub of: TrainedArgs,
}

#[derive(Debug, Args)]
#[command(mut_arg("data", |data| data.help("Images to measure on; those of the first model's training by default")))]
pub(crate) struct AverageArgs {
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
    #[command(flatten)]
    pub images: Images,
    #[command(flatten)]
    pub threads: Threads,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The file, or a MODEL
    pub file: String,
    /// State dict to show, in a checkpoint of several
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Show weights that a file's dangerous calls do not touch; nothing is run
    #[arg(long)]
    pub ignore_calls: bool,
    #[command(flatten)]
    pub runs: RunsDir,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CardArgs {
    /// The model
    pub model: String,
    /// File to write instead of stdout
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Replace the file if there is one
    #[arg(long, requires = "to")]
    pub force: bool,
    #[command(flatten)]
    pub runs: RunsDir,
}

/// Rows and columns: `224`, or `224x320`.
fn input_size(text: &str) -> Result<[usize; 2], String> {
    let (rows, columns) = text.split_once('x').unwrap_or((text, text));
    match (rows.parse(), columns.parse()) {
        (Ok(rows), Ok(columns)) if rows > 0 && columns > 0 => Ok([rows, columns]),
        _ => Err("expected 224, or rows and columns as 224x320".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file: safetensors, .pth, .pt, .ckpt, .pkl, the .index.json of several, or .onnx with its network
    pub file: PathBuf,
    /// Network that the weights belong to (`keepbest models` lists them)
    #[arg(long = "model", value_name = "NAME")]
    pub network: Option<String>,
    /// Class names by label: a,b,c or a file with one a line, blank lines left out
    #[arg(long, value_name = "NAMES")]
    pub classes: Option<String>,
    /// How images become input: pixels, imagenet, a JSON file, or size=32,mean=0.5,std=0.25
    ///
    /// `pixels` divides by 255 (the default); `imagenet` is 224x224 with ImageNet's mean and standard deviation.
    /// Settings are parted by commas, values of channels by slashes: mean=0.49/0.48/0.45; resize is none, exact or crop.
    /// They can follow one of the two words: imagenet,shorter-side=256 resizes to 256 before it cuts out 224.
    #[arg(long, value_name = "HOW")]
    pub preprocess: Option<String>,
    /// Rename tensors: a pattern that matches whole names, and what they become
    #[arg(long, value_name = "OLD=NEW")]
    pub map: Vec<String>,
    /// Leave tensors out: a pattern that matches whole names
    #[arg(long, value_name = "PATTERN")]
    pub drop: Vec<String>,
    /// Take weights that a file's dangerous calls do not touch; nothing is run
    #[arg(long)]
    pub ignore_calls: bool,
    /// Take what fits and start the rest anew
    #[arg(long)]
    pub partial: bool,
    /// State dict to take, in a checkpoint of several
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// ONNX: rows and columns of the input, where the model leaves them open: 224 or 224x320
    #[arg(long, value_name = "SIZE", value_parser = input_size)]
    pub input_size: Option<[usize; 2]>,
    /// ONNX: output to take, of several
    #[arg(long, value_name = "NAME")]
    pub output: Option<String>,
    /// ONNX: outputs that ours must agree with: .npz with inputs and outputs, or a folder of input_0.pb and output_0.pb
    ///
    /// The inputs are as the graph takes them. What was compared, and how far it agrees, is recorded in the model; exit code 3
    /// says that it does not.
    #[arg(long, value_name = "REFERENCE")]
    pub check: Option<PathBuf>,
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
pub(crate) struct ExportArgs {
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

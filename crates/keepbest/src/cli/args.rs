//! The command line: verbs and their flags.

mod data;
mod model;
mod network;
mod run;
mod serve;
mod shared;
mod training;

use clap::{Args, Parser, Subcommand};

pub(super) use data::{DataArgs, DataVerb, PreviewArgs};
pub(super) use model::{
    AverageArgs, CardArgs, CompareArgs, EvaluateArgs, ExportArgs, ImportArgs, InspectArgs,
    PredictArgs, ThresholdsArgs, VerifyArgs,
};
pub(super) use network::{Input, ModelsArgs, ModelsVerb, NetworkArgs};
pub(super) use run::{FsckArgs, ListArgs, PinArgs, PruneArgs, ReportArgs, RestoreArgs, RunArgs};
pub(super) use serve::ServeArgs;
pub(super) use shared::{Compute, Split};
pub(super) use training::{LrFindArgs, ReproduceArgs, TrainArgs};

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
pub(super) struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Train a model, keeping the best
    ///
    /// With no arguments: images of clothes that ship inside the program, a small network, about a minute.
    Train(TrainArgs),
    /// Find the size of a learning rate: a few steps at rising rates, and where the loss stops falling
    ///
    /// For a network, an optimizer or images of which nothing is known: it tells rates that learn from those that do not, and where
    /// training runs away. It is the size of a rate, not the best one: with SGD and a thousand images or more the default did as well.
    /// Takes the settings of `train`; nothing is kept.
    LrFind(LrFindArgs),
    /// Measure a model on a split: all metrics and the confusion matrix
    Evaluate(EvaluateArgs),
    /// Tell what images show
    Predict(PredictArgs),
    /// Answer over HTTP and gRPC; a run answers with its best, also with one that it finds later
    ///
    /// POST an image to /predict, or speak KServe's protocol (/v2) over REST or gRPC, all on one port. A best that is promoted
    /// while this runs is verified and takes over without a request being lost. `/openapi.json` says what there is.
    Serve(ServeArgs),
    /// Tune decision thresholds on val, and write the model with them
    ///
    /// It decides for the class with the greatest probability / threshold instead of the likeliest. The weights stay as they are.
    Thresholds(ThresholdsArgs),
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
    Show(RunArgs),
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
    /// First the digests of its bytes; then the run's journal, against itself and against the file; then its metrics, measured again
    /// on the recorded split. What was not checked is said.
    Verify(VerifyArgs),
    /// Print a run's digests in one line, to keep where the run cannot be changed
    ///
    /// Whoever can write a run can make all its digests anew. `verify RUN --against LINE` tells whether it is still the same.
    Attest(RunArgs),
    /// Train a run again from its run.toml; exit code 3 unless every evaluation and the best come out the same
    ///
    /// Settings, images and the model it starts from must be those recorded. The first difference ends it and is named.
    Reproduce(ReproduceArgs),
    /// Tell why a run's best is the best, and why each other checkpoint is there or not
    Explain(RunArgs),
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
    Archive(RunArgs),
    /// Unpack a checkpoint, to a file or back into its run
    Restore(RestoreArgs),
    /// Check a run's directory and mend what a crash left behind
    Fsck(FsckArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

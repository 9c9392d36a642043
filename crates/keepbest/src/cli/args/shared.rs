//! Flags that several verbs have.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use keepbest_model::{DEFAULT_RUNS_DIR, ImageChoice, ImageSource};
use keepbest_nn::{CPU, DEVICES};

/// Where runs are looked up.
#[derive(Debug, Args)]
pub(crate) struct RunsDir {
    /// Folder that holds the runs
    #[arg(long, value_name = "DIR", default_value = DEFAULT_RUNS_DIR)]
    pub runs_dir: PathBuf,
}

/// How a model is brought to run.
#[derive(Debug, Args)]
pub(crate) struct Compute {
    /// Network of a file that holds the weights alone (`keepbest models` lists them)
    #[arg(long = "model", value_name = "NAME")]
    pub network: Option<String>,
    /// Images at a time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch_size: u16,
    #[command(flatten)]
    pub threads: Threads,
    #[command(flatten)]
    pub on: OnDevice,
}

/// What computes.
#[derive(Debug, Args)]
pub(crate) struct OnDevice {
    #[arg(long, value_name = "NAME", default_value = CPU, help = device_help())]
    pub device: String,
}

/// The devices, in words.
fn device_help() -> String {
    format!("What computes: {}", DEVICES.join(", "))
}

/// How many threads compute.
#[derive(Debug, Default, Args)]
pub(crate) struct Threads {
    /// Threads; one a core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

impl Threads {
    /// Their number, where one was given.
    pub(crate) fn count(&self) -> Option<usize> {
        self.threads.map(usize::from)
    }
}

/// Where named data sets are looked up.
#[derive(Debug, Args)]
pub(crate) struct DataDir {
    /// Where a named set lies, when not at its usual place
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl DataDir {
    /// The folder, where one was named.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }
}

/// The images to measure a model on.
#[derive(Debug, Args)]
pub(crate) struct Images {
    /// Images to measure on; those of its training by default
    #[arg(long, value_name = "DATA")]
    pub data: Option<String>,
    #[command(flatten)]
    pub sets: DataDir,
}

impl Images {
    /// Where they lie.
    pub(crate) fn source(&self) -> ImageSource {
        ImageSource {
            data: self.data.clone(),
            dir: self.sets.path().map(Path::to_owned),
        }
    }

    /// Which of them to measure on.
    pub(crate) fn choice(&self, split: Option<Part>, unlike: &Unlike) -> ImageChoice {
        ImageChoice {
            source: self.source(),
            split: split.map(Into::into),
            skip_extra_classes: unlike.skip_extra_classes,
            strict: unlike.strict,
        }
    }
}

/// What becomes of images that are unlike those of the training.
#[derive(Debug, Args)]
pub(crate) struct Unlike {
    /// Leave out images of classes that the model does not know
    #[arg(long)]
    pub skip_extra_classes: bool,
    /// Refuse images of a size or kind that the model has not seen, instead of converting them
    #[arg(long)]
    pub strict: bool,
}

/// A part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Split {
    /// What was trained on
    Train,
    /// What the best was chosen on
    Val,
    /// What nothing was chosen on
    Test,
}

/// A part of the data, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What was trained on
    Train,
    /// What the best was chosen on
    Val,
    /// What nothing was chosen on
    Test,
    /// All of it
    All,
}

impl Split {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

impl From<Part> for keepbest_model::Part {
    fn from(part: Part) -> Self {
        match part {
            Part::Train => Self::Train,
            Part::Val => Self::Val,
            Part::Test => Self::Test,
            Part::All => Self::All,
        }
    }
}

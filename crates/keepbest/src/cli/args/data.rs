//! Flags of `data`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use keepbest_train::DEFAULT_DATA;

use super::shared::{DataDir, Split};

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    pub verb: Option<DataVerb>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataVerb {
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
        /// Replace files that are there
        #[arg(long)]
        force: bool,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
        /// Which part of the set; test where there is one, train otherwise
        #[arg(long, value_name = "SPLIT")]
        split: Option<Split>,
        /// One folder a class
        #[arg(long)]
        by_class: bool,
        #[command(flatten)]
        sets: DataDir,
    },
    /// Write a sheet of training images as the network sees them: after augmentation, with their labels
    Preview(PreviewArgs),
    /// Tell what a set holds: splits, classes, image sizes, fingerprints
    Info {
        /// A set's name, or a folder
        data: String,
        #[command(flatten)]
        sets: DataDir,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PreviewArgs {
    /// A set's name, or a folder
    #[arg(default_value = DEFAULT_DATA)]
    pub data: String,
    /// File to write, .png
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    pub force: bool,
    /// Random changes, as `train --augment` takes them; by default what suits the data
    #[arg(long, value_name = "HOW")]
    pub augment: Option<String>,
    /// Size that images are brought to, such as 32 or 24x32; by default their own, or one that suits where they differ
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
    #[command(flatten)]
    pub sets: DataDir,
}

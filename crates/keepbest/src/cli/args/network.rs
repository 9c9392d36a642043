//! Flags of `models`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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

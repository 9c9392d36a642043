//! Flags of `models`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct ModelsArgs {
    #[command(subcommand)]
    pub verb: Option<ModelsVerb>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsVerb {
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
        /// Replace the file if there is one
        #[arg(long)]
        force: bool,
    },
}

/// A network for images of some size.
#[derive(Debug, Args)]
pub(crate) struct NetworkArgs {
    /// The network's name, or a TOML model file
    pub name: String,
    /// Input, such as 3x224x224: channels, height and width, or with 1 to 4 channels at the end, as 224x224x3
    #[arg(long, value_name = "CxHxW", value_parser = input_size)]
    pub input: Option<Input>,
    /// Number of classes; 10 unless a model file says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub classes: Option<u32>,
}

/// The size of an input as it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Input {
    /// Channels, height, width.
    pub size: [usize; 3],
    /// Whether the channels stood at the end.
    pub channels_last: bool,
}

/// Channels of images: grey, with transparency or without, and colour, likewise.
const IMAGE_CHANNELS: std::ops::RangeInclusive<usize> = 1..=4;

fn input_size(text: &str) -> Result<Input, String> {
    let sizes: Option<Vec<usize>> = text
        .split('x')
        .map(|size| size.parse().ok().filter(|size| *size > 0))
        .collect();
    let [first, second, third]: [usize; 3] = sizes
        .and_then(|sizes| sizes.try_into().ok())
        .ok_or_else(|| "expected channels, height and width, such as 3x224x224".to_owned())?;
    // Data sets are told with the channels at the end.
    let channels_last = !IMAGE_CHANNELS.contains(&first) && IMAGE_CHANNELS.contains(&third);
    let size = match channels_last {
        true => [third, first, second],
        false => [first, second, third],
    };
    Ok(Input {
        size,
        channels_last,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_few_are_the_channels() {
        let read = |text: &str| input_size(text).map(|input| (input.size, input.channels_last));
        assert_eq!(read("3x48x64"), Ok(([3, 48, 64], false)));
        assert_eq!(read("48x64x3"), Ok(([3, 48, 64], true)));
        assert_eq!(read("1x28x28"), Ok(([1, 28, 28], false)));
        // Both, or neither, may be: as it is written.
        assert_eq!(read("3x3x3"), Ok(([3, 3, 3], false)));
        assert_eq!(read("64x8x8"), Ok(([64, 8, 8], false)));
        for wrong in ["48", "48x48", "0x1x1", "axbxc", "1x2x3x4", ""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}

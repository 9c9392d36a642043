//! Datasets, preprocessing, augmentation, splits and the loader.
//!
//! ```text
//! open("fashion-mnist-mini" | "fashion-mnist" | path) -> DataBundle { train, val?, test? }
//!     -> prepare (seeded stratified split, preprocessing computed on train, decoded cache) -> Prepared
//!     -> Loader (own thread: shuffle, augment, normalise) -> Batch [n, height, width, channels] f32
//! ```
//!
//! Images are `u8`, rows first, channels last (HWC) until the loader normalises them to `f32`. Everything random is a
//! pure function of numbers (seed, epoch, image index), so neither the thread count, nor the prefetch depth, nor the
//! order in which images are asked for changes a bit.
//!
//! ```
//! use keepbest_data::{Loader, LoaderConfig, PrepareOptions, open};
//!
//! let bundle = open("fashion-mnist-mini", None)?;
//! let data = bundle.prepare(&PrepareOptions::default())?;
//! assert_eq!((data.train.len(), data.val.len()), (5400, 600));
//!
//! let config = LoaderConfig::training(64, 1).with_augmentation("flip,shift:2".parse()?);
//! let loader = Loader::new(data.train.clone(), &data.preprocessing, config)?;
//! let mut seen = 0;
//! for batch in loader.epoch(1, 0) {
//!     seen += batch?.labels.len();
//! }
//! assert_eq!(seen, 5400);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// Libraries never print.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod augment;
mod bundle;
mod cache;
mod classes;
mod dataset;
mod decode;
pub mod embedded;
mod error;
mod fingerprint;
mod guard;
mod hint;
mod identity;
mod image;
mod image_set;
mod input;
mod joined;
mod loader;
mod look_alike;
mod mirror;
mod normalise;
mod open;
mod prepare;
mod preprocessing;
pub mod readers;
mod resize;
pub mod rng;
mod sampling;
mod shapes;
pub mod split;
mod watch;

pub use augment::{Augmentation, AugmentationError, Jitter, Mixed};
pub use bundle::{DataBundle, Mirrored};
pub use cache::{CacheBudget, Cached, DEFAULT_CACHE_BYTES};
pub use classes::{Matched, UnknownClasses};
pub use dataset::{Dataset, MemoryDataset, Subset};
pub use decode::{decode_image, read_image_from};
pub use error::{DataError, LoadError, PrepareError, PreprocessingError, SplitError};
pub use fingerprint::Fingerprint;
pub use guard::is_decoding;
pub use identity::{Identity, SharedImages};
pub use image::{Image, ImageShape};
pub use image_set::{ImageCount, ImageSet, ImageSetError};
pub use input::{left_out_of, list_images, load_image};
pub use joined::Joined;
pub use loader::{Batch, Epoch, Loader, LoaderConfig, Shard, batch_ranges};
pub use normalise::Normaliser;
pub use open::{
    DEFAULT_SOURCE, Listing, is_named, list, open, open_to_measure, open_watched, open_with,
};
pub use prepare::{PrepareOptions, Prepared};
pub use preprocessing::{ChannelRule, Preprocessing, ResizeRule, Unrecorded};
pub use readers::files::Unreadable;
pub use sampling::Order;
pub use watch::{Reading, Stage, Watch};

#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(not(unix))]
compile_error!("keepbest-data builds on Unix systems only");

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
pub use decode::{decode_image, decode_image_within, read_image_from};
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
    DEFAULT_SOURCE, Listing, examine, is_named, list, open, open_to_measure, open_watched,
    open_with,
};
pub use prepare::{PrepareOptions, Prepared};
pub use preprocessing::{ChannelRule, Preprocessing, ResizeRule, Unrecorded};
pub use readers::files::Unreadable;
pub use sampling::Order;
pub use watch::{Reading, Stage, Watch};

//! The images that a model is measured on, and measuring it on them.

mod changed;
mod choice;
mod chosen;
mod measure;
mod picked;
mod recorded;

pub use changed::ChangedSplit;
pub use choice::{ImageChoice, ImageSource, Part};
pub(crate) use chosen::leave_out_meaningless;
pub use chosen::{ChosenImages, ImagesUsed, SameImagesError};
pub use measure::{MeasureError, MeasureOptions, check_scores, measure};
pub(crate) use measure::{locate, resample};
pub use recorded::RecordedImages;

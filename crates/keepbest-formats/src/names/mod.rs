//! Tensors of one naming under the names of another, and which of them a model can take.
//!
//! ```
//! use keepbest_formats::names::{NameMap, Wanted, compare};
//! use keepbest_formats::{Dtype, StateDict, Tensor};
//! let mut weights = StateDict::new();
//! weights.insert("backbone.conv1.bias", Tensor::from_f32(&[2], &[0.5, 1.0])?)?;
//! let map = NameMap::new(["backbone.(.*)=$1"])?;
//! let renamed = map.apply(&weights)?;
//! let wanted = [Wanted::new("conv1.bias", Dtype::F32, &[2])];
//! assert!(compare(&renamed.weights, &wanted).is_exact());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compare;
mod map;
mod prefix;

pub use compare::{Comparison, Misshaped, Wanted, compare};
pub use map::{NameFilter, NameMap, NameMapError, Renamed};
pub(crate) use prefix::LIGHTNING_PREFIXES;
pub use prefix::{AmbiguousPart, Part, Plain, Unwrapped, part_for, plain_names, unwrap_names};

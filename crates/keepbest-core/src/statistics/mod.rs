//! How sure a measured metric is: intervals, paired tests, and how much choosing the best flatters it.
//!
//! Everything is seeded and pure: the same examples give the same numbers on any machine. "Examples" are the images of a
//! split, in the split's order; two models compared in pairs were measured on the very same ones.
//!
//! ```
//! use keepbest_core::statistics::{mcnemar_exact, wilson};
//!
//! // 540 of 600 right: 0.90, but anything between these is plausible.
//! let interval = wilson(540, 600, 0.95).unwrap();
//! assert_eq!((format!("{:.3}", interval.low), format!("{:.3}", interval.high)), ("0.873".into(), "0.922".into()));
//! // Two models disagree on 40 images; 25 times the first is right. That may well be luck.
//! assert!(mcnemar_exact(25, 15) > 0.05);
//! ```

mod bootstrap;
mod interval;
mod normal;
mod paired;
mod random;

pub use bootstrap::{Bootstrap, PairedDifference, Replicates, SelectionOptimism};
pub use interval::{Interval, StatisticsError, wilson};
pub use normal::normal_quantile;
pub use paired::mcnemar_exact;

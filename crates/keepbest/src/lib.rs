//! Trains convolutional networks on CPUs and keeps the best model of every run: complete, verified, and able to predict
//! without any code.
//!
//! This crate is the `keepbest` program (feature `cli`, on by default) and, as a library, all of its parts under one name:
//!
//! | module | is |
//! |---|---|
//! | [`core`] | metrics, what "best" means, verdicts, early stopping, retention: pure |
//! | [`formats`] | state dicts and model files |
//! | [`store`] | run directories |
//! | [`keeper`] | takes an evaluation of a snapshot, decides, saves, promotes, prunes; for any training loop |
//! | [`kernels`] | SIMD kernels and their thread pool |
//! | [`nn`] | model specs, training engines, scorers |
//! | [`data`] | data sets, preprocessing, splits, loader |
//! | [`model`] | a model put to use: opened by reference, measured, asked, verified, compared |
//! | [`train`] | the whole flow from data to the best model |
//!
//! ```
//! use keepbest::train::{Event, Outcome, Settings, train};
//! use std::sync::atomic::AtomicBool;
//!
//! let mut settings = Settings::from_toml("data = \"fashion-mnist-mini\"\nmodel = \"lenet5\"\nepochs = 1")?;
//! # let runs = tempfile::tempdir()?;
//! # settings.runs_dir = Some(runs.path().into());
//! let mut observer = |event: Event<'_>| {
//!     if let Event::Measured(judged) = event {
//!         println!("epoch {}: {}", judged.epoch, judged.verdict.reason());
//!     }
//! };
//! if let Outcome::Finished(run) = train(&settings, "", &mut observer, &AtomicBool::new(false))? {
//!     let best = run.best.expect("an epoch was measured");
//!     println!("{} has {} correct", best.path.display(), best.score.value);
//! #   assert!(best.score.value > 0.3);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;

#[doc(inline)]
pub use keepbest_core as core;
#[doc(inline)]
pub use keepbest_data as data;
#[doc(inline)]
pub use keepbest_formats as formats;
#[doc(inline)]
pub use keepbest_keeper as keeper;
#[doc(inline)]
pub use keepbest_kernels as kernels;
#[doc(inline)]
pub use keepbest_model as model;
#[doc(inline)]
pub use keepbest_nn as nn;
#[cfg(feature = "serve")]
#[doc(inline)]
pub use keepbest_serve as serve;
#[doc(inline)]
pub use keepbest_store as store;
#[doc(inline)]
pub use keepbest_train as train;

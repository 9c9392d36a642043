//! Metrics, objective, verdict, early stopping, retention and history: pure, no I/O, no clock, no threads.
//!
//! What "best" means lives here, apart from how models are trained and how files are written. Everything is a
//! function of its arguments: the same history gives the same verdicts, the same stop and the same kept set, in
//! any process and on any machine.
//!
//! ```
//! use keepbest_core::{Metrics, Objective};
//!
//! let objective = Objective::new("val/accuracy")?;
//! let first = objective.judge(None, &Metrics::from_iter([("val/accuracy", 0.8875)]))?;
//! assert!(first.verdict.is_improved());
//!
//! let second = objective.judge(first.score.as_ref(), &Metrics::from_iter([("val/accuracy", 0.8912)]))?;
//! assert_eq!(second.verdict.reason(), "val/accuracy 0.8912, was 0.8875");
//! # Ok::<(), keepbest_core::ObjectiveError>(())
//! ```

#![forbid(unsafe_code)]

pub mod classification;
pub mod digest;
pub mod early_stopping;
pub mod expression;
pub mod history;
pub mod metrics;
pub mod objective;
pub mod pareto;
pub mod retention;
pub mod size;
pub mod statistics;
pub mod suggest;
pub mod text;
pub mod verdict;

pub use classification::{
    ClassificationAccumulator, ClassificationError, ClassificationReport, ConfusionMatrix,
};
pub use digest::{FileDigest, WeightsDigest};
pub use early_stopping::{EarlyStopping, EarlyStoppingConfig, StopReason};
pub use expression::{Expression, ExpressionError};
pub use history::{EvaluationRecord, History};
pub use metrics::{Direction, Metrics, format_value};
pub use objective::{Constraint, Goal, MinDelta, Objective, ObjectiveError};
pub use pareto::Pareto;
pub use verdict::{Judgement, Score, Verdict};

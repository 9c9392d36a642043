#![doc = include_str!("../README.md")]
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

//! Tests of the public interface.

mod early_stopping;
mod histories;
mod sklearn;
mod statistics;
mod thresholds;
mod total_order;

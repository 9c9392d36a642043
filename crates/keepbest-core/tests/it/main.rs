//! Tests of the public interface.

mod early_stopping;
mod histories;
mod sklearn;
mod total_order;

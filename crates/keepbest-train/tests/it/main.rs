//! The whole flow on small real data: training, resuming, starting from another model, and what goes wrong.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod flow;
mod from;
mod resume;
mod support;
mod wrong;

//! The whole flow on small real data: training, resuming, starting from another model, and what goes wrong.

mod flow;
mod from;
mod resume;
mod support;
mod wrong;

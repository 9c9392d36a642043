//! The real program, on real images: what it prints, what it leaves on disk, how it exits.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test panics where it fails; some print figures"
)]

mod also;
mod archive;
mod averaging;
mod bad_input;
mod calls;
mod cifar;
mod compare;
mod converted;
mod corpus;
mod exchange;
mod followed;
mod foreign;
mod forgotten;
mod fresh;
mod golden_runs;
mod hostile;
mod images;
mod inputs;
mod interrupt;
mod kill;
mod layouts;
mod limits;
mod listing;
mod log;
mod lost_files;
mod lr_find;
mod memory;
mod misread;
mod models;
mod moved;
mod noise;
mod other_loop;
mod output;
mod pareto;
mod predict;
mod recipes;
mod reliability;
mod report;
mod reproduce;
mod resume;
mod retention;
mod seen;
mod serve;
mod several;
mod support;
mod tampered;
mod terminal;
mod thresholds;
mod touched;
mod train;
mod unread;
mod verify;
mod words;

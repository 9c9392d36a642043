//! The real program, on real images: what it prints, what it leaves on disk, how it exits.

mod also;
mod archive;
mod bad_input;
mod cifar;
mod compare;
mod corpus;
mod exchange;
mod golden_runs;
mod hostile;
mod interrupt;
mod kill;
mod listing;
mod log;
mod memory;
mod models;
mod noise;
mod predict;
mod reliability;
mod report;
mod reproduce;
mod retention;
mod several;
mod support;
mod terminal;
mod train;
mod verify;

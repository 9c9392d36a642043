//! The keeper on real runs: real files, real threads, no stand-ins.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod also;
mod archive;
mod copying;
mod crash;
mod failures;
mod file_systems;
mod front;
mod histories;
mod lasting;
mod queue;
mod resume;
mod saving;
mod several;
mod shortened;
mod support;
mod view;

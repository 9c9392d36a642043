//! The store on real directories.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod commit;
mod faults;
mod fsck;
mod in_use;
mod journal;
mod kinds;
mod lasting;
mod lock;
mod runs;
mod shortened;
mod support;

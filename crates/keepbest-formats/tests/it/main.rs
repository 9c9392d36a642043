//! The crate from outside: malformed and damaged files, round trips, golden files.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod damage;
mod folder;
mod golden;
mod interop_table;
mod malformed;
mod onnx_read;
mod other_kinds;
mod pickles;
mod pth;
mod pth_hostile;
mod pth_others;
mod pth_written;
mod python;
mod round_trip;
mod support;
mod versions;

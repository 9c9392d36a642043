//! A real server on a real port, asked as clients ask.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod follow;
mod limits;
mod malformed;
mod predict;
mod protocol;
mod support;

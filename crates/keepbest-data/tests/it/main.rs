//! Integration tests of keepbest-data: real images, real files, the public interface.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and measures by the standard library"
)]

mod cifar;
mod embedded;
mod fixtures;
mod folder;
mod idx;
mod input;
mod loader;
mod npz;
mod open;
mod prepare;
mod preprocessing;
mod split;
mod table;

//! Integration tests of keepbest-data: real images, real files, the public interface.

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

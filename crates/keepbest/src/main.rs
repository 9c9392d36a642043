//! The `keepbest` command.
fn main() {}

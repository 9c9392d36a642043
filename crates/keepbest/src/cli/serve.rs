//! `keepbest serve`: models behind HTTP and gRPC.

use crate::cli::args::ServeArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::Terminal;

/// Says how to come by a program that serves.
#[cfg(not(feature = "serve"))]
pub(super) fn run(_: &ServeArgs, _: &Terminal) -> Result<Exit, Failure> {
    let failure = Failure::new(Exit::Failed, "this build of keepbest has no server");
    Err(failure.with_hint(
        "build it with one: cargo install --locked --path crates/keepbest --features serve"
            .to_owned(),
    ))
}

#[cfg(feature = "serve")]
pub(super) use with_server::run;

#[cfg(feature = "serve")]
mod with_server;

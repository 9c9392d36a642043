//! `keepbest serve`: models behind HTTP and gRPC.

/// Says how to come by a program that serves.
#[cfg(not(feature = "serve"))]
pub(super) fn run(
    _: &crate::cli::args::ServeArgs,
    _: &crate::cli::terminal::Terminal,
) -> Result<crate::cli::failure::Exit, crate::cli::failure::Failure> {
    use crate::cli::failure::{Exit, Failure};

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

//! The `keepbest` program.

// Output goes through `cli::output`, where what cannot be written ends nothing.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}

//! The `keepbest` program.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(keepbest::cli::main(std::env::args_os()))
}

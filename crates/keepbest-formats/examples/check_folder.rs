//! Reads files that `tests/golden/make_pth.py` or `make_safetensors.py` just wrote and compares them with
//! what those scripts say is in them. Panics (exit code 101) at the first difference.
//!
//! `cargo run -p keepbest-formats --example check_folder -- pth DIR` (or `safetensors DIR`)

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;
use std::process::ExitCode;

#[path = "../tests/it/folder.rs"]
mod folder;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["pth", folder] => {
            let files = folder::check_pth(Path::new(folder));
            println!("{files} PyTorch files read exactly");
        }
        ["safetensors", folder] => {
            let (files, tensors) = folder::check_safetensors(Path::new(folder));
            println!("{files} safetensors files with {tensors} tensors read exactly");
        }
        _ => {
            eprintln!("usage: check_folder pth|safetensors DIR");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

//! Reads a PyTorch checkpoint and writes it anew, as keepbest would: for `tests/golden/check_pth_written.py`.
//!
//! `cargo run -p keepbest-formats --example rewrite_pth -- checkpoint|state-dict IN OUT`

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};

use keepbest_formats::pth::{PthFile, Tree, encode};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [form, from, to] = arguments.as_slice() else {
        return Err("usage: rewrite_pth checkpoint|state-dict IN OUT".into());
    };
    let file = PthFile::open(from)?;
    let found = file.weights(None)?;
    let image = match form.as_str() {
        "checkpoint" => file.checkpoint(found, &[])?.encode()?,
        "state-dict" => encode(&Tree::from(&found.weights))?,
        other => return Err(format!("there is no form `{other}`").into()),
    };
    let mut out = BufWriter::new(File::create(to)?);
    image.write_to(&mut out)?;
    out.flush()?;
    Ok(())
}

//! Reads PyTorch files for `bench/formats.py`: for each path on standard input a line of JSON with the seconds it took, what was
//! read, and the process's peak memory before and after.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::io::{self, BufRead};
use std::time::Instant;

use keepbest_formats::pth::PthFile;

fn main() -> Result<(), Box<dyn Error>> {
    for path in io::stdin().lock().lines() {
        let path = path?;
        let before = peak()?;
        let started = Instant::now();
        // Checks the sum of every entry, so every byte has been read.
        let weights = PthFile::open(&path)?.weights(None)?.weights;
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{{\"seconds\": {seconds}, \"tensors\": {}, \"bytes\": {}, \"peak_before\": {before}, \"peak\": {}}}",
            weights.len(),
            weights.total_bytes(),
            peak()?
        );
    }
    Ok(())
}

/// Peak resident memory in bytes, as Linux counts it: pages of mapped files are part of it.
fn peak() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("no VmHWM in /proc/self/status")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

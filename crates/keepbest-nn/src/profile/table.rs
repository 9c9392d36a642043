//! A profile as a table of 80 columns.

use super::{Phase, Profile, ProfileEntry};
use std::fmt;

/// Columns of a layer's name and of what it computes.
const NAME: usize = 24;
const OP: usize = 18;

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:NAME$} {:OP$} {:>8} {:>6} {:>7} {:>6} {:>5}",
            "layer", "computes", "ms/step", "share", "GFLOP/s", "GB/s", "peak"
        )?;
        for phase in Phase::ALL {
            writeln!(f, "{}", phase.name())?;
            for entry in self.entries.iter().filter(|entry| entry.phase == phase) {
                let name = format!("  {}", entry.layer);
                self.row(f, &cut_front(&name, NAME), &cut(&entry.op, OP), entry)?;
            }
        }
        writeln!(f, "sums")?;
        for phase in Phase::ALL {
            let of = self.entries.iter().filter(|entry| entry.phase == phase);
            self.row(f, &format!("  {}", phase.name()), "", &sum(of))?;
        }
        self.row(f, "  step", "", &sum(self.entries.iter()))?;
        writeln!(
            f,
            "\npeak: {:.0} GFLOP/s, {:.1} GB/s, measured on {} with {}.",
            self.peak_flops / 1e9,
            self.peak_bytes / 1e9,
            threads(self.threads),
            self.isa,
        )?;
        write!(
            f,
            "Its column is the larger share of the two: above 100% where a cache holds what\n\
             moves, or where Winograd's method needs fewer operations than are counted."
        )
    }
}

impl Profile {
    /// Share of the peak that comes closest to being reached: of operations or of bytes.
    pub fn share_of_peak(&self, entry: &ProfileEntry) -> f64 {
        let flops = entry.flops as f64 / self.peak_flops;
        let bytes = entry.bytes as f64 / self.peak_bytes;
        rate(flops.max(bytes), entry.seconds)
    }

    /// Seconds of all entries.
    pub fn seconds(&self) -> f64 {
        self.entries.iter().map(|entry| entry.seconds).sum()
    }

    fn row(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: &str,
        op: &str,
        entry: &ProfileEntry,
    ) -> fmt::Result {
        let seconds = entry.seconds;
        let giga = |work: u64| rate(work as f64, seconds) / 1e9;
        writeln!(
            f,
            "{name:NAME$} {op:OP$} {:>8} {:>5.1}% {:>7} {:>6} {:>5}",
            number(1e3 * seconds / self.steps.max(1) as f64, 3),
            100.0 * rate(seconds, self.seconds()),
            number(giga(entry.flops), 1),
            number(giga(entry.bytes), 1),
            // A tiny tensor in a cache says no more by being exact.
            match 100.0 * self.share_of_peak(entry) {
                share if share < 999.5 => format!("{share:.0}%"),
                _ => ">999%".to_owned(),
            },
        )
    }
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Forward => "forward",
            Phase::Loss => "loss",
            Phase::Backward => "backward",
            Phase::Update => "update",
        }
    }
}

/// All of them as one.
fn sum<'a>(entries: impl Iterator<Item = &'a ProfileEntry>) -> ProfileEntry {
    let mut sum = ProfileEntry {
        layer: String::new(),
        op: String::new(),
        phase: Phase::Forward,
        seconds: 0.0,
        flops: 0,
        bytes: 0,
    };
    for entry in entries {
        sum.seconds += entry.seconds;
        sum.flops += entry.flops;
        sum.bytes += entry.bytes;
    }
    sum
}

/// Work over time; with no time measured, none.
fn rate(work: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { work / seconds } else { 0.0 }
}

/// With decimals as long as the number is small enough to need them.
fn number(value: f64, decimals: usize) -> String {
    let decimals = if value < 1000.0 { decimals } else { 0 };
    format!("{value:.decimals$}")
}

fn threads(count: usize) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} thread{plural}")
}

/// The text cut to `width` characters at its end.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 2).chain("..".chars()).collect()
}

/// The text cut to `width` characters at its front: the end of a dotted name tells it from others.
fn cut_front(text: &str, width: usize) -> String {
    match text.chars().count().checked_sub(width) {
        None | Some(0) => text.to_owned(),
        Some(over) => "  ..".chars().chain(text.chars().skip(over + 4)).collect(),
    }
}

//! What the run takes: memory, processor, disk. Where the system does not tell, nothing is shown.

use std::path::Path;
use std::time::Instant;

use crate::cli::words::bytes;

/// As of the latest look.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Resources {
    /// Bytes of memory that this process holds.
    pub memory: Option<u64>,
    /// Processors in use by it, since the look before: 1.5 is one and a half.
    pub processors: Option<f64>,
    /// Bytes of the run's directory; a file with several names counts once.
    pub disk: Option<u64>,
}

impl Resources {
    /// In words, as many as are known.
    pub(super) fn words(&self) -> String {
        let known = [
            self.memory.map(|memory| format!("{} RAM", bytes(memory))),
            self.processors.map(|used| format!("{used:.1} CPUs")),
            self.disk.map(|disk| format!("{} disk", bytes(disk))),
        ];
        known.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// Looks again and again.
#[derive(Debug, Default)]
pub(super) struct Meter {
    before: Option<(Instant, f64)>,
}

impl Meter {
    /// How it is now.
    pub(super) fn look(&mut self, run: &Path) -> Resources {
        let now = Instant::now();
        let used = processor_seconds();
        let processors = match (self.before, used) {
            (Some((then, before)), Some(used)) if now > then => {
                Some((used - before).max(0.0) / (now - then).as_secs_f64())
            }
            _ => None,
        };
        self.before = used.map(|used| (now, used));
        Resources {
            memory: resident_bytes(),
            processors,
            disk: disk_bytes(run),
        }
    }
}

/// `VmRSS` of proc(5).
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// User and system time of all threads: fields 14 and 15 of proc(5)'s stat, in ticks of 10 ms.
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in brackets, which may hold blanks.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (ticks.next()?.parse().ok()?, ticks.next()?.parse().ok()?);
    Some((user + system) / 100.0)
}

#[cfg(unix)]
fn disk_bytes(run: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut seen = std::collections::BTreeSet::new();
    let mut total = 0;
    for directory in [
        run.to_owned(),
        run.join("checkpoints"),
        run.join("outcomes"),
        run.join("archives"),
    ] {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            // Files come and go while this looks.
            let Ok(about) = entry.metadata() else {
                continue;
            };
            if about.is_file() && seen.insert(about.ino()) {
                total += about.len();
            }
        }
    }
    (!seen.is_empty()).then_some(total)
}

#[cfg(not(unix))]
fn disk_bytes(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_two_names_counts_once() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(disk_bytes(run.path()), None);
        let checkpoints = run.path().join("checkpoints");
        std::fs::create_dir(&checkpoints).unwrap();
        std::fs::write(checkpoints.join("a"), [0; 1000]).unwrap();
        std::fs::hard_link(checkpoints.join("a"), run.path().join("best")).unwrap();
        std::fs::write(run.path().join("run.toml"), [0; 10]).unwrap();
        assert_eq!(disk_bytes(run.path()), Some(1010));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_tells() {
        let mut meter = Meter::default();
        let run = Path::new(".");
        assert_eq!(meter.look(run).processors, None);
        let told = meter.look(run);
        assert!(told.memory.unwrap() > 100_000 && told.processors.is_some());
    }
}

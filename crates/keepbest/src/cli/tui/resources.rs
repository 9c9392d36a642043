//! What the run takes: memory, processor, disk. Where the system does not tell, nothing is shown.

use std::path::Path;
use std::time::Instant;

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

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
    /// The latest look, and the milliseconds of processor time until then.
    before: Option<(Instant, u64)>,
}

impl Meter {
    /// The resources in use now.
    pub(super) fn look(&mut self, run: &Path) -> Resources {
        let now = Instant::now();
        let (memory, used) = memory_and_processor_time().unzip();
        let processors = match (self.before, used) {
            (Some((then, before)), Some(used)) if now > then => {
                Some(used.saturating_sub(before) as f64 / 1000.0 / (now - then).as_secs_f64())
            }
            _ => None,
        };
        self.before = used.map(|used| (now, used));
        Resources {
            memory,
            processors,
            disk: disk_bytes(run),
        }
    }
}

/// Bytes of memory that this process holds, and the milliseconds of processor time of all its threads.
fn memory_and_processor_time() -> Option<(u64, u64)> {
    let own = sysinfo::get_current_pid().ok()?;
    let mut system = System::new().ok()?;
    let asked = ProcessRefreshKind::nothing().with_memory().with_cpu();
    let only = ProcessesToUpdate::Some(&[own]);
    system.refresh_processes_specifics(only, false, asked.without_tasks());
    let process = system.process(own)?;
    Some((process.memory(), process.accumulated_cpu_time()))
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

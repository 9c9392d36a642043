//! Whether this machine has the memory that a network takes, asked before any is reserved.

use sysinfo::System;
#[cfg(target_os = "linux")]
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate};

use crate::engine::EngineError;
use crate::network::Network;

/// Bytes of a value in memory.
const FLOAT: u64 = 4;

/// Refuses a batch whose largest value alone is more than the machine has. What it lets through can be multiplied and planned.
pub(crate) fn check_batch(network: &Network, batch: usize) -> Result<(), EngineError> {
    let largest = network
        .values
        .iter()
        .map(|shape| shape.len(1) as u128)
        .max();
    check_bytes(
        largest.unwrap_or(0) * batch as u128 * u128::from(FLOAT),
        batch,
    )
}

/// Refuses a plan that takes more floats than the machine has memory for.
pub(crate) fn check_floats(
    floats: impl IntoIterator<Item = usize>,
    batch: usize,
) -> Result<(), EngineError> {
    let floats: u128 = floats.into_iter().map(|floats| floats as u128).sum();
    check_bytes(floats * u128::from(FLOAT), batch)
}

fn check_bytes(needed: u128, batch: usize) -> Result<(), EngineError> {
    match machine() {
        Some(machine) if needed > u128::from(machine) => Err(EngineError::Memory {
            needed: u64::try_from(needed).unwrap_or(u64::MAX),
            machine,
            batch,
        }),
        _ => Ok(()),
    }
}

/// Bytes of memory that there are for this process: the machine's with its swap, or less where it is confined. `None` where that is not
/// known.
fn machine() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let installed = system.total_memory().checked_add(system.total_swap());
    let limits = [
        installed.filter(|&bytes| bytes > 0),
        address_space(&mut system),
        control_group(system.total_swap()),
    ];
    limits.into_iter().flatten().min()
}

/// What is left of the address space that this process may use (`ulimit -v`); `None` without a limit.
#[cfg(target_os = "linux")]
fn address_space(system: &mut System) -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current?;
    let own = sysinfo::get_current_pid().ok()?;
    let memory = ProcessRefreshKind::nothing().with_memory().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), false, memory);
    let used = system
        .process(own)
        .map_or(0, sysinfo::Process::virtual_memory);
    Some(limit.saturating_sub(used))
}

#[cfg(not(target_os = "linux"))]
fn address_space(_: &mut System) -> Option<u64> {
    None
}

/// The memory and swap of the control group of this process, as of a container; `None` without a limit. `sysinfo` does not know
/// a group's limit of swap.
#[cfg(target_os = "linux")]
fn control_group(swap_of_machine: u64) -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let group = std::path::Path::new(group.trim_start_matches('/'));
    let read = |path: std::path::PathBuf| -> Option<u64> {
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    // Each group is within those around it.
    let limits = group.ancestors().filter_map(|group| {
        let folder = std::path::Path::new("/sys/fs/cgroup").join(group);
        let memory = read(folder.join("memory.max"))?;
        // Without a limit of its own, a group may use the machine's swap.
        let swap = read(folder.join("memory.swap.max")).unwrap_or(swap_of_machine);
        memory.checked_add(swap)
    });
    limits.min()
}

#[cfg(not(target_os = "linux"))]
fn control_group(_: u64) -> Option<u64> {
    None
}

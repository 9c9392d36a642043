//! Whether this machine has the memory that a network takes, asked before any is reserved.

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
    let limits = [installed(), address_space(), control_group()];
    limits.into_iter().flatten().min()
}

/// What is left of the address space that this process may use (`ulimit -v`); `None` without a limit.
fn address_space() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let limit = rustix::process::getrlimit(rustix::process::Resource::As).current?;
        let status = std::fs::read_to_string("/proc/self/status").ok();
        let used = status.as_deref().and_then(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmSize:"))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        Some(limit.saturating_sub(used.unwrap_or(0).saturating_mul(1024)))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// The memory and swap of the control group of this process, as of a container; `None` without a limit.
fn control_group() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
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
            match read(folder.join("memory.swap.max")) {
                Some(swap) => memory.checked_add(swap),
                // Its swap has no limit but the machine's.
                None => memory.checked_add(swap_of_machine()),
            }
        });
        limits.min()
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(target_os = "linux")]
fn swap_of_machine() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalswap as u64).saturating_mul(u64::from(info.mem_unit.max(1)))
}

/// Bytes of memory and swap that this machine has; `None` where that is not known.
fn installed() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let info = rustix::system::sysinfo();
        let units = (info.totalram as u64).checked_add(info.totalswap as u64)?;
        units.checked_mul(u64::from(info.mem_unit.max(1)))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

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

/// Bytes of memory and swap that this machine has; `None` where that is not known.
fn machine() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let info = rustix::system::sysinfo();
        let units = (info.totalram as u64).checked_add(info.totalswap as u64)?;
        units.checked_mul(u64::from(info.mem_unit.max(1)))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

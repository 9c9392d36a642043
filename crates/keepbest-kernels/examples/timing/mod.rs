//! Timing shared by the examples.

use std::time::Instant;

/// Seconds a call takes. With one thread it is processor time, so that other processes count less; otherwise the median.
pub(crate) fn time(threads: usize, mut call: impl FnMut()) -> f64 {
    call();
    let mut times = Vec::new();
    let start = Instant::now();
    let cpu = cpu_seconds();
    while times.len() < 5 || start.elapsed().as_secs_f64() < 0.3 {
        let before = Instant::now();
        call();
        times.push(before.elapsed().as_secs_f64());
    }
    if threads == 1
        && let (Some(before), Some(after)) = (cpu, cpu_seconds())
        && after > before + 0.1
    {
        return (after - before) / times.len() as f64;
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Processor time of this thread, where Linux tells.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<f64>().ok()? * 1e-9)
}

//! Signals that ask the program to stop, and one that only says that a file has become too large.
//!
//! The first of those that stop is answered in order: what is under way is completed and saved. The second, of whichever
//! kind, ends the program at once. Verbs that have nothing to save leave these signals alone, and end at the first.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGABRT, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::cli::failure::{Exit, Failure};

/// Ctrl-C, `kill`, a terminal that is gone (SIGHUP), and the warnings that batch systems send before time is up.
const STOPPING: [i32; 6] = [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU];

/// The signals to stop at: all but those that this process was started to ignore, as SIGHUP under `nohup`, and SIGINT of what a
/// script has in the background.
pub(super) fn stopping() -> impl Iterator<Item = i32> {
    let ignored = ignored();
    STOPPING
        .into_iter()
        .filter(move |&signal| ignored & (1 << (signal - 1)) == 0)
}

/// The signals that this process was started to ignore, a bit each from the first on. None where the system does not tell.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// A flag that the signals set. The second of them ends the program at once.
pub(super) fn stop_on_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in stopping() {
        // In this order: the flag is not yet set when the first signal asks whether it is.
        flag::register_conditional_shutdown(signal, Exit::Interrupted as i32, stop.clone())
            .and_then(|_| flag::register(signal, stop.clone()))
            .map_err(|error| Failure::of(Exit::Failed, &error))?;
    }
    if getrlimit(Resource::Cpu).current.is_some()
        && let Ok(mut signals) = Signals::new([SIGXCPU])
    {
        // Without the thread, the second warning ends the program, as a second signal does.
        let thread = std::thread::Builder::new().name("keepbest-signals".into());
        let _ = thread.spawn(move || {
            if signals.forever().next().is_some() {
                quiet_cpu_limit();
            }
        });
    }
    Ok(stop)
}

/// From now on the first signal ends the program: there is nothing left to save, and whoever reads the result may never do so.
pub(super) fn end_at_next_signal() {
    let told = Arc::new(AtomicBool::new(true));
    for signal in stopping() {
        // Without it, the second signal does.
        let _ = flag::register_conditional_shutdown(
            signal,
            Exit::Interrupted as i32,
            Arc::clone(&told),
        );
    }
}

/// Raises the limit of processor time that was reached as far as it goes: the system repeats its warning every second, which
/// would be a second signal while the first is being answered.
pub(super) fn quiet_cpu_limit() {
    let maximum = getrlimit(Resource::Cpu).maximum;
    let _ = setrlimit(
        Resource::Cpu,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}

/// Has the program end with [`Exit::Failed`] where it is aborted: memory that the system does not give (`ulimit -v`) is asked for in so
/// many places that not each can say it. The words for it, with the bytes that were asked for, are written by then.
pub(super) fn fail_when_aborted() {
    let always = Arc::new(AtomicBool::new(true));
    let _ = flag::register_conditional_shutdown(SIGABRT, Exit::Failed as i32, always);
}

/// Has a write beyond the limit of a file's size (`ulimit -f`) fail like any other, rather than end the program.
pub(super) fn survive_file_size_limit() {
    // Nobody looks at the flag: that the signal is caught is what counts.
    let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

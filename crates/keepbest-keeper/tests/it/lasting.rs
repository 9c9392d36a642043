//! Errors that last: every call fails from some point on, for good, with every error. The session ends, best stays, and the run goes on
//! when the disk answers again.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use keepbest_keeper::{Keeper, fsck};
use keepbest_store::faulty::{Call, Disturbance, FaultyFileSystem};
use rustix::io::Errno;
use serde_json::json;

use crate::support::{Runs, best_step, config, offer_and_wait};

const ERRNOS: [Errno; 18] = [
    Errno::PERM,
    Errno::NOENT,
    Errno::INTR,
    Errno::IO,
    Errno::AGAIN,
    Errno::NOMEM,
    Errno::ACCESS,
    Errno::EXIST,
    Errno::NOTDIR,
    Errno::ISDIR,
    Errno::INVAL,
    Errno::MFILE,
    Errno::NOSPC,
    Errno::ROFS,
    Errno::NAMETOOLONG,
    Errno::LOOP,
    Errno::DQUOT,
    Errno::STALE,
];

fn os_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw_os_error())
}

/// Fails when a session takes so long that it must be a loop without end.
fn in_time(what: &str, act: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let thread = thread::spawn(move || {
        act();
        let _ = done.send(());
    });
    let waited = wait.recv_timeout(Duration::from_secs(300));
    let endless = waited == Err(mpsc::RecvTimeoutError::Timeout);
    assert!(!endless, "{what} does not come to an end");
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn every_call_failing_for_good_from_any_call_on_ends_and_keeps_the_best() {
    let mut points = 0;
    for errno in ERRNOS {
        for nth in 0.. {
            let runs = Runs::in_memory();
            let fs = FaultyFileSystem::new(runs.parent()).unwrap();
            let shared = Arc::new(fs.clone());
            let mut keeper =
                Keeper::create_on(shared, &runs.run(), "seed = 1\n", config()).unwrap();
            offer_and_wait(&mut keeper, 1, 0.5);
            let first = fs.calls();
            fs.fail(move |call: &Call| (call.index >= first + nth).then(|| os_error(errno)));
            let at = format!("{errno:?} from call {nth} on");
            in_time(&at, move || {
                offer_and_wait(&mut keeper, 2, 0.6);
                offer_and_wait(&mut keeper, 3, 0.55);
                let _ = keeper.finish(json!(null));
            });
            let reached = fs.calls() > first + nth;
            assert!([10, 20].contains(&best_step(&runs.run())), "{at}");
            let mut keeper = Keeper::resume(&runs.run(), config()).unwrap().keeper;
            assert!(offer_and_wait(&mut keeper, 4, 0.7), "{at}");
            keeper.finish(json!(null)).unwrap();
            assert_eq!(best_step(&runs.run()), 40, "{at}");
            let report = fsck(&runs.run(), true).unwrap();
            assert!(report.is_mended(), "{at}: {:?}", report.findings);
            if !reached {
                break;
            }
            points += 1;
            assert!(nth < 1000, "the rounds do not end");
        }
    }
    println!("{points} points of lasting failure, 0 bests lost");
    assert!(points >= 30 * ERRNOS.len(), "only {points}");
}

#[test]
fn interrupted_and_shortened_calls_cost_no_save() {
    for disturb in [
        (|call| match call.index % 3 {
            1 => Some(Disturbance::Fail(os_error(Errno::INTR))),
            2 if call.method != "sync_data" => Some(Disturbance::Fail(os_error(Errno::AGAIN))),
            _ => None,
        }) as fn(&Call) -> Option<Disturbance>,
        |_| Some(Disturbance::Shorten(100)),
    ] {
        let runs = Runs::new();
        let fs = FaultyFileSystem::new(runs.parent()).unwrap();
        fs.disturb(disturb);
        let shared = Arc::new(fs);
        let mut keeper = Keeper::create_on(shared, &runs.run(), "", config()).unwrap();
        for (epoch, value) in [(1, 0.5), (2, 0.6), (3, 0.55)] {
            offer_and_wait(&mut keeper, epoch, value);
        }
        let summary = keeper.finish(json!(null)).unwrap();
        assert!(summary.failures.is_empty(), "{:?}", summary.failures);
        assert_eq!(best_step(&runs.run()), 20);
        assert!(fsck(&runs.run(), false).unwrap().is_clean());
    }
}

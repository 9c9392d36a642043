//! The queue: offers never wait, saves are superseded, snapshots are let go of.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use keepbest_formats::{StateDict, Tensor};
use keepbest_keeper::{Evaluation, Keeper, KeeperEvent, OwnedSnapshot, Snapshot, SnapshotHandle};
use keepbest_store::RefName;
use serde_json::json;

use crate::support::{Runs, accuracy, best_step, config, last_step, snapshot};

/// A snapshot whose weights can be read only when the gate opens, and that counts how many are alive.
struct Gated {
    inner: SnapshotHandle,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
    reading: AtomicUsize,
    alive: AtomicUsize,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn wait_until_read(&self) {
        while self.reading.load(Ordering::Acquire) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn snapshot(self: &Arc<Self>, step: u64) -> SnapshotHandle {
        self.alive.fetch_add(1, Ordering::AcqRel);
        SnapshotHandle::new(Gated {
            inner: snapshot(step),
            gate: Arc::clone(self),
        })
    }

    fn alive(&self) -> usize {
        self.alive.load(Ordering::Acquire)
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        self.gate.alive.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Snapshot for Gated {
    fn step(&self) -> u64 {
        self.inner.step()
    }

    fn weights(&self) -> StateDict {
        self.gate.reading.fetch_add(1, Ordering::AcqRel);
        let mut open = self.gate.open.lock().unwrap();
        while !*open {
            open = self.gate.changed.wait(open).unwrap();
        }
        self.inner.weights()
    }

    fn training_state(&self) -> StateDict {
        self.inner.training_state()
    }
}

fn offer(keeper: &mut Keeper, gate: &Arc<Gate>, epoch: u64, value: f64) {
    let handle = gate.snapshot(epoch * 10);
    keeper
        .offer(
            Evaluation::of(&handle, epoch, accuracy(value)),
            json!({"epoch": epoch}),
        )
        .unwrap();
}

fn superseded(events: &[KeeperEvent]) -> Vec<(u64, RefName)> {
    events
        .iter()
        .filter_map(|event| match event {
            KeeperEvent::Superseded {
                step, reference, ..
            } => Some((*step, reference.clone())),
            _ => None,
        })
        .collect()
}

#[test]
fn one_is_in_flight_one_waits_and_the_rest_are_superseded() {
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    let gate = Arc::new(Gate::default());
    offer(&mut keeper, &gate, 1, 0.1);
    gate.wait_until_read();
    offer(&mut keeper, &gate, 2, 0.2); // waits
    offer(&mut keeper, &gate, 3, 0.3); // beats it
    offer(&mut keeper, &gate, 4, 0.25); // no best: the best goes first
    offer(&mut keeper, &gate, 5, 0.4); // beats 3
    assert_eq!(gate.alive(), 2, "one in flight, one waiting");
    gate.open();
    keeper.wait();
    assert_eq!(gate.alive(), 0);
    let events = keeper.events();
    assert_eq!(
        superseded(&events),
        [
            (20, RefName::BEST),
            (20, RefName::LAST),
            (30, RefName::BEST),
            (30, RefName::LAST),
            (40, RefName::LAST),
        ]
    );
    keeper.finish(json!(null)).unwrap();
    assert_eq!((best_step(&runs.run()), last_step(&runs.run())), (50, 50));
    let view = runs.view();
    let steps: Vec<u64> = view.history().iter().map(|record| record.step).collect();
    assert_eq!(steps, [10, 20, 30, 40, 50], "the order of the offers");
    let digests: Vec<bool> = view.history().iter().map(|r| r.digest.is_some()).collect();
    assert_eq!(digests, [true, false, false, false, true]);
    assert_eq!(view.state().history.best().unwrap().step, 50);
}

#[test]
fn a_waiting_last_gives_way_to_a_newer_one() {
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    let gate = Arc::new(Gate::default());
    offer(&mut keeper, &gate, 1, 0.9);
    gate.wait_until_read();
    offer(&mut keeper, &gate, 2, 0.2);
    offer(&mut keeper, &gate, 3, 0.3);
    assert_eq!(gate.alive(), 2);
    gate.open();
    keeper.wait();
    assert_eq!(superseded(&keeper.events()), [(20, RefName::LAST)]);
    keeper.finish(json!(null)).unwrap();
    assert_eq!((best_step(&runs.run()), last_step(&runs.run())), (10, 30));
}

#[test]
fn a_resume_point_asked_for_is_saved_whatever_waits() {
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    let gate = Arc::new(Gate::default());
    offer(&mut keeper, &gate, 1, 0.1);
    gate.wait_until_read();
    offer(&mut keeper, &gate, 2, 0.2);
    let opener = std::thread::spawn({
        let gate = Arc::clone(&gate);
        move || {
            std::thread::sleep(Duration::from_millis(30));
            gate.open();
        }
    });
    keeper.save_last(&snapshot(25), 2, json!({"batch": 5}));
    keeper.interrupt().unwrap();
    opener.join().unwrap();
    assert_eq!((best_step(&runs.run()), last_step(&runs.run())), (20, 25));
    let last = crate::support::open(&RefName::LAST.path(&runs.run()));
    assert_eq!(last.metadata.unwrap().training, Some(json!({"batch": 5})));
}

#[test]
fn saving_the_same_resume_point_twice_writes_it_once() {
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    crate::support::offer_and_wait(&mut keeper, 1, 0.5);
    keeper.save_last(&snapshot(10), 1, json!({"epoch": 1}));
    keeper.wait();
    assert_eq!(crate::support::checkpoints(&runs.run()).len(), 1);
    // Another trainer state is another file; the weights are the same.
    keeper.save_last(&snapshot(10), 1, json!({"epoch": 1, "batch": 0}));
    keeper.interrupt().unwrap();
    let names = crate::support::checkpoints(&runs.run());
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].ends_with(".2.safetensors"), "{names:?}");
}

#[test]
fn a_snapshot_that_panics_costs_its_save_and_no_more() {
    struct Panics;
    impl Snapshot for Panics {
        fn step(&self) -> u64 {
            20
        }
        fn weights(&self) -> StateDict {
            panic!("out of device memory")
        }
    }
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    crate::support::offer_and_wait(&mut keeper, 1, 0.5);
    let broken = SnapshotHandle::new(Panics);
    keeper
        .offer(Evaluation::of(&broken, 2, accuracy(0.9)), json!(null))
        .unwrap();
    keeper.wait();
    assert!(crate::support::offer_and_wait(&mut keeper, 3, 0.6));
    let summary = keeper.finish(json!(null)).unwrap();
    assert_eq!(summary.failures.len(), 1);
    assert!(summary.failures[0].error.contains("out of device memory"));
    assert_eq!(best_step(&runs.run()), 30);
}

/// 45 MB, as a ResNet-18 has: an offer costs a reference count and a message.
#[test]
fn offers_cost_microseconds() {
    let megabyte = vec![1.5_f32; 250_000];
    let mut weights = StateDict::new();
    for i in 0..45 {
        weights
            .insert(
                format!("layer{i}.weight"),
                Tensor::from_f32(&[250_000], &megabyte).unwrap(),
            )
            .unwrap();
    }
    assert_eq!(weights.total_bytes(), 45_000_000);
    let runs = Runs::new();
    let mut keeper = runs.create(config());
    let mut times = Vec::new();
    for epoch in 1..=20_u64 {
        let handle = SnapshotHandle::new(OwnedSnapshot {
            step: epoch,
            weights: weights.clone(),
            training_state: StateDict::new(),
        });
        let evaluation = Evaluation::of(&handle, epoch, accuracy(0.01 * epoch as f64));
        drop(handle);
        let start = Instant::now();
        keeper.offer(evaluation, json!({"epoch": epoch})).unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    println!(
        "offer of 45 MB: median {:?}, slowest {:?}",
        times[10], times[19]
    );
    // A tenth of the time that copying it would take; usually it is some ten microseconds.
    assert!(times[10] < Duration::from_millis(1), "{times:?}");
    keeper.finish(json!(null)).unwrap();
    assert_eq!(best_step(&runs.run()), 20);
}

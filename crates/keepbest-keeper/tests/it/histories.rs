//! The best is right for every sequence of metrics, also when the run is resumed anywhere inside it.

use keepbest_core::{Direction, MinDelta, Objective};
use keepbest_keeper::{Keeper, KeeperConfig};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{Runs, best_step, config, last_step, offer_and_wait, step_of};

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

fn maximise() -> KeeperConfig {
    config()
}

fn minimise() -> KeeperConfig {
    KeeperConfig::new(Objective::with_direction("val/accuracy", Direction::Minimise).unwrap())
}

fn with_min_delta(delta: &str) -> KeeperConfig {
    let mut config = config();
    let delta: MinDelta = delta.parse().unwrap();
    config.objective = config.objective.with_min_delta(delta).unwrap();
    config
}

/// Name, settings, values, and the epoch of the best (none when nothing can be).
fn table() -> Vec<(&'static str, KeeperConfig, Vec<f64>, Option<u64>)> {
    vec![
        ("rises", maximise(), vec![0.1, 0.2, 0.3], Some(3)),
        ("falls", maximise(), vec![0.3, 0.2, 0.1], Some(1)),
        ("peak", maximise(), vec![0.1, 0.3, 0.2], Some(2)),
        (
            "tie keeps the earlier",
            maximise(),
            vec![0.3, 0.3, 0.3],
            Some(1),
        ),
        ("NaN first", maximise(), vec![NAN, 0.2, 0.1], Some(2)),
        ("NaN middle", maximise(), vec![0.1, NAN, 0.2], Some(3)),
        ("NaN last", maximise(), vec![0.1, 0.2, NAN], Some(2)),
        ("only NaN", maximise(), vec![NAN, NAN], None),
        ("infinity first", maximise(), vec![INF, 0.1, 0.2], Some(3)),
        ("infinity last", maximise(), vec![0.1, 0.2, INF], Some(2)),
        ("minus infinity", minimise(), vec![0.2, -INF, 0.1], Some(3)),
        ("falls, min", minimise(), vec![0.3, 0.2, 0.1], Some(3)),
        ("rises, min", minimise(), vec![0.1, 0.2, 0.3], Some(1)),
        ("NaN first, min", minimise(), vec![NAN, 0.2, 0.3], Some(2)),
        (
            "min_delta",
            with_min_delta("0.1"),
            vec![0.5, 0.55, 0.59, 0.62],
            Some(4),
        ),
        (
            "min_delta not reached",
            with_min_delta("0.2"),
            vec![0.5, 0.55, 0.59, 0.62],
            Some(1),
        ),
        (
            "min_delta relative",
            with_min_delta("10%"),
            vec![0.5, 0.54, 0.56],
            Some(3),
        ),
        (
            "negative values",
            maximise(),
            vec![-3.0, -2.0, -2.5],
            Some(2),
        ),
        ("zero and minus zero", maximise(), vec![-0.0, 0.0], Some(1)),
    ]
}

fn check(name: &str, runs: &Runs, values: &[f64], best: Option<u64>) {
    let run = runs.run();
    let view = runs.view();
    assert_eq!(view.best().map(|best| best.epoch), best, "{name}");
    match best {
        Some(epoch) => {
            assert_eq!(best_step(&run), epoch * 10, "{name}");
            let value = view.best().unwrap().score.value;
            assert_eq!(value, values[epoch as usize - 1], "{name}");
        }
        None => assert!(!run.join("best.safetensors").exists(), "{name}"),
    }
    assert_eq!(last_step(&run), values.len() as u64 * 10, "{name}");
    assert_eq!(view.history().len(), values.len(), "{name}");
}

#[test]
fn the_table_straight() {
    for (name, config, values, best) in table() {
        let runs = Runs::new();
        let mut keeper = runs.create(config);
        for (i, value) in values.iter().enumerate() {
            offer_and_wait(&mut keeper, i as u64 + 1, *value);
        }
        keeper.finish(json!(null)).unwrap();
        check(name, &runs, &values, best);
    }
}

#[test]
fn the_table_resumed_after_every_evaluation() {
    for (name, config, values, best) in table() {
        let runs = Runs::new();
        let mut keeper = runs.create(config.clone());
        for (i, value) in values.iter().enumerate() {
            offer_and_wait(&mut keeper, i as u64 + 1, *value);
            keeper.interrupt().unwrap();
            let resumed = Keeper::resume(&runs.run(), config.clone()).unwrap();
            assert!(resumed.repairs.is_clean(), "{name}: {:?}", resumed.repairs);
            let point = resumed.point.unwrap();
            assert_eq!(point.step, (i as u64 + 1) * 10, "{name}");
            assert_eq!(step_of(&point.path), point.step);
            keeper = resumed.keeper;
        }
        keeper.finish(json!(null)).unwrap();
        check(name, &runs, &values, best);
    }
}

/// What best must be: the simplest possible statement of the rule.
fn model(values: &[f64]) -> Option<u64> {
    let mut best: Option<(u64, f64)> = None;
    for (i, &value) in values.iter().enumerate() {
        if value.is_finite() && best.is_none_or(|(_, best)| value > best) {
            best = Some((i as u64 + 1, value));
        }
    }
    best.map(|(epoch, _)| epoch)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random values, policies and resumes, with and without waiting for the disk.
    #[test]
    fn best_is_the_models_best(
        values in prop::collection::vec(
            prop_oneof![8 => (0..6i32).prop_map(|v| f64::from(v) / 10.0), 1 => Just(NAN), 1 => Just(INF)],
            1..9,
        ),
        resumes in prop::collection::vec(any::<bool>(), 9),
        waits in prop::collection::vec(any::<bool>(), 9),
        best_k in 0..3usize,
        last_n in 0..3usize,
    ) {
        let runs = Runs::new();
        let mut config = config();
        for policy in [("best", best_k), ("last", last_n)] {
            if policy.1 > 0 {
                config.retention.push(format!("{}:{}", policy.0, policy.1).parse().unwrap());
            }
        }
        let mut keeper = runs.create(config.clone());
        let mut epoch = 1;
        while epoch <= values.len() {
            crate::support::offer(&mut keeper, epoch as u64, values[epoch - 1]);
            if waits[epoch - 1] {
                keeper.wait();
            }
            if resumes[epoch - 1] {
                drop(keeper);
                let resumed = Keeper::resume(&runs.run(), config.clone()).unwrap();
                keeper = resumed.keeper;
                // Dropping waits, so nothing newer than last can be lost but what was superseded.
                epoch = resumed.point.map_or(0, |point| point.step as usize / 10);
            }
            epoch += 1;
        }
        keeper.finish(json!(null)).unwrap();
        let view = runs.view();
        prop_assert_eq!(view.best().map(|best| best.epoch), model(&values));
        prop_assert_eq!(view.history().len(), values.len());
        // Nothing but what best, last, the resumed-from and the policies keep.
        let bound = 3 + best_k + last_n;
        prop_assert!(view.checkpoints().count() <= bound);
        prop_assert_eq!(view.checkpoints().count(), crate::support::checkpoints(&runs.run()).len());
        let report = keepbest_keeper::fsck(&runs.run(), false).unwrap();
        prop_assert!(report.is_clean(), "{:?}", report.findings);
    }

    /// After each evaluation the checkpoints on disk are exactly those of the model: nothing kept by policy is deleted, nothing
    /// else stays, whatever the run went through.
    #[test]
    fn the_checkpoints_are_the_models_checkpoints(
        values in prop::collection::vec(
            prop_oneof![8 => (0..6i32).prop_map(|v| f64::from(v) / 10.0), 1 => Just(NAN), 1 => Just(INF)],
            1..12,
        ),
        resumes in prop::collection::vec(prop::bool::weighted(0.3), 12),
        pins in prop::collection::vec(prop::bool::weighted(0.1), 12),
        best_k in 0..4usize,
        last_n in 0..4usize,
        every in 0..4u64,
    ) {
        let runs = Runs::new();
        let mut config = config();
        for (name, n) in [("best", best_k as u64), ("last", last_n as u64), ("epochs", every)] {
            if n > 0 {
                config.retention.push(format!("{name}:{n}").parse().unwrap());
            }
        }
        let mut keeper = runs.create(config.clone());
        let mut disk = Disk::default();
        for (i, &value) in values.iter().enumerate() {
            let epoch = i as u64 + 1;
            offer_and_wait(&mut keeper, epoch, value);
            disk.evaluated(epoch, value, best_k, last_n, every);
            let on_disk: Vec<u64> = checkpoint_epochs(&runs);
            prop_assert_eq!(&on_disk, &disk.epochs(), "after epoch {}", epoch);
            if pins[i] {
                // Between two sessions, as the command line does it.
                drop(keeper);
                let mut writer = keepbest_store::RunWriter::open(runs.run()).unwrap();
                let checkpoint = writer.state().last().unwrap().checkpoint.clone();
                let event = keepbest_store::PinnedEvent { checkpoint };
                writer.append(keepbest_store::Event::Pinned(event)).unwrap();
                drop(writer);
                disk.pinned.push(epoch);
                keeper = Keeper::resume(&runs.run(), config.clone()).unwrap().keeper;
                disk.resumed_from = Some(epoch);
            } else if resumes[i] {
                drop(keeper);
                keeper = Keeper::resume(&runs.run(), config.clone()).unwrap().keeper;
                disk.resumed_from = Some(epoch);
            }
        }
        keeper.finish(json!(null)).unwrap();
        prop_assert_eq!(checkpoint_epochs(&runs), disk.epochs());
        prop_assert!(keepbest_keeper::fsck(&runs.run(), false).unwrap().is_clean());
    }
}

/// Epochs of the checkpoints on disk, each of which is opened and verified.
fn checkpoint_epochs(runs: &Runs) -> Vec<u64> {
    let mut epochs: Vec<u64> = crate::support::checkpoints(&runs.run())
        .iter()
        .map(|name| step_of(&runs.run().join("checkpoints").join(name)) / 10)
        .collect();
    epochs.sort_unstable();
    epochs
}

/// What must be on disk: the simplest possible statement of the rules.
#[derive(Default)]
struct Disk {
    /// Epoch and value.
    files: Vec<(u64, f64)>,
    pinned: Vec<u64>,
    resumed_from: Option<u64>,
    best: Option<(u64, f64)>,
}

impl Disk {
    fn evaluated(&mut self, epoch: u64, value: f64, best_k: usize, last_n: usize, every: u64) {
        self.files.push((epoch, value));
        if value.is_finite() && self.best.is_none_or(|(_, best)| value > best) {
            self.best = Some((epoch, value));
        }
        // Of equals the earlier is better.
        let mut ranked: Vec<(u64, f64)> = self.files.clone();
        ranked.retain(|(_, value)| value.is_finite());
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let top: Vec<u64> = ranked
            .iter()
            .take(best_k)
            .map(|(epoch, _)| *epoch)
            .collect();
        let newest: Vec<u64> = self.files.iter().rev().take(last_n).map(|f| f.0).collect();
        let best = self.best.map(|(epoch, _)| epoch);
        let (pinned, resumed_from) = (self.pinned.clone(), self.resumed_from);
        self.files.retain(|&(file, _)| {
            file == epoch
                || Some(file) == best
                || Some(file) == resumed_from
                || pinned.contains(&file)
                || top.contains(&file)
                || newest.contains(&file)
                || (every > 0 && file % every == 0)
        });
    }

    fn epochs(&self) -> Vec<u64> {
        self.files.iter().map(|(epoch, _)| *epoch).collect()
    }
}

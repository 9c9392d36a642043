//! The moving average of the weights.

use crate::engine::{batch, config, every_layer};
use keepbest_formats::{Dtype, SnapshotHandle, StateDict};
use keepbest_nn::{
    Averaging, Batch, CpuEngine, Engine, EngineConfig, Isa, WhichWeights, optimizer_state,
};

fn engine(ema: Option<f64>, threads: usize) -> CpuEngine {
    averaging(ema.map(Averaging::Ema), threads)
}

fn averaging(averaging: Option<Averaging>, threads: usize) -> CpuEngine {
    let config = EngineConfig {
        averaging,
        ..config(5, threads, Isa::fastest())
    };
    CpuEngine::new(&every_layer(), config).unwrap()
}

fn same(a: &StateDict, b: &StateDict) -> bool {
    let equal = |(a, b): (
        (&str, &keepbest_formats::Tensor),
        (&str, &keepbest_formats::Tensor),
    )| { a.0 == b.0 && a.1.bytes() == b.1.bytes() };
    a.len() == b.len() && a.iter().zip(b.iter()).all(equal)
}

#[test]
fn it_follows_the_weights_and_leaves_them_alone() {
    let (images, labels) = batch(&every_layer(), 5, 0);
    let (mut with, mut without) = (engine(Some(0.5), 2), engine(None, 1));
    let mut expected = with.snapshot().weights();
    // A snapshot held over some of the steps: the state moves to another block.
    let mut held: Option<SnapshotHandle> = None;
    for step in 1..=20u32 {
        for engine in [&mut with, &mut without] {
            engine.step(Batch::new(&images, &labels), 0.02).unwrap();
        }
        let weights = with.snapshot().weights();
        assert!(same(&weights, &without.snapshot().weights()));
        let share = 0.5f64.max(9.0 / (10.0 + f64::from(step))) as f32;
        let mut next = StateDict::new();
        for (name, tensor) in weights.iter() {
            let tensor = if tensor.dtype() == Dtype::F32 {
                let before = expected.get(name).unwrap().as_f32().unwrap().into_owned();
                let values: Vec<f32> = before
                    .iter()
                    .zip(tensor.as_f32().unwrap().iter())
                    .map(|(a, w)| (w - a).mul_add(share, *a))
                    .collect();
                keepbest_formats::Tensor::from_f32(tensor.shape(), &values).unwrap()
            } else {
                tensor.clone()
            };
            next.insert(name, tensor).unwrap();
        }
        expected = next;
        let averaged = with.averaged().unwrap();
        assert!(same(&averaged.weights(), &expected), "step {step}");
        held = step.is_multiple_of(3).then_some(averaged);
    }
    drop(held);
    assert!(without.averaged().is_none());
}

#[test]
fn a_file_of_either_face_goes_on_the_same() {
    let (images, labels) = batch(&every_layer(), 5, 0);
    let mut whole = engine(Some(0.9), 1);
    for _ in 0..3 {
        whole.step(Batch::new(&images, &labels), 0.02).unwrap();
    }
    let raw = whole.snapshot();
    let averaged = whole.averaged().unwrap();
    assert!(!same(&raw.weights(), &averaged.weights()));
    assert!(same(
        &optimizer_state(&raw.training_state()),
        &optimizer_state(&averaged.training_state())
    ));
    whole.step(Batch::new(&images, &labels), 0.02).unwrap();
    let end = whole.snapshot();
    for face in [raw, averaged] {
        let mut again = engine(Some(0.9), 2);
        again
            .restore(&face.weights(), &face.training_state(), face.step())
            .unwrap();
        again.step(Batch::new(&images, &labels), 0.02).unwrap();
        let found = again.snapshot();
        assert!(same(&found.weights(), &end.weights()));
        assert!(same(&found.training_state(), &end.training_state()));
        // Without an average, what is there of one is too much.
        let error = engine(None, 1)
            .restore(&face.weights(), &face.training_state(), face.step())
            .unwrap_err();
        assert!(error.to_string().contains("unexpected"), "{error}");
    }
}

#[test]
fn loaded_weights_are_the_average_at_first() {
    let mut engine = engine(Some(0.9), 1);
    let (images, labels) = batch(&every_layer(), 5, 0);
    let start = engine.snapshot().weights();
    engine.step(Batch::new(&images, &labels), 0.1).unwrap();
    engine.load_weights(&start).unwrap();
    let averaged = engine.averaged().unwrap();
    assert!(same(&averaged.weights(), &start));
}

#[test]
fn a_decay_outside_its_range_is_an_error() {
    for decay in [1.0, -0.1, f64::NAN] {
        let config = EngineConfig {
            averaging: Some(Averaging::Ema(decay)),
            ..config(5, 1, Isa::fastest())
        };
        assert!(CpuEngine::new(&every_layer(), config).is_err(), "{decay}");
    }
}

/// As `torch.optim.swa_utils`: `AveragedModel.update_parameters`, then `update_bn`.
#[test]
fn weights_of_some_steps_are_averaged_with_statistics_of_their_own() {
    let (images, labels) = batch(&every_layer(), 5, 0);
    let (mut swa, mut plain) = (averaging(Some(Averaging::Swa), 2), engine(None, 1));
    let mut taken: Vec<StateDict> = Vec::new();
    let mut held: Option<SnapshotHandle> = None;
    for step in 1..=9u64 {
        for engine in [&mut swa, &mut plain] {
            engine.step(Batch::new(&images, &labels), 0.02).unwrap();
        }
        if step.is_multiple_of(3) {
            // In place, and with the state shared.
            held = (step == 6).then(|| swa.snapshot());
            swa.average_weights(taken.len() as u64);
            taken.push(plain.snapshot().weights());
        }
        assert!(same(&swa.snapshot().weights(), &plain.snapshot().weights()));
    }
    drop(held);
    let found = swa.averaged().unwrap().weights();
    let mut mean = StateDict::new();
    for (name, tensor) in found.iter() {
        let values = |of: &StateDict| match tensor.dtype() {
            Dtype::F32 => of.get(name).unwrap().as_f32().unwrap().into_owned(),
            _ => Vec::new(),
        };
        let models: Vec<Vec<f32>> = taken.iter().map(values).collect();
        for (i, found) in values(&found).into_iter().enumerate() {
            let expected = models.iter().map(|model| model[i]).sum::<f32>() / 3.0;
            // Three roundings on either way, of values of about the same size.
            assert!(
                (found - expected).abs() <= 4e-7 * expected.abs().max(0.1),
                "{name}: {found}, {expected}"
            );
        }
        mean.insert(name, tensor.clone()).unwrap();
    }

    // Its statistics are those that an engine with the mean for weights measures; the weights keep theirs.
    let before = swa.snapshot();
    for seen in 0..2 {
        swa.measure_statistics(WhichWeights::Average, &images, seen)
            .unwrap();
    }
    let after = swa.snapshot();
    assert!(same(&before.weights(), &after.weights()));
    let mut other = engine(None, 1);
    other.load_weights(&mean).unwrap();
    for seen in 0..2 {
        other
            .measure_statistics(WhichWeights::Trained, &images, seen)
            .unwrap();
    }
    assert!(same(
        &swa.averaged().unwrap().weights(),
        &other.snapshot().weights()
    ));
    assert!(!same(&mean, &other.snapshot().weights()));
}

#[test]
fn measured_statistics_are_the_mean_over_the_batches() {
    let (images, _) = batch(&every_layer(), 5, 0);
    let (others, _) = batch(&every_layer(), 5, 1);
    let measured = |batches: &[&[f32]]| {
        let mut engine = engine(Some(0.9), 2);
        let before = engine.snapshot();
        for (seen, batch) in batches.iter().enumerate() {
            engine
                .measure_statistics(WhichWeights::Trained, batch, seen as u64)
                .unwrap();
        }
        let after = engine.snapshot();
        assert_eq!(after.step(), 0);
        assert!(same(&before.training_state(), &after.training_state()));
        (before.weights(), after.weights())
    };
    let (before, first) = measured(&[&images]);
    let (_, second) = measured(&[&others]);
    let (_, both) = measured(&[&images, &others]);
    let mut statistics = 0;
    for (name, tensor) in both.iter() {
        let values = |dict: &StateDict| dict.get(name).unwrap().clone();
        if !name.contains("running_") {
            assert_eq!(tensor.bytes(), values(&before).bytes(), "{name}");
            continue;
        }
        statistics += 1;
        let (first, second) = (values(&first), values(&second));
        let pairs = first.as_f32().unwrap().into_owned();
        let pairs = pairs.iter().zip(second.as_f32().unwrap().into_owned());
        for ((a, b), found) in pairs.zip(tensor.as_f32().unwrap().iter()) {
            let expected = (a + b) / 2.0;
            // Two roundings to f32 on the way.
            assert!(
                (found - expected).abs() <= 1e-6 * expected.abs().max(1e-3),
                "{name}"
            );
        }
    }
    assert!(statistics >= 2, "{statistics}");
}

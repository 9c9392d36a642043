//! Gradients of a whole network against differences of its loss.

use crate::engine::{batch, every_layer, modern_layers, one_input_layers};
use crate::graph::{graph_layers, rearranging_layers};
use keepbest_formats::{StateDict, Tensor};
use keepbest_nn::{
    Batch, CpuEngine, Engine, EngineConfig, LossConfig, ModelSpec, OptimizerConfig, StepOutput,
    Tuning,
};

/// The loss at given weights, always with the dropout of the first step.
fn loss_at(engine: &mut CpuEngine, weights: &StateDict, images: &[f32], labels: &[u32]) -> f64 {
    engine.load_weights(weights).unwrap();
    engine.load_training_state(&StateDict::new(), 0).unwrap();
    let StepOutput { loss, .. } = engine.step(Batch::new(images, labels), 0.0).unwrap();
    loss
}

/// `weights` with `parameter` moved by `distance` along `direction`.
fn moved(weights: &StateDict, parameter: &str, direction: &[f32], distance: f32) -> StateDict {
    let mut dict = StateDict::new();
    for (name, tensor) in weights.iter() {
        let tensor = if name == parameter {
            let values = tensor.as_f32().unwrap();
            let values: Vec<f32> = values
                .iter()
                .zip(direction)
                .map(|(v, d)| v + distance * d)
                .collect();
            Tensor::from_f32(tensor.shape(), &values).unwrap()
        } else {
            tensor.clone()
        };
        dict.insert(name.to_owned(), tensor).unwrap();
    }
    dict
}

#[test]
fn gradients_are_the_slope_of_the_loss() {
    check_slopes(&every_layer(), 19, Tuning::default(), 1e-2);
    check_slopes(&modern_layers(), 34, Tuning::default(), 1e-2);
    check_slopes(&graph_layers(), 14, Tuning::default(), 1e-2);
    check_slopes(&rearranging_layers(), 11, Tuning::default(), 1e-2);
    // Small gradients in front of a norm over few vectors, which enlarges what is rounded, and kinks: a coarse check. Each layer is
    // compared with PyTorch by itself.
    check_slopes(&one_input_layers(), 35, Tuning::default(), 6e-2);
    let fixed = Tuning {
        freeze_statistics: true,
        ..Default::default()
    };
    check_slopes(&every_layer(), 19, fixed, 1e-2);
}

fn check_slopes(spec: &ModelSpec, parameters: usize, tuning: Tuning, tolerance: f64) {
    let moving = !tuning.freeze_statistics;
    let config = EngineConfig {
        batch_size: 6,
        threads: Some(2),
        seed: 11,
        optimizer: OptimizerConfig::sgd(0.0, 0.0),
        loss: LossConfig {
            label_smoothing: 0.1,
            class_weights: Some(vec![1.0, 0.5, 2.0, 1.0, 0.7]),
        },
        tuning,
        ..Default::default()
    };
    let mut engine = CpuEngine::new(spec, config).unwrap();
    let (images, labels) = batch(spec, 6, 2);
    let weights = engine.snapshot().weights();
    loss_at(&mut engine, &weights, &images, &labels);
    let gradients = engine.gradients();
    assert_eq!(gradients.len(), parameters);
    for (name, gradient) in gradients.iter() {
        // Along its own direction a gradient's slope is its length, far above the noise of f32.
        let gradient = gradient.as_f32().unwrap();
        let length = gradient
            .iter()
            .map(|g| f64::from(*g).powi(2))
            .sum::<f64>()
            .sqrt();
        if moving && (name == "block.conv1.bias" || name == "stem.bias") {
            // A batch norm follows: it takes any constant out again.
            assert!(length < 1e-6, "{name}: {length}");
            continue;
        }
        let direction: Vec<f32> = gradient
            .iter()
            .map(|g| (f64::from(*g) / length) as f32)
            .collect();
        // Statistics that stand still let more values cross the kinks of ReLUs and max pools.
        let distance = if moving { 2e-3 } else { 5e-4 };
        let mut at = |d| {
            loss_at(
                &mut engine,
                &moved(&weights, name, &direction, d),
                &images,
                &labels,
            )
        };
        let slope = (at(distance) - at(-distance)) / (2.0 * f64::from(distance));
        let error = (slope - length).abs() / length;
        assert!(
            error < tolerance,
            "{name}: slope {slope}, gradient {length}"
        );
    }
}

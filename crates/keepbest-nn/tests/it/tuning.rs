//! Fine-tuning: frozen parts, rates of body and head, frozen statistics.

use crate::engine::{batch, config, every_layer};
use keepbest_formats::StateDict;
use keepbest_nn::{
    Batch, CpuEngine, Engine, EngineConfig, EngineError, Isa, OptimizerConfig, Tuning,
};

fn engine(tuning: Tuning) -> Result<CpuEngine, EngineError> {
    let config = EngineConfig {
        optimizer: OptimizerConfig::sgd(0.0, 0.0),
        clip_grad_norm: None,
        tuning,
        ..config(5, 2, Isa::fastest())
    };
    CpuEngine::new(&every_layer(), config)
}

fn freeze(patterns: &[&str]) -> Tuning {
    Tuning {
        freeze: patterns.iter().map(|p| (*p).to_owned()).collect(),
        ..Default::default()
    }
}

fn bytes<'a>(dict: &'a StateDict, name: &str) -> &'a [u8] {
    dict.get(name).unwrap().bytes()
}

#[test]
fn frozen_parts_never_change_and_cost_no_backward_pass() {
    let (images, labels) = batch(&every_layer(), 5, 0);
    let mut whole = engine(Tuning::default()).unwrap();
    // Convolutions alone: the forward pass, and so every other gradient, is the same.
    let mut part = engine(freeze(&["stem.*", "block.conv*"])).unwrap();
    for engine in [&mut whole, &mut part] {
        engine.step(Batch::new(&images, &labels), 0.05).unwrap();
    }
    let (expected, found) = (whole.gradients(), part.gradients());
    for (name, gradient) in found.iter() {
        if name.starts_with("stem.") || name.starts_with("block.conv") {
            assert!(
                gradient.as_f32().unwrap().iter().all(|g| *g == 0.0),
                "{name}"
            );
        } else {
            assert_eq!(gradient.bytes(), bytes(&expected, name), "{name}");
        }
    }

    let mut tail = engine(freeze(&["stem.*", "bn.*", "block.*", "depthwise.*"])).unwrap();
    assert!(tail.arena_bytes() < whole.arena_bytes());
    let start = tail.snapshot();
    for step in 0..3 {
        // The snapshot is alive in the first step: the state moves to another block.
        tail.step(Batch::new(&images, &labels), 0.05).unwrap();
        let (before, after) = (start.weights(), tail.snapshot().weights());
        for (name, tensor) in after.iter() {
            let learns = name.starts_with("hidden.") || name.starts_with("head.");
            let same = tensor.bytes() == bytes(&before, name);
            assert_eq!(same, !learns, "{name} after step {step}");
        }
    }
}

#[test]
fn the_body_learns_at_its_own_rate() {
    let (images, labels) = batch(&every_layer(), 5, 0);
    let tuning = Tuning {
        body_rate: 0.25,
        ..Default::default()
    };
    let (mut slow, mut fast) = (engine(tuning).unwrap(), engine(Tuning::default()).unwrap());
    slow.step(Batch::new(&images, &labels), 0.5).unwrap();
    // A quarter is exact in f32.
    fast.step(Batch::new(&images, &labels), 0.125).unwrap();
    let (slow, fast) = (slow.snapshot().weights(), fast.snapshot().weights());
    for (name, tensor) in slow.iter() {
        let head = name.starts_with("head.");
        assert_eq!(tensor.bytes() == bytes(&fast, name), !head, "{name}");
    }
}

#[test]
fn what_cannot_be_frozen_is_named() {
    let refused = |tuning: Tuning| engine(tuning).err().unwrap().to_string();
    assert_eq!(
        refused(freeze(&["layer9.*"])),
        "`layer9.*` fits no parameter of the network"
    );
    assert_eq!(
        refused(freeze(&["*"])),
        "every parameter is frozen: nothing can learn"
    );
    let negative = Tuning {
        body_rate: -1.0,
        ..Default::default()
    };
    assert!(refused(negative).contains("body rate"));
}

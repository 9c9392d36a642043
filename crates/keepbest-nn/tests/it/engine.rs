//! The engine as a whole: reproducible, with snapshots that never change.

use keepbest_formats::{StateDict, Tensor};
use keepbest_nn::{
    Batch, CpuEngine, CpuScorer, Engine, EngineConfig, Isa, LossConfig, ModelSpec, OptimizerConfig,
    Scorer, StepError, zoo,
};
use serde_json::json;

/// A small network with every kind of layer.
pub(crate) fn every_layer() -> ModelSpec {
    ModelSpec::from_json(&json!({
        "version": 1, "name": "every-layer", "classes": 5,
        "input": {"channels": 3, "height": 13, "width": 12},
        "layers": [
            {"op": "conv2d", "name": "stem", "out": 12, "kernel": 3, "stride": [2, 1], "padding": 1},
            {"op": "batch_norm2d", "name": "bn"},
            {"op": "relu"},
            {"op": "max_pool2d", "kernel": 3, "stride": 2, "padding": 1},
            {"op": "residual", "name": "block", "body": [
                {"op": "conv2d", "name": "conv1", "out": 18, "kernel": 3, "padding": 1, "groups": 3},
                {"op": "batch_norm2d", "name": "bn1"},
                {"op": "relu"},
                {"op": "conv2d", "name": "conv2", "out": 18, "kernel": [1, 3], "padding": [0, 2],
                    "dilation": [1, 2], "bias": false},
                {"op": "batch_norm2d", "name": "bn2"},
            ], "shortcut": [{"op": "conv2d", "name": "match", "out": 18, "kernel": 1}]},
            {"op": "relu"},
            {"op": "residual", "name": "depthwise", "body": [
                {"op": "conv2d", "name": "conv", "out": 18, "kernel": 3, "padding": 1, "groups": 18},
            ]},
            {"op": "dropout", "p": 0.3},
            {"op": "avg_pool2d", "kernel": 2},
            {"op": "flatten"},
            {"op": "linear", "name": "hidden", "out": 17},
            {"op": "relu"},
            {"op": "dropout", "p": 0.2},
            {"op": "linear", "name": "head", "out": 5},
        ],
    }))
    .unwrap()
}

/// A small network with the layers of the networks after ResNet.
pub(crate) fn modern_layers() -> ModelSpec {
    let norm = |name: &str| json!({"op": "layer_norm2d", "name": name, "eps": 1e-6});
    ModelSpec::from_json(&json!({
        "version": 2, "name": "modern-layers", "classes": 5,
        "input": {"channels": 3, "height": 13, "width": 12},
        "layers": [
            {"op": "conv2d", "name": "first", "out": 18, "kernel": 3, "stride": 2, "padding": 1, "zero_bias": true},
            {"op": "group_norm", "name": "gn", "groups": 3},
            {"op": "silu"},
            {"op": "repeat", "name": "block{}", "times": 2, "first": 1, "layers": [
                {"op": "residual", "name": "", "body": [
                    {"op": "conv2d", "name": "dw", "out": 18, "kernel": 3, "padding": 1, "groups": 18},
                    norm("norm"),
                    {"op": "linear", "name": "up", "out": 36, "per_pixel": true, "init": {"normal": 0.2}},
                    {"op": "gelu"},
                    {"op": "linear", "name": "down", "out": 18, "per_pixel": true},
                    {"op": "layer_scale", "name": "scale", "init": 0.5},
                    {"op": "stochastic_depth", "p": 0.3},
                ]},
            ]},
            {"op": "gate", "name": "se", "body": [
                {"op": "global_avg_pool2d"},
                {"op": "conv2d", "name": "fc1", "out": 6, "kernel": 1},
                {"op": "hardswish"},
                {"op": "conv2d", "name": "fc2", "out": 18, "kernel": 1},
                {"op": "hardsigmoid"},
            ]},
            {"op": "branch", "name": "cat", "branches": [[],
                [{"op": "conv2d", "name": "a", "out": 7, "kernel": 1}, {"op": "sigmoid"}],
                [{"op": "conv2d", "name": "b", "out": 9, "kernel": 3, "padding": 1}, {"op": "relu6"}],
            ]},
            {"op": "adaptive_avg_pool2d", "size": [3, 4]},
            norm("last"),
            {"op": "flatten"},
            {"op": "linear", "name": "head", "out": 5, "init": {"uniform": 0.1}},
        ],
    }))
    .unwrap()
}

/// A small network with the layers of one input since version 3 of the spec.
pub(crate) fn one_input_layers() -> ModelSpec {
    let text = include_str!("../specs/one_input.json");
    ModelSpec::from_json(&serde_json::from_str(text).unwrap()).unwrap()
}

/// A fixed batch of `n` images for a spec; `which` tells batches apart.
pub(crate) fn batch(spec: &ModelSpec, n: usize, which: usize) -> (Vec<f32>, Vec<u32>) {
    let input = spec.input;
    let len = n * input.channels * input.height * input.width;
    let value = |i: usize| ((i * 2654435761 + which * 40503) % 1009) as f32 / 504.5 - 1.0;
    let labels = (0..n)
        .map(|i| ((i * 7 + which) % spec.classes) as u32)
        .collect();
    ((0..len).map(value).collect(), labels)
}

pub(crate) fn config(batch_size: usize, threads: usize, isa: Isa) -> EngineConfig {
    EngineConfig {
        batch_size,
        threads: Some(threads),
        isa: Some(isa),
        seed: 3,
        optimizer: OptimizerConfig::sgd(0.9, 1e-3),
        loss: LossConfig {
            label_smoothing: 0.1,
            class_weights: None,
        },
        clip_grad_norm: Some(5.0),
        ..Default::default()
    }
}

/// Every value of a state dict, copied.
fn copy(dict: &StateDict) -> Vec<(String, Vec<u8>)> {
    dict.iter()
        .map(|(name, t)| (name.to_owned(), t.bytes().to_vec()))
        .collect()
}

#[test]
fn a_snapshot_never_changes_and_training_goes_on_as_without_it() {
    let spec = every_layer();
    let new = || CpuEngine::new(&spec, config(5, 2, Isa::fastest())).unwrap();
    let (mut with, mut without) = (new(), new());
    let mut held = Vec::new();
    for step in 0..12 {
        let (images, labels) = batch(&spec, 5, step);
        with.step(Batch::new(&images, &labels), 0.05).unwrap();
        without.step(Batch::new(&images, &labels), 0.05).unwrap();
        let snapshot = with.snapshot();
        let state = (copy(&snapshot.weights()), copy(&snapshot.training_state()));
        held.push((snapshot, state));
        // None held, one held, two held, in turn.
        if step % 3 == 0 {
            held.clear();
        }
        for (snapshot, (weights, training)) in &held {
            assert_eq!(&copy(&snapshot.weights()), weights);
            assert_eq!(&copy(&snapshot.training_state()), training);
        }
        let (a, b) = (with.snapshot(), without.snapshot());
        assert_eq!(copy(&a.weights()), copy(&b.weights()), "step {step}");
        assert_eq!(
            copy(&a.training_state()),
            copy(&b.training_state()),
            "step {step}"
        );
    }
}

#[test]
fn training_resumes_bit_for_bit_from_a_snapshot() {
    let spec = every_layer();
    for optimizer in [
        OptimizerConfig::sgd(0.9, 1e-3),
        OptimizerConfig::sgd(0.0, 0.0),
        OptimizerConfig::AdamW {
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.01,
        },
    ] {
        let config = EngineConfig {
            optimizer,
            ..config(5, 2, Isa::fastest())
        };
        let mut through = CpuEngine::new(&spec, config.clone()).unwrap();
        let step = |engine: &mut CpuEngine, step| {
            let (images, labels) = batch(&spec, 5, step);
            engine.step(Batch::new(&images, &labels), 0.01).unwrap()
        };
        for i in 0..4 {
            step(&mut through, i);
        }
        let point = through.snapshot();
        let mut resumed = CpuEngine::new(&spec, EngineConfig { seed: 3, ..config }).unwrap();
        resumed.load_weights(&point.weights()).unwrap();
        resumed
            .load_training_state(&point.training_state(), point.step())
            .unwrap();
        for i in 4..8 {
            assert_eq!(step(&mut through, i), step(&mut resumed, i));
        }
        let (a, b) = (through.snapshot(), resumed.snapshot());
        assert_eq!(copy(&a.weights()), copy(&b.weights()));
        assert_eq!(copy(&a.training_state()), copy(&b.training_state()));
    }
}

#[test]
fn scores_do_not_depend_on_the_batch() {
    let spec = every_layer();
    let mut engine = CpuEngine::new(&spec, config(5, 2, Isa::fastest())).unwrap();
    for step in 0..5 {
        let (images, labels) = batch(&spec, 5, step);
        engine.step(Batch::new(&images, &labels), 0.05).unwrap();
    }
    let (images, _) = batch(&spec, 9, 1);
    let mut all = engine.scorer(9).unwrap();
    all.load_snapshot(&engine.snapshot()).unwrap();
    let mut expected = vec![];
    all.logits(&images, &mut expected).unwrap();
    for size in [1, 2, 4] {
        let mut scorer = CpuScorer::new(&spec, size, Some(1)).unwrap();
        scorer.load(&engine.snapshot().weights()).unwrap();
        let mut found = vec![];
        scorer.logits(&images, &mut found).unwrap();
        assert_eq!(found, expected, "batches of {size}");
    }
}

#[test]
fn bad_batches_are_refused_and_change_nothing() {
    let spec = every_layer();
    let mut engine = CpuEngine::new(&spec, config(4, 1, Isa::fastest())).unwrap();
    let before = copy(&engine.snapshot().weights());
    let (images, labels) = batch(&spec, 4, 0);
    let (more, more_labels) = batch(&spec, 5, 0);
    let error = engine
        .step(Batch::new(&more, &more_labels), 0.1)
        .unwrap_err();
    assert!(
        matches!(
            error,
            StepError::BatchSize {
                found: 5,
                expected: 4,
                ..
            }
        ),
        "{error}"
    );
    let error = engine.step(Batch::new(&[], &[]), 0.1).unwrap_err();
    assert!(
        matches!(error, StepError::BatchSize { found: 0, .. }),
        "{error}"
    );
    let error = engine
        .step(Batch::new(&images[1..], &labels), 0.1)
        .unwrap_err();
    assert!(matches!(error, StepError::ImagesLength { .. }), "{error}");
    let error = engine
        .step(Batch::new(&images, &[0, 1, 5, 0]), 0.1)
        .unwrap_err();
    assert!(
        matches!(
            error,
            StepError::Label {
                found: 5,
                index: 2,
                classes: 5,
                ..
            }
        ),
        "{error}"
    );
    for rate in [f64::NAN, -0.1, f64::INFINITY] {
        let error = engine.step(Batch::new(&images, &labels), rate).unwrap_err();
        assert!(matches!(error, StepError::LearningRate { .. }), "{error}");
    }
    let mut broken = images.clone();
    broken[17] = f32::NAN;
    let error = engine.step(Batch::new(&broken, &labels), 0.1).unwrap_err();
    assert!(
        matches!(error, StepError::NonFiniteLoss { step: 1, .. }),
        "{error}"
    );
    assert_eq!(copy(&engine.snapshot().weights()), before);
    engine.step(Batch::new(&images, &labels), 0.1).unwrap();
}

#[test]
fn weights_of_another_network_are_refused_by_name() {
    let spec = every_layer();
    let mut engine = CpuEngine::new(&spec, config(4, 1, Isa::fastest())).unwrap();
    let before = copy(&engine.snapshot().weights());
    let mut dict = StateDict::new();
    for (name, tensor) in engine.snapshot().weights().iter() {
        match name {
            "stem.weight" => {}
            "head.bias" => {
                let wide = Tensor::from_f32(&[7], &[0.0; 7]).unwrap();
                dict.insert(name.to_owned(), wide).unwrap();
            }
            _ => dict.insert(name.to_owned(), tensor.clone()).unwrap(),
        }
    }
    dict.insert("extra".to_owned(), Tensor::from_f32(&[1], &[0.0]).unwrap())
        .unwrap();
    let error = engine.load_weights(&dict).unwrap_err();
    assert_eq!(error.missing, ["stem.weight"]);
    assert_eq!(error.unexpected, ["extra"]);
    assert_eq!(error.mismatched[0].tensor, "head.bias");
    let text = error.to_string();
    assert!(
        text.contains("stem.weight") && text.contains("F32 [7]"),
        "{text}"
    );
    assert_eq!(copy(&engine.snapshot().weights()), before);
}

#[test]
fn settings_outside_their_range_are_named() {
    let spec = zoo::spec("resnet18", &zoo::ZooOptions::new(3, 8, 8, 10)).unwrap();
    let with = |change: &dyn Fn(&mut EngineConfig)| {
        let mut config = EngineConfig {
            batch_size: 2,
            ..Default::default()
        };
        change(&mut config);
        CpuEngine::new(&spec, config)
            .err()
            .expect("refused")
            .to_string()
    };
    assert!(with(&|c| c.batch_size = 0).contains("batch size"));
    assert!(with(&|c| c.batch_size = 1).contains("layer4"));
    assert!(with(&|c| c.threads = Some(0)).contains("threads"));
    assert!(with(&|c| c.optimizer = OptimizerConfig::sgd(1.0, 0.0)).contains("momentum"));
    assert!(with(&|c| c.optimizer = OptimizerConfig::sgd(0.9, f64::NAN)).contains("weight decay"));
    assert!(with(&|c| c.loss.label_smoothing = 1.5).contains("label smoothing"));
    assert!(with(&|c| c.loss.class_weights = Some(vec![1.0; 3])).contains("3 class weights"));
    assert!(with(&|c| c.clip_grad_norm = Some(0.0)).contains("clip"));
}

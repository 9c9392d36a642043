//! ONNX import: what was exported comes back.

use keepbest_formats::onnx::ModelProto;
use keepbest_formats::{Dtype, StateDict, Tensor};
use keepbest_nn::onnx::{
    Ending, ImportError, ImportOptions, Imported, OnnxOptions, export, import,
};
use keepbest_nn::{Layer, ModelSpec, Network, build_scorer, zoo};

/// Numbers between -1 and 1 that no library changes.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

/// Weights whose norms have statistics, so that one left out shows.
fn weights(network: &Network) -> StateDict {
    let mut weights = StateDict::new();
    for (at, tensor) in network.layout().tensors().iter().enumerate() {
        let made = match tensor.dtype() {
            Dtype::I64 => Tensor::from_i64(&tensor.shape, &[0]),
            _ => {
                let fan_in = tensor.shape[1..].iter().product::<usize>().max(1) as f32;
                let mut values = noise(tensor.len(), at as u32);
                let norm = tensor.shape.len() == 1 && !tensor.name.ends_with("bias");
                for value in &mut values {
                    *value = match norm {
                        true => 1.0 + 0.3 * *value,
                        false => *value * 2.0 / fan_in.sqrt(),
                    };
                }
                Tensor::from_f32(&tensor.shape, &values)
            }
        };
        weights.insert(tensor.name.clone(), made.unwrap()).unwrap();
    }
    weights
}

fn scores(spec: &ModelSpec, weights: &StateDict, images: &[f32]) -> Vec<f32> {
    let mut scorer = build_scorer("cpu", spec, 2, None).unwrap();
    scorer.load(weights).unwrap();
    let mut scores = Vec::new();
    scorer.logits(images, &mut scores).unwrap();
    scores
}

fn there_and_back(spec: &ModelSpec, weights: &StateDict, options: &OnnxOptions) -> Imported {
    let network = Network::new(spec).unwrap();
    let model = export(&network, weights, options).unwrap();
    let mut file = Vec::new();
    model.encode().unwrap().write_to(&mut file).unwrap();
    let read = ModelProto::parse(&file.into(), None).unwrap();
    import(&read, &ImportOptions::default()).unwrap()
}

#[test]
fn every_zoo_network_comes_back_with_the_same_scores() {
    for entry in zoo::list() {
        let [channels, height, _] = entry.usual_input;
        let side = height.min(32);
        let spec = zoo::spec(entry.name, &zoo::ZooOptions::new(channels, side, side, 10)).unwrap();
        let network = Network::new(&spec).unwrap();
        let weights = weights(&network);
        let images = noise(2 * network.image_len(), 7);
        let expected = scores(&spec, &weights, &images);
        assert!(
            expected.iter().all(|score| score.is_finite()),
            "{}",
            entry.name
        );

        let back = there_and_back(&spec, &weights, &OnnxOptions::default());
        assert_eq!(
            scores(&back.spec, &back.weights, &images),
            expected,
            "{}",
            entry.name
        );
        // Names and values of parameters, in whatever order; a linear layer at each pixel comes back as a convolution of one.
        for (name, tensor) in weights.iter() {
            let found = back.weights.get(name).map(Tensor::bytes);
            assert!(found == Some(tensor.bytes()), "{}: {name}", entry.name);
        }
        let folded = OnnxOptions {
            fold_batch_norm: true,
            ..Default::default()
        };
        let back = there_and_back(&spec, &weights, &folded);
        let found = scores(&back.spec, &back.weights, &images);
        let largest = expected
            .iter()
            .fold(1.0f32, |most, score| most.max(score.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            let difference = (found - expected).abs();
            assert!(
                difference <= 1e-4 * largest,
                "{}: {found} {expected}",
                entry.name
            );
        }
    }
}

/// A graph of `tests/golden/make_onnx.py`.
fn golden(name: &str) -> ModelProto {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    ModelProto::open(format!("{folder}/onnx-{name}.onnx")).unwrap()
}

fn ops(layers: &[Layer]) -> Vec<&str> {
    layers.iter().map(Layer::op).collect()
}

#[test]
fn idioms_are_put_together() {
    let made = import(&golden("blocks"), &ImportOptions::default()).unwrap();
    assert_eq!(made.ending, Ending::Softmax);
    let tail = ["relu", "global_avg_pool2d", "flatten", "linear"];
    assert_eq!(
        ops(&made.spec.layers),
        [&["conv2d", "residual"], &tail[..]].concat()
    );
    let Layer::Residual(block) = &made.spec.layers[1] else {
        panic!("{:?}", made.spec.layers);
    };
    assert_eq!(ops(&block.body), ["batch_norm2d", "gelu", "gate"]);
    assert!(block.shortcut.is_empty());
    let names: Vec<&str> = made.weights.iter().map(|(name, _)| name).collect();
    let norm = [
        "n.weight",
        "n.bias",
        "n.running_mean",
        "n.running_var",
        "n.num_batches_tracked",
    ];
    let ends = ["s.weight", "fc.weight", "fc.bias"];
    assert_eq!(names, [&["a.weight", "a.bias"], &norm[..], &ends].concat());
}

#[test]
fn scores_are_those_of_onnxruntime() {
    let text = include_str!("../golden/onnx.json");
    let expected: serde_json::Value = serde_json::from_str(text).unwrap();
    for name in ["blocks", "moves", "made"] {
        let made = import(&golden(name), &ImportOptions::default()).unwrap();
        let input = made.spec.input;
        let each = input.channels * input.height * input.width;
        let count = made.input.batch.unwrap_or(2);
        let mut images = vec![0.0; count * each];
        for (at, value) in (0..count * each).map(|at| (at, at as f32 / (count * each) as f32)) {
            let (image, rest) = (at / each, at % each);
            let pixels = each / input.channels;
            images[image * each + rest % pixels * input.channels + rest / pixels] = value;
        }
        let mut found = scores(&made.spec, &made.weights, &images);
        if made.ending == Ending::Softmax {
            for scores in found.chunks_exact_mut(made.spec.classes) {
                scores.iter_mut().for_each(|score| *score = score.exp());
                let sum: f32 = scores.iter().sum();
                scores.iter_mut().for_each(|score| *score /= sum);
            }
        }
        let expected = expected[name]["scores"].as_array().unwrap();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let difference = (f64::from(*found) - expected.as_f64().unwrap()).abs();
            assert!(difference < 1e-5, "{name}: {found} {expected}");
        }
    }
}

#[test]
fn what_cannot_be_said_is_named() {
    let mut model = golden("blocks");
    for node in &mut model.graph.nodes {
        if node.op == "Sigmoid" || node.op == "Erf" {
            node.op = "Unheard".into();
        }
    }
    let Err(ImportError::Unsupported { nodes }) = import(&model, &ImportOptions::default()) else {
        panic!("it was imported");
    };
    let named: Vec<(&str, &str)> = nodes
        .iter()
        .map(|n| (n.node.as_str(), n.op.as_str()))
        .collect();
    assert_eq!(named, [("e1", "Unheard"), ("q", "Unheard")]);
    assert_eq!(nodes[0].why, "there is no layer for Unheard");
}

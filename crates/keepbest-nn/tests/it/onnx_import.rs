//! ONNX import: what was exported comes back.

use keepbest_formats::onnx::ModelProto;
use keepbest_formats::{Dtype, StateDict, Tensor};
use keepbest_nn::onnx::{ImportOptions, Imported, OnnxOptions, export, import};
use keepbest_nn::{ModelSpec, Network, build_scorer, zoo};

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
        // Names and values of parameters, in whatever order.
        for (name, tensor) in weights.iter() {
            let found = back.weights.get(name);
            assert!(found == Some(tensor), "{}: {name} is {found:?}", entry.name);
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

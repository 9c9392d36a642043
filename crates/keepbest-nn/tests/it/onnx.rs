//! ONNX export: what is in the graph, and what is refused. `tests/golden/check_onnx.py` runs the models.

use keepbest_formats::onnx::{Model, Side};
use keepbest_formats::{StateDict, Tensor};
use keepbest_nn::onnx::{ExportError, OnnxInput, OnnxOptions, PixelOrder, export};
use keepbest_nn::{ModelSpec, Network, zoo};
use std::collections::{HashMap, HashSet};

fn network(name: &str, channels: usize, size: usize) -> (Network, StateDict) {
    let options = zoo::ZooOptions::new(channels, size, size, 10);
    let spec: ModelSpec = zoo::spec(name, &options).unwrap();
    let network = Network::new(&spec).unwrap();
    let mut weights = StateDict::new();
    for t in network.layout().tensors() {
        let bytes = vec![0u8; t.len() * t.dtype().size()];
        let tensor = Tensor::new(t.dtype(), t.shape.clone(), bytes).unwrap();
        weights.insert(t.name.clone(), tensor).unwrap();
    }
    (network, weights)
}

fn ops(model: &Model) -> Vec<&str> {
    model.graph.nodes().iter().map(|node| node.op).collect()
}

fn pixels(mean: Vec<f32>, std: Vec<f32>) -> OnnxOptions {
    OnnxOptions {
        input: OnnxInput::Pixels {
            order: PixelOrder::ChannelsLast,
            divide_by: 255.0,
            mean,
            std,
        },
        ..Default::default()
    }
}

#[test]
fn operations_of_a_small_network() {
    let (network, weights) = network("simple-cnn", 1, 28);
    let model = export(&network, &weights, &OnnxOptions::default()).unwrap();
    let block = ["Conv", "BatchNormalization", "Relu", "MaxPool"];
    let head = ["Flatten", "Gemm", "Relu", "Gemm", "Identity"];
    assert_eq!(ops(&model), [&block[..], &block, &head].concat());
    let folded = OnnxOptions {
        fold_batch_norm: true,
        ..Default::default()
    };
    let model = export(&network, &weights, &folded).unwrap();
    let block = ["Conv", "Relu", "MaxPool"];
    assert_eq!(ops(&model), [&block[..], &block, &head].concat());
    let model = export(&network, &weights, &pixels(vec![0.5], vec![0.25])).unwrap();
    assert_eq!(ops(&model)[..5], ["Transpose", "Cast", "Div", "Sub", "Div"]);
    let sides = &model.graph.inputs[0].shape;
    assert_eq!(sides[0], Side::Named("N".into()));
    assert_eq!(sides[1..], [28, 28, 1].map(Side::Fixed));
}

#[test]
fn every_name_once_and_every_input_made_before_it_is_used() {
    for entry in zoo::list() {
        let (network, weights) = network(entry.name, 3, 32);
        for fold_batch_norm in [false, true] {
            let options = OnnxOptions {
                fold_batch_norm,
                ..pixels(vec![0.5; 3], vec![0.25; 3])
            };
            let model = export(&network, &weights, &options).unwrap();
            let mut nodes = HashSet::new();
            let constants = model.graph.initializers();
            let constants: HashSet<&str> =
                constants.iter().map(|(name, _)| name.as_str()).collect();
            // What each value is made by.
            let mut made = HashMap::from([("images", "")]);
            let mut norms = 0;
            for node in model.graph.nodes() {
                assert!(nodes.insert(&node.name), "{}", node.name);
                for input in &node.inputs {
                    let known = constants.contains(input.as_str());
                    assert!(
                        known || made.contains_key(input.as_str()),
                        "{}: {input}",
                        node.name
                    );
                }
                if node.op == "BatchNormalization" {
                    norms += 1;
                    let after = made[node.inputs[0].as_str()];
                    assert!(!fold_batch_norm || after != "Conv", "{}", node.name);
                }
                made.insert(&node.output, node.op);
            }
            if !fold_batch_norm {
                assert_eq!(
                    norms == 0,
                    ["lenet5", "convnext_tiny"].contains(&entry.name)
                );
            }
        }
    }
}

#[test]
fn the_same_network_gives_the_same_bytes() {
    let (network, weights) = network("lenet5", 1, 28);
    let write = || {
        let mut bytes = Vec::new();
        let image = export(&network, &weights, &OnnxOptions::default())
            .unwrap()
            .encode()
            .unwrap();
        image.write_to(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, image.total_len());
        bytes
    };
    assert_eq!(write(), write());
    assert!(write().len() as u64 > weights.total_bytes());
}

#[test]
fn what_does_not_belong_to_the_network_is_refused() {
    let (network, weights) = network("lenet5", 1, 28);
    let message = |weights: &StateDict, options: &OnnxOptions| {
        export(&network, weights, options).unwrap_err().to_string()
    };
    let names = OnnxOptions {
        classes: vec!["cat".into()],
        ..Default::default()
    };
    assert_eq!(message(&weights, &names), "1 class names for 10 classes");
    assert_eq!(
        message(&weights, &pixels(vec![0.5; 3], vec![1.0])),
        "mean must be 1 finite numbers, one a channel, found [0.5, 0.5, 0.5]"
    );
    assert_eq!(
        message(&weights, &pixels(vec![0.5], vec![0.0])),
        "std must be 1 positive numbers, one a channel, found [0.0]"
    );
    let error = export(&network, &StateDict::new(), &OnnxOptions::default()).unwrap_err();
    assert!(matches!(error, ExportError::Weights(error) if error.missing.len() == 10));
}

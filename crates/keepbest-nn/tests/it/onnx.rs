//! ONNX export: what is in the graph, and what is refused. `tests/golden/check_onnx.py` runs the models.

use keepbest_formats::StateDict;
use keepbest_formats::onnx::{Model, Side};
use keepbest_nn::onnx::{ExportError, OnnxInput, OnnxOptions, PixelOrder, export};
use keepbest_nn::{CpuEngine, Engine, EngineConfig, ModelSpec, Network, zoo};

fn network(name: &str, channels: usize, size: usize) -> (Network, StateDict) {
    let options = zoo::ZooOptions::new(channels, size, size, 10);
    let spec: ModelSpec = zoo::spec(name, &options).unwrap();
    let config = EngineConfig {
        batch_size: 2,
        ..Default::default()
    };
    let weights = CpuEngine::new(&spec, config)
        .unwrap()
        .snapshot()
        .state_dict();
    (Network::new(&spec).unwrap(), weights)
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
            let mut nodes = std::collections::HashSet::new();
            let mut made: Vec<&str> = vec!["images"];
            for node in model.graph.nodes() {
                assert!(nodes.insert(&node.name), "{}", node.name);
                let (constants, values): (Vec<&str>, Vec<&str>) =
                    (node.inputs.iter().map(String::as_str)).partition(|input| {
                        weights.contains(input)
                            || input.starts_with("preprocessing.")
                            || input.ends_with(".bias")
                    });
                assert!(constants.len() <= 4);
                for value in values {
                    assert!(made.contains(&value), "{}: {value}", node.name);
                }
                made.push(&node.output);
            }
            let norms = ops(&model)
                .iter()
                .filter(|op| **op == "BatchNormalization")
                .count();
            assert_eq!(norms == 0, fold_batch_norm || entry.name == "lenet5");
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

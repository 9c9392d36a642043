//! Every layer against PyTorch: `tests/golden/make_layers.py` and `make_one_input.py` say how the golden files came about.
//!
//! The layer under test stands behind a layer scale of ones, which learns, so that the gradient of its input is computed.
//! Cases with a second input take both as channels of one image, told apart by convolutions of zeros and
//! ones, which are exact.

use super::*;
use crate::spec::{
    AvgPool2d, BatchNorm2d, Conv2d, Dropout, InputSize, Layer, LayerScale, Linear, Padding, Pair,
    Pool2d, Residual, Sequential, Unnamed,
};
use keepbest_formats::OptimizerConfig;
use keepbest_formats::{Tensor, safetensors};
use keepbest_kernels::{ActShape, Precision};
use serde_json::Value;

const FORWARD: f64 = 1e-5;
const BACKWARD: f64 = 1e-4;
/// Name of the layer before the one under test.
const ONES: &str = "ones";

pub(in crate::cpu) struct Golden {
    pub index: Value,
    pub tensors: StateDict,
}

pub(in crate::cpu) fn golden(name: &str) -> Golden {
    let base = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let read = |file: String| {
        let path = base.join(file);
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let index = serde_json::from_slice(&read(format!("{name}.json"))).unwrap();
    let bytes = bytes::Bytes::from(read(format!("{name}.safetensors")));
    Golden {
        index,
        tensors: safetensors::read(&bytes).unwrap().tensors,
    }
}

pub(in crate::cpu) struct Case<'a> {
    pub name: &'a str,
    pub layer: &'a Value,
    pub tensors: &'a StateDict,
}

impl Case<'_> {
    pub(in crate::cpu) fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(&format!("{}/{name}", self.name))
    }

    fn values(&self, name: &str) -> Vec<f64> {
        let tensor = self
            .tensor(name)
            .unwrap_or_else(|| panic!("{} has no tensor {name}", self.name));
        values(tensor)
    }

    fn field(&self, name: &str) -> f64 {
        self.layer[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{}: no field {name}", self.name))
    }

    fn count(&self, name: &str) -> usize {
        self.field(name) as usize
    }

    fn flag(&self, name: &str) -> bool {
        self.layer[name]
            .as_bool()
            .unwrap_or_else(|| panic!("{}: no flag {name}", self.name))
    }

    fn pair(&self, name: &str) -> Pair {
        serde_json::from_value(self.layer[name].clone()).unwrap()
    }

    fn padding(&self) -> Padding {
        serde_json::from_value(self.layer["padding"].clone()).unwrap()
    }

    /// Relative error of the whole tensor, in the 2-norm.
    pub(in crate::cpu) fn compare(&self, what: &str, found: &[f64], tolerance: f64) {
        let expected = self.values(what);
        assert_eq!(
            found.len(),
            expected.len(),
            "{}: length of {what}",
            self.name
        );
        let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
        let difference = norm(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
        let size = norm(&mut expected.iter().copied());
        assert!(
            difference <= tolerance * size + 1e-12,
            "{}: {what} differs by {:.2e} of {size:.3e}",
            self.name,
            difference / size
        );
    }
}

pub(in crate::cpu) fn values(tensor: &Tensor) -> Vec<f64> {
    let bytes = tensor.bytes();
    match tensor.dtype() {
        keepbest_formats::Dtype::F64 => bytes
            .chunks_exact(8)
            .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
            .collect(),
        keepbest_formats::Dtype::I64 => bytes
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64)
            .collect(),
        _ => tensor
            .as_f32()
            .unwrap()
            .iter()
            .map(|v| f64::from(*v))
            .collect(),
    }
}

/// `[n, c, h, w]` (or `[n, c]`) to dense `[n, h, w, c]`.
fn to_channels_last(tensor: &Tensor) -> (usize, ActShape, Vec<f32>) {
    let (n, shape) = match *tensor.shape() {
        [n, c] => (n, ActShape { h: 1, w: 1, c }),
        [n, c, h, w] => (n, ActShape { h, w, c }),
        ref other => panic!("activation of shape {other:?}"),
    };
    let from = values(tensor);
    let mut out = vec![0.0; from.len()];
    for (i, v) in from.iter().enumerate() {
        let (w, rest) = (i % shape.w, i / shape.w);
        let (h, rest) = (rest % shape.h, rest / shape.h);
        let (c, image) = (rest % shape.c, rest / shape.c);
        out[((image * shape.h + h) * shape.w + w) * shape.c + c] = *v as f32;
    }
    (n, shape, out)
}

/// Images a stride apart, channels last, to PyTorch's order.
fn to_channels_first(n: usize, shape: ActShape, arena: &[f32]) -> Vec<f64> {
    let mut out = Vec::with_capacity(n * shape.h * shape.w * shape.c);
    for image in 0..n {
        for c in 0..shape.c {
            for pixel in 0..shape.h * shape.w {
                out.push(f64::from(
                    arena[image * shape.image_stride() + pixel * shape.c + c],
                ));
            }
        }
    }
    out
}

fn conv(name: &str, out: usize, kernel: Pair, stride: Pair, padding: Padding) -> Conv2d {
    Conv2d {
        name: Some(name.into()),
        out,
        kernel,
        stride,
        padding,
        dilation: 1.into(),
        groups: 1,
        bias: false,
        init: Default::default(),
        zero_bias: false,
        standardize: None,
    }
}

fn batch_norm(name: &str, case: &Case) -> Layer {
    let field = |name: &str, default: f64| case.layer[name].as_f64().unwrap_or(default);
    Layer::BatchNorm2d(BatchNorm2d {
        name: Some(name.into()),
        eps: field("eps", 1e-5),
        momentum: field("momentum", 0.1),
        affine: true,
    })
}

fn relu() -> Layer {
    Layer::Relu(Unnamed::default())
}

fn pool(case: &Case) -> Pool2d {
    Pool2d {
        name: None,
        kernel: case.pair("kernel"),
        stride: Some(case.pair("stride")),
        padding: case.padding(),
        dilation: 1.into(),
        ceil_mode: false,
    }
}

/// The two halves of the channels, `x` and `residual`.
fn two_inputs(channels: usize, tail: Vec<Layer>) -> Vec<Layer> {
    let select = |name: &str| Layer::Conv2d(conv(name, channels, 1.into(), 1.into(), 0.into()));
    let body = std::iter::once(select("select_input"))
        .chain(tail)
        .collect();
    let shortcut = vec![select("select_residual")];
    vec![Layer::Residual(Residual {
        name: Some("sum".into()),
        body,
        shortcut,
    })]
}

fn residual_block(case: &Case) -> Vec<Layer> {
    let (planes, out) = (case.count("planes"), case.count("out_channels"));
    let stride: Pair = case.count("stride").into();
    let one: Pair = 1.into();
    let c = |name, out, kernel: usize, stride, padding: usize| {
        Layer::Conv2d(conv(name, out, kernel.into(), stride, padding.into()))
    };
    let body = if case.layer["type"] == "basic_block" {
        vec![
            c("conv1", planes, 3, stride, 1),
            batch_norm("bn1", case),
            relu(),
            c("conv2", planes, 3, one, 1),
            batch_norm("bn2", case),
        ]
    } else {
        vec![
            c("conv1", planes, 1, one, 0),
            batch_norm("bn1", case),
            relu(),
            c("conv2", planes, 3, stride, 1),
            batch_norm("bn2", case),
            relu(),
            c("conv3", out, 1, one, 0),
            batch_norm("bn3", case),
        ]
    };
    let shortcut = if case.flag("downsample") {
        let layers = vec![
            Layer::Conv2d(conv("0", out, 1.into(), stride, 0.into())),
            batch_norm("1", case),
        ];
        vec![Layer::Sequential(Sequential {
            name: Some("downsample".into()),
            layers,
        })]
    } else {
        vec![]
    };
    vec![
        Layer::Residual(Residual {
            name: Some("block".into()),
            body,
            shortcut,
        }),
        relu(),
    ]
}

/// Layers that have no counterpart among the convolutions, norms and pools of ResNets, as a spec has them.
fn modern(case: &Case) -> Option<(Value, &'static str)> {
    use serde_json::json;
    let kind = case.layer["type"].as_str().unwrap();
    let conv =
        |name: &str, out: usize| json!({"op": "conv2d", "name": name, "out": out, "kernel": 1});
    let (layers, prefix) = match kind {
        "relu6" | "sigmoid" | "silu" | "hardsigmoid" | "hardswish" | "gelu" => {
            (json!([{ "op": kind }]), "")
        }
        "layer_norm2d" => (
            json!([{"op": kind, "name": "layer", "eps": case.field("eps")}]),
            "layer.",
        ),
        "group_norm" => (
            json!([{"op": kind, "name": "layer", "groups": case.count("groups"), "eps": case.field("eps")}]),
            "layer.",
        ),
        "layer_scale" => (
            json!([{"op": kind, "name": "layer_scale", "init": 1.0}]),
            "",
        ),
        "adaptive_avg_pool2d" => (json!([{"op": kind, "size": case.layer["size"]}]), ""),
        "per_pixel" => (
            json!([{"op": "linear", "name": "layer", "out": case.count("out_features"), "per_pixel": true}]),
            "",
        ),
        "squeeze_excite" => {
            let channels = case.tensor("input").unwrap().shape()[1];
            let (function, scale) = if case.flag("hard") {
                ("relu", "hardsigmoid")
            } else {
                ("silu", "sigmoid")
            };
            let body = json!([
                {"op": "global_avg_pool2d"}, conv("fc1", case.count("squeeze")), {"op": function},
                conv("fc2", channels), {"op": scale},
            ]);
            (
                json!([{"op": "gate", "name": "gate", "body": body}]),
                "gate.",
            )
        }
        "branches" => {
            let a = json!({"op": "conv2d", "name": "a", "out": case.count("a"), "kernel": 3, "padding": 1});
            let b = json!({"op": "conv2d", "name": "b", "out": case.count("b"), "kernel": 1, "bias": false});
            let branches = json!([[], [a, {"op": "silu"}], [b]]);
            (
                json!([{"op": "branch", "name": "", "branches": branches}]),
                "",
            )
        }
        // What the script wrote is a spec already.
        "spec" => {
            let named = case.layer["prefix"] == "layer.";
            (
                case.layer["layers"].clone(),
                if named { "layer." } else { "" },
            )
        }
        "stochastic_depth" => (json!([{"op": kind, "p": case.field("p")}]), ""),
        "convnext_block" => {
            let c = case.count("channels");
            let block = json!([
                {"op": "conv2d", "name": "0", "out": c, "kernel": 7, "padding": 3, "groups": c},
                {"op": "layer_norm2d", "name": "2", "eps": case.field("eps")},
                {"op": "linear", "name": "3", "out": 4 * c, "per_pixel": true},
                {"op": "gelu"},
                {"op": "linear", "name": "5", "out": c, "per_pixel": true},
            ]);
            let body = json!([
                {"op": "sequential", "name": "block", "layers": block},
                {"op": "layer_scale", "name": "layer_scale", "init": 1.0},
                {"op": "stochastic_depth", "p": 0.0},
            ]);
            (json!([{"op": "residual", "name": "", "body": body}]), "")
        }
        _ => return None,
    };
    Some((layers, prefix))
}

/// The layers of a case, and the prefix our parameter names have before PyTorch's.
fn layers(case: &Case) -> (Vec<Layer>, &'static str) {
    let kind = case.layer["type"].as_str().unwrap();
    let flat = case.tensor("input").unwrap().shape().len() == 2;
    let mut layers = if flat {
        vec![Layer::Flatten(Unnamed::default())]
    } else {
        vec![]
    };
    let mut prefix = "layer.";
    if let Some((more, prefix)) = modern(case) {
        layers.extend(serde_json::from_value::<Vec<Layer>>(more).unwrap());
        return (layers, prefix);
    }
    match kind {
        "conv2d" => layers.push(Layer::Conv2d(Conv2d {
            dilation: case.pair("dilation"),
            groups: case.count("groups"),
            bias: case.flag("bias"),
            ..conv(
                "layer",
                case.count("out_channels"),
                case.pair("kernel"),
                case.pair("stride"),
                case.padding(),
            )
        })),
        "batch_norm2d" => layers.push(batch_norm("layer", case)),
        "batch_norm2d_relu" => {
            prefix = "";
            layers.extend([batch_norm("bn", case), relu()]);
        }
        "batch_norm2d_add_relu" => {
            prefix = "sum.";
            layers.extend(two_inputs(
                case.count("channels"),
                vec![batch_norm("bn", case)],
            ));
            layers.push(relu());
        }
        "add" => {
            prefix = "sum.";
            let channels = case.tensor("input").unwrap().shape()[1];
            layers.extend(two_inputs(channels, vec![]));
            if case.flag("relu") {
                layers.push(relu());
            }
        }
        "relu" => layers.push(relu()),
        "dropout" => layers.push(Layer::Dropout(Dropout {
            name: None,
            p: case.field("p"),
        })),
        "max_pool2d" => layers.push(Layer::MaxPool2d(pool(case))),
        "avg_pool2d" => layers.push(Layer::AvgPool2d(AvgPool2d {
            name: None,
            kernel: case.pair("kernel"),
            stride: Some(case.pair("stride")),
            padding: case.padding(),
            ceil_mode: false,
            count_include_pad: case.flag("count_include_pad"),
        })),
        "global_avg_pool2d" => layers.push(Layer::GlobalAvgPool2d(Unnamed::default())),
        "linear" => layers.push(Layer::Linear(Linear {
            name: Some("layer".into()),
            out: case.count("out_features"),
            bias: case.flag("bias"),
            per_pixel: false,
            init: Default::default(),
            zero_bias: false,
        })),
        "flatten_linear" => {
            prefix = "";
            layers.push(Layer::Flatten(Unnamed::default()));
            layers.push(Layer::Linear(Linear {
                name: Some("fc".into()),
                out: case.count("out_features"),
                bias: case.flag("bias"),
                per_pixel: false,
                init: Default::default(),
                zero_bias: false,
            }));
        }
        "basic_block" | "bottleneck" => {
            prefix = "block.";
            layers.extend(residual_block(case));
        }
        other => panic!("{}: no spec for a layer of type {other}", case.name),
    }
    (layers, prefix)
}

/// The images of a case: its input, with the residual as further channels when there is one.
fn images_of(case: &Case) -> (usize, ActShape, Vec<f32>) {
    let (n, shape, input) = to_channels_last(case.tensor("input").unwrap());
    let Some(residual) = case.tensor("residual") else {
        return (n, shape, input);
    };
    let (_, _, residual) = to_channels_last(residual);
    let both = input
        .chunks(shape.c)
        .zip(residual.chunks(shape.c))
        .flat_map(|(a, b)| a.iter().chain(b))
        .copied()
        .collect();
    (
        n,
        ActShape {
            c: 2 * shape.c,
            ..shape
        },
        both,
    )
}

/// PyTorch's parameters and buffers under our names, and the selections of two inputs.
fn weights_of(case: &Case, network: &Network, prefix: &str) -> StateDict {
    let mut dict = StateDict::new();
    for tensor in network.layout().tensors() {
        let own = tensor.name.strip_prefix(prefix).unwrap_or(&tensor.name);
        let value = if own == ONES {
            Tensor::from_f32(&tensor.shape, &vec![1.0; tensor.len()]).unwrap()
        } else if own.starts_with("select_") {
            let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
            let first = if own.starts_with("select_input") {
                0
            } else {
                rows
            };
            let matrix: Vec<f32> = (0..rows * columns)
                .map(|i| {
                    if i % columns == i / columns + first {
                        1.0
                    } else {
                        0.0
                    }
                })
                .collect();
            Tensor::from_f32(&tensor.shape, &matrix).unwrap()
        } else {
            let found = case.tensor(own);
            found
                .unwrap_or_else(|| panic!("{} has no parameter {own}", case.name))
                .clone()
        };
        dict.insert(tensor.name.clone(), value).unwrap();
    }
    dict
}

fn check_layer(case: &Case, threads: usize) {
    let (mut all, prefix) = layers(case);
    all.insert(
        0,
        Layer::LayerScale(LayerScale {
            name: Some(ONES.into()),
            init: 1.0,
            flat: false,
            scalar: false,
        }),
    );
    let (n, shape, images) = images_of(case);
    let input = InputSize {
        channels: shape.c,
        height: shape.h,
        width: shape.w,
    };
    let spec = ModelSpec::new(case.name.into(), input, 1, all);
    let network = Network::part(&spec).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let weights = weights_of(case, &network, prefix);
    if case.layer.get("training") == Some(&Value::Bool(false)) {
        let ctx = context(Some(threads), None, Precision::F32).unwrap();
        let mut scorer = CpuScorer::with_context(Arc::new(network), n, ctx).unwrap();
        scorer.load(&weights).unwrap();
        let (shape, output) = scorer.output_of(n, &images);
        return case.compare("output", &to_channels_first(n, shape, output), FORWARD);
    }

    let config = EngineConfig {
        batch_size: n,
        threads: Some(threads),
        optimizer: OptimizerConfig::sgd(0.0, 0.0),
        ..Default::default()
    };
    let mut engine = CpuEngine::with_network(network, config).unwrap();
    engine.load_weights(&weights).unwrap();
    engine.forward(n, &images);
    let shape = engine.plan.output_shape;
    let output = &engine.memory.arena[engine.plan.output.clone()];
    case.compare("output", &to_channels_first(n, shape, output), FORWARD);

    let (_, _, upstream) = to_channels_last(case.tensor("grad_output").unwrap());
    let gradient = engine.plan.output_gradient.clone().unwrap();
    activation::pack_images(
        &engine.ctx,
        n,
        shape,
        &upstream,
        &mut engine.memory.arena[gradient],
    );
    engine.backward(n);
    let first = engine.plan.steps[0].backward.as_ref().unwrap();
    let shape = engine.plan.steps[0].shapes.output;
    let gradient = &engine.memory.arena[first.output_gradient.clone()];
    let gradient = to_channels_first(n, shape, gradient);
    if case.tensor("residual").is_some() {
        let half = gradient.len() / n / 2;
        let part = |first: bool| -> Vec<f64> {
            let halves = gradient.chunks(2 * half);
            halves
                .flat_map(|g| if first { &g[..half] } else { &g[half..] })
                .copied()
                .collect()
        };
        case.compare("grad_input", &part(true), BACKWARD);
        case.compare("grad_residual", &part(false), BACKWARD);
    } else {
        case.compare("grad_input", &gradient, BACKWARD);
    }
    for (name, gradient) in engine.gradients().iter() {
        let own = name.strip_prefix(prefix).unwrap_or(name);
        if own != ONES && !own.starts_with("select_") {
            case.compare(&format!("grad.{own}"), &values(gradient), BACKWARD);
        }
    }
    engine.update(n, 0.0, 1.0);
    for (name, value) in engine.snapshot().weights().iter() {
        let own = name.strip_prefix(prefix).unwrap_or(name);
        let after = format!("after.{own}");
        if case.tensor(&after).is_some() {
            case.compare(&after, &values(value), FORWARD);
        }
    }
}

fn check_cross_entropy(case: &Case) {
    let (n, shape, logits) = to_channels_last(case.tensor("input").unwrap());
    let labels: Vec<u32> = case.values("labels").iter().map(|l| *l as u32).collect();
    let weights: Option<Vec<f32>> = case.flag("class_weights").then(|| {
        case.values("class_weights")
            .iter()
            .map(|w| *w as f32)
            .collect()
    });
    let mixed = case.layer["mixed"] == true;
    let (others, shares) = match mixed {
        true => (case.values("others"), case.values("shares")),
        false => Default::default(),
    };
    let others: Vec<u32> = others.iter().map(|l| *l as u32).collect();
    let labels = Labels {
        own: &labels,
        mixed: mixed.then_some(loss::SecondLabels {
            others: &others,
            shares: &shares,
        }),
    };
    let mut gradient = vec![0.0; logits.len()];
    let ctx = context(Some(1), None, Precision::F32).unwrap();
    let found = loss::softmax_cross_entropy(
        &ctx,
        n,
        shape.c,
        &logits,
        shape.c,
        labels,
        case.field("label_smoothing"),
        weights.as_deref(),
        Some(&mut gradient),
    );
    case.compare("loss", &[found.loss], FORWARD);
    let gradient: Vec<f64> = gradient.iter().map(|g| f64::from(*g)).collect();
    case.compare("grad_input", &gradient, BACKWARD);
}

#[test]
fn every_layer_agrees_with_pytorch() {
    check_all("layers", 100);
}

#[test]
fn every_layer_of_one_input_agrees_with_pytorch() {
    check_all("one_input", 70);
}

fn check_all(file: &str, at_least: usize) {
    let golden = golden(file);
    let cases = golden.index["cases"].as_array().unwrap();
    assert!(cases.len() >= at_least, "found {} cases", cases.len());
    for case in cases {
        let case = Case {
            name: case["name"].as_str().unwrap(),
            layer: &case["layer"],
            tensors: &golden.tensors,
        };
        if case.layer["type"] == "cross_entropy" {
            check_cross_entropy(&case);
        } else {
            check_layer(&case, 1);
            check_layer(&case, 2);
        }
    }
}

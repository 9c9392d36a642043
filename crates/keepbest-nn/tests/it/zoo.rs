//! The zoo against torchvision: `tests/golden/make_zoo.py` says how weights and images are made.

use keepbest_formats::{StateDict, Tensor};
use keepbest_kernels::random::bits;
use keepbest_nn::{
    Batch, CpuEngine, CpuScorer, Engine, EngineConfig, ModelSpec, Network, OptimizerConfig, Role,
    Scorer, zoo,
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Golden {
    networks: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    name: String,
    tensors: Tensors,
    logits: Vec<Vec<f64>>,
    loss: f64,
    /// The 2-norm of every parameter's gradient, and its product with a fixed vector.
    gradients: Vec<[f64; 2]>,
}

#[derive(Deserialize)]
struct Tensors {
    count: usize,
    fnv1a: String,
}

const SIDE: usize = 64;
const CLASSES: usize = 10;

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    })
}

/// golden.py's `values`.
fn values(name: &str, len: usize, scale: f32, offset: f32) -> impl Iterator<Item = f32> + use<> {
    let seed = fnv1a(name);
    (0..len as u64).map(move |i| {
        let u = (bits(seed.wrapping_add(i), 0) >> 40) as f32 / 16_777_216.0;
        (2.0 * u - 1.0) * scale + offset
    })
}

/// `[n, 3, side, side]` values as dense `[n, side, side, 3]`.
fn images(name: &str, n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n * 3 * SIDE * SIDE];
    for (i, v) in values(name, out.len(), 1.0, 0.0).enumerate() {
        let (pixel, plane) = (i % (SIDE * SIDE), i / (SIDE * SIDE));
        out[(plane / 3 * SIDE * SIDE + pixel) * 3 + plane % 3] = v;
    }
    out
}

/// make_zoo.py's `fill`.
fn weights(network: &Network) -> StateDict {
    let mut dict = StateDict::new();
    for t in network.layout().tensors() {
        if t.role == Role::Counter {
            continue;
        }
        let name = t.name.as_str();
        let (scale, offset) = if t.shape.len() == 2 || t.shape.len() == 4 {
            let fan_in: usize = t.shape[1..].iter().product();
            ((6.0 / fan_in as f64).sqrt() as f32, 0.0)
        } else if name.ends_with("bias") || name.ends_with("running_mean") {
            (0.1, 0.0)
        } else if name.ends_with("layer_scale") {
            (0.25, 0.5)
        } else {
            (0.25, 1.0)
        };
        let values: Vec<f32> = values(name, t.len(), scale, offset).collect();
        let tensor = Tensor::from_f32(&t.shape, &values).unwrap();
        dict.insert(name.to_owned(), tensor).unwrap();
    }
    dict
}

/// The spec as make_zoo.py trains it: without chance, and without the kinks of ReLUs.
fn smooth(spec: &ModelSpec) -> ModelSpec {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(table) => {
                if table
                    .get("op")
                    .is_some_and(|op| op == "dropout" || op == "stochastic_depth")
                {
                    table["p"] = 0.0.into();
                }
                if table
                    .get("op")
                    .is_some_and(|op| op == "relu" || op == "relu6")
                {
                    table["op"] = "silu".into();
                }
                table.values_mut().for_each(walk);
            }
            Value::Array(values) => values.iter_mut().for_each(walk),
            _ => {}
        }
    }
    let mut value = spec.to_json();
    walk(&mut value);
    ModelSpec::from_json(&value).unwrap()
}

fn check(expected: &Expected) {
    let name = &expected.name;
    let options = zoo::ZooOptions::new(3, SIDE, SIDE, CLASSES);
    let spec = zoo::spec(name, &options).unwrap();
    let network = Network::new(&spec).unwrap();
    let listing: String = network
        .layout()
        .tensors()
        .iter()
        .map(|t| format!("{} {:?}\n", t.name, t.shape))
        .collect();
    let found = format!("{:016x}", fnv1a(&listing));
    assert_eq!(found, expected.tensors.fnv1a, "{name}:\n{listing}");
    assert_eq!(network.layout().tensors().len(), expected.tensors.count);

    let weights = weights(&network);
    let mut scorer = CpuScorer::new(&spec, 2, None).unwrap();
    scorer.load(&weights).unwrap();
    let mut logits = vec![];
    scorer
        .logits(&images("images/evaluate", 2), &mut logits)
        .unwrap();
    drop(scorer);
    let truth = expected.logits.concat();
    let largest = truth.iter().fold(1.0f64, |a, b| a.max(b.abs()));
    for (found, expected) in logits.iter().zip(&truth) {
        let error = (f64::from(*found) - expected).abs();
        assert!(
            error <= 1e-4 * largest,
            "{name}: logit {found}, torchvision {expected}"
        );
    }

    let config = EngineConfig {
        batch_size: 4,
        optimizer: OptimizerConfig::sgd(0.0, 0.0),
        ..Default::default()
    };
    let mut engine = CpuEngine::new(&smooth(&spec), config).unwrap();
    engine.load_weights(&weights).unwrap();
    drop(weights);
    let labels: Vec<u32> = (0..4)
        .map(|i| (bits(fnv1a("labels/train").wrapping_add(i), 0) >> 33) as u32 % CLASSES as u32)
        .collect();
    let step = engine
        .step(Batch::new(&images("images/train", 4), &labels), 0.0)
        .unwrap();
    let error = (step.loss - expected.loss).abs() / expected.loss;
    assert!(
        error < 1e-4,
        "{name}: loss {}, torchvision {}",
        step.loss,
        expected.loss
    );
    let gradients = engine.gradients();
    assert_eq!(gradients.len(), expected.gradients.len(), "{name}");
    let total = expected
        .gradients
        .iter()
        .map(|g| g[0] * g[0])
        .sum::<f64>()
        .sqrt();
    // Gradients that a batch norm makes zero are what is left of larger ones.
    let floor = 1e-6 * total;
    for ((tensor, gradient), [norm, product]) in gradients.iter().zip(&expected.gradients) {
        let gradient = gradient.as_f32().unwrap();
        let found = gradient
            .iter()
            .map(|g| f64::from(*g).powi(2))
            .sum::<f64>()
            .sqrt();
        assert!(
            (found - norm).abs() <= 1e-3 * norm + floor,
            "{name}: gradient of {tensor} is {found} long, torchvision's {norm}"
        );
        let probe_name = format!("{tensor}/probe");
        let probe = values(&probe_name, gradient.len(), 1.0, 0.0);
        let found: f64 = gradient
            .iter()
            .zip(probe)
            .map(|(g, p)| f64::from(*g) * f64::from(p))
            .sum();
        assert!(
            (found - product).abs() <= 1e-3 * norm + floor,
            "{name}: gradient of {tensor} times the probe is {found}, torchvision's {product}"
        );
    }
}

/// One after the other: the largest take a gigabyte.
#[test]
fn networks_are_torchvisions() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/zoo.json");
    let golden: Golden = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(golden.networks.len(), 12);
    for expected in &golden.networks {
        check(expected);
    }
}

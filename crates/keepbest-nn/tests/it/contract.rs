//! What every engine must hold, of ours and of one that is written outside of this crate.

use crate::engine::config;
use keepbest_formats::{OwnedSnapshot, SnapshotHandle, StateDict, Tensor, weights_digest};
use keepbest_nn::{
    Alone, Batch, Collective, CollectiveError, Determinism, Engine, EngineConfig, EngineError, Isa,
    ModelSpec, Network, RNG_PREFIX, ScoreError, Scorer, StepError, StepOutput, WeightsError,
    WhichWeights, build_engine,
};
use std::sync::Arc;

/// One linear layer, as another program would train it: tensors in memory of its own, a generator whose state goes along.
struct Linear {
    network: Network,
    config: EngineConfig,
    steps: u64,
    weights: Vec<f32>,
    bias: Vec<f32>,
    momentum: Vec<f32>,
    generator: i64,
}

/// What [`Linear`] scores with.
struct LinearScorer {
    network: Network,
    weights: Option<(Vec<f32>, Vec<f32>)>,
}

fn linear_spec() -> ModelSpec {
    let text = r#"
        version = 1
        name = "linear"
        classes = 3
        layers = [{ op = "flatten" }, { op = "linear", name = "fc", out = 3 }]
        [input]
        channels = 1
        height = 2
        width = 2
    "#;
    ModelSpec::from_toml(text).unwrap()
}

impl Linear {
    fn new(spec: &ModelSpec, config: EngineConfig) -> Result<Self, EngineError> {
        let network = Network::new(spec)?;
        config.validate(&network)?;
        let (inputs, classes) = (network.image_len(), network.classes());
        let mut engine = Linear {
            network,
            steps: 0,
            weights: vec![0.0; inputs * classes],
            bias: vec![0.0; classes],
            momentum: vec![0.0; inputs * classes],
            generator: config.seed as i64 + 1,
            config,
        };
        for at in 0..engine.weights.len() {
            engine.weights[at] = 0.1 * engine.random();
        }
        Ok(engine)
    }

    /// From -1 to 1.
    fn random(&mut self) -> f32 {
        let next = self.generator.wrapping_mul(6_364_136_223_846_793_005);
        self.generator = next.wrapping_add(1_442_695_040_888_963_407);
        (self.generator >> 40) as f32 / (1u32 << 23) as f32
    }

    fn tensor(&self, values: &[f32]) -> Tensor {
        let shape = [self.network.classes(), self.network.image_len()];
        Tensor::from_f32(&shape, values).unwrap()
    }

    fn state(&self) -> StateDict {
        let mut training = StateDict::new();
        let momentum = self.tensor(&self.momentum);
        training
            .insert("momentum_buffer.fc.weight", momentum)
            .unwrap();
        let generator = Tensor::from_i64(&[1], &[self.generator]).unwrap();
        training
            .insert(format!("{RNG_PREFIX}linear"), generator)
            .unwrap();
        training
    }
}

fn scores(weights: &[f32], bias: &[f32], image: &[f32]) -> Vec<f32> {
    let rows = weights.chunks(image.len()).zip(bias);
    rows.map(|(row, b)| row.iter().zip(image).map(|(w, x)| w * x).sum::<f32>() + b)
        .collect()
}

fn floats(dict: &StateDict, name: &str) -> Vec<f32> {
    dict.get(name).unwrap().as_f32().unwrap().into_owned()
}

impl Engine for Linear {
    fn network(&self) -> &Network {
        &self.network
    }

    fn processor(&self) -> String {
        "by hand".into()
    }

    fn threads(&self) -> usize {
        1
    }

    fn determinism(&self) -> Determinism {
        Determinism::SameMachine
    }

    fn steps(&self) -> u64 {
        self.steps
    }

    fn step(&mut self, batch: Batch<'_>, learning_rate: f64) -> Result<StepOutput, StepError> {
        batch.check(&self.network, self.config.batch_size, learning_rate)?;
        let (inputs, n) = (self.network.image_len(), batch.len());
        let mut gradient = vec![0.0f32; self.weights.len()];
        let (mut loss, mut correct) = (0.0, 0);
        for (image, &label) in batch.images.chunks(inputs).zip(batch.labels.own) {
            let scores = scores(&self.weights, &self.bias, image);
            let sum: f32 = scores.iter().map(|score| score.exp()).sum();
            for (class, score) in scores.iter().enumerate() {
                let share = score.exp() / sum;
                let target = f32::from(class == label as usize);
                if target == 1.0 {
                    loss -= f64::from(share.ln());
                    correct += u32::from(scores.iter().all(|other| other <= score));
                }
                for (at, x) in image.iter().enumerate() {
                    gradient[class * inputs + at] += (share - target) * x / n as f32;
                }
            }
        }
        // As dropout would, it depends on the generator.
        let noise = 1.0 + 0.1 * self.random();
        for (at, gradient) in gradient.into_iter().enumerate() {
            self.momentum[at] = 0.9 * self.momentum[at] + noise * gradient;
            self.weights[at] -= learning_rate as f32 * self.momentum[at];
        }
        self.steps += 1;
        Ok(StepOutput {
            loss: loss / n as f64,
            correct,
            images: n,
            grad_norm: None,
        })
    }

    fn snapshot(&self) -> SnapshotHandle {
        let mut weights = StateDict::new();
        let bias = Tensor::from_f32(&[self.bias.len()], &self.bias).unwrap();
        weights
            .insert("fc.weight", self.tensor(&self.weights))
            .unwrap();
        weights.insert("fc.bias", bias).unwrap();
        SnapshotHandle::new(OwnedSnapshot {
            step: self.steps,
            weights,
            training_state: self.state(),
        })
    }

    fn averaged(&self) -> Option<SnapshotHandle> {
        None
    }

    fn load_weights(&mut self, weights: &StateDict) -> Result<(), WeightsError> {
        self.network.layout().check(weights)?;
        self.weights = floats(weights, "fc.weight");
        self.bias = floats(weights, "fc.bias");
        Ok(())
    }

    fn restore(
        &mut self,
        weights: &StateDict,
        training: &StateDict,
        steps: u64,
    ) -> Result<(), WeightsError> {
        WeightsError::check(&self.state(), training)?;
        self.load_weights(weights)?;
        self.momentum = floats(training, "momentum_buffer.fc.weight");
        let generator = training.get(&format!("{RNG_PREFIX}linear")).unwrap();
        self.generator = generator.as_i64().unwrap()[0];
        self.steps = steps;
        Ok(())
    }

    fn average_weights(&mut self, _: u64) {}

    fn measure_statistics(&mut self, _: WhichWeights, _: &[f32], _: u64) -> Result<(), StepError> {
        Ok(())
    }

    fn scorer(&self, _: usize) -> Result<Box<dyn Scorer>, EngineError> {
        Ok(Box::new(LinearScorer {
            network: self.network.clone(),
            weights: None,
        }))
    }
}

impl Scorer for LinearScorer {
    fn network(&self) -> &Network {
        &self.network
    }

    fn threads(&self) -> usize {
        1
    }

    fn load(&mut self, weights: &StateDict) -> Result<(), WeightsError> {
        self.network.layout().check(weights)?;
        self.weights = Some((floats(weights, "fc.weight"), floats(weights, "fc.bias")));
        Ok(())
    }

    fn logits(&mut self, images: &[f32], logits: &mut Vec<f32>) -> Result<(), ScoreError> {
        let (weights, bias) = self.weights.as_ref().ok_or(ScoreError::NoWeights)?;
        let images = images.chunks(self.network.image_len());
        *logits = images
            .flat_map(|image| scores(weights, bias, image))
            .collect();
        Ok(())
    }
}

/// Trains by the contract alone. `build` makes an engine of a seed.
fn holds(build: &dyn Fn(u64) -> Box<dyn Engine>) {
    let images = [
        1.0, 0.0, 0.0, 0.2, 0.0, 1.0, 0.1, 0.0, 0.0, 0.0, 1.0, 1.0f32,
    ];
    let labels = [0u32, 1, 2];
    let batch = Batch::new(&images, &labels);
    let mut engine = build(1);
    let first = engine.step(batch, 0.1).unwrap();
    let snapshot = engine.snapshot();
    let digest = weights_digest(&snapshot.weights());
    let second = engine.step(batch, 0.1).unwrap();
    assert!(second.loss < first.loss, "{first:?}, {second:?}");
    assert_eq!((snapshot.step(), engine.steps()), (1, 2));
    assert_eq!(weights_digest(&snapshot.weights()), digest);

    // Restored, another one goes on the same, whatever it was before.
    let mut other = build(2);
    other
        .restore(
            &snapshot.weights(),
            &snapshot.training_state(),
            snapshot.step(),
        )
        .unwrap();
    let again = other.step(batch, 0.1).unwrap();
    if engine.determinism() != Determinism::Nothing {
        assert_eq!(again, second);
        let end = [&engine, &other].map(|engine| weights_digest(&engine.snapshot().weights()));
        assert_eq!(end[0], end[1]);
    }

    // What is wrong is named, and changes nothing.
    let before = weights_digest(&engine.snapshot().weights());
    let error = engine.load_weights(&StateDict::new()).unwrap_err();
    assert_eq!(error.missing, ["fc.weight", "fc.bias"]);
    let error = engine.step(Batch::new(&images, &[0, 1, 7]), 0.1);
    assert!(matches!(error, Err(StepError::Label { found: 7, .. })));
    let after = engine.snapshot();
    assert_eq!(weights_digest(&after.weights()), before);

    let mut scorer = engine.scorer(2).unwrap();
    let mut logits = Vec::new();
    let early = scorer.logits(&images, &mut logits);
    assert!(matches!(early, Err(ScoreError::NoWeights)));
    scorer.load_snapshot(&after).unwrap();
    scorer.logits(&images, &mut logits).unwrap();
    let by_snapshot = logits.clone();
    scorer.load(&after.weights()).unwrap();
    scorer.logits(&images, &mut logits).unwrap();
    assert_eq!((logits.len(), &by_snapshot), (9, &logits));
}

#[test]
fn any_engine_trains_by_the_contract() {
    let spec = linear_spec();
    let config = |seed| EngineConfig {
        seed,
        ..config(3, 1, Isa::fastest())
    };
    holds(&|seed| build_engine("cpu", &spec, config(seed)).unwrap());
    holds(&|seed| Box::new(Linear::new(&spec, config(seed)).unwrap()));
}

#[test]
fn a_scorer_takes_a_snapshot_of_another_engine() {
    let spec = linear_spec();
    let foreign = Linear::new(&spec, config(3, 1, Isa::fastest())).unwrap();
    let own = build_engine("cpu", &spec, config(3, 1, Isa::fastest())).unwrap();
    let images = [0.3, 0.1, 0.9, 0.2f32];
    let found = [&foreign as &dyn Engine, &*own].map(|of| {
        let mut scorer = of.scorer(1).unwrap();
        scorer.load_snapshot(&foreign.snapshot()).unwrap();
        let mut logits = Vec::new();
        scorer.logits(&images, &mut logits).unwrap();
        logits
    });
    for (a, b) in found[0].iter().zip(&found[1]) {
        assert!((a - b).abs() < 1e-6, "{found:?}");
    }
}

/// Two ranks, of which this is the second.
#[derive(Debug)]
struct Second;

impl Collective for Second {
    fn rank(&self) -> usize {
        1
    }

    fn ranks(&self) -> usize {
        2
    }

    fn sum(&self, _: &mut [f32]) -> Result<(), CollectiveError> {
        unreachable!("no step is taken")
    }

    fn sum_f64(&self, _: &mut [f64]) -> Result<(), CollectiveError> {
        unreachable!("no step is taken")
    }
}

#[test]
fn an_engine_that_trains_alone_says_so() {
    let config = EngineConfig {
        collective: Arc::new(Second),
        ..config(3, 1, Isa::fastest())
    };
    let refused = build_engine("cpu", &linear_spec(), config).err();
    assert!(matches!(refused, Some(EngineError::Ranks { ranks: 2, .. })));
    let mut sums = [0.5, 2.0];
    Alone.sum(&mut sums).unwrap();
    assert_eq!((sums, Alone.rank(), Alone.ranks()), ([0.5, 2.0], 0, 1));
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let Err(error) = build_engine("abacus", &linear_spec(), EngineConfig::default()) else {
        panic!("there is no such engine");
    };
    assert_eq!(
        error.to_string(),
        "no engine of this build computes on abacus"
    );
}

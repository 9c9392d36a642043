//! 20 steps give the same bits on any number of threads and any instructions.

use keepbest_formats::{WeightsDigest, weights_digest};
use keepbest_nn::{Batch, CpuEngine, Engine, EngineConfig, Isa, ModelSpec, zoo};

use crate::engine::{batch, config, every_layer, modern_layers, one_input_layers};
use crate::graph::{graph_layers, rearranging_layers};

const STEPS: usize = 20;

/// Identities of weights and training state after training.
pub(crate) fn train(
    spec: &ModelSpec,
    config: EngineConfig,
    steps: usize,
) -> (WeightsDigest, WeightsDigest) {
    let n = config.batch_size;
    let mut engine = CpuEngine::new(spec, config).unwrap();
    for step in 0..steps {
        // Some batches are smaller than planned for.
        let (images, labels) = batch(spec, if step % 3 == 2 { n - 1 } else { n }, step);
        engine.step(Batch::new(&images, &labels), 0.05).unwrap();
    }
    let snapshot = engine.snapshot();
    (
        weights_digest(&snapshot.weights()),
        weights_digest(&snapshot.training_state()),
    )
}

const THREADS: [usize; 4] = [1, 2, 3, 8];

/// Trains on each of the machines, and with another seed.
fn check(spec: &ModelSpec, batch_size: usize, machines: &[(Isa, usize)]) {
    let expected = train(spec, config(batch_size, 1, Isa::fastest()), STEPS);
    for &(isa, threads) in machines {
        let found = train(spec, config(batch_size, threads, isa), STEPS);
        let name = &spec.name;
        assert_eq!(found, expected, "{name} on {isa} with {threads} threads");
    }
    let other = EngineConfig {
        seed: 4,
        ..config(batch_size, 1, Isa::fastest())
    };
    assert_ne!(
        train(spec, other, STEPS),
        expected,
        "the seed changes nothing"
    );
}

/// Every instruction set on every number of threads.
fn all_machines() -> Vec<(Isa, usize)> {
    let with_threads = |isa| THREADS.map(|threads| (isa, threads));
    Isa::available()
        .into_iter()
        .flat_map(with_threads)
        .collect()
}

#[test]
fn every_layer_dropout_among_them() {
    check(&every_layer(), 5, &all_machines());
    check(&modern_layers(), 5, &all_machines());
    check(&graph_layers(), 5, &all_machines());
    check(&rearranging_layers(), 5, &all_machines());
    check(&one_input_layers(), 5, &all_machines());
}

#[test]
fn simple_cnn() {
    let options = zoo::ZooOptions::new(1, 28, 28, 10);
    let spec = zoo::spec("simple-cnn", &options).unwrap();
    check(&spec, 4, &all_machines());
}

/// Small images, each instruction set once: 11 million parameters take their time.
#[test]
fn resnet18() {
    let options = zoo::ZooOptions::new(3, 8, 8, 10);
    let spec = zoo::spec("resnet18", &options).unwrap();
    let mut machines: Vec<_> = Isa::available().into_iter().map(|isa| (isa, 3)).collect();
    machines.extend([2, 8].map(|threads| (Isa::fastest(), threads)));
    check(&spec, 3, &machines);
}

/// The usual size takes other methods of convolution.
#[test]
fn resnet18_of_larger_images() {
    let options = zoo::ZooOptions::new(3, 32, 32, 10);
    let spec = zoo::spec("resnet18", &options).unwrap();
    let expected = train(&spec, config(3, 1, Isa::fastest()), 3);
    let vectors = Isa::available()
        .into_iter()
        .filter(|isa| *isa != Isa::Portable);
    for isa in vectors {
        for threads in [2, 3] {
            let found = train(&spec, config(3, threads, isa), 3);
            assert_eq!(found, expected, "{isa} with {threads} threads");
        }
    }
}

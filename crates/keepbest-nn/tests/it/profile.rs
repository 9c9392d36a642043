//! The profile of training steps.

use keepbest_nn::{Batch, CpuEngine, Engine, Isa, Phase};

use crate::engine::{batch, config, every_layer};

#[test]
fn every_layer_is_timed_in_both_directions() {
    let spec = every_layer();
    let mut engine = CpuEngine::new(&spec, config(5, 2, Isa::fastest())).unwrap();
    let (images, labels) = batch(&spec, 5, 0);
    engine.step(Batch::new(&images, &labels), 0.05).unwrap();
    assert!(engine.profile().is_none());
    engine.start_profile();
    for n in [5, 5, 3] {
        let pixels = &images[..n * images.len() / 5];
        engine.step(Batch::new(pixels, &labels[..n]), 0.05).unwrap();
    }
    let profile = engine.profile().unwrap();
    assert_eq!((profile.steps, profile.images, profile.threads), (3, 13, 2));
    let layers = engine.network().summary();
    let of = |phase| profile.entries.iter().filter(move |e| e.phase == phase);
    let names = |phase| of(phase).map(|e| &*e.layer).collect::<Vec<_>>();
    // A layer may have taken the one after it in.
    let mut forward = names(Phase::Forward).split_off(1);
    assert!(
        forward
            .iter()
            .all(|name| layers.iter().any(|layer| layer.name == *name))
    );
    assert!(forward.contains(&"stem") && forward.contains(&"block.bn2"));
    forward.reverse();
    assert_eq!(names(Phase::Backward), forward);
    assert!(profile.entries.iter().all(|entry| entry.bytes > 0));

    // Work forward is what the network's summary says, by image.
    let flops: u64 = of(Phase::Forward).map(|entry| entry.flops).sum();
    assert_eq!(
        flops,
        13 * layers.iter().map(|layer| layer.flops).sum::<u64>()
    );
    // SGD with momentum, by step: weights and momentum read and written, gradients read.
    let update = of(Phase::Update).next().unwrap();
    let parameters = engine.network().parameter_count() as u64;
    assert_eq!(update.bytes, 3 * 4 * 5 * parameters);

    let table = profile.to_string();
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    assert!(
        table.lines().count() > profile.entries.len() + 10,
        "{table}"
    );
    for words in ["  block.conv2 ", "conv2d 1x3", "  step", "GFLOP/s"] {
        assert!(table.contains(words), "{words} is not in\n{table}");
    }
}

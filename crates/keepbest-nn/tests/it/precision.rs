//! Training in bf16.

use keepbest_nn::{CpuEngine, EngineConfig, EngineError, Isa, Precision, zoo};

use crate::bits::train;
use crate::engine::{config, every_layer, modern_layers};
use crate::graph::rearranging_layers;

/// Whether this processor multiplies in bf16; says so where it does not.
pub(crate) fn is_here() -> bool {
    let here = Precision::Bf16.is_available(Isa::fastest());
    if !here {
        println!("not tested: no AVX-512 BF16");
    }
    here
}

#[test]
fn bits_do_not_depend_on_threads_and_differ_from_those_of_f32() {
    if !is_here() {
        return;
    }
    let resnet = zoo::spec("resnet18", &zoo::ZooOptions::new(3, 32, 32, 10)).unwrap();
    let rearranging = rearranging_layers();
    for (spec, n) in [
        (every_layer(), 5),
        (modern_layers(), 5),
        (rearranging, 5),
        (resnet, 3),
    ] {
        let in_bf16 = |threads| EngineConfig {
            precision: Precision::Bf16,
            ..config(n, threads, Isa::fastest())
        };
        let expected = train(&spec, in_bf16(1), 3);
        for threads in [2, 3, 8] {
            assert_eq!(train(&spec, in_bf16(threads), 3), expected, "{}", spec.name);
        }
        let f32 = train(&spec, config(n, 1, Isa::fastest()), 3);
        assert_ne!(f32, expected, "{}", spec.name);
    }
}

#[test]
fn without_its_instructions_it_is_an_error() {
    let spec = zoo::spec("lenet5", &zoo::ZooOptions::new(1, 28, 28, 10)).unwrap();
    let config = EngineConfig {
        precision: Precision::Bf16,
        isa: Some(Isa::Portable),
        ..EngineConfig::default()
    };
    let Err(error) = CpuEngine::new(&spec, config) else {
        panic!("it was taken")
    };
    assert!(matches!(error, EngineError::Isa(_)), "{error:?}");
}

//! Optimizers and clipping against PyTorch: `tests/golden/make_optimizers.py`.

use super::context::context;
use super::engine::golden_tests::{Case, golden, values};
use super::memory::{Memory, StatisticsMemory};
use super::update;
use crate::engine::Rates;
use crate::params::{ParamLayout, Role, Start, TrainState};
use keepbest_formats::OptimizerConfig;
use keepbest_kernels::{Buffer, Precision, reduce};

const TOLERANCE: f64 = 1e-5;

/// The parameters of a case, in order, as a layout of trained tensors.
fn layout_of(case: &Case, first: &str, names: &[&str]) -> ParamLayout {
    let mut layout = ParamLayout::default();
    for name in names {
        let shape = case
            .tensor(&format!("{first}.{name}"))
            .unwrap()
            .shape()
            .to_vec();
        layout
            .push(
                (*name).to_owned(),
                shape,
                Role::Trained,
                Start::Constant(0.0),
            )
            .unwrap();
    }
    layout.finish()
}

fn fill(case: &Case, layout: &ParamLayout, what: &str, out: &mut [f32]) {
    for tensor in layout.tensors() {
        let from = values(case.tensor(&format!("{what}.{}", tensor.name)).unwrap());
        for (out, from) in out[tensor.trained_range()].iter_mut().zip(from) {
            *out = from as f32;
        }
    }
}

fn memory(gradients: Buffer) -> Memory {
    let sums = vec![0.0; reduce::sum_squares_scratch_len(gradients.len())];
    Memory {
        arena: Buffer::zeroed(0),
        gradients,
        statistics: StatisticsMemory::zeroed(0),
        indices: vec![],
        sums,
    }
}

/// All steps of a case; `copying` writes each step's state to another block, as beside a snapshot.
fn check_optimizer(case: &Case, config: &OptimizerConfig, rates: &[f64], copying: bool) {
    let ctx = context(Some(2), None, Precision::F32).unwrap();
    let layout = layout_of(case, "initial", &["weight", "bias"]);
    let all = Rates::whole(layout.tensors().len());
    let slots = config.slots().len();
    let mut state = TrainState::new(&layout, slots, false);
    fill(case, &layout, "initial", &mut state.weights);
    let mut gradients = Buffer::zeroed(layout.trained_len());
    for (index, rate) in rates.iter().enumerate() {
        fill(
            case,
            &layout,
            &format!("grad.{}", index + 1),
            &mut gradients,
        );
        let step = update::OptimizerStep {
            config,
            rates: &all,
            learning_rate: *rate,
            gradient_scale: 1.0,
        };
        if copying {
            let mut next = TrainState::new(&layout, slots, false);
            // A recycled block has old values everywhere.
            next.weights.fill(f32::NAN);
            next.slots.iter_mut().for_each(|s| s.fill(f32::NAN));
            update::optimize(&ctx, &layout, &step, &gradients, &mut next, Some(&state));
            state = next;
        } else {
            update::optimize(&ctx, &layout, &step, &gradients, &mut state, None);
        }
        for tensor in layout.tensors() {
            let found: Vec<f64> = state.weights[tensor.range()]
                .iter()
                .map(|v| f64::from(*v))
                .collect();
            case.compare(
                &format!("param.{}.{}", index + 1, tensor.name),
                &found,
                TOLERANCE,
            );
        }
    }
}

#[test]
fn optimizers_agree_with_pytorch_in_place_and_beside_a_snapshot() {
    let golden = golden("optimizers");
    let cases = golden.index["optimizers"].as_array().unwrap();
    assert!(cases.len() >= 12);
    for case in cases {
        let config: OptimizerConfig = serde_json::from_value(case["optimizer"].clone()).unwrap();
        let rates: Vec<f64> = serde_json::from_value(case["learning_rates"].clone()).unwrap();
        let case = Case {
            name: case["name"].as_str().unwrap(),
            layer: case,
            tensors: &golden.tensors,
        };
        config.validate().unwrap();
        check_optimizer(&case, &config, &rates, false);
        check_optimizer(&case, &config, &rates, true);
    }
}

#[test]
fn clipping_agrees_with_pytorch() {
    let golden = golden("optimizers");
    let cases = golden.index["clips"].as_array().unwrap();
    assert!(cases.len() >= 3);
    let ctx = context(Some(2), None, Precision::F32).unwrap();
    for entry in cases {
        let case = Case {
            name: entry["name"].as_str().unwrap(),
            layer: entry,
            tensors: &golden.tensors,
        };
        let layout = layout_of(&case, "grad", &["weight", "bias"]);
        let mut gradients = Buffer::zeroed(layout.trained_len());
        fill(&case, &layout, "grad", &mut gradients);
        let mut memory = memory(gradients);
        let max_norm = entry["max_norm"].as_f64();
        let (norm, scale) = update::clip(&ctx, &mut memory, max_norm, 1).unwrap();
        let expected = entry["total_norm"].as_f64().unwrap();
        assert!(
            (norm.unwrap() - expected).abs() <= 1e-6 * expected,
            "{}",
            case.name
        );
        for tensor in layout.tensors() {
            let clipped: Vec<f64> = memory.gradients[tensor.trained_range()]
                .iter()
                .map(|g| f64::from(*g * scale))
                .collect();
            case.compare(&format!("clipped.{}", tensor.name), &clipped, TOLERANCE);
        }
    }
}

//! A step of training allocates nothing once memory has been touched, and a snapshot nothing at all.

#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use keepbest_formats::Dtype;
use keepbest_nn::{Batch, CpuEngine, Engine, EngineConfig, Isa, Precision, zoo};

use crate::engine::{batch, config, every_layer, modern_layers, one_input_layers};
use crate::graph::{graph_layers, rearranging_layers};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: passes every call on to the system's allocator, which keeps the contract; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_step_allocates_nothing() {
    let simple = zoo::spec("simple-cnn", &zoo::ZooOptions::new(1, 28, 28, 10)).unwrap();
    let precisions = [Precision::F32, Precision::Bf16];
    for (spec, precision) in [
        every_layer(),
        modern_layers(),
        one_input_layers(),
        graph_layers(),
        rearranging_layers(),
        simple,
    ]
    .iter()
    .flat_map(|spec| precisions.map(|precision| (spec, precision)))
    .filter(|(_, precision)| precision.is_available(Isa::fastest()))
    {
        // One thread, so that all the work is done on the one that counts.
        let config = EngineConfig {
            precision,
            ..config(5, 1, Isa::fastest())
        };
        let mut engine = CpuEngine::new(spec, config).unwrap();
        let (images, labels) = batch(spec, 5, 0);
        let mut step = || {
            let before = ALLOCATIONS.get();
            engine.step(Batch::new(&images, &labels), 0.01).unwrap();
            ALLOCATIONS.get() - before
        };
        for _ in 0..3 {
            step();
        }
        for _ in 0..3 {
            assert_eq!(step(), 0, "{} in {precision}", spec.name);
        }
    }
}

#[test]
fn a_snapshot_allocates_its_handle_alone_and_copies_nothing_whatever_the_size() {
    for (name, channels, size) in [("simple-cnn", 1, 28), ("resnet18", 3, 8)] {
        let options = zoo::ZooOptions::new(channels, size, size, 10);
        let spec = zoo::spec(name, &options).unwrap();
        let mut engine = CpuEngine::new(&spec, config(4, 1, Isa::fastest())).unwrap();
        let (images, labels) = batch(&spec, 4, 0);
        let mut held = None;
        for _ in 0..3 {
            engine.step(Batch::new(&images, &labels), 0.01).unwrap();
            let before = ALLOCATIONS.get();
            let snapshots = [engine.snapshot(), engine.snapshot()];
            assert_eq!(ALLOCATIONS.get(), before + 2, "{name}");
            // Both are the same memory: no byte was copied for either.
            let [one, other] = snapshots.each_ref().map(|snapshot| {
                let weights = snapshot.weights();
                // A batch norm's counter of steps is one number, made when it is asked for.
                let tensors = weights
                    .iter()
                    .filter(|(_, tensor)| tensor.dtype() == Dtype::F32);
                tensors
                    .map(|(_, tensor)| tensor.bytes().as_ptr())
                    .collect::<Vec<_>>()
            });
            assert!(!one.is_empty());
            assert_eq!(one, other, "{name}");
            held = Some(snapshots);
        }
        drop(held);
    }
}

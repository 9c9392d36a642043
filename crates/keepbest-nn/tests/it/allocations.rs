//! A step of training allocates nothing once memory has been touched.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use keepbest_nn::{CpuEngine, Engine, EngineConfig, Isa, Precision, zoo};

use crate::engine::{batch, config, every_layer, modern_layers};

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
    for (spec, precision) in [every_layer(), modern_layers(), simple]
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
            engine.step(&images, &labels, 0.01).unwrap();
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

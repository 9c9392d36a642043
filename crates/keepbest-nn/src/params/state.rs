//! All that training changes, as one immutable-while-shared block of memory.
//!
//! A snapshot is a reference count on the block. The next optimizer step sees that the block is shared and
//! writes its results to another one, so a snapshot costs nothing and never changes.

use super::names::{AVERAGE_PREFIX, RAW_PREFIX};
use super::{ParamLayout, Role};
use bytes::Bytes;
use keepbest_formats::{Dtype, Snapshot, StateDict, Tensor};
use keepbest_kernels::Buffer;
use std::sync::{Arc, Mutex, Weak};

/// Parameters, buffers, counters and optimizer state after some step.
pub(crate) struct TrainState {
    pub step: u64,
    /// Parameters and f32 buffers in file order.
    pub weights: Buffer,
    pub counters: Vec<i64>,
    /// Optimizer state, one arena a slot (`momentum_buffer`; `exp_avg`, `exp_avg_sq`), trained tensors only.
    pub slots: Vec<Buffer>,
    /// The moving average of `weights`, where one is kept.
    pub average: Option<Buffer>,
}

impl TrainState {
    pub(crate) fn new(layout: &ParamLayout, slots: usize, averaged: bool) -> Self {
        TrainState {
            step: 0,
            weights: Buffer::zeroed(layout.weights_len()),
            counters: vec![0; layout.counters()],
            slots: (0..slots)
                .map(|_| Buffer::zeroed(layout.trained_len()))
                .collect(),
            average: averaged.then(|| Buffer::zeroed(layout.weights_len())),
        }
    }
}

impl TrainState {
    /// Becomes the same as another state.
    pub(crate) fn copy_from(&mut self, old: &TrainState) {
        self.step = old.step;
        self.weights.copy_from_slice(&old.weights);
        self.counters.copy_from_slice(&old.counters);
        let slots = self.slots.iter_mut().zip(&old.slots);
        slots.for_each(|(new, old)| new.copy_from_slice(old));
        if let (Some(new), Some(old)) = (&mut self.average, &old.average) {
            new.copy_from_slice(old);
        }
    }

    /// Makes the average the weights, and the weights the average.
    pub(crate) fn exchange_average(&mut self) {
        if let Some(average) = &mut self.average {
            std::mem::swap(average, &mut self.weights);
        }
    }

    /// Begins the average anew.
    pub(crate) fn average_from_weights(&mut self) {
        if let Some(average) = &mut self.average {
            average.copy_from_slice(&self.weights);
        }
    }
}

/// Blocks that no one reads any more, kept for the next step that needs one. At most one: a snapshot that
/// is being saved beside the weights in use makes two blocks, whatever the model's size.
#[derive(Default)]
struct Spares(Mutex<Vec<TrainState>>);

const SPARES_KEPT: usize = 1;

/// A block, given back to the spares when the last reader lets go.
struct Leased {
    /// `Some` until dropped.
    state: Option<TrainState>,
    spares: Weak<Spares>,
}

impl Leased {
    fn state(&self) -> &TrainState {
        self.state
            .as_ref()
            .expect("a lease holds its state until it is dropped")
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        if let (Some(state), Some(spares)) = (self.state.take(), self.spares.upgrade())
            && let Ok(mut spares) = spares.0.lock()
            && spares.len() < SPARES_KEPT
        {
            spares.push(state);
        }
    }
}

/// The current block of a training engine.
pub(crate) struct StateCell {
    current: Arc<Leased>,
    spares: Arc<Spares>,
}

impl StateCell {
    pub(crate) fn new(state: TrainState) -> Self {
        let spares = Arc::new(Spares::default());
        let current = Arc::new(Leased {
            state: Some(state),
            spares: Arc::downgrade(&spares),
        });
        StateCell { current, spares }
    }

    pub(crate) fn get(&self) -> &TrainState {
        self.current.state()
    }

    /// Replaces the state by what `update` makes of it: in place when no snapshot holds the block
    /// (`update(state, None)`), into another block otherwise (`update(next, Some(old))`, where `next` has
    /// arbitrary contents that must all be overwritten).
    pub(crate) fn update(
        &mut self,
        layout: &ParamLayout,
        update: impl FnOnce(&mut TrainState, Option<&TrainState>),
    ) {
        if let Some(leased) = Arc::get_mut(&mut self.current) {
            let state = leased
                .state
                .as_mut()
                .expect("a lease holds its state until it is dropped");
            return update(state, None);
        }
        let spare = self
            .spares
            .0
            .lock()
            .ok()
            .and_then(|mut spares| spares.pop());
        let mut next = spare.unwrap_or_else(|| {
            let current = self.get();
            TrainState::new(layout, current.slots.len(), current.average.is_some())
        });
        update(&mut next, Some(self.get()));
        self.current = Arc::new(Leased {
            state: Some(next),
            spares: Arc::downgrade(&self.spares),
        });
    }

    /// Changes a part of the state, in place or in a copy as [`update`](Self::update) does; the rest stays.
    pub(crate) fn change(&mut self, layout: &ParamLayout, change: impl FnOnce(&mut TrainState)) {
        self.update(layout, |next, old| {
            if let Some(old) = old {
                next.copy_from(old);
            }
            change(next);
        });
    }

    pub(crate) fn snapshot(&self, names: &Arc<StateNames>) -> CpuSnapshot {
        CpuSnapshot {
            leased: Arc::clone(&self.current),
            names: Arc::clone(names),
            averaged: false,
        }
    }
}

/// What a snapshot needs to name its tensors.
pub(crate) struct StateNames {
    pub layout: ParamLayout,
    /// Names of the optimizer's slots.
    pub slots: &'static [&'static str],
}

/// All weights and training state of the CPU engine at one step.
///
/// Taking and cloning one copies nothing; it keeps the memory alive until it is dropped.
#[derive(Clone)]
pub(crate) struct CpuSnapshot {
    leased: Arc<Leased>,
    names: Arc<StateNames>,
    /// Whether it shows the average rather than the weights.
    averaged: bool,
}

impl std::fmt::Debug for CpuSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CpuSnapshot")
            .field("step", &self.step())
            .finish_non_exhaustive()
    }
}

/// A whole arena of a snapshot, as the owner of byte views.
struct Arena(Arc<Leased>, Part);

#[derive(Clone, Copy)]
enum Part {
    Weights,
    Average,
    Slot(usize),
}

impl AsRef<[u8]> for Arena {
    fn as_ref(&self) -> &[u8] {
        let state = self.0.state();
        match self.1 {
            Part::Weights => state.weights.as_bytes(),
            Part::Average => state
                .average
                .as_ref()
                .map_or(&[], keepbest_kernels::Buffer::as_bytes),
            Part::Slot(slot) => state.slots[slot].as_bytes(),
        }
    }
}

const F32_BYTES: usize = size_of::<f32>();

impl CpuSnapshot {
    /// The same step with the moving average of the weights for weights; `None` when none is kept.
    pub(crate) fn averaged(&self) -> Option<CpuSnapshot> {
        self.leased.state().average.is_some().then(|| CpuSnapshot {
            averaged: true,
            ..self.clone()
        })
    }

    /// What it shows as weights, and what else there is of their length.
    fn faces(&self) -> (Part, Option<(&'static str, Part)>) {
        match (self.averaged, &self.leased.state().average) {
            (true, _) => (Part::Average, Some((RAW_PREFIX, Part::Weights))),
            (false, Some(_)) => (Part::Weights, Some((AVERAGE_PREFIX, Part::Average))),
            (false, None) => (Part::Weights, None),
        }
    }

    fn arena(&self, part: Part) -> Bytes {
        Bytes::from_owner(Arena(Arc::clone(&self.leased), part))
    }

    /// What it shows as weights, as one arena in file order.
    pub(crate) fn floats(&self) -> &[f32] {
        let state = self.leased.state();
        match &state.average {
            Some(average) if self.averaged => average,
            _ => &state.weights,
        }
    }

    pub(crate) fn layout(&self) -> &ParamLayout {
        &self.names.layout
    }
}

impl Snapshot for CpuSnapshot {
    fn step(&self) -> u64 {
        self.leased.state().step
    }

    /// Views of the snapshot's memory, in PyTorch's order.
    fn weights(&self) -> StateDict {
        let state = self.leased.state();
        let weights = self.arena(self.faces().0);
        let mut dict = StateDict::new();
        for tensor in self.names.layout.tensors() {
            let bytes = if tensor.role == Role::Counter {
                Bytes::copy_from_slice(&state.counters[tensor.offset].to_le_bytes())
            } else {
                let range = tensor.range();
                weights.slice(range.start * F32_BYTES..range.end * F32_BYTES)
            };
            insert(
                &mut dict,
                &tensor.name,
                tensor.dtype(),
                &tensor.shape,
                bytes,
            );
        }
        dict
    }

    /// The optimizer's state: views named `momentum_buffer.conv1.weight` and so on; and `average.conv1.weight` and so on
    /// where a moving average is kept (`raw.` for the weights, where the average is shown). Empty for an optimizer without
    /// state.
    fn training_state(&self) -> StateDict {
        let mut dict = StateDict::new();
        for (slot, slot_name) in self.names.slots.iter().enumerate() {
            let arena = self.arena(Part::Slot(slot));
            for tensor in self
                .names
                .layout
                .tensors()
                .iter()
                .filter(|t| t.role == Role::Trained)
            {
                let range = tensor.trained_range();
                let bytes = arena.slice(range.start * F32_BYTES..range.end * F32_BYTES);
                let name = format!("{slot_name}.{}", tensor.name);
                insert(&mut dict, &name, Dtype::F32, &tensor.shape, bytes);
            }
        }
        if let (_, Some((prefix, part))) = self.faces() {
            let arena = self.arena(part);
            let tensors = self.names.layout.tensors().iter();
            for tensor in tensors.filter(|t| t.role != Role::Counter) {
                let range = tensor.range();
                let bytes = arena.slice(range.start * F32_BYTES..range.end * F32_BYTES);
                let name = format!("{prefix}{}", tensor.name);
                insert(&mut dict, &name, Dtype::F32, &tensor.shape, bytes);
            }
        }
        dict
    }
}

fn insert(dict: &mut StateDict, name: &str, dtype: Dtype, shape: &[usize], bytes: Bytes) {
    let tensor = Tensor::new(dtype, shape.to_vec(), bytes)
        .expect("a tensor's place in the arena has the length of its shape");
    dict.insert(name.to_owned(), tensor)
        .expect("names of a layout are unique");
}

//! The memory of a snapshot: where each tensor of the weights and of the training state lies in it.

use bytes::Bytes;
use keepbest_formats::{Dtype, StateDict, Tensor};
use keepbest_nn::{
    AVERAGE_PREFIX, EngineConfig, Network, ParamTensor, Precision, RAW_PREFIX, Role, SCALER_PREFIX,
};
use serde_json::{Value, json};

/// The place of a tensor.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    offset: usize,
    bytes: usize,
}

/// Places of all tensors, in the order of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    weights: Vec<Place>,
    slots: Vec<Place>,
    /// The average of each of the weights that is no counter.
    averages: Vec<Place>,
    scaler: Vec<Place>,
    /// Bytes of all together.
    pub(super) bytes: usize,
}

/// Which of two weights a snapshot shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Face {
    Trained,
    Average,
}

#[derive(Default)]
struct Places {
    end: usize,
}

impl Places {
    fn take(&mut self, name: String, dtype: Dtype, shape: &[usize]) -> Place {
        let bytes = dtype
            .byte_len(shape)
            .expect("a network's tensors are counted where it is checked");
        let offset = self.end.next_multiple_of(8);
        self.end = offset + bytes;
        Place {
            name,
            dtype,
            shape: shape.to_vec(),
            offset,
            bytes,
        }
    }

    fn of(&mut self, prefix: &str, tensor: &ParamTensor) -> Place {
        let name = format!("{prefix}{}", tensor.name);
        self.take(name, tensor.dtype(), &tensor.shape)
    }
}

impl Layout {
    /// What an engine of this configuration has.
    pub(super) fn of_engine(network: &Network, config: &EngineConfig) -> Self {
        let tensors = network.layout().tensors();
        let trained = || tensors.iter().filter(|it| it.role == Role::Trained);
        let averaged = || tensors.iter().filter(|it| it.role != Role::Counter);
        let mut places = Places::default();
        let weights = tensors.iter().map(|it| places.of("", it)).collect();
        let mut slots = Vec::new();
        for slot in config.optimizer.slots() {
            slots.extend(trained().map(|it| places.of(&format!("{slot}."), it)));
        }
        let mut averages = Vec::new();
        if config.averaging.is_some() {
            averages.extend(averaged().map(|it| places.of("", it)));
        }
        let mut scaler = Vec::new();
        if config.precision == Precision::F16 {
            let mut of = |name: &str, dtype, len| {
                scaler.push(places.take(format!("{SCALER_PREFIX}{name}"), dtype, &[len]));
            };
            of("scale", Dtype::F32, 1);
            // Steps since the scale was changed, and steps that were left out.
            of("counts", Dtype::I64, 2);
        }
        Self {
            weights,
            slots,
            averages,
            scaler,
            bytes: places.end,
        }
    }

    /// The weights alone.
    pub(super) fn of_weights(network: &Network) -> Self {
        let mut places = Places::default();
        let tensors = network.layout().tensors().iter();
        Self {
            weights: tensors.map(|it| places.of("", it)).collect(),
            slots: Vec::new(),
            averages: Vec::new(),
            scaler: Vec::new(),
            bytes: places.end,
        }
    }

    /// For Python: names and offsets.
    pub(super) fn to_json(&self) -> Value {
        let places = |places: &[Place]| -> Vec<Value> {
            let places = places.iter();
            places.map(|it| json!([it.name, it.offset])).collect()
        };
        json!({
            "bytes": self.bytes,
            "weights": places(&self.weights),
            "slots": places(&self.slots),
            "averages": places(&self.averages),
            "scaler": places(&self.scaler),
        })
    }

    /// Whether weights lie in both at the same places.
    pub(super) fn same_weights(&self, other: &Self) -> bool {
        self.weights == other.weights
    }

    /// The weights of a snapshot's memory.
    pub(super) fn weights(&self, memory: &Bytes, face: Face) -> StateDict {
        let mut dict = StateDict::new();
        let mut averages = self.averages.iter();
        for own in &self.weights {
            let shown = match face {
                Face::Average if own.dtype == Dtype::F32 => averages.next().unwrap_or(own),
                _ => own,
            };
            view(&mut dict, "", shown, memory);
        }
        dict
    }

    /// The training state of a snapshot's memory.
    pub(super) fn training(&self, memory: &Bytes, face: Face) -> StateDict {
        let mut dict = StateDict::new();
        for slot in &self.slots {
            view(&mut dict, "", slot, memory);
        }
        match face {
            _ if self.averages.is_empty() => {}
            Face::Trained => {
                for average in &self.averages {
                    view(&mut dict, AVERAGE_PREFIX, average, memory);
                }
            }
            Face::Average => {
                for own in self.weights.iter().filter(|it| it.dtype == Dtype::F32) {
                    view(&mut dict, RAW_PREFIX, own, memory);
                }
            }
        }
        for each in &self.scaler {
            view(&mut dict, "", each, memory);
        }
        dict
    }

    /// Memory with these weights, which were checked; a counter that is absent is 0.
    pub(super) fn pack_weights(&self, weights: &StateDict) -> Vec<u8> {
        let mut memory = vec![0; self.bytes];
        for place in &self.weights {
            pack(&mut memory, place, weights.get(&place.name));
        }
        memory
    }

    /// Puts a training state, which was checked, beside the weights.
    pub(super) fn pack_training(&self, training: &StateDict, memory: &mut [u8]) {
        for place in self.slots.iter().chain(&self.scaler) {
            pack(memory, place, training.get(&place.name));
        }
        for place in &self.averages {
            let name = format!("{AVERAGE_PREFIX}{}", place.name);
            pack(memory, place, training.get(&name));
        }
    }
}

fn pack(memory: &mut [u8], place: &Place, tensor: Option<&Tensor>) {
    if let Some(tensor) = tensor {
        let target = &mut memory[place.offset..place.offset + place.bytes];
        target.copy_from_slice(tensor.bytes().as_ref());
    }
}

fn view(dict: &mut StateDict, prefix: &str, place: &Place, memory: &Bytes) {
    let bytes = memory.slice(place.offset..place.offset + place.bytes);
    let tensor = Tensor::new(place.dtype, place.shape.clone(), bytes)
        .expect("a place has the length of its shape");
    dict.insert(format!("{prefix}{}", place.name), tensor)
        .expect("names of a layout are unique");
}

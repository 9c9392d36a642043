//! Candle's variables as a snapshot, and back.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarMap;
use keepbest_keeper::Snapshot;
use keepbest_keeper::keepbest_formats as formats;

/// The variables at one step. Candle's optimizers write in place, so they are copied; turning them into bytes is left to the keeper's
/// thread.
pub struct CandleSnapshot {
    step: u64,
    variables: Vec<(String, Tensor)>,
}

impl CandleSnapshot {
    pub fn take(variables: &VarMap, step: u64) -> Result<Self> {
        let mut copies = Vec::new();
        for (name, variable) in variables.data().lock().unwrap().iter() {
            let copy = variable.as_tensor().copy()?.to_dtype(DType::F32)?;
            copies.push((name.clone(), copy));
        }
        // A map has no order; a file has.
        copies.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Self {
            step,
            variables: copies,
        })
    }
}

impl Snapshot for CandleSnapshot {
    fn step(&self) -> u64 {
        self.step
    }

    // The keeper turns a panic in here into a failed save.
    fn weights(&self) -> formats::StateDict {
        let mut weights = formats::StateDict::new();
        for (name, variable) in &self.variables {
            let values: Vec<f32> = variable.flatten_all().unwrap().to_vec1().unwrap();
            let tensor = formats::Tensor::from_f32(variable.dims(), &values).unwrap();
            weights.insert(name.as_str(), tensor).unwrap();
        }
        weights
    }
}

/// Puts saved weights into the variables of the same names.
pub fn restore(variables: &VarMap, weights: &formats::StateDict) -> Result<()> {
    for (name, variable) in variables.data().lock().unwrap().iter() {
        let saved = weights
            .get(name)
            .ok_or_else(|| candle_core::Error::msg(format!("the file has no {name}")))?;
        let values = saved.as_f32().map_err(candle_core::Error::wrap)?;
        variable.set(&Tensor::from_slice(&values, saved.shape(), &Device::Cpu)?)?;
    }
    Ok(())
}

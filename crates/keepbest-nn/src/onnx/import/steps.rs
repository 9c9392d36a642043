//! The network in the making: layers, each with the layers that it reads, before they are put into blocks.

use super::view::Size;
use keepbest_formats::Tensor;
use serde_json::{Map, Value};

/// One layer.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Its op as it is written in a spec.
    pub op: &'static str,
    /// Its settings.
    pub settings: Map<String, Value>,
    /// The steps whose values it reads.
    pub from: Vec<usize>,
    /// Size of what it makes.
    pub size: Size,
    /// Whether what it makes is a vector rather than a map.
    pub flat: bool,
    /// The layer's name, where it has parameters.
    pub name: Option<String>,
    /// Its parameters: the last part of each name (empty where the layer's name is the parameter's) and the values.
    pub params: Vec<(&'static str, Tensor)>,
}

impl Step {
    /// A setting that is a number.
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.settings.get(key).and_then(Value::as_f64)
    }

    pub(super) fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    pub(super) fn param(&self, part: &str) -> Option<&Tensor> {
        let mut params = self.params.iter();
        params.find(|(own, _)| *own == part).map(|(_, value)| value)
    }
}

/// All layers; the first stands for the input.
#[derive(Clone, Debug)]
pub(super) struct Steps(pub Vec<Step>);

/// The op of the first step, which is no layer.
pub(super) const INPUT: &str = "input";

impl Steps {
    pub(super) fn new(input: Size) -> Self {
        let mut first = step(INPUT, vec![], input);
        first.flat = false;
        Steps(vec![first])
    }

    pub(super) fn add(&mut self, step: Step) -> usize {
        self.0.push(step);
        self.0.len() - 1
    }

    /// How many steps read each; the output counts as one.
    pub(super) fn readers(&self, output: usize) -> Vec<usize> {
        let mut readers = vec![0; self.0.len()];
        readers[output] += 1;
        for step in &self.0 {
            step.from.iter().for_each(|&from| readers[from] += 1);
        }
        readers
    }

    /// Drops what does not lead to the output, and gives its new number.
    pub(super) fn prune(&mut self, output: usize) -> usize {
        let mut wanted = vec![false; self.0.len()];
        wanted[0] = true;
        wanted[output] = true;
        for at in (0..self.0.len()).rev() {
            if wanted[at] {
                for from in self.0[at].from.clone() {
                    wanted[from] = true;
                }
            }
        }
        let mut numbers = vec![0; self.0.len()];
        let mut kept = Vec::new();
        for (at, mut step) in std::mem::take(&mut self.0).into_iter().enumerate() {
            if wanted[at] {
                step.from.iter_mut().for_each(|from| *from = numbers[*from]);
                numbers[at] = kept.len();
                kept.push(step);
            }
        }
        self.0 = kept;
        numbers[output]
    }
}

/// A layer without settings or parameters.
pub(super) fn step(op: &'static str, from: Vec<usize>, size: Size) -> Step {
    Step {
        op,
        settings: Map::new(),
        from,
        size,
        flat: false,
        name: None,
        params: vec![],
    }
}

/// Two numbers as a spec writes them: one where both are equal.
pub(super) fn pair([a, b]: [usize; 2]) -> Value {
    match a == b {
        true => a.into(),
        false => vec![a, b].into(),
    }
}

/// Padding on four sides (top, bottom, left, right) as a spec writes it: as few numbers as say it.
pub(super) fn padding([top, bottom, left, right]: [usize; 4]) -> Value {
    match top == bottom && left == right {
        true => pair([top, left]),
        false => vec![top, bottom, left, right].into(),
    }
}

/// An f32 as the f64 that is written alike: 1e-5 rather than 0.00000999999974.
pub(super) fn decimal(value: f32) -> f64 {
    let parsed = value.to_string().parse();
    parsed.unwrap_or(f64::from(value))
}

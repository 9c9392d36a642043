//! Which parts of a network learn, and how fast: fine-tuning.

use super::error::EngineError;
use crate::network::Network;
use crate::ops::operation::LearningRates;
use crate::params::Role;
use keepbest_formats::check_setting;

/// Which parts of a network learn, and how fast.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    /// Parameters that stay as they are, by name; `*` stands for any characters, as in `layer1.*`. A frozen batch norm
    /// keeps its running statistics, and normalises with them. What comes before all that learns costs no backward pass.
    pub freeze: Vec<String>,
    /// Factor on the learning rate of all but the head, [`Network::head`].
    pub body_rate: f64,
    /// Whether every batch norm keeps its running statistics and normalises with them, as in evaluation.
    pub freeze_statistics: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            freeze: vec![],
            body_rate: 1.0,
            freeze_statistics: false,
        }
    }
}

impl Tuning {
    /// The factor on the learning rate of each of the network's tensors, in their order; what has 0 never changes.
    ///
    /// # Errors
    /// [`EngineError`] for a factor outside its range, a pattern that fits no parameter, or a network of which nothing learns.
    pub fn rates(&self, network: &Network) -> Result<Vec<f64>, EngineError> {
        Ok(Rates::new(network, self)?.0)
    }
}

/// A factor on the learning rate for each tensor of a network.
#[derive(Clone, Debug)]
pub(crate) struct Rates(Vec<f64>);

impl Rates {
    pub(crate) fn new(network: &Network, tuning: &Tuning) -> Result<Self, EngineError> {
        let body = tuning.body_rate;
        check_setting(
            "body rate",
            body,
            body >= 0.0 && body.is_finite(),
            "at least 0",
        )?;
        let tensors = network.layout().tensors();
        let head = network.head();
        let frozen = |name: &str| tuning.freeze.iter().any(|pattern| matches(pattern, name));
        for pattern in &tuning.freeze {
            let mut trained = tensors.iter().filter(|t| t.role == Role::Trained);
            if !trained.any(|t| matches(pattern, &t.name)) {
                return Err(EngineError::NothingToFreeze {
                    pattern: pattern.clone(),
                    parameters: tensors
                        .iter()
                        .filter(|t| t.role == Role::Trained)
                        .map(|t| t.name.clone())
                        .collect(),
                });
            }
        }
        let mut rates: Vec<f64> = tensors
            .iter()
            .map(|t| match t.role {
                Role::Trained if frozen(&t.name) => 0.0,
                Role::Trained if Some(t.layer()) != head => body,
                _ => 1.0,
            })
            .collect();
        let learns = |t: usize| tensors[t].role == Role::Trained && rates[t] > 0.0;
        if !(0..tensors.len()).any(learns) {
            return Err(EngineError::AllFrozen);
        }
        for node in &network.nodes {
            if let Some(norm) = node.op.fixed_norm() {
                let still = norm
                    .affine
                    .is_some_and(|(weight, bias)| rates[weight] == 0.0 && rates[bias] == 0.0);
                if still || tuning.freeze_statistics {
                    let own = tensors[norm.mean].layer();
                    for (tensor, rate) in tensors.iter().zip(&mut rates) {
                        if tensor.role != Role::Trained && tensor.layer() == own {
                            *rate = 0.0;
                        }
                    }
                }
            }
        }
        Ok(Rates(rates))
    }

    /// Everything learns at the whole rate.
    #[cfg(test)]
    pub(crate) fn whole(tensors: usize) -> Self {
        Rates(vec![1.0; tensors])
    }

    /// Factor on the learning rate of a tensor, by its index.
    pub(crate) fn of(&self, tensor: usize) -> f64 {
        self.0[tensor]
    }

    /// Factors of all tensors.
    pub(crate) fn all(&self) -> LearningRates<'_> {
        LearningRates(&self.0)
    }

    /// Whether a tensor never changes.
    pub(crate) fn frozen(&self, tensor: usize) -> bool {
        self.all().frozen(tensor)
    }
}

/// Whether `name` fits `pattern`, in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, name, fits) in [
            ("layer1.*", "layer1.0.conv1.weight", true),
            ("layer1.*", "layer10.0.conv1.weight", false),
            ("conv1.weight", "conv1.weight", true),
            ("conv1", "conv1.weight", false),
            ("*", "fc.bias", true),
            ("*.bias", "fc.bias", true),
            ("*bn*.weight", "layer1.0.bn2.weight", true),
            ("*bn*.weight", "layer1.0.bn2.bias", false),
            ("a*a", "a", false),
            ("", "fc", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}

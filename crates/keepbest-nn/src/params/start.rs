//! Starting values of parameters, PyTorch's distributions from our own seeded generator.

use crate::random;

/// The values that a tensor starts with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Start {
    Constant(f32),
    /// Uniform in `[-bound, bound)`.
    Uniform {
        bound: f64,
    },
    Normal {
        deviation: f64,
    },
}

impl Start {
    /// `torch.nn.Conv2d` and `Linear`: `kaiming_uniform_(a=sqrt(5))` for weights, which is
    /// ±1/sqrt(fan-in), and the same bound for biases.
    pub(crate) fn uniform_fan_in(fan_in: usize) -> Self {
        Start::Uniform {
            bound: 1.0 / libm::sqrt(fan_in.max(1) as f64),
        }
    }

    /// `kaiming_normal_(nonlinearity="relu")` for a fan-in or fan-out (He et al., arXiv 1502.01852).
    pub(crate) fn kaiming_normal(fan: usize) -> Self {
        Start::Normal {
            deviation: libm::sqrt(2.0 / fan.max(1) as f64),
        }
    }

    /// Fills a tensor; `key` is the tensor's own, so that one tensor's values do not depend on another's.
    pub(crate) fn fill(self, key: u64, out: &mut [f32]) {
        match self {
            Start::Constant(v) => out.fill(v),
            Start::Uniform { bound } => {
                for (i, v) in out.iter_mut().enumerate() {
                    *v = ((2.0 * random::uniform(key, i as u64) - 1.0) * bound) as f32;
                }
            }
            Start::Normal { deviation } => {
                for (pair, values) in out.chunks_mut(2).enumerate() {
                    for (v, normal) in values.iter_mut().zip(random::normal_pair(key, pair as u64))
                    {
                        *v = (normal * deviation) as f32;
                    }
                }
            }
        }
    }
}

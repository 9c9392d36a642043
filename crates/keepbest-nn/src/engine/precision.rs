//! Number formats that training multiplies in.

use keepbest_kernels::{Isa, Precision as Kernels};
use std::fmt;

/// In what format training steps multiply. Sums, weights and everything outside of steps are `f32` in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// The upper half of an `f32`: its range, and 8 bits of precision.
    Bf16,
    /// IEEE half precision, with the loss scaled so that small gradients do not vanish (Micikevicius et al., arXiv 1710.03740).
    F16,
}

impl Precision {
    /// All there are.
    pub const ALL: &'static [Self] = &[Precision::F32, Precision::Bf16, Precision::F16];

    /// Whether the CPU engine has it on this processor with these instructions.
    pub fn is_available(self, isa: Isa) -> bool {
        self.kernels().is_some_and(|own| own.is_available(isa))
    }

    /// The name: `f32`, `bf16` or `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }

    /// As the kernels of the CPU have it; `None` for what they do not have.
    pub(crate) fn kernels(self) -> Option<Kernels> {
        match self {
            Precision::F32 => Some(Kernels::F32),
            Precision::Bf16 => Some(Kernels::Bf16),
            Precision::F16 => None,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

//! Instruction sets, and the choice between them at run time.

use std::fmt;
use std::str::FromStr;

use crate::precision::Precision;

/// An instruction set the kernels are compiled for. All give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust for any processor, written so that LLVM can vectorise it.
    Portable,
    /// x86-64 AVX2 with FMA.
    Avx2,
    /// x86-64 AVX-512 (F, VL, DQ, BW).
    Avx512,
}

/// Why an instruction set cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IsaError {
    /// The name is none of `portable`, `avx2`, `avx512`.
    #[error("unknown instruction set {name:?}: expected portable, avx2 or avx512")]
    Unknown {
        /// The name as given.
        name: String,
    },
    /// The name is none of `f32`, `bf16`.
    #[error("unknown precision {name:?}: expected f32 or bf16")]
    UnknownPrecision {
        /// The name as given.
        name: String,
    },
    /// This processor, or the instruction set chosen, cannot multiply in this format.
    #[error("{precision} needs AVX-512 BF16, which {isa} on this processor does not give")]
    PrecisionUnavailable {
        /// The format asked for.
        precision: Precision,
        /// The instruction set in use.
        isa: Isa,
    },
    /// This processor cannot run it.
    #[error("this processor has no {isa}")]
    Unavailable {
        /// The instruction set asked for.
        isa: Isa,
    },
}

impl Isa {
    /// The instruction set named by the environment variable `KEEPBEST_ISA`, or the fastest one when it is not set.
    ///
    /// # Errors
    ///
    /// When the variable holds an unknown name or one this processor lacks.
    pub fn detect() -> Result<Isa, IsaError> {
        match std::env::var_os("KEEPBEST_ISA") {
            None => Ok(Isa::fastest()),
            Some(name) => {
                let isa: Isa = name.to_string_lossy().parse()?;
                if isa.is_available() {
                    Ok(isa)
                } else {
                    Err(IsaError::Unavailable { isa })
                }
            }
        }
    }

    /// The instruction sets this processor has, slowest first; never empty.
    pub fn available() -> Vec<Isa> {
        [Isa::Portable, Isa::Avx2, Isa::Avx512]
            .into_iter()
            .filter(|isa| isa.is_available())
            .collect()
    }

    /// The fastest instruction set this processor has.
    pub fn fastest() -> Isa {
        [Isa::Avx512, Isa::Avx2]
            .into_iter()
            .find(|isa| isa.is_available())
            .unwrap_or(Isa::Portable)
    }

    /// Whether this processor has the instruction set. Under Miri only the portable one counts.
    pub fn is_available(self) -> bool {
        if cfg!(miri) {
            return self == Isa::Portable;
        }
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            match self {
                Isa::Portable => true,
                Isa::Avx2 => avx2(),
                Isa::Avx512 => {
                    avx2()
                        && is_x86_feature_detected!("avx512f")
                        && is_x86_feature_detected!("avx512vl")
                        && is_x86_feature_detected!("avx512dq")
                        && is_x86_feature_detected!("avx512bw")
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Isa::Portable
        }
    }

    /// The name accepted by `KEEPBEST_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Isa, IsaError> {
        match name {
            "portable" => Ok(Isa::Portable),
            "avx2" => Ok(Isa::Avx2),
            "avx512" => Ok(Isa::Avx512),
            _ => Err(IsaError::Unknown {
                name: name.to_owned(),
            }),
        }
    }
}

/// Compiles one body for every instruction set and picks at run time. Rust never reorders or contracts float operations, so
/// the vector forms LLVM makes of the body give the same bits as the scalar one.
///
/// The generated function takes the `Isa` first; it must come from a [`Context`](crate::Context), which has checked it.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::isa::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
            match isa {
                $crate::isa::Isa::Portable => body($($arg),*),
                // SAFETY: the `Isa` of a `Context` was checked against this processor when the context was made.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(not(target_arch = "x86_64"))]
                _ => body($($arg),*),
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_unknown_ones_are_named() {
        for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
            assert_eq!(isa.name().parse::<Isa>(), Ok(isa));
        }
        let error = "sse9".parse::<Isa>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown instruction set \"sse9\": expected portable, avx2 or avx512"
        );
    }

    #[test]
    fn the_fastest_is_the_last_available() {
        assert_eq!(Isa::available().last(), Some(&Isa::fastest()));
        assert_eq!(Isa::available()[0], Isa::Portable);
    }
}

//! Errors of pickles.

/// Why a pickle cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// The pickle ends before its STOP.
    #[error("the pickle is truncated at byte {at}")]
    Truncated {
        /// The place where the missing bytes should start.
        at: usize,
    },
    /// A byte that is no opcode.
    #[error("the pickle has the unknown opcode {opcode:#04x} at byte {at}")]
    Opcode {
        /// The byte.
        opcode: u8,
        /// The place in the file.
        at: usize,
    },
    /// A protocol after 5.
    #[error("the pickle has protocol {protocol}, the newest known is 5")]
    Protocol {
        /// The protocol.
        protocol: u8,
    },
    /// An opcode finds fewer values on the stack than it takes, or others.
    #[error("the pickle is malformed at byte {at}: {what}")]
    Malformed {
        /// The place of the opcode.
        at: usize,
        /// The fault, in words.
        what: &'static str,
    },
    /// An opcode that needs something outside of the file.
    #[error("the pickle needs {what}, which the file does not hold (byte {at})")]
    Outside {
        /// The place of the opcode.
        at: usize,
        /// The need, in words.
        what: &'static str,
    },
    /// More values than allowed.
    #[error("the pickle has more than {limit} values")]
    TooManyValues {
        /// [`Limits::values`](crate::pth::Limits::values).
        limit: usize,
    },
    /// More bytes than allowed.
    #[error("the pickle has {bytes} bytes, more than {limit}")]
    TooLong {
        /// Its size.
        bytes: u64,
        /// [`Limits::pickle_bytes`](crate::pth::Limits::pickle_bytes).
        limit: u64,
    },
}

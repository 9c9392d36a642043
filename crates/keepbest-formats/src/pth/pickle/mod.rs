//! Pickle, read as data: an interpreter that builds a graph of values and calls nothing.
//!
//! All opcodes of protocols 0 to 5 are understood. What a pickle would import becomes a
//! [`Global`], what it would call or construct becomes an [`Object`] with the arguments
//! beside it. What those mean is decided later, by those who look at the graph.
//!
//! References: `pickletools.py` of CPython; PEP 307, 3154, 574.

mod error;
mod graph;
mod machine;
mod text;

pub use error::PickleError;
pub use graph::{Global, GlobalUse};
pub(crate) use graph::{Graph, Id, Node, Object};
pub(crate) use machine::{Parsed, parse};

#[cfg(test)]
mod tests;

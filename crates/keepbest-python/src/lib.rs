//! `keepbest._native`: what the Python package is built on.
//!
//! | class | is |
//! |---|---|
//! | `Arena` | memory that a model is copied into, and read from by the writer thread |
//! | `Engine` | an engine of any device, step by step: for tests and benchmarks |
//! | `Keeper` | the Rust keeper of a run |
//! | `Saves` | waiting for what it saves |
//! | `ModelFile` | a model file, verified, its tensors mapped |
//! | `Predictor` | a model that answers, for any number of threads |
//! | `Preprocessing` | what makes a network's input of images |
//!
//! Python sees tensors as `(name, dtype, shape, offset)`; which object a tensor belongs to, and how containers are put into a
//! file, is decided in Python. Whatever can block lets other threads of Python run.

mod arena;
mod engine;
mod errors;
mod keeper;
mod model;
mod options;
mod predict;
mod preprocessing;
mod spec;
mod torch;
mod train;

use std::ffi::OsString;
use std::time::Duration;

use pyo3::prelude::*;

/// How often work that takes long looks for Ctrl-C.
pub(crate) const PATIENCE: Duration = Duration::from_millis(50);

/// The `keepbest` program with these arguments, of which the first is its name; gives its exit code. It takes over the
/// process's signals and streams.
#[pyfunction]
fn main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| keepbest::cli::main(arguments))
}

#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    torch::provide();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<arena::Arena>()?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<engine::Held>()?;
    module.add_class::<keeper::Keeper>()?;
    module.add_class::<keeper::Saves>()?;
    module.add_class::<model::ModelFile>()?;
    module.add_class::<model::View>()?;
    module.add_class::<predict::Predictor>()?;
    module.add_class::<preprocessing::Preprocessing>()?;
    module.add_function(wrap_pyfunction!(main, module)?)?;
    module.add_function(wrap_pyfunction!(keeper::run_summary, module)?)?;
    module.add_function(wrap_pyfunction!(model::save, module)?)?;
    module.add_function(wrap_pyfunction!(model::resolve, module)?)?;
    module.add_function(wrap_pyfunction!(predict::list_images, module)?)?;
    module.add_function(wrap_pyfunction!(spec::network_spec, module)?)?;
    module.add_function(wrap_pyfunction!(spec::read_spec, module)?)?;
    module.add_function(wrap_pyfunction!(torch::join_ranks, module)?)?;
    module.add_function(wrap_pyfunction!(train::follow, module)?)?;
    module.add_function(wrap_pyfunction!(train::release_ranks, module)?)?;
    module.add_function(wrap_pyfunction!(train::settings, module)?)?;
    module.add_function(wrap_pyfunction!(train::train, module)?)?;
    Ok(())
}

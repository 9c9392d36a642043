//! Errors of the Rust parts as exceptions of `keepbest.errors`, with their facts as attributes.

use keepbest_core::ObjectiveError;
use keepbest_core::text::with_causes;
use keepbest_formats::model_file::OpenError as ModelOpenError;
use keepbest_keeper::{CreateError, FinishError, OfferError, ResumeError};
use keepbest_store::{CreateError as RunCreateError, LockError, OpenError as RunOpenError, Owner};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

/// An exception of `keepbest.errors` with these attributes. That the class is missing is an error, too.
pub(crate) fn raise<'py>(
    py: Python<'py>,
    class: &str,
    message: &str,
    facts: impl IntoPyDict<'py>,
) -> PyErr {
    let make = || -> PyResult<Bound<'py, PyAny>> {
        let class = py.import("keepbest.errors")?.getattr(class)?;
        class.call((message,), Some(&facts.into_py_dict(py)?))
    };
    match make() {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// Without attributes beside the message.
pub(crate) fn raise_plain(py: Python<'_>, class: &str, message: &str) -> PyErr {
    raise(py, class, message, PyDict::new(py))
}

/// A metric is missing, or the objective is no objective.
pub(crate) fn objective(py: Python<'_>, error: &ObjectiveError) -> PyErr {
    let mut message = with_causes(error);
    if let Some(hint) = error.hint() {
        message.push_str("; ");
        message.push_str(&hint);
    }
    // The command line's way to say it is not Python's.
    let message = message.replace(
        "`--mode max|min` is needed",
        "mode=\"max\" or mode=\"min\" is needed",
    );
    match error {
        ObjectiveError::MissingMetric(missing) => {
            let facts = PyDict::new(py);
            let set = facts
                .set_item("metric", &missing.name)
                .and_then(|()| facts.set_item("existing", &missing.existing));
            match set {
                Ok(()) => raise(py, "MetricMissing", &message, facts),
                Err(error) => error,
            }
        }
        _ => raise_plain(py, "InvalidObjective", &message),
    }
}

pub(crate) fn create(py: Python<'_>, error: &CreateError) -> PyErr {
    let message = with_causes(error);
    match error {
        CreateError::Objective(error) => objective(py, error),
        CreateError::Run(RunCreateError::Exists { path, .. }) => {
            raise(py, "RunExists", &message, [("path", path.clone())])
        }
        CreateError::Run(RunCreateError::Lock(error)) => lock(py, error, &message),
        _ => raise_plain(py, "CannotWrite", &message),
    }
}

pub(crate) fn resume(py: Python<'_>, error: &ResumeError) -> PyErr {
    let message = with_causes(error);
    match error {
        ResumeError::Open(error) => open_run(py, error),
        ResumeError::ObjectiveDiffers { stored, given, .. } => raise(
            py,
            "ObjectiveDiffers",
            &message,
            [("stored", stored.clone()), ("given", given.clone())],
        ),
        _ => raise_plain(py, "CannotWrite", &message),
    }
}

pub(crate) fn open_run(py: Python<'_>, error: &RunOpenError) -> PyErr {
    let message = with_causes(error);
    match error {
        RunOpenError::NotFound { path, .. } | RunOpenError::NotARun { path, .. } => {
            raise(py, "RunMissing", &message, [("path", path.clone())])
        }
        RunOpenError::Lock(error) => lock(py, error, &message),
        _ => raise_plain(py, "RunDamaged", &message),
    }
}

fn lock(py: Python<'_>, error: &LockError, message: &str) -> PyErr {
    match error {
        LockError::Held { path, owner, .. } => {
            let facts = PyDict::new(py);
            let owner = owner.as_ref().map(Owner::to_string);
            let set = facts
                .set_item("path", path.clone())
                .and_then(|()| facts.set_item("owner", owner));
            match set {
                Ok(()) => raise(py, "RunLocked", message, facts),
                Err(error) => error,
            }
        }
        _ => raise_plain(py, "CannotWrite", message),
    }
}

pub(crate) fn offer(py: Python<'_>, error: OfferError) -> PyErr {
    match error {
        OfferError::Objective(error) => objective(py, &error),
        // What the copying raised in Python goes on as it was.
        OfferError::Snapshot(error) => match error.downcast::<PyErr>() {
            Ok(error) => *error,
            Err(error) => raise_plain(py, "KeepbestError", &with_causes(&*error)),
        },
        OfferError::OutOfOrder { step, previous, .. } => raise(
            py,
            "OutOfOrder",
            &error.to_string(),
            [("step", step), ("previous", previous)],
        ),
        error => raise_plain(py, "KeepbestError", &with_causes(&error)),
    }
}

pub(crate) fn finish(py: Python<'_>, error: &FinishError) -> PyErr {
    raise_plain(py, "CannotWrite", &with_causes(error))
}

pub(crate) fn open_model(py: Python<'_>, path: &std::path::Path, error: &ModelOpenError) -> PyErr {
    let message = with_causes(error);
    let class = match error {
        ModelOpenError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            "ModelMissing"
        }
        ModelOpenError::Io { .. } => "CannotRead",
        _ => "ModelDamaged",
    };
    raise(py, class, &message, [("path", path.to_owned())])
}

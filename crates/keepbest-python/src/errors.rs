//! Errors of the Rust parts as exceptions of `keepbest.errors`, with their facts as attributes.

use std::error::Error;

use keepbest_core::ObjectiveError;
use keepbest_core::text::with_causes;
use keepbest_formats::model_file::OpenError as ModelOpenError;
use keepbest_keeper::{CreateError, FinishError, OfferError, ResumeError};
use keepbest_model::{ClassifyError, MeasureError, ModelError, ModelRefError, RunFilesError};
use keepbest_store::{CreateError as RunCreateError, LockError, OpenError as RunOpenError, Owner};
use keepbest_train::{Settings, SettingsError, TrainError};
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

/// An error with its causes and what to try, in Python's words.
pub(crate) fn with_hint(error: &(dyn Error + 'static), hint: Option<String>) -> String {
    let mut message = with_causes(error);
    if let Some(hint) = hint {
        message.push_str("; ");
        message.push_str(&hint);
    }
    in_python(&message)
}

/// A setting's name as a keyword argument.
pub(crate) fn keyword(name: &str) -> String {
    match name {
        "from" => "from_".to_owned(),
        name => name.replace('-', "_"),
    }
}

/// Flags of the command line as the keyword arguments that they are in Python.
fn in_python(words: &str) -> String {
    let mut parts = words.split("--");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_lowercase() && c != '-');
        let (name, rest) = part.split_at(end.unwrap_or(part.len()));
        // `keepbest train --resume RUN` stays what it is.
        match Settings::find(name) {
            Some(key) => text.push_str(&keyword(key.name)),
            None => {
                text.push_str("--");
                text.push_str(name);
            }
        }
        text.push_str(rest);
    }
    text
}

/// A keyword argument is no setting, or has a value that it cannot have.
pub(crate) fn settings(py: Python<'_>, error: &SettingsError) -> PyErr {
    let facts = |setting: Option<String>, nearest: Option<String>| {
        [("setting", setting), ("nearest", nearest)]
    };
    match error {
        SettingsError::UnknownKey { key, nearest, .. } => {
            let (name, nearest) = (keyword(key), nearest.map(keyword));
            let hint = match &nearest {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => "keepbest.settings() lists them".to_owned(),
            };
            let message = format!("{name} is no setting; {hint}");
            raise(py, "InvalidSetting", &message, facts(Some(name), nearest))
        }
        SettingsError::Value {
            key,
            found,
            expected,
            ..
        } => {
            let name = keyword(key);
            let message = format!("{name} must be {expected}, found {found:?}");
            raise(py, "InvalidSetting", &message, facts(Some(name), None))
        }
        SettingsError::InFile { source, .. }
            if matches!(**source, SettingsError::OtherLoop { .. }) =>
        {
            raise_plain(py, "RunOfAnotherLoop", &with_hint(error, error.hint()))
        }
        SettingsError::Read { .. } | SettingsError::InFile { .. } => {
            raise_plain(py, "RunDamaged", &with_hint(error, error.hint()))
        }
        error => raise(
            py,
            "InvalidSetting",
            &with_hint(error, error.hint()),
            facts(None, None),
        ),
    }
}

/// A run could not start, or ended before its end.
pub(crate) fn training(py: Python<'_>, error: &TrainError) -> PyErr {
    let message = with_hint(error, error.hint());
    let raise_with = |class: &str, facts: PyResult<Bound<'_, PyDict>>| match facts {
        Ok(facts) => raise(py, class, &message, facts),
        Err(error) => error,
    };
    match error {
        TrainError::Settings(error) => settings(py, error),
        TrainError::Objective(error) => objective(py, error),
        TrainError::Create(error) => create(py, error),
        TrainError::Resume(error) => resume(py, error),
        TrainError::Model(error) => model(py, error),
        TrainError::Unmended { source, .. } => open_run(py, source),
        TrainError::RunFiles(RunFilesError::Open(error)) => open_run(py, error),
        TrainError::ModelRef(error) => {
            let path = match error {
                ModelRefError::NotFound { found, .. } => found.clone(),
                _ => String::new(),
            };
            raise(py, "ModelMissing", &message, [("path", path)])
        }
        TrainError::Stopped {
            run, step, epoch, ..
        } => raise_with("TrainingStopped", {
            let facts = PyDict::new(py);
            let set = facts
                .set_item("run", run.clone())
                .and_then(|()| facts.set_item("step", step))
                .and_then(|()| facts.set_item("epoch", epoch));
            set.map(|()| facts)
        }),
        TrainError::Diverged { epoch, best, .. } => raise_with("Diverged", {
            let facts = PyDict::new(py);
            let best = best.as_ref().map(|(path, _)| path.clone());
            let set = facts
                .set_item("epoch", epoch)
                .and_then(|()| facts.set_item("best", best));
            set.map(|()| facts)
        }),
        TrainError::Data(_)
        | TrainError::Prepare(_)
        | TrainError::Load(_)
        | TrainError::DataChanged { .. }
        | TrainError::NotThere(_)
        | TrainError::Undefined { .. }
        | TrainError::ImageSize { .. } => raise_plain(py, "InvalidData", &message),
        error if error.is_usage() => raise_plain(py, "InvalidOption", &message),
        _ => raise_plain(py, "TrainingFailed", &message),
    }
}

/// A file is no model that answers.
pub(crate) fn model(py: Python<'_>, error: &ModelError) -> PyErr {
    match error {
        ModelError::NeedsNetwork { path, guess, .. } => {
            // The way of the command line is not Python's.
            let way = match guess {
                Some(name) => format!("its tensors are those of {name}: network={name:?} uses it"),
                None => "its weights are state_dict(); if it is one of those that `keepbest models` lists, network=NAME uses it"
                    .to_owned(),
            };
            let message = format!("{}; {way}", with_causes(error));
            raise(py, "NoNetwork", &message, [("path", path.clone())])
        }
        ModelError::Open(error) => raise_plain(py, "ModelDamaged", &with_causes(error)),
        ModelError::Architecture(_) | ModelError::OtherNetwork { .. } => {
            raise_plain(py, "InvalidOption", &with_hint(error, error.hint()))
        }
        error => raise_plain(py, "CannotPredict", &with_hint(error, error.hint())),
    }
}

/// Nothing can be asked.
pub(crate) fn classify(py: Python<'_>, error: &ClassifyError) -> PyErr {
    match error {
        ClassifyError::Model(error) => model(py, error),
        error => raise_plain(py, "CannotPredict", &with_causes(error)),
    }
}

/// A model cannot be measured on images.
pub(crate) fn measure(py: Python<'_>, error: &MeasureError) -> PyErr {
    match error {
        MeasureError::Model(error) => model(py, error),
        error => raise_plain(py, "InvalidData", &with_hint(error, error.hint())),
    }
}

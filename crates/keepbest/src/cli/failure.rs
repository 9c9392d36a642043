//! How a command ends when it does not end well.

use std::error::Error;

use keepbest_core::text::shell_word;

use crate::cli::terminal::{Paint, Terminal};

/// The end of a command, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// All done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line or a setting is wrong.
    Usage = 2,
    /// A check was made and does not hold.
    CheckFailed = 3,
    /// By Ctrl-C, SIGTERM or another signal to stop.
    Interrupted = 130,
}

/// An error on its way to the user: message, causes, hint, exit code.
#[derive(Debug)]
pub(super) struct Failure {
    pub exit: Exit,
    pub message: String,
    pub causes: Vec<String>,
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with its own words.
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// With something to try.
    #[must_use]
    pub(super) fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into().or(self.hint);
        self
    }

    /// From an error and its sources. What was told is not told again: libraries differ in whether an error repeats its source.
    pub(super) fn of(exit: Exit, error: &(dyn Error + 'static)) -> Self {
        let mut failure = Self::new(exit, error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            let words = cause.to_string();
            let before = failure.causes.last().unwrap_or(&failure.message);
            if !before.contains(words.trim()) {
                failure.causes.push(words);
            }
            source = cause.source();
        }
        failure
    }

    /// Writes it to stderr.
    pub(super) fn print(&self, terminal: &Terminal) {
        self.tell("error:", terminal.error_style().bad, terminal);
    }

    /// Writes it to stderr as what did not keep the command from being done.
    pub(super) fn warn(&self, terminal: &Terminal) {
        self.tell("warning:", terminal.error_style().warn, terminal);
    }

    fn tell(&self, word: &str, colour: Paint, terminal: &Terminal) {
        let style = terminal.error_style();
        let (hint, dim) = (style.hint, style.dim);
        say!("{colour}{word}{colour:#} {}", self.message);
        for cause in &self.causes {
            say!("  {dim}because:{dim:#} {cause}");
        }
        if let Some(text) = &self.hint {
            say!("{hint}hint:{hint:#} {text}");
        }
    }
}

impl From<keepbest_train::SettingsError> for Failure {
    fn from(error: keepbest_train::SettingsError) -> Self {
        let exit = match error {
            keepbest_train::SettingsError::Read { .. } => Exit::Failed,
            _ => Exit::Usage,
        };
        Self::of(exit, &error).with_hint(error.hint())
    }
}

impl From<keepbest_model::ModelRefError> for Failure {
    fn from(error: keepbest_model::ModelRefError) -> Self {
        let exit = match error {
            keepbest_model::ModelRefError::Which { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        Self::of(exit, &error).with_hint(error.hint())
    }
}

impl From<keepbest_keeper::MaintainError> for Failure {
    fn from(error: keepbest_keeper::MaintainError) -> Self {
        use keepbest_keeper::MaintainError;
        use keepbest_store::{LockError, OpenError};
        let (exit, hint) = match &error {
            MaintainError::Open(OpenError::Lock(LockError::Held { .. })) => (
                Exit::Failed,
                Some("a run in training prunes itself; wait for it to end".to_owned()),
            ),
            MaintainError::Open(error) => (Exit::Failed, fsck_hint(error)),
            MaintainError::Forgotten(found) => (Exit::CheckFailed, Some(found.hint())),
            _ => (Exit::Failed, None),
        };
        Self::of(exit, &error).with_hint(hint)
    }
}

/// The hint for a run whose journal is damaged or gone: who tells more.
pub(super) fn fsck_hint(error: &keepbest_store::OpenError) -> Option<String> {
    use keepbest_store::{JournalError, OpenError};
    let run = match error {
        OpenError::NoJournal { path, .. } => path,
        OpenError::Journal(JournalError::Damaged { path, .. }) => path.parent()?,
        _ => return None,
    };
    Some(format!("keepbest fsck {}", shell_word(run)))
}

impl From<keepbest_model::RunFilesError> for Failure {
    fn from(error: keepbest_model::RunFilesError) -> Self {
        use keepbest_model::RunFilesError;
        match error {
            RunFilesError::Archive(error) => error.into(),
            RunFilesError::Forgotten(found) => found.into(),
            RunFilesError::Open(error) => {
                Self::of(Exit::Failed, &error).with_hint(fsck_hint(&error))
            }
            error => Self::of(Exit::Failed, &error).with_hint(error.hint()),
        }
    }
}

impl From<keepbest_keeper::Forgotten> for Failure {
    fn from(found: keepbest_keeper::Forgotten) -> Self {
        Self::of(Exit::CheckFailed, &found).with_hint(found.hint())
    }
}

impl From<keepbest_model::OpenWholeRunError> for Failure {
    fn from(error: keepbest_model::OpenWholeRunError) -> Self {
        match error {
            keepbest_model::OpenWholeRunError::Run(error) => error.into(),
            keepbest_model::OpenWholeRunError::Forgotten(found) => found.into(),
            error => Self::of(Exit::Failed, &error).with_hint(error.hint()),
        }
    }
}

impl From<keepbest_model::CardError> for Failure {
    fn from(error: keepbest_model::CardError) -> Self {
        match error {
            keepbest_model::CardError::Forgotten(found) => found.into(),
            error => Self::of(Exit::Failed, &error).with_hint(error.hint()),
        }
    }
}

impl From<keepbest_model::ModelError> for Failure {
    fn from(error: keepbest_model::ModelError) -> Self {
        let exit = match &error {
            keepbest_model::ModelError::NeedsNetwork { .. }
            | keepbest_model::ModelError::OtherNetwork { .. }
            | keepbest_model::ModelError::NoKeys { .. }
            | keepbest_model::ModelError::Architecture(_) => Exit::Usage,
            // A file that was made to attack: the check that every file goes through does not hold.
            keepbest_model::ModelError::Pth { source, .. }
                if matches!(
                    **source,
                    keepbest_formats::pth::PthError::Dangerous { .. }
                        | keepbest_formats::pth::PthError::Touched { .. }
                ) =>
            {
                Exit::CheckFailed
            }
            _ => Exit::Failed,
        };
        Self::of(exit, &error).with_hint(error.hint())
    }
}

impl From<keepbest_model::OpenReferenceError> for Failure {
    fn from(error: keepbest_model::OpenReferenceError) -> Self {
        use keepbest_model::OpenReferenceError;
        match error {
            OpenReferenceError::Reference(error) => error.into(),
            OpenReferenceError::Run(error) => error.into(),
            OpenReferenceError::Model(error) => error.into(),
            error => Self::of(Exit::Failed, &error),
        }
    }
}

impl From<keepbest_model::EvaluateError> for Failure {
    fn from(error: keepbest_model::EvaluateError) -> Self {
        Self::of(Exit::Failed, &error)
    }
}

/// Errors that mean a failure, each with a hint of its own.
macro_rules! failed {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::of(Exit::Failed, &error).with_hint(error.hint())
            }
        }
    )*};
}

failed!(keepbest_model::AnswerError, keepbest_model::OpenRunError,);

impl From<keepbest_model::write::WriteError> for Failure {
    fn from(error: keepbest_model::write::WriteError) -> Self {
        let exit = match error {
            keepbest_model::write::WriteError::OwnFile { .. }
            | keepbest_model::write::WriteError::NoPage { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        Self::of(exit, &error).with_hint(error.hint())
    }
}

impl From<keepbest_model::MeasureError> for Failure {
    fn from(error: keepbest_model::MeasureError) -> Self {
        match error {
            keepbest_model::MeasureError::Model(error) => error.into(),
            error if error.is_interrupted() => Self::of(Exit::Interrupted, &error),
            error => Self::of(Exit::Failed, &error).with_hint(error.hint()),
        }
    }
}

impl From<keepbest_model::CompareError> for Failure {
    fn from(error: keepbest_model::CompareError) -> Self {
        use keepbest_model::{CompareError, SameImagesError};
        match error {
            CompareError::Measure(error)
            | CompareError::Images(SameImagesError::Measure(error)) => error.into(),
            CompareError::Nothing => Self::of(Exit::Usage, &error),
            error => Self::of(Exit::Failed, &error).with_hint(error.hint()),
        }
    }
}

impl From<keepbest_model::TuneError> for Failure {
    fn from(error: keepbest_model::TuneError) -> Self {
        match error {
            keepbest_model::TuneError::Measure(error) => error.into(),
            error => Self::of(Exit::Failed, &error).with_hint(error.hint()),
        }
    }
}

impl From<keepbest_model::average::AverageModelsError> for Failure {
    fn from(error: keepbest_model::average::AverageModelsError) -> Self {
        use keepbest_model::average::AverageModelsError;
        match error {
            AverageModelsError::Measure(error) => error.into(),
            AverageModelsError::Model(error) => error.into(),
            error => Self::of(Exit::Failed, &error).with_hint(error.hint()),
        }
    }
}

impl From<keepbest_model::VerifyError> for Failure {
    fn from(error: keepbest_model::VerifyError) -> Self {
        use keepbest_model::VerifyError;
        match error {
            VerifyError::Reference(error) => error.into(),
            VerifyError::RunFiles(error) => error.into(),
            VerifyError::Model(error) => error.into(),
            VerifyError::Measure(error) => error.into(),
            VerifyError::Settings(source) => match source.downcast() {
                Ok(error) => keepbest_train::SettingsError::into(*error),
                Err(source) => Self::of(Exit::Failed, &*source),
            },
            error => Self::of(Exit::Failed, &error).with_hint(error.hint()),
        }
    }
}

impl From<keepbest_model::AttestError> for Failure {
    fn from(error: keepbest_model::AttestError) -> Self {
        if let keepbest_model::AttestError::Run(error) = error {
            return error.into();
        }
        let mut failure = Self::of(Exit::Failed, &error).with_hint(error.hint());
        if let keepbest_model::AttestError::Contradicts { found, .. } = &error {
            failure.exit = Exit::CheckFailed;
            failure.causes = found.iter().map(ToString::to_string).collect();
        }
        failure
    }
}

impl From<keepbest_model::OriginError> for Failure {
    fn from(error: keepbest_model::OriginError) -> Self {
        use keepbest_model::OriginError;
        match error {
            OriginError::Parent(error) => error.into(),
            OriginError::ParentFiles(error) => error.into(),
            OriginError::Measure(error) => error.into(),
            error => Self::of(Exit::Failed, &error).with_hint(error.hint()),
        }
    }
}

impl From<keepbest_model::ClassifyError> for Failure {
    fn from(error: keepbest_model::ClassifyError) -> Self {
        match error {
            keepbest_model::ClassifyError::Model(error) => error.into(),
            error => Self::of(Exit::Failed, &error),
        }
    }
}

impl From<keepbest_model::ImportError> for Failure {
    fn from(error: keepbest_model::ImportError) -> Self {
        use keepbest_model::ImportError;
        let exit = match error {
            ImportError::Model(error) => return error.into(),
            ImportError::Rules(_) => Exit::Usage,
            ImportError::Preprocess(ref error) if error.is_usage() => Exit::Usage,
            ImportError::NotForOnnx { .. } | ImportError::CheckNeedsOnnx => Exit::Usage,
            ImportError::NotFinite { .. } | ImportError::Disagrees { .. } => Exit::CheckFailed,
            _ => Exit::Failed,
        };
        let mut failure = Self::of(exit, &error).with_hint(error.hint());
        failure.causes.extend(error.differences());
        failure
    }
}

impl From<keepbest_train::TrainError> for Failure {
    fn from(error: keepbest_train::TrainError) -> Self {
        let error = match error {
            keepbest_train::TrainError::Model(error) => return error.into(),
            error => error,
        };
        let exit = if error.is_interrupted() {
            Exit::Interrupted
        } else if error.is_usage() {
            Exit::Usage
        } else {
            Exit::Failed
        };
        Self::of(exit, &error).with_hint(error.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error that repeats its source, as those of some libraries do.
    #[derive(Debug, thiserror::Error)]
    #[error("cannot open it: {source}")]
    struct Repeats {
        source: std::io::Error,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("nothing was read")]
    struct Outer {
        source: Repeats,
    }

    #[test]
    fn a_cause_is_told_once() {
        let source = std::io::Error::other("the disk is gone");
        let error = Outer {
            source: Repeats { source },
        };
        let failure = Failure::of(Exit::Failed, &error);
        assert_eq!(failure.message, "nothing was read");
        assert_eq!(failure.causes, ["cannot open it: the disk is gone"]);
    }
}

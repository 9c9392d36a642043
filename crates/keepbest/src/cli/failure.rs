//! How a command ends when it does not end well.

use std::error::Error;

use keepbest_core::text::shell_word;

use crate::cli::terminal::{Paint, Terminal};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
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
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    pub causes: Vec<String>,
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with its own words.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// With something to try.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into().or(self.hint);
        self
    }

    /// From an error and its sources. What was told is not told again: libraries differ in whether an error repeats its source.
    pub fn of(exit: Exit, error: &(dyn Error + 'static)) -> Self {
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
    pub fn print(&self, terminal: &Terminal) {
        self.tell("error:", terminal.error_style().bad, terminal);
    }

    /// Writes it to stderr as what did not keep the command from being done.
    pub fn warn(&self, terminal: &Terminal) {
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

impl From<keepbest_train::ModelRefError> for Failure {
    fn from(error: keepbest_train::ModelRefError) -> Self {
        let exit = match error {
            keepbest_train::ModelRefError::Which { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        Self::of(exit, &error).with_hint(error.hint())
    }
}

impl From<keepbest_keeper::MaintainError> for Failure {
    fn from(error: keepbest_keeper::MaintainError) -> Self {
        use keepbest_keeper::MaintainError;
        use keepbest_store::OpenError;
        let (exit, hint) = match &error {
            MaintainError::Open(OpenError::Lock(_)) => (
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

/// Of a run whose journal is damaged or gone: who tells more.
pub fn fsck_hint(error: &keepbest_store::OpenError) -> Option<String> {
    use keepbest_store::{JournalError, OpenError};
    let run = match error {
        OpenError::NoJournal { path, .. } => path,
        OpenError::Journal(JournalError::Damaged { path, .. }) => path.parent()?,
        _ => return None,
    };
    Some(format!("keepbest fsck {}", shell_word(run)))
}

impl From<keepbest_train::RunFilesError> for Failure {
    fn from(error: keepbest_train::RunFilesError) -> Self {
        use keepbest_train::RunFilesError;
        match error {
            RunFilesError::Archive(error) => error.into(),
            RunFilesError::Forgotten(found) => {
                Self::of(Exit::CheckFailed, &found).with_hint(found.hint())
            }
            RunFilesError::Open(error) => {
                Self::of(Exit::Failed, &error).with_hint(fsck_hint(&error))
            }
            error => Self::of(Exit::Failed, &error),
        }
    }
}

impl From<keepbest_train::ModelError> for Failure {
    fn from(error: keepbest_train::ModelError) -> Self {
        let exit = match &error {
            keepbest_train::ModelError::NeedsNetwork { .. }
            | keepbest_train::ModelError::OtherNetwork { .. }
            | keepbest_train::ModelError::NoKeys { .. }
            | keepbest_train::ModelError::Architecture(_) => Exit::Usage,
            // A file that was made to attack: the check that every file goes through does not hold.
            keepbest_train::ModelError::Pth { source, .. }
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

impl From<keepbest_train::EvaluateError> for Failure {
    fn from(error: keepbest_train::EvaluateError) -> Self {
        Self::of(Exit::Failed, &error)
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

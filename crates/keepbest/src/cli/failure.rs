//! How a command ends when it does not end well.

use std::error::Error;

use crate::cli::terminal::Terminal;

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

    /// From an error and its sources.
    pub fn of(exit: Exit, error: &(dyn Error + 'static)) -> Self {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        Self {
            exit,
            message: error.to_string(),
            causes,
            hint: None,
        }
    }

    /// Writes it to stderr.
    pub fn print(&self, terminal: &Terminal) {
        self.tell("error:", terminal.error_style().bad, terminal);
    }

    /// Writes it to stderr as what did not keep the command from being done.
    pub fn warn(&self, terminal: &Terminal) {
        self.tell("warning:", terminal.error_style().warn, terminal);
    }

    fn tell(&self, word: &str, colour: anstyle::Style, terminal: &Terminal) {
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
        use keepbest_store::OpenError;
        let hint = match &error {
            keepbest_keeper::MaintainError::Open(OpenError::Lock(_)) => {
                Some("a run in training prunes itself; wait for it to end".to_owned())
            }
            _ => None,
        };
        Self::of(Exit::Failed, &error).with_hint(hint)
    }
}

impl From<keepbest_train::RunFilesError> for Failure {
    fn from(error: keepbest_train::RunFilesError) -> Self {
        match error {
            keepbest_train::RunFilesError::Archive(error) => error.into(),
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
                if matches!(**source, keepbest_formats::pth::PthError::Dangerous { .. }) =>
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
        let exit = if error.is_usage() {
            Exit::Usage
        } else {
            Exit::Failed
        };
        Self::of(exit, &error).with_hint(error.hint())
    }
}

//! The forms that best can be kept in as well.

use std::path::{Path, PathBuf};

use keepbest_store::RunState;
use serde::{Deserialize, Serialize};

/// A form that best is kept in as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CopyFormat {
    /// `best.pth`: the state dict as `torch.load(weights_only=True)` takes it.
    Pth,
}

impl CopyFormat {
    /// The file's name in the run directory.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Pth => "best.pth",
        }
    }

    /// The file's path.
    #[must_use]
    pub fn path(self, run: &Path) -> PathBuf {
        run.join(self.file_name())
    }

    /// The name for a file that holds better weights than the best that is left.
    pub(crate) fn aside(self) -> &'static str {
        match self {
            Self::Pth => "best.lost.pth",
        }
    }

    /// Whether a run owns a file of this name: best's other form where the run, by its `state`, keeps one, and what was lost of it.
    pub(crate) fn owns(name: &str, state: impl FnOnce() -> Option<RunState>) -> bool {
        let lost = Self::Pth.aside().strip_suffix(".pth").unwrap_or_default();
        name.starts_with(lost)
            || name == Self::Pth.file_name()
                && state().is_some_and(|state| Self::of(&state).is_some())
    }

    /// The form that a run keeps, as its journal says.
    pub(crate) fn of(state: &RunState) -> Option<Self> {
        let also = &state.started.as_ref()?.settings["also"];
        // A form of a later version is not this one's to mend.
        serde_json::from_value(also.clone()).ok()
    }
}

//! The point at which training goes on.

use std::path::{Path, PathBuf};

use keepbest_formats::model_file::ModelFile;
use keepbest_store::{OpenError, RunState};

use crate::open::{is_unread, open_model};

/// The point at which training goes on.
#[derive(Debug)]
#[non_exhaustive]
pub struct ResumePoint {
    /// The checkpoint; it is not removed while this run goes on.
    pub path: PathBuf,
    /// Optimizer steps behind it.
    pub step: u64,
    /// Epochs behind it.
    pub epoch: u64,
    /// The model, verified: weights, optimizer state, trainer state.
    pub model: ModelFile,
}

/// The newest full model that verifies. One that cannot be read is not passed over for an older one.
pub(crate) fn resume_point(state: &RunState, run: &Path) -> Result<Option<ResumePoint>, OpenError> {
    for checkpoint in state.resume_points() {
        let path = checkpoint.saved.checkpoint.path(run);
        let model = match open_model(&path) {
            Ok(model) => model,
            Err(error) if is_unread(&error) && path.symlink_metadata().is_ok() => {
                return Err(OpenError::unread(&path)(error));
            }
            Err(_) => continue,
        };
        if let Some(metadata) = &model.metadata {
            return Ok(Some(ResumePoint {
                step: metadata.step,
                epoch: metadata.epoch,
                path,
                model,
            }));
        }
    }
    Ok(None)
}

//! What a model was made of, as it is now: the model it starts from and its images. What `keepbest reproduce` looks at before it
//! trains.

use std::fmt;
use std::path::PathBuf;

use keepbest_core::WeightsDigest;

use crate::error::ModelError;
use crate::images::{ChangedSplit, ImageSource, MeasureError, RecordedImages};
use crate::model::Model;
use crate::place::NotThere;
use crate::run_files::{FileAtHand, RunFilesError};
use crate::watch::Watch;

/// Something that a model was made of and that is no longer what it was. As text it says how it differs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ChangedOrigin {
    /// The model it starts from.
    Parent {
        /// The place where that lies.
        path: PathBuf,
        /// The weights that are there.
        found: WeightsDigest,
        /// The recorded ones.
        recorded: WeightsDigest,
    },
    /// The images of a split.
    Split(ChangedSplit),
}

impl ChangedOrigin {
    /// What differs, in words: `the val split`.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Parent { .. } => "the model it starts from".into(),
            Self::Split(split) => format!("the {} split", split.name),
        }
    }
}

impl fmt::Display for ChangedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parent {
                path,
                found,
                recorded,
            } => write!(
                f,
                "{} holds {found}, recorded was {recorded}",
                path.display()
            ),
            Self::Split(split) => f.write_str(&split.words()),
        }
    }
}

/// Why what a model was made of could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// The model it starts from is gone.
    #[error(transparent)]
    ParentNotThere(NotThere),
    /// The model it starts from cannot be opened.
    #[error(transparent)]
    Parent(#[from] ModelError),
    /// The model it starts from is of a run whose files cannot be read.
    #[error(transparent)]
    ParentFiles(#[from] RunFilesError),
    /// The images are gone, or cannot be read.
    #[error(transparent)]
    Measure(#[from] MeasureError),
}

impl OriginError {
    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::ParentNotThere(_) => Some("bring the model back that it starts from".into()),
            Self::Parent(error) => error.hint(),
            Self::ParentFiles(error) => error.hint(),
            Self::Measure(error) => error.hint(),
        }
    }
}

/// The first thing that a model was made of which is no longer what it was. `images` says where its images lie now.
///
/// # Errors
/// [`OriginError`]; [`MeasureError::NotRecorded`] of a model that does not say what it was made of.
pub fn changed_origin(
    model: &Model,
    images: &ImageSource,
    watch: Watch<'_>,
) -> Result<Option<ChangedOrigin>, OriginError> {
    if let Some(parent) = &model.recorded()?.parent {
        let path = parent
            .locate(&model.path)
            .map_err(OriginError::ParentNotThere)?;
        let found = FileAtHand::at(&path)?.open_trained()?.file.weights_digest();
        if found != parent.digest {
            return Ok(Some(ChangedOrigin::Parent {
                path,
                found,
                recorded: parent.digest,
            }));
        }
    }
    let images = RecordedImages::open(model, images, watch)?;
    let changed = images.changed_split(&["train", "val", "test"])?;
    Ok(changed.map(ChangedOrigin::Split))
}

//! The layouts of data sets on disk, each with what it says of itself.

use std::path::Path;

use super::files::Unreadable;
use super::tree::{Folder, Tree};
use crate::{DataBundle, DataError, Mirrored, Watch};

/// A layout of data sets on disk. The bundle that it opens records its name and what it says of mirror images.
pub(crate) trait Reader: Sync {
    /// The name of the layout, as [`DataBundle::kind`] has it.
    fn kind(&self) -> &'static str;

    /// The files that it reads, in words.
    fn accepts(&self) -> Accepts;

    /// Whether a mirror image shows the same class, as far as the layout alone tells: of one that can hold any images,
    /// [`Mirrored::Unknown`]. Then names of classes and images are looked at.
    fn mirrored(&self) -> Mirrored;

    /// Opens the data set of a source; `None` when the source is not laid out in this way.
    fn open(&self, source: &Source<'_>) -> Result<Option<DataBundle>, DataError>;
}

/// The files that a reader takes, in words.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Accepts {
    /// A folder ..., such as "with IDX files".
    Folder(&'static str),
    /// A file, such as "a NumPy .npz".
    File(&'static str),
}

/// A file or folder that may hold a data set.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub path: &'a Path,
    /// The folder with all that lies below it, where that was read, and the tree that it is in.
    pub tree: Option<(&'a Tree, &'a Folder)>,
    pub unreadable: Unreadable,
    pub watch: Watch<'a>,
}

impl Source<'_> {
    /// Whether it is a file with one of these extensions, in any case.
    pub(crate) fn has_extension(&self, extensions: &[&str]) -> bool {
        let own = self.path.extension().and_then(|own| own.to_str());
        let is_one =
            own.is_some_and(|own| extensions.iter().any(|one| one.eq_ignore_ascii_case(own)));
        is_one && !self.path.is_dir()
    }
}

/// Opens a source with one reader, and records the reader.
pub(crate) fn open_as(
    reader: &dyn Reader,
    source: &Source<'_>,
) -> Result<Option<DataBundle>, DataError> {
    let bundle = reader.open(source)?;
    Ok(bundle.map(|bundle| recorded(reader, bundle)))
}

/// A bundle that says which reader it is from.
pub(crate) fn recorded(reader: &dyn Reader, bundle: DataBundle) -> DataBundle {
    DataBundle {
        kind: reader.kind(),
        layout_mirrored: reader.mirrored(),
        ..bundle
    }
}

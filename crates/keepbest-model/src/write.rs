//! Files that verbs write, with the guarantees of the store: whole or not at all, read back, never over another unless told to.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use keepbest_formats::model_file::{ModelFile, ModelImage};
use keepbest_store::{BoxError, CommitError};

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// There is one of that name.
    #[error("{path} exists already", path = path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It is what a run keeps: the run would be damaged, and its best may be lost.
    #[error("{path} is a file of the run {run}", path = path.display(), run = run.display())]
    OwnFile {
        /// The file.
        path: PathBuf,
        /// The run.
        run: PathBuf,
    },
    /// Its name says that it is something else than a page.
    #[error("{path} would be a page, in HTML: its name should end with .html", path = path.display())]
    NoPage {
        /// The file.
        path: PathBuf,
    },
    /// The folder it is to lie in cannot be made.
    #[error("cannot write {path}", path = path.display())]
    Folder {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It cannot be written, or does not read back as written.
    #[error(transparent)]
    Commit(CommitError),
}

impl WriteError {
    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some("--force replaces it".into()),
            Self::OwnFile { .. } => {
                Some("name another file: what a run keeps is not written over".into())
            }
            _ => None,
        }
    }
}

/// Writes a file of `length` bytes; `verify` reads the staged file before it gets its name.
///
/// # Errors
/// [`WriteError`].
pub fn write(
    to: &Path,
    force: bool,
    length: u64,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    verify: impl FnOnce(&Path) -> Result<(), BoxError> + Send,
) -> Result<(), WriteError> {
    refuse_own(to)?;
    keepbest_store::write_file(to, force, length, write, verify).map_err(|error| match error {
        CommitError::Io(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
            WriteError::Exists { path: to.into() }
        }
        error => WriteError::Commit(error),
    })
}

/// Refuses what is a run's own, whatever else may be replaced.
fn refuse_own(to: &Path) -> Result<(), WriteError> {
    match keepbest_keeper::run_of_own_file(to) {
        Some(run) => Err(WriteError::OwnFile {
            path: to.into(),
            run,
        }),
        None => Ok(()),
    }
}

/// Refuses a page by a name that says it is something else, such as `page.pdf`.
///
/// # Errors
/// [`WriteError::NoPage`].
pub fn refuse_no_page(to: &Path) -> Result<(), WriteError> {
    let ending = to.extension().map(|ending| ending.to_ascii_lowercase());
    match ending.is_some_and(|ending| ending != "html" && ending != "htm") {
        true => Err(WriteError::NoPage { path: to.into() }),
        false => Ok(()),
    }
}

/// Refuses a file that is there, unless it may be replaced, and a run's own: for what takes a while before it writes.
///
/// # Errors
/// [`WriteError::Exists`] and [`WriteError::OwnFile`].
pub fn refuse_existing(to: &Path, force: bool) -> Result<(), WriteError> {
    refuse_own(to)?;
    match !force && to.symlink_metadata().is_ok() {
        true => Err(WriteError::Exists { path: to.into() }),
        false => Ok(()),
    }
}

/// Writes a small file, and makes the folders it lies in where they are missing.
///
/// # Errors
/// [`WriteError`].
pub fn write_bytes(to: &Path, force: bool, content: &[u8]) -> Result<(), WriteError> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).map_err(|source| WriteError::Folder {
            path: to.into(),
            source,
        })?;
    }
    write(
        to,
        force,
        content.len() as u64,
        |out| out.write_all(content),
        |staged| match std::fs::read(staged)? == content {
            true => Ok(()),
            false => Err("it does not read back as written".into()),
        },
    )
}

/// Writes a full model: what is on disk is opened again and must have the image's seal.
///
/// # Errors
/// [`WriteError`].
pub fn write_model(to: &Path, force: bool, image: &ModelImage) -> Result<(), WriteError> {
    write(
        to,
        force,
        image.total_len(),
        |mut out| image.write_to(&mut out),
        |staged| match ModelFile::open(staged)?.seal.as_ref() == Some(image.seal()) {
            true => Ok(()),
            false => Err("it holds other weights than were written".into()),
        },
    )
}

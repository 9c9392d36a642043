//! A run in one line, to be kept elsewhere: what `keepbest attest` gives.

use std::path::{Path, PathBuf};

use keepbest_core::text::shell_word;
use keepbest_formats::model_file::{ModelFile, OpenError};
use keepbest_keeper::{Contradiction, audit_file, audit_journal};
use keepbest_store::{Attestation, LockError, RefName, RunReader};

use crate::run_files::{OpenRunError, open_run};

/// Why a run cannot be attested.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// It cannot be read.
    #[error(transparent)]
    Run(#[from] OpenRunError),
    /// Whether it is in training cannot be told.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It is in training.
    #[error("{run} is in training: it changes meanwhile", run = run.display())]
    Training {
        /// The run.
        run: PathBuf,
    },
    /// Its best cannot be read.
    #[error(transparent)]
    Best(#[from] OpenError),
    /// What it holds does not go together: that is not to be held to later.
    #[error("{run} contradicts itself", run = run.display())]
    Contradicts {
        /// The run.
        run: PathBuf,
        /// What does not go together.
        found: Vec<Contradiction>,
    },
    /// Its files cannot be listed.
    #[error(transparent)]
    Store(#[from] keepbest_store::OpenError),
    /// One of its files cannot be read.
    #[error(transparent)]
    Io(#[from] keepbest_store::IoError),
}

impl AttestError {
    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Run(error) => Some(error.hint()),
            Self::Contradicts { run, .. } => {
                Some(format!("keepbest verify {} tells more", shell_word(run)))
            }
            _ => None,
        }
    }
}

/// The attestation of a run that is not in training and does not contradict itself.
///
/// # Errors
/// [`AttestError`].
pub fn attest(run: &Path) -> Result<Attestation, AttestError> {
    let view = open_run(run)?;
    if view.active_writer()?.is_some() {
        return Err(AttestError::Training { run: run.into() });
    }
    let mut found = audit_journal(&view);
    let mut best = None;
    if let (Some(record), Some(target)) = (view.best(), view.state().refs.get(&RefName::BEST)) {
        let file = ModelFile::open(&record.path)?;
        if let Some(known) = view.state().checkpoints.get(&target.checkpoint) {
            found.extend(audit_file(&view, &known.saved, &file));
        }
        best = file.seal.map(|seal| seal.file_digest);
    }
    if !found.is_empty() {
        return Err(AttestError::Contradicts {
            run: run.into(),
            found,
        });
    }
    Ok(Attestation::of(&RunReader::open(run)?, best)?)
}

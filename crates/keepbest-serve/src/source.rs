//! A model as it was named: its name in addresses, and what it means.

use std::path::Path;

use keepbest_keeper::Selector;
use keepbest_model::{ModelPlace, find_model};

use crate::error::StartError;

/// A model to serve, found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelSource {
    /// Its name in addresses and replies.
    pub name: String,
    /// Where it is.
    pub place: ModelPlace,
}

impl ModelSource {
    /// Reads `MODEL` or `NAME=MODEL`. Without a name, a run has its own, with what follows `@`; a file its own without ending.
    ///
    /// # Errors
    /// When nothing is there, or the name cannot stand in an address.
    pub fn find(text: &str, runs_dir: &Path) -> Result<Self, StartError> {
        let found = find_model(text, runs_dir);
        let (name, place) = match (found, text.split_once('=')) {
            (Ok(place), _) => (name_of(&place), place),
            (Err(_), Some((name, reference))) => {
                (name.to_owned(), find_model(reference, runs_dir)?)
            }
            (Err(error), None) => return Err(error.into()),
        };
        if name.is_empty()
            || name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control())
        {
            return Err(StartError::Name { name });
        }
        Ok(Self { name, place })
    }

    /// The best of a run.
    pub(crate) fn of_run(run: &Path) -> Self {
        let place = ModelPlace::Run {
            run: run.to_owned(),
            which: Selector::BEST,
        };
        Self {
            name: name_of(&place),
            place,
        }
    }
}

fn name_of(place: &ModelPlace) -> String {
    let last = |path: &Path| {
        // `.` and `..` have no last part, the folder that they mean has.
        let real = path.canonicalize();
        let path = real.as_deref().unwrap_or(path);
        path.to_owned()
    };
    match place {
        ModelPlace::File(path) => {
            let stem = path.file_stem().unwrap_or(path.as_os_str());
            stem.to_string_lossy().into_owned()
        }
        ModelPlace::Run { run, which } => {
            let run = last(run);
            let name = run.file_name().unwrap_or(run.as_os_str());
            match which {
                which if *which == Selector::BEST => name.to_string_lossy().into_owned(),
                which => format!("{}@{which}", name.to_string_lossy()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

    use super::*;

    #[test]
    fn names_follow_from_what_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("a=b");
        std::fs::create_dir(&run).unwrap();
        std::fs::write(run.join("run.toml"), "").unwrap();
        std::fs::write(dir.path().join("m.safetensors"), "").unwrap();
        let file = dir.path().join("m.safetensors").display().to_string();
        let name = |text: &str| ModelSource::find(text, dir.path()).map(|source| source.name);
        assert_eq!(name("a=b").unwrap(), "a=b");
        assert_eq!(name("a=b@last").unwrap(), "a=b@last");
        assert_eq!(name("a=b@step:7").unwrap(), "a=b@step:7");
        assert_eq!(name("x=a=b").unwrap(), "x");
        assert_eq!(name(&file).unwrap(), "m");
        assert_eq!(name(&format!("x={file}")).unwrap(), "x");
        assert!(matches!(name("none"), Err(StartError::Reference(_))));
        assert!(matches!(name("a b=a=b"), Err(StartError::Name { .. })));
        assert!(matches!(name("=a=b"), Err(StartError::Name { .. })));
    }
}

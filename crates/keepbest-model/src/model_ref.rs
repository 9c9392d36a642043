//! The MODEL grammar: a file, a run, `run@best`, `run@best:val/loss`, `run@last`, `run@step:1200`, `run@epoch:7`.

use std::path::{Path, PathBuf};

use keepbest_core::text::shell_word;
use keepbest_keeper::Selector;
use keepbest_store::{RefName, names_in};

use crate::examine::{ExamineError, is_dir, is_file};
use crate::foreign::is_model_folder;
use crate::place::archived_at;
use keepbest_core::suggest::nearest;

/// The folder that holds the runs, when none is given.
pub const DEFAULT_RUNS_DIR: &str = "runs";

/// A MODEL, found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelPlace {
    /// A file that was named itself, or a folder with the weights of one model in several files.
    File(PathBuf),
    /// A model of a run.
    Run {
        /// The run's directory.
        run: PathBuf,
        /// Which of its models.
        which: Selector,
    },
}

/// Why a MODEL was not understood or not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelRefError {
    /// What follows `@` is nothing that a run has.
    #[error("{found:?} names no model of a run")]
    Which {
        /// What follows `@`.
        found: String,
    },
    /// Nothing is there.
    #[error("no model or run {found:?}")]
    NotFound {
        /// As given.
        found: String,
        /// The folder in which runs were looked for.
        runs_dir: PathBuf,
        /// A run of a similar name.
        nearest: Option<String>,
    },
    /// Whether anything is there cannot be told.
    #[error(transparent)]
    Examine(#[from] ExamineError),
    /// A folder that is no run.
    #[error("{path} is a folder but no run", path = path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// A file where a run is meant.
    #[error("{path} is a file, not a run", path = path.display())]
    NotARunButAFile {
        /// The file.
        path: PathBuf,
        /// The run that it is a file of.
        run: Option<PathBuf>,
    },
    /// A model of a run that is not the one a run goes on from.
    #[error("{path} is not what its run goes on from", path = path.display())]
    NotLast {
        /// The file.
        path: PathBuf,
        /// Its run.
        run: PathBuf,
    },
    /// A file cannot have a model picked from it.
    #[error("{path} is a file; @{which} picks from a run", path = path.display())]
    FileWithWhich {
        /// The file.
        path: PathBuf,
        /// What was picked.
        which: Selector,
    },
}

impl ModelRefError {
    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Which { .. } => {
                Some("a run has @best, @best:METRIC, @last, @step:N and @epoch:N".into())
            }
            Self::NotFound {
                nearest: Some(nearest),
                ..
            } => Some(format!("did you mean {nearest}?")),
            Self::NotFound { runs_dir, .. } => Some(format!(
                "`keepbest list --runs-dir {}` lists the runs there are",
                shell_word(runs_dir)
            )),
            Self::NotARunButAFile { run: Some(run), .. } => {
                Some(format!("its run is {}", shell_word(run)))
            }
            Self::NotLast { path, run } => Some(format!(
                "`--resume {}` goes on from last.safetensors; `--from {}` starts a new run from these weights",
                shell_word(run),
                shell_word(path)
            )),
            _ => None,
        }
    }
}

/// Finds what a MODEL means. A path comes before a run's name; a name is looked up in `runs_dir`.
///
/// # Errors
/// [`ModelRefError`].
pub fn find_model(text: &str, runs_dir: &Path) -> Result<ModelPlace, ModelRefError> {
    if is_file(Path::new(text))? {
        return Ok(ModelPlace::File(text.into()));
    }
    if let Some((run, which)) = archived_at(Path::new(text)) {
        return Ok(ModelPlace::Run { run, which });
    }
    let (place, which): (&str, Option<Selector>) = match text.rsplit_once('@') {
        // A folder whose name has an @ of its own.
        _ if is_dir(Path::new(text))? || is_run(&runs_dir.join(text))? => (text, None),
        Some((place, which)) => (
            place,
            Some(which.parse().map_err(|_| ModelRefError::Which {
                found: which.into(),
            })?),
        ),
        None => (text, None),
    };
    if let (true, Some(which)) = (is_file(Path::new(place))?, &which) {
        return Err(ModelRefError::FileWithWhich {
            path: place.into(),
            which: which.clone(),
        });
    }
    match find_run(place, runs_dir) {
        Ok(run) => Ok(ModelPlace::Run {
            run,
            which: which.unwrap_or_default(),
        }),
        // Weights in several files are a model as one file is.
        Err(ModelRefError::NotARun { path }) if which.is_none() && is_model_folder(&path) => {
            Ok(ModelPlace::File(path))
        }
        Err(error) => Err(error),
    }
}

fn is_run(path: &Path) -> Result<bool, ExamineError> {
    Ok(is_file(&path.join("run.toml"))? || is_file(&path.join("journal.jsonl"))?)
}

/// Finds a run's directory by its path or by its name in `runs_dir`.
///
/// # Errors
/// [`ModelRefError::NotFound`], [`ModelRefError::NotARun`] and [`ModelRefError::NotARunButAFile`]; [`ModelRefError::Examine`] where
/// it cannot be told.
pub fn find_run(text: &str, runs_dir: &Path) -> Result<PathBuf, ModelRefError> {
    let candidates = [PathBuf::from(text), runs_dir.join(text)];
    let candidates = candidates.each_ref().map(PathBuf::as_path);
    if let Some(run) = first(candidates, is_run)? {
        return Ok(run.into());
    }
    if let Some(path) = first(candidates, is_file)? {
        // A checkpoint lies one folder deeper.
        let folders = path.ancestors().skip(1).take(2);
        return Err(ModelRefError::NotARunButAFile {
            path: path.into(),
            run: first(folders, is_run)?.map(Into::into),
        });
    }
    if let Some(path) = first(candidates, is_dir)?.filter(|_| !text.is_empty()) {
        return Err(ModelRefError::NotARun { path: path.into() });
    }
    let names: Vec<String> = names_in(runs_dir)
        .unwrap_or_default()
        .into_iter()
        .filter(|name| is_run(&runs_dir.join(name)).unwrap_or(false))
        .filter_map(|name| name.into_string().ok())
        .collect();
    Err(ModelRefError::NotFound {
        found: text.into(),
        runs_dir: runs_dir.into(),
        nearest: nearest(text, names.iter().map(String::as_str)).map(Into::into),
    })
}

/// The first of some paths that is so.
fn first<'a>(
    paths: impl IntoIterator<Item = &'a Path>,
    is_so: impl Fn(&Path) -> Result<bool, ExamineError>,
) -> Result<Option<&'a Path>, ExamineError> {
    for path in paths {
        if is_so(path)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Finds the run to go on with: a run as for [`find_run`], or its resume point, `RUN/last.safetensors` or `RUN@last`.
///
/// # Errors
/// As of [`find_run`], and [`ModelRefError::NotLast`] for another model of a run.
pub fn find_resumable(text: &str, runs_dir: &Path) -> Result<PathBuf, ModelRefError> {
    match find_run(text, runs_dir) {
        Err(ModelRefError::NotARunButAFile {
            path,
            run: Some(run),
        }) => match path == RefName::LAST.path(&run) {
            true => Ok(run),
            // No other file of a run has weights to start from.
            false
                if path
                    .extension()
                    .is_none_or(|ending| ending != "safetensors") =>
            {
                let run = Some(run);
                Err(ModelRefError::NotARunButAFile { path, run })
            }
            false => Err(ModelRefError::NotLast { path, run }),
        },
        Err(error) => match text.strip_suffix("@last") {
            Some(run) => find_run(run, runs_dir),
            None => Err(error),
        },
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_runs_and_neither() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("runs");
        std::fs::create_dir_all(runs.join("simple-cnn-1")).unwrap();
        std::fs::write(runs.join("simple-cnn-1/run.toml"), "").unwrap();
        std::fs::create_dir_all(runs.join("empty")).unwrap();
        let file = dir.path().join("model.safetensors");
        std::fs::write(&file, "x").unwrap();
        let find = |text: &str| find_model(text, &runs);
        let run = runs.join("simple-cnn-1");

        assert_eq!(
            find(file.to_str().unwrap()).unwrap(),
            ModelPlace::File(file.clone())
        );
        assert_eq!(
            find("simple-cnn-1").unwrap(),
            ModelPlace::Run {
                run: run.clone(),
                which: Selector::BEST
            }
        );
        let by_path = format!("{}@epoch:3", run.display());
        assert_eq!(
            find(&by_path).unwrap(),
            ModelPlace::Run {
                run: run.clone(),
                which: Selector::Epoch(3)
            }
        );

        let error = find("simple-cnn-2").unwrap_err();
        assert_eq!(error.hint().unwrap(), "did you mean simple-cnn-1?");
        assert!(matches!(
            find("empty").unwrap_err(),
            ModelRefError::NotARun { .. }
        ));
        assert!(matches!(
            find("simple-cnn-1@worst").unwrap_err(),
            ModelRefError::Which { .. }
        ));
        let error = find(&format!("{}@best", file.display())).unwrap_err();
        assert!(matches!(error, ModelRefError::FileWithWhich { .. }));
        assert!(matches!(
            find("").unwrap_err(),
            ModelRefError::NotFound { .. }
        ));
    }

    #[test]
    fn a_run_goes_on_from_its_last() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("a@b");
        std::fs::create_dir_all(run.join("checkpoints")).unwrap();
        for file in [
            "run.toml",
            "last.safetensors",
            "best.safetensors",
            "checkpoints/1.safetensors",
        ] {
            std::fs::write(run.join(file), "").unwrap();
        }
        let find = |text: &str| find_resumable(text, dir.path());
        for text in ["a@b", "a@b@last", "a@b/last.safetensors"] {
            assert_eq!(find(text).unwrap(), run, "{text}");
        }
        for text in ["a@b/best.safetensors", "a@b/checkpoints/1.safetensors"] {
            let error = find(text).unwrap_err();
            assert!(matches!(error, ModelRefError::NotLast { .. }), "{error:?}");
        }
        let error = find_run("a@b/run.toml", dir.path()).unwrap_err();
        let hint = format!("its run is {}", run.display());
        assert_eq!(error.hint(), Some(hint));
        let found = find_model("a@b", dir.path()).unwrap();
        let which = Selector::BEST;
        assert_eq!(found, ModelPlace::Run { run, which });
    }
}

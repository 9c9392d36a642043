//! The places where what a run was made of lay, so that it is found from another directory, and after run and data have moved together.

use std::path::{Component, Path, PathBuf};

use keepbest_keeper::{RunView, Selector};
use keepbest_store::{CHECKPOINTS_DIR, CheckpointName, Event};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::examine::examine;

/// A place, beside what the user wrote, which counts from the directory that he was in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Place {
    /// The absolute path, the home directory as `~`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absolute: Option<String>,
    /// The path from the run's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_run: Option<String>,
}

/// Images, or a model, that are at none of the places where they may lie.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{written} is not where it was: {}", looked_words(looked, closed))]
pub struct NotThere {
    /// As the user wrote it.
    pub written: String,
    /// The places where it was looked for, and nothing is.
    pub looked: Vec<String>,
    /// The places where it may be, and what the system says to whoever looks.
    pub closed: Vec<String>,
}

fn looked_words(looked: &[String], closed: &[String]) -> String {
    let parts = [("nothing is at", looked), ("cannot examine", closed)];
    let parts = parts.iter().filter(|(_, paths)| !paths.is_empty());
    let parts = parts.map(|(what, paths)| format!("{what} {}", paths.join(", ")));
    parts.collect::<Vec<_>>().join("; ")
}

impl NotThere {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        "say where it lies now: --data".into()
    }
}

/// The places of what a session of training was made of, as the journal has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// The images; the folder of a named set.
    #[serde(default)]
    pub data: Place,
    /// The model it started from.
    #[serde(default)]
    pub from: Place,
}

/// The key of [`Places`] in a session of the journal.
pub const PLACES: &str = "places";

impl Place {
    /// The place of `path`, for a run whose directory is or will be `run`.
    #[must_use]
    pub fn of(path: &Path, run: Option<&Path>) -> Self {
        let Some(absolute) = absolute(path) else {
            return Self::default();
        };
        let home = home();
        let is_private = |path: &Path| home.as_ref().is_some_and(|home| path.starts_with(home));
        let from_run = run.and_then(self::absolute).and_then(|run| {
            // The way into a home from outside would name it.
            let private = is_private(&absolute) && !is_private(&run);
            let from = relative(&run, &absolute).filter(|_| !private)?;
            from.to_str().map(Into::into)
        });
        Self {
            absolute: home_hidden(&absolute, home.as_deref()),
            from_run,
        }
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The first place at which something is now: where it was said to be, absolutely and then as seen from the run, then as it was
/// written. What earlier versions recorded is only what was written: that is tried from the directories around the run, too.
///
/// # Errors
/// [`NotThere`], which says where it was looked for.
pub fn find(written: &str, places: &[&Place], run: Option<&Path>) -> Result<PathBuf, NotThere> {
    let run = run.and_then(absolute);
    let mut candidates: Vec<PathBuf> = Vec::new();
    for place in places {
        candidates.extend(place.absolute.as_deref().map(|path| shown(path, home())));
        let from_run = run.as_ref().zip(place.from_run.as_ref());
        candidates.extend(from_run.map(|(run, from)| run.join(from)));
    }
    let known = !candidates.is_empty();
    candidates.push(PathBuf::from(written));
    if !known && Path::new(written).is_relative() {
        let around = run.iter().flat_map(|run| run.ancestors().skip(1));
        candidates.extend(around.map(|folder| folder.join(written)));
    }
    let (mut looked, mut closed) = (Vec::new(), Vec::new());
    for path in candidates {
        let found = examine(&path);
        // Of an archived checkpoint the run knows.
        if matches!(found, Ok(Some(_))) || archived_at(&path).is_some() {
            // What was written is what the user knows.
            return Ok(match is_same(&path, Path::new(written)) {
                true => written.into(),
                false => tidy(&path),
            });
        }
        let shown = absolute(&path).unwrap_or(path).display().to_string();
        let (list, shown) = match found {
            Err(error) => (&mut closed, format!("{shown} ({})", error.source)),
            Ok(_) => (&mut looked, shown),
        };
        // The nearest say enough.
        if !list.contains(&shown) && list.len() < 4 {
            list.push(shown);
        }
    }
    Err(NotThere {
        written: written.into(),
        looked,
        closed,
    })
}

/// The places of things in the latest session of a run; nothing for runs of earlier versions.
#[must_use]
pub fn recorded(run: &Path) -> Places {
    let Ok(view) = RunView::open(run) else {
        return Places::default();
    };
    let sessions = view.entries().iter().rev().filter_map(|entry| {
        let session = match &entry.event {
            Event::Started(event) => event.session.as_ref(),
            Event::Resumed(event) => event.session.as_ref(),
            _ => None,
        };
        session?.get(PLACES).cloned()
    });
    let mut read = sessions.filter_map(|places: Value| serde_json::from_value(places).ok());
    read.next().unwrap_or_default()
}

/// Whether two paths that are there lead to one place.
#[must_use]
pub fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A path without `..`, where it can be told what that means.
fn tidy(path: &Path) -> PathBuf {
    absolute(path).unwrap_or_else(|| path.to_owned())
}

/// The absolute path, without `.` and `..`. Its last part stays what it is, also when it is a link; what is not there yet is taken as
/// written.
#[must_use]
pub fn absolute(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Some(resolved(parent).join(name)),
        _ => path.canonicalize().ok(),
    }
}

/// The path with its links resolved as far as it is there.
fn resolved(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(path), ..) => path,
        (Err(_), Some(parent), Some(name)) => resolved(parent).join(name),
        (Err(_), ..) => path.to_owned(),
    }
}

/// The way from one absolute folder to an absolute path.
fn relative(from: &Path, to: &Path) -> Option<PathBuf> {
    let is_plain = |path: &Path| {
        path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
    };
    if !is_plain(from) || !is_plain(to) {
        return None;
    }
    let (from, to): (Vec<_>, Vec<_>) = (from.components().collect(), to.components().collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(Component::ParentDir, from.len() - common);
    Some(up.chain(to[common..].iter().copied()).collect())
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

/// As text, with `~` for the home directory: who it is of need not be told to whoever gets the model.
fn home_hidden(path: &Path, home: Option<&Path>) -> Option<String> {
    let home = home.filter(|home| home.is_absolute() && home.components().count() > 1);
    match home.and_then(|home| path.strip_prefix(home).ok()) {
        Some(rest) => Some(format!("~/{}", rest.to_str()?)),
        None => path.to_str().map(Into::into),
    }
}

/// The path that a text of [`home_hidden`] means here.
fn shown(text: &str, home: Option<PathBuf>) -> PathBuf {
    match (text.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => text.into(),
    }
}

/// The run, and the checkpoint of it, that lay at a path before it was archived.
pub(crate) fn archived_at(path: &Path) -> Option<(PathBuf, Selector)> {
    let checkpoint: CheckpointName = path.file_name()?.to_str()?.parse().ok()?;
    let folder = path
        .parent()
        .filter(|folder| folder.ends_with(CHECKPOINTS_DIR))?;
    let run = match folder.parent()? {
        here if here.as_os_str().is_empty() => Path::new("."),
        run => run,
    };
    let view = RunView::open(run).ok()?;
    let which = Selector::Step(view.state().checkpoints.get(&checkpoint)?.saved.step);
    let is_it = view.state().archived.contains_key(&checkpoint) && view.is_archived(&which);
    is_it.then(|| (run.to_owned(), which))
}

/// The run that a file is in, as it is named with it.
pub(crate) fn run_named_with(path: &Path) -> Option<&Path> {
    let mut folders = path.ancestors().skip(1).take(2);
    let run = folders.find(|folder| folder.join("run.toml").is_file())?;
    Some(match run.as_os_str().is_empty() {
        true => Path::new("."),
        false => run,
    })
}

/// The run that a model's file is in, or that is at `path` itself.
pub(crate) fn run_around(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    let mut folders = path.ancestors().take(3);
    let run = folders.find(|folder| folder.join("run.toml").is_file())?;
    Some(run.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_from_the_run_and_do_not_name_the_user() {
        let way = |from: &str, to: &str| relative(Path::new(from), Path::new(to));
        assert_eq!(way("/a/runs/one", "/a/data"), Some("../../data".into()));
        assert_eq!(way("/a", "/a/b/c"), Some("b/c".into()));
        assert_eq!(way("/a/b", "/c"), Some("../../c".into()));
        assert_eq!(way("a", "/c"), None);
        let home = Path::new("/home/ann");
        let hidden = |path: &str| home_hidden(Path::new(path), Some(home)).unwrap();
        assert_eq!(hidden("/home/ann/photos"), "~/photos");
        assert_eq!(hidden("/home/anna/photos"), "/home/anna/photos");
        assert_eq!(shown("~/photos", Some(home.into())), home.join("photos"));
        assert_eq!(
            home_hidden(home, Some(Path::new("/"))).unwrap(),
            "/home/ann"
        );
    }

    #[test]
    fn what_moved_with_its_run_is_found_and_what_is_gone_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (old, new) = (dir.join("old"), dir.join("new"));
        std::fs::create_dir_all(old.join("runs/one")).unwrap();
        std::fs::create_dir_all(old.join("photos")).unwrap();
        let run = old.join("runs/one");
        let place = Place::of(&old.join("runs/../photos"), Some(&run));
        assert_eq!(place.from_run.as_deref(), Some("../../photos"));
        let found = |written: &str, place: &Place, run: &Path| find(written, &[place], Some(run));
        // From where nothing is called `photos`.
        assert_eq!(found("photos", &place, &run), Ok(old.join("photos")));
        std::fs::rename(&old, &new).unwrap();
        let run = new.join("runs/one");
        assert_eq!(found("photos", &place, &run), Ok(new.join("photos")));
        // A run of an earlier version has only what was written.
        let none = Place::default();
        assert_eq!(found("photos", &none, &run), Ok(new.join("photos")));
        std::fs::rename(new.join("photos"), new.join("gone")).unwrap();
        let error = found("photos", &place, &run).unwrap_err();
        assert_eq!(error.looked[0], old.join("photos").display().to_string());
        assert!(error.to_string().starts_with("photos is not where it was"));
    }
}

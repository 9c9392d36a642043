//! Which files are a run's own: what no other result is written over.

use std::path::{Path, PathBuf};

use keepbest_store::{
    ARCHIVES_DIR, CHECKPOINTS_DIR, CONFIG_FILE, DAMAGED_SUFFIX, JOURNAL_FILE, LOCK_FILE,
    MODEL_FILE, OUTCOMES_DIR, RefName, STAGED_PREFIX,
};

use crate::copy_format::CopyFormat;
use crate::view::RunView;

/// The run that a file is one of the own files of, whether it is there already or would be: its models and checkpoints, its journal and
/// settings. Not what anybody may keep in the directory of a run beside them, and not its page, which can be made again.
#[must_use]
pub fn run_of_own_file(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if is_run(folder) {
        return is_own(folder, name).then(|| folder.to_owned());
    }
    // By its real name: a link may lead into a run.
    let folder = folder.canonicalize().ok()?;
    let run = folder.parent()?;
    let inner = folder.file_name()?.to_str()?;
    let is_inner = [CHECKPOINTS_DIR, ARCHIVES_DIR, OUTCOMES_DIR].contains(&inner);
    (is_inner && is_run(run)).then(|| run.to_owned())
}

fn is_run(folder: &Path) -> bool {
    [CONFIG_FILE, JOURNAL_FILE]
        .iter()
        .any(|file| folder.join(file).is_file())
}

fn is_own(run: &Path, name: &str) -> bool {
    let is_model = name == RefName::LAST.file_name()
        || name.starts_with("best.") && name.ends_with(".safetensors");
    is_model
        || [CONFIG_FILE, JOURNAL_FILE, LOCK_FILE, MODEL_FILE].contains(&name)
        || name.starts_with(STAGED_PREFIX)
        || name.contains(DAMAGED_SUFFIX)
        || CopyFormat::owns(name, || {
            RunView::open(run).ok().map(|view| view.state().clone())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_run_are_its_own_and_others_beside_them_are_not() {
        let parent = tempfile::tempdir().unwrap();
        let run = parent.path().join("run");
        std::fs::create_dir_all(run.join("checkpoints")).unwrap();
        std::fs::write(run.join("run.toml"), "").unwrap();
        std::os::unix::fs::symlink(&run, parent.path().join("link")).unwrap();
        std::os::unix::fs::symlink(run.join("checkpoints"), parent.path().join("inner")).unwrap();
        let own = |path: &str| run_of_own_file(&parent.path().join(path)).is_some();
        for path in [
            "run/run.toml",
            "run/journal.jsonl",
            "run/best.safetensors",
            "run/best.val-loss.safetensors",
            "run/last.safetensors",
            "run/best.lost.pth",
            "run/journal.jsonl.damaged",
            "run/checkpoints/anything",
            "link/model.toml",
            "inner/x.safetensors",
        ] {
            assert!(own(path), "{path}");
        }
        for path in [
            "run/README.md",
            "run/report.html",
            "run/best.onnx",
            "run/plots/curve.svg",
            "best.safetensors",
        ] {
            assert!(!own(path), "{path}");
        }
    }
}

//! Making the directory of a new run.

use std::path::{Path, PathBuf};

use keepbest_keeper::{Keeper, KeeperConfig, store};
use keepbest_model::keep_model;

use super::error::TrainError;
use super::keeping::beginning;
use super::position::TrainerState;
use super::run::Run;
use super::setup::Setup;
use crate::run_name;

impl Run {
    /// Makes the run's directory.
    pub(super) fn create(
        setup: Setup,
        runs_dir: &Path,
        name: Option<&str>,
        preface: &str,
    ) -> Result<Self, TrainError> {
        let state = TrainerState::new(setup.config.epochs);
        let rates = setup.rates(state.epochs)?;
        let config = beginning(&setup)?;
        let text = setup.config.to_toml(preface);
        ensure_space(&setup, runs_dir)?;
        let (path, keeper) = match name {
            Some(name) => {
                let path = runs_dir.join(name);
                let keeper = Keeper::create(&path, &text, config).map_err(TrainError::Create)?;
                (path, keeper)
            }
            None => first_free(runs_dir, &setup.spec.name, &text, config)?,
        };
        if let Err(source) = keep_model(&setup.config.model, &setup.spec, &path) {
            // So that the name is free again.
            drop(keeper);
            if let Ok(run) = store::RunWriter::open(&path) {
                run.discard();
            }
            return Err(TrainError::KeepModel { source });
        }
        Ok(Self::begun(setup, path, keeper, state, rates))
    }
}

/// The directory of the first free name `network-1`, `network-2`, ...
fn first_free(
    runs_dir: &Path,
    network: &str,
    text: &str,
    config: KeeperConfig,
) -> Result<(PathBuf, Keeper), TrainError> {
    let mut number = 1u32;
    loop {
        let path = runs_dir.join(run_name::of_network(network, number));
        // A link that leads nowhere takes a name, too.
        if path.symlink_metadata().is_err() {
            match Keeper::create(&path, text, config.clone()) {
                // Another run took the name in this moment.
                Err(_) if path.join("run.toml").exists() => {}
                other => return Ok((path, other.map_err(TrainError::Create)?)),
            }
        }
        number += 1;
    }
}

/// Checks that each best, last and the next checkpoint, and best's other form twice, will fit, before the run's directory is made.
fn ensure_space(setup: &Setup, runs_dir: &Path) -> Result<(), TrainError> {
    let snapshot = setup.engine.snapshot();
    let params = snapshot.weights().total_bytes();
    let full = params + snapshot.training_state().total_bytes();
    let also = setup.config.also.map_or(0, |_| 2 * params);
    let existing = runs_dir
        .ancestors()
        .find(|dir| dir.is_dir())
        .unwrap_or(Path::new("."));
    Ok(store::ensure_space(
        &store::RealFileSystem,
        existing,
        (3 + setup.goals.others.len() as u64) * full + also,
    )?)
}

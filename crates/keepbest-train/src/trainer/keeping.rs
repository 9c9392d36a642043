//! What a run's keeper is told.

use keepbest_core::EarlyStoppingConfig;
use keepbest_formats::model_file::Attachments;
use keepbest_keeper::{CopyFormat, KeeperConfig, KeeperSummary, SaveFailure, SaveMode};
use keepbest_model::Environment;
use keepbest_model::place::PLACES;

use super::error::TrainError;
use super::setup::Setup;
use crate::changes::{CONFIG, FROM_IMAGES};
use crate::settings::{AlsoKind, SaveKind};

/// What the keeper needs to know about a run.
pub(super) fn keeper_config(setup: &Setup) -> Result<KeeperConfig, TrainError> {
    let mut session = to_json(&Environment::of(&*setup.engine));
    session[PLACES] = to_json(&setup.provenance.places());
    if let Some(carried) = &setup.carried {
        session["carried"] = to_json(carried);
    }
    if let Some(fitted) = &setup.fitted {
        session["time_budget"] = to_json(fitted);
    }
    Ok(KeeperConfig {
        early_stopping: EarlyStoppingConfig {
            patience: setup.config.patience,
            target: setup.config.target,
            max_seconds: setup.config.max_minutes.map(|minutes| 60.0 * minutes),
            ..EarlyStoppingConfig::default()
        },
        save: match setup.config.save {
            SaveKind::Params => SaveMode::Params,
            _ => SaveMode::Full,
        },
        also: setup.config.also.map(|AlsoKind::Pth| CopyFormat::Pth),
        retention: setup.goals.retention.clone(),
        constants: Attachments {
            model: Some(setup.spec.to_json()),
            classes: setup.data.classes.clone(),
            preprocessing: Some(to_json(&setup.data.preprocessing)),
            provenance: Some(to_json(&setup.provenance)),
            ..Attachments::default()
        },
        others: setup.goals.others.clone(),
        session: Some(session),
        ..KeeperConfig::new(setup.goals.objective.clone())
    })
}

/// What the keeper of a run that begins needs to know: its settings too, for whoever goes on with it.
pub(super) fn beginning(setup: &Setup) -> Result<KeeperConfig, TrainError> {
    let mut config = keeper_config(setup)?;
    if let Some(session) = &mut config.session {
        session[CONFIG] = to_json(&setup.config.to_settings().to_table());
        session[FROM_IMAGES] = to_json(&setup.from_images);
    }
    Ok(config)
}

/// What could not be saved, in words.
pub(super) fn in_words(failures: &[SaveFailure], kept: &KeeperSummary) -> Vec<String> {
    let saves = failures.iter().map(ToString::to_string);
    let also = kept.also.iter().zip(&kept.also_error);
    let also =
        also.map(|(path, error)| format!("{} is not in step with best: {error}", path.display()));
    saves.chain(also).collect()
}

pub(super) fn to_json(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("what a model file holds has string keys")
}

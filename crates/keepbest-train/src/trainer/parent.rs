//! The model that a run starts from.

use std::path::Path;

use keepbest_data::Identity;
use keepbest_nn::zoo;
use keepbest_nn::{CpuEngine, Engine as _, ParamTensor, Role};

use super::carry::{Carried, carry};
use super::error::TrainError;
use crate::architecture::own_model_file;
use crate::config::DEFAULT_MODEL;
use crate::model::Model;
use crate::model_ref::find_model;
use crate::provenance::SplitRecord;
use crate::run_files::FileAtHand;
use crate::seen::{Seen, SeenBefore};
use crate::settings::SettingsError;

/// The model that `from` names. `network` is that of a file with weights alone which does not say.
pub(super) fn open_parent(
    from: &str,
    runs_dir: &Path,
    network: Option<&str>,
) -> Result<Model, TrainError> {
    let file = FileAtHand::of(&find_model(from, runs_dir)?)?;
    let path = file.path();
    // Weights alone will do to start from: the network is named by `model`.
    let parent = match Model::open(path, None) {
        Err(crate::ModelError::NeedsNetwork { trained_as, .. }) => {
            let network = trained_as.as_deref().or(network).unwrap_or(DEFAULT_MODEL);
            Model::open(path, Some(network))?
        }
        other => other?,
    };
    parent.check_finite()?;
    Ok(parent)
}

/// The images that val and test have in common with what the parent and the models before it have seen, and what to say of that.
pub(super) fn seen_before(
    parent: &Model,
    before: &Seen,
    identity: &Identity,
    split: &SplitRecord,
) -> (Vec<SeenBefore>, Vec<String>) {
    let measured = ["val", "test"].into_iter().filter_map(|split| {
        let mut found = before.among(split, identity.digests.get(split)?);
        if split == "val" {
            // It was chosen by them, as this run will choose.
            found.chosen = 0;
        }
        found.any().then_some(found)
    });
    let measured: Vec<SeenBefore> = measured.collect();
    let path = parent.path.display();
    let mut notes: Vec<String> = measured
        .iter()
        .map(|found| {
            format!("{path}, or a model it comes from, was {found}: the score on them flatters")
        })
        .collect();
    let its_own = parent.provenance.as_ref().map(|of| of.data.split);
    if let Some(own) = its_own.filter(|own| own != split && !measured.is_empty()) {
        notes.push(format!(
            "to split these images as it did: --seed {} --val-fraction {} --test-fraction {}",
            own.seed, own.val_fraction, own.test_fraction
        ));
    }
    if before.unknown {
        notes.push(format!(
            "not all images that {path} comes from are recorded: whether val and test are new to it cannot be told"
        ));
    }
    (measured, notes)
}

/// What `model` must be for the network of a model to start from: a name of the zoo, or its run's model file.
pub(super) fn network_of(parent: &Model) -> Result<String, TrainError> {
    if let Some(file) = own_model_file(&parent.path) {
        return Ok(file.display().to_string());
    }
    let name = &parent.spec.name;
    match zoo::entry(name) {
        Ok(entry) => Ok(entry.name.into()),
        Err(_) => Err(TrainError::Settings(SettingsError::Conflict {
            message: format!(
                "{} is of {name}, a network of its own: which one to train is not said",
                parent.path.display()
            ),
            hint: Some("name a network or a model file: --model".into()),
        })),
    }
}

/// Takes over what fits; an error when nothing that learns does. The head starts anew when the parent is known to tell other
/// classes apart: that they are as many says nothing.
pub(super) fn start_from(
    engine: &mut CpuEngine,
    parent: &Model,
    classes: &[String],
) -> Result<Carried, TrainError> {
    let fresh = engine.snapshot().state_dict();
    let network = engine.network();
    let tensor = |name: &str| {
        let mut tensors = network.layout().tensors().iter();
        tensors.find(|tensor| tensor.name == name)
    };
    let others = parent.names_its_classes() && parent.classes != classes;
    let head = network.head().filter(|_| others);
    let anew = |name: &str| head.is_some() && tensor(name).map(ParamTensor::layer) == head;
    let (weights, carried) = carry(&fresh, &parent.file.weights, anew);
    let trained = |name: &String| tensor(name).is_some_and(|found| found.role == Role::Trained);
    if !carried.matched.iter().any(trained) {
        return Err(TrainError::NothingInCommon {
            path: parent.path.clone(),
            network: engine.network().spec().name.clone(),
        });
    }
    engine
        .load_weights(&weights)
        .map_err(|source| crate::ModelError::Weights {
            path: parent.path.clone(),
            network: engine.network().spec().name.clone(),
            source,
        })?;
    Ok(carried)
}

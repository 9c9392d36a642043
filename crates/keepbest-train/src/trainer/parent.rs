//! The model that a run starts from.

use std::path::Path;

use keepbest_core::text::shell_word;
use keepbest_data::{Identity, PrepareError, Prepared, Subset};
use keepbest_model::{
    FileAtHand, Model, Seen, SeenBefore, SplitRecord, find_model, is_model_file, own_model_file,
};
use keepbest_nn::zoo::{self, ZooOptions};
use keepbest_nn::{Engine, Network, ParamTensor, Role};

use super::carry::{Carried, carry};
use super::error::TrainError;
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
    let mut parent = match Model::open(path, None) {
        Err(keepbest_model::ModelError::NeedsNetwork {
            path: _,
            trained_as,
            guess,
            kept_by,
        }) => {
            let named = trained_as.as_deref().or(network);
            // What is neither recorded, named nor to be told by the tensors is asked for.
            let Some(network) = named.or(guess) else {
                return Err(keepbest_model::ModelError::NeedsNetwork {
                    path: path.into(),
                    trained_as,
                    guess,
                    kept_by,
                }
                .into());
            };
            let mut model = Model::open(path, Some(network))?;
            if named.is_none() {
                model
                    .notes
                    .push(format!("its tensors are those of {network}"));
            }
            model
        }
        other => other?,
    };
    parent.check_finite()?;
    parent.path = file.name().to_owned();
    Ok(parent)
}

/// What to say of the images that val and test have in common with what the parent and the models before it have seen.
pub(super) fn seen_before(
    parent: &Model,
    before: &Seen,
    identity: &Identity,
    data: &Prepared,
    split: &SplitRecord,
) -> Result<Vec<String>, TrainError> {
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
    if let Some(own) = its_own.filter(|own| own != split && !measured.is_empty())
        && keeps_apart(&own, before, data)?
    {
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
    Ok(notes)
}

/// Whether a split of these images leaves nothing in val that was trained on before, and nothing in test that was seen at all: only
/// where they are those that it was made of.
fn keeps_apart(split: &SplitRecord, before: &Seen, data: &Prepared) -> Result<bool, TrainError> {
    let (_, val, test) = match data.split_anew(&split.options()) {
        Ok(splits) => splits,
        Err(PrepareError::Split(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let digests = |images: &Subset| images.digests().map_err(PrepareError::from);
    if before.among("val", &digests(&val)?).trained > 0 {
        return Ok(false);
    }
    Ok(match test {
        Some(test) => !before.among("test", &digests(&test)?).any(),
        None => true,
    })
}

/// What `model` must be for the network of a model to start from: a name of the zoo, its run's model file, or the model itself.
pub(super) fn network_of(parent: &Model) -> Result<String, TrainError> {
    if let Some(file) = own_model_file(&parent.path) {
        return Ok(file.display().to_string());
    }
    let name = &parent.spec.name;
    match zoo::entry(name) {
        Ok(entry) => Ok(entry.name.into()),
        // A network of its own, such as an imported one, comes from the model itself.
        Err(_) if is_model_file(&parent.path.display().to_string()) => {
            Ok(parent.path.display().to_string())
        }
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
    engine: &mut dyn Engine,
    parent: &Model,
    classes: &[String],
) -> Result<Carried, TrainError> {
    let fresh = engine.snapshot().weights();
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
        .map_err(|source| keepbest_model::ModelError::Weights {
            path: parent.path.clone(),
            network: engine.network().spec().name.clone(),
            source: Box::new(source),
        })?;
    Ok(carried)
}

/// What the user should know of the model to start from, and what to do about it.
pub(super) fn told(parent: &Model) -> Vec<String> {
    let path = parent.path.display();
    let recorded = parent
        .file
        .metadata
        .as_ref()
        .is_some_and(|metadata| metadata.preprocessing.is_some());
    if recorded {
        return parent
            .notes
            .iter()
            .map(|note| format!("{path}: {note}"))
            .collect();
    }
    let mut told: Vec<String> = parent
        .notes
        .iter()
        .filter(|note| !note.starts_with("no preprocessing"))
        .map(|note| format!("{path}: {note}"))
        .collect();
    told.push(format!(
        "{path} does not say how images became its input: mean 0 and standard deviation 1 are taken; if it was trained with \
         ImageNet's, `keepbest import {} --model {} --preprocess imagenet --to FILE` and --from FILE",
        shell_word(&parent.path),
        parent.spec.name
    ));
    told
}

/// Says which other network would take over tensors that start anew because they have another shape here: at another size of the
/// images a network of one name can have other layers.
pub(super) fn better_network(
    network: &Network,
    parent: &Model,
    carried: &Carried,
    size: &ZooOptions,
) -> Option<String> {
    let head = network.head();
    let weights = &parent.file.weights;
    let tensors = network.layout().tensors();
    let reshaped = tensors.iter().find(|tensor| {
        tensor.role == Role::Trained
            && Some(tensor.layer()) != head
            && carried.reinitialised.contains(&tensor.name)
            && weights
                .get(&tensor.name)
                .is_some_and(|there| there.shape() != tensor.shape)
    })?;
    let fitting = |network: &Network| {
        let tensors = network.layout().tensors().iter();
        let fits = tensors.filter(|tensor| {
            tensor.role == Role::Trained
                && weights
                    .get(&tensor.name)
                    .is_some_and(|there| there.shape() == tensor.shape)
        });
        fits.count()
    };
    let of_zoo = zoo::list().iter().filter_map(|entry| {
        let spec = zoo::spec(entry.name, size).ok()?;
        Some((entry.name, fitting(&Network::new(&spec).ok()?)))
    });
    // Of equals the first, which is the smaller: `max_by_key` takes the last.
    let (name, _) = of_zoo
        .filter(|(_, fits)| *fits > fitting(network))
        .rev()
        .max_by_key(|(_, fits)| *fits)?;
    Some(format!(
        "{} has another shape in {} at {}x{} and starts anew; {name} takes it over: --model {name}",
        reshaped.name,
        network.spec().name,
        size.height,
        size.width
    ))
}

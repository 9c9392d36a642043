//! Which network weights belong to, and which part of them: for files that bring no architecture.

use std::path::Path;

use keepbest_data::Preprocessing;
use keepbest_formats::StateDict;
use keepbest_formats::names::{Part, Wanted, part_for};
use keepbest_nn::zoo::{self, ZooOptions};
use keepbest_nn::{ModelSpec, Network, ParamTensor, Role};

use crate::architecture::{ArchitectureError, read_model_file};
use crate::error::ModelError;
use crate::words::few;

/// The part of foreign weights that is a named network's, where its names have something before them that most others do not have.
///
/// # Errors
/// When there is no such network, or several parts go equally well.
pub(crate) fn part_of(
    path: &Path,
    network: &str,
    weights: &StateDict,
) -> Result<Option<Part>, ModelError> {
    let spec = match read_model_file(network)? {
        Some(spec) => spec,
        None => {
            let [_, height, width] = zoo::entry(network)
                .map_err(ArchitectureError::from)?
                .usual_input;
            let options = ZooOptions::new(3, height, width, 10);
            zoo::spec(network, &options).map_err(ArchitectureError::from)?
        }
    };
    // A network that does not fit together is told when it is made.
    let Ok(network) = Network::new(&spec) else {
        return Ok(None);
    };
    let tensors = network.layout().tensors().iter();
    let wanted: Vec<Wanted<'_>> = tensors
        .map(|tensor| Wanted {
            optional: tensor.role != Role::Trained,
            ..Wanted::new(&tensor.name, tensor.dtype(), &tensor.shape)
        })
        .collect();
    part_for(weights, &wanted).map_err(|source| ModelError::Part {
        path: path.into(),
        source,
    })
}

/// What was taken off, and what was left out, for the user.
pub(crate) fn part_words(part: &Part) -> String {
    let taken = format!("took {:?} off the names", part.prefix);
    match &part.left_out[..] {
        [] => taken,
        rest => format!("{taken}; left out what is not under it: {}", few(rest)),
    }
}

/// Sizes that images usually have, the first that a network is tried with.
fn usual_sizes(entry: &zoo::ZooEntry, channels: usize) -> [usize; 13] {
    // Grey images are mostly those of MNIST and its kin, the smallest of colour those of CIFAR.
    let first = match channels {
        1 => 28,
        _ => entry.usual_input[1].max(32),
    };
    [first, 28, 32, 64, 224, 128, 96, 16, 48, 112, 160, 192, 256]
}

/// The network of the zoo that has exactly these tensors, prefixes apart: of several the one that has them at the most sizes of
/// the images, since it will have them at the size that is to come.
#[must_use]
pub(crate) fn guess_network(weights: &StateDict) -> Option<&'static str> {
    let fits = |entry: &zoo::ZooEntry| -> usize {
        let part = match part_of(Path::new(""), entry.name, weights) {
            Ok(part) => part.map(|part| part.weights),
            Err(_) => return 0,
        };
        let weights = part.as_ref().unwrap_or(weights);
        // Most networks are not the one: told by their names at one size.
        let [_, height, width] = entry.usual_input;
        let usual = zoo::spec(entry.name, &ZooOptions::new(3, height, width, 10));
        let Ok(Ok(usual)) = usual.map(|spec| Network::new(&spec)) else {
            return 0;
        };
        let tensors = usual.layout().tensors();
        let there = tensors
            .iter()
            .filter(|tensor| weights.contains(&tensor.name));
        if there.count() * 2 < tensors.len() {
            return 0;
        }
        let Ok(spec) = named_spec(entry.name, weights, None, 0) else {
            return 0;
        };
        let fits = |side: usize| {
            let options = ZooOptions::new(spec.input.channels, side, side, spec.classes);
            let network = zoo::spec(entry.name, &options).map(|spec| Network::new(&spec));
            matches!(network, Ok(Ok(network)) if network.layout().check(weights).is_ok())
        };
        match fits(spec.input.height) {
            true => [28, 32, 64, 96, 128, 224]
                .into_iter()
                .filter(|side| fits(*side))
                .count(),
            false => 0,
        }
    };
    let fitting = zoo::list().iter().map(|entry| (fits(entry), entry.name));
    // The first of the most: `max_by_key` would take the last.
    let best = fitting.rev().max_by_key(|(sizes, _)| *sizes)?;
    (best.0 > 0).then_some(best.1)
}

/// How many channels a named network takes, where a model file or the weights of its first layer tell.
///
/// # Errors
/// When no network has this name.
pub(crate) fn known_channels(
    network: &str,
    weights: &StateDict,
) -> Result<Option<usize>, ArchitectureError> {
    if let Some(spec) = read_model_file(network)? {
        return Ok(Some(spec.input.channels));
    }
    let sizes = usual_sizes(zoo::entry(network)?, 3).map(|side| (side, side));
    Ok(read_off(network, weights, &sizes)?.0)
}

/// Channels and classes as the weights of the first and the last layer have them, where the file has those.
fn read_off(
    network: &str,
    weights: &StateDict,
    sizes: &[(usize, usize)],
) -> Result<(Option<usize>, Option<usize>), ArchitectureError> {
    let side = |tensor: Option<&ParamTensor>, dimension: usize| {
        let shape = weights.get(&tensor?.name)?.shape();
        shape.get(dimension).copied().filter(|side| *side > 0)
    };
    let (mut channels, mut classes) = (None, None);
    // At some sizes networks have layers before those that they have at others: the first tensor is what the file has of them.
    for &(height, width) in sizes {
        let any = Network::new(&zoo::spec(network, &ZooOptions::new(3, height, width, 10))?);
        let tensors = any.as_ref().map_or(&[][..], |any| any.layout().tensors());
        channels = channels.or(side(tensors.first(), 1).filter(|channels| *channels <= 4));
        classes = classes.or(side(tensors.last(), 0));
        if channels.is_some() && classes.is_some() {
            break;
        }
    }
    Ok((channels, classes))
}

/// The spec of a named network that fits these weights. Where the file does not record the input's size or the number of
/// classes, they are read off the weights: channels from the network's first tensor (or else those that it usually takes), classes from its last (by name: files
/// have orders of their own), and height and width from the usual sizes, the first that fits.
///
/// # Errors
/// When no network has this name. One that does not fit the weights is no error here.
pub(crate) fn named_spec(
    network: &str,
    weights: &StateDict,
    preprocessing: Option<&Preprocessing>,
    classes: usize,
) -> Result<ModelSpec, ArchitectureError> {
    if let Some(spec) = read_model_file(network)? {
        return Ok(spec);
    }
    let entry = zoo::entry(network)?;
    let size = preprocessing.map(|of| (of.input.height, of.input.width));
    let sizes = size.map_or_else(
        || usual_sizes(entry, 3).map(|side| (side, side)).to_vec(),
        |size| vec![size],
    );
    let (first, found) = read_off(network, weights, &sizes)?;
    let channels = preprocessing.map(|of| of.input.channels).or(first);
    let channels = channels.unwrap_or(entry.usual_input[0]);
    let classes = match classes {
        0 => found.unwrap_or(10),
        named => named,
    };
    let sizes = match size {
        Some(size) => vec![size],
        None => usual_sizes(entry, channels)
            .map(|side| (side, side))
            .to_vec(),
    };
    let mut best: Option<(usize, ModelSpec)> = None;
    for (height, width) in sizes {
        let spec = zoo::spec(network, &ZooOptions::new(channels, height, width, classes))?;
        let differing = Network::new(&spec).map_or(usize::MAX, |network| {
            differing(network.layout().tensors(), weights)
        });
        if differing == 0 {
            return Ok(spec);
        }
        if best.as_ref().is_none_or(|(least, _)| differing < *least) {
            best = Some((differing, spec));
        }
    }
    // None fits: the nearest is named in the error that follows, the first where several are as near.
    let (_, spec) = best.expect("there is at least one size");
    Ok(spec)
}

/// The number of tensors of the network and of the weights that are not in the other, or of another shape. Counters may be missing, and types of
/// elements say nothing about sizes.
fn differing(tensors: &[ParamTensor], weights: &StateDict) -> usize {
    let mut there = 0;
    let differing = tensors.iter().filter(|tensor| {
        let found = weights.get(&tensor.name);
        there += usize::from(found.is_some());
        match found {
            Some(found) => found.shape() != tensor.shape,
            None => tensor.role != Role::Counter,
        }
    });
    differing.count() + weights.len() - there
}

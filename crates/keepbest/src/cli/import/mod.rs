//! `keepbest import`: a full model of a file from elsewhere.

mod fit;
mod preprocess;

use std::collections::BTreeSet;
use std::path::Path;

use keepbest_data::Preprocessing;
use keepbest_formats::model_file::{self, Kind, ModelFile, ModelMetadata};
use keepbest_formats::names::{NameFilter, NameMap};
use keepbest_formats::{Dtype, StateDict};
use keepbest_nn::{ModelSpec, Network};
use keepbest_train::{Model, ModelError, Opening, named_spec, open_any, part_of, told};
use serde_json::json;

use crate::cli::args::ImportArgs;
use crate::cli::class_names::class_names;
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::Terminal;
use crate::cli::words::{bytes, count};
use crate::cli::{export, output};
use fit::{few, fit, told as told_in_part};
use preprocess::preprocessing;

pub fn run(args: &ImportArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    if args.to.extension().and_then(|ending| ending.to_str()) != Some("safetensors") {
        let message = format!("{} should end with .safetensors", args.to.display());
        return Err(Failure::new(Exit::Usage, message));
    }
    let named = args.classes.as_deref().map(class_names).transpose()?;
    let read = read(args)?;
    let Read { own, weights, .. } = &read;
    let mut notes = read.notes.clone();
    let spec = spec_of(args, own, weights)?;
    let preprocess = match (&args.preprocess, &own.preprocessing) {
        (Some(how), _) => preprocessing(how, &spec)?,
        (None, Some(recorded)) => serde_json::from_value(recorded.clone())
            .map_err(|error| Failure::of(Exit::Failed, &error))?,
        (None, None) => {
            notes.push(format!(
                "no --preprocess: images of {}x{} are expected, pixels are divided by 255 and not normalised",
                spec.input.height, spec.input.width
            ));
            preprocessing("pixels", &spec)?
        }
    };
    let (spec, classes) = match named.unwrap_or_else(|| own.classes.clone()) {
        none if none.is_empty() => {
            notes.push("no --classes: they are called by their numbers".into());
            (spec, Vec::new())
        }
        classes => (for_classes(args, spec, own, weights, &classes)?, classes),
    };

    let (weights, comparison) = fit(args, &spec, weights)?;
    let thresholds = own.thresholds.clone().filter(|_| comparison.is_exact());
    if own.thresholds.is_some() && thresholds.is_none() {
        notes.push("the decision thresholds belong to other weights and are left out".into());
    }
    let metadata = ModelMetadata {
        // Whatever the file was: what is written brings its network.
        kind: Kind::Full,
        model: Some(spec.to_json()),
        classes,
        preprocessing: serde_json::to_value(&preprocess).ok(),
        thresholds,
        ..own.clone()
    };
    // The optimizer's tensors belong to the names that the weights had.
    let training = match read.renamed.is_empty() && comparison.is_exact() {
        true => read.training.clone(),
        false => StateDict::new(),
    };
    let image = model_file::encode(&weights, &training, &metadata)
        .map_err(|error| Failure::of(Exit::Failed, &error))?;
    let (least, most) = forward(&args.to, &weights, &training, &metadata)?;
    export::write_model(&args.to, args.force, &image)?;

    if args.json {
        let converted = read.converted.iter();
        output::json(&json!({
            "file": args.file,
            "to": args.to,
            "bytes": image.total_len(),
            "network": spec.name,
            "digest": image.weights_digest(),
            "classes": metadata.classes,
            "preprocessing": metadata.preprocessing,
            "tensors": comparison,
            "renamed": read.renamed,
            "converted": converted
                .map(|(dtype, count)| json!({"dtype": dtype.to_string(), "tensors": count}))
                .collect::<Vec<_>>(),
            "forward": {"least": least, "most": most},
            "dropped": read.dropped,
            "notes": notes,
        }))?;
        return Ok(Exit::Done);
    }
    let warn = terminal.error_style().warn;
    for note in &notes {
        say!("{warn}note:{warn:#} {note}");
    }
    if !comparison.is_exact() {
        output::lines(&told_in_part(&comparison))?;
    }
    output::line(format!(
        "{}: full model of {}, {}, {}",
        args.to.display(),
        spec.name,
        count(comparison.matched.len() as u64, "tensor"),
        bytes(image.total_len())
    ))?;
    output::line(format!(
        "weights {}; a forward pass gives finite scores from {least:.4} to {most:.4}",
        image.weights_digest().short()
    ))?;
    Ok(Exit::Done)
}

/// A file as it was read: its weights under the network's names, as far as that can be told.
struct Read {
    weights: StateDict,
    training: StateDict,
    /// What keepbest recorded; nothing in files of others.
    own: ModelMetadata,
    /// Old and new names by `--map`.
    renamed: Vec<(String, String)>,
    /// Left out by `--drop`.
    dropped: Vec<String>,
    converted: Vec<(Dtype, usize)>,
    notes: Vec<String>,
}

fn read(args: &ImportArgs) -> Result<Read, Failure> {
    let usage = |error| Failure::of(Exit::Usage, &error);
    let map = NameMap::new(args.map.iter().map(String::as_str)).map_err(usage)?;
    let drop = NameFilter::new(args.drop.iter().map(String::as_str)).map_err(usage)?;
    let how = Opening {
        key: args.key.as_deref(),
        ignore_calls: args.ignore_calls,
    };
    let opened = open_any(&args.file, how)?;
    let mut notes = opened.notes;
    let mut dropped = Dropped::new(drop);
    let renamed = map
        .apply(&dropped.leave_out(opened.file.weights))
        .map_err(|error| Failure::of(Exit::Failed, &error))?;
    if !renamed.renamed.is_empty() {
        notes.push(format!(
            "{} renamed",
            count(renamed.renamed.len() as u64, "tensor")
        ));
    }
    for rule in &renamed.unused {
        notes.push(format!("no tensor has a name that --map {rule:?} is for"));
    }
    let own = opened.file.metadata.unwrap_or_default();
    let mut weights = renamed.weights;
    if own.model.is_none()
        && let Some(network) = &args.network
        && let Some(part) = part_of(&args.file, network, &weights)?
    {
        notes.push(told(&part));
        weights = dropped.leave_out(part.weights);
    }
    notes.extend(dropped.notes(&args.drop));
    Ok(Read {
        weights,
        training: opened.file.training,
        own,
        renamed: renamed.renamed,
        dropped: dropped.names,
        converted: opened.converted,
        notes,
    })
}

/// The network: the file's own, or the one that is named, for the size and classes that the weights are for.
fn spec_of(
    args: &ImportArgs,
    own: &ModelMetadata,
    weights: &StateDict,
) -> Result<ModelSpec, Failure> {
    let of = |network: &str, preprocessing: Option<&Preprocessing>| {
        named_spec(network, weights, preprocessing, 0)
            .map_err(|error| Failure::from(ModelError::from(error)))
    };
    match (&own.model, &args.network) {
        (Some(_), Some(named)) if own_name(own) != Some(named.as_str()) => {
            Err(ModelError::OtherNetwork {
                path: args.file.clone(),
                own: own_name(own).unwrap_or_default().into(),
                named: named.clone(),
            }
            .into())
        }
        (Some(json), _) => {
            ModelSpec::from_json(json).map_err(|error| Failure::of(Exit::Failed, &error))
        }
        (None, None) => Err(ModelError::NeedsNetwork {
            path: args.file.clone(),
            trained_as: None,
            guess: keepbest_train::guess_network(weights),
        }
        .into()),
        (None, Some(network)) => {
            // The size of the input may come from the preprocessing, whose channels come from the weights.
            let first = of(network, None)?;
            match &args.preprocess {
                Some(how) => of(network, Some(&preprocessing(how, &first)?)),
                None => Ok(first),
            }
        }
    }
}

/// The network for named classes: as many as the weights have, or with `--partial` as many as are named.
fn for_classes(
    args: &ImportArgs,
    spec: ModelSpec,
    own: &ModelMetadata,
    weights: &StateDict,
    classes: &[String],
) -> Result<ModelSpec, Failure> {
    if classes.len() == spec.classes {
        return Ok(spec);
    }
    // Without the last layer's weights nothing tells how many classes they are for: what differs is told then.
    if (args.partial || !tells_classes(&spec, weights))
        && own.model.is_none()
        && let Some(network) = &args.network
    {
        let how = args.preprocess.as_deref().unwrap_or("pixels");
        let preprocessing = preprocessing(how, &spec)?;
        let other = named_spec(network, weights, Some(&preprocessing), classes.len())
            .map_err(|error| Failure::from(ModelError::from(error)))?;
        if other.classes == classes.len() {
            return Ok(other);
        }
    }
    let noun = if classes.len() == 1 {
        "class"
    } else {
        "classes"
    };
    let message = format!(
        "{} {noun} named, the weights have {}",
        classes.len(),
        spec.classes
    );
    let hint = "--classes takes names parted by commas, or a file with one a line".to_owned();
    Err(Failure::new(Exit::Failed, message).with_hint(hint))
}

/// Whether the weights hold the network's last layer, whose outputs are the classes.
fn tells_classes(spec: &ModelSpec, weights: &StateDict) -> bool {
    let network = Network::new(spec);
    let last = network.as_ref().ok();
    let last = last.and_then(|network| network.layout().tensors().last());
    last.is_some_and(|tensor| weights.contains(&tensor.name))
}

/// Tensors that `--drop` leaves out.
struct Dropped {
    patterns: NameFilter,
    names: Vec<String>,
    used: BTreeSet<String>,
}

impl Dropped {
    fn new(patterns: NameFilter) -> Self {
        Self {
            patterns,
            names: Vec::new(),
            used: BTreeSet::new(),
        }
    }

    /// The tensors that no pattern matches.
    fn leave_out(&mut self, weights: StateDict) -> StateDict {
        let mut left = StateDict::new();
        for (name, tensor) in weights.iter() {
            match self.patterns.matches(name) {
                Some(pattern) => {
                    self.names.push(name.into());
                    self.used.insert(pattern.into());
                }
                None => left
                    .insert(name, tensor.clone())
                    .expect("names of a state dict are unique"),
            }
        }
        left
    }

    fn notes(&self, given: &[String]) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.names.is_empty() {
            notes.push(format!("left out by --drop: {}", few(&self.names)));
        }
        let unused = given.iter().filter(|pattern| !self.used.contains(*pattern));
        notes.extend(
            unused.map(|pattern| format!("no tensor has a name that --drop {pattern:?} is for")),
        );
        notes
    }
}

fn own_name(own: &ModelMetadata) -> Option<&str> {
    own.model.as_ref()?.get("name")?.as_str()
}

/// Runs the model on an image of noise, as it will be used: least and greatest score.
fn forward(
    path: &Path,
    weights: &StateDict,
    training: &StateDict,
    metadata: &ModelMetadata,
) -> Result<(f32, f32), Failure> {
    let file = ModelFile {
        metadata: Some(metadata.clone()),
        seal: None,
        weights: weights.clone(),
        training: training.clone(),
        other: Default::default(),
    };
    let model = Model::from_file(path, file, None)?;
    let mut predictor = model.predictor(1, None)?;
    let mut state = 1u32;
    let pixels: Vec<f32> = (0..model.preprocessing.input.size())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    let mut scores = Vec::new();
    predictor
        .logits(&pixels, &mut scores)
        .map_err(|error| Failure::of(Exit::Failed, &error))?;
    if let Some(score) = scores.iter().find(|score| !score.is_finite()) {
        let message = format!("a forward pass gives {score}: the weights are no usable model");
        return Err(Failure::new(Exit::CheckFailed, message)
            .with_hint("`keepbest inspect` shows which tensors hold NaN".to_owned()));
    }
    let least = scores.iter().copied().fold(f32::INFINITY, f32::min);
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    Ok((least, most))
}

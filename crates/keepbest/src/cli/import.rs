//! `keepbest import`: a full model of a file from elsewhere.

use std::path::Path;

use keepbest_data::{ChannelRule, ImageShape, Preprocessing, ResizeRule};
use keepbest_formats::StateDict;
use keepbest_formats::model_file::{self, ModelFile, ModelMetadata};
use keepbest_formats::names::{Comparison, NameMap, Wanted, compare};
use keepbest_nn::{CpuEngine, Engine as _, EngineConfig, ModelSpec, Network, Role};
use keepbest_train::{Model, ModelError, named_spec, open_any};
use serde_json::{Value, json};

use crate::cli::args::ImportArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;
use crate::cli::words::{bytes, count};
use crate::cli::{export, output};

pub fn run(args: &ImportArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    if args.to.extension().and_then(|ending| ending.to_str()) != Some("safetensors") {
        let message = format!("{} should end with .safetensors", args.to.display());
        return Err(Failure::new(Exit::Usage, message));
    }
    let map = NameMap::new(args.map.iter().map(String::as_str))
        .map_err(|error| Failure::of(Exit::Usage, &error))?;
    let opened = open_any(&args.file, args.key.as_deref())?;
    let mut notes = opened.notes;
    let renamed = map
        .apply(&opened.file.weights)
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
    let own = opened.file.metadata.clone().unwrap_or_default();
    let classes = match &args.classes {
        Some(text) => class_names(text)?,
        None => own.classes.clone(),
    };
    let spec = match (&own.model, &args.network) {
        (Some(_), Some(named)) if own_name(&own) != Some(named.as_str()) => {
            return Err(ModelError::OtherNetwork {
                path: args.file.clone(),
                own: own_name(&own).unwrap_or_default().into(),
                named: named.clone(),
            }
            .into());
        }
        (Some(json), _) => {
            ModelSpec::from_json(json).map_err(|error| Failure::of(Exit::Failed, &error))?
        }
        (None, None) => {
            return Err(ModelError::NeedsNetwork {
                path: args.file.clone(),
                trained_as: None,
            }
            .into());
        }
        (None, Some(network)) => {
            // The size of the input may come from the preprocessing, whose channels come from the weights.
            let first = named_spec(network, &renamed.weights, None, classes.len())
                .map_err(|error| Failure::from(ModelError::from(error)))?;
            match &args.preprocess {
                Some(how) => {
                    let preprocessing = preprocessing(how, &first)?;
                    named_spec(
                        network,
                        &renamed.weights,
                        Some(&preprocessing),
                        classes.len(),
                    )
                    .map_err(|error| Failure::from(ModelError::from(error)))?
                }
                None => first,
            }
        }
    };
    let preprocess = match (&args.preprocess, &own.preprocessing) {
        (Some(how), _) => preprocessing(how, &spec)?,
        (None, Some(recorded)) => serde_json::from_value(recorded.clone())
            .map_err(|error| Failure::of(Exit::Failed, &error))?,
        (None, None) => {
            notes.push("no --preprocess: pixels are divided by 255 and not normalised".into());
            preprocessing("pixels", &spec)?
        }
    };
    let classes = if classes.is_empty() {
        notes.push("no --classes: they are called by their numbers".into());
        Vec::new()
    } else if classes.len() == spec.classes {
        classes
    } else {
        let message = format!(
            "{} are named, the weights have {}",
            classes.len(),
            spec.classes
        );
        return Err(Failure::new(Exit::Failed, message));
    };

    let (weights, comparison) = fit(args, &spec, &renamed.weights)?;
    let thresholds = own.thresholds.clone().filter(|_| comparison.is_exact());
    if own.thresholds.is_some() && thresholds.is_none() {
        notes.push("the decision thresholds belong to other weights and are left out".into());
    }
    let metadata = ModelMetadata {
        model: Some(spec.to_json()),
        classes,
        preprocessing: serde_json::to_value(&preprocess).ok(),
        thresholds,
        ..own
    };
    // The optimizer's tensors belong to the names that the weights had.
    let training = if renamed.renamed.is_empty() && comparison.is_exact() {
        opened.file.training
    } else {
        StateDict::new()
    };
    let image = model_file::encode(&weights, &training, &metadata)
        .map_err(|error| Failure::of(Exit::Failed, &error))?;
    let spread = forward(&args.to, &weights, &training, &metadata)?;
    export::write_model(&args.to, args.force, &image)?;

    let checked = format!(
        "a forward pass gives finite scores from {:.4} to {:.4}",
        spread.0, spread.1
    );
    if args.json {
        output::json(&json!({
            "file": args.file,
            "to": args.to,
            "bytes": image.total_len(),
            "network": spec.name,
            "digest": image.weights_digest(),
            "classes": metadata.classes,
            "preprocessing": metadata.preprocessing,
            "tensors": comparison,
            "renamed": renamed.renamed,
            "converted": opened
                .converted
                .iter()
                .map(|(dtype, count)| json!({"dtype": dtype.to_string(), "tensors": count}))
                .collect::<Vec<_>>(),
            "forward": {"least": spread.0, "most": spread.1},
            "notes": notes,
        }))?;
        return Ok(Exit::Done);
    }
    let warn = terminal.error_style().warn;
    for note in &notes {
        say!("{warn}note:{warn:#} {note}");
    }
    if !comparison.is_exact() {
        output::lines(&told(&comparison))?;
    }
    output::line(format!(
        "{}: full model of {}, {}, {}",
        args.to.display(),
        spec.name,
        count(comparison.matched.len() as u64, "tensor"),
        bytes(image.total_len())
    ))?;
    output::line(format!(
        "weights {}; {checked}",
        image.weights_digest().short()
    ))?;
    Ok(Exit::Done)
}

fn own_name(own: &ModelMetadata) -> Option<&str> {
    own.model.as_ref()?.get("name")?.as_str()
}

/// The weights of the network: those of the file, all of them unless a part is enough.
fn fit(
    args: &ImportArgs,
    spec: &ModelSpec,
    found: &StateDict,
) -> Result<(StateDict, Comparison), Failure> {
    let network = Network::new(spec).map_err(|error| Failure::of(Exit::Failed, &error))?;
    let tensors = network.layout().tensors();
    let wanted: Vec<Wanted<'_>> = tensors
        .iter()
        .map(|tensor| Wanted {
            optional: tensor.role == Role::Counter,
            ..Wanted::new(&tensor.name, tensor.dtype(), &tensor.shape)
        })
        .collect();
    let comparison = compare(found, &wanted);
    if !comparison.is_exact() && !args.partial {
        let mut failure = Failure::new(
            Exit::Failed,
            format!("{} does not fit {}", args.file.display(), spec.name),
        );
        failure.causes = differences(&comparison);
        let hint = match prefix(&comparison) {
            Some(prefix) => format!("--map '{prefix}(.*)=$1' takes {prefix:?} off the names"),
            None => {
                "--map renames tensors; --partial takes what fits and starts the rest anew".into()
            }
        };
        return Err(failure.with_hint(hint));
    }
    if comparison.matched.is_empty() {
        return Err(Failure::new(
            Exit::Failed,
            format!("nothing in {} fits {}", args.file.display(), spec.name),
        ));
    }
    // In the order of the network; what the file lacks is as a new network has it.
    let fresh = CpuEngine::new(spec, EngineConfig::default())
        .map_err(|error| Failure::of(Exit::Failed, &error))?
        .snapshot()
        .state_dict();
    let matched = comparison.matched_of(found);
    let mut weights = StateDict::new();
    for (name, tensor) in fresh.iter() {
        let tensor = matched.get(name).unwrap_or(tensor).clone();
        weights
            .insert(name, tensor)
            .expect("names of a network are unique");
    }
    Ok((weights, comparison))
}

/// What the file has before the name of each tensor that is missing.
fn prefix(comparison: &Comparison) -> Option<&str> {
    let first = comparison.missing.first()?;
    let found = comparison.unexpected.iter();
    let mut prefixes = found.filter_map(|name| {
        name.strip_suffix(first)?
            .strip_suffix('.')
            .map(|_| &name[..name.len() - first.len()])
    });
    prefixes.find(|prefix| {
        let is_there = |name: &String| {
            comparison
                .unexpected
                .iter()
                .any(|found| found.strip_prefix(prefix) == Some(name))
        };
        comparison.missing.iter().all(is_there)
    })
}

/// What differs, in a few lines.
fn differences(comparison: &Comparison) -> Vec<String> {
    const SHOWN: usize = 6;
    let some = |what: &str, names: Vec<String>| {
        let more = names.len().saturating_sub(SHOWN);
        let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>();
        let more = match more {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!names.is_empty()).then(|| format!("{what}: {}{more}", shown.join(", ")))
    };
    let misshaped = comparison.misshaped.iter();
    let misshaped = misshaped.map(|tensor| {
        format!(
            "{} is {}, should be {}",
            tensor.name, tensor.found, tensor.expected
        )
    });
    [
        some("missing in the file", comparison.missing.clone()),
        some("not in the network", comparison.unexpected.clone()),
        some("of another shape", misshaped.collect()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The table of a file that fits in part.
fn told(comparison: &Comparison) -> Vec<String> {
    let mut table = Table::new(["", ">tensors", "such as"]);
    let misshaped: Vec<String> = comparison
        .misshaped
        .iter()
        .map(|tensor| format!("{} ({} for {})", tensor.name, tensor.found, tensor.expected))
        .collect();
    for (what, names) in [
        ("taken", &comparison.matched),
        ("missing, started anew", &comparison.missing),
        ("of another shape, started anew", &misshaped),
        ("not in the network, left out", &comparison.unexpected),
    ] {
        let shown = match names.len() {
            0..=3 => names.join(", "),
            _ => format!("{}, ..", names[..3].join(", ")),
        };
        table.row([what.into(), names.len().to_string(), shown]);
    }
    table.lines_within(80)
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

/// `a,b,c`, or a file with one name a line.
fn class_names(text: &str) -> Result<Vec<String>, Failure> {
    let names: Vec<String> = if Path::new(text).is_file() {
        let lines = std::fs::read_to_string(text).map_err(|error| Failure {
            causes: vec![error.to_string()],
            ..Failure::new(Exit::Failed, format!("cannot read {text}"))
        })?;
        lines.lines().map(|line| line.trim().to_owned()).collect()
    } else {
        text.split(',').map(|name| name.trim().to_owned()).collect()
    };
    if names.iter().any(String::is_empty) {
        return Err(Failure::new(Exit::Usage, "--classes has an empty name"));
    }
    Ok(names)
}

/// What `--preprocess` means for a network.
fn preprocessing(how: &str, spec: &ModelSpec) -> Result<Preprocessing, Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    let mut result = Preprocessing::new(ImageShape::new(
        spec.input.height,
        spec.input.width,
        spec.input.channels,
    ));
    result.resize = ResizeRule::Exact;
    result.channels = match spec.input.channels {
        1 => ChannelRule::ToGrey,
        3 => ChannelRule::ToRgb,
        _ => ChannelRule::None,
    };
    match how {
        "pixels" => {}
        "imagenet" => {
            result.input = ImageShape::new(224, 224, 3);
            result.resize = ResizeRule::Crop;
            result.channels = ChannelRule::ToRgb;
            result.mean = vec![0.485, 0.456, 0.406];
            result.std = vec![0.229, 0.224, 0.225];
        }
        file if file.ends_with(".json") => {
            let text = std::fs::read_to_string(file).map_err(|error| Failure {
                causes: vec![error.to_string()],
                ..Failure::new(Exit::Failed, format!("cannot read {file}"))
            })?;
            let json: Value =
                serde_json::from_str(&text).map_err(|error| Failure::of(Exit::Failed, &error))?;
            result =
                serde_json::from_value(json).map_err(|error| Failure::of(Exit::Failed, &error))?;
        }
        settings => {
            for setting in settings.split(',') {
                let (key, value) = setting.split_once('=').ok_or_else(|| {
                    usage(format!("--preprocess {how:?}: {setting:?} is no setting")).with_hint(
                        "pixels, imagenet, FILE.json, or size=32,mean=0.5,std=0.25".to_owned(),
                    )
                })?;
                let wrong = || usage(format!("--preprocess: {key} cannot be {value:?}"));
                let channels = |value: &str| -> Option<Vec<f32>> {
                    let values: Vec<f32> = value
                        .split('/')
                        .map(|part| part.parse().ok())
                        .collect::<Option<_>>()?;
                    match values[..] {
                        [one] => Some(vec![one; spec.input.channels]),
                        _ => Some(values),
                    }
                };
                match key {
                    "size" => {
                        let (height, width) = value.split_once('x').unwrap_or((value, value));
                        result.input.height = height.parse().map_err(|_| wrong())?;
                        result.input.width = width.parse().map_err(|_| wrong())?;
                    }
                    "mean" => result.mean = channels(value).ok_or_else(wrong)?,
                    "std" => result.std = channels(value).ok_or_else(wrong)?,
                    "divide" => result.divide_by = value.parse().map_err(|_| wrong())?,
                    "resize" => {
                        result.resize = match value {
                            "none" => ResizeRule::None,
                            "exact" => ResizeRule::Exact,
                            "crop" => ResizeRule::Crop,
                            _ => return Err(wrong()),
                        }
                    }
                    _ => {
                        return Err(usage(format!("--preprocess has no setting {key:?}"))
                            .with_hint("size, mean, std, divide, resize".to_owned()));
                    }
                }
            }
        }
    }
    result
        .validate()
        .map_err(|error| Failure::of(Exit::Usage, &error))?;
    Ok(result)
}

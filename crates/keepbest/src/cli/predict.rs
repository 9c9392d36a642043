//! `keepbest predict`: what images show.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keepbest_core::text::with_causes;
use keepbest_data::{
    DataError, Image, Unrecorded, left_out_of, list_images, load_image, read_image_from,
};
use keepbest_model::{Answer, Classifier, ClassifyOptions, Guess};
use serde::Serialize;

use crate::cli::args::PredictArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::Terminal;
use crate::cli::{model, output};

/// One answer, as `--json` prints it.
#[derive(Serialize)]
struct Printed<'a> {
    input: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    top: &'a [Guess],
    /// Its shape, where it is unlike all that the model has seen and was converted without a recorded rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    converted: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) fn run(args: &PredictArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let model = model::open(&args.model, &args.runs.runs_dir, &args.compute, terminal)?;
    let inputs = expand(&args.inputs, terminal)?;
    let batch_size = usize::from(args.compute.batch_size);
    let options = ClassifyOptions {
        batch_size,
        threads: args.compute.threads.count(),
        device: Some(args.compute.on.device.clone()),
        top_k: args.top_k.into(),
        strict: args.strict,
    };
    let mut classifier = Classifier::new(Arc::new(model), options)?;
    let width = inputs
        .iter()
        .map(|input| name(input).chars().count())
        .max()
        .unwrap_or(0)
        .min(40);
    let mut failed = 0usize;
    let mut told = Unrecorded::default();
    for chunk in inputs.chunks(batch_size) {
        if output::is_unread() {
            break;
        }
        let images = chunk.iter().map(|input| (name(input), read(input)));
        // What cannot be read is told in its place, and the others are still answered.
        for (input, answer) in chunk.iter().zip(classifier.classify(images)?) {
            match answer {
                Ok(answer) => {
                    note_conversion(&classifier, input, &answer, &mut told, terminal);
                    tell(args, input, width, &answer)?;
                }
                Err(error) => {
                    failed += 1;
                    if args.json {
                        output::json_line(&Printed {
                            input: name(input),
                            label: None,
                            probability: None,
                            top: &[],
                            converted: None,
                            error: Some(with_causes(&error)),
                        })?;
                    }
                    Failure::from(error).print(terminal);
                }
            }
        }
    }
    Ok(if failed == 0 {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// Says once of each kind that images are unlike all that the model has seen.
fn note_conversion(
    classifier: &Classifier,
    input: &Path,
    answer: &Answer,
    told: &mut Unrecorded,
    terminal: &Terminal,
) {
    let new = Unrecorded {
        size: answer.unseen.size && !told.size,
        channels: answer.unseen.channels && !told.channels,
    };
    if let Some(how) = classifier.conversion_words(new) {
        told.size |= new.size;
        told.channels |= new.channels;
        terminal.note(&format!(
            "{} is {}, the model has seen {} alone: {how}; --strict refuses",
            name(input),
            answer.shape,
            classifier.model().preprocessing.input,
        ));
    }
}

/// The decision, and the likeliest classes, which thresholds leave in their order.
fn tell(args: &PredictArgs, input: &Path, width: usize, answer: &Answer) -> Result<(), Failure> {
    let Answer { decision, top, .. } = answer;
    if args.json {
        return output::json_line(&Printed {
            input: name(input),
            label: Some(&decision.label),
            probability: Some(decision.probability),
            top,
            converted: answer.unseen.any().then(|| answer.shape.to_string()),
            error: None,
        });
    }
    // The decision comes first, whatever its probability.
    let others = top.iter().filter(|guess| guess.class != decision.class);
    let answers: Vec<String> = std::iter::once(decision)
        .chain(others)
        .take(top.len())
        .map(|guess| format!("{} {:.4}", guess.label, guess.probability))
        .collect();
    output::line(format!("{:<width$}  {}", name(input), answers.join("  ")))
}

/// Files as they are, folders as the images in them, `-` as it is.
fn expand(inputs: &[PathBuf], terminal: &Terminal) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for input in inputs {
        if input.is_dir() {
            let failed =
                |error: DataError| Failure::of(Exit::Failed, &error).with_hint(error.hint());
            let found = list_images(input).map_err(failed)?;
            for note in left_out_of(input).map_err(failed)? {
                terminal.note(&note);
            }
            if found.is_empty() {
                let error = DataError::Empty {
                    path: input.clone(),
                };
                return Err(Failure::of(Exit::Failed, &error)
                    .with_hint("PNG, JPEG, WebP, BMP, TIFF, GIF and PNM are read".to_owned()));
            }
            files.extend(found);
        } else {
            files.push(input.clone());
        }
    }
    Ok(files)
}

fn read(input: &Path) -> Result<Image, DataError> {
    if input.as_os_str() != "-" {
        return load_image(input);
    }
    read_image_from(std::io::stdin().lock(), Path::new("stdin"))
}

fn name(input: &Path) -> String {
    if input.as_os_str() == "-" {
        "stdin".into()
    } else {
        input.display().to_string()
    }
}

//! `keepbest predict`: what images show.

use std::path::{Path, PathBuf};

use keepbest_data::{DataError, Image, list_images, load_image, read_image_from};
use keepbest_train::{Guess, Model, decide, top_k};
use serde::Serialize;

use crate::cli::args::PredictArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::Terminal;
use crate::cli::{model, output};

/// One answer, as `--json` prints it.
#[derive(Serialize)]
struct Answer<'a> {
    input: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    top: &'a [Guess],
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub fn run(args: &PredictArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let model = model::open(&args.model, &args.runs.runs_dir, &args.compute, terminal)?;
    let inputs = expand(&args.inputs)?;
    let batch_size = usize::from(args.compute.batch_size);
    let mut predictor = model.predictor(batch_size, args.compute.threads.count())?;
    let width = inputs
        .iter()
        .map(|input| name(input).chars().count())
        .max()
        .unwrap_or(0)
        .min(40);
    let k = usize::from(args.top_k).min(model.classes.len());
    let (mut failed, mut logits) = (0usize, Vec::new());
    let size = model.preprocessing.input.size();
    for chunk in inputs.chunks(batch_size) {
        // What cannot be read is told in its place, and the others are still answered.
        let mut pixels = Vec::with_capacity(chunk.len() * size);
        let read: Vec<Result<(), Failure>> = chunk
            .iter()
            .map(|input| {
                let start = pixels.len();
                pixels.resize(start + size, 0.0);
                let done = prepare(input, &model, &mut pixels[start..]);
                if done.is_err() {
                    pixels.truncate(start);
                }
                done
            })
            .collect();
        predictor
            .logits(&pixels, &mut logits)
            .map_err(|error| Failure::of(Exit::Failed, &error))?;
        let mut rows = logits.chunks_exact(model.classes.len());
        for (input, read) in chunk.iter().zip(read) {
            match read.and_then(|()| {
                rows.next()
                    .ok_or_else(|| Failure::new(Exit::Failed, "scores are missing"))
            }) {
                Ok(row) => {
                    let decision = decide(row, &model.classes, model.decision());
                    let guesses = top_k(row, &model.classes, k);
                    tell(args, input, width, decision.as_ref(), &guesses)?;
                }
                Err(failure) => {
                    failed += 1;
                    if args.json {
                        let error =
                            std::iter::once(failure.message.clone()).chain(failure.causes.clone());
                        let error = error.collect::<Vec<_>>().join(": ");
                        let answer = Answer {
                            input: name(input),
                            label: None,
                            probability: None,
                            top: &[],
                            error: Some(error),
                        };
                        output::json_line(&answer)?;
                    }
                    failure.print(terminal);
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

/// The decision, and the likeliest classes, which thresholds leave in their order.
fn tell(
    args: &PredictArgs,
    input: &Path,
    width: usize,
    decision: Option<&Guess>,
    guesses: &[Guess],
) -> Result<(), Failure> {
    if args.json {
        return output::json_line(&Answer {
            input: name(input),
            label: decision.map(|guess| &*guess.label),
            probability: decision.map(|guess| guess.probability),
            top: guesses,
            error: None,
        });
    }
    // The decision comes first, whatever its probability.
    let others = guesses
        .iter()
        .filter(|guess| decision.is_none_or(|decision| decision.class != guess.class));
    let answers: Vec<String> = decision
        .into_iter()
        .chain(others)
        .take(guesses.len())
        .map(|guess| format!("{} {:.4}", guess.label, guess.probability))
        .collect();
    output::line(format!("{:<width$}  {}", name(input), answers.join("  ")))
}

/// Files as they are, folders as the images in them, `-` as it is.
fn expand(inputs: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for input in inputs {
        if input.is_dir() {
            let found = list_images(input).map_err(|error| read_failure(&error))?;
            if found.is_empty() {
                let message = format!("{}: the folder holds no images", input.display());
                return Err(Failure::new(Exit::Failed, message)
                    .with_hint(Some("PNG and JPEG are read".to_owned())));
            }
            files.extend(found);
        } else {
            files.push(input.clone());
        }
    }
    Ok(files)
}

/// Reads one image and makes it the network's input.
fn prepare(input: &Path, model: &Model, out: &mut [f32]) -> Result<(), Failure> {
    let image = read(input).map_err(|error| read_failure(&error))?;
    model
        .preprocessing
        .apply(&image, out)
        .map_err(|error| Failure {
            causes: vec![error.to_string()],
            ..Failure::new(
                Exit::Failed,
                format!("{} does not fit the model", name(input)),
            )
        })
}

fn read(input: &Path) -> Result<Image, DataError> {
    if input.as_os_str() != "-" {
        return load_image(input);
    }
    read_image_from(std::io::stdin().lock(), Path::new("stdin"))
}

fn read_failure(error: &DataError) -> Failure {
    Failure::of(Exit::Failed, error).with_hint(error.hint())
}

fn name(input: &Path) -> String {
    if input.as_os_str() == "-" {
        "stdin".into()
    } else {
        input.display().to_string()
    }
}

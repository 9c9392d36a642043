//! `keepbest predict`: what images show.

use std::path::{Path, PathBuf};

use keepbest_data::{
    DataError, Image, ImageShape, Normaliser, Preprocessing, Unrecorded, left_out_of, list_images,
    load_image, read_image_from,
};
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
    /// Its shape, where it is unlike all that the model has seen and was converted without a recorded rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    converted: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Makes images the network's input.
struct Reader<'a> {
    preprocessing: Preprocessing,
    normaliser: Normaliser,
    /// Without conversions that are not recorded.
    recorded: &'a Preprocessing,
    terminal: &'a Terminal,
    /// What was said already: it is said once.
    told: Unrecorded,
}

pub fn run(args: &PredictArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let model = model::open(&args.model, &args.runs.runs_dir, &args.compute, terminal)?;
    let inputs = expand(&args.inputs, terminal)?;
    let batch_size = usize::from(args.compute.batch_size);
    let mut predictor = model.predictor(batch_size, args.compute.threads.count())?;
    let mut reader = Reader::new(&model, args.strict, terminal)?;
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
        if output::is_unread() {
            break;
        }
        // What cannot be read is told in its place, and the others are still answered.
        let mut pixels = Vec::with_capacity(chunk.len() * size);
        let read: Vec<Result<Option<ImageShape>, Failure>> = chunk
            .iter()
            .map(|input| {
                let start = pixels.len();
                pixels.resize(start + size, 0.0);
                let done = reader.prepare(input, &mut pixels[start..]);
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
            match read.and_then(|converted| {
                let row = rows
                    .next()
                    .ok_or_else(|| Failure::new(Exit::Failed, "scores are missing"))?;
                check_scores(row, input, &model)?;
                Ok((row, converted))
            }) {
                Ok((row, converted)) => {
                    let decision = decide(row, &model.classes, model.decision());
                    let guesses = top_k(row, &model.classes, k);
                    tell(args, input, width, decision.as_ref(), &guesses, converted)?;
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
                            converted: None,
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
    converted: Option<ImageShape>,
) -> Result<(), Failure> {
    if args.json {
        return output::json_line(&Answer {
            input: name(input),
            label: decision.map(|guess| &*guess.label),
            probability: decision.map(|guess| guess.probability),
            top: guesses,
            converted: converted.map(|shape| shape.to_string()),
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
fn expand(inputs: &[PathBuf], terminal: &Terminal) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for input in inputs {
        if input.is_dir() {
            let found = list_images(input).map_err(|error| read_failure(&error))?;
            let left_out = left_out_of(input).map_err(|error| read_failure(&error))?;
            for note in left_out {
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

impl<'a> Reader<'a> {
    fn new(model: &'a Model, strict: bool, terminal: &'a Terminal) -> Result<Self, Failure> {
        let recorded = &model.preprocessing;
        let preprocessing = if strict {
            recorded.clone()
        } else {
            recorded.clone().converting()
        };
        let normaliser =
            Normaliser::new(&preprocessing).map_err(|error| Failure::of(Exit::Failed, &error))?;
        Ok(Self {
            preprocessing,
            normaliser,
            recorded,
            terminal,
            told: Unrecorded::default(),
        })
    }

    /// Reads one image and makes it the network's input; gives its shape where that took more than what is recorded.
    fn prepare(&mut self, input: &Path, out: &mut [f32]) -> Result<Option<ImageShape>, Failure> {
        let image = read(input).map_err(|error| read_failure(&error))?;
        self.normaliser
            .apply(&image, out)
            .map_err(|error| Failure {
                causes: vec![error.to_string()],
                ..Failure::new(
                    Exit::Failed,
                    format!("{} does not fit the model", name(input)),
                )
            })?;
        let shape = image.shape();
        let differs = self.recorded.unrecorded(shape);
        let new = Unrecorded {
            size: differs.size && !self.told.size,
            channels: differs.channels && !self.told.channels,
        };
        if let Some(how) = self.preprocessing.conversion_words(new) {
            self.told.size |= new.size;
            self.told.channels |= new.channels;
            self.terminal.note(&format!(
                "{} is {shape}, the model has seen {} alone: {how}; --strict refuses",
                name(input),
                self.recorded.input,
            ));
        }
        Ok(differs.any().then_some(shape))
    }
}

/// Scores that are no numbers are no answer.
fn check_scores(row: &[f32], input: &Path, model: &Model) -> Result<(), Failure> {
    let Some(class) = row.iter().position(|score| !score.is_finite()) else {
        return Ok(());
    };
    let label = model.classes.get(class).map_or("", String::as_str);
    Err(Failure::new(
        Exit::Failed,
        format!(
            "{}: the network's score for {label} is {}, which is no answer",
            name(input),
            row[class]
        ),
    ))
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

//! `keepbest inspect`: what is in a model file. Nothing in it is run.

mod model;
mod onnx;
mod pth;
mod tensors;

use std::path::Path;

use keepbest_formats::model_file::{ModelFile, ModelFileError, OpenError};
use keepbest_formats::pth::PthFile;
use keepbest_formats::sniff::{FileKind, sniff};
use keepbest_formats::{map_file, sharded};
use keepbest_model::{Opening, open_any};

use crate::cli::args::InspectArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::Terminal;
use crate::cli::words::bytes;

pub(super) fn run(args: &InspectArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let at_hand = crate::cli::model::locate(&args.file, &args.runs.runs_dir)?;
    let path = at_hand.path().to_owned();
    if path.is_dir() || sharded::is_index(&path) {
        if args.key.is_some() {
            return Err(no_keys(&path));
        }
        let model = open_any(&path, Opening::default())?.file;
        return model::run(&path, model.weights.total_bytes(), &model, args.json);
    }
    let file = map_file(&path).map_err(|error| Failure {
        causes: vec![error.to_string()],
        ..Failure::new(Exit::Failed, format!("cannot read {}", path.display()))
    })?;
    let size = file.len() as u64;
    let kind = sniff(&file);
    if PthFile::reads(kind) {
        return pth::run(&path, size, args, terminal);
    }
    if args.key.is_some() {
        return Err(no_keys(&path));
    }
    if kind == FileKind::Onnx {
        return onnx::run(&path, &file, args.json);
    }
    let model = ModelFile::open(&path).map_err(|error| {
        let failure = Failure::of(Exit::Failed, &error);
        match error {
            // What it holds is the answer, even where keepbest cannot use it.
            OpenError::Model {
                source: ModelFileError::AnotherKind { .. },
                ..
            } => failure.with_hint(Some(
                "keepbest reads safetensors and PyTorch files, and names ONNX".to_owned(),
            )),
            _ => failure,
        }
    })?;
    model::run(at_hand.name(), size, &model, args.json)
}

fn no_keys(path: &Path) -> Failure {
    let message = format!("{} has no keys to pick from", path.display());
    Failure::new(Exit::Usage, message)
}

/// Lines of a name and what is to say, wrapped to 80 columns.
struct Facts(Vec<String>);

impl Facts {
    fn new(path: &Path, size: u64) -> Self {
        Self(vec![format!("{} ({})", path.display(), bytes(size))])
    }

    fn fact(&mut self, name: &str, text: impl AsRef<str>) {
        self.0.push(format!("{name:<13} {}", text.as_ref()));
    }

    fn lines(&self) -> Vec<String> {
        wrap(&self.0, 80)
    }
}

/// Lines of facts broken at blanks to `width`, what follows set in under the fact.
fn wrap(lines: &[String], width: usize) -> Vec<String> {
    let mut wrapped = Vec::new();
    for line in lines {
        let mut current = String::new();
        for word in line
            .split_inclusive(' ')
            .flat_map(|word| pieces(word, width - 14))
        {
            if current.chars().count() + word.trim_end().chars().count() > width
                && current.trim() != ""
            {
                wrapped.push(current.trim_end().to_owned());
                current = " ".repeat(14);
            }
            current.push_str(&word);
        }
        wrapped.push(current.trim_end().to_owned());
    }
    wrapped
}

/// A word that no line holds, in pieces that one does.
fn pieces(word: &str, width: usize) -> Vec<String> {
    let characters: Vec<char> = word.chars().collect();
    let pieces = characters.chunks(width);
    pieces.map(|piece| piece.iter().collect()).collect()
}

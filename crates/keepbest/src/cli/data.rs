//! `keepbest data`: the images there are.

mod preview;
mod sample;

use std::path::Path;

use keepbest_data::{Dataset, Fingerprint, ImageShape, Subset};
use keepbest_model::words::{count, thousands};
use serde_json::{Value, json};

use crate::cli::args::{DataArgs, DataVerb};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;

pub(super) fn run(args: &DataArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    match &args.verb {
        None | Some(DataVerb::List) => list(args.json, terminal),
        Some(DataVerb::Sample {
            data,
            to,
            count,
            split,
            by_class,
            force,
            sets,
        }) => {
            let request = sample::Request {
                data,
                to,
                count: *count as usize,
                split: *split,
                by_class: *by_class,
                force: *force,
            };
            sample::run(&request, sets.path(), args.json)
        }
        Some(DataVerb::Preview(preview)) => preview::run(preview, args.json),
        Some(DataVerb::Info { data, sets }) => info(data, sets.path(), args.json),
    }
}

fn list(json: bool, terminal: &Terminal) -> Result<Exit, Failure> {
    let listings = keepbest_data::list(None);
    if json {
        output::json(&listings)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["name", ">train", ">test", ">classes", ">size", "where"]);
    for set in &listings {
        table.row([
            set.name.into(),
            thousands(set.train as u64),
            thousands(set.test as u64),
            set.classes.to_string(),
            set.shape.to_string(),
            set.location
                .clone()
                .unwrap_or_else(|| "not on this machine".into()),
        ]);
    }
    output::lines(&table.lines())?;
    let hint = terminal.error_style().hint;
    for text in listings.iter().filter_map(|set| set.hint.as_ref()) {
        say!("{hint}hint:{hint:#} {text}");
    }
    say!(
        "{hint}hint:{hint:#} your own images: --data FOLDER, one folder a class (FOLDER/cat/1.png),"
    );
    say!("      or FOLDER/train, val and test with such folders in them");
    Ok(Exit::Done)
}

/// One split, as its source brings it.
struct Part {
    name: &'static str,
    set: Subset,
    fingerprint: Fingerprint,
    shapes: Vec<ImageShape>,
}

fn info(data: &str, data_dir: Option<&Path>, json: bool) -> Result<Exit, Failure> {
    let bundle = keepbest_data::open(data, data_dir)
        .map_err(|error| Failure::of(Exit::Failed, &error).with_hint(error.hint()))?;
    let mut parts = Vec::new();
    let sets = [
        ("train", Some(&bundle.train)),
        ("val", bundle.val.as_ref()),
        ("test", bundle.test.as_ref()),
    ];
    for (name, set) in sets
        .into_iter()
        .filter_map(|(name, set)| Some((name, set?)))
    {
        let fingerprint = Fingerprint::of(&**set)
            .map_err(|error| Failure::of(Exit::Failed, &error).with_hint(error.hint()))?;
        parts.push(Part {
            name,
            set: Subset::all(set.clone()),
            fingerprint,
            shapes: shapes(&**set)?,
        });
    }
    if json {
        output::json(&json!({
            "name": bundle.name,
            "kind": bundle.kind,
            "classes": bundle.classes(),
            "splits": parts.iter().map(|part| (part.name.to_owned(), part_json(part))).collect::<serde_json::Map<_, _>>(),
            "notes": bundle.notes,
        }))?;
        return Ok(Exit::Done);
    }
    output::line(format!("{} ({})", bundle.name, bundle.kind))?;
    for part in &parts {
        let shapes = match part.shapes[..] {
            [] => String::new(),
            [only] => only.to_string(),
            [smallest, .., largest] => format!("{smallest} to {largest}"),
        };
        let images = count(part.set.len() as u64, "image");
        output::line(format!(
            "{:<5}  {images:>13}  {shapes}  blake3 {}",
            part.name,
            &part.fingerprint.blake3[..16]
        ))?;
    }
    output::line("")?;
    let mut heads = vec!["class".to_owned()];
    heads.extend(parts.iter().map(|part| part.name.to_owned()));
    let counts: Vec<Vec<u64>> = parts.iter().map(|part| class_counts(&part.set)).collect();
    let mut table = Table::of(heads, 1);
    for (class, name) in bundle.classes().iter().enumerate() {
        let mut cells = vec![name.clone()];
        cells.extend(counts.iter().map(|counts| thousands(counts[class])));
        table.cells(cells);
    }
    output::lines(&table.lines())?;
    for note in &bundle.notes {
        say!("note: {note}");
    }
    Ok(Exit::Done)
}

fn part_json(part: &Part) -> Value {
    json!({
        "images": part.set.len(),
        "per_class": class_counts(&part.set),
        "shapes": part.shapes,
        "fingerprint": part.fingerprint,
    })
}

fn class_counts(set: &Subset) -> Vec<u64> {
    let mut counts = vec![0; set.classes().len()];
    for label in set.labels() {
        counts[label as usize] += 1;
    }
    counts
}

/// The shapes that occur, smallest first.
fn shapes(set: &dyn Dataset) -> Result<Vec<ImageShape>, Failure> {
    if let Some(shape) = set.shape() {
        return Ok(vec![shape]);
    }
    let mut shapes = std::collections::BTreeSet::new();
    for index in 0..set.len() {
        let shape = match set.image_shape(index) {
            Some(shape) => shape,
            None => set
                .image(index)
                .map_err(|error| Failure::of(Exit::Failed, &error))?
                .shape(),
        };
        shapes.insert(shape);
    }
    let mut shapes: Vec<_> = shapes.into_iter().collect();
    shapes.sort_by_key(|shape| (shape.size(), *shape));
    Ok(shapes)
}

//! `keepbest data preview`: a sheet of training images as the network sees them.

use keepbest_core::text::{escape_xml, visible};
use keepbest_data::{
    Augmentation, Batch, DataBundle, Loader, LoaderConfig, Prepared, Preprocessing, ResizeRule,
};
use keepbest_model::write;
use keepbest_train::{ImageSize, Origin, Settings, default_augmentation};
use serde_json::json;

use super::sample::save_png;
use crate::cli::args::PreviewArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::png;

/// Pixels between pictures, and around them.
const GAP: usize = 8;
/// A picture is enlarged, by a whole number, to at least this many pixels.
const LEAST: usize = 96;
/// Pixels of a line of a label, and of its letters; lines of a label.
const LINE: usize = 12;
const FONT_SIZE: usize = 10;
const LABEL_LINES: usize = 2;

pub(super) fn run(args: &PreviewArgs, json: bool) -> Result<Exit, Failure> {
    write::refuse_existing(&args.to, args.force)?;
    // Read as `train` reads them.
    let mut settings = Settings::default();
    for (name, text) in [("augment", &args.augment), ("image-size", &args.image_size)] {
        if let Some(text) = text {
            settings.set(name, text, Origin::Flag)?;
        }
    }
    let bundle = keepbest_data::open(&args.data, args.sets.path())
        .map_err(|error| Failure::of(Exit::Failed, &error).with_hint(error.hint()))?;
    let data = prepare(&bundle, settings.image_size, args)?;
    let augmentation = settings
        .augment
        .unwrap_or_else(|| default_augmentation(&bundle.mirrored(), data.preprocessing.input));
    let batch = first_batch(&data, augmentation, args)?;
    let labels: Vec<String> = (0..batch.len())
        .map(|i| label(&batch, i, &data.classes))
        .collect();
    let sheet = Sheet::of(&batch, &labels, &data.preprocessing)?;
    save_png(
        &args.to,
        args.force,
        &sheet.pixels,
        [sheet.width, sheet.height, 3],
    )?;
    if json {
        let images: Vec<_> = batch
            .indices
            .iter()
            .zip(&labels)
            .map(|(index, label)| json!({"index": index, "label": label}))
            .collect();
        output::json(&json!({
            "path": args.to,
            "augment": augmentation.to_string(),
            "epoch": args.epoch,
            "images": images,
        }))?;
    } else {
        output::line(args.to.display().to_string())?;
        say!(
            "{} images of epoch {}, augment {augmentation}",
            batch.len(),
            args.epoch
        );
    }
    Ok(Exit::Done)
}

fn prepare(
    bundle: &DataBundle,
    size: Option<ImageSize>,
    args: &PreviewArgs,
) -> Result<Prepared, Failure> {
    let options = keepbest_data::PrepareOptions {
        image_size: size.map(|size| (size.height, size.width)),
        resize: args.stretch.then_some(ResizeRule::Exact),
        seed: args.seed,
        ..Default::default()
    };
    bundle
        .prepare(&options)
        .map_err(|error| Failure::of(Exit::Failed, &error).with_hint(error.hint()))
}

fn first_batch(
    data: &Prepared,
    augmentation: Augmentation,
    args: &PreviewArgs,
) -> Result<Batch, Failure> {
    let failed = |error: keepbest_data::LoadError| {
        let hint = error.hint();
        Failure::of(Exit::Failed, &error).with_hint(hint)
    };
    let count = (args.count as usize).min(data.train.len());
    let config = LoaderConfig::training(count, args.seed)
        .with_augmentation(augmentation)
        .with_prefetch(0);
    let loader = Loader::new(data.train.clone(), &data.preprocessing, config).map_err(failed)?;
    let batch = loader.epoch(args.epoch, 0).next();
    batch
        .ok_or_else(|| Failure::new(Exit::Failed, "there are no training images"))?
        .map_err(failed)
}

/// `dress`, or `dress 70% + coat` of what is mixed.
fn label(batch: &Batch, image: usize, classes: &[String]) -> String {
    let name = |label: u32| classes[label as usize].as_str();
    let own = name(batch.labels[image]);
    match &batch.mixed {
        None => own.to_owned(),
        Some(mixed) => {
            let share = 100.0 * mixed.shares[image];
            format!("{own} {share:.0}% + {}", name(mixed.others[image]))
        }
    }
}

/// An RGB picture.
struct Sheet {
    pixels: Vec<u8>,
    width: usize,
    height: usize,
}

impl Sheet {
    fn of(
        batch: &Batch,
        labels: &[String],
        preprocessing: &Preprocessing,
    ) -> Result<Self, Failure> {
        let input = preprocessing.input;
        let enlarged = LEAST.div_ceil(input.height.max(input.width)).max(1);
        let (picture_width, picture_height) = (input.width * enlarged, input.height * enlarged);
        let cell = [
            picture_width.max(LEAST),
            picture_height + LABEL_LINES * LINE,
        ];
        let columns = batch.len().min((1200 / (cell[0] + GAP)).max(1));
        let rows = batch.len().div_ceil(columns);
        let size = [
            GAP + columns * (cell[0] + GAP),
            GAP + rows * (cell[1] + GAP),
        ];
        let corner = |i: usize| {
            let (column, row) = (i % columns, i / columns);
            [GAP + column * (cell[0] + GAP), GAP + row * (cell[1] + GAP)]
        };
        let places = labels.iter().enumerate().map(|(i, label)| {
            let [left, top] = corner(i);
            (label.as_str(), [left, top + picture_height])
        });
        let mut sheet = Self::of_labels(size, cell[0], places)?;
        for (i, image) in batch.images.chunks_exact(input.size()).enumerate() {
            let [left, top] = corner(i);
            for y in 0..picture_height {
                for x in 0..picture_width {
                    let at = (y / enlarged * input.width + x / enlarged) * input.channels;
                    let pixel = &image[at..at + input.channels];
                    sheet.set(left + x, top + y, colour(pixel, preprocessing));
                }
            }
        }
        Ok(sheet)
    }

    /// A sheet with nothing but labels, each at its place and cut to the width of a cell.
    fn of_labels<'a>(
        [width, height]: [usize; 2],
        cell_width: usize,
        labels: impl Iterator<Item = (&'a str, [usize; 2])>,
    ) -> Result<Self, Failure> {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-size=\"{FONT_SIZE}\">"
        );
        for (label, [left, top]) in labels {
            svg += &format!(
                "<svg x=\"{left}\" y=\"{top}\" width=\"{cell_width}\" height=\"{}\">",
                LABEL_LINES * LINE
            );
            for (line, text) in lines(label).into_iter().enumerate() {
                let text = escape_xml(&visible(&text));
                svg += &format!("<text y=\"{}\">{text}</text>", line * LINE + FONT_SIZE);
            }
            svg += "</svg>";
        }
        svg += "</svg>";
        let drawn = png::draw(&svg, 1.0).map_err(|problem| Failure::new(Exit::Failed, problem))?;
        // White below makes every pixel opaque.
        let pixels = drawn.pixels().iter();
        let pixels = pixels.flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]);
        Ok(Self {
            pixels: pixels.collect(),
            width,
            height,
        })
    }

    fn set(&mut self, x: usize, y: usize, colour: [u8; 3]) {
        let at = (y * self.width + x) * 3;
        self.pixels[at..at + 3].copy_from_slice(&colour);
    }
}

/// A label in one line, or two where images are mixed.
fn lines(label: &str) -> Vec<String> {
    match label.split_once(" + ") {
        Some((first, second)) => vec![first.to_owned(), format!("+ {second}")],
        None => vec![label.to_owned()],
    }
}

/// Back from the network's input to a colour.
fn colour(pixel: &[f32], preprocessing: &Preprocessing) -> [u8; 3] {
    let Preprocessing {
        mean,
        std,
        divide_by,
        ..
    } = preprocessing;
    std::array::from_fn(|channel| {
        let channel = channel.min(pixel.len() - 1);
        ((pixel[channel] * std[channel] + mean[channel]) * divide_by).round() as u8
    })
}

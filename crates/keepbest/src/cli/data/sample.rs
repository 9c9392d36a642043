//! `keepbest data sample`: images of a set as files.

use std::collections::VecDeque;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use image::{ExtendedColorType, ImageFormat};
use keepbest_data::{DataBundle, Dataset};
use keepbest_model::write;
use serde_json::json;

use crate::cli::args::Split;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;

/// What to write, and where.
pub(super) struct Request<'a> {
    pub data: &'a str,
    pub to: &'a Path,
    pub count: usize,
    pub split: Option<Split>,
    pub by_class: bool,
    pub force: bool,
}

pub(super) fn run(
    request: &Request<'_>,
    data_dir: Option<&Path>,
    json: bool,
) -> Result<Exit, Failure> {
    let bundle = keepbest_data::open(request.data, data_dir)
        .map_err(|error| Failure::of(Exit::Failed, &error).with_hint(error.hint()))?;
    let (name, set) = pick(&bundle, request.split)?;
    let mut wanted = Vec::new();
    for index in spread(&**set, request.count) {
        let class = &set.classes()[set.label(index) as usize];
        let slug: String = class
            .chars()
            .map(|c| if c.is_alphanumeric() { c } else { '_' })
            .collect();
        let path = if request.by_class {
            request.to.join(&slug).join(format!("{index:05}.png"))
        } else {
            request.to.join(format!("{index:05}-{slug}.png"))
        };
        write::refuse_existing(&path, request.force)?;
        wanted.push((index, class, path));
    }
    // Nothing is written when one of them is in the way.
    let mut written = Vec::new();
    for (index, class, path) in wanted {
        let image = set
            .image(index)
            .map_err(|error| Failure::of(Exit::Failed, &error))?;
        write(&path, request.force, &image)?;
        written.push(json!({"path": path, "label": class, "split": name, "index": index}));
    }
    if json {
        output::json(&written)?;
    } else {
        for file in &written {
            output::line(file["path"].as_str().unwrap_or_default())?;
        }
    }
    Ok(Exit::Done)
}

/// Images of every class in turn, each class in the set's order.
fn spread(set: &dyn Dataset, count: usize) -> Vec<usize> {
    let mut by_class: Vec<VecDeque<usize>> = vec![VecDeque::new(); set.classes().len()];
    for index in 0..set.len() {
        by_class[set.label(index) as usize].push_back(index);
    }
    let mut picked = Vec::new();
    while picked.len() < count.min(set.len()) {
        picked.extend(by_class.iter_mut().filter_map(VecDeque::pop_front));
    }
    picked.truncate(count);
    picked
}

fn pick(
    bundle: &DataBundle,
    split: Option<Split>,
) -> Result<(&'static str, &Arc<dyn Dataset>), Failure> {
    let own = |split: Split| match split {
        Split::Train => Some(&bundle.train),
        Split::Val => bundle.val.as_ref(),
        Split::Test => bundle.test.as_ref(),
    };
    let split = split.unwrap_or(if bundle.test.is_some() {
        Split::Test
    } else {
        Split::Train
    });
    let set = own(split).ok_or_else(|| {
        Failure::new(
            Exit::Failed,
            format!(
                "{} brings no {} split of its own",
                bundle.name,
                split.name()
            ),
        )
    })?;
    Ok((split.name(), set))
}

fn write(path: &Path, force: bool, image: &keepbest_data::Image) -> Result<(), Failure> {
    let shape = image.shape();
    save_png(
        path,
        force,
        image.pixels(),
        [shape.width, shape.height, shape.channels],
    )
}

/// Writes a grey or RGB picture of a width, a height and a number of channels, making its folder if there is none.
pub(super) fn save_png(
    path: &Path,
    force: bool,
    pixels: &[u8],
    [width, height, channels]: [usize; 3],
) -> Result<(), Failure> {
    let colour = if channels == 3 {
        ExtendedColorType::Rgb8
    } else {
        ExtendedColorType::L8
    };
    let mut file = Cursor::new(Vec::new());
    let (width, height, png) = (width as u32, height as u32, ImageFormat::Png);
    image::write_buffer_with_format(&mut file, pixels, width, height, colour, png).map_err(
        |error| Failure {
            causes: vec![error.to_string()],
            ..Failure::new(Exit::Failed, format!("cannot write {}", path.display()))
        },
    )?;
    Ok(write::write_bytes(path, force, file.get_ref())?)
}

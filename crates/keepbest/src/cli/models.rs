//! `keepbest models`: the networks there are.

use keepbest_nn::Network;
use keepbest_nn::zoo::{self, ZooOptions};
use keepbest_train::nearest;
use serde_json::json;

use crate::cli::args::{ModelsArgs, ModelsVerb};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::table::Table;
use crate::cli::words::{count, thousands};

/// Input that networks are shown for: channels, height and width.
fn usual_input(name: &str) -> (usize, usize, usize) {
    match name {
        "simple-cnn" | "lenet5" => (1, 28, 28),
        name if name.ends_with("-imagenet") => (3, 224, 224),
        _ => (3, 32, 32),
    }
}

pub fn run(args: &ModelsArgs) -> Result<Exit, Failure> {
    match &args.verb {
        None | Some(ModelsVerb::List) => list(args.json),
        Some(ModelsVerb::Show {
            name,
            channels,
            image_size,
            classes,
        }) => {
            let (usual_channels, usual_height, usual_width) = usual_input(name);
            let (height, width) = match image_size {
                None => (usual_height, usual_width),
                Some(text) => read_size(text)?,
            };
            let options =
                ZooOptions::new(channels.unwrap_or(usual_channels), height, width, *classes);
            show(name, &options, args.json)
        }
    }
}

fn list(json: bool) -> Result<Exit, Failure> {
    let mut table = Table::new(["name", ">parameters", ">input", "what it is"]);
    let mut objects = Vec::new();
    for entry in zoo::list() {
        let (channels, height, width) = usual_input(entry.name);
        let network = build(entry.name, &ZooOptions::new(channels, height, width, 10))?;
        let parameters = network.parameter_count();
        table.row([
            entry.name.into(),
            thousands(parameters as u64),
            format!("{height}x{width}x{channels}"),
            entry.summary.into(),
        ]);
        objects.push(json!({
            "name": entry.name,
            "summary": entry.summary,
            "parameters": parameters,
            "input": {"channels": channels, "height": height, "width": width},
            "classes": 10,
        }));
    }
    if json {
        output::json(&objects)?
    } else {
        output::lines(&table.lines_within(80))?
    }
    Ok(Exit::Done)
}

fn show(name: &str, options: &ZooOptions, json: bool) -> Result<Exit, Failure> {
    let network = build(name, options)?;
    let layers = network.summary();
    let flops: u64 = layers.iter().map(|layer| layer.flops).sum();
    if json {
        output::json(&json!({
            "spec": network.spec(),
            "parameters": network.parameter_count(),
            "flops": flops,
            "layers": layers,
        }))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["layer", "op", ">output", ">parameters", ">MFLOP"]);
    let mflop = |flops: u64| format!("{:.2}", flops as f64 / 1e6);
    for layer in &layers {
        let [channels, height, width] = layer.output;
        table.row([
            layer.name.clone(),
            layer.op.clone(),
            format!("{height}x{width}x{channels}"),
            thousands(layer.parameters as u64),
            mflop(layer.flops),
        ]);
    }
    output::lines(&table.lines())?;
    let ZooOptions {
        channels,
        height,
        width,
        classes,
    } = options;
    output::line(format!(
        "\n{name} for {height}x{width}x{channels} images of {}: {}, {} MFLOP an image",
        count(*classes as u64, "class").replace("classs", "classes"),
        count(network.parameter_count() as u64, "parameter"),
        mflop(flops),
    ))?;
    Ok(Exit::Done)
}

fn build(name: &str, options: &ZooOptions) -> Result<Network, Failure> {
    let spec = zoo::spec(name, options).map_err(|error| {
        let near = nearest(&error.name, error.known.iter().copied());
        Failure::of(Exit::Usage, &error).with_hint(near.map(|near| format!("did you mean {near}?")))
    })?;
    Network::new(&spec).map_err(|error| Failure::of(Exit::Failed, &error))
}

fn read_size(text: &str) -> Result<(usize, usize), Failure> {
    let mut settings = keepbest_train::Settings::default();
    settings.set("image-size", text, keepbest_train::Origin::Flag)?;
    let size = settings
        .image_size
        .ok_or_else(|| Failure::new(Exit::Usage, "no image size"))?;
    Ok((size.height, size.width))
}

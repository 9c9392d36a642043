//! `keepbest models`: the networks there are.

use keepbest_model::words::{count, thousands};
use keepbest_model::{read_model_file, write};
use keepbest_nn::zoo::{self, ZooOptions};
use keepbest_nn::{InputSize, ModelSpec, Network};
use serde_json::json;

use crate::cli::args::{Input, ModelsArgs, ModelsVerb, NetworkArgs};
use crate::cli::draw;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::table::Table;
use crate::cli::words::{bytes, shorten, tail};

pub(super) fn run(args: &ModelsArgs) -> Result<Exit, Failure> {
    match &args.verb {
        None | Some(ModelsVerb::List) => list(args.json),
        Some(ModelsVerb::Show { what, table }) => show(&network(what)?, *table, args.json),
        Some(ModelsVerb::Draw { what, to, force }) => {
            let network = network(what)?;
            write::write_bytes(to, *force, draw::svg(&network).as_bytes())?;
            if args.json {
                output::json(&json!({"path": to, "network": network.spec().name}))?;
            } else {
                output::line(to.display().to_string())?;
            }
            Ok(Exit::Done)
        }
    }
}

fn list(json: bool) -> Result<Exit, Failure> {
    let mut table = Table::new(["name", ">parameters", ">input", "what it is"]);
    let mut objects = Vec::new();
    for entry in zoo::list() {
        let [channels, height, width] = entry.usual_input;
        let network = build(&zoo_spec(entry.name, entry.usual_input, 10)?)?;
        let parameters = network.parameter_count();
        table.row([
            entry.name.into(),
            thousands(parameters as u64),
            format!("{channels}x{height}x{width}"),
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

fn show(network: &Network, table: bool, json: bool) -> Result<Exit, Failure> {
    let layers = network.summary();
    let flops: u64 = layers.iter().map(|layer| layer.flops).sum();
    let memory: u64 = layers.iter().map(|layer| layer.bytes).sum();
    if json {
        output::json(&json!({
            "spec": network.spec(),
            "parameters": network.parameter_count(),
            "flops": flops,
            "bytes": memory,
            "layers": layers,
        }))?;
        return Ok(Exit::Done);
    }
    let spec = network.spec();
    let mflop = |flops: u64| format!("{:.2}", flops as f64 / 1e6);
    let InputSize {
        channels,
        height,
        width,
    } = spec.input;
    let whole = [
        format!(
            "{} for {channels}x{height}x{width} images of {}:",
            spec.name,
            count(spec.classes as u64, "class"),
        ),
        format!(
            "{}, {} MFLOP and {} of activations an image",
            count(network.parameter_count() as u64, "parameter"),
            mflop(flops),
            bytes(memory),
        ),
    ];
    if !table {
        // A name of several lines is one line of the comment, too.
        for line in &whole {
            output::line(format!("# {line}"))?;
        }
        output::text(spec.to_toml().trim_end())?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["layer", "op", ">output", ">parameters", ">MFLOP", ">memory"]);
    for layer in &layers {
        let [channels, height, width] = layer.output;
        table.row([
            tail(&layer.name, 20),
            shorten(&layer.op.replace("2d", ""), 16),
            format!("{channels}x{height}x{width}"),
            thousands(layer.parameters as u64),
            mflop(layer.flops),
            bytes(layer.bytes),
        ]);
    }
    output::lines(&table.lines())?;
    output::line("")?;
    output::lines(&whole)?;
    Ok(Exit::Done)
}

/// The network that is named, for the input and classes that are given, that a model file says, or that are usual.
fn network(what: &NetworkArgs) -> Result<Network, Failure> {
    let input = what.input.map(|input| input.size);
    if let Some(Input {
        size: [channels, height, width],
        channels_last: true,
    }) = what.input
    {
        say!("note: the input is {height} high, {width} wide, and has {channels} channels");
    }
    let failure = |error: keepbest_model::ArchitectureError| {
        Failure::of(Exit::Usage, &error).with_hint(error.hint())
    };
    let spec = match read_model_file(&what.name).map_err(failure)? {
        Some(mut spec) => {
            if let Some([channels, height, width]) = input {
                spec.input = InputSize {
                    channels,
                    height,
                    width,
                };
            }
            if let Some(classes) = what.classes {
                spec.classes = classes as usize;
            }
            spec
        }
        None => {
            let entry = zoo::entry(&what.name).map_err(|error| failure(error.into()))?;
            let input = input.unwrap_or(entry.usual_input);
            zoo_spec(entry.name, input, what.classes.unwrap_or(10) as usize)?
        }
    };
    build(&spec)
}

fn zoo_spec(
    name: &str,
    [channels, height, width]: [usize; 3],
    classes: usize,
) -> Result<ModelSpec, Failure> {
    zoo::spec(name, &ZooOptions::new(channels, height, width, classes))
        .map_err(|error| Failure::of(Exit::Usage, &error))
}

fn build(spec: &ModelSpec) -> Result<Network, Failure> {
    Network::new(spec).map_err(|error| Failure::of(Exit::Failed, &error))
}

//! ONNX models as networks: a spec, and the weights that belong to it.
//!
//! Constants are folded, moves of data are followed rather than made ([`view`]), operators become layers ([`convert`]), what writers
//! took apart is put together ([`idioms`]), and the layers are put into blocks ([`structure`]). What cannot be said is refused by
//! name, all of it at once.

mod convert;
mod fold;
mod idioms;
mod names;
mod node;
mod steps;
mod structure;
mod view;

use crate::network::{LayerError, Network};
use crate::params::Role;
use crate::spec::{ModelSpec, SPEC_VERSION, SpecError};
use convert::Converter;
use keepbest_formats::onnx::{GraphProto, ModelProto, NodeProto, Side, ValueProto};
use keepbest_formats::{StateDict, Tensor};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use steps::{Steps, step};
use view::{Order, Size, View};

/// Oldest and newest version of ONNX's operator set that is known.
pub const OPSETS: [i64; 2] = [5, 28];

/// What an ONNX model does not say of itself, and how much may be made of it.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// The network's name.
    pub name: String,
    /// Rows and columns of the input, where the model leaves them open.
    pub input_size: Option<[usize; 2]>,
    /// The output to take, in a graph of several.
    pub output: Option<String>,
    /// Bytes that folded constants may take.
    pub most_bytes: u64,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            name: "onnx".to_owned(),
            input_size: None,
            output: None,
            most_bytes: 4 << 30,
        }
    }
}

/// What a graph does to its scores at the end; a network here ends in the scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Nothing.
    #[default]
    Scores,
    /// Softmax.
    Softmax,
    /// Logarithm of softmax.
    LogSoftmax,
}

/// How a graph takes its images.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphInput {
    /// Name.
    pub name: String,
    /// Whether the channels come last.
    pub channels_last: bool,
    /// The number of images that the graph is for; `None` where it takes any.
    pub batch: Option<usize>,
    /// How bytes become the network's input, where the graph takes bytes: factor and shift of each channel. The graph's own
    /// normalisation is no part of the network then.
    pub of_bytes: Option<Vec<(f32, f32)>>,
}

/// A network made of an ONNX model.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The network.
    pub spec: ModelSpec,
    /// Its weights.
    pub weights: StateDict,
    /// What the graph does to the scores at the end, which is left out.
    pub ending: Ending,
    /// How the graph takes its images.
    pub input: GraphInput,
    /// The output that was taken.
    pub output: String,
    /// What is to be known of it, a line each.
    pub notes: Vec<String>,
}

/// A node that no layer can stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsupported {
    /// The node's name, or that of its output where it has none.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// Why not.
    pub why: String,
}

impl Unsupported {
    fn of(node: &NodeProto, why: String) -> Self {
        let name = match node.name.is_empty() {
            true => node.outputs.first().cloned().unwrap_or_default(),
            false => node.name.clone(),
        };
        let op = node.op.clone();
        Self {
            node: name,
            op,
            why,
        }
    }
}

/// Why no network can be made of an ONNX model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Nodes that no layer can stand for.
    #[error("{} of its graph cannot be said in layers", if nodes.len() == 1 { "a node".to_owned() } else { format!("{} nodes", nodes.len()) })]
    Unsupported {
        /// Each of them.
        nodes: Vec<Unsupported>,
    },
    /// An operator set that is not known.
    #[error("it is written for version {found} of the operators, known are {} to {}", OPSETS[0], OPSETS[1])]
    Opset {
        /// The version.
        found: i64,
    },
    /// Inputs or outputs that a network here does not have.
    #[error("{0}")]
    Form(String),
    /// The input's size is not said.
    #[error("its input `{input}` has no fixed {what}")]
    Size {
        /// The input.
        input: String,
        /// The sides that are open.
        what: &'static str,
    },
    /// A layer that this build does not have.
    #[error("the network cannot be read as a spec")]
    Spec(#[from] SpecError),
    /// Layers that do not fit each other.
    #[error("the layers do not fit each other")]
    Layer(#[from] LayerError),
    /// A tensor of another shape than the network's.
    #[error("`{tensor}` has the shape {found:?}, and the network takes {expected:?}")]
    Weights {
        /// The tensor.
        tensor: String,
        /// Its shape in the graph.
        found: Vec<usize>,
        /// Its shape in the network; empty where the graph does not have it.
        expected: Vec<usize>,
    },
}

/// Makes a network of an ONNX model.
///
/// ```
/// use keepbest_formats::onnx::ModelProto;
/// use keepbest_nn::{CpuEngine, Engine, EngineConfig, ModelSpec, Network, onnx, zoo};
/// let spec = zoo::spec("lenet5", &zoo::ZooOptions::new(1, 28, 28, 10))?;
/// let weights = CpuEngine::new(&spec, EngineConfig::default())?.snapshot().weights();
/// let model = onnx::export(&Network::new(&spec)?, &weights, &onnx::OnnxOptions::default())?;
/// let mut file = Vec::new();
/// model.encode()?.write_to(&mut file)?;
///
/// let read = ModelProto::parse(&file.into(), None)?;
/// let again = onnx::import(&read, &onnx::ImportOptions::default())?;
/// let ops = |spec: &ModelSpec| -> Vec<_> { spec.layers.iter().map(|layer| layer.op()).collect() };
/// assert_eq!(ops(&again.spec), ops(&spec));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ImportError`]: all nodes that cannot be said, or what else is in the way.
pub fn import(model: &ModelProto, options: &ImportOptions) -> Result<Imported, ImportError> {
    let opset = model
        .operator_sets
        .iter()
        .find(|(domain, _)| domain.is_empty());
    let opset = opset.map_or(1, |(_, version)| *version);
    if !(OPSETS[0]..=OPSETS[1]).contains(&opset) {
        return Err(ImportError::Opset { found: opset });
    }
    let graph = &model.graph;
    let output = output_of(graph, options)?;
    let wanted = wanted(graph, &output);
    let (value, mut input, view) = input_of(graph, &wanted, options)?;
    let mut converter = Converter::new(graph, opset, (value, view), options.most_bytes);
    for (node, wanted) in graph.nodes.iter().zip(&wanted) {
        if *wanted {
            converter.node(node);
        }
        if converter.steps.0.len() > MOST_STEPS {
            return Err(ImportError::Form(format!(
                "its graph has more than {MOST_STEPS} layers"
            )));
        }
    }
    if !converter.unsupported.is_empty() {
        let nodes = converter.unsupported;
        return Err(ImportError::Unsupported { nodes });
    }
    let of_output =
        |why: String| ImportError::Form(format!("its output `{output}` is no network's: {why}"));
    let made = converter.image(&output).map_err(of_output)?;
    let made = made.ok_or_else(|| of_output("no node makes it".to_owned()))?;
    let mut steps = converter.steps;
    let (last, ending) = ending(&mut steps, made).map_err(of_output)?;
    let mut last = idioms::simplify(&mut steps, last);
    if let Some(normalisation) = &mut input.of_bytes {
        (*normalisation, last) = idioms::normalisation(&mut steps, last);
    }
    let last = idioms::flatten_early(&mut steps, last);
    let mut notes = Vec::new();
    match ending {
        Ending::Scores => {}
        Ending::Softmax => notes.push(
            "the softmax at the end is left out: a network ends in the scores before it".to_owned(),
        ),
        Ending::LogSoftmax => notes.push(
            "the log softmax at the end is left out: a network ends in the scores before it"
                .to_owned(),
        ),
    }
    notes.extend(folded_norms(&steps, graph));
    unique(&mut steps);
    let size = steps.0[0].size;
    let spec = json!({
        "version": SPEC_VERSION,
        "name": options.name,
        "input": {"channels": size.channels, "height": size.rows, "width": size.columns},
        "classes": steps.0[last].size.values(),
        "layers": structure::layers(&steps, last),
    });
    let spec = ModelSpec::from_json(&spec)?;
    let weights = weights(&steps, &spec)?;
    Ok(Imported {
        spec,
        weights,
        ending,
        input,
        output,
        notes,
    })
}

/// `TensorProto.DataType` of bytes.
const BYTE: i64 = 2;

/// Layers that may come about before they are put together: a network has half of it at most.
const MOST_STEPS: usize = 1 << 14;

/// The output that is wanted.
fn output_of(graph: &GraphProto, options: &ImportOptions) -> Result<String, ImportError> {
    let names: Vec<&str> = graph
        .outputs
        .iter()
        .map(|output| output.name.as_str())
        .collect();
    match (&options.output, names.as_slice()) {
        (Some(wanted), _) => match graph.nodes.iter().any(|node| node.outputs.contains(wanted)) {
            true => Ok(wanted.clone()),
            false => Err(ImportError::Form(format!(
                "it has no output `{wanted}`; there are {}",
                names.join(", ")
            ))),
        },
        (None, [one]) => Ok((*one).to_owned()),
        (None, []) => Err(ImportError::Form("it has no output".to_owned())),
        (None, names) => Err(ImportError::Form(format!(
            "it has {} outputs, and a network has one: {}",
            names.len(),
            names.join(", ")
        ))),
    }
}

/// Which nodes lead to the output.
fn wanted(graph: &GraphProto, output: &str) -> Vec<bool> {
    let mut names: HashSet<&str> = [output].into();
    let mut wanted = vec![false; graph.nodes.len()];
    for (node, wanted) in graph.nodes.iter().zip(&mut wanted).rev() {
        if node
            .outputs
            .iter()
            .any(|name| !name.is_empty() && names.contains(name.as_str()))
        {
            *wanted = true;
            names.extend(node.inputs.iter().map(String::as_str));
        }
    }
    wanted
}

/// The only one of the inputs.
fn only<'a>(images: &[&'a ValueProto]) -> Result<&'a ValueProto, ImportError> {
    match images {
        [one] => Ok(one),
        [] => Err(ImportError::Form("it has no input".to_owned())),
        many => {
            let names: Vec<&str> = many.iter().map(|input| input.name.as_str()).collect();
            Err(ImportError::Form(format!(
                "it has {} inputs, and a network has one: {}",
                many.len(),
                names.join(", ")
            )))
        }
    }
}

/// The one input that is no constant, as the network's.
fn input_of<'a>(
    graph: &'a GraphProto,
    wanted: &[bool],
    options: &ImportOptions,
) -> Result<(&'a str, GraphInput, View), ImportError> {
    let constants: HashSet<&str> = graph
        .initializers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let nodes = graph
        .nodes
        .iter()
        .zip(wanted)
        .filter(|(_, wanted)| **wanted);
    let read: HashSet<&str> = nodes
        .flat_map(|(node, _)| &node.inputs)
        .map(String::as_str)
        .collect();
    let images: Vec<&ValueProto> = graph
        .inputs
        .iter()
        .filter(|input| {
            !constants.contains(input.name.as_str()) && read.contains(input.name.as_str())
        })
        .collect();
    let value = only(&images)?;
    let open = |what| ImportError::Size {
        input: value.name.clone(),
        what,
    };
    let shape = value.shape.as_deref().ok_or_else(|| open("shape"))?;
    let fixed = |at: usize| match shape.get(at) {
        Some(Side::Fixed(length)) => Some(*length),
        _ => None,
    };
    let batch = fixed(0);
    let (order, at) = match shape.len() {
        1 => (Order::Numbers, [None, None, None]),
        2 => (Order::Vector, [Some(1), None, None]),
        3 => (Order::Signal, [Some(1), None, Some(2)]),
        4 => {
            let few = |at: usize| fixed(at).is_some_and(|length| length <= 4);
            match few(3) && !few(1) {
                true => (Order::ChannelsLast, [Some(3), Some(1), Some(2)]),
                false => (Order::ChannelsFirst, [Some(1), Some(2), Some(3)]),
            }
        }
        rank => {
            return Err(ImportError::Form(format!(
                "its input `{}` has {rank} dimensions, and images have four",
                value.name
            )));
        }
    };
    let side = |at: Option<usize>, given: Option<usize>, what| match at {
        None => Ok(1),
        Some(at) => match (fixed(at), given) {
            (Some(own), Some(given)) if own != given => Err(ImportError::Form(format!(
                "its input `{}` has a {what} of {own}, not {given}",
                value.name
            ))),
            (Some(own), _) => Ok(own),
            (None, Some(given)) => Ok(given),
            (None, None) => Err(open(what)),
        },
    };
    let [rows, columns] = match options.input_size {
        Some(size) => size.map(Some),
        None => [None, None],
    };
    let channels = side(at[0], None, "number of channels")?;
    let both_open =
        at[1].is_some_and(|at| fixed(at).is_none()) && at[2].is_some_and(|at| fixed(at).is_none());
    if both_open && options.input_size.is_none() {
        return Err(open("height and width"));
    }
    let size = Size::new(
        channels,
        side(at[1], rows, "height")?,
        side(at[2], columns, "width")?,
    );
    if size
        .channels
        .saturating_mul(size.rows)
        .saturating_mul(size.columns)
        > 1 << 30
    {
        return Err(ImportError::Form(format!(
            "its input `{}` is larger than any image",
            value.name
        )));
    }
    let input = GraphInput {
        name: value.name.clone(),
        channels_last: order == Order::ChannelsLast,
        batch,
        of_bytes: (value.element == BYTE).then(Vec::new),
    };
    Ok((
        value.name.as_str(),
        input,
        View::of(0, size, batch.unwrap_or(1), order),
    ))
}

/// The last layer, a vector of scores, without what turns scores into probabilities.
fn ending(steps: &mut Steps, mut output: View) -> Result<(usize, Ending), String> {
    let mut ending = Ending::Scores;
    let trained = steps.0.iter().any(|step| !step.params.is_empty());
    let last = &steps.0[output.step];
    if trained && matches!(last.op, "softmax" | "log_softmax") && last.size.one_pixel() {
        ending = match last.op {
            "softmax" => Ending::Softmax,
            _ => Ending::LogSoftmax,
        };
        output.step = last.from[0];
    }
    if let Some(groups) = output.shuffled() {
        let layer = step("channel_shuffle", vec![output.step], output.size).set("groups", groups);
        let at = steps.add(layer);
        output = View::of(at, output.size, output.batch(), Order::ChannelsFirst);
    }
    if !output.in_order() {
        return Err(format!(
            "its {:?} values have been moved about",
            output.shape()
        ));
    }
    if steps.0[output.step].flat {
        return Ok((output.step, ending));
    }
    let mut flatten = step(
        "flatten",
        vec![output.step],
        Size::new(output.size.values(), 1, 1),
    );
    flatten.flat = true;
    Ok((steps.add(flatten), ending))
}

/// Whether batch norms were made part of the convolutions, as far as it shows.
fn folded_norms(steps: &Steps, graph: &GraphProto) -> Option<String> {
    let convolutions = steps.0.iter().filter(|step| step.op == "conv2d");
    let (all, biased) = convolutions.fold((0, 0), |(all, biased), step| {
        (all + 1, biased + usize::from(step.param("bias").is_some()))
    });
    let norms = steps.0.iter().any(|step| step.op.contains("norm"));
    if norms || all == 0 || biased == 0 {
        return None;
    }
    let renamed = graph
        .initializers
        .iter()
        .any(|(name, _)| name.starts_with("onnx::Conv"));
    let what = match renamed {
        true => "the batch norms are folded into the convolutions",
        false => {
            "there is no batch norm: if the network had any, they are folded into the convolutions"
        }
    };
    Some(format!(
        "{what}; it predicts the same and trains differently (a lower learning rate helps)"
    ))
}

/// Gives every layer with parameters a name of its own.
fn unique(steps: &mut Steps) {
    let mut taken = HashSet::new();
    for step in &mut steps.0 {
        let Some(name) = &mut step.name else { continue };
        let wanted = name.clone();
        let mut copy = 2;
        while !taken.insert(name.clone()) {
            *name = format!("{wanted}_{copy}");
            copy += 1;
        }
    }
}

/// The weights in the order of the network.
fn weights(steps: &Steps, spec: &ModelSpec) -> Result<StateDict, ImportError> {
    let mut found: HashMap<String, &Tensor> = HashMap::new();
    for step in &steps.0 {
        let Some(name) = &step.name else { continue };
        for (part, tensor) in &step.params {
            let full = match part.is_empty() {
                true => name.clone(),
                false => format!("{name}.{part}"),
            };
            found.insert(full, tensor);
        }
    }
    let network = Network::new(spec)?;
    let mut weights = StateDict::new();
    for wanted in network.layout().tensors() {
        let tensor = match found.get(&wanted.name) {
            Some(tensor) if tensor.shape() == wanted.shape => (*tensor).clone(),
            None if wanted.role == Role::Counter => {
                Tensor::from_i64(&wanted.shape, &[0]).expect("a counter is one number")
            }
            other => {
                return Err(ImportError::Weights {
                    tensor: wanted.name.clone(),
                    found: other
                        .map(|tensor| tensor.shape().to_vec())
                        .unwrap_or_default(),
                    expected: wanted.shape.clone(),
                });
            }
        };
        weights
            .insert(wanted.name.clone(), tensor)
            .expect("names of a network are unique");
    }
    Ok(weights)
}

//! A network as an SVG: boxes from top to bottom in the order of the computation, blocks around them.

use std::collections::HashMap;
use std::fmt::Write as _;

use keepbest_core::text::visible;
use keepbest_model::words::thousands;
use keepbest_nn::{Graph, Layer, Network};
use serde_json::Value;

/// What stands in the picture, one below the other.
enum Item {
    /// A convolution or the like, with the norms and functions after it.
    Box {
        lines: Vec<String>,
        colour: &'static str,
    },
    Block {
        title: String,
        /// Side by side; an empty one passes its input on.
        columns: Vec<Vec<Item>>,
        /// The operation by which the columns come together.
        joined: Option<&'static str>,
    },
}

const WIDTH: f64 = 250.0;
/// Characters of a line that a box has room for.
const CHARACTERS: usize = 38;
const LINE: f64 = 16.0;
const GAP: f64 = 14.0;
const PAD: f64 = 12.0;
const TITLE: f64 = 20.0;
/// Height of the circle in which columns come together.
const JOIN: f64 = 34.0;
/// Width of a column that only passes its input on.
const BYPASS: f64 = 24.0;

const CONVOLUTION: &str = "#d6e4ff";
const LINEAR: &str = "#ffe3c2";
const POOLING: &str = "#d5f0d8";
const OTHER: &str = "#ececec";

/// The picture of a network.
pub(super) fn svg(network: &Network) -> String {
    let spec = network.spec();
    let shapes: HashMap<String, [usize; 3]> = network
        .summary()
        .into_iter()
        .map(|layer| (layer.name, layer.output))
        .collect();
    let items = items("", &spec.layers, &shapes);
    let (width, height) = size(&items);
    let (width, height) = (width + 2.0 * PAD, height + 3.0 * PAD + 3.0 * LINE);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let input = spec.input;
    let heads = [
        format!("{}: {} classes", spec.name, spec.classes),
        format!("{} parameters", thousands(network.parameter_count() as u64)),
        format!("input {}x{}x{}", input.channels, input.height, input.width),
    ];
    for (number, head) in heads.iter().enumerate() {
        let y = PAD + LINE * (number as f64 + 0.8);
        let weight = if number == 0 { "bold" } else { "normal" };
        text(&mut out, width / 2.0, y, head, "middle", weight);
    }
    draw_all(&mut out, &items, width / 2.0, 2.0 * PAD + 3.0 * LINE);
    out += "</svg>\n";
    out
}

/// The name of a layer inside a block.
fn inside(prefix: &str, own: &str) -> String {
    match (prefix, own) {
        ("", name) | (name, "") => name.to_owned(),
        (prefix, own) => format!("{prefix}.{own}"),
    }
}

fn items(prefix: &str, layers: &[Layer], shapes: &HashMap<String, [usize; 3]>) -> Vec<Item> {
    let mut items = Vec::new();
    for (position, layer) in layers.iter().enumerate() {
        add(&mut items, prefix, position, layer, shapes);
    }
    items
}

fn add(
    items: &mut Vec<Item>,
    prefix: &str,
    position: usize,
    layer: &Layer,
    shapes: &HashMap<String, [usize; 3]>,
) {
    let own = layer.name().map_or(position.to_string(), str::to_owned);
    let name = inside(prefix, &own);
    let block = |columns, joined| Item::Block {
        title: name.clone(),
        columns,
        joined,
    };
    match layer {
        Layer::Sequential(l) => {
            let inner = self::items(&name, &l.layers, shapes);
            // One box needs no frame around it.
            if l.name.as_deref() == Some("") || inner.len() == 1 {
                items.extend(inner);
            } else {
                items.push(block(vec![inner], None));
            }
        }
        Layer::Repeat(l) => {
            let pattern = l.name.as_deref().unwrap_or("{}");
            let copy = |number: usize| inside(prefix, &pattern.replace("{}", &number.to_string()));
            items.push(Item::Block {
                title: match l.times {
                    0 | 1 => copy(l.first),
                    times => {
                        let last = l.first + times - 1;
                        format!("{times} times: {} to {}", copy(l.first), copy(last))
                    }
                },
                columns: vec![self::items(&copy(l.first), &l.layers, shapes)],
                joined: None,
            });
        }
        Layer::Residual(l) => {
            let body = self::items(&name, &l.body, shapes);
            let shortcut = self::items(&name, &l.shortcut, shapes);
            items.push(block(vec![body, shortcut], Some("+")));
        }
        Layer::Gate(l) => {
            let body = self::items(&name, &l.body, shapes);
            items.push(block(vec![body, vec![]], Some("×")));
        }
        Layer::Branch(l) => {
            let columns = l.branches.iter();
            let columns = columns
                .map(|layers| self::items(&name, layers, shapes))
                .collect();
            items.push(block(columns, Some("cat")));
        }
        Layer::Graph(l) => items.push(block(vec![nodes(&name, l, shapes)], None)),
        leaf => add_leaf(items, leaf, &name, shapes.get(&name)),
    }
}

/// The nodes of a graph in the order of the computation. What does not read the node before it says what it reads.
fn nodes(name: &str, graph: &Graph, shapes: &HashMap<String, [usize; 3]>) -> Vec<Item> {
    let mut column = Vec::new();
    for (position, node) in graph.nodes.iter().enumerate() {
        if node.from.is_empty() {
            add(&mut column, name, position, &node.layer, shapes);
            continue;
        }
        let mut own = Vec::new();
        add(&mut own, name, position, &node.layer, shapes);
        match own.first_mut() {
            Some(Item::Box { lines, .. }) => *lines = [sources(&node.from), lines.clone()].concat(),
            Some(Item::Block { title, .. }) => *title += &format!(" of {}", node.from.join(", ")),
            None => {}
        }
        column.extend(own);
    }
    column
}

/// What a node reads, in lines.
fn sources(from: &[String]) -> Vec<String> {
    let mut lines = vec!["of".to_owned()];
    for (number, id) in from.iter().enumerate() {
        let comma = if number + 1 < from.len() { "," } else { "" };
        let word = format!("{id}{comma}");
        let last = lines.last_mut().expect("there is a line");
        if last.chars().count() + word.chars().count() < CHARACTERS {
            *last += &format!(" {word}");
        } else {
            lines.push(word);
        }
    }
    lines
}

/// A layer of its own, or one more line in the box of the layer it follows.
fn add_leaf(items: &mut Vec<Item>, layer: &Layer, name: &str, shape: Option<&[usize; 3]>) {
    let colour = match layer {
        Layer::Conv2d(_) | Layer::ConvTranspose2d(_) => CONVOLUTION,
        Layer::Linear(_) => LINEAR,
        Layer::MaxPool2d(_)
        | Layer::AvgPool2d(_)
        | Layer::GlobalAvgPool2d(_)
        | Layer::AdaptiveAvgPool2d(_) => POOLING,
        _ => OTHER,
    };
    let settings = settings(layer);
    if colour == OTHER {
        if let Some(Item::Box { lines, .. }) = items.last_mut() {
            let last = lines.last_mut().expect("a box has a line");
            let room = last.chars().count() + settings.chars().count() + 3 <= CHARACTERS;
            // The first line is the layer with the weights.
            if lines.len() > 1 && room {
                let last = lines.last_mut().expect("a box has a line");
                *last += &format!(" · {settings}");
            } else {
                lines.push(settings);
            }
            return;
        }
        items.push(Item::Box {
            lines: vec![settings],
            colour,
        });
        return;
    }
    let own = name.rsplit('.').next().unwrap_or(name);
    let shape = shape.map_or(String::new(), |[c, h, w]| format!(" → {c}x{h}x{w}"));
    items.push(Item::Box {
        lines: vec![format!("{own}: {settings}{shape}")],
        colour,
    });
}

/// What a layer is, with the settings that matter for its shape.
fn settings(layer: &Layer) -> String {
    let value = serde_json::to_value(layer).unwrap_or_default();
    let mut words = layer.op().replace("2d", "").replace('_', " ");
    for key in ["kernel", "stride", "groups", "size", "p"] {
        let shown = match value.get(key) {
            Some(Value::Array(sides)) => {
                let sides: Vec<String> = sides.iter().map(Value::to_string).collect();
                sides.join("x")
            }
            Some(Value::Number(side)) if key == "kernel" || key == "size" => {
                format!("{side}x{side}")
            }
            Some(Value::Number(number)) => {
                let number = number.as_f64().unwrap_or_default();
                format!("{}", (number * 1000.0).round() / 1000.0)
            }
            _ => continue,
        };
        words += &match key {
            "stride" => format!(" /{shown}"),
            "groups" if shown == "1" => String::new(),
            "groups" => format!(" ({shown} groups)"),
            _ => format!(" {shown}"),
        };
    }
    words
}

fn size(items: &[Item]) -> (f64, f64) {
    let sizes = items.iter().map(item_size);
    sizes.fold((0.0, -GAP), |(width, height), (w, h)| {
        (f64::max(width, w), height + GAP + h)
    })
}

fn column_width(column: &[Item]) -> f64 {
    if column.is_empty() {
        BYPASS
    } else {
        size(column).0
    }
}

fn item_size(item: &Item) -> (f64, f64) {
    match item {
        Item::Box { lines, .. } => (WIDTH, LINE * lines.len() as f64 + 10.0),
        Item::Block {
            columns, joined, ..
        } => {
            let widths = columns.iter().map(|column| column_width(column));
            let gaps = PAD * (columns.len() as f64 - 1.0);
            let height = columns
                .iter()
                .map(|column| size(column).1)
                .fold(0.0, f64::max);
            let join = if joined.is_some() { JOIN } else { 0.0 };
            let width = widths.sum::<f64>() + gaps + 2.0 * PAD;
            (width, height + TITLE + PAD + join + GAP)
        }
    }
}

fn draw_all(out: &mut String, items: &[Item], centre: f64, mut y: f64) {
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            line(out, &[(centre, y), (centre, y + GAP)]);
            y += GAP;
        }
        draw(out, item, centre, y);
        y += item_size(item).1;
    }
}

fn draw(out: &mut String, item: &Item, centre: f64, y: f64) {
    let (width, height) = item_size(item);
    let left = centre - width / 2.0;
    let rect = |out: &mut String, fill: &str, stroke: &str| {
        let _ = writeln!(
            out,
            "<rect x=\"{left}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"5\" fill=\"{fill}\" stroke=\"{stroke}\"/>"
        );
    };
    match item {
        Item::Box { lines, colour } => {
            rect(out, colour, "#777");
            for (number, words) in lines.iter().enumerate() {
                let y = y + 5.0 + LINE * (number as f64 + 0.75);
                text(out, centre, y, words, "middle", "normal");
            }
        }
        Item::Block {
            title,
            columns,
            joined,
        } => {
            rect(out, "none", "#aaa");
            text(out, left + 8.0, y + 14.0, title, "start", "bold");
            let top = y + TITLE + GAP;
            let tallest = columns
                .iter()
                .map(|column| size(column).1)
                .fold(0.0, f64::max);
            let (fork, join) = (y + TITLE + 4.0, top + tallest + JOIN / 2.0 + 4.0);
            let mut x = left + PAD;
            for column in columns {
                let wide = column_width(column);
                let middle = x + wide / 2.0;
                draw_all(out, column, middle, top);
                if joined.is_some() {
                    let below = if column.is_empty() {
                        fork
                    } else {
                        top + size(column).1
                    };
                    line(out, &[(centre, fork), (middle, fork), (middle, top)]);
                    line(out, &[(middle, below), (middle, join), (centre, join)]);
                }
                x += wide + PAD;
            }
            if let Some(sign) = joined {
                let _ = writeln!(
                    out,
                    "<circle cx=\"{centre}\" cy=\"{join}\" r=\"12\" fill=\"white\" stroke=\"#555\"/>"
                );
                text(out, centre, join + 4.0, sign, "middle", "bold");
            }
        }
    }
}

fn line(out: &mut String, points: &[(f64, f64)]) {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x},{y}")).collect();
    let points = points.join(" ");
    let _ = writeln!(
        out,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"#555\"/>"
    );
}

fn text(out: &mut String, x: f64, y: f64, words: &str, anchor: &str, weight: &str) {
    let words = visible(words)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" font-weight=\"{weight}\">{words}</text>"
    );
}

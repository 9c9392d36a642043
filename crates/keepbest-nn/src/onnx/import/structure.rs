//! From layers that read each other to blocks: residual, gate and branch where the graph is made so, `graph` where it is not.

use super::steps::Steps;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Blocks in blocks at most; deeper ones stay graphs.
const DEEPEST: usize = 16;

/// The layers of a network, as a spec has them.
pub(super) fn layers(steps: &Steps, output: usize) -> Vec<Value> {
    let nodes: Vec<usize> = (1..=output).collect();
    Builder { steps }.sequence(0, &nodes, output, 0)
}

struct Builder<'a> {
    steps: &'a Steps,
}

impl Builder<'_> {
    /// The layers from one value to another; `nodes` are all between, in order.
    fn sequence(
        &self,
        mut start: usize,
        nodes: &[usize],
        output: usize,
        depth: usize,
    ) -> Vec<Value> {
        // Where each value is read last.
        let mut last: HashMap<usize, usize> = HashMap::new();
        for (at, &node) in nodes.iter().enumerate() {
            for &from in &self.steps.0[node].from {
                last.insert(from, at);
            }
        }
        last.insert(output, usize::MAX);
        let mut layers = Vec::new();
        let mut at = 0;
        while at < nodes.len() {
            // The part ends where one value alone goes on.
            let mut end = at;
            let mut reach = last.get(&start).copied().unwrap_or_default();
            while reach > end && end + 1 < nodes.len() {
                reach = reach.max(last.get(&nodes[end]).copied().unwrap_or_default());
                end += 1;
            }
            let part = &nodes[at..=end];
            let join = nodes[end];
            match part {
                [one] if self.steps.0[*one].from.len() == 1 => layers.push(self.layer(*one)),
                _ => layers.push(self.block(start, part, depth)),
            }
            start = join;
            at = end + 1;
        }
        layers
    }

    /// One layer without the layers that it reads.
    fn layer(&self, at: usize) -> Value {
        let step = &self.steps.0[at];
        let mut layer = Map::new();
        layer.insert("op".to_owned(), step.op.into());
        if let Some(name) = &step.name {
            layer.insert("name".to_owned(), name.as_str().into());
        }
        layer.extend(step.settings.clone());
        Value::Object(layer)
    }

    fn block(&self, start: usize, part: &[usize], depth: usize) -> Value {
        let usual = (depth < DEEPEST)
            .then(|| self.usual(start, part, depth))
            .flatten();
        usual.unwrap_or_else(|| self.graph(start, part))
    }

    /// A residual block, gate or branches, where the layers are such.
    fn usual(&self, start: usize, part: &[usize], depth: usize) -> Option<Value> {
        let (&join, inside) = part.split_last()?;
        let step = &self.steps.0[join];
        let sides = self.sides(start, inside, &step.from)?;
        let sizes = step
            .from
            .iter()
            .map(|&from| (self.steps.0[from].size, self.steps.0[from].flat));
        let sizes: Vec<_> = sizes.collect();
        let lists = || -> Vec<Vec<Value>> {
            let ends = step.from.iter().zip(&sides);
            ends.map(|(&end, nodes)| self.sequence(start, nodes, end, depth + 1))
                .collect()
        };
        let empty = sides.iter().filter(|side| side.is_empty()).count();
        let block = match (step.op, step.from.len()) {
            ("add", 2) if sizes[0] == sizes[1] && empty < 2 => {
                let mut lists = lists();
                // The longer side is the body.
                if sides[0].len() < sides[1].len() {
                    lists.swap(0, 1);
                }
                let (shortcut, body) = (lists.pop()?, lists.pop()?);
                json!({"op": "residual", "name": "", "body": body, "shortcut": shortcut})
            }
            ("mul", 2) => {
                let gated = step.from.iter().position(|&from| from == start)?;
                let factors = sizes[1 - gated];
                let own = sizes[gated];
                if !factors.0.one_pixel()
                    || factors.0.channels != own.0.channels
                    || own.1
                    || factors.1
                {
                    return None;
                }
                let body = lists().swap_remove(1 - gated);
                json!({"op": "gate", "name": "", "body": body})
            }
            ("concat", 2..) if empty < 2 && sizes.iter().all(|(_, flat)| !flat) => {
                json!({"op": "branch", "name": "", "branches": lists()})
            }
            _ => return None,
        };
        Some(factored(block))
    }

    /// The layers that lead from `start` to each of `ends`; `None` where two have one in common or one is in none.
    fn sides(&self, start: usize, inside: &[usize], ends: &[usize]) -> Option<Vec<Vec<usize>>> {
        let mut side_of: HashMap<usize, usize> = HashMap::new();
        for (side, &end) in ends.iter().enumerate() {
            if end != start && side_of.insert(end, side).is_some() {
                return None;
            }
        }
        let mut sides = vec![vec![]; ends.len()];
        for &node in inside.iter().rev() {
            let &side = side_of.get(&node)?;
            sides[side].push(node);
            for &from in self.steps.0[node]
                .from
                .iter()
                .filter(|&&from| from != start)
            {
                if *side_of.entry(from).or_insert(side) != side {
                    return None;
                }
            }
        }
        sides.iter_mut().for_each(|side| side.reverse());
        Some(sides)
    }

    /// Layers that name what they read.
    fn graph(&self, start: usize, part: &[usize]) -> Value {
        let id = |at: usize| {
            if at == start {
                "input".to_owned()
            } else {
                format!("n{at}")
            }
        };
        let node = |&at: &usize| {
            let from: Vec<String> = self.steps.0[at].from.iter().map(|&from| id(from)).collect();
            json!({"id": id(at), "from": from, "layer": self.layer(at)})
        };
        let nodes: Vec<Value> = part.iter().map(node).collect();
        factored(json!({"op": "graph", "name": "", "nodes": nodes}))
    }
}

/// The layers right in a block.
fn children(block: &mut Value) -> Vec<&mut Value> {
    let Value::Object(block) = block else {
        return vec![];
    };
    let mut found = Vec::new();
    for (key, value) in block {
        let Value::Array(list) = value else { continue };
        match key.as_str() {
            "body" | "shortcut" => found.extend(list),
            "branches" => found.extend(list.iter_mut().filter_map(Value::as_array_mut).flatten()),
            "nodes" => found.extend(list.iter_mut().filter_map(|node| node.get_mut("layer"))),
            _ => {}
        }
    }
    found
}

/// The names in a block, as far as they add to those of parameters.
fn names(block: &mut Value) -> Vec<&mut String> {
    let mut found = Vec::new();
    for child in children(block) {
        match child.get("name").and_then(Value::as_str) {
            Some("") => found.extend(names(child)),
            Some(_) => found.extend(match child.get_mut("name") {
                Some(Value::String(name)) => Some(name),
                _ => None,
            }),
            None => {}
        }
    }
    found
}

/// A block with what the names in it begin with as its own name.
fn factored(mut block: Value) -> Value {
    let mut inside = names(&mut block);
    let mut common: Option<Vec<String>> = None;
    for name in &inside {
        let mut parts: Vec<String> = name.split('.').map(str::to_owned).collect();
        parts.pop();
        let shared = match &common {
            None => parts,
            Some(common) => {
                let both = common.iter().zip(&parts).take_while(|(a, b)| a == b);
                both.map(|(a, _)| a.clone()).collect()
            }
        };
        common = Some(shared);
    }
    let prefix = common.unwrap_or_default().join(".");
    if !prefix.is_empty() {
        for name in &mut inside {
            name.drain(..=prefix.len());
        }
        block["name"] = prefix.into();
    }
    block
}

//! Blocks: layers inside layers.

use super::{Current, Lowering, MAX_LAYERS, Place, describe, join};
use crate::network::{LayerError, Op};
use crate::params::{Role, Start};
use crate::spec::{self, Layer};
use keepbest_kernels::{ActShape, concat};

impl Lowering {
    pub(super) fn sequence(
        &mut self,
        prefix: &str,
        layers: &[Layer],
        mut current: Current,
    ) -> Result<Current, LayerError> {
        let mut places = Vec::with_capacity(layers.len());
        for (position, layer) in layers.iter().enumerate() {
            let own = layer
                .name()
                .map_or_else(|| position.to_string(), str::to_owned);
            let name = match layer {
                // Its name is a pattern for the names of its copies.
                Layer::Repeat(_) => prefix.to_owned(),
                _ => join(prefix, &own),
            };
            places.push(Place { name, layer });
        }
        // PyTorch names a module's own parameters before those of its submodules.
        for place in &places {
            if let Layer::LayerScale(l) = place.layer {
                let start = Start::Constant(l.init as f32);
                self.param(place, "", &[], Role::Trained, start)?;
            }
        }
        for place in &places {
            current = self.layer(place, current)?;
        }
        Ok(current)
    }

    pub(super) fn repeat(
        &mut self,
        place: &Place,
        l: &spec::Repeat,
        mut x: Current,
    ) -> Result<Current, LayerError> {
        let pattern = l.name.as_deref().unwrap_or("{}");
        if l.times > 1 && !pattern.contains("{}") {
            return Err(place.error(format!(
                "the name `{pattern}` must contain {{}}, where each copy's number goes"
            )));
        }
        if l.first > MAX_LAYERS {
            return Err(place.error(format!("first must be at most {MAX_LAYERS}")));
        }
        for copy in 0..l.times {
            self.count(place)?;
            let own = pattern.replace("{}", &(l.first + copy).to_string());
            x = self.sequence(&join(&place.name, &own), &l.layers, x)?;
        }
        Ok(x)
    }

    pub(super) fn residual(
        &mut self,
        place: &Place,
        l: &spec::Residual,
        x: Current,
    ) -> Result<Current, LayerError> {
        // `x` feeds both branches, and the shortcut's end feeds the sum: neither may take a later ReLU.
        let outer = self.shared_before;
        let start = self.nodes.len();
        self.shared_before = start;
        // The body comes first in the state dict, as in torchvision, and last in the computation, so that the
        // sum can be fused into its end.
        let body = self.sequence(&place.name, &l.body, x)?;
        let body_nodes = self.nodes.len() - start;
        self.shared_before = self.nodes.len();
        let shortcut = self.sequence(&place.name, &l.shortcut, x)?;
        self.nodes[start..].rotate_left(body_nodes);
        self.shared_before = self.nodes.len() - body_nodes;
        self.apart(place, body, shortcut)?;
        let (a, b) = (self.values[body.value], self.values[shortcut.value]);
        if a != b || body.flat != shortcut.flat {
            return Err(place.error(format!(
                "the body gives {} and the shortcut {}: they must be the same",
                describe(a, body.flat),
                describe(b, shortcut.flat)
            )));
        }
        let last = self.nodes.len().wrapping_sub(1);
        let fusable =
            self.nodes.len() > self.shared_before && self.nodes[last].output == body.value;
        // A batch norm of the shortcut itself would read one value twice.
        let fused = fusable
            && self.nodes[last].input != shortcut.value
            && match &mut self.nodes[last].op {
                Op::BatchNorm(bn) if !bn.relu && bn.residual.is_none() => {
                    bn.residual = Some(shortcut.value);
                    true
                }
                _ => false,
            };
        let out = if fused {
            body
        } else {
            let op = Op::Add {
                other: shortcut.value,
                relu: false,
            };
            self.node(place, op, body.value, a, body.flat)
        };
        self.shared_before = outer;
        Ok(out)
    }

    /// Two inputs of one operation must be two values.
    fn apart(&self, place: &Place, a: Current, b: Current) -> Result<(), LayerError> {
        if a.value == b.value {
            return Err(
                place.error("both sides are the input itself: no layer computes".to_owned())
            );
        }
        Ok(())
    }

    /// A side branch: what it reads feeds others too, so nothing may be fused into what is before it.
    fn aside(
        &mut self,
        place: &Place,
        layers: &[Layer],
        x: Current,
    ) -> Result<Current, LayerError> {
        let outer = std::mem::replace(&mut self.shared_before, self.nodes.len());
        let out = self.sequence(&place.name, layers, x)?;
        self.map(place, out)?;
        self.shared_before = outer;
        Ok(out)
    }

    pub(super) fn gate(
        &mut self,
        place: &Place,
        l: &spec::Gate,
        x: Current,
    ) -> Result<Current, LayerError> {
        let shape = self.map(place, x)?;
        let factors = self.aside(place, &l.body, x)?;
        self.apart(place, x, factors)?;
        let expected = ActShape::new(1, 1, shape.c);
        let found = self.values[factors.value];
        if found != expected {
            return Err(place.error(format!(
                "the body gives {}; it must give {}, a factor for each channel of the input",
                describe(found, false),
                describe(expected, false)
            )));
        }
        let other = factors.value;
        Ok(self.node(place, Op::Gate { other }, x.value, shape, false))
    }

    pub(super) fn branch(
        &mut self,
        place: &Place,
        l: &spec::Branch,
        x: Current,
    ) -> Result<Current, LayerError> {
        self.map(place, x)?;
        if l.branches.len() < 2 {
            return Err(place.error("needs at least two branches".to_owned()));
        }
        let ends: Vec<Current> = l
            .branches
            .iter()
            .map(|layers| self.aside(place, layers, x))
            .collect::<Result<_, _>>()?;
        let mut joined = ends[0];
        for end in &ends[1..] {
            self.apart(place, joined, *end)?;
            let (a, b) = (self.values[joined.value], self.values[end.value]);
            if (a.h, a.w) != (b.h, b.w) {
                return Err(place.error(format!(
                    "one branch gives {} and another {}: their sizes must be the same",
                    describe(a, false),
                    describe(b, false)
                )));
            }
            let other = end.value;
            let shape = concat::joined(a, b);
            joined = self.node(place, Op::Concat { other }, joined.value, shape, false);
        }
        Ok(joined)
    }
}

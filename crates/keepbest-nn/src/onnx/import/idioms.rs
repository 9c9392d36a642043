//! What writers of graphs take apart, put together: activations written as arithmetic, norms by parts, padding before a convolution.

use super::steps::{INPUT, Step, Steps, padding, pair, step};
use super::view::Size;
use keepbest_formats::Tensor;
use serde_json::Value;

/// Layers whose sums can take a bias along.
pub(super) const BIASED: [&str; 3] = ["conv2d", "linear", "conv_transpose2d"];
/// Layers that end in a factor and a shift of each channel.
const NORMS: [&str; 4] = ["batch_norm2d", "group_norm", "layer_norm2d", "layer_norm"];

/// Mark of a factor whose constant is a vector, such as timm's `gamma`.
pub(super) const VECTOR: &str = "vector";

/// Puts idioms together until there is none left, drops what is then not needed, and gives the output's number.
pub(super) fn simplify(steps: &mut Steps, mut output: usize) -> usize {
    // Each round makes a step simpler; long chains are the few that take more than two.
    for _ in 0..8 {
        output = steps.prune(output);
        let mut readers = steps.readers(output);
        let mut changed = false;
        for at in 1..steps.0.len() {
            let mut round = Round {
                steps,
                readers: &readers,
                at,
            };
            if let Some(instead) = round.nothing() {
                redirect(steps, at, instead);
                if output == at {
                    output = instead;
                }
                changed = true;
            } else if round.idiom().is_some() {
                changed = true;
            }
            if changed {
                readers = steps.readers(output);
            }
        }
        if !changed {
            break;
        }
    }
    let output = steps.prune(output);
    named(steps);
    output
}

fn redirect(steps: &mut Steps, old: usize, new: usize) {
    for step in &mut steps.0 {
        step.from
            .iter_mut()
            .filter(|from| **from == old)
            .for_each(|from| *from = new);
    }
}

/// A trained factor alone is a layer scale, named as its parameter; with a shift it is a layer of its own.
fn named(steps: &mut Steps) {
    for step in steps.0.iter_mut().filter(|step| step.op == "scale2d") {
        let Some(name) = step.name.take() else {
            continue;
        };
        let layer = name.strip_suffix(".weight").or(name.strip_suffix(".bias"));
        match (layer, step.param("bias"), step.flat) {
            (None, None, false) => {
                let c = step.size.channels;
                step.op = "layer_scale";
                step.settings = [("init".to_owned(), Value::from(1.0))]
                    .into_iter()
                    .collect();
                for (part, value) in &mut step.params {
                    *part = "";
                    if let Ok(shaped) = Tensor::new(value.dtype(), [c, 1, 1], value.bytes().clone())
                    {
                        *value = shaped;
                    }
                }
                step.name = Some(name);
            }
            (layer, ..) => {
                let layer = layer.unwrap_or(&name).to_owned();
                step.settings.shift_remove(VECTOR);
                for part in ["weight", "bias"] {
                    let has = step.param(part).is_some();
                    step.settings.insert(part.to_owned(), has.into());
                }
                step.name = Some(layer);
            }
        }
    }
}

/// The step at hand among the others.
struct Round<'a> {
    steps: &'a mut Steps,
    readers: &'a [usize],
    at: usize,
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-5 * b.abs().max(1e-3)
}

impl Round<'_> {
    fn this(&self) -> &Step {
        &self.steps.0[self.at]
    }

    fn get(&self, at: usize) -> &Step {
        &self.steps.0[at]
    }

    /// The only input of a step, where it has this op.
    fn before(&self, at: usize, op: &str) -> Option<usize> {
        let step = self.get(at);
        match step.from[..] {
            [from] if step.op == op => Some(from),
            _ => None,
        }
    }

    /// The input of `scale * x + shift`, with both.
    fn affine(&self, at: usize) -> Option<(usize, f64, f64)> {
        let from = self.before(at, "affine")?;
        let step = self.get(at);
        Some((from, step.number("scale")?, step.number("shift")?))
    }

    /// The input of `scale * x`; `x` itself is one times it.
    fn scaled(&self, at: usize) -> (usize, f64) {
        match self.affine(at) {
            Some((from, scale, 0.0)) => (from, scale),
            _ => (at, 1.0),
        }
    }

    fn power(&self, at: usize, exponent: f64) -> Option<usize> {
        let from = self.before(at, "pow")?;
        (self.get(at).number("exponent") == Some(exponent)).then_some(from)
    }

    /// Both inputs of a step, in either order.
    fn both(&self, at: usize, op: &str) -> Option<[[usize; 2]; 2]> {
        let step = self.get(at);
        match step.from[..] {
            [a, b] if step.op == op => Some([[a, b], [b, a]]),
            _ => None,
        }
    }

    /// The step becomes another of the same size.
    fn becomes(&mut self, op: &'static str, from: usize) -> &mut Step {
        let this = &mut self.steps.0[self.at];
        let mut made = step(op, vec![from], this.size);
        made.flat = this.flat;
        *this = made;
        this
    }

    /// What the step changes nothing of.
    fn nothing(&self) -> Option<usize> {
        match self.affine(self.at) {
            Some((from, 1.0, 0.0)) => Some(from),
            _ => None,
        }
    }

    /// Makes the step the whole of an idiom that it ends.
    fn idiom(&mut self) -> Option<()> {
        match self.this().op {
            "affine" => self.of_affine(),
            "clip" => self.of_clip(),
            "mul" => self.product().or_else(|| self.layer_norm()),
            "div" => self.layer_norm(),
            "scale2d" => self.of_scale(),
            "conv2d" => self.padded(),
            "adaptive_avg_pool2d" => self.adaptive(),
            _ => None,
        }
    }

    fn of_affine(&mut self) -> Option<()> {
        let (from, scale, shift) = self.affine(self.at)?;
        if let Some((first, inner, offset)) = self.affine(from) {
            let both = (inner * scale, offset * scale + shift);
            let this = self.becomes("affine", first);
            this.settings.insert("scale".into(), tidy(both.0).into());
            this.settings.insert("shift".into(), tidy(both.1).into());
            return Some(());
        }
        if !near(scale, 1.0 / 6.0) || shift != 0.0 {
            return None;
        }
        // x * relu6(x + 3) / 6, or the same without the factor.
        if let Some(x) = self.shifted_relu6(from) {
            self.becomes("hardsigmoid", x);
            return Some(());
        }
        let pairs = self.both(from, "mul")?;
        let [x, _] = pairs
            .into_iter()
            .find(|[x, y]| self.shifted_relu6(*y) == Some(*x))?;
        self.becomes("hardswish", x);
        Some(())
    }

    fn shifted_relu6(&self, at: usize) -> Option<usize> {
        let shifted = self.before(at, "relu6")?;
        match self.affine(shifted)? {
            (x, 1.0, 3.0) => Some(x),
            _ => None,
        }
    }

    fn of_clip(&mut self) -> Option<()> {
        let this = self.this();
        let (min, max) = (this.number("min"), this.number("max"));
        let from = this.from[0];
        if let Some((x, scale, 0.5)) = self.affine(from)
            && near(scale, 1.0 / 6.0)
            && (min, max) == (Some(0.0), Some(1.0))
        {
            self.becomes("hardsigmoid", x);
            return Some(());
        }
        // One bound after the other.
        let before = self.get(from);
        let bound = match before.op {
            "relu" => Some(0.0),
            "clip" if before.number("max").is_none() => before.number("min"),
            _ => None,
        };
        let (low, high, x) = (bound?, max?, *before.from.first()?);
        if min.is_some() || low > high {
            return None;
        }
        if (low, high) == (0.0, 6.0) {
            self.becomes("relu6", x);
        } else {
            let this = self.becomes("clip", x);
            this.settings.insert("min".into(), low.into());
            this.settings.insert("max".into(), high.into());
        }
        Some(())
    }

    /// Products of a value with a function of itself.
    fn product(&mut self) -> Option<()> {
        for [x, y] in self.both(self.at, "mul")? {
            for (op, inner) in [("silu", "sigmoid"), ("hardswish", "hardsigmoid")] {
                if self.before(y, inner) == Some(x) {
                    self.becomes(op, x);
                    return Some(());
                }
            }
            if self
                .before(y, "tanh")
                .and_then(|y| self.before(y, "softplus"))
                == Some(x)
            {
                self.becomes("mish", x);
                return Some(());
            }
            if let Some((from, scale)) = self.before(y, "sigmoid").map(|y| self.scaled(y))
                && from == x
                && near(scale, 1.702)
            {
                self.becomes("quick_gelu", x);
                return Some(());
            }
            if self.power(y, 2.0) == Some(x) {
                self.becomes("pow", x)
                    .settings
                    .insert("exponent".into(), 3.0.into());
                return Some(());
            }
            if let Some(done) = self.gelu(x, y) {
                return Some(done);
            }
        }
        None
    }

    /// `k * x` times `s * (1 + f(x))`, which is GELU where twice `k * s` is 1, and a multiple of it elsewhere.
    fn gelu(&mut self, left: usize, right: usize) -> Option<()> {
        let (inner, s, shift) = self.affine(right)?;
        if s != shift {
            return None;
        }
        let (x, k) = self.scaled(left);
        let tanh = match self.of_erf(inner) == Some(x) {
            true => false,
            false if self.of_tanh(inner) == Some(x) => true,
            false => return None,
        };
        let factor = tidy(2.0 * k * s);
        let target = match near(factor, 1.0) {
            true => self.at,
            // The part on the right becomes GELU, and the product a multiple.
            false if self.readers[right] == 1 => {
                let this = self.becomes("affine", right);
                this.settings.insert("scale".into(), factor.into());
                this.settings.insert("shift".into(), 0.0.into());
                right
            }
            false => return None,
        };
        let mut made = step("gelu", vec![x], self.get(target).size);
        made.flat = self.get(target).flat;
        if tanh {
            made = made.set("approximate", "tanh");
        }
        self.steps.0[target] = made;
        Some(())
    }

    fn of_erf(&self, at: usize) -> Option<usize> {
        let (x, scale) = self.scaled(self.before(at, "erf")?);
        near(scale, std::f64::consts::FRAC_1_SQRT_2).then_some(x)
    }

    /// `tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))`.
    fn of_tanh(&self, at: usize) -> Option<usize> {
        let (sum, scale) = self.scaled(self.before(at, "tanh")?);
        let pairs = self.both(sum, "add")?;
        let cubic = |at: usize| {
            let (cube, scale) = self.scaled(at);
            near(scale, 0.044_715)
                .then(|| self.power(cube, 3.0))
                .flatten()
        };
        let [x, _] = pairs.into_iter().find(|[x, y]| cubic(*y) == Some(*x))?;
        near(scale, 0.797_884_560_8).then_some(x)
    }

    /// `(x - mean) / sqrt(variance + eps)` over the channels of each pixel.
    fn layer_norm(&mut self) -> Option<()> {
        let op = self.this().op;
        let mut found = None;
        for [centred, deviation] in self.both(self.at, op)? {
            let inside = match op {
                "div" => self.before(deviation, "sqrt"),
                _ => self
                    .power(deviation, -0.5)
                    .or_else(|| self.before(self.power(deviation, -1.0)?, "sqrt")),
            };
            let Some((variance, 1.0, eps)) = inside.and_then(|inside| self.affine(inside)) else {
                continue;
            };
            let squares = self
                .before(variance, "channel_mean")
                .and_then(|at| self.power(at, 2.0));
            let x = self.centred(centred);
            if x.is_some() && squares.and_then(|at| self.centred(at)) == x {
                found = x.map(|x| (x, eps));
            }
        }
        let (x, eps) = found?;
        let c = self.this().size.channels;
        let name = format!("layer_norm_{}", self.at);
        let ones = Tensor::from_f32(&[c], &vec![1.0; c]).ok()?;
        let zeros = Tensor::from_f32(&[c], &vec![0.0; c]).ok()?;
        let this = self.becomes("layer_norm2d", x);
        this.settings.insert("eps".into(), eps.into());
        this.name = Some(name);
        this.params = vec![("weight", ones), ("bias", zeros)];
        Some(())
    }

    /// `x` of `x - mean(x)`.
    fn centred(&self, at: usize) -> Option<usize> {
        let step = self.get(at);
        match step.from[..] {
            [x, mean] if step.op == "sub" && self.before(mean, "channel_mean") == Some(x) => {
                Some(x)
            }
            _ => None,
        }
    }

    /// A factor or shift of each channel becomes part of the layer that nothing else reads.
    fn of_scale(&mut self) -> Option<()> {
        let from = *self.this().from.first()?;
        if self.readers[from] != 1 || self.get(from).op == INPUT {
            return None;
        }
        let this = self.this().clone();
        let before = self.get(from).clone();
        let (weight, bias) = (this.param("weight"), this.param("bias"));
        let mut made = before.clone();
        if BIASED.contains(&before.op) && weight.is_none() && before.param("bias").is_none() {
            made.params.push(("bias", bias?.clone()));
            made.settings.shift_remove("bias");
        } else if NORMS.contains(&before.op) {
            for (part, value) in &mut made.params {
                if let (Some(weight), "weight" | "bias") = (weight, *part) {
                    *value = combine(value, weight, |a, b| a * b)?;
                }
                if let (Some(bias), "bias") = (bias, *part) {
                    *value = combine(value, bias, |a, b| a + b)?;
                }
            }
            // A norm by parts is called after its factor.
            if let Some(name) = this
                .name
                .as_deref()
                .and_then(|name| name.strip_suffix(".weight"))
            {
                made.name = Some(name.to_owned());
            }
        } else if before.op == "scale2d" && before.param("bias").is_none() && weight.is_none() {
            made.params.push(("bias", bias?.clone()));
        } else {
            return None;
        }
        made.from = before.from;
        self.steps.0[self.at] = made;
        Some(())
    }

    /// Adaptive pooling along rows and then columns, or the other way round, is one of both.
    fn adaptive(&mut self) -> Option<()> {
        let between = *self.this().from.first()?;
        let first = self.before(between, "adaptive_avg_pool2d")?;
        let [start, middle, end] = [first, between, self.at].map(|at| self.get(at).size);
        let rows_first = start.columns == middle.columns && middle.rows == end.rows;
        let columns_first = start.rows == middle.rows && middle.columns == end.columns;
        if !rows_first && !columns_first {
            return None;
        }
        self.becomes("adaptive_avg_pool2d", first)
            .settings
            .insert("size".into(), pair([end.rows, end.columns]));
        Some(())
    }

    /// Zeros around a map become the convolution's padding.
    fn padded(&mut self) -> Option<()> {
        let from = *self.this().from.first()?;
        let x = self.before(from, "pad2d")?;
        let pad = self.get(from);
        let zeros = pad.settings.get("mode").and_then(Value::as_str) == Some("constant")
            && pad.number("value") == Some(0.0);
        let side = |key: &str| pad.number(key).map(|side| side as usize);
        let around = [side("top")?, side("bottom")?, side("left")?, side("right")?];
        let own = sides(self.this().settings.get("padding")?)?;
        if !zeros {
            return None;
        }
        let mut sum = [0; 4];
        for at in 0..4 {
            sum[at] = own[at] + around[at];
        }
        let this = &mut self.steps.0[self.at];
        this.settings.insert("padding".into(), padding(sum));
        this.from = vec![x];
        Some(())
    }
}

/// Top, bottom, left and right of a padding as a spec writes it.
fn sides(padding: &Value) -> Option<[usize; 4]> {
    if let Some(all) = padding.as_u64() {
        return Some([all as usize; 4]);
    }
    let each: Option<Vec<usize>> = padding
        .as_array()?
        .iter()
        .map(|side| side.as_u64().map(|side| side as usize))
        .collect();
    match each?[..] {
        [h, w] => Some([h, h, w, w]),
        [top, bottom, left, right] => Some([top, bottom, left, right]),
        _ => None,
    }
}

fn combine(a: &Tensor, b: &Tensor, with: impl Fn(f32, f32) -> f32) -> Option<Tensor> {
    let (own, other) = (a.as_f32().ok()?, b.as_f32().ok()?);
    let values: Vec<f32> = own
        .iter()
        .zip(other.iter())
        .map(|(&a, &b)| with(a, b))
        .collect();
    Tensor::from_f32(a.shape(), &values).ok()
}

/// A product of rounded numbers, rounded where that gives a short one.
fn tidy(value: f64) -> f64 {
    let short = (value * 1e6).round() / 1e6;
    if (value - short).abs() < 1e-9 {
        short
    } else {
        value
    }
}

/// Flattens before what comes after the last map of one pixel, rather than at the end: as networks are mostly written.
pub(super) fn flatten_early(steps: &mut Steps, output: usize) -> usize {
    const ALIKE: [&str; 12] = [
        "linear",
        "relu",
        "relu6",
        "sigmoid",
        "silu",
        "hardsigmoid",
        "hardswish",
        "gelu",
        "dropout",
        "tanh",
        "leaky_relu",
        "elu",
    ];
    if steps.0[output].op != "flatten" {
        return output;
    }
    let readers = steps.readers(output);
    let mut first = output;
    loop {
        let before = steps.0[first].from[0];
        let step = &steps.0[before];
        let pixel = step
            .from
            .first()
            .is_some_and(|&from| steps.0[from].size.one_pixel());
        let own_pixel = step.op != "linear" || step.settings.contains_key("per_pixel");
        if !ALIKE.contains(&step.op)
            || !pixel
            || !own_pixel
            || readers[before] != 1
            || step.from.len() != 1
        {
            break;
        }
        first = before;
    }
    if first == output {
        return output;
    }
    // The flatten goes before `first`: layers between move up by one place.
    let flatten = steps.0.remove(output);
    let from = steps.0[first].from[0];
    let size = steps.0[from].size;
    let mut early = flatten;
    early.from = vec![from];
    early.size = Size::new(size.values(), 1, 1);
    steps.0.insert(first, early);
    for at in first + 1..=output {
        let step = &mut steps.0[at];
        for source in &mut step.from {
            if at == first + 1 {
                *source = first;
            } else if *source >= first {
                *source += 1;
            }
        }
        step.flat = true;
        if step.op == "linear" {
            step.settings.shift_remove("per_pixel");
        }
    }
    output
}

/// Takes off what a network of bytes begins with, factors and shifts of its pixels: those of each channel, and the output's number.
pub(super) fn normalisation(steps: &mut Steps, output: usize) -> (Vec<(f32, f32)>, usize) {
    let readers = steps.readers(output);
    let mut map = vec![(1.0f64, 0.0f64); steps.0[0].size.channels];
    let mut end = 0;
    for (at, step) in steps.0.iter().enumerate().skip(1) {
        if step.from != [end] || readers[end] != 1 || at == output {
            break;
        }
        let of = |part: &str| step.param(part).and_then(|values| values.as_f32().ok());
        let (scales, shifts) = match step.op {
            "affine" => (None, None),
            "scale2d" => (of("weight"), of("bias")),
            "layer_scale" => (of(""), None),
            _ => break,
        };
        let (scale, shift) = (
            step.number("scale").unwrap_or(1.0),
            step.number("shift").unwrap_or(0.0),
        );
        for (channel, (factor, offset)) in map.iter_mut().enumerate() {
            let scale = scales.as_ref().map_or(scale, |all| f64::from(all[channel]));
            let shift = shifts.as_ref().map_or(shift, |all| f64::from(all[channel]));
            *factor *= scale;
            *offset = *offset * scale + shift;
        }
        end = at;
    }
    redirect(steps, end, 0);
    let rounded = map
        .into_iter()
        .map(|(scale, shift)| (scale as f32, shift as f32));
    (rounded.collect(), steps.prune(output))
}

//! A node with its settings, in the forms that operator sets have given them.

use super::fold::{axis, ints, slice_range};
use keepbest_formats::Tensor;
use keepbest_formats::onnx::{AttributeProto, NodeProto};

/// A node of the graph, read by the rules of its operator set.
pub(super) struct Node<'a> {
    pub proto: &'a NodeProto,
    /// Version of ONNX's operator set.
    pub opset: i64,
}

impl<'a> Node<'a> {
    pub(super) fn op(&self) -> &'a str {
        &self.proto.op
    }

    fn get(&self, name: &str) -> Option<&'a AttributeProto> {
        let mut attributes = self.proto.attributes.iter();
        attributes
            .find(|(own, _)| own == name)
            .map(|(_, value)| value)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn int(&self, name: &str, default: i64) -> Result<i64, String> {
        match self.get(name) {
            None => Ok(default),
            Some(AttributeProto::Int(value)) => Ok(*value),
            Some(_) => Err(wrong(name, "a whole number")),
        }
    }

    pub(super) fn float(&self, name: &str, default: f32) -> Result<f32, String> {
        match self.get(name) {
            None => Ok(default),
            Some(AttributeProto::Float(value)) => Ok(*value),
            Some(_) => Err(wrong(name, "a number")),
        }
    }

    pub(super) fn text(&self, name: &str, default: &'a str) -> Result<&'a str, String> {
        match self.get(name) {
            None => Ok(default),
            Some(AttributeProto::Text(text)) => Ok(text),
            Some(_) => Err(wrong(name, "a text")),
        }
    }

    pub(super) fn ints(&self, name: &str) -> Result<Option<&'a [i64]>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(AttributeProto::Ints(values)) => Ok(Some(values)),
            Some(_) => Err(wrong(name, "a list of whole numbers")),
        }
    }

    pub(super) fn floats(&self, name: &str) -> Result<Option<&'a [f32]>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(AttributeProto::Floats(values)) => Ok(Some(values)),
            Some(_) => Err(wrong(name, "a list of numbers")),
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Option<&'a Tensor>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(AttributeProto::Tensor(tensor)) => Ok(Some(tensor)),
            Some(_) => Err(wrong(name, "a tensor")),
        }
    }

    /// As many lengths as there are spatial axes, such as strides; `default` where they are not said.
    pub(super) fn lengths(
        &self,
        name: &str,
        axes: usize,
        default: usize,
    ) -> Result<Vec<usize>, String> {
        let Some(values) = self.ints(name)? else {
            return Ok(vec![default; axes]);
        };
        let lengths: Result<Vec<usize>, _> =
            values.iter().map(|&value| usize::try_from(value)).collect();
        match lengths {
            Ok(lengths) if lengths.len() == axes => Ok(lengths),
            _ => Err(wrong(name, &format!("{axes} lengths"))),
        }
    }

    /// What a `Constant` holds.
    pub(super) fn constant(&self) -> Result<Tensor, String> {
        let made = match self.proto.attributes.first() {
            Some((_, AttributeProto::Tensor(tensor))) => return Ok(tensor.clone()),
            Some((_, AttributeProto::Float(value))) => Tensor::from_f32(&[], &[*value]),
            Some((_, AttributeProto::Int(value))) => Tensor::from_i64(&[], &[*value]),
            Some((_, AttributeProto::Floats(values))) => Tensor::from_f32(&[values.len()], values),
            Some((_, AttributeProto::Ints(values))) => Tensor::from_i64(&[values.len()], values),
            _ => return Err("it holds no numbers".to_owned()),
        };
        made.map_err(|error| error.to_string())
    }

    /// What `Shape` gives for a shape.
    pub(super) fn shape_of(&self, shape: &[usize]) -> Result<Tensor, String> {
        let rank = shape.len() as i64;
        let bound = |value: i64| {
            (if value < 0 {
                value.saturating_add(rank)
            } else {
                value
            })
            .clamp(0, rank) as usize
        };
        let (start, end) = (bound(self.int("start", 0)?), bound(self.int("end", rank)?));
        let sides: Vec<i64> = shape[start..end.max(start)]
            .iter()
            .map(|&side| side as i64)
            .collect();
        Tensor::from_i64(&[sides.len()], &sides).map_err(|error| error.to_string())
    }

    /// The shape that `Reshape` asks for: an input, or an attribute before operator set 5.
    pub(super) fn wanted_shape(&self, inputs: &[Option<Tensor>]) -> Result<Vec<i64>, String> {
        match (inputs.get(1).and_then(Option::as_ref), self.ints("shape")?) {
            (Some(shape), _) => ints(shape),
            (None, Some(shape)) => Ok(shape.to_vec()),
            (None, None) => Err("the shape is no constant".to_owned()),
        }
    }

    /// Axes as they are given: an input, or an attribute in older operator sets.
    pub(super) fn given_axes(
        &self,
        inputs: &[Option<Tensor>],
        at: usize,
    ) -> Result<Option<Vec<i64>>, String> {
        match inputs.get(at).and_then(Option::as_ref) {
            Some(axes) => Ok(Some(ints(axes)?)),
            None => Ok(self.ints("axes")?.map(<[i64]>::to_vec)),
        }
    }

    /// Axes as positions.
    pub(super) fn axes(
        &self,
        inputs: &[Option<Tensor>],
        at: usize,
        rank: usize,
    ) -> Result<Option<Vec<usize>>, String> {
        let Some(given) = self.given_axes(inputs, at)? else {
            return Ok(None);
        };
        let axes: Result<Vec<usize>, String> =
            given.iter().map(|&value| axis(value, rank)).collect();
        axes.map(Some)
    }

    /// The order of axes of a `Transpose`: reversed where it is not said.
    pub(super) fn permutation(&self, rank: usize) -> Result<Vec<usize>, String> {
        let Some(given) = self.ints("perm")? else {
            return Ok((0..rank).rev().collect());
        };
        let order: Result<Vec<usize>, String> =
            given.iter().map(|&value| axis(value, rank)).collect();
        let order = order?;
        let whole = (0..rank).all(|at| order.contains(&at)) && order.len() == rank;
        whole
            .then_some(order)
            .ok_or_else(|| wrong("perm", &format!("an order of {rank} axes")))
    }

    /// First index, step and number of elements along every axis of a `Slice`.
    pub(super) fn slices(
        &self,
        inputs: &[Option<Tensor>],
        shape: &[usize],
    ) -> Result<Vec<(usize, i64, usize)>, String> {
        let list = |at: usize, name: &str| -> Result<Option<Vec<i64>>, String> {
            match inputs.get(at).and_then(Option::as_ref) {
                Some(tensor) => Ok(Some(ints(tensor)?)),
                None => Ok(self.ints(name)?.map(<[i64]>::to_vec)),
            }
        };
        let (Some(starts), Some(ends)) = (list(1, "starts")?, list(2, "ends")?) else {
            return Err("its bounds are no constants".to_owned());
        };
        let axes = list(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = list(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err("its bounds are not as many as its axes".to_owned());
        }
        let mut slices: Vec<_> = shape.iter().map(|&side| (0, 1, side)).collect();
        for at in 0..starts.len() {
            let along = axis(axes[at], shape.len())?;
            slices[along] = slice_range(shape[along], starts[at], ends[at], steps[at])?;
        }
        Ok(slices)
    }

    /// Lengths of the parts of a `Split` of an axis of length `side`.
    pub(super) fn split_lengths(
        &self,
        inputs: &[Option<Tensor>],
        side: usize,
    ) -> Result<Vec<usize>, String> {
        let given = match inputs.get(1).and_then(Option::as_ref) {
            Some(lengths) => Some(ints(lengths)?),
            None => self.ints("split")?.map(<[i64]>::to_vec),
        };
        let lengths: Vec<usize> = match given {
            Some(lengths) => {
                let length =
                    |&value: &i64| usize::try_from(value).map_err(|_| format!("a part of {value}"));
                lengths.iter().map(length).collect::<Result<_, _>>()?
            }
            None => {
                let parts =
                    usize::try_from(self.int("num_outputs", self.proto.outputs.len() as i64)?)
                        .ok()
                        .filter(|&parts| parts > 0 && parts <= self.proto.outputs.len())
                        .ok_or("it has no parts")?;
                let each = side.div_ceil(parts);
                (0..parts)
                    .map(|part| each.min(side.saturating_sub(part * each)))
                    .collect()
            }
        };
        let total = lengths
            .iter()
            .try_fold(0usize, |sum, &length| sum.checked_add(length));
        match total == Some(side) {
            true => Ok(lengths),
            false => Err(format!("parts of {lengths:?} of {side}")),
        }
    }
}

fn wrong(name: &str, expected: &str) -> String {
    format!("its attribute `{name}` must be {expected}")
}

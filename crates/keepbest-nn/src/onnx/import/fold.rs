//! Nodes of constants alone, computed: chains that make shapes, weights that are cast, transposed or dequantised.

use super::node::Node;
use keepbest_formats::{Dtype, Tensor};

/// Bytes that constants may take which are made rather than read.
pub(super) struct Budget(pub u64);

impl Budget {
    /// Takes what `elements` cost; refuses before anything is made.
    pub(super) fn charge(&mut self, elements: usize) -> Result<(), String> {
        let bytes = (elements as u64).saturating_mul(8);
        self.0 = self.0.checked_sub(bytes).ok_or_else(|| {
            format!("the constant of {elements} elements takes more memory than is allowed")
        })?;
        Ok(())
    }
}

/// A constant being computed: numbers of one of two kinds.
#[derive(Clone, Debug)]
pub(super) struct Array {
    pub shape: Vec<usize>,
    pub data: Data,
}

#[derive(Clone, Debug)]
pub(super) enum Data {
    Floats(Vec<f32>),
    Ints(Vec<i64>),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Data::Floats(values) => values.len(),
            Data::Ints(values) => values.len(),
        }
    }

    fn pick(&self, from: impl Iterator<Item = usize>) -> Data {
        match self {
            Data::Floats(values) => Data::Floats(from.map(|at| values[at]).collect()),
            Data::Ints(values) => Data::Ints(from.map(|at| values[at]).collect()),
        }
    }
}

/// Number of elements of a shape.
pub(super) fn count(shape: &[usize]) -> Result<usize, String> {
    let product = shape
        .iter()
        .try_fold(1usize, |product, &side| product.checked_mul(side));
    product.ok_or_else(|| format!("the shape {shape:?} overflows"))
}

impl Array {
    pub(super) fn of(tensor: &Tensor, budget: &mut Budget) -> Result<Self, String> {
        budget.charge(tensor.elements())?;
        let shape = tensor.shape().to_vec();
        let data = match tensor.to_f32() {
            Some(floats) => Data::Floats(as_floats(&floats)),
            None => Data::Ints(ints(tensor)?),
        };
        Ok(Array { shape, data })
    }

    pub(super) fn tensor(&self) -> Result<Tensor, String> {
        let tensor = match &self.data {
            Data::Floats(values) => Tensor::from_f32(&self.shape, values),
            Data::Ints(values) => Tensor::from_i64(&self.shape, values),
        };
        tensor.map_err(|error| error.to_string())
    }

    fn ints(shape: Vec<usize>, values: Vec<i64>) -> Self {
        Array {
            shape,
            data: Data::Ints(values),
        }
    }
}

fn as_floats(tensor: &Tensor) -> Vec<f32> {
    tensor.as_f32().map(|v| v.into_owned()).unwrap_or_default()
}

/// The floats of a constant, whatever it is stored as.
pub(super) fn floats(tensor: &Tensor) -> Result<Vec<f32>, String> {
    match tensor.to_f32() {
        Some(floats) => Ok(as_floats(&floats)),
        None => Ok(ints(tensor)?.into_iter().map(|v| v as f32).collect()),
    }
}

/// The whole numbers of a constant.
pub(super) fn ints(tensor: &Tensor) -> Result<Vec<i64>, String> {
    let whole = tensor.to_i64();
    let whole =
        whole.ok_or_else(|| format!("a constant of {} is no whole number", tensor.dtype()))?;
    Ok(whole.as_i64().map(|v| v.into_owned()).unwrap_or_default())
}

/// Strides of a shape in elements, slowest first.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for at in (1..shape.len()).rev() {
        strides[at - 1] = strides[at] * shape[at];
    }
    strides
}

/// The shape that two shapes are broadcast to.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let side = |shape: &[usize], at: usize| match (at + shape.len()).checked_sub(rank) {
        Some(own) => shape[own],
        None => 1,
    };
    let sides = (0..rank).map(|at| match (side(a, at), side(b, at)) {
        (x, y) if x == y => Ok(x),
        (1, y) => Ok(y),
        (x, 1) => Ok(x),
        _ => Err(format!("the shapes {a:?} and {b:?} do not go together")),
    });
    sides.collect()
}

/// Calls `each` with the index of every element of `shape` in an array of these strides.
fn walk(shape: &[usize], strides: &[usize], mut each: impl FnMut(usize)) {
    let total: usize = shape.iter().product();
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    for _ in 0..total {
        each(at);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
}

/// The array in a larger shape that it is broadcast to.
fn expand(array: &Array, shape: &[usize], budget: &mut Budget) -> Result<Array, String> {
    let reached = broadcast(&array.shape, shape)?;
    budget.charge(count(&reached)?)?;
    let own = strides(&array.shape);
    let missing = reached.len() - array.shape.len();
    let steps: Vec<usize> = (0..reached.len())
        .map(|at| match at.checked_sub(missing) {
            Some(at) if array.shape[at] > 1 => own[at],
            _ => 0,
        })
        .collect();
    let mut order = Vec::with_capacity(count(&reached)?);
    walk(&reached, &steps, |at| order.push(at));
    Ok(Array {
        data: array.data.pick(order.into_iter()),
        shape: reached,
    })
}

/// Position of an axis that may count from the end.
pub(super) fn axis(value: i64, rank: usize) -> Result<usize, String> {
    let counted = if value < 0 {
        value + rank as i64
    } else {
        value
    };
    match usize::try_from(counted) {
        Ok(axis) if axis < rank => Ok(axis),
        _ => Err(format!("there is no axis {value} of {rank}")),
    }
}

/// The shape that a reshape asks for, with 0 (as before) and -1 (the rest) filled in.
pub(super) fn reshaped(
    old: &[usize],
    wanted: &[i64],
    zero_is_zero: bool,
) -> Result<Vec<usize>, String> {
    let refused = || format!("{old:?} cannot become {wanted:?}");
    let total = count(old)?;
    let mut shape = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (at, &side) in wanted.iter().enumerate() {
        shape.push(match side {
            0 if !zero_is_zero => *old.get(at).ok_or_else(refused)?,
            -1 if open.is_none() => {
                open = Some(at);
                1
            }
            side => usize::try_from(side).map_err(|_| refused())?,
        });
    }
    if let Some(at) = open {
        let known = count(&shape)?;
        if known == 0 || !total.is_multiple_of(known) {
            return Err(refused());
        }
        shape[at] = total / known;
    }
    match count(&shape)? == total {
        true => Ok(shape),
        false => Err(refused()),
    }
}

/// The part of a slice along one axis: first index, step and number of elements.
pub(super) fn slice_range(
    side: usize,
    start: i64,
    end: i64,
    step: i64,
) -> Result<(usize, i64, usize), String> {
    if step == 0 {
        return Err("a slice of step 0".to_owned());
    }
    let length = side as i64;
    let counted = |at: i64| {
        if at < 0 {
            at.saturating_add(length)
        } else {
            at
        }
    };
    let (low, high) = if step > 0 {
        (0, length)
    } else {
        (-1, length - 1)
    };
    let start = counted(start).clamp(if step > 0 { 0 } else { -1 }, high);
    let end = counted(end).clamp(low, if step > 0 { length } else { length - 1 });
    let span = if step > 0 { end - start } else { start - end };
    let many = match span > 0 {
        true => (span as u64).div_ceil(step.unsigned_abs()) as usize,
        false => 0,
    };
    Ok((start.max(0) as usize, step, many))
}

/// What a node makes of constants; `None` for an operator that is not computed.
pub(super) fn fold(
    node: &Node<'_>,
    inputs: &[Option<Tensor>],
    budget: &mut Budget,
) -> Result<Option<Vec<Tensor>>, String> {
    if let Some(folded) = whole(node, inputs, budget)? {
        return Ok(Some(vec![folded]));
    }
    let needed = |at: usize| -> Result<&Tensor, String> {
        let given = inputs.get(at).and_then(Option::as_ref);
        given.ok_or_else(|| format!("input {at} is missing"))
    };
    let one = |array: Array| Ok(Some(vec![array.tensor()?]));
    let array = |at: usize, budget: &mut Budget| Array::of(needed(at)?, budget);
    let op = node.op();
    match op {
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" | "Sum" | "Equal" | "Less"
        | "Greater" | "LessOrEqual" | "GreaterOrEqual" | "And" | "Or" | "Mod" => {
            let mut result = array(0, budget)?;
            for at in 1..inputs.len() {
                let other = array(at, budget)?;
                result = binary(op, &result, &other, budget)?;
            }
            one(result)
        }
        "Sqrt" | "Exp" | "Log" | "Neg" | "Abs" | "Floor" | "Ceil" | "Round" | "Reciprocal"
        | "Not" | "Relu" | "Sigmoid" | "Erf" | "Tanh" => one(unary(op, array(0, budget)?)?),
        "Clip" => {
            let mut result = array(0, budget)?;
            for (at, bound) in [(1, "Max"), (2, "Min")] {
                if inputs.get(at).is_some_and(Option::is_some) {
                    let other = array(at, budget)?;
                    result = binary(bound, &result, &other, budget)?;
                }
            }
            one(result)
        }
        "Where" => {
            let (chosen, yes, no) = (array(0, budget)?, array(1, budget)?, array(2, budget)?);
            let shape = broadcast(&broadcast(&chosen.shape, &yes.shape)?, &no.shape)?;
            let [chosen, yes, no] = [&chosen, &yes, &no].map(|a| expand(a, &shape, budget));
            let (chosen, yes, no) = (chosen?, yes?, no?);
            let Data::Ints(which) = &chosen.data else {
                return Err("the condition is no truth value".to_owned());
            };
            let data = match (&yes.data, &no.data) {
                (Data::Ints(a), Data::Ints(b)) => Data::Ints(choose(which, a, b)),
                (Data::Floats(a), Data::Floats(b)) => Data::Floats(choose(which, a, b)),
                _ => return Err("the two sides are of different types".to_owned()),
            };
            one(Array { shape, data })
        }
        "Gather" => one(gather(
            node,
            &array(0, budget)?,
            &array(1, budget)?,
            budget,
        )?),
        "Concat" => {
            let parts: Result<Vec<Array>, String> =
                (0..inputs.len()).map(|at| array(at, budget)).collect();
            one(concat(node.int("axis", 0)?, &parts?, budget)?)
        }
        "Slice" => {
            let array = array(0, budget)?;
            let slices = node.slices(inputs, &array.shape)?;
            one(slice(&array, &slices))
        }
        "Split" => split(node, inputs, &array(0, budget)?).map(Some),
        "Expand" => {
            let shape = sides(&ints(needed(1)?)?)?;
            one(expand(&array(0, budget)?, &shape, budget)?)
        }
        "Tile" => {
            let (array, times) = (array(0, budget)?, sides(&ints(needed(1)?)?)?);
            one(tile(&array, &times, budget)?)
        }
        "Transpose" => {
            let array = array(0, budget)?;
            let order = node.permutation(array.shape.len())?;
            one(transpose(&array, &order)?)
        }
        "Range" => {
            let number = |at: usize| {
                Ok::<_, String>(ints(needed(at)?)?.first().copied().unwrap_or_default())
            };
            let (start, end, step) = (number(0)?, number(1)?, number(2)?);
            let many = match step {
                0 => return Err("a range of step 0".to_owned()),
                step => {
                    (end.saturating_sub(start) as i128 + step as i128 - step.signum() as i128)
                        / step as i128
                }
            };
            let many =
                usize::try_from(many.max(0)).map_err(|_| "a range without end".to_owned())?;
            budget.charge(many)?;
            one(Array::ints(
                vec![many],
                (0..many as i64).map(|at| start + at * step).collect(),
            ))
        }
        "ReduceProd" | "ReduceSum" | "ReduceMax" | "ReduceMin" => {
            reduce(node, inputs, &array(0, budget)?).and_then(one)
        }
        "DequantizeLinear" => one(dequantize(node, inputs, budget)?),
        _ => Ok(None),
    }
}

/// Operators that leave the elements as they are, or make them from nothing.
fn whole(
    node: &Node<'_>,
    inputs: &[Option<Tensor>],
    budget: &mut Budget,
) -> Result<Option<Tensor>, String> {
    let first = inputs.first().and_then(Option::as_ref);
    let with_shape = |tensor: &Tensor, shape: Vec<usize>| {
        let made = Tensor::new(tensor.dtype(), shape, tensor.bytes().clone());
        made.map(Some).map_err(|error| error.to_string())
    };
    Ok(match (node.op(), first) {
        ("Constant", _) => Some(node.constant()?),
        ("ConstantOfShape", Some(shape)) => {
            let shape = sides(&ints(shape)?)?;
            let elements = count(&shape)?;
            let (dtype, one) = match node.tensor("value")? {
                Some(of) if of.elements() == 1 => (of.dtype(), of.bytes().clone()),
                Some(of) => {
                    return Err(format!("the value has {} elements, not one", of.elements()));
                }
                None => (Dtype::F32, vec![0; 4].into()),
            };
            budget.charge(elements)?;
            let made = Tensor::new(dtype, shape, one.repeat(elements));
            Some(made.map_err(|error| error.to_string())?)
        }
        ("Identity" | "Dropout", Some(tensor)) => Some(tensor.clone()),
        ("Cast" | "CastLike", Some(tensor)) => Some(cast(node, tensor, budget)?),
        ("Shape", Some(tensor)) => Some(node.shape_of(tensor.shape())?),
        ("Size", Some(tensor)) => Some(scalar(tensor.elements() as i64)?),
        ("Reshape", Some(tensor)) => {
            let wanted = node.wanted_shape(inputs)?;
            let keep = node.int("allowzero", 0)? == 1;
            with_shape(tensor, reshaped(tensor.shape(), &wanted, keep)?)?
        }
        ("Flatten", Some(tensor)) => {
            let rank = tensor.shape().len();
            let at = node.int("axis", 1)?;
            let at = if at == rank as i64 {
                rank
            } else {
                axis(at, rank)?
            };
            let (outer, inner) = tensor.shape().split_at(at);
            with_shape(tensor, vec![count(outer)?, count(inner)?])?
        }
        ("Squeeze", Some(tensor)) => {
            let axes = node.axes(inputs, 1, tensor.shape().len())?;
            let given = axes.is_some();
            let axes = axes.unwrap_or_default();
            let keep = |at: usize, side: usize| {
                if given {
                    !axes.contains(&at)
                } else {
                    side != 1
                }
            };
            let kept = tensor
                .shape()
                .iter()
                .enumerate()
                .filter(|(at, side)| keep(*at, **side));
            with_shape(tensor, kept.map(|(_, side)| *side).collect())?
        }
        ("Unsqueeze", Some(tensor)) => {
            let given = node.given_axes(inputs, 1)?.unwrap_or_default();
            let rank = tensor.shape().len() + given.len();
            let axes: Result<Vec<usize>, String> = given.iter().map(|&at| axis(at, rank)).collect();
            let (axes, mut old) = (axes?, tensor.shape().iter());
            let shape = (0..rank).map(|at| {
                if axes.contains(&at) {
                    1
                } else {
                    old.next().copied().unwrap_or(1)
                }
            });
            with_shape(tensor, shape.collect())?
        }
        _ => None,
    })
}

fn scalar(value: i64) -> Result<Tensor, String> {
    Tensor::from_i64(&[], &[value]).map_err(|error| error.to_string())
}

fn sides(values: &[i64]) -> Result<Vec<usize>, String> {
    let side = |&value: &i64| usize::try_from(value).map_err(|_| format!("a side of {value}"));
    values.iter().map(side).collect()
}

fn choose<T: Copy>(which: &[i64], yes: &[T], no: &[T]) -> Vec<T> {
    let both = yes.iter().zip(no).zip(which);
    both.map(|((yes, no), which)| if *which != 0 { *yes } else { *no })
        .collect()
}

fn cast(node: &Node<'_>, tensor: &Tensor, budget: &mut Budget) -> Result<Tensor, String> {
    // 1 float, 10 half, 11 double, 16 bfloat: floats of all widths are f32 here.
    let to_float = matches!(node.int("to", 1)?, 1 | 10 | 11 | 16) || node.op() == "CastLike";
    let mut array = Array::of(tensor, budget)?;
    array.data = match array.data {
        Data::Ints(values) if to_float => {
            Data::Floats(values.into_iter().map(|v| v as f32).collect())
        }
        Data::Floats(values) if !to_float => {
            Data::Ints(values.into_iter().map(|v| v as i64).collect())
        }
        same => same,
    };
    if node.int("to", 1)? == 9
        && let Data::Ints(values) = &mut array.data
    {
        values
            .iter_mut()
            .for_each(|value| *value = i64::from(*value != 0));
    }
    array.tensor()
}

fn binary(op: &str, a: &Array, b: &Array, budget: &mut Budget) -> Result<Array, String> {
    let shape = broadcast(&a.shape, &b.shape)?;
    let (a, b) = (expand(a, &shape, budget)?, expand(b, &shape, budget)?);
    let data = match (&a.data, &b.data) {
        (Data::Ints(a), Data::Ints(b)) => {
            let pairs = a.iter().zip(b);
            let values: Option<Vec<i64>> = pairs.map(|(&a, &b)| of_ints(op, a, b)).collect();
            Data::Ints(values.ok_or_else(|| format!("{op} of whole numbers has no result"))?)
        }
        (Data::Floats(a), Data::Floats(b)) => {
            let pairs = || a.iter().zip(b);
            match op {
                "Equal" => Data::Ints(pairs().map(|(a, b)| i64::from(a == b)).collect()),
                "Less" => Data::Ints(pairs().map(|(a, b)| i64::from(a < b)).collect()),
                "Greater" => Data::Ints(pairs().map(|(a, b)| i64::from(a > b)).collect()),
                "LessOrEqual" => Data::Ints(pairs().map(|(a, b)| i64::from(a <= b)).collect()),
                "GreaterOrEqual" => Data::Ints(pairs().map(|(a, b)| i64::from(a >= b)).collect()),
                _ => Data::Floats(pairs().map(|(&a, &b)| of_floats(op, a, b)).collect()),
            }
        }
        (Data::Floats(a), Data::Ints(b)) if op == "Pow" => Data::Floats(
            a.iter()
                .zip(b)
                .map(|(&a, &b)| libm::powf(a, b as f32))
                .collect(),
        ),
        _ => return Err(format!("{op} of floats and whole numbers")),
    };
    Ok(Array { shape, data })
}

fn of_ints(op: &str, a: i64, b: i64) -> Option<i64> {
    match op {
        "Add" | "Sum" => a.checked_add(b),
        "Sub" => a.checked_sub(b),
        "Mul" => a.checked_mul(b),
        "Div" => a.checked_div(b),
        "Mod" => a.checked_rem_euclid(b),
        "Pow" => a.checked_pow(u32::try_from(b).ok()?),
        "Max" => Some(a.max(b)),
        "Min" => Some(a.min(b)),
        "Equal" => Some(i64::from(a == b)),
        "Less" => Some(i64::from(a < b)),
        "Greater" => Some(i64::from(a > b)),
        "LessOrEqual" => Some(i64::from(a <= b)),
        "GreaterOrEqual" => Some(i64::from(a >= b)),
        "And" => Some(i64::from(a != 0 && b != 0)),
        "Or" => Some(i64::from(a != 0 || b != 0)),
        _ => None,
    }
}

fn of_floats(op: &str, a: f32, b: f32) -> f32 {
    match op {
        "Add" | "Sum" => a + b,
        "Sub" => a - b,
        "Mul" => a * b,
        "Div" => a / b,
        "Pow" => libm::powf(a, b),
        "Max" => a.max(b),
        "Min" => a.min(b),
        _ => f32::NAN,
    }
}

fn unary(op: &str, mut array: Array) -> Result<Array, String> {
    match &mut array.data {
        Data::Ints(values) => {
            for value in values {
                *value = match op {
                    "Neg" => value.checked_neg(),
                    "Abs" => value.checked_abs(),
                    "Not" => Some(i64::from(*value == 0)),
                    "Relu" => Some((*value).max(0)),
                    "Floor" | "Ceil" | "Round" => Some(*value),
                    _ => None,
                }
                .ok_or_else(|| format!("{op} of whole numbers has no result"))?;
            }
        }
        Data::Floats(values) => {
            for value in values {
                let v = *value;
                *value = match op {
                    "Sqrt" => libm::sqrtf(v),
                    "Exp" => libm::expf(v),
                    "Log" => libm::logf(v),
                    "Neg" => -v,
                    "Abs" => v.abs(),
                    "Floor" => libm::floorf(v),
                    "Ceil" => libm::ceilf(v),
                    "Round" => libm::rintf(v),
                    "Reciprocal" => 1.0 / v,
                    "Relu" => v.max(0.0),
                    "Sigmoid" => 1.0 / (1.0 + libm::expf(-v)),
                    "Erf" => libm::erff(v),
                    "Tanh" => libm::tanhf(v),
                    _ => return Err(format!("{op} of floats")),
                };
            }
        }
    }
    Ok(array)
}

fn gather(
    node: &Node<'_>,
    array: &Array,
    at: &Array,
    budget: &mut Budget,
) -> Result<Array, String> {
    let along = axis(node.int("axis", 0)?, array.shape.len())?;
    let Data::Ints(wanted) = &at.data else {
        return Err("the indices are no whole numbers".to_owned());
    };
    let side = array.shape[along];
    let wanted: Result<Vec<usize>, String> = wanted.iter().map(|&at| axis(at, side)).collect();
    let wanted = wanted?;
    let (outer, inner) = (
        count(&array.shape[..along])?,
        count(&array.shape[along + 1..])?,
    );
    let mut shape = array.shape[..along].to_vec();
    shape.extend(&at.shape);
    shape.extend(&array.shape[along + 1..]);
    budget.charge(count(&shape)?)?;
    let from = (0..outer).flat_map(|o| wanted.iter().map(move |&w| (o * side + w) * inner));
    let data = array.data.pick(from.flat_map(|start| start..start + inner));
    Ok(Array { shape, data })
}

fn concat(along: i64, parts: &[Array], budget: &mut Budget) -> Result<Array, String> {
    let first = parts.first().ok_or("nothing is joined")?;
    let along = axis(along, first.shape.len())?;
    let mut shape = first.shape.clone();
    shape[along] = 0;
    for part in parts {
        let alike = part.shape.len() == shape.len()
            && (0..shape.len()).all(|at| at == along || part.shape[at] == shape[at])
            && matches!(part.data, Data::Ints(_)) == matches!(first.data, Data::Ints(_));
        if !alike {
            return Err(format!("{:?} and {:?} are joined", first.shape, part.shape));
        }
        shape[along] = shape[along]
            .checked_add(part.shape[along])
            .ok_or("the shape overflows")?;
    }
    budget.charge(count(&shape)?)?;
    let outer = count(&shape[..along])?;
    let mut data = first.data.pick(std::iter::empty());
    for o in 0..outer {
        for part in parts {
            let each = count(&part.shape[along..])?;
            match (&mut data, &part.data) {
                (Data::Floats(all), Data::Floats(own)) => {
                    all.extend(&own[o * each..(o + 1) * each])
                }
                (Data::Ints(all), Data::Ints(own)) => all.extend(&own[o * each..(o + 1) * each]),
                _ => {}
            }
        }
    }
    Ok(Array { shape, data })
}

fn slice(array: &Array, slices: &[(usize, i64, usize)]) -> Array {
    let own = strides(&array.shape);
    let shape: Vec<usize> = slices.iter().map(|(_, _, many)| *many).collect();
    let mut order = Vec::new();
    let total: usize = shape.iter().product();
    let mut index = vec![0usize; shape.len()];
    for _ in 0..total {
        let at = slices.iter().zip(&own).zip(&index);
        let at = at.map(|(((start, step, _), stride), &i)| {
            (*start as i64 + step * i as i64) as usize * stride
        });
        order.push(at.sum::<usize>());
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Array {
        data: array.data.pick(order.into_iter()),
        shape,
    }
}

fn split(node: &Node<'_>, inputs: &[Option<Tensor>], array: &Array) -> Result<Vec<Tensor>, String> {
    let along = axis(node.int("axis", 0)?, array.shape.len())?;
    let mut start = 0;
    let mut parts = Vec::new();
    for length in node.split_lengths(inputs, array.shape[along])? {
        let whole = |(at, &side): (usize, &usize)| {
            if at == along {
                (start, 1, length)
            } else {
                (0, 1, side)
            }
        };
        let slices: Vec<_> = array.shape.iter().enumerate().map(whole).collect();
        parts.push(slice(array, &slices).tensor()?);
        start += length;
    }
    Ok(parts)
}

fn tile(array: &Array, times: &[usize], budget: &mut Budget) -> Result<Array, String> {
    if times.len() != array.shape.len() {
        return Err(format!("{:?} is repeated {times:?} times", array.shape));
    }
    let mut result = array.clone();
    for (along, &times) in times.iter().enumerate() {
        let parts = (result.data.len() > 0).then_some(times).unwrap_or_default();
        budget.charge(count(&[parts, result.data.len()])?)?;
        if times != 1 {
            let mut shape = result.shape.clone();
            shape[along] = shape[along]
                .checked_mul(times)
                .ok_or("the shape overflows")?;
            let each = count(&result.shape[along..])?;
            let outer = count(&result.shape[..along])?;
            let order =
                (0..outer).flat_map(|o| (0..times).flat_map(move |_| o * each..(o + 1) * each));
            result.data = result.data.pick(order);
            result.shape = shape;
        }
    }
    Ok(result)
}

/// The array with its axes in another order.
pub(super) fn transpose(array: &Array, order: &[usize]) -> Result<Array, String> {
    let own = strides(&array.shape);
    let shape: Vec<usize> = order.iter().map(|&at| array.shape[at]).collect();
    let steps: Vec<usize> = order.iter().map(|&at| own[at]).collect();
    let mut from = Vec::with_capacity(array.data.len());
    walk(&shape, &steps, |at| from.push(at));
    Ok(Array {
        data: array.data.pick(from.into_iter()),
        shape,
    })
}

fn reduce(node: &Node<'_>, inputs: &[Option<Tensor>], array: &Array) -> Result<Array, String> {
    let Data::Ints(values) = &array.data else {
        return Err("a reduction of constant floats".to_owned());
    };
    let axes = node.axes(inputs, 1, array.shape.len())?;
    if axes.is_some_and(|axes| axes.len() != array.shape.len()) {
        return Err("a reduction of constants along some axes".to_owned());
    }
    let result = match node.op() {
        "ReduceProd" => values.iter().try_fold(1i64, |all, &v| all.checked_mul(v)),
        "ReduceSum" => values.iter().try_fold(0i64, |all, &v| all.checked_add(v)),
        "ReduceMax" => values.iter().copied().max(),
        _ => values.iter().copied().min(),
    };
    let result = result.ok_or("the result overflows")?;
    let rank = if node.int("keepdims", 1)? == 1 {
        array.shape.len()
    } else {
        0
    };
    Ok(Array::ints(vec![1; rank], vec![result]))
}

/// `(x - zero point) * scale`, for the whole tensor, a channel, or blocks along an axis.
fn dequantize(
    node: &Node<'_>,
    inputs: &[Option<Tensor>],
    budget: &mut Budget,
) -> Result<Array, String> {
    let given = |at: usize| inputs.get(at).and_then(Option::as_ref);
    let (Some(x), Some(scale)) = (given(0), given(1)) else {
        return Err("an input is missing".to_owned());
    };
    if matches!(
        x.dtype(),
        Dtype::F8E4M3 | Dtype::F8E4M3Fnuz | Dtype::F8E5M2 | Dtype::F8E5M2Fnuz
    ) {
        return Err("weights in floats of eight bits".to_owned());
    }
    budget.charge(x.elements())?;
    let (shape, mut values) = (x.shape().to_vec(), floats(x)?);
    let scales = floats(scale)?;
    let zeros = given(2).map_or_else(|| Ok(vec![0.0; scales.len()]), floats)?;
    if zeros.len() != scales.len() {
        return Err(format!(
            "{} scales and {} zero points",
            scales.len(),
            zeros.len()
        ));
    }
    let rank = shape.len();
    let block = usize::try_from(node.int("block_size", 0)?).unwrap_or_default();
    // The index of the scale of each element.
    let place: Box<dyn Fn(usize) -> usize> = if scales.len() == 1 {
        Box::new(|_| 0)
    } else {
        let along = axis(node.int("axis", 1)?, rank)?;
        let (side, inner) = (shape[along], count(&shape[along + 1..])?);
        let group = if scale.shape().len() == rank && block > 0 {
            block
        } else {
            1
        };
        let groups = side.div_ceil(group);
        let blocked = scale.shape().len() == rank && rank > 1;
        let outer = count(&shape[..along])?;
        let expected = if blocked {
            outer * groups * inner
        } else {
            side
        };
        if scales.len() != expected {
            return Err(format!("{} scales for the shape {shape:?}", scales.len()));
        }
        Box::new(move |at: usize| {
            let (o, s, i) = (at / (side * inner), at / inner % side, at % inner);
            if blocked {
                (o * groups + s / group) * inner + i
            } else {
                s
            }
        })
    };
    for (at, value) in values.iter_mut().enumerate() {
        let of = place(at);
        *value = (*value - zeros[of]) * scales[of];
    }
    Ok(Array {
        shape,
        data: Data::Floats(values),
    })
}

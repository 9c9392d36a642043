//! The images of a request to infer, as the network takes them.

use bytes::Bytes;
use http::StatusCode;
use keepbest_data::{Image, ImageShape};

use super::tensor::{Data, InputTensor};
use crate::error::Refusal;
use crate::infer::{Asked, Inputs, Named, Source};

/// The name of a model's input. Its type says what it holds: FP32 what the network takes, UINT8 pixels, BYTES image files.
pub(crate) const INPUT: &str = "input";

/// Makes the request's one tensor the network's input.
pub(crate) async fn inputs(asked: &Asked, tensors: Vec<InputTensor>) -> Result<Inputs, Refusal> {
    let [tensor] = <[InputTensor; 1]>::try_from(tensors).map_err(|found| {
        let count = found.len();
        Refusal::bad(format!(
            "there are {count} inputs; the model takes one, {INPUT:?}"
        ))
    })?;
    if tensor.name != INPUT {
        let name = &tensor.name;
        return Err(Refusal::bad(format!(
            "no input is called {name:?}; the model takes {INPUT:?}"
        )));
    }
    if tensor.shape.first().is_none_or(|images| *images == 0) {
        let shape = &tensor.shape;
        return Err(Refusal::bad(format!(
            "an input of shape {shape:?} holds no image"
        )));
    }
    let inputs = match tensor.data {
        Data::Fp32(values) => network_input(asked, &tensor.shape, &values)?,
        Data::Uint8(pixels) => {
            asked
                .inputs(images_of(asked, &tensor.shape, &pixels)?)
                .await?
        }
        Data::Bytes(files) => {
            let named = files.into_iter().enumerate();
            let named = named.map(|(index, file)| (name(index), Source::File(file)));
            asked.inputs(named.collect()).await?
        }
    };
    // The protocol has no error for an image alone.
    let wrong = inputs
        .fitted
        .iter()
        .find_map(|fitted| fitted.as_ref().err());
    match wrong {
        Some(refusal) => Err(refusal.clone()),
        None => Ok(inputs),
    }
}

fn name(index: usize) -> String {
    format!("image {index}")
}

/// What the network takes, in PyTorch's layout: `[images, channels, height, width]`, normalised.
fn network_input(asked: &Asked, shape: &[usize], values: &[f32]) -> Result<Inputs, Refusal> {
    let input = asked.generation.model().preprocessing.input;
    let (height, width, channels) = (input.height, input.width, input.channels);
    let [images, found @ ..] = shape else {
        return Err(Refusal::bad("an input without a shape holds no image"));
    };
    if found != [channels, height, width] {
        return Err(Refusal::bad(format!(
            "input {INPUT:?} of FP32 has the shape {shape:?}, the model takes [images, {channels}, {height}, {width}]: normalised, channels first"
        )));
    }
    asked.reserve(*images)?;
    let mut inputs = Inputs::default();
    inputs.values.resize(values.len(), 0.0);
    let plane = height * width;
    let each = values.chunks_exact(channels * plane);
    for (from, to) in each.zip(inputs.values.chunks_exact_mut(channels * plane)) {
        for (channel, from) in from.chunks_exact(plane).enumerate() {
            let to = to.iter_mut().skip(channel).step_by(channels);
            to.zip(from).for_each(|(to, from)| *to = *from);
        }
    }
    let fitted = asked.generation.interpreter.fitted(input);
    inputs.fitted = vec![Ok(fitted); *images];
    Ok(inputs)
}

/// Pixels, `[images, height, width, channels]`.
fn images_of(asked: &Asked, shape: &[usize], pixels: &Bytes) -> Result<Vec<Named>, Refusal> {
    let input = asked.generation.model().preprocessing.input;
    let wrong = || {
        Refusal::bad(format!(
            "input {INPUT:?} of UINT8 has the shape {shape:?}, the model takes pixels, [images, height, width, 1 or 3], such as [1, {}, {}, {}]",
            input.height, input.width, input.channels
        ))
    };
    let &[images, height, width, channels @ (1 | 3)] = shape else {
        return Err(wrong());
    };
    let most = asked.state.options.limits.pixels;
    let area = (height as u64).saturating_mul(width as u64);
    if area == 0 {
        return Err(wrong());
    }
    if area > most {
        let message = format!("{height}x{width} are more than {most} pixels, the limit");
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    let shape = ImageShape::new(height, width, channels);
    let size = shape.size();
    (0..images)
        .map(|index| {
            let own = pixels.slice(index * size..(index + 1) * size);
            let image = Image::new(shape, own).ok_or_else(wrong)?;
            Ok((name(index), Source::Pixels(image)))
        })
        .collect()
}

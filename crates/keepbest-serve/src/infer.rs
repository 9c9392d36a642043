//! From the images of a request to their scores: decoded in parallel, computed in batches.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use keepbest_data::{Image, decode_image_within};
use keepbest_model::Fitted;

use crate::batch::{Coming, Scores};
use crate::body::Hold;
use crate::error::Refusal;
use crate::generation::Generation;
use crate::state::State;

/// An image of a request.
pub(crate) enum Source {
    /// A file of it.
    File(Bytes),
    /// Its pixels.
    Pixels(Image),
}

/// An image with a name for what goes wrong with it.
pub(crate) type Named = (String, Source);

/// Images as the network takes them.
#[derive(Default)]
pub(crate) struct Inputs {
    /// Those that fit, one after the other.
    pub values: Vec<f32>,
    /// Every image, in the request's order.
    pub fitted: Vec<Result<Fitted, Refusal>>,
}

/// What a request asks of a model.
pub(crate) struct Asked {
    pub state: Arc<State>,
    pub generation: Arc<Generation>,
    pub hold: Arc<Hold>,
    pub deadline: Instant,
}

impl Asked {
    /// Holds the memory that so many images take as the network's input.
    pub(crate) fn reserve(&self, images: usize) -> Result<(), Refusal> {
        let most = self.state.options.limits.images;
        if images > most {
            let message = format!("there are {images} images, the most in one request is {most}");
            return Err(Refusal::new(http::StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        let floats = images.saturating_mul(self.generation.interpreter.input_len());
        let bytes = 4 * floats as u64;
        self.hold.made(bytes, self.state.options.limits.bodies)
    }

    /// Decodes images and makes them the network's input, on as many threads as there are.
    pub(crate) async fn inputs(&self, mut images: Vec<Named>) -> Result<Inputs, Refusal> {
        self.reserve(images.len())?;
        let each = images.len().div_ceil(self.state.lanes).max(1);
        // Who is not there any more when it is an image's turn has left.
        let alive = Arc::new(());
        let mut lanes = Vec::new();
        while !images.is_empty() {
            let rest = images.split_off(each.min(images.len()));
            let lane = std::mem::replace(&mut images, rest);
            let slot = Arc::clone(&self.state.decoders).acquire_owned();
            let slot = tokio::time::timeout_at(self.deadline.into(), slot).await;
            let slot = slot.map_err(|_| Refusal::late())?;
            let (generation, alive) = (Arc::clone(&self.generation), Arc::downgrade(&alive));
            let pixels = self.state.options.limits.pixels;
            lanes.push(tokio::task::spawn_blocking(move || {
                let mut inputs = Inputs::default();
                for image in lane {
                    if alive.strong_count() > 0 {
                        inputs.add(&generation, image, pixels);
                    }
                }
                drop(slot);
                inputs
            }));
        }
        let mut all = Inputs::default();
        for lane in lanes {
            let lane = lane.await.map_err(|_| {
                let status = http::StatusCode::INTERNAL_SERVER_ERROR;
                Refusal::new(status, "decoding the images was broken off")
            })?;
            if all.values.is_empty() {
                all.values = lane.values;
            } else {
                all.values.extend(lane.values);
            }
            all.fitted.extend(lane.fitted);
        }
        let failed = all.fitted.iter().filter(|fitted| fitted.is_err()).count();
        self.generation.queue.count_failed(failed);
        Ok(all)
    }

    /// Computes the network's input.
    pub(crate) async fn scores(&self, values: Vec<f32>, coming: Coming) -> Result<Scores, Refusal> {
        self.generation
            .queue
            .compute(values, coming, self.deadline)
            .await
    }
}

impl Inputs {
    fn add(&mut self, generation: &Generation, (name, source): Named, pixels: u64) {
        let begin = self.values.len();
        let fitted = self.fit(generation, &name, source, pixels);
        if fitted.is_err() {
            self.values.truncate(begin);
        }
        self.fitted.push(fitted);
    }

    fn fit(
        &mut self,
        generation: &Generation,
        name: &str,
        source: Source,
        pixels: u64,
    ) -> Result<Fitted, Refusal> {
        let image = match source {
            Source::Pixels(image) => image,
            Source::File(bytes) => decode_image_within(&bytes, Path::new(name), pixels)
                .map_err(|error| Refusal::unfit_for(&error))?,
        };
        let begin = self.values.len();
        let interpreter = &generation.interpreter;
        self.values.resize(begin + interpreter.input_len(), 0.0);
        let fitted = interpreter.fit(name, &image, &mut self.values[begin..]);
        fitted.map_err(|error| Refusal::unfit_for(&error))
    }
}

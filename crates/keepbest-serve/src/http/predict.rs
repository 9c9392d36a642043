//! `POST /predict`: images in, classes out.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use keepbest_core::text::visible;
use keepbest_model::{Guess, probabilities};
use serde::{Deserialize, Serialize};

use super::{Context, DIGEST_HEADER, MODEL_HEADER};
use crate::batch::Scores;
use crate::body::whole;
use crate::error::Refusal;
use crate::generation::Generation;
use crate::infer::{Asked, Inputs, Named, Source};
use crate::state::State;

/// What is to be answered; in the query, or in a JSON body.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    model: Option<String>,
    top_k: Option<usize>,
    probabilities: Option<bool>,
}

impl Wanted {
    /// What a body says comes before what the address says.
    fn over(self, other: Self) -> Self {
        Self {
            model: self.model.or(other.model),
            top_k: self.top_k.or(other.top_k),
            probabilities: self.probabilities.or(other.probabilities),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InJson {
    image: Option<String>,
    images: Option<Vec<String>>,
    model: Option<String>,
    top_k: Option<usize>,
    probabilities: Option<bool>,
}

#[derive(Serialize)]
struct Reply<'a> {
    model: &'a str,
    digest: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    answers: Vec<Answered>,
    /// Milliseconds that the images waited for their batch.
    queue_ms: f64,
    /// Milliseconds that their batch took.
    compute_ms: f64,
    /// Images in it.
    batch: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answered {
    Known {
        image: String,
        #[serde(flatten)]
        decision: Guess,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        top: Vec<Guess>,
        #[serde(skip_serializing_if = "Option::is_none")]
        probabilities: Option<Vec<f64>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        converted: Option<String>,
    },
    Refused {
        image: String,
        error: String,
    },
}

type Asking = Result<Query<Wanted>, QueryRejection>;

pub(super) async fn predict(
    Shared(state): Shared<Arc<State>>,
    Extension(context): Extension<Context>,
    query: Asking,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    answer(state, context, None, query, &headers, body).await
}

pub(super) async fn predict_with(
    Shared(state): Shared<Arc<State>>,
    Extension(context): Extension<Context>,
    Path(model): Path<String>,
    query: Asking,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    answer(state, context, Some(model), query, &headers, body).await
}

async fn answer(
    state: Arc<State>,
    context: Context,
    model: Option<String>,
    query: Asking,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let _pass = state.enter()?;
    let Query(query) = query.map_err(|error| Refusal::bad(error.body_text()))?;
    let body = whole(body).await?;
    let (wanted, images) = read(headers, body).await?;
    let mut wanted = wanted.over(query);
    wanted.model = model.or(wanted.model);
    if images.is_empty() {
        return Err(Refusal::bad("there is no image in the request"));
    }
    let entry = state.catalogue.find(wanted.model.as_deref())?;
    let generation = state.catalogue.ready(&entry, context.deadline).await?;
    let coming = generation.queue.coming();
    let asked = Asked {
        state,
        generation: Arc::clone(&generation),
        hold: context.hold,
        deadline: context.deadline,
    };
    let names: Vec<String> = images.iter().map(|(name, _)| name.clone()).collect();
    let Inputs { values, fitted } = asked.inputs(images).await?;
    // Nothing to compute: what is wrong with each image is the answer.
    let scores = match values.is_empty() {
        true => Scores::none(),
        false => asked.scores(values, coming).await?,
    };
    let classes = generation.model().classes.len();
    let mut rows = scores.scores.chunks_exact(classes);
    let answers: Vec<Answered> = names
        .into_iter()
        .zip(fitted)
        .map(|(image, fitted)| {
            let answer = fitted.and_then(|fitted| {
                let row = rows.next().unwrap_or_default();
                known(&generation, &image, row, fitted, &wanted)
            });
            answer.unwrap_or_else(|refusal| Answered::Refused {
                image,
                error: refusal.message,
            })
        })
        .collect();
    let any = answers
        .iter()
        .any(|it| matches!(it, Answered::Known { .. }));
    let status = match any {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let (epoch, step) = generation.point().unzip();
    let reply = Reply {
        model: &entry.name,
        digest: &generation.digest,
        epoch,
        step,
        answers,
        queue_ms: scores.queue.as_secs_f64() * 1e3,
        compute_ms: scores.compute.as_secs_f64() * 1e3,
        batch: scores.batch,
    };
    let mut response = (status, Json(reply)).into_response();
    name_answerer(response.headers_mut(), &entry.name, &generation);
    Ok(response)
}

/// Says in the headers who answered.
pub(super) fn name_answerer(headers: &mut HeaderMap, model: &str, generation: &Generation) {
    // A name that cannot stand in a header is in the body.
    if let Ok(model) = HeaderValue::try_from(model) {
        headers.insert(MODEL_HEADER, model);
    }
    if let Ok(digest) = HeaderValue::try_from(&generation.digest) {
        headers.insert(DIGEST_HEADER, digest);
    }
}

fn known(
    generation: &Generation,
    image: &str,
    row: &[f32],
    fitted: keepbest_model::Fitted,
    wanted: &Wanted,
) -> Result<Answered, Refusal> {
    let interpreter = &generation.interpreter;
    let top_k = wanted.top_k.unwrap_or(1);
    let answer = interpreter.answer(image, row, fitted, top_k);
    let answer = answer.map_err(|error| Refusal::unfit_for(&error))?;
    Ok(Answered::Known {
        image: image.to_owned(),
        decision: answer.decision,
        top: match wanted.top_k {
            Some(_) => answer.top,
            None => Vec::new(),
        },
        probabilities: wanted
            .probabilities
            .unwrap_or(false)
            .then(|| probabilities(row)),
        converted: interpreter.conversion_words(answer.unseen),
    })
}

/// The images of a body, and what it says is wanted.
async fn read(headers: &HeaderMap, body: Bytes) -> Result<(Wanted, Vec<Named>), Refusal> {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.to_str());
    let kind = match kind {
        Some(Err(_)) => return Err(Refusal::bad("the Content-Type is no text")),
        Some(Ok(kind)) => kind,
        None => "",
    };
    let essence = kind.split(';').next().unwrap_or_default().trim();
    match essence.to_ascii_lowercase().as_str() {
        "application/json" => in_json(&body),
        "multipart/form-data" => in_parts(kind, body).await,
        // What it is, its first bytes say.
        _ if body.is_empty() => Ok((Wanted::default(), Vec::new())),
        _ => Ok((
            Wanted::default(),
            vec![("image".to_owned(), Source::File(body))],
        )),
    }
}

fn in_json(body: &Bytes) -> Result<(Wanted, Vec<Named>), Refusal> {
    let read: InJson = serde_json::from_slice(body).map_err(|error| {
        Refusal::bad(format!(
            "the body is not as expected: {error}; it has `image` or `images`, in base64"
        ))
    })?;
    let texts = read
        .image
        .into_iter()
        .chain(read.images.into_iter().flatten());
    let images = texts.enumerate().map(|(index, text)| {
        let name = format!("image {index}");
        // As a browser has it: data:image/png;base64,...
        let text = match text.strip_prefix("data:") {
            Some(rest) => rest.split_once(',').map_or("", |(_, text)| text),
            None => &text,
        };
        let bytes = BASE64_STANDARD.decode(text.trim());
        let bytes =
            bytes.map_err(|error| Refusal::bad(format!("{name} is not base64: {error}")))?;
        Ok((name, Source::File(bytes.into())))
    });
    let images = images.collect::<Result<_, Refusal>>()?;
    let wanted = Wanted {
        model: read.model,
        top_k: read.top_k,
        probabilities: read.probabilities,
    };
    Ok((wanted, images))
}

async fn in_parts(kind: &str, body: Bytes) -> Result<(Wanted, Vec<Named>), Refusal> {
    let broken = |error: multer::Error| Refusal::bad(format!("the form is broken: {error}"));
    let boundary = multer::parse_boundary(kind).map_err(broken)?;
    let stream = http_body_util::BodyDataStream::new(http_body_util::Full::new(body));
    let mut form = multer::Multipart::new(stream, boundary);
    let (mut wanted, mut images) = (Wanted::default(), Vec::new());
    while let Some(part) = form.next_field().await.map_err(broken)? {
        let field = part.name().unwrap_or_default().to_owned();
        let file = part.file_name().map(str::to_owned);
        let is_file = file.is_some() || part.content_type().is_some();
        if is_file {
            let name = file.filter(|name| !name.is_empty());
            let name = name.unwrap_or_else(|| format!("image {}", images.len()));
            let name = visible(&name).into_owned();
            images.push((name, Source::File(part.bytes().await.map_err(broken)?)));
            continue;
        }
        let text = part.text().await.map_err(broken)?;
        let wrong = |expected: &str| {
            Refusal::bad(format!("{field} is {:?}; it is {expected}", visible(&text)))
        };
        match field.as_str() {
            "model" => wanted.model = Some(text),
            "top_k" => {
                wanted.top_k = Some(text.parse().map_err(|_| wrong("a whole number"))?);
            }
            "probabilities" => {
                wanted.probabilities = Some(text.parse().map_err(|_| wrong("true or false"))?);
            }
            other => {
                let other = visible(other);
                return Err(Refusal::bad(format!(
                    "field {other:?} is no file, and none of model, top_k, probabilities"
                )));
            }
        }
    }
    Ok((wanted, images))
}

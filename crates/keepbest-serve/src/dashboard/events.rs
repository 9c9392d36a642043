//! A run's journal as it is written: server-sent events, each with its place in the journal, from which a client that was cut off goes on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, Query, State as Shared};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http_body::{Body as HttpBody, Frame};
use keepbest_keeper::RunView;
use serde::Deserialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::runs::{find, reading};
use crate::error::Refusal;
use crate::follow::Stamp;
use crate::state::State;

/// The time between two looks at the journal.
const LOOK: Duration = Duration::from_millis(250);
/// The time after which a comment tells that the stream is alive.
const BEAT: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
pub(super) struct After {
    after: Option<u64>,
}

/// A body that is what is sent into a channel.
struct Stream(Receiver<Bytes>);

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = self.0.poll_recv(cx);
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

pub(super) async fn events(
    Shared(state): Shared<Arc<State>>,
    Path(run): Path<String>,
    Query(from): Query<After>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let slot = Arc::clone(&state.streams).try_acquire_owned();
    let slot = slot.map_err(|_| Refusal::busy())?;
    let path = reading(&state, move |state| find(state, &run)).await??;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let last = last.and_then(|id| id.parse().ok()).or(from.after);
    let (sender, receiver) = channel(16);
    tokio::spawn(async move {
        let mut stopping = state.stopping.subscribe();
        tokio::select! {
            () = follow(path, last.unwrap_or(0), sender) => {}
            // A server that stops waits for no stream.
            _ = stopping.wait_for(|is| *is) => {}
        }
        drop(slot);
    });
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::new(Stream(receiver))).into_response())
}

/// Sends what the journal has behind `last`, and then what comes, until the client leaves.
async fn follow(run: std::path::PathBuf, mut last: u64, to: Sender<Bytes>) {
    let mut seen = None;
    let mut beat = Instant::now();
    // The headers are there at once.
    if to.send(Bytes::from_static(b":\n\n")).await.is_err() {
        return;
    }
    loop {
        let path = run.clone();
        let look = tokio::task::spawn_blocking(move || {
            let stamp = Stamp::of_journal(&path);
            (stamp != seen).then(|| (stamp, RunView::open(&path)))
        });
        if let Ok(Some((stamp, view))) = look.await {
            seen = stamp;
            // A journal that cannot be read now is read when it has changed.
            for entry in view.iter().flat_map(RunView::entries) {
                if entry.seq <= last {
                    continue;
                }
                last = entry.seq;
                let Ok(json) = serde_json::to_string(entry) else {
                    continue;
                };
                let event = format!(
                    "id: {last}\nevent: {}\ndata: {json}\n\n",
                    kind(entry.event.kind())
                );
                if to.send(event.into()).await.is_err() {
                    return;
                }
                beat = Instant::now();
            }
        }
        if beat.elapsed() >= BEAT {
            beat = Instant::now();
            if to.send(Bytes::from_static(b":\n\n")).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = to.closed() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// The name of an event as it can stand in a line: the journal's own may be anything.
fn kind(name: &str) -> &str {
    let is_plain = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_plain { name } else { "other" }
}

//! The body of a request on its way in: no larger, no slower, and all together no more than the server takes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep};
use tonic::Status;

use crate::error::Refusal;
use crate::options::Limits;

/// The bytes of all bodies that are under way.
#[derive(Debug, Default)]
pub(crate) struct Held(AtomicU64);

/// The bytes that one request holds; let go of when it ends.
#[derive(Debug)]
pub(crate) struct Hold {
    of: Arc<Held>,
    bytes: AtomicU64,
}

impl Hold {
    pub(crate) fn new(of: Arc<Held>) -> Arc<Self> {
        Arc::new(Self {
            of,
            bytes: AtomicU64::new(0),
        })
    }

    /// Holds bytes that are made of the body, up to `all` of every request.
    pub(crate) fn made(&self, bytes: u64, all: u64) -> Result<(), Refusal> {
        self.more(bytes, u64::MAX, all)
    }

    /// Holds more bytes, up to `each` of this request and `all` of every one.
    fn more(&self, bytes: u64, each: u64, all: u64) -> Result<(), Refusal> {
        let own = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let total = self.of.0.fetch_add(bytes, Ordering::Relaxed) + bytes;
        match () {
            () if own > each => Err(too_large(each)),
            () if total > all => Err(Refusal::bodies()),
            () => Ok(()),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let own = self.bytes.load(Ordering::Relaxed);
        self.of.0.fetch_sub(own, Ordering::Relaxed);
    }
}

pub(crate) fn too_large(most: u64) -> Refusal {
    let message = format!("the body has more than {most} bytes, the limit");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

/// A body that ends with an error where it goes beyond a limit.
pub(crate) struct Limited {
    inner: Body,
    hold: Arc<Hold>,
    limits: Limits,
    due: Pin<Box<Sleep>>,
}

impl Limited {
    pub(crate) fn new(inner: Body, hold: Arc<Hold>, limits: Limits) -> Self {
        Self {
            inner,
            hold,
            limits,
            due: Box::pin(tokio::time::sleep_until(Instant::now() + limits.body_time)),
        }
    }
}

/// The error that a body ends with: for gRPC, one whose source is its status.
#[derive(Debug, thiserror::Error)]
#[error("{}", .refusal.message)]
struct Ended {
    refusal: Refusal,
    source: Status,
}

impl From<Refusal> for axum::Error {
    fn from(refusal: Refusal) -> Self {
        let source = Status::from(refusal.clone());
        Self::new(Ended { refusal, source })
    }
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Limits { body, bodies, .. } = this.limits;
                match this.hold.more(bytes, body, bodies) {
                    Ok(()) => Poll::Ready(Some(Ok(frame))),
                    Err(refusal) => Poll::Ready(Some(Err(refusal.into()))),
                }
            }
            Poll::Pending => match this.due.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(slow(this.limits.body_time).into()))),
                Poll::Pending => Poll::Pending,
            },
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn slow(within: Duration) -> Refusal {
    let message = format!("the body was not there within {} s", within.as_secs_f64());
    Refusal::new(StatusCode::REQUEST_TIMEOUT, message)
}

/// The whole of a body.
pub(crate) async fn whole(body: Body) -> Result<Bytes, Refusal> {
    let collected = body.collect().await.map_err(|error| {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(error) = source {
            if let Some(ended) = error.downcast_ref::<Ended>() {
                return ended.refusal.clone();
            }
            source = error.source();
        }
        Refusal::bad("the body broke off")
    })?;
    Ok(collected.to_bytes())
}

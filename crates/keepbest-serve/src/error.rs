//! Why a server does not start, and why a request has no answer.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use keepbest_core::text::{shell_word, visible, with_causes};
use keepbest_model::{ModelRefError, OpenReferenceError};
use serde_json::json;
use tonic::{Code, Status};

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A model that was named is not there.
    #[error(transparent)]
    Reference(#[from] ModelRefError),
    /// Two models would be called the same.
    #[error("two of the models are called {name:?}")]
    SameName {
        /// The name.
        name: String,
    },
    /// A name that cannot stand in an address.
    #[error("{name:?} cannot be a model's name: it is not empty, and has no / and no blanks")]
    Name {
        /// The name.
        name: String,
    },
    /// The address is taken, or is none of this machine's.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The threads that it takes cannot be started.
    #[error("cannot start the server's threads")]
    Runtime(#[source] std::io::Error),
    /// A file of a certificate or key cannot be read.
    #[error("cannot read {path}", path = path.display())]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Certificate and key do not go together.
    #[error("the certificate and the key cannot be used")]
    Tls(#[source] tokio_rustls::rustls::Error),
    /// Actions for everybody.
    #[error("actions take keys: whoever reaches the server could stop a training")]
    ActionsWithoutKeys,
    /// An origin that is none.
    #[error("{origin:?} is no origin: one is https://example.org or http://localhost:3000")]
    Origin {
        /// As given.
        origin: String,
    },
}

impl StartError {
    /// What to try instead.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Reference(error) => error.hint(),
            Self::SameName { name } => Some(format!(
                "name one of them otherwise: other={}",
                shell_word(name)
            )),
            Self::Name { .. } => Some("name it: name=MODEL".into()),
            Self::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
                Some("another program listens there; --port 0 takes a free one".into())
            }
            Self::ActionsWithoutKeys => Some("--keys FILE, with a key a line".into()),
            _ => None,
        }
    }
}

/// Why a loaded model cannot answer, or a model not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LoadError {
    /// It cannot be opened, or does not verify.
    #[error(transparent)]
    Open(#[from] OpenReferenceError),
    /// It cannot be run.
    #[error(transparent)]
    Model(#[from] keepbest_model::ModelError),
    /// No network can be made for it.
    #[error(transparent)]
    Engine(#[from] keepbest_nn::EngineError),
    /// Its weights do not fit.
    #[error(transparent)]
    Weights(#[from] Box<keepbest_nn::WeightsError>),
    /// Its preprocessing makes no sense.
    #[error(transparent)]
    Preprocessing(#[from] keepbest_data::PreprocessingError),
    /// Its network does not compute.
    #[error("the network does not compute a batch of zeros")]
    Warm(#[from] keepbest_nn::ScoreError),
    /// It alone takes more than all may.
    #[error("it takes {needed} bytes, and models may take {most} (--memory)")]
    TooLarge {
        /// What it takes.
        needed: u64,
        /// What there is.
        most: u64,
    },
    /// Its threads cannot be started.
    #[error("the system starts no thread for it")]
    Thread(#[source] std::io::Error),
    /// What loads models is gone.
    #[error("loading it was broken off")]
    BrokenOff,
}

/// A request without an answer: what the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: StatusCode,
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// The request is not understood.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// It is understood, and what it holds is no image.
    pub(crate) fn unfit(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// The same in an error's words, with its causes.
    pub(crate) fn unfit_for(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::unfit(visible(&with_causes(error)))
    }

    /// The request is not understood, in an error's words, with its causes.
    pub(crate) fn bad_for(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::bad(visible(&with_causes(error)))
    }

    /// Nothing of the name is there.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// More than the server takes at a time.
    pub(crate) fn busy() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "as many requests are under way as the server takes (--queue); try again in a second",
        )
    }

    /// More bytes than the server holds at a time.
    pub(crate) fn bodies() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "the bodies of the requests under way are as large as the server takes; try again in a second",
        )
    }

    /// Not now.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// Time is up.
    pub(crate) fn late() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "the answer was not ready by the deadline",
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({"error": self.message}))).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.status {
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Code::InvalidArgument,
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            StatusCode::FORBIDDEN => Code::PermissionDenied,
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::PAYLOAD_TOO_LARGE => Code::OutOfRange,
            StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => Code::DeadlineExceeded,
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Code::Unimplemented,
            _ => Code::Internal,
        };
        Self::new(code, refusal.message)
    }
}

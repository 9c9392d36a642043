//! What a server tells who runs it.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeEvent<'a> {
    /// The server takes requests.
    Listening {
        /// Where.
        address: SocketAddr,
        /// Whether it speaks TLS.
        tls: bool,
        /// The models by name.
        models: &'a [String],
    },
    /// A model was loaded, verified and warmed.
    Loaded {
        /// Its name.
        model: &'a str,
        /// The identity of its weights.
        digest: &'a str,
        /// Bytes of memory that it takes.
        bytes: u64,
        /// Time that it took.
        time: Duration,
    },
    /// A run has a better best, which answers from now on.
    Swapped {
        /// Its name.
        model: &'a str,
        /// The identity of the weights that answered before.
        from: &'a str,
        /// The identity of those that answer now.
        to: &'a str,
        /// Time that it took to open, verify and warm it.
        time: Duration,
    },
    /// A model was not loaded; the one before goes on answering, if there is one.
    Refused {
        /// Its name.
        model: &'a str,
        /// Why.
        error: &'a (dyn Error + 'static),
        /// What may help.
        hint: Option<String>,
        /// Whether another goes on answering under the name.
        answers: bool,
    },
    /// A model left memory.
    Unloaded {
        /// Its name.
        model: &'a str,
        /// Why.
        why: &'static str,
    },
    /// What a worker did not survive; it was started anew.
    Broken {
        /// The model.
        model: &'a str,
        /// What is known of it.
        what: String,
    },
    /// A connection could not be accepted.
    Accept {
        /// What the system says.
        error: &'a std::io::Error,
    },
    /// A request was answered, one way or another.
    Answered(&'a Access),
    /// The server was told to stop: it takes nothing more, and what is under way ends.
    Draining {
        /// Requests that are under way.
        requests: usize,
    },
    /// What was under way when the time for it was up.
    Abandoned {
        /// Connections that were cut.
        connections: usize,
    },
}

/// A line of the access log.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Access {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// The request's identity, which the reply names too.
    pub request: String,
    /// The client's address.
    pub client: String,
    /// The method.
    pub method: String,
    /// The path, without what follows `?`.
    pub path: String,
    /// The status.
    pub status: u16,
    /// The model that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The identity of its weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Time to the reply, in milliseconds.
    pub took_ms: f64,
}

/// Who is told what happens. It is called by the threads that answer, so it must not wait.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn on(&self, event: ServeEvent<'_>);

    /// Whether it wants to hear of every request that is answered.
    fn hears_of_requests(&self) -> bool {
        false
    }
}

//! What a server is told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::keys::Keys;
use crate::source::ModelSource;

/// What to serve, where, and within which limits.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The models; all runs of [`runs_dir`](Self::runs_dir) where none is named.
    pub models: Vec<ModelSource>,
    /// The folder that holds the runs.
    pub runs_dir: PathBuf,
    /// The address to listen at; with port 0, the system picks one.
    pub address: SocketAddr,
    /// Bytes that loaded models may take together; the least recently used go when another is loaded.
    pub memory: u64,
    /// How images are computed.
    pub batching: Batching,
    /// What a client may take.
    pub limits: Limits,
    /// Whether images of a size or kind that a model has not seen are refused instead of converted.
    pub strict: bool,
    /// The keys that requests must bring one of; `None` asks for none.
    pub keys: Option<Keys>,
    /// Certificate and key, to speak TLS.
    pub tls: Option<TlsFiles>,
    /// Origins whose pages may ask; none by default.
    pub cors: Vec<String>,
    /// Whether clients may load and unload models.
    pub allow_load: bool,
    /// Whether the dashboard may pin checkpoints and stop trainings; it takes [`keys`](Self::keys), too.
    pub allow_actions: bool,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            runs_dir: PathBuf::from(keepbest_model::DEFAULT_RUNS_DIR),
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            memory: 2 << 30,
            batching: Batching::default(),
            limits: Limits::default(),
            strict: false,
            keys: None,
            tls: None,
            cors: Vec::new(),
            allow_load: false,
            allow_actions: false,
        }
    }
}

/// How images of concurrent requests are computed together.
#[derive(Debug, Clone, Copy)]
pub struct Batching {
    /// Most images computed at once.
    pub batch_size: usize,
    /// The longest that an image waits for others that are on their way; none waits for what has not come yet.
    pub max_delay: Duration,
    /// Batches of a model computed at once, each with a network of its own.
    pub workers: usize,
    /// Threads that compute one batch; the machine's processors, shared among the workers, when absent.
    pub threads: Option<usize>,
    /// Requests that may be under way in all; more are refused.
    pub queue: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            batch_size: 32,
            max_delay: Duration::from_millis(2),
            workers: 1,
            threads: None,
            queue: 1024,
        }
    }
}

impl Batching {
    /// Threads of one worker.
    pub(crate) fn threads_each(&self) -> usize {
        self.threads.unwrap_or_else(|| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            (cores / self.workers.max(1)).max(1)
        })
    }
}

/// What a client may take of the server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one request's body.
    pub body: u64,
    /// Bytes of all bodies that are under way.
    pub bodies: u64,
    /// Images in one request.
    pub images: usize,
    /// Pixels of one image, height times width.
    pub pixels: u64,
    /// Connections.
    pub connections: usize,
    /// Time for a request's headers, and for the first request of a connection.
    pub header_time: Duration,
    /// Time for a request's body.
    pub body_time: Duration,
    /// Time for the answer.
    pub request_time: Duration,
    /// Time for what is under way when the server is told to stop.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 32 << 20,
            bodies: 512 << 20,
            images: 1024,
            pixels: 64_000_000,
            connections: 16_384,
            header_time: Duration::from_secs(30),
            body_time: Duration::from_secs(30),
            request_time: Duration::from_secs(30),
            drain_time: Duration::from_secs(30),
        }
    }
}

/// A server's certificate and its key, PEM files.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, and those that it is signed by.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

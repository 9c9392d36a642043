//! The server: takes connections, answers, and stops in order.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use crate::error::StartError;
use crate::follow::follow;
use crate::http::{Peer, router};
use crate::observer::{Observer, ServeEvent};
use crate::options::{Limits, ServeOptions};
use crate::state::State;
use crate::tls;

/// Requests at a time on one connection of HTTP/2.
const STREAMS: u32 = 256;
/// Streams of HTTP/2 that a client opened and reset before they were answered, by which it is told to go.
const RESETS: usize = 32;
/// Bytes of a request's headers.
const HEADERS: usize = 64 << 10;
/// The time between two signs of life of a connection of HTTP/2.
const PING: Duration = Duration::from_secs(20);
/// The time to rest where the system has nothing for another connection.
const REST: Duration = Duration::from_millis(50);

/// A server that listens, and answers when it is [run](Self::run).
///
/// ```
/// # async fn example() -> Result<(), keepbest_serve::StartError> {
/// use std::sync::Arc;
///
/// use keepbest_serve::{Observer, ServeEvent, ServeOptions, Server};
///
/// struct Quiet;
/// impl Observer for Quiet {
///     fn on(&self, _: ServeEvent<'_>) {}
/// }
///
/// let server = Server::bind(ServeOptions::default(), Arc::new(Quiet)).await?;
/// let address = server.address();
/// server.run(std::future::pending()).await;
/// # Ok(())
/// # }
/// ```
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    state: Arc<State>,
}

/// Serves until `stop` is set, in a runtime of its own.
///
/// # Errors
/// [`StartError`].
pub fn serve(
    options: ServeOptions,
    observer: Arc<dyn Observer>,
    stop: &AtomicBool,
) -> Result<(), StartError> {
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("serve-io")
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let served = runtime.block_on(async {
        let server = Server::bind(options, observer).await?;
        server
            .run(async {
                while !stop.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            })
            .await;
        Ok(())
    });
    // Images that are being decoded for nobody any more are not waited for.
    runtime.shutdown_background();
    served
}

/// Lets the process have as many connections as the system allows it.
fn raise_open_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Without it, there are fewer connections.
    let _ = setrlimit(Resource::Nofile, raised);
}

impl Server {
    /// Finds the models, and listens. Nothing is answered before [`run`](Self::run).
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn bind(
        options: ServeOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StartError> {
        if options.allow_actions && options.keys.is_none() {
            return Err(StartError::ActionsWithoutKeys);
        }
        for origin in &options.cors {
            let is_origin = origin.split_once("://").is_some_and(|(scheme, host)| {
                matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains('/')
            });
            if !is_origin {
                let origin = origin.clone();
                return Err(StartError::Origin { origin });
            }
        }
        let tls = options.tls.as_ref().map(tls::acceptor).transpose()?;
        let address = options.address;
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        Ok(Self {
            address: listener.local_addr().map_err(failed)?,
            listener,
            tls,
            state: State::new(options, observer)?,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is ready; then takes nothing more, and ends when what is under way has been answered or the time for that is
    /// up.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self {
            listener,
            address,
            tls,
            state,
        } = self;
        let models: Vec<String> = state.catalogue.all().keys().cloned().collect();
        state.observer.on(ServeEvent::Listening {
            address,
            tls: tls.is_some(),
            models: &models,
        });
        let preloading = tokio::spawn(preload(Arc::clone(&state)));
        let following = tokio::spawn(follow(Arc::clone(&state.catalogue)));
        let limits = state.options.limits;
        let connections = Arc::new(Semaphore::new(limits.connections));
        let routes = router(&state);
        let graceful = GracefulShutdown::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = async {
                // More connections wait until others end.
                let permit = Arc::clone(&connections).acquire_owned().await;
                (listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                () = &mut stop => break,
                accepted = accepted => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    state.observer.on(ServeEvent::Accept { error: &error });
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            let connection = Connection {
                state: Arc::clone(&state),
                routes: routes.clone(),
                peer,
                limits,
                watcher: graceful.watcher(),
                _permit: permit.ok(),
            };
            tokio::spawn(connection.serve(stream, tls.clone()));
        }
        drop(listener);
        preloading.abort();
        following.abort();
        state.stopping.send_replace(true);
        let requests = state.under_way();
        state.observer.on(ServeEvent::Draining { requests });
        let open = state.metrics.connections.clone();
        let drained = tokio::time::timeout(limits.drain_time, graceful.shutdown()).await;
        if drained.is_err() {
            let connections = usize::try_from(open.get()).unwrap_or(0);
            state.observer.on(ServeEvent::Abandoned { connections });
        }
    }
}

/// Loads the models that were named, as far as memory goes; then the server is ready.
async fn preload(state: Arc<State>) {
    let mut held = 0;
    for source in &state.options.models {
        let Ok(entry) = state.catalogue.find(Some(&source.name)) else {
            continue;
        };
        // Why it was not loaded has been told.
        if let Ok(loaded) = state.catalogue.load(&entry, false).await {
            held += loaded.bytes;
        }
        // Another of the same size would push this one out.
        if held.saturating_mul(2) > state.options.memory {
            break;
        }
    }
    state.started.store(true, Ordering::Release);
}

/// A connection, and what it takes.
struct Connection {
    state: Arc<State>,
    routes: Router,
    peer: SocketAddr,
    limits: Limits,
    watcher: Watcher,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    async fn serve(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let open = self.state.metrics.connections.clone();
        open.inc();
        // A reply is whole when it is written: nothing is gained by waiting for more. Where it cannot be set, replies are later.
        let _ = stream.set_nodelay(true);
        match tls {
            None => self.answer(stream).await,
            Some(tls) => {
                let shaken = tokio::time::timeout(self.limits.header_time, tls.accept(stream));
                // Who does not speak TLS, or too slowly, is let go.
                if let Ok(Ok(stream)) = shaken.await {
                    self.answer(stream).await;
                }
            }
        }
        open.dec();
    }

    async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let Self {
            routes,
            peer,
            limits,
            watcher,
            ..
        } = self;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_time)
            .max_buf_size(HEADERS);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADERS as u32)
            .max_pending_accept_reset_streams(RESETS)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        let asked = Arc::new(AtomicBool::new(false));
        let first = Arc::clone(&asked);
        let service = service_fn(move |mut request: Request<Incoming>| {
            first.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(Peer(peer));
            let mut routes = routes.clone();
            async move {
                let reply = routes.call(request.map(Body::new)).await;
                Ok::<_, Infallible>(reply.unwrap_or_else(|never| match never {}))
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let connection = watcher.watch(connection.into_owned());
        // Who connects and asks nothing, or begins to ask a byte at a time, is let go.
        let silence = async {
            tokio::time::sleep(limits.header_time).await;
            if asked.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            // How a connection ends is its client's business.
            _ = connection => {}
            () = silence => {}
        }
    }
}

#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(not(unix))]
compile_error!("keepbest-serve builds on Unix systems only");

#[cfg(feature = "server")]
mod batch;
#[cfg(feature = "server")]
mod body;
#[cfg(feature = "server")]
mod catalogue;
#[cfg(feature = "server")]
mod dashboard;
#[cfg(feature = "server")]
mod error;
#[cfg(feature = "server")]
mod follow;
#[cfg(feature = "server")]
mod generation;
#[cfg(feature = "server")]
mod grpc;
#[cfg(feature = "server")]
mod http;
#[cfg(feature = "server")]
mod infer;
#[cfg(feature = "server")]
mod keys;
#[cfg(feature = "server")]
mod metrics;
#[cfg(feature = "server")]
mod observer;
#[cfg(feature = "server")]
mod options;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod source;
#[cfg(feature = "server")]
mod state;
#[cfg(feature = "server")]
mod tls;
pub mod v2;

#[cfg(feature = "server")]
pub use {
    error::StartError,
    keys::{KeyFileError, Keys},
    observer::{Access, Observer, ServeEvent},
    options::{Batching, Limits, ServeOptions, TlsFiles},
    server::{Server, serve},
    source::ModelSource,
};

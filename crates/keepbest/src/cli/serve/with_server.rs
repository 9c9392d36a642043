//! `keepbest serve`, in a build that has the server.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use keepbest_core::size::format_size;
use keepbest_core::text::{visible, with_causes};
use keepbest_serve::{
    Access, Batching, KeyFileError, Keys, Limits, ModelSource, Observer, ServeEvent, ServeOptions,
    StartError, TlsFiles, serve,
};

use crate::cli::args::ServeArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::signals;
use crate::cli::terminal::Terminal;

/// Lines of the access log that wait to be written; when there are more, some are left out, and that is counted.
const WAITING: usize = 4096;

pub(crate) fn run(args: &ServeArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let options = options(args)?;
    if !options.address.ip().is_loopback() && options.keys.is_none() {
        let hint = "--keys FILE asks for a key".to_owned();
        Failure::new(Exit::Done, "whoever reaches this address may ask")
            .with_hint(hint)
            .warn(terminal);
    }
    let log = args
        .access_log
        .as_deref()
        .map(AccessLog::open)
        .transpose()?;
    let observer = Arc::new(Teller {
        terminal: *terminal,
        log,
    });
    let stop = signals::stop_on_signals()?;
    serve(options, observer, &stop)?;
    Ok(Exit::Done)
}

fn options(args: &ServeArgs) -> Result<ServeOptions, Failure> {
    let models = args
        .models
        .iter()
        .map(|text| ModelSource::find(text, &args.runs_dir));
    let keys = args.keys.as_deref().map(Keys::read).transpose()?;
    let tls = args.tls_cert.clone().zip(args.tls_key.clone());
    Ok(ServeOptions {
        models: models.collect::<Result<_, _>>()?,
        runs_dir: args.runs_dir.clone(),
        address: SocketAddr::new(args.host, args.port),
        memory: args.memory,
        batching: Batching {
            batch_size: args.batch_size.into(),
            max_delay: args.max_delay,
            workers: args.workers.into(),
            threads: args.threads.map(usize::from),
            queue: args.queue as usize,
        },
        limits: Limits {
            body: args.max_body,
            pixels: args.max_pixels,
            connections: args.max_connections as usize,
            header_time: args.read_timeout,
            body_time: args.read_timeout,
            request_time: args.timeout,
            drain_time: args.drain,
            ..Limits::default()
        },
        strict: args.strict,
        keys,
        tls: tls.map(|(certificate, key)| TlsFiles { certificate, key }),
        cors: args.cors.clone(),
        allow_load: args.allow_load,
        allow_actions: args.allow_actions,
    })
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = match &error {
            StartError::SameName { .. }
            | StartError::Name { .. }
            | StartError::ActionsWithoutKeys
            | StartError::Origin { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        let hint = error.hint();
        match error {
            StartError::Reference(error) => error.into(),
            error => Self::of(exit, &error).with_hint(hint),
        }
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        Self::of(Exit::Failed, &error)
    }
}

/// Tells on stderr what happens, and in the access log who asked.
struct Teller {
    terminal: Terminal,
    log: Option<AccessLog>,
}

impl Observer for Teller {
    fn hears_of_requests(&self) -> bool {
        self.log.is_some()
    }

    fn on(&self, event: ServeEvent<'_>) {
        match event {
            ServeEvent::Answered(access) => {
                if let Some(log) = &self.log {
                    log.put(access);
                }
            }
            ServeEvent::Listening {
                address,
                tls,
                models,
            } => {
                let scheme = if tls { "https" } else { "http" };
                say!("serving {} at {scheme}://{address}", names(models));
            }
            ServeEvent::Loaded {
                model,
                digest,
                bytes,
                time,
            } => say!(
                "{}: loaded {} ({}, {:.2} s)",
                visible(model),
                short(digest),
                format_size(bytes >> 20 << 20),
                time.as_secs_f64()
            ),
            ServeEvent::Swapped {
                model,
                from,
                to,
                time,
            } => say!(
                "{}: {} answers instead of {} (verified and warmed in {:.2} s)",
                visible(model),
                short(to),
                short(from),
                time.as_secs_f64()
            ),
            ServeEvent::Refused {
                model,
                error,
                hint,
                answers,
            } => {
                let after = match answers {
                    true => "; the one before goes on answering",
                    false => "",
                };
                let failure = Failure::of(Exit::Failed, error);
                let message = format!("{}: not loaded{after}: {}", visible(model), failure.message);
                Failure { message, ..failure }
                    .with_hint(hint)
                    .warn(&self.terminal);
            }
            ServeEvent::Unloaded { model, why } => {
                say!("{}: out of memory again: {why}", visible(model))
            }
            ServeEvent::Broken { model, what } => {
                let message = format!("{}: {what}", visible(model));
                Failure::new(Exit::Failed, message).warn(&self.terminal);
            }
            ServeEvent::Accept { error } => {
                let message = format!("cannot accept a connection: {error}");
                Failure::new(Exit::Failed, message).warn(&self.terminal);
            }
            ServeEvent::Draining { requests } => {
                say!("stopping: {requests} requests under way; a second signal does not wait");
            }
            ServeEvent::Abandoned { connections } => {
                let message =
                    format!("{connections} connections were cut: the time for them was up");
                Failure::new(Exit::Failed, message).warn(&self.terminal);
            }
            _ => {}
        }
    }
}

fn names(models: &[String]) -> String {
    match models {
        [] => "no run yet".to_owned(),
        [.., _] if models.len() > 5 => format!("{} models", models.len()),
        names => visible(&names.join(", ")).into_owned(),
    }
}

fn short(digest: &str) -> &str {
    digest.get(..8).unwrap_or(digest)
}

/// A line of JSON a request, written by a thread of its own: who answers never waits for a disk.
struct AccessLog {
    lines: SyncSender<String>,
    lost: Arc<AtomicU64>,
}

impl AccessLog {
    fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure {
            causes: vec![error.to_string()],
            ..Failure::new(Exit::Failed, format!("cannot write {}", path.display()))
        };
        let mut to: Box<dyn Write + Send> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            let file: File = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(failed)?;
            Box::new(file)
        };
        let (lines, written) = sync_channel::<String>(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let path = path.display().to_string();
        let thread = std::thread::Builder::new().name("serve-log".into());
        let writing = thread.spawn(move || {
            let mut is_told = false;
            for line in written {
                // A full disk costs lines, not answers; it is said once, and again when it comes back.
                match to.write_all(line.as_bytes()) {
                    Ok(()) => is_told = false,
                    Err(error) => {
                        counted.fetch_add(1, Ordering::Relaxed);
                        if !std::mem::replace(&mut is_told, true) {
                            say!(
                                "the access log {path} cannot be written: {}",
                                with_causes(&error)
                            );
                        }
                    }
                }
            }
        });
        writing.map_err(failed)?;
        Ok(Self { lines, lost })
    }

    fn put(&self, access: &Access) {
        let line = serde_json::to_string(access);
        let sent = line.is_ok_and(|line| self.lines.try_send(line + "\n").is_ok());
        if !sent {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 {
            say!(
                "{lost} requests are not in the access log: it could not be written as fast, or at all"
            );
        }
    }
}

//! The thread that everything of PyTorch's runs on.
//!
//! Python handles Ctrl-C between two lines of whatever its main thread runs, and the trainer may be on that one: a step would be cut
//! in half. Here nobody interrupts it, and settings that PyTorch keeps for each thread hold for all calls.

use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use pyo3::prelude::*;

type Job = Box<dyn FnOnce(Python<'_>) + Send>;

static WORKER: Mutex<Option<Sender<Job>>> = Mutex::new(None);

/// What PyTorch raised, in its words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(super) struct TorchError {
    message: String,
    /// Whether another rank cannot be reached any more.
    pub(super) rank_lost: bool,
}

impl TorchError {
    fn of(py: Python<'_>, error: &PyErr) -> Self {
        let name = error.get_type(py).name();
        let name = name.map_or_else(|_| String::new(), |name| name.to_string());
        let words = error.value(py).to_string();
        Self {
            message: match words.is_empty() {
                true => name.clone(),
                false => words,
            },
            rank_lost: name == "RankLost",
        }
    }

    fn ours(message: &str) -> Self {
        Self {
            message: message.to_owned(),
            rank_lost: false,
        }
    }
}

/// Runs a job on the thread, and waits for it. Whoever calls must not hold the GIL.
pub(super) fn run<T: Send + 'static>(
    job: impl FnOnce(Python<'_>) -> PyResult<T> + Send + 'static,
) -> Result<T, TorchError> {
    let (answer, answered) = sync_channel(1);
    let job: Job = Box::new(move |py| {
        let done = job(py).map_err(|error| TorchError::of(py, &error));
        // Nobody waits any more where the process ends.
        let _ = answer.send(done);
    });
    let sent = sender()?.send(job);
    sent.map_err(|_| TorchError::ours("the thread of PyTorch has ended"))?;
    let done = answered.recv();
    done.map_err(|_| TorchError::ours("a call of PyTorch did not come back"))?
}

fn sender() -> Result<Sender<Job>, TorchError> {
    let mut worker = WORKER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = &*worker {
        return Ok(sender.clone());
    }
    let (sender, jobs) = channel::<Job>();
    let thread = thread::Builder::new().name("pytorch".to_owned());
    let started = thread.spawn(move || {
        for job in jobs {
            Python::attach(job);
        }
    });
    started.map_err(|error| TorchError::ours(&format!("no thread for PyTorch: {error}")))?;
    Ok(worker.insert(sender).clone())
}

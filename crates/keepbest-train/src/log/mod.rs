//! Other people's tools: what is measured goes to TensorBoard, MLflow, CSV or JSON as well.
//!
//! Each has a thread of its own. A logger that fails is told of once, gets nothing more, and stops nothing; one that is slow or
//! hangs is not waited for, but for a while at the end.

mod http;
mod logger;
mod mlflow;
mod table;
mod tensorboard;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel,
};
use std::time::{Duration, Instant};

use http::Url;
use logger::Logger;
pub(crate) use logger::{Logged, SessionEnd, SessionStart, now_ms};
use mlflow::MlFlow;
use table::{Table, TableKind};
use tensorboard::TensorBoard;

/// A tool to log to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogTo {
    /// Event files in `tensorboard/` of the run.
    TensorBoard,
    /// `metrics.csv` in the run.
    Csv,
    /// `metrics.json` in the run.
    Json,
    /// A tracking server.
    MlFlow(Url),
}

impl FromStr for LogTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            None if text == "tensorboard" => Ok(Self::TensorBoard),
            None if text == "csv" => Ok(Self::Csv),
            None if text == "json" => Ok(Self::Json),
            Some(("mlflow", url)) => url.parse().map(Self::MlFlow),
            _ => Err("one of tensorboard, csv, json or mlflow=URL".into()),
        }
    }
}

#[derive(Clone)]
enum Message {
    Evaluated(Arc<Logged>),
    End(SessionEnd),
}

/// Evaluations that may wait for a logger. One that is further behind gets no more until it has caught up.
const QUEUE: usize = 64;
/// The time that the end of a finished run waits for a logger that does not come to its end; that to hand over the best is added.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same when a run is interrupted: whoever interrupts it may not wait.
const PATIENCE_INTERRUPTED: Duration = Duration::from_secs(10);
/// The time between two looks whether to wait on.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The loggers of a session, each on a thread of its own: none can keep training or another waiting.
#[derive(Default)]
pub(crate) struct Loggers {
    threads: Vec<LoggerThread>,
}

/// A logger at work, seen from the training.
struct LoggerThread {
    name: String,
    /// `None` when it could not be started, or is over.
    sender: Option<SyncSender<Message>>,
    problems: Receiver<String>,
    /// Evaluations that it did not get, not yet told of.
    missed: usize,
    /// Problems that are not the logger's own to tell, in words.
    own_problems: Vec<String>,
}

impl Loggers {
    /// Starts them.
    pub(crate) fn start(to: &[LogTo], session: SessionStart) -> Self {
        let threads = to.iter().map(|to| LoggerThread::start(to, session.clone()));
        Self {
            threads: threads.collect(),
        }
    }

    /// Hands on an evaluation.
    pub(crate) fn evaluated(&mut self, logged: Logged) {
        let logged = Arc::new(logged);
        for thread in &mut self.threads {
            thread.evaluated(&logged);
        }
    }

    /// Hands on the end, and waits until all is logged; not for ever, and no longer than `go_on` says.
    pub(crate) fn end(&mut self, ended: &SessionEnd, go_on: &dyn Fn() -> bool) {
        let patience = if ended.finished {
            let best = ended.best.as_ref().and_then(|best| best.metadata().ok());
            PATIENCE + http::time_for(best.map_or(0, |best| best.len()))
        } else {
            PATIENCE_INTERRUPTED
        };
        let deadline = Instant::now() + patience;
        for thread in &mut self.threads {
            thread.end(ended, deadline, go_on);
        }
    }

    /// The problems since the last call.
    pub(crate) fn problems(&mut self) -> Vec<String> {
        let threads = self.threads.iter_mut();
        threads.flat_map(LoggerThread::problems).collect()
    }
}

impl LoggerThread {
    fn start(to: &LogTo, session: SessionStart) -> Self {
        let name = to.to_string();
        let logger = logger(to);
        let (sender, messages) = sync_channel(QUEUE);
        let (told, problems) = channel();
        let thread = std::thread::Builder::new()
            .name("keepbest-log".into())
            .spawn({
                let name = name.clone();
                move || {
                    if let Err(problem) = work(logger, &session, &messages) {
                        // Nobody listens any more when it is not waited for.
                        let _ =
                            told.send(format!("{name} gets nothing more of this run: {problem}"));
                    }
                }
            });
        // It is never joined: it may hang for good.
        let (sender, own_problems) = match thread {
            Ok(_) => (Some(sender), Vec::new()),
            Err(error) => (
                None,
                vec![format!("{name} gets nothing of this run: {error}")],
            ),
        };
        Self {
            name,
            sender,
            problems,
            missed: 0,
            own_problems,
        }
    }

    fn evaluated(&mut self, logged: &Arc<Logged>) {
        let Some(sender) = &self.sender else { return };
        match sender.try_send(Message::Evaluated(Arc::clone(logged))) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                if self.missed == 0 {
                    let name = &self.name;
                    self.own_problems.push(format!(
                        "{name} falls behind: it does not get every evaluation"
                    ));
                }
                self.missed += 1;
            }
            // It has failed, which is told.
            Err(TrySendError::Disconnected(_)) => self.sender = None,
        }
    }

    fn end(&mut self, ended: &SessionEnd, deadline: Instant, go_on: &dyn Fn() -> bool) {
        let Some(sender) = self.sender.take() else {
            return;
        };
        let waits = || Instant::now() < deadline && (!ended.finished || go_on());
        let mut message = Message::End(ended.clone());
        while let Err(TrySendError::Full(back)) = sender.try_send(message) {
            if !waits() {
                return self.given_up();
            }
            message = back;
            std::thread::sleep(POLL_INTERVAL);
        }
        drop(sender);
        // Its thread ends, and with it the channel.
        loop {
            match self.problems.recv_timeout(POLL_INTERVAL) {
                Ok(problem) => self.own_problems.push(problem),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) if waits() => {}
                Err(RecvTimeoutError::Timeout) => return self.given_up(),
            }
        }
    }

    fn given_up(&mut self) {
        let name = &self.name;
        self.own_problems.push(format!(
            "{name} is not waited for any longer: it may lack the end of this run"
        ));
    }

    fn problems(&mut self) -> Vec<String> {
        let mut problems = std::mem::take(&mut self.own_problems);
        problems.extend(self.problems.try_iter());
        problems
    }
}

fn logger(to: &LogTo) -> Box<dyn Logger> {
    match to {
        LogTo::TensorBoard => Box::new(TensorBoard::default()),
        LogTo::Csv => Box::new(Table::new(TableKind::Csv)),
        LogTo::Json => Box::new(Table::new(TableKind::Json)),
        LogTo::MlFlow(url) => Box::new(MlFlow::new(url.clone())),
    }
}

/// Tells a logger all there is to tell, until it fails.
fn work(
    mut logger: Box<dyn Logger>,
    session: &SessionStart,
    messages: &Receiver<Message>,
) -> Result<(), String> {
    logger.begin(session)?;
    for message in messages {
        match message {
            Message::Evaluated(logged) => logger.evaluated(&logged)?,
            Message::End(ended) => return logger.end(&ended),
        }
    }
    Ok(())
}

impl fmt::Display for LogTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TensorBoard => "tensorboard",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::MlFlow(_) => "mlflow",
        })
    }
}

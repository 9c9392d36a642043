//! Other people's tools: what is measured goes to TensorBoard, MLflow, CSV or JSON as well.
//!
//! All of it happens on a thread of its own. A logger that fails is told of once, gets nothing more, and stops nothing.

mod http;
mod mlflow;
mod table;
mod tensorboard;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use keepbest_core::{EvaluationRecord, History};

use http::Url;
use mlflow::MlFlow;
use table::{Table, TableKind};
use tensorboard::TensorBoard;

/// Where to log to.
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

/// One evaluation, on its way to the loggers.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    /// All evaluations so far; this one is the last.
    pub history: History,
    pub learning_rate: f64,
    pub images_per_second: Option<f64>,
    pub time_ms: u64,
}

impl Logged {
    /// The values by name: metrics, learning rate, speed.
    fn values(&self) -> impl Iterator<Item = (&str, f64)> {
        let record = self.history.last();
        let metrics = record.into_iter().flat_map(|record| record.metrics.iter());
        metrics
            .chain([("train/learning_rate", self.learning_rate)])
            .chain(
                self.images_per_second
                    .map(|pace| ("train/images_per_second", pace)),
            )
    }

    fn record(&self) -> Option<&EvaluationRecord> {
        self.history.last()
    }
}

/// How a session of training ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// Whether the run is over, or was interrupted and may go on.
    pub finished: bool,
    /// The best, to be kept by those who keep files.
    pub best: Option<PathBuf>,
    pub time_ms: u64,
}

/// What a logger is told about the run at its beginning.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub run: PathBuf,
    /// Every setting, by name.
    pub settings: Vec<(String, String)>,
    /// Steps taken before this session.
    pub step: u64,
}

/// Takes what is measured elsewhere. Errors are in words.
trait Logger: Send {
    fn begin(&mut self, about: &About) -> Result<(), String>;
    fn evaluated(&mut self, logged: &Logged) -> Result<(), String>;
    fn end(&mut self, ended: &Ended) -> Result<(), String>;
}

enum Message {
    Evaluated(Box<Logged>),
    Ended(Ended),
}

/// The loggers of a session, on their thread.
#[derive(Default)]
pub(crate) struct Loggers {
    sender: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
    problems: Option<Receiver<String>>,
}

impl Loggers {
    /// Starts them.
    pub fn start(to: &[LogTo], about: About) -> Self {
        if to.is_empty() {
            return Self::default();
        }
        let loggers = to.iter().map(|to| (to.to_string(), logger(to))).collect();
        let (sender, messages) = channel();
        let (told, problems) = channel();
        let thread = std::thread::Builder::new()
            .name("keepbest-log".into())
            .spawn(move || work(loggers, &about, &messages, &told));
        // Without a thread there is nobody to log, and nobody is waited for.
        let thread = thread.ok();
        Self {
            sender: thread.is_some().then_some(sender),
            thread,
            problems: Some(problems),
        }
    }

    /// Hands on an evaluation.
    pub fn evaluated(&self, logged: Logged) {
        if let Some(sender) = &self.sender {
            // The thread ends early only when every logger has failed, which is told.
            let _ = sender.send(Message::Evaluated(Box::new(logged)));
        }
    }

    /// Hands on the end, and waits until all is logged.
    pub fn end(&mut self, ended: Ended) {
        if let Some(sender) = self.sender.take() {
            let _ = sender.send(Message::Ended(ended));
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// What went wrong since the last call.
    pub fn problems(&self) -> Vec<String> {
        self.problems.iter().flat_map(Receiver::try_iter).collect()
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

fn work(
    loggers: Vec<(String, Box<dyn Logger>)>,
    about: &About,
    messages: &Receiver<Message>,
    told: &Sender<String>,
) {
    let mut alive = loggers;
    let mut each = |what: &dyn Fn(&mut dyn Logger) -> Result<(), String>| {
        alive.retain_mut(|(name, logger)| match what(&mut **logger) {
            Ok(()) => true,
            Err(problem) => {
                // Nobody listens any more when the run has ended with an error.
                let _ = told.send(format!("{name} gets nothing more of this run: {problem}"));
                false
            }
        });
        !alive.is_empty()
    };
    if !each(&|logger| logger.begin(about)) {
        return;
    }
    for message in messages {
        let go_on = match message {
            Message::Evaluated(logged) => each(&|logger| logger.evaluated(&logged)),
            Message::Ended(ended) => each(&|logger| logger.end(&ended)),
        };
        if !go_on {
            return;
        }
    }
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

/// The wall clock: for people, never for order.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}

/// `because` in words, with the file's name.
fn about_file(path: &Path, error: &std::io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}

//! The keeper, as Python's `keepbest.Keeper` uses it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use keepbest_core::text::with_causes;
use keepbest_core::{Metrics, Verdict};
use keepbest_formats::{Dtype, StateDict, Tensor};
use keepbest_keeper as kk;
use keepbest_keeper::{
    BestRecord, Evaluation, KeeperEvent, KeeperSummary, RunView, Snapshot, SnapshotHandle, Wanted,
};
use keepbest_store::BoxError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::MutexExt as _;
use pyo3::types::{PyDict, PyList};
use serde_json::Value;

use crate::arena::Arena;
use crate::options::Options;
use crate::{PATIENCE, errors};

/// `(name, dtype, shape, offset in the arena)`.
pub(crate) type Entry = (String, String, Vec<usize>, usize);

/// What the callback of an offer gives: the memory, the weights in it, and the state beside them.
type Copied<'py> = (PyRef<'py, Arena>, Vec<Entry>, Vec<Entry>);

/// A model as it will be copied, or as it was.
struct Copying {
    step: u64,
    /// Called with what is wanted: `"nothing"`, `"weights"` or `"everything"`. Returns what was copied, or `None`.
    copy: Mutex<Option<Py<PyAny>>>,
    copied: OnceLock<(StateDict, StateDict)>,
}

impl Copying {
    fn new(step: u64, copy: Py<PyAny>) -> Self {
        Self {
            step,
            copy: Mutex::new(Some(copy)),
            copied: OnceLock::new(),
        }
    }

    fn call(&self, py: Python<'_>, wanted: &str) -> PyResult<bool> {
        let copy = lock(&self.copy).take();
        let Some(copy) = copy else {
            return Ok(self.copied.get().is_some());
        };
        let copied: Option<Copied<'_>> = copy.bind(py).call1((wanted,))?.extract()?;
        let Some((arena, weights, state)) = copied else {
            return Ok(false);
        };
        let bytes = arena.bytes();
        let copied = (state_dict(&bytes, weights)?, state_dict(&bytes, state)?);
        Ok(self.copied.set(copied).is_ok())
    }
}

impl Snapshot for Copying {
    fn step(&self) -> u64 {
        self.step
    }

    fn weights(&self) -> StateDict {
        self.copied.get().map(|it| it.0.clone()).unwrap_or_default()
    }

    fn training_state(&self) -> StateDict {
        self.copied.get().map(|it| it.1.clone()).unwrap_or_default()
    }

    fn take(&self, wanted: Wanted) -> Result<bool, BoxError> {
        let wanted = match wanted {
            Wanted::Nothing => "nothing",
            Wanted::Weights => "weights",
            _ => "everything",
        };
        Ok(Python::attach(|py| self.call(py, wanted))?)
    }
}

/// The keeper of one run. All methods raise exceptions of `keepbest.errors`.
#[pyclass(frozen, module = "keepbest._native")]
pub(crate) struct Keeper {
    /// `None` once the run has ended.
    keeper: Mutex<Option<kk::Keeper>>,
    run: PathBuf,
    /// The process that it was made in: its threads are not those of a child that was forked.
    process: u32,
}

#[pymethods]
impl Keeper {
    /// Begins a run. `options` and `session` are JSON.
    #[staticmethod]
    fn create(
        py: Python<'_>,
        run: PathBuf,
        options: &str,
        session: Option<&str>,
    ) -> PyResult<Self> {
        let options = Options::from_json(py, options)?;
        let config = config(py, &options, session)?;
        let toml = options.to_run_toml(py)?;
        let keeper = py.detach(|| kk::Keeper::create(&run, &toml, config));
        let keeper = keeper.map_err(|error| errors::create(py, &error))?;
        Ok(Self::of(keeper))
    }

    /// Goes on with a run: the keeper, the options it was begun with as JSON, the resume point (path, step, epoch), and what was repaired.
    #[staticmethod]
    #[allow(clippy::type_complexity)]
    fn resume(
        py: Python<'_>,
        run: PathBuf,
        session: Option<&str>,
    ) -> PyResult<(Self, String, Option<(PathBuf, u64, u64)>, Vec<String>)> {
        let view = py.detach(|| RunView::open(&run));
        let view = view.map_err(|error| errors::open_run(py, &error))?;
        let toml = view
            .config()
            .map_err(|error| errors::raise_plain(py, "RunDamaged", &with_causes(&error)))?;
        let options = Options::from_run_toml(py, &toml)?;
        drop(view);
        let config = config(py, &options, session)?;
        let resumed = py.detach(|| kk::Keeper::resume(&run, config));
        let resumed = resumed.map_err(|error| errors::resume(py, &error))?;
        let point = resumed.point;
        let point = point.map(|point| (point.path, point.step, point.epoch));
        let findings = resumed.repairs.findings.iter();
        let repairs = findings.map(ToString::to_string).collect();
        let options = options
            .to_json()
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok((Self::of(resumed.keeper), options, point, repairs))
    }

    /// Judges an evaluation; `copy` is called once, with `"nothing"`, `"weights"` or `"everything"`: what of the model will be saved. It
    /// returns `None`, or `(arena, weights, state)`. When it raises, nothing has changed. Returns the verdict and its reason.
    fn offer(
        &self,
        py: Python<'_>,
        step: u64,
        epoch: u64,
        metrics: Vec<(String, f64)>,
        copy: Py<PyAny>,
    ) -> PyResult<(&'static str, String)> {
        let snapshot = SnapshotHandle::new(Copying::new(step, copy));
        let evaluation = Evaluation::of(&snapshot, epoch, Metrics::from_iter(metrics));
        let mut guard = self.lock(py)?;
        let verdict = keeper(py, &mut guard)?.offer(evaluation, Value::Null);
        drop(guard);
        let verdict = verdict.map_err(|error| errors::offer(py, error))?;
        let kind = match verdict {
            Verdict::Improved { .. } => "improved",
            Verdict::Rejected { .. } => "rejected",
            _ => "not improved",
        };
        Ok((kind, verdict.reason().to_owned()))
    }

    /// Saves the resume point without an evaluation; `copy` is called as by `offer`.
    fn save_last(&self, py: Python<'_>, step: u64, epoch: u64, copy: Py<PyAny>) -> PyResult<()> {
        let copying = Copying::new(step, copy);
        if !copying.call(py, "everything")? {
            return Err(PyValueError::new_err("nothing was copied"));
        }
        let snapshot = SnapshotHandle::new(copying);
        let mut guard = self.lock(py)?;
        let keeper = keeper(py, &mut guard)?;
        py.detach(|| keeper.save_last(&snapshot, epoch, Value::Null));
        Ok(())
    }

    /// Waits for what it saves, without a hold on the keeper.
    fn saves(&self, py: Python<'_>) -> PyResult<Saves> {
        let mut guard = self.lock(py)?;
        Ok(Saves(keeper(py, &mut guard)?.saves()))
    }

    /// Tries again what could not be saved, and waits.
    fn settle(&self, py: Python<'_>) -> PyResult<()> {
        let mut guard = self.lock(py)?;
        let keeper = keeper(py, &mut guard)?;
        py.detach(|| keeper.settle());
        Ok(())
    }

    /// What happened in the background since the last call: `(kind, text)`.
    fn events(&self, py: Python<'_>) -> PyResult<Vec<(&'static str, String)>> {
        let mut guard = self.lock(py)?;
        let events = keeper(py, &mut guard)?.events();
        Ok(events
            .iter()
            .map(|it| (kind_of(it), it.to_string()))
            .collect())
    }

    /// Why training should stop, if it should.
    fn should_stop(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let mut guard = self.lock(py)?;
        let reason = keeper(py, &mut guard)?.should_stop();
        Ok(reason.map(|reason| reason.to_string()))
    }

    /// The best on disk by the first objective.
    fn best<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let mut guard = self.lock(py)?;
        let best = keeper(py, &mut guard)?.best();
        best.map(|best| best_to_dict(py, &best)).transpose()
    }

    /// The bests on disk by the further objectives.
    fn others<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let mut guard = self.lock(py)?;
        let others = keeper(py, &mut guard)?.others();
        let others = others.iter().map(|best| best_to_dict(py, best));
        PyList::new(py, others.collect::<PyResult<Vec<_>>>()?)
    }

    /// The evaluations so far, as JSON.
    fn history(&self, py: Python<'_>) -> PyResult<String> {
        let mut guard = self.lock(py)?;
        let history = keeper(py, &mut guard)?.history();
        json(&history)
    }

    /// The step of the latest evaluation.
    fn last_step(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        let mut guard = self.lock(py)?;
        let evaluations = keeper(py, &mut guard)?.evaluations();
        Ok(evaluations.last().map(|record| record.step))
    }

    /// What the files are safe against on this file system.
    fn guarantee(&self, py: Python<'_>) -> PyResult<String> {
        let mut guard = self.lock(py)?;
        Ok(keeper(py, &mut guard)?.guarantee().to_string())
    }

    /// The run directory.
    #[getter]
    fn path(&self) -> PathBuf {
        self.run.clone()
    }

    /// Whether the run has ended, by `finish` or `interrupt`.
    fn ended(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.lock(py)?.is_none())
    }

    /// Journals the end of the run with `summary` (JSON), after the saves under way.
    fn finish<'py>(&self, py: Python<'py>, summary: &str) -> PyResult<Bound<'py, PyDict>> {
        let summary: Value = serde_json::from_str(summary)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.end(py, |keeper| keeper.finish(summary))
    }

    /// Journals that training was stopped from outside.
    fn interrupt<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.end(py, kk::Keeper::interrupt)
    }
}

impl Keeper {
    fn of(keeper: kk::Keeper) -> Self {
        Self {
            run: keeper.path().to_owned(),
            keeper: Mutex::new(Some(keeper)),
            process: std::process::id(),
        }
    }

    fn lock(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, Option<kk::Keeper>>> {
        if self.process != std::process::id() {
            return Err(errors::raise(
                py,
                "Forked",
                &format!(
                    "the keeper of {} belongs to process {}: a process forked from it cannot use it",
                    self.run.display(),
                    self.process
                ),
                [("process", self.process)],
            ));
        }
        // Another thread of Python may be copying a model under it.
        let guard = self.keeper.lock_py_attached(py);
        Ok(guard.unwrap_or_else(PoisonError::into_inner))
    }

    fn end<'py>(
        &self,
        py: Python<'py>,
        end: impl FnOnce(kk::Keeper) -> Result<KeeperSummary, kk::FinishError> + Send,
    ) -> PyResult<Bound<'py, PyDict>> {
        let mut guard = self.lock(py)?;
        keeper(py, &mut guard)?;
        let taken = guard.take();
        drop(guard);
        let Some(keeper) = taken else {
            return Err(ended(py));
        };
        let summary = py.detach(move || end(keeper));
        let summary = summary.map_err(|error| errors::finish(py, &error))?;
        summary_to_dict(py, &summary)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let keeper = self
            .keeper
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if self.process != std::process::id() {
            // The thread that it would wait for is not in this process.
            std::mem::forget(keeper.take());
        } else if let Some(keeper) = keeper.take() {
            Python::attach(|py| py.detach(move || drop(keeper)));
        }
    }
}

/// Waiting for what a keeper saves.
#[pyclass(frozen, module = "keepbest._native")]
pub(crate) struct Saves(kk::Saves);

#[pymethods]
impl Saves {
    /// Waits until everything offered is saved, or has failed. Ctrl-C ends the wait, not the save.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        while !py.detach(|| self.0.wait_for(PATIENCE)) {
            py.check_signals()?;
        }
        Ok(())
    }
}

/// What a run says without being written to: `(best, history as JSON, status)`.
#[pyfunction]
pub(crate) fn run_summary<'py>(
    py: Python<'py>,
    run: PathBuf,
) -> PyResult<(Option<Bound<'py, PyDict>>, String, String)> {
    let view = py.detach(|| RunView::open(Path::new(&run)));
    let view = view.map_err(|error| errors::open_run(py, &error))?;
    let best = view
        .best()
        .map(|best| best_to_dict(py, &best))
        .transpose()?;
    let status = format!("{:?}", view.state().status).to_lowercase();
    Ok((best, json(view.history())?, status))
}

fn config(py: Python<'_>, options: &Options, session: Option<&str>) -> PyResult<kk::KeeperConfig> {
    let session = session.map(serde_json::from_str).transpose();
    let session = session.map_err(|error| PyValueError::new_err(error.to_string()))?;
    let config = options.keeper_config(session);
    config.map_err(|error| errors::objective(py, &error))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keeper<'a>(py: Python<'_>, guard: &'a mut Option<kk::Keeper>) -> PyResult<&'a mut kk::Keeper> {
    guard.as_mut().ok_or_else(|| ended(py))
}

fn ended(py: Python<'_>) -> PyErr {
    errors::raise_plain(
        py,
        "RunEnded",
        "the run has ended: nothing can be offered any more",
    )
}

fn kind_of(event: &KeeperEvent) -> &'static str {
    match event {
        KeeperEvent::Saved { .. } => "saved",
        KeeperEvent::Promoted { .. } => "promoted",
        KeeperEvent::Superseded { .. } => "superseded",
        KeeperEvent::SaveFailed(_) => "save failed",
        KeeperEvent::AlsoFailed { .. } => "also failed",
        KeeperEvent::SetAside { .. } => "set aside",
        KeeperEvent::Pruned { .. } => "pruned",
        KeeperEvent::PruneFailed { .. } => "prune failed",
        _ => "other",
    }
}

fn best_to_dict<'py>(py: Python<'py>, best: &BestRecord) -> PyResult<Bound<'py, PyDict>> {
    let metrics = PyDict::new(py);
    for (name, value) in best.metrics.iter() {
        metrics.set_item(name, value)?;
    }
    let dict = PyDict::new(py);
    dict.set_item("reference", best.reference.to_string())?;
    dict.set_item("path", best.path.clone())?;
    dict.set_item("step", best.step)?;
    dict.set_item("epoch", best.epoch)?;
    dict.set_item("score", best.score.value)?;
    dict.set_item("metrics", metrics)?;
    dict.set_item("digest", best.weights.to_string())?;
    Ok(dict)
}

fn summary_to_dict<'py>(py: Python<'py>, summary: &KeeperSummary) -> PyResult<Bound<'py, PyDict>> {
    let best = summary.best.as_ref();
    let best = best.map(|best| best_to_dict(py, best)).transpose()?;
    let strings = |failures: &[kk::SaveFailure]| -> Vec<String> {
        failures.iter().map(ToString::to_string).collect()
    };
    let dict = PyDict::new(py);
    dict.set_item("best", best)?;
    dict.set_item("last", summary.last.clone())?;
    dict.set_item("best_is_saved", summary.best_is_saved)?;
    dict.set_item("failures", strings(&summary.failures))?;
    dict.set_item("unresolved", strings(&summary.unresolved))?;
    dict.set_item("also", summary.also.clone())?;
    dict.set_item("also_error", summary.also_error.clone())?;
    dict.set_item("evaluations", summary.evaluations)?;
    let events: Vec<_> = summary
        .events
        .iter()
        .map(|event| (kind_of(event), event.to_string()))
        .collect();
    dict.set_item("events", events)?;
    Ok(dict)
}

fn json(value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// The tensors that lie in these bytes.
pub(crate) fn state_dict(bytes: &Bytes, entries: Vec<Entry>) -> PyResult<StateDict> {
    let mut tensors = StateDict::new();
    for (name, dtype, shape, offset) in entries {
        let invalid = |error: String| PyValueError::new_err(format!("tensor {name}: {error}"));
        let dtype = dtype_named(&dtype)
            .ok_or_else(|| invalid(format!("there is no element type {dtype}")))?;
        let len = dtype.byte_len(&shape);
        let end = len.and_then(|len| offset.checked_add(len));
        let Some(end) = end.filter(|end| *end <= bytes.len()) else {
            return Err(invalid("it does not lie in the arena".to_owned()));
        };
        let tensor = Tensor::new(dtype, shape, bytes.slice(offset..end))
            .map_err(|error| invalid(error.to_string()))?;
        tensors
            .insert(name.as_str(), tensor)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
    }
    Ok(tensors)
}

/// The element type of a name as safetensors spells it.
fn dtype_named(name: &str) -> Option<Dtype> {
    Dtype::ALL.into_iter().find(|dtype| dtype.name() == name)
}

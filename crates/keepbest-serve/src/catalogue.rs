//! The models by name: which are loaded, which are loaded when asked for, which leave when memory is short.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use keepbest_core::text::visible;
use keepbest_keeper::{RunView, Selector};
use keepbest_model::{ModelPlace, OpenReferenceError};

use crate::error::{LoadError, Refusal, StartError};
use crate::generation::{Generation, Opened, Owner};
use crate::metrics::{Metrics, ModelMetrics};
use crate::observer::{Observer, ServeEvent};
use crate::options::{Batching, ServeOptions};
use crate::source::ModelSource;

/// How long a model that was refused is not tried again for requests.
const PAUSE: Duration = Duration::from_secs(2);

/// A model by its name.
pub(crate) struct Entry {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub place: ModelPlace,
    /// What is counted of it.
    pub metrics: ModelMetrics,
    loaded: ArcSwapOption<Generation>,
    used: AtomicU64,
    /// Whether a client has unloaded it: it is not loaded by being asked for.
    unloaded: AtomicBool,
    refused: Mutex<Option<Refused>>,
}

/// A model that was not loaded.
struct Refused {
    when: Instant,
    why: String,
}

impl Entry {
    fn new(source: ModelSource, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            metrics: metrics.of_model(&source.name),
            name: source.name,
            place: source.place,
            loaded: ArcSwapOption::empty(),
            used: AtomicU64::new(0),
            unloaded: AtomicBool::new(false),
            refused: Mutex::new(None),
        })
    }

    /// The model, where it is loaded.
    pub(crate) fn loaded(&self) -> Option<Arc<Generation>> {
        self.loaded.load_full()
    }

    /// The run and which of its models, where it may become another.
    pub(crate) fn followed(&self) -> Option<(&Path, &Selector)> {
        match &self.place {
            ModelPlace::Run { run, which } if matches!(which, Selector::Ref(_)) => {
                Some((run, which))
            }
            _ => None,
        }
    }

    /// Whether it was unloaded by a client.
    pub(crate) fn is_unloaded(&self) -> bool {
        self.unloaded.load(Ordering::Relaxed)
    }

    /// Why it was refused when it was last tried, with nothing of the host in it.
    pub(crate) fn refusal(&self) -> Option<String> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().map(|refused| refused.why.clone())
    }

    fn was_refused(&self) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().is_some_and(|it| it.when.elapsed() < PAUSE)
    }

    fn set_refused(&self, refused: Option<Refused>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }
}

/// What clients are told of a model that was refused: the host's paths are for its log.
fn public_words(error: &LoadError) -> &'static str {
    match error {
        LoadError::Open(OpenReferenceError::Model(_)) => {
            "its file does not verify or cannot be used"
        }
        LoadError::Open(_) => "it is not there, or its run cannot be read",
        LoadError::TooLarge { .. } => "it takes more memory than models may",
        _ => "its network cannot be started",
    }
}

/// All models.
pub(crate) struct Catalogue {
    entries: ArcSwap<BTreeMap<String, Arc<Entry>>>,
    /// The folder whose runs are all served.
    all_in: Option<PathBuf>,
    /// The model that answers when none is named.
    first: Option<String>,
    memory: u64,
    batching: Batching,
    strict: bool,
    observer: Arc<dyn Observer>,
    metrics: Arc<Metrics>,
    /// Counts requests: the model with the lowest was used the longest ago.
    clock: AtomicU64,
    /// One model is loaded at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Catalogue {
    pub(crate) fn new(
        options: &ServeOptions,
        metrics: Arc<Metrics>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StartError> {
        let mut entries = BTreeMap::new();
        for source in &options.models {
            let name = source.name.clone();
            let entry = Entry::new(source.clone(), &metrics);
            if entries.insert(name.clone(), entry).is_some() {
                return Err(StartError::SameName { name });
            }
        }
        let all = options.models.is_empty();
        let catalogue = Self {
            entries: ArcSwap::from_pointee(entries),
            all_in: all.then(|| options.runs_dir.clone()),
            first: options.models.first().map(|source| source.name.clone()),
            memory: options.memory,
            batching: options.batching,
            strict: options.strict,
            observer,
            metrics,
            clock: AtomicU64::new(1),
            turn: tokio::sync::Mutex::new(()),
        };
        catalogue.look_for_runs();
        Ok(catalogue)
    }

    /// The models by name.
    pub(crate) fn all(&self) -> Arc<BTreeMap<String, Arc<Entry>>> {
        self.entries.load_full()
    }

    /// Takes in the runs that have a best by now, where all are served. Those that are gone stay as long as they are loaded.
    pub(crate) fn look_for_runs(&self) {
        let Some(folder) = &self.all_in else {
            return;
        };
        let before = self.entries.load_full();
        let mut now = BTreeMap::new();
        for name in keepbest_store::names_in(folder).unwrap_or_default() {
            let source = ModelSource::of_run(&folder.join(name));
            if let Some(known) = before.get(&source.name) {
                now.insert(source.name, Arc::clone(known));
            } else if let ModelPlace::Run { run, .. } = &source.place
                && RunView::open(run).is_ok_and(|view| view.best().is_some())
            {
                now.insert(source.name.clone(), Entry::new(source, &self.metrics));
            }
        }
        for (name, entry) in before.iter() {
            if entry.loaded().is_some() {
                now.entry(name.clone()).or_insert_with(|| Arc::clone(entry));
            }
        }
        if now.len() != before.len() || !now.keys().eq(before.keys()) {
            self.entries.store(Arc::new(now));
        }
    }

    /// The model of a name; without one, the first that was named, or the only one there is.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<Arc<Entry>, Refusal> {
        let entries = self.entries.load();
        let names = || {
            let names: Vec<&str> = entries.keys().map(String::as_str).take(20).collect();
            match names.is_empty() {
                true => "there are none".to_owned(),
                false => format!("there are {}", names.join(", ")),
            }
        };
        let Some(name) = name.or(self.first.as_deref()) else {
            let mut all = entries.values();
            return match (all.next(), all.next()) {
                (Some(only), None) => Ok(Arc::clone(only)),
                _ => Err(Refusal::bad(format!(
                    "which model? ?model=NAME; {}",
                    names()
                ))),
            };
        };
        entries.get(name).cloned().ok_or_else(|| {
            let name = visible(name);
            Refusal::missing(format!("no model is called {name:?}; {}", names()))
        })
    }

    /// The model to answer with: loaded by now, if it can be.
    pub(crate) async fn ready(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        deadline: Instant,
    ) -> Result<Arc<Generation>, Refusal> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        entry.used.store(now, Ordering::Relaxed);
        if let Some(loaded) = entry.loaded() {
            return Ok(loaded);
        }
        if entry.is_unloaded() {
            let name = visible(&entry.name);
            return Err(Refusal::unavailable(format!("model {name} is unloaded")));
        }
        // Whoever asks leaves when his time is up; the model goes on being loaded for the next.
        let (catalogue, wanted) = (Arc::clone(self), Arc::clone(entry));
        let loading = tokio::spawn(async move { catalogue.load(&wanted, false).await });
        match tokio::time::timeout_at(deadline.into(), loading).await {
            Err(_) => Err(Refusal::late()),
            Ok(Ok(Ok(loaded))) => Ok(loaded),
            Ok(_) => {
                let why = entry.refusal();
                let why = why.as_deref().unwrap_or("loading it was broken off");
                let name = visible(&entry.name);
                Err(Refusal::unavailable(format!(
                    "model {name} cannot answer: {why}"
                )))
            }
        }
    }

    /// Loads a model that is not loaded; `again` tries one that has just been refused, too, and one that was unloaded.
    pub(crate) async fn load(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        again: bool,
    ) -> Result<Arc<Generation>, NotLoaded> {
        let _turn = self.turn.lock().await;
        if let Some(loaded) = entry.loaded() {
            return Ok(loaded);
        }
        if !again && (entry.was_refused() || entry.is_unloaded()) {
            return Err(NotLoaded);
        }
        entry.unloaded.store(false, Ordering::Relaxed);
        let loaded = self.make(entry).await;
        match loaded {
            Ok(generation) => {
                self.observer.on(ServeEvent::Loaded {
                    model: &entry.name,
                    digest: &generation.digest,
                    bytes: generation.bytes,
                    time: generation.took,
                });
                Ok(self.put(entry, generation))
            }
            Err(error) => {
                self.refuse(entry, &error);
                Err(NotLoaded)
            }
        }
    }

    /// Has the run's present best answer, where that is another than the loaded one.
    pub(crate) async fn renew(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<(), NotLoaded> {
        let _turn = self.turn.lock().await;
        let Some(before) = entry.loaded() else {
            return Ok(());
        };
        match self.make(entry).await {
            Ok(after) if after.weights == before.weights => {}
            Ok(after) => {
                entry.metrics.swaps.inc();
                let (from, time) = (before.digest.clone(), after.took);
                let after = self.put(entry, after);
                self.observer.on(ServeEvent::Swapped {
                    model: &entry.name,
                    from: &from,
                    to: &after.digest,
                    time,
                });
            }
            Err(error) => {
                self.refuse(entry, &error);
                return Err(NotLoaded);
            }
        }
        Ok(())
    }

    /// Takes a model out of memory; what it is asked already is answered.
    pub(crate) async fn unload(&self, entry: &Entry) {
        let _turn = self.turn.lock().await;
        entry.unloaded.store(true, Ordering::Relaxed);
        self.drop_loaded(entry, "a client unloaded it");
    }

    fn drop_loaded(&self, entry: &Entry, why: &'static str) {
        if entry.loaded.swap(None).is_some() {
            entry.metrics.bytes.set(0);
            let model = &entry.name;
            self.observer.on(ServeEvent::Unloaded { model, why });
        }
    }

    fn put(&self, entry: &Entry, generation: Generation) -> Arc<Generation> {
        entry.metrics.bytes.set(generation.bytes as i64);
        entry.set_refused(None);
        let generation = Arc::new(generation);
        entry.loaded.store(Some(Arc::clone(&generation)));
        generation
    }

    fn refuse(&self, entry: &Entry, error: &LoadError) {
        entry.metrics.refused.inc();
        entry.set_refused(Some(Refused {
            when: Instant::now(),
            why: public_words(error).to_owned(),
        }));
        let hint = match error {
            LoadError::Open(error) => error.hint(),
            LoadError::Model(error) => error.hint(),
            _ => None,
        };
        self.observer.on(ServeEvent::Refused {
            model: &entry.name,
            error: error as &(dyn Error + 'static),
            hint,
            answers: entry.loaded().is_some(),
        });
    }

    /// Opens, verifies, loads and warms a model, with others gone where memory is short.
    async fn make(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Generation, LoadError> {
        let (catalogue, entry) = (Arc::clone(self), Arc::clone(entry));
        let made = tokio::task::spawn_blocking(move || {
            let opened = Opened::open(&entry.place, catalogue.batching, catalogue.strict)?;
            catalogue.make_room(&entry, opened.bytes())?;
            let owner = Owner {
                name: entry.name.clone(),
                metrics: entry.metrics.clone(),
                observer: Arc::clone(&catalogue.observer),
            };
            opened.start(owner, catalogue.batching)
        });
        made.await.unwrap_or(Err(LoadError::BrokenOff))
    }

    /// Takes the least recently used models out of memory until there is room for another.
    fn make_room(&self, wanted: &Entry, needed: u64) -> Result<(), LoadError> {
        let most = self.memory;
        if needed > most {
            return Err(LoadError::TooLarge { needed, most });
        }
        let entries = self.entries.load_full();
        let mut loaded: Vec<(u64, &Arc<Entry>, u64)> = entries
            .values()
            .filter(|entry| entry.name != wanted.name)
            .filter_map(|entry| {
                let bytes = entry.loaded()?.bytes;
                Some((entry.used.load(Ordering::Relaxed), entry, bytes))
            })
            .collect();
        loaded.sort_by_key(|(used, ..)| *used);
        let mut held: u64 = loaded.iter().map(|(.., bytes)| bytes).sum();
        for (_, entry, bytes) in loaded {
            if held + needed <= most {
                break;
            }
            self.drop_loaded(entry, "another needed its memory");
            held -= bytes;
        }
        Ok(())
    }
}

/// A model was refused; [`Entry::refusal`] says why.
#[derive(Debug)]
pub(crate) struct NotLoaded;

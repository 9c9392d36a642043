//! A server in a folder of its own, models, images, and a client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use keepbest_core::{Metrics, Objective};
use keepbest_data::{ImageShape, Preprocessing};
use keepbest_formats::model_file::{self, Attachments, ModelMetadata};
use keepbest_formats::{SnapshotHandle, StateDict};
use keepbest_keeper::{Evaluation, Keeper, KeeperConfig, OwnedSnapshot};
use keepbest_model::write::write_model;
use keepbest_nn::zoo::{self, ZooOptions};
use keepbest_nn::{EngineConfig, build_engine};
use keepbest_serve::{ModelSource, Observer, ServeEvent, ServeOptions, serve};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Long enough for a machine that does much else, too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with models and runs in it.
pub(crate) struct Place(pub TempDir);

fn attachments() -> Attachments {
    let preprocessing = Preprocessing::new(ImageShape::new(28, 28, 1));
    let classes = (0..10).map(|class| format!("class {class}"));
    Attachments {
        model: Some(spec().to_json()),
        classes: classes.collect(),
        preprocessing: Some(serde_json::to_value(&preprocessing).unwrap()),
        ..Attachments::default()
    }
}

fn spec() -> keepbest_nn::ModelSpec {
    zoo::spec("lenet5", &ZooOptions::new(1, 28, 28, 10)).unwrap()
}

/// The weights of a new network.
pub(crate) fn weights(seed: u64) -> StateDict {
    let config = EngineConfig {
        seed,
        ..EngineConfig::default()
    };
    let engine = build_engine("cpu", &spec(), config).unwrap();
    engine.snapshot().weights()
}

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A model in a file of this name.
    pub(crate) fn model(&self, name: &str, seed: u64) -> PathBuf {
        let metadata = ModelMetadata {
            attachments: attachments(),
            ..ModelMetadata::default()
        };
        let image = model_file::encode(&weights(seed), &StateDict::new(), &metadata).unwrap();
        let path = self.path(name);
        write_model(&path, false, &image).unwrap();
        path
    }

    /// A run in training.
    pub(crate) fn run(&self, name: &str) -> Training {
        let mut config = KeeperConfig::new(Objective::new("val/accuracy").unwrap());
        config.constants = attachments();
        let path = self.path("runs").join(name);
        std::fs::create_dir_all(self.path("runs")).unwrap();
        let keeper = Keeper::create(&path, "seed = 1\n", config).unwrap();
        Training { keeper, path }
    }

    pub(crate) fn options(&self, models: &[&Path]) -> ServeOptions {
        let models = models.iter().map(|path| path.to_str().unwrap());
        self.options_for(&models.collect::<Vec<_>>())
    }

    pub(crate) fn options_for(&self, models: &[&str]) -> ServeOptions {
        let runs_dir = self.path("runs");
        let found = models
            .iter()
            .map(|text| ModelSource::find(text, &runs_dir).unwrap());
        ServeOptions {
            models: found.collect(),
            runs_dir,
            address: "127.0.0.1:0".parse().unwrap(),
            ..ServeOptions::default()
        }
    }
}

/// A run that is written to.
pub(crate) struct Training {
    pub keeper: Keeper,
    pub path: PathBuf,
}

impl Training {
    /// Offers the network of this seed with this accuracy, and waits until it is saved. Returns its digest.
    pub(crate) fn offer(&mut self, epoch: u64, accuracy: f64) -> String {
        let weights = weights(epoch);
        let digest = keepbest_formats::weights_digest(&weights).to_string();
        let snapshot = SnapshotHandle::new(OwnedSnapshot {
            step: epoch * 10,
            weights,
            training_state: StateDict::new(),
        });
        let metrics = Metrics::from_iter([("val/accuracy", accuracy)]);
        let evaluation = Evaluation::of(&snapshot, epoch, metrics);
        self.keeper
            .offer(evaluation, json!({"epoch": epoch}))
            .unwrap();
        self.keeper.wait();
        digest
    }
}

/// What a server told.
#[derive(Default)]
pub(crate) struct Told {
    lines: Mutex<Vec<String>>,
    address: Mutex<Option<SocketAddr>>,
    new: Condvar,
}

impl Observer for Told {
    fn on(&self, event: ServeEvent<'_>) {
        if let ServeEvent::Listening { address, .. } = event {
            *self.address.lock().unwrap() = Some(address);
        }
        let line = match event {
            ServeEvent::Answered(access) => serde_json::to_string(access).unwrap(),
            event => format!("{event:?}"),
        };
        self.lines.lock().unwrap().push(line);
        self.new.notify_all();
    }

    fn hears_of_requests(&self) -> bool {
        true
    }
}

/// A server that runs until this is dropped.
pub(crate) struct Served {
    pub address: SocketAddr,
    pub told: Arc<Told>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub(crate) fn start(options: ServeOptions) -> Self {
        let (told, stop) = (Arc::new(Told::default()), Arc::new(AtomicBool::new(false)));
        let (observer, stopped) = (Arc::clone(&told), Arc::clone(&stop));
        let thread = std::thread::spawn(move || serve(options, observer, &stopped).unwrap());
        let until = Instant::now() + PATIENCE;
        let address = loop {
            let address = *told.address.lock().unwrap();
            if let Some(address) = address {
                break address;
            }
            assert!(
                Instant::now() < until && !thread.is_finished(),
                "it does not listen"
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        Self {
            address,
            told,
            stop,
            thread: Some(thread),
        }
    }

    /// A server that has loaded what it was told to.
    pub(crate) fn ready(options: ServeOptions) -> Self {
        let served = Self::start(options);
        let until = Instant::now() + PATIENCE;
        while served.get("/v2/health/ready").status != 200 {
            assert!(Instant::now() < until, "it is not ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        served
    }

    /// Waits until something with these words is told.
    pub(crate) fn wait_for(&self, words: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut lines = self.told.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().find(|line| line.contains(words)) {
                return line.clone();
            }
            assert!(Instant::now() < until, "no {words:?} in {lines:#?}");
            lines = self
                .told
                .new
                .wait_timeout(lines, Duration::from_millis(50))
                .unwrap()
                .0;
        }
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], &[])
    }

    pub(crate) fn post(&self, path: &str, kind: &str, body: &[u8]) -> Reply {
        self.ask("POST", path, &[("content-type", kind)], body)
    }

    pub(crate) fn json(&self, path: &str, body: &Value) -> Reply {
        self.post(path, "application/json", &serde_json::to_vec(body).unwrap())
    }

    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut stream = self.connect();
        let host = format!("localhost:{}", self.address.port());
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        );
        if !headers.iter().any(|(name, _)| *name == "host") {
            head += &format!("host: {host}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        // A server that refuses by the headers may be gone before the body is written.
        let _ = stream.write_all(body);
        Reply::read(&mut stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    pub(crate) fn tell_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

/// A reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A connection that was reset behind its reply has been read as far as it goes.
        let _ = stream.read_to_end(&mut bytes);
        Self::parse(&bytes)
            .unwrap_or_else(|| panic!("no reply: {:?}", String::from_utf8_lossy(&bytes)))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_lowercase(), value.to_owned()))
        });
        Some(Self {
            status,
            headers: headers.collect(),
            body: bytes[end + 4..].to_vec(),
        })
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}: {text}", self.status))
    }

    /// The words of a refusal.
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }
}

/// A picture of 28x28 pixels in grey, as a PGM file.
pub(crate) fn picture(seed: u8) -> Vec<u8> {
    let mut file = b"P5 28 28 255\n".to_vec();
    file.extend(pixels(seed));
    file
}

/// Its pixels.
pub(crate) fn pixels(seed: u8) -> Vec<u8> {
    let pixel = |at: u32| (at * (u32::from(seed) * 2 + 7) % 256) as u8;
    (0..28 * 28).map(pixel).collect()
}

/// The scores of pictures by the engine alone.
pub(crate) fn scores(path: &Path, seeds: &[u8]) -> Vec<f32> {
    let model = keepbest_model::Model::open(path, None).unwrap();
    let mut network = model.predictor(seeds.len(), None).unwrap();
    let input: Vec<f32> = seeds
        .iter()
        .flat_map(|seed| pixels(*seed))
        .map(|pixel| f32::from(pixel) / 255.0)
        .collect();
    let mut scores = Vec::new();
    network.logits(&input, &mut scores).unwrap();
    scores
}

//! Runs whose checkpoints are small text files that name what they hold.

use std::io::Write;
use std::path::{Path, PathBuf};

use keepbest_core::{EvaluationRecord, Metrics, Objective, Score, WeightsDigest};
use keepbest_store::{
    BoxError, CheckpointKind, CheckpointName, CommitError, Committed, Event, IoError,
    PromotedEvent, ReadBack, RefName, RunDir, RunWriter, SavedEvent, StartedEvent, Verified,
    Verifier, VerifyError,
};
use tempfile::TempDir;

pub(crate) struct Fixture {
    pub parent: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self {
            parent: tempfile::tempdir().unwrap(),
        }
    }

    /// In memory where there is such a place, for runs by the hundred.
    pub(crate) fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        match memory.is_dir() {
            true => Self {
                parent: tempfile::tempdir_in(memory).unwrap(),
            },
            false => Self::new(),
        }
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.parent.path().join("run")
    }

    pub(crate) fn create(&self) -> RunWriter {
        let mut writer = RunDir::create(self.run()).unwrap();
        start(&mut writer);
        writer
    }
}

pub(crate) fn objective() -> Objective {
    Objective::new("val/accuracy").unwrap()
}

pub(crate) fn start(writer: &mut RunWriter) {
    writer.write_config("seed = 1\n").unwrap();
    writer
        .append(Event::Started(StartedEvent {
            keepbest: "0".to_owned(),
            format: 1,
            objective: objective(),
            others: Vec::new(),
            settings: serde_json::Value::Null,
            guarantee: None,
            session: None,
        }))
        .unwrap();
}

pub(crate) fn digest(step: u64) -> WeightsDigest {
    WeightsDigest(*blake3::hash(&step.to_le_bytes()).as_bytes())
}

/// What a checkpoint of a step holds.
pub(crate) fn content(step: u64) -> String {
    let body = format!("step {step}\n").repeat(200);
    format!("{}\n{body}", blake3::hash(body.as_bytes()).to_hex())
}

/// Writes a text.
pub(crate) fn put(text: &str) -> impl FnOnce(&mut dyn Write) -> Result<(), CommitError> {
    |out| {
        out.write_all(text.as_bytes())
            .map_err(IoError::at("write", Path::new("a checkpoint")))
            .map_err(CommitError::from)
    }
}

/// Checks a staged file made of [`content`].
pub(crate) fn verify_staged(file: ReadBack) -> Result<Verified, BoxError> {
    verify(file.path()?)
}

/// Checks a file made of [`content`].
pub(crate) fn verify(path: &Path) -> Result<Verified, BoxError> {
    let text = std::fs::read_to_string(path)?;
    let (hash, body) = text.split_once('\n').ok_or("it has no first line")?;
    if blake3::hash(body.as_bytes()).to_hex().as_str() != hash {
        return Err("its checksum does not match".into());
    }
    let step = body
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("step "))
        .ok_or("it names no step")?
        .parse()?;
    Ok(Verified {
        step,
        epoch: step / 10,
        kind: CheckpointKind::Full,
        weights: digest(step),
        file: None,
    })
}

/// Knows files made of [`content`], and no archives.
pub(crate) struct Contents;

impl Verifier for Contents {
    fn checkpoint(&self, path: &Path) -> Result<Verified, VerifyError> {
        verify(path).map_err(|error| match error.is::<std::io::Error>() {
            true => VerifyError::Unread(error),
            false => VerifyError::Damaged(error),
        })
    }

    fn archive(
        &self,
        _: &Path,
        members: &[SavedEvent],
    ) -> Result<Vec<(CheckpointName, String)>, BoxError> {
        assert!(members.is_empty(), "these runs have no archives");
        Ok(Vec::new())
    }
}

pub(crate) fn save(writer: &mut RunWriter, step: u64) -> Committed {
    let name = writer
        .free_name(step, &digest(step), CheckpointKind::Full)
        .unwrap();
    let text = content(step);
    let staged = writer.stage(name, text.len() as u64).unwrap();
    let (committed, _) = staged.commit(put(&text), verify_staged).unwrap();
    writer
        .record_saved(&committed, step, step / 10, digest(step))
        .unwrap();
    committed
}

pub(crate) fn evaluate(writer: &mut RunWriter, step: u64, accuracy: f64) {
    let metrics = Metrics::from_iter([("val/accuracy", accuracy)]);
    let best = writer.state().best().and_then(|best| best.score);
    let judgement = objective().judge(best.as_ref(), &metrics).unwrap();
    let record =
        EvaluationRecord::new(step, step / 10, metrics, judgement).with_digest(digest(step));
    writer.append(Event::Evaluated(record)).unwrap();
}

pub(crate) fn promote(
    writer: &mut RunWriter,
    committed: &Committed,
    reference: RefName,
    value: f64,
) {
    let step = committed.name().step();
    let is_best = reference.is_best();
    let event = PromotedEvent::new(reference, committed, step, step / 10);
    let event = match is_best {
        true => event.with_score(Score { value, tie: None }, None),
        false => event,
    };
    writer.promote(committed, event).unwrap();
}

/// Evaluates, saves and promotes, as the keeper does.
pub(crate) fn best(writer: &mut RunWriter, step: u64, accuracy: f64) -> Committed {
    evaluate(writer, step, accuracy);
    let committed = save(writer, step);
    promote(writer, &committed, RefName::BEST, accuracy);
    promote(writer, &committed, RefName::LAST, accuracy);
    committed
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Names in a directory, hidden ones included.
pub(crate) fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// All that is in a directory, with what files hold.
pub(crate) fn tree(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for name in names(path) {
        match path.join(&name).is_dir() {
            true => all.extend(
                tree(&path.join(&name))
                    .into_iter()
                    .map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)),
            ),
            false => all.push((name.clone(), std::fs::read(path.join(&name)).unwrap())),
        }
    }
    all
}

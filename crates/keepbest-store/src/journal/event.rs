//! What is written to the journal.

use keepbest_core::{EvaluationRecord, FileDigest, Objective, Score, WeightsDigest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::archive::{ArchiveLostEvent, ArchivedEvent};
use crate::layout::{CheckpointKind, CheckpointName, RefName};
use crate::probe::Guarantee;
use crate::staged::Committed;

/// Something that happened in a run. In the journal each is one JSON object whose `event` names its kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The run began.
    Started(StartedEvent),
    /// A snapshot was measured and judged. Its digest is absent when the snapshot was let go of before it could be read.
    Evaluated(EvaluationRecord),
    /// The evaluation just before could not become best, however good.
    Rejected(RejectedEvent),
    /// A checkpoint is durable and was read back.
    Saved(SavedEvent),
    /// A ref is about to move: written before the move, so that a crash between the two can be completed.
    Promoted(PromotedEvent),
    /// A checkpoint is about to be removed.
    Pruned(PrunedEvent),
    /// A save was not begun, or not promoted, because something better or newer took its place.
    Superseded(SupersededEvent),
    /// A save failed; what was best or last before still is.
    SaveFailed(SaveFailedEvent),
    /// Training goes on from a checkpoint (or from the beginning).
    Resumed(ResumedEvent),
    /// Training was stopped from outside, in order.
    Interrupted(InterruptedEvent),
    /// Training is over.
    Finished(FinishedEvent),
    /// A checkpoint is kept until it is unpinned.
    Pinned(PinnedEvent),
    /// A checkpoint is kept no longer by a pin.
    Unpinned(PinnedEvent),
    /// An archive holds checkpoints.
    Archived(ArchivedEvent),
    /// Archived checkpoints no longer come back: `fsck` found the archive damaged or gone.
    ArchiveLost(ArchiveLostEvent),
    /// `fsck` mended something.
    Repaired(RepairedEvent),
    /// An event of a kind this version does not know.
    #[serde(untagged)]
    Other(OtherEvent),
}

/// [`Event::Started`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartedEvent {
    /// Version of keepbest.
    pub keepbest: String,
    /// Version of the run directory's format.
    pub format: u32,
    /// What best means in this run.
    pub objective: Objective,
    /// What the run keeps a best of its own for beside that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Objective>,
    /// The keeper's other settings: early stopping, what is saved, retention.
    pub settings: Value,
    /// What the run's files are safe against, as the file system was found when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guarantee: Option<Guarantee>,
    /// What the training loop says of this session: program, machine, command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Value>,
}

impl StartedEvent {
    /// Every objective with the ref of its best, the first first.
    pub fn objectives(&self) -> impl Iterator<Item = (RefName, &Objective)> {
        let others = self.others.iter();
        std::iter::once((RefName::BEST, &self.objective))
            .chain(others.map(|objective| (RefName::best_by(objective.monitor()), objective)))
    }
}

/// [`Event::Rejected`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RejectedEvent {
    /// Step of the evaluation.
    pub step: u64,
    /// Epoch of the evaluation.
    pub epoch: u64,
    /// Why: not a number, a constraint that does not hold.
    pub reason: String,
}

/// [`Event::Saved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedEvent {
    /// Step of the snapshot.
    pub step: u64,
    /// Epoch of the snapshot.
    pub epoch: u64,
    /// The file.
    pub checkpoint: CheckpointName,
    /// Whether it holds a full model or parameters alone.
    pub kind: CheckpointKind,
    /// Its size.
    pub bytes: u64,
    /// The identity of its weights.
    pub weights: WeightsDigest,
    /// The identity of the whole file; earlier runs do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileDigest>,
}

/// [`Event::Promoted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromotedEvent {
    /// The ref.
    #[serde(rename = "ref")]
    pub reference: RefName,
    /// What it points at from now on.
    pub checkpoint: CheckpointName,
    /// Step of the checkpoint.
    pub step: u64,
    /// Epoch of the checkpoint.
    pub epoch: u64,
    /// For best: its score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// For best: the value of the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<f64>,
}

impl PromotedEvent {
    /// A promotion without a score.
    #[must_use]
    pub fn new(reference: RefName, committed: &Committed, step: u64, epoch: u64) -> Self {
        Self {
            reference,
            checkpoint: committed.name().clone(),
            step,
            epoch,
            score: None,
            was: None,
        }
    }

    /// With the score of a new best and the value of the one before.
    #[must_use]
    pub fn with_score(mut self, score: Score, was: Option<f64>) -> Self {
        self.score = Some(score);
        self.was = was;
        self
    }
}

/// [`Event::Pruned`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrunedEvent {
    /// The file.
    pub checkpoint: CheckpointName,
    /// Why it is not kept.
    pub reason: String,
}

/// [`Event::Superseded`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupersededEvent {
    /// Step of the evaluation.
    pub step: u64,
    /// Epoch of the evaluation.
    pub epoch: u64,
    /// What it would have become.
    pub refs: Vec<RefName>,
    /// What took its place.
    pub reason: String,
}

/// [`Event::SaveFailed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SaveFailedEvent {
    /// Step of the snapshot.
    pub step: u64,
    /// Epoch of the snapshot.
    pub epoch: u64,
    /// What it would have become.
    pub refs: Vec<RefName>,
    /// The error with its causes.
    pub error: String,
}

/// [`Event::Resumed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResumedEvent {
    /// Step training goes on from. Evaluations after it are repeated.
    pub step: u64,
    /// Epoch training goes on from.
    pub epoch: u64,
    /// The checkpoint; absent when there was none and training begins anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointName>,
    /// What the training loop says of this session: program, machine, command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Value>,
}

/// [`Event::Interrupted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterruptedEvent {
    /// Step training can be resumed from; absent when nothing was saved yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_step: Option<u64>,
}

/// [`Event::Finished`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinishedEvent {
    /// What the training loop has to say: why it stopped, test metrics, duration.
    pub summary: Value,
}

/// [`Event::Pinned`] and [`Event::Unpinned`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinnedEvent {
    /// The file.
    pub checkpoint: CheckpointName,
}

/// [`Event::Repaired`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RepairedEvent {
    /// What was found.
    pub finding: String,
    /// What was done.
    pub action: String,
}

/// [`Event::Other`]: kept as it was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OtherEvent {
    /// Its kind.
    pub event: String,
    /// Its other fields.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

macro_rules! known {
    ($($kind:literal => $variant:ident),+ $(,)?) => {
        impl Event {
            /// The kind, as in the journal's `event` field.
            #[must_use]
            pub fn kind(&self) -> &str {
                match self {
                    $(Self::$variant(_) => $kind,)+
                    Self::Other(other) => &other.event,
                }
            }

            pub(super) fn from_value(mut value: Value) -> Result<Self, serde_json::Error> {
                if let Some(object) = value.as_object_mut() {
                    for envelope in ["seq", "time_ms", "check"] {
                        object.shift_remove(envelope);
                    }
                }
                match value["event"].as_str() {
                    $(Some($kind) => Ok(Self::$variant(serde_json::from_value(value)?)),)+
                    _ => Ok(Self::Other(serde_json::from_value(value)?)),
                }
            }
        }
    };
}

known! {
    "started" => Started,
    "evaluated" => Evaluated,
    "rejected" => Rejected,
    "saved" => Saved,
    "promoted" => Promoted,
    "pruned" => Pruned,
    "superseded" => Superseded,
    "save_failed" => SaveFailed,
    "resumed" => Resumed,
    "interrupted" => Interrupted,
    "finished" => Finished,
    "pinned" => Pinned,
    "unpinned" => Unpinned,
    "archived" => Archived,
    "archive_lost" => ArchiveLost,
    "repaired" => Repaired,
}

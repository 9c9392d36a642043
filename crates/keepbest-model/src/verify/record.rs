//! The run that a model is of: its journal against itself, against the file, and against a line that was kept elsewhere.

use std::path::Path;

use keepbest_core::EvaluationRecord;
use keepbest_core::text::shell_word;
use keepbest_formats::model_file::ModelFile;
use keepbest_keeper::{Contradiction, RunView, Selector, audit_file, audit_journal};
use keepbest_store::{Attestation, CheckpointName, Event, RefName, RunReader, SavedEvent};

use super::report::{Findings, VerifyError};
use crate::model::Model;
use crate::model_ref::ModelPlace;
use crate::run_files::open_run;
use crate::words::count;

/// Contradictions that are told one by one.
const SHOWN: usize = 3;

/// What a run has recorded of one of its models.
pub(super) struct Record {
    pub view: RunView,
    which: Selector,
    saved: Option<SavedEvent>,
}

impl Record {
    /// The record of a model that was picked from a run, or of a file in one; none for any other file.
    pub(super) fn of(place: &ModelPlace) -> Result<Option<Self>, VerifyError> {
        match place {
            ModelPlace::Run { run, which } => {
                let view = open_run(run)?;
                let saved = view.saved(which).cloned();
                let which = which.clone();
                Ok(Some(Self { view, which, saved }))
            }
            ModelPlace::File(path) => Ok(Self::of_file(path)),
        }
    }

    fn of_file(path: &Path) -> Option<Self> {
        let path = std::path::absolute(path).ok()?;
        let (folder, name) = (path.parent()?, path.file_name()?.to_str()?);
        if let Ok(view) = RunView::open(folder) {
            let mut names = view.state().ref_names().into_iter();
            let which = Selector::Ref(names.find(|reference| reference.file_name() == name)?);
            let saved = view.saved(&which).cloned();
            return Some(Self { view, which, saved });
        }
        let view = RunView::open(folder.parent()?).ok()?;
        let name: CheckpointName = name.parse().ok()?;
        let saved = view.state().checkpoints.get(&name)?.saved.clone();
        Some(Self {
            view,
            which: Selector::Step(saved.step),
            saved: Some(saved),
        })
    }

    /// The model's evaluation, as the journal has it.
    pub(super) fn evaluation(&self) -> Option<&EvaluationRecord> {
        let saved = self.saved.as_ref()?;
        let checkpoint = self.view.state().checkpoints.get(&saved.checkpoint)?;
        checkpoint.evaluation.as_ref()
    }

    /// Whether the model is the run's best by its first objective.
    pub(super) fn is_best(&self, model: &Model) -> bool {
        let best = self.view.best();
        best.is_some_and(|best| best.weights == model.file.weights_digest())
    }
}

/// The journal must hold together, and the file must be the one that it has.
pub(super) fn journal(record: Option<&Record>, file: &ModelFile, findings: &mut Findings) {
    let Some(record) = record else {
        findings.unchecked(
            "where the file comes from: it is in no run, and its digests are its own, which whoever writes it can make anew",
        );
        return;
    };
    let view = &record.view;
    if let Some(found) = view.forgotten() {
        findings.check("journal", false, format!("{found}; {}", found.hint()));
        return;
    }
    let mut wrong = audit_journal(view);
    let Some(saved) = &record.saved else {
        let told = format!("the journal has no checkpoint that is {}", record.which);
        findings.check("journal", false, told);
        return;
    };
    wrong.extend(audit_file(view, saved, file));
    later(record, file, &mut wrong, findings);
    if wrong.is_empty() {
        let what = match &record.which {
            Selector::Ref(name) => format!("these weights as {name}, of epoch {}", saved.epoch),
            _ => format!("these weights, of epoch {}", saved.epoch),
        };
        let evaluations = count(view.history().len() as u64, "evaluation");
        let told =
            format!("the run's journal has {what}, and agrees with the files on {evaluations}");
        findings.check("journal", true, told);
    } else {
        let mut told: Vec<String> = wrong.iter().take(SHOWN).map(ToString::to_string).collect();
        if wrong.len() > SHOWN {
            told.push(format!("and {} more", wrong.len() - SHOWN));
        }
        findings.check("journal", false, told.join("; "));
    }
    match saved.file {
        Some(digest) => {
            let found = file.seal.as_ref().map(|seal| seal.file_digest);
            let told = match found == Some(digest) {
                true => "the whole file has the digest that was journalled when it was saved",
                false => "the whole file has another digest than was journalled when it was saved",
            };
            findings.check("file", found == Some(digest), told);
        }
        None => findings.unchecked(
            "optimizer state and provenance: this run's journal has no digest of the whole file, as runs of earlier versions have not",
        ),
    }
    findings.unchecked("times, machine and command lines, of which nothing else tells");
}

/// The evaluations after this model's are told by last alone.
fn later(
    record: &Record,
    file: &ModelFile,
    wrong: &mut Vec<Contradiction>,
    findings: &mut Findings,
) {
    let view = &record.view;
    let last = view.state().refs.get(&RefName::LAST);
    let known = last.and_then(|last| view.state().checkpoints.get(&last.checkpoint));
    let after = match known {
        Some(known) if Some(&known.saved) == record.saved.as_ref() => return,
        Some(known) => {
            let path = RefName::LAST.path(view.path());
            match ModelFile::open(&path) {
                Ok(last) => {
                    wrong.extend(audit_file(view, &known.saved, &last));
                    return;
                }
                Err(error) => format!(
                    "{error}; keepbest fsck {} tells more",
                    shell_word(view.path())
                ),
            }
        }
        None => "the run has no last".to_owned(),
    };
    let step = file.metadata.as_ref().map_or(0, |own| own.step);
    if view
        .history()
        .last()
        .is_some_and(|latest| latest.step > step)
    {
        findings.unchecked(format!("the evaluations after this one: {after}"));
    }
}

/// The run must be the one that was attested, or the same with more in it.
pub(super) fn against(
    attested: &Attestation,
    record: Option<&Record>,
    file: &ModelFile,
    findings: &mut Findings,
) -> Result<(), VerifyError> {
    let found = file.seal.as_ref().map(|seal| seal.file_digest);
    let Some(record) = record else {
        findings.unchecked("the attested journal and settings: the file is in no run");
        let told = match found == attested.best() {
            true => "the file is the best that was attested",
            false => "the file is not the best that was attested",
        };
        findings.check("attested", found == attested.best(), told);
        return Ok(());
    };
    let reader = RunReader::open(record.view.path())?;
    let mut wrong: Vec<String> = attested
        .differences(&reader)?
        .iter()
        .map(ToString::to_string)
        .collect();
    let moved = record.view.entries().iter().any(|entry| {
        let promoted =
            matches!(&entry.event, Event::Promoted(event) if event.reference == RefName::BEST);
        promoted && entry.seq > attested.lines()
    });
    let best = match &record.which {
        Selector::Ref(name) if *name == RefName::BEST => found,
        _ => {
            let path = record.view.best().map(|best| best.path);
            let best = path.and_then(|path| ModelFile::open(&path).ok());
            best.and_then(|best| best.seal).map(|seal| seal.file_digest)
        }
    };
    if best != attested.best() && !moved {
        wrong.push("best is not the file that was attested".into());
    }
    if wrong.is_empty() {
        let more = (record.view.entries().len() as u64).saturating_sub(attested.lines());
        let mut told = format!(
            "journal ({}), run.toml and best are those attested",
            count(attested.lines(), "line")
        );
        if more > 0 {
            told.push_str(&format!("; {} since", count(more, "line")));
        }
        if moved {
            told.push_str(", which moved best");
        }
        findings.check("attested", true, told);
    } else {
        findings.check("attested", false, wrong.join("; "));
    }
    Ok(())
}

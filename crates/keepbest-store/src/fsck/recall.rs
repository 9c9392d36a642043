//! What the files know and the journal does not, as when it was cut short: each checkpoint carries its evaluation and those before.
//! Files that verify are believed where the journal says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use keepbest_core::{EvaluationRecord, History};

use super::Verified;
use super::check::Check;
use super::report::FindingKind;
use crate::error::OpenError;
use crate::fs::sync_dir;
use crate::journal::{Event, PinnedEvent, SavedEvent};
use crate::layout::{CHECKPOINTS_DIR, CheckpointName, JOURNAL_FILE, RefName};
use crate::refs;
use crate::state::{RefState, RunState};

/// What a checkpoint file says about the run it is of.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Testimony {
    /// The evaluations before its own, in order.
    pub history: History,
    /// The evaluation of exactly its weights.
    pub evaluation: Option<EvaluationRecord>,
    /// The number of events that the journal had when it was written.
    pub events: Option<u64>,
}

/// What the journal knew before anything was mended.
#[derive(Clone, Default)]
pub(super) struct Known {
    checkpoints: BTreeSet<CheckpointName>,
    bests: BTreeMap<RefName, RefState>,
    events: u64,
}

impl Known {
    pub(super) fn of(state: &RunState) -> Self {
        let bests = state.refs.iter().filter(|(name, _)| name.is_best());
        Self {
            checkpoints: state.checkpoints.keys().cloned().collect(),
            bests: bests
                .map(|(name, best)| (name.clone(), best.clone()))
                .collect(),
            events: state.events,
        }
    }
}

/// The file of a ref.
pub(super) struct RefFile {
    pub(super) path: PathBuf,
    /// The name of the file.
    pub(super) file: String,
    /// The ref; that of a further objective is not known when the journal does not tell the objectives.
    pub(super) name: Option<RefName>,
}

/// A checkpoint that verified, with what it says.
struct Witness {
    name: CheckpointName,
    testimony: Testimony,
}

impl Check<'_> {
    /// The refs of which there is a file, whether the journal knows them or not.
    pub(super) fn ref_files(&self) -> Result<Vec<RefFile>, OpenError> {
        let mut names = self.state().ref_names();
        if !names.contains(&RefName::BEST) {
            names.insert(0, RefName::BEST);
        }
        let file = |file: String, name| RefFile {
            path: self.run.join(&file),
            file,
            name,
        };
        let mut files: Vec<RefFile> = names
            .into_iter()
            .map(|name| file(name.file_name(), Some(name)))
            .collect();
        if self.state().started.is_none() {
            for name in self.list(&self.run.join("."))? {
                let further = name.starts_with("best.") && name.ends_with(".safetensors");
                if further && files.iter().all(|known| known.file != name) {
                    files.push(file(name, None));
                }
            }
        }
        let mut found = Vec::new();
        for file in files {
            if self.stat(&file.path)?.is_some() {
                found.push(file);
            }
        }
        Ok(found)
    }

    /// Gives the weights that only a ref still has, and that the journal never knew, a name among the checkpoints: so that they are
    /// not replaced with the ref.
    pub(super) fn strays(&mut self, before: &Known) -> Result<(), OpenError> {
        if self.report.active_writer.is_some() {
            return Ok(());
        }
        for reference in self.ref_files()? {
            let path = reference.path;
            let on_disk = self.on_disk()?;
            let mut linked = false;
            for name in &on_disk {
                linked |= refs::same_file(&self.fs, &path, &name.path(&self.run))?;
            }
            if linked {
                continue;
            }
            let Ok(verified) = self.verdict(&path)? else {
                continue;
            };
            let known_as = reference.name.as_ref();
            let target = known_as.and_then(|name| self.state().refs.get(name));
            let target = target.map(|target| target.checkpoint.clone());
            if let Some(target) = target
                && self.exists(&target)?
            {
                // What the journal says it is, is there: a file that does not go on from it is another run's.
                let testimony = self.testimony_of(&path)?;
                if !self.goes_on(&testimony, before) && !self.lacks_only_saved(&verified) {
                    continue;
                }
            }
            let known = self.state().present();
            let first = CheckpointName::new(verified.step, &verified.weights, verified.kind);
            let mut copies = std::iter::successors(Some(first), |name| Some(name.next_copy()));
            if known.map(|it| it.saved.weights).any(|known| known == verified.weights)
                // A copy, where there are no links.
                || on_disk.iter().any(|name| {
                    name.step() == verified.step
                        && name.kind() == verified.kind
                        && name.digest8() == verified.weights.short()
                })
            {
                continue;
            }
            let Some(name) = copies.find(|name| !on_disk.contains(name)) else {
                continue;
            };
            let file = &reference.file;
            let action = format!("kept as {CHECKPOINTS_DIR}/{name}");
            let problem = "the journal does not know what it holds";
            if self.found(FindingKind::Orphan, file, problem, &action)? {
                refs::replace_by_link(&self.fs, &path, &name.path(&self.run))?;
                sync_dir(&*self.fs, &self.run.join(CHECKPOINTS_DIR))?;
            }
            self.restore(name, verified, path);
        }
        Ok(())
    }

    /// Whether a file was written when the journal was no shorter than it is, and tells of all that the journal still does.
    fn goes_on(&self, testimony: &Testimony, before: &Known) -> bool {
        let alike = |known: &EvaluationRecord, told: &EvaluationRecord| {
            let same = match (known.digest, told.digest) {
                (Some(known), Some(told)) => known == told,
                _ => known.metrics == told.metrics,
            };
            known.step == told.step && same
        };
        let told = || testimony.history.iter().chain(&testimony.evaluation);
        let known = &self.state().history;
        testimony
            .events
            .is_some_and(|events| events >= before.events)
            && known
                .iter()
                .all(|known| told().any(|told| alike(known, told)))
    }

    /// Whether the journal tells how weights were evaluated, and not that they were saved.
    fn lacks_only_saved(&self, verified: &Verified) -> bool {
        let state = self.state();
        let mut saved = state.checkpoints.values().map(|it| it.saved.weights);
        let mut evaluated = state.history.iter().map(|record| record.digest);
        evaluated.any(|digest| digest == Some(verified.weights))
            && saved.all(|saved| saved != verified.weights)
    }

    /// Takes into the journal the evaluations that it lacks and checkpoints tell of.
    pub(super) fn recall(&mut self, before: &Known) -> Result<(), OpenError> {
        if self.report.active_writer.is_some() {
            return Ok(());
        }
        let witnesses = self.witnesses()?;
        let lacking = self.lacking(&witnesses);
        let again = self.without_evaluation(&witnesses);
        let newest = witnesses
            .iter()
            .filter(|witness| !before.checkpoints.contains(&witness.name))
            .filter_map(|witness| Some((witness.testimony.events?, &witness.name)))
            .max()
            .filter(|(events, _)| *events > before.events);
        // What is to be said again alone is what is left of a mending that was cut short.
        if lacking.is_empty() && again.is_empty() && newest.is_none() {
            return self.pin_unknown(before);
        }
        let mut problem = match newest {
            Some((events, name)) => format!(
                "was cut short: it had {events} events when {name} was written, and has {}",
                before.events
            ),
            None => "knows less than the checkpoints".to_owned(),
        };
        let action = match lacking.len() {
            0 => "what the checkpoints tell is taken in".to_owned(),
            some => {
                let steps = (lacking.first(), lacking.last());
                if let (Some(first), Some(last)) = steps {
                    problem.push_str(&format!(
                        "; evaluations that it lacks: {some}, of steps {} to {}",
                        first.step, last.step
                    ));
                }
                "they are taken from the checkpoints".to_owned()
            }
        };
        self.found(
            FindingKind::ShortenedJournal,
            JOURNAL_FILE,
            problem,
            &action,
        )?;
        for record in lacking {
            self.append(Event::Evaluated(record))?;
        }
        // Said again, now that their evaluations are known.
        for saved in again {
            self.append(Event::Saved(saved))?;
        }
        self.pin_unknown(before)
    }

    /// The checkpoints that verified, the one written last first.
    fn witnesses(&mut self) -> Result<Vec<Witness>, OpenError> {
        let mut witnesses = Vec::new();
        for (name, verified) in self.sound() {
            // Set aside as damaged or pruned since it was read.
            if !self.state().checkpoints.contains_key(&name) {
                continue;
            }
            let mut testimony = self.testimony(&name)?;
            if let Some(evaluation) = &mut testimony.evaluation {
                evaluation.digest = Some(verified.weights);
            }
            witnesses.push(Witness { name, testimony });
        }
        witnesses.sort_by_key(|Witness { name, testimony }| {
            std::cmp::Reverse((testimony.events, name.step()))
        });
        Ok(witnesses)
    }

    /// The evaluations that the journal never told of, in order.
    fn lacking(&self, witnesses: &[Witness]) -> Vec<EvaluationRecord> {
        let mut lacking: BTreeMap<u64, EvaluationRecord> = BTreeMap::new();
        for Witness { testimony, .. } in witnesses {
            for record in testimony.history.iter().chain(&testimony.evaluation) {
                if !self.state().told.contains(&record.step) {
                    let known = lacking.entry(record.step).or_insert_with(|| record.clone());
                    known.digest = known.digest.or(record.digest);
                }
            }
        }
        let mut lacking: Vec<_> = lacking.into_values().collect();
        // What was measured at a step that another session measured as well: it is of these weights all the same.
        for Witness { name, testimony } in witnesses {
            let unknown = self.evaluation_of(name).is_none();
            let told = |record: &EvaluationRecord| {
                lacking
                    .iter()
                    .chain(&self.state().history)
                    .any(|other| other.step == record.step && other.digest == record.digest)
            };
            if let Some(evaluation) = testimony.evaluation.as_ref()
                && unknown
                && !told(evaluation)
            {
                lacking.push(evaluation.clone());
            }
        }
        lacking
    }

    fn evaluation_of(&self, name: &CheckpointName) -> Option<&EvaluationRecord> {
        let checkpoint = self.state().checkpoints.get(name)?;
        checkpoint.evaluation.as_ref()
    }

    /// Checkpoints that say how they were evaluated where the journal does not.
    fn without_evaluation(&self, witnesses: &[Witness]) -> Vec<SavedEvent> {
        witnesses
            .iter()
            .filter(|witness| witness.testimony.evaluation.is_some())
            .filter(|witness| self.evaluation_of(&witness.name).is_none())
            .filter_map(|witness| self.state().checkpoints.get(&witness.name))
            .map(|checkpoint| checkpoint.saved.clone())
            .collect()
    }

    /// A best that the journal did not know and whose file does not say how good it is stays, whatever becomes best.
    fn pin_unknown(&mut self, before: &Known) -> Result<(), OpenError> {
        for reference in self.ref_files()? {
            let known = |name: &RefName| !name.is_best() || before.bests.contains_key(name);
            if reference.name.as_ref().is_some_and(known) {
                continue;
            }
            let path = &reference.path;
            let present: Vec<CheckpointName> = self
                .state()
                .present()
                .map(|checkpoint| checkpoint.saved.checkpoint.clone())
                .filter(|name| !self.state().pinned.contains(name))
                .filter(|name| self.evaluation_of(name).is_none())
                .collect();
            for name in present {
                if refs::same_file(&self.fs, path, &name.path(&self.run))?
                    && self.found(
                        FindingKind::ShortenedJournal,
                        &reference.file,
                        "nothing tells how good it is",
                        &format!("{name} is pinned"),
                    )?
                {
                    self.append(Event::Pinned(PinnedEvent { checkpoint: name }))?;
                }
            }
        }
        Ok(())
    }

    /// Says which bests are not as good as they were before the mending.
    pub(super) fn lost_bests(&mut self, before: &Known) -> Result<(), OpenError> {
        let state = self.state();
        let mut lost = Vec::new();
        for (reference, objective) in state.objectives() {
            let Some(was) = before.bests.get(&reference) else {
                continue;
            };
            let Some(score) = was.score else { continue };
            let is = state.refs.get(&reference);
            let worse = is.and_then(|is| is.score).is_none_or(|is| {
                // Equal is none lost.
                objective.compare_total(&is, &score).is_lt()
            });
            if worse {
                let words = |best: &RefState| {
                    let value = best.score.map(|score| score.value);
                    let value = value.map(keepbest_core::format_value).unwrap_or_default();
                    format!("{} {value}, epoch {}", objective.monitor(), best.epoch)
                };
                let problem = format!("what was best ({}) is lost", words(was));
                let action = match is {
                    Some(is) => format!("the best that is left: {}", words(is)),
                    None => "no best is left".to_owned(),
                };
                lost.push((reference, problem, action));
            }
        }
        for (reference, problem, action) in lost {
            self.found(
                FindingKind::LostBest,
                reference.file_name(),
                problem,
                &action,
            )?;
        }
        Ok(())
    }
}

//! A journal that knows less than the files: it was cut short, or lines of it are gone. Whoever reads a run by its journal alone
//! would tell of a worse best, and whoever writes to it would make the loss harder to see.

use std::fmt;
use std::path::PathBuf;

use keepbest_core::text::shell_word;
use keepbest_formats::model_file::ModelFile;
use keepbest_store::{JOURNAL_FILE, RefName};

use crate::open::map_own;
use crate::stamp;
use crate::view::RunView;

/// What the file of a best or of last holds, and the journal does not tell of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct Forgotten {
    /// The run.
    pub run: PathBuf,
    /// Which file.
    pub reference: RefName,
    /// Step of what the file holds.
    pub step: u64,
    /// Its epoch.
    pub epoch: u64,
    /// The number of events that the journal had when the file was written, where the file tells, and the number that it has.
    pub events: Option<(u64, u64)>,
    /// The epoch that the journal has there, if any.
    pub known: Option<u64>,
    /// Whether the journal still tells what best means in this run.
    pub has_begun: bool,
}

impl Forgotten {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let run = shell_word(&self.run);
        match self.has_begun {
            true => format!("keepbest fsck {run} --repair takes it back from the files"),
            // What best means is in run.toml, which training reads.
            false => {
                format!("keepbest train --resume {run} takes it back from run.toml and the files")
            }
        }
    }
}

impl fmt::Display for Forgotten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (run, reference) = (self.run.display(), &self.reference);
        write!(
            f,
            "{run}/{JOURNAL_FILE} does not tell of epoch {} (step {}), which {} holds: it has ",
            self.epoch,
            self.step,
            reference.file_name()
        )?;
        match self.known {
            Some(epoch) => write!(f, "epoch {epoch} as {reference}")?,
            None => write!(f, "no {reference}")?,
        }
        if let Some((then, now)) = self.events
            && then > now
        {
            let events = if now == 1 { "event" } else { "events" };
            write!(f, ", and {now} {events} where there were {then}")?;
        }
        f.write_str("; it was cut short, or the file is another run's")
    }
}

impl RunView {
    /// What a best or last holds that the journal does not tell of; nothing while someone writes to the run. Of each file the header
    /// alone is read; what cannot be read, or is no model of keepbest's, tells nothing.
    #[must_use]
    pub fn forgotten(&self) -> Option<Forgotten> {
        let state = self.state();
        let mut names = state.ref_names();
        if !names.contains(&RefName::BEST) {
            names.insert(0, RefName::BEST);
        }
        let found = names.into_iter().find_map(|name| self.forgotten_by(name))?;
        if let Ok(Some(_)) = self.active_writer() {
            return None;
        }
        // Whoever wrote may have ended since the journal was read.
        let now = Self::open(self.path()).ok()?;
        (now.state().events == state.events).then_some(found)
    }

    fn forgotten_by(&self, reference: RefName) -> Option<Forgotten> {
        let state = self.state();
        let bytes = map_own(&reference.path(self.path())).ok()?;
        let file = ModelFile::from_bytes_unverified(bytes).ok()?;
        let weights = file.seal.as_ref()?.weights_digest;
        let metadata = file.metadata.as_ref()?;
        let is = state.refs.get(&reference);
        let mut saved = state.checkpoints.values();
        let is_known =
            saved.any(|it| it.saved.step == metadata.step && it.saved.weights == weights);
        // A promotion is journalled before the file moves: the file is never ahead.
        if is_known && is.is_some_and(|is| is.step >= metadata.step) {
            return None;
        }
        let events = stamp::events(metadata).map(|then| (then, state.events));
        Some(Forgotten {
            run: self.path().to_owned(),
            step: metadata.step,
            epoch: metadata.epoch,
            events,
            known: is.map(|is| is.epoch),
            has_begun: state.started.is_some(),
            reference,
        })
    }
}

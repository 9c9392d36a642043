//! The end of a session that was told to stop.

use super::error::TrainError;
use super::events::{Event, Observer};
use super::keeping::in_words;
use super::outcome::Outcome;
use super::run::Run;

impl Run {
    pub(super) fn interrupted(
        mut self,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        let snapshot = self.setup.engine.snapshot();
        self.keeper
            .save_last(&snapshot, self.state.epoch, self.training_json());
        self.keeper.settle();
        self.tell(observer);
        let kept = self.keeper.interrupt()?;
        for event in &kept.events {
            observer.on(Event::Keeper(event));
        }
        Self::close(&mut self.loggers, false, None, observer, &|| true);
        self.reporting
            .write(&self.path, &self.setup.provenance, None, observer);
        self.clock.end(&*self.setup.engine, observer);
        Ok(Outcome::Interrupted {
            run: self.path,
            step: self.state.step,
            epoch: self.state.epoch,
            failures: in_words(&kept.unresolved, &kept),
            lost: self.lost,
        })
    }
}

//! Attention to the user while a run is set up, before there is anything to save.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};

use keepbest_data::Reading;

use super::error::TrainError;
use super::events::{Event, Observer};

/// Who is told how far it is, and what says to stop.
pub(super) struct Heed<'a> {
    observer: RefCell<&'a mut dyn Observer>,
    stop: &'a AtomicBool,
}

impl<'a> Heed<'a> {
    pub(super) fn new(observer: &'a mut dyn Observer, stop: &'a AtomicBool) -> Self {
        Self {
            observer: RefCell::new(observer),
            stop,
        }
    }

    pub(super) fn tell(&self, event: Event<'_>) {
        self.observer.borrow_mut().on(event);
    }

    /// Whether to go on, after telling how far the reading is.
    pub(super) fn read(&self, reading: Reading) -> bool {
        self.tell(Event::Reading(reading));
        self.goes_on()
    }

    pub(super) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// An error when told to stop.
    pub(super) fn check(&self) -> Result<(), TrainError> {
        if self.goes_on() {
            Ok(())
        } else {
            Err(TrainError::Interrupted)
        }
    }
}

//! Watching an operation, and stopping it.

use std::fmt;

/// Work that is done image by image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Images are read, before anything is computed.
    Reading(keepbest_data::Stage),
    /// A model is measured.
    Measuring,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reading(stage) => stage.fmt(f),
            Self::Measuring => f.write_str("measuring"),
        }
    }
}

/// News of an operation.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// So many images of a stage are done.
    Images {
        /// The stage.
        stage: Stage,
        /// Images done.
        done: usize,
        /// All images of the stage.
        of: usize,
    },
    /// One of several models is about to be measured.
    Begun {
        /// The model, as it was named.
        model: &'a str,
        /// The number of images that it is measured on.
        images: usize,
        /// What the reader of its figures has to know.
        notes: &'a [String],
    },
    /// Something goes on that is not counted in images.
    Working,
}

/// Whoever is told of an operation's events, and says whether it goes on.
///
/// ```
/// use keepbest_model::{Event, Watch};
///
/// let watcher = |event: Event<'_>| !matches!(event, Event::Images { done: 1000.., .. });
/// let watch = Watch::new(&watcher);
/// # let _ = watch;
/// ```
#[derive(Clone, Copy, Default)]
pub struct Watch<'a>(Option<&'a dyn Fn(Event<'_>) -> bool>);

impl<'a> Watch<'a> {
    /// Watched by this function, which returns `false` to stop.
    pub fn new(go_on: &'a dyn Fn(Event<'_>) -> bool) -> Self {
        Self(Some(go_on))
    }

    /// Watched by nobody.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Tells of an event, and whether to go on.
    pub(crate) fn tell(self, event: Event<'_>) -> bool {
        self.0.is_none_or(|go_on| go_on(event))
    }

    /// Tells how many images are measured.
    pub(crate) fn measured(self, done: usize, of: usize) -> bool {
        let stage = Stage::Measuring;
        self.tell(Event::Images { stage, done, of })
    }

    /// Does something with data, watched by the same.
    pub(crate) fn reading<T>(self, read: impl FnOnce(keepbest_data::Watch<'_>) -> T) -> T {
        let go_on = |reading: keepbest_data::Reading| {
            self.tell(Event::Images {
                stage: Stage::Reading(reading.stage),
                done: reading.done,
                of: reading.of,
            })
        };
        read(keepbest_data::Watch::new(&go_on))
    }
}

impl fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.0.is_some()).finish()
    }
}

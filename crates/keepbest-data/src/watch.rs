//! Watching what takes long about a data set, and stopping it.

use std::fmt;

use crate::DataError;

/// What is done with images, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Files are looked into: their kind and size.
    Opening,
    /// Mean and standard deviation are computed.
    Measuring,
    /// What makes up the splits is hashed.
    Identifying,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opening => "looking into the images",
            Self::Measuring => "reading the images",
            Self::Identifying => "identifying the images",
        })
    }
}

/// The progress of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reading {
    /// The stage.
    pub stage: Stage,
    /// Images done.
    pub done: usize,
    /// All images of the stage, in one split.
    pub of: usize,
}

/// Is told of every image, and says whether to go on.
///
/// ```
/// use keepbest_data::{Unreadable, Watch, open_watched};
///
/// let watcher = |reading: keepbest_data::Reading| reading.done < 1000;
/// let bundle = open_watched("fashion-mnist-mini", None, Unreadable::Refuse, Watch::new(&watcher))?;
/// let stopped = bundle.prepare_watched(&Default::default(), Watch::new(&watcher)).unwrap_err();
/// assert!(stopped.is_interrupted());
/// # Ok::<(), keepbest_data::DataError>(())
/// ```
#[derive(Clone, Copy, Default)]
pub struct Watch<'a>(Option<&'a dyn Fn(Reading) -> bool>);

impl<'a> Watch<'a> {
    /// By this function, which returns `false` to stop.
    pub fn new(go_on: &'a dyn Fn(Reading) -> bool) -> Self {
        Self(Some(go_on))
    }

    /// By nobody.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Tells of an image.
    ///
    /// # Errors
    /// [`DataError::Interrupted`] when told to stop.
    pub(crate) fn tell(self, stage: Stage, done: usize, of: usize) -> Result<(), DataError> {
        match self.0 {
            Some(go_on) if !go_on(Reading { stage, done, of }) => Err(DataError::Interrupted),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.0.is_some()).finish()
    }
}

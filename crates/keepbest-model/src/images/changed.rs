//! A split that is no longer what it was.

use keepbest_data::Fingerprint;

/// A split that holds other images, labels or classes than those recorded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ChangedSplit {
    /// The split.
    pub name: &'static str,
    /// The data it was read from.
    pub data: String,
    /// Its fingerprint.
    pub found: Fingerprint,
    /// The recorded one.
    pub recorded: Fingerprint,
}

impl ChangedSplit {
    /// In words, after which a full stop may stand.
    #[must_use]
    pub fn words(&self) -> String {
        format!(
            "the {} images are not those recorded: {} in {}, recorded were {}",
            self.name, self.found, self.data, self.recorded
        )
    }
}

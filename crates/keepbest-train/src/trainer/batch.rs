//! From the loader to the engine.

use keepbest_nn::{Batch, Labels, SecondLabels};

/// A batch of the loader, as the engine takes it.
pub(super) fn as_taken(batch: &keepbest_data::Batch) -> Batch<'_> {
    let mixed = batch.mixed.as_ref().map(|mixed| SecondLabels {
        others: &mixed.others,
        shares: &mixed.shares,
    });
    let labels = Labels {
        own: &batch.labels,
        mixed,
    };
    Batch::new(&batch.images, labels)
}

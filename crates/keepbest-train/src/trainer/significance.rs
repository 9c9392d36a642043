//! The rule of `significant`: what keeps luck from replacing the best, by the traces of the val images.

use std::path::Path;

use keepbest_keeper::Keeper;
use keepbest_model::{Measured, Provenance};

use crate::noise::{PairedTest, Trace, TraceError};

/// The best so far, image by image.
#[derive(Default)]
pub(super) struct Significance {
    test: Option<(PairedTest, f64)>,
    best: Option<(u64, u64, Trace)>,
}

impl Significance {
    /// The rule of a run that begins or is taken up, with the best so far. `limit` is the p-value that a best must be below.
    pub(super) fn of(keeper: &Keeper, limit: Option<f64>) -> Self {
        let best = keeper.evaluations().best().and_then(|record| {
            // Runs of earlier versions have no traces: then the next best is taken as it comes.
            let trace = Trace::read(keeper.path(), record.step).ok()?;
            Some((record.step, record.epoch, trace))
        });
        Self {
            test: limit.map(|limit| (PairedTest::of(keeper.objective()), limit)),
            best,
        }
    }

    /// The outcomes of the val images.
    pub(super) fn trace(&self, measured: &Measured, provenance: &Provenance) -> Option<Trace> {
        let images = provenance.data.fingerprints.get("val")?;
        let outcomes = measured.outcomes.as_ref()?;
        Some(Trace::new(outcomes, &images.blake3))
    }

    /// Why this evaluation must not replace the best, however high its score.
    pub(super) fn holds_back(&self, trace: &Trace) -> Option<String> {
        let (test, limit) = self.test.as_ref()?;
        let (_, epoch, best) = self.best.as_ref()?;
        match test.compare(trace, best, *limit) {
            Ok((p_value, true)) if p_value < *limit => None,
            Ok((p_value, _)) => Some(format!(
                "not significantly better than the best of epoch {epoch} (p = {p_value:.3}, {test})"
            )),
            // Losses that are not finite prove nothing.
            Err(error) => Some(format!(
                "cannot be compared with the best of epoch {epoch}: {error}"
            )),
        }
    }

    /// Keeps the trace of an evaluation in the run.
    pub(super) fn keep(
        &mut self,
        run: &Path,
        trace: Trace,
        step: u64,
        epoch: u64,
        improved: bool,
    ) -> Result<(), TraceError> {
        let best = match &self.best {
            _ if improved => Some(step),
            best => best.as_ref().map(|(step, ..)| *step),
        };
        let kept = trace.keep(run, step, best);
        if improved {
            self.best = Some((step, epoch, trace));
        }
        kept
    }
}

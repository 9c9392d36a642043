//! The scores of images, batch by batch: of this process alone, or of several ranks that score a part of the batches each.

use std::collections::VecDeque;
use std::ops::Range;

use keepbest_data::{Epoch, LoadError, Loader, LoaderConfig, Subset, batch_ranges};
use keepbest_nn::{Collective, Scorer};

use crate::evaluate::{EvaluateError, Evaluator};

/// The batches that a rank scores: every so many-th, whole, so that an image is scored in the same company whoever does it.
pub(crate) struct Part<'a> {
    ranks: &'a dyn Collective,
    /// None where there are more ranks than batches.
    own: Option<Epoch>,
    /// Batches of all ranks.
    batches: usize,
    logits: Vec<f32>,
}

impl<'a> Part<'a> {
    pub(crate) fn new(
        evaluator: &Evaluator<'a>,
        split: &Subset,
        threads: usize,
    ) -> Result<Self, EvaluateError> {
        let ranges = batch_ranges(split.len(), evaluator.batch_size);
        let config = LoaderConfig::evaluation(evaluator.batch_size).with_threads(threads);
        let ranks = evaluator.ranks;
        let images = match ranks.ranks() {
            1 => split.clone(),
            _ => {
                let own = ranges.iter().skip(ranks.rank()).step_by(ranks.ranks());
                let own = own.flat_map(|range| &split.indices()[range.clone()]);
                Subset::new(split.dataset().clone(), own.copied().collect())
                    .map_err(LoadError::from)?
            }
        };
        let own = match images.is_empty() && !split.is_empty() {
            true => None,
            false => Some(Loader::new(images, evaluator.preprocessing, config)?.epoch(0, 0)),
        };
        Ok(Self {
            ranks,
            own,
            batches: ranges.len(),
            logits: Vec::new(),
        })
    }

    /// Scores the rank's next batch; nothing where it has none left.
    fn score_next(
        &mut self,
        scorer: &mut dyn Scorer,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), EvaluateError> {
        self.logits.clear();
        let batch = self.own.as_mut().and_then(|own| own.next_while(go_on));
        if let Some(batch) = batch {
            scorer.logits(&batch?.images, &mut self.logits)?;
        }
        Ok(())
    }

    /// Scores all of the part, in step with the first rank, until that has what it wants.
    pub(crate) fn score(mut self, scorer: &mut dyn Scorer) -> Result<(), EvaluateError> {
        for _ in 0..self.batches.div_ceil(self.ranks.ranks()) {
            self.score_next(scorer, &mut || true)?;
            if self.ranks.hear()? != GO_ON {
                return Ok(());
            }
            self.ranks.gather(&self.logits)?;
        }
        Ok(())
    }
}

/// What the first rank says before the scores of a round are gathered.
const GO_ON: [u8; 1] = [1];
const STOP: [u8; 1] = [0];

/// The scores of a batch, `[n, classes]`, and its labels.
pub(crate) type Scored<'s> = (&'s [f32], &'s [u32]);

/// The scores of all images, in order, at the first rank.
pub(crate) struct Scores<'a> {
    part: Part<'a>,
    ranges: Vec<Range<usize>>,
    labels: Vec<u32>,
    next: usize,
    gathered: VecDeque<Vec<f32>>,
    current: Vec<f32>,
}

impl<'a> Scores<'a> {
    pub(crate) fn new(
        evaluator: &Evaluator<'a>,
        split: &Subset,
        threads: usize,
    ) -> Result<Self, EvaluateError> {
        Ok(Self {
            part: Part::new(evaluator, split, threads)?,
            ranges: batch_ranges(split.len(), evaluator.batch_size),
            labels: split.labels(),
            next: 0,
            gathered: VecDeque::new(),
            current: Vec::new(),
        })
    }

    /// Scores and labels of the next batch.
    pub(crate) fn next(
        &mut self,
        scorer: &mut dyn Scorer,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Scored<'_>>, EvaluateError> {
        let Some(range) = self.ranges.get(self.next).cloned() else {
            return Ok(None);
        };
        if self.gathered.is_empty() {
            self.part.score_next(scorer, go_on)?;
            self.part.ranks.tell(&GO_ON)?;
            self.gathered = self.part.ranks.gather(&self.part.logits)?.into();
        }
        self.current = self.gathered.pop_front().unwrap_or_default();
        self.next += 1;
        Ok(Some((&self.current, &self.labels[range])))
    }
}

impl Drop for Scores<'_> {
    fn drop(&mut self) {
        // Where it ended early the others wait to hear whether it goes on. Whoever is lost has no use for it.
        let ranks = self.part.ranks.ranks();
        if self.next.next_multiple_of(ranks) < self.ranges.len() {
            let _ = self.part.ranks.tell(&STOP);
        }
    }
}

//! The pace of a training, as the bar and the live screen show it.

use std::time::{Duration, Instant};

/// The speed of a training and the time that it has left.
#[derive(Debug, Default)]
pub(super) struct Pace {
    begun: Option<Instant>,
    /// When the latest step ended, if nothing else came after it.
    latest: Option<Instant>,
    /// Time from the first step to the latest, everything between them included.
    since_begun: Duration,
    /// Steps that followed another, with nothing in between; their images, and their time.
    steps: u64,
    images: u64,
    busy: Duration,
}

impl Pace {
    /// A step of so many images has ended.
    pub(super) fn step(&mut self, images: usize, now: Instant) {
        self.since_begun = now - *self.begun.get_or_insert(now);
        if let Some(latest) = self.latest.replace(now) {
            self.busy += now - latest;
            self.images += images as u64;
            self.steps += 1;
        }
    }

    /// Something else than training goes on: the time until the next step is not that step's.
    pub(super) fn pause(&mut self) {
        self.latest = None;
    }

    /// Training images a second; `None` as long as it is not known, as after the first step.
    pub(super) fn images_per_second(&self) -> Option<f64> {
        let rate = self.images as f64 / self.busy.as_secs_f64();
        (self.steps > 0 && rate.is_finite()).then_some(rate)
    }

    /// The time that so many steps will take, with what comes between them.
    pub(super) fn time_for(&self, steps: u64) -> Option<Duration> {
        let each = (self.steps > 0).then(|| self.since_begun.div_f64(self.steps as f64))?;
        Some(each.mul_f64(steps as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_count_for_the_time_left_but_not_for_the_speed() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let mut wait = |seconds| {
            now += Duration::from_secs(seconds);
            now
        };
        pace.step(64, wait(0));
        assert_eq!((pace.images_per_second(), pace.time_for(3)), (None, None));
        pace.step(64, wait(2));
        assert_eq!(pace.images_per_second(), Some(32.0));
        assert_eq!(pace.time_for(3), Some(Duration::from_secs(6)));
        pace.pause();
        pace.step(64, wait(6));
        assert_eq!(pace.images_per_second(), Some(32.0));
        assert_eq!(pace.time_for(3), Some(Duration::from_secs(24)));
    }
}

//! The outcome of every image of the val split in one evaluation: its label, the class decided for and a loss, in a small file of
//! the run.

use std::path::{Path, PathBuf};

use keepbest_model::Outcomes;
use keepbest_store::{Links, OUTCOMES_DIR, names_in, read_regular, replace_unsynced};

/// The beginning of a file: the format and its version.
const MAGIC: &[u8; 8] = b"kbtrace2";
/// As many traces as a run keeps: those of its latest evaluations, and that of the best.
pub(super) const KEPT: usize = 200;
/// Magic, number of images, fingerprint of the split, number of classes.
const HEADER: usize = 8 + 8 + 32 + 4;
/// BLAKE3 of everything before it.
const CHECK: usize = 32;

/// The outcome of every image. `docs/format.md` has the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    images: [u8; 32],
    classes: u32,
    labels: Vec<u32>,
    /// [`UNDECIDED`] where the network's numbers were not finite.
    decided: Vec<u32>,
    losses: Vec<f32>,
}

/// No class.
const UNDECIDED: u32 = u32::MAX;

/// An error of reading or writing a trace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Reading or writing failed.
    #[error("cannot read or write {path}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what was written.
    #[error("{path} is damaged", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

impl Trace {
    /// The trace of outcomes on the images with this fingerprint (64 hex digits).
    pub(crate) fn new(outcomes: &Outcomes, fingerprint: &str) -> Self {
        Self {
            images: *blake3::hash(fingerprint.as_bytes()).as_bytes(),
            classes: outcomes.classes() as u32,
            labels: outcomes.labels().to_vec(),
            decided: outcomes
                .decided()
                .map(|class| class.unwrap_or(UNDECIDED))
                .collect(),
            losses: outcomes
                .log_losses()
                .into_iter()
                .map(|loss| loss as f32)
                .collect(),
        }
    }

    /// The number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes as usize
    }

    /// Whether each image was right.
    pub fn right(&self) -> impl Iterator<Item = bool> {
        let pairs = self.labels.iter().zip(&self.decided);
        pairs.map(|(label, decided)| label == decided)
    }

    /// Label and decision of some of the images. A decision that was none is of no class.
    ///
    /// # Panics
    /// When there is no such image; so do the next two.
    pub(super) fn decisions(&self, images: &[u32]) -> impl Iterator<Item = (u32, u32)> {
        let images = images.iter().map(|image| *image as usize);
        images.map(|image| (self.labels[image], self.decided[image]))
    }

    pub(super) fn accuracy(&self, images: &[u32]) -> f64 {
        let right = self
            .decisions(images)
            .filter(|(label, decided)| label == decided);
        right.count() as f64 / images.len() as f64
    }

    pub(super) fn mean_loss(&self, images: &[u32]) -> f64 {
        let losses = images
            .iter()
            .map(|image| f64::from(self.losses[*image as usize]));
        losses.sum::<f64>() / images.len() as f64
    }

    /// The first image that nothing was decided for.
    pub(super) fn undecided(&self) -> Option<usize> {
        self.decided.iter().position(|class| *class == UNDECIDED)
    }

    /// Whether both are of the same images.
    #[must_use]
    pub fn pairs_with(&self, other: &Self) -> bool {
        self.images == other.images && self.len() == other.len()
    }

    /// Bytes of a class number, all ones standing for none.
    fn width(classes: u32) -> usize {
        match classes {
            0..0xff => 1,
            0xff..0xffff => 2,
            _ => 4,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let width = Self::width(self.classes);
        let mut bytes = Vec::with_capacity(HEADER + (2 * width + 4) * self.len() + CHECK);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(self.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.images);
        bytes.extend_from_slice(&self.classes.to_le_bytes());
        for class in self.labels.iter().chain(&self.decided) {
            bytes.extend_from_slice(&class.to_le_bytes()[..width]);
        }
        for loss in &self.losses {
            bytes.extend_from_slice(&loss.to_le_bytes());
        }
        let check = blake3::hash(&bytes);
        bytes.extend_from_slice(check.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(CHECK)?)?;
        let rest = body.strip_prefix(MAGIC)?;
        if blake3::hash(body).as_bytes() != check {
            return None;
        }
        let (count, rest) = rest.split_first_chunk::<8>()?;
        let (images, rest) = rest.split_first_chunk::<32>()?;
        let (classes, rest) = rest.split_first_chunk::<4>()?;
        let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
        let classes = u32::from_le_bytes(*classes);
        let width = Self::width(classes);
        if rest.len() != count.checked_mul(2 * width + 4)? {
            return None;
        }
        let (labels, rest) = rest.split_at(count * width);
        let (decided, losses) = rest.split_at(count * width);
        let none = UNDECIDED >> (32 - 8 * width);
        let read = |class: &[u8]| {
            class
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u32::from(*byte))
        };
        let labels: Vec<u32> = labels.chunks_exact(width).map(read).collect();
        let decided: Vec<u32> = decided
            .chunks_exact(width)
            .map(read)
            .map(|class| if class == none { UNDECIDED } else { class })
            .collect();
        let is_class = |class: &u32| *class < classes;
        let are_classes = labels.iter().all(is_class)
            && decided
                .iter()
                .all(|class| is_class(class) || *class == UNDECIDED);
        are_classes.then(|| Self {
            images: *images,
            classes,
            labels,
            decided,
            losses: losses
                .as_chunks()
                .0
                .iter()
                .map(|loss| f32::from_le_bytes(*loss))
                .collect(),
        })
    }

    /// Keeps it in a run, as that of a step, and removes the oldest but the best's where there are too many. Not synced: what a
    /// power failure takes is only missing in comparisons.
    pub(crate) fn keep(&self, run: &Path, step: u64, best: Option<u64>) -> Result<(), TraceError> {
        let folder = run.join(OUTCOMES_DIR);
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| TraceError::Io { path, source }
        };
        std::fs::create_dir_all(&folder).map_err(fail(&folder))?;
        replace_unsynced(&path_of(run, step), &self.encode()).map_err(|error| TraceError::Io {
            path: error.path,
            source: error.source,
        })?;
        let mut steps = steps_in(run);
        steps.retain(|kept| Some(*kept) != best);
        let surplus = steps.len().saturating_sub(KEPT);
        for step in &steps[..surplus] {
            let path = path_of(run, *step);
            std::fs::remove_file(&path).map_err(fail(&path))?;
        }
        Ok(())
    }

    /// Reads that of a step of a run.
    ///
    /// # Errors
    /// [`TraceError`]: there is none, or it is damaged.
    pub fn read(run: &Path, step: u64) -> Result<Self, TraceError> {
        let path = path_of(run, step);
        let bytes = read_regular(&path, Links::Refuse).map_err(|source| TraceError::Io {
            path: path.clone(),
            source,
        })?;
        Self::decode(&bytes).ok_or(TraceError::Damaged { path })
    }
}

fn name(step: u64) -> String {
    format!("{step:08}.trace")
}

fn path_of(run: &Path, step: u64) -> PathBuf {
    run.join(OUTCOMES_DIR).join(name(step))
}

/// The steps that a run has traces of, in order.
fn steps_in(run: &Path) -> Vec<u64> {
    let names = names_in(&run.join(OUTCOMES_DIR)).unwrap_or_default();
    let mut steps: Vec<u64> = names
        .iter()
        .filter_map(|name| name.to_str()?.strip_suffix(".trace")?.parse().ok())
        .collect();
    steps.sort_unstable();
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Trace {
        /// A trace of images of any split.
        pub(crate) fn from_parts(
            classes: u32,
            labels: Vec<u32>,
            decided: Vec<u32>,
            losses: Vec<f32>,
        ) -> Self {
            Self {
                images: [7; 32],
                classes,
                labels,
                decided,
                losses,
            }
        }

        pub(crate) fn undecide(&mut self, image: usize) {
            self.decided[image] = UNDECIDED;
        }
    }

    /// Every third image is wrong.
    fn trace(classes: u32, count: u32) -> Trace {
        let labels: Vec<u32> = (0..count).map(|image| (image * 7) % classes).collect();
        let decided = labels.iter().enumerate();
        let decided = decided.map(|(image, label)| (label + u32::from(image % 3 == 0)) % classes);
        let losses = (0..count).map(|image| image as f32 / 3.0).collect();
        Trace::from_parts(classes, labels.clone(), decided.collect(), losses)
    }

    #[test]
    fn what_is_kept_is_read_and_damage_is_noticed() {
        let run = tempfile::tempdir().unwrap();
        for (classes, count, width) in [
            (2, 1, 1),
            (254, 9, 1),
            (255, 9, 2),
            (70_000, 8, 4),
            (10, 600, 1),
        ] {
            let mut kept = trace(classes, count);
            kept.undecide(0);
            kept.keep(run.path(), 12, None).unwrap();
            let read = Trace::read(run.path(), 12).unwrap();
            assert_eq!(read, kept);
            assert_eq!(
                (read.undecided(), read.right().next()),
                (Some(0), Some(false))
            );
            let size = std::fs::metadata(path_of(run.path(), 12)).unwrap().len();
            assert_eq!(size, 52 + (2 * width + 4) * u64::from(count) + 32);
        }
        let path = path_of(run.path(), 12);
        let whole = std::fs::read(&path).unwrap();
        for at in [0, 9, 20, 50, 200, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            assert_eq!(Trace::decode(&bytes), None, "{at}");
            assert_eq!(Trace::decode(&whole[..at]), None, "{at}");
        }
        // Whoever can forge the check still cannot name a class that there is not.
        let mut body = whole[..whole.len() - CHECK].to_vec();
        body[HEADER] = 10;
        let check = *blake3::hash(&body).as_bytes();
        assert_eq!(Trace::decode(&[&body[..], &check].concat()), None);
        assert!(matches!(
            Trace::read(run.path(), 13),
            Err(TraceError::Io { .. })
        ));
    }

    #[test]
    fn a_run_keeps_the_latest_and_the_best() {
        let run = tempfile::tempdir().unwrap();
        let count = KEPT as u64 + 5;
        for step in 1..=count {
            trace(2, 1).keep(run.path(), step, Some(2)).unwrap();
        }
        let kept = steps_in(run.path());
        assert_eq!(kept.len(), KEPT + 1);
        assert_eq!(kept[..2], [2, 6]);
    }
}

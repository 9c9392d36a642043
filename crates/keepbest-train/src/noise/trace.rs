//! How each image of the val split came out in one evaluation: a bit and a loss an image, in a small file of the run.

use std::path::{Path, PathBuf};

use keepbest_keeper::store::STAGED_PREFIX;

use crate::outcomes::Outcomes;

/// The folder of the traces in a run.
const FOLDER: &str = "outcomes";
/// How a file begins: the format and its version.
const MAGIC: &[u8; 8] = b"kbtrace1";
/// As many traces as a run keeps: those of its latest evaluations, and that of the best.
pub(super) const KEPT: usize = 200;
/// Magic, number of images, fingerprint of the split.
const HEADER: usize = 8 + 8 + 32;
/// BLAKE3 of everything before it.
const CHECK: usize = 32;

/// How each image came out. `docs/format.md` has the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    images: [u8; 32],
    right: Vec<bool>,
    losses: Vec<f32>,
}

/// Why a trace cannot be had.
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
    /// Of what was measured on the images with this fingerprint (64 hex digits).
    pub(crate) fn new(outcomes: &Outcomes, fingerprint: &str) -> Self {
        Self {
            images: *blake3::hash(fingerprint.as_bytes()).as_bytes(),
            right: outcomes.right(),
            losses: outcomes
                .log_losses()
                .into_iter()
                .map(|loss| loss as f32)
                .collect(),
        }
    }

    /// How many images there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.right.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.right.is_empty()
    }

    /// Whether each image was right.
    #[must_use]
    pub fn right(&self) -> &[bool] {
        &self.right
    }

    /// The log loss of each image.
    #[must_use]
    pub fn losses(&self) -> Vec<f64> {
        self.losses.iter().copied().map(f64::from).collect()
    }

    /// Whether both are of the same images.
    #[must_use]
    pub fn pairs_with(&self, other: &Self) -> bool {
        self.images == other.images && self.len() == other.len()
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes =
            Vec::with_capacity(HEADER + self.len().div_ceil(8) + 4 * self.len() + CHECK);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(self.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.images);
        for eight in self.right.chunks(8) {
            let bits = eight.iter().enumerate();
            bytes.push(bits.fold(0, |byte, (i, right)| byte | u8::from(*right) << i));
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
        let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
        let (bits, losses) = rest.split_at_checked(count.div_ceil(8))?;
        if losses.len() != count.checked_mul(4)? {
            return None;
        }
        Some(Self {
            images: *images,
            right: (0..count)
                .map(|i| bits[i / 8] >> (i % 8) & 1 == 1)
                .collect(),
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
        let folder = run.join(FOLDER);
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| TraceError::Io { path, source }
        };
        std::fs::create_dir_all(&folder).map_err(fail(&folder))?;
        let name = name(step);
        let (staged, path) = (
            folder.join(format!("{STAGED_PREFIX}{name}")),
            folder.join(&name),
        );
        std::fs::write(&staged, self.encode()).map_err(fail(&staged))?;
        std::fs::rename(&staged, &path).map_err(fail(&path))?;
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
        let bytes = std::fs::read(&path).map_err(|source| TraceError::Io {
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
    run.join(FOLDER).join(name(step))
}

/// The steps that a run has traces of, in order.
fn steps_in(run: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(run.join(FOLDER)).into_iter().flatten();
    let mut steps: Vec<u64> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.strip_suffix(".trace")?.parse().ok()
        })
        .collect();
    steps.sort_unstable();
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(right: &[bool]) -> Trace {
        Trace {
            images: [7; 32],
            right: right.to_vec(),
            losses: (0..right.len()).map(|i| i as f32 / 3.0).collect(),
        }
    }

    #[test]
    fn what_is_kept_is_read_and_damage_is_noticed() {
        let run = tempfile::tempdir().unwrap();
        for count in [1, 8, 9, 600] {
            let kept = trace(&(0..count).map(|i| i % 3 == 0).collect::<Vec<_>>());
            kept.keep(run.path(), 12, None).unwrap();
            assert_eq!(Trace::read(run.path(), 12).unwrap(), kept);
        }
        let path = path_of(run.path(), 12);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), 48 + 75 + 2400 + 32);
        for at in [0, 9, 20, 50, 200, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            assert_eq!(Trace::decode(&bytes), None, "{at}");
            assert_eq!(Trace::decode(&whole[..at]), None, "{at}");
        }
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
            trace(&[true]).keep(run.path(), step, Some(2)).unwrap();
        }
        let kept = steps_in(run.path());
        assert_eq!(kept.len(), KEPT + 1);
        assert_eq!(kept[..2], [2, 6]);
    }
}

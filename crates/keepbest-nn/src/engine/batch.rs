//! A batch, as an engine takes it.

use super::error::StepError;
use crate::network::Network;
use keepbest_kernels::loss::Labels;

/// Images with their labels: plain memory, whoever made it.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// `[n, height, width, channels]`, dense, normalised.
    pub images: &'a [f32],
    /// One label each, or two with their shares.
    pub labels: Labels<'a>,
}

impl<'a> Batch<'a> {
    /// Images `[n, height, width, channels]`, and their labels (`&[u32]`, or [`Labels`]).
    pub fn new(images: &'a [f32], labels: impl Into<Labels<'a>>) -> Self {
        Batch {
            images,
            labels: labels.into(),
        }
    }

    /// Number of images, by the labels.
    pub fn len(&self) -> usize {
        self.labels.own.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks what every engine must be able to rely on: `most` images at most, labels that are classes of the network, one length
    /// of everything, a learning rate that is a number.
    ///
    /// # Errors
    /// [`StepError`] naming the first that does not hold.
    pub fn check(
        &self,
        network: &Network,
        most: usize,
        learning_rate: f64,
    ) -> Result<(), StepError> {
        let n = self.len();
        if n == 0 || n > most {
            return Err(StepError::BatchSize {
                found: n,
                expected: most,
            });
        }
        let image_len = network.image_len();
        if self.images.len() != n * image_len {
            return Err(StepError::ImagesLength {
                found: self.images.len(),
                images: n,
                image_len,
            });
        }
        self.check_labels(network.classes())?;
        if n == 1
            && let Some(layer) = network.needs_two_images()
        {
            return Err(StepError::SingleValue {
                layer: layer.to_owned(),
            });
        }
        if !(learning_rate >= 0.0 && learning_rate.is_finite()) {
            return Err(StepError::LearningRate {
                found: learning_rate,
            });
        }
        Ok(())
    }

    fn check_labels(&self, classes: usize) -> Result<(), StepError> {
        let n = self.len();
        let others = self.labels.mixed.map_or(&[][..], |mixed| mixed.others);
        for labels in [self.labels.own, others] {
            if let Some(index) = labels.iter().position(|l| *l as usize >= classes) {
                return Err(StepError::Label {
                    found: labels[index],
                    index,
                    classes,
                });
            }
        }
        if let Some(mixed) = self.labels.mixed {
            let mut shares = mixed.shares.iter();
            if mixed.others.len() != n
                || mixed.shares.len() != n
                || !shares.all(|share| (0.0..=1.0).contains(share))
            {
                return Err(StepError::Shares { images: n });
            }
        }
        Ok(())
    }
}

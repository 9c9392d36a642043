//! Recipes: settings that go together, as defaults for those that are not given.

use super::{DataDefaults, OptimizerKind, Recipe, ScheduleKind, Settings};

/// The length of a training: so many images seen in all, within bounds on the number of epochs.
struct Length {
    images: usize,
    epochs: (u64, u64),
}

impl Length {
    fn epochs(&self, train_images: usize) -> u64 {
        let epochs = self.images.div_ceil(train_images.max(1)) as u64;
        epochs.clamp(self.epochs.0, self.epochs.1)
    }
}

/// Epochs below which a run is too short for the strong recipe: as many as quick's shortest.
const FEW_EPOCHS: u64 = 10;

impl Recipe {
    /// A warning about a number of epochs that this recipe is not made for.
    pub(crate) fn advice(self, epochs: u64) -> Option<String> {
        let few = self == Self::Strong && epochs < FEW_EPOCHS;
        few.then(|| {
            let epochs = if epochs == 1 { "1 epoch is".to_owned() } else { format!("{epochs} epochs are") };
            format!(
                "{epochs} few for the strong recipe, which is made for 60 or more: in a short time --recipe quick gets further"
            )
        })
    }

    /// Its settings for this data. Rate and weight decay follow from the optimizer and the batch, as without a recipe.
    pub(crate) fn settings(self, given: &Settings, data: &DataDefaults) -> Settings {
        let (model, length, augment) = match self {
            Self::Quick => (
                "fast",
                Length {
                    images: 650_000,
                    epochs: (10, 60),
                },
                data.augment,
            ),
            Self::Strong => (
                "default",
                Length {
                    images: 4_000_000,
                    epochs: (60, 200),
                },
                data.strong_augment,
            ),
        };
        Settings {
            model: Some(model.to_owned()),
            epochs: Some(length.epochs(data.train_images)),
            augment: Some(augment),
            optimizer: Some(OptimizerKind::Sgd),
            schedule: Some(ScheduleKind::OneCycle),
            label_smoothing: Some(0.1),
            ema: given.swa.flatten().is_none().then_some(Some(0.999)),
            ..Settings::default()
        }
    }
}

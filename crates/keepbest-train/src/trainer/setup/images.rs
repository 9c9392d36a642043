//! The images of a run, prepared.

use keepbest_data::{
    Augmentation, ChannelRule, Mirrored, PrepareOptions, Prepared, Preprocessing, ResizeRule,
    Unreadable, Unrecorded, Watch,
};
use keepbest_model::Model;

use super::decided::Decided;
use crate::settings::{DataDefaults, Resize, flip_note};
use crate::trainer::error::TrainError;

/// The images of a run, and what they settle.
pub(super) struct Images {
    pub data: Prepared,
    /// Defaults of the settings that depend on the data.
    pub defaults: DataDefaults,
    /// Images that could not be read and were left out.
    pub skipped: Vec<String>,
    mirrored: Mirrored,
    /// Whether the normalisation is settled: by a record or by the model to start from.
    normalised: bool,
}

impl Images {
    /// Opens and splits them; they are still to be [normalised](Self::normalise). A resumed run brings the preprocessing it recorded.
    pub(super) fn open(
        decided: &Decided,
        recorded: Option<Preprocessing>,
        watch: Watch<'_>,
        notes: &mut Vec<String>,
    ) -> Result<Self, TrainError> {
        let first = &decided.first;
        let unreadable = if first.skip_corrupt {
            Unreadable::Skip
        } else {
            Unreadable::Refuse
        };
        let dir = first.data_dir.as_deref();
        let bundle = keepbest_data::open_watched(&first.data, dir, unreadable, watch)?;
        let options = options(decided);
        let normalised = recorded.is_some() || decided.parent.is_some();
        let mut data = match recorded {
            Some(preprocessing) => bundle.prepare_with(&options, preprocessing)?,
            None => bundle.prepare_unread(&options)?,
        };
        notes.append(&mut data.notes);
        if let Some(parent) = &decided.parent {
            notes.extend(as_its_parent(&mut data, parent));
        }
        let mirrored = match decided.given.augment {
            // Images need not be looked at for what is settled.
            Some(_) => Mirrored::Same,
            None => bundle.mirrored(),
        };
        Ok(Self {
            defaults: defaults(&data, &mirrored),
            data,
            skipped: bundle.skipped,
            mirrored,
            normalised,
        })
    }

    /// Computes what the training images say of the normalisation, which reads them all.
    pub(super) fn normalise(&mut self, watch: Watch<'_>) -> Result<(), TrainError> {
        if !self.normalised {
            self.data.normalise(watch)?;
            self.normalised = true;
        }
        Ok(())
    }

    /// What was decided about mirror images, where it is not certain.
    pub(super) fn flip_note(&self, augment: &Augmentation) -> Option<String> {
        flip_note(&self.mirrored, augment)
    }
}

fn options(decided: &Decided) -> PrepareOptions {
    let given = &decided.given;
    let mut options = decided.split.options();
    options.cache_bytes = decided.first.cache.0;
    options.image_size = given.image_size.map(|size| (size.height, size.width));
    options.resize = given.resize.and_then(|resize| match resize {
        Resize::None => None,
        Resize::Exact => Some(ResizeRule::Exact),
        Resize::Crop => Some(ResizeRule::Crop),
    });
    if let Some(parent) = &decided.parent {
        let input = parent.preprocessing.input;
        options
            .image_size
            .get_or_insert((input.height, input.width));
        options.channels = Some(input.channels);
        // What the parent did to images of another size is done to these.
        if parent.preprocessing.resize != ResizeRule::None {
            options.resize.get_or_insert(parent.preprocessing.resize);
        }
    }
    options
}

/// Normalises images as the weights expect them; says what becomes of those that are unlike all that they have seen.
fn as_its_parent(data: &mut Prepared, parent: &Model) -> Option<String> {
    let told = match parent.provenance {
        Some(_) => converted(&parent.preprocessing, &data.preprocessing),
        None => None,
    };
    let (mean, std) = (
        parent.preprocessing.mean.clone(),
        parent.preprocessing.std.clone(),
    );
    data.preprocessing = data.preprocessing.clone().with_normalisation(mean, std);
    told
}

fn defaults(data: &Prepared, mirrored: &Mirrored) -> DataDefaults {
    let resize = match data.preprocessing.resize {
        ResizeRule::Exact => Resize::Exact,
        ResizeRule::Crop => Resize::Crop,
        _ => Resize::None,
    };
    let input = data.preprocessing.input;
    DataDefaults::new(input, resize, mirrored, data.train.len())
}

/// What becomes of images that are unlike all that the parent has seen.
fn converted(parent: &Preprocessing, own: &Preprocessing) -> Option<String> {
    let size = parent.resize == ResizeRule::None && own.resize != ResizeRule::None;
    let channels = parent.channels == ChannelRule::None && own.channels != ChannelRule::None;
    let how = own.conversion_words(Unrecorded { size, channels })?;
    Some(format!(
        "the model it starts from saw images of {} alone: {how}",
        parent.input
    ))
}

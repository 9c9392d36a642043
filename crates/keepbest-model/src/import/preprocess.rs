//! Preprocessing as a text says it: `imagenet,shorter-side=256`.

use keepbest_data::{ChannelRule, ImageShape, Preprocessing, PreprocessingError, ResizeRule};
use keepbest_formats::read_text;
use keepbest_nn::ModelSpec;

use crate::words::count;

/// Why a text says nothing of how images become input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreprocessError {
    /// A part of it is no setting.
    #[error("--preprocess {how:?}: {setting:?} is no setting")]
    NoSetting {
        /// The whole text.
        how: String,
        /// The part.
        setting: String,
    },
    /// There is no such setting.
    #[error("--preprocess has no setting {key:?}")]
    UnknownSetting {
        /// Its name.
        key: String,
    },
    /// A setting cannot be so.
    #[error("--preprocess: {key} cannot be {value:?}")]
    Value {
        /// The setting.
        key: String,
        /// The value.
        value: String,
    },
    /// It makes images of other channels than the weights take.
    #[error(
        "--preprocess {how:?} does not fit: it is for images of {}, the {network} of these weights takes {known}",
        count(*channels as u64, "channel")
    )]
    Channels {
        /// The text.
        how: String,
        /// The channels that it makes.
        channels: usize,
        /// The network.
        network: String,
        /// The channels that the first layer's weights are for.
        known: usize,
    },
    /// The settings do not go together.
    #[error(transparent)]
    Preprocessing(#[from] PreprocessingError),
    /// The file cannot be read.
    #[error("cannot read {file}")]
    Read {
        /// The file.
        file: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{file} is no preprocessing")]
    File {
        /// The file.
        file: String,
        /// Why not.
        source: serde_json::Error,
    },
}

impl PreprocessError {
    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSetting { .. } => {
                Some("pixels, imagenet, FILE.json, or size=32,mean=0.5,std=0.25".into())
            }
            Self::UnknownSetting { .. } => {
                Some("size, shorter-side, mean, std, divide, resize".into())
            }
            Self::Channels { known, .. } => {
                let values = |value: &str| vec![value; *known].join("/");
                Some(format!(
                    "say mean and standard deviation as it was trained with: size=224,mean={},std={}",
                    values("0.5"),
                    values("0.25")
                ))
            }
            _ => None,
        }
    }

    /// Whether the text itself is wrong.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        !matches!(
            self,
            Self::Read { .. } | Self::File { .. } | Self::Channels { .. }
        )
    }
}

/// The preprocessing that a text means for a network: `pixels` divides by 255, `imagenet` is 224x224 with ImageNet's mean and
/// standard deviation, `FILE.json` has it; settings follow one of the two words or stand alone.
///
/// # Errors
/// [`PreprocessError`].
pub fn preprocessing(how: &str, spec: &ModelSpec) -> Result<Preprocessing, PreprocessError> {
    let mut result = Preprocessing::new(ImageShape::new(
        spec.input.height,
        spec.input.width,
        spec.input.channels,
    ));
    result.resize = ResizeRule::Exact;
    result.channels = match spec.input.channels {
        1 => ChannelRule::ToGrey,
        3 => ChannelRule::ToRgb,
        _ => ChannelRule::None,
    };
    let (first, settings) = match how.split_once(',') {
        Some((first, settings)) => (first, Some(settings)),
        None => (how, None),
    };
    let settings = match first {
        "pixels" => settings,
        "imagenet" => {
            imagenet(&mut result);
            settings
        }
        file if file.ends_with(".json") && settings.is_none() => {
            return from_file(file);
        }
        // No word: settings from the first on.
        _ => Some(how),
    };
    for setting in settings
        .into_iter()
        .flat_map(|settings| settings.split(','))
    {
        set(&mut result, how, setting)?;
    }
    result.validate()?;
    Ok(result)
}

/// How many channels a text itself is for, where it says so: as many as it has values.
pub(super) fn channels_of(how: &str) -> Option<usize> {
    let values = how.split(',').map(|part| match part {
        "imagenet" => 3,
        part => match part.split_once('=') {
            Some(("mean" | "std", values)) => values.split('/').count(),
            _ => 1,
        },
    });
    values.max().filter(|count| *count > 1)
}

/// ImageNet's mean and standard deviation, and the size that its networks mostly take.
fn imagenet(result: &mut Preprocessing) {
    result.input = ImageShape::new(224, 224, 3);
    result.resize = ResizeRule::Crop;
    result.channels = ChannelRule::ToRgb;
    result.mean = vec![0.485, 0.456, 0.406];
    result.std = vec![0.229, 0.224, 0.225];
}

fn from_file(file: &str) -> Result<Preprocessing, PreprocessError> {
    /// Longer than any that is meant.
    const LIMIT: u64 = 1 << 20;
    let file = || file.to_owned();
    let text = read_text(file(), LIMIT).map_err(|source| PreprocessError::Read {
        file: file(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| PreprocessError::File {
        file: file(),
        source,
    })
}

/// Changes one setting, written `key=value`.
fn set(result: &mut Preprocessing, how: &str, setting: &str) -> Result<(), PreprocessError> {
    let (key, value) = setting
        .split_once('=')
        .ok_or_else(|| PreprocessError::NoSetting {
            how: how.into(),
            setting: setting.into(),
        })?;
    let wrong = || PreprocessError::Value {
        key: key.into(),
        value: value.into(),
    };
    let channels = result.input.channels;
    let values = |value: &str| -> Option<Vec<f32>> {
        let values: Vec<f32> = value
            .split('/')
            .map(|part| part.parse().ok())
            .collect::<Option<_>>()?;
        match values[..] {
            [one] => Some(vec![one; channels]),
            _ => Some(values),
        }
    };
    match key {
        "size" => {
            let (height, width) = value.split_once('x').unwrap_or((value, value));
            result.input.height = height.parse().map_err(|_| wrong())?;
            result.input.width = width.parse().map_err(|_| wrong())?;
        }
        "shorter-side" => {
            result.resize = ResizeRule::Crop;
            result.shorter_side = Some(value.parse().map_err(|_| wrong())?);
        }
        "mean" => result.mean = values(value).ok_or_else(wrong)?,
        "std" => result.std = values(value).ok_or_else(wrong)?,
        "divide" => result.divide_by = value.parse().map_err(|_| wrong())?,
        "resize" => {
            result.resize = match value {
                "none" => ResizeRule::None,
                "exact" => ResizeRule::Exact,
                "crop" => ResizeRule::Crop,
                _ => return Err(wrong()),
            }
        }
        _ => return Err(PreprocessError::UnknownSetting { key: key.into() }),
    }
    Ok(())
}

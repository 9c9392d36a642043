//! What `--preprocess` says.

use keepbest_data::{ChannelRule, ImageShape, Preprocessing, ResizeRule};
use keepbest_formats::read_text;
use keepbest_nn::ModelSpec;

use crate::cli::failure::{Exit, Failure};

/// What `--preprocess` means for a network.
pub fn preprocessing(how: &str, spec: &ModelSpec) -> Result<Preprocessing, Failure> {
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
    result
        .validate()
        .map_err(|error| Failure::of(Exit::Usage, &error))?;
    Ok(result)
}

/// ImageNet's mean and standard deviation, and the size that its networks mostly take.
fn imagenet(result: &mut Preprocessing) {
    result.input = ImageShape::new(224, 224, 3);
    result.resize = ResizeRule::Crop;
    result.channels = ChannelRule::ToRgb;
    result.mean = vec![0.485, 0.456, 0.406];
    result.std = vec![0.229, 0.224, 0.225];
}

fn from_file(file: &str) -> Result<Preprocessing, Failure> {
    /// Longer than any that is meant.
    const LIMIT: u64 = 1 << 20;
    let text = read_text(file, LIMIT).map_err(|error| Failure {
        causes: vec![error.to_string()],
        ..Failure::new(Exit::Failed, format!("cannot read {file}"))
    })?;
    serde_json::from_str(&text).map_err(|error| Failure {
        causes: vec![error.to_string()],
        ..Failure::new(Exit::Failed, format!("{file} is no preprocessing"))
    })
}

/// Changes one setting, written `key=value`.
fn set(result: &mut Preprocessing, how: &str, setting: &str) -> Result<(), Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    let (key, value) = setting.split_once('=').ok_or_else(|| {
        usage(format!("--preprocess {how:?}: {setting:?} is no setting"))
            .with_hint("pixels, imagenet, FILE.json, or size=32,mean=0.5,std=0.25".to_owned())
    })?;
    let wrong = || usage(format!("--preprocess: {key} cannot be {value:?}"));
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
        _ => {
            return Err(usage(format!("--preprocess has no setting {key:?}"))
                .with_hint("size, shorter-side, mean, std, divide, resize".to_owned()));
        }
    }
    Ok(())
}

//! `run.toml`: settings read from a file, and written so that the file reruns what it describes.

use std::fmt::Write as _;
use std::path::Path;

use keepbest_core::text::wrapped;
use keepbest_model::OtherLoop;
use toml::de::{DeTable, DeValue};

use super::{Key, Origin, Settings, SettingsError};

/// Longest `run.toml` read, in bytes.
const FILE_LIMIT: u64 = 1 << 20;

impl Settings {
    /// Reads the text of a `run.toml`. Keys are those of the flags; an unknown one is an error.
    ///
    /// # Errors
    /// [`SettingsError`], with the line.
    ///
    /// ```
    /// let settings = keepbest_train::Settings::from_toml("epochs = 3\naugment = \"flip\"").unwrap();
    /// assert_eq!(settings.epochs, Some(3));
    /// let error = keepbest_train::Settings::from_toml("epoch = 3").unwrap_err();
    /// assert_eq!(error.to_string(), "line 1: epoch is no setting");
    /// assert_eq!(error.hint().unwrap(), "did you mean epochs?");
    /// ```
    pub fn from_toml(text: &str) -> Result<Self, SettingsError> {
        let table = DeTable::parse(text).map_err(|error| SettingsError::Syntax {
            line: error.span().map_or(1, |span| line_of(text, span.start)),
            message: error.message().trim().replace('\n', ", "),
        })?;
        if let Some(by) = OtherLoop::of_config(text) {
            return Err(SettingsError::OtherLoop { by });
        }
        let mut settings = Self::default();
        for (key, value) in table.get_ref() {
            let origin = Origin::File {
                line: line_of(text, key.span().start),
            };
            let name = key.get_ref().as_ref();
            // Checked before its value: a mistyped key with a table below it is still a mistyped key.
            let Some(known) = Self::find(name) else {
                settings.set(name, "", origin)?;
                continue;
            };
            match value.get_ref() {
                DeValue::Array(items) if known.repeats && items.is_empty() => {
                    settings.set_empty(known, origin)?;
                }
                DeValue::Array(items) if known.repeats => {
                    for item in items {
                        settings.set(name, &scalar(item.get_ref(), known.name, origin)?, origin)?;
                    }
                }
                DeValue::Array(items) => {
                    let parts: Result<Vec<_>, _> = items
                        .iter()
                        .map(|item| scalar(item.get_ref(), known.name, origin))
                        .collect();
                    settings.set(name, &parts?.join(","), origin)?;
                }
                value => settings.set(name, &scalar(value, known.name, origin)?, origin)?,
            }
        }
        Ok(settings)
    }

    /// Reads a `run.toml`.
    ///
    /// # Errors
    /// [`SettingsError::Read`], or [`SettingsError::InFile`] with what is wrong in it.
    pub fn from_file(path: &Path) -> Result<Self, SettingsError> {
        let text = keepbest_formats::read_text(path, FILE_LIMIT).map_err(|source| {
            SettingsError::Read {
                path: path.into(),
                source,
            }
        })?;
        Self::from_toml(&text).map_err(|error| SettingsError::InFile {
            path: path.into(),
            source: Box::new(error),
        })
    }

    /// The settings that are given, as TOML by name.
    pub fn to_table(&self) -> toml::Table {
        let written = |key: &Key| Some((key.name.to_owned(), (key.access.written)(self)?));
        Self::KEYS.iter().filter_map(written).collect()
    }

    /// Sets a list to one without items. A setting that needs one refuses, as it refuses no text.
    fn set_empty(&mut self, key: &Key, origin: Origin) -> Result<(), SettingsError> {
        if (key.access.put_empty)(self) {
            return Ok(());
        }
        self.set(key.name, "", origin)
    }
}

/// A setting that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangedSetting {
    /// Its name.
    pub key: String,
    /// The recorded value, as TOML; `absent` when there was none.
    pub recorded: String,
    /// The present value, likewise.
    pub found: String,
}

/// The settings that differ from recorded ones, by name.
#[must_use]
pub fn changed_settings(found: &Settings, recorded: &toml::Table) -> Vec<ChangedSetting> {
    let found = found.to_table();
    let mut keys: Vec<&String> = found.keys().chain(recorded.keys()).collect();
    keys.sort();
    keys.dedup();
    let word = |value: Option<&toml::Value>| value.map_or("absent".into(), ToString::to_string);
    keys.into_iter()
        .filter(|key| found.get(*key) != recorded.get(*key))
        .map(|key| ChangedSetting {
            key: key.clone(),
            recorded: word(recorded.get(key)),
            found: word(found.get(key)),
        })
        .collect()
}

/// The text of a `run.toml` with these settings, each under its heading and explained, and `preface` as a comment.
///
/// [`Settings::from_toml`] reads the same settings back.
pub fn to_toml(settings: &Settings, preface: &str) -> String {
    let mut text = String::new();
    for line in preface.lines() {
        let _ = writeln!(text, "{}", format!("# {line}").trim_end());
    }
    let mut group = None;
    for key in Settings::KEYS {
        let Some(value) = (key.access.written)(settings) else {
            continue;
        };
        if group != Some(key.group) {
            group = Some(key.group);
            let _ = writeln!(text, "\n# ---- {} ----", key.group.title());
        }
        text.push('\n');
        for line in wrapped(key.help, 78) {
            let _ = writeln!(text, "# {line}");
        }
        let _ = writeln!(text, "{} = {value}", key.name);
    }
    text
}

fn scalar(value: &DeValue<'_>, key: &'static str, origin: Origin) -> Result<String, SettingsError> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Boolean(truth) => Ok(truth.to_string()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| wrong(key, number.as_str(), origin)),
        DeValue::Datetime(time) => Err(wrong(key, &time.to_string(), origin)),
        DeValue::Array(_) => Err(wrong(key, "a list in a list", origin)),
        DeValue::Table(_) => Err(wrong(key, "a table", origin)),
    }
}

fn wrong(key: &'static str, found: &str, origin: Origin) -> SettingsError {
    SettingsError::Value {
        key,
        found: found.into(),
        expected: "a plain value".into(),
        origin,
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text
        .as_bytes()
        .iter()
        .take(at)
        .filter(|byte| **byte == b'\n')
        .count()
}

#[cfg(test)]
mod tests {
    use super::super::{ClassWeights, EvalEvery};
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut settings = Settings::default();
        for (name, text) in [
            ("data", "a \"quoted\" name"),
            ("augment", "flip,shift:3"),
            ("lr", "0.05"),
            ("min-delta", "0.1%"),
            ("patience", "none"),
            ("class-weights", "1,2.5,0"),
            ("constraint", "val/recall_macro >= 0.9"),
            ("constraint", "val/loss < 1"),
            ("eval-every", "100"),
            ("seed", "18446744073709551615"),
            ("image-size", "24x32"),
        ] {
            settings.set(name, text, Origin::Flag).unwrap();
        }
        settings.keep = Some(Vec::new());
        let text = to_toml(&settings, "made by a test\n\nand read back");
        assert_eq!(Settings::from_toml(&text).unwrap(), settings, "{text}");
        assert_eq!(settings.constraint.unwrap().len(), 2);
    }

    #[test]
    fn toml_numbers_lists_and_words_are_read() {
        let settings = Settings::from_toml(
            "class-weights = [1, 2.0]\nseed = 0x10\nbatch-size = 1_000\neval-every = \"epoch\"\nnesterov = false",
        )
        .unwrap();
        assert_eq!(
            settings.class_weights,
            Some(ClassWeights::List(vec![1.0, 2.0]))
        );
        assert_eq!(settings.seed, Some(16));
        assert_eq!(settings.batch_size, Some(1000));
        assert_eq!(settings.eval_every, Some(EvalEvery::Epoch));
        assert_eq!(settings.nesterov, Some(false));
    }

    #[test]
    fn errors_name_line_key_and_value() {
        let told = |text: &str| Settings::from_toml(text).unwrap_err().to_string();
        assert_eq!(
            told("\n\nlr = nan"),
            "line 3: lr must be a finite number above 0, found \"nan\""
        );
        assert_eq!(
            told("epochs = -1"),
            "line 1: epochs must be a whole number from 1 to 1,000,000,000, found \"-1\""
        );
        assert_eq!(told("[train]\nepochs = 1"), "line 1: train is no setting");
        assert_eq!(
            told("epochs = 1\nepochs = 2").split(':').next(),
            Some("line 2")
        );
        assert!(told("epochs = ").starts_with("line 1: not TOML"));
        assert_eq!(
            told("optimizer = \"adamm\""),
            "line 1: optimizer must be one of sgd, adam or adamw (did you mean adam?), found \"adamm\""
        );
    }

    #[test]
    fn settings_above_win() {
        let above = Settings::from_toml("epochs = 1").unwrap();
        let below = Settings::from_toml("epochs = 2\nlr = 0.5").unwrap();
        let both = above.over(below);
        assert_eq!((both.epochs, both.lr), (Some(1), Some(0.5)));
        assert_eq!(both.given(), ["epochs", "lr"]);
    }
}

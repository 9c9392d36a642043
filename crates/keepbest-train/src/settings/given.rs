//! Settings as they are given: by name, from text, one above another.

use keepbest_core::suggest::nearest;

use super::key;
use super::{Key, Origin, Settings, SettingsError};

const DEVICE: &str = Settings::known("device").name;

impl Settings {
    /// The setting of this name.
    pub fn find(name: &str) -> Option<&'static Key> {
        Self::KEYS.iter().find(|key| key.name == name)
    }

    /// The setting of a name that this program itself writes. Of a constant, a name that is no setting does not compile.
    pub(crate) const fn known(name: &str) -> &'static Key {
        match key::position(Self::KEYS, name) {
            Some(at) => &Self::KEYS[at],
            None => panic!("no setting has this name"),
        }
    }

    /// Sets one by name from text; a setting that repeats grows by an item.
    ///
    /// # Errors
    /// [`SettingsError`] for a name that does not exist or a value of another kind.
    pub fn set(&mut self, name: &str, text: &str, origin: Origin) -> Result<(), SettingsError> {
        let Some(key) = Self::find(name) else {
            return Err(SettingsError::UnknownKey {
                key: name.into(),
                nearest: nearest(name, Self::KEYS.iter().map(|key| key.name)),
                origin,
            });
        };
        let put = match &key.range {
            Some(range) if !range.holds(text) => Err(range.expected.into()),
            Some(range) => (key.access.put)(self, text).map_err(|_| range.expected.into()),
            None => (key.access.put)(self, text),
        };
        put.map_err(|expected| SettingsError::Value {
            key: key.name,
            found: text.into(),
            expected,
            origin,
        })
    }

    /// These settings, and those of `below` where these say nothing.
    #[must_use]
    pub fn over(self, mut below: Self) -> Self {
        // One way to say how long replaces the other.
        if self.time_budget.is_some() {
            below.epochs = None;
        } else if self.epochs.is_some() {
            below.time_budget = None;
        }
        // What one device has, another may not.
        if self.device.is_some() && self.device != below.device {
            for key in Self::KEYS.iter().filter(|key| key.only.is_some()) {
                if key.follows.contains(&DEVICE) {
                    (key.access.forget)(&mut below);
                }
            }
        }
        self.or(below)
    }

    /// Tests every given value, for settings that were not made by [`Settings::set`].
    ///
    /// # Errors
    /// [`SettingsError::Value`] for the first that is out of range.
    pub fn check(&self) -> Result<(), SettingsError> {
        for key in self.given_keys() {
            match (key.access.written)(self) {
                None | Some(toml::Value::Array(_)) => {}
                Some(value) => Self::default().set(key.name, &plain(&value), Origin::Code)?,
            }
        }
        Ok(())
    }

    /// The settings that are given, in order.
    pub(crate) fn given_keys(&self) -> impl Iterator<Item = &'static Key> {
        Self::KEYS
            .iter()
            .filter(|key| (key.access.written)(self).is_some())
    }

    /// Names of the settings that are given, in order.
    pub fn given(&self) -> Vec<&'static str> {
        self.given_keys().map(|key| key.name).collect()
    }

    /// The value of one as text, when it is given: what [`Settings::set`] takes, lists joined by commas.
    pub fn text_of(&self, name: &str) -> Option<String> {
        Some(match self.written(name)? {
            toml::Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
            value => plain(&value),
        })
    }

    /// The value of one as TOML, when it is given.
    pub(crate) fn written(&self, name: &str) -> Option<toml::Value> {
        (Self::find(name)?.access.written)(self)
    }

    /// The settings that decide the trained model, without those of what is kept beside it, told of it, and how long a session
    /// may last.
    #[must_use]
    pub fn result_alone(mut self) -> Self {
        for key in Self::KEYS.iter().filter(|key| key.beside_result) {
            (key.access.forget)(&mut self);
        }
        self
    }
}

/// A value as a flag has it: text without its quotes.
fn plain(value: &toml::Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), ToOwned::to_owned)
}

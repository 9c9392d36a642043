//! The kinds of value a setting can have, each read from one word and written back as TOML.

use std::path::PathBuf;

use keepbest_core::classification::DecisionMetric;
use keepbest_core::suggest::nearest;

/// A value that a flag or a key of `run.toml` can hold.
///
/// Both come as text (`--epochs 5`, `epochs = 5`), so that a flag and its key accept the same.
pub(crate) trait Value: Sized {
    /// Reads the value; the error says what was expected ("a whole number of 1 or more").
    fn read(text: &str) -> Result<Self, String>;
    /// The value as TOML, read back by [`Value::read`].
    fn write(&self) -> toml::Value;

    /// Whether it may be given several times.
    const REPEATS: bool = false;
    /// Whether a flag without a value means `true`.
    const SWITCH: bool = false;

    /// Puts the value in its place: what repeats grows, all else is replaced.
    fn put(self, place: &mut Option<Self>) {
        *place = Some(self);
    }
    /// A list of nothing, of what can be one.
    fn empty() -> Option<Self> {
        None
    }
}

impl Value for String {
    fn read(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            Err("text that is not empty".into())
        } else {
            Ok(text.trim().into())
        }
    }
    fn write(&self) -> toml::Value {
        self.as_str().into()
    }
}

impl Value for PathBuf {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Err("a path".into())
        } else {
            Ok(text.into())
        }
    }
    fn write(&self) -> toml::Value {
        self.to_string_lossy().into_owned().into()
    }
}

impl Value for bool {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("true or false".into()),
        }
    }
    fn write(&self) -> toml::Value {
        (*self).into()
    }

    const SWITCH: bool = true;
}

macro_rules! whole_number {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn read(text: &str) -> Result<Self, String> {
                text.replace('_', "").parse().map_err(|_| "a whole number".into())
            }
            fn write(&self) -> toml::Value {
                match i64::try_from(*self) {
                    Ok(number) => number.into(),
                    // TOML integers end at 2^63 - 1: beyond that the same digits as text.
                    Err(_) => self.to_string().into(),
                }
            }
        }
    )*};
}
whole_number!(u32, u64, usize);

impl Value for f64 {
    fn read(text: &str) -> Result<Self, String> {
        match text.replace('_', "").parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err("a finite number".into()),
        }
    }
    fn write(&self) -> toml::Value {
        (*self).into()
    }
}

impl Value for DecisionMetric {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| one_of(text, DecisionMetric::names()))
    }
    fn write(&self) -> toml::Value {
        self.to_string().into()
    }
}

/// A list: one item a flag (`--keep best:3 --keep last:2`), an array in TOML.
impl Value for Vec<String> {
    fn read(text: &str) -> Result<Self, String> {
        String::read(text).map(|item| vec![item])
    }
    fn write(&self) -> toml::Value {
        self.clone().into()
    }

    const REPEATS: bool = true;

    fn put(self, place: &mut Option<Self>) {
        place.get_or_insert_default().extend(self);
    }
    fn empty() -> Option<Self> {
        Some(Vec::new())
    }
}

/// A value that can be left out: `none` (or `off`).
impl<T: Value> Value for Option<T> {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "none" | "off" => Ok(None),
            _ => T::read(text)
                .map(Some)
                .map_err(|expected| format!("{expected}, or none")),
        }
    }
    fn write(&self) -> toml::Value {
        self.as_ref().map_or_else(|| "none".into(), T::write)
    }
}

/// Defines an enum of words, with its reading, writing and `Display`.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Every word there is, in the order shown to users.
            pub const WORDS: &'static [&'static str] = &[$($word),+];
            /// The word for this choice.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
        impl $crate::settings::value::Value for $name {
            fn read(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::settings::value::one_of(text, Self::WORDS)),
                }
            }
            fn write(&self) -> toml::Value {
                self.word().into()
            }
        }
    };
}
pub(crate) use choice;

/// "one of a, b or c", with the nearest pointed out.
pub(crate) fn one_of(found: &str, words: &[&str]) -> String {
    let list = match words {
        [] => String::new(),
        [only] => (*only).into(),
        [front @ .., last] => format!("{} or {last}", front.join(", ")),
    };
    match nearest(found, words.iter().copied()) {
        Some(word) => format!("one of {list} (did you mean {word}?)"),
        None => format!("one of {list}"),
    }
}

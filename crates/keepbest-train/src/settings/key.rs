//! One setting's row: everything there is to know about a setting besides its value.

use super::Settings;

/// One setting: its name (the flag without `--`, the key in `run.toml`) and all that holds for it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Key {
    /// `batch-size`
    pub name: &'static str,
    /// `N`
    pub value_name: &'static str,
    /// One or two sentences, without a full stop at the end.
    pub help: &'static str,
    /// The heading it stands under.
    pub group: Group,
    /// Whether the flag may be given several times.
    pub repeats: bool,
    /// Whether the flag says `true` without a value.
    pub switch: bool,
    /// Whether [`Config`](super::Config) has it. The others say where a run is found, or lead to one that it has.
    pub decided: bool,
    /// Whether its default depends on the images or on other settings; its help says how.
    pub derived: bool,
    /// The choice that has this setting, in words (`optimizer sgd`), where not every run does.
    pub only: Option<fn() -> String>,
    /// Names of the settings from which its default, or whether a run has it, follows.
    pub follows: &'static [&'static str],
    /// Whether a resumed run may have it otherwise.
    pub may_change_on_resume: bool,
    /// Whether it decides what is kept beside the result, what is told of it or how long a session lasts, and not what is
    /// trained: a run is reproduced without.
    pub beside_result: bool,
    /// Whether `run.toml` leaves it out when it is none.
    pub unwritten_when_none: bool,
    pub(super) range: Option<Range>,
    pub(super) access: Access,
}

/// The values that make sense, where not all that can be read do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    /// The values in words.
    pub expected: &'static str,
    test: Test,
}

#[derive(Debug, Clone, Copy)]
enum Test {
    Number(fn(f64) -> bool),
    Text(fn(&str) -> bool),
}

/// Access to a setting's field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    /// Puts the value of a text in its place; the error says what was expected.
    pub put: fn(&mut Settings, &str) -> Result<(), String>,
    /// Puts an empty list in its place, if it is a list.
    pub put_empty: fn(&mut Settings) -> bool,
    /// The value as TOML, when it is given.
    pub written: fn(&Settings) -> Option<toml::Value>,
    /// Takes the value back, as if it had not been given.
    pub forget: fn(&mut Settings),
}

/// The attributes that a row can have.
impl Key {
    /// Only numbers that pass the test, in words `expected`.
    pub(super) const fn number(self, expected: &'static str, test: fn(f64) -> bool) -> Self {
        let test = Test::Number(test);
        let range = Some(Range { expected, test });
        Self { range, ..self }
    }

    /// Only texts that pass the test, in words `expected`.
    pub(super) const fn text(self, expected: &'static str, test: fn(&str) -> bool) -> Self {
        let test = Test::Text(test);
        let range = Some(Range { expected, test });
        Self { range, ..self }
    }

    /// See [`Key::derived`].
    pub(super) const fn derived(self) -> Self {
        Self {
            derived: true,
            ..self
        }
    }

    /// See [`Key::only`].
    pub(super) const fn only(self, owner: fn() -> String) -> Self {
        Self {
            only: Some(owner),
            ..self
        }
    }

    /// See [`Key::follows`].
    pub(super) const fn follows(self, follows: &'static [&'static str]) -> Self {
        Self { follows, ..self }
    }

    /// See [`Key::may_change_on_resume`].
    pub(super) const fn may_change_on_resume(self) -> Self {
        Self {
            may_change_on_resume: true,
            ..self
        }
    }

    /// See [`Key::beside_result`].
    pub(super) const fn beside_result(self) -> Self {
        Self {
            beside_result: true,
            ..self
        }
    }

    /// See [`Key::unwritten_when_none`].
    pub(super) const fn unwritten_when_none(self) -> Self {
        Self {
            unwritten_when_none: true,
            ..self
        }
    }
}

impl Range {
    /// Whether a text lies in it. What should be a number and is none is left to whoever reads the value.
    pub(super) fn holds(&self, text: &str) -> bool {
        match self.test {
            Test::Number(test) => match text.replace('_', "").parse::<f64>() {
                Ok(number) => number.is_finite() && test(number),
                Err(_) => true,
            },
            Test::Text(test) => test(text.trim()),
        }
    }
}

/// Headings of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Group {
    /// Images, split, augmentation.
    Data,
    /// The network.
    Model,
    /// Optimizer, schedule, loss.
    Training,
    /// The meaning of best.
    Best,
    /// Files that are written, and their place.
    Saving,
}

impl Group {
    /// The heading in `run.toml`.
    pub fn title(self) -> &'static str {
        match self {
            Self::Data => "Data",
            Self::Model => "Model",
            Self::Training => "Training",
            Self::Best => "What best means",
            Self::Saving => "Saving",
        }
    }

    /// The heading in help, where "model" means a file.
    pub fn help_title(self) -> &'static str {
        match self {
            Self::Model => "Network",
            other => other.title(),
        }
    }
}

/// Refuses to compile rows that contradict one another: a name given twice, and a source that is no setting.
pub(super) const fn check(keys: &[Key]) {
    let mut at = 0;
    while at < keys.len() {
        let key = &keys[at];
        assert!(
            matches!(position(keys, key.name), Some(first) if first == at),
            "two settings have one name"
        );
        let mut source = 0;
        while source < key.follows.len() {
            assert!(
                position(keys, key.follows[source]).is_some(),
                "a setting follows from a name that is no setting"
            );
            source += 1;
        }
        at += 1;
    }
}

/// The first key of this name.
pub(super) const fn position(keys: &[Key], name: &str) -> Option<usize> {
    let mut at = 0;
    while at < keys.len() {
        if is_spelt(keys[at].name, name, b'-') {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Whether a setting's name is its field's, with `-` for `_`.
pub(super) const fn is_name_of(name: &str, field: &str) -> bool {
    is_spelt(name, field, b'_')
}

/// Whether the text is the name, written with this for a hyphen.
const fn is_spelt(name: &str, text: &str, hyphen: u8) -> bool {
    let (name, text) = (name.as_bytes(), text.as_bytes());
    let mut at = 0;
    while at < name.len() && at < text.len() {
        let expected = if name[at] == b'-' { hyphen } else { name[at] };
        if text[at] != expected {
            return false;
        }
        at += 1;
    }
    name.len() == text.len()
}

//! The macro that makes everything of the rows in [`super::rows`].

/// Defines [`Settings`](super::Settings), [`Config`](super::Config) and everything there is to know about a setting from one row
/// each:
///
/// ```text
/// field: Type = "name" "VALUE" "Help." .attribute(..), default EXPRESSION, only if CONDITION => OWNER;
/// ```
///
/// Attributes are the methods of [`Key`](super::Key). A row without `default` is in `Settings` alone. In a default and a condition,
/// the settings of the rows above, decided, have the names of their fields; the name in front of all rows is that of
/// [`DataDefaults`](super::DataDefaults). A setting that has an `only` is an `Option` in `Config`; its owner is, in words, the choice
/// that it is a setting of.
macro_rules! settings {
    ($images:ident; $( [$group:ident] $(
        $field:ident: $type:ty = $name:literal $value_name:literal $help:literal
            $( .$attribute:ident($($argument:expr),*) )*
            $( , default $default:expr $( , only if $applies:expr => $owner:expr )? )?
    ; )* )*) => {
        /// Settings as given, each of them optional. [`Config`] is the same with every one decided.
        #[derive(Debug, Clone, Default, PartialEq)]
        #[non_exhaustive]
        pub struct Settings {
            $($(
                #[doc = $help]
                pub $field: Option<$type>,
            )*)*
            /// Names of the settings above whose values nobody chose: they followed from the images of the run that recorded them.
            pub(super) from_images: Vec<&'static str>,
        }

        impl Settings {
            /// Every setting there is, in the order that help and `run.toml` show.
            pub const KEYS: &'static [Key] = &[$($(
                Key {
                    name: $name,
                    value_name: $value_name,
                    help: $help,
                    group: Group::$group,
                    repeats: <$type as Value>::REPEATS,
                    switch: <$type as Value>::SWITCH,
                    decided: !stringify!($($default)?).is_empty(),
                    derived: false,
                    only: None,
                    follows: &[],
                    may_change_on_resume: false,
                    beside_result: false,
                    unwritten_when_none: false,
                    range: None,
                    access: Access {
                        put: |settings, text| {
                            <$type as Value>::read(text).map(|value| value.put(&mut settings.$field))
                        },
                        put_empty: |settings| {
                            let empty = <$type as Value>::empty();
                            let is_list = empty.is_some();
                            settings.$field = empty.or(settings.$field.take());
                            is_list
                        },
                        written: |settings| settings.$field.as_ref().map(Value::write),
                        forget: |settings| settings.$field = None,
                    },
                }
                $( .$attribute($($argument),*) )*
                $( $( .only(|| $owner.into()) )? )?,
            )*)*];

            /// These settings, and those of `below` where these say nothing.
            pub(super) fn or(self, below: Self) -> Self {
                let followed = below.from_images.iter().filter(|name| self.written(name).is_none());
                let from_images = self.from_images.iter().chain(followed).copied().collect();
                Self { $($( $field: self.$field.or(below.$field), )*)* from_images }
            }
        }

        const _: () = {
            key::check(Settings::KEYS);
            $($( assert!(key::is_name_of($name, stringify!($field)), $name); )*)*
        };

        /// Everything a run depends on besides the data itself.
        ///
        /// ```
        /// use keepbest_train::{Config, DataDefaults, Settings};
        /// let given = Settings::from_toml("epochs = 3\noptimizer = \"adamw\"").unwrap();
        /// let config = Config::resolve(given, &DataDefaults::default()).unwrap();
        /// assert_eq!((config.epochs, config.lr), (3, 0.002));
        /// // What it writes reruns it.
        /// let again = Settings::from_toml(&config.to_toml("")).unwrap();
        /// assert_eq!(Config::resolve(again, &DataDefaults::default()).unwrap(), config);
        /// ```
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub struct Config { $($($(
            #[doc = $help]
            pub $field: decided_type!($default => $type $( , $owner )?),
        )?)*)* }

        impl Config {
            /// Decides every setting that is not given.
            pub(super) fn decide(given: Settings, $images: &DataDefaults) -> Self {
                $($($(
                    let $field = decided!(given.$field.unwrap_or_else(|| $default) $( , $applies )?);
                )?)*)*
                Self { $($($( $field: named!($default => $field), )?)*)* }
            }

            /// All that a run has, given.
            pub(super) fn given(self) -> Settings {
                Settings {
                    $($( $field: given!($( $default => self.$field $( , $owner )? )?), )*)*
                    from_images: Vec::new(),
                }
            }
        }
    };
}

/// The type of a setting's field in `Config`: that of its value, optional when not every run has it. The default is named for the
/// sake of the repetition alone.
macro_rules! decided_type {
    ($default:expr => $type:ty) => { $type };
    ($default:expr => $type:ty, $owner:expr) => { Option<$type> };
}

/// The value of a setting's field in `Config`, which is absent where its condition does not hold.
macro_rules! decided {
    ($value:expr) => {
        $value
    };
    ($value:expr, $applies:expr) => {
        ($applies).then(|| $value)
    };
}

/// A name alone.
macro_rules! named {
    ($default:expr => $field:ident) => {
        $field
    };
}

/// The value of a setting's field in `Settings`, of that in `Config`.
macro_rules! given {
    () => {
        None
    };
    ($default:expr => $value:expr) => {
        Some($value)
    };
    ($default:expr => $value:expr, $owner:expr) => {
        $value
    };
}

pub(super) use {decided, decided_type, given, named, settings};

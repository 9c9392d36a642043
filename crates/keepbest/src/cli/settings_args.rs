//! The settings of a run as flags of `train`.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use keepbest_train::{Config, DataDefaults, Key, Origin, Settings};

/// The settings of a run as flags, made from [`Settings::KEYS`]: every flag is a key of `run.toml`.
#[derive(Debug)]
pub(super) struct SettingsArgs {
    /// Flags as given, in order.
    given: Vec<(&'static str, String)>,
}

impl SettingsArgs {
    /// The flags, read.
    pub(super) fn settings(&self) -> Result<Settings, keepbest_train::SettingsError> {
        let mut settings = Settings::default();
        for (name, text) in &self.given {
            settings.set(name, text, Origin::Flag)?;
        }
        Ok(settings)
    }
}

impl FromArgMatches for SettingsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Vec::new();
        for key in Settings::KEYS {
            for text in matches.get_many::<String>(key.name).into_iter().flatten() {
                given.push((key.name, text.clone()));
            }
        }
        Ok(Self { given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for SettingsArgs {
    fn augment_args(mut command: Command) -> Command {
        let defaults = Config::resolve(Settings::default(), &DataDefaults::default())
            .map(|config| config.to_settings())
            .unwrap_or_default();
        let mut order = 10;
        for key in Settings::KEYS {
            order += 1;
            command = command.arg(
                Arg::new(key.name)
                    .long(key.name)
                    .value_name(key.value_name)
                    .help(described(key, &defaults))
                    .help_heading(key.group.help_title())
                    .display_order(order)
                    .allow_hyphen_values(!key.switch)
                    .num_args(if key.switch { 0..=1 } else { 1..=1 })
                    .default_missing_value("true")
                    .action(if key.repeats {
                        ArgAction::Append
                    } else {
                        ArgAction::Set
                    }),
            );
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// What a setting is, with its default where that depends on nothing else.
fn described(key: &Key, defaults: &Settings) -> String {
    match defaults.text_of(key.name) {
        Some(value) if !key.derived && !value.is_empty() => {
            format!("{} [default: {value}]", key.help)
        }
        _ => key.help.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::cli::args::{Cli, Verb};

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_train_is_a_key_of_run_toml() {
        let command = Cli::command();
        let train = command.find_subcommand("train").unwrap();
        // These say which run, or how to talk about it, and change nothing in it.
        let of_the_command = [
            "resume", "config", "quiet", "json", "help", "profile", "tui",
        ];
        for flag in train.get_arguments().filter_map(|arg| arg.get_long()) {
            let is_key = Settings::KEYS.iter().any(|key| key.name == flag);
            assert!(is_key != of_the_command.contains(&flag), "--{flag}");
        }
    }

    #[test]
    fn flags_become_settings() {
        let cli = Cli::parse_from([
            "keepbest",
            "train",
            "--lr",
            "0.5",
            "--keep",
            "best:3",
            "--keep",
            "last:2",
            "--min-delta=-1",
        ]);
        let Verb::Train(args) = cli.verb else {
            panic!("another verb")
        };
        let settings = args.settings.settings().unwrap();
        assert_eq!(settings.lr, Some(0.5));
        assert_eq!(settings.keep, Some(vec!["best:3".into(), "last:2".into()]));
        assert_eq!(settings.given(), ["lr", "min-delta", "keep"]);
    }
}

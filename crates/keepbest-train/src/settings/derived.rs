//! Settings that follow from others, in a file that records every one of a run.

use super::{Config, DataDefaults, Key, Settings};

/// A recorded setting that was left out, and is another now, because it follows from one that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rederived {
    /// Its name.
    pub name: &'static str,
    /// The recorded value, as text.
    pub recorded: String,
    /// The setting that changed.
    pub from: &'static str,
}

impl Settings {
    /// These settings, and those of a run's `run.toml` where these say nothing. A recorded value that is what followed from
    /// another setting, which these change, is left out: it follows anew. So 24 epochs with their warm-up of 6 become 2 with one of
    /// 0.5. A value that was chosen by itself stays.
    ///
    /// ```
    /// use keepbest_train::{Config, DataDefaults, Settings};
    ///
    /// let recorded = Config::resolve(Settings::default(), &DataDefaults::default())?.to_settings();
    /// let (settings, following) = Settings::from_toml("epochs = 2")?.over_recorded(recorded);
    /// assert_eq!(following[0].name, "warmup");
    /// assert_eq!(Config::resolve(settings, &DataDefaults::default())?.warmup, 0.5);
    /// # Ok::<(), keepbest_train::SettingsError>(())
    /// ```
    #[must_use]
    pub fn over_recorded(self, mut recorded: Self) -> (Self, Vec<Rederived>) {
        let mut following = Vec::new();
        let whole = recorded.clone();
        for key in Self::KEYS {
            let changed = key.follows.iter().find(|source| {
                let given = self.written(source);
                given.is_some() && given != whole.written(source)
            });
            if let (Some(from), Some(text)) = (changed, whole.text_of(key.name))
                && self.written(key.name).is_none()
                && whole.has_derived(key)
            {
                (key.access.forget)(&mut recorded);
                following.push(Rederived {
                    name: key.name,
                    recorded: text,
                    from,
                });
            }
        }
        let settings = self.over(recorded);
        // What follows as it did before is no news.
        if let Ok(config) = Config::resolve(settings.clone(), &DataDefaults::default()) {
            let anew = config.to_settings();
            following.retain(|it| anew.written(it.name) != whole.written(it.name));
        }
        (settings, following)
    }

    /// Whether a setting has the value that it would have if it were not given.
    fn has_derived(&self, key: &Key) -> bool {
        let mut without = self.clone();
        (key.access.forget)(&mut without);
        Config::resolve(without, &DataDefaults::default()).is_ok_and(|config| {
            (key.access.written)(&config.to_settings()) == (key.access.written)(self)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(text: &str) -> Settings {
        let given = Settings::from_toml(text).unwrap();
        let config = Config::resolve(given, &DataDefaults::default()).unwrap();
        config.to_settings()
    }

    /// The names that are left out, and the configuration.
    fn changed(before: &str, flags: &str) -> (Vec<&'static str>, Config) {
        let flags = Settings::from_toml(flags).unwrap();
        let (settings, following) = flags.over_recorded(recorded(before));
        let config = Config::resolve(settings, &DataDefaults::default()).unwrap();
        (following.iter().map(|it| it.name).collect(), config)
    }

    #[test]
    fn what_followed_follows_anew() {
        let (names, config) = changed("", "epochs = 2");
        assert_eq!((names, config.warmup), (vec!["warmup"], 0.5));
        let (names, config) = changed("", "optimizer = \"adamw\"");
        assert_eq!(names, ["lr", "momentum", "nesterov", "weight-decay"]);
        assert_eq!((config.lr, config.weight_decay), (0.002, 0.01));
        let (names, config) = changed("", "batch-size = 16");
        assert_eq!((names, config.lr), (vec!["lr"], 0.0125));
        let (names, config) = changed("schedule = \"step\"", "epochs = 6");
        assert_eq!((names, config.lr_step), (vec!["lr-step"], Some(2.0)));
        let (names, config) = changed("recipe = \"quick\"", "swa = 0.5");
        assert_eq!((names, config.ema), (vec!["ema"], None));
        let (names, config) = changed("", "monitor = \"val/f1_macro\"");
        assert_eq!((names, config.tie_break), (vec!["tie-break"], None));
    }

    #[test]
    fn what_was_chosen_stays() {
        let (names, config) = changed("warmup = 1", "epochs = 2");
        assert_eq!((names, config.warmup), (vec![], 1.0));
        // As does all else when nothing changes, or what follows is given as well.
        assert!(changed("", "epochs = 24").0.is_empty());
        assert!(changed("", "seed = 3").0.is_empty());
        let (names, config) = changed("", "epochs = 2\nwarmup = 2");
        assert_eq!((names, config.warmup), (vec![], 2.0));
    }
}

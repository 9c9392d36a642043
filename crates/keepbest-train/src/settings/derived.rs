//! Settings that follow from others, in a file that records every one of a run.

use keepbest_data::{ImageShape, Mirrored};

use super::rows::{AUGMENT, DATA, IMAGE_SIZE, RESIZE};
use super::{Config, DataDefaults, Key, Resize, Settings};

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
    /// 0.5; and with other `data`, what followed from the images follows from those. A value that was chosen by itself stays.
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
        let changes = |source: &str| {
            let given = self.written(source);
            given.is_some() && given != whole.written(source)
        };
        for key in Self::KEYS {
            let followed = whole.from_images.contains(&key.name) && changes(DATA);
            let changed = match followed {
                true => Some(DATA),
                false => key.follows.iter().copied().find(|source| changes(source)),
            };
            if let (Some(from), Some(text)) = (changed, whole.text_of(key.name))
                && self.written(key.name).is_none()
                && (followed || whole.has_derived(key))
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
        // What follows as it did before is no news; what images that are not read yet lead to is not known.
        if let Ok(config) = Config::resolve(settings.clone(), &DataDefaults::default()) {
            let anew = config.to_settings();
            following
                .retain(|it| it.from == DATA || anew.written(it.name) != whole.written(it.name));
        }
        (settings, following)
    }

    /// Names of the settings that a run has from its images, and not because anybody chose them.
    pub(crate) fn following_images(&self) -> Vec<&'static str> {
        let mut chosen = self.clone();
        let followed = Self::KEYS.iter();
        for key in followed.filter(|key| self.from_images.contains(&key.name)) {
            (key.access.forget)(&mut chosen);
        }
        // Two data sets that have nothing in common: what is the same for both does not follow from them.
        let small = ImageShape::new(8, 8, 3);
        let few = DataDefaults::new(small, Resize::None, &Mirrored::Same, 40);
        let large = ImageShape::new(96, 96, 3);
        let many = DataDefaults::new(large, Resize::Exact, &other(), 40_000);
        let [few, many] = [few, many].map(|images| Config::led_to(chosen.clone(), &images));
        let differ = |key: &&Key| few.written(key.name) != many.written(key.name);
        let names = Self::KEYS.iter().filter(differ);
        names.map(|key| key.name).collect()
    }

    /// Takes in which of these values followed from the images of a run, by name. Of a file whose run does not tell it, that is told by
    /// the values, as far as it can be.
    pub(crate) fn followed_images(&mut self, recorded: Option<&[String]>) {
        let names: Vec<&str> = match recorded {
            Some(names) => names.iter().map(String::as_str).collect(),
            None => self.as_images_lead_to(),
        };
        let known = Self::KEYS.iter().map(|key| key.name);
        self.from_images = known.filter(|name| names.contains(name)).collect();
    }

    /// Names of the settings whose values are those that images lead to: their own size, where none had to be resized; and the changes
    /// that go with the size, mirrored or not.
    fn as_images_lead_to(&self) -> Vec<&'static str> {
        let (Some(size), Some(resize)) = (self.image_size, self.resize) else {
            return Vec::new();
        };
        let mut names = Vec::new();
        if resize == Resize::None {
            names.extend([IMAGE_SIZE, RESIZE]);
        }
        let input = ImageShape::new(size.height, size.width, 3);
        let is_usual = |augment| {
            [Mirrored::Same, other()].iter().any(|mirrored| {
                let usual = DataDefaults::new(input, resize, mirrored, 0);
                [usual.augment, usual.strong_augment].contains(&augment)
            })
        };
        if self.augment.is_some_and(is_usual) {
            names.push(AUGMENT);
        }
        names
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

/// Images that are of another class when they are mirrored.
fn other() -> Mirrored {
    Mirrored::Other { why: String::new() }
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
    fn what_followed_from_images_follows_from_others() {
        let of = |given: &str| {
            let given = Settings::from_toml(given).unwrap();
            let followed = given.following_images();
            let mut recorded = Config::resolve(given, &DataDefaults::default())
                .unwrap()
                .to_settings();
            let names: Vec<String> = followed.iter().map(ToString::to_string).collect();
            recorded.followed_images(Some(&names));
            (followed, recorded)
        };
        let (followed, recorded) = of("");
        assert_eq!(
            followed,
            ["image-size", "resize", "augment", "batch-size", "lr"]
        );
        let data = Settings::from_toml("data = \"others\"").unwrap();
        let (settings, following) = data.clone().over_recorded(recorded.clone());
        let names: Vec<_> = following.iter().map(|it| it.name).collect();
        assert_eq!(names, followed);
        assert!(following.iter().all(|it| it.from == "data"));
        assert_eq!((settings.batch_size, settings.epochs), (None, Some(24)));
        // A file of a file: what nobody chose is still known.
        let (again, _) = Settings::default().over_recorded(recorded);
        assert_eq!(again.following_images(), followed);
        let (followed, recorded) = of("batch-size = 32\nimage-size = 16\nrecipe = \"quick\"");
        assert_eq!(followed, ["resize", "augment", "epochs", "warmup"]);
        let (settings, _) = data.over_recorded(recorded);
        assert_eq!((settings.batch_size, settings.epochs), (Some(32), None));
    }

    #[test]
    fn without_a_journal_the_values_tell_what_followed_from_images() {
        let of = |text: &str| {
            let mut settings = Settings::from_toml(text).unwrap();
            settings.followed_images(None);
            settings.from_images
        };
        let whole = "image-size = 32\nresize = \"none\"\nbatch-size = 48\n";
        assert_eq!(
            of(&format!("{whole}augment = \"shift:2,flip\"")),
            ["image-size", "resize", "augment"]
        );
        assert_eq!(
            of(&format!("{whole}augment = \"none\"")),
            ["image-size", "resize"]
        );
        assert!(of("image-size = 32\nresize = \"exact\"\naugment = \"flip\"").is_empty());
        assert!(of("augment = \"shift:1,flip\"").is_empty());
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

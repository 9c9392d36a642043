//! Checks that the rows are right, and that nothing else says what they say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Config, DataDefaults, ImageSize, Key, Origin, Resize, Settings};

/// A value of every kind there is: each setting takes some of them.
const VALUES: &[&str] = &[
    "none", "true", "false", "0.25", "3.5", "1", "5", "24x32", "1GiB", "5m", "epoch", "adam",
    "adamw", "constant", "step", "cosine", "plateau", "balanced", "exact", "max", "f1_macro",
    "val/loss", "ema:0.5", "flip", "bf16", "params", "pth",
];

fn set(settings: &Settings, name: &str, text: &str) -> Option<Settings> {
    let mut settings = settings.clone();
    settings.set(name, text, Origin::Code).ok()?;
    Some(settings)
}

/// Every setting that a run has, with what is given and these images.
fn resolved(given: &Settings, images: &DataDefaults) -> Option<Settings> {
    let config = Config::resolve(given.clone(), images).ok()?;
    Some(config.to_settings())
}

/// Settings, other than `given` itself, that are otherwise now: the names, and whether it is a value that changed.
fn changed<'a>(
    (was, is): (&'a Settings, &'a Settings),
    given: &'a str,
) -> impl Iterator<Item = (&'static Key, bool)> {
    Settings::KEYS
        .iter()
        .filter(move |key| key.name != given)
        .map(|key| (key, was.written(key.name), is.written(key.name)))
        .filter(|(_, was, is)| was != is)
        .map(|(key, was, is)| (key, was.is_some() && is.is_some()))
}

#[test]
fn a_default_says_what_it_follows_from() {
    let images = DataDefaults::default();
    let mut derived = BTreeSet::new();
    let bases = [
        "",
        "optimizer = \"adam\"",
        "schedule = \"step\"",
        "schedule = \"plateau\"",
    ];
    for base in bases.map(|text| Settings::from_toml(text).unwrap()) {
        let was = resolved(&base, &images).unwrap();
        // A recipe is a value of many settings, and not a source of any.
        for source in Settings::KEYS.iter().filter(|key| key.name != "recipe") {
            let mut given = VALUES
                .iter()
                .filter_map(|text| set(&base, source.name, text))
                .peekable();
            assert!(given.peek().is_some(), "no value for {}", source.name);
            for is in given.filter_map(|given| resolved(&given, &images)) {
                for (key, by_value) in changed((&was, &is), source.name) {
                    assert!(
                        key.follows.contains(&source.name),
                        "{} changes with {}: its row has to say follows",
                        key.name,
                        source.name
                    );
                    derived.extend(by_value.then_some(key.name));
                }
            }
        }
    }
    let image_size = ImageSize {
        height: 8,
        width: 8,
    };
    let others = DataDefaults {
        image_size,
        resize: Resize::Exact,
        augment: "flip".parse().unwrap(),
        train_images: 5,
        ..images
    };
    let given = Settings::default();
    let both = [&images, &others].map(|images| resolved(&given, images).unwrap());
    derived.extend(changed((&both[0], &both[1]), "").map(|(key, _)| key.name));
    let told = Settings::KEYS.iter().filter(|key| key.derived);
    assert_eq!(
        derived,
        told.map(|key| key.name).collect(),
        "rows that have to say derived"
    );
}

#[test]
fn rows_agree_with_what_a_run_has() {
    let whole = resolved(&Settings::default(), &DataDefaults::default()).unwrap();
    for key in Settings::KEYS {
        let absent = !key.decided || key.only.is_some() || key.unwritten_when_none;
        assert!(absent || whole.written(key.name).is_some(), "{}", key.name);
        assert!(
            key.decided || whole.written(key.name).is_none(),
            "{}",
            key.name
        );
    }
}

/// The sources of these crates, each with its text up to its tests.
fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            found.push((path, code.to_owned()));
        }
    }
}

/// CONTRIBUTING.md: a setting takes its row and its consumer. Names of one word are words of other things, too.
#[test]
fn a_setting_is_named_in_its_row_and_one_file_more_at_most() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for folder in [
        "keepbest",
        "keepbest-keeper",
        "keepbest-model",
        "keepbest-train",
    ] {
        let folder = crates.join(folder).join("src");
        if folder.is_dir() {
            sources(&folder, &mut found);
        }
    }
    for key in Settings::KEYS.iter().filter(|key| key.name.contains('-')) {
        let literal = format!("\"{}\"", key.name);
        let naming = found.iter().filter(|(_, code)| code.contains(&literal));
        let files: Vec<_> = naming.map(|(path, _)| path).collect();
        assert!(
            files.iter().any(|path| path.ends_with("settings/rows.rs")),
            "{literal}"
        );
        assert!(files.len() <= 2, "{literal} is in {files:?}");
    }
}

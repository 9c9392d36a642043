//! What followed from the images of a run follows from others, when `run.toml` is used for them.

use image::RgbImage;

use crate::support::{Place, Said, photos};

const QUICK: &str = "--model lenet5 --epochs 1 --quiet";

fn settings(place: &Place, run: &str) -> toml::Table {
    let text = std::fs::read_to_string(place.path(&format!("runs/{run}/run.toml"))).unwrap();
    text.parse().unwrap()
}

/// Photographs of 12x12, digits of the same size, and larger photographs.
fn place() -> Place {
    let place = Place::new();
    photos(&place.path("pets"), &[("cat", 24), ("dog", 24)], 0);
    photos(&place.path("digits"), &[("0", 12), ("1", 12)], 0);
    photos(&place.path("large"), &[("cat", 48), ("dog", 48)], 0);
    for class in ["cat", "dog"] {
        for entry in std::fs::read_dir(place.path("large").join(class)).unwrap() {
            let path = entry.unwrap().path();
            let small = image::open(&path).unwrap().into_rgb8();
            let large = RgbImage::from_fn(36, 36, |x, y| *small.get_pixel(x / 3, y / 3));
            large.save(path).unwrap();
        }
    }
    place
}

fn told(said: &Said, names: &[&str]) {
    for name in names {
        let words = format!("note     {name}, ");
        let line = said.err.lines().find(|line| line.starts_with(&words));
        assert!(
            line.is_some_and(|line| line.ends_with("follows from the new data")),
            "{name}: {}",
            said.err
        );
    }
}

#[test]
fn other_images_have_their_own_size_batch_and_changes() {
    let place = place();
    place.ok(&format!("train {QUICK} --data pets --name first"));
    let first = settings(&place, "first");
    assert_eq!(first["augment"].as_str(), Some("flip"));
    assert_eq!(first["image-size"].as_str(), Some("12x12"));
    let batch = first["batch-size"].as_integer().unwrap();
    assert!(batch < 48, "{batch}");

    let again = "train --config runs/first/run.toml";
    let said = place.ok(&format!("{again} --data digits --name digits"));
    told(&said, &["image-size", "augment", "batch-size", "lr"]);
    assert!(said.err.contains("flip is off"), "{}", said.err);
    let digits = settings(&place, "digits");
    assert_eq!(digits["augment"].as_str(), Some("none"));
    assert!(digits["batch-size"].as_integer().unwrap() < batch);
    // A run of such a file knows as well what nobody chose.
    place.ok("train --config runs/digits/run.toml --data large --name large --quiet");
    let large = settings(&place, "large");
    assert_eq!(large["augment"].as_str(), Some("shift:2,flip"));
    assert_eq!(large["image-size"].as_str(), Some("36x36"));
    assert_eq!(large["batch-size"].as_integer(), Some(64));
    assert_eq!(large["lr"].as_float(), Some(0.05));
    // The same images, named otherwise, are no others.
    let here = place.path("pets");
    let said = place.ok(&format!("{again} --data {} --name same", here.display()));
    assert!(!said.err.contains("the new data"), "{}", said.err);
    // A file away from its run is read by its values.
    std::fs::copy(place.path("runs/first/run.toml"), place.path("base.toml")).unwrap();
    let said = place.ok("train --config base.toml --data digits --batch-size 8 --name based");
    told(&said, &["image-size", "augment"]);
    assert_eq!(settings(&place, "based")["augment"].as_str(), Some("none"));
}

#[test]
fn what_was_chosen_stays_for_other_images() {
    let place = place();
    place.ok(&format!(
        "train {QUICK} --data pets --name first --augment flip --batch-size 8 --image-size 16"
    ));
    let again = "train --config runs/first/run.toml --epochs 1";
    let said = place.ok(&format!("{again} --data digits --name second"));
    for name in ["image-size", "augment", "batch-size", "lr"] {
        let words = format!("{name}, ");
        assert!(!said.err.contains(&words), "{}", said.err);
    }
    let second = settings(&place, "second");
    assert_eq!(second["augment"].as_str(), Some("flip"));
    assert_eq!(second["batch-size"].as_integer(), Some(8));
    assert_eq!(second["image-size"].as_str(), Some("16x16"));
    // What was written into the file by hand was chosen, too.
    place.ok(&format!("train {QUICK} --data pets --name edited"));
    let path = place.path("runs/edited/run.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("augment = \"flip\"", "augment = \"flip,shift:3\"");
    std::fs::write(&path, text).unwrap();
    place.ok("train --config runs/edited/run.toml --data digits --name third --quiet");
    let third = settings(&place, "third");
    assert_eq!(third["augment"].as_str(), Some("shift:3,flip"));
}

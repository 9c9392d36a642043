//! Starting from the weights of another model.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use keepbest_model::Model;
use keepbest_train::{Carried, Event, Finished, Settings, TrainError, resume, train};

use crate::support::{Place, digest, finished, write_idx};

/// Trains on other images than the place's, to the end; with what was taken over from another model.
fn train_on(
    place: &Place,
    name: &str,
    data: &Path,
    more: &str,
) -> (Box<Finished>, Option<Carried>) {
    let mut settings = place.settings(name, more);
    settings.data = Some(data.display().to_string());
    let mut carried = None;
    let mut observer = |event: Event<'_>| {
        if let Event::Ready(overview) = event {
            carried.clone_from(&overview.carried);
        }
    };
    let run = finished(train(&settings, "", &mut observer, &AtomicBool::new(false)));
    (run, carried)
}

#[test]
fn with_other_classes_the_last_layer_starts_anew() {
    let place = Place::new();
    let parent = place.train("parent", "");
    let six = place.dir.path().join("six");
    write_idx(&six, 6, 20, 5);
    let (child, carried) = train_on(&place, "child", &six, "from = \"parent\"");
    let carried = carried.unwrap();
    assert!(
        carried
            .reinitialised
            .iter()
            .all(|name| name.starts_with("fc2.")),
        "{carried:?}"
    );
    assert_eq!(carried.reinitialised.len(), 2);
    assert_eq!(carried.matched.len(), 16);
    assert!(carried.unused.is_empty());
    // The table of what was taken over stands in the journal.
    let journal = std::fs::read_to_string(child.run.join("journal.jsonl")).unwrap();
    let started: serde_json::Value = serde_json::from_str(journal.lines().next().unwrap()).unwrap();
    assert_eq!(
        started["session"]["carried"],
        serde_json::to_value(&carried).unwrap()
    );

    // The child records its parent, and sees images as its parent did.
    let best = |run: &Finished| Model::open(&run.best.as_ref().unwrap().path, None).unwrap();
    let (parent_model, model) = (best(&parent), best(&child));
    let recorded = model.provenance.unwrap().parent.unwrap();
    assert_eq!(recorded.digest.to_string(), digest(&parent));
    assert_eq!(model.preprocessing.mean, parent_model.preprocessing.mean);
    assert_eq!(model.classes.len(), 6);
}

#[test]
fn it_begins_where_its_parent_ended() {
    let place = Place::new();
    // A network without running statistics, and then a rate that changes next to nothing.
    let parent = place.train("parent", "model = \"lenet5\"\noptimizer = \"adamw\"");
    let child = place.train(
        "child",
        "model = \"lenet5\"\nfrom = \"parent@best\"\nlr = 1e-12",
    );
    let loss = |run: &Finished| run.best.as_ref().unwrap().metrics.get("val/loss").unwrap();
    assert!(
        (loss(&child) - loss(&parent)).abs() < 1e-6,
        "{} {}",
        loss(&child),
        loss(&parent)
    );

    // A resumed child needs its parent no more, and is the same.
    std::fs::remove_dir_all(&parent.run).unwrap();
    let again = resume(
        &child.run,
        &Settings::default(),
        &mut |_: Event<'_>| {},
        &AtomicBool::new(false),
    );
    assert_eq!(digest(&finished(again)), digest(&child));
}

#[test]
fn nothing_in_common_is_an_error() {
    let place = Place::new();
    place.train("parent", "");
    // Both count the batches their first batch norm has seen, but no trained tensor fits.
    let error = place.fail("child", "from = \"parent\"\nmodel = \"resnet18\"");
    assert!(
        matches!(error, TrainError::NothingInCommon { .. }),
        "{error}"
    );
    assert!(!place.runs().join("child").exists());
}

#[test]
fn as_many_other_classes_start_the_last_layer_anew() {
    let place = Place::new();
    let folder = |name: &str, classes: [&str; 2]| {
        let data = place.dir.path().join(name);
        for (class, level) in classes.into_iter().zip([40, 200]) {
            std::fs::create_dir_all(data.join(class)).unwrap();
            for at in 0..20 {
                let image = image::GrayImage::from_pixel(16, 16, image::Luma([level + at]));
                image
                    .save(data.join(class).join(format!("{at}.png")))
                    .unwrap();
            }
        }
        data
    };
    let animals = folder("animals", ["cat", "dog"]);
    let vehicles = folder("vehicles", ["bus", "car"]);
    let carried = |name: &str, data: &Path, more: &str| train_on(&place, name, data, more).1;
    assert_eq!(carried("parent", &animals, "batch-size = 8"), None);
    let from = "from = \"parent\"\nbatch-size = 8";
    let same = carried("same", &animals, from).unwrap();
    assert_eq!(same.reinitialised, Vec::<String>::new());
    let others = carried("others", &vehicles, from).unwrap();
    assert_eq!(others.reinitialised, ["fc2.weight", "fc2.bias"]);
}

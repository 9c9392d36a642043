//! `train --also pth`: `best.pth` beside best.

use crate::support::{Place, SMALL};

#[test]
fn best_pth_is_what_export_writes_and_stays_so() {
    let place = Place::with_data();
    let said = place.ok(&format!("train {SMALL} --name run --also pth"));
    assert!(
        said.out.contains("also     runs/run/best.pth"),
        "{}",
        said.out
    );
    let best = || std::fs::read(place.path("runs/run/best.pth")).unwrap();
    place.ok("export run --to out.pth");
    assert_eq!(best(), std::fs::read(place.path("out.pth")).unwrap());

    // A key of run.toml, as every flag is: that file trains the same again.
    let config = std::fs::read_to_string(place.path("runs/run/run.toml")).unwrap();
    assert!(config.contains("\nalso = \"pth\"\n"), "{config}");
    let again = place.json("train --config runs/run/run.toml --name again --quiet --json");
    assert_eq!(again["also"], "runs/again/best.pth");
    assert_eq!(
        best(),
        std::fs::read(place.path("runs/again/best.pth")).unwrap()
    );

    std::fs::write(place.path("runs/run/best.pth"), "something else").unwrap();
    let said = place.run("fsck run");
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.out.contains("best.pth: is not best"), "{}", said.out);
    place.ok("fsck run --repair");
    assert_eq!(best(), std::fs::read(place.path("out.pth")).unwrap());
    place.ok("fsck run");
}

#[test]
fn other_forms_are_refused() {
    let place = Place::with_data();
    let said = place.run(&format!("train {SMALL} --also onnx"));
    said.fails(2, &["also must be one of pth", "or none"]);
    let plain = place.trained("plain", "--also none");
    assert_eq!(plain["also"], serde_json::Value::Null);
    assert!(!place.path("runs/plain/best.pth").exists());
}

/// A `best.pth` that cannot be written costs neither best nor the run, and is not passed over.
#[test]
fn what_stands_in_its_way_is_told() {
    let place = Place::with_data();
    place.ok(&format!("train {SMALL} --name run --also pth --quiet"));
    std::fs::remove_file(place.path("runs/run/best.pth")).unwrap();
    std::fs::create_dir_all(place.path("runs/run/best.pth/in the way")).unwrap();
    let said = place.run("train --resume run --epochs 3");
    said.fails(1, &["best.pth is not in step with best"]);
    place.ok("verify run");
}

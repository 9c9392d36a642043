//! Files that cannot be looked at, are gone or are damaged: told as that, with what brings them back.

use std::os::unix::fs::symlink;

use crate::support::Place;

/// A name that leads to itself: the system does not say what is there, to nobody.
fn closed(place: &Place, name: &str) {
    symlink(place.path(name), place.path(name)).unwrap();
}

#[test]
fn what_cannot_be_examined_is_not_taken_for_what_is_not_there() {
    let place = Place::with_data();
    place.trained("one", "");
    closed(&place, "runs/shut");
    std::fs::create_dir(place.path("runs/half")).unwrap();
    closed(&place, "runs/half/run.toml");
    for (name, path) in [
        ("shut", "runs/shut"),
        ("runs/shut", "runs/shut"),
        ("runs/shut/best.safetensors", "runs/shut/best.safetensors"),
        ("half", "runs/half/run.toml"),
    ] {
        for verb in [
            "show",
            "fsck",
            "train --resume",
            "train --from",
            "inspect",
            "evaluate",
        ] {
            place
                .run(&format!("{verb} {name}"))
                .fails(1, &[&format!("cannot examine {path}"), "symbolic links"]);
        }
    }
    closed(&place, "images");
    place
        .run("train --data images")
        .fails(1, &["cannot read images", "symbolic links"]);
    place
        .run("import a.pth --classes images --to x.safetensors")
        .fails(1, &["cannot examine images"]);
    // The images of a run, likewise.
    std::fs::rename(place.path("data"), place.path("moved")).unwrap();
    closed(&place, "data");
    let said = place.run("reproduce one");
    said.fails(1, &["cannot examine", "symbolic links"]);
    assert!(!said.err.contains("nothing is at"), "{}", said.err);
}

#[test]
fn a_best_that_is_gone_or_damaged_is_told_with_its_repair() {
    let place = Place::with_data();
    place.trained("run", "--keep last:2");
    let path = place.path("runs/run/best.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let repair = "`keepbest fsck runs/run --repair`";
    std::fs::remove_file(&path).unwrap();
    for verb in [
        "evaluate run",
        "predict run data/t10k-images-idx3-ubyte#0",
        "export run --to x.pth",
        "verify run",
        "train --data data --from run --epochs 1",
        "inspect runs/run@best",
    ] {
        place
            .run(verb)
            .fails(1, &["best.safetensors", "No such file", repair]);
    }
    for verb in ["show run", "list"] {
        let said = place.ok(verb);
        assert!(said.err.starts_with("warning: "), "{verb}: {}", said.err);
        assert!(said.err.contains(repair), "{verb}: {}", said.err);
    }
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    place.run("evaluate run").fails(1, &["damaged", repair]);
    let said = place.run("verify run");
    assert_eq!(said.code, 3);
    assert!(said.out.contains(repair), "{}", said.out);
    place.ok("fsck run --repair");
    assert!(std::fs::read(&path).unwrap() == whole);
    let said = place.ok("show run");
    assert!(!said.err.contains("warning"), "{}", said.err);
    // Settings that cannot be read are told, and not shown as none.
    std::fs::write(place.path("runs/run/run.toml"), b"\xff").unwrap();
    let said = place.ok("show run");
    assert!(said.err.contains("run.toml"), "{}", said.err);
}

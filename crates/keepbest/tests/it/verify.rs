//! `verify` and `fsck`: every changed byte is noticed, and exit code 3 says so.

use crate::support::Place;

#[test]
fn what_was_recorded_holds() {
    let place = Place::with_data();
    let run = place.trained("run", "--class-weights balanced --label-smoothing 0.1");
    let said = place.ok("verify run");
    for words in [
        "digest   ok",
        "journal  ok",
        "data     ok",
        "metrics  ok",
        "equal to the last bit",
    ] {
        assert!(
            said.out.contains(words),
            "{words:?} is not in\n{}",
            said.out
        );
    }
    assert!(said.out.contains(run["best"]["digest"].as_str().unwrap()));
    assert_eq!(place.json("verify run --json")["ok"], true);
    place.ok("verify run@last --threads 1");
    place.ok("verify runs/run/best.safetensors --digest-only");
}

#[test]
fn changed_weights_are_named() {
    let place = Place::with_data();
    place.trained("run", "");
    let file = place.path("runs/run/best.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.len() - 5;
    bytes[at] ^= 0x40;
    std::fs::write(place.path("changed.safetensors"), &bytes).unwrap();
    let said = place.run("verify changed.safetensors");
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(
        said.out.contains("digest   FAILED") && said.out.contains("tensor `"),
        "{}",
        said.out
    );
    // Nobody else takes it either.
    place
        .run("evaluate changed.safetensors")
        .fails(1, &["is not a usable model", "is damaged"]);
    // Cut short.
    std::fs::write(place.path("short.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(place.run("verify short.safetensors").code, 3);
}

#[test]
fn another_model_in_the_best_ones_place_is_noticed() {
    let place = Place::with_data();
    place.trained("one", "");
    place.trained("two", "--seed 9");
    std::fs::remove_file(place.path("runs/one/best.safetensors")).unwrap();
    std::fs::copy(
        place.path("runs/two/best.safetensors"),
        place.path("runs/one/best.safetensors"),
    )
    .unwrap();
    let said = place.run("verify one");
    assert_eq!(said.code, 3);
    assert!(said.out.contains("journal  FAILED"), "{}", said.out);
    assert_eq!(place.run("fsck one").code, 3);
    place.ok("fsck one --repair");
    place.ok("verify one");
    place.ok("fsck one");
}

#[test]
fn changed_images_are_noticed() {
    let place = Place::with_data();
    place.trained("run", "");
    // One pixel of each image, whichever of them were set aside.
    let images = place.path("data/train-images-idx3-ubyte");
    let mut bytes = std::fs::read(&images).unwrap();
    bytes[16..]
        .iter_mut()
        .step_by(28 * 28)
        .for_each(|pixel| *pixel ^= 1);
    std::fs::write(&images, bytes).unwrap();
    let said = place.run("verify run");
    assert_eq!(said.code, 3, "{}{}", said.out, said.err);
    assert!(
        said.out
            .contains("data     FAILED the val images are not those recorded"),
        "{}",
        said.out
    );
    place.ok("verify run --digest-only");
}

//! Folders of images as they are in life: some of them broken, some classes rare; and what the network sees of them.

use std::path::Path;

use crate::support::Place;

/// Colour photographs of two classes, of odd sizes: `per_class` PNG files in each folder.
fn photographs(place: &Place, folder: &str, per_class: [usize; 2]) {
    for (class, count) in ["cat", "dog"].into_iter().zip(per_class) {
        let folder = place.path(folder).join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..count {
            let (width, height) = (17 + i as u32 % 3, 13 + i as u32 % 2);
            let bright = if class == "cat" { 40 } else { 170 };
            let image = image::RgbImage::from_fn(width, height, |x, y| {
                image::Rgb([
                    bright + 3 * x as u8,
                    bright + (5 * y as u8) % 50,
                    (i * 7) as u8,
                ])
            });
            image.save(folder.join(format!("{i:02}.png"))).unwrap();
        }
    }
}

fn size(path: &Path) -> (u32, u32) {
    image::image_dimensions(path).unwrap()
}

const QUICK: &str = "--image-size 12 --epochs 2 --batch-size 8 --quiet";

#[test]
fn broken_images_are_refused_or_left_out_and_recorded() {
    let place = Place::new();
    photographs(&place, "photos", [20, 20]);
    let png = std::fs::read(place.path("photos/cat/00.png")).unwrap();
    std::fs::write(place.path("photos/cat/half.png"), &png[..png.len() / 2]).unwrap();
    std::fs::write(place.path("photos/dog/empty.png"), []).unwrap();
    std::fs::write(place.path("photos/dog/words.jpg"), "no image").unwrap();
    place
        .run(&format!("train --data photos {QUICK}"))
        .fails(1, &["empty.png", "--skip-corrupt"]);

    let said = place.ok(
        "train --skip-corrupt --data photos --image-size 12 --epochs 2 --batch-size 8 --name run",
    );
    assert!(
        said.err.contains("left out 3 images that cannot be read"),
        "{}",
        said.err
    );
    let toml = std::fs::read_to_string(place.path("runs/run/run.toml")).unwrap();
    assert!(toml.contains("skip-corrupt = true"), "{toml}");
    let inspected = place.json("inspect run --json").to_string();
    for name in ["half.png", "empty.png", "words.jpg"] {
        assert!(inspected.contains(name), "{name}");
    }
    // What is measured again is without them, too.
    place.ok("verify run");
    place.ok("evaluate run");
    place.ok("reproduce run --quiet");
}

#[test]
fn a_rare_class_can_be_sampled_as_often_as_the_others() {
    let place = Place::new();
    photographs(&place, "photos", [30, 6]);
    let train = |name: &str, more: &str| {
        place.json(&format!(
            "train --data photos --test-fraction 0 --val-fraction 0.2 {QUICK} --json --name {name} {more}"
        ))
    };
    let one = train("one", "--sampling balanced --threads 1 --cache 0");
    let two = train("two", "--sampling balanced --threads 2 --cache 1GiB");
    assert_eq!(one["best"]["digest"], two["best"]["digest"]);
    let shuffled = train("shuffled", "");
    assert_ne!(one["best"]["digest"], shuffled["best"]["digest"]);
    place
        .run("train --sampling even")
        .fails(2, &["--sampling must be one of shuffled or balanced"]);
    place
        .run("train --cache lots")
        .fails(2, &["a size such as 2GiB"]);
}

#[test]
fn a_sheet_shows_images_after_augmentation() {
    let place = Place::new();
    let all = "crop:0.3,shift:1,flip,rotate:20,jitter:0.3/0.3/0.3/0.1,trivial,erase:0.5,mixup:0.4,cutmix:1";
    let told = place.json(&format!(
        "data preview --to sheet.png --augment {all} --count 10 --json"
    ));
    assert_eq!(told["images"].as_array().unwrap().len(), 10);
    assert_eq!(told["augment"], all);
    assert!(
        told["images"][0]["label"]
            .as_str()
            .unwrap()
            .contains("% + "),
        "{told}"
    );
    let (width, height) = size(&place.path("sheet.png"));
    assert!(width <= 1300 && height > 100, "{width}x{height}");
    // The same pictures again; others in another epoch.
    let bytes = std::fs::read(place.path("sheet.png")).unwrap();
    place.ok(&format!(
        "data preview --to again.png --augment {all} --count 10"
    ));
    assert_eq!(std::fs::read(place.path("again.png")).unwrap(), bytes);
    place.ok(&format!(
        "data preview --to next.png --augment {all} --count 10 --epoch 2"
    ));
    assert_ne!(std::fs::read(place.path("next.png")).unwrap(), bytes);

    photographs(&place, "photos", [20, 20]);
    place.ok("data preview photos --image-size 9x15 --to sheets/photos.png");
    assert!(size(&place.path("sheets/photos.png")).0 > 100);
    place.ok("data preview photos --to photos.png");
    place
        .run("data preview --augment flop --to x.png")
        .fails(2, &["one of crop:AREA"]);
}

//! The page of a run.

use crate::support::Place;

#[test]
fn training_leaves_the_page_that_report_writes() {
    let place = Place::with_data();
    let trained = place.trained("run", "");
    let page = std::fs::read_to_string(place.path("runs/run/report.html")).unwrap();
    let said = place.json("report runs/run --to again.html --plots plots --json");
    // Measured again from disk: the same to the last digit, so the same page.
    assert!(std::fs::read_to_string(place.path("again.html")).unwrap() == page);

    // One file: nothing is fetched and nothing is run.
    for outside in [
        "<script",
        "http://",
        "https://",
        "@import",
        "url(",
        "<link rel=\"stylesheet",
    ] {
        let inside = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!inside.contains(outside), "{outside}");
    }
    let step = trained["best"]["step"].as_u64().unwrap();
    let star = format!("<path class=\"best\" data-step=\"{step}\"");
    assert_eq!(page.matches(&star).count(), 2);
    assert_eq!(page.matches("class=\"best\" data-step").count(), 2);
    for words in [
        "On test: 40 images",
        "Most confidently wrong",
        "data:image/png;base64,",
        "BLAKE3",
    ] {
        assert!(page.contains(words), "{words}");
    }

    let plots = std::fs::read_dir(place.path("plots")).unwrap();
    let mut names: Vec<String> = plots
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [
        "confusion-rates-test",
        "confusion-rates-val",
        "confusion-test",
        "confusion-val",
        "loss",
        "monitor",
        "reliability-test",
        "reliability-val",
    ];
    let both = expected.map(|name| [format!("{name}.png"), format!("{name}.svg")]);
    assert_eq!(names, both.concat());
    assert_eq!(said["written"].as_array().unwrap().len(), 17);
}

#[test]
fn a_page_that_cannot_be_written_stops_nothing() {
    let place = Place::with_data();
    place.trained("run", "--epochs 1");
    // A folder is in its way.
    let page = place.path("runs/run/report.html");
    std::fs::remove_file(&page).unwrap();
    std::fs::create_dir(&page).unwrap();
    let said = place.ok("train --resume runs/run --epochs 2 --threads 1");
    assert_eq!(
        said.err.matches("report.html is not written").count(),
        1,
        "{}",
        said.err
    );
    place
        .run("report runs/run")
        .fails(1, &["cannot write runs/run/report.html"]);
}

#[test]
fn a_run_without_its_images_still_has_curves() {
    let place = Place::with_data();
    place.trained("run", "--epochs 1");
    std::fs::rename(place.path("data"), place.path("gone")).unwrap();
    for name in ["page.pdf", "page.png"] {
        for verb in ["report runs/run --to", "compare runs/run runs/run --html"] {
            place
                .run(&format!("{verb} {name}"))
                .fails(2, &[name, ".html"]);
        }
        assert!(!place.path(name).exists());
    }
    place.ok("report runs/run --to page.html");
    let page = std::fs::read_to_string(place.path("page.html")).unwrap();
    assert!(page.contains("The best is not shown closely"));
    assert!(page.contains("class=\"best\" data-step"));
}

#[test]
fn a_page_that_shows_the_best_is_not_replaced_by_one_that_does_not() {
    let place = Place::with_data();
    place.trained("run", "");
    let page = place.path("runs/run/report.html");
    let good = std::fs::read_to_string(&page).unwrap();
    std::fs::rename(place.path("data"), place.path("gone")).unwrap();
    place.run("report runs/run").fails(
        1,
        &[
            "report.html stays as it is",
            "data is not where it was",
            "--data",
        ],
    );
    assert!(std::fs::read_to_string(&page).unwrap() == good);
    let again = place.ok("report runs/run --data gone");
    assert!(again.out.contains("report.html"), "{again:?}");
    let good = std::fs::read_to_string(&page).unwrap();
    assert!(good.contains("On test: 40 images"));
    // A best that cannot be opened shows less, too.
    let best = place.path("runs/run/best.safetensors");
    let whole = std::fs::read(&best).unwrap();
    std::fs::write(&best, &whole[..whole.len() / 2]).unwrap();
    place
        .run("report runs/run --data gone")
        .fails(1, &["report.html stays as it is"]);
    assert!(std::fs::read_to_string(&page).unwrap() == good);
}

#[test]
fn a_run_that_is_taken_up_again_shows_its_best_all_the_time() {
    let place = Place::with_data();
    // Nothing is better than the first.
    place.trained("run", "--epochs 2 --monitor max:val/loss --lr 0.02");
    let page = place.path("runs/run/report.html");
    let tested = std::fs::read_to_string(&page).unwrap();
    assert!(tested.contains("On test: 40 images") && tested.contains("On val: "));
    let mut training = place
        .command("train --resume run --epochs 4000 --quiet")
        .spawn()
        .unwrap();
    // As soon as the page tells of more.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(300);
    let told = |page: &str| page.contains("The run is in training");
    while !told(&std::fs::read_to_string(&page).unwrap()) {
        if std::time::Instant::now() > deadline {
            training.kill().unwrap();
            panic!("nothing was measured");
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_child(&training);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(training.wait().unwrap().code(), Some(130));
    let now = std::fs::read_to_string(&page).unwrap();
    for words in ["On val: ", "On test: 40 images"] {
        assert!(
            now.contains(words),
            "{words} is gone, and the best is the same"
        );
    }
}

#[test]
fn a_page_that_tells_how_the_best_stands_is_not_replaced_by_one_that_cannot() {
    let place = Place::with_data();
    place.trained("run", "--epochs 6");
    let page = place.path("runs/run/report.html");
    let whole = std::fs::read_to_string(&page).unwrap();
    assert!(whole.contains("cannot be told from epoch"));
    std::fs::remove_dir_all(place.path("runs/run/outcomes")).unwrap();
    place.run("report run").fails(
        1,
        &[
            "report.html stays as it is",
            "runs/run/outcomes",
            "--to FILE",
        ],
    );
    assert!(std::fs::read_to_string(&page).unwrap() == whole);
    place.ok("report run --to less.html");
}

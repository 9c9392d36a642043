//! `lr-find`.

use crate::support::Place;

#[test]
fn a_rate_is_suggested_and_drawn() {
    let place = Place::with_data();
    let run = |more: &str| {
        place.json(&format!(
            "lr-find --data data --batch-size 16 --json {more}"
        ))
    };
    let found = run("--to rates.svg --threads 1");
    let rate = found["suggestion"].as_f64().unwrap();
    assert!((1e-5..1.0).contains(&rate), "{rate}");
    let points = found["points"].as_array().unwrap();
    assert!(points.len() > 10 && points.len() <= 100, "{}", points.len());
    let svg = std::fs::read_to_string(place.path("rates.svg")).unwrap();
    assert!(
        svg.starts_with("<svg ") && svg.contains("learning rate"),
        "{svg}"
    );
    // The same on any number of threads; nothing is left behind.
    let again = run("--threads 2 --to again.svg");
    assert_eq!(again["points"], found["points"]);
    assert!(!place.path("runs").exists());
    let said = place.ok("lr-find --data data --batch-size 16");
    assert!(said.out.starts_with("--lr "), "{}", said.out);

    place
        .run("lr-find --data data --min 0")
        .fails(2, &["0 < min < max"]);
    place
        .run("lr-find --data data --min 1 --max 1")
        .fails(2, &["no range"]);
    assert_eq!(place.run("lr-find --steps 2").code, 2);
}

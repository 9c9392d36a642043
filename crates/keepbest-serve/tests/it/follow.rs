//! Runs are followed to their best; models come and go within the memory there is.

use std::time::Duration;

use crate::support::{Place, Served, picture};

fn digest(served: &Served, path: &str) -> String {
    let reply = served.post(path, "image/x", &picture(1));
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_better_best_takes_over_while_requests_go_on() {
    let place = Place::new();
    let mut run = place.run("run");
    let first = run.offer(1, 0.5);
    let served = Served::ready(place.options_for(&["run", "run@step:10"]));
    assert_eq!(digest(&served, "/predict/run"), first);
    let second = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = Vec::new();
                    while seen.len() < 2 {
                        let found = digest(&served, "/predict/run");
                        if seen.last() != Some(&found) {
                            seen.push(found);
                        }
                    }
                    seen
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(50));
        // Not better: nothing changes.
        run.offer(2, 0.4);
        let second = run.offer(3, 0.6);
        for asked in asking {
            // The old one, then the new one, and nothing else.
            assert_eq!(asked.join().unwrap(), [first.clone(), second.clone()]);
        }
        second
    });
    served.wait_for("Swapped");
    assert_eq!(digest(&served, "/predict/run"), second);
    assert_eq!(digest(&served, "/predict/run@step:10"), first);
}

#[test]
fn a_best_that_does_not_verify_is_refused_and_the_old_one_answers() {
    let place = Place::new();
    let mut run = place.run("run");
    let first = run.offer(1, 0.5);
    let served = Served::ready(place.options_for(&["run"]));
    let journal = run.path.join("journal.jsonl");
    let before = std::fs::read(&journal).unwrap();
    let second = run.offer(2, 0.6);
    let after = std::fs::read(&journal).unwrap();
    served.wait_for("Swapped");
    drop(run.keeper);
    // Back to the first best, whose file is damaged.
    drop(served);
    let best = run.path.join("best.safetensors");
    let mut bytes = std::fs::read(&best).unwrap();
    std::fs::write(&journal, &before).unwrap();
    let checkpoints = std::fs::read_dir(run.path.join("checkpoints")).unwrap();
    let whole = checkpoints
        .map(|entry| entry.unwrap().path())
        .find(|path| path.display().to_string().contains("10-"));
    if let Some(whole) = whole {
        std::fs::remove_file(&best).unwrap();
        std::fs::copy(whole, &best).unwrap();
    }
    let served = Served::ready(place.options_for(&["run"]));
    assert_eq!(digest(&served, "/predict"), first);
    // The journal promotes the second, whose file is damaged in its last byte.
    *bytes.last_mut().unwrap() ^= 1;
    let staged = run.path.join("staged");
    std::fs::write(&staged, &bytes).unwrap();
    std::fs::rename(&staged, &best).unwrap();
    std::fs::write(&journal, &after).unwrap();
    let refused = served.wait_for("Refused");
    assert!(refused.contains("answers: true"), "{refused}");
    assert_eq!(digest(&served, "/predict"), first);
    // What clients are told has no path of the host in it.
    let index = served.post("/v2/repository/index", "application/json", b"");
    assert!(!String::from_utf8_lossy(&index.body).contains(place.0.path().to_str().unwrap()));
    // Mended, it answers.
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&staged, &bytes).unwrap();
    std::fs::rename(&staged, &best).unwrap();
    std::fs::write(&journal, [&after[..], b"\n"].concat()).unwrap();
    std::fs::write(&journal, &after).unwrap();
    served.wait_for("Swapped");
    assert_eq!(digest(&served, "/predict"), second);
    // The run is gone: what is loaded answers.
    std::fs::remove_dir_all(&run.path).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(digest(&served, "/predict"), second);
}

#[test]
fn a_model_that_cannot_be_loaded_is_told_without_paths() {
    let place = Place::new();
    let good = place.model("good.safetensors", 1);
    let bad = place.model("bad.safetensors", 2);
    let mut bytes = std::fs::read(&bad).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&bad, bytes).unwrap();
    let served = Served::ready(place.options(&[&good, &bad]));
    served.wait_for("Refused");
    let reply = served.post("/predict/bad", "image/x", &picture(1));
    assert_eq!(reply.status, 503);
    assert!(reply.error().contains("does not verify"), "{reply:?}");
    assert!(!reply.error().contains(place.0.path().to_str().unwrap()));
    assert_eq!(
        served.post("/predict/good", "image/x", &picture(1)).status,
        200
    );
}

#[test]
fn the_least_recently_used_leaves_when_memory_is_short() {
    let place = Place::new();
    let paths = [1, 2, 3].map(|seed| place.model(&format!("m{seed}.safetensors"), seed));
    let all: Vec<_> = paths.iter().map(|path| path.as_path()).collect();
    let one = Served::ready(place.options(&all[..1]));
    let loaded = one.wait_for("Loaded");
    let bytes = loaded.split("bytes: ").nth(1).unwrap();
    let bytes: u64 = bytes.split(',').next().unwrap().parse().unwrap();
    drop(one);
    let mut options = place.options(&all);
    options.memory = bytes * 5 / 2;
    let served = Served::ready(options);
    for model in ["m1", "m2", "m1", "m3"] {
        digest(&served, &format!("/predict/{model}"));
    }
    let states = served
        .post("/v2/repository/index", "application/json", b"")
        .json();
    let states: Vec<&str> = states
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["READY", "UNAVAILABLE", "READY"]);
    digest(&served, "/predict/m2");
    let mut options = place.options(&all);
    options.memory = bytes / 2;
    let small = Served::start(options);
    let refused = small.wait_for("Refused");
    assert!(refused.contains("TooLarge"), "{refused}");
    let reply = small.post("/predict", "image/x", &picture(1));
    assert_eq!(reply.status, 503);
    assert!(reply.error().contains("more memory"), "{reply:?}");
}

#[test]
fn runs_that_begin_later_are_served_too() {
    let place = Place::new();
    std::fs::create_dir(place.path("runs")).unwrap();
    let served = Served::ready(place.options_for(&[]));
    assert_eq!(served.post("/predict", "image/x", &picture(1)).status, 400);
    let mut run = place.run("later");
    let first = run.offer(1, 0.5);
    let until = std::time::Instant::now() + crate::support::PATIENCE;
    while served.get("/v2/models").json()["models"] != serde_json::json!(["later"]) {
        assert!(std::time::Instant::now() < until);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(digest(&served, "/predict"), first);
}

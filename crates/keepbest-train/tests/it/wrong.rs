//! Runs that cannot begin, or end badly: each with a clear error, and nothing lost.

use keepbest_model::Model;
use keepbest_train::TrainError;

use crate::support::Place;

#[test]
fn what_cannot_begin_leaves_nothing_behind() {
    let place = Place::new();
    let told = |more: &str| {
        let error = place.fail("run", more);
        assert!(!place.runs().exists(), "{more}: {error}");
        error.to_string()
    };
    assert!(told("monitor = \"val/acuracy\"").contains("val/acuracy"));
    assert!(told("monitor = \"val/mine\"").contains("val/mine"));
    assert!(told("constraint = [\"val/accuracy\"]").contains("has none of"));
    assert!(told("keep = [\"best\"]").contains("is not a retention policy"));
    assert!(told("min-delta = \"-1\"").contains("-1"));
    assert_eq!(
        told("class-weights = [1, 2]"),
        "2 class weights for 4 classes"
    );
    assert_eq!(told("from = \"nowhere\""), "no model or run \"nowhere\"",);
}

#[test]
fn a_batch_larger_than_the_data() {
    let place = Place::new();
    let error = place.fail("run", "batch-size = 1000");
    assert_eq!(
        error.to_string(),
        "the batch size 1000 is larger than the training set (108 images)"
    );
    assert!(error.is_usage());
}

#[test]
fn a_name_that_is_taken_is_left_alone() {
    let place = Place::new();
    let first = place.train("run", "");
    let before = std::fs::read(first.run.join("best.safetensors")).unwrap();
    let error = place.fail("run", "seed = 2");
    assert!(matches!(error, TrainError::Create(_)), "{error}");
    assert!(error.to_string().ends_with("exists already"), "{error}");
    assert_eq!(
        std::fs::read(first.run.join("best.safetensors")).unwrap(),
        before
    );
}

#[test]
fn a_diverging_run_keeps_its_best() {
    let place = Place::new();
    let error = place.fail("run", DIVERGES);
    let TrainError::Diverged {
        best: Some((path, reached)),
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert!(reached.starts_with("val/accuracy 0."), "{reached}");
    assert!(Model::open(path, None).is_ok());
    assert!(error.hint().unwrap().contains("the best is kept"));
}

/// Measured after every step, it is measured before it goes wrong.
const DIVERGES: &str = "eval-every = 1\nlr = 1e6\nschedule = \"constant\"\nmomentum = 0.9";

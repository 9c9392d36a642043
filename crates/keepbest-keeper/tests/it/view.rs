//! Reading runs.

use keepbest_keeper::{RunView, Selector};
use keepbest_store::RunStatus;
use serde_json::json;

use crate::support::{Runs, config, offer_and_wait, step_of};

#[test]
fn selectors_find_checkpoints_or_say_why_not() {
    let runs = Runs::new();
    let mut config = config();
    config.retention = vec!["best:2".parse().unwrap()];
    let mut keeper = runs.create(config);
    for (epoch, value) in [(1, 0.2), (2, 0.9), (3, 0.8), (4, 0.1)] {
        offer_and_wait(&mut keeper, epoch, value);
    }
    keeper.finish(json!({"stopped": "planned end"})).unwrap();
    let view = runs.view();
    let select = |text: &str| view.select(&text.parse::<Selector>().unwrap());
    assert_eq!(step_of(&select("best").unwrap()), 20);
    assert_eq!(step_of(&select("last").unwrap()), 40);
    assert_eq!(step_of(&select("step:30").unwrap()), 30);
    assert_eq!(step_of(&select("epoch:2").unwrap()), 20);
    let error = select("epoch:1").unwrap_err().to_string();
    assert!(
        error.contains("epoch:1") && error.contains("was removed"),
        "{error}"
    );
    let error = select("step:31").unwrap_err().to_string();
    assert!(
        error.ends_with("only of step:20, step:30, step:40"),
        "{error}"
    );
    for text in ["", "first", "step:", "step:x", "epoch:-1", "step:1:2"] {
        assert!(text.parse::<Selector>().is_err(), "{text}");
    }
    assert_eq!(
        view.state().status,
        RunStatus::Finished(json!({"stopped": "planned end"}))
    );
    assert_eq!(view.config().unwrap(), "seed = 1\n");
    assert!(view.checkpoint_bytes().unwrap() > 3 * 2480);
}

#[test]
fn a_run_without_a_best_says_so() {
    let runs = Runs::new();
    drop(runs.create(config()));
    let error = runs.view().select(&Selector::BEST).unwrap_err();
    assert!(error.to_string().ends_with("has no best yet"), "{error}");
}

#[test]
fn all_runs_of_a_directory_are_listed_and_other_things_left_out() {
    let runs = Runs::new();
    drop(runs.create(config()));
    std::fs::write(runs.parent().join("notes.txt"), "x").unwrap();
    std::fs::create_dir(runs.parent().join("data")).unwrap();
    let all = RunView::all_in(runs.parent()).unwrap();
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["run"]);
}

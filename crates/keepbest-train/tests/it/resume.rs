//! A resumed run is the run that was never interrupted, to the last bit.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use keepbest_core::{EvaluationRecord, History};
use keepbest_keeper::RunView;
use keepbest_train::{Event, Observer, Outcome, Settings, TrainError, Wish, resume, train};

use crate::support::{Place, digest, finished};

/// Starts or resumes a run, and tells it to stop when `when` says so. Whether it was interrupted.
fn until(place: &Place, name: &str, more: &str, when: impl Fn(&Event<'_>) -> bool) -> bool {
    let stop = AtomicBool::new(false);
    let mut observer = |event: Event<'_>| {
        if when(&event) {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let run = place.runs().join(name);
    let outcome = if run.exists() {
        resume(&run, &Settings::default(), &mut observer, &stop)
    } else {
        train(&place.settings(name, more), "", &mut observer, &stop)
    };
    matches!(outcome.unwrap(), Outcome::Interrupted { .. })
}

fn to_the_end(run: &Path) -> Box<keepbest_train::Finished> {
    finished(resume(
        run,
        &Settings::default(),
        &mut |_: Event<'_>| {},
        &AtomicBool::new(false),
    ))
}

/// What was measured. Digests are compared where the best is: the snapshot of a superseded evaluation is let go of before
/// its digest is known, which is a matter of time.
fn history(run: &Path) -> History {
    let view = RunView::open(run).unwrap();
    view.history()
        .iter()
        .map(|record| EvaluationRecord {
            digest: None,
            ..record.clone()
        })
        .collect()
}

/// Steps with images changed and mixed in every way, momentum, a moving average of the weights, a plateau, evaluations amid
/// epochs, and a choice that looks back.
const SETTINGS: &str = "eval-every = 3\n\
    augment = \"flip,shift:1,crop:0.5,rotate:10,jitter:0.2,trivial,erase:0.3,mixup:0.2,cutmix:1\"\nschedule = \"plateau\"\nlr-patience = 0\nlr = 0.05\n\
    smooth = \"ema:0.6\"\nsignificant = 0.5\nema = 0.8";

#[test]
fn interrupted_after_any_step_it_ends_the_same() {
    let place = Place::new();
    let whole = place.train("whole", SETTINGS);
    assert_eq!(whole.step, 12);
    for step in 1..12 {
        let name = format!("cut-{step}");
        let cut = until(
            &place,
            &name,
            SETTINGS,
            |event| matches!(event, Event::Stepped(p) if p.step == step),
        );
        assert!(cut, "step {step}");
        let run = place.runs().join(&name);
        let resumed = to_the_end(&run);
        assert_eq!(digest(&resumed), digest(&whole), "step {step}");
        assert_eq!(history(&run), history(&whole.run), "step {step}");
        assert_eq!(
            resumed.test.as_ref().unwrap().metrics("test"),
            whole.test.as_ref().unwrap().metrics("test")
        );
    }
}

#[test]
fn interrupted_again_and_again_it_ends_the_same() {
    let place = Place::new();
    let whole = place.train("whole", SETTINGS);
    let mut interruptions = 0;
    // Each session takes a step or two, or stops in an evaluation.
    while until(&place, "cut", SETTINGS, |event| match event {
        Event::Stepped(progress) => progress.step % 2 == 0,
        Event::Measuring { .. } => interruptions % 3 == 0,
        _ => false,
    }) {
        interruptions += 1;
        assert!(interruptions < 40, "it does not get on");
    }
    assert!(interruptions > 5, "{interruptions}");
    let run = place.runs().join("cut");
    assert_eq!(history(&run), history(&whole.run));
    assert_eq!(digest(&to_the_end(&run)), digest(&whole));
}

/// Asks for an evaluation after the second step, and stops in it if told to.
struct AsksOnce<'a> {
    step: u64,
    interrupted_by: Option<&'a AtomicBool>,
}

impl Observer for AsksOnce<'_> {
    fn on(&mut self, event: Event<'_>) {
        match (event, self.interrupted_by) {
            (Event::Stepped(progress), _) => self.step = progress.step,
            (Event::Measuring { .. }, Some(stop)) => stop.store(true, Ordering::Relaxed),
            _ => {}
        }
    }

    fn wish(&mut self) -> Option<Wish> {
        (self.step == 2).then_some(Wish::Evaluate)
    }
}

#[test]
fn interrupted_in_an_evaluation_that_was_asked_for_it_makes_it_up() {
    let place = Place::new();
    let settings = |name| place.settings(name, "swa = 0.0");
    let stop = AtomicBool::new(false);
    let mut asks = AsksOnce {
        step: 0,
        interrupted_by: None,
    };
    let whole = finished(train(&settings("whole"), "", &mut asks, &stop));
    let steps: Vec<_> = history(&whole.run)
        .iter()
        .map(|it| (it.step, it.unscheduled))
        .collect();
    assert_eq!(steps, [(2, true), (4, false), (8, false), (12, false)]);

    let mut asks = AsksOnce {
        step: 0,
        interrupted_by: Some(&stop),
    };
    let cut = train(&settings("cut"), "", &mut asks, &stop).unwrap();
    assert!(
        matches!(cut, Outcome::Interrupted { step: 2, .. }),
        "{cut:?}"
    );
    let run = place.runs().join("cut");
    assert_eq!(digest(&to_the_end(&run)), digest(&whole));
    assert_eq!(history(&run), history(&whole.run));
}

#[test]
fn interrupted_in_an_evaluation_it_measures_again() {
    let place = Place::new();
    let whole = place.train("whole", "");
    let cut = until(&place, "cut", "", |event| {
        matches!(event, Event::Measuring { .. })
    });
    assert!(cut);
    let run = place.runs().join("cut");
    assert_eq!(history(&run).len(), 0);
    assert_eq!(digest(&to_the_end(&run)), digest(&whole));
    assert_eq!(history(&run), history(&whole.run));
}

#[test]
fn interrupted_in_the_final_test_it_only_tests_again() {
    let place = Place::new();
    let whole = place.train("whole", "");
    for (name, at) in [("recheck", "val"), ("test", "test")] {
        let finished = std::cell::Cell::new(0);
        let cut = until(&place, name, "", |event| match event {
            Event::Stepped(progress) => {
                finished.set(progress.step);
                false
            }
            Event::StoppedEarly(_) | Event::Measured(_) => {
                finished.set(finished.get() + 1);
                false
            }
            // The last step and its evaluation are done.
            Event::Measuring { split, .. } => finished.get() == 13 && *split == at,
            _ => false,
        });
        assert!(cut, "{name}");
        let run = place.runs().join(name);
        assert_eq!(history(&run), history(&whole.run));
        let resumed = to_the_end(&run);
        assert_eq!(digest(&resumed), digest(&whole));
        assert_eq!(history(&run), history(&whole.run));
    }
}

#[test]
fn patience_survives() {
    let place = Place::new();
    let settings = "patience = 2\neval-every = 2\nlr = 0.000001";
    let whole = place.train("whole", settings);
    assert!(whole.step < 12, "it stops early");
    let cut = until(
        &place,
        "cut",
        settings,
        |event| matches!(event, Event::Stepped(p) if p.step == 3),
    );
    assert!(cut);
    let resumed = to_the_end(&place.runs().join("cut"));
    assert_eq!((&resumed.ending, resumed.step), (&whole.ending, whole.step));
    assert_eq!(digest(&resumed), digest(&whole));
}

#[test]
fn a_finished_run_can_be_made_longer_but_nothing_else_changes() {
    let place = Place::new();
    let done = place.train("run", "");
    let given = |text: &str| Settings::from_toml(text).unwrap();
    let again = |given: &Settings| {
        resume(
            &done.run,
            given,
            &mut |_: Event<'_>| {},
            &AtomicBool::new(false),
        )
    };

    // As it is, nothing is left to do.
    let same = finished(again(&given("threads = 1")));
    assert_eq!((same.step, digest(&same)), (12, digest(&done)));

    let longer = finished(again(&given("epochs = 5")));
    assert_eq!((longer.step, longer.epoch), (20, 5));
    assert_eq!(history(&done.run).len(), 5);
    assert!(longer.best.as_ref().unwrap().score.value >= done.best.as_ref().unwrap().score.value);

    let told = |text: &str| match again(&given(text)).unwrap_err() {
        error @ TrainError::Settings(_) => error.to_string(),
        other => panic!("{other}"),
    };
    assert_eq!(
        told("lr = 0.5"),
        "lr is settled by the run and cannot change when it is resumed"
    );
    // Longer once, it stays so.
    assert_eq!(told("epochs = 4"), "epochs 4 is less than the run's 5");
}

#[test]
fn other_images_are_refused() {
    let place = Place::new();
    let cut = until(
        &place,
        "cut",
        "",
        |event| matches!(event, Event::Stepped(p) if p.step == 2),
    );
    assert!(cut);
    let file = place.data.join("train-images-idx3-ubyte");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let run = place.runs().join("cut");
    let error = resume(
        &run,
        &Settings::default(),
        &mut |_: Event<'_>| {},
        &AtomicBool::new(false),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("are not those the run began with: 108 images"),
        "{error}"
    );
}

#[test]
fn a_run_killed_before_its_first_save_begins_anew() {
    let place = Place::new();
    let whole = place.train("whole", "");
    let cut = until(
        &place,
        "cut",
        "",
        |event| matches!(event, Event::Stepped(p) if p.step == 2),
    );
    assert!(cut);
    let run = place.runs().join("cut");
    std::fs::remove_file(run.join("last.safetensors")).unwrap();
    std::fs::remove_dir_all(run.join("checkpoints")).unwrap();
    std::fs::create_dir(run.join("checkpoints")).unwrap();
    let resumed = to_the_end(&run);
    assert_eq!(digest(&resumed), digest(&whole));
}

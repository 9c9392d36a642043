//! Runs that go well.

use std::sync::atomic::{AtomicBool, Ordering};

use keepbest_core::Metrics;
use keepbest_keeper::{KeeperEvent, RunView, Selector};
use keepbest_model::{Model, model_file_of};
use keepbest_train::{Config, DataDefaults, Ending, Event, Outcome, Settings, train};

use crate::support::{Place, digest, finished};

#[test]
fn the_best_is_kept_read_back_and_tested() {
    let place = Place::new();
    let mut told = Vec::new();
    let mut judged: Vec<(u64, Metrics, bool)> = Vec::new();
    let mut observer = |event: Event<'_>| match event {
        Event::Measured(one) => {
            judged.push((one.epoch, one.metrics.clone(), one.verdict.is_improved()))
        }
        Event::Keeper(KeeperEvent::Promoted {
            reference, path, ..
        }) if reference.is_best() => {
            // The message comes when the file is there, whole.
            assert!(Model::open(path, None).is_ok());
            told.push(path.clone());
        }
        _ => {}
    };
    let settings = place.settings("run", "epochs = 6\nbatch-size = 8\nlr = 0.01");
    let run = finished(train(
        &settings,
        "by a test",
        &mut observer,
        &AtomicBool::new(false),
    ));

    assert_eq!(run.ending, Ending::Completed);
    assert_eq!((run.step, run.epoch), (84, 6));
    assert!(!told.is_empty());
    assert_eq!(
        judged.iter().map(|(epoch, ..)| *epoch).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6]
    );

    // The best is the one of the highest val/accuracy, and of those the one of the lowest val/loss.
    let of = |metrics: &Metrics, name: &str| metrics.get(name).unwrap();
    let accuracy = |metrics: &Metrics| of(metrics, "val/accuracy");
    let mut top = judged[0].clone();
    for one in &judged[1..] {
        let (new, old) = (accuracy(&one.1), accuracy(&top.1));
        if new > old || new == old && of(&one.1, "val/loss") < of(&top.1, "val/loss") {
            top = one.clone();
        }
    }
    let best = run.best.as_ref().unwrap();
    assert_eq!((best.epoch, best.score.value), (top.0, accuracy(&top.1)));
    assert_eq!(best.metrics, top.1);
    for name in [
        "train/loss",
        "train/accuracy",
        "val/loss",
        "val/log_loss",
        "val/f1_macro",
    ] {
        assert!(best.metrics.contains(name), "{name}");
    }

    let recheck = run.recheck.as_ref().unwrap();
    assert_eq!(recheck.difference, None);
    assert!(recheck.metrics.len() > 15);
    let test = run.test.as_ref().unwrap();
    assert_eq!(test.report.count(), 40);
    let accuracy = test.metrics("test").get("test/accuracy").unwrap();
    assert!(
        accuracy > 0.6,
        "four classes of clothes are told apart, if not well: {accuracy} {judged:?}"
    );
    assert_eq!(run.examples.len(), 6);

    let view = RunView::open(&run.run).unwrap();
    assert_eq!(view.history().len(), 6);
    assert!(view.config().unwrap().starts_with("# by a test\n"));
}

#[test]
fn its_own_run_toml_trains_the_same_model_again() {
    let place = Place::new();
    let first = place.train(
        "first",
        "optimizer = \"adamw\"\nlabel-smoothing = 0.1\nclass-weights = \"balanced\"",
    );
    let text = std::fs::read_to_string(first.run.join("run.toml")).unwrap();
    let settings = Settings::from_toml(&text).unwrap();
    assert!(settings.name.is_none() && settings.runs_dir.is_none());
    let resolved = Config::resolve(settings.clone(), &DataDefaults::default()).unwrap();
    assert_eq!(resolved.to_toml(""), text);

    let mut again = settings;
    again.runs_dir = Some(place.runs());
    let again = finished(train(
        &again,
        "",
        &mut |_: Event<'_>| {},
        &AtomicBool::new(false),
    ));
    assert_eq!(again.run, place.runs().join("simple-cnn-1"));
    assert_eq!(digest(&again), digest(&first));
}

#[test]
fn threads_change_nothing_and_the_seed_everything() {
    let place = Place::new();
    let one = place.train("one", "threads = 1");
    let two = place.train("two", "threads = 2");
    let other = place.train("other", "seed = 2");
    assert_eq!(digest(&one), digest(&two));
    assert_ne!(digest(&one), digest(&other));
}

#[test]
fn every_schedule_optimizer_and_model_trains() {
    let place = Place::new();
    for (i, more) in [
        "schedule = \"constant\"",
        "schedule = \"step\"\nlr-step = 1.0",
        "schedule = \"cosine\"\nwarmup = 0.5",
        "schedule = \"plateau\"\nlr-patience = 0",
        "optimizer = \"adam\"\nclip-grad-norm = 1.0",
        "optimizer = \"sgd\"\nmomentum = 0.0\nnesterov = false",
    ]
    .into_iter()
    .enumerate()
    {
        let run = place.train(&format!("run-{i}"), &format!("{more}\neval-every = 5"));
        assert_eq!(run.step, 12, "{more}");
        let view = RunView::open(&run.run).unwrap();
        assert_eq!(
            view.history()
                .iter()
                .map(|record| record.step)
                .collect::<Vec<_>>(),
            [5, 10, 12],
            "{more}"
        );
    }
}

#[test]
fn early_stopping_says_why() {
    let place = Place::new();
    // Nothing gets better by more than all there is.
    let run = place.train("run", "patience = 1\nmin-delta = 1.0\ntie-break = \"none\"");
    let Ending::StoppedEarly(reason) = &run.ending else {
        panic!("{:?}", run.ending)
    };
    assert!(
        reason.starts_with("no improvement of val/accuracy by more than 1 for 1 evaluation"),
        "{reason}"
    );
    assert_eq!((run.epoch, run.best.as_ref().unwrap().epoch), (2, 1));
}

#[test]
fn other_objectives_pick_other_models() {
    let place = Place::new();
    let run = place.train("run", "monitor = \"val/loss\"\nkeep = [\"last:3\"]");
    let view = RunView::open(&run.run).unwrap();
    let least = view
        .history()
        .series("val/loss")
        .min_by(|a, b| a.2.total_cmp(&b.2))
        .unwrap();
    assert_eq!(run.best.as_ref().unwrap().step, least.0);
    assert_eq!(view.checkpoints().count(), 3);

    // A constraint that nothing meets leaves no best, and says so.
    let none = place.train("none", "constraint = [\"val/accuracy > 1\"]");
    assert!(none.best.is_none() && none.test.is_none());
    let view = RunView::open(&none.run).unwrap();
    assert!(
        view.history()
            .iter()
            .all(|record| record.verdict.is_rejected())
    );
    assert!(view.last().is_some());
}

#[test]
fn params_only_files_need_their_network_named() {
    let place = Place::new();
    let run = place.train("run", "save = \"params\"");
    let best = model_file_of(&run.run, &Selector::BEST).unwrap();
    let error = Model::open(&best, None).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("holds weights alone, without the network they belong to"),
        "{error}"
    );
    assert_eq!(
        error.hint().unwrap(),
        "name it: --model simple-cnn (recorded in the file)"
    );
    let model = Model::open(&best, Some("simple-cnn")).unwrap();
    assert!(!model.is_full());
    assert_eq!(model.classes.len(), 4);
    let error = Model::open(&best, Some("lenet5")).unwrap_err();
    assert!(
        error.to_string().ends_with("does not fit lenet5"),
        "{error}"
    );
    assert!(
        Model::open(&model_file_of(&run.run, &Selector::LAST).unwrap(), None)
            .unwrap()
            .is_full()
    );
}

#[test]
fn a_run_told_to_stop_before_it_begins_leaves_nothing() {
    let place = Place::new();
    let settings = place.settings("run", "");
    let error = train(
        &settings,
        "",
        &mut |_: Event<'_>| {},
        &AtomicBool::new(true),
    )
    .unwrap_err();
    assert!(error.is_interrupted(), "{error:?}");
    assert!(!place.runs().join("run").exists());
}

#[test]
fn a_run_told_to_stop_before_its_first_step_can_be_resumed() {
    let place = Place::new();
    let stop = AtomicBool::new(false);
    let stopped = train(
        &place.settings("run", ""),
        "",
        &mut |event: Event<'_>| {
            if let Event::Ready(_) = event {
                stop.store(true, Ordering::Relaxed);
            }
        },
        &stop,
    )
    .unwrap();
    let Outcome::Interrupted {
        run,
        step,
        failures,
        ..
    } = stopped
    else {
        panic!("{stopped:?}")
    };
    assert_eq!((step, failures.len()), (0, 0));
    assert!(run.join("last.safetensors").exists());
}

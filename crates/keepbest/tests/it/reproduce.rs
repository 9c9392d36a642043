//! `reproduce`, and what it and `verify` notice.

use std::sync::atomic::AtomicBool;

use keepbest::train::{Event, Finished, Observer, Outcome, Settings, Wish, train};

use crate::support::{Place, rewritten};

#[test]
fn a_run_comes_out_the_same_on_other_threads_and_instructions() {
    let place = Place::with_data();
    place.trained("run", "--threads 2 --augment flip,shift:1");
    for (threads, isa) in [("1", "portable"), ("3", ""), ("2", "avx2")] {
        let mut command =
            place.command(&format!("reproduce run --json --quiet --threads {threads}"));
        // Where the processor has no AVX2, the fastest it has stands in.
        if !isa.is_empty() && (isa == "portable" || std::arch::is_x86_feature_detected!("avx2")) {
            command.env("KEEPBEST_ISA", isa);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{isa} {threads}: {said}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["reproduced"], true);
        assert_eq!(json["evaluations"], 2);
    }
    // Nothing is left behind.
    assert_eq!(std::fs::read_dir(place.path("runs")).unwrap().count(), 1);
}

#[test]
fn an_interrupted_run_is_compared_as_far_as_it_came() {
    let place = Place::with_data();
    place.trained("run", "");
    let journal = place.path("runs/run/journal.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    let finished = text.lines().last().unwrap();
    assert!(finished.contains("\"finished\""));
    std::fs::write(&journal, &text[..text.len() - finished.len() - 1]).unwrap();
    let said = place.ok("reproduce run --quiet");
    assert!(said.out.starts_with("reproduced"), "{}", said.out);
}

/// Asks for evaluations after some steps, and for the end after an epoch, as keys of `train --tui` do.
struct Asks {
    evaluations: &'static [u64],
    end_after: u64,
    at: (u64, u64),
}

impl Observer for Asks {
    fn on(&mut self, event: Event<'_>) {
        if let Event::Stepped(progress) = event {
            self.at = (progress.step, progress.epoch);
        }
    }

    fn wish(&mut self) -> Option<Wish> {
        let (step, epoch) = self.at;
        if self.evaluations.contains(&step) {
            return Some(Wish::Evaluate);
        }
        (epoch == self.end_after).then_some(Wish::StopAfterEpoch)
    }
}

/// A run of up to 9 epochs of 7 steps.
fn asked(
    place: &Place,
    name: &str,
    more: &str,
    evaluations: &'static [u64],
    end_after: u64,
) -> Box<Finished> {
    let settings = format!(
        "data = {:?}\nruns-dir = {:?}\nname = {name:?}\nmodel = \"lenet5\"\nepochs = 9\nbatch-size = 16\nlr = 0.05\n{more}",
        place.path("data"),
        place.path("runs"),
    );
    let settings = Settings::from_toml(&settings).unwrap();
    let mut asks = Asks {
        evaluations,
        end_after,
        at: (0, 0),
    };
    match train(&settings, "", &mut asks, &AtomicBool::new(false)).unwrap() {
        Outcome::Finished(finished) => finished,
        other => panic!("{other:?}"),
    }
}

/// The steps of a run's evaluations, and which of them are on no timetable.
fn evaluations(place: &Place, name: &str) -> Vec<(u64, bool)> {
    let shown = place.json(&format!("show {name} --json"));
    let step = |record: &serde_json::Value| {
        (
            record["step"].as_u64().unwrap(),
            record["unscheduled"] == true,
        )
    };
    shown["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(step)
        .collect()
}

#[test]
fn evaluations_that_were_asked_for_are_asked_for_again() {
    let place = Place::with_data();
    // The highest loss is that of the first evaluation, which only was asked for; and each evaluation without a better one lowers
    // the learning rate, so that without it all that follows is another training.
    let plateau = "monitor = \"max:val/loss\"\nschedule = \"plateau\"\nlr-patience = 0\nlr-gamma = 0.5\nswa = 0.2\n";
    let run = asked(&place, "run", plateau, &[1, 9, 14], 3);
    assert_eq!((run.epoch, run.best.as_ref().unwrap().step), (3, 1));
    assert_eq!(
        evaluations(&place, "run"),
        [(1, true), (7, false), (9, true), (14, false), (21, false)]
    );
    let said = place.json("reproduce run --quiet --json");
    assert_eq!(
        (&said["reproduced"], &said["evaluations"]),
        (&true.into(), &5.into()),
        "{said}"
    );

    // What was not asked for is a difference.
    let journal = place.path("runs/run/journal.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    let unasked = |body: &str| body.replace(",\"unscheduled\":true", "");
    std::fs::write(&journal, rewritten(&text, unasked)).unwrap();
    let said = place.run("reproduce run --quiet");
    assert_eq!(said.code, 3, "{said:?}");
    assert!(
        said.out.contains("step 7 was measured, 1 is recorded"),
        "{said:?}"
    );
}

#[test]
fn patience_counts_what_was_asked_for_both_times() {
    let place = Place::with_data();
    let patience = "monitor = \"max:val/loss\"\npatience = 2\n";
    let run = asked(&place, "run", patience, &[1, 3, 5], 9);
    assert_eq!((run.epoch, run.step), (1, 5), "{:?}", run.ending);
    let said = place.ok("reproduce run --quiet");
    assert!(
        said.out.starts_with("reproduced  3 evaluations"),
        "{said:?}"
    );

    // Stopped by hand at the end of an epoch that the settings have no evaluation at.
    asked(&place, "amid", "eval-every = 4\n", &[], 2);
    let steps = [(4, false), (8, false), (12, false), (14, true)];
    assert_eq!(evaluations(&place, "amid"), steps);
    let said = place.ok("reproduce amid --quiet");
    assert!(
        said.out.starts_with("reproduced  4 evaluations"),
        "{said:?}"
    );
}

#[test]
fn a_time_is_not_compared_and_what_it_decides_is_said() {
    let place = Place::with_data();
    // Smoothed, alone and in an expression; and what ends a run.
    for (name, flags) in [
        ("alone", "--monitor latency_ms --smooth ema:0.6"),
        (
            "with",
            "--monitor min:val/loss+0.001*latency_ms --smooth ema:0.6",
        ),
        ("ends", "--monitor latency_ms --patience 1 --epochs 5"),
    ] {
        place.trained(name, flags);
        let said = place.ok(&format!("reproduce {name} --quiet")).out;
        assert!(
            said.contains("latency_ms, a time, is not compared"),
            "{said}"
        );
        let said = place.json(&format!("reproduce {name} --quiet --json"));
        assert_eq!(said["best_compared"], false);
    }
    // Where it decides what is trained, a difference is explained. What differs here is a loss that was not measured.
    for (flags, words) in [
        (
            "--monitor latency_ms --schedule plateau",
            "decides the learning rates (schedule plateau)",
        ),
        (
            "--monitor latency_ms --ema 0.5",
            "decides which of two weights is kept (ema, swa)",
        ),
        ("--schedule plateau --ema 0.5", ""),
    ] {
        let name = format!("run{}", words.len());
        place.trained(&name, flags);
        let journal = place.path(&format!("runs/{name}/journal.jsonl"));
        let text = std::fs::read_to_string(&journal).unwrap();
        let other = |body: &str| body.replace("\"train/loss\":", "\"train/loss\":9");
        std::fs::write(&journal, rewritten(&text, other)).unwrap();
        let said = place.run(&format!("reproduce {name} --quiet"));
        assert_eq!(said.code, 3, "{said:?}");
        assert!(
            said.out.contains("epoch 1 differs: train/loss is"),
            "{said:?}"
        );
        assert!(said.out.contains(words), "{said:?}");
        assert_eq!(said.out.contains("latency_ms, a time"), !words.is_empty());
    }
}

/// Flips one bit of every `stride`th byte of a file from `from` on.
fn damage(file: &std::path::Path, from: usize, stride: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[from..]
        .iter_mut()
        .step_by(stride)
        .for_each(|byte| *byte ^= 1);
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn what_has_changed_is_named() {
    let place = Place::with_data();
    place.trained("run", "");
    let says = |args: &str, words: &str| {
        let said = place.run(args);
        assert_eq!(said.code, 3, "{}{}", said.out, said.err);
        assert!(
            said.out.contains(words),
            "{words:?} is not in\n{}",
            said.out
        );
    };

    // Images, one pixel of each; labels, each another class; the test split alone.
    let images = place.path("data/train-images-idx3-ubyte");
    damage(&images, 16, 28 * 28);
    says(
        "verify run",
        "data     FAILED the val images are not those recorded",
    );
    says("reproduce run", "NOT reproduced  the train split differs");
    damage(&images, 16, 28 * 28);
    let labels = place.path("data/train-labels-idx1-ubyte");
    damage(&labels, 8, 1);
    says(
        "verify run",
        "data     FAILED the val images are not those recorded",
    );
    damage(&labels, 8, 1);
    let test = place.path("data/t10k-images-idx3-ubyte");
    damage(&test, 16, 28 * 28);
    says("reproduce run", "the test split differs");
    damage(&test, 16, 28 * 28);

    // A key of run.toml.
    let toml = place.path("runs/run/run.toml");
    let text = std::fs::read_to_string(&toml).unwrap();
    std::fs::write(&toml, text.replace("lr = 0.01\n", "lr = 0.02\n")).unwrap();
    says(
        "verify run",
        "config   FAILED run.toml has lr 0.02, the model was trained with 0.01",
    );
    says(
        "reproduce run",
        "lr differs: run.toml has 0.02, the best was trained with 0.01",
    );
    std::fs::write(&toml, &text).unwrap();

    place.ok("verify run");
    place.ok("reproduce run --quiet");

    // A byte of the weights.
    let best = place.path("runs/run/best.safetensors");
    let length = std::fs::metadata(&best).unwrap().len() as usize;
    damage(&best, length - 1, 1);
    says("verify run", "digest   FAILED");
}

#[test]
fn the_first_epoch_that_differs_is_named() {
    let place = Place::with_data();
    place.trained("run", "--epochs 3");
    // As if another training had made it: a loss of the first epoch is ten more.
    let journal = place.path("runs/run/journal.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    let other = rewritten(&text, |body| {
        let first = body.contains("\"event\":\"evaluated\"") && body.contains("\"epoch\":1,");
        match first {
            true => body.replace("\"val/loss\":", "\"val/loss\":1"),
            false => body.to_owned(),
        }
    });
    assert_ne!(other, text);
    std::fs::write(&journal, other).unwrap();
    let said = place.run("reproduce run --quiet");
    assert_eq!(said.code, 3, "{}{}", said.out, said.err);
    assert!(
        said.out.starts_with("NOT reproduced  epoch 1 differs: "),
        "{}",
        said.out
    );
}

//! `reproduce`, and what it and `verify` notice.

use crate::support::Place;

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
    place.trained("other", "--epochs 3 --seed 5 --val-fraction 0.1");
    // The journal of another run in the place of this one's.
    std::fs::copy(
        place.path("runs/other/journal.jsonl"),
        place.path("runs/run/journal.jsonl"),
    )
    .unwrap();
    let said = place.run("reproduce run --quiet");
    assert_eq!(said.code, 3, "{}{}", said.out, said.err);
    assert!(
        said.out.starts_with("NOT reproduced  epoch 1 differs: "),
        "{}",
        said.out
    );
}

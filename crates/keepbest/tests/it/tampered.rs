//! Runs that somebody has made over, digests and all: what `verify` notices, what it says it cannot, and a line kept elsewhere.

use std::fs;

use keepbest::formats::model_file::{ModelFile, ModelMetadata, encode};
use keepbest::formats::{StateDict, Tensor};
use serde_json::Value;

use crate::support::{Place, rewritten, write_idx};

const JOURNAL: &str = "runs/run/journal.jsonl";
const BEST: &str = "runs/run/best.safetensors";

/// Three epochs of which the last is best, every checkpoint kept.
fn trained() -> Place {
    let place = Place::with_data();
    place.trained("run", "--epochs 3 --lr 0.02 --keep last:9 --seed 3");
    place
}

/// Makes a file anew in its place, every digest in it right; links to it are to the new one.
fn resealed(place: &Place, file: &str, other: impl Fn(&mut ModelMetadata, &mut StateDict)) {
    let path = place.path(file);
    let bytes = fs::read(&path).unwrap();
    let model = ModelFile::from_bytes(bytes.into()).unwrap();
    let (mut metadata, mut training) = (model.metadata.unwrap(), model.training);
    other(&mut metadata, &mut training);
    let mut bytes = Vec::new();
    encode(&model.weights, &training, &metadata)
        .unwrap()
        .write_to(&mut bytes)
        .unwrap();
    fs::write(&path, bytes).unwrap();
}

/// Makes the journal's lines anew, their checks right.
fn forged(place: &Place, other: impl Fn(&str) -> String) {
    let path = place.path(JOURNAL);
    let text = fs::read_to_string(&path).unwrap();
    let anew = rewritten(&text, other);
    assert_ne!(anew, text, "nothing was forged");
    fs::write(path, anew).unwrap();
}

/// Appends a line to the journal.
fn appended(place: &Place, event: &Value) {
    let path = place.path(JOURNAL);
    let mut text = fs::read_to_string(&path).unwrap();
    let mut line = serde_json::json!({"seq": text.lines().count() + 1, "time_ms": 1});
    let fields = event.as_object().unwrap().clone();
    line.as_object_mut().unwrap().extend(fields);
    text.push_str(&format!("{line}\n").replace("}\n", ",\"check\":\"\"}\n"));
    fs::write(path, rewritten(&text, str::to_owned)).unwrap();
}

fn notices(place: &Place, args: &str, words: &str) {
    let said = place.run(args);
    assert_eq!(said.code, 3, "{args}\n{}{}", said.out, said.err);
    assert!(said.out.contains("FAILED"), "{}", said.out);
    assert!(
        said.out.contains(words),
        "{words:?} is not in\n{}",
        said.out
    );
}

/// As runs of earlier versions are: no digests of files in the journal.
fn without_file_digests(place: &Place) {
    forged(place, |body| match body.split_once(",\"file\":") {
        Some((before, _)) if body.contains("\"saved\"") => before.to_owned(),
        _ => body.to_owned(),
    });
}

#[test]
fn what_is_changed_in_a_resealed_best_is_noticed() {
    type Change = fn(&mut ModelMetadata, &mut StateDict);
    let optimizer: Change = |_, training| {
        let mut other = StateDict::new();
        for (place, (name, tensor)) in training.iter().enumerate() {
            let zeros = vec![0.0; tensor.shape().iter().product()];
            let zeros = Tensor::from_f32(tensor.shape(), &zeros).unwrap();
            let tensor = if place == 0 { zeros } else { tensor.clone() };
            other.insert(name, tensor).unwrap();
        }
        *training = other;
    };
    let metrics: Change = |metadata, _| {
        let evaluation = metadata.evaluation.as_mut().unwrap();
        let metrics = evaluation["metrics"].as_object_mut().unwrap();
        metrics.retain(|name, _| name == "val/accuracy" || name == "val/loss");
    };
    let evaluation: Change = |metadata, _| metadata.evaluation = None;
    let history: Change = |metadata, _| metadata.history = Some(serde_json::json!([]));
    let past: Change = |metadata, _| {
        let history = metadata.history.as_mut().unwrap();
        history[0]["metrics"]["train/loss"] = serde_json::json!(0.001);
    };
    let provenance: Change = |metadata, _| {
        metadata.provenance.as_mut().unwrap()["seed"] = serde_json::json!(77);
    };
    for (change, old_words) in [
        (optimizer, ""),
        (metrics, "in the journal, not there in the file"),
        (evaluation, ""),
        (history, "the journal tells of an evaluation in epoch 1"),
        (past, "epoch 1: train/loss is"),
        (provenance, ""),
    ] {
        let place = trained();
        resealed(&place, BEST, change);
        // Every tensor and the header are what the file's own digests say.
        notices(&place, "verify run", "digest   ok");
        notices(&place, "verify run --digest-only", "file     FAILED");
        notices(&place, &format!("verify {BEST}"), "file     FAILED");

        without_file_digests(&place);
        if old_words.is_empty() {
            let said = place.ok("verify run");
            let words = "not checked: optimizer state and provenance";
            assert!(said.out.contains(words), "{}", said.out);
        } else {
            notices(&place, "verify run", old_words);
        }
    }
}

#[test]
fn metrics_that_are_gone_from_a_file_alone_are_noticed() {
    let place = trained();
    let copy = "copy.safetensors";
    fs::copy(place.path(BEST), place.path(copy)).unwrap();
    let said = place.ok(&format!("verify {copy}"));
    assert!(
        said.out.contains("not checked: where the file comes from"),
        "{}",
        said.out
    );
    resealed(&place, copy, |metadata, _| {
        let evaluation = metadata.evaluation.as_mut().unwrap();
        let metrics = evaluation["metrics"].as_object_mut().unwrap();
        metrics.retain(|name, _| name == "val/accuracy");
    });
    notices(&place, &format!("verify {copy}"), "and is not recorded");
    resealed(&place, copy, |metadata, _| {
        let evaluation = metadata.evaluation.as_mut().unwrap();
        evaluation["metrics"]["val/made_up"] = serde_json::json!(0.99);
    });
    notices(&place, &format!("verify {copy}"), "FAILED");
}

#[test]
fn a_forged_journal_is_noticed() {
    let best = |place: &Place| {
        let shown = place.json("show run --json");
        shown["best"]["metrics"]["val/accuracy"].to_string()
    };
    let place = trained();
    let accuracy = best(&place);
    let figure = format!("\"val/accuracy\":{accuracy}");
    let value = format!("\"value\":{accuracy}");
    let whole = fs::read(place.path(JOURNAL)).unwrap();
    let check = |event: &str, from: &str, to: &str, words: &str| {
        let event = format!("\"event\":\"{event}\"");
        forged(&place, |body| match body.contains(&event) {
            true => body.replace(from, to),
            false => body.to_owned(),
        });
        notices(&place, "verify run --digest-only", words);
        fs::write(place.path(JOURNAL), &whole).unwrap();
    };
    // The figure alone; with the score that it makes; and the score alone, which `list` shows.
    check(
        "evaluated",
        &figure,
        "\"val/accuracy\":0.999",
        "its metrics make it 0.999",
    );
    forged(&place, |body| {
        body.replace(&figure, "\"val/accuracy\":0.999")
            .replace(&value, "\"value\":0.999")
    });
    assert_eq!(place.json("show run --json")["best"]["value"], 0.999);
    notices(&place, "verify run", "val/accuracy is 0.999 in the journal");
    fs::write(place.path(JOURNAL), &whole).unwrap();
    check("promoted", &value, "\"value\":0.999", "evaluated was");
    // Figures of another epoch, which only last and the best tell of.
    check(
        "evaluated",
        "\"train/loss\":",
        "\"train/loss\":9",
        "train/loss is",
    );
    check(
        "evaluated",
        "\"verdict\":\"improved\"",
        "\"verdict\":\"not_improved\"",
        "FAILED",
    );
    // An evaluation that never was, and one that is gone.
    let lines: Vec<String> = String::from_utf8(whole.clone())
        .unwrap()
        .lines()
        .map(Into::into)
        .collect();
    let first = lines
        .iter()
        .position(|line| line.contains("\"evaluated\""))
        .unwrap();
    let numbered = |lines: Vec<&String>| {
        let lines = lines.into_iter().enumerate().map(|(at, line)| {
            let (_, rest) = line.split_once(",\"time_ms\"").unwrap();
            format!("{{\"seq\":{},\"time_ms\"{rest}\n", at + 1)
        });
        rewritten(&lines.collect::<String>(), str::to_owned)
    };
    let without = lines.iter().enumerate().filter(|(at, _)| *at != first);
    let without = numbered(without.map(|(_, line)| line).collect());
    fs::write(place.path(JOURNAL), without).unwrap();
    notices(&place, "verify run --digest-only", "FAILED");
    fs::write(place.path(JOURNAL), &whole).unwrap();
    place.ok("verify run");
}

#[test]
fn test_figures_are_measured_again_when_asked() {
    let place = trained();
    let said = place.ok("verify run");
    assert!(
        said.out.contains("not checked: the test figures: --test"),
        "{}",
        said.out
    );
    let said = place.ok("verify run --test");
    for words in [
        "data     ok     the test split",
        "test metrics are equal to the last bit, and so are their intervals",
    ] {
        assert!(
            said.out.contains(words),
            "{words:?} is not in\n{}",
            said.out
        );
    }
    let whole = fs::read(place.path(JOURNAL)).unwrap();
    for (from, to) in [
        ("\"test/accuracy\":0", "\"test/accuracy\":7"),
        ("\"low\":0", "\"low\":5"),
        ("\"test/log_loss\":", "\"test/lost\":"),
    ] {
        forged(&place, |body| body.replacen(from, to, 1));
        place.ok("verify run");
        notices(&place, "verify run --test", "test     FAILED");
        fs::write(place.path(JOURNAL), &whole).unwrap();
    }
    // There are none of a model that is not the best at the end of a run.
    place
        .run("verify run@epoch:1 --test")
        .fails(1, &["no test figures are recorded"]);
}

#[test]
fn a_promotion_of_a_worse_checkpoint_is_noticed() {
    let place = trained();
    let shown = place.json("show run --json");
    let best = shown["best"]["step"].as_u64().unwrap();
    let history = shown["history"].as_array().unwrap();
    let monitored = |record: &Value| record["score"]["value"].as_f64().unwrap();
    let most = shown["best"]["value"].as_f64().unwrap();
    let worse = history
        .iter()
        .find(|record| monitored(record) < most)
        .unwrap();
    let step = worse["step"].as_u64().unwrap();
    assert_ne!(step, best);
    let names = fs::read_dir(place.path("runs/run/checkpoints")).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let name = names
        .find(|name| name.starts_with(&format!("{step:08}")))
        .unwrap();
    appended(
        &place,
        &serde_json::json!({
            "event": "promoted", "ref": "best", "checkpoint": name, "step": step,
            "epoch": worse["epoch"], "score": worse["score"], "was": most,
        }),
    );
    fs::remove_file(place.path(BEST)).unwrap();
    fs::hard_link(
        place.path(&format!("runs/run/checkpoints/{name}")),
        place.path(BEST),
    )
    .unwrap();
    notices(&place, "verify run", "which is no improvement");
    place
        .run("attest run")
        .fails(3, &["contradicts itself", "no improvement"]);
}

#[test]
fn a_line_that_was_kept_elsewhere_tells_what_nothing_in_the_run_can() {
    let place = trained();
    let line = place.ok("attest run").out;
    let line = line.trim();
    assert!(
        !line.contains('\n') && line.starts_with("keepbest-run-1 "),
        "{line}"
    );
    assert_eq!(place.json("attest run --json")["attestation"], line);
    let against = |place: &Place, model: &str| {
        let mut command = place.command(&format!("verify {model} --digest-only --against"));
        crate::support::Said::of(command.arg(line).output().unwrap())
    };
    let said = against(&place, "run");
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("attested ok"), "{}", said.out);
    fs::copy(place.path(BEST), place.path("copy.safetensors")).unwrap();
    assert_eq!(against(&place, "copy.safetensors").code, 0);

    // A time is told by nothing else.
    let whole = fs::read(place.path(JOURNAL)).unwrap();
    forged(&place, |body| {
        body.replace("\"time_ms\":1", "\"time_ms\":2")
    });
    place.ok("verify run");
    let said = against(&place, "run");
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.out.contains("attested FAILED"), "{}", said.out);
    // Journal and file made anew together.
    fs::write(place.path(JOURNAL), &whole).unwrap();
    without_file_digests(&place);
    resealed(&place, BEST, |metadata, _| {
        metadata.provenance.as_mut().unwrap()["seed"] = serde_json::json!(77);
    });
    let said = against(&place, "run");
    assert_eq!(said.code, 3, "{said:?}");
    assert!(
        said.out.contains("best is not the file that was attested"),
        "{}",
        said.out
    );

    // A run that goes on is the same with more in it.
    let place = trained();
    let line = place.ok("attest run").out;
    place.ok("train --resume run --epochs 4 --quiet");
    let mut command = place.command("verify run --against");
    let said = crate::support::Said::of(command.arg(line.trim()).output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains(" since"), "{}", said.out);
    place
        .run("verify run --against keepbest-run-1")
        .fails(2, &["is no line of `keepbest attest`"]);
}

#[test]
fn images_of_other_classes_or_sizes_are_a_check_that_does_not_hold() {
    let place = trained();
    // One class more; and the same images as an archive of another size.
    write_idx(&place.path("more"), 5, 30, 10);
    notices(&place, "verify run --data more", "data     FAILED");
    let pixels = fs::read(place.path("data/train-images-idx3-ubyte")).unwrap();
    fs::create_dir(place.path("wide")).unwrap();
    for file in fs::read_dir(place.path("data")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), place.path("wide").join(file.file_name())).unwrap();
    }
    // 28 rows of 28 are 14 of 56.
    for name in ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"] {
        let path = place.path("wide").join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[8..12].copy_from_slice(&14_u32.to_be_bytes());
        bytes[12..16].copy_from_slice(&56_u32.to_be_bytes());
        fs::write(&path, bytes).unwrap();
    }
    assert!(!pixels.is_empty());
    notices(&place, "verify run --data wide", "data     FAILED");
    // Images that are not there are no such check.
    place
        .run("verify run --data nowhere")
        .fails(1, &["nowhere"]);

    // A journal with a damaged line is one.
    let journal = place.path(JOURNAL);
    let mut bytes = fs::read(&journal).unwrap();
    bytes[40] ^= 1;
    fs::write(&journal, bytes).unwrap();
    notices(&place, "verify run", "journal  FAILED");
}

#[test]
fn a_model_that_contradicts_itself_does_not_hold_and_is_not_used() {
    let place = trained();
    let copy = "copy.safetensors";
    type Change = fn(&mut ModelMetadata);
    let changes: [(Change, &str); 2] = [
        (
            |metadata| metadata.classes.truncate(2),
            "4 classes, 2 are named",
        ),
        (
            |metadata| metadata.classes[1] = metadata.classes[0].clone(),
            "two of its classes are called",
        ),
    ];
    for (change, words) in changes {
        fs::copy(place.path(BEST), place.path(copy)).unwrap();
        resealed(&place, copy, |metadata, _| change(metadata));
        notices(&place, &format!("verify {copy}"), words);
        for verb in [
            format!("predict {copy} data"),
            format!("evaluate {copy} --data data"),
            format!("train --data data --from {copy}"),
        ] {
            place.run(&verb).fails(1, &["contradicts itself", words]);
        }
    }
}

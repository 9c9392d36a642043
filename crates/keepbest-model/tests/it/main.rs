//! The crate's functions as a program uses them that has no command line: results and errors are values, and nothing is trained.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keepbest_data::{Image, ImageShape, Preprocessing, Unreadable};
use keepbest_formats::StateDict;
use keepbest_formats::model_file::{self, Attachments, ModelMetadata};
use keepbest_model::average::{AverageModelsError, AverageOptions, average};
use keepbest_model::write::{WriteError, write_model};
use keepbest_model::{
    AnswerError, Classifier, ClassifyOptions, CompareError, Contender, EvaluateOptions, Event,
    ExportForm, ExportOptions, ImageChoice, ImageSource, ImportError, ImportOptions, MeasureError,
    Model, Part, SameImagesError, Stage, VerifyError, VerifyOptions, Watch, compare, evaluate,
    export, import, verify,
};
use keepbest_nn::zoo::{self, ZooOptions};
use keepbest_nn::{EngineConfig, build_engine};
use tempfile::TempDir;

const DATA: &str = "fashion-mnist-mini";

fn classes() -> Vec<String> {
    let data = keepbest_data::open_with(DATA, None, Unreadable::Refuse).unwrap();
    data.classes().to_vec()
}

/// A model as a new network has it, in a file of this name.
fn written(dir: &TempDir, name: &str, seed: u64, classes: &[String]) -> PathBuf {
    let spec = zoo::spec("lenet5", &ZooOptions::new(1, 28, 28, 10)).unwrap();
    let config = EngineConfig {
        seed,
        ..EngineConfig::default()
    };
    let engine = build_engine("cpu", &spec, config).unwrap();
    let preprocessing = Preprocessing::new(ImageShape::new(28, 28, 1));
    let metadata = ModelMetadata {
        attachments: Attachments {
            model: Some(spec.to_json()),
            classes: classes.to_vec(),
            preprocessing: Some(serde_json::to_value(&preprocessing).unwrap()),
            ..Attachments::default()
        },
        ..ModelMetadata::default()
    };
    let weights = engine.snapshot().weights();
    let image = model_file::encode(&weights, &StateDict::new(), &metadata).unwrap();
    let path = dir.path().join(name);
    write_model(&path, false, &image).unwrap();
    path
}

fn opened(path: &Path) -> Model {
    Model::open_reference(path.to_str().unwrap(), Path::new("runs"), None).unwrap()
}

fn on_test() -> EvaluateOptions {
    EvaluateOptions {
        images: ImageChoice {
            source: ImageSource {
                data: Some(DATA.into()),
                dir: None,
            },
            split: Some(Part::Test),
            ..ImageChoice::default()
        },
        ..EvaluateOptions::default()
    }
}

#[test]
fn models_are_shared_and_askers_are_sent() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<Model>();
    sent::<Classifier>();
    shared::<MeasureError>();
    shared::<VerifyError>();
}

#[test]
fn a_model_is_evaluated_and_told_how_far() {
    let dir = tempfile::tempdir().unwrap();
    let model = opened(&written(&dir, "one.safetensors", 1, &classes()));
    let measured = Cell::new(0);
    let watcher = |event: Event<'_>| {
        if let Event::Images {
            stage: Stage::Measuring,
            done,
            ..
        } = event
        {
            measured.set(done);
        }
        true
    };
    let found = evaluate(&model, &on_test(), Watch::new(&watcher)).unwrap();
    assert_eq!((found.split, found.images), ("test", measured.get() as u64));
    let accuracy = found.metrics.get("test/accuracy").unwrap();
    let interval = found.intervals["test/accuracy"];
    assert!(interval.low <= accuracy && accuracy <= interval.high);
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["images_of"]["own_data"], false);
    assert_eq!(json["per_class"].as_array().unwrap().len(), 10);

    // Whoever watches can stop it.
    let stop = |event: Event<'_>| !matches!(event, Event::Images { done: 64.., .. });
    let error = evaluate(&model, &on_test(), Watch::new(&stop)).unwrap_err();
    assert!(error.is_interrupted(), "{error}");
    // What the model was trained on is not recorded.
    let error = evaluate(&model, &EvaluateOptions::default(), Watch::none()).unwrap_err();
    assert!(matches!(error, MeasureError::NotRecorded { .. }), "{error}");
    assert_eq!(error.hint().unwrap(), "name them: --data");
}

#[test]
fn images_in_memory_and_in_files_are_answered_in_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let model = Arc::new(opened(&written(&dir, "one.safetensors", 1, &classes())));
    let options = ClassifyOptions {
        batch_size: 2,
        top_k: 3,
        ..ClassifyOptions::default()
    };
    let mut classifier = Classifier::new(model.clone(), options.clone()).unwrap();
    let data = keepbest_data::open_with(DATA, None, Unreadable::Refuse).unwrap();
    let image = |at: usize| data.train.image(at).unwrap();
    let missing = keepbest_data::load_image(&dir.path().join("none.png"));
    let images = vec![
        ("a".to_owned(), Ok(image(0))),
        ("b".to_owned(), missing),
        ("c".to_owned(), Ok(image(1))),
        ("d".to_owned(), Ok(image(2))),
        ("e".to_owned(), Ok(image(0))),
    ];
    let answers = classifier.classify(images).unwrap();
    assert_eq!(answers.len(), 5);
    assert!(matches!(answers[1], Err(AnswerError::Read(_))));
    let answer = |at: usize| answers[at].as_ref().unwrap();
    assert_eq!(answer(0), answer(4));
    assert_eq!(answer(0).top.len(), 3);
    assert_eq!(answer(0).decision, answer(0).top[0]);
    assert!(!answer(0).unseen.any());

    // Another size is converted, unless that is refused.
    let large = Image::new(ImageShape::new(56, 56, 1), vec![7u8; 56 * 56]).unwrap();
    let found = classifier.classify_images(std::slice::from_ref(&large));
    let found = found.unwrap().remove(0).unwrap();
    assert!(found.unseen.size && classifier.conversion_words(found.unseen).is_some());
    let strict = ClassifyOptions {
        strict: true,
        ..options
    };
    let mut strict = Classifier::new(model, strict).unwrap();
    let refused = strict.classify_images(&[large]).unwrap();
    let error = refused[0].as_ref().unwrap_err();
    assert_eq!(error.to_string(), "image 0 does not fit the model");

    let files = [dir.path().join("none.png")];
    assert!(strict.classify_files(&files).unwrap()[0].is_err());
}

#[test]
fn models_are_compared_on_the_same_images() {
    let dir = tempfile::tempdir().unwrap();
    let names = classes();
    let open = |path: PathBuf| Contender::open(path.to_str().unwrap(), dir.path(), None).unwrap();
    let first = open(written(&dir, "one.safetensors", 1, &names));
    let second = open(written(&dir, "two.safetensors", 2, &names));
    let begun = Cell::new(0);
    let watcher = |event: Event<'_>| {
        begun.set(begun.get() + usize::from(matches!(event, Event::Begun { .. })));
        true
    };
    let models = [first.clone(), second];
    let found = compare(&models, &on_test(), Watch::new(&watcher)).unwrap();
    assert_eq!((begun.get(), found.models.len()), (2, 2));
    let pair = &found.pairs[0];
    let right = pair.both_right + pair.only_first_right;
    let accuracy = found.models[0].metrics.get("test/accuracy").unwrap();
    assert_eq!(right as f64 / found.images as f64, accuracy);
    assert!(found.settings.is_empty());

    let others: Vec<String> = names.iter().rev().cloned().collect();
    let other = open(written(&dir, "other.safetensors", 3, &others));
    let error = compare(&[first, other], &on_test(), Watch::none()).unwrap_err();
    assert!(
        matches!(error, CompareError::Images(SameImagesError::Classes { .. })),
        "{error}"
    );
    let error = compare(&[], &on_test(), Watch::none()).unwrap_err();
    assert!(matches!(error, CompareError::Nothing), "{error}");
}

#[test]
fn averages_are_of_models_that_say_how_to_measure() {
    let dir = tempfile::tempdir().unwrap();
    let names = classes();
    let others: Vec<String> = names.iter().rev().cloned().collect();
    let one = opened(&written(&dir, "one.safetensors", 1, &names));
    let other = opened(&written(&dir, "other.safetensors", 2, &others));
    let options = AverageOptions::default();
    let error = average(&[one.clone(), other], &options, Watch::none()).unwrap_err();
    let AverageModelsError::Differ { part, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(part, "classes");
    let error = average(&[one.clone(), one], &options, Watch::none()).unwrap_err();
    assert_eq!(error.hint().unwrap(), "name them: --data", "{error}");
    let error = average(&[], &options, Watch::none()).unwrap_err();
    assert!(matches!(error, AverageModelsError::Nothing), "{error}");
}

#[test]
fn what_is_exported_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let model = opened(&written(&dir, "one.safetensors", 1, &classes()));
    let pth = dir.path().join("one.pth");
    let exported = export(&model, ExportForm::StateDict, ExportOptions::default()).unwrap();
    let report = exported.save(&pth, false).unwrap();
    assert_eq!(report.bytes, std::fs::metadata(&pth).unwrap().len());
    let error = exported.save(&pth, false).unwrap_err();
    assert!(matches!(error, WriteError::Exists { .. }), "{error}");

    let to = dir.path().join("back.safetensors");
    let options = ImportOptions {
        network: Some("lenet5".into()),
        classes: Some(classes()),
        ..ImportOptions::default()
    };
    let made = import(&pth, &to, &options).unwrap();
    assert_eq!(made.digest, model.file.weights_digest());
    assert!(made.tensors.is_exact());
    write_model(&to, false, &made.image).unwrap();
    assert_eq!(opened(&to).classes, model.classes);

    let wrong = ImportOptions {
        network: Some("simple-cnn".into()),
        classes: None,
        ..options
    };
    let error = import(&pth, &to, &wrong).unwrap_err();
    assert!(matches!(error, ImportError::Unfit { .. }), "{error}");
    assert!(!error.differences().is_empty());
}

#[test]
fn a_damaged_model_does_not_verify() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(&dir, "one.safetensors", 1, &classes());
    let reference = path.to_str().unwrap();
    let options = VerifyOptions {
        digest_only: true,
        ..VerifyOptions::default()
    };
    let check = || verify(reference, dir.path(), &options, Watch::none());
    let report = check().unwrap();
    assert!(report.ok && report.checks[0].check == "digest");

    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let report = check().unwrap();
    assert!(!report.ok && !report.checks[0].ok);
    let error = verify("nowhere", dir.path(), &options, Watch::none()).unwrap_err();
    assert!(matches!(error, VerifyError::Reference(_)), "{error}");
}

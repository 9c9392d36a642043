//! Small real data sets cut from the embedded one, and runs on them.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use keepbest_data::embedded;
use keepbest_train::{Event, Finished, Outcome, Settings, TrainError, train};

/// A folder for one test, with small images in it.
pub(crate) struct Place {
    pub dir: tempfile::TempDir,
    pub data: PathBuf,
}

impl Place {
    /// With 30 training and 10 test images of each of the first four classes.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        write_idx(&data, 4, 30, 10);
        Self { dir, data }
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.dir.path().join("runs")
    }

    /// Settings of a short run on the images; lines of `run.toml` in `more` win.
    pub(crate) fn settings(&self, name: &str, more: &str) -> Settings {
        let usual = format!(
            "data = {:?}\nruns-dir = {:?}\nname = {name:?}\nmodel = \"simple-cnn\"\nepochs = 3\nbatch-size = 32",
            self.data.display().to_string(),
            self.runs().display().to_string(),
        );
        Settings::from_toml(more)
            .unwrap()
            .over(Settings::from_toml(&usual).unwrap())
    }

    /// Trains to the end.
    pub(crate) fn train(&self, name: &str, more: &str) -> Box<Finished> {
        finished(train(
            &self.settings(name, more),
            "",
            &mut |_: Event<'_>| {},
            &AtomicBool::new(false),
        ))
    }

    /// Trains into an error.
    pub(crate) fn fail(&self, name: &str, more: &str) -> TrainError {
        train(
            &self.settings(name, more),
            "",
            &mut |_: Event<'_>| {},
            &AtomicBool::new(false),
        )
        .unwrap_err()
    }
}

pub(crate) fn finished(outcome: Result<Outcome, TrainError>) -> Box<Finished> {
    match outcome.unwrap() {
        Outcome::Finished(finished) => finished,
        other => panic!("{other:?}"),
    }
}

/// The identity of a run's best.
pub(crate) fn digest(finished: &Finished) -> String {
    finished.best.as_ref().unwrap().weights.to_string()
}

/// Writes an IDX data set of the first `classes` classes of the embedded images.
pub(crate) fn write_idx(to: &Path, classes: u32, train: usize, test: usize) {
    std::fs::create_dir_all(to).unwrap();
    let bundle = embedded::fashion_mnist().unwrap();
    let test_set = bundle.test.as_ref().unwrap();
    for (prefix, set, per_class) in [("train", &bundle.train, train), ("t10k", test_set, test)] {
        let mut counts = vec![0; classes as usize];
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for index in 0..set.len() {
            let label = set.label(index);
            if label < classes && counts[label as usize] < per_class {
                counts[label as usize] += 1;
                labels.push(label as u8);
                pixels.extend_from_slice(set.image(index).unwrap().pixels());
            }
        }
        let count = (labels.len() as u32).to_be_bytes();
        let side = 28u32.to_be_bytes();
        let images = [&[0, 0, 8, 3][..], &count, &side, &side, &pixels].concat();
        let labels = [&[0, 0, 8, 1][..], &count, &labels].concat();
        std::fs::write(to.join(format!("{prefix}-images-idx3-ubyte")), images).unwrap();
        std::fs::write(to.join(format!("{prefix}-labels-idx1-ubyte")), labels).unwrap();
    }
}

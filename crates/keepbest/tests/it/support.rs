//! Running the program in a folder of its own, and small real data sets.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use keepbest::data::embedded;
use serde_json::Value;

/// A folder that the program is run in.
pub(crate) struct Place(tempfile::TempDir);

/// The exit code of the program and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With small images in `data`: 30 for training and 10 for testing of each of four classes.
    pub(crate) fn with_data() -> Self {
        let place = Self::new();
        write_idx(&place.path("data"), 4, 30, 10);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keepbest"));
        command
            .current_dir(self.0.path())
            .args(args.split_whitespace())
            .stdin(Stdio::null());
        command
            .env_remove("NO_COLOR")
            .env_remove("KEEPBEST_ISA")
            .env("TERM", "xterm-256color");
        command
    }

    /// Runs the program in a folder in this one.
    pub(crate) fn run_in(&self, folder: &str, args: &str) -> Said {
        let mut command = self.command(args);
        Said::of(command.current_dir(self.path(folder)).output().unwrap())
    }

    /// Runs the program with arguments that are parted by blanks.
    pub(crate) fn run(&self, args: &str) -> Said {
        Said::of(self.command(args).output().unwrap())
    }

    /// Runs it, expecting success.
    pub(crate) fn ok(&self, args: &str) -> Said {
        let said = self.run(args);
        assert_eq!(said.code, 0, "{args}\n{}\n{}", said.out, said.err);
        said
    }

    /// Runs it, expecting success and JSON.
    pub(crate) fn json(&self, args: &str) -> Value {
        serde_json::from_str(&self.ok(args).out).unwrap()
    }

    /// Trains a small run on `data`.
    pub(crate) fn trained(&self, name: &str, more: &str) -> Value {
        self.json(&format!(
            "train {SMALL} --name {name} --quiet --json {more}"
        ))
    }
}

/// A run of a second on the small images.
pub(crate) const SMALL: &str = "--data data --epochs 2 --batch-size 16 --lr 0.01";

impl Said {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Expects an error: exit code, and each of the words in what it says.
    pub(crate) fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        assert!(
            self.err.starts_with("error: ") || self.err.contains("\nerror: "),
            "{}",
            self.err
        );
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in\n{}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }
}

/// A journal with other lines, their checks right.
pub(crate) fn rewritten(journal: &str, other: impl Fn(&str) -> String) -> String {
    let lines = journal.lines().map(|line| {
        let (body, _) = line.rsplit_once(",\"check\":").unwrap();
        let body = other(body);
        let check = blake3::hash(body.as_bytes()).to_hex();
        format!("{body},\"check\":\"{}\"}}\n", &check[..16])
    });
    lines.collect()
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

/// Writes a folder of classes: so many small colour images of each, told apart by their brightness. `first` is the number of the
/// first; images of other numbers are others.
pub(crate) fn photos(to: &Path, classes: &[(&str, u32)], first: u32) {
    for (class, count) in classes {
        let folder = to.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        // By its name, so that a class looks the same whatever stands beside it.
        let bright = class.bytes().map(u32::from).sum::<u32>() * 37 % 180;
        for i in 0..*count {
            let number = first + i;
            let image = image::RgbImage::from_fn(12, 12, |x, y| {
                let seed = (number * 12 + x) * 12 + y;
                let noise = seed.wrapping_mul(2_654_435_761) >> 27;
                image::Rgb([bright + noise, bright + 5 * y, (x * 9 + noise) % 200].map(|v| v as u8))
            });
            image.save(folder.join(format!("{i:02}.png"))).unwrap();
        }
    }
}

//! CIFAR-10's and CIFAR-100's binary versions: records of label bytes and 3,072 pixels, 32x32, planes red, green, blue
//! (Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::class_names::class_names_or_numbers;
use super::disk::{is_there, names_in, read_file};
use super::limits;
use super::reader::{Accepts, Reader, Source};
use crate::dataset::check_labels;
use crate::{DataBundle, DataError, ImageShape, MemoryDataset, Mirrored};

/// Shape of every image.
pub(crate) const SHAPE: ImageShape = ImageShape::new(32, 32, 3);

const PLANE: usize = 32 * 32;

/// A version of the format: a folder with `data_batch_1.bin`, `data_batch_2.bin`, ... (any number of them) and, where it is
/// there, `test_batch.bin`; or one with `train.bin`, `test.bin` and `fine_label_names.txt`. Names of CIFAR-10's classes come
/// from `batches.meta.txt`; without it they are the numbers.
#[derive(Debug)]
pub(crate) struct Cifar {
    kind: &'static str,
    accepts: &'static str,
    /// The folder that the original archive unpacks to.
    archive_folder: &'static str,
    /// Class names, one a line.
    classes_file: &'static str,
    /// Bytes before the pixels of a record; the last of them is the class.
    label_bytes: usize,
}

pub(crate) const CIFAR_10: Cifar = Cifar {
    kind: "cifar10",
    accepts: "with CIFAR-10 binary files (data_batch_1.bin ...)",
    archive_folder: "cifar-10-batches-bin",
    classes_file: "batches.meta.txt",
    label_bytes: 1,
};

/// Records have the coarse label, then the fine one, which is the class.
pub(crate) const CIFAR_100: Cifar = Cifar {
    kind: "cifar100",
    accepts: "with CIFAR-100 binary files (train.bin)",
    archive_folder: "cifar-100-binary",
    classes_file: "fine_label_names.txt",
    label_bytes: 2,
};

impl Reader for Cifar {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn accepts(&self) -> Accepts {
        Accepts::Folder(self.accepts)
    }

    /// CIFAR's format holds CIFAR's photographs and nothing else.
    fn mirrored(&self) -> Mirrored {
        Mirrored::Same
    }

    /// Looks for the files in the folder or in the folder of the original archive below it.
    fn open(&self, source: &Source<'_>) -> Result<Option<DataBundle>, DataError> {
        for folder in [
            source.path.to_owned(),
            source.path.join(self.archive_folder),
        ] {
            if folder.is_dir()
                && let Some(files) = self.find_in(folder)?
            {
                return self.read(&files, source.path).map(Some);
            }
        }
        Ok(None)
    }
}

/// The files of a data set in CIFAR's binary format.
#[derive(Debug)]
struct CifarFiles {
    folder: PathBuf,
    train: Vec<PathBuf>,
    test: Option<PathBuf>,
}

impl Cifar {
    fn find_in(&self, folder: PathBuf) -> Result<Option<CifarFiles>, DataError> {
        let (train, test) = match self.label_bytes {
            1 => (batches(&folder)?, "test_batch.bin"),
            // The name alone is too common a one.
            _ if !is_there(&folder.join(self.classes_file)) => return Ok(None),
            _ => {
                let train = folder.join("train.bin");
                (
                    is_there(&train).then_some(train).into_iter().collect(),
                    "test.bin",
                )
            }
        };
        let test = Some(folder.join(test)).filter(|path| is_there(path));
        Ok((!train.is_empty()).then_some(CifarFiles {
            folder,
            train,
            test,
        }))
    }

    /// Reads the files.
    ///
    /// # Errors
    /// When one ends in the middle of a record, or holds a label that is not one of the classes.
    fn read(&self, files: &CifarFiles, folder: &Path) -> Result<DataBundle, DataError> {
        let mut train = Records::default();
        let mut ends = Vec::new();
        for path in &files.train {
            train.read(path, self.label_bytes)?;
            ends.push(train.labels.len());
        }
        if train.labels.is_empty() {
            return Err(DataError::Empty {
                path: files.folder.clone(),
            });
        }
        let classes = class_names_or_numbers(
            &files.folder,
            self.classes_file,
            &files.folder,
            &train.labels,
        )?;
        let check = |path: &Path, labels: &[u32]| {
            check_labels(&path.display().to_string(), labels, classes.len())
        };
        let mut start = 0;
        for (path, end) in files.train.iter().zip(ends) {
            check(path, &train.labels[start..end])?;
            start = end;
        }
        let test = match &files.test {
            None => None,
            Some(path) => {
                let mut records = Records::default();
                records.read(path, self.label_bytes)?;
                check(path, &records.labels)?;
                (!records.labels.is_empty()).then_some((records, path))
            }
        };
        let set = |records: Records, origin: &Path| -> Result<MemoryDataset, DataError> {
            MemoryDataset::new(
                origin.display().to_string(),
                SHAPE,
                records.pixels,
                records.labels,
                classes.clone(),
            )
        };
        let test = match test {
            None => None,
            Some((records, path)) => Some(Arc::new(set(records, path)?) as _),
        };
        let origin = match files.train.as_slice() {
            [one] if self.label_bytes > 1 => one.clone(),
            _ => files.folder.join("data_batch"),
        };
        let train = Arc::new(set(train, &origin)?);
        let name = folder.display().to_string();
        Ok(DataBundle::new(name, train, None, test))
    }
}

/// `data_batch_1.bin`, `data_batch_2.bin`, ..., in the order of their numbers.
fn batches(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut batches: Vec<(u64, PathBuf)> = Vec::new();
    for (name, path) in names_in(folder)? {
        let number = name
            .strip_prefix("data_batch_")
            .and_then(|rest| rest.strip_suffix(".bin"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            batches.push((number, path));
        }
    }
    batches.sort();
    Ok(batches.into_iter().map(|(_, path)| path).collect())
}

#[derive(Default)]
struct Records {
    labels: Vec<u32>,
    /// HWC.
    pixels: Vec<u8>,
}

impl Records {
    fn read(&mut self, path: &Path, label_bytes: usize) -> Result<(), DataError> {
        let file = read_file(path, limits::ARRAY_BYTES)?;
        let length = label_bytes + 3 * PLANE;
        let records = file.chunks_exact(length);
        if !records.remainder().is_empty() {
            let expected = file.len().div_ceil(length) * length;
            return Err(DataError::Truncated {
                path: path.to_owned(),
                expected: expected as u64,
                found: file.len() as u64,
            });
        }
        self.pixels.reserve(records.len() * 3 * PLANE);
        for record in records {
            let (labels, planes) = record.split_at(label_bytes);
            self.labels.push(u32::from(labels[label_bytes - 1]));
            let (red, rest) = planes.split_at(PLANE);
            let (green, blue) = rest.split_at(PLANE);
            for ((&red, &green), &blue) in red.iter().zip(green).zip(blue) {
                self.pixels.extend([red, green, blue]);
            }
        }
        Ok(())
    }
}

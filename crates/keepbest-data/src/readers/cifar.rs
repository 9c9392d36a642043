//! CIFAR-10's and CIFAR-100's binary versions: records of label bytes and 3,072 pixels, 32x32, planes red, green, blue
//! (Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{class_names_or_numbers, is_there, limits, names_in, read_file};
use crate::dataset::check_labels;
use crate::{DataBundle, DataError, ImageShape, MemoryDataset};

/// Shape of every image.
pub const SHAPE: ImageShape = ImageShape::new(32, 32, 3);

const PLANE: usize = 32 * 32;

/// What tells the two versions apart.
#[derive(Debug)]
struct Version {
    kind: &'static str,
    /// The folder that the original archive unpacks to.
    archive_folder: &'static str,
    /// Class names, one a line.
    classes_file: &'static str,
    /// Bytes before the pixels of a record; the last of them is the class.
    label_bytes: usize,
}

const CIFAR_10: Version = Version {
    kind: "cifar10",
    archive_folder: "cifar-10-batches-bin",
    classes_file: "batches.meta.txt",
    label_bytes: 1,
};

/// Records have the coarse label, then the fine one, which is the class.
const CIFAR_100: Version = Version {
    kind: "cifar100",
    archive_folder: "cifar-100-binary",
    classes_file: "fine_label_names.txt",
    label_bytes: 2,
};

/// The files of a data set in CIFAR's binary format.
#[derive(Debug)]
pub(crate) struct CifarFiles {
    version: &'static Version,
    folder: PathBuf,
    train: Vec<PathBuf>,
    test: Option<PathBuf>,
}

impl CifarFiles {
    /// Looks for the files in `folder` or in the folder of the original archive below it; `None` when there are none.
    pub fn find(folder: &Path) -> Result<Option<Self>, DataError> {
        for version in [&CIFAR_10, &CIFAR_100] {
            for folder in [folder.to_owned(), folder.join(version.archive_folder)] {
                if folder.is_dir()
                    && let Some(files) = Self::find_in(folder, version)?
                {
                    return Ok(Some(files));
                }
            }
        }
        Ok(None)
    }

    fn find_in(folder: PathBuf, version: &'static Version) -> Result<Option<Self>, DataError> {
        let (train, test) = match version.label_bytes {
            1 => (batches(&folder)?, "test_batch.bin"),
            // The name alone is too common a one.
            _ if !is_there(&folder.join(version.classes_file)) => return Ok(None),
            _ => {
                let train = folder.join("train.bin");
                (
                    is_there(&train).then_some(train).into_iter().collect(),
                    "test.bin",
                )
            }
        };
        let test = Some(folder.join(test)).filter(|path| is_there(path));
        Ok((!train.is_empty()).then_some(Self {
            version,
            folder,
            train,
            test,
        }))
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

/// Opens a folder with `data_batch_1.bin`, `data_batch_2.bin`, ... (any number of them) and, where it is there,
/// `test_batch.bin`; or one with `train.bin`, `test.bin` and `fine_label_names.txt`. Names of CIFAR-10's classes come from
/// `batches.meta.txt`; without it they are the numbers.
///
/// # Errors
/// When a file is missing, ends in the middle of a record, or holds a label that is not one of the classes.
pub fn open(folder: &Path) -> Result<DataBundle, DataError> {
    let files = CifarFiles::find(folder)?.ok_or_else(|| DataError::MissingFile {
        path: folder.join("data_batch_1.bin"),
        needed_by: "a data set in CIFAR's binary format".to_owned(),
    })?;
    open_files(&files, folder)
}

pub(crate) fn open_files(files: &CifarFiles, folder: &Path) -> Result<DataBundle, DataError> {
    let version = files.version;
    let mut train = Records::default();
    let mut ends = Vec::new();
    for path in &files.train {
        train.read(path, version.label_bytes)?;
        ends.push(train.labels.len());
    }
    if train.labels.is_empty() {
        return Err(DataError::Empty {
            path: files.folder.clone(),
        });
    }
    let classes = class_names_or_numbers(
        &files.folder,
        version.classes_file,
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
            records.read(path, version.label_bytes)?;
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
        [one] if version.label_bytes > 1 => one.clone(),
        _ => files.folder.join("data_batch"),
    };
    let train = Arc::new(set(train, &origin)?);
    Ok(DataBundle {
        kind: version.kind,
        ..DataBundle::new(folder.display().to_string(), train, None, test)
    })
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

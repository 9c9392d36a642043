//! CIFAR-10's binary version: records of one label byte and 3,072 pixels, 32x32, planes red, green, blue
//! (Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{check_labels, class_names_or_numbers, read_file, read_folder};
use crate::{DataBundle, DataError, ImageShape, MemoryDataset};

/// Shape of every image.
pub const SHAPE: ImageShape = ImageShape::new(32, 32, 3);

const PLANE: usize = 32 * 32;
const RECORD: usize = 1 + 3 * PLANE;

/// The file of class names, one a line.
pub const CLASSES_FILE: &str = "batches.meta.txt";

/// The folder the original archive unpacks to.
const ARCHIVE_FOLDER: &str = "cifar-10-batches-bin";

/// The files of a data set in CIFAR-10's binary format.
#[derive(Debug, Clone)]
pub(crate) struct CifarFiles {
    folder: PathBuf,
    train: Vec<PathBuf>,
    test: Option<PathBuf>,
}

impl CifarFiles {
    /// Looks for the files in `folder` or in the folder of the original archive below it; `None` when there are none.
    pub fn find(folder: &Path) -> Result<Option<Self>, DataError> {
        for folder in [folder.to_owned(), folder.join(ARCHIVE_FOLDER)] {
            if !folder.is_dir() {
                continue;
            }
            let mut train: Vec<(u64, PathBuf)> = Vec::new();
            for entry in read_folder(&folder)?
                .into_iter()
                .filter(|entry| !entry.is_dir)
            {
                let number = entry
                    .name
                    .strip_prefix("data_batch_")
                    .and_then(|rest| rest.strip_suffix(".bin"));
                if let Some(number) = number.and_then(|number| number.parse().ok()) {
                    train.push((number, entry.path));
                }
            }
            train.sort();
            if !train.is_empty() {
                let test = Some(folder.join("test_batch.bin")).filter(|path| path.is_file());
                let train = train.into_iter().map(|(_, path)| path).collect();
                return Ok(Some(Self {
                    folder,
                    train,
                    test,
                }));
            }
        }
        Ok(None)
    }
}

/// Opens a folder with `data_batch_1.bin`, `data_batch_2.bin`, ... (any number of them, in the order of their numbers)
/// and, where it is there, `test_batch.bin`. Names of the classes come from `batches.meta.txt`; without it they are the
/// numbers.
///
/// # Errors
/// When a file is missing, ends in the middle of a record, or holds a label that is not one of the classes.
pub fn open(folder: &Path) -> Result<DataBundle, DataError> {
    let files = CifarFiles::find(folder)?.ok_or_else(|| DataError::MissingFile {
        path: folder.join("data_batch_1.bin"),
        needed_by: "a data set in CIFAR-10's binary format".to_owned(),
    })?;
    open_files(&files, folder)
}

pub(crate) fn open_files(files: &CifarFiles, folder: &Path) -> Result<DataBundle, DataError> {
    let mut train = Records::default();
    let mut ends = Vec::new();
    for path in &files.train {
        train.read(path)?;
        ends.push(train.labels.len());
    }
    if train.labels.is_empty() {
        return Err(DataError::Empty {
            path: files.folder.clone(),
        });
    }
    let classes = class_names_or_numbers(&files.folder, CLASSES_FILE, &train.labels)?;
    let mut start = 0;
    for (path, end) in files.train.iter().zip(ends) {
        check_labels(path, &train.labels[start..end], classes.len())?;
        start = end;
    }
    let test = match &files.test {
        None => None,
        Some(path) => {
            let mut records = Records::default();
            records.read(path)?;
            check_labels(path, &records.labels, classes.len())?;
            (!records.labels.is_empty()).then_some((records, path))
        }
    };
    let set = |records: Records, origin: &Path| -> Result<MemoryDataset, DataError> {
        let labels = records.labels.into_iter().map(u32::from).collect();
        MemoryDataset::new(
            origin.display().to_string(),
            SHAPE,
            records.pixels,
            labels,
            classes.clone(),
        )
    };
    let test = match test {
        None => None,
        Some((records, path)) => Some(Arc::new(set(records, path)?) as _),
    };
    let train = Arc::new(set(train, &files.folder.join("data_batch"))?);
    Ok(DataBundle {
        kind: "cifar10",
        ..DataBundle::new(folder.display().to_string(), train, None, test)
    })
}

#[derive(Default)]
struct Records {
    labels: Vec<u8>,
    /// HWC.
    pixels: Vec<u8>,
}

impl Records {
    fn read(&mut self, path: &Path) -> Result<(), DataError> {
        let file = read_file(path)?;
        let records = file.chunks_exact(RECORD);
        if !records.remainder().is_empty() {
            let expected = file.len().div_ceil(RECORD) * RECORD;
            return Err(DataError::Truncated {
                path: path.to_owned(),
                expected: expected as u64,
                found: file.len() as u64,
            });
        }
        self.pixels.reserve(records.len() * 3 * PLANE);
        for record in records {
            self.labels.push(record[0]);
            let (red, rest) = record[1..].split_at(PLANE);
            let (green, blue) = rest.split_at(PLANE);
            for ((&red, &green), &blue) in red.iter().zip(green).zip(blue) {
                self.pixels.extend([red, green, blue]);
            }
        }
        Ok(())
    }
}

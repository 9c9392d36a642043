//! Finding a data set by name or path.

use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::readers::READERS;
use crate::readers::disk::{check_regular, io_error};
use crate::readers::files::Unreadable;
use crate::readers::folder::inner_folder;
use crate::readers::idx::{self, Idx, IdxFiles};
use crate::readers::reader::{Purpose, Source, open_as, recorded};
use crate::readers::tree::Tree;
use crate::{DataBundle, DataError, ImageShape, Mirrored, Watch, embedded};

/// The data set that is used when none is named.
pub const DEFAULT_SOURCE: &str = embedded::NAME;

/// The name of the full Fashion-MNIST.
const FASHION_MNIST: &str = "fashion-mnist";

/// The folder in which Debian's `dataset-fashion-mnist` puts it.
const SYSTEM_FOLDER: &str = "/usr/share/datasets/fashion-mnist";

/// Opens a data set: `fashion-mnist-mini` (inside the binary), `fashion-mnist` (the full set, from `data_dir`, a folder
/// `fashion-mnist` in it, or where Debian's package puts it), or a folder in one of the layouts of [`crate::readers`],
/// told apart by what is in it, or a `.csv`, `.tsv` or
/// `.npz` file.
///
/// # Errors
/// When there is no such set, or it is damaged; [`DataError::hint`] says what to do about it.
///
/// ```
/// let bundle = keepbest_data::open("fashion-mnist-mini", None)?;
/// assert_eq!((bundle.train.len(), bundle.classes().len()), (6000, 10));
/// # Ok::<(), keepbest_data::DataError>(())
/// ```
pub fn open(spec: &str, data_dir: Option<&Path>) -> Result<DataBundle, DataError> {
    open_with(spec, data_dir, Unreadable::Refuse)
}

/// As [`open`], with a choice what becomes of image files that cannot be read.
///
/// # Errors
/// As [`open`].
pub fn open_with(
    spec: &str,
    data_dir: Option<&Path>,
    unreadable: Unreadable,
) -> Result<DataBundle, DataError> {
    open_watched(spec, data_dir, unreadable, Watch::none())
}

/// As [`open_with`], watched: folders and tables of many images take a while.
///
/// # Errors
/// As [`open`]; and [`DataError::Interrupted`] when told to stop.
pub fn open_watched(
    spec: &str,
    data_dir: Option<&Path>,
    unreadable: Unreadable,
    watch: Watch<'_>,
) -> Result<DataBundle, DataError> {
    let bundle = open_for(Purpose::Training, spec, data_dir, unreadable, watch)?;
    match bundle.only {
        None => Ok(bundle),
        Some(split) => Err(DataError::NothingToTrainOn {
            origin: bundle.name,
            splits: bundle.val.iter().map(|_| "val").chain([split]).collect(),
        }),
    }
}

/// As [`open_watched`], to measure on: a source with a test split alone, or a val split alone, will do ([`DataBundle::only`]),
/// and val and test may have classes that the training set has not; they come after its own.
///
/// # Errors
/// As [`open_watched`].
pub fn open_to_measure(
    spec: &str,
    data_dir: Option<&Path>,
    unreadable: Unreadable,
    watch: Watch<'_>,
) -> Result<DataBundle, DataError> {
    open_for(Purpose::Measuring, spec, data_dir, unreadable, watch)
}

fn open_for(
    purpose: Purpose,
    spec: &str,
    data_dir: Option<&Path>,
    unreadable: Unreadable,
    watch: Watch<'_>,
) -> Result<DataBundle, DataError> {
    match spec {
        embedded::NAME => embedded::fashion_mnist(),
        FASHION_MNIST => {
            let (folder, files) = find_fashion_mnist(data_dir)?;
            let bundle = idx::open_files(&files, &folder, Some(embedded::class_names()), purpose)?;
            Ok(DataBundle {
                name: FASHION_MNIST.to_owned(),
                layout_mirrored: Mirrored::Same,
                ..recorded(&Idx, bundle)
            })
        }
        path => open_path(&Source {
            path: Path::new(path),
            tree: None,
            purpose,
            unreadable,
            watch,
        }),
    }
}

/// Whether a data set goes by this name, rather than by a path.
pub fn is_named(spec: &str) -> bool {
    [embedded::NAME, FASHION_MNIST].contains(&spec)
}

fn fashion_mnist_folders(data_dir: Option<&Path>) -> Vec<PathBuf> {
    let given = data_dir
        .into_iter()
        .flat_map(|dir| [dir.to_owned(), dir.join(FASHION_MNIST)]);
    given.chain([PathBuf::from(SYSTEM_FOLDER)]).collect()
}

fn find_fashion_mnist(data_dir: Option<&Path>) -> Result<(PathBuf, IdxFiles), DataError> {
    let looked = fashion_mnist_folders(data_dir);
    for folder in &looked {
        if look_at(folder)?.is_some_and(|found| found.is_dir())
            && let Some(files) = IdxFiles::find(folder)?
        {
            return Ok((folder.clone(), files));
        }
    }
    Err(DataError::FashionMnistMissing { looked })
}

fn open_path(source: &Source<'_>) -> Result<DataBundle, DataError> {
    let path = source.path;
    let Some(metadata) = look_at(path)? else {
        // A bare word is meant as a name.
        let spec = path.display().to_string();
        return Err(
            if path.components().count() == 1 && !spec.starts_with('.') {
                DataError::UnknownSource {
                    spec,
                    known: vec![embedded::NAME, FASHION_MNIST],
                }
            } else {
                DataError::NotFound {
                    path: path.to_owned(),
                }
            },
        );
    };
    if let Some(bundle) = open_by_one(source)? {
        return Ok(bundle);
    }
    if metadata.is_dir() {
        return open_below(source);
    }
    check_regular(path, &metadata)?;
    Err(other_file(path))
}

/// What is at a path, links followed; `None` where there is nothing. What cannot be looked at may well be there.
///
/// ```
/// let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
/// assert!(keepbest_data::examine(here)?.is_some_and(|found| found.is_dir()));
/// assert!(keepbest_data::examine(&here.join("Cargo.toml/none"))?.is_none());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The operating system's error, when it does not say.
pub fn examine(path: &Path) -> io::Result<Option<Metadata>> {
    match path.metadata() {
        Ok(found) => Ok(Some(found)),
        // The last two: no file could have such a name.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound
                    | ErrorKind::NotADirectory
                    | ErrorKind::InvalidFilename
                    | ErrorKind::InvalidInput
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn look_at(path: &Path) -> Result<Option<Metadata>, DataError> {
    examine(path).map_err(|source| io_error(path, source))
}

/// Extensions of archives, the longer first.
const ARCHIVES: [&str; 13] = [
    "tar.gz", "tar.bz2", "tar.xz", "tar.zst", "tgz", "tar", "zip", "rar", "7z", "gz", "bz2", "xz",
    "zst",
];

/// The error about a file that is of no kind that is read.
fn other_file(path: &Path) -> DataError {
    let path = path.to_owned();
    let name = path.file_name().unwrap_or_default();
    let name = name.to_string_lossy().to_lowercase();
    let archive = ARCHIVES
        .iter()
        .find(|kind| name.ends_with(&format!(".{kind}")));
    match (archive, path.extension()) {
        (Some(kind), _) => DataError::Archive {
            path,
            kind: format!(".{kind}"),
        },
        (None, Some(kind)) => DataError::Unrecognised {
            found: format!("a file of another kind (.{})", kind.to_string_lossy()),
            path,
        },
        (None, None) => DataError::Unrecognised {
            path,
            found: "a file of another kind, without extension".to_owned(),
        },
    }
}

/// Opens a source with the first reader that finds its files there.
fn open_by_one(source: &Source<'_>) -> Result<Option<DataBundle>, DataError> {
    for reader in READERS {
        if let Some(bundle) = open_as(*reader, source)? {
            return Ok(Some(bundle));
        }
    }
    Ok(None)
}

/// Opens the data set of a folder by all that lies below it: in the folder itself, or in the only folder in it that holds
/// one, however deep.
fn open_below(source: &Source<'_>) -> Result<DataBundle, DataError> {
    let path = source.path;
    let tree = Tree::scan(path)?;
    let mut next = Some(&tree.root);
    while let Some(folder) = next {
        let found = open_by_one(&Source {
            path: &folder.path,
            tree: Some((&tree, folder)),
            ..*source
        })?;
        if let Some(bundle) = found {
            return Ok(found_in(bundle, path, &folder.path));
        }
        next = inner_folder(folder);
    }
    if source.unreadable == Unreadable::Refuse {
        tree.check_links()?;
    }
    let path = path.to_owned();
    if tree.root.entries.is_empty() {
        return Err(DataError::Empty { path });
    }
    let found = tree.root.describe();
    Err(DataError::Unrecognised { path, found })
}

/// A bundle by the name that was asked for, which says where below that it was found.
fn found_in(mut bundle: DataBundle, asked: &Path, found: &Path) -> DataBundle {
    bundle.name = asked.display().to_string();
    if asked != found {
        let note = format!("the images are those in {}", found.display());
        bundle.notes.insert(0, note);
    }
    bundle
}

/// A data set that can be asked for by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Listing {
    /// The name for [`open`].
    pub name: &'static str,
    /// One line about it.
    pub description: &'static str,
    /// Number of training images.
    pub train: usize,
    /// Number of test images.
    pub test: usize,
    /// Number of classes.
    pub classes: usize,
    /// Shape of every image.
    pub shape: ImageShape,
    /// Who made it, and under which licence.
    pub licence: &'static str,
    /// The place where it is on this machine: `embedded`, or a folder; `None` when it is not there.
    pub location: Option<String>,
    /// The way to get it, when it is not there.
    pub hint: Option<String>,
}

/// The data sets that have a name, and whether they are on this machine. Folders of one's own are opened by path.
pub fn list(data_dir: Option<&Path>) -> Vec<Listing> {
    let licence = "Copyright 2017 Zalando SE, MIT";
    let shape = ImageShape::new(28, 28, 1);
    let full = find_fashion_mnist(data_dir);
    vec![
        Listing {
            name: embedded::NAME,
            description: "clothing, balanced cut of Fashion-MNIST, inside the binary (default)",
            train: 6_000,
            test: 1_000,
            classes: 10,
            shape,
            licence,
            location: Some("embedded".to_owned()),
            hint: None,
        },
        Listing {
            name: FASHION_MNIST,
            description: "clothing, the full set",
            train: 60_000,
            test: 10_000,
            classes: 10,
            shape,
            licence,
            hint: full.as_ref().err().and_then(DataError::hint),
            location: full.ok().map(|(folder, _)| folder.display().to_string()),
        },
    ]
}

//! Readers of data sets on disk, one a layout. [`crate::open`] asks them in turn.

pub(crate) mod cifar;
mod class_names;
pub(crate) mod disk;
pub(crate) mod files;
pub(crate) mod folder;
pub mod idx;
pub(crate) mod limits;
mod npz;
pub(crate) mod reader;
mod split_names;
mod table;
pub(crate) mod tree;

use reader::{Accepts, Reader};

/// The readers, in the order in which they are asked: the first that finds its files opens them.
pub(crate) const READERS: &[&dyn Reader] = &[
    &table::Table,
    &npz::Npz,
    &idx::Idx,
    &cifar::CIFAR_10,
    &cifar::CIFAR_100,
    &folder::ImageFolders,
];

/// The layouts that [`crate::open`] reads, in words.
pub(crate) fn accepted() -> String {
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for reader in READERS {
        match reader.accepts() {
            Accepts::Folder(words) => folders.push(words),
            Accepts::File(words) => files.push(words),
        }
    }
    let last = folders.pop().unwrap_or_default();
    format!(
        "a folder {}, or {last}; {}",
        folders.join(", "),
        files.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_have_names_of_their_own() {
        let mut kinds: Vec<&str> = READERS.iter().map(|reader| reader.kind()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), READERS.len());
        assert_eq!(
            accepted(),
            "a folder with IDX files (train-images-idx3-ubyte[.gz] and its labels), with CIFAR-10 binary files \
             (data_batch_1.bin ...), with CIFAR-100 binary files (train.bin), or of images as train/<class>/ with val/ and \
             test/ beside it or as <class>/ (PNG, JPEG, WebP, BMP, TIFF, GIF, PNM); a .csv or .tsv of path, label and split; \
             a NumPy .npz"
        );
    }
}

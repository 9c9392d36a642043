//! Images that a user names, to predict on: a file, an image of an IDX file, all in a folder.

use std::path::{Path, PathBuf};

use crate::decode::read_image;
use crate::readers::idx;
use crate::readers::tree::Tree;
use crate::readers::tree::kinds;
use crate::{DataError, Image};

/// Loads one image: a PNG, JPEG, WebP, BMP, TIFF, GIF (its first frame) or PNM file, or image number `n` (from 0) of an IDX file as `FILE#n`, such as
/// `t10k-images-idx3-ubyte.gz#17`.
///
/// # Errors
/// When the file is missing, cannot be read, or is not a whole image.
pub fn load_image(path: &Path) -> Result<Image, DataError> {
    if !path.exists()
        && let Some((file, index)) = idx_reference(path)
    {
        return idx::read_image(&file, index);
    }
    read_image(path)
}

fn idx_reference(path: &Path) -> Option<(PathBuf, usize)> {
    let (file, index) = path.to_str()?.rsplit_once('#')?;
    Some((PathBuf::from(file), index.parse().ok()?))
}

/// The image files in a folder and the folders below it, links followed, each folder's entries in the order of their names.
///
/// # Errors
/// When a folder cannot be read.
pub fn list_images(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let tree = Tree::scan(folder)?;
    Ok(tree.root.images().into_iter().map(Path::to_owned).collect())
}

/// What [`list_images`] leaves out of a folder, in words, a line each: files that are no images by their kind, links to a folder
/// above, and what systems leave behind.
///
/// # Errors
/// When a folder cannot be read.
pub fn left_out_of(folder: &Path) -> Result<Vec<String>, DataError> {
    let tree = Tree::scan(folder)?;
    let others = tree.root.others();
    let plural = if others.len() == 1 { "" } else { "s" };
    let first = (!others.is_empty()).then(|| {
        format!(
            "left out {} file{plural} in {} that are no images by their names: {}",
            others.len(),
            folder.display(),
            kinds(others.iter().copied())
        )
    });
    Ok(first.into_iter().chain(tree.notes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idx_references() {
        assert_eq!(
            idx_reference(Path::new("a/b.gz#17")),
            Some((PathBuf::from("a/b.gz"), 17))
        );
        assert_eq!(
            idx_reference(Path::new("a#b#0")),
            Some((PathBuf::from("a#b"), 0))
        );
        assert_eq!(idx_reference(Path::new("a#")), None);
        assert_eq!(idx_reference(Path::new("a#-1")), None);
        assert_eq!(idx_reference(Path::new("a")), None);
    }
}

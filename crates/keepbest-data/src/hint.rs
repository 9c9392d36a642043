//! Hints on errors of data sets, apart from the messages.

use crate::DataError;
use crate::look_alike::ADVICE;
use crate::readers::accepted;

impl DataError {
    /// What to do about it, where there is something to say; shown apart, as `hint: ...`.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownSource { known, .. } => Some(format!("give one of {}, or {}", known.join(", "), accepted())),
            Self::FashionMnistMissing { .. } => Some(
                "on Debian or Ubuntu `apt install dataset-fashion-mnist`; elsewhere pass --data-dir with the four IDX files \
                 (train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz)"
                    .to_owned(),
            ),
            Self::Unrecognised { .. } | Self::Empty { .. } => Some(format!("accepted: {}", accepted())),
            Self::NothingToTrainOn { .. } => Some(
                "a model can be measured on it: `keepbest evaluate`; to train takes a `train` split beside it".to_owned(),
            ),
            Self::Archive { .. } => Some("unpack it, and name the folder".to_owned()),
            Self::Ambiguous { .. } => Some(
                "folders read without doubt: train/<class>/ with val/ and test/ beside it, or <class>/ alone".to_owned(),
            ),
            Self::NoImageArrays { .. } => Some(
                "call them x_train and y_train, with x_val, y_val, x_test and y_test beside them; or train_images and train_labels; \
                 or images and labels"
                    .to_owned(),
            ),
            Self::EmptyClass { .. } => Some("remove the folder or put images into it".to_owned()),
            Self::BrokenLink { .. } => Some(
                "bring back what it leads to (a disk that is not mounted, data that is not fetched), or remove the link; \
                 --skip-corrupt goes on without it"
                    .to_owned(),
            ),
            Self::UnknownClass { looks_known: true, .. } => Some(ADVICE.to_owned()),
            Self::MissingImages { found_in: Some(folder), .. } => Some(format!(
                "there is such a file in {folder}: move the table there, or write the folder before the paths in it",
                folder = folder.display()
            )),
            Self::MissingImages { .. } => Some("paths are relative to the table's folder; --skip-corrupt leaves out what cannot be read".to_owned()),
            _ => None,
        }
    }
}

//! Why a model cannot be opened, and what may help.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use keepbest_core::text::shell_word;
use keepbest_formats::model_file::{ModelFileError, OpenError};
use keepbest_formats::pth::PthError;

use crate::architecture::ArchitectureError;
use crate::other_loop::OtherLoop;
use crate::place::run_named_with;
use crate::words::{few, mend_words};

/// Why a model could not be put to use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file cannot be opened, is damaged, or holds something else.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A PyTorch file cannot be read, has no weights, or was made to attack who opens it.
    #[error("cannot take the weights of {path}", path = path.display())]
    Pth {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<keepbest_formats::pth::PthError>,
    },
    /// Weights in several files cannot be read.
    #[error("cannot take the weights of {path}", path = path.display())]
    Sharded {
        /// The index.
        path: PathBuf,
        /// Why.
        source: Box<keepbest_formats::sharded::ShardedError>,
    },
    /// A checkpoint of many processes.
    #[error(
        "{path} is a checkpoint of torch.distributed.checkpoint (DCP), whose tensors lie in parts in several files",
        path = path.display()
    )]
    Distributed {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that is not one model.
    #[error("{path} is a folder, not a model file", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Files in it that may be models.
        models: Vec<PathBuf>,
        /// Whether it is what is in a PyTorch file, unpacked.
        unpacked: bool,
    },
    /// A key for a file that is one state dict.
    #[error("{path} has no keys to pick from: it is one state dict", path = path.display())]
    NoKeys {
        /// The file.
        path: PathBuf,
    },
    /// The file has no architecture.
    #[error("{path} {}", match kept_by {
        None => "holds weights alone, without the network they belong to".into(),
        Some(by) => of_another_loop(by),
    }, path = path.display())]
    NeedsNetwork {
        /// The file.
        path: PathBuf,
        /// What it was trained as, where recorded.
        trained_as: Option<String>,
        /// The network that has exactly these tensors, where there is one.
        guess: Option<&'static str>,
        /// Whose run it is of, where that is not our trainer's.
        kept_by: Option<OtherLoop>,
    },
    /// Several parts of the file could be the network.
    #[error("cannot tell which weights of {path} are the network's", path = path.display())]
    Part {
        /// The file.
        path: PathBuf,
        /// Which parts.
        source: keepbest_formats::names::AmbiguousPart,
    },
    /// The file has no architecture and no record of one, where what is recorded is what counts.
    #[error("{path} {}", match kept_by {
        None => "holds weights alone, and nothing is recorded about them".into(),
        Some(by) => of_another_loop(by),
    }, path = path.display())]
    NothingRecorded {
        /// The file.
        path: PathBuf,
        /// Whose run it is of, where that is not our trainer's.
        kept_by: Option<OtherLoop>,
    },
    /// A network was named for a file that brings its own.
    #[error("{path} is a full model of {own}, not of {named}", path = path.display())]
    OtherNetwork {
        /// The file.
        path: PathBuf,
        /// Its own network.
        own: String,
        /// The one named.
        named: String,
    },
    /// There is no such network.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// The architecture in the file cannot be read.
    #[error("the architecture in {path} cannot be read", path = path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// Why.
        source: keepbest_nn::SpecError,
    },
    /// Another part of the metadata cannot be read.
    #[error("{part} in {path} cannot be read", path = path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The part.
        part: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The layers do not fit each other.
    #[error("the network in {path} does not fit together", path = path.display())]
    Layer {
        /// The file.
        path: PathBuf,
        /// Which.
        source: keepbest_nn::LayerError,
    },
    /// The weights are another network's.
    #[error("{path} does not fit {network}", path = path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// The network.
        network: String,
        /// The difference.
        source: Box<keepbest_nn::WeightsError>,
    },
    /// Weights from elsewhere are not the network's that was named.
    #[error("{path} does not fit {network}", path = path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// The network.
        network: String,
        /// What differs.
        source: Box<keepbest_nn::WeightsError>,
        /// The other network that has exactly these tensors, where there is one.
        theirs: Option<&'static str>,
    },
    /// The architecture and the preprocessing or class names contradict each other.
    #[error("{path} contradicts itself: {what}", path = path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// In words.
        what: String,
    },
    /// A weight is no number that answers could come of.
    #[error("{path} cannot be used: {tensor} holds {value}", path = path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The first tensor that holds such a value.
        tensor: String,
        /// The value: NaN or an infinity.
        value: f32,
    },
    /// The machine cannot run it.
    #[error(transparent)]
    Engine(#[from] keepbest_nn::EngineError),
}

/// Whether the file is a model that is no longer what was written, rather than something else.
pub(crate) fn is_damage(error: &OpenError) -> bool {
    matches!(
        error,
        OpenError::Model {
            source: ModelFileError::Safetensors(_)
                | ModelFileError::HeaderDamaged { .. }
                | ModelFileError::TensorDamaged { .. }
                | ModelFileError::TensorUnlisted { .. }
                | ModelFileError::TensorMissing { .. }
                | ModelFileError::WeightsDigest { .. }
                | ModelFileError::NotSealed { .. },
            ..
        }
    )
}

/// Whether a file is called like one of several: `model-00001-of-00003.safetensors`.
pub(crate) fn is_shard(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.and_then(|stem| stem.rsplit_once("-of-"))
        .is_some_and(|(before, count)| {
            let digits =
                |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits(count)
                && before
                    .rsplit_once('-')
                    .is_some_and(|(_, number)| digits(number))
        })
}

/// What to try with a PyTorch file that cannot be read.
fn pth_hint(error: &PthError, path: &Path) -> Option<String> {
    match error {
        PthError::Dangerous { .. } => Some(format!(
            "nothing in it was run; `keepbest inspect {}` shows what it holds, `import --ignore-calls` takes weights \
             that the calls do not touch",
            shell_word(path)
        )),
        PthError::Ambiguous { .. } => Some("`keepbest import --key KEY` picks one".into()),
        PthError::NoWeights { nested, .. } if !nested.is_empty() => {
            let keys = nested
                .iter()
                .map(|key| format!("--key {}", shell_word(key)));
            let keys: Vec<String> = keys.collect();
            Some(format!(
                "there are weights further in: {} of `keepbest import` takes them",
                few(&keys)
            ))
        }
        PthError::NoSuchKey { found, .. } if !found.is_empty() => {
            Some(format!("--key {}", shell_word(&found[0])))
        }
        PthError::NoSuchKey { .. } => {
            Some("leave --key out: the file is one state dict, or has none".into())
        }
        _ => None,
    }
}

impl ModelError {
    /// Whether the file is damaged or gone: in a run another may hold the same model.
    fn may_be_mended(&self) -> bool {
        match self {
            Self::Open(OpenError::Io { source, .. }) => source.kind() == ErrorKind::NotFound,
            Self::Open(error) => is_damage(error),
            _ => false,
        }
    }

    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Pth { source, path } => pth_hint(source, path),
            Self::Open(OpenError::Model { path, .. } | OpenError::Io { path, .. })
                if self.may_be_mended() =>
            {
                run_named_with(path).map(mend_words)
            }
            Self::Open(OpenError::Model {
                source: ModelFileError::AnotherKind { .. },
                ..
            }) => Some("models are read from safetensors and PyTorch files".into()),
            Self::Distributed { path } => Some(format!(
                "PyTorch makes one file of it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {} model.pth",
                shell_word(path)
            )),
            Self::Folder { unpacked: true, .. } => {
                Some("it is an unpacked PyTorch file: zip it again, without compression".into())
            }
            Self::Folder { models, .. } if models.is_empty() => {
                Some("name a file: safetensors or PyTorch".into())
            }
            // Each part alone would be answered with the index.
            Self::Folder { models, .. } if models.iter().all(|path| is_shard(path)) => Some(
                "name a file: that would be the .index.json that goes with these parts of one model, and is missing".into(),
            ),
            Self::Folder { models, .. } => {
                let names = models.iter().map(|path| path.display().to_string());
                Some(format!("name a file: {}", few(&names.collect::<Vec<_>>())))
            }
            Self::Part { .. } => Some(
                "`import --drop 'PREFIX\\..*'` leaves tensors out, `--map` renames them".into(),
            ),
            Self::NeedsNetwork {
                trained_as: Some(name),
                ..
            } => Some(format!("name it: --model {} (recorded in the file)", shell_word(name))),
            Self::NeedsNetwork {
                path,
                guess,
                kept_by: Some(by),
                ..
            } => Some(by.model_hint(path, *guess)),
            Self::NeedsNetwork {
                guess: Some(name), ..
            } => Some(format!(
                "name it: --model {name} (its tensors are that network's)"
            )),
            Self::NeedsNetwork { .. } => {
                Some("name it with --model; `keepbest models` lists them".into())
            }
            Self::NothingRecorded {
                path,
                kept_by: Some(by),
            } => Some(by.model_hint(path, None)),
            Self::NothingRecorded { path, .. } => Some(format!(
                "`keepbest import {} --model NAME --to FILE.safetensors` makes a full model of it",
                shell_word(path)
            )),
            Self::OtherNetwork { .. } => {
                Some("leave --model out: the file brings its network".into())
            }
            Self::Unfit {
                theirs: Some(network),
                ..
            } => Some(format!(
                "its tensors are those of {network}: --model {network}"
            )),
            Self::Unfit {
                path,
                network,
                source,
                ..
            } => {
                let import = |partial: &str| {
                    format!(
                        "`keepbest import {} --model {}{partial} --to FILE.safetensors`",
                        shell_word(path),
                        shell_word(network)
                    )
                };
                Some(match source.unexpected.is_empty() {
                    true => import(" --partial") + " takes what fits and starts the rest anew",
                    false => import("") + " says how to take what fits",
                })
            }
            Self::NotFinite { .. } => Some(
                "its training diverged, or the file was made so; an earlier checkpoint may be whole"
                    .into(),
            ),
            Self::Architecture(error) => error.hint(),
            _ => None,
        }
    }
}

fn of_another_loop(by: &OtherLoop) -> String {
    format!("was kept by {by}: it holds weights alone, and the network is that program's")
}

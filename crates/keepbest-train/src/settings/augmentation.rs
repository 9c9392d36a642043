//! The augmentation of a run that says nothing of it.

use keepbest_data::{Augmentation, ImageShape, Mirrored};

/// What keeps an image of its class, as far as the data tells: moved by up to a sixteenth of its side, and mirrored unless
/// it may be of another class then.
pub fn default_augmentation(mirrored: &Mirrored, input: ImageShape) -> Augmentation {
    Augmentation {
        flip: !matches!(mirrored, Mirrored::Other { .. }),
        shift: (input.height.min(input.width) / 16) as u32,
        ..Augmentation::default()
    }
}

/// What was decided about mirror images, and how to decide otherwise; `None` where it is certain.
pub(crate) fn flip_note(mirrored: &Mirrored, augment: &Augmentation) -> Option<String> {
    let with = |flip: bool| Augmentation { flip, ..*augment };
    match mirrored {
        Mirrored::Unknown if augment.flip => Some(format!(
            "flip is on: mirrored images are trained on; off: --augment {}",
            with(false)
        )),
        Mirrored::Other { why } if !augment.flip => {
            Some(format!("flip is off: {why}; on: --augment {}", with(true)))
        }
        _ => None,
    }
}

/// The same and more, for a long run: up to a twelfth of the side, or parts of photographs; and rectangles that are erased
/// (docs/benchmarks.md has what it reaches).
pub(super) fn strong_augmentation(mirrored: &Mirrored, input: ImageShape) -> Augmentation {
    let side = input.height.min(input.width);
    let light = default_augmentation(mirrored, input);
    if side < 64 {
        Augmentation {
            // A twelfth, rounded.
            shift: (side + 6) as u32 / 12,
            erase: 0.25,
            ..light
        }
    } else {
        Augmentation {
            shift: 0,
            crop: Some(0.35),
            trivial: true,
            erase: 0.1,
            ..light
        }
    }
}

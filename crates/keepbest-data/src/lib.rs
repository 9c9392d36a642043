//! Datasets, preprocessing, augmentation, splits and the loader.

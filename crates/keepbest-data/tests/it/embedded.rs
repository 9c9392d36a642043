use std::path::Path;

use keepbest_data::{Dataset, Fingerprint, ImageShape, Subset, embedded};

use crate::fixtures::{all_images, fashion, test_set};

#[test]
fn counts_balance_and_content() {
    let bundle = fashion();
    let (train, test) = (&bundle.train, test_set());
    for (set, count) in [(train, 6_000), (&test, 1_000)] {
        assert_eq!(set.len(), count);
        assert_eq!(set.shape(), Some(ImageShape::new(28, 28, 1)));
        assert_eq!(set.classes(), embedded::CLASSES);
        let mut counts = [0; 10];
        Subset::all(set.clone())
            .labels()
            .iter()
            .for_each(|&label| counts[label as usize] += 1);
        assert_eq!(counts, [count / 10; 10]);
    }
    let digest = |set: &dyn Dataset| Fingerprint::of(set).unwrap().blake3;
    assert_eq!(
        digest(train.as_ref()),
        "387b56ef0916f6a4c3145b4a29b2906a38aebd46b3b64052ca9d49cf1f620f6a"
    );
    assert_eq!(
        digest(test.as_ref()),
        "d6f2b366cf6126bf5b03875a6b0ec1c31b289647ca9ebfa917540b9ee10cf32f"
    );
}

/// The files themselves, byte for byte: cut.py writes them the same every time.
#[test]
fn the_committed_files_are_the_ones_that_were_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("embedded");
    for (name, digest) in [
        (
            "train-images-idx3-ubyte.gz",
            "7b8c480c97c2b44f043c1be47f0604c5ed0863600d7e8ed5f5c64aa980fa62f2",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            "2c9e2f9af619b68e8111e4db423e4f79bb6b3ecd99cb74aa4161c68e742cab79",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            "07cf01864c273307966e8dcb1642645f7b51f3ac3dae901bceb49fef9bf52d6e",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            "4651f2595b49e85ed6215ec0dfd2ac8895b184c89f0d761c9792f561490b5869",
        ),
    ] {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), digest, "{name}");
        // Level 9, no name, modification time 0.
        assert_eq!(
            bytes[..10],
            [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255],
            "{name}"
        );
    }
}

/// Against the full set, where it is (in `KEEPBEST_FASHION_MNIST`, as in CI, or where Debian's package puts it): the first
/// 600 and 100 of each class, in file order.
#[test]
fn it_is_the_beginning_of_the_full_set() {
    let folder = std::env::var_os("KEEPBEST_FASHION_MNIST").filter(|folder| !folder.is_empty());
    let full = keepbest_data::open("fashion-mnist", folder.as_deref().map(Path::new));
    let full = match full {
        Err(error) if folder.is_none() => {
            eprintln!("not compared with the full set: {error}");
            return;
        }
        full => full.unwrap(),
    };
    for (full, cut, per_class) in [
        (full.train, fashion().train.clone(), 600),
        (full.test.unwrap(), test_set(), 100),
    ] {
        let mut counts = [0; 10];
        let chosen: Vec<usize> = (0..full.len())
            .filter(|&index| {
                let count = &mut counts[full.label(index) as usize];
                *count += 1;
                *count <= per_class
            })
            .collect();
        let expected = Subset::new(full, chosen).unwrap();
        assert!(all_images(&expected) == all_images(cut.as_ref()));
        assert_eq!(expected.labels(), Subset::all(cut).labels());
    }
}

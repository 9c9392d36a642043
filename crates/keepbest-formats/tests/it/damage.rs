//! Damage to a file of keepbest is always found, and named.

use keepbest_formats::model_file::{ModelFile, ModelFileError as E};
use keepbest_formats::safetensors;

use crate::support::{chain, dict, encoded, f32s, read, small_file, small_model};

/// The `count`-th number of a fixed random sequence.
fn splitmix64(count: u64) -> u64 {
    let mut z = count.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The place where the data begins.
fn data_start(file: &[u8]) -> usize {
    8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize
}

#[test]
fn every_bit_of_length_and_header() {
    let file = small_file();
    read(file.clone()).unwrap();
    let mut flips = 0;
    for at in 0..data_start(&file) {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << bit;
            assert!(read(damaged).is_err(), "bit {bit} of byte {at}");
            flips += 1;
        }
    }
    println!("{flips} bits of length and header flipped, all detected");
    assert_eq!(flips, data_start(&file) * 8);
}

#[test]
fn every_byte_of_the_header_in_place_of_every_other() {
    // Other damage than single bits: a space, a quote, a digit anywhere.
    let file = small_file();
    for at in 8..data_start(&file) {
        for byte in [b' ', b'"', b'0', b'}', b'\\', 0] {
            if file[at] != byte {
                let mut damaged = file.clone();
                damaged[at] = byte;
                assert!(read(damaged).is_err(), "byte {at} as {byte}");
            }
        }
    }
}

#[test]
fn every_bit_of_the_data_with_the_tensor_named() {
    let file = small_file();
    let start = data_start(&file);
    let intact = safetensors::read(&file.clone().into()).unwrap();
    for at in start..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << bit;
            let now = safetensors::read(&damaged.clone().into()).unwrap();
            let hit = intact
                .tensors
                .iter()
                .find(|(name, tensor)| now.tensors.get(name) != Some(tensor))
                .unwrap()
                .0;
            match read(damaged) {
                Err(E::TensorDamaged { tensor, .. }) => assert_eq!(tensor, hit),
                other => panic!("bit {bit} of byte {at}: {other:?}"),
            }
        }
    }
}

/// A file as a training of LeNet-5 leaves it: parameters and their momenta, half a megabyte.
fn lenet_file() -> Vec<u8> {
    let shapes: [(&str, &[usize]); 10] = [
        ("conv1.weight", &[6, 1, 5, 5]),
        ("conv1.bias", &[6]),
        ("conv2.weight", &[16, 6, 5, 5]),
        ("conv2.bias", &[16]),
        ("fc1.weight", &[120, 400]),
        ("fc1.bias", &[120]),
        ("fc2.weight", &[84, 120]),
        ("fc2.bias", &[84]),
        ("fc3.weight", &[10, 84]),
        ("fc3.bias", &[10]),
    ];
    let weights = dict(shapes.map(|(name, shape)| (name, f32s(shape, 0.5))));
    let momenta = shapes.map(|(name, shape)| (format!("{name}.momentum"), f32s(shape, -3.0)));
    let mut training = dict([]);
    for (name, tensor) in momenta {
        training.insert(name.as_str(), tensor).unwrap();
    }
    let (_, _, metadata) = small_model();
    encoded(&weights, &training, &metadata)
}

#[test]
fn every_byte_of_a_larger_header() {
    let file = lenet_file();
    let start = data_start(&file);
    for at in 0..start {
        let mut damaged = file.clone();
        damaged[at] ^= 1 << (splitmix64(at as u64) % 8);
        assert!(read(damaged).is_err(), "byte {at}");
    }
    println!("{start} bytes of the header flipped, all detected");
}

#[test]
fn ten_thousand_random_bits_of_a_larger_file_with_the_tensor_named() {
    const FLIPS: u64 = 10_000;
    let mut file = lenet_file();
    let start = data_start(&file);
    // Where each tensor lies, by the header.
    let header: serde_json::Value = serde_json::from_slice(&file[8..start]).unwrap();
    let places: Vec<(usize, usize, &str)> = header
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, entry)| {
            let offset = |n: usize| entry["data_offsets"][n].as_u64().unwrap() as usize;
            (offset(0), offset(1), name.as_str())
        })
        .collect();
    let mut named = std::collections::BTreeSet::new();
    for count in 0..FLIPS {
        let random = splitmix64(count);
        let at = start + (random >> 8) as usize % (file.len() - start);
        let bit = 1 << (random % 8);
        file[at] ^= bit;
        let hit = places
            .iter()
            .find(|(begin, end, _)| (*begin..*end).contains(&(at - start)))
            .unwrap()
            .2;
        match ModelFile::from_bytes(bytes::Bytes::copy_from_slice(&file)) {
            Err(E::TensorDamaged { tensor, .. }) => assert_eq!(tensor, hit),
            other => panic!("byte {at}: {other:?}"),
        }
        named.insert(hit);
        file[at] ^= bit;
    }
    println!(
        "{FLIPS} random bits of the data flipped in {} tensors, all detected, the tensor named",
        named.len()
    );
    read(file).unwrap();
}

#[test]
fn truncation_at_every_4_kib_of_a_file_of_45_megabytes() {
    let weights = dict([
        ("layer4.weight", f32s(&[5_000_000], 0.5)),
        ("fc.weight", f32s(&[6_200_000], -3.0)),
        ("fc.bias", f32s(&[1000], 1.0)),
    ]);
    let (_, _, metadata) = small_model();
    let file = bytes::Bytes::from(encoded(&weights, &dict([]), &metadata));
    ModelFile::from_bytes(file.clone()).unwrap();
    let mut cuts = 0;
    for length in (0..file.len()).step_by(4096) {
        let error = ModelFile::from_bytes(file.slice(..length)).unwrap_err();
        // With a header that is whole, the tensor that is cut is named.
        if length >= data_start(&file) {
            let text = chain(&error);
            assert!(
                text.contains("truncated: tensor `"),
                "{length} bytes: {text}"
            );
        }
        cuts += 1;
    }
    println!("{cuts} truncations, all detected");
    assert_eq!(cuts, file.len().div_ceil(4096));
}

#[test]
fn truncation_at_every_byte() {
    let file = small_file();
    for length in 0..file.len() {
        assert!(read(file[..length].to_vec()).is_err(), "{length} bytes");
        // Without digests too: length and ranges tell.
        let short = file[..length].to_vec().into();
        assert!(
            ModelFile::from_bytes_unverified(short).is_err(),
            "{length} bytes, unverified"
        );
    }
}

#[test]
fn truncation_says_so() {
    let file = small_file();
    let start = data_start(&file);
    let error = read(file[..start + 3].to_vec()).unwrap_err();
    assert!(
        chain(&error).contains("truncated: tensor `bn.num_batches_tracked`"),
        "{}",
        chain(&error)
    );
    let error = read(file[..start - 1].to_vec()).unwrap_err();
    assert!(
        chain(&error).contains("truncated: the header reaches to byte"),
        "{}",
        chain(&error)
    );
}

#[test]
fn appended_bytes() {
    let mut file = small_file();
    file.push(0);
    assert!(read(file).is_err());
}

#[test]
fn swapped_tensors_of_equal_size() {
    // Both digests exist in the file, each at the other's place.
    let (weights, training, metadata) = small_model();
    let file = encoded(&weights, &training, &metadata);
    let start = data_start(&file);
    // Order: bn.num_batches_tracked (8 bytes), then conv.weight (32), ..., its momentum.
    let one = start + 8;
    let two = one + 32 + 8 + 12;
    let mut swapped = file.clone();
    swapped[one..one + 32].copy_from_slice(&file[two..two + 32]);
    swapped[two..two + 32].copy_from_slice(&file[one..one + 32]);
    let error = read(swapped).unwrap_err();
    assert!(matches!(error, E::TensorDamaged { tensor, .. } if tensor == "conv.weight"));
}

#[test]
fn unverified_opening_does_not_look_at_the_data() {
    let mut file = small_file();
    let last = file.len() - 1;
    file[last] ^= 1;
    assert!(ModelFile::from_bytes_unverified(file.clone().into()).is_ok());
    assert!(read(file).is_err());
}

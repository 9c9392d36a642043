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

/// Where the data begins.
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

#[test]
fn random_bits_of_a_larger_file() {
    let weights = dict([
        ("a", f32s(&[200_000], 0.5)),
        ("b", f32s(&[1_000_000], -3.0)),
        ("c", f32s(&[7], 1.0)),
    ]);
    let (_, _, metadata) = small_model();
    let mut file = encoded(&weights, &dict([]), &metadata);
    let start = data_start(&file);
    for count in 0..200 {
        let random = splitmix64(count);
        let at = start + (random >> 8) as usize % (file.len() - start);
        let bit = 1 << (random % 8);
        file[at] ^= bit;
        let expected = match at - start {
            0..800_000 => "a",
            800_000..4_800_000 => "b",
            _ => "c",
        };
        match ModelFile::from_bytes(bytes::Bytes::copy_from_slice(&file)) {
            Err(E::TensorDamaged { tensor, .. }) => assert_eq!(tensor, expected),
            other => panic!("byte {at}: {other:?}"),
        }
        file[at] ^= bit;
    }
    read(file).unwrap();
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

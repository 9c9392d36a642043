//! Each way in which an archive can be malformed, with the error it gets.

use super::{Archive, ZipError as E, names};

/// Builds archives, honest unless a field is set to something else.
#[derive(Clone, Default)]
struct Entry {
    name: String,
    raw: Vec<u8>,
    method: u16,
    flags: u16,
    size: u32,
    crc: u32,
    /// What the local header says instead.
    local_name: Option<String>,
    local_method: Option<u16>,
    /// The place that the directory gives for the local header, instead of the true one.
    at: Option<u32>,
    compressed: Option<u32>,
}

fn stored(name: &str, data: &[u8]) -> Entry {
    Entry {
        name: name.into(),
        raw: data.into(),
        size: data.len() as u32,
        crc: crc32fast::hash(data),
        ..Entry::default()
    }
}

fn deflated(name: &str, data: &[u8]) -> Entry {
    let mut raw = vec![0; data.len() + 100];
    let mut state = flate2::Compress::new(flate2::Compression::best(), false);
    state
        .compress(data, &mut raw, flate2::FlushCompress::Finish)
        .unwrap();
    raw.truncate(state.total_out() as usize);
    Entry {
        raw,
        method: 8,
        ..stored(name, data)
    }
}

fn archive(entries: &[Entry]) -> Vec<u8> {
    archive_with(entries, |_| {})
}

/// An archive whose end record went through `change`.
fn archive_with(entries: &[Entry], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let at = entry.at.unwrap_or(bytes.len() as u32);
        let compressed = entry.compressed.unwrap_or(entry.raw.len() as u32);
        let local_name = entry.local_name.as_ref().unwrap_or(&entry.name);
        bytes.extend(0x0403_4b50u32.to_le_bytes());
        bytes.extend(20u16.to_le_bytes());
        bytes.extend(entry.flags.to_le_bytes());
        bytes.extend(entry.local_method.unwrap_or(entry.method).to_le_bytes());
        bytes.extend([0; 16]);
        bytes.extend((local_name.len() as u16).to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(local_name.as_bytes());
        bytes.extend(&entry.raw);
        directory.extend(0x0201_4b50u32.to_le_bytes());
        directory.extend([0; 4]);
        directory.extend(entry.flags.to_le_bytes());
        directory.extend(entry.method.to_le_bytes());
        directory.extend([0; 4]);
        directory.extend(entry.crc.to_le_bytes());
        directory.extend(compressed.to_le_bytes());
        directory.extend(entry.size.to_le_bytes());
        directory.extend((entry.name.len() as u16).to_le_bytes());
        directory.extend([0; 12]);
        directory.extend(at.to_le_bytes());
        directory.extend(entry.name.as_bytes());
    }
    let mut end = 0x0605_4b50u32.to_le_bytes().to_vec();
    end.extend([0; 4]);
    end.extend((entries.len() as u16).to_le_bytes());
    end.extend((entries.len() as u16).to_le_bytes());
    end.extend((directory.len() as u32).to_le_bytes());
    end.extend((bytes.len() as u32).to_le_bytes());
    end.extend([0; 2]);
    change(&mut end);
    bytes.extend(directory);
    bytes.extend(end);
    bytes
}

fn parse(bytes: Vec<u8>) -> Result<Archive, E> {
    Archive::parse(bytes.into())
}

fn read(archive: Vec<u8>, name: &str) -> Result<Vec<u8>, E> {
    let mut budget = 1 << 20;
    parse(archive)?
        .read(name, &mut budget)
        .map(|bytes| bytes.to_vec())
}

#[test]
fn stored_and_deflated_entries_read() {
    let text = b"once upon a time ".repeat(50);
    let bytes = archive(&[stored("a", b"abc"), deflated("b/c", &text), stored("", b"")]);
    assert_eq!(read(bytes.clone(), "a").unwrap(), b"abc");
    assert_eq!(read(bytes.clone(), "b/c").unwrap(), text);
    assert_eq!(read(bytes.clone(), "").unwrap(), b"");
    assert_eq!(names(&bytes).unwrap(), ["a", "b/c", ""]);
    assert_eq!(
        read(bytes, "z").unwrap_err(),
        E::Missing { entry: "z".into() }
    );
}

#[test]
fn a_comment_at_the_end_is_skipped() {
    let mut bytes = archive_with(&[stored("a", b"abc")], |end| {
        let length = end.len();
        end[length - 2] = 9;
    });
    bytes.extend(b"PK\x05\x06 abcd");
    assert_eq!(read(bytes, "a").unwrap(), b"abc");
}

#[test]
fn no_end() {
    assert_eq!(parse(Vec::new()).unwrap_err(), E::NoEnd);
    assert_eq!(parse(vec![b'P'; 100]).unwrap_err(), E::NoEnd);
    let mut cut = archive(&[stored("a", b"abc")]);
    cut.pop();
    assert_eq!(parse(cut).unwrap_err(), E::NoEnd);
}

#[test]
fn directory_past_its_end() {
    let bytes = archive_with(&[stored("a", b"abc")], |end| end[12] += 1);
    assert!(matches!(parse(bytes).unwrap_err(), E::Truncated { .. }));
    let bytes = archive_with(&[stored("a", b"abc")], |end| end[16..20].fill(0xff));
    assert!(matches!(parse(bytes).unwrap_err(), E::Truncated { .. }));
}

#[test]
fn more_entries_than_there_are() {
    let bytes = archive_with(&[stored("a", b"abc")], |end| (end[8], end[10]) = (2, 2));
    assert!(matches!(parse(bytes).unwrap_err(), E::Truncated { .. }));
}

#[test]
fn several_parts() {
    let bytes = archive_with(&[stored("a", b"abc")], |end| end[4] = 1);
    assert_eq!(parse(bytes).unwrap_err(), E::Parts);
    let bytes = archive_with(&[stored("a", b"abc")], |end| end[8] = 0);
    assert_eq!(parse(bytes).unwrap_err(), E::Parts);
}

#[test]
fn one_name_twice() {
    let bytes = archive(&[stored("a", b"abc"), stored("a", b"xyz")]);
    assert_eq!(
        parse(bytes).unwrap_err(),
        E::DuplicateEntry { entry: "a".into() }
    );
}

#[test]
fn two_entries_at_one_place() {
    let second = Entry {
        at: Some(0),
        local_name: Some("a".into()),
        ..stored("a2", b"abc")
    };
    // The name of the local header is another than the second entry's.
    let bytes = archive(&[stored("a", b"abc"), second]);
    assert!(matches!(
        parse(bytes).unwrap_err(),
        E::Contradiction { field: "name", .. }
    ));
}

#[test]
fn overlapping_entries() {
    // The first entry claims the bytes of the second as its own: how zip bombs multiply.
    let outer = Entry {
        size: 3 + 31 + 3,
        compressed: Some(3 + 31 + 3),
        ..stored("a", b"abc")
    };
    let bytes = archive(&[outer, stored("b", b"xyz")]);
    assert_eq!(
        parse(bytes).unwrap_err(),
        E::Overlap {
            entry: "a".into(),
            other: "b".into()
        }
    );
}

#[test]
fn local_header_that_contradicts() {
    let entry = Entry {
        local_method: Some(8),
        ..stored("a", b"abc")
    };
    assert_eq!(
        parse(archive(&[entry])).unwrap_err(),
        E::Contradiction {
            entry: "a".into(),
            field: "compression method"
        }
    );
}

#[test]
fn local_header_elsewhere() {
    let entry = Entry {
        at: Some(1),
        ..stored("a", b"abc")
    };
    assert!(matches!(
        parse(archive(&[entry])).unwrap_err(),
        E::Signature { at: 1, .. }
    ));
}

#[test]
fn encrypted() {
    let entry = Entry {
        flags: 1,
        ..stored("a", b"abc")
    };
    assert_eq!(
        parse(archive(&[entry])).unwrap_err(),
        E::Encrypted { entry: "a".into() }
    );
}

#[test]
fn another_method() {
    let entry = Entry {
        method: 12,
        ..stored("a", b"abc")
    };
    assert_eq!(
        parse(archive(&[entry])).unwrap_err(),
        E::Method {
            entry: "a".into(),
            method: 12
        }
    );
}

#[test]
fn sizes_that_cannot_be() {
    let entry = Entry {
        size: 4,
        ..stored("a", b"abc")
    };
    assert!(matches!(
        parse(archive(&[entry])).unwrap_err(),
        E::Size {
            size: 4,
            compressed: 3,
            ..
        }
    ));
    // Deflate expands by 1032 at most: this would be refused before a byte is allocated.
    let entry = Entry {
        size: u32::MAX - 1,
        ..deflated("a", &[0; 1000])
    };
    assert!(matches!(
        parse(archive(&[entry])).unwrap_err(),
        E::Size { .. }
    ));
}

#[test]
fn data_past_the_directory() {
    let entry = Entry {
        size: 1000,
        compressed: Some(1000),
        ..stored("a", b"abc")
    };
    assert!(matches!(
        parse(archive(&[entry])).unwrap_err(),
        E::Truncated { record: "data", .. }
    ));
}

#[test]
fn deflated_data_of_another_size() {
    for size in [999, 1001] {
        let entry = Entry {
            size,
            ..deflated("a", &[7; 1000])
        };
        assert_eq!(
            read(archive(&[entry]), "a").unwrap_err(),
            E::Inflate { entry: "a".into() }
        );
    }
}

#[test]
fn deflated_data_that_is_none() {
    let entry = Entry {
        raw: vec![0xff; 20],
        ..deflated("a", &[7; 1000])
    };
    assert_eq!(
        read(archive(&[entry]), "a").unwrap_err(),
        E::Inflate { entry: "a".into() }
    );
}

#[test]
fn damaged_data() {
    let entry = Entry {
        raw: b"abd".to_vec(),
        ..stored("a", b"abc")
    };
    assert!(matches!(
        read(archive(&[entry]), "a").unwrap_err(),
        E::Checksum { .. }
    ));
}

#[test]
fn bombs_stop_at_the_budget() {
    let bytes = archive(&[deflated("a", &[0; 600_000]), deflated("b", &[0; 600_000])]);
    let archive = parse(bytes).unwrap();
    let mut budget = 1_000_000;
    archive.read("a", &mut budget).unwrap();
    assert!(matches!(
        archive.read("b", &mut budget).unwrap_err(),
        E::Budget {
            size: 600_000,
            left: 400_000,
            ..
        }
    ));
}

#[test]
fn name_not_utf8() {
    // The last byte before the end record is the entry's name in the directory.
    let mut bytes = archive(&[stored("a", b"abc")]);
    let end = bytes.len() - 22 - 1;
    bytes[end] = 0xff;
    assert_eq!(parse(bytes).unwrap_err(), E::Name);
}

#[test]
fn truncated_anywhere() {
    let bytes = archive(&[stored("a", b"abc"), deflated("b", &[1; 100])]);
    for length in 0..bytes.len() {
        assert!(parse(bytes[..length].to_vec()).is_err(), "{length}");
    }
}

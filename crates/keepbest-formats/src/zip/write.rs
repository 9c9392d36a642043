//! Laying out a zip archive of stored entries, without copying them.

use bytes::Bytes;

use super::{CENTRAL_HEADER, END, END_64, END_64_LOCATOR, LOCAL_HEADER};

/// A 32-bit field of this value says that the real one is in the zip64 record.
const FULL: u64 = u32::MAX as u64;

/// 1980-01-01 00:00, the first moment that zip knows: the same content gives the same bytes.
const NO_TIME: u32 = 0x0021_0000;

/// Version of the format that it takes to read stored entries, and zip64.
const VERSION: u16 = 20;
const VERSION_64: u16 = 45;

/// The name of PyTorch's padding field: `FB`.
const PADDING_FIELD: u16 = 0x4246;

/// The pieces of an archive with `entries` (name and content), in file order. The content of each
/// begins at a multiple of `alignment`, which must be a power of two and at most 4096. Names must be
/// unique and shorter than 65536 bytes.
pub(crate) fn stored(entries: Vec<(String, Bytes)>, alignment: u64) -> Vec<Bytes> {
    debug_assert!(alignment.is_power_of_two() && alignment <= 4096);
    let mut pieces = Vec::with_capacity(2 * entries.len() + 1);
    let mut directory = Vec::new();
    let mut at = 0u64;
    let count = entries.len() as u64;
    for (name, content) in entries {
        let crc = crc32fast::hash(&content);
        let header = local_header(&name, content.len() as u64, crc, at, alignment);
        central_header(&mut directory, &name, content.len() as u64, crc, at);
        at += (header.len() + content.len()) as u64;
        pieces.push(header.into());
        pieces.push(content);
    }
    let size = directory.len() as u64;
    end(&mut directory, count, size, at);
    pieces.push(directory.into());
    pieces
}

/// The header before the content of an entry that begins at `at`.
fn local_header(name: &str, size: u64, crc: u32, at: u64, alignment: u64) -> Vec<u8> {
    let wide = size >= FULL;
    let mut extra = Vec::new();
    if wide {
        put16(&mut extra, 1);
        put16(&mut extra, 16);
        put64(&mut extra, size);
        put64(&mut extra, size);
    }
    let content = at + (30 + name.len() + extra.len() + 4) as u64;
    let padding = content.next_multiple_of(alignment) - content;
    put16(&mut extra, PADDING_FIELD);
    put16(&mut extra, padding as u16);
    extra.resize(extra.len() + padding as usize, b'Z');

    let mut header = Vec::with_capacity(30 + name.len() + extra.len());
    put32(&mut header, LOCAL_HEADER);
    put16(&mut header, if wide { VERSION_64 } else { VERSION });
    method_to_sizes(&mut header, size, crc);
    put16(&mut header, name.len() as u16);
    put16(&mut header, extra.len() as u16);
    header.extend(name.as_bytes());
    header.extend(extra);
    header
}

/// The fields that both headers have: flags, method, time, CRC-32 and sizes.
fn method_to_sizes(header: &mut Vec<u8>, size: u64, crc: u32) {
    put16(header, 0);
    put16(header, 0);
    put32(header, NO_TIME);
    put32(header, crc);
    put32(header, size.min(FULL) as u32);
    put32(header, size.min(FULL) as u32);
}

/// The entry of the central directory.
fn central_header(directory: &mut Vec<u8>, name: &str, size: u64, crc: u32, at: u64) {
    let mut wide = Vec::new();
    if size >= FULL {
        put64(&mut wide, size);
        put64(&mut wide, size);
    }
    if at >= FULL {
        put64(&mut wide, at);
    }
    let version = if wide.is_empty() { VERSION } else { VERSION_64 };
    put32(directory, CENTRAL_HEADER);
    put16(directory, version);
    put16(directory, version);
    method_to_sizes(directory, size, crc);
    put16(directory, name.len() as u16);
    put16(
        directory,
        if wide.is_empty() {
            0
        } else {
            4 + wide.len() as u16
        },
    );
    // No comment, first disk, no attributes.
    directory.extend([0; 10]);
    put32(directory, at.min(FULL) as u32);
    directory.extend(name.as_bytes());
    if !wide.is_empty() {
        put16(directory, 1);
        put16(directory, wide.len() as u16);
        directory.extend(wide);
    }
}

/// The records after the central directory of `size` bytes at `at`.
fn end(directory: &mut Vec<u8>, count: u64, size: u64, at: u64) {
    const FULL_16: u64 = u16::MAX as u64;
    if count >= FULL_16 || size >= FULL || at >= FULL {
        put32(directory, END_64);
        put64(directory, 44);
        put16(directory, VERSION_64);
        put16(directory, VERSION_64);
        directory.extend([0; 8]);
        put64(directory, count);
        put64(directory, count);
        put64(directory, size);
        put64(directory, at);
        put32(directory, END_64_LOCATOR);
        put32(directory, 0);
        put64(directory, at + size);
        put32(directory, 1);
    }
    put32(directory, END);
    put32(directory, 0);
    put16(directory, count.min(FULL_16) as u16);
    put16(directory, count.min(FULL_16) as u16);
    put32(directory, size.min(FULL) as u32);
    put32(directory, at.min(FULL) as u32);
    put16(directory, 0);
}

fn put16(bytes: &mut Vec<u8>, value: u16) {
    bytes.extend(value.to_le_bytes());
}

fn put32(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend(value.to_le_bytes());
}

fn put64(bytes: &mut Vec<u8>, value: u64) {
    bytes.extend(value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zip::Archive;

    fn archive(entries: &[(String, Bytes)]) -> Vec<u8> {
        stored(entries.to_vec(), 64).concat()
    }

    #[test]
    fn reads_back_aligned() {
        let entries: Vec<(String, Bytes)> = (0..200usize)
            .map(|i| {
                (
                    format!("archive/data/{i}"),
                    vec![i as u8; i * 7 % 150].into(),
                )
            })
            .collect();
        let file = Bytes::from(archive(&entries));
        let read = Archive::parse(file.clone()).unwrap();
        assert_eq!(read.names().count(), 200);
        for (name, content) in &entries {
            let bytes = read.read(name, &mut 0).unwrap();
            assert_eq!(bytes, content);
            if !content.is_empty() {
                assert_eq!((bytes.as_ptr() as usize - file.as_ptr() as usize) % 64, 0);
            }
        }
    }

    #[test]
    fn more_entries_than_16_bits_count() {
        let entries: Vec<(String, Bytes)> = (0..66_000)
            .map(|i| (i.to_string(), Bytes::from_static(b"x")))
            .collect();
        let read = Archive::parse(archive(&entries).into()).unwrap();
        assert_eq!(read.names().count(), 66_000);
        assert_eq!(read.read("65999", &mut 0).unwrap().as_ref(), b"x");
    }

    #[test]
    fn fields_of_64_bits_where_32_do_not_do() {
        let size = (1u64 << 32) + 5;
        let header = local_header("a", size, 7, 0, 64);
        assert_eq!(header.len() % 64, 0);
        assert_eq!(header[18..26], [0xff; 8]);
        assert_eq!(header[31..35], [1, 0, 16, 0]);
        assert_eq!(header[35..43], size.to_le_bytes());
        let mut central = Vec::new();
        central_header(&mut central, "a", 5, 7, size);
        assert_eq!(central[42..46], [0xff; 4]);
        assert_eq!(central[47..51], [1, 0, 8, 0]);
        assert_eq!(central[51..], size.to_le_bytes());
    }
}

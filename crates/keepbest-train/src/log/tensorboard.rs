//! TensorBoard's event files: records with masked CRC-32C checks around protocol-buffer events.
//!
//! As `tensorflow/core/lib/io/record_writer.h` and `tensorflow/core/util/event.proto` have them; only what scalars need.

use std::path::PathBuf;

use keepbest_formats::protobuf::Message;
use keepbest_store::{FileSystem as _, RealFileSystem, WritableFile};

use super::logger::{Logged, Logger, SessionEnd, SessionStart, cannot_write, now_ms};

/// The event file of a session.
#[derive(Default)]
pub(super) struct TensorBoard {
    file: Option<(PathBuf, Box<dyn WritableFile>)>,
}

impl TensorBoard {
    fn write(&mut self, events: &[u8]) -> Result<(), String> {
        let Some((path, file)) = &mut self.file else {
            return Ok(());
        };
        file.write_all(events)
            .map_err(|error| cannot_write(path, &error))
    }
}

impl Logger for TensorBoard {
    fn begin(&mut self, start: &SessionStart) -> Result<(), String> {
        let folder = start.run.join("tensorboard");
        std::fs::create_dir_all(&folder).map_err(|error| cannot_write(&folder, &error))?;
        let now = now_ms();
        // TensorBoard reads the files of a folder by name; the usual name's host is left out.
        let path = folder.join(format!("events.out.tfevents.{:010}.keepbest", now / 1000));
        if folder.is_symlink() {
            return Err(format!("{} is a link, not a folder", folder.display()));
        }
        let file = RealFileSystem.open_append(&path);
        let file = file.map_err(|error| cannot_write(&path, &error))?;
        self.file = Some((path, file));
        let mut version = event(now, 0);
        version.text(3, "brain.Event:2");
        let mut events = record(version);
        if start.step > 0 {
            // A session that starts at a step: what an earlier one logged beyond it is void.
            let mut start = event(now, start.step + 1);
            start.message(7, |session| session.int(1, 1));
            events.extend(record(start));
        }
        self.write(&events)
    }

    fn evaluated(&mut self, logged: &Logged) -> Result<(), String> {
        let Some(step) = logged.record().map(|record| record.step) else {
            return Ok(());
        };
        let mut scalars = event(logged.time_ms, step);
        scalars.message(5, |summary| {
            for (name, value) in logged.values() {
                summary.message(1, |scalar| {
                    scalar.text(1, name);
                    scalar.float(2, value as f32);
                });
            }
        });
        self.write(&record(scalars))
    }

    fn end(&mut self, _: &SessionEnd) -> Result<(), String> {
        self.file = None;
        Ok(())
    }
}

/// The beginning of an event: wall time in seconds, step.
fn event(time_ms: u64, step: u64) -> Message {
    let mut event = Message::default();
    event.double(1, time_ms as f64 / 1000.0);
    event.int(2, step as i64);
    event
}

/// Length, its check, the bytes, their check.
fn record(event: Message) -> Vec<u8> {
    let bytes = event.into_pieces().concat();
    let length = (bytes.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(bytes.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_crc32c(&length).to_le_bytes());
    record.extend_from_slice(&bytes);
    record.extend_from_slice(&masked_crc32c(&bytes).to_le_bytes());
    record
}

/// A CRC turned and moved, so that the check of data that holds checks is not trivial.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: events are a kilobyte an evaluation.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_is_castagnoli_s() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}

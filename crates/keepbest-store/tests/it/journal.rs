//! The journal: torn tails, damaged lines, values that JSON lacks.

use keepbest_core::{EvaluationRecord, Metrics};
use keepbest_store::{Event, JournalError, OpenError, RunReader, RunState, RunWriter};

use crate::support::{Fixture, best, digest, evaluate, objective, read};

#[test]
fn every_cut_of_the_last_line_is_torn_and_no_more() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    evaluate(&mut writer, 10, 0.5);
    evaluate(&mut writer, 20, 0.6);
    drop(writer);
    let path = fixture.run().join("journal.jsonl");
    let whole = std::fs::read(&path).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let last_len = text.lines().last().unwrap().len() + 1;
    for cut in 1..=last_len {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let journal = RunReader::open(fixture.run()).unwrap().journal().unwrap();
        assert_eq!(journal.entries.len(), 2, "cut {cut}");
        assert_eq!(journal.torn.is_some(), cut != last_len, "cut {cut}");
        // A writer cuts it and goes on.
        let mut writer = RunWriter::open(fixture.run()).unwrap();
        assert_eq!(writer.torn_tail().is_some(), cut != last_len);
        evaluate(&mut writer, 20, 0.6);
        drop(writer);
        let journal = RunReader::open(fixture.run()).unwrap().journal().unwrap();
        assert_eq!((journal.entries.len(), journal.torn), (3, None));
    }
}

#[test]
fn every_changed_byte_is_noticed() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    evaluate(&mut writer, 10, 0.5);
    evaluate(&mut writer, 20, 0.6);
    drop(writer);
    let path = fixture.run().join("journal.jsonl");
    let whole = std::fs::read(&path).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let last_start = whole.len() - text.lines().last().unwrap().len() - 1;
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let read = RunReader::open(fixture.run()).unwrap().journal();
        if at < last_start {
            match read.unwrap_err() {
                JournalError::Damaged { line, .. } => {
                    let expected = 1 + whole[..at].iter().filter(|&&b| b == b'\n').count();
                    assert_eq!(line, expected, "byte {at}");
                }
                other => panic!("{other:?}"),
            }
        } else {
            let journal = read.unwrap();
            assert!(journal.torn.is_some(), "byte {at}");
            assert_eq!(journal.entries.len(), 2);
        }
    }
}

#[test]
fn zeros_at_the_end_are_a_torn_tail() {
    let fixture = Fixture::new();
    drop(fixture.create());
    let path = fixture.run().join("journal.jsonl");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.resize(bytes.len() + 4096, 0);
    std::fs::write(&path, bytes).unwrap();
    let writer = RunWriter::open(fixture.run()).unwrap();
    assert_eq!(writer.torn_tail().map(|torn| torn.bytes), Some(4096));
}

#[test]
fn a_lost_or_repeated_line_is_damage() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    evaluate(&mut writer, 10, 0.5);
    evaluate(&mut writer, 20, 0.6);
    drop(writer);
    let path = fixture.run().join("journal.jsonl");
    let text = read(&path);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for altered in [
        [lines[0], lines[2]].concat(),
        [lines[0], lines[0], lines[1]].concat(),
        [lines[1], lines[2]].concat(),
    ] {
        std::fs::write(&path, altered).unwrap();
        let error = RunWriter::open(fixture.run()).unwrap_err();
        assert!(
            matches!(error, OpenError::Journal(JournalError::Damaged { .. })),
            "{error:?}"
        );
        assert!(error.to_string().contains("line "), "{error}");
    }
}

#[test]
fn events_read_back_as_they_were_written() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let metrics = Metrics::from_iter([
        ("val/accuracy", f64::NAN),
        ("val/loss", f64::INFINITY),
        ("val/x", f64::NEG_INFINITY),
        ("val/y", 0.1 + 0.2),
    ]);
    let judgement = objective().judge(None, &metrics).unwrap();
    let record = EvaluationRecord::new(10, 1, metrics.clone(), judgement).with_digest(digest(10));
    writer.append(Event::Evaluated(record)).unwrap();
    best(&mut writer, 20, 0.7);
    let state = writer.state().clone();
    drop(writer);
    let reader = RunReader::open(fixture.run()).unwrap();
    let journal = reader.journal().unwrap();
    let kinds: Vec<&str> = journal.entries.iter().map(|e| e.event.kind()).collect();
    assert_eq!(
        kinds,
        [
            "started",
            "evaluated",
            "evaluated",
            "saved",
            "promoted",
            "promoted"
        ]
    );
    let read_back = reader.state().unwrap();
    assert_eq!(read_back.history.records()[0].metrics, metrics);
    assert!(read_back.history.records()[0].value.is_nan());
    assert_eq!(format!("{read_back:?}"), format!("{state:?}"));
    let text = read(&fixture.run().join("journal.jsonl"));
    assert!(text.contains(r#""val/accuracy":"NaN""#), "{text}");
    assert!(text.contains(r#""val/y":0.30000000000000004"#), "{text}");
}

#[test]
fn events_of_a_later_version_are_kept() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let value = serde_json::json!({"event": "teleported", "to": [1, 2]});
    let other = serde_json::from_value(value.clone()).unwrap();
    writer.append(Event::Other(other)).unwrap();
    drop(writer);
    let journal = RunReader::open(fixture.run()).unwrap().journal().unwrap();
    let event = &journal.entries[1].event;
    assert_eq!(event.kind(), "teleported");
    assert_eq!(serde_json::to_value(event).unwrap(), value);
}

#[test]
fn a_clock_that_goes_back_changes_nothing() {
    let fixture = Fixture::new();
    let mut writer = fixture.create();
    let old = best(&mut writer, 10, 0.5);
    best(&mut writer, 20, 0.6);
    writer.prune(old.name(), "no policy keeps it").unwrap();
    drop(writer);
    let mut entries = RunReader::open(fixture.run())
        .unwrap()
        .journal()
        .unwrap()
        .entries;
    let mut expected = RunState::from_entries(&entries);
    // From a far future back to 1970.
    let count = entries.len() as u64;
    for (i, entry) in entries.iter_mut().enumerate() {
        entry.time_ms = (count - 1 - i as u64) * (u64::MAX / count);
    }
    let found = RunState::from_entries(&entries);
    expected.started_ms = found.started_ms;
    expected.updated_ms = found.updated_ms;
    assert_eq!(found, expected);
    assert_eq!(found.best().unwrap().step, 20);
}

#[test]
fn a_journal_that_is_changed_in_place_while_it_is_written_to_is_written_anew() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, &str, bool, Change); 6] = [
        ("emptied", "was cut to 0 of", false, |text| text.clear()),
        ("cut", "was cut to", false, |text| {
            text.truncate(text.len() - 100)
        }),
        ("appended to", "was changed", true, |text| {
            text.extend(b"x\n")
        }),
        ("its last byte", "was changed", true, |text| {
            *text.last_mut().unwrap() = b'x'
        }),
        ("a byte of its first line", "was changed", true, |text| {
            text[20] ^= 1
        }),
        ("its first line", "was changed", true, |text| {
            let end = text.iter().position(|&byte| byte == b'\n').unwrap();
            text.drain(..=end);
        }),
    ];
    for (what, told, kept, change) in changes {
        let fixture = Fixture::new();
        let mut writer = fixture.create();
        evaluate(&mut writer, 10, 0.5);
        evaluate(&mut writer, 20, 0.6);
        let path = fixture.run().join("journal.jsonl");
        let before = std::fs::read(&path).unwrap();
        let mut changed = before.clone();
        change(&mut changed);
        // Later than the clock of the file system ticks.
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::fs::write(&path, &changed).unwrap();
        evaluate(&mut writer, 30, 0.7);
        evaluate(&mut writer, 40, 0.8);
        drop(writer);
        let after = std::fs::read(&path).unwrap();
        assert!(after.starts_with(&before), "{what}");
        let journal = RunReader::open(fixture.run()).unwrap().journal().unwrap();
        let kinds: Vec<&str> = journal.entries.iter().map(|e| e.event.kind()).collect();
        let expected = [
            "evaluated",
            "evaluated",
            "repaired",
            "evaluated",
            "evaluated",
        ];
        assert_eq!(kinds[1..], expected, "{what}");
        let text = String::from_utf8(after).unwrap();
        assert!(text.contains(told), "{what}: {text}");
        let aside = fixture.run().join("journal.jsonl.damaged");
        assert_eq!(std::fs::read(aside).ok(), kept.then_some(changed), "{what}");
    }
}

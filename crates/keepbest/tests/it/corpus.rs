//! Every input that fuzzing found worth keeping, through the same functions, on stable Rust.

use std::path::Path;

#[path = "../../../../fuzz/src/lib.rs"]
pub(crate) mod targets;

#[test]
fn every_committed_input_is_read_or_refused() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let mut inputs: Vec<_> = std::fs::read_dir(corpus.join(name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for input in inputs {
            let bytes = std::fs::read(&input).unwrap();
            // Named before, so that a panic says which.
            println!("{}", input.display());
            target(&bytes);
            // Cut short at a few places, it must be refused as quietly.
            for part in 1..8 {
                target(&bytes[..bytes.len() * part / 8]);
            }
        }
    }
    let folders = std::fs::read_dir(&corpus).unwrap().count();
    assert_eq!(folders, targets::TARGETS.len());
}

//! The table of docs/interop.md says what the golden files prove, of every one of them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;

use crate::support::golden;

#[test]
fn the_table_of_kinds_is_what_is_checked() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/interop.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let told: BTreeMap<String, [String; 2]> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix('|'))
        .filter_map(|row| row.split_once("` |"))
        .map(|(name, rest)| {
            let cells: Vec<&str> = rest.split('|').map(str::trim).collect();
            let [_, new, old] = cells[..] else {
                panic!("{name}: {cells:?}");
            };
            (name.to_owned(), [new.to_owned(), old.to_owned()])
        })
        .collect();
    let mut checked: BTreeMap<String, [String; 2]> = BTreeMap::new();
    for (column, folder) in ["pth", "pth-1.13"].into_iter().enumerate() {
        let expected = std::fs::read_to_string(golden(folder).join("expected.json")).unwrap();
        let expected: Json = serde_json::from_str(&expected).unwrap();
        for (name, file) in expected["files"].as_object().unwrap() {
            let read = match file["error"].is_string() {
                true => "named, not read",
                false => "exactly",
            };
            checked.entry(name.clone()).or_default()[column] = read.to_owned();
        }
    }
    assert_eq!(told, checked);
}

//! docs/reliability.md names a test for each of its claims: they exist.

use std::path::Path;

#[test]
fn each_test_that_the_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let mut found = 0;
    for quoted in text.split('`').skip(1).step_by(2) {
        let Some((krate, test)) = quoted.split_once(": ") else {
            continue;
        };
        let Some((module, name)) = test.split_once("::") else {
            continue;
        };
        if krate == "crate" {
            continue;
        }
        let path = root.join(format!("crates/{krate}/tests/it/{module}.rs"));
        let source = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("`{quoted}`: {}: {error}", path.display()));
        assert!(
            source.contains(&format!("fn {name}(")),
            "`{quoted}` does not exist"
        );
        found += 1;
    }
    assert!(found >= 40, "only {found} tests are named");
}

//! Files that would run code when unpickled: no verb does, and each says so.

use std::path::Path;

use crate::corpus::targets::archive;
use crate::support::Place;

/// A pickle that calls `module.name(*arguments)` when it is loaded, in protocol 2.
fn calling(module: &str, name: &str, arguments: &[&str]) -> Vec<u8> {
    let mut pickle = format!("\x02c{module}\n{name}\n(").into_bytes();
    pickle.insert(0, 0x80);
    for argument in arguments {
        pickle.push(b'X');
        pickle.extend((argument.len() as u32).to_le_bytes());
        pickle.extend(argument.as_bytes());
    }
    pickle.extend(b"tR.");
    pickle
}

/// Files that would create `trace`, in each container, by each of several functions.
fn hostile(trace: &Path) -> Vec<(String, Vec<u8>)> {
    let trace = trace.to_str().unwrap();
    let touch = format!("touch '{trace}'");
    let python = format!("open({trace:?}, 'w')");
    let calls: [(&str, &str, Vec<&str>); 5] = [
        ("os", "system", vec![&touch]),
        ("posix", "system", vec![&touch]),
        ("builtins", "eval", vec![&python]),
        ("__builtin__", "open", vec![trace, "w"]),
        ("io", "open", vec![trace, "w"]),
    ];
    let mut files = Vec::new();
    for (module, name, arguments) in calls {
        let pickle = calling(module, name, &arguments);
        let zip = archive(&[("archive/data.pkl", &pickle), ("archive/version", b"3\n")]);
        files.push((format!("{module}.{name}"), zip));
        let head = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";
        let legacy = [&head[..], &pickle, b"\x80\x02]."].concat();
        files.push((format!("{module}.{name}"), legacy));
    }
    files
}

#[test]
fn no_verb_runs_what_is_in_a_file() {
    let place = Place::with_data();
    let trace = place.path("trace");
    std::fs::write(place.path("image.png"), b"never read").unwrap();
    for (name, bytes) in hostile(&trace) {
        std::fs::write(place.path("evil.pth"), bytes).unwrap();
        let said = place.run("inspect evil.pth");
        assert_eq!(said.code, 3, "{name}\n{}{}", said.out, said.err);
        assert!(said.out.contains(&name), "{name} is not in\n{}", said.out);
        let said = place.run("inspect evil.pth --json");
        assert_eq!(said.code, 3);
        let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(json["dangerous"][0], *name);
        for verb in [
            "import evil.pth --model simple-cnn --to made.safetensors",
            "export evil.pth --model simple-cnn --to made.onnx",
            "predict evil.pth image.png --model simple-cnn",
            "evaluate evil.pth --model simple-cnn --data data",
            "train --from evil.pth --data data --epochs 1",
            "verify evil.pth",
        ] {
            place.run(verb).fails(3, &["refused", &name, "evil.pth"]);
        }
        assert!(!trace.exists(), "{name} was run");
        assert!(!place.path("made.safetensors").exists());
        assert!(!place.path("made.onnx").exists());
        assert!(!place.path("runs").exists());
    }
}

//! PyTorch's own files (`tests/golden/make_pth.py`) are read exactly, without running anything.

use std::fs;
use std::path::{Path, PathBuf};

use keepbest_formats::pth::{Container, PthFile, Trust, Value};

use crate::folder::check_pth;
use crate::support::golden;

fn file(name: &str) -> PathBuf {
    golden("pth").join(name)
}

#[test]
fn every_file_of_pytorch_2_15() {
    assert_eq!(check_pth(&golden("pth")), 45);
}

#[test]
fn every_file_of_pytorch_1_13() {
    assert_eq!(check_pth(&golden("pth-1.13")), 43);
}

#[test]
fn containers_are_told_apart() {
    for (name, container) in [
        ("state-dict.pth", Container::Zip),
        ("script.pt", Container::TorchScript),
        ("legacy-state-dict.pth", Container::Legacy),
        ("tar.pth", Container::Tar),
    ] {
        assert_eq!(PthFile::open(file(name)).unwrap().container(), container);
    }
    assert!(PthFile::open(file("big-endian.pth")).unwrap().big_endian());
    let zip = PthFile::open(file("protocol-4.pth")).unwrap();
    assert_eq!((zip.protocol(), zip.version()), (4, Some("3")));
}

#[test]
fn values_beside_the_weights() {
    let file = PthFile::open(file("checkpoint.pth")).unwrap();
    let Value::Dict(root) = file.root() else {
        panic!("{:?}", file.root());
    };
    let shown = |key: &str| root.get(key).unwrap().to_string();
    assert_eq!(shown("epoch"), "12");
    assert_eq!(shown("best_accuracy"), "0.875");
    assert_eq!(shown("classes"), r#"["cat", "dog"]"#);
    assert_eq!(shown("lr"), "0.1");
    assert_eq!(shown("big"), "an integer of 9 bytes");
    assert_eq!(shown("args"), "<argparse.Namespace>");
    assert_eq!(shown("shape"), "(1, 28, 28)");
    assert_eq!(shown("device"), r#""cuda""#);
    assert_eq!(shown("dtype"), "dtype F16");
    assert_eq!(shown("seen"), "{1, 2}");
    assert_eq!(shown("none"), "None");
    assert_eq!(shown("flag"), "True");
    assert_eq!(shown("pair"), "(1, 2.5)");
    assert_eq!(shown("by_class"), r#"{"cat": 0.5}"#);
    let Some(Value::Object(args)) = root.get("args") else {
        panic!();
    };
    assert_eq!(
        args.attributes().unwrap().get("name").unwrap().to_string(),
        r#""run""#
    );
    let Some(Value::Dict(optimizer)) = root.get("optimizer") else {
        panic!();
    };
    assert!(
        matches!(optimizer.get("param_groups"), Some(Value::List(groups)) if groups.len() == 1)
    );
    let all: Vec<_> = file
        .globals()
        .filter(|(_, trust)| *trust != Trust::Data)
        .collect();
    assert!(all.is_empty(), "{all:?}");
}

#[test]
fn averaged_weights_first_and_others_named() {
    let file = PthFile::open(file("ema.pth")).unwrap();
    let found = file.weights(None).unwrap();
    assert_eq!(found.others, ["state_dict"]);
    let plain = file.weights(Some("state_dict")).unwrap();
    assert_ne!(plain.weights, found.weights);
    let error = file.weights(Some("epoch")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no `epoch`; there are `state_dict`, `state_dict_ema`"
    );
}

#[test]
fn module_tree_without_its_classes() {
    for name in ["module.pth", "legacy-module.pth"] {
        let file = PthFile::open(file(name)).unwrap();
        let found = file.weights(None).unwrap();
        let tree = found.module.unwrap();
        assert_eq!(tree.class, "__main__.Net", "{name}");
        assert_eq!(tree.tensors, ["scale", "fixed"]);
        let names: Vec<_> = tree
            .children
            .iter()
            .map(|child| child.name.as_str())
            .collect();
        assert_eq!(names, ["features", "head"]);
        let conv = &tree.children[0].children[0];
        assert_eq!(conv.class, "torch.nn.modules.conv.Conv2d");
        let attribute = |name: &str| {
            let found = conv.attributes.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(attribute("out_channels"), Some("2"));
        assert_eq!(attribute("kernel_size"), Some("(3, 3)"));
        assert_eq!(attribute("stride"), Some("(2, 2)"));
        // Its classes are unknown here, and listed as such.
        let refused: Vec<_> = file
            .globals()
            .filter(|(_, trust)| *trust == Trust::Refused)
            .map(|(global, _)| global.global.to_string())
            .collect();
        assert!(refused.contains(&"__main__.Net".to_owned()), "{refused:?}");
        assert!(file.dangerous().is_empty());
    }
}

#[test]
fn views_of_the_file_where_they_lie_in_order() {
    let file = PthFile::open(file("views.pth")).unwrap();
    let found = file.weights(None).unwrap();
    let at = |name: &str| found.weights.get(name).unwrap().bytes().as_ptr() as usize;
    assert_eq!(at("matrix"), at("whole"));
    assert_eq!(at("part"), at("whole") + 5 * 4);
    assert_ne!(at("transposed"), at("whole"));
}

#[test]
fn attacks_are_named_and_their_weights_not_used() {
    for (name, global) in [
        ("evil-system.pth", "posix.system"),
        ("evil-eval.pth", "__builtin__.eval"),
        ("legacy-evil.pth", "__builtin__.exec"),
    ] {
        let file = PthFile::open(file(name)).unwrap();
        let [call] = file.dangerous() else {
            panic!("{name}: {:?}", file.dangerous());
        };
        assert_eq!(call.global.to_string(), global, "{name}");
        // With what it would be called stands there too.
        assert!(
            call.how.starts_with("with (") && call.how.contains("KEEPBEST_WAS_HERE"),
            "{call}"
        );
        let error = file.weights(None).unwrap_err().to_string();
        assert_eq!(error, format!("refused: its pickle would call {call}"));
    }
    assert!(!Path::new("KEEPBEST_WAS_HERE").exists());
}

#[test]
fn every_truncation_is_an_error_and_no_panic() {
    for name in [
        "state-dict.pth",
        "legacy-views.pth",
        "tar.pth",
        "module.pth",
    ] {
        let whole = fs::read(file(name)).unwrap();
        let intact = PthFile::open(file(name)).unwrap().weights(None).unwrap();
        for length in 0..whole.len() {
            let cut = bytes::Bytes::copy_from_slice(&whole[..length]);
            let read = PthFile::from_bytes(cut, Default::default()).and_then(|f| f.weights(None));
            // The tar form ends with padding, which nobody misses.
            if let Ok(found) = read {
                assert_eq!(name, "tar.pth", "{length}");
                assert_eq!(found.weights, intact.weights);
            }
        }
    }
}

#[test]
fn every_damaged_byte_of_a_zip_is_found_or_harmless() {
    // CRC-32 covers every entry's data; damage to fields that are not used changes nothing.
    let whole = fs::read(file("views.pth")).unwrap();
    let intact = PthFile::open(file("views.pth"))
        .unwrap()
        .weights(None)
        .unwrap();
    let mut found = 0;
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        match PthFile::from_bytes(damaged.into(), Default::default()).and_then(|f| f.weights(None))
        {
            Ok(read) => assert_eq!(read.weights, intact.weights, "byte {at}"),
            Err(_) => found += 1,
        }
    }
    assert!(found > 1000, "{found}");
}

#[test]
fn mutated_files_are_read_or_refused() {
    // Where no checksum stops the damage: it reaches the pickle and the tensors' descriptions.
    let mut state = 1u64;
    let mut random = move |below: usize| {
        // Numerical Recipes' generator; its upper bits are good enough.
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let mut refused = 0;
    for name in [
        "no-crc.pth",
        "legacy-views.pth",
        "legacy-module.pth",
        "tar.pth",
    ] {
        let whole = fs::read(file(name)).unwrap();
        for _ in 0..3000 {
            let mut mutated = whole.clone();
            for _ in 0..=random(3) {
                let at = random(mutated.len());
                match random(4) {
                    0 => mutated[at] = random(256) as u8,
                    1 => mutated[at] ^= 1 << random(8),
                    2 => {
                        mutated.remove(at);
                    }
                    _ => mutated.insert(at, random(256) as u8),
                }
            }
            let read = PthFile::from_bytes(mutated.into(), Default::default()).and_then(|file| {
                let _ = file.root().to_string();
                file.weights(None)
            });
            refused += usize::from(read.is_err());
        }
    }
    assert!(refused > 6000, "{refused}");
}

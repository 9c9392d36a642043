//! Model files that others wrote: what they put around the weights, and what is no match for them.

use std::path::Path;

use keepbest::formats::pth::{Limits, PthFile, Tree, encode};
use keepbest::formats::safetensors::Layout;
use keepbest::formats::{Dtype, StateDict, Tensor};

use crate::support::{Place, write_idx};

/// A place with a trained lenet5 of four classes exported as `a.pth`, and its weights.
fn exported() -> (Place, StateDict) {
    let place = Place::with_data();
    place.trained("a", "--model lenet5");
    place.ok("export a --to a.pth");
    let weights = weights(&place.path("a.pth"));
    (place, weights)
}

fn weights(path: &Path) -> StateDict {
    let bytes = std::fs::read(path).unwrap();
    let file = PthFile::from_bytes(bytes.into(), Limits::default()).unwrap();
    file.weights_as_named(None).unwrap().weights
}

fn write_pth(place: &Place, name: &str, tree: &Tree) {
    let mut bytes = Vec::new();
    encode(tree).unwrap().write_to(&mut bytes).unwrap();
    std::fs::write(place.path(name), bytes).unwrap();
}

fn write_safetensors(place: &Place, name: &str, weights: &StateDict) {
    let tensors: Vec<(&str, &Tensor)> = weights.iter().collect();
    let mut bytes = Vec::new();
    let layout = Layout::new(&tensors, &[]).unwrap();
    layout.write_to(&mut bytes).unwrap();
    std::fs::write(place.path(name), bytes).unwrap();
}

/// The weights under other names, with more tensors beside them.
fn renamed(weights: &StateDict, name: impl Fn(&str) -> String, more: &[&str]) -> StateDict {
    let mut out = StateDict::new();
    for (old, tensor) in weights.iter() {
        out.insert(name(old), tensor.clone()).unwrap();
    }
    for name in more {
        out.insert(*name, Tensor::from_f32(&[2], &[1.0, 2.0]).unwrap())
            .unwrap();
    }
    out
}

/// A pickle of NumPy arrays, as `pickle.dump` writes it in protocol 3, with `more` entries at its end.
fn numpy_pickle(weights: &StateDict, more: &[u8]) -> Vec<u8> {
    let text = |text: &str| {
        [
            b"X",
            &(text.len() as u32).to_le_bytes()[..],
            text.as_bytes(),
        ]
        .concat()
    };
    let mut pickle = b"\x80\x03}(".to_vec();
    for (name, tensor) in weights.iter() {
        pickle.extend(text(name));
        pickle.extend(
            b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01(",
        );
        for side in tensor.shape() {
            pickle.extend([&b"\x8a\x08"[..], &(*side as i64).to_le_bytes()].concat());
        }
        pickle.extend(b"tcnumpy\ndtype\n(X\x02\0\0\0f4\x89\x88tR(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89");
        pickle.extend([&b"B"[..], &(tensor.bytes().len() as u32).to_le_bytes()].concat());
        pickle.extend_from_slice(tensor.bytes());
        pickle.extend(b"tb");
    }
    pickle.extend(more);
    pickle.extend(b"u.");
    pickle
}

#[test]
fn what_stands_before_all_names_comes_off_in_every_container() {
    let (place, weights) = exported();
    let own = place.json("inspect a --json")["digest"].clone();
    for (prefix, more) in [
        ("module.", &[][..]),
        ("_orig_mod.", &[]),
        ("module._orig_mod.", &[]),
        ("model.", &[]),
        // One tensor more, that is not the network's.
        ("module.", &["n_averaged_loss"]),
        ("model.", &["criterion.weight"]),
        ("model._orig_mod.", &["loss_weight", "ema.decay"]),
        ("module.encoder_q.", &["module.queue", "module.queue_ptr"]),
        ("lightning.backbone.", &["head.weight"]),
    ] {
        let all = renamed(&weights, |name| format!("{prefix}{name}"), more);
        write_safetensors(&place, "x.safetensors", &all);
        write_pth(&place, "x.pth", &Tree::from(&all));
        let lightning = Tree::dict([
            ("pytorch-lightning_version", Tree::text("2.5.0")),
            ("state_dict", Tree::from(&all)),
        ]);
        write_pth(&place, "x.ckpt", &lightning);
        for file in ["x.safetensors", "x.pth", "x.ckpt"] {
            let import = format!("import {file} --model lenet5 --to in.safetensors --force");
            let told = place.json(&format!("{import} --json"));
            assert_eq!(told["digest"], own, "{file} {prefix}");
            let notes = told["notes"].to_string();
            assert!(notes.contains("took"), "{file} {prefix}: {notes}");
            for name in more {
                let name = name.rsplit('.').next().unwrap();
                assert!(notes.contains(name), "{file} {prefix}: {notes}");
            }
            // The same for whoever uses the file as it is.
            place.ok(&format!("evaluate {file} --model lenet5 --data data"));
        }
    }
    // MoCo's two encoders: the one that is trained by gradients.
    let mut both = renamed(&weights, |name| format!("encoder_q.{name}"), &["queue"]);
    for (name, tensor) in weights.iter() {
        let zeros = vec![0.0; tensor.elements()];
        let tensor = Tensor::from_f32(tensor.shape(), &zeros).unwrap();
        both.insert(format!("encoder_k.{name}"), tensor).unwrap();
    }
    write_safetensors(&place, "moco.safetensors", &both);
    let told = place.json("import moco.safetensors --model lenet5 --to moco-in.safetensors --json");
    assert_eq!(told["digest"], own);
    // Two parts that are both nothing usual: asked, and answered by leaving one out.
    let mut both = renamed(&weights, |name| format!("student.{name}"), &[]);
    for (name, tensor) in weights.iter() {
        both.insert(format!("teacher.{name}"), tensor.clone())
            .unwrap();
    }
    write_safetensors(&place, "dino.safetensors", &both);
    let import = "import dino.safetensors --model lenet5 --to dino-in.safetensors";
    place
        .run(import)
        .fails(1, &["cannot tell", "student., teacher.", "--drop"]);
    let told = place.json(&format!("{import} --json --drop student\\..*"));
    assert_eq!(told["digest"], own);
    assert_eq!(told["dropped"].as_array().unwrap().len(), weights.len());
}

#[test]
fn tensors_are_left_out_when_asked_for() {
    let (place, weights) = exported();
    let more = ["loss.weight", "loss.bias", "queue"];
    write_pth(
        &place,
        "x.pth",
        &Tree::from(&renamed(&weights, str::to_owned, &more)),
    );
    let import = "import x.pth --model lenet5 --to in.safetensors";
    place.run(import).fails(
        1,
        &[
            "not in the network: loss.weight, loss.bias, queue",
            "--drop 'loss\\..*' --drop 'queue'",
        ],
    );
    let told = place.ok(&format!(
        "{import} --drop loss\\..* --drop queue --drop none"
    ));
    for words in [
        "left out by --drop: loss.weight, loss.bias, queue",
        "--drop \"none\"",
    ] {
        assert!(told.err.contains(words), "{}", told.err);
    }
    place
        .run(&format!("{import} --force --drop ("))
        .fails(2, &["no regular expression"]);
}

#[test]
fn counters_are_no_match() {
    let place = Place::with_data();
    place.trained("a", "");
    place.ok("export a --to a.pth");
    let all = weights(&place.path("a.pth"));
    let only = |keep: &str| {
        let mut some = StateDict::new();
        for (name, tensor) in all.iter().filter(|(name, _)| name.contains(keep)) {
            some.insert(name, tensor.clone()).unwrap();
        }
        assert!(!some.is_empty());
        some
    };
    for keep in ["num_batches_tracked", "running_mean"] {
        write_pth(&place, "x.pth", &Tree::from(&only(keep)));
        place
            .run("import x.pth --model simple-cnn --partial --to in.safetensors")
            .fails(1, &["nothing that was trained in x.pth fits simple-cnn"]);
        assert!(!place.path("in.safetensors").exists());
    }
    // One tensor that was trained is a part.
    write_pth(&place, "x.pth", &Tree::from(&only("conv1.weight")));
    place.ok("import x.pth --model simple-cnn --partial --to in.safetensors");
}

#[test]
fn element_types_and_shapes_are_told_apart() {
    let (place, weights) = exported();
    let narrow = |dtype: Dtype| {
        let mut out = StateDict::new();
        for (name, tensor) in weights.iter() {
            let bytes = vec![0x38; tensor.elements() * dtype.size()];
            out.insert(name, Tensor::new(dtype, tensor.shape(), bytes).unwrap())
                .unwrap();
        }
        out
    };
    for (dtype, name) in [(Dtype::F8E4M3, "F8_E4M3"), (Dtype::I32, "I32")] {
        write_pth(&place, "x.pth", &Tree::from(&narrow(dtype)));
        write_safetensors(&place, "x.safetensors", &narrow(dtype));
        for file in ["x.pth", "x.safetensors"] {
            for partial in ["", "--partial"] {
                let import = format!("import {file} --model lenet5 {partial} --to in.safetensors");
                let said = place.run(&import);
                let found = format!("of another element type: conv1.weight is {name} [");
                said.fails(1, &[&found, "should be F32"]);
                assert!(!said.err.contains("another shape"), "{}", said.err);
                assert_eq!(
                    said.err.contains("8 bits"),
                    dtype == Dtype::F8E4M3,
                    "{}",
                    said.err
                );
            }
        }
    }
    assert!(!place.path("in.safetensors").exists());
}

#[test]
fn class_names_from_a_file() {
    let (place, _) = exported();
    let import = |classes: &str| {
        place.run(&format!(
            "import a.pth --model lenet5 --classes {classes} --to in.safetensors --force --json"
        ))
    };
    let names = |text: &[u8]| {
        std::fs::write(place.path("names.txt"), text).unwrap();
        let said = import("names.txt");
        assert_eq!(said.code, 0, "{}", said.err);
        let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        told["classes"].clone()
    };
    let four = serde_json::json!(["a", "b b", "c", "d"]);
    assert_eq!(names(b"a\nb b\nc\nd"), four);
    assert_eq!(names(b"\xef\xbb\xbfa\r\nb b\r\n\r\n  c\r\nd\r\n\r\n"), four);
    let refused = |text: &[u8], code: i32, words: &[&str]| {
        std::fs::write(place.path("names.txt"), text).unwrap();
        import("names.txt").fails(code, words);
    };
    refused(b"a\nb\n\na\nd\n", 2, &["\"a\" is both line 1 and line 4"]);
    refused(b"\n\n", 2, &["names.txt names no classes"]);
    refused(
        b"a\nb\n\xff\n",
        1,
        &["names.txt", "not UTF-8 from byte 4 on"],
    );
    refused(b"\xff\xfea\0", 1, &["UTF-16"]);
    // How many there are is compared before shapes are.
    refused(b"a\nb\nc\n", 1, &["3 classes named, the weights have 4"]);
    import("a,b,c,d,e").fails(1, &["5 classes named, the weights have 4"]);
    import("a,b,a,d").fails(2, &["\"a\" is both name 1 and name 3"]);
    import("a,,c,d").fails(2, &["name 2 is empty"]);
    import("nowhere.txt").fails(2, &["\"nowhere.txt\" is no file"]);
    import(".").fails(1, &["cannot read the class names in ."]);
}

#[test]
fn dangerous_calls_are_told_and_weights_beside_them_can_be_had() {
    let (place, weights) = exported();
    let own = place.json("inspect a --json")["digest"].clone();
    let import = "import x.pkl --model lenet5 --to in.safetensors --json";
    // A name alone is no call.
    for more in [
        &b"X\x04\0\0\0notec__builtin__\nEllipsis\n"[..],
        b"X\x01\0\0\0mcbuiltins\nlen\n",
    ] {
        std::fs::write(place.path("x.pkl"), numpy_pickle(&weights, more)).unwrap();
        place.ok("inspect x.pkl");
        assert_eq!(place.json(&format!("{import} --force"))["digest"], own);
    }
    std::fs::remove_file(place.path("in.safetensors")).unwrap();
    let call = b"X\x01\0\0\0acbuiltins\ngetattr\n(cm\nC\nX\x04\0\0\0relutR";
    std::fs::write(place.path("x.pkl"), numpy_pickle(&weights, call)).unwrap();
    let told = "`builtins.getattr` with (m.C, \"relu\")";
    place
        .run(import)
        .fails(3, &["refused", told, "--ignore-calls"]);
    let said = place.run("inspect x.pkl");
    assert_eq!(said.code, 3);
    assert!(said.out.contains(told), "{}", said.out);
    assert!(!place.path("in.safetensors").exists());
    let said = place.json(&format!("{import} --ignore-calls"));
    assert_eq!(said["digest"], own);
    assert!(
        said["notes"].to_string().contains("nothing was run"),
        "{said}"
    );
    let said = place.run("inspect x.pkl --ignore-calls");
    assert_eq!(said.code, 3);
    assert!(said.out.contains("conv1.weight"), "{}", said.out);
}

#[test]
fn weights_in_many_forms() {
    let (place, weights) = exported();
    let own = place.json("inspect a --json")["digest"].clone();
    let check = |file: &str, more: &str| {
        let told = place.json(&format!(
            "import {file} --model lenet5 --to in.safetensors --force --json {more}"
        ));
        assert_eq!(told["digest"], own, "{file}");
    };
    std::fs::write(place.path("x.pkl"), numpy_pickle(&weights, b"")).unwrap();
    check("x.pkl", "");
    let dict = || Tree::from(&weights);
    let epoch = || Tree::dict([("epoch", Tree::Int(3))]);
    write_pth(&place, "list.pth", &Tree::List(vec![dict(), epoch()]));
    check("list.pth", "");
    check("list.pth", "--key 0");
    place
        .run("import list.pth --key 1 --model lenet5 --to no.safetensors")
        .fails(1, &["there is no `1`; there are `0`"]);
    let pairs = weights
        .iter()
        .map(|(name, tensor)| Tree::Tuple(vec![Tree::text(name), Tree::Tensor(tensor.clone())]));
    write_pth(&place, "pairs.pth", &Tree::List(pairs.collect()));
    check("pairs.pth", "");
    let nested = Tree::dict([("state", Tree::dict([("model", dict())]))]);
    write_pth(&place, "nested.pth", &nested);
    place
        .run("import nested.pth --model lenet5 --to no.safetensors")
        .fails(
            1,
            &[
                "no weights found",
                "hint: there are weights further in: --key state.model",
            ],
        );
    check("nested.pth", "--key state.model");
    // Of those that have no such flag, one that has is named.
    for verb in [
        "evaluate nested.pth --model lenet5 --data data",
        "train --from nested.pth --model lenet5 --data data",
    ] {
        place
            .run(verb)
            .fails(1, &["--key state.model of `keepbest import`"]);
    }
    let zeros = Tree::from(&with_tensors(&weights, |_, tensor| {
        Tensor::new(
            tensor.dtype(),
            tensor.shape(),
            vec![0; tensor.bytes().len()],
        )
        .unwrap()
    }));
    let averaged = Tree::dict([("params", zeros), ("params_ema", dict())]);
    write_pth(&place, "averaged.pth", &averaged);
    check("averaged.pth", "");
    // What is beside the weights is told as a part of what there is.
    let names: Vec<String> = (0..30).map(|at| format!("key{at}")).collect();
    let beside = names.iter().map(|name| (name.as_str(), Tree::Int(1)));
    let all = Tree::dict(beside.chain([("state_dict", dict())]));
    write_pth(&place, "beside.pth", &all);
    let said = place.ok("inspect beside.pth");
    assert!(said.out.contains("and 6 more"), "{}", said.out);
    place
        .run("import a.pth --key 0 --model lenet5 --to no.safetensors")
        .fails(1, &["there is no `0`; it has no keys", "leave --key out"]);
    let tensors = weights
        .iter()
        .map(|(_, tensor)| Tree::Tensor(tensor.clone()));
    write_pth(&place, "unnamed.pth", &Tree::List(tensors.collect()));
    place
        .run("import unnamed.pth --model lenet5 --to no.safetensors")
        .fails(1, &["tensors without names"]);
    // What is wrong with a file of PyTorch's is not told as of safetensors.
    std::fs::write(place.path("text.pth"), "<html></html>").unwrap();
    let whole = std::fs::read(place.path("a.pth")).unwrap();
    std::fs::write(place.path("cut.pth"), &whole[..whole.len() / 2]).unwrap();
    for file in ["text.pth", "cut.pth"] {
        for verb in [
            "import FILE --to no.safetensors",
            "inspect FILE",
            "evaluate FILE --data data",
        ] {
            let said = place.run(&verb.replace("FILE", file));
            said.fails(1, &[file]);
            assert!(!said.err.contains("safetensors form"), "{}", said.err);
        }
    }
}

#[test]
fn weights_in_several_files() {
    let (place, weights) = exported();
    let own = place.json("inspect a --json")["digest"].clone();
    std::fs::create_dir(place.path("m")).unwrap();
    let (mut first, mut second) = (StateDict::new(), StateDict::new());
    let mut map = serde_json::Map::new();
    for (at, (name, tensor)) in weights.iter().enumerate() {
        let (shard, file) = match at % 2 {
            0 => (&mut first, "model-00001-of-00002.safetensors"),
            _ => (&mut second, "pytorch_model-00002-of-00002.bin"),
        };
        shard
            .insert(format!("module.{name}"), tensor.clone())
            .unwrap();
        map.insert(format!("module.{name}"), file.into());
    }
    write_safetensors(&place, "m/model-00001-of-00002.safetensors", &first);
    write_pth(
        &place,
        "m/pytorch_model-00002-of-00002.bin",
        &Tree::from(&second),
    );
    let index = "m/model.safetensors.index.json";
    let write = |map: &serde_json::Map<String, serde_json::Value>| {
        let json = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
        std::fs::write(place.path(index), json.to_string()).unwrap();
    };
    write(&map);
    for file in [index, "m"] {
        let told = place.json(&format!(
            "import {file} --model lenet5 --to in.safetensors --force --json"
        ));
        assert_eq!(told["digest"], own, "{file}");
        assert!(told["notes"].to_string().contains("2 shards"), "{told}");
        let said = place.ok(&format!("inspect {file}"));
        assert!(
            said.out.contains("weights in several files"),
            "{}",
            said.out
        );
    }
    place.ok(&format!("evaluate {index} --model lenet5 --data data"));
    let import = format!("import {index} --model lenet5 --to no.safetensors");
    // One of the files alone.
    place
        .run("import m/model-00001-of-00002.safetensors --model lenet5 --to no.safetensors")
        .fails(1, &["does not fit", "one file of several", ".index.json"]);
    let changed = |name: &str, value: &str, words: &[&str]| {
        let mut map = map.clone();
        map.insert(name.into(), value.into());
        write(&map);
        place.run(&import).fails(1, words);
    };
    changed(
        "more",
        "model-00001-of-00002.safetensors",
        &["`more` is not in the shard"],
    );
    changed(
        "more",
        "model-00003.safetensors",
        &["model-00003.safetensors", "cannot read"],
    );
    for name in ["../a.pth", "/etc/passwd", ".."] {
        changed("more", name, &["no name of a file beside it"]);
    }
    let mut less = map.clone();
    less.remove(map.keys().next().unwrap());
    write(&less);
    place
        .run(&import)
        .fails(1, &["is not listed for the shard"]);
    std::fs::write(place.path(index), "{\"weight_map\": 3}").unwrap();
    place.run(&import).fails(1, &["is no index of shards"]);
}

#[test]
fn folders_are_told_what_they_are() {
    let (place, _) = exported();
    std::fs::create_dir(place.path("dcp")).unwrap();
    std::fs::write(place.path("dcp/.metadata"), b"\x80\x02}.").unwrap();
    std::fs::write(place.path("dcp/__0_0.distcp"), b"PK").unwrap();
    for name in ["dcp", "dcp/.metadata", "dcp/__0_0.distcp"] {
        place
            .run(&format!("import {name} --model lenet5 --to no.safetensors"))
            .fails(
                1,
                &[
                    "torch.distributed.checkpoint (DCP)",
                    "dcp_to_torch dcp model.pth",
                ],
            );
    }
    std::fs::create_dir(place.path("some")).unwrap();
    let import = "import some --model lenet5 --to no.safetensors";
    place
        .run(import)
        .fails(1, &["some is a folder", "name a file"]);
    std::fs::copy(place.path("a.pth"), place.path("some/b.pth")).unwrap();
    place.run(import).fails(1, &["name a file: some/b.pth"]);
    std::fs::create_dir_all(place.path("torn/data")).unwrap();
    std::fs::write(place.path("torn/data.pkl"), b"\x80\x02}.").unwrap();
    place
        .run("import torn --model lenet5 --to no.safetensors")
        .fails(1, &["unpacked PyTorch file"]);
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let place = Place::with_data();
    let made = std::process::Command::new("mkfifo")
        .arg(place.path("fifo"))
        .status();
    assert!(made.unwrap().success());
    place.ok("models show lenet5 --input 1x28x28 --classes 4");
    for (args, what) in [
        ("import fifo --model lenet5 --to no.safetensors", "a FIFO"),
        (
            "import /dev/zero --model lenet5 --to no.safetensors",
            "a device",
        ),
        ("import fifo --classes a,b --to no.safetensors", "a FIFO"),
        ("train --data data --model fifo.toml", "a FIFO"),
        ("train --data data --config fifo.toml", "a FIFO"),
    ] {
        if args.contains("fifo.toml") {
            let _ = std::fs::rename(place.path("fifo"), place.path("fifo.toml"));
        }
        let said = place.run(args);
        assert!(matches!(said.code, 1 | 2), "{args}: {}", said.err);
        assert!(said.err.contains(what), "{args}: {}", said.err);
    }
}

#[test]
fn a_model_of_colour_images_comes_back_from_its_state_dict() {
    let place = Place::new();
    for (class, level) in [("a", 40), ("b", 160)] {
        let folder = place.path("photos").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for at in 0..20u32 {
            // 24-bit BMP, bottom up.
            let mut text = b"BM".to_vec();
            text.extend((54u32 + 32 * 96).to_le_bytes());
            text.extend([0; 4]);
            text.extend(54u32.to_le_bytes());
            text.extend(40u32.to_le_bytes());
            text.extend(32i32.to_le_bytes());
            text.extend(32i32.to_le_bytes());
            text.extend(1u16.to_le_bytes());
            text.extend(24u16.to_le_bytes());
            text.extend([0; 24]);
            text.extend((0..32 * 96u32).map(|i| (level + at + i % 7) as u8));
            std::fs::write(folder.join(format!("{at}.bmp")), text).unwrap();
        }
    }
    let run = "train --data photos --epochs 1 --batch-size 8 --model fast --name a --quiet --json";
    let told = place.json(run);
    assert!(told["best"].is_object(), "{told}");
    let own = place.json("inspect a --json");
    place.ok("export a --to p.pth");
    let told = place.json("import p.pth --model fast --to back.safetensors --json");
    assert_eq!(told["digest"], own["digest"]);
    assert_eq!(
        told["preprocessing"]["input"],
        own["preprocessing"]["input"]
    );
    // Without a name it is told by its tensors; what is not recorded is said, with what to give.
    place
        .run("import p.pth --to back.safetensors")
        .fails(2, &["without the network", "--model fast"]);
    let said = place.ok("train --from p.pth --data photos --epochs 1 --batch-size 8 --name b");
    let all = format!("{}{}", said.out, said.err);
    for words in [
        "those of fast",
        "mean 0 and standard deviation 1",
        "--preprocess",
    ] {
        assert!(all.contains(words), "{all}");
    }
}

#[test]
fn what_a_network_is_trained_from_is_guessed_or_asked_for() {
    let place = Place::with_data();
    let mut weights = StateDict::new();
    let none = Tensor::from_f32(&[2], &[1.0, 2.0]).unwrap();
    weights.insert("something.weight", none).unwrap();
    write_pth(&place, "x.pth", &Tree::from(&weights));
    place
        .run("train --from x.pth --data data --epochs 1")
        .fails(2, &["x.pth holds weights alone", "--model"]);
    assert!(!place.path("runs").exists());
}

#[test]
fn a_stem_of_another_size_is_told() {
    let place = Place::new();
    write_idx(&place.path("data"), 2, 10, 4);
    let toml = place
        .ok("models show resnet18-imagenet --input 1x28x28 --classes 2")
        .out;
    let spec = keepbest::nn::ModelSpec::from_toml(&toml).unwrap();
    let network = keepbest::nn::Network::new(&spec).unwrap();
    let mut weights = StateDict::new();
    for tensor in network.layout().tensors() {
        let values = vec![0.01; tensor.len()];
        let filled = match tensor.dtype() {
            Dtype::I64 => Tensor::from_i64(&tensor.shape, &[1]).unwrap(),
            _ => Tensor::from_f32(&tensor.shape, &values).unwrap(),
        };
        weights.insert(tensor.name.as_str(), filled).unwrap();
    }
    write_pth(&place, "resnet18.pth", &Tree::from(&weights));
    let from = "train --from resnet18.pth --data data --image-size 28 --epochs 1 --batch-size 10";
    let said = place.ok(&format!("{from} --model resnet18 --name a"));
    let all = format!("{}{}", said.out, said.err);
    for words in [
        "conv1.weight has another shape",
        "--model resnet18-imagenet",
    ] {
        assert!(all.contains(words), "{all}");
    }
    // By its tensors it is the one that has this stem at every size.
    let said = place.ok(&format!("{from} --name b"));
    let all = format!("{}{}", said.out, said.err);
    assert!(all.contains("those of resnet18-imagenet"), "{all}");
}

#[test]
fn preprocessing_in_words_and_numbers() {
    let (place, _) = exported();
    let import = "import a.pth --model lenet5 --to in.safetensors --force --json";
    let told =
        |how: &str| place.json(&format!("{import} --preprocess {how}"))["preprocessing"].clone();
    let pixels = told("pixels,mean=0.25");
    assert_eq!(pixels["mean"], serde_json::json!([0.25]));
    assert!(pixels.get("shorter_side").is_none());
    let cut = told("size=28,shorter-side=32");
    assert_eq!(cut["shorter_side"], 32);
    assert_eq!(cut["resize"], "crop");
    place
        .run(&format!("{import} --preprocess size=28,shorter-side=20"))
        .fails(2, &["shorter_side", "28"]);
    place
        .run(&format!("{import} --preprocess imagenet,shorter=256"))
        .fails(2, &["no setting \"shorter\"", "shorter-side"]);
    // 256, then 224: a size that lenet5 does not take, and is told.
    place
        .run(&format!("{import} --preprocess imagenet,shorter-side=256"))
        .fails(1, &["does not fit"]);
    // What is recorded is replayed.
    place.ok("import a.pth --model lenet5 --preprocess shorter-side=32 --to cut.safetensors");
    place.ok("import a.pth --model lenet5 --to plain.safetensors");
    place.ok("data sample data --to images --count 4");
    let predicted = |model: &str| place.ok(&format!("predict {model} images --json")).out;
    assert_ne!(predicted("cut.safetensors"), predicted("plain.safetensors"));
    place.ok("evaluate cut.safetensors --data data");
}

/// A trained simple-cnn of four classes, which has counters, as `a.pth`, and its weights.
fn with_counters() -> (Place, StateDict) {
    let place = Place::with_data();
    place.trained("a", "");
    place.ok("export a --to a.pth");
    let weights = weights(&place.path("a.pth"));
    (place, weights)
}

/// The weights with each tensor as `other` makes it of the old one.
fn with_tensors(weights: &StateDict, other: impl Fn(&str, &Tensor) -> Tensor) -> StateDict {
    let mut out = StateDict::new();
    for (name, tensor) in weights.iter() {
        out.insert(name, other(name, tensor)).unwrap();
    }
    out
}

fn is_counter(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}

/// As `half()` gives it, near enough: the upper bits of each number.
fn half(tensor: &Tensor) -> Tensor {
    let values: Vec<f32> = match tensor.as_i64() {
        Ok(whole) => whole.iter().map(|value| *value as f32).collect(),
        Err(_) => tensor.as_f32().unwrap().to_vec(),
    };
    let narrow = values.iter().flat_map(|value| {
        let bits = value.to_bits();
        let exponent = (bits >> 23 & 0xff) as i32 - 127 + 15;
        let narrow = match exponent {
            1..=30 => (exponent as u32) << 10 | bits >> 13 & 0x3ff,
            _ => 0,
        };
        (narrow as u16 | (bits >> 16 & 0x8000) as u16).to_le_bytes()
    });
    Tensor::new(Dtype::F16, tensor.shape(), narrow.collect::<Vec<u8>>()).unwrap()
}

#[test]
fn counters_of_another_type_are_whole_numbers_all_the_same() {
    let (place, weights) = with_counters();
    let own = place.json("inspect a --json")["digest"].clone();
    let counters = |dtype: Dtype, bytes: fn(i64) -> Vec<u8>| {
        with_tensors(&weights, |name, tensor| match is_counter(name) {
            true => {
                let value = tensor.as_i64().unwrap()[0];
                Tensor::new(dtype, tensor.shape(), bytes(value)).unwrap()
            }
            false => tensor.clone(),
        })
    };
    let forms = [
        (
            "F32",
            counters(Dtype::F32, |value| (value as f32).to_le_bytes().to_vec()),
        ),
        (
            "F64",
            counters(Dtype::F64, |value| (value as f64).to_le_bytes().to_vec()),
        ),
        (
            "I32",
            counters(Dtype::I32, |value| (value as i32).to_le_bytes().to_vec()),
        ),
        ("F16", with_tensors(&weights, |_, tensor| half(tensor))),
    ];
    for (dtype, changed) in &forms {
        write_pth(&place, "x.pth", &Tree::from(changed));
        write_safetensors(&place, "x.safetensors", changed);
        for file in ["x.pth", "x.safetensors"] {
            let told = place.json(&format!(
                "import {file} --model simple-cnn --to in.safetensors --force --json"
            ));
            let notes = told["notes"].to_string();
            let became = format!("counters of {dtype} became I64");
            assert!(notes.contains(&became), "{file}: {notes}");
            if *dtype != "F16" {
                assert_eq!(told["digest"], own, "{file} {dtype}");
            }
            for verb in [
                format!("evaluate {file} --model simple-cnn --data data"),
                format!("train --data data --from {file} --model simple-cnn --epochs 1 --name t"),
            ] {
                let said = place.ok(&verb);
                assert!(said.err.contains(&became), "{verb}: {}", said.err);
            }
            std::fs::remove_dir_all(place.path("runs/t")).unwrap();
        }
    }
    // As `np.ascontiguousarray` gives them.
    let one = with_tensors(&weights, |name, tensor| match is_counter(name) {
        true => Tensor::new(Dtype::I64, [1], tensor.bytes().to_vec()).unwrap(),
        false => tensor.clone(),
    });
    write_safetensors(&place, "x.safetensors", &one);
    let told = place.json("import x.safetensors --model simple-cnn --to one.safetensors --json");
    assert_eq!(told["digest"], own);
    let notes = told["notes"].to_string();
    assert!(notes.contains("counters of I64 [1] became I64"), "{notes}");
    // What is no whole number is told as the file has it.
    let broken = counters(Dtype::F16, |_| 0x3800u16.to_le_bytes().to_vec());
    write_safetensors(&place, "x.safetensors", &broken);
    place
        .run("import x.safetensors --model simple-cnn --to no.safetensors")
        .fails(1, &["num_batches_tracked is F16 [], should be I64 []"]);
}

#[test]
fn the_input_size_is_found_whatever_else_does_not_fit() {
    let (place, weights) = with_counters();
    let narrow = with_tensors(&weights, |name, tensor| match name {
        "conv1.weight" => {
            let bytes = vec![0x38; tensor.elements()];
            Tensor::new(Dtype::F8E4M3, tensor.shape(), bytes).unwrap()
        }
        _ => tensor.clone(),
    });
    write_safetensors(&place, "x.safetensors", &narrow);
    write_pth(&place, "x.pth", &Tree::from(&narrow));
    for file in ["x.safetensors", "x.pth"] {
        for verb in [
            format!("import {file} --model simple-cnn --to no.safetensors"),
            format!("evaluate {file} --model simple-cnn --data data"),
            format!("train --data data --from {file} --model simple-cnn"),
        ] {
            let said = place.run(&verb);
            said.fails(1, &["conv1.weight", "F8_E4M3"]);
            assert!(!said.err.contains("fc1"), "{verb}: {}", said.err);
        }
    }
}

#[test]
fn what_keepbest_exports_it_imports() {
    let (place, _) = exported();
    let own = place.json("inspect a --json")["digest"].clone();
    for file in ["a.safetensors", "a.pt"] {
        place.ok(&format!("export a --to {file}"));
        let told = place.json(&format!(
            "import {file} {} --to in.safetensors --force --json",
            if file == "a.pt" { "" } else { "--model lenet5" }
        ));
        assert_eq!(told["digest"], own, "{file}");
        assert_eq!(place.json("inspect in.safetensors --json")["kind"], "full");
        place.ok("evaluate in.safetensors --data data");
    }
}

#[test]
fn a_folder_of_shards_is_taken_by_every_verb() {
    let (place, weights) = exported();
    let own = place.json("inspect a --json")["digest"].clone();
    let folder = place.path("sharded");
    std::fs::create_dir(&folder).unwrap();
    let mut map = serde_json::Map::new();
    for (at, (name, tensor)) in weights.iter().enumerate() {
        let shard = format!("model-{:05}-of-{:05}.safetensors", at + 1, weights.len());
        let mut one = StateDict::new();
        one.insert(name, tensor.clone()).unwrap();
        write_safetensors(&place, &format!("sharded/{shard}"), &one);
        map.insert(name.to_owned(), shard.into());
    }
    let index = serde_json::json!({ "weight_map": map });
    let index_file = folder.join("model.safetensors.index.json");
    std::fs::write(&index_file, index.to_string()).unwrap();
    for path in ["sharded", "sharded/model.safetensors.index.json"] {
        assert_eq!(place.json(&format!("inspect {path} --json"))["digest"], own);
        let import = format!("import {path} --model lenet5 --to in.safetensors --force --json");
        assert_eq!(place.json(&import)["digest"], own);
        place.ok(&format!("evaluate {path} --model lenet5 --data data"));
        place.ok(&format!(
            "train --data data --from {path} --model lenet5 --epochs 1 --quiet"
        ));
    }
    // What cannot be read is named, by every verb.
    let dcp = place.path("dcp");
    std::fs::create_dir(&dcp).unwrap();
    for file in [".metadata", "__0_0.distcp"] {
        std::fs::write(dcp.join(file), "x").unwrap();
    }
    for verb in [
        "inspect dcp",
        "evaluate dcp --model lenet5 --data data",
        "train --data data --from dcp --model lenet5",
        "import dcp --model lenet5 --to no.safetensors",
    ] {
        place.run(verb).fails(
            1,
            &["checkpoint of torch.distributed.checkpoint", "dcp_to_torch"],
        );
    }
    std::fs::remove_file(index_file).unwrap();
    place
        .run("evaluate sharded --model lenet5 --data data")
        .fails(1, &["is a folder, not a model file", "name a file"]);
    // A folder of anything else is still no run.
    place
        .run("evaluate data")
        .fails(1, &["is a folder but no run"]);
}

#[test]
fn wrappers_within_names_come_out() {
    let (place, weights) = exported();
    let own = place.json("inspect a --json")["digest"].clone();
    for wrapper in [
        "_orig_mod",
        "_checkpoint_wrapped_module",
        "_fsdp_wrapped_module",
    ] {
        let name = |name: &str| match name.split_once('.') {
            Some((layer, rest)) if layer.starts_with("conv") => format!("{layer}.{wrapper}.{rest}"),
            _ => name.to_owned(),
        };
        let wrapped = renamed(&weights, name, &["n_averaged_loss"]);
        write_pth(&place, "x.pth", &Tree::from(&wrapped));
        write_safetensors(&place, "x.safetensors", &wrapped);
        for file in ["x.pth", "x.safetensors"] {
            let told = place.json(&format!(
                "import {file} --model lenet5 --drop n_averaged.* --to in.safetensors --force --json"
            ));
            assert_eq!(told["digest"], own, "{file} {wrapper}");
            let notes = told["notes"].to_string();
            let took = format!("{wrapper}\\\" out of 4 names");
            assert!(notes.contains(&took), "{notes}");
        }
    }
    // The counter of an averaged model is told in every container.
    let mut averaged = renamed(&weights, |name| format!("module.{name}"), &[]);
    averaged
        .insert("n_averaged", Tensor::from_i64(&[], &[3]).unwrap())
        .unwrap();
    write_pth(&place, "x.pth", &Tree::from(&averaged));
    write_safetensors(&place, "x.safetensors", &averaged);
    for file in ["x.pth", "x.safetensors"] {
        let told = place.json(&format!(
            "import {file} --model lenet5 --to in.safetensors --force --json"
        ));
        assert_eq!(told["digest"], own);
        let notes = told["notes"].to_string();
        assert!(
            notes.contains("n_averaged (counter of an averaged model)"),
            "{notes}"
        );
    }
}

#[test]
fn a_network_under_a_number_is_found() {
    let (place, weights) = exported();
    let own = place.json("inspect a --json")["digest"].clone();
    let text = |text: &str| {
        let mut bytes = vec![b'X'];
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    };
    // {0: weights, 1: weights, "epoch": 3}, as a list of folds by number.
    let inner = numpy_pickle(&weights, b"");
    let inner = &inner[2..inner.len() - 1];
    let mut pickle = b"\x80\x03}(K\x00".to_vec();
    pickle.extend(inner);
    pickle.extend(b"K\x01");
    pickle.extend(inner);
    pickle.extend(text("epoch"));
    pickle.extend(b"K\x03u.");
    std::fs::write(place.path("x.pkl"), pickle).unwrap();
    let import = "import x.pkl --model lenet5 --to in.safetensors --force --json";
    place
        .run(import)
        .fails(1, &["several state dicts", "`0`, `1`", "--key"]);
    for key in ["0", "1"] {
        assert_eq!(place.json(&format!("{import} --key {key}"))["digest"], own);
    }
    place
        .run(&format!("{import} --key 2"))
        .fails(1, &["there is no `2`", "--key 0"]);
}

#[test]
fn classes_are_counted_only_where_the_weights_tell_them() {
    let (place, weights) = exported();
    let without = |last: &str| {
        let mut out = StateDict::new();
        for (name, tensor) in weights.iter().filter(|(name, _)| !name.starts_with(last)) {
            out.insert(name, tensor.clone()).unwrap();
        }
        out
    };
    assert!(without("fc3").len() < weights.len());
    write_safetensors(&place, "x.safetensors", &without("fc3"));
    let said = place.run("import x.safetensors --model lenet5 --classes a,b,c --to no.safetensors");
    said.fails(1, &["missing in the file: fc3.weight, fc3.bias"]);
    assert!(!said.err.contains("have 10"), "{}", said.err);
}

#[test]
fn another_network_that_has_these_tensors_is_named() {
    let place = Place::new();
    place.ok("models show resnet18-imagenet --input 3x64x64 --classes 3");
    let (place, weights) = exported();
    write_safetensors(&place, "x.safetensors", &weights);
    place
        .run("import x.safetensors --model simple-cnn --to no.safetensors")
        .fails(1, &["those of lenet5: --model lenet5"]);
}

#[test]
fn a_name_without_end_is_not_printed_whole() {
    let (place, weights) = exported();
    let long = "x".repeat(3_000_000);
    write_safetensors(
        &place,
        "x.safetensors",
        &renamed(&weights, str::to_owned, &[&long]),
    );
    for verb in [
        "import x.safetensors --model lenet5 --to in.safetensors",
        "import x.safetensors --model lenet5 --to in.safetensors --drop x*",
        "import x.safetensors --model lenet5 --to in.safetensors --partial --force",
        "evaluate x.safetensors --model lenet5 --data data",
        "train --data data --from x.safetensors --model lenet5",
    ] {
        let said = place.run(verb);
        let (out, err) = (said.out.len(), said.err.len());
        assert!(out + err < 30_000, "{verb}: {out} and {err} bytes");
    }
}

#[test]
fn names_that_are_others_are_told_before_the_preprocessing_is_blamed() {
    let (place, weights) = exported();
    let upper = renamed(&weights, str::to_uppercase, &[]);
    write_safetensors(&place, "upper.safetensors", &upper);
    let colour = "--preprocess size=32,mean=0.5/0.5/0.5,std=0.25/0.25/0.25";
    for network in ["lenet5", "fast"] {
        let import = format!("import upper.safetensors --model {network} --to in.safetensors");
        for how in ["", "--preprocess imagenet", colour] {
            let said = place.run(&format!("{import} {how}"));
            said.fails(
                1,
                &["missing in the file", "not in the network", "CONV1.WEIGHT"],
            );
            assert!(!said.err.contains("preprocessing:"), "{}", said.err);
        }
        place
            .run(&format!("{import} --partial {colour}"))
            .fails(1, &["nothing that was trained"]);
    }
    // What is really of other channels is told as that.
    place
        .run("import a.pth --model lenet5 --preprocess imagenet --to in.safetensors")
        .fails(
            1,
            &[
                "images of 3 channels",
                "lenet5 of these weights takes 1",
                "mean=0.5,",
            ],
        );
    // Where the first layer is left out on purpose, the values say how many channels there are.
    let mut body = StateDict::new();
    for (name, tensor) in weights
        .iter()
        .filter(|(name, _)| !name.starts_with("conv1"))
    {
        body.insert(name, tensor.clone()).unwrap();
    }
    write_safetensors(&place, "body.safetensors", &body);
    let colour = colour.replace("32", "28");
    let told = place.json(&format!(
        "import body.safetensors --model lenet5 --partial {colour} --to body-in.safetensors --json"
    ));
    assert_eq!(told["preprocessing"]["input"]["channels"], 3, "{told}");
}

#[test]
fn weights_that_do_not_fit_are_told_with_what_takes_them() {
    let (place, weights) = exported();
    let mut body = StateDict::new();
    let last = weights
        .iter()
        .last()
        .unwrap()
        .0
        .rsplit_once('.')
        .unwrap()
        .0
        .to_owned();
    for (name, tensor) in weights.iter().filter(|(name, _)| !name.starts_with(&last)) {
        body.insert(name, tensor.clone()).unwrap();
    }
    write_pth(&place, "body.pth", &Tree::from(&body));
    let more = renamed(&weights, str::to_owned, &["conv1.other"]);
    write_pth(&place, "more.pth", &Tree::from(&more));
    for verb in ["train --data data --from", "evaluate --data data"] {
        place.run(&format!("{verb} body.pth --model lenet5")).fails(
            1,
            &[
                "2 missing",
                "`keepbest import body.pth --model lenet5 --partial --to",
            ],
        );
        place.run(&format!("{verb} more.pth --model lenet5")).fails(
            1,
            &["`keepbest import more.pth --model lenet5 --to FILE.safetensors` says how"],
        );
        place
            .run(&format!("{verb} a.pth --model resnet18"))
            .fails(1, &["its tensors are those of lenet5: --model lenet5"]);
    }
    let import = "import body.pth --model lenet5 --partial --to whole.safetensors";
    place.ok(import);
    place.ok("train --data data --from whole.safetensors --epochs 1 --name on --quiet");
}

#[test]
fn parts_without_their_index_are_not_sent_from_one_to_the_other() {
    let (place, weights) = exported();
    std::fs::create_dir(place.path("m")).unwrap();
    for at in 1..=2 {
        let mut part = StateDict::new();
        for (number, (name, tensor)) in weights.iter().enumerate() {
            if number % 2 == at % 2 {
                part.insert(name, tensor.clone()).unwrap();
            }
        }
        write_safetensors(&place, &format!("m/m-0000{at}-of-00002.safetensors"), &part);
    }
    for file in ["m", "m/m-00001-of-00002.safetensors"] {
        let said = place.run(&format!("import {file} --model lenet5 --to in.safetensors"));
        said.fails(1, &["the .index.json that goes with the", "is missing"]);
        assert!(
            !said.err.contains("name the") && !said.err.contains("m-00002"),
            "{}",
            said.err
        );
    }
}

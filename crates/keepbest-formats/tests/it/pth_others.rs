//! PyTorch files that others write in other ways: Python 2, NumPy, lists; and names of functions that are not called.

use keepbest_formats::pth::{Container, FoundWeights, Limits, PthError as E, PthFile, Value};
use keepbest_formats::{Dtype, Tensor};

use crate::pickles::{Pickle, pickle};
use crate::support::{chain, zip_archive};

const SIX: (&str, &str, i64) = ("FloatStorage", "0", 6);

/// Storage `0`: six floats.
fn floats() -> Vec<u8> {
    (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

fn file(pickle: Pickle) -> PthFile {
    pickle.file(&floats()).unwrap()
}

fn found(pickle: Pickle) -> FoundWeights {
    file(pickle)
        .weights(None)
        .unwrap_or_else(|error| panic!("{}", chain(&error)))
}

fn names(found: &FoundWeights) -> Vec<&str> {
    found.weights.names().collect()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.as_f32().unwrap().to_vec()
}

/// `U` and a length: a `str` of Python 2.
fn str2(pickle: Pickle, text: &str) -> Pickle {
    pickle.raw(&[b'U', text.len() as u8]).raw(text.as_bytes())
}

/// `OrderedDict([[a, tensor], [b, tensor]])` with an attribute, as Python 2 pickled it: the pairs are lists.
fn ordered_dict_of_python_2(p: Pickle, open: &[u8], close: &[u8]) -> Pickle {
    let p = p.raw(b"ccollections\nOrderedDict\n](").raw(open);
    let p = str2(p, "a").tensor(SIX, 0, &[2], &[1]).raw(close).raw(open);
    let p = str2(p, "b").tensor(SIX, 2, &[2, 2], &[2, 1]).raw(close);
    let p = p.raw(b"e\x85R}");
    let p = str2(p, "_metadata").raw(b"}sb");
    str2(p, "c").tensor(SIX, 5, &[1], &[1]).raw(b"s")
}

#[test]
fn dicts_that_python_2_wrote() {
    // Lists as Python 2 writes them, empty and then appended to; tuples, as hand-made ones have.
    for (open, close) in [(&b"]("[..], &b"e"[..]), (b"(", b"l"), (b"(", b"t")] {
        let found = found(ordered_dict_of_python_2(pickle(), open, close));
        assert_eq!(names(&found), ["a", "b", "c"]);
        assert_eq!(
            values(found.weights.get("b").unwrap()),
            [2.0, 3.0, 4.0, 5.0]
        );
        assert_eq!(values(found.weights.get("c").unwrap()), [5.0]);
    }
    // Under a key, as a plain dict, and with a key that is assigned twice.
    let p = pickle().raw(b"}").text("state_dict");
    let p = ordered_dict_of_python_2(p, b"](", b"e").raw(b"s");
    let under = found(p);
    assert_eq!(
        (under.key.as_deref(), under.weights.len()),
        (Some("state_dict"), 3)
    );
    let p = pickle().raw(b"c__builtin__\ndict\n](](");
    let p = p.text("a").tensor(SIX, 0, &[1], &[1]).raw(b"e](");
    let p = p.text("a").tensor(SIX, 3, &[1], &[1]).raw(b"ee\x85R");
    let dict = found(p);
    assert_eq!(values(dict.weights.get("a").unwrap()), [3.0]);
}

#[test]
fn the_form_before_1_6_as_python_2_wrote_it() {
    const HEAD: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    let object = ordered_dict_of_python_2(pickle(), b"](", b"e").raw(b".").0;
    let keys = str2(pickle().raw(b"]"), "0").raw(b"a.").0;
    let elements = [&6i64.to_le_bytes()[..], &floats()].concat();
    let bytes = [HEAD, &object, &keys, &elements].concat();
    let file = PthFile::from_bytes(bytes.into(), Limits::default()).unwrap();
    assert_eq!(file.container(), Container::Legacy);
    assert_eq!(names(&file.weights(None).unwrap()), ["a", "b", "c"]);
}

#[test]
fn the_tar_form_as_python_2_wrote_it() {
    let member = |name: &str, data: &[u8]| {
        let mut block = vec![0; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        let size = format!("{:011o}", data.len());
        block[124..135].copy_from_slice(size.as_bytes());
        block[156] = b'0';
        block[257..262].copy_from_slice(b"ustar");
        block.extend(data);
        block.resize(block.len().next_multiple_of(512), 0);
        block
    };
    let end = |p: Pickle| p.raw(b".").0;
    let class = |p: Pickle, name: &str| p.raw(format!("ctorch\n{name}\n").as_bytes());
    let key = end(class(pickle().raw(b"(K\x07U\x03cpu"), "FloatStorage").raw(b"t"));
    let one = end(pickle().raw(b"K\x01"));
    let storages = [
        &one[..],
        &key,
        &6i64.to_le_bytes(),
        &floats(),
        &end(pickle().raw(b"]")),
    ];
    let key = end(class(pickle().raw(b"(K\x05K\x07"), "FloatTensor").raw(b"t"));
    let numbers = [2i64, 2, 3, 2, 1, 0].map(i64::to_le_bytes).concat();
    let tensors = [&one[..], &key, &numbers];
    // OrderedDict([[name, tensor 5]])
    let p = str2(pickle().raw(b"ccollections\nOrderedDict\n]]("), "w");
    let object = end(p.raw(b"U\x015Qea\x85R"));
    let file = [
        member("storages", &storages.concat()),
        member("tensors", &tensors.concat()),
        member("pickle", &object),
    ];
    let file = PthFile::from_bytes(file.concat().into(), Limits::default()).unwrap();
    assert_eq!(file.container(), Container::Tar);
    let found = file.weights(None).unwrap();
    let tensor = found.weights.get("w").unwrap();
    assert_eq!(tensor.shape(), [2, 3]);
    // Strides of its own.
    assert_eq!(values(tensor), [0.0, 1.0, 2.0, 2.0, 3.0, 4.0]);
}

#[test]
fn pairs_that_are_none_stay_a_record() {
    let p = pickle()
        .raw(b"ccollections\nOrderedDict\n](](")
        .text("a")
        .raw(b"ee\x85R");
    let file = file(p);
    assert!(matches!(file.root(), Value::Object(_)));
    assert!(matches!(file.weights(None), Err(E::NoWeights { .. })));
}

#[test]
fn a_list_of_pairs_in_very_many_dicts_is_bounded() {
    // A thousand pairs, and ten thousand dicts of them: ten million items from 100 kB.
    let mut p = pickle().raw(b"](");
    for at in 0..1000 {
        p = p.raw(b"(").text(&at.to_string()).raw(b"Nl");
    }
    p = p.raw(b"eq\x000](");
    for _ in 0..10_000 {
        p = p.raw(b"ccollections\nOrderedDict\nh\x00\x85R");
    }
    let zip = zip_archive(&[("m/data.pkl", &p.raw(b"e.").0)]);
    let limits = Limits {
        values: 100_000,
        ..Limits::default()
    };
    let file = PthFile::from_bytes(zip.into(), limits).unwrap();
    let Value::List(dicts) = file.root() else {
        panic!("{:?}", file.root());
    };
    let settled = dicts
        .iter()
        .filter(|dict| matches!(dict, Value::Dict(items) if items.len() == 1000));
    assert_eq!(settled.count(), 100);
}

/// An array of two by three floats, its bytes given by `raw`.
fn array(p: Pickle, order: &str, fortran: bool, raw: impl FnOnce(Pickle) -> Pickle) -> Pickle {
    let p =
        p.raw(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01");
    let p = p.ints(&[2, 3]).raw(b"cnumpy\ndtype\n(").text("f4");
    let p = p
        .raw(b"\x89\x88tR(K\x03")
        .text(order)
        .raw(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb");
    raw(p.raw(if fortran { b"\x88" } else { b"\x89" })).raw(b"tb")
}

#[test]
fn arrays_of_numpy() {
    let little = floats();
    let big: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_be_bytes()).collect();
    let latin: String = little.iter().map(|&byte| char::from(byte)).collect();
    let bytes = |raw: &[u8]| {
        let raw = raw.to_vec();
        move |p: Pickle| p.raw(b"B").raw(&(raw.len() as u32).to_le_bytes()).raw(&raw)
    };
    let read = |p: Pickle| {
        // As a pickle alone, and in PyTorch's archive.
        let alone = PthFile::from_bytes(p.0.clone().into(), Limits::default()).unwrap();
        assert_eq!(alone.container(), Container::Pickle);
        let found = alone.weights(None).unwrap();
        assert_eq!(
            found.weights,
            file(Pickle(p.0[..p.0.len() - 1].to_vec()))
                .weights(None)
                .unwrap()
                .weights
        );
        let tensor = found.weights.get("w").unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::F32, &[2, 3][..]));
        values(tensor)
    };
    let dict = |array: &dyn Fn(Pickle) -> Pickle| array(pickle().raw(b"}").text("w")).raw(b"s.");
    let in_order = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
    assert_eq!(
        read(dict(&|p| array(p, "<", false, bytes(&little)))),
        in_order
    );
    assert_eq!(read(dict(&|p| array(p, ">", false, bytes(&big)))), in_order);
    let by_columns = [0.0, 2.0, 4.0, 1.0, 3.0, 5.0];
    assert_eq!(
        read(dict(&|p| array(p, "<", true, bytes(&little)))),
        by_columns
    );
    // Protocol 2 has no bytes: text in Latin-1; Python 2 wrote its own text.
    let encoded = |p: Pickle| {
        p.raw(b"c_codecs\nencode\n")
            .text(&latin)
            .text("latin1")
            .raw(b"\x86R")
    };
    assert_eq!(read(dict(&|p| array(p, "<", false, encoded))), in_order);
    let text = |p: Pickle| p.raw(&[b'U', 24]).raw(&little);
    assert_eq!(read(dict(&|p| array(p, "<", false, text))), in_order);
    // Protocol 5.
    let buffer = |p: Pickle| {
        let p = bytes(&little)(p.raw(b"cnumpy._core.numeric\n_frombuffer\n("));
        let p = p
            .raw(b"cnumpy\ndtype\n(")
            .text("f4")
            .raw(b"\x89\x88tR(K\x03")
            .text("<");
        p.raw(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
            .ints(&[2, 3])
            .text("C")
            .raw(b"tR")
    };
    assert_eq!(read(dict(&buffer)), in_order);
    // Too few elements.
    let short = file(Pickle(
        dict(&|p| array(p, "<", false, bytes(&little[..20]))).0[..].to_vec(),
    ));
    let error = short.weights(None).unwrap_err();
    assert!(
        chain(&error).contains("reaches past the end"),
        "{}",
        chain(&error)
    );
}

#[test]
fn arrays_beside_tensors_are_not_taken_for_weights() {
    let bytes = |p: Pickle| p.raw(b"B").raw(&24u32.to_le_bytes()).raw(&floats());
    let p = pickle().raw(b"}").text("curve");
    let p = array(p, "<", false, bytes)
        .raw(b"s")
        .text("mine")
        .raw(b"}")
        .text("w");
    let found = found(p.tensor(SIX, 0, &[1], &[1]).raw(b"ss"));
    assert_eq!(
        (found.key.as_deref(), names(&found)),
        (Some("mine"), vec!["w"])
    );
}

#[test]
fn lists() {
    // The only state dict of a list, by its position.
    let dict = |p: Pickle, name: &str| p.raw(b"}").text(name).tensor(SIX, 0, &[1], &[1]).raw(b"s");
    let list = file(
        dict(pickle().raw(b"]("), "w")
            .raw(b"}")
            .text("epoch")
            .raw(b"K\x01se"),
    );
    let first = list.weights(None).unwrap();
    assert_eq!(
        (first.key.as_deref(), names(&first)),
        (Some("0"), vec!["w"])
    );
    assert_eq!(names(&list.weights(Some("0")).unwrap()), ["w"]);
    let error = list.weights(Some("1")).unwrap_err();
    assert_eq!(error.to_string(), "there is no `1`; there are `0`");
    let two = file(dict(dict(pickle().raw(b"("), "a"), "b").raw(b"t"));
    let error = two.weights(None).unwrap_err().to_string();
    assert!(error.ends_with("which is the model: `0`, `1`"), "{error}");
    assert_eq!(names(&two.weights(Some("1")).unwrap()), ["b"]);
    // Pairs of name and tensor, as of `list(model.state_dict().items())`.
    let p = pickle()
        .raw(b"]((")
        .text("a")
        .tensor(SIX, 0, &[1], &[1])
        .raw(b"t(");
    let pairs = found(p.text("b").tensor(SIX, 1, &[2], &[1]).raw(b"te"));
    assert_eq!(
        (pairs.key.as_deref(), names(&pairs)),
        (None, vec!["a", "b"])
    );
    // Tensors alone have no names.
    let p = pickle()
        .raw(b"](")
        .tensor(SIX, 0, &[1], &[1])
        .tensor(SIX, 0, &[1], &[1]);
    let error = file(p.raw(b"e")).weights(None).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a list of 2 tensors without names"),
        "{error}"
    );
}

#[test]
fn keys_that_are_not_there_and_weights_further_in() {
    let p = pickle()
        .raw(b"}")
        .text("state")
        .raw(b"}")
        .text("model")
        .raw(b"}")
        .text("w");
    let nested = file(p.tensor(SIX, 0, &[1], &[1]).raw(b"sss"));
    let Err(E::NoWeights { nested: keys, .. }) = nested.weights(None) else {
        panic!();
    };
    assert_eq!(keys, ["state.model"]);
    assert_eq!(names(&nested.weights(Some("state.model")).unwrap()), ["w"]);
    let error = nested.weights(Some("model")).unwrap_err().to_string();
    assert_eq!(error, "there is no `model`; there are `state.model`");
    let plain = file(
        pickle()
            .raw(b"}")
            .text("w")
            .tensor(SIX, 0, &[1], &[1])
            .raw(b"s"),
    );
    let error = plain.weights(Some("0")).unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no `0`; it has no keys with weights under them"
    );
}

/// `{"state_dict": {"w": tensor}, "other": ...}`.
fn beside(other: impl FnOnce(Pickle) -> Pickle) -> PthFile {
    let p = pickle().raw(b"}(").text("state_dict").raw(b"}").text("w");
    let p = p.tensor(SIX, 0, &[1], &[1]).raw(b"sq\x07").text("other");
    file(other(p).raw(b"u"))
}

#[test]
fn to_name_a_function_is_not_to_call_it() {
    for other in [
        &b"c__builtin__\nEllipsis\n"[..],
        b"cbuiltins\nNotImplemented\n",
        b"c__builtin__\nlen\n",
        b"cbuiltins\ngetattr\n",
        b"cos\nsystem\n",
        // In a dict, in a list of pairs that becomes one, and as an attribute.
        b"}U\x01acos\nsystem\ns",
        b"ccollections\nOrderedDict\n]((U\x01acos\nsystem\nle\x85R",
        b"cm\nC\n)\x81}U\x01acos\nsystem\nsb",
        // What computes and touches nothing.
        b"cbuiltins\nlen\n](K\x01K\x02e\x85R",
        b"cfunctools\npartial\ncbuiltins\nsorted\n\x85R",
        b"cbuiltins\nFileNotFoundError\n)R",
    ] {
        let file = beside(|p| p.raw(other));
        assert!(
            file.dangerous().is_empty(),
            "{other:?}: {:?}",
            file.dangerous()
        );
        assert_eq!(names(&file.weights(None).unwrap()), ["w"]);
    }
}

#[test]
fn calls_and_what_leads_to_them_are_told_with_what() {
    for (other, told) in [
        (
            &b"cbuiltins\ngetattr\n(cm\nC\nU\x04relutR"[..],
            "`builtins.getattr` with (m.C, \"relu\")",
        ),
        (b"(U\x02lsios\nsystem\n", "`os.system` with (\"ls\")"),
        (b"(cos\nsystem\nU\x02lso", "`os.system` with (\"ls\")"),
        (b"cos\nsystem\nU\x02ls\x85\x81", "`os.system` with (\"ls\")"),
        // Handed to what may call it.
        (
            b"cfunctools\npartial\n(cos\nsystem\nU\x02lstR",
            "`os.system` through `functools.partial`",
        ),
        (
            b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\ncm\nC\nU\x02ls\x85}tR",
            "`os.system` through `torch._tensor._rebuild_from_type_v2`",
        ),
        (b"cm\nf\n](cos\nsystem\ne\x85R", "`os.system` through `m.f`"),
        (
            b"cm\nf\n}U\x01acos\nsystem\ns\x85R",
            "`os.system` through `m.f`",
        ),
        (
            b"cbuiltins\nmap\n(cbuiltins\nlen\n]tR",
            "`builtins.map` with (builtins.len, [])",
        ),
        // The result of a call that is called: by then the first one is told.
        (
            b"cbuiltins\ngetattr\n(cm\nC\nU\x01ftRU\x02ls\x85R",
            "`builtins.getattr` with (m.C, \"f\")",
        ),
    ] {
        let file = beside(|p| p.raw(other));
        let [call] = file.dangerous() else {
            panic!("{other:?}: {:?}", file.dangerous());
        };
        assert_eq!(call.to_string(), told);
        assert!(matches!(file.weights(None), Err(E::Dangerous { .. })));
        // Weights that it does not touch are to be had when asked for.
        assert_eq!(names(&file.weights_beside_calls(None).unwrap()), ["w"]);
    }
}

#[test]
fn weights_that_a_call_touches_are_not_to_be_had() {
    // The state dict (memo 7) as an argument, alone and in a list.
    for other in [
        &b"cos\nsystem\nh\x07\x85R"[..],
        b"cos\nsystem\n](h\x07e\x85R",
    ] {
        let file = beside(|p| p.raw(other));
        assert!(matches!(
            file.weights_beside_calls(None),
            Err(E::Touched { .. })
        ));
    }
    // What is the result of a call is no weight, and left out by name; a module with one in it is not to be had.
    let p = pickle().raw(b"}(").text("v").tensor(SIX, 0, &[1], &[1]);
    let file = file(p.text("w").raw(b"cos\nsystem\nU\x02ls\x85Ru"));
    let left = file.weights_beside_calls(None).unwrap();
    assert_eq!(names(&left), ["v"]);
    assert_eq!(
        (left.skipped[0].name.as_str(), left.skipped.len()),
        ("w", 1)
    );
    let p = pickle()
        .raw(b"cm\nM\n)\x81}(")
        .text("_parameters")
        .raw(b"}")
        .text("w");
    let p = p
        .tensor(SIX, 0, &[1], &[1])
        .raw(b"s")
        .text("_modules")
        .raw(b"}")
        .text("c");
    let module = self::file(p.raw(b"cos\nsystem\nU\x02ls\x85Rsub"));
    assert!(matches!(
        module.weights_beside_calls(None),
        Err(E::Touched { .. })
    ));
}

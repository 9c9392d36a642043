//! Opcodes one by one, and what breaks them.

use bytes::Bytes;

use super::{Graph, Id, Node, Parsed, PickleError as E, parse};

fn ok(pickle: &[u8]) -> Parsed {
    parse(&Bytes::copy_from_slice(pickle), 1000).unwrap_or_else(|error| panic!("{error}"))
}

fn error(pickle: &[u8]) -> E {
    match parse(&Bytes::copy_from_slice(pickle), 1000) {
        Ok(parsed) => panic!("{}", show(&parsed.graph, parsed.root)),
        Err(error) => error,
    }
}

/// A value in a short form.
fn show(graph: &Graph, id: Id) -> String {
    let all = |ids: &[Id]| {
        let shown: Vec<_> = ids.iter().map(|&id| show(graph, id)).collect();
        shown.join(",")
    };
    let pairs = |pairs: &[(Id, Id)]| {
        let shown: Vec<_> = pairs
            .iter()
            .map(|&(key, value)| format!("{}:{}", show(graph, key), show(graph, value)))
            .collect();
        shown.join(",")
    };
    match graph.node(id) {
        Node::None => "None".into(),
        Node::Bool(value) => value.to_string(),
        Node::Int(value) => value.to_string(),
        Node::BigInt(bytes) => format!("big{bytes:?}"),
        Node::Float(value) => format!("{value:?}"),
        Node::Str(_) => format!("{:?}", graph.as_str(id).unwrap()),
        Node::Bytes(bytes) => format!("{bytes:?}"),
        Node::List(ids) => format!("[{}]", all(ids)),
        Node::Tuple(ids) => format!("({})", all(ids)),
        Node::Set(ids) => format!("set({})", all(ids)),
        Node::FrozenSet(ids) => format!("frozenset({})", all(ids)),
        Node::Dict(items) => format!("{{{}}}", pairs(items)),
        Node::Global(_) => graph.as_global(id).unwrap().to_string(),
        Node::Persistent(id) => format!("#{}", show(graph, *id)),
        Node::Object(object) => {
            let mut text = format!(
                "{}{}",
                show(graph, object.callable),
                show(graph, object.args)
            );
            if !object.elements.is_empty() {
                text.push_str(&format!("[{}]", all(&object.elements)));
            }
            if !object.items.is_empty() {
                text.push_str(&format!("{{{}}}", pairs(&object.items)));
            }
            for &state in &object.states {
                text.push_str(&format!("<{}>", show(graph, state)));
            }
            text
        }
    }
}

#[track_caller]
fn shows(pickle: &[u8], expected: &str) {
    let parsed = ok(pickle);
    assert_eq!(show(&parsed.graph, parsed.root), expected);
    assert_eq!(parsed.length, pickle.len());
}

#[test]
fn numbers() {
    shows(b"N.", "None");
    shows(b"\x88.", "true");
    shows(b"\x89.", "false");
    shows(b"I01\n.", "true");
    shows(b"I00\n.", "false");
    shows(b"I1\n.", "1");
    shows(b"I-5\n.", "-5");
    shows(b"J\xff\xff\xff\xff.", "-1");
    shows(b"K\xff.", "255");
    shows(b"M\xff\xff.", "65535");
    shows(b"L123L\n.", "123");
    shows(b"\x8a\x00.", "0");
    shows(b"\x8a\x01\xfe.", "-2");
    shows(b"\x8a\x02\xfe\x00.", "254");
    shows(b"\x8b\x01\x00\x00\x00\x05.", "5");
    shows(
        b"\x8a\x09\0\0\0\0\0\0\0\0\x01.",
        r#"bigb"\0\0\0\0\0\0\0\0\x01""#,
    );
    shows(b"F1.5\n.", "1.5");
    shows(b"Fnan\n.", "NaN");
    shows(b"G\x3f\xf8\0\0\0\0\0\0.", "1.5");
}

#[test]
fn text_and_bytes() {
    shows(b"S'ab'\n.", r#""ab""#);
    shows(b"T\x02\0\0\0ab.", r#""ab""#);
    shows(b"U\x02ab.", r#""ab""#);
    shows(b"U\x01\xff.", r#"b"\xff""#);
    shows(b"Va\\u00e9\n.", r#""aé""#);
    shows(b"X\x02\0\0\0\xc3\xa9.", r#""é""#);
    shows(b"\x8c\x01a.", r#""a""#);
    shows(b"\x8d\x01\0\0\0\0\0\0\0a.", r#""a""#);
    shows(b"B\x01\0\0\0a.", r#"b"a""#);
    shows(b"C\x01a.", r#"b"a""#);
    shows(b"\x8e\x01\0\0\0\0\0\0\0a.", r#"b"a""#);
    shows(b"\x96\x01\0\0\0\0\0\0\0a.", r#"b"a""#);
    // A lone surrogate, as Python writes it.
    shows(b"X\x03\0\0\0\xed\xa0\x80.", "\"\u{fffd}\u{fffd}\u{fffd}\"");
}

#[test]
fn containers() {
    shows(b"].", "[]");
    shows(b"]K\x01aK\x02a.", "[1,2]");
    shows(b"](K\x01K\x02e.", "[1,2]");
    shows(b"(K\x01K\x02l.", "[1,2]");
    shows(b").", "()");
    shows(b"(K\x01t.", "(1)");
    shows(b"K\x01\x85.", "(1)");
    shows(b"K\x01K\x02\x86.", "(1,2)");
    shows(b"K\x01K\x02K\x03\x87.", "(1,2,3)");
    shows(b"}K\x01K\x02s.", "{1:2}");
    shows(b"}(K\x01K\x02K\x03K\x04u.", "{1:2,3:4}");
    shows(b"(K\x01K\x02d.", "{1:2}");
    shows(b"\x8f(K\x01K\x02\x90.", "set(1,2)");
    shows(b"(K\x01\x91.", "frozenset(1)");
}

#[test]
fn stack_and_memo() {
    shows(b"K\x01K\x020.", "1");
    shows(b"K\x01(K\x021.", "1");
    shows(b"K\x01(0.", "1");
    shows(b"K\x012\x86.", "(1,1)");
    shows(b"K\x07p5\n0g5\n.", "7");
    shows(b"K\x07q\x050h\x05.", "7");
    shows(b"K\x07r\x05\0\0\x000j\x05\0\0\0.", "7");
    shows(b"\x80\x04\x95\0\0\0\0\0\0\0\0K\x07\x940h\x00.", "7");
}

#[test]
fn calls_and_objects_stay_records() {
    shows(b"cos\nsystem\n.", "os.system");
    shows(b"\x8c\x02os\x8c\x06system\x93.", "os.system");
    shows(b"cos\nsystem\nU\x02ls\x85R.", r#"os.system("ls")"#);
    shows(b"cm\nC\n)\x81}U\x01aK\x01sb.", r#"m.C()<{"a":1}>"#);
    shows(b"cm\nC\n)}\x92.", "m.C({})");
    shows(b"(K\x01im\nC\n.", "m.C(1)");
    shows(b"(cm\nC\nK\x01o.", "m.C(1)");
    shows(b"cm\nC\n)RK\x01K\x02s.", "m.C(){1:2}");
    shows(b"cm\nC\n)RK\x01a.", "m.C()[1]");
    shows(b"cm\nC\n)R(K\x01\x90.", "m.C()[1]");
    shows(b"Pabc\n.", r##"#"abc""##);
    shows(b"K\x01Q.", "#1");
    let parsed = ok(b"cm\nC\n)R0cm\nC\n)R.");
    assert_eq!(parsed.graph.globals().len(), 1);
    assert_eq!(parsed.graph.globals()[0].calls, 2);
}

#[test]
fn a_list_in_itself_is_a_cycle_and_no_endless_loop() {
    let parsed = ok(b"]q\x00h\x00a.");
    let Node::List(ids) = parsed.graph.node(parsed.root) else {
        panic!()
    };
    assert_eq!(ids.as_slice(), [parsed.root]);
}

#[test]
fn what_follows_is_not_part_of_it() {
    assert_eq!(ok(b"N.K\x01.").length, 2);
}

#[test]
fn truncated_anywhere() {
    let pickle =
        b"\x80\x02}q\x00(X\x01\0\0\0aq\x01cm\nC\nq\x02)R\x8a\x02\x01\x02Vb\nG\0\0\0\0\0\0\0\0Nu.";
    ok(pickle);
    for length in 0..pickle.len() {
        assert!(
            matches!(error(&pickle[..length]), E::Truncated { .. }),
            "{length}"
        );
    }
}

#[test]
fn lengths_beyond_the_end_allocate_nothing() {
    for pickle in [
        &b"X\xff\xff\xff\xff"[..],
        b"T\xff\xff\xff\xff",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\xff",
    ] {
        assert!(matches!(error(pickle), E::Truncated { .. }));
    }
}

#[test]
fn malformed() {
    for pickle in [
        &b"."[..],
        b"0",
        b"2",
        b"t",
        b"(.",
        b"K\x01(.",
        b"a",
        b"]a",
        b"NNa",
        b"N(Ne",
        b"NNNs",
        b"}(Nu",
        b"N(N\x90",
        b"NNR",
        b"NN\x81",
        b"NNN\x92",
        b"NNb",
        b"]Nb",
        b"(o",
        b"h\x00",
        b"g1\n",
        b"gx\n",
        b"q\x00",
        b"\x94",
        b"\x85",
        b"N\x86",
        b"Iabc\n",
        b"Lx\n",
        b"Fx\n",
        b"Sx\n",
        b"NN\x93",
        b"c\xff\n\n",
        b"Q",
    ] {
        assert!(matches!(error(pickle), E::Malformed { .. }), "{pickle:?}");
    }
}

#[test]
fn opcodes_that_are_none_or_need_more_than_the_file() {
    assert_eq!(
        error(b"\xff"),
        E::Opcode {
            opcode: 0xff,
            at: 0
        }
    );
    assert_eq!(error(b"\x80\x06"), E::Protocol { protocol: 6 });
    for opcode in [0x82, 0x83, 0x84, 0x97, 0x98] {
        assert!(matches!(error(&[opcode, 1, 0, 0, 0]), E::Outside { .. }));
    }
}

#[test]
fn everything_that_grows_is_bounded() {
    let many = |opcode: &[u8]| {
        let mut pickle = b"N".to_vec();
        pickle.extend(opcode.repeat(2000));
        pickle.push(b'.');
        error(&pickle)
    };
    for opcode in [&b"]"[..], b"N", b"2", b"("] {
        assert_eq!(many(opcode), E::TooManyValues { limit: 1000 });
    }
    let mut memo = b"N".to_vec();
    for at in 0..2000u32 {
        memo.push(b'r');
        memo.extend(at.to_le_bytes());
    }
    assert_eq!(error(&memo), E::TooManyValues { limit: 1000 });
}

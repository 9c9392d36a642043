//! Each way in which a safetensors file can break the format, with the error it gets.

use keepbest_formats::safetensors::{HEADER_LIMIT, SafetensorsError as E, read};

use crate::support::{chain, file};

/// What reading `header` and `data` as a file says.
fn error(header: &str, data: &[u8]) -> E {
    read(&file(header, data)).unwrap_err()
}

/// One entry of a header.
fn entry(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

fn header(entries: &[String]) -> String {
    format!("{{{}}}", entries.join(","))
}

#[test]
fn well_formed_reads() {
    let header = header(&[
        entry("b", "U8", "[3]", 4, 7),
        entry("a", "F32", "[]", 0, 4),
        entry("empty", "F64", "[2,0]", 4, 4),
    ]);
    let read = read(&file(&header, &[0, 0, 128, 63, 7, 8, 9])).unwrap();
    let names: Vec<_> = read.tensors.names().collect();
    assert_eq!(names, ["b", "a", "empty"]);
    assert_eq!(read.tensors.get("a").unwrap().as_f32().unwrap()[0], 1.0);
    assert_eq!(read.tensors.get("b").unwrap().bytes().as_ref(), [7, 8, 9]);
    assert_eq!(read.tensors.get("empty").unwrap().shape(), [2, 0]);
}

#[test]
fn no_tensors_is_well_formed() {
    let read = read(&file(r#"{"__metadata__":{"a":"b"}}  "#, &[])).unwrap();
    assert!(read.tensors.is_empty());
    assert_eq!(read.metadata["a"], "b");
}

#[test]
fn shorter_than_a_length() {
    for length in 0..8 {
        let error = read(&vec![0u8; length].into()).unwrap_err();
        assert!(matches!(error, E::TooShort { found } if found == length as u64));
    }
}

#[test]
fn header_over_the_limit() {
    for length in [HEADER_LIMIT + 1, u64::MAX] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.push(b'{');
        let error = read(&bytes.into()).unwrap_err();
        assert!(matches!(error, E::HeaderTooLong { length: l, .. } if l == length));
    }
}

#[test]
fn header_past_the_end() {
    let mut bytes = 100u64.to_le_bytes().to_vec();
    bytes.extend(b"{}");
    assert!(matches!(
        read(&bytes.into()).unwrap_err(),
        E::HeaderTruncated {
            expected: 108,
            found: 10
        }
    ));
}

#[test]
fn empty_header() {
    assert!(matches!(error("", &[]), E::HeaderStart));
}

#[test]
fn header_that_does_not_start_with_a_brace() {
    assert!(matches!(error(" {}", &[]), E::HeaderStart));
    assert!(matches!(error("[]", &[]), E::HeaderStart));
}

#[test]
fn header_not_utf8() {
    let mut bytes = 4u64.to_le_bytes().to_vec();
    bytes.extend(b"{\"\xff\"");
    assert!(matches!(
        read(&bytes.into()).unwrap_err(),
        E::HeaderNotUtf8 { at: 2 }
    ));
}

#[test]
fn header_not_json() {
    let error = error("{\"w\"", &[]);
    assert!(matches!(&error, E::HeaderMalformed { tensor: Some(t), .. } if t == "w"));
}

#[test]
fn header_followed_by_something() {
    for tail in ["x", "{}", "\0", ","] {
        let error = error(&format!("{{}}{tail}"), &[]);
        assert!(matches!(error, E::HeaderMalformed { tensor: None, .. }));
    }
}

#[test]
fn header_nested_deeply() {
    let deep = format!("{{\"w\":{}", "[".repeat(1_000_000));
    assert!(matches!(error(&deep, &[]), E::HeaderMalformed { .. }));
}

#[test]
fn duplicate_tensor() {
    let header = header(&[entry("w", "U8", "[1]", 0, 1), entry("w", "U8", "[1]", 1, 2)]);
    assert!(matches!(error(&header, &[1, 2]), E::DuplicateKey { key } if key == "w"));
}

#[test]
fn duplicate_tensor_by_escape() {
    // "w" and "\u0077" are the same name.
    let header = header(&[
        entry("w", "U8", "[1]", 0, 1),
        entry(r"\u0077", "U8", "[1]", 1, 2),
    ]);
    assert!(matches!(error(&header, &[1, 2]), E::DuplicateKey { key } if key == "w"));
}

#[test]
fn duplicate_metadata() {
    let twice = r#"{"__metadata__":{},"__metadata__":{}}"#;
    assert!(matches!(error(twice, &[]), E::DuplicateKey { key } if key == "__metadata__"));
    let within = r#"{"__metadata__":{"k":"1","k":"2"}}"#;
    assert!(matches!(error(within, &[]), E::DuplicateKey { key } if key == "k"));
}

#[test]
fn metadata_other_than_strings() {
    for value in ["1", "null", r#"{"a":1}"#, r#"{"a":["b"]}"#, "[]"] {
        let error = error(&format!(r#"{{"__metadata__":{value}}}"#), &[]);
        assert!(
            matches!(&error, E::HeaderMalformed { tensor: Some(t), .. } if t == "__metadata__"),
            "{value}: {error}"
        );
    }
}

#[test]
fn entry_of_a_wrong_form_names_the_tensor() {
    let forms = [
        r#"1"#,
        r#"[]"#,
        r#"{}"#,
        r#"{"dtype":"U8","shape":[1]}"#,
        r#"{"dtype":"U8","data_offsets":[0,1]}"#,
        r#"{"shape":[1],"data_offsets":[0,1]}"#,
        r#"{"dtype":1,"shape":[1],"data_offsets":[0,1]}"#,
        r#"{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}"#,
        r#"{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}"#,
        r#"{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}"#,
        r#"{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1]}"#,
        r#"{"dtype":"U8","shape":1,"data_offsets":[0,1]}"#,
        r#"{"dtype":"U8","shape":[1],"data_offsets":[0]}"#,
        r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}"#,
        r#"{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}"#,
        r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1],"extra":1}"#,
        r#"{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}"#,
    ];
    for form in forms {
        let error = error(&format!(r#"{{"conv.weight":{form}}}"#), &[7]);
        assert!(
            matches!(&error, E::HeaderMalformed { tensor: Some(t), .. } if t == "conv.weight"),
            "{form}: {error}"
        );
        assert!(chain(&error).starts_with("the header is malformed at `conv.weight`: "));
    }
}

#[test]
fn unknown_dtype() {
    for dtype in ["F31", "f32", "", "C128", "F4"] {
        let error = error(&header(&[entry("w", dtype, "[1]", 0, 1)]), &[7]);
        assert!(
            matches!(&error, E::UnknownDtype { tensor, dtype: d } if tensor == "w" && d == dtype)
        );
    }
}

#[test]
fn shape_that_overflows() {
    let shapes = [
        "[18446744073709551615,2]",
        "[4294967296,4294967296]",
        "[2305843009213693952,2,4]",
        // Only the bytes overflow, not the elements.
        "[4611686018427387904]",
    ];
    for shape in shapes {
        let error = error(&header(&[entry("w", "F64", shape, 0, 8)]), &[0; 8]);
        assert!(
            matches!(&error, E::ShapeOverflow { tensor, .. } if tensor == "w"),
            "{shape}: {error}"
        );
    }
}

#[test]
fn range_reversed() {
    let header = header(&[entry("w", "U8", "[1]", 2, 1)]);
    assert!(matches!(
        error(&header, &[0; 2]),
        E::RangeReversed { tensor, begin: 2, end: 1 } if tensor == "w"
    ));
}

#[test]
fn range_of_another_length_than_the_shape() {
    for (shape, end) in [("[2]", 7), ("[2]", 9), ("[]", 0), ("[0]", 4), ("[2,3]", 8)] {
        let header = header(&[entry("w", "F32", shape, 0, end)]);
        let error = error(&header, &vec![0; end as usize]);
        assert!(
            matches!(&error, E::RangeLength { tensor, .. } if tensor == "w"),
            "{shape}: {error}"
        );
    }
}

#[test]
fn range_past_the_end() {
    let header = header(&[entry("a", "U8", "[4]", 0, 4), entry("b", "U8", "[4]", 4, 8)]);
    assert!(matches!(
        error(&header, &[0; 7]),
        E::DataTruncated { tensor, end: 8, found: 7 } if tensor == "b"
    ));
}

#[test]
fn range_far_past_the_end() {
    let begin = u64::MAX - 1;
    let header = header(&[entry("w", "U8", "[1]", begin, u64::MAX)]);
    assert!(matches!(
        error(&header, &[0; 7]),
        E::DataTruncated { tensor, end: u64::MAX, .. } if tensor == "w"
    ));
}

#[test]
fn ranges_that_overlap() {
    let header = header(&[entry("a", "U8", "[4]", 0, 4), entry("b", "U8", "[4]", 3, 7)]);
    assert!(matches!(
        error(&header, &[0; 7]),
        E::Overlap { tensor, begin: 3, other, end: 4 } if tensor == "b" && other == "a"
    ));
}

#[test]
fn two_tensors_at_one_place() {
    let header = header(&[entry("a", "U8", "[4]", 0, 4), entry("b", "U8", "[4]", 0, 4)]);
    assert!(matches!(error(&header, &[0; 4]), E::Overlap { .. }));
}

#[test]
fn empty_tensor_inside_another() {
    let header = header(&[entry("a", "U8", "[4]", 0, 4), entry("e", "U8", "[0]", 2, 2)]);
    assert!(matches!(error(&header, &[0; 4]), E::Overlap { .. }));
}

#[test]
fn hole_between_tensors() {
    let header = header(&[entry("a", "U8", "[4]", 0, 4), entry("b", "U8", "[4]", 5, 9)]);
    assert!(matches!(
        error(&header, &[0; 9]),
        E::Hole { tensor, begin: 4, end: 5 } if tensor == "b"
    ));
}

#[test]
fn hole_before_the_first_tensor() {
    let header = header(&[entry("a", "U8", "[4]", 1, 5)]);
    assert!(matches!(
        error(&header, &[0; 5]),
        E::Hole {
            begin: 0,
            end: 1,
            ..
        }
    ));
}

#[test]
fn bytes_after_the_last_tensor() {
    let header = header(&[entry("a", "U8", "[4]", 0, 4)]);
    assert!(matches!(
        error(&header, &[0; 5]),
        E::TrailingBytes {
            expected: 4,
            found: 5
        }
    ));
    assert!(matches!(
        error("{}", &[0; 5]),
        E::TrailingBytes {
            expected: 0,
            found: 5
        }
    ));
}

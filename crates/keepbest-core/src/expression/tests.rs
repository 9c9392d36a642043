use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Expression {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn metrics() -> Metrics {
    Metrics::from_iter([
        ("val/a", 2.0),
        ("val/b", 3.0),
        ("c", 5.0),
        ("top-1 (%)", 7.0),
        ("odd`name", 11.0),
    ])
}

#[test]
fn values() {
    for (text, expected) in [
        ("c", 5.0),
        ("val/a + val/b*c", 17.0),
        ("(val/a + val/b) * c", 25.0),
        ("c - val/b - val/a", 0.0),
        ("c - (val/b - val/a)", 4.0),
        ("val/a / val/b / c", 2.0 / 3.0 / 5.0),
        ("val/a/2", 1.0),
        ("val/a/.5", 4.0),
        ("val/a/(1+1)", 1.0),
        ("-val/a * -val/b", 6.0),
        ("--c", 5.0),
        ("- (val/a - c)", 3.0),
        ("1e-3*c", 0.005),
        ("2.*c", 10.0),
        ("2E+1", 20.0),
        ("`top-1 (%)` - `odd``name`", -4.0),
        ("\t val/a+val/b\n", 5.0),
    ] {
        assert_eq!(parse(text).evaluate(&metrics()), Ok(expected), "{text}");
    }
    assert!(parse("c / 0").evaluate(&metrics()).unwrap().is_infinite());
    assert!(parse("0 / 0").evaluate(&metrics()).unwrap().is_nan());
}

#[test]
fn shown_with_the_fewest_parentheses() {
    for (text, shown) in [
        ("0.5*val/p+0.5*val/r", "0.5 * val/p + 0.5 * val/r"),
        ("((a))+(b*c)", "a + b * c"),
        ("(a+b)*c", "(a + b) * c"),
        ("a-(b-c)", "a - (b - c)"),
        ("(a-b)-c", "a - b - c"),
        ("a/(b*c)", "a / (b * c)"),
        ("-(a+b)", "-(a + b)"),
        ("-a*b", "-a * b"),
        ("-(a*b)", "-(a * b)"),
        ("`val/a`", "val/a"),
        ("`a b`", "`a b`"),
        ("``", "``"),
    ] {
        assert_eq!(parse(text).to_string(), shown, "{text}");
    }
}

#[test]
fn errors_say_where() {
    use ExpressionError::*;
    let found = |c: &str| c.to_owned();
    for (text, error) in [
        ("", Empty),
        ("  ", Empty),
        (
            "a +",
            ExpectedOperand {
                position: 3,
                found: found("the end"),
            },
        ),
        (
            "a b",
            ExpectedOperator {
                position: 2,
                found: found("`b`"),
            },
        ),
        (
            "* a",
            ExpectedOperand {
                position: 0,
                found: found("`*`"),
            },
        ),
        ("(a", Unclosed { position: 0 }),
        (
            "a)",
            ExpectedOperator {
                position: 1,
                found: found("`)`"),
            },
        ),
        (
            "()",
            ExpectedOperand {
                position: 1,
                found: found("`)`"),
            },
        ),
        ("2 + `a", UnclosedName { position: 4 }),
        (
            "1e999",
            NumberOutOfRange {
                text: "1e999".into(),
                position: 0,
            },
        ),
        (
            ".",
            NumberOutOfRange {
                text: ".".into(),
                position: 0,
            },
        ),
        (
            "1e",
            ExpectedOperator {
                position: 1,
                found: found("`e`"),
            },
        ),
        (
            "val/",
            ExpectedOperand {
                position: 4,
                found: found("the end"),
            },
        ),
        (
            "é§",
            ExpectedOperator {
                position: 2,
                found: found("`§`"),
            },
        ),
    ] {
        assert_eq!(text.parse::<Expression>(), Err(error), "{text}");
    }
}

#[test]
fn hostile_nesting_and_length_are_harmless() {
    for text in ["(".repeat(1_000_000), "-".repeat(1_000_000)] {
        assert_eq!(
            text.parse::<Expression>(),
            Err(ExpressionError::TooDeep { limit: 100 })
        );
    }
    let long = parse(&vec!["c"; 100_000].join("+"));
    assert_eq!(long.evaluate(&metrics()), Ok(500_000.0));
    assert_eq!(parse(&long.to_string()), long);
}

#[test]
fn missing_metric_names_what_exists() {
    let error = parse("val/a + val/bb").evaluate(&metrics()).unwrap_err();
    assert_eq!(error.name, "val/bb");
    assert_eq!(error.hint().as_deref(), Some("did you mean val/b?"));
    assert!(
        error
            .to_string()
            .contains("there are: c, odd`name, top-1 (%), val/a, val/b"),
        "{error}"
    );
    let error = parse("x").evaluate(&Metrics::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "metric `x` was not measured; there are: none"
    );
}

#[test]
fn directions_follow_from_the_parts() {
    use Direction::{Maximise, Minimise};
    for (text, direction) in [
        ("val/loss", Some(Minimise)),
        ("-2 * val/loss", Some(Maximise)),
        ("val/loss * -2", Some(Maximise)),
        ("val/loss / (1 - 3)", Some(Maximise)),
        ("1 - val/accuracy", Some(Minimise)),
        ("val/accuracy - val/loss - 3*val/ece", Some(Maximise)),
        ("val/accuracy + 0*val/loss", Some(Maximise)),
        ("val/accuracy + 0*unknown", Some(Maximise)),
        ("val/accuracy + unknown", None),
        ("val/accuracy - val/f1_macro", None),
        ("val/accuracy * val/f1_macro", None),
        ("1 / val/loss", None),
        ("3", None),
        ("0 * val/loss", None),
    ] {
        assert_eq!(parse(text).direction(), direction, "{text}");
    }
}

#[test]
fn names_in_order_without_repeats() {
    assert_eq!(parse("b + a*b - val/c").metric_names(), ["b", "a", "val/c"]);
    assert_eq!(parse("(val/c)").as_metric(), Some("val/c"));
    assert_eq!(parse("-a").as_metric(), None);
}

fn any_expression() -> impl Strategy<Value = Expression> {
    let leaf = prop_oneof![
        "[a-z_][a-z0-9_.]{0,4}(/[a-z][a-z0-9]{0,3}){0,2}".prop_map(Expression::metric),
        any::<String>().prop_map(Expression::metric),
        any::<f64>().prop_filter_map("finite", |value| Expression::constant(value).ok()),
    ];
    leaf.prop_recursive(6, 64, 2, |inner| {
        (inner.clone(), inner, 0..5).prop_map(|(a, b, operator)| match operator {
            0 => a + b,
            1 => a - b,
            2 => a * b,
            3 => a / b,
            _ => -a,
        })
    })
}

proptest! {
    #[test]
    fn text_round_trips(expression in any_expression()) {
        let text = expression.to_string();
        prop_assert_eq!(&text.parse::<Expression>(), &Ok(expression.clone()), "{}", text);
        let json = serde_json::to_string(&expression).unwrap();
        prop_assert_eq!(serde_json::from_str::<Expression>(&json).unwrap(), expression);
    }

    #[test]
    fn no_text_panics(text in "[ a-z0-9.e+*/()`é-]{0,40}") {
        if let Ok(expression) = text.parse::<Expression>() {
            let _ = expression.direction();
            prop_assert_eq!(expression.to_string().parse::<Expression>(), Ok(expression));
        }
    }
}

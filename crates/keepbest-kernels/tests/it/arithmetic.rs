//! Two maps joined value by value, with one row, column or channel standing for all.

use keepbest_kernels::{ActShape, Arithmetic, Context, arithmetic};

use crate::support::{Random, assert_close, contexts, dense, same_everywhere, unwritten};

const KINDS: [Arithmetic; 6] = [
    Arithmetic::Add,
    Arithmetic::Sub,
    Arithmetic::Mul,
    Arithmetic::Div,
    Arithmetic::Maximum,
    Arithmetic::Minimum,
];

fn apply(kind: Arithmetic, a: f64, b: f64) -> f64 {
    match kind {
        Arithmetic::Add => a + b,
        Arithmetic::Sub => a - b,
        Arithmetic::Mul => a * b,
        Arithmetic::Div => a / b,
        Arithmetic::Maximum => a.max(b),
        Arithmetic::Minimum => a.min(b),
    }
}

/// Slopes for `a` and `b`, by differences: the operands of a maximum are never close.
fn slopes(kind: Arithmetic, a: f64, b: f64) -> [f64; 2] {
    let h = 1e-6;
    [
        (apply(kind, a + h, b) - apply(kind, a - h, b)) / (2.0 * h),
        (apply(kind, a, b + h) - apply(kind, a, b - h)) / (2.0 * h),
    ]
}

fn index(shape: ActShape, image: usize, y: usize, x: usize, c: usize) -> usize {
    let one = |side: usize, at: usize| if side == 1 { 0 } else { at };
    ((image * shape.h + one(shape.h, y)) * shape.w + one(shape.w, x)) * shape.c + one(shape.c, c)
}

#[test]
fn operands_of_every_shape_agree_with_the_definition() {
    let full = ActShape::new(5, 4, 70);
    let n = 3;
    for b_shape in [
        full,
        ActShape::new(1, 1, 70),
        ActShape::new(5, 4, 1),
        ActShape::new(1, 1, 1),
        ActShape::new(5, 1, 70),
        ActShape::new(1, 4, 1),
    ] {
        for kind in KINDS {
            for swapped in [false, true] {
                let (a_shape, b_shape) = if swapped {
                    (b_shape, full)
                } else {
                    (full, b_shape)
                };
                check(n, kind, a_shape, b_shape);
            }
        }
    }
    // Both sides stand for more than they are.
    check(
        n,
        Arithmetic::Mul,
        ActShape::new(5, 1, 3),
        ActShape::new(1, 4, 3),
    );
}

fn check(n: usize, kind: Arithmetic, a_shape: ActShape, b_shape: ActShape) {
    let out = arithmetic::joined(a_shape, b_shape).unwrap();
    let mut random = Random::new(7);
    let mut a = random.activation(n, a_shape);
    let mut b = random.activation(n, b_shape);
    // Away from zero, and from each other.
    a.iter_mut().for_each(|v| *v = (*v * 8.0).round() + 0.25);
    b.iter_mut().for_each(|v| *v = (*v * 8.0).round() + 0.5);
    let dy = random.activation(n, out);
    let run = |ctx: &Context| {
        let mut y = unwritten(n, out);
        arithmetic::forward(ctx, n, kind, (a_shape, &a), (b_shape, &b), &mut y);
        let (x, other): (&[f32], &[f32]) = if kind.reads_values() {
            (&a, &b)
        } else {
            (&[], &[])
        };
        let mut gradients = [unwritten(n, a_shape), unwritten(n, b_shape)];
        for (of_first, dx) in [true, false].into_iter().zip(&mut gradients) {
            let (a, b) = ((a_shape, x), (b_shape, other));
            arithmetic::backward(ctx, n, kind, a, b, &dy, of_first, dx);
        }
        let [da, db] = gradients;
        [
            dense(n, out, &y),
            dense(n, a_shape, &da),
            dense(n, b_shape, &db),
        ]
        .concat()
    };
    let name = format!("{kind:?} {a_shape:?} {b_shape:?}");
    let found = same_everywhere(&name, &contexts(), run);
    let (xs, ys, dys) = (
        dense(n, a_shape, &a),
        dense(n, b_shape, &b),
        dense(n, out, &dy),
    );
    let (mut y, mut da, mut db) = (vec![], vec![0.0; xs.len()], vec![0.0; ys.len()]);
    for image in 0..n {
        for row in 0..out.h {
            for column in 0..out.w {
                for c in 0..out.c {
                    let (i, j) = (
                        index(a_shape, image, row, column, c),
                        index(b_shape, image, row, column, c),
                    );
                    let (a, b) = (f64::from(xs[i]), f64::from(ys[j]));
                    let upstream = f64::from(dys[y.len()]);
                    y.push(apply(kind, a, b));
                    let [first, second] = slopes(kind, a, b);
                    da[i] += upstream * first;
                    db[j] += upstream * second;
                }
            }
        }
    }
    let (found_y, rest) = found.split_at(y.len());
    let (found_da, found_db) = rest.split_at(da.len());
    assert_close(&name, found_y, &y, 1e-6);
    assert_close(&format!("{name}: first gradient"), found_da, &da, 1e-5);
    assert_close(&format!("{name}: second gradient"), found_db, &db, 1e-5);
}

#[test]
fn equal_values_share_a_gradient_and_nan_passes() {
    let ctx = &contexts()[0];
    let shape = ActShape::new(1, 1, 3);
    let (a, b) = ([1.0, f32::NAN, 2.0], [1.0, 0.0, f32::NAN]);
    let mut y = [0.0; 3];
    for kind in [Arithmetic::Maximum, Arithmetic::Minimum] {
        arithmetic::forward(ctx, 1, kind, (shape, &a), (shape, &b), &mut y);
        assert!(y[0] == 1.0 && y[1].is_nan() && y[2].is_nan());
        let mut dx = [0.0; 3];
        arithmetic::backward(
            ctx,
            1,
            kind,
            (shape, &a),
            (shape, &b),
            &[2.0; 3],
            true,
            &mut dx,
        );
        assert_eq!(dx, [1.0, 2.0, 2.0]);
    }
    assert_eq!(arithmetic::joined(shape, ActShape::new(2, 1, 2)), None);
}

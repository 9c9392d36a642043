//! Rows, columns and channels of a map in another order, left out, repeated or surrounded: crops, borders, slices and shuffles of
//! channels, nearest-neighbour sizes.

use crate::chunks::check_activation;
use crate::disjoint::Disjoint;
use crate::max_pool::run_rows;
use crate::{ActShape, Context};

/// What each row, column and channel of an output is a copy of.
#[derive(Clone, Debug, PartialEq)]
pub struct Gather {
    input: ActShape,
    output: ActShape,
    rows: Line,
    columns: Line,
    channels: Line,
    value: f32,
}

/// One side, in both directions.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    sources: Vec<Option<usize>>,
    /// The coordinates of the output that are copies of each of the input, ascending: `copies[starts[i]..starts[i + 1]]`.
    copies: Vec<u32>,
    starts: Vec<u32>,
    /// Whether the sources follow one another.
    contiguous: bool,
}

impl Line {
    fn new(sources: Vec<Option<usize>>, input: usize) -> Line {
        assert!(
            sources.iter().flatten().all(|&source| source < input),
            "gather: a source outside of the input"
        );
        let (mut copies, mut starts) = (Vec::with_capacity(sources.len()), vec![0]);
        // Sorted by source, and stable.
        let mut pairs: Vec<(usize, u32)> = (0..)
            .zip(&sources)
            .filter_map(|(at, source)| Some(((*source)?, at)))
            .collect();
        pairs.sort_unstable();
        for source in 0..input {
            while copies.len() < pairs.len() && pairs[copies.len()].0 == source {
                copies.push(pairs[copies.len()].1);
            }
            starts.push(copies.len() as u32);
        }
        let follows = |pair: &[Option<usize>]| match pair {
            [Some(a), Some(b)] => *b == a + 1,
            _ => false,
        };
        let contiguous =
            sources.windows(2).all(follows) && sources.first().is_some_and(Option::is_some);
        Line {
            sources,
            copies,
            starts,
            contiguous,
        }
    }

    fn copies_of(&self, source: usize) -> impl Iterator<Item = usize> {
        let place = self.starts[source] as usize..self.starts[source + 1] as usize;
        self.copies[place].iter().map(|&copy| copy as usize)
    }
}

impl Gather {
    /// A map whose rows, columns and channels are copies of those of `input`, or where there is `None` of `value`. A channel that is the constant, or is
    /// copied twice, is a mistake of the caller.
    ///
    /// # Panics
    ///
    /// For a source that is not in the input, or no sources.
    ///
    /// ```
    /// use keepbest_kernels::{ActShape, Context, Gather, Isa};
    /// let ctx = Context::new(Isa::detect()?, 1)?;
    /// // The last of three columns, behind one of nines.
    /// let input = ActShape::new(1, 3, 1);
    /// let gather = Gather::new(input, [vec![Some(0)], vec![None, Some(2)], vec![Some(0)]], 9.0);
    /// let mut y = vec![0.0; gather.output().len(1)];
    /// gather.forward(&ctx, 1, &[1.0, 2.0, 3.0], &mut y);
    /// assert_eq!(y[..2], [9.0, 3.0]);
    /// # Ok::<(), keepbest_kernels::IsaError>(())
    /// ```
    pub fn new(
        input: ActShape,
        [rows, columns, channels]: [Vec<Option<usize>>; 3],
        value: f32,
    ) -> Gather {
        let output = ActShape::new(rows.len(), columns.len(), channels.len());
        assert!(!output.is_empty(), "gather: an output without values");
        let channels = Line::new(channels, input.c);
        let once = (0..input.c).all(|c| channels.copies_of(c).count() <= 1);
        assert!(
            once && channels.sources.iter().all(Option::is_some),
            "gather: channels must be copied, once at most"
        );
        Gather {
            input,
            output,
            rows: Line::new(rows, input.h),
            columns: Line::new(columns, input.w),
            channels,
            value,
        }
    }

    /// Shape of an output image.
    pub fn output(&self) -> ActShape {
        self.output
    }

    /// `y` = the copies of `x`.
    ///
    /// # Panics
    ///
    /// When a slice is too short.
    pub fn forward(&self, ctx: &Context, n: usize, x: &[f32], y: &mut [f32]) {
        let (input, output) = (self.input, self.output);
        check_activation("x", x, n, input);
        check_activation("y", y, n, output);
        let out = Disjoint::new(y);
        let row = output.w * output.c;
        run_rows(ctx, n, output.h, row, &|image, at| {
            // SAFETY: rows are disjoint.
            let y = unsafe { out.part(image * output.image_stride() + at * row, row) };
            let Some(source) = self.rows.sources[at] else {
                return y.fill(self.value);
            };
            let len = input.w * input.c;
            let x = &x[image * input.image_stride() + source * len..][..len];
            for (y, source) in y.chunks_exact_mut(output.c).zip(&self.columns.sources) {
                match source {
                    Some(column) => self.copy(&x[column * input.c..][..input.c], y),
                    None => y.fill(self.value),
                }
            }
        });
    }

    fn copy(&self, x: &[f32], y: &mut [f32]) {
        let sources = &self.channels.sources;
        if self.channels.contiguous {
            let first = sources[0].unwrap_or(0);
            return y.copy_from_slice(&x[first..first + y.len()]);
        }
        for (y, source) in y.iter_mut().zip(sources.iter().flatten()) {
            *y = x[*source];
        }
    }

    /// Gradient of [`forward`](Self::forward): each value gets the sum over its copies, row by row. Overwrites `dx`.
    ///
    /// # Panics
    ///
    /// When a slice is too short.
    pub fn backward(&self, ctx: &Context, n: usize, dy: &[f32], dx: &mut [f32]) {
        let (input, output) = (self.input, self.output);
        check_activation("dy", dy, n, output);
        check_activation("dx", dx, n, input);
        let out = Disjoint::new(dx);
        let row = input.w * input.c;
        run_rows(ctx, n, input.h, row, &|image, at| {
            // SAFETY: rows are disjoint.
            let dx = unsafe { out.part(image * input.image_stride() + at * row, row) };
            dx.fill(0.0);
            for copy in self.rows.copies_of(at) {
                let len = output.w * output.c;
                let dy = &dy[image * output.image_stride() + copy * len..][..len];
                for (column, dx) in dx.chunks_exact_mut(input.c).enumerate() {
                    for copy in self.columns.copies_of(column) {
                        self.add(&dy[copy * output.c..][..output.c], dx);
                    }
                }
            }
        });
    }

    fn add(&self, dy: &[f32], dx: &mut [f32]) {
        for (&dy, source) in dy.iter().zip(self.channels.sources.iter().flatten()) {
            dx[*source] += dy;
        }
    }
}

//! One axis of a convolution: which taps of the kernel meet the input, for each output coordinate and back.

/// Sizes along one axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    /// Zeros before the input; those after it follow from the output.
    pub(crate) padding: usize,
    pub(crate) dilation: usize,
}

/// Destination coordinates `dst + j * dst_step`, `j < count`, that all meet the same taps: tap `t` reads `src(t) + j * src_step`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) dst: usize,
    pub(crate) dst_step: usize,
    pub(crate) count: usize,
    pub(crate) src_step: usize,
    /// (packed tap, source coordinate for j = 0), taps ascending.
    pub(crate) taps: Vec<(usize, usize)>,
}

impl Axis {
    /// Input coordinate that tap `tap` of output coordinate `out` reads, unless it is padding.
    fn input_of(&self, out: usize, tap: usize) -> Option<usize> {
        (out * self.stride + tap * self.dilation)
            .checked_sub(self.padding)
            .filter(|&at| at < self.input)
    }

    /// Output coordinate whose tap `tap` reads input coordinate `at`.
    fn output_of(&self, at: usize, tap: usize) -> Option<usize> {
        let shifted = (at + self.padding).checked_sub(tap * self.dilation)?;
        (shifted.is_multiple_of(self.stride) && shifted / self.stride < self.output)
            .then(|| shifted / self.stride)
    }

    /// Runs over output coordinates, reading the input.
    pub(crate) fn forward_runs(&self) -> Vec<Run> {
        runs(
            (0..self.output).map(|out| (out, self.forward_taps(out))),
            1,
            self.stride,
        )
    }

    /// Runs over input coordinates, reading the output; packed tap `p` is tap `kernel - 1 - p`, so that both taps and source
    /// coordinates ascend. With a stride, the coordinates of one phase make the runs.
    pub(crate) fn backward_runs(&self) -> Vec<Run> {
        let phases = self.stride.min(self.input);
        (0..phases)
            .flat_map(|phase| {
                let coordinates = (phase..self.input).step_by(self.stride);
                runs(
                    coordinates.map(|at| (at, self.backward_taps(at))),
                    self.stride,
                    1,
                )
            })
            .collect()
    }

    fn forward_taps(&self, out: usize) -> Vec<(usize, usize)> {
        (0..self.kernel)
            .filter_map(|tap| Some((tap, self.input_of(out, tap)?)))
            .collect()
    }

    fn backward_taps(&self, at: usize) -> Vec<(usize, usize)> {
        (0..self.kernel)
            .filter_map(|packed| Some((packed, self.output_of(at, self.kernel - 1 - packed)?)))
            .collect()
    }

    /// Output coordinates for which tap `tap` reads the input: a range, and the input coordinate of its first.
    pub(crate) fn outputs_of_tap(&self, tap: usize) -> (std::ops::Range<usize>, usize) {
        let mut valid = (0..self.output).filter(|&out| self.input_of(out, tap).is_some());
        match valid.next() {
            None => (0..0, 0),
            Some(first) => {
                let last = valid.next_back().unwrap_or(first);
                (first..last + 1, self.input_of(first, tap).unwrap_or(0))
            }
        }
    }
}

fn runs(
    coordinates: impl Iterator<Item = (usize, Vec<(usize, usize)>)>,
    dst_step: usize,
    src_step: usize,
) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (dst, taps) in coordinates {
        if let Some(run) = runs.last_mut() {
            let shift = run.count * src_step;
            let same = run.taps.len() == taps.len()
                && run
                    .taps
                    .iter()
                    .zip(&taps)
                    .all(|(&(a, from), &(b, at))| a == b && from + shift == at);
            if same {
                run.count += 1;
                continue;
            }
        }
        runs.push(Run {
            dst,
            dst_step,
            count: 1,
            src_step,
            taps,
        });
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padded_row_has_two_edges_and_a_middle() {
        let axis = Axis {
            input: 8,
            output: 8,
            kernel: 3,
            stride: 1,
            padding: 1,
            dilation: 1,
        };
        let runs = axis.forward_runs();
        assert_eq!(
            runs.iter()
                .map(|r| (r.dst, r.count, r.taps.len()))
                .collect::<Vec<_>>(),
            [(0, 1, 2), (1, 6, 3), (7, 1, 2)]
        );
        assert_eq!(runs[1].taps, [(0, 0), (1, 1), (2, 2)]);
    }

    #[test]
    fn backward_is_the_transpose_of_forward() {
        for (input, kernel, stride, padding, dilation) in [
            (8, 3, 1, 1, 1),
            (9, 3, 2, 1, 1),
            (10, 5, 3, 2, 1),
            (7, 1, 2, 0, 1),
            (12, 3, 2, 3, 2),
            (5, 2, 3, 0, 1),
            (2, 1, 5, 0, 1),
        ] {
            let output = (input + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
            let axis = Axis {
                input,
                output,
                kernel,
                stride,
                padding,
                dilation,
            };
            let expand = |runs: &[Run]| {
                let mut all = Vec::new();
                for run in runs {
                    for j in 0..run.count {
                        for &(tap, src) in &run.taps {
                            all.push((run.dst + j * run.dst_step, tap, src + j * run.src_step));
                        }
                    }
                }
                all
            };
            let mut forward = expand(&axis.forward_runs());
            let mut backward: Vec<_> = expand(&axis.backward_runs())
                .into_iter()
                .map(|(at, packed, out)| (out, kernel - 1 - packed, at))
                .collect();
            forward.sort_unstable();
            backward.sort_unstable();
            assert_eq!(forward, backward);
            let covered: usize = axis.backward_runs().iter().map(|r| r.count).sum();
            assert_eq!(covered, input);
        }
    }
}

//! Tensors of a graph as views of the maps of a network.
//!
//! ONNX moves data about: it reshapes, transposes and squeezes. A network's values are maps of channels, and need none of it. So a
//! tensor of the graph is a value of the network with a list of dimensions, each made of pieces of the value's axes. A transpose
//! reorders the list, a reshape splits and joins pieces, and nothing is computed until an operator reads the tensor: then the view
//! is one that the operator means (channels first, channels last, one vector, channels that were shuffled), or it is refused.

/// An axis of a value of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Batch,
    Channel,
    Row,
    Column,
}

/// A piece of an axis: the indices that are multiples of `stride`, `size` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub axis: Axis,
    pub size: usize,
    pub stride: usize,
}

/// Size of a value of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub channels: usize,
    pub rows: usize,
    pub columns: usize,
}

impl Size {
    pub(super) fn new(channels: usize, rows: usize, columns: usize) -> Self {
        Size {
            channels,
            rows,
            columns,
        }
    }

    pub(super) fn along(&self, axis: Axis) -> usize {
        match axis {
            Axis::Batch => 1,
            Axis::Channel => self.channels,
            Axis::Row => self.rows,
            Axis::Column => self.columns,
        }
    }

    pub(super) fn one_pixel(&self) -> bool {
        self.rows * self.columns == 1
    }

    pub(super) fn values(&self) -> usize {
        self.channels * self.rows * self.columns
    }
}

/// The order in which a tensor has the axes of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// `[n, channels, rows, columns]`.
    ChannelsFirst,
    /// `[n, rows, columns, channels]`.
    ChannelsLast,
    /// `[n, channels, length]` of a value of one row.
    Signal,
    /// `[n, channels * rows * columns]`.
    Vector,
    /// `[n, channels, rows * columns]`.
    PixelsLast,
    /// `[n, rows * columns, channels]`.
    PixelsFirst,
    /// `[n]` of a value of one channel and pixel.
    Numbers,
}

impl Order {
    /// Every order; the usual ones first, since a shape with sides of 1 can be several.
    pub(super) const ALL_OF: [Order; 7] = [
        Order::ChannelsFirst,
        Order::ChannelsLast,
        Order::Signal,
        Order::Vector,
        Order::PixelsLast,
        Order::PixelsFirst,
        Order::Numbers,
    ];

    fn axes(self) -> &'static [&'static [Axis]] {
        use Axis::{Channel, Column, Row};
        match self {
            Order::ChannelsFirst => &[&[Channel], &[Row], &[Column]],
            Order::ChannelsLast => &[&[Row], &[Column], &[Channel]],
            Order::Signal => &[&[Channel], &[Column]],
            Order::Vector => &[&[Channel, Row, Column]],
            Order::PixelsLast => &[&[Channel], &[Row, Column]],
            Order::PixelsFirst => &[&[Row, Column], &[Channel]],
            Order::Numbers => &[],
        }
    }
}

/// A tensor of the graph: a value of the network, and how its axes lie.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    /// The step that makes the value.
    pub step: usize,
    /// Size of the value.
    pub size: Size,
    /// The dimensions, each of pieces from the slowest to the fastest. Pieces of length 1 are left out, but the batch.
    pub dims: Vec<Vec<Piece>>,
}

impl View {
    /// A value in an order of its axes.
    pub(super) fn of(step: usize, size: Size, batch: usize, order: Order) -> Self {
        let whole = |axis: &Axis| Piece {
            axis: *axis,
            size: size.along(*axis),
            stride: 1,
        };
        let mut dims = vec![vec![Piece {
            axis: Axis::Batch,
            size: batch,
            stride: 1,
        }]];
        for axes in order.axes() {
            let pieces = axes.iter().map(whole);
            dims.push(pieces.filter(|piece| piece.size > 1).collect());
        }
        View { step, size, dims }
    }

    pub(super) fn batch(&self) -> usize {
        let mut pieces = self.dims.iter().flatten();
        let batch = pieces.find(|piece| piece.axis == Axis::Batch);
        batch.map_or(1, |piece| piece.size)
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        let length = |dim: &Vec<Piece>| dim.iter().map(|piece| piece.size).product();
        self.dims.iter().map(length).collect()
    }

    /// The order of the axes, where it is one that has a name. `wanted` first, where a shape with sides of 1 could be several.
    pub(super) fn is(&self, order: Order) -> bool {
        let fits = order != Order::Signal || self.size.rows == 1;
        fits && *self == View::of(self.step, self.size, self.batch(), order)
    }

    pub(super) fn order(&self) -> Option<Order> {
        Order::ALL_OF.into_iter().find(|&order| self.is(order))
    }

    pub(super) fn transpose(&self, order: &[usize]) -> Option<View> {
        let mut seen = vec![false; self.dims.len()];
        let mut dims = Vec::with_capacity(self.dims.len());
        for &from in order {
            if std::mem::replace(seen.get_mut(from)?, true) {
                return None;
            }
            dims.push(self.dims[from].clone());
        }
        (dims.len() == self.dims.len()).then_some(View { dims, ..*self })
    }

    /// The view with another shape of as many elements; `None` where it parts an axis unevenly.
    pub(super) fn reshape(&self, shape: &[usize]) -> Option<View> {
        let mut rest: Vec<Piece> = self.dims.iter().flatten().copied().rev().collect();
        let mut dims = Vec::with_capacity(shape.len());
        for &length in shape {
            let mut dim: Vec<Piece> = Vec::new();
            let mut missing = length;
            // A batch of one has no length by which to find its place.
            while rest.last().is_some_and(|piece| piece.size == 1) {
                dim.extend(rest.pop());
            }
            while missing > 1 {
                let piece = rest.pop()?;
                if missing.is_multiple_of(piece.size) {
                    missing /= piece.size;
                    push(&mut dim, piece);
                } else if piece.size.is_multiple_of(missing) && piece.axis != Axis::Batch {
                    let inner = piece.size / missing;
                    push(
                        &mut dim,
                        Piece {
                            size: missing,
                            stride: piece.stride * inner,
                            ..piece
                        },
                    );
                    rest.push(Piece {
                        size: inner,
                        ..piece
                    });
                    missing = 1;
                } else {
                    return None;
                }
            }
            dims.push(dim);
        }
        match (rest.as_slice(), dims.last_mut()) {
            ([], _) => {}
            ([piece], Some(last)) if piece.size == 1 => last.push(*piece),
            _ => return None,
        }
        Some(View { dims, ..*self })
    }

    /// The view without dimensions of length 1.
    pub(super) fn squeeze(&self, at: &[usize]) -> Option<View> {
        let mut dims = Vec::new();
        for (position, dim) in self.dims.iter().enumerate() {
            match at.contains(&position) {
                true if dim.is_empty() => {}
                true => return None,
                false => dims.push(dim.clone()),
            }
        }
        Some(View { dims, ..*self })
    }

    /// The view with dimensions of length 1 at these positions of the result.
    pub(super) fn unsqueeze(&self, at: &[usize]) -> Option<View> {
        let rank = self.dims.len() + at.len();
        let mut old = self.dims.iter().cloned();
        let dims: Option<Vec<_>> = (0..rank)
            .map(|position| match at.contains(&position) {
                true => Some(vec![]),
                false => old.next(),
            })
            .collect();
        let dims = dims?;
        (old.len() == 0 && at.iter().all(|&position| position < rank))
            .then_some(View { dims, ..*self })
    }

    /// Whether the elements stand in the order of channels, rows and columns, however they are grouped.
    pub(super) fn in_order(&self) -> bool {
        let rest = View::of(self.step, self.size, self.batch(), Order::Vector);
        let mut own = Vec::new();
        for piece in self.dims.iter().flatten() {
            push(&mut own, *piece);
        }
        let plain: Vec<Piece> = rest.dims.into_iter().flatten().collect();
        own == plain && self.dims.first().is_some_and(|dim| dim.len() <= 1)
    }

    /// Groups of a channel shuffle: where the channels lie transposed, `[groups, channels / groups]` as `[channels / groups, groups]`.
    pub(super) fn shuffled(&self) -> Option<usize> {
        let mut groups = None;
        let mut dims = self.dims.clone();
        for dim in &mut dims {
            if let [outer, inner] = dim.as_slice()
                && outer.axis == Axis::Channel
                && inner.axis == Axis::Channel
                && outer.stride == 1
                && inner.stride == outer.size
                && outer.size * inner.size == self.size.channels
            {
                groups = Some(inner.size);
                *dim = vec![Piece {
                    axis: Axis::Channel,
                    size: self.size.channels,
                    stride: 1,
                }];
            }
        }
        View { dims, ..*self }
            .is(Order::ChannelsFirst)
            .then_some(groups?)
    }
}

/// Appends a piece, joined with the last where it goes on from there.
fn push(dim: &mut Vec<Piece>, piece: Piece) {
    match dim.last_mut() {
        Some(last) if last.axis == piece.axis && last.stride == piece.stride * piece.size => {
            last.size *= piece.size;
            last.stride = piece.stride;
        }
        _ => dim.push(piece),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> View {
        View::of(0, Size::new(12, 4, 5), 1, Order::ChannelsFirst)
    }

    #[test]
    fn a_reshape_and_back_changes_nothing() {
        for shape in [
            &[1, 240][..],
            &[1, 3, 4, 4, 5],
            &[1, 12, 20],
            &[12, 20],
            &[240],
        ] {
            let there = map().reshape(shape).unwrap();
            assert_eq!(there.shape(), shape);
            assert_eq!(there.reshape(&[1, 12, 4, 5]).unwrap(), map(), "{shape:?}");
        }
        assert!(map().reshape(&[1, 7, 4, 5]).is_none());
        assert!(map().reshape(&[1, 12, 4, 4]).is_none());
        assert_eq!(
            map().reshape(&[1, 240]).unwrap().order(),
            Some(Order::Vector)
        );
    }

    #[test]
    fn channels_are_shuffled_by_a_transpose_between_reshapes() {
        let parted = map().reshape(&[1, 3, 4, 4, 5]).unwrap();
        let swapped = parted.transpose(&[0, 2, 1, 3, 4]).unwrap();
        let joined = swapped.reshape(&[1, 12, 4, 5]).unwrap();
        assert_eq!((joined.order(), joined.shuffled()), (None, Some(3)));
        assert_eq!(map().shuffled(), None);
    }

    #[test]
    fn channels_last_and_back() {
        let last = map().transpose(&[0, 2, 3, 1]).unwrap();
        assert_eq!(last.order(), Some(Order::ChannelsLast));
        assert!(!last.in_order() && map().in_order());
        assert_eq!(last.transpose(&[0, 3, 1, 2]).unwrap(), map());
        assert!(last.transpose(&[0, 3, 3, 2]).is_none());
    }

    #[test]
    fn sides_of_one_come_and_go() {
        let pixel = View::of(0, Size::new(8, 1, 1), 2, Order::ChannelsFirst);
        let vector = pixel.squeeze(&[2, 3]).unwrap();
        assert_eq!(vector.shape(), [2, 8]);
        assert_eq!(vector.unsqueeze(&[2, 3]).unwrap(), pixel);
        assert!(pixel.squeeze(&[1]).is_none() && vector.unsqueeze(&[7]).is_none());
    }
}

//! What follows a convolution and is done before its sums are stored.

/// `relu(sum + bias + residual)`, each part if given.
///
/// The affine map of a batch norm with fixed statistics becomes part of the weights and the bias.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One value a channel.
    pub bias: Option<&'a [f32]>,
    /// An activation of the output's shape.
    pub residual: Option<&'a [f32]>,
    /// Whether negative values become zero (NaN stays).
    pub relu: bool,
}

impl<'a> From<Option<&'a [f32]>> for Epilogue<'a> {
    /// A bias alone.
    fn from(bias: Option<&'a [f32]>) -> Self {
        Epilogue {
            bias,
            ..Epilogue::default()
        }
    }
}

//! Layers with parameters.

use super::{Current, Lowering, Place, describe};
use crate::network::{BatchNorm, ChannelNorm, LayerError, Op};
use crate::params::{Role, Start};
use crate::spec::{self, Init};
use keepbest_kernels::{ActShape, ConvShape};

fn check_eps(place: &Place, eps: f64) -> Result<(), LayerError> {
    if eps >= 0.0 && eps.is_finite() {
        Ok(())
    } else {
        Err(place.error(format!("eps must be at least 0 and finite, found {eps}")))
    }
}

/// Outputs of a layer at most.
const MAX_OUT: usize = 1 << 24;

fn check_out(place: &Place, out: usize) -> Result<(), LayerError> {
    if out <= MAX_OUT {
        Ok(())
    } else {
        Err(place.error(format!("out must be at most {MAX_OUT}, found {out}")))
    }
}

impl Lowering {
    pub(super) fn conv(
        &mut self,
        place: &Place,
        l: &spec::Conv2d,
        x: Current,
    ) -> Result<Current, LayerError> {
        let input = self.map(place, x)?;
        if l.groups == 0 || !input.c.is_multiple_of(l.groups) || !l.out.is_multiple_of(l.groups) {
            return Err(place.error(format!(
                "input channels ({}) and output channels ({}) must be multiples of groups ({})",
                input.c, l.out, l.groups
            )));
        }
        let shape = ConvShape {
            input,
            out_channels: l.out,
            kernel: l.kernel.0,
            stride: l.stride.0,
            padding: l.padding.0,
            dilation: l.dilation.0,
            groups: l.groups,
        };
        // Before anything is multiplied: what they let through is small enough for that.
        check_out(place, l.out)?;
        shape.output().map_err(|e| place.error(e.to_string()))?;
        let per_group = input.c / l.groups;
        let taps = l.kernel.0[0] * l.kernel.0[1];
        let weight_shape = [l.out, per_group, l.kernel.0[0], l.kernel.0[1]];
        let start = self.starts(
            place,
            l.init,
            l.bias,
            l.zero_bias,
            per_group * taps,
            l.out * taps,
        )?;
        self.convolution(place, x, shape, &weight_shape, start, false)
    }

    pub(super) fn linear(
        &mut self,
        place: &Place,
        l: &spec::Linear,
        x: Current,
    ) -> Result<Current, LayerError> {
        let input = if l.per_pixel {
            self.map(place, x)?
        } else {
            self.values[x.value]
        };
        if !x.flat && !l.per_pixel {
            return Err(place.error(format!(
                "needs a vector, found {}; put a flatten layer before it, or say per_pixel = true",
                describe(input, false)
            )));
        }
        let kernel = if l.per_pixel {
            [1, 1]
        } else {
            [input.h, input.w]
        };
        check_out(place, l.out)?;
        let features = input.c * kernel[0] * kernel[1];
        let shape = ConvShape {
            input,
            out_channels: l.out,
            kernel,
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
        };
        let start = self.starts(place, l.init, l.bias, l.zero_bias, features, l.out)?;
        self.convolution(place, x, shape, &[l.out, features], start, !l.per_pixel)
    }

    /// How the weights and, where there is one, the bias start.
    fn starts(
        &self,
        place: &Place,
        init: Init,
        bias: bool,
        zero_bias: bool,
        fan_in: usize,
        fan_out: usize,
    ) -> Result<(Start, Option<Start>), LayerError> {
        if let Init::Normal(size) | Init::Uniform(size) = init
            && !(size >= 0.0 && size.is_finite())
        {
            return Err(place.error(format!("init must be at least 0 and finite, found {size}")));
        }
        let weight = match init {
            Init::Default => Start::uniform_fan_in(fan_in),
            Init::KaimingNormalFanOut => Start::kaiming_normal(fan_out),
            Init::KaimingNormalFanIn => Start::kaiming_normal(fan_in),
            Init::Normal(deviation) => Start::Normal { deviation },
            Init::Uniform(bound) => Start::Uniform { bound },
        };
        let of_bias = if zero_bias {
            Start::Constant(0.0)
        } else {
            Start::uniform_fan_in(fan_in)
        };
        Ok((weight, bias.then_some(of_bias)))
    }

    fn convolution(
        &mut self,
        place: &Place,
        x: Current,
        shape: ConvShape,
        weight_shape: &[usize],
        (start, bias): (Start, Option<Start>),
        linear: bool,
    ) -> Result<Current, LayerError> {
        let out = shape.output().map_err(|e| place.error(e.to_string()))?;
        let weight = self.param(place, "weight", weight_shape, Role::Trained, start)?;
        let bias = bias
            .map(|start| self.param(place, "bias", &[shape.out_channels], Role::Trained, start))
            .transpose()?;
        Ok(self.node(
            place,
            Op::Conv {
                shape,
                weight,
                bias,
                linear,
                then: None,
            },
            x.value,
            out,
            linear,
        ))
    }

    pub(super) fn batch_norm(
        &mut self,
        place: &Place,
        l: &spec::BatchNorm2d,
        x: Current,
    ) -> Result<Current, LayerError> {
        let shape = self.map(place, x)?;
        check_eps(place, l.eps)?;
        if !(0.0..=1.0).contains(&l.momentum) {
            let found = l.momentum;
            return Err(place.error(format!("momentum must be within 0 and 1, found {found}")));
        }
        let c = [shape.c];
        let op = Op::BatchNorm(BatchNorm {
            weight: self.param(place, "weight", &c, Role::Trained, Start::Constant(1.0))?,
            bias: self.param(place, "bias", &c, Role::Trained, Start::Constant(0.0))?,
            running_mean: self.param(
                place,
                "running_mean",
                &c,
                Role::Buffer,
                Start::Constant(0.0),
            )?,
            running_var: self.param(
                place,
                "running_var",
                &c,
                Role::Buffer,
                Start::Constant(1.0),
            )?,
            eps: l.eps,
            momentum: l.momentum,
            residual: None,
            relu: false,
            pool: None,
        });
        self.param(
            place,
            "num_batches_tracked",
            &[],
            Role::Counter,
            Start::Constant(0.0),
        )?;
        Ok(self.node(place, op, x.value, shape, false))
    }

    /// A norm without statistics; `op` makes it from its parameters and the map.
    pub(super) fn channel_norm(
        &mut self,
        place: &Place,
        eps: f64,
        x: Current,
        op: impl FnOnce(ChannelNorm, ActShape) -> Result<Op, LayerError>,
    ) -> Result<Current, LayerError> {
        let shape = self.map(place, x)?;
        check_eps(place, eps)?;
        let c = [shape.c];
        let norm = ChannelNorm {
            weight: self.param(place, "weight", &c, Role::Trained, Start::Constant(1.0))?,
            bias: self.param(place, "bias", &c, Role::Trained, Start::Constant(0.0))?,
            eps,
        };
        Ok(self.node(place, op(norm, shape)?, x.value, shape, false))
    }

    pub(super) fn group_norm(
        &mut self,
        place: &Place,
        l: &spec::GroupNorm,
        x: Current,
    ) -> Result<Current, LayerError> {
        let groups = l.groups;
        self.channel_norm(place, l.eps, x, |norm, shape| {
            if groups == 0 || !shape.c.is_multiple_of(groups) {
                let c = shape.c;
                let problem = format!("channels ({c}) must be a multiple of groups ({groups})");
                return Err(place.error(problem));
            }
            Ok(Op::GroupNorm { norm, groups })
        })
    }

    /// The parameter has been announced by [`Lowering::sequence`].
    pub(super) fn layer_scale(
        &mut self,
        place: &Place,
        l: &spec::LayerScale,
        x: Current,
    ) -> Result<Current, LayerError> {
        if !l.init.is_finite() {
            return Err(place.error(format!("init must be finite, found {}", l.init)));
        }
        let shape = self.map(place, x)?;
        let weight = self.layout.set_shape(&place.name, vec![shape.c, 1, 1]);
        Ok(self.node(place, Op::LayerScale { weight }, x.value, shape, false))
    }
}

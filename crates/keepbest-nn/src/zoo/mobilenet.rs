//! MobileNets, with torchvision's parameter names and starting distributions: V2 (Sandler et al., arXiv 1801.04381) and
//! V3 small (Howard et al., arXiv 1905.02244).

use super::ZooOptions;
use super::build::{
    ConvNorm, batch_norm, block, conv_no_bias, divisible_by_8, dropout, flatten, global_avg_pool,
    head, relu, residual, squeeze_excite,
};
use crate::spec::{Layer, Unnamed};

fn relu6() -> Layer {
    Layer::Relu6(Unnamed::default())
}

fn hardswish() -> Layer {
    Layer::Hardswish(Unnamed::default())
}

pub(super) fn v2(options: &ZooOptions) -> Vec<Layer> {
    let conv = |out, kernel, stride, groups, function| ConvNorm {
        out,
        kernel,
        stride,
        groups,
        norm: (1e-5, 0.1),
        function,
    };
    let mut features = vec![conv(32, 3, 2, 1, Some(relu6())).named("0")];
    let mut channels = 32;
    // Expansion, output channels, blocks, stride of the first.
    for (expansion, out, count, first_stride) in [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ] {
        for number in 0..count {
            let stride = if number == 0 { first_stride } else { 1 };
            let hidden = channels * expansion;
            let mut layers = vec![];
            if expansion != 1 {
                layers.push(conv(hidden, 1, 1, 1, Some(relu6())).named("0"));
            }
            let at = layers.len();
            layers.push(conv(hidden, 3, stride, hidden, Some(relu6())).named(&at.to_string()));
            layers.push(conv_no_bias(&(at + 1).to_string(), out, 1, 1, 0));
            layers.push(batch_norm(&(at + 2).to_string()));
            let inner = block("conv", layers);
            let name = features.len().to_string();
            features.push(if stride == 1 && channels == out {
                residual(&name, vec![inner])
            } else {
                block(&name, vec![inner])
            });
            channels = out;
        }
    }
    features.push(conv(1280, 1, 1, 1, Some(relu6())).named("18"));
    vec![
        block("features", features),
        global_avg_pool(),
        flatten(),
        block("classifier", vec![dropout(0.2), head("1", options.classes)]),
    ]
}

pub(super) fn v3_small(options: &ZooOptions) -> Vec<Layer> {
    let conv = |out, kernel, stride, groups, function| ConvNorm {
        out,
        kernel,
        stride,
        groups,
        norm: (1e-3, 0.01),
        function,
    };
    let mut features = vec![conv(16, 3, 2, 1, Some(hardswish())).named("0")];
    let mut channels = 16;
    // Kernel, expanded channels, output channels, squeeze-and-excitation, hardswish, stride.
    for (kernel, hidden, out, squeeze, swish, stride) in [
        (3, 16, 16, true, false, 2),
        (3, 72, 24, false, false, 2),
        (3, 88, 24, false, false, 1),
        (5, 96, 40, true, true, 2),
        (5, 240, 40, true, true, 1),
        (5, 240, 40, true, true, 1),
        (5, 120, 48, true, true, 1),
        (5, 144, 48, true, true, 1),
        (5, 288, 96, true, true, 2),
        (5, 576, 96, true, true, 1),
        (5, 576, 96, true, true, 1),
    ] {
        let function = || Some(if swish { hardswish() } else { relu() });
        let mut layers = vec![];
        let mut push = |layer: &dyn Fn(&str) -> Layer| {
            let name = layers.len().to_string();
            layers.push(layer(&name));
        };
        if hidden != channels {
            push(&|name| conv(hidden, 1, 1, 1, function()).named(name));
        }
        push(&|name| conv(hidden, kernel, stride, hidden, function()).named(name));
        if squeeze {
            let squeezed = divisible_by_8(hidden as f64 / 4.0);
            let scale = || Layer::Hardsigmoid(Unnamed::default());
            push(&|name| squeeze_excite(name, hidden, squeezed, relu(), scale()));
        }
        push(&|name| conv(out, 1, 1, 1, None).named(name));
        let inner = block("block", layers);
        let name = features.len().to_string();
        features.push(if stride == 1 && channels == out {
            residual(&name, vec![inner])
        } else {
            block(&name, vec![inner])
        });
        channels = out;
    }
    features.push(conv(576, 1, 1, 1, Some(hardswish())).named("12"));
    let classifier = vec![
        head("0", 1024),
        hardswish(),
        dropout(0.2),
        head("3", options.classes),
    ];
    vec![
        block("features", features),
        global_avg_pool(),
        flatten(),
        block("classifier", classifier),
    ]
}

"""Layers of a spec that ``torch.nn`` has no module of. Parameter names and formulas are those of the implementation that each names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn


@fx.wrap
def same_padding(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Pixels that TensorFlow's ``SAME`` adds to a side, before and after together."""
    out = (size + stride - 1) // stride
    return max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)


class Padding(nn.Module):
    """Adds rows and columns: ``[top, bottom, left, right]`` of them, or TensorFlow's ``SAME`` for a window."""

    def __init__(self, sides: list[int] | None, window: list[int], mode: str = "constant", value: float = 0.0) -> None:
        super().__init__()
        self.same, self.sides, self.window, self.mode, self.value = sides is None, sides or [0, 0, 0, 0], window, mode, value

    def forward(self, x: Tensor) -> Tensor:
        top, bottom, left, right = self.sides
        if self.same:
            kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w = self.window
            rows = same_padding(x.shape[-2], kernel_h, stride_h, dilation_h)
            columns = same_padding(x.shape[-1], kernel_w, stride_w, dilation_w)
            top, left = rows // 2, columns // 2
            bottom, right = rows - top, columns - left
        if self.mode == "constant":
            return F.pad(x, [left, right, top, bottom], "constant", self.value)
        return F.pad(x, [left, right, top, bottom], self.mode)

    def extra_repr(self) -> str:
        return "same" if self.same else f"{self.sides}, {self.mode}"


class AvgPoolOfPixels(nn.Module):
    """Average pooling of a padded map, ``ones`` of whose values are pixels: the mean of those of each window."""

    def __init__(self, padding: Padding, kernel: list[int], stride: list[int], ceil_mode: bool) -> None:
        super().__init__()
        self.padding, self.kernel, self.stride, self.ceil_mode = padding, kernel, stride, ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        share = F.avg_pool2d(self.padding(torch.ones_like(x[:1, :1])), self.kernel, self.stride, 0, self.ceil_mode)
        return F.avg_pool2d(self.padding(x), self.kernel, self.stride, 0, self.ceil_mode) / share


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose weights have mean 0 and variance 1 over each output's fan-in (Qiao et al., arXiv 1903.10520): timm's
    ``StdConv2d``, and with ``gain`` ``ScaledStdConv2d`` (Brock et al., arXiv 2101.08692)."""

    def __init__(self, *args: object, eps: float, gain: bool, scale: float, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.eps, self.scale = eps, scale
        if gain:
            self.gain: nn.Parameter | None = nn.Parameter(self.weight.new_ones(self.out_channels, 1, 1, 1))
        else:
            self.register_parameter("gain", None)

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=[1, 2, 3], correction=0, keepdim=True)
        weight = (self.weight - mean) * torch.rsqrt(variance + self.eps)
        gain = self.gain
        weight = weight * self.scale if gain is None else weight * (gain * self.scale)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class StochasticDepth(nn.Module):
    """Whole images become zero at random in training (Huang et al., arXiv 1603.09382): torchvision's by rows."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        kept = torch.empty([x.shape[0]] + [1] * (x.dim() - 1), dtype=x.dtype, device=x.device).bernoulli_(1.0 - self.p)
        return x * kept.div_(1.0 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class RmsNorm2d(nn.Module):
    """Each pixel over the root of its channels' mean square, times ``weight`` (Zhang and Sennrich, arXiv 1910.07467)."""

    def __init__(self, channels: int, eps: float, affine: bool = True, device: str | None = None) -> None:
        super().__init__()
        self.eps = eps
        if affine:
            self.weight: nn.Parameter | None = nn.Parameter(torch.ones(channels, device=device))
        else:
            self.register_parameter("weight", None)

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.square().mean(1, keepdim=True) + self.eps)
        weight = self.weight
        return x if weight is None else x * weight.view(1, -1, 1, 1)


class GlobalResponseNorm(nn.Module):
    """``x + bias + weight * x * n``, n a channel's norm over the mean of all channels' (Woo et al., arXiv 2301.00808), as timm's."""

    def __init__(self, channels: int, eps: float, device: str | None = None) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(channels, device=device))
        self.bias = nn.Parameter(torch.zeros(channels, device=device))

    def forward(self, x: Tensor) -> Tensor:
        norm = x.norm(p=2, dim=(2, 3), keepdim=True)
        norm = norm / (norm.mean(dim=1, keepdim=True) + self.eps)
        return x + torch.addcmul(self.bias.view(1, -1, 1, 1), self.weight.view(1, -1, 1, 1), x * norm)


class ScalarAffine(nn.Module):
    """A trained factor and summand for all values, as in timm's ``StarReLU``."""

    def __init__(self, scale: bool, bias: bool, device: str | None = None) -> None:
        super().__init__()
        if scale:
            self.scale: nn.Parameter | None = nn.Parameter(torch.ones(1, device=device))
        else:
            self.register_parameter("scale", None)
        if bias:
            self.bias: nn.Parameter | None = nn.Parameter(torch.zeros(1, device=device))
        else:
            self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        scale, bias = self.scale, self.bias
        x = x if scale is None else x * scale
        return x if bias is None else x + bias


class Scale2d(nn.Module):
    """A trained factor and summand for each channel."""

    def __init__(self, channels: int, weight: bool, bias: bool, device: str | None = None) -> None:
        super().__init__()
        if weight:
            self.weight: nn.Parameter | None = nn.Parameter(torch.ones(channels, device=device))
        else:
            self.register_parameter("weight", None)
        if bias:
            self.bias: nn.Parameter | None = nn.Parameter(torch.zeros(channels, device=device))
        else:
            self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        x = x if weight is None else x * weight.view(1, -1, 1, 1)
        return x if bias is None else x + bias.view(1, -1, 1, 1)


class ChannelConv1d(nn.Module):
    """A convolution along the channels of each pixel (ECA, Wang et al., arXiv 1910.03151), as timm's ``EcaModule.conv``."""

    def __init__(self, kernel: int, bias: bool, circular: bool, device: str | None = None) -> None:
        super().__init__()
        self.padding, self.mode = (kernel - 1) // 2, "circular" if circular else "constant"
        self.weight = nn.Parameter(torch.empty(1, 1, kernel, device=device))
        if bias:
            self.bias: nn.Parameter | None = nn.Parameter(torch.empty(1, device=device))
        else:
            self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.permute(0, 2, 3, 1)
        lines = F.pad(pixels.reshape(-1, 1, x.shape[1]), [self.padding, self.padding], self.mode)
        return F.conv1d(lines, self.weight, self.bias).view(pixels.shape).permute(0, 3, 1, 2)


class BlurPool2d(nn.Module):
    """Every ``stride``-th pixel of a map that a binomial filter has smoothed (Zhang, arXiv 1904.11486), as timm's."""

    def __init__(self, channels: int, kernel: int, stride: int, mode: str, device: str | None = None) -> None:
        super().__init__()
        total = stride - 1 + (kernel - 1)
        self.padding, self.stride, self.mode = [total // 2] * 4, stride, mode
        self.channels = channels
        self.register_buffer("filter", torch.empty(channels, 1, kernel, kernel, device=device), persistent=False)
        self.filter: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, self.padding, self.mode), self.filter, stride=self.stride, groups=self.channels)


def binomial(filter: Tensor) -> None:
    """Fills the filter of a blur pooling."""
    line = torch.ones(1)
    for _ in range(filter.shape[-1] - 1):
        line = F.pad(line, [0, 1]) + F.pad(line, [1, 0])
    line = line / line.sum()
    filter.copy_((line[:, None] * line[None, :]).expand_as(filter))


class QuickGelu(nn.Module):
    """``x * sigmoid(1.702 x)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Clip(nn.Module):
    """Each value within ``low`` and ``high``, where they are given."""

    def __init__(self, low: float | None, high: float | None) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)

    def extra_repr(self) -> str:
        return f"{self.low}, {self.high}"


class Affine(nn.Module):
    """``scale * x + shift``, of numbers that are not trained."""

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.scale, self.shift = float(scale), float(shift)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class Power(nn.Module):
    """``x`` to the power of ``exponent``."""

    def __init__(self, exponent: float) -> None:
        super().__init__()
        self.exponent = float(exponent)

    def forward(self, x: Tensor) -> Tensor:
        return x.pow(self.exponent)


class ChannelMean(nn.Module):
    """The mean of each pixel's channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1, keepdim=True)


class ChannelMax(nn.Module):
    """The greatest of each pixel's channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(1, keepdim=True)

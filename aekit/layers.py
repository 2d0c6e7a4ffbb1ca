"""The blocks that models share."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from aekit import kernels

Sizes = tuple[int, ...]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "none": nn.Identity,
}
NAMES = {module: name for name, module in ACTIVATIONS.items()}


class Stack(nn.Sequential):
    """Layers in a row; on a GPU a layer and the activation after it are one kernel where that is quicker."""

    def forward(self, x: Tensor) -> Tensor:
        return _run(list(self), x)

    def error(self, x: Tensor, target: Tensor, kind: str) -> Tensor:
        """`sample_error` of what comes out, (B, C, ...), from the target: (B,) in float32.

        On a GPU a transposed convolution at the end and the error are one kernel, and what comes out is never written.
        """
        *body, layer, activation = self
        if not isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d) or type(activation) not in NAMES:
            return kernels.sample_error(self(x).float().flatten(1), target.flatten(1), kind=kind)
        x = _run(body, x)
        if not kernels.prefers("decode_error", x) or not _kind(layer, x):
            return kernels.sample_error(_run([layer, activation], x).float().flatten(1), target.flatten(1), kind=kind)
        x, weight, bias = _in_autocast(x, layer.weight, layer.bias)
        geometry = layer.stride, _numbers(layer.padding), layer.output_padding
        return kernels.decode_error(x, weight, bias, target, *geometry, NAMES[type(activation)], kind)


def _run(modules: list[nn.Module], x: Tensor) -> Tensor:
    while modules:
        layer, *modules = modules
        if not isinstance(layer, Layer) or not kernels.prefers(_kind(layer, x), x):
            x = layer(x)
            continue
        activation = NAMES.get(type(modules[0])) if modules else None
        if activation is not None:
            modules = modules[1:]
        x = _in_one(layer, x, activation or "none")
    return x


Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d


def _kind(layer: Layer, x: Tensor) -> str:
    """The layer as the table of kernels calls it; "" where no kernel can be better."""
    if isinstance(layer, nn.Linear):
        return "linear" if x.dim() == 2 else ""
    whole = layer.kernel_size if isinstance(layer, nn.Conv1d | nn.Conv2d) else (1,) * len(layer.kernel_size)
    if x.shape[2:] == whole:
        return ""  # a matrix product
    kernel = "conv_transpose" if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d) else "conv"
    return kernels.layer_name(kernel, layer.in_channels, layer.out_channels)


def _in_one(layer: Layer, x: Tensor, activation: str) -> Tensor:
    """The layer with its activation by its kernel."""
    x, weight, bias = _in_autocast(x, layer.weight, layer.bias)
    if isinstance(layer, nn.Linear):
        return kernels.linear(x, weight, bias, activation)
    stride, padding = layer.stride, _numbers(layer.padding)
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return kernels.conv(x, weight, bias, stride, padding, activation)
    return kernels.conv_transpose(x, weight, bias, stride, padding, layer.output_padding, activation)


def dense_stack(widths: Sequence[int], activation: str, last: str, dropout: float = 0.0) -> Stack:
    """Linear layers through `widths`, each followed by `activation` (and dropout), the last one by `last`."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        final = i == len(widths) - 2
        layers += [nn.Linear(n_in, n_out), ACTIVATIONS[last if final else activation]()]
        if dropout and not final:
            layers.append(nn.Dropout(dropout))
    return Stack(*layers)


def _in_autocast(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The arguments of a kernel, in autocast's type where that is on."""
    if not torch.is_autocast_enabled(x.device.type):
        return x, weight, bias
    dtype = torch.get_autocast_dtype(x.device.type)
    return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


class Conv2d(nn.Conv2d):
    """torch's convolution; a kernel over the whole map is the linear layer that it is.

    A picture of one channel lies in memory as both layouts say, and torch then takes the slow one for all that follows:
    it is told to be channels last.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 1:
            x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # strides (H W, 1, W, 1), no copy
        if x.shape[2:] == self.weight.shape[2:] and not any(_numbers(self.padding)):
            return nn.functional.linear(_flat(x), _flat(self.weight), self.bias)[:, :, None, None]
        return super().forward(x)


class ConvTranspose2d(nn.ConvTranspose2d):
    """The way back of `Conv2d`: from a single point a matrix product, on a CPU to one channel one and a sum."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        out: Tensor
        weight, stride, padding = self.weight, self.stride, _numbers(self.padding)
        if output_size is not None:
            return super().forward(x, output_size)
        if x.shape[2:] == (1, 1) and not any(padding) and not any(self.output_padding):
            out = (x.flatten(1) @ _flat(weight)).view(len(x), *self.kernel_size, -1).permute(0, 3, 1, 2)
        elif self.out_channels == 1 and not x.is_cuda and not torch._C._are_functorch_transforms_active():
            geometry = zip(x.shape[2:], stride, padding, self.kernel_size, self.output_padding, strict=True)
            size = tuple((n - 1) * s - 2 * p + k + o for n, s, p, k, o in geometry)
            out = _ToOneChannel.apply(x, weight.to(x.dtype), size, stride, padding)  # type: ignore[no-untyped-call]
        else:
            return super().forward(x, output_size)
        return out if self.bias is None else out + self.bias[:, None, None]


class _ToOneChannel(torch.autograd.Function):
    """Transposed convolution (B, C, H, W) -> (B, 1, *size): every tap of the kernel by one product, then laid over."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, size: Sizes, stride: Sizes, padding: Sizes) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = size, stride, padding
        values = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])  # (B H W, C), a view where x is channels last
        taps = (weight.flatten(1).T @ values.T).view(*weight.shape[2:], len(x), *x.shape[2:])  # (kh, kw, B, H, W)
        rows = _lay_over(taps.movedim(1, 0), 3, stride[1], padding[1], size[1])  # (kh, B, H, size[1])
        return _lay_over(rows, 1, stride[0], padding[0], size[0]).unsqueeze(1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        size, stride, padding = ctx.geometry
        kernel = weight.shape[2:]
        geometry = zip(size, x.shape[2:], stride, padding, kernel, strict=True)
        extra = [n - ((m - 1) * s - 2 * p + k) for n, m, s, p, k in geometry]
        one = [1] * len(kernel)
        needed = (*ctx.needs_input_grad[:2], False)
        grads = torch.ops.aten.convolution_backward(
            grad.to(x.dtype), x, weight, None, stride, padding, one, True, extra, 1, needed
        )  # has a derivative of its own
        return grads[0], grads[1], None, None, None


def _lay_over(taps: Tensor, axis: int, stride: int, padding: int, size: int) -> Tensor:
    """out[stride * w + k - padding] = sum of taps[k, w], where w runs along `axis` of each tap: phase by phase."""
    windows = taps.shape[axis + 1]
    blocks = math.ceil(size / stride)
    shape = list(taps.shape[1:])
    shape[axis : axis + 1] = [blocks, stride]
    out = taps.new_zeros(shape)
    for phase, target in enumerate(out.unbind(axis + 1)):
        for k, tap in enumerate(taps):
            shift, other = divmod(k - padding, stride)
            first, last = max(0, shift), min(blocks, windows + shift)
            if other == phase and first < last:
                target.narrow(axis, first, last - first).add_(tap.narrow(axis, first - shift, last - first))
    return out.flatten(axis, axis + 1).narrow(axis, 0, size)


def _numbers(padding: str | tuple[int, ...]) -> tuple[int, ...]:
    assert not isinstance(padding, str), "padding is given as numbers here"
    return padding


def _flat(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H W C), a view where x is channels last."""
    return x.permute(0, 2, 3, 1).flatten(1)


def conv(
    dims: int, c_in: int, c_out: int, kernel_size: int | tuple[int, ...], stride: int = 1, bias: bool = True
) -> nn.Module:
    """A convolution of 1 or 2 dimensions; an odd kernel keeps ceil(size / stride), one of a tuple takes no padding."""
    padding = kernel_size // 2 if isinstance(kernel_size, int) else 0
    kind = nn.Conv1d if dims == 1 else Conv2d
    return kind(c_in, c_out, kernel_size, stride=stride, padding=padding, bias=bias)  # type: ignore[arg-type]


def conv_transpose(
    c_in: int,
    c_out: int,
    kernel_size: int | tuple[int, ...],
    sizes: tuple[tuple[int, ...], tuple[int, ...]],
    stride: int = 1,
) -> nn.Module:
    """The way back of `conv`: from the small to the large of `sizes`, which decide the padding.

    Under an even kernel with stride 2 as many taps fall on each point, which leaves no chequered pattern.
    """
    small, large = sizes
    if isinstance(kernel_size, int):
        kernel = (kernel_size,) * len(small)
        padding = tuple((kernel_size - (kernel_size % 2 == 0 and b % 2 == 0)) // 2 for b in large)
    else:
        kernel, padding = kernel_size, (0,) * len(small)
    geometry = zip(small, large, kernel, padding, strict=True)
    extra = tuple(b - ((s - 1) * stride - 2 * p + k) for s, b, k, p in geometry)
    kind = nn.ConvTranspose1d if len(small) == 1 else ConvTranspose2d
    return kind(c_in, c_out, kernel, stride=stride, padding=padding, output_padding=extra)  # type: ignore[arg-type]


def strided_sizes(size: tuple[int, ...], stages: int) -> list[tuple[int, ...]]:
    """Sizes before and after each of `stages` stride-2 convolutions: [(28, 28), (14, 14), (7, 7)]."""
    sizes = [size]
    for _ in range(stages):
        sizes.append(tuple(math.ceil(s / 2) for s in sizes[-1]))
    return sizes


def count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def for_use(model: nn.Module) -> nn.Module:
    """The trained model as it is quickest: layouts as in training, normalisations within the layers before them."""
    for stack in [module for module in model.eval().modules() if isinstance(module, Stack)]:
        for i in reversed(range(len(stack) - 1)):
            layer, norm = stack[i], stack[i + 1]
            if isinstance(layer, nn.Conv1d | nn.Conv2d) and isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                stack[i] = fuse_conv_bn_eval(layer, norm)
                del stack[i + 1]
    return channels_last(model)


def wide(x: Tensor) -> Tensor:
    """x in float32, or in float64 where it is: narrower numbers are for products alone."""
    return x if x.dtype == torch.float64 else x.float()


def channels_last(model: nn.Module) -> nn.Module:
    """The model with its 2-D convolutions in channels-last layout, the faster one on CPUs and GPUs."""
    if any(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in model.modules()):
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


class Reshape(nn.Module):
    """(B, ...) -> (B, *shape)."""

    def __init__(self, *shape: int):
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), *self.shape)

"""The blocks that models share."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

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


def dense_stack(widths: Sequence[int], activation: str, last: str, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers through `widths`, each followed by `activation` (and dropout), the last one by `last`."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        final = i == len(widths) - 2
        layers += [nn.Linear(n_in, n_out), ACTIVATIONS[last if final else activation]()]
        if dropout and not final:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def conv(dims: int, c_in: int, c_out: int, kernel_size: int | tuple[int, ...], stride: int = 1) -> nn.Module:
    """A convolution of 1 or 2 dimensions; an odd kernel keeps ceil(size / stride), one of a tuple takes no padding."""
    padding = kernel_size // 2 if isinstance(kernel_size, int) else 0
    kind = nn.Conv1d if dims == 1 else nn.Conv2d
    return kind(c_in, c_out, kernel_size, stride=stride, padding=padding)  # type: ignore[arg-type]


def conv_transpose(
    c_in: int,
    c_out: int,
    kernel_size: int | tuple[int, ...],
    sizes: tuple[tuple[int, ...], tuple[int, ...]],
    stride: int = 1,
) -> nn.Module:
    """The way back of `conv`: from the small to the large of `sizes`, which decide the output padding."""
    small, large = sizes
    padding = kernel_size // 2 if isinstance(kernel_size, int) else 0
    kernel = (kernel_size,) * len(small) if isinstance(kernel_size, int) else kernel_size
    extra = tuple(b - ((s - 1) * stride - 2 * padding + k) for s, b, k in zip(small, large, kernel, strict=True))
    kind = nn.ConvTranspose1d if len(small) == 1 else nn.ConvTranspose2d
    return kind(c_in, c_out, kernel_size, stride=stride, padding=padding, output_padding=extra)  # type: ignore[arg-type]


def strided_sizes(size: tuple[int, ...], stages: int) -> list[tuple[int, ...]]:
    """Sizes before and after each of `stages` stride-2 convolutions: [(28, 28), (14, 14), (7, 7)]."""
    sizes = [size]
    for _ in range(stages):
        sizes.append(tuple(math.ceil(s / 2) for s in sizes[-1]))
    return sizes


def count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


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

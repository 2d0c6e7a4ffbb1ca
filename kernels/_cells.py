"""The cells of the benchmark: every kernel at its sizes and in every dtype, with the least work that each takes.

Bytes: inputs read and outputs written once; with backward, inputs read again, the outputs' gradients read and the
inputs' gradients written. Operations: those of the reference's products, 2 for each multiply-add. Both are counted on
tensors that are not there.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from aekit.kernels._registry import KERNELS, Inputs, Kernel

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Work:
    bytes: int
    operations: int


@dataclass(frozen=True)
class Cell:
    kernel: str
    variant: str
    shape: tuple[int, ...]
    dtype: str  # a name in DTYPES
    work: dict[str, Work]  # by direction: forward, and forward+backward

    def inputs(self, device: str, batch: int | None = None) -> Inputs:
        """The operation's arguments, of `batch` samples in place of its own number."""
        shape = self.shape if batch is None else (batch, *self.shape[1:])
        return KERNELS[self.kernel].make_inputs[self.variant](shape, dtype=DTYPES[self.dtype], device=device)

    @property
    def words(self) -> tuple[str, str, str, str]:
        """Kernel, variant, shape and dtype, as a table has them."""
        return self.kernel, self.variant, "x".join(map(str, self.shape)), self.dtype


def cells(names: Iterable[str]) -> list[Cell]:
    """The cells of these kernels; of those without products none is in TF32."""
    found = []
    for name in names:
        for variant, shape in KERNELS[name].bench:
            for dtype in DTYPES:
                inputs = KERNELS[name].make_inputs[variant](shape, dtype=DTYPES[dtype], device="meta")
                work = _work(KERNELS[name], inputs)
                if work["forward"].operations or dtype != "tf32":
                    found.append(Cell(name, variant, shape, dtype, work))
    return found


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Products of float32 in TF32 where `dtype` is tf32, else exactly."""
    switches: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = dtype == "tf32"
        yield
    finally:
        for switch, allowed in zip(switches, before, strict=True):
            switch.allow_tf32 = allowed


def leaves(inputs: Inputs) -> list[Tensor]:
    """The inputs that want a gradient."""
    return [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]


def as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _work(kernel: Kernel, inputs: Inputs) -> dict[str, Work]:
    with FlopCounterMode(display=False) as counter:
        outputs = as_tuple(kernel.reference(*inputs))
        forward = counter.get_total_flops()
        torch.autograd.grad(outputs, leaves(inputs), [torch.empty_like(y) for y in outputs])
    there = _bytes(x for x in inputs if isinstance(x, Tensor))
    out, back = _bytes(outputs), _bytes(leaves(inputs))
    return {
        "forward": Work(there + out, int(forward)),
        "forward+backward": Work(2 * there + 2 * out + back, int(counter.get_total_flops())),
    }


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(x.nbytes for x in tensors)

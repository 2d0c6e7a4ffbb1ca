"""Whether an operation is as exact as torch; tests ask it, and the benchmark gives no number to one that is not."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aekit.kernels._registry import Inputs, Kernel


def forward_backward(function: Callable[..., Any], inputs: Inputs) -> list[Tensor]:
    """The outputs, then the gradient of every input that wants one, for fixed gradients of the outputs."""
    leaves = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    outputs = function(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    # -1, -0.5, 0, 0.5, 1, -1, ...: the same number in every dtype
    grads = [((torch.arange(y.numel(), device=y.device) % 5 - 2) / 2).to(y.dtype).view_as(y) for y in outputs]
    return [y.detach() for y in (*outputs, *torch.autograd.grad(outputs, leaves, grads))]


def as_double(inputs: Inputs) -> Inputs:
    """The same inputs with float64 in place of every floating type."""

    def double(x: Any) -> Any:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return x
        return x.detach().double().requires_grad_(x.requires_grad)

    return [double(x) for x in inputs]


def strays(kernel: Kernel, inputs: Inputs, loss: float = 0.0) -> list[str]:
    """What is wrong with the outputs and gradients on these inputs, a line each; nothing where they are right.

    Right is to stray from float64 at most twice as far as torch does in the dtype of the inputs, and a millionth
    of the largest value besides: torch may be exact by luck. `loss` is a further share of the largest value: torch may
    be allowed to round, and not do so.
    """
    truth = forward_backward(kernel.reference, as_double(inputs))
    torch_own = forward_backward(kernel.reference, inputs)
    complaints = []
    for i, (exact, own, got) in enumerate(zip(truth, torch_own, forward_backward(kernel.op, inputs), strict=True)):
        if (got.shape, got.dtype) != (own.shape, own.dtype):
            complaints.append(f"result {i} is {got.shape} {got.dtype}, not {own.shape} {own.dtype}")
        elif got.numel():
            largest = float(exact.abs().max())
            allowed = 2 * worst(own, exact) + 1e-6 * max(1.0, largest) + loss * largest
            if not worst(got, exact) <= allowed:  # so written that a NaN is wrong
                complaints.append(f"result {i} strays by {worst(got, exact):.3g}, allowed is {allowed:.3g}")
    return complaints


def worst(got: Tensor, exact: Tensor) -> float:
    """The largest distance of any value."""
    return float((got.double() - exact).abs().max())

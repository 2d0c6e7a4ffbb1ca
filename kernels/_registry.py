"""The list of kernels, and the one place that decides whether Triton or the torch reference runs.

Nothing here catches a kernel that fails and carries on: the choice depends on the device and on `use` alone.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from torch import Tensor

try:
    import triton
    from triton import language as tl
except ModuleNotFoundError:  # there are wheels for Linux alone: elsewhere the references run
    triton, tl = None, SimpleNamespace(constexpr=object)  # the kernels' annotations name it

# multiply and add in one rounding, said aloud: Triton 3.10 changes its default, and scores are compared with thresholds
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

__all__ = [
    "CHOICES",
    "KERNELS",
    "Inputs",
    "Kernel",
    "chosen",
    "jit",
    "reference_gradients",
    "register_ops",
    "runs_triton",
    "tl",
    "triton_op",
    "use",
    "why_no_static",
    "why_no_triton",
    "wrap_triton",
]

CHOICES = ("auto", "triton", "torch")
ON_CPU = os.environ.get("TRITON_INTERPRET") == "1"  # Triton's interpreter: exact, and slow: for tests

F = TypeVar("F", bound=Callable[..., Any])
Inputs = list[Any]  # positional arguments of an operation, the tensors that want a gradient among them


@dataclass(frozen=True)
class Kernel:
    """One operation; tests and benchmarks run over these."""

    op: Callable[..., Any]  # what layers call; picks the path by runs_triton
    reference: Callable[..., Any]  # torch, defines the operation
    make_inputs: dict[str, Callable[..., Inputs]]  # variant -> arguments for (shape, dtype=, device=)
    shapes: tuple[tuple[int, ...], ...]  # for parity, each in every variant: odd sizes break masks
    bench: tuple[tuple[str, tuple[int, ...]], ...]  # (variant, shape) for speed: sizes that users have
    sample: tuple[int, ...] = (18,)  # shape without the batch, for what else is tested
    tiny: tuple[int, ...] = (3,)  # the same with few values, for derivatives


KERNELS: dict[str, Kernel] = {}

_choice = "auto"
_definitions: dict[str, tuple[Callable[..., Any], Callable[..., Any] | None, Callable[..., None] | None]] = {}
_ops: dict[str, Any] = {}


def why_no_triton() -> str:
    """The reason why Triton cannot run in this process, empty where it can."""
    if triton is None:
        return "triton is not installed"
    return "" if ON_CPU or torch.cuda.is_available() else "there is no CUDA device"


def why_no_static() -> str:
    """The reason why Triton cannot compile for a GPU that is not here, empty where it can."""
    if triton is None:
        return "triton is not installed; there are wheels of it for Linux alone"
    return "TRITON_INTERPRET is set, which shuts the compiler out" if triton.knobs.runtime.interpret else ""


def use(choice: str) -> None:
    """Set the path for this process: auto (Triton on CUDA), triton, or torch (the references everywhere).

    Raises ValueError for triton where it cannot run, and for any other word.
    """
    global _choice
    if choice not in CHOICES:
        raise ValueError(f"kernels: {choice!r} is none of {', '.join(CHOICES)}")
    if choice == "triton" and why_no_triton():
        raise ValueError(f"kernels: triton cannot run here: {why_no_triton()}; use auto or torch")
    if choice == "triton" and not _ops:
        register_ops()
    _choice = choice


def chosen() -> str:
    """What `use` set last."""
    return _choice


def runs_triton(x: Tensor) -> bool:
    """Whether an operation on x goes to Triton; on a CPU only under its interpreter and after use("triton").

    Inside vmap, jacrev and the like the references run: they know those, a launch does not.
    """
    if _choice == "torch" or triton is None or torch._C._are_functorch_transforms_active():
        return False
    return x.is_cuda or (_choice == "triton" and ON_CPU)


def jit(function: Callable[..., Any]) -> Any:
    """`triton.jit`, or the function as it is where Triton is not installed."""
    return function if triton is None else triton.jit(function)


def wrap_triton(function: Any) -> Any:
    """torch's own, which finds launches by this name; an interpreted function it may refuse goes as it is."""
    return torch.library.wrap_triton(function) if isinstance(function, triton.JITFunction) else function


def triton_op(
    name: str, backward: Callable[..., Any] | None = None, setup: Callable[..., None] | None = None
) -> Callable[[F], F]:
    """Decorator: makes the function torch's aekit::name; without a backward, differentiating it raises."""

    def define(function: F) -> F:
        def call(*args: Any) -> Any:
            if not _ops:
                register_ops()
            return _ops[name](*args)

        _definitions[name] = (function, backward, setup)
        return call  # type: ignore[return-value]

    return define


def register_ops() -> None:
    """Register every operation with torch: at the first launch, since it loads torch's compiler, a second or two.

    Before `torch.compile(fullgraph=True)` call this or use("triton"): registering cannot be traced.
    """
    for name, (function, backward, setup) in _definitions.items():
        op: Any = torch.library.triton_op(f"aekit::{name}", function, mutates_args=())
        if backward is not None:
            op.register_autograd(backward, setup_context=setup)
        _ops[name] = op


def reference_gradients(
    reference: Callable[..., Any], inputs: Sequence[Any], grads: Sequence[Tensor]
) -> list[Tensor | None]:
    """Gradients by way of the reference, one for each input, which can be differentiated again.

    A kernel's backward takes this path where grad mode is on, that is under `create_graph=True`.
    """
    with torch.enable_grad():
        # views: an input that is passed twice gets its two gradients apart
        own = [x.view_as(x) if isinstance(x, Tensor) and x.requires_grad else x for x in inputs]
        outputs = reference(*own)
    wanted = [i for i, x in enumerate(own) if isinstance(x, Tensor) and x.requires_grad]
    found = torch.autograd.grad(outputs, [own[i] for i in wanted], grads, create_graph=True, allow_unused=True)
    gradients: list[Tensor | None] = [None] * len(own)
    for i, gradient in zip(wanted, found, strict=True):
        gradients[i] = gradient
    return gradients

"""CUDA graphs: what a step or a batch launches is recorded once and replayed by one call.

A replay reads and writes the memory that the recording saw, so whatever changes between calls must lie in fixed
tensors: data, learning rates, seeds. Random generators are seeded between replays like between calls.

A recording that fails leaves allocator and generators unusable; so what cannot be recorded is found before, by watching
a call for what waits for the device.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WARM_UP = 3  # calls before the recording: kernels are compiled, optimisers make their state; the last one is watched
WAITS = {  # operations whose result, or whose shape, the host must wait for, or that send the host's numbers
    "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::unique_dim", "aten::_unique2",
    "aten::lift_fresh", "aten::is_nonzero", "aten::equal",
}  # fmt: skip


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the operations that make the host wait for the device, and so cannot be recorded."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition(".")[0]
        by_mask = name.startswith("aten::index") and any(
            isinstance(x, Tensor) and x.dtype == torch.bool for x in tree_leaves(args[1:])
        )
        if by_mask or name in WAITS:
            self.found.add(name)
        return func(*args, **(kwargs or {}))


class Graphed:
    """A function of tensors of one shape, its first calls on CUDA made as they are and the others replayed as a graph.

    Elsewhere, and where it waits for the device, each call is made as it is; `failure` then says in a line why. What it
    returned last is overwritten by the next call.
    """

    def __init__(
        self, function: Callable[..., Any], device: torch.device, generators: Sequence[torch.Generator] = ()
    ) -> None:
        self.function, self.generators = function, generators
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.graph: torch.cuda.CUDAGraph | None = None
        self.calls = 0
        self.failure = ""
        self.inputs: tuple[Tensor, ...] = ()
        self.result: Any = None

    def __call__(self, *inputs: Tensor) -> Any:
        self.calls += 1
        if self.stream is None or self.failure:
            return self.function(*inputs)
        if self.graph is None and self.calls <= WARM_UP:
            return self._aside(inputs, self.stream)
        if self.graph is None:
            self.graph = self._record(inputs, self.stream)
        for fixed, new in zip(self.inputs, inputs, strict=True):
            fixed.copy_(new)
        self.graph.replay()
        return self.result

    def _aside(self, inputs: tuple[Tensor, ...], stream: torch.cuda.Stream) -> Any:
        """A call on the stream that will record: autograd and the allocator remember where they ran."""
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            if self.calls < WARM_UP:
                result = self.function(*inputs)
            else:
                with Waits() as waits:
                    result = self.function(*inputs)
                if waits.found:
                    self.failure = f"it waits for the device in {', '.join(sorted(waits.found))}"
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _record(self, inputs: tuple[Tensor, ...], stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
        self.inputs = tuple(torch.zeros_like(x) for x in inputs)
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, stream=stream):
            self.result = self.function(*self.inputs)
        return graph

"""CUDA graphs: what a step or a batch launches is recorded once and replayed by one call.

A replay reads and writes the memory that the recording saw, so whatever changes between calls must lie in fixed
tensors: data, learning rates, seeds. Random generators are seeded between replays like between calls.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

WARM_UP = 3  # calls before the recording: kernels are compiled, optimisers make their state


class Graphed:
    """A function without arguments, its first calls on CUDA made as they are and the others replayed as a graph.

    Elsewhere, and where it cannot be recorded, each call is made as it is; `failure` then says in a line why. What it
    returned last is overwritten by the next call.
    """

    def __init__(
        self, function: Callable[[], Any], device: torch.device, generators: Sequence[torch.Generator] = ()
    ) -> None:
        self.function, self.generators = function, generators
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.graph: torch.cuda.CUDAGraph | None = None
        self.calls = 0
        self.failure = ""
        self.result: Any = None

    def __call__(self) -> Any:
        self.calls += 1
        if self.stream is None or self.failure:
            return self.function()
        if self.graph is None and self.calls <= WARM_UP:
            return self._aside(self.stream)
        if self.graph is None:
            self._record(self.stream)
        if self.graph is None:
            return self.function()
        self.graph.replay()
        return self.result

    def _aside(self, stream: torch.cuda.Stream) -> Any:
        """A call on the stream that will record: autograd and the allocator remember where they ran."""
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self.function()
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _record(self, stream: torch.cuda.Stream) -> None:
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        try:
            with torch.cuda.graph(graph, stream=stream):
                self.result = self.function()
        except RuntimeError as error:  # nothing ran while it was recorded, so nothing is lost
            self.failure = str(error).splitlines()[0]
        else:
            self.graph = graph

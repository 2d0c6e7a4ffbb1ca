"""Batches on their way to a GPU, and results on their way back, beside its computing; on a CPU nothing moves.

A copy runs by itself only from and to pinned memory. Two buffers take turns: one fills while the other is copied.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


class Upload:
    """Sends tensors to a device; what it is given may be overwritten at once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.turn = 0
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self.buffers = [torch.empty(0, dtype=torch.uint8)] * 2
            self.sent = [torch.cuda.Event(), torch.cuda.Event()]  # type: ignore[no-untyped-call]

    def __call__(self, x: Tensor) -> Tensor:
        """x on the device, for the stream that is current."""
        if self.device.type != "cuda":
            return x
        self.turn = 1 - self.turn
        self.sent[self.turn].synchronize()
        if self.buffers[self.turn].numel() < x.nbytes:
            self.buffers[self.turn] = torch.empty(x.nbytes, dtype=torch.uint8, pin_memory=True)
        pinned = self.buffers[self.turn][: x.nbytes].view(x.dtype).view(x.shape)
        pinned.copy_(x)
        now = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.stream):
            there = pinned.to(self.device, non_blocking=True)
            self.sent[self.turn].record()
        now.wait_stream(self.stream)
        there.record_stream(now)  # its memory is not given to another copy before the computation has read it
        return there


def fetch(tensors: Sequence[Tensor]) -> Callable[[], list[NDArray[Any]]]:
    """Starts to copy tensors to the host; what comes back waits for them and gives them as arrays."""
    if not any(x.is_cuda for x in tensors):
        return lambda: [x.numpy() for x in tensors]
    pinned = [torch.empty(x.shape, dtype=x.dtype, pin_memory=True) for x in tensors]
    for there, x in zip(pinned, tensors, strict=True):
        there.copy_(x, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()

    def wait() -> list[NDArray[Any]]:
        arrived.synchronize()
        return [x.numpy() for x in pinned]

    return wait

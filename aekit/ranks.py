"""Several processes that train one model, as torchrun starts them: which one this is, and what they exchange.

Each takes its share of every batch, and gradients are averaged over all of them, so that a step is that of one process
with the whole batch. Phases have losses that are no forward pass, and penalties differentiate twice, neither of which
DistributedDataParallel allows for; so gradients go through one all-reduce of their own.
"""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed.nn  # before any group: imported later it keeps hold of one, whose threads then abort at exit
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from aekit.errors import RankError, UsageError

LONGEST_WAIT = timedelta(days=7)  # for a process that lives; of one that has ended the others hear at once
T = TypeVar("T")


def number() -> int:
    """Of this process, from 0; the first one alone writes and tells."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Together with the other processes that torchrun started; nothing where it did not start several.

    On CUDA each process of a machine takes a device of its own. Where one of them ends torchrun stops the others, which
    is the same to them as Ctrl-C.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield
        return
    if not {"RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ):
        raise UsageError("WORLD_SIZE is set, but not by torchrun: start several processes by torchrun, or unset it")
    if device.type == "cuda":
        if int(os.environ["LOCAL_RANK"]) >= torch.cuda.device_count():
            raise UsageError(f"--nproc-per-node: this machine has {torch.cuda.device_count()} GPUs, one a process")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
        with _together():
            dist.barrier()  # nobody leaves while another one still listens
    finally:
        signal.signal(signal.SIGTERM, before)
        dist.destroy_process_group()


def _stop(signal_number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def share(rows: int) -> slice:
    """The part of a batch of so many rows that is this process's."""
    return slice(rows * number() // count(), rows * (number() + 1) // count())


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Over all processes, in place."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    _average(gradients)


def average_statistics(model: nn.Module) -> None:
    """Those that batch normalisation keeps, which each process took of its own rows."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    kept = [tensor for layer in layers for tensor in (layer.running_mean, layer.running_var) if tensor is not None]
    _average(kept)


def average_numbers(values: Mapping[str, float]) -> dict[str, float]:
    """Each of them over all processes, which give the same names in the same order."""
    if count() == 1 or not values:
        return dict(values)
    found = torch.tensor(list(values.values()), dtype=torch.float64)
    parts = merged({number(): found})
    means = torch.stack([parts[rank] for rank in range(count())]).mean(0)
    return dict(zip(values, means.tolist(), strict=True))


def merged(part: dict[int, T]) -> dict[int, T]:
    """The parts of all processes in one."""
    if count() == 1:
        return part
    parts: list[dict[int, T]] = [{}] * count()
    with _together():
        dist.all_gather_object(parts, part)
    return {key: value for each in parts for key, value in each.items()}


def spread(starts: Sequence[int], compute: Callable[[int], T]) -> list[T]:
    """What `compute` makes of each start, in order; each process computes some of them."""
    found = merged({start: compute(start) for start in starts[number() :: count()]})
    return [found[start] for start in starts]


def of_first(value: T) -> T:
    """What the first process has."""
    if count() == 1:
        return value
    values = [value]
    with _together():
        dist.broadcast_object_list(values, src=0)
    return values[0]


def start_alike(model: nn.Module) -> None:
    """Weights and buffers become those of the first process."""
    if count() > 1:
        with _together():
            for tensor in (*model.parameters(), *model.buffers()):
                dist.broadcast(tensor.data, src=0)


@torch.no_grad()
def _average(tensors: list[Tensor]) -> None:
    if count() == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    with _together():
        dist.all_reduce(flat)
    flat /= count()
    for tensor, new in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(new.view_as(tensor))


@contextmanager
def _together() -> Iterator[None]:
    """Raises RankError where another process is gone."""
    try:
        yield
    except RuntimeError as error:  # of gloo and of NCCL
        raise RankError(f"process {number()} of {count()}: another process of this run has ended") from error

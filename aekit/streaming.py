"""Training on rows that do not fit in memory: chunks in random order, shuffled in a buffer.

An epoch has an order of chunks of its own. Its rows one after the other, filled up from their own front to whole
batches, go through a buffer of a number of batches at a time. There S batches of B rows lie as B lanes of S rows, each
lane shuffled by itself, and a batch takes a row of each lane: its rows come from all over the buffer, neighbours in
the file never meet, and the share of each batch that is one process's (see `ranks`) is that of lanes side by side,
which is all that it reads. Batches are the same whatever the number of processes, a function of (seed, epoch).
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aekit import ranks
from aekit.batches import CHUNK_BYTES, Rows, Survey, chunk_rows, read_samples, survey, surveyed
from aekit.records import Kind, Record

READ_BYTES = 1 << 20  # of a chunk: enough that finding it costs little
LANE_CHUNKS = 4  # at least, of a lane, so that its rows come from several places
CGROUP = Path("/sys/fs/cgroup")


@dataclass
class Stream:
    """Rows of training that are read as they are needed; `rows` holds those of the buffer, always in the same tensors.

    `make(start, stop)` reads rows of the record and normalises them.
    """

    make: Callable[[int, int], Rows]
    kept: NDArray[np.int64]  # (K, 2), first row and that behind the last of each stretch of training rows
    row_bytes: int  # of a row as it is stored
    block: int  # rows that are best read together
    buffer: int  # rows of it, over all processes
    digest: str  # of all that is read
    device: torch.device
    rows: Rows = field(init=False)
    _next: Rows = field(init=False, repr=False)  # what the buffer holds next, on the CPU

    def __len__(self) -> int:
        return int((self.kept[:, 1] - self.kept[:, 0]).sum())

    def prepare(self, batch: int) -> None:
        """Makes room for this process's share of a buffer of batches of so many rows."""
        part = ranks.share(batch)
        count = self._steps(batch) * (part.stop - part.start)
        first = int(self.kept[0, 0])
        self._next = self.make(first, first + 1).room(count)
        self.rows = self._next.to(self.device).room(count)

    def batches(self, seed: int, batch: int, first: int, last: int) -> Iterator[tuple[Tensor, bool]]:
        """Places (B,) in `rows` of an epoch's batches from `first` to that before `last`; whether the buffer ends.

        Places of the rows that are other processes' mean nothing. While a buffer is trained on the next one is read.
        """
        steps, total = self._steps(batch), -(-len(self) // batch)
        order = _Order(*self._chunks(max(1, steps // LANE_CHUNKS)), seed)
        buffers = range(first // steps, -(-last // steps))
        stop = threading.Event()
        with ThreadPoolExecutor(1) as reader:
            try:
                for k in buffers:
                    count = min(steps, total - k * steps)
                    if k == buffers.start:
                        ready = reader.submit(self._read, order, k * steps, count, batch, stop)
                    self.rows.put(0, self._next.front(ready.result()))
                    if k + 1 in buffers:
                        more = min(steps, total - (k + 1) * steps)
                        ready = reader.submit(self._read, order, (k + 1) * steps, more, batch, stop)
                    places = self._places(count, batch, seed, k)
                    begin, end = max(first - k * steps, 0), min(last - k * steps, count)
                    for i in range(begin, end):
                        yield places[i], i == count - 1
            finally:
                stop.set()

    def _steps(self, batch: int) -> int:
        """Batches that go into the buffer."""
        return max(1, min(self.buffer, len(self)) // batch)

    def _chunks(self, lane: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(K, 2) Stretches of training rows and (K,) the chunk that each lies in.

        Chunks are of at most so many rows but for what the file packs together.
        """
        rows = max(1, min(READ_BYTES // max(1, self.row_bytes), lane))
        rows = max(1, rows // self.block) * self.block
        cuts = np.union1d(self.kept.ravel(), np.arange(0, self.kept[-1, 1], rows))
        starts = cuts[:-1]
        stretch = np.searchsorted(self.kept[:, 0], starts, side="right") - 1
        inside = (stretch >= 0) & (starts < self.kept[stretch, 1])
        return np.stack([starts[inside], cuts[1:][inside]], axis=1), starts[inside] // rows

    def _read(self, order: "_Order", step: int, count: int, batch: int, stop: threading.Event) -> int:
        """Reads this process's lanes of `count` batches from batch `step` on; returns how many rows they are."""
        part = ranks.share(batch)
        begin = step * batch
        wanted = order.stretches(begin + part.start * count, begin + part.stop * count)
        most = max(1, CHUNK_BYTES // max(1, self.row_bytes))
        for start, end, place in sorted(wanted):
            for at in range(start, end, most):
                if stop.is_set():
                    return 0
                self._next.put(place + at - start, self.make(at, min(at + most, end)))
        return (part.stop - part.start) * count

    def _places(self, count: int, batch: int, seed: int, buffer: int) -> Tensor:
        """(count, B) Places in `rows` of each batch's rows."""
        lanes = np.broadcast_to(np.arange(count), (batch, count))
        shuffled = np.random.default_rng([seed, buffer]).permuted(lanes, axis=1)
        part = ranks.share(batch)
        places = np.zeros((batch, count), np.int64)
        places[part] = shuffled[part] + np.arange(part.stop - part.start)[:, None] * count
        return torch.from_numpy(np.ascontiguousarray(places.T)).to(self.device)


class _Order:
    """Stretches (K, 2), chunks (K,) of them in random order, as one sequence of rows that begins again at its end."""

    def __init__(self, stretches: NDArray[np.int64], chunks: NDArray[np.int64], seed: int):
        place = np.random.default_rng(seed).permutation(int(chunks[-1]) + 1)
        self.rows = stretches[np.argsort(place[chunks], kind="stable")]
        self.ends = np.cumsum(self.rows[:, 1] - self.rows[:, 0])

    def stretches(self, first: int, last: int) -> list[tuple[int, int, int]]:
        """Where rows first..last of the sequence lie in the file: first row, that behind the last, place from 0."""
        found, at = [], first
        while at < last:
            turn = at % int(self.ends[-1])
            k = int(np.searchsorted(self.ends, turn, side="right"))
            start, stop = (int(row) for row in self.rows[k])
            start = stop - int(self.ends[k]) + turn
            count = min(stop - start, last - at)
            found.append((start, start + count, at - first))
            at += count
        return found


def look_through(record: Record, kind: Kind, progress: Callable[[int], None]) -> tuple[Survey, str]:
    """The survey of all rows and a digest of what they hold, target, picks and labels included.

    Each process reads its share. Raises AekitError at a NaN or infinity.
    """
    step = chunk_rows(record, multiple=record.block)
    found: dict[int, tuple[Survey, bytes]] = {}
    for start in range(0, len(record), step)[ranks.number() :: ranks.count()]:
        stop = min(start + step, len(record))
        raw, digest = read_samples(record, start, stop), hashlib.blake2b(digest_size=16)
        digest.update(np.ascontiguousarray(raw).data)
        if record.target is not None:
            digest.update(np.ascontiguousarray(read_samples(record.target, start, stop)).data)
        for beside in (record.picks, record.labels):
            if beside is not None:
                digest.update(beside[start:stop].tobytes())
        found[start] = survey(raw, kind, record.first + start), digest.digest()
        progress(stop)
    merged = ranks.merged(found)
    parts = [merged[start] for start in sorted(merged)]
    return surveyed([part for part, _ in parts]), hashlib.blake2b(b"".join(d for _, d in parts)).hexdigest()


def free_memory(device: torch.device) -> int:
    """Bytes that this process may take: of the machine, of its share of it, and of the device, whichever is least."""
    limits = [_machine_memory(), _share_memory()]
    if device.type == "cuda":
        limits.append(torch.cuda.mem_get_info(device)[0])
    of_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(limit for limit in limits if limit is not None) // of_processes


def _machine_memory() -> int:
    try:
        told = Path("/proc/meminfo").read_text().split("MemAvailable:")[1]
        return int(told.split()[0]) * 1024
    except (OSError, IndexError):  # other systems than Linux do not tell what is free
        return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2) if hasattr(os, "sysconf") else 8 << 30


def _share_memory() -> int | None:
    """What a container or a queue of a cluster leaves of its limit, files in the cache not counted."""
    try:
        own = Path("/proc/self/cgroup").read_text().split("0::/")[1].split("\n")[0]
        limit = int((CGROUP / own / "memory.max").read_text())
        stat = dict(line.split() for line in (CGROUP / own / "memory.stat").read_text().splitlines())
        return max(0, limit - int(stat["anon"]))
    except (OSError, ValueError, LookupError):  # no limit: "max"
        return None

"""Training on rows that do not fit in memory: chunks in random order, shuffled in a buffer.

An epoch has an order of chunks of its own. Its rows one after the other, filled up from their own front to whole
batches, go through a buffer of a number of batches at a time. There S batches of B rows lie as B lanes of S rows, each
lane shuffled by itself, and a batch takes a row of each lane: its rows come from all over the buffer, neighbours in
the file seldom meet, and the share of each batch that is one process's (see `ranks`) is that of lanes side by side,
which is all that it reads. Batches are the same whatever the number of processes, a function of (seed, epoch).
"""

import contextlib
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
from aekit.errors import AekitError
from aekit.records import Kind, Record

READ_BYTES = 1 << 20  # of a chunk: enough that finding it costs little
LANE_CHUNKS = 4  # at least, of a lane, so that its rows come from several places
CGROUP = Path("/sys/fs/cgroup")


@dataclass
class Stream:
    """Rows of training that are read as they are needed; `rows` holds those of the buffer, always in the same tensors.

    `make(rows)` reads rows of the file, rising numbers (n,), and normalises them.
    """

    make: Callable[[NDArray[np.int64]], Rows]
    count: int  # rows of the file
    held: NDArray[np.int64]  # those that are not trained on, rising
    row_bytes: int  # of a row as it is stored
    block: int  # rows that are best read together
    buffer: int  # rows of it, over all processes
    digest: str  # of all that is read
    device: torch.device
    rows: Rows = field(init=False)
    _next: Rows = field(init=False, repr=False)  # what the buffer holds next, on the CPU

    def __len__(self) -> int:
        return self.count - len(self.held)

    def prepare(self, batch: int) -> None:
        """Makes room for this process's share of a buffer of batches of so many rows."""
        part = ranks.share(batch)
        room = self._steps(batch) * (part.stop - part.start)
        one = self.make(np.zeros(1, np.int64))
        self._next, self.rows = one.room(room), one.to(self.device).room(room)

    def batches(self, seed: int, batch: int, first: int, last: int) -> Iterator[tuple[Tensor, bool]]:
        """Places (B,) in `rows` of an epoch's batches from `first` to that before `last`; whether the buffer ends.

        Places of the rows that are other processes' mean nothing. While a buffer is trained on the next one is read.
        """
        steps, total = self._steps(batch), -(-len(self) // batch)
        order = _Order(self, max(1, steps // LANE_CHUNKS), seed)
        buffers = range(first // steps, -(-last // steps))
        stop = threading.Event()

        def read(k: int) -> int:
            return self._read(order, k * steps, min(steps, total - k * steps), batch, stop)

        with ThreadPoolExecutor(1) as reader:
            try:
                ready = reader.submit(read, buffers.start)
                for k in buffers:
                    self.rows.put(0, self._next.front(ready.result()))
                    if k + 1 in buffers:
                        ready = reader.submit(read, k + 1)
                    count = min(steps, total - k * steps)
                    places = self._places(count, batch, seed, k)
                    for i in range(max(first - k * steps, 0), min(last - k * steps, count)):
                        yield places[i], i == count - 1
            finally:
                stop.set()

    def _steps(self, batch: int) -> int:
        """Batches that go into the buffer, so many that an epoch's buffers are alike."""
        total = -(-len(self) // batch)
        return -(-total // -(-total // max(1, min(self.buffer // batch, total))))

    def _read(self, order: "_Order", step: int, count: int, batch: int, stop: threading.Event) -> int:
        """Reads this process's lanes of `count` batches from batch `step` on; returns how many rows they are."""
        part = ranks.share(batch)
        begin = step * batch
        most = max(1, CHUNK_BYTES // max(1, self.row_bytes))
        for rows, place in order.stretches(begin + part.start * count, begin + part.stop * count):
            for at in range(0, len(rows), most):
                if stop.is_set():
                    return 0
                self._next.put(place + at, self.make(rows[at : at + most]))
        return int(part.stop - part.start) * count

    def _places(self, count: int, batch: int, seed: int, buffer: int) -> Tensor:
        """(count, B) Places in `rows` of each batch's rows."""
        lanes = np.broadcast_to(np.arange(count), (batch, count))
        shuffled = np.random.default_rng([seed, buffer]).permuted(lanes, axis=1)
        part = ranks.share(batch)
        places = np.zeros((batch, count), np.int64)
        places[part] = shuffled[part] + np.arange(part.stop - part.start)[:, None] * count
        return torch.from_numpy(np.ascontiguousarray(places.T)).to(self.device)


class _Order:
    """Chunks in random order, whose rows of training are one sequence that begins again at its end.

    Chunks have at most `most` rows, but for what the file packs together.
    """

    def __init__(self, stream: Stream, most: int, seed: int):
        rows = max(1, min(READ_BYTES // max(1, stream.row_bytes), most))
        self.size = max(1, rows // stream.block) * stream.block
        self.count, self.held = stream.count, stream.held
        starts = np.arange(0, self.count, self.size)
        held = np.diff(np.searchsorted(self.held, np.append(starts, self.count)))
        self.chunks = np.random.default_rng(seed).permutation(len(starts))
        self.ends = np.cumsum((np.minimum(self.size, self.count - starts) - held)[self.chunks])

    def stretches(self, first: int, last: int) -> Iterator[tuple[NDArray[np.int64], int]]:
        """Rows first..last of the sequence, some (n,) at a time as they lie in the file, and their place from 0."""
        found, at = [], first
        while at < last:
            turn = at % int(self.ends[-1])
            k = int(np.searchsorted(self.ends, turn, side="right"))
            left = int(self.ends[k]) - turn
            found.append((int(self.chunks[k]), left, min(left, last - at), at - first))
            at += min(left, last - at)
        for chunk, left, count, place in sorted(found):
            start, stop = chunk * self.size, min((chunk + 1) * self.size, self.count)
            held = self.held[slice(*np.searchsorted(self.held, (start, stop)))]
            rows = np.delete(np.arange(start, stop), held - start)
            yield rows[len(rows) - left :][:count], place


def look_through(record: Record, kind: Kind, progress: Callable[[int], None]) -> tuple[Survey, str]:
    """The survey of all rows and a digest of what they hold, target, picks and labels included.

    Each process reads its share. Raises AekitError at a NaN or infinity, in all of them.
    """
    step = chunk_rows(record, multiple=record.block)

    def seen(start: int) -> tuple[Survey, bytes] | AekitError:
        stop = min(start + step, len(record))
        try:
            raw, digest = read_samples(record, start, stop), hashlib.blake2b(digest_size=16)
            digest.update(np.ascontiguousarray(raw).data)
            found = survey(raw, kind, record.first + start)
            if record.target is not None:
                digest.update(np.ascontiguousarray(read_samples(record.target, start, stop)).data)
        except AekitError as error:
            return error
        for beside in (record.picks, record.labels):
            if beside is not None:
                digest.update(beside[start:stop].tobytes())
        progress(stop)
        return found, digest.digest()

    parts, digests = [], hashlib.blake2b()
    for part in ranks.spread(range(0, len(record), step), seen):
        if isinstance(part, AekitError):
            raise part
        parts.append(part[0])
        digests.update(part[1])
    return surveyed(parts), digests.hexdigest()


def free_memory(device: torch.device) -> int:
    """Bytes that this process may take: of the machine, of its share of it, and of the device, whichever is least."""
    limits = [memory // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) for memory in (_machine_memory(), *_shares())]
    if device.type == "cuda":
        limits.append(torch.cuda.mem_get_info(device)[0])
    return min(limits)


def _machine_memory() -> int:
    try:
        told = Path("/proc/meminfo").read_text().split("MemAvailable:")[1]
        return int(told.split()[0]) * 1024
    except (OSError, IndexError):  # other systems than Linux do not tell what is free
        return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2) if hasattr(os, "sysconf") else 8 << 30


def _shares() -> Iterator[int]:
    """What a container or the queue of a cluster leaves of its limits, files in the cache not counted."""
    with contextlib.suppress(OSError, LookupError):
        own = Path("/proc/self/cgroup").read_text().split("0::/")[1].split("\n")[0]
        inner = CGROUP / own.strip("/")
        for place in (inner, *inner.parents[: len(inner.parts) - len(CGROUP.parts)]):
            with contextlib.suppress(OSError, ValueError, LookupError):  # no limit: "max"
                limit = int((place / "memory.max").read_text())
                stat = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
                yield max(0, limit - int(stat["anon"]))

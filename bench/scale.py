"""How seconds and memory grow with the number of rows, by the verbs as a user types them -> results/scale.csv.

    python bench/scale.py               # 10,000 to 1,000,000 rows of 140 points; ten minutes on one core
    python bench/scale.py --most 10000000
    python bench/scale.py ray           # 2,000,000 rows by one process, by Ray, and by Ray with a worker killed
    python bench/scale.py merge         # memory of the merge of scores, of 10,000 rows and of 5,000,000

Rows are copies of ECG5000's with noise, as .npy of float32. `seconds a row` and `seconds to start` are those of the
straight line through the smallest and the largest number of rows. Shards: the same rows as two jobs, one after the
other, and their merge. Without a model: `score` learns from the file first. Ray takes all cores of the machine, a
worker for each, and four shards a worker; the killed one gets SIGKILL when half of the parts are there. The merge alone
gets parts of 10,000 rows, repeated. Rows of other data stay in the table.
"""

import argparse
import contextlib
import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import RESULTS, Row, row, rows_of
from numpy.lib.format import open_memmap

LEAST, MOST = 10_000, 1_000_000
OF_RAY, OF_MERGE = 2_000_000, 5_000_000
EACH = 4  # shards of a worker
EPOCHS = 1
VERBS = {"denoise": "o.npy", "score": "o.csv", "embed": "z.npy"}
RECIPE = "conv1d"


def write_rows(path: Path, count: int) -> None:
    beats = rows_of("ecg5000", "test").astype(np.float32).reshape(-1, 140)
    rng = np.random.default_rng(0)
    out = open_memmap(path, "w+", np.float32, (count, 140))
    for start in range(0, count, 50_000):
        size = min(50_000, count - start)
        out[start : start + size] = beats[rng.integers(0, len(beats), size)]
        out[start : start + size] += 0.05 * rng.standard_normal((size, 140), np.float32)
    out.flush()


def run(folder: Path, *words: str, watch: Callable[[int], None] | None = None) -> tuple[float, float]:
    """Seconds and peak memory in GiB of `aekit WORDS`; `watch` is called with its process again and again meanwhile."""
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.execv(sys.executable, [sys.executable, "-m", "aekit", *words, "--quiet"])
    while watch and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        watch(pid)
        time.sleep(0.2)
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, words
    return time.perf_counter() - started, usage.ru_maxrss / 2**20


def measured(folder: Path, count: int, most: int, rows: list[Row]) -> dict[str, float]:
    """Seconds of each verb on so many rows."""
    data = f"x{count}.npy"
    write_rows(folder / data, count)
    what = f"{count:,} rows of 140"
    size = (folder / data).stat().st_size / 1e9
    seconds = {}
    for verb, out in VERBS.items():
        maps = ("--maps", "none") if verb == "embed" else ()
        seconds[verb], peak = run(folder, verb, data, "--model", "model", "-o", out, "--force", *maps)
        rows.append(row(what, verb, "seconds", seconds[verb], note=f"{size:.3g} GB"))
        rows.append(row(what, verb, "peak memory, GiB", peak))
    parts = [
        run(folder, "score", data, "--model", "model", "-o", f"s{count}.csv", "--shard", f"{i}/2")[0] for i in (1, 2)
    ]
    merged = run(folder, "merge", f"s{count}.csv")
    rows.append(row(what, "score, 2 shards", "seconds of the longer", max(parts)))
    rows.append(row(what, "score, 2 shards", "seconds of the merge", merged[0]))
    rows.append(row(what, "score, 2 shards", "peak memory of the merge, GiB", merged[1]))
    assert (folder / f"s{count}.csv").read_bytes() == (folder / "o.csv").read_bytes(), "the same bytes"
    if count <= 100_000:  # an epoch of more takes minutes
        words = ("train", RECIPE, "--data", data, "--epochs", str(EPOCHS), "-o", f"run{count}")
        seconds["train"], peak = run(folder, *words)
        rows.append(row(what, f"train, {EPOCHS} epoch", "seconds", seconds["train"]))
        rows.append(row(what, f"train, {EPOCHS} epoch", "peak memory, GiB", peak))
    if count == most:
        _alone(folder, data, f"{what}, without a model", rows)
    for name in (data, "o.npy", "o.csv", "z.npy"):
        (folder / name).unlink()
    return seconds


def without_a_model(folder: Path, rows: list[Row]) -> None:
    """A table of 10,000 rows of 20 columns, and ECG5000."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(10_000, 4)) @ rng.normal(size=(4, 20)) + 0.3 * rng.normal(size=(10_000, 20))
    names = ",".join(f"v{i}" for i in range(20))
    np.savetxt(folder / "table.csv", table, "%.6g", ",", header=names, comments="")
    _alone(folder, "table.csv", "10,000 rows of 20 columns, without a model", rows, "<= 30")
    _alone(folder, "ecg5000", "ecg5000, without a model", rows, "<= 60")


def _alone(folder: Path, data: str, what: str, rows: list[Row], target: str = "") -> None:
    seconds, peak = run(folder, "score", data, "--fresh", "-o", "alone.csv", "--force")
    rows.append(row(what, "score", "seconds", seconds, target))
    rows.append(row(what, "score", "peak memory, GiB", peak))


def workers_of(process: int) -> list[int]:
    """The processes below one that do shards for Ray."""
    told = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(maxsplit=2) for line in told.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, _ in lines}
    found = []
    for worker in [int(pid) for pid, _, name in lines if name.startswith(("ray::MapWorker", "ray::_MapWorker"))]:
        at = worker
        while at not in (0, process):
            at = parents.get(at, 0)
        found += [worker] if at else []
    return found


def by_ray(folder: Path, data: str, is_killed: bool) -> tuple[float, float, float]:
    """Seconds, and peak memory in GiB of the first process and of the largest worker."""
    peaks: dict[int, int] = {}
    killed: list[int] = []
    workers = os.cpu_count() or 1

    def watch(process: int) -> None:
        there = workers_of(process)
        for worker in there:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                told = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{worker}/status").read_text())
                peaks[worker] = int(told[1]) if told else 0
        parts = len(list(folder.glob("ray.csv.parts/*.json")))
        if is_killed and there and not killed and parts >= EACH * workers // 2:
            os.kill(there[0], signal.SIGKILL)
            killed.append(there[0])

    words = ("score", data, "--model", "model", "-o", "ray.csv", "--force", "--engine", "ray")
    seconds, first = run(folder, *words, watch=watch)
    assert len(peaks) == workers + is_killed == workers + len(killed), "so many workers"
    return seconds, first, max(peaks.values()) / 2**20


def beside_ray(folder: Path, count: int, rows: list[Row]) -> None:
    write_rows(folder / "x.npy", count)
    what, workers = f"{count:,} rows of 140", os.cpu_count()
    seconds, peak = run(folder, "score", "x.npy", "--model", "model", "-o", "one.csv", "--force")
    told = f"sha256 of the output {checksum(folder / 'one.csv')}"
    rows.append(row(what, "score, one process", "seconds", seconds, note=told))
    rows.append(row(what, "score, one process", "peak memory, GiB", peak))
    for is_killed in (False, True):
        who = f"score, Ray, {workers} workers{', one killed' if is_killed else ''}"
        seconds, first, worker = by_ray(folder, "x.npy", is_killed)
        told = f"sha256 of the output {checksum(folder / 'ray.csv')}"
        rows.append(row(what, who, "seconds", seconds, note=told))
        rows.append(row(what, who, "peak memory of the first process, GiB", first))
        rows.append(row(what, who, "peak memory of a worker, GiB", worker))
        assert (folder / "ray.csv").read_bytes() == (folder / "one.csv").read_bytes(), "the same bytes"


def merge_alone(folder: Path, rows: list[Row]) -> None:
    write_rows(folder / "x.npy", LEAST)
    for number in (1, 2):
        run(folder, "score", "x.npy", "--model", "model", "-o", "s.csv", "--shard", f"{number}/2")
    seconds, least = run(folder, "merge", "s.csv")
    for number in (1, 2):
        repeat(folder / f"s.csv.parts/{number}-of-2.npz", OF_MERGE)
    seconds, peak = run(folder, "merge", "s.csv", "--force")
    what = f"{OF_MERGE:,} scores"
    rows.append(row(what, "merge", "seconds", seconds))
    rows.append(row(what, "merge", "peak memory, GiB", peak))
    rows.append(row(what, "merge", "bytes a row", (peak - least) * 2**30 / (OF_MERGE - LEAST), note="above 10,000"))


def repeat(part: Path, count: int) -> None:
    """Makes a part of LEAST rows, cut in two, one of `count`."""
    manifest = json.loads(part.with_suffix(".json").read_text())
    times = count // LEAST
    start, stop = manifest["start"] * times, manifest["stop"] * times
    with np.load(part) as file:
        values = dict(file)
    values |= {"score": np.tile(values["score"], times), "column row": np.arange(start, stop)}
    np.savez(part, **values)  # type: ignore[arg-type]
    manifest |= {"start": start, "stop": stop, "sha256": hashlib.sha256(part.read_bytes()).hexdigest()}
    manifest["job"] |= {"rows": count, "shape": [count]}
    part.with_suffix(".json").write_text(json.dumps(manifest))


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def keep(rows: list[Row]) -> None:
    """In place of those of the same data."""
    path, new = RESULTS / "scale.csv", {line["data"] for line in rows}
    with path.open(newline="") as file:
        old: list[Row] = [dict(line) for line in csv.DictReader(file) if line["data"] not in new]
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(old + rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["verbs", "ray", "merge"], default="verbs")
    parser.add_argument("--most", type=int, default=MOST, metavar="ROWS")
    asked = parser.parse_args()
    most = asked.most
    if most < 10 * LEAST:
        parser.error(f"--most: at least {10 * LEAST}")
    counts = [LEAST * 10**i for i in range(9) if LEAST * 10**i <= most]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, "train", RECIPE, "--data", "ecg5000", "--epochs", "5", "-o", "model")
        if asked.what != "verbs":
            beside_ray(folder, OF_RAY, rows) if asked.what == "ray" else merge_alone(folder, rows)
            keep(rows)
            return
        without_a_model(folder, rows)
        found = {count: measured(folder, count, counts[-1], rows) for count in counts}
    for verb in found[LEAST]:
        ends = sorted(count for count in counts if verb in found[count])
        each = (found[ends[-1]][verb] - found[ends[0]][verb]) / (ends[-1] - ends[0])
        rows.append(row("rows of 140", verb, "seconds a row", each, note=f"{ends[0]:,} to {ends[-1]:,} rows"))
        rows.append(row("rows of 140", verb, "seconds to start", found[ends[0]][verb] - each * ends[0]))
    keep(rows)


if __name__ == "__main__":
    main()

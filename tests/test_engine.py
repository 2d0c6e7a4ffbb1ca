"""--engine ray: the same bytes by several workers, also where one of them is killed; needs the extra `ray`."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from program import QUICK, aekit, fails, waves

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("default")  # Ray leaves sockets and warnings of its own


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    np.save(folder / "x.npy", waves(600))
    aekit(folder, "train", "conv1d", "--data", "x.npy", "-o", "model", *QUICK)
    return folder


def workers() -> list[int]:
    """Those of the Ray that this process started."""
    mine = _children(os.getpid(), "raylet")
    return [pid for raylet in mine for pid in _children(raylet, "ray::(_)?MapWorker")]


def _children(pid: int, name: str) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid), "-f", name], capture_output=True, text=True)
    return [int(each) for each in found.stdout.split()]


def test_ray_is_refused_beside_what_takes_all_rows(place: Path) -> None:
    for words in (("--engine", "ray", "--shard", "1/2"), ("--engine", "ray", "--map", "m.npy"), ("--engine", "dask")):
        assert words[-2] in aekit(place, "score", "x.npy", "--model", "model", *words, code=2).stderr
    fails(place, "score", "x.npy", "--engine", "ray", "--report", "r.html", says="--report", code=2)
    fails(place, "score", "none.npy", "--engine", "ray", says="no such file")


@pytest.fixture
def killer(place: Path) -> Iterator[list[int]]:
    """Kills one worker as soon as a part is there; tells which."""
    killed: list[int] = []
    is_over = threading.Event()

    def kill() -> None:
        while not is_over.wait(0.2):
            for pid in workers() if list(place.glob("ray.csv.parts/*.json")) else []:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return

    thread = threading.Thread(target=kill)
    thread.start()
    yield killed
    is_over.set()
    thread.join()


@pytest.mark.slow
def test_two_workers_give_the_same_bytes_though_one_is_killed(place: Path, killer: list[int]) -> None:
    aekit(place, "score", "x.npy", "--model", "model", "-o", "one.csv")
    done = aekit(place, "score", "x.npy", "--model", "model", "-o", "ray.csv", "--engine", "ray")
    assert "workers of Ray" in done.stderr
    assert (place / "ray.csv").read_bytes() == (place / "one.csv").read_bytes()
    assert not (place / "ray.csv.parts").exists()
    assert killed_one(killer)


def killed_one(killer: list[int]) -> bool:
    deadline = time.monotonic() + 1
    while not killer and time.monotonic() < deadline:
        time.sleep(0.05)
    return len(killer) == 1


@pytest.mark.slow
def test_what_a_worker_raises_is_told_in_a_line(place: Path) -> None:
    aekit(place, "embed", "x.npy", "--model", "model", "-o", "z.npy", "--shard", "1/8")
    np.save(place / "y.npy", waves(600, seed=5))
    (place / "z.npy.parts" / ".2-of-8.npy.0123abcd.npy").write_bytes(b"of a worker that was killed while it wrote")
    done = aekit(place, "embed", "y.npy", "--model", "model", "-o", "z.npy", "--engine", "ray", "--quiet", code=1)
    assert len(done.stderr.strip().splitlines()) == 1
    assert "another input" in done.stderr
    assert not list((place / "z.npy.parts").glob(".*"))
    assert (place / "z.npy.parts" / "1-of-8.npy").exists()

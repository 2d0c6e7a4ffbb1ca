"""bench/fuzz.py: a seeded slice of it finds nothing, and it finds each kind of fault that is planted."""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("resource")
for extra in ("obspy", "wfdb", "astropy"):
    pytest.importorskip(extra)
sys.path.append(str(Path(__file__).parent.parent / "bench"))  # scripts, no package

import fuzz  # noqa: E402

SLICE = 40  # mutants of each format


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_mutants_are_read_or_refused_in_one_line(name: str) -> None:
    tried = fuzz.fuzz(name, SLICE, seed=1)
    assert tried.failures == []
    assert 0 < tried.refused < SLICE  # some are read, some are not
    assert tried.lines or not fuzz.TARGETS[name].code


def test_mutants_come_again_and_differ() -> None:
    first = [fuzz.mutant("npy", 3, number) for number in range(30)]
    assert first == [fuzz.mutant("npy", 3, number) for number in range(30)]
    good = [case.files for case in fuzz.seeds_of("npy")]
    assert sum(case.files not in good for case in first) > 25
    assert len({str(case.files) for case in first}) > 25


def raises(path: Path) -> None:
    raise KeyError(path.name)


def speaks_in_lines(path: Path) -> None:
    raise fuzz.AekitError(f"{path}: one\ntwo")


def names_no_file(path: Path) -> None:
    raise fuzz.AekitError("something is wrong; mend it")


def crashes(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def runs_on(path: Path) -> None:
    while True:
        pass


def sleeps(path: Path) -> None:
    time.sleep(60)


def takes_memory(path: Path) -> None:
    try:
        bytes(2 << 30)
    except MemoryError as error:
        raise fuzz.AekitError(f"{path}: does not fit") from error


def runs_text(path: Path) -> None:
    eval("1 + 1")  # noqa: S307 (which is to be found)


def writes(path: Path) -> None:
    (path.parent.parent / "out").write_text("")


def reads_elsewhere(path: Path) -> None:
    Path("/etc/hostname").read_bytes()


def starts_a_program(path: Path) -> None:
    os.system("true")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (raises, "KeyError"),
        (speaks_in_lines, "words"),
        (names_no_file, "words"),
        (crashes, "crash"),
        (runs_on, "seconds"),
        (sleeps, "hang"),
        (takes_memory, "memory"),
        (runs_text, "execution"),
        (writes, "execution"),
        (reads_elsewhere, "execution"),
        (starts_a_program, "execution"),
    ],
)
def test_a_planted_fault_is_found(fault, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good = [list(case.files.values()) for case in fuzz.seeds_of("npy")]

    def use(path: Path) -> None:
        if [path.read_bytes()] not in good:
            fault(path)

    monkeypatch.setitem(fuzz.TARGETS, "npy", replace(fuzz.TARGETS["npy"], use=use))
    monkeypatch.setattr(fuzz, "SECONDS", 0.1)
    monkeypatch.setattr(fuzz, "WAIT", 1 if fault is sleeps else 60)
    (failure,) = fuzz.fuzz("npy", 1, seed=1).failures
    assert failure.kind == kind


def test_the_table_keeps_a_row_per_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "RESULTS", tmp_path / "fuzz.csv")
    for name, count in (("wav", 10), ("npy", 20), ("wav", 30)):
        fuzz.write(fuzz.row(name, fuzz.Tried(count)))
    lines = (tmp_path / "fuzz.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in lines[1:]] == [["npy", "20", "0"], ["wav", "30", "0"]]

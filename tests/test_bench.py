"""aekit bench: figures of every kernel, none of a wrong one, and what a GPU would need; how quick is not judged."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from program import aekit, fails, table

from aekit.kernels import KERNELS, _bench, _registry

ONE_SHAPE = """
from dataclasses import replace
from aekit.cli import main
from aekit.kernels import KERNELS
KERNELS["linear"] = replace(KERNELS["linear"], bench=(("sigmoid to 128", (256, 784)),))
main()
"""  # compiling takes long the first time
KEYS = ("kernel", "variant", "shape", "dtype", "direction")


@pytest.fixture(autouse=True)
def _few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bench, "REPEAT_SECONDS", 0.0)


@pytest.fixture
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)


@pytest.mark.usefixtures("_no_compiler")
def test_every_kernel_has_figures_on_a_cpu(tmp_path: Path) -> None:
    done = aekit(tmp_path, "bench", "--device", "cpu", "--json")
    assert "compiled is left out: torch.compile needs a C++ compiler" in done.stderr
    assert "triton is left out" in done.stderr
    figures = json.loads(done.stdout)
    assert figures["copy_gb_per_s"] > 0
    assert figures["failed"] == []
    rows = figures["rows"]
    assert {row["kernel"] for row in rows} == set(KERNELS)
    assert {row["provider"] for row in rows} == {"eager"}
    assert {row["dtype"] for row in rows} == {"float32", "bfloat16"}
    assert len({tuple(row[key] for key in KEYS) for row in rows}) == len(rows)
    for row in rows:
        assert 0 < row["p20_ms"] <= row["p50_ms"] <= row["p80_ms"]
        moved = row["gb_per_s"] * row["p50_ms"] * 1e6
        assert 0 < moved <= 64 * 2**20
        assert row["share_of_copy"] == pytest.approx(row["gb_per_s"] / figures["copy_gb_per_s"])
        if row["kernel"] in ("reparameterize", "sample_error"):
            assert row["tflop_per_s"] is row["share_of_product"] is None
        else:
            product = figures["product_tflop_per_s"][row["dtype"]]
            assert row["share_of_product"] == pytest.approx(row["tflop_per_s"] / product)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler uses what torch deprecates
@pytest.mark.skipif("compiled" in _bench.left_out("cpu"), reason="torch.compile needs a C++ compiler")
def test_rows_go_to_a_table_and_to_a_file_that_is_not_overwritten(tmp_path: Path) -> None:
    words = ("bench", "--device", "cpu", "--kernel", "sample_error", "-o", "rows.csv")
    shown = aekit(tmp_path, *words, "--quiet")
    assert shown.stderr == ""
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert max(map(len, shown.stdout.splitlines())) <= 120
    rows = table(tmp_path / "rows.csv")
    assert {row["provider"] for row in rows} == {"eager", "compiled"}
    assert {row["direction"] for row in rows} == {"forward", "forward+backward"}
    shown_rows = [line for line in lines if line[:1] in (["float32"], ["bfloat16"])]
    for line, row in zip(shown_rows, rows, strict=True):
        assert line[:3] == [row["dtype"], row["direction"], row["provider"]]
        assert float(line[4]) == pytest.approx(float(row["p50_ms"]), abs=1e-4)
    fails(tmp_path, *words, says="rows.csv: exists already")
    fails(tmp_path, "bench", "-o", "rows.txt", says="name a .csv file")


@pytest.mark.usefixtures("_no_compiler")
def test_a_kernel_that_fails_parity_has_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = KERNELS["sample_error"]
    wrong = replace(right, op=lambda *inputs: 1.001 * right.reference(*inputs))
    monkeypatch.setitem(KERNELS, "sample_error", wrong)
    words = ("bench", "--device", "cpu", "--quiet", "--kernel", "sample_error", "--kernel", "linear")
    done = aekit(tmp_path, *words, "--json", code=1)
    figures = json.loads(done.stdout)
    assert {row["kernel"] for row in figures["rows"]} == {"linear"}
    assert len(figures["failed"]) == 2
    assert figures["failed"][0].startswith("sample_error mse 256x784 float32: result 0 strays by")
    assert len(done.stderr.splitlines()) == 1
    assert "2 of 6 cells fail parity" in done.stderr
    done = aekit(tmp_path, *words, "-o", "-", code=1)
    assert all(line.startswith(("kernel,", "linear,")) for line in done.stdout.splitlines())


def test_static_tells_what_a_gpu_that_is_not_here_would_need(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    words = ("bench", "--static", "--kernel", "linear", "--json", "-o", "static.csv")
    done = subprocess.run(
        [sys.executable, "-P", "-c", ONE_SHAPE, *words], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["kernel"] for row in table(tmp_path / "static.csv")] == ["linear"] * len(rows)
    assert all(row["registers"] > 0 and row["spilled_bytes"] == 0 for row in rows)
    assert all((row["wgmma"] > 0) == (row["dtype"] != "float32") for row in rows)
    cell = {(row["dtype"], row["direction"]): row for row in rows}
    inputs, output = 4 * (256 * 784 + 128 * 784 + 128), 4 * 256 * 128
    forward, both = cell["float32", "forward"], cell["float32", "forward+backward"]
    assert forward["bytes"] == inputs + output
    assert both["bytes"] == 3 * inputs + 2 * output  # read twice, gradients written; the output and its gradient
    assert forward["operations"] == 2 * 256 * 784 * 128
    assert both["operations"] == 3 * forward["operations"]  # two products more: to x, and to the weight
    assert forward["functions"] == 1
    assert (forward["floor_us"], forward["bound"]) == (pytest.approx(2 * 256 * 784 * 128 / 67e6), "products")
    tf32 = cell["tf32", "forward"]
    assert (tf32["floor_us"], tf32["bound"]) == (pytest.approx((inputs + output) / 4.8e6), "bytes")
    assert cell["bfloat16", "forward"]["bytes"] == (inputs + output) // 2


def test_static_says_where_nothing_can_be_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    fails(tmp_path, "bench", "--static", says="--static: TRITON_INTERPRET is set")
    monkeypatch.setattr(_registry, "triton", None)
    fails(tmp_path, "bench", "--static", says="--static: triton is not installed")


def test_wrong_names_are_told_in_one_line(tmp_path: Path) -> None:
    fails(tmp_path, "bench", "--kernel", "convolution", says="'convolution' is none of conv, ", code=2)
    fails(tmp_path, "bench", "--static", "--gpu", "h300", says="'h300' is none of a100, h100, h200, b200", code=2)

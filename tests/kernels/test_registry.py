"""Which path runs, and what the kernels' source must hold to."""

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aekit import kernels
from aekit.kernels._parity import strays


def run_alone(script: str) -> str:
    """What the script prints in a process of its own, with warnings as errors."""
    done = subprocess.run([sys.executable, "-P", "-W", "error", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_auto_runs_triton_on_cuda_alone(device):
    kernels.use("auto")
    assert kernels.runs_triton(torch.zeros(1, device=device)) == (device == "cuda")
    assert not kernels.runs_triton(torch.zeros(1))


def test_the_choice_overrules_the_device(device):
    kernels.use("torch")
    assert not kernels.runs_triton(torch.zeros(1, device=device))
    kernels.use("triton")
    assert kernels.runs_triton(torch.zeros(1, device=device))
    with pytest.raises(ValueError, match="none of auto, triton, torch"):
        kernels.use("cuda")


def test_without_triton_the_references_run_and_it_is_said():
    """As on macOS, where there is no wheel."""
    run_alone("""
import sys
sys.modules["triton"] = None
import torch
from aekit import kernels
from aekit.kernels._parity import strays
assert kernels.why_no_triton() == "triton is not installed"
try:
    kernels.use("triton")
except ValueError as error:
    assert "triton is not installed; use auto or torch" in str(error)
else:
    raise AssertionError
x = torch.ones(2, 3, requires_grad=True)
kernels.sample_error(x, torch.zeros(2, 3, dtype=torch.uint8)).sum().backward()
kernels.reparameterize(x, x, torch.tensor([1]))
""")


def test_parity_forgives_a_loss_where_it_is_told_of_one():
    kernel = kernels.KERNELS["linear"]
    cut = replace(kernel, op=lambda *inputs: kernel.reference(*inputs) * (1 + 2**-10))
    inputs = kernel.make_inputs["tanh"]((67, 33), dtype=torch.float32, device="cpu")
    assert strays(kernel, inputs) == []
    assert len(strays(cut, inputs)) == 4  # the output, and the gradients of x, weight and bias
    assert len(strays(cut, inputs, loss=2**-11)) == 4
    assert strays(cut, inputs, loss=2**-9) == []


def test_importing_the_kernels_does_not_load_torchs_compiler():
    """It takes a second or two, which every command would pay."""
    run_alone("import sys, aekit.kernels; assert 'torch._dynamo' not in sys.modules")


def test_every_masked_load_states_what_fills_it():
    """The interpreter fills masked lanes with zeros, a GPU with anything: no test on a CPU would notice."""
    loads = [
        (path.name, node.lineno, {keyword.arg for keyword in node.keywords})
        for path in Path(kernels.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "tl.load"
    ]
    assert len(loads) > 10
    assert [load for load in loads if "mask" in load[2] and "other" not in load[2]] == []
    arguments = [
        len(node.args)
        for path in Path(kernels.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "tl.load"
    ]
    assert set(arguments) == {1}  # a mask by position would hide from the line above

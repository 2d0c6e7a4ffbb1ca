"""The kernels as a GPU would get them: compiled ahead of time, and traced on tensors that are not there.

Both in a process of their own, for Triton's interpreter, which the other tests run under, shuts its compiler out.
"""

import json
import os
import subprocess
import sys

import pytest

from aekit.kernels import KERNELS
from aekit.kernels._cells import cells

COMPILE = """
import dataclasses, json, sys
from aekit.kernels import KERNELS
from aekit.kernels._cells import cells
from aekit.kernels._gpus import GPUS
from aekit.kernels._static import compile_cell
chosen = [cell for cell in cells(KERNELS) if cell.dtype == sys.argv[1]]
if sys.argv[3] == "first":
    chosen = list({cell.kernel: cell for cell in reversed(chosen)}.values())
print(json.dumps([dataclasses.asdict(row) for cell in chosen for row in compile_cell(cell, GPUS[sys.argv[2]])]))
"""
SLOW = [(d, g, "all") for d, g in [("float32", "h200"), ("tf32", "h200"), ("bfloat16", "h200"), ("float32", "a100"),
                                   ("float32", "b200"), ("bfloat16", "b200")]]  # fmt: skip
CASES = [("float32", "h200", "first"), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]  # cell of each

# autograd refuses CUDA tensors where torch has no CUDA: it runs on fake CPU tensors, then each op on fake CUDA ones
TRACE = """
import itertools, torch
from torch._subclasses.fake_tensor import FakeTensorMode
from aekit.kernels import KERNELS, _registry
from aekit.kernels._parity import forward_backward

calls = []
_registry.register_ops()
for name, op in _registry._ops.items():
    _registry._ops[name] = lambda *args, op=op: calls.append((op, args)) or op(*args)
_registry._choice, _registry.ON_CPU = "triton", True

def on_cuda(x):
    return torch.empty_strided(x.size(), x.stride(), dtype=x.dtype, device="cuda") if isinstance(x, torch.Tensor) else x

def facts(tensors, device):
    tensors = (tensors,) if isinstance(tensors, torch.Tensor) else tensors
    assert {x.device.type for x in tensors} == {device}
    return [(x.shape, x.dtype) for x in tensors]

mode = FakeTensorMode()
for kernel in KERNELS.values():
    for make_inputs, shape in itertools.product(kernel.make_inputs.values(), kernel.shapes[-1:]):
        inputs = make_inputs(shape, dtype=torch.float16, device="cpu")
        truth = facts(forward_backward(kernel.reference, inputs), "cpu")
        with mode:
            inputs = make_inputs(shape, dtype=torch.float16, device="cpu")
            assert facts(forward_backward(kernel.op, inputs), "cpu") == truth
with mode:
    for op, args in list(calls):
        args = [x.detach() if isinstance(x, torch.Tensor) else x for x in args]
        assert facts(op(*map(on_cuda, args)), "cuda") == facts(op(*args), "cpu")
_registry._choice, _registry.ON_CPU = "auto", False
count = len(calls)
with mode, torch.no_grad():
    for kernel in KERNELS.values():
        for make_inputs in kernel.make_inputs.values():
            kernel.op(*make_inputs((16, *kernel.sample), dtype=torch.float32, device="cuda"))
            assert len(calls) == (count := count + 1)  # by the op, not by the reference
print(*sorted({op._qualname for op, _ in calls}))
"""


def run_compiled(script: str, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-P", "-c", script, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("dtype", "gpu", "which"), CASES)
def test_every_kernel_compiles_without_a_spill_and_products_go_to_tensor_cores(dtype, gpu, which):
    rows = json.loads(run_compiled(COMPILE, dtype, gpu, which))
    assert {row["kernel"] for row in rows} == {cell.kernel for cell in cells(KERNELS) if cell.dtype == dtype}
    assert [row for row in rows if row["spilled_bytes"]] == []
    on_tensor_cores = {row["kernel"] for row in rows if row["wgmma"] + row["mma_sync"] + row["tcgen05"]}
    assert on_tensor_cores == (set() if dtype == "float32" else {row["kernel"] for row in rows if row["operations"]})


def test_every_op_traces_on_fake_cuda_tensors():
    names = run_compiled(TRACE).split()
    assert names == sorted(f"aekit::{name}{part}" for name in KERNELS for part in ("", "_backward"))

"""The kernels as a GPU would get them: compiled ahead of time, and traced on tensors that are not there.

Both in a process of their own, for Triton's interpreter, which the other tests run under, shuts its compiler out.
"""

import json
import os
import subprocess
import sys

import pytest

from aekit.kernels import KERNELS
from aekit.kernels._static import ARCHITECTURES

COMPILE = """
import dataclasses, json, sys, torch
from aekit.kernels._static import costs
found = costs(getattr(torch, sys.argv[1]), (int(sys.argv[2]),))
print(json.dumps([dataclasses.asdict(cost) for cost in found]))
"""
CELLS = [  # compiling is quick only from the second time on
    ("float32", 90),
    *(pytest.param(*cell, marks=pytest.mark.slow) for cell in (("bfloat16", 90), ("float32", 80), ("float32", 100))),
]

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
    for make_inputs, shape in itertools.product(kernel.make_inputs.values(), kernel.shapes[-2:]):
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


@pytest.mark.parametrize(("dtype", "architecture"), CELLS)
def test_every_kernel_compiles_without_a_spill(dtype, architecture):
    assert architecture in ARCHITECTURES
    costs = json.loads(run_compiled(COMPILE, dtype, str(architecture)))
    assert {(cost["kernel"], cost["architecture"]) for cost in costs} == {(name, architecture) for name in KERNELS}
    assert [cost for cost in costs if cost["stack_bytes"] or cost["local_bytes"]] == []


def test_every_op_traces_on_fake_cuda_tensors():
    names = run_compiled(TRACE).split()
    assert names == sorted(f"aekit::{name}{part}" for name in KERNELS for part in ("", "_backward"))

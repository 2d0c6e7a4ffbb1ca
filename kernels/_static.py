"""What each kernel takes of a GPU, found without one: its launches at the benchmark shapes, compiled ahead of time.

The launches are recorded from the operation itself, so nothing has to be listed twice. Needs a process without
TRITON_INTERPRET, which shuts the compiler out.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from aekit.kernels import _registry
from aekit.kernels._cells import Cell, as_tuple, leaves, precision
from aekit.kernels._gpus import GPU
from aekit.kernels._registry import KERNELS, Inputs, Kernel

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
TYPES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.uint8: "u8",
    torch.int64: "i64",
    torch.float64: "fp64",
    bool: "i1",
    int: "i32",
    float: "fp32",
}
TENSOR_CORES = ("wgmma.mma_async", "mma.sync", "tcgen05.mma")  # as PTX calls them


@dataclass(frozen=True)
class Cost:
    """One compiled function: registers of a thread, bytes of a program, and tensor-core instructions in its code."""

    registers: int
    shared_bytes: int
    spilled_bytes: int
    wgmma: int
    mma_sync: int
    tcgen05: int


@dataclass(frozen=True)
class Row:
    """A cell in one direction: the most that one of its functions takes of registers and memory, all instructions."""

    kernel: str
    variant: str
    shape: str
    dtype: str
    direction: str
    functions: int
    registers: int
    shared_bytes: int
    spilled_bytes: int
    wgmma: int
    mma_sync: int
    tcgen05: int
    bytes: int
    operations: int
    floor_us: float
    bound: str  # bytes or products: what the floor comes from


def compile_cell(cell: Cell, gpu: GPU) -> list[Row]:
    """A row for each direction; nothing runs."""
    with precision(cell.dtype):
        # 16 samples specialise as any multiple of 16 does, and take no memory
        found, forward = launches(KERNELS[cell.kernel], cell.inputs("cpu", batch=16))
    costs = [cost_of(compile_for(gpu.architecture, *launch)) for launch in found]
    rows = []
    for direction, count in (("forward", forward), ("forward+backward", len(found))):
        work, own = cell.work[direction], costs[:count]
        by_bytes = work.bytes / gpu.gb_per_s / 1e3
        by_products = work.operations / gpu.tflop_per_s[cell.dtype] / 1e6
        row = Row(
            *cell.words,
            direction,
            functions=count,
            registers=max(cost.registers for cost in own),
            shared_bytes=max(cost.shared_bytes for cost in own),
            spilled_bytes=max(cost.spilled_bytes for cost in own),
            wgmma=sum(cost.wgmma for cost in own),
            mma_sync=sum(cost.mma_sync for cost in own),
            tcgen05=sum(cost.tcgen05 for cost in own),
            bytes=work.bytes,
            operations=work.operations,
            floor_us=max(by_bytes, by_products),
            bound="bytes" if by_bytes >= by_products else "products",
        )
        rows.append(row)
    return rows


def launches(kernel: Kernel, inputs: Inputs) -> tuple[list[tuple[Any, dict[str, Any]]], int]:
    """Every launch of forward and backward as (function, arguments by name), and how many of them are forward's."""
    found: list[tuple[Any, dict[str, Any]]] = []

    def record(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        found.append((self, dict(zip(self.arg_names, args, strict=False)) | kwargs))

    with (
        mock.patch.object(JITFunction, "run", record),
        mock.patch.object(_registry, "ON_CPU", True),
        mock.patch.object(_registry, "_choice", "triton"),
    ):
        outputs = as_tuple(kernel.op(*inputs))
        forward = len(found)
        torch.autograd.grad(outputs, leaves(inputs), [torch.empty_like(y) for y in outputs])
    return found, forward


def source(function: Any, arguments: dict[str, Any]) -> Any:
    """The function specialised for these arguments as a launch would: constants, ones, and multiples of 16."""
    signature, constants, attributes = {}, {}, {}
    for i, parameter in enumerate(function.params):
        value = arguments[parameter.name]
        aligned = value.data_ptr() % 16 == 0 if isinstance(value, Tensor) else type(value) is int and value % 16 == 0
        if parameter.is_constexpr or (type(value) is int and value == 1):
            signature[parameter.name], constants[(i,)] = "constexpr", value
        else:
            is_tensor = isinstance(value, Tensor)
            signature[parameter.name] = "*" * is_tensor + TYPES[value.dtype if is_tensor else type(value)]
            if aligned:
                attributes[(i,)] = [["tt.divisibility", 16]]
    return ASTSource(function, signature, constants, attributes)


def options(arguments: dict[str, Any]) -> dict[str, int]:
    """What a launch says of warps and stages besides the function's own arguments."""
    return {name: arguments[name] for name in ("num_warps", "num_stages") if name in arguments}


def compile_for(architecture: int, function: Any, arguments: dict[str, Any]) -> Any:
    """The compiled kernel; its `asm` holds ptx and cubin."""
    target = GPUTarget("cuda", architecture, 32)
    return triton.compile(source(function, arguments), target=target, options=options(arguments))


def cost_of(compiled: Any) -> Cost:
    """As cuobjdump reads it from the cubin; what registers cannot hold is spilled to the stack."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        report = subprocess.run([CUOBJDUMP, "-res-usage", file.name], check=True, capture_output=True, text=True).stdout
    used = {name: int(count) for name, count in re.findall(r"(REG|STACK|LOCAL):(\d+)", report)}
    found = (len(re.findall(rf"(?<!\w){re.escape(name)}", compiled.asm["ptx"])) for name in TENSOR_CORES)
    return Cost(used["REG"], compiled.metadata.shared, used["STACK"] + used["LOCAL"], *found)

"""What each kernel takes of a GPU, found without one: its launches at the benchmark shapes, compiled ahead of time.

The launches are recorded from the operation itself, so nothing has to be listed twice. Run in a process of its own,
without TRITON_INTERPRET.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
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
from aekit.kernels._registry import KERNELS, Inputs, Kernel

ARCHITECTURES = (80, 90, 100)  # A100, H100 and H200, B200
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


@dataclass(frozen=True)
class Cost:
    """One compiled function; stack and local memory are 0 unless registers spill."""

    kernel: str
    variant: str
    shape: tuple[int, ...]
    dtype: str
    function: str
    architecture: int
    registers: int
    shared_bytes: int
    stack_bytes: int
    local_bytes: int


def launches(kernel: Kernel, inputs: Inputs) -> list[tuple[Any, dict[str, Any]]]:
    """Every launch of forward and backward as (function, arguments by name); nothing runs."""
    found = []

    def record(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        found.append((self, dict(zip(self.arg_names, args, strict=False)) | kwargs))

    with (
        mock.patch.object(JITFunction, "run", record),
        mock.patch.object(_registry, "ON_CPU", True),
        mock.patch.object(_registry, "_choice", "triton"),
    ):
        outputs = kernel.op(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        torch.autograd.backward(outputs, [torch.empty_like(output) for output in outputs])
    return found


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


def usage(cubin: bytes) -> dict[str, int]:
    """REG, STACK, SHARED and LOCAL of a cubin's one function, in registers and bytes."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        report = subprocess.run([CUOBJDUMP, "-res-usage", file.name], check=True, capture_output=True, text=True).stdout
    return {name: int(count) for name, count in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", report)}


def costs(dtype: torch.dtype, architectures: tuple[int, ...] = ARCHITECTURES) -> Iterator[Cost]:
    """One Cost per distinct function and architecture over the benchmark shapes of all kernels."""
    seen = set()
    for name, kernel in KERNELS.items():
        for variant, shape in kernel.bench:
            # 16 samples specialise as any multiple of 16 does, and take no memory
            inputs = kernel.make_inputs[variant]((16, *shape[1:]), dtype=dtype, device="cpu")
            for function, arguments in launches(kernel, inputs):
                digest = source(function, arguments).hash() + str(options(arguments))
                if digest in seen:
                    continue
                seen.add(digest)
                for architecture in architectures:
                    compiled = compile_for(architecture, function, arguments)
                    used = usage(compiled.asm["cubin"])
                    yield Cost(
                        name, variant, shape, str(dtype).removeprefix("torch."), function.__name__, architecture,
                        used["REG"], compiled.metadata.shared, used["STACK"], used["LOCAL"],
                    )  # fmt: skip

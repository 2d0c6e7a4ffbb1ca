"""The GPUs for which kernels are compiled ahead of time, none of which need be here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GPU:
    architecture: int
    gb_per_s: float
    tflop_per_s: dict[str, float]  # by dtype; dense


# the datasheets' peaks of the SXM modules, half of what is given with sparsity: NVIDIA A100 80GB (2021), H100 (2023),
# H200 (2024), and the Blackwell architecture technical brief (2024) for one GPU of an HGX B200
GPUS = {
    "a100": GPU(80, 2039, {"float32": 19.5, "tf32": 156, "bfloat16": 312}),
    "h100": GPU(90, 3350, {"float32": 67, "tf32": 494.5, "bfloat16": 989.5}),
    "h200": GPU(90, 4800, {"float32": 67, "tf32": 494.5, "bfloat16": 989.5}),
    "b200": GPU(100, 8000, {"float32": 80, "tf32": 1100, "bfloat16": 2250}),
}

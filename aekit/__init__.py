"""aekit trains autoencoders and puts them to work: denoise, score, embed, generate.

`aekit.load(path)` gives a trained model whose verbs work on arrays.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aekit.workflows.arrays import load

__version__ = "0.1.0"
__all__ = ["load"]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    """`load` arrives on first use: it imports torch, and the command line's help must not."""
    if name != "load":
        raise AttributeError(f"module 'aekit' has no attribute {name!r}")
    from aekit.workflows.arrays import load

    return load

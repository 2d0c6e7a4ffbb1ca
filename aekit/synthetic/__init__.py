"""Data made on the spot: one file per generator, each a function (part, seed, count, option) -> Record.

Rows are drawn in blocks, each from random streams of its own, so that row i is the same whatever the count.
"""

from collections.abc import Iterator

import numpy as np

BLOCK = 500  # rows; a block is always drawn whole


def streams(
    part: str, seed: int, count: int, kinds: int, block: int = BLOCK
) -> Iterator[tuple[slice, list[np.random.Generator]]]:
    """For each block of rows its slice of the result and `kinds` independent generators; `train` and `test` differ."""
    for start in range(0, count, block):
        root = np.random.default_rng([seed, ("train", "test").index(part), start // block])
        yield slice(start, min(start + block, count)), root.spawn(kinds)

"""generate: new samples from the prior, or the way between two samples of the data."""

from pathlib import Path
from typing import Any

import numpy as np

from aekit import formats, inference
from aekit.batches import check_finite
from aekit.errors import AekitError, UsageError
from aekit.files import check_free, whole
from aekit.records import record_of
from aekit.workflows import common
from aekit.workflows.common import Clock, Options, Talk


def generate(
    out: str | None = None,
    count: int = 64,
    between: tuple[int, int] | None = None,
    steps: int = 10,
    data: str | None = None,
    options: Options | None = None,
    talk: Talk | None = None,
) -> dict[str, Any]:
    """Writes `count` samples to `out` (by default samples.png; arrays by ending, in the training data's units).

    With `between`, the samples that lie on the straight line between the latents of two rows of `data`, both
    reconstructions included.
    """
    options, talk, clock = options or Options(), talk or Talk(), Clock()
    path = Path(out or "samples.png")
    check_free(path, options.force)
    if count < 1 or steps < 2:
        raise UsageError("--count is at least 1, --steps at least 2")
    if between is not None and data is None:
        raise UsageError("--between names two rows of --data, as in: --between 3 8 --data mnist")
    if between is None:
        if data is not None:
            raise UsageError("--data goes with --between I J; without it samples come from the model alone")
        trained, run = common.load_ready("generate", options, talk)
        latents = inference.sample_latents(trained, count, options.seed).numpy()
    else:
        record = common.open_input(str(data))
        trained, run = common.find_model(str(data), record, "generate", options, talk)
        ends = []
        for row in between:
            if not 0 <= row < len(record):
                raise AekitError(f"{record.source}: there is no row {row}; rows run from 0 to {len(record) - 1}")
            stored = np.array(record.read(row, row + 1))
            check_finite(stored, row, record)
            ends.append(record.to_samples(stored)[0])
        if record.sample_shape != trained.sample_shape:
            raise AekitError(f"{record.source}: rows are longer than the model's samples; cut them first")
        seen = inference.Seen()
        seen.add(np.stack(ends))
        common.warn(seen, trained, talk)
        latents = inference.between(trained, ends[0], ends[1], steps, run)
    samples = inference.decode(trained, latents, run)
    if path.suffix == ".png":
        from aekit import reports  # matplotlib takes a second

        figure = reports.sample_grid(samples, trained.kind, columns=len(samples) if between is not None else None)
        with whole(path, options.force) as temporary:
            reports.save_figure(figure, temporary)
    else:
        stored = samples[:, 0] if samples.shape[1] == 1 else samples
        like = record_of(stored, sampling_rate=trained.sampling_rate)
        with formats.create(path, like, stored.shape, stored.dtype, options.force) as writer:
            writer.write(stored)
    return {"count": len(samples), "out": str(path), "model": trained.source, "seconds": clock.seconds}

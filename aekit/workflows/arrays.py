"""The verbs on arrays, for notebooks and scripts: `model = aekit.load("runs/conv-mnist-1")`."""

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aekit import formats, generation, inference, thresholds
from aekit.batches import check_finite
from aekit.errors import AekitError, UsageError
from aekit.inference import Run
from aekit.layers import for_use
from aekit.records import Array, Record, record_of, times
from aekit.thresholds import Verdict
from aekit.trained import TrainedModel
from aekit.training import PRECISIONS, classifies, finds_picks
from aekit.workflows import common


class Autoencoder:
    """A trained model with the verbs as methods: arrays (rows, *item) in the file's units go in, arrays come out.

    `trained` holds what the model file holds, `run` where and how it runs. All raise AekitError for arrays of another
    shape, NaN and infinity, and warn of values outside the range of training.
    """

    def __init__(self, trained: TrainedModel, run: Run):
        self.trained = trained
        self.run = run

    def denoise(self, x: Array) -> NDArray[Any]:
        """x (rows, *item) without the noise, in the same shape, type (whole numbers rounded) and units."""
        common.check_serves(self.trained, "denoise")
        record = _record(x)
        seen = inference.Seen()
        cleaned = np.concatenate(list(inference.denoise(self.trained, record, self.run, seen, _ignore)))
        self._warn(seen)
        return cleaned >= 0.5 if x.dtype.kind == "b" else formats.cast(cleaned, x.dtype, record.source)

    def score(self, x: Array, threshold: str | None = None) -> NDArray[np.float32] | Verdict:
        """Anomaly scores (rows,), higher is more anomalous; with a threshold rule such as "auto" the Verdict on them.

        Rows longer than the model's sample give a score per window, row by row.
        """
        common.check_serves(self.trained, "score")
        if finds_picks(self.trained.network):
            raise AekitError(f"{self.trained.source}: finds picks, not scores; use the command: aekit score")
        if classifies(self.trained.network):
            raise AekitError(f"{self.trained.source}: tells classes, not scores; use classify()")
        found = inference.score(self.trained, _record(x), self.run, _ignore)
        self._warn(found.seen)
        scores = found.score
        if threshold is None:
            return scores
        if self.trained.calibration is None:
            raise AekitError(
                f"{self.trained.source}: its training did not end, so it has no calibration; finish it with --resume"
            )
        if self.trained.own_input:
            return thresholds.judge_mixed(scores, threshold)
        return thresholds.judge(scores, self.trained.calibration.numpy(), threshold)

    def classify(self, x: Array) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
        """Names of the classes (K,) and their probabilities (rows, K), by a model trained as a classifier."""
        if not classifies(self.trained.network):
            raise AekitError(f"{self.trained.source}: tells no classes; train the recipe classifier --from it")
        seen = inference.Seen()
        found = inference.class_probabilities(self.trained, _record(x), self.run, seen, _ignore)
        self._warn(seen)
        return np.array(self.trained.classes), found

    def embed(self, x: Array) -> NDArray[np.float32]:
        """Latent vectors (rows, D), one per window where rows are longer than the model's sample."""
        common.check_serves(self.trained, "embed")
        seen = inference.Seen()
        latents = np.concatenate(list(inference.embed(self.trained, _record(x), self.run, seen, _ignore)))
        self._warn(seen)
        return latents

    def generate(
        self, count: int = 1, seed: int = 0, latents: Array | None = None, label: str | None = None
    ) -> NDArray[np.float32]:
        """New samples (count, C, ...) in the training data's units, or what given latents (count, D) decode to.

        With a label, by its name, they are of this class; several are parted by commas, as in "3,8".
        """
        if latents is not None:
            return generation.decode(self.trained, self._latents(latents), self.run)
        names = [] if label is None else str(label).split(",")
        z = generation.sample_latents(self.trained, count, seed, names).z.numpy()
        return generation.decode(self.trained, z, self.run)

    def _latents(self, given: Array) -> NDArray[np.float32]:
        """Latents (count, D) or one (D,) as (count, D); raises AekitError where they are not the model's, or NaN."""
        z = np.atleast_2d(np.asarray(given, np.float32))
        width = generation.width(self.trained)
        if z.ndim != 2 or z.shape[1] != width or not len(z):
            raise AekitError(f"latents: of shape {z.shape}, the model takes (rows, {width}); embed gives such as are")
        check_finite(z, 0, record_of(z, "latents"))
        return z

    def _warn(self, seen: inference.Seen) -> None:
        for line in seen.warnings(self.trained):
            warnings.warn(line, stacklevel=3)

    def __repr__(self) -> str:
        shape = times(self.trained.sample_shape)
        return f"<aekit {self.trained.recipe} for samples of {shape}, trained on {self.trained.data}>"


def load(path: str, device: str = "auto", precision: str | None = None) -> Autoencoder:
    """A model file or run folder as an Autoencoder; raises AekitError where it is missing, damaged or newer.

    It runs in fp32, tf32 or bf16, by default as it was trained, or in fp64, in which no bit of a row's result is owed
    to the rows beside it.
    """
    if precision not in (None, "fp64", *PRECISIONS):
        raise UsageError(f"precision {precision}: there are {', '.join(PRECISIONS)} and fp64")
    trained = common.load_model(path)
    run = inference.default_run(trained, device, precision, None)
    trained.network = for_use(trained.network).to(run.device, torch.float64 if precision == "fp64" else None)
    return Autoencoder(trained, run)


def _record(x: Array) -> Record:
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "biuf" or x.ndim < 2 or not len(x):
        raise AekitError("array: a NumPy array of numbers (rows, *item) is needed, with at least one row")
    return record_of(x)


def _ignore(done: int) -> None:
    """Nobody watches the progress."""

"""Autoencoders as estimators of scikit-learn: a detector of outliers, a transformer to latents, a denoiser.

`fit` trains by the workflow of `aekit train`, in a temporary folder, on all rows that it is given; what they hold
beside the parameters is the model file, so that a pickle runs no code of a network. Rows come as scikit-learn has
them, (rows, values): those of a table, or series and images laid flat, whose shape `sample_shape` tells. Results of a
row do not depend on the rows beside it: networks run in float64, and their results are rounded to float32.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn import config_context
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    OneToOneFeatureMixin,
    OutlierMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from aekit import inference, thresholds
from aekit.errors import AekitError
from aekit.models import MODELS
from aekit.recipes import recipe
from aekit.records import Array, Record, record_of, times
from aekit.workflows import own_input
from aekit.workflows.arrays import Autoencoder, load
from aekit.workflows.common import MODEL_FILE
from aekit.workflows.train import train

__all__ = ["AutoencoderDetector", "AutoencoderTransformer", "Denoiser"]

SOURCE = "X"  # the rows, in messages
FLOATS = (np.float64, np.float32)
FLAGGED = 0.01  # of the rows, those with the highest scores, where the rule flags none
ELSEWHERE = {"labels", "target", "normal", "seed"}  # options that other parameters stand for, or that have no meaning
Shape = tuple[int, ...]
Floats = NDArray[np.float64]


class _Learner(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator that trains a recipe; `_verb` is what the recipe must serve."""

    _verb: str

    def _learn(self, X: ArrayLike, more: Mapping[str, Any]) -> Array:
        """Trains on X, `model_` is the model; returns the rows as checked. `more` are options that can be overruled."""
        rows: Array = validate_data(self, X, dtype=FLOATS, ensure_min_samples=2)
        with _as_value_errors(), _undisturbed(), tempfile.TemporaryDirectory() as folder:
            if self._verb not in (serves := MODELS[recipe(self.recipe).model].verbs):  # type: ignore[attr-defined]
                raise AekitError(f"recipe={self.recipe}: does not {self._verb}; it serves {', '.join(serves)}")
            if wrong := ELSEWHERE & set(self.options or {}):
                raise AekitError(f"options: {', '.join(sorted(wrong))} cannot be among them; the seed is random_state")
            record = self._record(rows)
            choices = own_input.choose(record)[0] if self.recipe == own_input.RECIPE else {}
            choices |= {**more, **(self.options or {}), "seed": _seed(self.random_state)}
            run = Path(folder) / "run"
            train(self.recipe, SOURCE, choices, str(run), device=self.device, record=record, report=False)
            self._file = (run / MODEL_FILE).read_bytes()
            self.model_ = _model(self._file, self.device)
        return rows

    def _record(self, rows: Array) -> Record:
        """Rows (N, values) as what they are, for training."""
        if self.sample_shape is not None:
            return record_of(self._shaped(rows), SOURCE)
        columns = tuple(map(str, getattr(self, "feature_names_in_", ())))
        return Record(SOURCE, rows.shape, rows.dtype, lambda start, stop: rows[start:stop], "table", columns=columns)

    def _shaped(self, rows: Array) -> Array:
        """Rows (N, values) as samples (N, *sample_shape)."""
        shape = rows.shape[1:] if self.sample_shape is None else tuple(self.sample_shape)
        if math.prod(shape) != rows.shape[1]:
            raise AekitError(f"sample_shape={times(shape)}: rows of {rows.shape[1]} values are of another shape")
        return rows.reshape(len(rows), *shape)

    def _checked(self, X: ArrayLike) -> Array:
        """X as an array, once fitted."""
        check_is_fitted(self, "model_")
        rows: Array = validate_data(self, X, dtype=FLOATS, reset=False)
        return rows

    def _found(self, verb: Callable[[Array], Array], rows: Array) -> Array:
        """What a verb of the model gives for each row, (N, values), in the type of the rows."""
        with _as_value_errors():
            return verb(self._shaped(rows)).reshape(len(rows), -1).astype(rows.dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "model_"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_file" in state:
            self.model_ = _model(self._file, self.device)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class _Encoder(ClassNamePrefixFeaturesOutMixin, _Learner):  # type: ignore[misc]
    def transform(self, X: ArrayLike) -> Array:
        """Latent vectors (N, D); of a row that is cut into windows, those of all windows, one after the other."""
        rows = self._checked(X)
        return self._found(self.model_.embed, rows)

    def inverse_transform(self, X: ArrayLike) -> Array:
        """Rows (N, values) that latent vectors (N, D) decode to.

        Raises ValueError where rows are cut into windows, or the recipe's network does not decode.
        """
        check_is_fitted(self, "model_")
        latents: Array = check_array(X, dtype=FLOATS)
        trained = self.model_.trained
        with _as_value_errors():
            if trained.windowed or not hasattr(trained.network, "decode"):
                why = "rows are cut into windows" if trained.windowed else f"the recipe {trained.recipe} decodes none"
                raise AekitError(f"latents have no way back: {why}; take another recipe")
            shape = (self.n_features_in_,) if self.sample_shape is None else tuple(self.sample_shape)
            layout = record_of(np.empty((0, *shape), np.float32))
            samples = layout.from_samples(self.model_.generate(latents=latents))
        return samples.reshape(len(latents), -1).astype(latents.dtype)

    @property
    def _n_features_out(self) -> int:
        one = record_of(self._shaped(np.zeros((1, self.n_features_in_), np.float32)))
        return math.prod(inference.latent_shape(self.model_.trained, one))


class AutoencoderDetector(OutlierMixin, _Encoder):  # type: ignore[misc]
    """Finds outliers among the rows it is fitted to, as `aekit score` does, and in others; `transform` gives latents.

    Some of the rows may be outliers; nothing needs to be known of them. With more than 100,000 rows, or 2**24 values,
    some of them, evenly spread, are learnt from.

    Parameters
    ----------
    recipe : a recipe that serves `score` (see `aekit recipes`)
    threshold : the rule by which scores of the rows fitted to are judged: auto, fdr=0.05, fpr=0.01, quantile=0.99,
        mad=3.5, mean+2std or a number. Where auto, fdr and fpr flag none, the threshold is the 99th percentile.
    contamination : the share of outliers, in (0, 0.5]; beats the rule
    sample_shape : the shape of a row that is a series, (points,) or (channels, points), or an image, (height, width) or
        (height, width, channels); None is a table, whose columns are scaled one by one
    options : settings of training and of the network, as `aekit train` has them: steps, epochs, lr, latent, ...
    random_state : whole numbers are the seed of `aekit score --seed`
    device : auto, cpu or cuda

    Attributes
    ----------
    offset_ : `decision_function` is `score_samples` less this, an outlier is below 0
    decision_scores_, labels_, threshold_ : of the rows fitted to, as PyOD has them: scores, which are higher the more
        anomalous, 1 where they are above the threshold, else 0
    model_ : the model, as `aekit.load` gives it
    n_features_in_, feature_names_in_ : of the rows fitted to
    """

    _verb = "score"

    def __init__(
        self,
        recipe: str = own_input.RECIPE,
        *,
        threshold: str | float = "auto",
        contamination: float | None = None,
        sample_shape: Shape | None = None,
        options: Mapping[str, Any] | None = None,
        random_state: int | RandomState | None = None,
        device: str = "auto",
    ):
        self.recipe = recipe
        self.threshold = threshold
        self.contamination = contamination
        self.sample_shape = sample_shape
        self.options = options
        self.random_state = random_state
        self.device = device

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Trains on X (N, values) and sets the threshold; y is not looked at. Raises ValueError for what cannot be."""
        if self.contamination is not None and not 0 < self.contamination <= 0.5:
            raise ValueError(f"contamination={self.contamination}: a share above 0 and at most 0.5 is needed")
        with _as_value_errors():
            thresholds.parse_rule(str(self.threshold))
        self.decision_scores_ = self._scores(self._learn(X, {}))
        self.threshold_ = self._cut(self.decision_scores_)
        self.offset_ = -self.threshold_
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(np.int64)
        return self

    def score_samples(self, X: ArrayLike) -> Floats:
        """Minus the score of each row, (N,), lower is more anomalous; of windows it is the worst."""
        return -self._scores(self._checked(X))

    def decision_function(self, X: ArrayLike) -> Floats:
        """`score_samples` less `offset_`, (N,): below 0 for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """-1 for outliers, 1 for the others, (N,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _scores(self, rows: Array) -> Floats:
        of_windows: Floats = self._found(self.model_.score, rows).astype(np.float64)  # type: ignore[arg-type]
        worst: Floats = of_windows.max(axis=1)
        return worst

    def _cut(self, scores: Floats) -> float:
        if self.contamination is not None:
            return -float(np.percentile(-scores, 100 * self.contamination))
        cut = thresholds.judge_mixed(scores, str(self.threshold)).threshold
        return cut if math.isfinite(cut) else float(np.quantile(scores, 1 - FLAGGED))


class AutoencoderTransformer(_Encoder):
    """Compresses rows to latent vectors, and decodes them; `n_components` is their size.

    With more than 100,000 rows, or 2**24 values, some of them are learnt from, as by `Denoiser`. The recipe is one that
    serves `embed`; for the other parameters see `AutoencoderDetector`.
    """

    _verb = "embed"

    def __init__(
        self,
        recipe: str = "stacked",
        *,
        n_components: int | None = None,
        sample_shape: Shape | None = None,
        options: Mapping[str, Any] | None = None,
        random_state: int | RandomState | None = None,
        device: str = "auto",
    ):
        self.recipe = recipe
        self.n_components = n_components
        self.sample_shape = sample_shape
        self.options = options
        self.random_state = random_state
        self.device = device

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Trains on X (N, values); y is not looked at. Raises ValueError for what cannot be."""
        self._learn(X, {} if self.n_components is None else {"latent": self.n_components})
        return self


class Denoiser(OneToOneFeatureMixin, _Learner):  # type: ignore[misc]
    """Takes noise out of rows.

    The recipe is one that serves `denoise`. `denoising`, `unet` and others learn from rows that are clean, to which the
    noise of `options={"corrupt": ["gaussian:0.2"]}` is added; `blind-spot` from noisy series and images alone, whose
    noise is independent from point to point. For the other parameters see `AutoencoderDetector`.
    """

    _verb = "denoise"

    def __init__(
        self,
        recipe: str = "denoising",
        *,
        sample_shape: Shape | None = None,
        options: Mapping[str, Any] | None = None,
        random_state: int | RandomState | None = None,
        device: str = "auto",
    ):
        self.recipe = recipe
        self.sample_shape = sample_shape
        self.options = options
        self.random_state = random_state
        self.device = device

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Trains on X (N, values); y is not looked at. Raises ValueError for what cannot be."""
        self._learn(X, {})
        return self

    def transform(self, X: ArrayLike) -> Array:
        """X (N, values) without the noise."""
        rows = self._checked(X)
        return self._found(self.model_.denoise, rows)


@contextmanager
def _as_value_errors() -> Iterator[None]:
    """What the user can mend, as scikit-learn raises it."""
    try:
        yield
    except AekitError as error:
        raise ValueError(str(error)) from error


@contextmanager
def _undisturbed() -> Iterator[None]:
    """torch's random numbers go on as if nothing had been drawn; training calls scikit-learn as it is by default."""
    with torch.random.fork_rng(range(torch.cuda.device_count())), config_context(array_api_dispatch=False):
        yield


def _seed(random_state: int | RandomState | None) -> int:
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _model(file: bytes, device: str) -> Autoencoder:
    """The model of a model file's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL_FILE
        path.write_bytes(file)
        model = load(str(path), device, "fp64")
    model.trained.source = "model_"
    return model

"""The model file: one safetensors file whose header holds all but the tensors as JSON. Nothing in it can run code.

Also the resume file, the same container with the optimiser's tensors and the loop's counters.
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import aekit
from aekit.baseline import PCA
from aekit.batches import Normalisation
from aekit.errors import AekitError
from aekit.files import whole
from aekit.models import MODELS, rebuild
from aekit.objectives import ERRORS
from aekit.settings import check_types, is_a
from aekit.tables import MISSING
from aekit.trained import Mixture, TrainedModel

FORMAT = 1  # of the model file
RESUME_FORMAT = 4
MOST_OPTIMISERS = 100
_PLAIN = (
    *("recipe", "model", "settings", "sample_shape", "kind", "sampling_rate", "error", "corruption", "classes"),
    *("normal", "columns", "missing", "windowed", "precision", "data", "fingerprint", "own_input", "figures"),
)
_GROUPS = ("model", "pictures", "validation", "sums")  # of tensors by name, in a resume file


def save(trained: TrainedModel, path: Path) -> None:
    """Writes the model file, whole or not at all, over an older one."""
    tensors = {f"weights/{name}": value for name, value in trained.network.state_dict().items()}
    if trained.calibration is not None:
        tensors["calibration"] = trained.calibration
    if trained.pca is not None:
        tensors |= {"pca/mean": trained.pca.mean, "pca/components": trained.pca.components}
    if trained.pca_calibration is not None:
        tensors["pca/calibration"] = trained.pca_calibration
    if trained.mixture is not None:
        fitted = vars(trained.mixture).items()
        tensors |= {f"mixture/{name}": value for name, value in fitted if value is not None}
    header = {name: getattr(trained, name) for name in _PLAIN}
    header |= {"format": FORMAT, "aekit": aekit.__version__, "normalisation": asdict(trained.normalisation)}
    _write(path, tensors, {"aekit": header})


def load(path: Path) -> TrainedModel:
    """Reads a model file; raises AekitError where it is missing, damaged, newer than this aekit or somebody else's."""
    tensors, headers = _read(path)
    header = headers.get("aekit")
    if header is None:
        raise AekitError(f"{path}: a safetensors file, but not an aekit model; train one with: aekit train RECIPE")
    if not isinstance(header.get("format"), int) or header["format"] > FORMAT:
        raise AekitError(
            f"{path}: model format {header.get('format')} is newer than the {FORMAT} that aekit {aekit.__version__} "
            "reads; update aekit"
        )
    if header.get("model") not in list(MODELS):
        raise AekitError(f"{path}: this aekit has no model {header.get('model')!r}; update aekit")
    try:
        return _rebuild(path, tensors, header)
    except (AekitError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise AekitError(
            f"{path}: the model file is damaged ({_short(error)}); train again or copy it again"
        ) from error


def is_model(path: Path) -> bool:
    """Whether a file is, or was meant to be, a model of aekit: other safetensors files hold data."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return "aekit" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return True


def _rebuild(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> TrainedModel:
    """Raises nearly anything where the header is not what `save` writes, or contradicts the tensors."""
    plain = {name: header[name] for name in _PLAIN if name in header}  # an older file lacks some: they have defaults
    check_types(TrainedModel, plain)
    sample_shape, settings = tuple(plain["sample_shape"]), _tuples(plain["settings"])
    if len(sample_shape) not in (2, 3) or min(sample_shape) < 1:
        raise ValueError(f"samples of {sample_shape}")
    rate = plain["sampling_rate"]
    if rate is not None and not 0 < float(rate) < math.inf:
        raise ValueError(f"a sampling rate of {rate} Hz")
    if plain["error"] not in ERRORS or plain.get("missing", MISSING[0]) not in MISSING:
        raise ValueError(f"error {plain['error']}, missing {plain.get('missing')}")
    if "classes" in settings and len(plain.get("classes") or ()) != settings["classes"]:
        raise ValueError(f"{settings['classes']} classes without as many names")
    weights = {k.removeprefix("weights/"): v for k, v in tensors.items() if k.startswith("weights/")}
    network = rebuild(header["model"], sample_shape, settings, weights)
    pca = PCA(tensors["pca/mean"], tensors["pca/components"]) if "pca/mean" in tensors else None
    mixture = None
    if "mixture/weights" in tensors:
        fitted = {name: tensors[f"mixture/{name}"] for name in ("weights", "means", "factors")}
        mixture = Mixture(**fitted, classes=tensors.get("mixture/classes"))  # which an older file lacks
    plain = _tuples(plain) | {"sample_shape": sample_shape, "settings": settings}
    trained = TrainedModel(
        network=network,
        normalisation=_normalisation(header["normalisation"], sample_shape),
        calibration=tensors.get("calibration"),
        pca=pca,
        pca_calibration=tensors.get("pca/calibration"),
        mixture=mixture,
        source=str(path),
        **plain,
    )
    _check_tensors(trained)
    return trained


def _normalisation(values: dict[str, Any], sample_shape: tuple[int, ...]) -> Normalisation:
    check_types(Normalisation, values)
    normalisation = Normalisation(**_tuples(values))
    offset, scale = normalisation.offset, normalisation.scale
    count = {"all": 1, "channel": sample_shape[0], "column": math.prod(sample_shape)}[normalisation.per]
    numbers = (*offset, *scale, normalisation.low, normalisation.high)
    if {len(offset), len(scale)} != {count} or not all(map(math.isfinite, numbers)) or min(scale) <= 0:
        raise ValueError("the normalisation is none of these samples")
    return normalisation


def _check_tensors(trained: TrainedModel) -> None:
    """Raises ValueError where what lies beside the weights does not fit: it is looked at long after loading."""
    pca, mixture, classes = trained.pca, trained.mixture, trained.classes or ()
    fit = [
        scores.dim() == 1 and len(scores)
        for scores in (trained.calibration, trained.pca_calibration)
        if scores is not None
    ]
    if pca is not None:
        values = math.prod(trained.sample_shape)
        fit.append(pca.mean.shape == (values,) and pca.components.dim() == 2 and pca.components.shape[1] == values)
    if mixture is not None:
        k, d = len(mixture.weights), mixture.means.shape[1:]
        fit.append(len(d) == 1 and len(mixture.means) == k and mixture.factors.shape[:2] == (k, *d))
        fit.append(mixture.factors.dim() <= 3 and bool((mixture.weights >= 0).all()))
        if mixture.classes is not None:
            fit.append(mixture.classes.shape == (k,) and bool((mixture.classes < max(len(classes), 1)).all()))
    if not all(fit):
        raise ValueError("scores, PCA or mixture are none of this network")


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """Lists, which is what JSON makes of tuples, as tuples again."""

    def again(value: Any) -> Any:
        return _tuples(value) if isinstance(value, dict) else tuple(value) if isinstance(value, list) else value

    return {key: again(value) for key, value in values.items()}


def save_resume(state: dict[str, Any], path: Path) -> None:
    """The state of an Epoch and what the caller adds (plain values, pictures by name), for `load_resume`."""
    plain = {k: v for k, v in state.items() if k not in ("optimisers", *_GROUPS)}
    tensors = {f"{group}/{name}": value for group in _GROUPS for name, value in state.get(group, {}).items()}
    for i, optimiser in enumerate(state["optimisers"]):
        tensors |= {f"optimiser{i}/{name}": value for name, value in optimiser.items()}
    _write(path, tensors, {"resume": plain | {"format": RESUME_FORMAT, "optimisers": len(state["optimisers"])}})


def load_resume(path: Path) -> dict[str, Any]:
    """What `save_resume` wrote; raises AekitError where it is missing or damaged."""
    tensors, headers = _read(path)
    if "resume" not in headers:
        raise AekitError(f"{path}: not a resume file of aekit; name a run folder, as in --resume runs/conv-mnist-1")
    plain = headers["resume"]
    if plain.get("format") != RESUME_FORMAT:
        raise AekitError(f"{path}: written by another version of aekit; start the run again")
    count = plain.get("optimisers")
    optimisers = [f"optimiser{i}" for i in range(count if is_a(count, int) and 0 <= count <= MOST_OPTIMISERS else 0)]
    groups: dict[str, dict[str, Tensor]] = {name: {} for name in (*_GROUPS, *optimisers)}
    for name, value in tensors.items():
        group, _, key = name.partition("/")
        if group not in groups:
            raise AekitError(f"{path}: the resume file is damaged ({_short(name)}); start the run again")
        groups[group][key] = value
    found = {name: groups[name] for name in _GROUPS}
    return {**plain, **found, "optimisers": [groups[name] for name in optimisers]}


def _write(path: Path, tensors: dict[str, Tensor], headers: dict[str, Any]) -> None:
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with whole(path, force=True) as temporary:
        try:
            save_file(contiguous, temporary, {k: json.dumps(v, allow_nan=False) for k, v in headers.items()})
        except SafetensorError as error:
            raise OSError(28 if "No space" in str(error) else 5, str(error)) from error


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise AekitError(f"{path}: no such file; name a model file or a run folder")
    try:
        with safe_open(path, framework="pt") as file:
            headers = {k: json.loads(v) for k, v in (file.metadata() or {}).items() if k in ("aekit", "resume")}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        raise AekitError(
            f"{path}: not a model file, or a damaged one ({_short(error)}); train again or copy it again"
        ) from error
    if not all(isinstance(h, dict) for h in headers.values()):
        raise AekitError(f"{path}: the model file's header is damaged; train again or copy it again")
    return tensors, headers


def _short(error: object) -> str:
    return " ".join(str(error).split())[:120]

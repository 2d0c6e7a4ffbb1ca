"""What train shows: the layers before it starts, and the report at the end."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from aekit import __version__
from aekit.batches import as_tensor, undo
from aekit.corruptions import Corruption, corrupt, split
from aekit.layers import count_parameters
from aekit.objectives import mse, parse_penalties
from aekit.trained import TrainedModel
from aekit.training import TrainSettings, mix, phases_of, predicts_hidden, reconstructs
from aekit.workflows.common import Talk
from aekit.workflows.training_data import Parts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aekit.reports import Section

SHOWN = 2000  # rows that the data section looks at
DRAWN = {"image": 64, "series": 8, "table": 8}  # samples of a sheet, where there are no classes
EACH = 8  # of each class
DRAWN_CLASSES = 10  # of a sheet
SPARSE = ("l1", "kl")  # penalties under which the units are shown
LOSSES = {"mse": "Mean squared error", "l1": "Mean absolute error", "bce": "Binary cross-entropy"}


def show_layers(trained: TrainedModel, settings: TrainSettings, parts: Parts, talk: Talk) -> dict[str, Any]:
    """Shapes, parameters and multiply-adds per layer, once through as in training, and the memory of a step."""
    found: dict[str, dict[str, Any]] = {}
    hooks = []

    def note(name: str, module: torch.nn.Module) -> None:
        def hook(_: torch.nn.Module, inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            found.setdefault(
                name,
                {
                    "layer": name,
                    "kind": type(module).__name__,
                    "output": list(first.shape[1:]),
                    "parameters": count_parameters(module),
                    "multiply_adds": _multiply_adds(module, inputs[0], first),
                },
            )

        hooks.append(module.register_forward_hook(hook))

    for name, module in trained.network.named_modules():
        if not list(module.children()):
            note(name, module)
    where = next(trained.network.parameters()).device
    batch = parts.train.to(where).batch(torch.arange(min(2, len(parts.train)), device=where))
    for phase in phases_of(trained.network.train(), settings, torch.ones((), device=where)):
        phase.loss(batch)
    for hook in hooks:
        hook.remove()
    layers = list(found.values())
    parameters = count_parameters(trained.network)
    held_rows = len(parts.train) if parts.stream is None else 2 * min(parts.stream.buffer, len(parts.stream))
    activations = sum(math.prod(layer["output"]) for layer in layers) * 4 * settings.batch_size
    memory = {
        "weights_and_optimiser_bytes": parameters * 16,
        "activations_bytes": activations,
        "data_bytes": parts.train.x[0].numel() * parts.train.x.element_size() * held_rows,
    }
    for layer in layers:
        shape = "x".join(map(str, layer["output"]))
        counts = f"{layer['parameters']:>12,} {layer['multiply_adds']:>14,}"
        talk.say(f"{layer['layer']:16} {layer['kind']:18} {shape:>14} {counts}")
    total = sum(layer["multiply_adds"] for layer in layers)
    talk.say(
        f"{parameters:,} parameters, {total:,} multiply-adds a sample, {sum(memory.values()) / 2**20:,.1f} MiB to train"
    )
    return {
        "recipe": trained.recipe,
        "parameters": parameters,
        "multiply_adds": total,
        "layers": layers,
        "memory": memory,
    }


def _multiply_adds(module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> int:
    if isinstance(module, torch.nn.Linear):
        return module.weight.numel() * (y.numel() // (len(y) * module.out_features))
    if isinstance(module, torch.nn.LSTM):
        return sum(p.numel() for n, p in module.named_parameters() if "weight" in n) * x.shape[1]
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.dim() < 3:
        return 0
    transposed = type(module).__name__.startswith("ConvTranspose")
    return weight.numel() * math.prod((x if transposed else y).shape[2:])


class Stages:
    """What the model makes at five epochs, in `pictures`: a fixed grid of samples, one per class, reconstructed, by the
    epoch's number, and what it generates from fixed latents, by "samples" and the epoch's number."""

    def __init__(self, trained: TrainedModel, parts: Parts, where: torch.device, pictures: dict[str, torch.Tensor]):
        rows = one_per_class(parts.labels, len(parts.train_raw))
        self.trained, self.where = trained, where
        self.x, _, _ = parts.normalisation.apply(as_tensor(parts.train_raw[rows]))
        self.pictures = dict(pictures)

    @torch.no_grad()
    def add(self, epoch: int, epochs: int) -> None:
        wanted = {max(1, round(1 + (epochs - 1) * share)) for share in (0, 0.25, 0.5, 0.75, 1)}
        if epoch not in wanted:
            return
        self.trained.network.eval()
        if reconstructs(self.trained.network):
            self.pictures[str(epoch)] = _given_back(self.trained.network, self.x, self.where)[0]
        if hasattr(self.trained.network, "prior"):
            step = EACH if getattr(self.trained.network, "conditional", False) else 1  # one of each class
            self.pictures[f"samples {epoch}"] = torch.from_numpy(drawn_samples(self.trained)[::step][:DRAWN_CLASSES])


@torch.no_grad()
def drawn_samples(trained: TrainedModel) -> NDArray[np.float32]:
    """Samples (N, C, ...) in the data's units from noise that is the same in each call; EACH of the first classes."""
    network, generator = trained.network.eval(), torch.Generator().manual_seed(0)
    if getattr(network, "conditional", False):
        classes = range(min(len(trained.classes or ()), DRAWN_CLASSES))
        z = torch.cat([network.prior(EACH, generator, label) for label in classes])  # type: ignore[operator]
    else:
        z = network.prior(DRAWN[trained.kind], generator)  # type: ignore[operator]
    x_hat = network.decode(z.to(next(network.parameters()).device)).float()  # type: ignore[operator]
    samples: NDArray[np.float32] = undo(x_hat, *trained.normalisation.constants(x_hat)).float().cpu().numpy()
    return samples


def sample_sheet(trained: TrainedModel) -> "Figure":
    """What the model generates from noise that is the same in each call; a row for each class."""
    from aekit import reports  # matplotlib takes a second

    conditional = getattr(trained.network, "conditional", False)
    return reports.sample_grid(drawn_samples(trained), trained.kind, columns=EACH if conditional else None)


def _given_back(
    network: torch.nn.Module, x: torch.Tensor, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What the network makes of normalised samples (K, C, ...), and where it predicts hidden values, which they are."""
    x = x.to(device)
    if not predicts_hidden(network):
        return network(x).x_hat.float().cpu(), None
    hidden = network.example_mask().expand_as(x)  # type: ignore[operator]
    return network.fill(x, hidden).cpu(), hidden.cpu()  # type: ignore[operator]


def one_per_class(labels: NDArray[Any] | None, count: int) -> NDArray[np.int64]:
    if labels is None or len(np.unique(labels)) < 2:
        return np.linspace(0, count - 1, min(8, count)).astype(np.int64)
    return np.sort(np.unique(labels, return_index=True)[1])[:12]


def training_page(
    trained: TrainedModel,
    settings: TrainSettings,
    parts: Parts,
    history: list[dict[str, float]],
    pictures: dict[str, torch.Tensor],
    figures: dict[str, Any],
    corruption: Corruption,
) -> str:
    """The run's report: data, loss curves, progress, and reconstructions of rows held out beside PCA's."""
    from aekit import reports  # matplotlib takes a second

    rate, columns = trained.sampling_rate, parts.record.columns
    some = np.linspace(0, len(parts.train_raw) - 1, min(SHOWN, len(parts.train_raw))).astype(np.int64)
    pca = figures.get("pca_val_error"), figures.get("pca_components")
    error_is = getattr(trained.network, "error_is", "mean squared error")
    sections = [
        reports.data_section(
            parts.train_raw[some], parts.record.kind, parts.labels, rate, columns, some, len(parts.record)
        ),
        reports.training_section(history, figures["best_epoch"], *pca, _loss_is(trained), error_is),
    ]
    if reconstructs(trained.network):
        rows = one_per_class(parts.labels, len(parts.train_raw))
        stages = sorted((int(epoch), x_hat.numpy()) for epoch, x_hat in pictures.items() if epoch.isdigit())
        if stages:
            names = None if parts.labels is None else parts.labels[rows]
            sections.append(reports.progress_section(_normalised(parts, rows), stages, parts.record.kind, names, rate))
        sections.append(_reconstructions(trained, parts, corruption))
    if any(penalty.name in SPARSE for penalty in parse_penalties(settings.penalty)):
        sections.append(_units(trained, parts))
    drawn = {int(key.partition(" ")[2]): x for key, x in pictures.items() if not key.isdigit()}
    if drawn:
        ordered = [(epoch, drawn[epoch].numpy()) for epoch in sorted(drawn)]
        sections.append(reports.drawn_section(ordered, trained.kind, rate, columns))
    told = ["batch_size", "lr", "optimiser", "error", "precision", "seed"]
    if hasattr(trained.network, "phases"):
        told.remove("error")  # it has a loss of its own
    elif settings.penalty:
        told.append("penalty")
    chosen = {name: getattr(settings, name) for name in told}
    facts = {**figures, **chosen, "corruption": " or ".join(trained.corruption) or "none", "aekit": __version__}
    return reports.page(f"{trained.recipe} on {trained.data.rpartition('/')[2]}", facts, sections)


@torch.inference_mode()
def _units(trained: TrainedModel, parts: Parts) -> "Section":
    """Which classes the latent units answer to, of rows held out."""
    from aekit import reports

    batch = parts.val.batch(torch.arange(min(SHOWN, len(parts.val))))
    z = trained.network.encode(batch.x.to(next(trained.network.parameters()).device))  # type: ignore[operator]
    names = None
    if batch.label is not None:
        names = np.array([*(trained.classes or ()), "other"])[batch.label.numpy()]  # -1 is the last
    return reports.units_section(z.float().cpu().numpy(), names)


def _loss_is(trained: TrainedModel) -> str | None:
    """What the training loss is where it is not of the same kind as the validation error."""
    if hasattr(trained.network, "phases"):
        return "The network's own loss"
    own_units = trained.normalisation.kind == "sample"
    if trained.error == "mse" and not own_units:
        return None
    return LOSSES[trained.error] + (", of each row in its own standard deviation" if own_units else "")


def _normalised(parts: Parts, rows: NDArray[np.int64]) -> NDArray[Any]:
    return parts.normalisation.apply(as_tensor(parts.train_raw[rows]))[0].numpy()


@torch.inference_mode()
def _reconstructions(trained: TrainedModel, parts: Parts, corruption: Corruption) -> "Section":
    """Rows held out, one per class, in the file's units: as given, as the model saw and gave them back, and PCA's."""
    from aekit import reports

    count = min(8, len(parts.val))
    index = torch.from_numpy(np.linspace(0, len(parts.val) - 1, count).astype(np.int64))
    labels = None
    if parts.labels is not None and len(parts.val_rows):
        index = torch.from_numpy(one_per_class(parts.labels[parts.val_rows], len(parts.val)))
        labels = parts.labels[parts.val_rows[index.numpy()]]
    noise = torch.Generator().manual_seed(mix(0, 5))
    batch = corrupt(parts.val.batch(index), split(corruption)[1], noise, parts.val.unit is not None)
    x_hat, hidden = _given_back(trained.network, batch.x, next(trained.network.parameters()).device)
    paired = corruption or parts.train.target is not None
    pca = trained.pca if hidden is None else None  # which sees all

    def in_units(x: torch.Tensor) -> NDArray[Any]:
        return undo(x, batch.offset, batch.scale).numpy()

    return reports.reconstruction_section(
        in_units(batch.target),
        in_units(x_hat),
        parts.record.kind,
        mse(x_hat, batch.target, None if hidden is None else hidden.float()).numpy(),
        labels,
        None if pca is None else in_units(pca.reconstruct(batch.x)),
        in_units(batch.x) if paired else None,
        trained.sampling_rate,
        parts.record.columns,
        score_name="error",
        x_seen=None if hidden is None else in_units(batch.x.masked_fill(hidden, math.nan)),
    )

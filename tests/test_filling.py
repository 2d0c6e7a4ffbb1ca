"""Unknown values filled in: known ones stay as they are, and what a model knows is better than the mean."""

from pathlib import Path

import numpy as np
import pytest
import torch
from program import aekit, fails, result, table
from torch import Tensor, nn

from aekit import checkpoint, filling
from aekit.batches import Normalisation
from aekit.filling import repeated
from aekit.inference import Run, Seen
from aekit.models import build
from aekit.objectives import zeros
from aekit.records import Output, record_of
from aekit.trained import TrainedModel
from aekit.workflows.finish import fit_mixture

RUN = Run(torch.device("cpu"), "fp32", 64)
POINTS, WIDTH = 16, 3


def smooth(rows: int, points: int = POINTS, seed: int = 0) -> np.ndarray:
    """Rows in a space of three dimensions."""
    z = np.random.default_rng(seed).normal(size=(rows, WIDTH))
    return np.asarray(z @ _basis(points), np.float32)


def _basis(points: int) -> np.ndarray:
    t = np.arange(points)
    return np.stack([np.sin(2 * np.pi * t / POINTS), np.cos(2 * np.pi * t / POINTS), np.ones(points)])


def holes(rows: int, points: int = POINTS) -> np.ndarray:
    """Four points in a row are unknown, elsewhere in each."""
    starts = np.random.default_rng(1).integers(0, points - 4, rows)
    return (np.arange(points) >= starts[:, None]) & (np.arange(points) < starts[:, None] + 4)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a linear autoencoder of that space, exact by construction, as model.safetensors."""
    folder = tmp_path_factory.mktemp("lab")
    settings = {"hidden": (), "latent": WIDTH, "activation": "none", "output": "none"}
    network = build("dense", (1, POINTS), settings)
    basis = torch.from_numpy(_basis(POINTS)).float()
    with torch.no_grad():
        for layer, weight in ((network.encoder[0], torch.linalg.pinv(basis).T), (network.decoder[0], basis.T)):
            layer.weight.copy_(weight)  # type: ignore[index, union-attr]
            layer.bias.zero_()  # type: ignore[index, union-attr]
        z = network(torch.from_numpy(smooth(500))[:, None]).z
    normalisation = Normalisation("standard", (0.0,), (1.0,), -5, 5)
    trained = TrainedModel(network, "stacked", "dense", settings, (1, POINTS), "series", None, normalisation, "mse")
    trained.mixture, trained.figures = fit_mixture(z.numpy()), {"val_error": 1e-4}
    checkpoint.save(trained, folder / "model.safetensors")
    return folder


def test_what_was_hidden_comes_back_and_all_else_stays_bit_for_bit(lab: Path, tmp_path: Path) -> None:
    clean, mask = smooth(30, seed=2).astype(np.float64), holes(30)
    given = np.where(mask, np.nan, clean)
    np.save(tmp_path / "x.npy", np.where(mask, 1e6, clean))
    np.save(tmp_path / "nan.npy", given)
    np.save(tmp_path / "mask.npy", mask)
    np.save(tmp_path / "clean.npy", clean)
    model = ("--model", str(lab / "model.safetensors"))
    for name, where in (("x", "mask.npy"), ("nan", "nan"), ("nan", "mask.npy")):
        report = ("--report", "r.html") if name == "x" else ()
        words = ("denoise", f"{name}.npy", "--mask", where, "--clean", "clean.npy", "--force", *report)
        figures = result(tmp_path, *words, *model)
        filled = np.load(tmp_path / f"{name}.filled.npy")
        assert filled.dtype == np.float64
        np.testing.assert_array_equal(filled[~mask], clean[~mask])
        np.testing.assert_allclose(filled[mask], clean[mask], atol=0.15)
        assert figures["filled"] == mask.sum()
        assert figures["filled_error"] == pytest.approx(float(np.square(filled - clean)[mask].mean()))
        means = np.repeat(np.nanmean(given, axis=1), 4)
        assert figures["mean_filled_error"] == pytest.approx(float(np.square(means - clean[mask]).mean()), rel=1e-5)
        assert figures["filled_error"] < 0.02 * figures["mean_filled_error"]
    assert (tmp_path / "r.html").stat().st_size > 10_000


def test_long_rows_are_filled_in_windows_and_one_mask_serves_all(lab: Path, tmp_path: Path) -> None:
    clean = np.round(100 * smooth(5, 200, seed=3)).astype(np.int16)
    mask = holes(1, 200)[0]
    np.save(tmp_path / "x.npy", np.where(mask, np.int16(0), clean))
    np.savetxt(tmp_path / "mask.csv", mask[None], fmt="%d", delimiter=",")
    np.save(tmp_path / "mask.npy", mask)
    trained = checkpoint.load(lab / "model.safetensors")
    trained.normalisation = Normalisation("standard", (0.0,), (100.0,), -500, 500)
    checkpoint.save(trained, tmp_path / "model.safetensors")
    model = str(tmp_path / "model.safetensors")
    for where in ("mask.csv", "mask.npy"):
        result(tmp_path, "denoise", "x.npy", "--mask", where, "--model", model, "-o", "o.npy", "--force")
        filled = np.load(tmp_path / "o.npy")
        assert filled.dtype == np.int16
        np.testing.assert_array_equal(filled[:, ~mask], clean[:, ~mask])
        assert np.abs(filled - clean.astype(float)).max() < 15


def test_masks_that_do_not_fit_are_told(lab: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", smooth(6))
    np.save(tmp_path / "short.npy", np.ones((6, 15)))
    np.save(tmp_path / "bad.npy", np.full((6, 16), np.nan))
    gap = smooth(6)
    gap[2, 3] = np.nan
    np.save(tmp_path / "gap.npy", gap)
    np.save(tmp_path / "mask.npy", np.eye(6, 16))
    np.savetxt(tmp_path / "table.csv", gap[:, :4], header="a,b,c,d", comments="", delimiter=",")
    model = ("--model", str(lab / "model.safetensors"))
    fails(tmp_path, "denoise", "x.npy", "--mask", "short.npy", *model, says="the mask has shape 6x15, the data 6x16")
    fails(tmp_path, "denoise", "x.npy", "--mask", "none.npy", *model, says="no such file")
    fails(tmp_path, "denoise", "x.npy", "--mask", "bad.npy", *model, says="bad.npy: row 0, value 0 is NaN")
    fails(tmp_path, "denoise", "gap.npy", "--mask", "mask.npy", *model, says="gap.npy: row 2, value")
    fails(
        tmp_path,
        "denoise",
        "x.npy",
        "--mask",
        "mask.npy",
        says="`aekit train conv1d --data x.npy`, then `aekit denoise",
    )
    words = ("--mask", "mask.npy", *model)
    assert aekit(tmp_path, "denoise", "x.npy", *words, "--noise-out", "n.npy", code=2).stdout == ""
    done = aekit(tmp_path, "denoise", "x.npy", "--mask", "nan", *model)
    assert "no value is marked as unknown" in done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "x.filled.npy"), smooth(6))


def test_labels_and_names_of_a_table_are_kept(tmp_path: Path) -> None:
    rows = smooth(40, 4)
    lines = ["a,b,c,d,class", *(",".join([*map(str, row), "ok"]) for row in rows.tolist())]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    aekit(tmp_path, "train", "stacked", "--data", "t.csv", "--epochs", "1")
    (tmp_path / "h.csv").write_text("\n".join(lines).replace(str(rows.tolist()[3][1]), "") + "\n")
    aekit(tmp_path, "denoise", "h.csv", "--mask", "nan")
    filled = table(tmp_path / "h.filled.csv")
    assert list(filled[0]) == ["a", "b", "c", "d", "class"]
    assert filled[3]["class"] == "ok"
    assert np.isfinite(float(filled[3]["b"]))
    assert filled[4] == table(tmp_path / "t.csv")[4]


class Repeats(nn.Module):
    """Gives back the mean of a sample at all points, which is where repeated reconstructions rest."""

    verbs = ("denoise",)

    def forward(self, x: Tensor) -> Output:
        return Output(x.mean(dim=-1, keepdim=True).expand_as(x), None, zeros(x))


class Fills(Repeats):
    verbs = ("embed",)

    def fill(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask, 7.0, -1.0)


@pytest.mark.parametrize(("network", "value"), [(Repeats(), 2.0), (Fills(), 7.0)])
def test_networks_without_a_decoder_fill_in_their_own_way(network: nn.Module, value: float) -> None:
    normalisation = Normalisation("standard", (0.0,), (1.0,), -5, 5)
    trained = TrainedModel(network, "r", "m", {}, (1, 8), "series", None, normalisation, "mse")
    x = np.array([[1.0, 3.0] * 4], np.float32)
    mask = np.array([[True, True, False, False, False, False, True, True]])
    (part,) = filling.fill(trained, record_of(x), lambda start, rows: mask, RUN, 0, Seen(), lambda done: None)
    np.testing.assert_allclose(part.filled[mask], value, atol=1e-5)


def test_repeated_reconstructions_leave_known_values_alone() -> None:
    x, unknown = torch.randn(4, 1, 9), torch.rand(4, 1, 9) < 0.3
    filled = repeated(lambda x: 0.5 * x + 1, x, unknown, 60)
    assert torch.equal(filled[~unknown], x[~unknown])
    torch.testing.assert_close(filled[unknown], torch.full_like(filled[unknown], 2.0))

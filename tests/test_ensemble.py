"""The ensemble: its members, its score, who learns from which rows, and that anomalies in the data are not learnt."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import Tensor

from aekit import checkpoint
from aekit.batches import Rows, choose_normalisation, to_rows
from aekit.corruptions import parse_corruption
from aekit.inference import scores_of
from aekit.models import build
from aekit.models.ensemble import KINDS, ROUND, SHARED, Ensemble
from aekit.records import Kind
from aekit.trained import TrainedModel
from aekit.training import TrainSettings, fit

Floats = NDArray[np.float32]
NOISE = parse_corruption(["gaussian:0.2"])
SETTINGS = TrainSettings(steps=2 * ROUND + 1, batch_size=64, lr=5e-3, warmup=0.05)


def plane(rows: int, columns: int = 8, seed: int = 0) -> Floats:
    """Rows near a plane through a space of so many columns."""
    rng = np.random.default_rng(seed)
    axes = np.random.default_rng(99).normal(size=(2, columns))
    return (rng.normal(size=(rows, 2)) @ axes + 0.1 * rng.normal(size=(rows, columns))).astype(np.float32)


def rows_of(raw: NDArray[Any], kind: Kind = "table") -> tuple[Rows, TrainedModel]:
    """Rows to train on, and an ensemble for them, prepared and not trained."""
    samples = raw[:, None]
    normalisation = choose_normalisation(samples, kind, "test")
    rows = to_rows(samples, normalisation)
    settings = {"hidden": (16,), "latent": 3, "restarts": 2, "output": normalisation.output, "rows": len(rows)}
    torch.manual_seed(0)
    network = build("ensemble", samples.shape[1:], settings)
    network.prepare(rows)  # type: ignore[operator]
    return rows, TrainedModel(
        network, "ensemble", "ensemble", settings, samples.shape[1:], kind, None, normalisation, "mse"
    )


def learnt_from(
    raw: NDArray[Any], kind: Kind = "table", settings: TrainSettings = SETTINGS
) -> tuple[Tensor, TrainedModel]:
    """The normalised rows, and an ensemble that has learnt from them."""
    rows, trained = rows_of(raw, kind)
    for _ in fit(trained.network, rows, rows, settings, NOISE):
        pass
    trained.network.eval()
    trained.network.settle(rows, rows)  # type: ignore[operator]
    return rows.batch(torch.arange(len(rows))).x, trained


def network_of(trained: TrainedModel) -> Ensemble:
    assert isinstance(trained.network, Ensemble)
    return trained.network


@pytest.fixture(scope="module")
def usual() -> tuple[Tensor, TrainedModel]:
    """300 rows of a plane, of which the first five lie far from it."""
    raw = plane(300)
    raw[:5] += np.random.default_rng(1).normal(size=(5, 8)) * 4
    return learnt_from(raw)


def test_members_are_plain_networks_side_by_side() -> None:
    torch.manual_seed(0)
    for output, activation in (("none", "gelu"), ("sigmoid", "relu")):
        model = Ensemble((2, 5), (7, 6), 3, activation, restarts=2, output=output).double()
        x = torch.randn(4, 2, 5, dtype=torch.float64)
        x_hat, z = model.members(x)
        assert len(x_hat) == len(z) == len(KINDS) * SHARED * 2
        for m in range(len(x_hat)):
            h = x.flatten(1)
            for i, (weight, bias) in enumerate(zip(model.weights, model.biases, strict=True)):
                h = h @ weight[m] + bias[m]
                if i == 2:
                    torch.testing.assert_close(z[m], h, rtol=0, atol=1e-12)
                elif i < 5:
                    h = torch.nn.functional.gelu(h) if activation == "gelu" else h.relu()
            torch.testing.assert_close(x_hat[m], h.sigmoid() if output == "sigmoid" else h, rtol=0, atol=1e-12)


@torch.inference_mode()
def test_score_is_its_formula_and_the_mean_of_its_map(usual: tuple[Tensor, TrainedModel]) -> None:
    x, trained = usual
    network = network_of(trained)
    score, values = network.score(x)
    flat = x.flatten(1).double().numpy()
    x_hat = network.members(x)[0].double().numpy()
    own = len(x_hat) // len(KINDS)
    squares = [np.square(flat - network.median.numpy())]
    squares += [np.square(x_hat[k * own : (k + 1) * own] - flat).mean(axis=0) for k in range(len(KINDS))]
    above = []
    for square, (centre, spread) in zip(squares, network.usual.double().numpy(), strict=True):
        above.append(np.logaddexp(0, (np.log(square.mean(axis=1)) - centre) / spread))
    np.testing.assert_allclose(score.numpy(), np.sqrt(np.mean(np.square(above), axis=0)), rtol=1e-4)
    assert values.shape == x.shape
    assert (values >= 0).all()
    torch.testing.assert_close(values.flatten(1).mean(1), score, rtol=1e-5, atol=1e-6)
    assert score[:5].min() > score[5:].quantile(0.97)


def test_latents_decode_to_the_mean_of_the_two_members_that_gave_them(usual: tuple[Tensor, TrainedModel]) -> None:
    x, trained = usual
    network = network_of(trained)
    with torch.inference_mode():
        expected = network.members(x)[0][-SHARED:].mean(0)
        torch.testing.assert_close(network.decode(network.encode(x)).flatten(1), expected)


def test_usual_errors_have_their_place_and_spread(usual: tuple[Tensor, TrainedModel]) -> None:
    """Of each kind, over the rows of training: quantiles 0.4, and 0.1 below it."""
    x, trained = usual
    network = network_of(trained)
    with torch.inference_mode():
        logs = network.kind_errors(x).mean(2).double().log().numpy()
    centre, low = np.quantile(logs, 0.4, axis=1), np.quantile(logs, 0.1, axis=1)
    np.testing.assert_allclose(network.usual.numpy(), np.stack([centre, centre - low], axis=1), rtol=1e-3, atol=1e-4)


def test_core_learns_half_of_the_rows_grown_half_or_more_and_all_every_row(usual: tuple[Tensor, TrainedModel]) -> None:
    _, trained = usual
    for network in (network_of(trained), network_of(rows_of(plane(300))[1])):  # after training, and before
        core, grown, every = network.learnt.float().mean(1).tolist()
        assert core == 0.5
        assert 0.5 <= grown < 1
        assert every == 1
    assert not network_of(trained).learnt[:2, :5].any()


def test_two_members_of_a_kind_share_out_the_rows() -> None:
    """A row moves exactly one of two: none where its kind leaves it out; another restart shares them otherwise."""
    rows, trained = rows_of(plane(64))
    network = network_of(trained)
    moved = []
    for row in range(64):
        network.zero_grad()
        network.phases()[0].loss(rows.batch(torch.tensor([row])))["loss"].backward()  # type: ignore[no-untyped-call]
        gradients = network.biases[0].grad
        assert gradients is not None
        moved.append((gradients.abs().sum((1, 2)) > 0).view(len(KINDS), 2, SHARED))
    learns = torch.stack(moved)  # (rows, kinds, restarts, shared)
    assert torch.equal(learns.sum(3), network.learnt.T.long()[:, :, None].expand(-1, -1, 2))
    share = learns[:, -1].float().mean(0)
    assert ((share > 0.3) & (share < 0.7)).all()
    alike = (learns[:, -1, 0] == learns[:, -1, 1]).all(1).float().mean()
    assert 0.3 < alike < 0.7


def test_a_row_is_chosen_by_members_that_do_not_learn_it() -> None:
    rows, trained = rows_of(plane(64))
    network = network_of(trained)
    before = network.last_errors.clone()
    index = torch.arange(10, 20)
    with torch.no_grad():
        network.phases()[0].loss(rows.batch(index))
        errors = (network.members(rows.batch(index).x)[0] - rows.batch(index).x.flatten(1)).square().mean(2)
        expected = torch.zeros(len(KINDS), 10)
        for i, row in enumerate(index):
            network.zero_grad()
            with torch.enable_grad():
                network.learnt.fill_(True)
                network.phases()[0].loss(rows.batch(row[None]))["loss"].backward()  # type: ignore[no-untyped-call]
            gradients = network.biases[0].grad
            assert gradients is not None
            others = (gradients.abs().sum((1, 2)) == 0).view(len(KINDS), -1)
            expected[:, i] = torch.stack([e[o].mean() for e, o in zip(errors[:, i].view(3, -1), others, strict=True)])
    torch.testing.assert_close(network.last_errors[:, index], expected.log())
    rest = torch.ones(64, dtype=torch.bool).index_fill(0, index, False)
    assert torch.equal(network.last_errors[:, rest], before[:, rest])


@torch.inference_mode()
def test_forty_percent_of_anomalies_are_found_by_the_core_where_plain_training_learns_them() -> None:
    rng = np.random.default_rng(0)
    raw = plane(500)
    others = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 8)) + 2.5
    raw[:200] = others + 0.1 * rng.normal(size=(200, 8))
    anomalous = np.arange(500) < 200
    with torch.inference_mode(False):
        x, trained = learnt_from(raw, settings=replace(SETTINGS, steps=5 * ROUND))
    errors = network_of(trained).kind_errors(x).mean(2)
    core, every = (roc_auc_score(anomalous, errors[1 + KINDS.index(kind)].numpy()) for kind in ("core", "all"))
    assert core > 0.95
    assert every < core - 0.05
    assert roc_auc_score(anomalous, network_of(trained).score(x)[0].numpy()) > 0.95


@torch.inference_mode()
def test_agreement_is_the_rank_correlation_of_the_two_shares(usual: tuple[Tensor, TrainedModel]) -> None:
    x, trained = usual
    network = network_of(trained)
    rows = to_rows(x.numpy(), replace(trained.normalisation, offset=(0.0,) * 8, scale=(1.0,) * 8))
    centre, spread = network.usual.unbind(1)
    halves = []
    for share in range(SHARED):
        errors = (network.members(x)[0] - x.flatten(1)).square().mean(2).view(len(KINDS), 2, SHARED, -1)
        plainest = (network.median - x.flatten(1)).square().mean(1)
        logs = torch.cat([plainest[None], errors[:, :, share].mean(1)]).log()
        halves.append(np.logaddexp(0, ((logs - centre[:, None]) / spread[:, None]).numpy()))
    expected = spearmanr(*[np.square(half).mean(axis=0) for half in halves]).statistic
    assert network.agreement(rows) == pytest.approx(expected, abs=1e-4)
    assert expected > 0.8


def test_a_saved_ensemble_scores_the_same(usual: tuple[Tensor, TrainedModel], tmp_path: Path) -> None:
    x, trained = usual
    checkpoint.save(trained, tmp_path / "model.safetensors")
    loaded = checkpoint.load(tmp_path / "model.safetensors")
    with torch.inference_mode():
        for ours, theirs in zip(network_of(loaded).score(x), network_of(trained).score(x), strict=True):
            assert torch.equal(ours, theirs)


def test_training_resumes_bit_for_bit_from_its_file(tmp_path: Path) -> None:
    """Stopped three steps before rows are chosen, by errors of which most are older."""
    settings = TrainSettings(epochs=30, batch_size=32, lr=5e-3)
    rows, trained = rows_of(plane(200))
    for epoch in fit(trained.network, rows, rows, settings, NOISE):
        if epoch.number == 11:
            checkpoint.save_resume(epoch.state(), tmp_path / "resume.safetensors")
    rows, resumed = rows_of(plane(200))
    state = checkpoint.load_resume(tmp_path / "resume.safetensors")
    assert state["step"] == ROUND - 3
    for _ in fit(resumed.network, rows, rows, settings, NOISE, state):
        pass
    whole = trained.network.state_dict()
    for name, value in resumed.network.state_dict().items():
        assert torch.equal(value, whole[name]), name


@torch.inference_mode()
def test_bytes_of_pictures_are_scored() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:8, :8]
    raw = np.stack([128 + 100 * np.sin((x + y) / 3 + phase) for phase in rng.uniform(0, 3, 200)])
    raw[:4] = rng.uniform(0, 255, (4, 8, 8))
    raw[:, 0], raw[:, :, 0] = 0, 255  # what a sigmoid does not reach
    with torch.inference_mode(False):
        values, trained = learnt_from(raw.astype(np.uint8), "image")
    assert trained.normalisation.output == "sigmoid"
    network = network_of(trained)
    assert (network.median.min(), network.median.max()) == (0, 1)
    assert all(bias.isfinite().all() for bias in network.biases)
    x_hat = network(values).x_hat
    assert x_hat.shape == values.shape == (200, 1, 8, 8)
    assert (x_hat >= 0).all()
    assert set(network.score(values)[0].topk(4).indices.tolist()) == {0, 1, 2, 3}


@torch.inference_mode()
def test_a_constant_column_takes_no_part() -> None:
    raw = plane(300)
    raw[:3] += 5
    raw[:, 4] = 7
    with torch.inference_mode(False):
        x, trained = learnt_from(raw)
    score, values = network_of(trained).score(x)
    assert torch.isfinite(score).all()
    assert set(score.topk(3).indices.tolist()) == {0, 1, 2}
    assert values[:3, 0, 4].max() < 0.01 * values[:3].mean()


@torch.inference_mode()
def test_rows_that_are_mostly_equal_are_scored() -> None:
    raw = np.ones((60, 4), np.float32)
    raw[:3] = plane(3, 4) + 9
    with torch.inference_mode(False):
        x, trained = learnt_from(raw)
    score, values = network_of(trained).score(x)
    assert torch.isfinite(values).all()
    assert score[:3].min() > score[3:].max()


@torch.inference_mode()
def test_half_precision_ranks_as_single_does() -> None:
    raw = plane(300)
    with torch.inference_mode(False):
        x, trained = learnt_from(raw, settings=replace(SETTINGS, precision="bf16"))
    half, single = scores_of(trained, x, "bf16"), scores_of(trained, x, "fp32")
    assert half.dtype == torch.float32
    assert spearmanr(half.numpy(), single.numpy()).statistic > 0.95

"""The masked autoencoder: what the encoder sees, what the loss counts, what the latent is made of, filling in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import aekit
from aekit import workflows
from aekit.errors import AekitError
from aekit.layers import count_parameters
from aekit.models import build
from aekit.models.mae import MAE, positions
from aekit.objectives import mse
from aekit.records import Batch
from aekit.training import precision_context
from aekit.workflows.train_options import resolve

SHAPES = [(1, 12, 10), (2, 50), (2, 7, 9)]  # each with padding where patches are 4 long
SETTINGS = [{"patch": 4}, {"patch": 4, "normalised": True}]


def network(shape: tuple[int, ...] = (1, 12, 10), **more: Any) -> MAE:
    torch.manual_seed(0)
    found = build("mae", shape, {"output": "none", **more})
    assert isinstance(found, MAE)
    with torch.no_grad():  # at its start what it predicts hardly depends on the input
        found.decoder[-1].weight.mul_(5)
    return found.eval()


def samples(shape: tuple[int, ...], count: int = 3) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def patches_of(model: MAE, x: Tensor) -> Tensor:
    """(B, L): which patches of samples (B, C, ...) hold a value that is not zero."""
    return model._patches(x).abs().amax(2) > 0


def vit_parameters(width: int, blocks: int, values_in: int, values_out: int) -> int:
    """Of a linear layer in, blocks of attention and a feed-forward pair four times as wide, a norm and, if any, a layer
    out; one token."""
    block = 12 * width**2 + 13 * width
    out = (width + 1) * values_out
    return (values_in + 1) * width + width + blocks * block + 2 * width + out


def test_base_is_the_published_network() -> None:
    """Its 111,907,840 parameters are told with the positions, which are fixed."""
    with torch.device("meta"):
        model = build("mae", (3, 224, 224), {"size": "base", "patch": 16})
    expected = vit_parameters(768, 12, 16 * 16 * 3, 0) + vit_parameters(512, 8, 768, 16 * 16 * 3)
    assert count_parameters(model) == expected == 111_655_680
    assert expected + (1 + 14 * 14) * (768 + 512) == 111_907_840
    assert model.visible == 49


def test_patch_sizes_follow_the_sample() -> None:
    for shape, patch, count in (
        ((1, 28, 28), [4, 4], 49),
        ((3, 128, 128), [16, 16], 64),
        ((3, 224, 224), [16, 16], 196),
        ((1, 8, 8), [1, 1], 64),
        ((1, 140), [3], 47),
        ((3, 6000), [94], 64),
        ((2, 2, 1000), [2, 6], 167),
    ):
        model = network(shape)
        assert (model.patch, len(model.order)) == (patch, count)
        assert model.visible == int(count * 0.25)


@given(st.lists(st.integers(1, 23), min_size=1, max_size=2), st.integers(1, 3), st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_patches_hold_every_value_once(size: list[int], channels: int, patch: int) -> None:
    if all(along <= patch for along in size):
        size[0] = patch + 1
    model = build("mae", (channels, *size), {"patch": patch})
    x = torch.arange(1.0, 2 * channels * np.prod(size) + 1).view(2, channels, *size)
    cut = model._patches(x)  # type: ignore[operator]
    assert cut.count_nonzero() == x.numel()
    assert torch.equal(model._samples(cut), x)  # type: ignore[operator]
    assert torch.equal(cut != 0, (model.inside != 0).expand(cut.shape))  # type: ignore[operator]


def test_positions_are_sines_and_cosines_of_both_axes() -> None:
    found = positions([2, 3], 8).double()
    for place, (i, j) in enumerate((i, j) for i in range(2) for j in range(3)):
        expected = [f(n * w) for n in (i, j) for f in (np.sin, np.cos) for w in (1, 0.01)]
        torch.testing.assert_close(found[place], torch.tensor(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("more", SETTINGS, ids=["plain", "normalised"])
def test_training_sees_visible_patches_and_judges_hidden_ones(shape: tuple[int, ...], more: dict[str, Any]) -> None:
    model = network(shape, **more).train()
    (phase,) = model.phases()
    x, target = samples(shape).requires_grad_(), samples(shape).add(0.1).requires_grad_()
    torch.manual_seed(5)
    loss = phase.loss(Batch(x, target, x, x))["loss"]
    of_x, of_target = torch.autograd.grad(loss, (x, target))
    seen, judged = patches_of(model, of_x), patches_of(model, of_target)
    assert torch.equal(seen, ~judged)
    assert seen.sum(1).tolist() == [int(len(model.order) * 0.25)] * 3
    assert not torch.equal(seen[0], seen[1])
    torch.manual_seed(5)
    assert torch.equal(phase.loss(Batch(x, target, x, x))["loss"], loss)
    assert not torch.equal(phase.loss(Batch(x, target, x, x))["loss"], loss)


def test_the_loss_is_the_mean_squared_error_of_what_is_hidden() -> None:
    shape = (2, 7, 9)
    model = network(shape, patch=4).train()
    x = samples(shape)
    torch.manual_seed(5)
    visible = torch.rand(3, len(model.order)).argsort(1)[:, : model.visible]
    torch.manual_seed(5)
    loss = model.phases()[0].loss(Batch(x, x, x, x))["loss"].detach().double()
    cut = model._patches(x)
    x_hat = model._predicted(cut, visible).detach().double()
    errors = []
    for b in range(3):
        hidden = [i for i in range(len(model.order)) if i not in visible[b].tolist()]
        values = (x_hat[b, hidden] - cut[b, hidden]).square()[model.inside[hidden] > 0]
        errors.append(values.mean())
    torch.testing.assert_close(loss, torch.stack(errors).mean(), rtol=1e-5, atol=0)


def test_normalised_patches_are_judged_by_content_mean_and_deviation() -> None:
    """Padding counts neither in a patch's statistics nor in the error."""
    shape = (2, 7, 9)
    model = network(shape, patch=4, normalised=True).train()
    x = samples(shape)
    torch.manual_seed(5)
    visible = torch.rand(3, len(model.order)).argsort(1)[:, : model.visible]
    torch.manual_seed(5)
    losses = model.phases()[0].loss(Batch(x, x, x, x))
    cut, predicted = model._patches(x), model._predicted(model._patches(x), visible).detach()
    content, statistics = [], []
    for b in range(3):
        for i in set(range(len(model.order))) - set(visible[b].tolist()):
            inside = model.inside[i] > 0
            patch, guess = cut[b, i][inside].double(), predicted[b, i].double()
            deviation = (patch.var(correction=1) + 1e-6).sqrt()
            content += [(guess[:-2][inside] - (patch - patch.mean()) / deviation).square()]
            statistics += [(guess[-2] - patch.mean()).square(), (guess[-1] - deviation.log()).square()]
    torch.testing.assert_close(losses["content_loss"].double(), torch.cat(content).mean(), rtol=1e-5, atol=0)
    of_both = 2 * torch.stack(statistics).mean()
    torch.testing.assert_close(losses["statistics_loss"].double(), of_both, rtol=1e-5, atol=0)
    assert losses["loss"].item() == pytest.approx(float(losses["content_loss"] + losses["statistics_loss"]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("more", SETTINGS, ids=["plain", "normalised"])
def test_no_patch_tells_anything_of_its_own_reconstruction(shape: tuple[int, ...], more: dict[str, Any]) -> None:
    model, x = network(shape, **more), samples(shape)
    before = model(x)
    assert bool((before.weight == 1).all())
    for i in range(0, len(model.order), 3):
        own = model._samples(torch.zeros_like(model._patches(x)).index_fill(1, torch.tensor([i]), 1)) > 0
        after = model(torch.where(own, 7 * x.square() - 3, x)).x_hat
        assert torch.equal(after[own], before.x_hat[own])
        assert not torch.equal(after, before.x_hat)


@pytest.mark.parametrize("masked", [0.1, 0.25, 0.5, 0.75, 0.9])
def test_what_was_never_hidden_is_not_judged(masked: float) -> None:
    model, x = network(masked=masked), samples((1, 12, 10))
    output = model(x)
    assert bool((output.weight == 1).all()) == (masked > 0.2)
    judged = output.weight.expand_as(x) == 1
    assert torch.equal(output.x_hat[~judged], x[~judged])
    assert bool((output.x_hat != x)[judged].all())
    assert judged.any()


@pytest.mark.parametrize("more", SETTINGS, ids=["plain", "normalised"])
def test_a_sample_is_judged_the_same_in_any_company(more: dict[str, Any]) -> None:
    model, x = network(**more), samples((1, 12, 10), 9)
    with torch.no_grad():
        together = model(x)
        assert torch.equal(model(x).x_hat, together.x_hat)
        alone = [model(x[i : i + 1]) for i in range(9)]
    torch.testing.assert_close(torch.cat([one.x_hat for one in alone]), together.x_hat, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.cat([one.z for one in alone]), together.z, rtol=1e-4, atol=1e-5)


def test_the_latent_is_the_mean_over_all_patches() -> None:
    model = network()
    x = samples((1, 12, 10)).requires_grad_()
    z = model.encode(x)
    assert z.shape == (3, 128)
    assert torch.equal(z, model(x).z)
    (slope,) = torch.autograd.grad(z[:, 0].sum(), x)
    assert bool((slope != 0).all())
    assert model.train()(x).z is None  # training does not pay for it
    each = model._encoded(model._tokens(model._patches(x)))
    torch.testing.assert_close(each[:, 1:].mean(1), z)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("more", SETTINGS, ids=["plain", "normalised"])
def test_filling_gives_back_what_is_known_and_looks_at_nothing_else(
    shape: tuple[int, ...], more: dict[str, Any]
) -> None:
    model, x = network(shape, **more), samples(shape, 4)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.02
    mask[0] = False
    mask[1] = True
    with torch.no_grad():
        filled = model.fill(x, mask)
        assert torch.equal(filled[~mask], x[~mask])
        assert bool((filled != x)[mask].all())
        assert torch.equal(model.fill(x.masked_fill(mask, torch.nan), mask), filled)
        for i in range(4):
            torch.testing.assert_close(model.fill(x[i : i + 1], mask[i : i + 1])[0], filled[i], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("more", SETTINGS, ids=["plain", "normalised"])
def test_filling_predicts_as_training_does(more: dict[str, Any]) -> None:
    """Tokens that are hidden are as good as not there."""
    model, x = network(**more), samples((1, 12, 10))
    mask = model.example_mask()
    visible = model._choice(0)
    assert set(patches_of(model, (~mask)[None].float())[0].nonzero().flatten().tolist()) == set(visible.tolist())
    expected = model._samples(model._in_units(model._predicted(model._patches(x), visible.expand(3, -1))))
    torch.testing.assert_close(model.fill(x, mask.expand_as(x))[:, mask], expected[:, mask], rtol=1e-4, atol=1e-5)


def test_images_stay_within_their_range() -> None:
    model, x = network(output="sigmoid"), samples((1, 12, 10))
    for x_hat in (model(x).x_hat, model.fill(x, torch.ones_like(x) > 0)):
        assert (float(x_hat.detach().min()), float(x_hat.detach().max())) == (0, 1)


def test_the_patches_of_a_constant_image_have_a_content_of_zero() -> None:
    model = network(normalised=True)
    found = model._normalised(torch.full((1, len(model.order), 4), 0.3))
    torch.testing.assert_close(found[..., :-2], torch.zeros_like(found[..., :-2]), rtol=0, atol=1e-3)
    torch.testing.assert_close(found[..., -2:], torch.tensor([0.3, -6.907755]).expand_as(found[..., -2:]))


def test_it_runs_in_bfloat16_and_without_gradients() -> None:
    model, x = network((2, 50), normalised=True), samples((2, 50))
    with torch.inference_mode():
        exact = model(x)
        with precision_context("bf16", torch.device("cpu")):
            rough = model(x)
            filled = model.fill(x, x > 0.9)
    assert rough.x_hat.dtype == filled.dtype == torch.float32
    assert float(mse(rough.x_hat, exact.x_hat).max()) < 0.01 * float(exact.x_hat.square().mean())


def test_settings_that_make_no_model_are_told() -> None:
    for more, words in (
        ({"size": "huge"}, "size=huge: there are tiny, small, base"),
        ({"masked": 1.0}, "a share between 0 and 1"),
        ({"patch": 12}, "the sample is one patch"),
    ):
        with pytest.raises(AekitError, match=words):
            build("mae", (1, 12, 12), more)


def test_sizes_differ_in_width_and_depth() -> None:
    counts = [
        count_parameters(nn.ModuleList([build("mae", (1, 28, 28), {"size": size})])) for size in ("tiny", "small")
    ]
    assert counts[0] < 1e6 < 2e7 < counts[1] < 4e7


@pytest.mark.parametrize("shape", [(60, 12, 9), (60, 40)])
def test_a_run_embeds_scores_and_shows_what_was_masked(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=shape).cumsum(axis=-1))
    options = {"steps": 3, "masked": 0.5}
    figures = workflows.train("mae", str(tmp_path / "x.npy"), options, out=str(tmp_path / "run"))
    assert "pca_val_error" not in figures  # PCA sees what it is to give back
    page = (tmp_path / "run" / "report.html").read_text()
    assert ("what the model saw" in page) == (len(shape) == 2)
    model = aekit.load(str(tmp_path / "run"))
    x = np.load(tmp_path / "x.npy")
    assert model.embed(x).shape == (60, 128)
    assert model.score(x).shape == (60,)  # type: ignore[union-attr]
    assert model.trained.mixture is None


def test_a_size_brings_the_training_that_suits_it() -> None:
    for size, optimiser in (("tiny", "muon"), ("small", "adamw")):
        found, model, *_ = resolve("mae", {"size": size, "batch_size": 8})
        assert (found.optimiser, found.batch_size, model["size"]) == (optimiser, 8, size)
    assert resolve("mae", {"size": "small", "lr": 0.5})[0].lr == 0.5

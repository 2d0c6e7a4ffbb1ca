"""Networks that compete: their losses as published, gradient penalties by autograd in float64, what they learn."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from program import aekit, fails, result
from torch import Tensor, nn
from torch.nn import functional as F

from aekit import checkpoint
from aekit.batches import choose_normalisation, to_rows
from aekit.models import build
from aekit.models.gan import MEMORY, RunningMean, slopes
from aekit.records import Batch
from aekit.training import TrainSettings, fit


def network(loss: str = "gan", shape: tuple[int, ...] = (1, 8, 8), **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return build("gan", shape, {"latent": 3, "width": 4, "loss": loss, **settings})


def batch(shape: tuple[int, ...] = (6, 1, 8, 8), labels: Tensor | None = None) -> Batch:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    return Batch(x, x, torch.zeros(1), torch.ones(1), None, labels)


def losses(model: nn.Module, given: Batch) -> dict[str, Tensor]:
    """What each phase minimises, all from the same draws."""
    found = {}
    for phase in model.phases():  # type: ignore[operator]
        torch.manual_seed(5)
        found[phase.name] = phase.loss(given)["loss"].detach()
    return found


def slope_in_float64(critic: nn.Module, x: Tensor) -> Tensor:
    """The norm of the critic's gradient at each sample by autograd's Jacobian, (B,)."""
    wide = copy.deepcopy(critic).double()
    jacobian = torch.func.vmap(torch.func.jacrev(lambda one: wide(one[None])[0, 0]))(x.double())
    return jacobian.detach().flatten(1).norm(dim=1)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 20, 17), (2, 60)])
def test_slopes_are_autograds_and_can_be_differentiated(shape: tuple[int, ...]) -> None:
    critic = network(shape=shape).critic
    x = torch.rand(5, *shape).requires_grad_()
    found = slopes(critic(x), x)  # type: ignore[operator]
    torch.testing.assert_close(found.double(), slope_in_float64(critic, x.detach()), rtol=1e-5, atol=1e-7)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(found.square().sum(), list(critic.parameters()), allow_unused=True)  # type: ignore[union-attr]
    weights = [g for g in gradients if g is not None and g.dim() > 1]
    assert len(weights) >= 3
    assert all(bool(g.abs().max() > 0) for g in weights)


def drawn(model: Any, given: Batch) -> Tensor:
    torch.manual_seed(5)
    z = torch.randn(len(given.x), 3)
    with torch.no_grad():
        fake: Tensor = model.generator(z)
    return fake


def test_gan_loss_is_the_cross_entropy_with_a_generator_that_does_not_saturate() -> None:
    model, given = network(), batch()
    found = losses(model, given)
    real, fake = model.critic(given.x).detach(), model.critic(drawn(model, given)).detach()  # type: ignore[operator]
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    critic = F.binary_cross_entropy_with_logits(real, ones) + F.binary_cross_entropy_with_logits(fake, zeros)
    torch.testing.assert_close(found["critic"], critic)
    torch.testing.assert_close(found["generator"], F.binary_cross_entropy_with_logits(fake, ones))


def test_wgan_gp_asks_for_slope_one_between_real_and_made_samples() -> None:
    model, given = network("wgan-gp"), batch()
    found = losses(model, given)
    fake = drawn(model, given)
    share = torch.rand(6, 1, 1, 1)  # the draw after the latents
    real_mean, fake_mean = (float(model.critic(x).mean().detach()) for x in (given.x, fake))  # type: ignore[operator]
    norm = slope_in_float64(model.critic, share * given.x + (1 - share) * fake)  # type: ignore[arg-type]
    expected = fake_mean - real_mean + 10 * float((norm - 1).square().mean())
    assert float(found["critic"]) == pytest.approx(expected, rel=1e-4)
    assert float(found["generator"]) == pytest.approx(-fake_mean, rel=1e-5)


def test_wgan_div_penalises_the_sixth_power_of_the_slope_at_both() -> None:
    model, given = network("wgan-div"), batch()
    with torch.no_grad():
        model.critic[-1].weight.mul_(20)  # type: ignore[index, union-attr]  # else the penalty is too small to see
    found = losses(model, given)
    fake = drawn(model, given)
    real_mean, fake_mean = (float(model.critic(x).mean().detach()) for x in (given.x, fake))  # type: ignore[operator]
    at_real, at_fake = (slope_in_float64(model.critic, x) for x in (given.x, fake))  # type: ignore[arg-type]
    penalty = 2 / 2 * float((at_real**6 + at_fake**6).mean())
    assert penalty > 0.01
    assert float(found["critic"]) == pytest.approx(fake_mean - real_mean + penalty, rel=1e-4)


@pytest.mark.parametrize("loss", ["gan", "wgan-gp", "wgan-div"])
def test_each_loss_moves_its_own_network_alone(loss: str) -> None:
    model = network(loss)
    critic, generator = model.phases()  # type: ignore[operator]
    for phase, other in ((critic, model.generator), (generator, None)):
        model.zero_grad()
        phase.loss(batch())["loss"].backward(inputs=phase.parameters)
        assert all(p.grad is not None for p in phase.parameters if p.dim() > 1)
        if other is not None:
            assert all(p.grad is None for p in other.parameters())
    assert (critic.every, generator.every) == (1, 1 if loss == "gan" else 5)


def test_acgan_feeds_logits_into_the_cross_entropies() -> None:
    torch.manual_seed(0)
    model = build("acgan", (1, 8, 8), {"latent": 3, "width": 4, "classes": 4}).eval()
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    given = batch(labels=labels)
    found = losses(model, given)
    torch.manual_seed(5)
    noise, wanted = torch.randn(6, 3), torch.randint(4, (6,))
    fake = model.generator(noise, wanted)  # type: ignore[operator]
    torch.testing.assert_close(fake, model.generator.body(noise * model.generator.embedding.weight[wanted]))  # type: ignore[operator, union-attr, index]
    real, made = model.critic(given.x).detach(), model.critic(fake).detach()  # type: ignore[operator]
    p_real, p_made = real[:, 0].sigmoid(), made[:, 0].sigmoid()
    classes = [-x[:, 1:].softmax(1)[torch.arange(6), y].log().mean() for x, y in ((real, labels), (made, wanted))]
    critic = -(0.9 * p_real.log() + 0.1 * (1 - p_real).log()).mean() - (1 - p_made).log().mean() + sum(classes)
    torch.testing.assert_close(found["critic"], critic)
    torch.testing.assert_close(found["generator"], -p_made.log().mean() + classes[1])


def test_acgan_draws_the_class_that_is_asked_for() -> None:
    model = build("acgan", (1, 8, 8), {"latent": 5, "width": 4, "classes": 3})
    with torch.no_grad():
        model.mean.module.embedding.weight.copy_(torch.tensor([1.0, 10.0, 100.0])[:, None].expand(3, 5))  # type: ignore[union-attr, operator]
    generator = torch.Generator().manual_seed(0)
    sizes = [float(model.prior(400, generator, k).std()) for k in range(3)]  # type: ignore[operator]
    assert sizes == pytest.approx([1, 10, 100], rel=0.1)
    mixed = model.prior(900, generator).std(dim=1).log10().round()  # type: ignore[operator]
    assert [int((mixed == power).sum()) for power in range(3)] == pytest.approx([300] * 3, rel=0.2)


def test_the_running_mean_follows_and_remembers() -> None:
    source = nn.Linear(1, 1)
    mean = RunningMean(source)
    with torch.no_grad():
        source.weight.fill_(7.0)
        for _ in range(50):
            mean.update(source)
    assert mean.module.weight.item() == pytest.approx(7.0, abs=0.01)  # quick at first
    mean.updates.fill_(1e6)
    with torch.no_grad():
        source.weight.fill_(8.0)
    mean.update(source)
    assert mean.module.weight.item() == pytest.approx(7.0 + (1 - MEMORY), abs=1e-3)
    assert not any(p.requires_grad for p in mean.parameters())


def two_kinds(count: int = 256) -> Any:
    """Pictures bright above or below, and which."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2, count)
    raw = rng.integers(0, 40, (count, 1, 8, 8)).astype(np.uint8)
    for image, kind in zip(raw, kinds, strict=True):
        image[0, 4 * kind : 4 * kind + 4] += 180
    rows = to_rows(raw, choose_normalisation(raw, "image", "kinds"), labels=kinds)
    return rows, kinds


SETTINGS = TrainSettings(steps=600, batch_size=32, lr=1e-3, betas=(0.5, 0.999), schedule="constant")


@pytest.mark.parametrize("loss", ["gan", "wgan-gp", "wgan-div"])
def test_what_is_generated_covers_both_kinds_of_pictures(loss: str) -> None:
    rows, _ = two_kinds()
    model = network(loss, width=16, critic_steps=2)
    list(fit(model, rows, rows, SETTINGS))
    x = model.eval().decode(model.prior(200, torch.Generator().manual_seed(0))).detach()  # type: ignore[operator]
    above, below = x[:, 0, :4].mean((1, 2)), x[:, 0, 4:].mean((1, 2))
    share = float((above > below).float().mean())
    assert 0.2 < share < 0.8
    assert float((above - below).abs().mean()) == pytest.approx(180 / 255, rel=0.25)


def test_acgan_generates_the_kind_that_is_asked_for() -> None:
    rows, _ = two_kinds()
    torch.manual_seed(0)
    model = build("acgan", (1, 8, 8), {"latent": 32, "width": 16, "critic_steps": 2})
    list(fit(model, rows, rows, SETTINGS))
    for kind in (0, 1):
        z = model.eval().prior(100, torch.Generator().manual_seed(0), kind)  # type: ignore[operator]
        x = model.decode(z).detach()  # type: ignore[operator]
        found = (x[:, 0, 4:].mean((1, 2)) > x[:, 0, :4].mean((1, 2))).float().mean()
        assert float(found) == pytest.approx(kind, abs=0.1)


@pytest.mark.parametrize("model", ["gan", "acgan"])
def test_a_resumed_contest_has_the_same_weights_bit_for_bit(model: str, tmp_path: Path) -> None:
    rows, _ = two_kinds(96)
    short = replace(SETTINGS, steps=None, epochs=4)
    more = {"loss": "wgan-gp"} if model == "gan" else {}

    def fresh() -> nn.Module:
        torch.manual_seed(0)
        return build(model, (1, 8, 8), {"latent": 3, "width": 4, **more})

    straight = fresh()
    list(fit(straight, rows, rows, short))
    stopped = fresh()
    for epoch in fit(stopped, rows, rows, short):
        if epoch.number == 2:
            break
    checkpoint.save_resume(epoch.state(), tmp_path / "resume.safetensors")
    resumed = fresh()
    list(fit(resumed, rows, rows, short, resume=checkpoint.load_resume(tmp_path / "resume.safetensors")))
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_run_shows_what_is_generated_after_each_epoch(tmp_path: Path) -> None:
    figures = result(
        tmp_path, "train", "acgan", "--data", "digits", "--epochs", "3", "--set", "width=8", "--out", "run"
    )
    assert figures["test_error"] is None
    assert figures["val_error"] is None
    names = [f"epoch-{n:04}.png" for n in (1, 2, 3)]
    assert sorted(path.name for path in (tmp_path / "run" / "samples").iterdir()) == names
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0]
    assert {"critic_loss", "critic_accuracy", "generator_loss"} <= set(header.split(","))
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Networks that compete" in page
    assert "from the same latents" in page
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert not {"classes", "output", "beta", "error", "penalty"} & set(config["options"])
    assert result(tmp_path, "generate", "--model", "run", "-n", "4", "-o", "s.npy")["count"] == 4
    assert np.load(tmp_path / "s.npy").shape == (4, 8, 8)


def test_classes_are_needed_and_told(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((30, 9, 9)).astype(np.float32))
    np.save(tmp_path / "one.npy", np.zeros(30, np.int64))
    fails(tmp_path, "train", "acgan", "--data", "x.npy", says="learns from labels")
    fails(tmp_path, "train", "acgan", "--data", "x.npy", "--labels", "one.npy", says="2 to 999 classes")
    aekit(tmp_path, "train", "gan", "--data", "x.npy", "--steps", "2", "--set", "width=4", "--quiet")
    np.save(tmp_path / "large.npy", np.random.default_rng(0).random((30, 16, 16)).astype(np.float32))
    fails(tmp_path, "train", "gan", "--data", "large.npy", "--set", "kernel_size=4", says="an odd number", code=2)
    fails(tmp_path, "train", "gan", "--data", "x.npy", "--corrupt", "gaussian:0.1", says="leave --corrupt", code=2)
    fails(tmp_path, "train", "gan", "--data", "x.npy", "--set", "loss=least", says="there are gan, wgan", code=2)

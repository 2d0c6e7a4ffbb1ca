"""Every recipe: exact parameter counts, shapes, training lowers the loss, a saved model loads to the same outputs."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import stft
from torch import nn

from aekit import checkpoint
from aekit.batches import choose_normalisation, to_rows
from aekit.corruptions import parse_corruption
from aekit.errors import AekitError, UsageError
from aekit.layers import channels_last, count_parameters
from aekit.models import MODELS, build, settings_of
from aekit.recipes import RECIPES
from aekit.records import Batch
from aekit.trained import TrainedModel
from aekit.training import Epoch, TrainSettings, fit

PUBLISHED = {  # recipe -> sample shape, parameters
    "stacked": ((1, 28, 28), 163_814),
    "undercomplete": ((1, 28, 28), 936_723),
    "dense": ((1, 28, 28), 218_192),
    "fully-conv": ((1, 28, 28), 9_569),
    "conv": ((1, 28, 28), 213_013),
    "denoising": ((1, 28, 28), 484_944),
    "vae": ((3, 128, 128), 49_277_252),
    "lstm": ((1, 140), 990_465),
    "deepdenoiser": ((1, 3000), 1_378_162),
    "wavedecompnet": ((3, 600), 153_738),
    "eqtransformer": ((3, 6000), 372_023),
}
BOTTLENECKS = {"none": 53_386, "linear": 61_706, "lstm": 153_738, "attention": 86_666, "transformer": 615_690}
SHAPES = {"image": (1, 12, 10), "series": (2, 50)}
SMALL: dict[str, dict[str, Any]] = {
    "lstm": {"hidden": (8,), "latent": 4},
    "vae": {"hidden": (16,), "latent": 3},
    "gan": {"latent": 3, "width": 4},
    "acgan": {"latent": 3, "width": 4},
    "unet": {"hidden": (8, 12)},
    "deepdenoiser": {"hidden": (4, 8)},
    "mae": {"patch": 5},
}
CASES = [
    (model, kind)
    for model in MODELS
    for kind in SHAPES
    if kind == "series" or not hasattr(MODELS[model], "series_only")
]

NOISE = parse_corruption(["gaussian:0.5"])
SHORT = TrainSettings(epochs=8, batch_size=12, lr=3e-3)


def data(kind: str, count: int = 48) -> Any:
    rng = np.random.default_rng(0)
    shape = SHAPES[kind]
    phase = rng.uniform(0, 6, (count, *[1] * len(shape)))
    wave = np.sin(np.linspace(0, 12, shape[-1]) + phase) + np.zeros((1, *shape))
    return (127 * wave + 128).astype(np.uint8) if kind == "image" else wave.astype(np.float32)


def picks(kind: str, count: int = 48) -> Any:
    """Arrivals of P and S in the series."""
    return None if kind == "image" else np.stack([np.arange(count) % 20, 25 + np.arange(count) % 20], axis=1)


def labels(count: int = 48) -> Any:
    return np.arange(count) % 2


def network(model: str, kind: str, output: str = "none") -> nn.Module:
    torch.manual_seed(0)
    return channels_last(build(model, SHAPES[kind], {**SMALL.get(model, {}), "output": output}))


def assert_trained(epochs: list[Epoch]) -> None:
    """The loss has fallen; networks that compete have one each, which need not."""
    first, last = epochs[0].metrics, epochs[-1].metrics
    assert "generator_loss" in last or last["train_loss"] < first["train_loss"]


@pytest.mark.parametrize(("model", "kind"), [case for case in CASES if {*MODELS[case[0]].verbs} - {"generate"}])
@torch.inference_mode()
def test_in_float64_a_row_has_its_result_beside_any_others(model: str, kind: str) -> None:
    """To far more than float32 can tell."""
    wide = network(model, kind).eval().double()
    x = torch.randn(5, *SHAPES[kind], dtype=torch.float64)
    for function in (lambda x: wide(x).x_hat, *([lambda x: wide.score(x)[0]] if hasattr(wide, "score") else [])):
        alone = torch.cat([function(row[None]) for row in x])
        torch.testing.assert_close(function(x), alone, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_recipe_has_the_published_number_of_parameters(recipe: str) -> None:
    shape, parameters = PUBLISHED[recipe]
    chosen = RECIPES[recipe]
    with torch.device("meta"):
        assert count_parameters(build(chosen.model, shape, dict(chosen.settings))) == parameters


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_wavedecompnet_has_the_published_number_of_parameters(bottleneck: str) -> None:
    assert count_parameters(build("wavedecompnet", (3, 600), {"bottleneck": bottleneck})) == BOTTLENECKS[bottleneck]


def test_eqtransformer_with_three_recurrent_blocks_too() -> None:
    assert count_parameters(build("eqtransformer", (3, 6000), {"recurrent": 3})) == 376_935


def test_trace_turns_500_points_into_16_channels_of_31() -> None:
    model = build("trace", (1, 500), dict(RECIPES["trace"].settings))
    output = model(torch.randn(2, 1, 500))
    assert output.z.shape == (2, 16 * 31)
    assert output.x_hat.shape == (2, 1, 500)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_knows_its_model_settings_and_corruption(recipe: str) -> None:
    chosen = RECIPES[recipe]
    assert set(chosen.settings) <= set(settings_of(chosen.model))
    for differs in ({}, *chosen.sizes.values()):
        TrainSettings(**{**chosen.training, **differs})
    parse_corruption(chosen.corruption)


@pytest.mark.parametrize(("model", "kind"), CASES)
def test_model_trains_saves_and_loads(model: str, kind: str, tmp_path: Path) -> None:
    raw = data(kind)
    normalisation = choose_normalisation(raw, kind, kind)  # type: ignore[arg-type]
    rows = to_rows(raw, normalisation, picks=picks(kind), labels=labels())
    net = network(model, kind, normalisation.output)
    assert_trained(list(fit(net, rows, rows, SHORT, NOISE)))

    net.eval()
    x = rows.batch(torch.arange(5)).x
    output = net(x)
    assert output.x_hat.shape == {"eqtransformer": (5, 3, 50), "classifier": (5, 2)}.get(model, x.shape)
    assert output.penalty.shape == (5,)
    if "embed" in net.verbs:  # type: ignore[operator]
        assert torch.equal(net.encode(x), output.z)  # type: ignore[operator]
    if "generate" in net.verbs and output.z is not None:  # type: ignore[operator]
        torch.testing.assert_close(net.decode(output.z), output.x_hat)  # type: ignore[operator]

    settings = {**SMALL.get(model, {}), "output": normalisation.output}
    trained = TrainedModel(net, "test", model, settings, SHAPES[kind], kind, 50.0, normalisation, "mse")
    checkpoint.save(trained, tmp_path / "model.safetensors")
    loaded = checkpoint.load(tmp_path / "model.safetensors")
    assert loaded.normalisation == normalisation
    assert (loaded.sampling_rate, loaded.kind, loaded.sample_shape) == (50.0, kind, SHAPES[kind])
    if "generate" in net.verbs:  # type: ignore[operator]
        z = net.prior(5, torch.Generator().manual_seed(0)) if hasattr(net, "prior") else output.z  # type: ignore[operator]
        samples = loaded.network.decode(z)  # type: ignore[operator]
        torch.testing.assert_close(samples, net.decode(z), rtol=0, atol=1e-6)  # type: ignore[operator]
    if set(net.verbs) != {"generate"}:  # type: ignore[arg-type]
        torch.testing.assert_close(channels_last(loaded.network)(x).x_hat, output.x_hat, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("model", "kind"), CASES)
def test_model_trains_in_bfloat16_too(model: str, kind: str) -> None:
    raw = data(kind)
    normalisation = choose_normalisation(raw, kind, kind)  # type: ignore[arg-type]
    rows = to_rows(raw, normalisation, picks=picks(kind), labels=labels())
    net = network(model, kind, normalisation.output)
    assert_trained(list(fit(net, rows, rows, replace(SHORT, epochs=4, precision="bf16"), NOISE)))


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (3, 33, 47), (1, 5), (2, 6000), (1, 140), (4, 1, 9)])
def test_conv_gives_back_any_size(shape: tuple[int, ...]) -> None:
    for settings in ({}, {"bottleneck": None}, {"bottleneck": None, "latent": None}):
        x = torch.rand(2, *shape)
        assert build("conv", shape, settings)(x).x_hat.shape == x.shape


def test_vae_penalty_is_the_divergence_per_value() -> None:
    model = network("vae", "series").eval()
    x = torch.randn(6, *SHAPES["series"])
    mu, logvar = model.encoder(x.flatten(1)).double().chunk(2, dim=1)  # type: ignore[operator]
    q = torch.distributions.Normal(mu, (0.5 * logvar).exp())
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1) / 100
    torch.testing.assert_close(model(x).penalty.double(), kl, rtol=1e-5, atol=1e-7)


def test_vae_draws_in_training_and_not_after() -> None:
    model, x = network("vae", "series"), torch.randn(3, *SHAPES["series"])
    assert isinstance(model.seed, torch.Tensor)
    first = model(x).z
    assert torch.equal(first, model(x).z)  # a function of the seed
    model.seed.fill_(9)
    assert not torch.equal(first, model(x).z)
    model.eval()
    assert torch.equal(model(x).z, model.encode(x))  # type: ignore[operator]


def test_series_models_refuse_images() -> None:
    with pytest.raises(AekitError, match="takes series"):
        build("lstm", (1, 28, 28), {})


def test_output_activation_is_not_the_users_to_set() -> None:
    assert "output" not in settings_of("conv")
    assert "latent" in settings_of("conv")


def test_settings_that_make_no_model_are_told() -> None:
    with pytest.raises(UsageError, match="activation=steep: there are relu"):
        build("dense", (1, 9), {"activation": "steep"})
    with pytest.raises(UsageError, match="a list of whole numbers or none is needed"):
        build("conv", (1, 28, 28), {"hidden": ("a",)})
    for settings in ({"latent": 0}, {"hidden": (16, -1)}, {"width": 0}, {"kernel_size": 0}, {"bottleneck": 0}):
        with pytest.raises(UsageError, match="at least 1"):
            build("conv", (1, 28, 28), settings)
    for model, settings, says in (
        ("conv", {"kernel_size": 4}, "kernel_size=4: an odd number is needed"),
        ("conv", {"hidden": ()}, "the model conv for samples of 1x28x28: hidden names no width"),
        ("dense", {"dropout": 2.0}, "dropout=2.0: a share, at least 0 and below 1"),
        ("mae", {"size": "huge"}, "the model mae for samples of 1x28x28: size=huge: there are tiny, small, base"),
    ):
        with pytest.raises(UsageError, match=f"^{re.escape(says)}"):
            build(model, (1, 28, 28), settings)
    says = "the model trace cannot be built for samples of 1x9 with hidden=8,8,8,8: they do not pass its layers; take "
    with pytest.raises(AekitError, match=f"^{says}"):
        build("trace", (1, 9), {"hidden": (8, 8, 8, 8)})


def test_a_unet_gives_back_any_size() -> None:
    for shape in ((1, 28, 28), (3, 33, 47), (2, 501), (1, 9)):
        x = torch.randn(2, *shape)
        assert build("unet", shape, {"hidden": (4, 8, 8)})(x).x_hat.shape == x.shape


def test_deepdenoiser_gives_back_what_its_mask_lets_through() -> None:
    model = build("deepdenoiser", (1, 300), {"hidden": (4, 8)}).eval()
    x = torch.randn(3, 2, 300)
    last = model.body.last  # type: ignore[union-attr]
    for logit, share in ((30.0, 1.0), (-30.0, 0.0), (0.0, 0.5)):
        with torch.no_grad():
            last.weight.zero_()  # type: ignore[union-attr, operator]
            last.bias.copy_(torch.tensor([logit, -logit]))  # type: ignore[union-attr, operator]
        torch.testing.assert_close(model(x).x_hat, share * x, atol=1e-5, rtol=1e-4)


def test_deepdenoiser_in_use_is_the_mean_over_its_shifts() -> None:
    models = [build("deepdenoiser", (1, 300), {"hidden": (4, 8), "shifts": shifts}).eval() for shifts in (1, 2)]
    models[1].load_state_dict(models[0].state_dict())
    x = torch.randn(3, 1, 300)
    once, moved = (models[0](nn.functional.pad(x, (shift, 0))).x_hat[..., shift:] for shift in (0, 7))
    assert float((once - moved).detach().abs().max()) > 1e-3
    torch.testing.assert_close(models[1](x).x_hat, (once + moved) / 2)
    models[0].train()
    models[1].train()
    torch.testing.assert_close(models[1](x).x_hat, models[0](x).x_hat)


def test_deepdenoiser_learns_the_share_of_the_signal() -> None:
    """Its loss is the cross-entropy with |S| / (|S| + |N|), which is least where the mask is that share."""
    model = build("deepdenoiser", (1, 90), {"hidden": (4, 8), "loss": "share"}).eval()
    (phase,) = model.phases()  # type: ignore[operator]
    signal, noise = torch.randn(2, 1, 90), torch.randn(2, 1, 90)
    batch = Batch(signal + noise, signal, torch.zeros(1), torch.ones(1))
    frames = [np.abs(stft(x.numpy(), nperseg=30, noverlap=15, nfft=60)[2]) * 15 for x in (signal, noise)]
    share = frames[0] / (frames[0] + frames[1] + 1e-4)
    least = -(share * np.log(share) + (1 - share) * np.log(1 - share)).mean()
    with torch.no_grad():
        model.body.last.weight.zero_()  # type: ignore[union-attr, operator]
        model.body.last.bias.zero_()  # type: ignore[union-attr, operator]
    assert phase.loss(batch)["loss"].item() == pytest.approx(np.log(2), rel=1e-5)
    model.body.forward = lambda _: torch.from_numpy(np.log(np.stack([share, 1 - share], 2)).reshape(2, 2, 31, 7))  # type: ignore[union-attr]
    assert float(phase.loss(batch)["loss"]) == pytest.approx(least, rel=1e-4)


def test_deepdenoiser_learns_the_ratio_of_signal_to_error() -> None:
    model = build("deepdenoiser", (1, 90), {"hidden": (4, 8)}).eval()
    (phase,) = model.phases()  # type: ignore[operator]
    x, target = torch.randn(3, 1, 90), torch.randn(3, 1, 90)
    errors = (model(x).x_hat - target).square().mean(dim=(1, 2))
    torch.testing.assert_close(phase.loss(Batch(x, target, x, x))["loss"], (errors + 1e-4).log().mean())
    target[1] = 1e-9  # silent but for rounding
    errors[1] = model(x).x_hat[1].square().mean()
    floors = torch.tensor([1e-4, 1, 1e-4])
    torch.testing.assert_close(phase.loss(Batch(x, target, x, x))["loss"], (errors + floors).log().mean())
    with pytest.raises(AekitError, match="there are waveform and share"):
        build("deepdenoiser", (1, 90), {"loss": "mse"})


def test_wavedecompnet_attends_over_time_and_not_over_the_batch() -> None:
    for bottleneck in BOTTLENECKS:
        model = build("wavedecompnet", (1, 512), {"bottleneck": bottleneck}).eval()
        x = torch.randn(4, 1, 512, requires_grad=True)
        (slope,) = torch.autograd.grad(model(x).x_hat[1, 0, 5], x)
        assert slope[1].any()
        assert not slope[[0, 2, 3]].any()
        assert bool(slope[1, 0, 511] != 0) == (bottleneck not in ("none", "linear"))


def test_wavedecompnet_is_judged_by_both_parts() -> None:
    model = build("wavedecompnet", (2, 64), {}).eval()
    (phase,) = model.phases()  # type: ignore[operator]
    x, target = torch.randn(3, 2, 64), torch.randn(3, 2, 64)
    signal, noise = (decoder(*model._encoded(x)) for decoder in (model.signal, model.noise))  # type: ignore[operator]
    expected = (signal - target).square().mean() + (noise - (x - target)).square().mean()
    torch.testing.assert_close(phase.loss(Batch(x, target, x, x))["loss"], expected)


def test_eqtransformer_tells_how_sure_it_is_by_dropout() -> None:
    model = build("eqtransformer", (1, 64), {}).eval()
    x = torch.randn(2, 1, 64)
    torch.manual_seed(0)
    draws = model.draws(x, 6)  # type: ignore[operator]
    assert draws.shape == (6, 2, 3, 64)
    assert draws.detach().std(dim=0).max().item() > 0
    torch.manual_seed(0)
    assert torch.equal(model.draws(x, 6), draws)  # type: ignore[operator]
    assert not any(module.training for module in model.modules())
    assert torch.equal(model(x).x_hat, model(x).x_hat)


def test_eqtransformers_loss_weighs_its_heads() -> None:
    model = build("eqtransformer", (1, 64), {}).eval()
    (phase,) = model.phases()  # type: ignore[operator]
    x, wanted = torch.randn(2, 1, 64), torch.rand(2, 3, 64)
    p = model(x).x_hat.detach().double()
    each = -(wanted * p.log() + (1 - wanted) * (1 - p).log()).mean(dim=(0, 2))
    expected = 0.05 * each[0] + 0.40 * each[1] + 0.55 * each[2]
    assert phase.loss(Batch(x, x, x, x, wanted))["loss"].detach().item() == pytest.approx(expected.item(), rel=1e-5)

"""The verbs on arrays: types and extremes survive, and what does not suit the model is told in one line."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aekit.batches import Normalisation
from aekit.errors import AekitError
from aekit.inference import Run
from aekit.objectives import zeros
from aekit.records import Output
from aekit.trained import TrainedModel
from aekit.workflows.arrays import Autoencoder


class Identity(nn.Module):
    """Gives back series of 4 points; the latent is the series."""

    verbs = ("denoise", "score", "embed", "generate")

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def decode(self, z: Tensor) -> Tensor:
        return (z * self.weight)[:, None]

    def forward(self, x: Tensor) -> Output:
        return Output(x * self.weight, x[:, 0], zeros(x))


@pytest.fixture
def model() -> Autoencoder:
    normalisation = Normalisation("standard", (0.0,), (1.0,), -1e30, 1e30)
    trained = TrainedModel(Identity().eval(), "r", "m", {}, (1, 4), "series", None, normalisation, "mse", source="m.st")
    return Autoencoder(trained, Run(torch.device("cpu"), "fp32", 2))


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8"])
def test_extremes_of_whole_types_survive_denoising(model: Autoencoder, dtype: str) -> None:
    limits = np.iinfo(dtype)
    x = np.array([[limits.min, 0, 1, limits.max]] * 3, dtype)
    cleaned = model.denoise(x)
    assert cleaned.dtype == x.dtype
    np.testing.assert_allclose(cleaned.astype(float), x.astype(float), rtol=1e-6)


def test_denoised_floats_and_flags_keep_their_type(model: Autoencoder) -> None:
    for x in (np.eye(4), np.eye(4, dtype=np.float16), np.eye(4, dtype=bool)):
        cleaned = model.denoise(x)
        assert cleaned.dtype == x.dtype
        np.testing.assert_array_equal(cleaned, x)


def test_latents_decode_to_samples(model: Autoencoder) -> None:
    z = model.embed(np.arange(8.0).reshape(2, 4))
    np.testing.assert_array_equal(model.generate(latents=z)[:, 0], z)
    np.testing.assert_array_equal(model.generate(latents=z[0])[0, 0], z[0])


@pytest.mark.parametrize("shape", [(2, 5), (3,), (0, 4), (2, 1, 4)])
def test_latents_of_another_shape_are_refused(model: Autoencoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(AekitError, match=r"latents: of shape .*, the model takes \(rows, 4\)"):
        model.generate(latents=np.zeros(shape))


def test_latents_that_are_no_numbers_are_named(model: Autoencoder) -> None:
    with pytest.raises(AekitError, match="latents: row 1, value 3 is NaN"):
        model.generate(latents=np.where(np.arange(8).reshape(2, 4) == 7, np.nan, 0))


def test_a_fault_of_the_model_is_not_taken_for_one_of_the_latents(
    model: Autoencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(z: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    z = model.embed(np.eye(4))
    monkeypatch.setattr(model.trained.network, "decode", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        model.generate(latents=z)


def test_verdicts_need_a_training_that_ended(model: Autoencoder) -> None:
    assert model.score(np.eye(4)).tolist() == [0, 0, 0, 0]
    with pytest.raises(AekitError, match=r"m\.st: .* no calibration; finish it with --resume"):
        model.score(np.eye(4), threshold="auto")

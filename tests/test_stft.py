"""The short-time Fourier transform is scipy's, and its inverse gives the signal back."""

import numpy as np
import pytest
import scipy.signal
import torch

from aekit.stft import STFT


@pytest.mark.parametrize(("window", "hop", "size"), [(30, 15, 60), (32, 8, 32), (25, 10, 64)])
@pytest.mark.parametrize("points", [1, 40, 301, 3000])
def test_the_inverse_gives_the_signal_back(window: int, hop: int, size: int, points: int) -> None:
    stft, x = STFT(window, hop, size).double(), torch.randn(2, 3, points).double()
    torch.testing.assert_close(stft.inverse(stft(x), points), x, atol=1e-12, rtol=0)


def test_it_is_scipys() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3000))
    _, _, expected = scipy.signal.stft(x, nperseg=30, noverlap=15, nfft=60)
    got = STFT().double()(torch.from_numpy(x)).numpy()
    assert got.shape == (2, 31, 201)
    np.testing.assert_allclose(got, expected * 15, atol=1e-6)  # which scipy divides by the sum of the window


def test_gradients_pass_both_ways() -> None:
    stft, x = STFT(8, 4, 8).double(), torch.randn(1, 17).double().requires_grad_()
    mask = torch.rand(5, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, mask: stft.inverse(mask * stft(x), 17), (x, mask))


def test_sizes_that_make_no_transform_are_refused() -> None:
    with pytest.raises(ValueError, match="hop < window <= size"):
        STFT(30, 30, 60)

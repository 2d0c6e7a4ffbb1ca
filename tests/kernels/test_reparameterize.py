"""The random numbers of reparameterize, and its KL."""

import pytest
import torch
from scipy import stats
from torch.distributions import Normal, kl_divergence

from aekit.kernels import gaussian_kl, reparameterize, use
from aekit.kernels.reparameterize import philox, standard_normal


def noise(B: int, D: int, seed: int, device: str) -> torch.Tensor:
    zeros = torch.zeros(B, D, device=device)
    return reparameterize(zeros, zeros, torch.tensor([seed], device=device))[0]


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_published_words(counter, key, words):
    """The known answers of Random123 (Salmon et al. 2011) for philox4x32-10."""
    c = torch.tensor(counter).view(2, 2, 1, 1)
    seed = torch.tensor([key[0] + (key[1] << 32) - (key[1] >> 31 << 64)])
    even, odd = philox(c[:, 0], c[:, 1], seed)
    got = torch.stack([even, odd], dim=1).flatten()
    assert " ".join(f"{word:08x}" for word in got.tolist()) == words


def test_noise_is_standard_normal():
    eps = standard_normal(1000, 500, torch.tensor([7]), torch.float32)
    count = eps.numel()
    assert abs(eps.mean()) < 4 / count**0.5
    assert abs(eps.var() - 1) < 4 * (2 / count) ** 0.5
    assert abs((eps**4).mean() - 3) < 4 * (96 / count) ** 0.5
    assert stats.kstest(eps.flatten().numpy(), "norm").pvalue > 0.01
    assert eps.abs().max() > 4.5


@pytest.mark.parametrize("lag", [1, 2, 3, 4])
def test_noise_is_uncorrelated_between_latents_samples_and_seeds(lag):
    eps = standard_normal(1000, 512, torch.tensor([7]), torch.float32)
    other = standard_normal(1000, 512, torch.tensor([7 + lag]), torch.float32)
    bound = 4 / eps.numel() ** 0.5
    for a, b in ((eps[:, lag:], eps[:, :-lag]), (eps[lag:], eps[:-lag]), (eps, other)):
        assert abs((a * b).mean()) < bound
        assert abs(((a**2 - 1) * (b**2 - 1)).mean()) < 2 * bound  # sin and cos of a pair share a radius


def test_both_paths_draw_the_same_numbers(device):
    for seed in (0, 1, -1, 2**40 + 3, -(2**63)):
        use("triton")
        triton = noise(9, 50, seed, device)
        use("torch")
        torch.testing.assert_close(triton, noise(9, 50, seed, device), rtol=0, atol=4e-6)


def test_every_bit_of_the_seed_counts(device):
    drawn = {noise(1, 4, seed, device).sum().item() for seed in (0, *(1 << bit for bit in range(63)))}
    assert len(drawn) == 64


def test_a_latent_keeps_its_number_whatever_is_beside(device):
    large = noise(40, 70, 3, device)
    assert torch.equal(noise(5, 18, 3, device), large[:5, :18])


def test_halves_of_one_tensor_are_taken_as_they_lie(device):
    both = torch.randn(6, 20, device=device)
    seed = torch.tensor([5], device=device)
    mu, logvar = both.chunk(2, dim=1)
    for got, expected in zip(
        reparameterize(mu, logvar, seed), reparameterize(mu.contiguous(), logvar.contiguous(), seed), strict=True
    ):
        torch.testing.assert_close(got, expected)


def test_kl_is_that_of_torch_distributions(device):
    mu, logvar = torch.randn(5, 7, device=device), torch.randn(5, 7, device=device)
    expected = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0, 1)).sum(dim=1)
    torch.testing.assert_close(gaussian_kl(mu, logvar), expected)
    torch.testing.assert_close(reparameterize(mu, logvar, torch.tensor([0], device=device))[1], expected)


def test_wrong_arguments_are_refused():
    x, seed = torch.zeros(2, 3), torch.tensor([0])
    with pytest.raises(ValueError, match="mu and logvar"):
        reparameterize(x, x[:1], seed)
    with pytest.raises(ValueError, match="seed must be"):
        reparameterize(x, x, seed.int())

"""sample_error's edges, on both paths."""

import pytest
import torch
import torch.nn.functional as F

from aekit.kernels import sample_error, use


@pytest.fixture(params=["torch", "triton"], autouse=True)
def _path(request, _triton):
    use(request.param)


def test_without_any_weight_the_error_and_its_gradient_are_zero(device):
    x_hat = torch.randn(3, 5, device=device, requires_grad=True)
    weight = torch.ones(3, 5, device=device)
    weight[1] = 0
    error = sample_error(x_hat, torch.zeros_like(x_hat), weight)
    error.sum().backward()
    assert error[1] == 0
    assert (x_hat.grad[1] == 0).all()
    assert (x_hat.grad[0] != 0).all()


def test_a_bool_mask_leaves_out_what_it_hides(device):
    x_hat, x = torch.randn(3, 8, device=device), torch.randn(3, 8, device=device)
    mask = torch.arange(8, device=device).expand(3, 8) < 6
    torch.testing.assert_close(sample_error(x_hat, x, mask), sample_error(x_hat[:, :6], x[:, :6]))


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # Triton's interpreter is numpy
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_bce_of_saturated_values_is_torchs_at_every_edge(device):
    x_hat, x = torch.cartesian_prod(torch.tensor([0.0, 1e-30, 0.5, 1.0]), torch.tensor([0.0, 0.3, 1.0])).T.to(device)
    x_hat, x = x_hat.reshape(-1, 1).requires_grad_(), x.reshape(-1, 1).requires_grad_()
    own = F.binary_cross_entropy(x_hat, x, reduction="none")[:, 0]
    got = sample_error(x_hat, x, kind="bce")
    torch.testing.assert_close(got, own)
    for mine, torchs in zip(*(torch.autograd.grad(y.sum(), (x_hat, x)) for y in (got, own)), strict=True):
        torch.testing.assert_close(mine, torchs)


def test_raw_bytes_are_normalised_as_if_before(device):
    x_hat, x = torch.rand(4, 20, device=device), torch.randint(0, 256, (4, 20), dtype=torch.uint8, device=device)
    for kind in ("mse", "l1", "bce"):
        torch.testing.assert_close(
            sample_error(x_hat, x, kind=kind, scale=1 / 255), sample_error(x_hat, x.float() / 255, kind=kind)
        )


def test_the_same_tensor_twice_gets_both_gradients(device):
    x = torch.randn(2, 4, device=device, requires_grad=True)
    (gradient,) = torch.autograd.grad(sample_error(x, 2 * x).sum(), x, create_graph=True)
    torch.testing.assert_close(gradient, 2 * x / 4)


def test_wrong_arguments_are_refused():
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="none of mse, l1, bce"):
        sample_error(x, x, kind="l2")
    with pytest.raises(ValueError, match=r"must all be \(B, N\)"):
        sample_error(x, x[:1])
    with pytest.raises(ValueError, match=r"must all be \(B, N\)"):
        sample_error(x, x, x[0])
    with pytest.raises(ValueError, match="weights get no gradient"):
        sample_error(x, x, torch.ones(2, 3, requires_grad=True))

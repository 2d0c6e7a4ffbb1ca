"""What the layers share: activations, their slopes, and arguments that are refused; on both paths."""

import pytest
import torch

from aekit.kernels import linear, use
from aekit.kernels._epilogue import ACTIVATIONS
from aekit.layers import ACTIVATIONS as LAYERS


@pytest.fixture(params=["torch", "triton"], autouse=True)
def _path(request, _triton):
    use(request.param)


def test_every_activation_of_the_models_is_here():
    assert ACTIVATIONS.keys() == LAYERS.keys()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_large_values_give_what_torch_gives(activation, device):
    x = torch.tensor([-1e4, -100, -20, -1e-6, 0, 1e-6, 20, 100, 1e4], device=device)[:, None].requires_grad_()
    one = torch.ones(1, 1, device=device)
    y, expected = linear(x, one, activation=activation), LAYERS[activation]()(x)
    torch.testing.assert_close(y, expected)
    (slope,), (own,) = torch.autograd.grad(y.sum(), x), torch.autograd.grad(expected.sum(), x)
    torch.testing.assert_close(slope, own)


def test_wrong_arguments_are_refused():
    x, weight = torch.zeros(2, 3), torch.zeros(4, 3)
    with pytest.raises(ValueError, match="none of none, relu"):
        linear(x, weight, activation="swish")
    with pytest.raises(ValueError, match=r"bias must be \(4,\)"):
        linear(x, weight, torch.zeros(3))
    with pytest.raises(ValueError, match=r"x must be \(B, 3\)"):
        linear(x[:, :2], weight)
    with pytest.raises(ValueError, match=r"x must be \(B, 3\)"):
        linear(x.half(), weight)

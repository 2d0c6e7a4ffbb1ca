"""What the layers share: activations, their slopes, and arguments that are refused; on both paths."""

from functools import partial

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from aekit.kernels import KERNELS, linear, use
from aekit.kernels._epilogue import ACTIVATIONS
from aekit.kernels._parity import as_double, strays
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


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_as_exact_as_torch_and_twice_differentiable(activation, device):
    make_inputs = partial(KERNELS["linear"].make_inputs["tanh"], activation=activation)
    for dtype in (torch.float32, torch.float16):
        assert strays(KERNELS["linear"], make_inputs((33, 20), dtype=dtype, device=device)) == []
    inputs = as_double(make_inputs((3, 4), dtype=torch.float32, device=device))
    assert gradcheck(linear, inputs, fast_mode=True)
    assert gradgradcheck(linear, inputs, fast_mode=True)


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

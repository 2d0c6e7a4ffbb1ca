"""decode_error over kernel sizes, strides and channels, its edges, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F

from aekit.kernels import KERNELS, conv_transpose, decode_error, sample_error, use
from aekit.kernels._epilogue import ACTIVATIONS
from aekit.kernels._parity import strays


def make_inputs(device, shape=(2, 2, 13), c_out=1, kernel_size=(3,), stride=1, padding=1, extra=0, activation="none"):
    x = torch.randn(shape, device=device, requires_grad=True)
    weight = (torch.randn(shape[1], c_out, *kernel_size, device=device) / 2).requires_grad_()
    bias = torch.randn(c_out, device=device, requires_grad=True)
    layer = [stride, padding, extra, activation]
    target = torch.rand_like(conv_transpose(x, weight, bias, *layer).detach())
    return [x, weight, bias, target, *layer, "mse", 2.0, -0.5]


@pytest.mark.parametrize("c_out", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 7, 11])
def test_kernel_sizes_and_strides_are_as_exact_as_torch(c_out, stride, kernel_size, device):
    settings = {"kernel_size": (kernel_size,), "stride": stride, "padding": kernel_size // 2, "extra": stride - 1}
    assert strays(KERNELS["decode_error"], make_inputs(device, c_out=c_out, activation="elu", **settings)) == []


@pytest.mark.parametrize("c_out", [1, 3])
@pytest.mark.parametrize("kernel_size", [(2, 5), (3, 7)])
def test_each_dimension_has_its_own_settings(c_out, kernel_size, device):
    settings = {"kernel_size": kernel_size, "stride": (1, 4), "padding": [0, 2], "extra": [0, 3]}
    assert strays(KERNELS["decode_error"], make_inputs(device, (2, 3, 7, 9), c_out, **settings)) == []


@pytest.mark.parametrize("c_out", [1, 67])
def test_many_channels_take_several_steps(c_out, device):
    inputs = make_inputs(device, (2, 70, 6), c_out, stride=2, extra=1, activation="sigmoid")
    assert strays(KERNELS["decode_error"], inputs) == []


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_as_exact_as_torch(activation, device):
    inputs = make_inputs(device, kernel_size=(4,), stride=2, activation=activation)
    assert strays(KERNELS["decode_error"], inputs) == []
    halves = [x.detach().half().requires_grad_() for x in inputs[:3]]
    assert strays(KERNELS["decode_error"], [*halves, *inputs[3:]]) == []


@pytest.mark.parametrize("path", ["torch", "triton"])
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (2, 1, 60, 50)])  # one part, and three
def test_it_is_the_error_of_the_layers_output(shape, path, device):
    use(path)
    x, weight, bias, target, *layer, kind, scale, offset = make_inputs(device, shape, 1, (3, 3), 2, extra=1)
    x_hat = conv_transpose(x, weight, bias, *layer)
    expected = sample_error(x_hat.flatten(1), target.flatten(1), None, kind, scale, offset)
    torch.testing.assert_close(decode_error(x, weight, bias, target, *layer, kind, scale, offset), expected)


@pytest.mark.parametrize("path", ["torch", "triton"])
def test_a_target_of_any_layout_and_number_type_will_do(path, device):
    use(path)
    x, weight, bias, _, *layer = make_inputs(device, (2, 2, 5, 6), 3, (3, 3))[:8]
    target = torch.randint(0, 256, (5, 6, 3, 2), dtype=torch.uint8, device=device).permute(3, 2, 0, 1)
    expected = decode_error(x, weight, bias, target.contiguous().float() / 255, *layer)
    for other in (target, target.int(), target.double()):
        torch.testing.assert_close(decode_error(x, weight, bias, other, *layer, scale=1 / 255), expected)


def test_a_sigmoid_that_float16_rounds_to_one_keeps_its_gradient(device):
    """The reconstruction stays in float32, in the backward too; torch's own gradient is 0 or NaN here."""
    one = torch.ones(1, 1, 1, dtype=torch.float16, device=device, requires_grad=True)
    inputs = [9 * one.detach(), one, None, torch.zeros(1, 1, 1, device=device), 1, 0, 0, "sigmoid", "bce"]
    error = decode_error(*inputs)
    torch.testing.assert_close(error, F.softplus(torch.full_like(error, 9)), rtol=1e-4, atol=0)
    torch.testing.assert_close(torch.autograd.grad(error.sum(), one)[0], 9 * one)


def test_wrong_arguments_are_refused():
    x, weight, target = torch.zeros(2, 3, 8), torch.zeros(3, 4, 3), torch.zeros(2, 4, 10)
    with pytest.raises(ValueError, match=r"target must be \(2, 4, 10\): \(2, 4, 9\)"):
        decode_error(x, weight, None, target[..., 1:])
    with pytest.raises(ValueError, match="the target gets no gradient"):
        decode_error(x, weight, None, target.requires_grad_())
    with pytest.raises(ValueError, match="none of mse, l1, bce"):
        decode_error(x, weight, None, target, kind="l2")
    with pytest.raises(ValueError, match="none of none, relu"):
        decode_error(x, weight, None, target, activation="swish")
    with pytest.raises(ValueError, match="output_padding must be less than stride"):
        decode_error(x, weight, None, target, output_padding=1)

"""conv and conv_transpose over kernel sizes and strides, and what they refuse."""

import pytest
import torch

from aekit.kernels import KERNELS, conv, conv_transpose
from aekit.kernels._epilogue import input_precision
from aekit.kernels._parity import strays


@pytest.mark.parametrize("name", ["conv", "conv_transpose"])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("kernel_size", [1, 2, 4, 7, 11])
def test_kernel_sizes_and_strides_are_as_exact_as_torch(name, stride, kernel_size, device):
    x = torch.randn(2, 2, 13, device=device, requires_grad=True)
    weight = torch.randn(2, 2, kernel_size, device=device, requires_grad=True)
    extra = [stride - 1] if name == "conv_transpose" else []
    inputs = [x, weight, torch.randn(2, device=device, requires_grad=True), stride, kernel_size // 2, *extra, "elu"]
    assert strays(KERNELS[name], inputs) == []


@pytest.mark.parametrize("name", ["conv", "conv_transpose"])
def test_each_dimension_has_its_own_settings(name, device):
    x = torch.randn(2, 3, 7, 9, device=device, requires_grad=True)
    weight = torch.randn(3, 3, 2, 5, device=device, requires_grad=True)
    extra = [[0, 3]] if name == "conv_transpose" else []
    inputs = [x, weight, torch.randn(3, device=device, requires_grad=True), (1, 4), [0, 2], *extra, "selu"]
    assert strays(KERNELS[name], inputs) == []


@pytest.mark.parametrize("name", ["conv", "conv_transpose"])
def test_many_channels_take_several_programs(name, device):
    x = torch.randn(2, 35, 6, device=device, requires_grad=True)
    weight = torch.randn(*((67, 35) if name == "conv" else (35, 67)), 3, device=device, requires_grad=True)
    extra = [1] if name == "conv_transpose" else []
    assert strays(KERNELS[name], [x, weight, None, 2, 1, *extra, "sigmoid"]) == []


@pytest.mark.parametrize("layer", [conv, conv_transpose])
def test_channels_lie_last_in_what_comes_back_whatever_went_in(layer, device):
    x, weight = torch.randn(2, 4, 5, 6, device=device), torch.randn(4, 4, 3, 3, device=device)
    last = torch.channels_last
    expected = layer(x, weight)
    assert expected.is_contiguous(memory_format=last)
    assert torch.equal(layer(x.contiguous(memory_format=last), weight.contiguous(memory_format=last)), expected)


def test_convolutions_and_linear_layers_each_follow_torchs_switch_of_the_kind():
    for convolution, switch in ((True, torch.backends.cudnn), (False, torch.backends.cuda.matmul)):
        switch.allow_tf32 = True
        assert (input_precision(convolution), input_precision(not convolution)) == ("tf32", "ieee")
        switch.allow_tf32 = False


def test_wrong_arguments_are_refused():
    x, weight = torch.zeros(2, 3, 8), torch.zeros(3, 3, 3)
    for layer in (conv, conv_transpose):
        with pytest.raises(ValueError, match=r"x must be \(B, 3, ...\) of 1 dimensions"):
            layer(x[:, :2], weight)
        with pytest.raises(ValueError, match=r"x must be \(B, 3, ...\) of 1 dimensions"):
            layer(x.half(), weight)
        with pytest.raises(ValueError, match="stride and padding must be one or 1 numbers"):
            layer(x, weight, stride=(1, 2))
        with pytest.raises(ValueError, match=r"bias must be \(3,\)"):
            layer(x, weight, torch.zeros(2))
    with pytest.raises(ValueError, match=r"\[3\] taps do not fit \[2\] padded by \[0\]"):
        conv(x[..., :2], weight)
    with pytest.raises(ValueError, match=r"padding of \[2\] leaves nothing of \[1\]"):
        conv_transpose(x[..., :1], weight, padding=2)
    with pytest.raises(ValueError, match="output_padding must be less than stride"):
        conv_transpose(x, weight, stride=2, output_padding=2)

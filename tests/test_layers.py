"""The layers' own forms of a convolution equal torch's, gradients of gradients included."""

import pytest
import torch
from torch import nn

from aekit.layers import Conv2d, ConvTranspose2d

CONVS = [  # channels in, out, size, kernel, stride, padding
    (1, 5, (9, 8), 3, 2, 1),
    (1, 3, (7, 7), (7, 7), 1, 0),
    (1, 2, (6, 11), (3, 5), (2, 3), (1, 2)),
    (4, 3, (5, 3), (5, 3), 1, 0),
    (3, 4, (8, 8), 3, 2, 1),
]
TRANSPOSED = [  # channels in, out, size, kernel, stride, padding, output padding
    (5, 1, (4, 5), 3, 2, 1, 1),
    (5, 1, (4, 5), 3, 2, 1, 0),
    (3, 4, (1, 1), (5, 3), 1, 0, 0),
    (3, 1, (1, 1), (5, 3), 1, 0, 0),
    (4, 3, (4, 4), 3, 2, 1, 1),
    (2, 1, (3, 4), (2, 5), (3, 2), (0, 1), (2, 0)),
]


def check(own: nn.Module, torchs: nn.Module, x: torch.Tensor) -> None:
    own, torchs = own.double(), torchs.double()
    own.load_state_dict(torchs.state_dict())
    for layout in (torch.contiguous_format, torch.channels_last):
        x = x.to(memory_format=layout)
        torch.testing.assert_close(own.to(memory_format=layout)(x), torchs(x))  # type: ignore[call-overload]

    def function(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        names = [name for name, _ in own.named_parameters()]
        return torch.func.functional_call(own, dict(zip(names, parameters, strict=True)), (x,))

    inputs = [x.requires_grad_(), *(p.detach().clone().requires_grad_() for p in own.parameters())]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", CONVS, ids=str)
def test_convolution_equals_torchs(case: tuple, bias: bool) -> None:
    c_in, c_out, size, kernel, stride, padding = case
    arguments = (c_in, c_out, kernel, stride, padding)
    check(Conv2d(*arguments, bias=bias), nn.Conv2d(*arguments, bias=bias), torch.randn(2, c_in, *size).double())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_transposed_convolution_equals_torchs(case: tuple, bias: bool) -> None:
    c_in, c_out, size, *arguments = case
    x = torch.randn(2, c_in, *size).double()
    check(
        ConvTranspose2d(c_in, c_out, *arguments, bias=bias), nn.ConvTranspose2d(c_in, c_out, *arguments, bias=bias), x
    )

"""The layers' own forms of a convolution equal torch's, gradients of gradients included."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from aekit import kernels
from aekit.layers import Conv2d, ConvTranspose2d, Reshape, Stack, conv, conv_transpose, for_use
from aekit.models import build

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


STACKS = {
    "images": (
        lambda: Stack(
            conv(2, 1, 4, 3, 2), nn.ReLU(), conv(2, 4, 5, 3, 2), nn.GELU(), conv(2, 5, 6, (2, 2)), nn.ReLU(),
            nn.Flatten(), nn.Linear(6, 3), nn.Linear(3, 6), nn.Tanh(), Reshape(6, 1, 1),
            conv_transpose(6, 5, (2, 2), ((1, 1), (2, 2))), nn.ELU(),
            conv_transpose(5, 4, 3, ((2, 2), (4, 3)), 2), nn.SiLU(), conv_transpose(4, 1, 3, ((4, 3), (7, 6)), 2),
            nn.Sigmoid(),
        ),
        (1, 7, 6),
    ),
    "series": (
        lambda: Stack(
            conv(1, 2, 4, 5, 2), nn.LeakyReLU(), nn.MaxPool1d(2), conv_transpose(4, 3, (2,), ((4,), (8,)), 2),
            nn.SELU(), conv(1, 3, 1, 7),
        ),
        (2, 15),
    ),
}  # fmt: skip


def results(stack: nn.Module, x: torch.Tensor, choice: str) -> list[torch.Tensor]:
    """Outputs, gradients, and the parameters' gradients of WGAN's penalty on the gradient of x."""
    kernels.use(choice)
    x = x.detach().requires_grad_()
    y = stack(x)
    weights = [p for p in stack.parameters() if p.dim() > 1]
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    second = torch.autograd.grad(penalty, weights, allow_unused=True, materialize_grads=True, retain_graph=True)
    return [y, *torch.autograd.grad(y.square().sum(), [x, *stack.parameters()]), *second]


@pytest.fixture
def _auto() -> Iterator[None]:
    yield
    kernels.use("auto")


@pytest.mark.usefixtures("_auto")
@pytest.mark.skipif(bool(kernels.why_no_triton()), reason="needs Triton")
@pytest.mark.parametrize("name", STACKS)
def test_a_stack_by_kernels_is_as_exact_as_torch(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Penalties that differentiate twice included; every layer but the two plain products takes its kernel."""
    make, shape = STACKS[name]
    stack, x = make().to(device), torch.randn(3, *shape, device=device)
    taken: list[str] = []
    monkeypatch.setattr(kernels, "prefers", lambda kind, x, own=kernels.prefers: taken.append(kind) or own(kind, x))
    got = results(stack, x, "triton")
    monkeypatch.undo()
    assert set(taken) == LAYERS_OF[name]
    exact = results(stack.double(), x.double(), "torch")
    for a, b in zip(got, exact, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5 * max(1.0, float(b.detach().abs().max())))


@pytest.mark.usefixtures("_auto")
@pytest.mark.skipif(bool(kernels.why_no_triton()), reason="needs Triton")
def test_under_autocast_a_kernel_computes_in_its_type(device: str) -> None:
    make, shape = STACKS["series"]
    stack, x = make().to(device), torch.randn(3, *shape, device=device)
    kernels.use("triton")
    with torch.autocast(device, torch.float16):  # the interpreter garbles bfloat16
        y = stack(x)
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.float(), stack(x), rtol=0.05, atol=0.05)
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in stack.parameters())


LAYERS_OF = {
    "images": {
        "conv from 1 channel", "conv", "", "linear", "conv_transpose", "conv_transpose to 1 channel"
    },
    "series": {"conv", "conv to 1 channel", "conv_transpose"},
}  # fmt: skip


@pytest.mark.usefixtures("_auto")
@pytest.mark.skipif(bool(kernels.why_no_triton()), reason="needs Triton")
def test_jacobians_by_vmap_take_torchs_path(device: str) -> None:
    make, shape = STACKS["images"]
    stack, x = make().to(device), torch.randn(2, *shape, device=device)
    kernels.use("triton")
    got = torch.func.vmap(torch.func.jacrev(lambda one: stack(one[None])[0]))(x)
    kernels.use("torch")
    expected = torch.func.vmap(torch.func.jacrev(lambda one: stack(one[None])[0]))(x)
    torch.testing.assert_close(got, expected)
    assert got.abs().max() > 0


def test_an_activation_is_taken_once(device: str) -> None:
    """Without kernels a stack is the sequence that it lists."""
    make, shape = STACKS["series"]
    stack, x = make().to(device), torch.randn(3, *shape, device=device)
    kernels.use("torch")
    expected = x
    for module in stack:
        expected = module(expected)
    kernels.use("auto")
    torch.testing.assert_close(stack(x), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("_auto")
@pytest.mark.skipif(bool(kernels.why_no_triton()), reason="needs Triton")
@pytest.mark.parametrize("kind", ["mse", "l1", "bce"])
def test_an_error_in_one_pass_is_that_of_what_comes_out(
    kind: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, shape = STACKS["images"]
    stack, x = make().to(device), torch.randn(3, *shape, device=device)
    target = torch.rand(3, *shape, device=device)
    calls: list[int] = []
    one_pass = kernels.decode_error
    monkeypatch.setattr(kernels, "decode_error", lambda *arguments: calls.append(1) or one_pass(*arguments))
    found = {}
    for choice in ("triton", "torch"):
        kernels.use(choice)
        found[choice] = stack.error(x, target, kind)
    expected = kernels.sample_error(stack(x).flatten(1), target.flatten(1), kind=kind)
    assert len(calls) == 1
    for got in found.values():
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    series, _ = STACKS["series"]  # which ends otherwise
    stack, x = series().to(device), torch.randn(3, 2, 15, device=device)
    y = stack(x)
    torch.testing.assert_close(stack.error(x, y, "l1"), torch.zeros(3, device=device))


@pytest.mark.parametrize(("name", "shape"), [("unet", (3, 90)), ("unet", (1, 20, 30)), ("deepdenoiser", (1, 300))])
def test_normalisations_fold_into_the_layers_before_them(name: str, shape: tuple[int, ...]) -> None:
    model = build(name, shape, {"hidden": (4, 8)})
    torch.manual_seed(0)
    for _ in range(3):
        model(torch.randn(8, *shape))  # statistics to fold
    for norm in [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = torch.randn(2, *shape)
    expected = model.eval()(x).x_hat
    before = len([module for module in model.modules() if "BatchNorm" in type(module).__name__])
    folded = for_use(model)
    assert len([module for module in folded.modules() if "BatchNorm" in type(module).__name__]) == 1 < before
    torch.testing.assert_close(folded(x).x_hat, expected, atol=1e-5, rtol=1e-4)

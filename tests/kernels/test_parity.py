"""Every kernel against its torch reference, over the registry."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from aekit.kernels import KERNELS, Kernel, _registry
from aekit.kernels._parity import as_double, forward_backward, strays

LAYERS = ("linear", "conv", "conv_transpose")  # a gradient of theirs may not depend on x
GPU = torch.cuda.is_available()
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if GPU else [])]  # which the interpreter truncates
VARIANTS = [(name, variant) for name, kernel in KERNELS.items() for variant in kernel.make_inputs]
CASES = [(name, variant, shape) for name, variant in VARIANTS for shape in KERNELS[name].shapes]


BATCH = 37 if GPU else 9


def in_time(dtype: torch.dtype) -> list:
    """The cases; of the longest of `decode_error`, slow under Triton's interpreter, two are in the quick run."""
    long = [
        case for case in CASES if case[0] == "decode_error" and case[2] == max(KERNELS[case[0]].shapes, key=math.prod)
    ]
    quick = long[:2] if dtype == torch.float32 else []
    marks = [pytest.mark.slow] if not GPU else []
    return [pytest.param(*case, dtype, marks=marks if case in long and case not in quick else []) for case in CASES]


def case(name: str, variant: str, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> tuple[Kernel, list]:
    return KERNELS[name], KERNELS[name].make_inputs[variant](shape, dtype=dtype, device=device)


@pytest.mark.parametrize(("name", "variant", "shape", "dtype"), [case for dtype in DTYPES for case in in_time(dtype)])
def test_kernel_is_as_exact_as_torch(name, variant, shape, dtype, device):
    kernel, inputs = case(name, variant, shape, dtype, device)
    assert strays(kernel, inputs) == []


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_results_repeat_and_do_not_depend_on_strides(name, variant, device):
    kernel, inputs = case(name, variant, (5, *KERNELS[name].sample), torch.float32, device)
    first = forward_backward(kernel.op, inputs)
    apart = [
        torch.stack([x.detach(), x.detach()], dim=-1)[..., 0].requires_grad_(x.requires_grad)
        if isinstance(x, Tensor) and x.ndim >= 2
        else x
        for x in inputs
    ]
    for again in (inputs, apart):
        for got, expected in zip(forward_backward(kernel.op, again), first, strict=True):
            assert torch.equal(got, expected)


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_a_sample_does_not_depend_on_the_batch(name, variant, device):
    kernel, inputs = case(name, variant, (BATCH, *KERNELS[name].sample), torch.float32, device)
    i = 0 if name == "reparameterize" else 3  # a sample's place decides its random numbers
    alone = [x[i : i + 1] if isinstance(x, Tensor) and len(x) == BATCH else x for x in inputs]
    batch, single = kernel.op(*inputs), kernel.op(*alone)
    if not isinstance(batch, tuple):
        batch, single = (batch,), (single,)
    for result, of_one in zip(batch, single, strict=True):
        assert torch.equal(result[i : i + 1], of_one)


@pytest.mark.parametrize(("name", "variant"), [case for case in VARIANTS if "1e4" not in case[1]])
def test_first_and_second_derivatives_are_right(name, variant, device):
    kernel, inputs = case(name, variant, (2, *KERNELS[name].tiny), torch.float32, device)
    assert gradcheck(kernel.op, as_double(inputs), fast_mode=True)
    assert gradgradcheck(kernel.op, as_double(inputs), fast_mode=True)


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_gradient_of_a_gradient_norm_is_torchs(name, variant, device):
    """As in WGAN's gradient penalty, which differentiates twice."""

    def penalty_gradient(function, inputs):
        leaves = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
        outputs = function(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        norms = torch.autograd.grad(sum(y.sum() for y in outputs), leaves, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in norms), leaves, allow_unused=True)

    kernel, inputs = case(name, variant, (3, *KERNELS[name].tiny), torch.float32, device)
    expected = penalty_gradient(kernel.reference, as_double(inputs))
    for got, exact in zip(penalty_gradient(kernel.op, inputs), expected, strict=True):
        if exact is None:  # nothing that is summed depends on it
            assert got is None or not got.any()
        else:
            torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=1e-5 * max(1.0, float(exact.abs().max())))


@pytest.mark.parametrize("name", KERNELS)
def test_differentiating_a_registered_backward_raises(name, device, monkeypatch):
    backward, calls = _registry._ops[f"{name}_backward"], []
    monkeypatch.setitem(_registry._ops, f"{name}_backward", lambda *args: calls.append(args) or backward(*args))
    kernel, inputs = case(name, next(iter(KERNELS[name].make_inputs)), (2, *KERNELS[name].tiny), torch.float32, device)
    forward_backward(kernel.op, inputs)
    (arguments,) = calls
    grad = arguments[0].detach().requires_grad_()
    with torch.enable_grad():
        gradients = backward(grad, *arguments[1:])
    with pytest.raises(RuntimeError, match="no autograd formula"):
        gradients[0].sum().backward()


@pytest.mark.parametrize("name", KERNELS)
def test_a_nan_stays_in_its_sample(name, device):
    for variant in KERNELS[name].make_inputs:
        kernel, inputs = case(name, variant, (4, *KERNELS[name].sample), torch.float32, device)
        weights = [x for x in inputs[2:3] if isinstance(x, Tensor) and x.ndim == 2]
        for weight in weights:
            weight.fill_(1)
        with torch.no_grad():
            inputs[0][(2, *(0,) * (inputs[0].ndim - 1))] = float("nan")
        output, gradient = forward_backward(kernel.op, inputs)[:2]
        for result in (output, gradient):
            bad = result.isnan().reshape(4, -1).any(dim=1).tolist()
            free = name in LAYERS and result is gradient and not any(bad)  # relu's, say
            assert free or bad == [False, False, True, False], variant


@pytest.mark.skipif(not GPU, reason="torch.compile and CUDA graphs fail under Triton's interpreter")
@pytest.mark.parametrize("name", KERNELS)
def test_op_compiles_whole_and_replays_in_a_cuda_graph(name):
    for variant in KERNELS[name].make_inputs:
        kernel, inputs = case(name, variant, (33, *KERNELS[name].sample), torch.float32, "cuda")
        expected = forward_backward(kernel.op, inputs)
        compiled = torch.compile(kernel.op, fullgraph=True)
        for got, eager in zip(forward_backward(compiled, inputs), expected, strict=True):
            torch.testing.assert_close(got, eager)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            replayed = forward_backward(kernel.op, inputs)
        graph.replay()
        for got, eager in zip(replayed, expected, strict=True):
            assert torch.equal(got, eager)

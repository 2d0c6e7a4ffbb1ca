"""Generative adversarial networks: a generator makes samples, a critic tells them from real ones.

`loss` says how they compete: "gan" (Goodfellow et al. 2014, arXiv:1406.2661, with the generator's loss of its section
3 that does not saturate), "wgan-gp" (Gulrajani et al. 2017, arXiv:1704.00028, algorithm 1) or "wgan-div" (Wu et al.
2018, arXiv:1712.01026, whose penalty is taken at real and at made samples). Dense for small samples, else convolutions
with a stride (Radford et al. 2016, arXiv:1511.06434), of 1 or 2 dimensions.

What generates is a running mean of the generator's weights: the last weights of such a contest swing about it (Yazici
et al. 2019, arXiv:1806.04498).
"""

import copy
import math

import torch
from torch import Generator, Tensor, nn

from aekit.layers import ACTIVATIONS, Reshape, Stack, conv, conv_transpose, strided_sizes
from aekit.objectives import Phase, zeros
from aekit.records import Batch, Output

LOSSES = ("gan", "wgan-gp", "wgan-div")
SMALL = 12  # the longest side of samples that are made by dense layers
LAMBDA = 10.0  # weight of the gradient penalty of wgan-gp
K, P = 2.0, 6.0  # factor and power of that of wgan-div
SLOPE = 0.2  # of the critic's units below 0
MEMORY = 0.999  # of the running mean, a step of the generator
HALF = 9  # steps after which a new one counts half: before the mean has a memory, it follows


class GAN(nn.Module):
    """`critic_steps` are steps of the critic to one of the generator; with None 5, or 1 where the loss is "gan"."""

    verbs = ("generate",)

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        latent: int = 100,
        hidden: tuple[int, ...] | None = None,
        width: int = 32,
        kernel_size: int | None = None,
        loss: str = "gan",
        critic_steps: int | None = None,
        output: str = "sigmoid",
    ):
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"loss={loss}: there are {', '.join(LOSSES)}")
        self.latent, self.loss = latent, loss
        self.critic_steps = critic_steps or (1 if loss == "gan" else 5)
        self.generator, self.critic = contestants(sample_shape, latent, hidden, width, kernel_size, 1, output)
        self.mean = RunningMean(self.generator)

    def decode(self, z: Tensor) -> Tensor:
        x: Tensor = self.mean.module(z)
        return x  # (B, C, ...)

    def prior(self, count: int, generator: Generator) -> Tensor:
        """Latents (count, D) of p(z) = N(0, 1)."""
        return torch.randn(count, self.latent, generator=generator)

    def forward(self, x: Tensor) -> Output:
        """As many samples as x has, from latents of its device's generator."""
        return Output(self.decode(torch.randn(len(x), self.latent, device=x.device)), None, zeros(x))

    def phases(self) -> list[Phase]:
        return [
            Phase("critic", list(self.critic.parameters()), self._critic_loss),
            Phase(
                "generator",
                list(self.generator.parameters()),
                self._generator_loss,
                every=self.critic_steps,
                after=lambda: self.mean.update(self.generator),
            ),
        ]

    def _critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        x = batch.target
        fake = fakes(self.generator, torch.randn(len(x), self.latent, device=x.device))
        if self.loss == "wgan-div":
            x, fake = x.detach().requires_grad_(), fake.requires_grad_()
        on_real, on_fake = self.critic(x).float(), self.critic(fake).float()
        if self.loss == "gan":
            return {"loss": nn.functional.softplus(-on_real).mean() + nn.functional.softplus(on_fake).mean()}
        distance = on_real.mean() - on_fake.mean()
        if self.loss == "wgan-gp":
            share = torch.rand(len(x), *[1] * (x.dim() - 1), device=x.device)
            between = torch.lerp(fake, x, share).detach().requires_grad_()
            penalty = LAMBDA * (slopes(self.critic(between), between) - 1).square().mean()
        else:
            penalty = K / 2 * (slopes(on_real, x) ** P + slopes(on_fake, fake) ** P).mean()
        return {"loss": penalty - distance, "distance": distance.detach(), "penalty": penalty.detach()}

    def _generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        z = torch.randn(len(batch.x), self.latent, device=batch.x.device)
        on_fake = self.critic(self.generator(z)).float()
        return {"loss": nn.functional.softplus(-on_fake).mean() if self.loss == "gan" else -on_fake.mean()}


def contestants(
    sample_shape: tuple[int, ...],
    latent: int,
    hidden: tuple[int, ...] | None,
    width: int,
    kernel_size: int | None,
    answers: int,
    output: str,
) -> tuple[Stack, Stack]:
    """Generator (B, latent) -> (B, C, ...) and critic (B, C, ...) -> (B, answers).

    `hidden` are widths from the sample inwards; where not given the sample is halved until its longer side is at most
    7, at most 5 times, and widths double from `width` up to 8 * `width`. The critic has no normalisation, which would
    make its slope at one sample depend on the others.
    """
    channels, *size = sample_shape
    if kernel_size is not None and kernel_size % 2 == 0:
        raise ValueError(f"kernel_size={kernel_size}: an odd number is needed")
    if max(size) <= SMALL:
        widths = (8 * width, 4 * width) if hidden is None else hidden
        generator: list[nn.Module] = []
        critic: list[nn.Module] = [nn.Flatten()]
        values = math.prod(sample_shape)
        for before, after in zip((latent, *widths[::-1]), widths[::-1], strict=False):
            generator += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
        for before, after in zip((values, *widths), widths, strict=False):
            critic += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
        generator += [nn.Linear(widths[0], values), ACTIVATIONS[output](), Reshape(*sample_shape)]
        return Stack(*generator), Stack(*critic, nn.Linear(widths[-1], answers))
    dims = len(size)
    kernel_size = kernel_size or (9 if dims == 1 else 3)
    stages = min(5, max(1, math.ceil(math.log2(max(size) / 7))))
    widths = tuple(min(width * 2**i, 8 * width) for i in range(stages)) if hidden is None else hidden
    if not widths:
        raise ValueError("hidden names no width, and there is no convolution without one")
    sizes = strided_sizes(tuple(size), len(widths))
    norm = nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d
    inner = (widths[-1], *sizes[-1])
    generator = [nn.Linear(latent, math.prod(inner)), Reshape(*inner), norm(widths[-1]), nn.ReLU()]
    critic = []
    for i, (outer, inward) in enumerate(zip((channels, *widths), widths, strict=False)):
        critic += [conv(dims, outer, inward, kernel_size, stride=2), nn.LeakyReLU(SLOPE)]
        up = conv_transpose(inward, outer, kernel_size + kernel_size % 2, (sizes[i + 1], sizes[i]), stride=2)
        generator[4:4] = [up, norm(outer), nn.ReLU()] if i else [up, ACTIVATIONS[output]()]  # in reverse order
    return Stack(*generator), Stack(*critic, nn.Flatten(), nn.Linear(math.prod(inner), answers))


@torch.no_grad()
def fakes(generator: nn.Module, *given: Tensor) -> Tensor:
    """What a generator makes, (B, C, ...), and no gradient goes back through."""
    x: Tensor = generator(*given)
    return x.float()


def slopes(answers: Tensor, x: Tensor) -> Tensor:
    """The norm of the gradient of the critic's answers (B, 1) at x (B, C, ...), (B,); it can be differentiated."""
    (gradient,) = torch.autograd.grad(answers.sum(), x, create_graph=True)
    norm: Tensor = gradient.float().flatten(1).norm(dim=1)
    return norm


class RunningMean(nn.Module):
    """A module whose weights and statistics follow those of another by an exponential mean, quicker at first."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.updates: Tensor
        self.register_buffer("updates", torch.zeros(()))

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        share = torch.clamp(HALF / (HALF + self.updates), min=1 - MEMORY)
        for own, other in zip(self.module.state_dict().values(), module.state_dict().values(), strict=True):
            if own.is_floating_point():
                own.lerp_(other, share)

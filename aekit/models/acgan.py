"""Auxiliary classifier GAN, Odena, Olah & Shlens 2017, arXiv:1610.09585: the critic also tells the class.

The generator is given the product of Gaussian noise and its class's embedding, which is the latent here: what `prior`
draws for a class, and what lies between two classes. The critic's target for real samples is 0.9 (Salimans et al. 2016,
arXiv:1606.03498, section 3.4), its learning rate four times the generator's. The published generator moves in each
fifth step; the recipe moves it in each, as Zhang et al. 2019, arXiv:1805.08318, do.

Corrected: public programs feed probabilities into the cross-entropy of the class, which expects logits.
"""

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from aekit.models.gan import RunningMean, contestants, fakes
from aekit.objectives import Phase, zeros
from aekit.records import Batch, Output

REAL = 0.9


class ACGAN(nn.Module):
    verbs = ("generate",)
    learns_classes = True
    conditional = True

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        latent: int = 100,
        hidden: tuple[int, ...] | None = None,
        width: int = 32,
        kernel_size: int | None = None,
        critic_steps: int = 5,
        classes: int = 2,
        output: str = "sigmoid",
    ):
        super().__init__()
        self.classes, self.critic_steps = classes, critic_steps
        body, self.critic = contestants(sample_shape, latent, hidden, width, kernel_size, 1 + classes, output)
        self.generator = _Conditional(classes, latent, body)
        self.mean = RunningMean(self.generator)

    def decode(self, z: Tensor) -> Tensor:
        x: Tensor = self.mean.module.body(z)  # type: ignore[operator]
        return x  # (B, C, ...)

    def prior(self, count: int, generator: Generator, label: int | None = None) -> Tensor:
        """Latents (count, D) of one class, by its place, or of classes drawn at random."""
        if label is None:
            labels = torch.randint(self.classes, (count,), generator=generator)
        else:
            labels = torch.full((count,), label)
        scale: Tensor = self.mean.module.embedding.weight.cpu()[labels]  # type: ignore[index, union-attr]
        return scale * torch.randn(scale.shape, generator=generator)

    def forward(self, x: Tensor) -> Output:
        """As many samples as x has, of classes and latents drawn at random."""
        return Output(self.mean.module(*self._drawn(x)), None, zeros(x))

    def phases(self) -> list[Phase]:
        return [
            Phase("critic", list(self.critic.parameters()), self._critic_loss, pace=4.0),
            Phase(
                "generator",
                list(self.generator.parameters()),
                self._generator_loss,
                every=self.critic_steps,
                after=lambda: self.mean.update(self.generator),
            ),
        ]

    def _drawn(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Noise (B, D) and classes (B,)."""
        noise = torch.randn(len(x), self.generator.embedding.embedding_dim, device=x.device)
        return noise, torch.randint(self.classes, (len(x),), device=x.device)

    def _answers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The critic's logits of being real (B,) and of the classes (B, classes)."""
        answers = self.critic(x).float()
        return answers[:, 0], answers[:, 1:]

    def _critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.label is not None, "the workflow checks that there are labels"
        noise, wanted = self._drawn(batch.target)
        on_real, class_of_real = self._answers(batch.target)
        on_fake, class_of_fake = self._answers(fakes(self.generator, noise, wanted))
        real = binary_cross_entropy_with_logits(on_real, torch.full_like(on_real, REAL))
        fake = binary_cross_entropy_with_logits(on_fake, torch.zeros_like(on_fake))
        classes = cross_entropy(class_of_real, batch.label) + cross_entropy(class_of_fake, wanted)
        accuracy = (class_of_real.argmax(1) == batch.label).float().mean()
        return {"loss": real + fake + classes, "accuracy": accuracy}

    def _generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        noise, wanted = self._drawn(batch.x)
        on_fake, class_of_fake = self._answers(self.generator(noise, wanted))
        real = binary_cross_entropy_with_logits(on_fake, torch.ones_like(on_fake))
        return {"loss": real + cross_entropy(class_of_fake, wanted)}


class _Conditional(nn.Module):
    """Noise (B, D) and classes (B,) -> samples."""

    def __init__(self, classes: int, latent: int, body: nn.Module):
        super().__init__()
        self.embedding = nn.Embedding(classes, latent)
        self.body = body

    def forward(self, noise: Tensor, label: Tensor) -> Tensor:
        x: Tensor = self.body(self.embedding(label) * noise)
        return x

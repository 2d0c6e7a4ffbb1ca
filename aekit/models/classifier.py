"""A classifier on the encoder of a trained model, all of which learns on (fine-tuning).

One linear layer turns the latent of the encoder into the logits of the classes (He et al. 2022, arXiv:2111.06377,
section 4.1, as for every encoder here).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aekit.objectives import Phase, zeros
from aekit.records import Batch, Output


class Classifier(nn.Module):
    """`encoder` is one of MODELS that serves embed, `encoder_settings` are its settings."""

    verbs = ("score", "embed")
    learns_classes = True
    classifies = True
    error_is = "cross-entropy"

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        encoder: str = "conv",
        encoder_settings: dict[str, Any] | None = None,
        dropout: float = 0.0,
        classes: int = 2,
        output: str = "none",
    ):
        super().__init__()
        from aekit.models import MODELS  # which names this module too

        self.body = MODELS[encoder](sample_shape, **(encoder_settings or {}))
        width = _keep_what_encodes(self.body, sample_shape)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))

    def encode(self, x: Tensor) -> Tensor:
        z: Tensor = self.body.encode(x)  # type: ignore[operator]
        return z  # (B, D)

    def forward(self, x: Tensor) -> Output:
        """The probability of each class in the place of the reconstruction, (B, classes)."""
        z = self.encode(x)
        return Output(self.head(z).float().softmax(dim=1), z, zeros(x))

    def errors(self, batch: Batch) -> Tensor:
        """Cross-entropy of each sample's class, (B,)."""
        assert batch.label is not None, "the workflow checks that there are labels"
        return cross_entropy(self.head(self.encode(batch.x)).float(), batch.label, reduction="none")

    def phases(self) -> list[Phase]:
        return [Phase("train", list(self.parameters()), lambda batch: {"loss": self.errors(batch).mean()})]


@torch.no_grad()
def _keep_what_encodes(body: nn.Module, sample_shape: tuple[int, ...]) -> int:
    """Takes the parts out of a network that its latents do not pass through, and tells their width."""
    used: set[nn.Module] = set()
    hooks = [part.register_forward_hook(lambda part, *_: used.add(part)) for part in body.modules()]
    z: Tensor = body.encode(torch.zeros(1, *sample_shape))  # type: ignore[operator]
    for hook in hooks:
        hook.remove()
    for name, child in list(body.named_children()):
        if used.isdisjoint(child.modules()) and not isinstance(child, nn.ParameterList):  # which is never called
            delattr(body, name)
    return z.shape[1]

"""Self-pretraining: an encoder learns to predict masked inputs of the sequences that it will classify.

Amos, Berant and Gupta 2023, "Never Train from Scratch", https://arxiv.org/abs/2310.02980 (IdoAmos/not-from-scratch,
f919137): each position is masked with the same probability, a linear layer predicts the original token, and the loss is
the mean over masked positions. In their code it is the mean over a whole batch; here it is the mean over each sample,
so that it does not depend on how a batch is cut. Their Image predicts a pixel as a number; here its value is one of 256
classes. Their code masks a pixel by 0 and a second input; here a learned vector replaces every masked token, as it does
for text.
Letters: B batch, N tokens, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.backbones.classifier import Classifier


class PretrainingParts(nn.Module):
    """The parts that only the pretraining needs: the vector of a masked token, and the layer that predicts ids."""

    def __init__(self, dim: int, width: int, ids: int):
        super().__init__()
        self.mask = nn.Embedding(1, dim)
        self.predict = nn.Linear(width, ids)


class Denoiser(nn.Module):
    """ids (B, N) int64, keep (B, N) bool or None -> losses (B,); for pairs (B, 2, N) -> the mean of both documents.

    encoder: a classifier, whose head is removed. share: the probability that a real token is masked; at least one of
    each sequence is. Masks are drawn in evaluations, too. A token in front (pool: cls) is neither masked nor predicted.
    """

    def __init__(self, encoder: Classifier, share: float):
        super().__init__()
        self.encoder, self.share = encoder, share
        encoder.head = nn.Sequential()
        self.own = PretrainingParts(encoder.tokens.embedding_dim, encoder.width, encoder.tokens.num_embeddings)

    def attentions(self) -> list[nn.Module]:
        return self.encoder.attentions()

    def forward(self, ids: Tensor, keep: Tensor | None = None) -> Tensor:
        if ids.ndim == 2:
            return self.losses(ids, keep)
        both = self.losses(ids.flatten(0, 1), None if keep is None else keep.flatten(0, 1))
        return both.unflatten(0, (-1, 2)).mean(1)

    def losses(self, ids: Tensor, keep: Tensor | None) -> Tensor:
        """ids (B, N), keep (B, N) -> (B,): the mean cross-entropy at the masked tokens; 0 where no token is real."""
        encoder = self.encoder
        masked = self.draw(ids, keep)
        x = encoder.add_positions(torch.where(masked.unsqueeze(-1), self.own.mask.weight, encoder.tokens(ids)))
        ahead = x.shape[1] - ids.shape[1]
        if ahead and keep is not None:
            keep = F.pad(keep, (ahead, 0), value=True)
        x, _ = encoder.body(x, keep)
        logits = self.own.predict(encoder.norm(x)[:, ahead:])
        if logits.dtype != torch.float64:
            logits = logits.float()
        loss = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none").view(ids.shape)
        return torch.where(masked, loss, 0).sum(1) / masked.sum(1).clamp(min=1)

    def draw(self, ids: Tensor, keep: Tensor | None) -> Tensor:
        """ids (B, N), keep (B, N) -> which tokens are masked, (B, N)."""
        like = torch.empty(ids.shape, dtype=torch.float32, device=ids.device)
        drawn = (noise_compiled if torch.compiler.is_compiling() and ids.device.type == "cpu" else noise)(like)
        if keep is not None:
            drawn = torch.where(keep, drawn, 2.0)
        masked = drawn <= drawn.amin(1, keepdim=True).clamp(min=self.share)
        return masked if keep is None else masked & keep


def noise(x: Tensor) -> Tensor:
    """Uniform in [0, 1), in the shape of x."""
    return torch.rand_like(x)


# On a CPU compiled code would draw other numbers. The compiler does not look into this operator, so a compiled step
# masks the same tokens as an eager one.
torch.library.define("lra::noise", "(Tensor x) -> Tensor", tags=torch.Tag.nondeterministic_seeded)
torch.library.impl("lra::noise", "cpu", noise)
torch.library.register_fake("lra::noise", torch.empty_like)
noise_compiled = torch.ops.lra.noise.default

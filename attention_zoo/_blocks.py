"""Blocks of consecutive tokens, for mechanisms that choose among them (BigBird, Sparse Transformer, Sinkhorn).

Letters: B batch, H heads, N tokens, K channels, P tokens of a block, C blocks.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_zoo._windows import Windows, varies


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """C blocks of `size` tokens, counted from the first token; the last ones are filled up with padding.

    tokens: N. size: P. real: which tokens are real, (B, C, P).
    """

    tokens: int
    size: int
    real: Tensor

    @staticmethod
    def most(size: int, length: int) -> int:
        """The largest number of blocks, by `Windows.counts`, of sequences up to this length."""
        return max(2, length // size + 1)

    @classmethod
    def of(cls, q: Tensor, keep: Tensor | None, size: int) -> "Blocks":
        """The blocks of q (B, H, N, K) and keep (B, N)."""
        tokens = q.shape[2]
        count = Windows(shape=(tokens,), size=size, varies=varies(keep)).counts[0]
        keep = torch.ones(q.shape[0], tokens, dtype=torch.bool, device=q.device) if keep is None else keep
        return cls(tokens=tokens, size=size, real=F.pad(keep, (0, count * size - tokens)).unflatten(1, (count, size)))

    @property
    def count(self) -> int:
        return self.real.shape[1]

    def cut(self, t: Tensor) -> Tensor:
        """t (B, H, N, K) -> (B, H, C, P, K), zeros beyond the last token."""
        return F.pad(t, (0, 0, 0, self.count * self.size - self.tokens)).unflatten(2, (self.count, self.size))

    def join(self, t: Tensor) -> Tensor:
        """The inverse of `cut`: (B, H, C, P, K) -> (B, H, N, K)."""
        return t.flatten(2, 3).narrow(2, 0, self.tokens)

    def ends(self) -> tuple[Tensor, Tensor]:
        """The numbers of a sequence's first and last block with a real token, (B,) each; 0 if it is all padding."""
        holds = self.real.any(-1)
        number = torch.arange(self.count, device=holds.device)
        last = torch.where(holds, number, 0).amax(-1)
        return torch.where(holds, number, last.unsqueeze(-1)).amin(-1), last

"""Nyström approximation of Gaussian attention (Skyformer; Chen et al. 2021, https://arxiv.org/abs/2111.00035).

After the authors' src/models/attention_skyformer.py. The authors draw the landmarks' tokens at every pass, also in
evaluation, from the first R places of a sequence of R real tokens; here they are drawn once, by rank among the real
tokens. Their inverse starts from a maximum over the whole batch, as Nyströmformer's does; here each matrix has its own.
Letters: B batch, N tokens, D width, H heads, K head width, M landmarks.
"""

import torch
from torch import Tensor

from attention_zoo import Dims, QKVAttention, register
from attention_zoo._gaussian import gaussian
from attention_zoo._parts import upcast
from attention_zoo.nystrom import pseudo_inverse

TICKETS = 2**31  # ticket / TICKETS is a rank in [0, 1); integers, since no change of precision rounds them


@register(
    "skyformer",
    title="Skyformer",
    paper="https://arxiv.org/abs/2111.00035",
    cost="O(N)",
    differs="the landmarks' tokens are drawn once, not at every pass",
    family="low_rank",
    state="`landmarks` tokens per head, each with K numbers",
    blind="the order of tokens, except by which of them become landmarks",
)
class SkyformerAttention(QKVAttention):
    """C(q, z) (C(z, z) + regulariser I)^-1 C(z, k) v, C the kernel of `kernelized`, z a few tokens of q and of k.

    landmarks: M, half of them from q and half from k, at tokens drawn from the seed, uniformly and with replacement,
    the same for all heads (128 as in the authors' LRA runs); with all tokens of both and regulariser=0 this is
    `kernelized`. regulariser: 0.1 as the authors'. iterations: of the inverse, for which the matrix is first divided by
    the roots of its row sums on both sides. Parameters are softmax's. Mixing costs 4 N M D multiply-adds and, per head,
    4 iterations M^3, in float32. Raises ValueError for landmarks that are odd or below 2, a negative regulariser or
    negative iterations.
    """

    tickets: Tensor

    def __init__(
        self, dims: Dims, *, landmarks: int = 128, regulariser: float = 0.1, iterations: int = 6, conv: int = 0
    ):
        super().__init__(dims, conv=conv)
        if landmarks < 2 or landmarks % 2:
            raise ValueError(f"landmarks={landmarks}: must be even and at least 2")
        if not 0 <= regulariser < float("inf"):
            raise ValueError(f"regulariser={regulariser}: must be at least 0")
        if iterations < 0:
            raise ValueError(f"iterations={iterations}: must be at least 0")
        self.regulariser, self.iterations = regulariser, iterations
        self.register_buffer("tickets", torch.randint(TICKETS, (2, min(landmarks // 2, dims.length))))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            q, k, v = upcast(q), upcast(k), upcast(v)
            chosen = zip((q, k), self.tickets, strict=True)
            z = torch.cat([pick(t, tickets, keep) for t, tickets in chosen], dim=2)
            core = gaussian(z, z)
            core = core + self.regulariser * torch.eye(core.shape[-1], dtype=core.dtype, device=core.device)
            root = core.sum(-1).rsqrt()
            inverse = pseudo_inverse(root.unsqueeze(-1) * core * root.unsqueeze(-2), self.iterations)
            inverse = root.unsqueeze(-1) * inverse * root.unsqueeze(-2)
            return gaussian(q, z) @ (inverse @ (gaussian(z, k, keep) @ v))


def pick(t: Tensor, tickets: Tensor, keep: Tensor | None) -> Tensor:
    """t (B, H, N, K), tickets (L,) -> (B, H, L, K): the real tokens of rank tickets / TICKETS times their number."""
    tokens = t.shape[2]
    if keep is None:
        return t.index_select(2, tickets * tokens // TICKETS)
    ranks = tickets * keep.sum(-1, keepdim=True) // TICKETS
    # the first place up to which there are more real tokens than `rank`; a row of padding has none
    places = torch.searchsorted(keep.cumsum(-1), ranks, right=True).clamp(max=tokens - 1)
    return t.gather(2, places[:, None, :, None].expand(-1, t.shape[1], -1, t.shape[3]))

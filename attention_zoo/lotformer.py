"""Linear attention by low-rank optimal transport (LOTFormer; Shahbazi et al. 2025, https://arxiv.org/abs/2509.23436).

After LRA/linear_sinkformer.py of anonymous13761234/LOTFormer. That code ignores the mask; here only real tokens have
mass. It multiplies by the pivots' masses where the composition of two plans divides by them, so that rows sum to
1 / M^2; the authors' code for images divides, and so does this one. It stops early once an update changes nothing; this
one does not. The authors' code for images adds a table of positions to k and a convolution of v (here conv=5), and
repeats its learned masses in another order than its heads, so that most heads get the masses of another head.
Letters: B batch, H heads, N tokens, D width, K head width, M pivots, R real tokens.
"""

import torch
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register
from attention_zoo._parts import upcast
from attention_zoo._sinkhorn import sinkhorn


@register(
    "lotformer",
    title="LOTFormer",
    paper="https://arxiv.org/abs/2509.23436",
    cost="O(N)",
    family="low_rank",
    state="`pivots` pivots per head, each with K numbers",
    blind="the order of tokens",
    departs={"shrunk": "rows sum to 1 / M^2, as in the authors' LRA code"},
)
class LOTFormerAttention(QKVAttention):
    """R P^T diag(1 / a) Q v: P and Q (M, N) are entropic transport plans from M learned pivots z to the tokens.

    P = exp(z q^T / (sqrt K eps) + f + g), with f and g such that pivot m sends a_m and each token receives 1 / R; Q is
    the same with k in place of q. pivots: M. eps: the regularisation; a larger one blurs the plans. iterations: number
    of updates, of f and g in turn; the first is of g for P, of f for Q. The authors' LRA runs take eps=0.1,
    iterations=50 with 4 pivots on ListOps, 32 on Text, 64 on Retrieval and Pathfinder, and on Image eps=25,
    iterations=5, pivots=8. learned: masses a = softmax(2 b) as in the authors' code for images, b zero at the start, in
    place of a = 1 / M; H M parameters. shrunk: diag(a) in place of diag(1 / a), as in the authors' LRA code.
    z q^T / sqrt K is clamped to [-50, 50]. The pivots are M D parameters, N(0, 0.02^2) at the start. Mixing costs
    4 N M D multiply-adds and 2 iterations N M H exponentials. Raises ValueError for pivots or iterations below 1, or an
    eps that is not positive.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        pivots: int = 32,
        eps: float = 0.1,
        iterations: int = 50,
        learned: bool = False,
        shrunk: bool = False,
        conv: int = 0,
    ):
        super().__init__(dims, conv=conv)
        if pivots < 1 or iterations < 1:
            raise ValueError(f"pivots={pivots}, iterations={iterations}: must be at least 1")
        if not 0 < eps < float("inf"):
            raise ValueError(f"eps={eps}: must be above 0")
        self.eps, self.iterations, self.shrunk = eps, iterations, shrunk
        self.pivots = nn.Parameter(0.02 * torch.randn(dims.heads, pivots, dims.head_dim))
        self.masses = nn.Parameter(torch.zeros(dims.heads, pivots, 1)) if learned else None

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            q, k, v, pivots = upcast(q), upcast(k), upcast(v), upcast(self.pivots)
            masses = torch.zeros_like(pivots[..., :1]) if self.masses is None else upcast(self.masses)
            masses = (2 * masses).log_softmax(-2)
            real = torch.ones_like(q[:, 0, :, 0], dtype=torch.bool) if keep is None else keep
            real = (real | ~real.any(-1, keepdim=True))[
                :, None, None, :
            ]  # a sequence of padding takes all its tokens, and stays finite
            to_queries, to_keys = (
                sinkhorn(self.scores(pivots, t), masses, real, self.iterations, tokens_first)[0]
                for t, tokens_first in ((q, True), (k, False))
            )
            weights = (masses if self.shrunk else -masses).exp() * real.sum(-1, keepdim=True)
            return to_queries.transpose(-2, -1) @ (weights * (to_keys @ v))

    def scores(self, pivots: Tensor, t: Tensor) -> Tensor:
        """pivots (H, M, K), t (B, H, N, K) -> (B, H, M, N)."""
        return (pivots @ t.transpose(-2, -1) * t.shape[-1] ** -0.5).clamp(-50, 50) / self.eps

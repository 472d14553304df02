"""The delta rule in both directions (DeltaNet; Yang et al. 2024, https://arxiv.org/abs/2406.06484).

After fla/layers/delta_net.py and fla/ops/delta_rule/naive.py of the authors' fla-org/flash-linear-attention, in chunks
by the WY form. The authors have no backward direction; the one here is made as in ViG for GLA (Liao et al. 2024,
https://arxiv.org/abs/2405.18425): both directions have the same q, k and v, but each its own beta; a token sees itself
in both; the result is their mean. Letters: B batch, N tokens, D width, H heads, K head width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register
from attention_zoo._convolution import convolve
from attention_zoo._parts import merge_heads, split_heads, upcast, zero_padding
from attention_zoo._scan import add_ways, both_ways, carry, count_chunks, cut, join


@register(
    "deltanet",
    title="DeltaNet",
    paper="https://arxiv.org/abs/2406.06484",
    cost="O(N)",
    family="recurrent",
    state="a K x K state per head and direction",
    ordered=True,
    differs="in both directions; short convolutions reach to both sides",
    departs={"short_conv=0": "no short convolutions"},
)
class DeltaNetAttention(QKVAttention):
    """y = out(norm((q_i S_i + q_i S'_i) / (2 sqrt K))), S_i = S_(i-1) + b_i k_i^T (v_i - k_i S_(i-1)).

    S' runs from the last token to the first, with its own b. q, k and v pass short convolutions along the sequence,
    without a bias, and silu; then q and k are divided by their norms. b = sigmoid(beta(x)), per head and direction, and
    0 at padding, which changes no state. short_conv: taps of the short convolutions, odd, 0 for none; 7 span the
    authors' 4 causal taps in both directions. `norm` is RMSNorm over a head. It does not support `positions: rope`.
    Parameters beside `qkv` and `out`: 3 D short_conv, 2 H D and K. Mixing costs 2 N (4 K + K^2 / 32 + 96) D
    multiply-adds; the triangular systems, 2 N 32 D more, are not counted as operations. Raises ValueError for an even
    or negative number of taps.
    """

    def __init__(self, dims: Dims, *, short_conv: int = 7, conv: int = 0):
        super().__init__(dims, conv=conv)
        if short_conv and (short_conv < 0 or short_conv % 2 == 0):
            raise ValueError(f"short_conv={short_conv}: the number of taps must be odd and positive, or 0 for none")
        width = 3 * dims.dim
        self.short = (
            nn.Conv1d(width, width, short_conv, padding=short_conv // 2, groups=width, bias=False)
            if short_conv
            else None
        )
        self.beta = nn.Linear(dims.dim, 2 * dims.heads, bias=False)
        self.norm = nn.RMSNorm(dims.head_dim, eps=1e-5)

    def project(self, x: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, N, D), keep (B, N) -> q, k, v (B, H, N, K), after the convolutions, where padding counts as zeros."""
        qkv = self.qkv(x)
        if self.short is not None:
            qkv = convolve(self.short, zero_padding(qkv, keep).transpose(1, 2)).transpose(1, 2)
        q, k, v = (split_heads(t, self.dims.heads) for t in F.silu(qkv).chunk(3, dim=-1))
        return q, k, v

    def mix(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """x (B, N, D) -> (B, N, D)."""
        q, k, v = self.project(x, keep)
        ahead, back = self.beta(x).transpose(1, 2).unsqueeze(-1).chunk(2, dim=1)
        with torch.autocast(x.device.type, enabled=False):
            beta = both_ways(upcast(ahead), upcast(back)).sigmoid()
            if keep is not None:
                beta = beta * both_ways(keep[:, None, :, None])
            queries = unit(upcast(q)) * q.shape[-1] ** -0.5 / 2
            q, k, values = (both_ways(t) for t in (queries, unit(upcast(k)), upcast(v)))
            y = add_ways(delta_scan(q, k, values, beta, count_chunks(x.shape[1], keep)))
            y = F.rms_norm(y, y.shape[-1:], upcast(self.norm.weight), self.norm.eps)
        if self.local is not None:
            y = y + self.local(v, keep)
        return merge_heads(y)


def unit(t: Tensor) -> Tensor:
    """t (..., K) divided by its norm, with the authors' eps inside the root."""
    return t * (t.square().sum(-1, keepdim=True) + 1e-6).rsqrt()


def delta_scan(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, chunks: int) -> Tensor:
    """y_i = q_i S_i, S_i = S_(i-1) + beta_i k_i^T (v_i - k_i S_(i-1)); q, k, v (..., N, K), beta (..., N, 1).

    Within a chunk that starts from S, token i writes u_i = beta_i (v_i - k_i S - sum_(j < i) (k_i k_j) u_j). This
    triangular system is solved once for beta v (written) and once for beta k (erased), so that u = written - erased S.
    """
    tokens = q.shape[-2]
    q, k, v, beta = (cut(t, chunks) for t in (q, k, v, beta))
    keys = k.transpose(-2, -1)
    system = (beta * k @ keys).tril(-1)  # the diagonal of ones is implied
    right = beta * torch.cat((v, k), dim=-1)
    solved = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
    written, erased = solved.split((v.shape[-1], k.shape[-1]), dim=-1)
    kept = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device) - keys @ erased
    start = carry(kept, keys @ written, matrices=True)
    y = q @ start + (q @ keys).tril() @ (written - erased @ start)
    return join(y, tokens)

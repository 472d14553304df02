"""Linear attention with ELU + 1 features (Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236, equation 7).

Letters: B batch, N tokens, H heads, K head width; q, k and v are (B, H, N, K).
"""

from torch import Tensor

from attention_zoo import QKVAttention, linear_attention, register
from attention_zoo._kernels import ELUPlusOne


@register(
    "elu",
    title="ELU+1 linear",
    paper="https://arxiv.org/abs/2006.16236",
    cost="O(N)",
    family="linear",
    state="K x K sums per head",
    blind="the order of tokens",
)
class ELUAttention(QKVAttention):
    """phi(q) (phi(k)^T v), over phi(q) sum_j phi(k_j) + 1e-6 per query.

    phi(t) = elu(t) + 1: t + 1 above zero, exp(t) below.
    """

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        phi_q, phi_k = (ELUPlusOne.apply(t.contiguous()) for t in (q, k))
        return linear_attention(phi_q, phi_k, v, keep)  # pyright: ignore[reportArgumentType]

"""Attention by conserved flows (Flowformer; Wu et al. 2022, https://arxiv.org/abs/2202.06258).

After the authors' Flow_Attention.py, in its form without a causal mask. The authors mask no padding; here sums, softmax
and counts are over real tokens. Their LRA code has another form: relu instead of sigmoid, no clamp, and a softmax over
the heads instead of the tokens, because of the order of its axes. Here these are options, off by default.
Letters: B batch, H heads, N tokens, K head width, R real tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_zoo import Dims, QKVAttention, register
from attention_zoo._parts import upcast

EPS = 1e-6


@register(
    "flowformer",
    title="Flowformer",
    paper="https://arxiv.org/abs/2202.06258",
    cost="O(N)",
    family="linear",
    state="K x K sums per head",
    blind="the order of tokens",
    departs={
        "kernel": "relu in place of sigmoid, as in the authors' LRA code",
        "competition": "softmax over the heads, as in the authors' LRA code",
        "clamp": "sources are not clamped, as in the authors' LRA code",
    },
)
class FlowformerAttention(QKVAttention):
    """y_i = sigmoid(I'_i) f(q_i) / I_i sum_j f(k_j)^T (R softmax_j(min(O'_j, 1)) v_j), f = sigmoid.

    I_i = f(q_i) sum_j f(k_j) is the flow into sink i, O_j = f(k_j) sum_i f(q_i) the flow out of source j.
    I'_i = f(q_i) sum_j f(k_j) / O_j is the flow into sink i when every source sends 1; O'_j = f(k_j) sum_i f(q_i) / I_i
    is the flow out of source j when every sink receives 1. 1e-6 is added to both factors of each of these products.
    kernel: f, `sigmoid`, or `relu`, which is relu(t) + 1e-6. competition: the softmax over O' is over `tokens` or
    `heads`. clamp: the minimum with 1. The authors' LRA code is kernel=relu, competition=heads, clamp=false. It adds no
    parameters. Mixing costs 2 N K D + 4 N D multiply-adds. Raises ValueError for another kernel or competition.
    """

    def __init__(
        self, dims: Dims, *, kernel: str = "sigmoid", competition: str = "tokens", clamp: bool = True, conv: int = 0
    ):
        super().__init__(dims, conv=conv)
        if kernel not in ("sigmoid", "relu"):
            raise ValueError(f"kernel={kernel}: must be sigmoid or relu")
        if competition not in ("tokens", "heads"):
            raise ValueError(f"competition={competition}: must be tokens or heads")
        self.kernel, self.competition, self.clamp = kernel, competition, clamp

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            q, k = (t.sigmoid() if self.kernel == "sigmoid" else F.relu(t) + EPS for t in (upcast(q), upcast(k)))
            count: Tensor | int = q.shape[2]
            if keep is not None:
                real = keep[:, None, :, None].to(q.dtype)
                q, k, count = q * real, k * real, real.sum(-2, keepdim=True).clamp(min=1)
            incoming, outgoing = flow(q, k), flow(k, q)
            sink, source = flow(q, k / outgoing), flow(k, q / incoming)
            source = source.clamp(max=1) if self.clamp else source
            share = source.softmax(1) if self.competition == "heads" else softmax_over_tokens(source, keep)
            state = k.transpose(-2, -1) @ (upcast(v) * (count * share))
            return (q @ state) * (sink.sigmoid() / incoming)


def flow(t: Tensor, others: Tensor) -> Tensor:
    """t, others (B, H, N, K) -> (B, H, N, 1): the flow between each token of t and all of the others."""
    total = others.sum(-2, keepdim=True) + EPS
    return (t + EPS) @ total.transpose(-2, -1)


def softmax_over_tokens(t: Tensor, keep: Tensor | None) -> Tensor:
    """t (B, H, N, 1), keep (B, N) -> like t; over all tokens of a sequence without real ones, so that it is finite."""
    if keep is not None:
        t = t.masked_fill(~(keep | ~keep.any(-1, keepdim=True))[:, None, :, None], -torch.inf)
    return t.softmax(-2)

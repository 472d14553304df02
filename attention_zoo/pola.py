"""Polarity-aware linear attention (PolaFormer; Meng et al. 2025, https://arxiv.org/abs/2501.15061).

After PolaLinearAttention in the authors' models/pola_pvt.py (ZacharyMeng/PolaFormer, 44cdd39). Where it and the paper
differ, the code is followed: the gate multiplies the sum of the attention and the convolution, and has no activation.
In the paper's Figure 2 the gate multiplies only the two flows. The same mechanism as loops over queries and keys:
tests/naive/pola.py; as plain PyTorch: docs/add-an-attention.md.
Letters: B batch, N tokens, D width, H heads, K head width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register
from attention_zoo._kernels import SignedPowers
from attention_zoo._parts import read, refuse_longer, summarise, upcast, zero_padding

WORDS = {"gate": ("on", "off", "sigmoid"), "power": ("learned", "fixed"), "flows": ("both", "same", "opposite")}


@register(
    "pola",
    title="PolaFormer",
    paper="https://arxiv.org/abs/2501.15061",
    cost="O(N)",
    family="linear",
    state="2 K x K sums per head",
    blind="the order of tokens beyond the convolution's taps",
    adapted_where={"conv!=0": "1-D convolution"},
    departs={
        "key_positions=false": "no position table on k",
        "conv": "not the authors' convolution of 5 taps",
        "alpha=0": "no powers",
        "power=fixed": "fixed powers",
        "gate=off": "no gate",
        "gate=sigmoid": "sigmoid of the gate",
        "flows": "one flow for the whole of v",
    },
)
class PolaAttention(QKVAttention):
    """y = out(g * ([a_s | a_o] + convolution of v)): two linear attentions, on the halves of each head's v, and a gate.

    Same polarity: a_s,i = sum_j w_ij v_s,j / (sum_j w_ij + 1e-6 R), w_ij = q+_i k+_j + q-_i k-_j; R is the number of
    real tokens. Opposite polarity: a_o,i is the same over v_o with w_ij = q+_i k-_j + q-_i k+_j. g is linear in x; in
    each head its first half is the paper's Gs and its second half Go.
    t+ = max(t / softplus(s), 0)^r, t- = max(-t / softplus(s), 0)^r, r = 1 + alpha * sigmoid(w), per head and channel; s
    and w are learned and start at zero. alpha: range of the learned power; the authors' code takes 4, their rows on
    the Arena 3, 5 and 7; far above these, powers overflow. conv: taps of the convolution of v. key_positions: the
    authors' learned table added to k (length x D). For ablations: gate is `on`, `off`, or `sigmoid` for a sigmoid of
    the gate; power is `learned`, or `fixed` at its start, 1 + alpha / 2; flows is `both`, or only `same` or `opposite`,
    on the whole of v. Raises ValueError for an odd head width with both flows, a negative alpha, an unknown word or an
    even number of taps.
    """

    power: Tensor

    def __init__(
        self,
        dims: Dims,
        *,
        alpha: float = 3.0,
        conv: int = 5,
        key_positions: bool = False,
        gate: str = "on",
        power: str = "learned",
        flows: str = "both",
    ):
        super().__init__(dims, conv=conv)
        check(dims, alpha=alpha, gate=gate, power=power, flows=flows)
        self.alpha, self.flows, self.squash = alpha, flows, gate == "sigmoid"
        self.gate = None if gate == "off" else nn.Linear(dims.dim, dims.dim)
        self.scale = nn.Parameter(torch.zeros(dims.dim))
        start = torch.zeros(dims.heads, 1, dims.head_dim)
        if power == "learned":
            self.power = nn.Parameter(start)
        else:
            self.register_buffer("power", start, persistent=False)
        self.positions = nn.Parameter(torch.zeros(dims.length, dims.dim)) if key_positions else None

    def features(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        if self.positions is not None:
            refuse_longer(k.shape[1], self.dims.length)
            k = k + self.positions[: k.shape[1]]
        return q, k

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        r = 1 + self.alpha * self.power.sigmoid()
        with torch.autocast(q.device.type, enabled=False):
            state, total, keys = summarise(polarise(k, r), upcast(v), keep)  # [k+ | k-]^T v and the sum of [k+ | k-]
            scale = F.softplus(self.scale).view_as(r) ** (-2 * r)  # (q/s)^r (k/s)^r = q^r k^r s^-2r
            scale = torch.cat((scale, scale), dim=-1)
            state, total = choose(self.flows, state * scale.transpose(-2, -1), total * scale)
            return read(polarise(q, r), state, total, 1e-6 * keys)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        x = zero_padding(x, keep)
        y = self.mix(x, keep).to(x.dtype)
        if self.gate is None:
            return self.out(y)
        return self.out(y * (self.gate(x).sigmoid() if self.squash else self.gate(x)))


def polarise(t: Tensor, r: Tensor) -> Tensor:
    """t (B, H, N, K), r (H, 1, K) -> [t+ | t-] (B, H, N, 2K) without the scale, in at least float32."""
    return SignedPowers.apply(upcast(t).contiguous(), r)  # pyright: ignore[reportReturnType]


def choose(flows: str, state: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """state (B, H, 2K, K) and total (B, H, 1, 2K) of [k+ | k-] -> those that [q+ | q-] reads, a row of total per flow.

    In the opposite flow q+ meets k-, so the halves of [k+ | k-] are swapped, as in the paper's Figure 2. The authors'
    code swaps those of [q+ | q-], which gives the same.
    """
    width, half = total.shape[-1] // 2, state.shape[-1] // 2
    opposite_state, opposite_total = state.roll(width, -2), total.roll(width, -1)
    if flows == "same":
        return state, total
    if flows == "opposite":
        return opposite_state, opposite_total
    both = torch.cat((state[..., :half], opposite_state[..., half:]), dim=-1)
    return both, torch.cat((total, opposite_total), dim=-2)


def check(dims: Dims, *, alpha: float, **words: str) -> None:
    """Raises ValueError for an unknown word, a negative or infinite alpha, or an odd head width with both flows."""
    for name, word in words.items():
        if word not in WORDS[name]:
            raise ValueError(f"{name}={word}: must be {', '.join(WORDS[name][:-1])} or {WORDS[name][-1]}")
    if dims.head_dim % 2 and words["flows"] == "both":
        raise ValueError(f"the head width must be even to hold two flows, not {dims.head_dim}")
    if not 0 <= alpha < float("inf"):
        raise ValueError(f"alpha={alpha}: must be at least 0")

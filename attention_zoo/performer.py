"""Random features for the softmax kernel (Performer; Choromanski et al. 2021, https://arxiv.org/abs/2009.14794).

FAVOR+ after the authors' fast_attention.py: positive, orthogonal features, with their stabilisers. The authors draw the
features anew at every call; here they are drawn once. The PyTorch port in
Nystromformer's and Skyformer's suites (lucidrains/performer-pytorch, called as in their attention_performer.py) scales
q and k twice and counts padding in the normaliser; here these are options, off by default.
Letters: N tokens, D width, K head width, F features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_zoo import Dims, QKVAttention, linear_attention, register
from attention_zoo._parts import upcast

EPS = {"exponent": 1e-6, "authors": 1e-6, "port": 1e-4}  # stabiliser -> what is added to each feature


@register(
    "performer",
    title="Performer",
    paper="https://arxiv.org/abs/2009.14794",
    cost="O(N)",
    family="linear",
    state="F x K sums per head, F random features",
    blind="the order of tokens",
    differs="features are drawn once, not at every call",
    departs={
        "stabiliser=exponent": "1e-6 is added to features without their whole exponent, the authors' after W t' alone",
        "stabiliser=port": "stabilised as in the PyTorch port, but by a maximum per sequence and head",
        "kernel": "the generalised form with 1 / sqrt F, so that 1e-3 weighs more",
        "scaled_twice": "q and k are scaled twice, as in Nystromformer's suite",
        "padding_counts": "padding counts in the normaliser, as in Nystromformer's suite",
    },
)
class PerformerAttention(QKVAttention):
    """Linear attention on f(t) = exp(W t' - |t'|^2 / 2) / sqrt F, t' = t / K^(1/4), whose mean is the softmax kernel.

    features: F, rows of W (the authors take 256; 128 as in Skyformer's suite). kernel: `softmax`, or `relu`:
    relu(W t') / sqrt F + 1e-3. The authors' generalised form is relu(W t) + 1e-3, without 1 / sqrt F, so that 1e-3
    weighs more here. W (F, K) is drawn once, from the seed, by blocks of orthogonal rows with the lengths of Gaussian
    ones, the same for all heads: a buffer, neither trained nor drawn again. Mixing costs 4 N F D multiply-adds.
    stabiliser: what is taken out of the exponents, as the largest of a query and of a sequence's keys, before a small
    number is added to the features: `exponent`, all of it, so that 1e-6 never hides a feature; `authors`, W t', so that
    long queries and keys drown in 1e-6 and attend to all tokens alike; `port`, the same with 1e-4 (the port's
    maximum of the keys is one of the whole batch, so that neighbours matter; here each sequence and head has its own).
    scaled_twice: t' = t / K^(1/2), a temperature of K where softmax has sqrt K. padding_counts: padding up to the
    longest length enters the normaliser as keys and values of zero. Both are faults, for the softmax kernel.
    Raises ValueError for no features, an unknown kernel or stabiliser, or a fault with the relu kernel.
    """

    directions: Tensor

    def __init__(
        self,
        dims: Dims,
        *,
        features: int = 128,
        kernel: str = "softmax",
        stabiliser: str = "exponent",
        scaled_twice: bool = False,
        padding_counts: bool = False,
        conv: int = 0,
    ):
        super().__init__(dims, conv=conv)
        if features < 1:
            raise ValueError(f"features={features}: must be at least 1")
        if kernel not in ("softmax", "relu"):
            raise ValueError(f"kernel={kernel}: must be softmax or relu")
        if stabiliser not in EPS:
            raise ValueError(f"stabiliser={stabiliser}: must be one of {', '.join(EPS)}")
        if kernel == "relu" and (scaled_twice or padding_counts or stabiliser != "exponent"):
            raise ValueError("stabiliser, scaled_twice and padding_counts are options of kernel=softmax")
        self.kernel, self.stabiliser, self.padding_counts = kernel, stabiliser, padding_counts
        self.scale = dims.head_dim ** (-0.5 if scaled_twice else -0.25)
        self.register_buffer("directions", orthogonal(features, dims.head_dim))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            q, k = upcast(q) * self.scale, upcast(k) * self.scale
            directions = self.directions.to(q.dtype)
            q_seen, k_seen = q @ directions.T, k @ directions.T
            if self.kernel == "relu":
                q, k = (F.relu(seen) * len(directions) ** -0.5 + 1e-3 for seen in (q_seen, k_seen))
                return linear_attention(q, k, v, keep, eps=1e-20)
            q_half, k_half = (t.square().sum(-1, keepdim=True) / 2 for t in (q, k))
            whole = self.stabiliser == "exponent"
            q_top = (q_seen - q_half if whole else q_seen).amax(-1, keepdim=True)
            k_top = self.largest(k_seen - k_half if whole else k_seen, keep)
            # 1 / sqrt F and any factor of q cancel; with this one q k is large beside linear_attention's eps
            q = (q_seen - q_half - q_top).exp() / EPS[self.stabiliser] + 1
            k = (k_seen - k_half - k_top).clamp(max=0).exp() + EPS[self.stabiliser]
            if self.padding_counts:  # one more key stands for all keys of zero, with the value 0
                zero = (-k_top).clamp(max=0).exp() + EPS[self.stabiliser]
                zero = (self.padding(q, keep) * zero).expand_as(k[..., :1, :])
                k, v = torch.cat([k, zero], dim=-2), F.pad(v, (0, 0, 0, 1))
                keep = None if keep is None else F.pad(keep, (0, 1), value=True)
            # positive features need no eps; this one is for rows of padding alone
            return linear_attention(q, k, v, keep, eps=1e-20)

    def largest(self, seen: Tensor, keep: Tensor | None) -> Tensor:
        """seen (B, H, N, F), keep (B, N) -> (B, H, 1, 1): the largest of the real keys, and 0, if padding counts."""
        real = seen if keep is None else seen.masked_fill(~keep[:, None, :, None], -torch.inf)
        top = real.amax((-2, -1), keepdim=True)
        top = torch.where(top.isfinite(), top, 0)
        return torch.where(self.padding(seen, keep) > 0, top.clamp(min=0), top) if self.padding_counts else top

    def padding(self, q: Tensor, keep: Tensor | None) -> Tensor:
        """(B or 1, 1, 1, 1): how much padding a sequence has up to the longest length, however much is here."""
        if keep is None:
            return q.new_full((1, 1, 1, 1), self.dims.length - q.shape[-2])
        return (self.dims.length - keep.sum(-1)).to(q.dtype)[:, None, None, None]


def orthogonal(rows: int, width: int) -> Tensor:
    """(rows, width): orthogonal within blocks of `width` rows, each row as long as a Gaussian one.

    A QR decomposition fixes the signs of its first factor by rule; only with random ones is each row uniform on the
    sphere (Mezzadri 2007) and the estimate of the kernel free of bias, which it is not in the authors' code.
    """
    blocks = []
    for _ in range(-(-rows // width)):
        rotation, triangle = torch.linalg.qr(torch.randn(width, width))
        blocks.append((rotation * triangle.diagonal().sign()).T)
    return torch.cat(blocks)[:rows] * torch.randn(rows, width).norm(dim=-1, keepdim=True)

"""Random features for the softmax kernel (Performer; Choromanski et al. 2021, https://arxiv.org/abs/2009.14794).

FAVOR+ after the authors' two fast_attention.py, in JAX and TensorFlow, with positive and orthogonal features. For the
softmax kernel the authors draw W anew at every call; here it is drawn once. The PyTorch port in Nystromformer's and
Skyformer's suites (lucidrains/performer-pytorch, called as in their attention_performer.py) scales q and k twice and
counts padding in the normaliser; here these two faults are options, off by default.
Letters: N tokens, D width, K head width, F features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_zoo import Dims, QKVAttention, linear_attention, register
from attention_zoo._parts import refuse_longer, upcast

EPS = {"exponent": 1e-6, "authors": 1e-6, "port": 1e-4}  # stabiliser -> what is added to each feature


@register(
    "performer",
    title="Performer",
    paper="https://arxiv.org/abs/2009.14794",
    cost="O(N)",
    family="linear",
    state="F x K sums per head, F random features",
    blind="the order of tokens",
    departs={
        "kernel=softmax": "features are drawn once, not at every call",
        "kernel=softmax&stabiliser=exponent": "the largest whole exponent is subtracted before 1e-6 is added, "
        "not the largest W t'",
        "stabiliser=port": "the PyTorch port's 1e-4, with a maximum of the keys per sequence and head, not per batch",
        "kernel": "relu features of t / K^(1/4), where the authors take t, so that 1e-3 weighs more",
        "scaled_twice": "q and k are scaled twice, as in Nystromformer's suite",
        "padding_counts": "padding counts in the normaliser, as in Nystromformer's suite",
    },
)
class PerformerAttention(QKVAttention):
    """Linear attention on f(t) = exp(W t' - |t'|^2 / 2) / sqrt F, t' = t / K^(1/4): E f(q) f(k) = exp(q k / sqrt K).

    E is the mean over random W. features: F, the rows of W, 128 as in Skyformer's suite; the authors take 256. W (F, K)
    is drawn once, from the seed, in blocks of orthogonal rows with the lengths of Gaussian ones, and is the same for
    all heads: a buffer, not trained.
    kernel: `softmax`, f as above, or `relu`, f(t) = relu(W t') / sqrt F + 1e-3. The authors' files have t in place of
    t', so 1e-3 weighs more here: relu(W t) / sqrt F + 1e-3 in TensorFlow; relu(W t) + 1e-3 in JAX, whose default is
    relu(t) + 1e-3, without W.
    stabiliser: before exp, a maximum is subtracted from the exponents, one for each query and one for all keys of a
    sequence and head; after exp, a small number is added to the features. `exponent` takes the maximum of the whole
    exponent, so that the largest feature is 1, and adds 1e-6. `authors` takes that of W t' alone and adds 1e-6; the
    features of queries and keys of large norm fall below it, so that these tokens attend, or are attended to, evenly.
    `port` is `authors` with 1e-4; the port itself takes the maximum of the keys over the whole batch, so that other
    sequences matter.
    scaled_twice: t' = t / K^(1/2), so that logits are divided by K, where softmax divides by sqrt K. padding_counts:
    padding up to the longest length counts in the normaliser, as keys and values of zero. Both are faults of the port,
    only for kernel=softmax.
    Mixing costs 4 N F D multiply-adds. Raises ValueError for features below 1, an unknown kernel or stabiliser, or
    kernel=relu with another stabiliser than the default or with a fault.
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
            # 1 / sqrt F and any factor of q cancel in the quotient; q over EPS makes q k large beside eps=1e-20
            q = (q_seen - q_half - q_top).exp() / EPS[self.stabiliser] + 1
            k = (k_seen - k_half - k_top).clamp(max=0).exp() + EPS[self.stabiliser]
            if self.padding_counts:  # one more key, of value 0, has the features of all padding
                zero = (-k_top).clamp(max=0).exp() + EPS[self.stabiliser]
                zero = (self.padding(q, keep) * zero).expand_as(k[..., :1, :])
                k, v = torch.cat([k, zero], dim=-2), F.pad(v, (0, 0, 0, 1))
                keep = None if keep is None else F.pad(keep, (0, 1), value=True)
            # features are positive and need no eps; this one is for sequences of padding alone
            return linear_attention(q, k, v, keep, eps=1e-20)

    def largest(self, seen: Tensor, keep: Tensor | None) -> Tensor:
        """seen (B, H, N, F), keep (B, N) -> (B, H, 1, 1): the maximum over real keys; at least 0 if padding counts."""
        real = seen if keep is None else seen.masked_fill(~keep[:, None, :, None], -torch.inf)
        top = real.amax((-2, -1), keepdim=True)
        top = torch.where(top.isfinite(), top, 0)
        return torch.where(self.padding(seen, keep) > 0, top.clamp(min=0), top) if self.padding_counts else top

    def padding(self, q: Tensor, keep: Tensor | None) -> Tensor:
        """(B or 1, 1, 1, 1): by how many tokens a sequence is shorter than the longest length, however long q is."""
        refuse_longer(q.shape[-2], self.dims.length)
        if keep is None:
            return q.new_full((1, 1, 1, 1), self.dims.length - q.shape[-2])
        return (self.dims.length - keep.sum(-1)).to(q.dtype)[:, None, None, None]


def orthogonal(rows: int, width: int) -> Tensor:
    """(rows, width): orthogonal within blocks of `width` rows, each row as long as a Gaussian one.

    A QR decomposition fixes the signs of its first factor by a rule. Only with random signs is each row uniform on the
    sphere (Mezzadri 2007) and the estimate of the kernel unbiased; the authors' code leaves the signs as they are.
    """
    blocks = []
    for _ in range(-(-rows // width)):
        rotation, triangle = torch.linalg.qr(torch.randn(width, width))
        blocks.append((rotation * triangle.diagonal().sign()).T)
    return torch.cat(blocks)[:rows] * torch.randn(rows, width).norm(dim=-1, keepdim=True)

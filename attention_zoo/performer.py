"""Random features for the softmax kernel (Performer; Choromanski et al. 2021, https://arxiv.org/abs/2009.14794).

FAVOR+ after the authors' fast_attention.py: positive, orthogonal features, with their stabilisers. The PyTorch port in
Nystromformer's and Skyformer's suites scales q and k twice and lets masked keys into the normaliser; this file does
neither.
Letters: N tokens, D width, K head width, F features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_zoo import Dims, QKVAttention, linear_attention, register
from attention_zoo._parts import upcast


@register("performer", title="Performer", paper="https://arxiv.org/abs/2009.14794", cost="O(N)")
class PerformerAttention(QKVAttention):
    """Linear attention on f(t) = exp(W t' - |t'|^2 / 2) / sqrt F, t' = t / K^(1/4), whose mean is the softmax kernel.

    features: F, rows of W (the authors take 256; 128 as in Skyformer's suite). kernel: `softmax`, or `relu`:
    relu(W t') / sqrt F + 1e-3. The authors' generalised form is relu(W t) + 1e-3, without 1 / sqrt F, so that 1e-3
    weighs more here. W (F, K) is drawn once, from the seed, by blocks of orthogonal rows with the lengths of Gaussian
    ones, the same for all heads: a buffer, neither trained nor drawn again. The softmax features get 1e-6 more once the
    largest exponent is taken out, per query, and over a sequence's real keys; the authors take out the largest W t'
    instead. Mixing costs 4 N F D multiply-adds. Raises ValueError for no features or an unknown kernel.
    """

    directions: Tensor

    def __init__(self, dims: Dims, *, features: int = 128, kernel: str = "softmax", conv: int = 0):
        super().__init__(dims, conv=conv)
        if features < 1:
            raise ValueError(f"features={features}: must be at least 1")
        if kernel not in ("softmax", "relu"):
            raise ValueError(f"kernel={kernel}: must be softmax or relu")
        self.kernel = kernel
        self.register_buffer("directions", orthogonal(features, dims.head_dim))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            q, k = upcast(q), upcast(k)
            width = q.shape[-1]
            directions = self.directions.to(q.dtype) / width**0.25
            q_seen, k_seen = q @ directions.T, k @ directions.T
            scale = len(directions) ** -0.5
            if self.kernel == "relu":
                q, k = (F.relu(seen) * scale + 1e-3 for seen in (q_seen, k_seen))
            else:
                q_seen, k_seen = (
                    s - t.square().sum(-1, keepdim=True) / (2 * width**0.5) for s, t in ((q_seen, q), (k_seen, k))
                )
                real = k_seen if keep is None else k_seen.masked_fill(~keep[:, None, :, None], -torch.inf)
                top = real.amax((-2, -1), keepdim=True)
                top = torch.where(top.isfinite(), top, 0)
                q = ((q_seen - q_seen.amax(-1, keepdim=True)).exp() + 1e-6) * scale
                k = ((k_seen - top).clamp(max=0).exp() + 1e-6) * scale
            # positive features need no eps; this one is for rows of padding alone
            return linear_attention(q, k, v, keep, eps=1e-20)


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

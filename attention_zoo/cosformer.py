"""Linear attention re-weighted by distance (cosFormer; Qin et al. 2022, https://arxiv.org/abs/2202.08791).

After the authors' cosformer.py. Their M is the batch's padded length; here M is the length of each sequence, so that
padding has no influence.
Letters: N tokens, D width, K head width, M length of the sequence.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_zoo import QKVAttention, linear_attention, register
from attention_zoo._parts import upcast


@register(
    "cosformer",
    title="cosFormer",
    paper="https://arxiv.org/abs/2202.08791",
    cost="O(N)",
    family="linear",
    state="2 K x K sums per head",
    blind="which of two tokens comes first, nor negative entries of q and k",
    ordered=True,
)
class CosformerAttention(QKVAttention):
    """Weights relu(q_i) . relu(k_j) cos(pi (i - j) / (2 M)), normalised per query; M is the sequence's length.

    M is the position of the last real token, counted from 1. The cosine of a difference is a sum of two products, so
    each feature is used twice, times the cosine and times the sine of its position's angle. The authors clamp the
    normaliser at 1e-6; here 1e-6 is added. It adds no parameters. Mixing costs 4 N K D multiply-adds.
    """

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        q, k = F.relu(upcast(q)), F.relu(upcast(k))
        place = torch.arange(1, q.shape[2] + 1, device=q.device)
        length = place[-1:] if keep is None else (keep * place).amax(-1, keepdim=True).clamp(min=1)
        angle = (math.pi / 2 * place.to(q.dtype) / length)[..., None, :, None]
        cosine, sine = angle.cos(), angle.sin()
        q, k = (torch.cat((t * cosine, t * sine), dim=-1) for t in (q, k))
        return linear_attention(q, k, v, keep)

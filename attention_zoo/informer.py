"""Full attention for a few queries, a mean for the others (Informer; Zhou et al. 2021, https://arxiv.org/abs/2012.07436).

ProbSparse attention after the authors' models/attn.py, in its form without a causal mask. The authors draw the sample
of keys in every forward pass, also in evaluation, and padding counts in the sample, in the mean and among the queries;
here the sample is drawn once, and only real tokens count. As in their code, the sum over the sample is divided by the
number of all keys.
Letters: B batch, H heads, N tokens, R real tokens of a sequence, D width, K head width, S sampled keys, Q chosen
queries.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_zoo import Dims, QKVAttention, register, softmax_attention
from attention_zoo._parts import first_columns, upcast

UNIT = 2**31  # draws are integers below it, which no conversion of the module to another dtype rounds
PART = 8  # keys per query that are compared at once, which bounds the memory


@register(
    "informer",
    title="Informer",
    paper="https://arxiv.org/abs/2012.07436",
    cost="O(N log N)",
    family="sparse",
    state="every key and value, or, for a query that is not chosen, the mean of v",
    blind="the order of tokens, except by which keys a query samples",
    differs="the sample of keys is drawn once, not in every pass",
)
class InformerAttention(QKVAttention):
    """softmax(q k^T / sqrt K) v for the queries whose sparsity is largest, the mean of v for all others.

    The sparsity of a query is max_s(q k_s) - sum_s(q k_s) / R over a sample of S keys, one sample for each query.
    factor: S = Q = factor * ceil(ln R), at least 1 and at most R; keys are sampled with repetitions, and Q queries are
    chosen. If Q = R, this is softmax attention. 17 is what Skyformer's suite has on ListOps (its 128 features over ln
    2,000), 16 and 19 on texts of 4,000 and images of 1,024; the authors take 5 for 96 steps of a time series. The
    samples are drawn once, from the seed, per layer: a buffer of N factor ln N numbers, no parameters. Mixing costs N S
    D multiply-adds for the samples, which are gathered and not counted as matrix products, and 2 N Q D. Sampling has no
    gradient, since the choice of queries has none. Raises ValueError for a factor below 1.
    """

    sample: Tensor

    def __init__(self, dims: Dims, *, factor: int = 17, conv: int = 0):
        super().__init__(dims, conv=conv)
        if factor < 1:
            raise ValueError(f"factor={factor}: must be at least 1")
        self.factor = factor
        self.most = min(max(1, factor * math.ceil(math.log(dims.length))), dims.length)
        self.register_buffer("sample", torch.randint(UNIT, (self.most, dims.length)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        batch, _, tokens, width = q.shape
        real = torch.ones(batch, tokens, dtype=torch.bool, device=q.device) if keep is None else keep
        count = real.sum(-1, keepdim=True)
        few = (self.factor * count.clamp(min=1).log().ceil()).long().clamp(min=1).minimum(count)  # S and Q, (B, 1)
        with torch.autocast(q.device.type, enabled=False):
            sparsity = self.sparsity(upcast(q.detach()), upcast(k.detach()), real, few)
            weight = (real / count.clamp(min=1).to(upcast(v).dtype))[:, None, None]
            mean = weight @ upcast(v)  # (B, H, 1, K)
        # Padded by as many rows as queries may be chosen, so that there are always enough rows.
        _, chosen = F.pad(sparsity, (0, self.most), value=-torch.inf).topk(self.most, dim=-1)  # largest first
        index = chosen.unsqueeze(-1).expand(-1, -1, -1, width)
        dropout = self.dims.dropout if self.training else 0.0
        active = softmax_attention(F.pad(q, (0, 0, 0, self.most)).gather(2, index), k, v, keep, dropout=dropout)
        taken = torch.arange(self.most, device=q.device) < few
        mean = mean.to(active.dtype)
        active = torch.where(taken[:, None, :, None], active, mean)
        return mean.expand(-1, -1, tokens + self.most, -1).scatter(2, index, active)[:, :, :tokens]

    def sparsity(self, q: Tensor, k: Tensor, real: Tensor, few: Tensor) -> Tensor:
        """q, k (B, H, N, K), real (B, N), few (B, 1), which is S -> (B, H, N), minus infinity at padding."""
        batch, heads, tokens, _ = q.shape
        place = torch.argsort((~real).to(torch.uint8), dim=-1, stable=True)  # real tokens first, in order
        start = tokens * torch.arange(batch, device=q.device).unsqueeze(-1)
        rows, queries = k.transpose(1, 2).flatten(0, 1), q.transpose(1, 2)
        top, total = q.new_full((batch, tokens, heads), -torch.inf), q.new_zeros(batch, tokens, heads)
        for part in range(0, self.most, PART):
            draws = first_columns(self.sample[part : part + PART], tokens)  # (PART, N)
            rank = draws.flatten() * real.sum(-1, keepdim=True) // UNIT
            keys = rows.index_select(0, (place.gather(1, rank) + start).flatten())
            score = (keys.view(batch, len(draws), tokens, heads, -1) * queries.unsqueeze(1)).sum(-1)  # (B, PART, N, H)
            drawn = (torch.arange(part, part + len(draws), device=q.device) < few)[:, :, None, None]
            top = top.maximum(score.masked_fill(~drawn, -torch.inf).amax(1))
            total = total + torch.where(drawn, score, 0).sum(1)
        sparsity = top - total / real.sum(-1).clamp(min=1)[:, None, None]
        return sparsity.masked_fill(~real.unsqueeze(-1), -torch.inf).transpose(1, 2)

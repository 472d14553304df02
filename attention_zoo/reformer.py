"""Attention within buckets of similar tokens (Reformer; Kitaev et al. 2020, https://arxiv.org/abs/2001.04451).

After LSHSelfAttention in the authors' trax/layers/research/efficient_attention.py, which Nyströmformer's and
Skyformer's suites run in transformers' form. Where the paper and the code differ, the code is followed: a chunk may
hold several buckets, and a pair that meets in several rounds counts in each. The authors draw rotations at every pass,
also in evaluation; here they are drawn once. In their code the first chunk of a round looks back at the last chunk of
another round; here it looks back at none.
Letters: B batch, N tokens, D width, H heads, K head width, R rounds, P tokens of a chunk, C channels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register
from attention_zoo._parts import split_heads, upcast
from attention_zoo._windows import Windows, varies

ITSELF = -1e5  # the logit of a token at itself: it counts where the token sees no other


@register(
    "reformer",
    title="Reformer",
    paper="https://arxiv.org/abs/2001.04451",
    cost="O(N log N)",
    differs="rotations are drawn once, not at every pass, and a round's first chunk looks back at none",
    family="sparse",
    state="`hashes` chunks of `bucket` keys, and the chunk before each",
    blind="tokens outside of these chunks in one layer, nor the order of tokens within them",
)
class ReformerAttention(QKVAttention):
    """softmax(q k^T) v with k = q / |q|, over the tokens of a token's chunk and of the previous one, without itself.

    In each of `hashes` rounds, tokens are sorted by bucket, which is the argmax of [q W | -q W], and cut into chunks of
    `bucket` tokens; rounds are weighted by their normalisers. Padding is sorted last. There are twice as many buckets
    as chunks in the longest sequence; above 128, a bucket is a pair of argmaxes, and the number of buckets a product of
    two factors. hashes, bucket: 2 and 64 as in Skyformer's suite; with a bucket of all tokens this is softmax attention
    with k = q / |q|, a temperature of 1, and no token that attends to itself unless it is alone. W is normal and drawn
    from the seed, per head and round: a buffer, never trained. `qkv` holds only W_q and W_v, so that there are D^2 + D
    parameters less. Mixing costs 4 N hashes bucket D multiply-adds and N hashes D / 2 times the sum of the factors,
    which grows with sqrt N up to 128 and slower above; the paper's O(N log N) counts it as a constant. Raises
    ValueError for hashes or a bucket below 1.
    """

    rotations: Tensor

    def __init__(self, dims: Dims, *, hashes: int = 2, bucket: int = 64, conv: int = 0):
        super().__init__(dims, conv=conv)
        if hashes < 1:
            raise ValueError(f"hashes={hashes}: must be at least 1")
        if bucket < 1:
            raise ValueError(f"bucket={bucket}: must be at least 1")
        self.qkv = nn.Linear(dims.dim, 2 * dims.dim)
        self.hashes, self.bucket = hashes, bucket
        self.factors = factors(2 * max(1, dims.length // bucket))
        columns = sum(self.factors) // 2
        self.register_buffer("rotations", torch.randn(dims.heads, hashes, dims.head_dim, columns))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, N, D) -> q, q, v (B, H, N, K)."""
        with torch.autocast(x.device.type, enabled=False):  # rounding must not move a token to another bucket
            q, v = self.qkv(x.to(self.qkv.weight.dtype)).chunk(2, dim=-1)
        q, v = split_heads(q, self.dims.heads), split_heads(v, self.dims.heads)
        return q, q, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        tokens, size = q.shape[2], self.bucket
        with torch.autocast(q.device.type, enabled=False):
            q, v = upcast(q), upcast(v)
            order = self.buckets(q, keep).argsort(dim=-1, stable=True)
            windows = Windows(shape=(tokens,), size=size, varies=varies(keep))
            q, v = (arrange(t.unsqueeze(2).expand(-1, -1, self.hashes, -1, -1), order).flatten(1, 2) for t in (q, v))
            k = q * (q.square().mean(-1, keepdim=True) + 1e-6).rsqrt() / q.shape[-1] ** 0.5
            logits = windows.cut(q) @ with_previous(k, windows).transpose(-2, -1)
            real = torch.arange(tokens, device=q.device) < real_tokens(q, keep)  # padding is sorted last
            real = real[:, None, :, None]
            logits = logits.masked_fill(~with_previous(real, windows).transpose(-2, -1), -torch.inf)
            place = torch.arange(2 * size, device=q.device)
            logits = logits.masked_fill(place == place[size:, None], ITSELF)
            total = logits.logsumexp(-1, keepdim=True)
            weights = F.dropout((logits - total).exp(), self.dims.dropout, self.training)
            y, total = (windows.join(t) for t in (weights @ with_previous(v, windows), total))
            back = order.argsort(dim=-1)
            y, total = (arrange(t.unflatten(1, (-1, self.hashes)), back) for t in (y, total))
            return (total.softmax(2) * y).sum(2)

    def buckets(self, q: Tensor, keep: Tensor | None) -> Tensor:
        """q (B, H, N, K) -> (B, H, R, N) int; padding has a bucket after all others."""
        turned = q.detach().unsqueeze(2) @ self.rotations.to(q.dtype)
        bucket, count = torch.zeros(1, dtype=torch.long, device=q.device), 1
        for part, factor in zip(turned.split([f // 2 for f in self.factors], -1), self.factors, strict=True):
            bucket = bucket + count * torch.cat((part, -part), dim=-1).argmax(-1)
            count *= factor
        return bucket if keep is None else bucket.masked_fill(~keep[:, None, None], count)


def factors(count: int) -> list[int]:
    """Even numbers whose product is about `count`, so that few columns of W name many buckets."""
    if count <= 128:
        return [count]
    large = 2 ** math.ceil(math.log2(count) / 2)
    return [large, 2 * (count // (2 * large))]


def arrange(t: Tensor, order: Tensor) -> Tensor:
    """t (B, H, R, N, C), order (B, H, R, N) -> t's tokens in this order."""
    return t.gather(3, order.unsqueeze(-1).expand(-1, -1, -1, -1, t.shape[-1]))


def with_previous(t: Tensor, windows: Windows) -> Tensor:
    """t (B, H, N, C) -> (B * chunks, H, 2 P, C): each chunk of P tokens after the previous chunk."""
    size, chunks = windows.size, windows.counts[0]
    t = F.pad(t, (0, 0, size, chunks * size - t.shape[2]))
    return t.unfold(2, 2 * size, size).permute(0, 2, 1, 4, 3).flatten(0, 1)


def real_tokens(q: Tensor, keep: Tensor | None) -> Tensor:
    """q (B, H, N, K), keep (B, N) -> (B, 1): the number of real tokens."""
    batch, tokens = q.shape[0], q.shape[2]
    return torch.full((batch, 1), tokens, device=q.device) if keep is None else keep.sum(-1, keepdim=True)

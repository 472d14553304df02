"""Fixed and strided patterns (Sparse Transformer; Child et al. 2019, https://arxiv.org/abs/1904.10509).

The two patterns of a kind, of near and of far keys, are merged into one mask for every head, as in the Arena's
sparse_attention.py; the defaults are those of its utils/train_utils.py. In the Arena's and in the authors' attention.py
a token only looks back, which suits a language model; here it looks both ways. The Arena also exempts its CLS token
from the mask; here every token has the same pattern.
Letters: B batch, H heads, N tokens, D width, K head width, P tokens of a block, C blocks, W near keys, S far keys.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_zoo import Dims, QKVAttention, register
from attention_zoo._blocks import Blocks
from attention_zoo._parts import upcast


@register(
    "sparse",
    title="Sparse Transformer",
    paper="https://arxiv.org/abs/1904.10509",
    cost="O(N^2)",
    family="sparse",
    state="the keys and values of its block, and of chosen columns of all others",
    blind="tokens outside of these in one layer",
    differs="not causal: the patterns reach both ways",
)
class SparseAttention(QKVAttention):
    """softmax(q k^T / sqrt K) v over a pattern of keys.

    pattern: `fixed`, the tokens of the same block and a few columns of every block; or `strided`, the tokens less than
    a block away and those a multiple of a block away. block: tokens of a block, the paper's stride. columns: how many
    tokens at the end of a block are columns, at most the block. first: the first token of a block is a column, too, as
    in the Arena but not in the authors' code. A block of N tokens is softmax attention. It adds no parameters. Mixing
    costs 2 N (block + (columns + 1) N / block) D multiply-adds in the fixed pattern and 2 N (3 block + N / block) D in
    the strided one: O(N sqrt N) if the block grows with sqrt N, as in the paper. Memory grows like them, since the
    weights are kept for the backward pass. Raises ValueError for another pattern, a block or columns below 1, or
    columns or first with pattern=strided.
    """

    places: Tensor

    def __init__(
        self,
        dims: Dims,
        *,
        pattern: str = "fixed",
        block: int = 50,
        columns: int = 10,
        first: bool = True,
        conv: int = 0,
    ):
        super().__init__(dims, conv=conv)
        if pattern not in ("fixed", "strided"):
            raise ValueError(f"pattern={pattern}: must be fixed or strided")
        if block < 1:
            raise ValueError(f"block={block}: must be at least 1")
        if columns < 1:
            raise ValueError(f"columns={columns}: must be at least 1")
        if pattern == "strided" and (columns, first) != (10, True):
            raise ValueError("columns and first are options of pattern=fixed")
        self.strided, self.block = pattern == "strided", block
        places = {*range(max(block - columns, 0), block), *([0] if first else [])}
        self.register_buffer("places", torch.tensor(sorted(places)), persistent=False)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        blocks = Blocks.of(q, keep, self.block)
        with torch.autocast(q.device.type, enabled=False):
            q, k, v = (blocks.cut(upcast(t)) for t in (q, k, v))
            q = q * q.shape[-1] ** -0.5
            near_seen, far_seen = self.seen(blocks.real)
            near = (q @ self.near(k).transpose(-2, -1)).masked_fill(~near_seen, -torch.inf)
            far = self.turn(self.queries(q) @ self.columns(k).transpose(-2, -1), blocks)
            far = far.masked_fill(~far_seen, -torch.inf)
            weights = torch.cat((near, far), dim=-1).softmax(-1)  # (B, H, C, P, W + S)
            weights = F.dropout(weights, self.dims.dropout, self.training)
            near, far = weights[..., : near.shape[-1]], weights[..., near.shape[-1] :]
            return blocks.join(near @ self.near(v) + self.turn(self.queries(far) @ self.columns(v), blocks))

    def near(self, t: Tensor) -> Tensor:
        """t (B, H, C, P, K) -> the keys or values around each block, (B, H, C, W, K): W is P, or 3 P if strided."""
        if not self.strided:
            return t
        padded = F.pad(t, (0, 0, 0, 0, 1, 1))
        return torch.cat((padded[:, :, :-2], t, padded[:, :, 2:]), dim=3)

    def columns(self, t: Tensor) -> Tensor:
        """t (B, H, C, P, K) -> the far keys or values: (B, H, 1, S, K), for all queries; strided: (B, H, P, C, K)."""
        return t.transpose(2, 3) if self.strided else t.index_select(3, self.places).flatten(2, 3).unsqueeze(2)

    def queries(self, t: Tensor) -> Tensor:
        """t (B, H, C, P, K) -> the queries in the order of `columns`: (B, H, 1, C P, K); strided: (B, H, P, C, K)."""
        return t.transpose(2, 3) if self.strided else t.flatten(2, 3).unsqueeze(2)

    def turn(self, t: Tensor, blocks: Blocks) -> Tensor:
        """The inverse of `queries`."""
        return t.transpose(2, 3) if self.strided else t.squeeze(2).unflatten(2, (blocks.count, blocks.size))

    def seen(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """real (B, C, P) -> which near keys a query sees, (B, 1, C, P, W), and which far ones, (B, 1, C, P or 1, S).

        Far keys are those of other blocks. A token sees itself, real or not, so that no row is empty.
        """
        real = real[:, None, :, :, None]
        before = self.block if self.strided else 0
        query = torch.arange(self.block, device=real.device)
        key = torch.arange(-before, self.block + before, device=real.device)
        distance = (query[:, None] - key).abs()
        near = self.near(real).transpose(-2, -1) & (distance < self.block) | (distance == 0)
        far = self.columns(real).transpose(-2, -1).transpose(2, 3)
        number = torch.arange(real.shape[2], device=real.device)
        owner = torch.arange(far.shape[-1], device=real.device) // (1 if self.strided else len(self.places))
        return near, far & (number[:, None] != owner)[:, None]

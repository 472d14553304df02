"""The pre-norm encoder every mechanism is placed in (Xiong et al. 2021 and Chen et al. 2021 use the same).

ids -> embedding + positions -> blocks -> LayerNorm -> mean over tokens -> classifier.
Letters: B batch, N tokens, D width. It knows an attention only as `make_attention(layer)` -> module.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.hashing import seed_of

COMMON = ("qkv", "out", "gate", "local")  # parts of an attention that start by the same rule in every mechanism


class Dropout(nn.Module):
    """Zeroes elements with probability p and divides the others by 1 - p; the identity in evaluation.

    On a CPU p is rounded to a multiple of 1 / 65,536, so that a draw of the generator serves four elements: PyTorch's
    own takes as long as all matrix products of an encoder (8 times as long as this one).
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        dropped = round(self.p * 65_536)
        if not self.training or x.device.type != "cpu" or dropped in (0, 65_536):
            return F.dropout(x, self.p, self.training)
        kept = draw_compiled if torch.compiler.is_compiling() else draw
        return x * kept(x.detach(), dropped)


def draw(x: Tensor, dropped: int) -> Tensor:
    """0 with probability dropped / 65,536, else the factor that keeps the mean, in the shape of x, on the CPU."""
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    drawn = words.view(torch.int16)[: x.numel()].view(x.shape)
    kept = torch.ge(drawn, dropped - 32_768, out=torch.empty(x.shape, dtype=x.dtype))
    return kept.mul_(65_536 / (65_536 - dropped))


# The compiler's own draws take longer still; it calls this one as it is, so that it drops what eager drops.
torch.library.define("lra::draw", "(Tensor x, int dropped) -> Tensor", tags=torch.Tag.nondeterministic_seeded)
torch.library.impl("lra::draw", "cpu", draw)
torch.library.register_fake("lra::draw", lambda x, dropped: x.new_empty(x.shape))  # noqa: ARG005
draw_compiled = torch.ops.lra.draw.default


class ShapeError(ValueError):
    """An attention returned something else than a tensor in the shape of x; smaller ones would be broadcast unseen."""

    def __init__(self, name: str, mixed: object, x: Tensor):
        found = f"{tuple(mixed.shape)}" if isinstance(mixed, Tensor) else f"a {type(mixed).__name__}"
        super().__init__(f"{name} returned {found} for x of {tuple(x.shape)}; it must keep the shape, see `check`")


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, attention: nn.Module, *, dim: int, mlp: int, dropout: float):
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = attention
        self.dropout = Dropout(dropout)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp), nn.GELU(), Dropout(dropout), nn.Linear(mlp, dim), Dropout(dropout)
        )

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        mixed = self.attention(self.attention_norm(x), keep)
        # a compiler would make constants of the lengths that it compares; `Step` looks before it compiles
        if not torch.compiler.is_compiling() and (not isinstance(mixed, Tensor) or mixed.shape != x.shape):
            raise ShapeError(type(self.attention).__name__, mixed, x)
        x = x + self.dropout(mixed)
        return x + self.mlp(self.mlp_norm(x))


class Encoder(nn.Module):
    """ids (B, N) int64, keep (B, N) bool or None -> logits (B, classes); of pairs, (B, 2, N) -> (B, classes).

    length: the longest sequence. pair: both documents a, b pass the same encoder; [a, b, a * b, a - b] is classified.
    pool: mean over real tokens, or cls, a learned token in front, or the first token.
    pool_over_padding: divide the sum over real tokens by `length` instead of by their number, as Nystromformer and
    Skyformer do.
    """

    waves: Tensor | None

    def __init__(
        self,
        make_attention: Callable[[int], nn.Module],
        *,
        vocab: int,
        classes: int,
        length: int,
        layers: int,
        dim: int,
        mlp: int,
        head: int,
        dropout: float,
        positions: Literal["learned", "sincos", "rope", "none"],
        pool: Literal["mean", "cls", "first"] = "mean",
        pool_over_padding: bool = False,
        pair: bool = False,
    ):
        super().__init__()
        self.length, self.pooling, self.pool_over_padding = length, pool, pool_over_padding
        self.cls = nn.Embedding(1, dim) if pool == "cls" else None
        length += pool == "cls"
        self.tokens = nn.Embedding(vocab, dim)
        self.positions = nn.Embedding(length, dim) if positions == "learned" else None
        self.register_buffer("waves", sincos(length, dim) if positions == "sincos" else None, persistent=False)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(make_attention(layer), dim=dim, mlp=mlp, dropout=dropout) for layer in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Sequential(nn.Linear(4 * dim if pair else dim, head), nn.ReLU(), nn.Linear(head, classes))

    def embed(self, ids: Tensor) -> Tensor:
        """ids (B, N) -> (B, N, D), with a learned token in front (B, N + 1, D)."""
        x = self.tokens(ids)
        if self.cls is not None:
            x = torch.cat((self.cls.weight.expand(len(ids), 1, -1), x), dim=1)
        if self.positions is not None:
            x = x + self.positions.weight[: x.shape[1]]
        if self.waves is not None:
            x = x + self.waves[: x.shape[1]]
        return self.dropout(x)

    def pool(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """x (B, N, D) -> (B, D): the mean over real tokens, in float32 at least, or the token in front."""
        if self.pooling != "mean":
            return x[:, 0]
        if x.dtype != torch.float64:
            x = x.float()
        if keep is None:
            total, count = x.sum(1), x.shape[1]
        else:
            total = torch.where(keep.unsqueeze(-1), x, 0).sum(1)
            count = keep.sum(1, keepdim=True).clamp(min=1)
        return total / (self.length if self.pool_over_padding else count)

    def encode(self, ids: Tensor, keep: Tensor | None = None) -> Tensor:
        """ids (B, N), keep (B, N) -> (B, D)."""
        x = self.embed(ids)
        if self.cls is not None and keep is not None:
            keep = F.pad(keep, (1, 0), value=True)
        for block in self.blocks:
            x = block(x, keep)
        return self.pool(self.norm(x), keep)

    def forward(self, ids: Tensor, keep: Tensor | None = None) -> Tensor:
        if ids.ndim == 2:
            return self.head(self.encode(ids, keep))
        both = self.encode(ids.flatten(0, 1), None if keep is None else keep.flatten(0, 1))
        a, b = both.unflatten(0, (-1, 2)).unbind(1)
        return self.head(torch.cat((a, b, a * b, a - b), dim=-1))


def sincos(length: int, dim: int) -> Tensor:
    """Fixed sinusoidal positions (Vaswani et al. 2017), (length, dim): sines, then cosines."""
    speed = 10_000.0 ** (-torch.arange(0, dim, 2) / dim)
    angle = torch.arange(length)[:, None] * speed
    return torch.cat((angle.sin(), angle.cos()), dim=-1)[:, :dim]


@torch.no_grad()
def initialise(model: Encoder, *, seed: int, embedding_std: float) -> None:
    """Draws each parameter from hash(seed, its name), so that what mechanisms share starts equal.

    Embeddings N(0, embedding_std); other layers as PyTorch does, uniform within 1 / sqrt(fan in). A mechanism's own
    parameters (any not under qkv, out, gate or local) stay as its constructor made them.
    """
    for module_name, module in model.named_modules():
        _, inside, part = module_name.partition(".attention.")
        if inside and part.split(".")[0] not in COMMON:
            continue
        for name, parameter in module.named_parameters(prefix=module_name, recurse=False):
            generator = torch.Generator().manual_seed(seed_of(seed, name))
            if isinstance(module, nn.Embedding):
                parameter.normal_(0.0, embedding_std, generator=generator)
            elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                bound = 1 / math.sqrt(module.weight[0].numel())
                parameter.uniform_(-bound, bound, generator=generator)


def count_parameters(model: Encoder) -> dict[str, int]:
    """total, without_embeddings (tokens and positions), attention (all layers' mechanisms, projections included)."""
    total = sum(p.numel() for p in model.parameters())
    tables = [table for table in (model.tokens, model.positions, model.cls) if table is not None]
    embeddings = sum(p.numel() for table in tables for p in table.parameters())
    attention = sum(p.numel() for block in model.blocks for p in block.get_submodule("attention").parameters())
    return {"total": total, "without_embeddings": total - embeddings, "attention": attention}

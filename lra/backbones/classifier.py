"""What is the same around every backbone: embedding, pooling, the head, and pairs of documents.

ids -> embedding + positions -> body -> LayerNorm -> mean over tokens -> classifier.
Letters: B batch, N tokens, D width.
"""

from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.backbones.layers import Dropout


class Model(Protocol):
    """The `model` section of a configuration. A size of 0 means that of the task."""

    @property
    def layers(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def mlp(self) -> int: ...
    @property
    def head(self) -> int: ...
    @property
    def dropout(self) -> float: ...
    @property
    def positions(self) -> Literal["learned", "sincos", "rope", "none"]: ...
    @property
    def vocab(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def pool(self) -> Literal["mean", "cls", "first"]: ...
    @property
    def pool_over_padding(self) -> bool: ...
    @property
    def heads(self) -> int: ...
    @property
    def grid(self) -> bool: ...


class Sizes(Protocol):
    """The sizes of a task: ids, classes, longest sequence, is a sample two documents?, rows and columns of an image."""

    @property
    def vocab(self) -> int: ...
    @property
    def classes(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def pair(self) -> bool: ...
    @property
    def grid(self) -> tuple[int, int] | None: ...


class MakeAttention(Protocol):
    """Makes the attention of a layer.

    layer: its number in the model, from 0, on which its initial weights depend. stage: the number of its stage, by
    which a hybrid may choose a mechanism; without stages, the layer's number. place: its number within its stage, for
    mechanisms that differ from layer to layer, such as Swin. sizes: `dim`, `heads`, `length` or `grid`, where they
    differ from those of the model.
    """

    def __call__(
        self, layer: int, *, stage: int | None = None, place: int | None = None, **sizes: Any
    ) -> nn.Module: ...


class Classifier(nn.Module):
    """ids (B, N) int64, keep (B, N) bool or None -> logits (B, classes); for pairs (B, 2, N) -> (B, classes).

    For pairs, both documents a, b pass the same encoder, and [a, b, a * b, a - b] is classified.
    pool: mean over real tokens; cls, a learned token in front; or the first token. pool_over_padding: divide the sum
    over real tokens by the longest length instead of by their number, as Nystromformer and Skyformer do.

    Initial weights depend on the names of the parameters, and the gradient's norm is summed in their order, so neither
    may change: cls, tokens, positions, what `build_body` adds, norm, head.
    keys: those of the backbone in the section `model`.
    """

    # attributes of every backbone, whose names a subclass must not use for others
    RESERVED = (
        "cls", "tokens", "positions", "waves", "dropout", "norm", "head", "pooling", "pool_over_padding"
    )  # fmt: skip
    waves: Tensor | None
    merged = 1  # tokens of the input for each one that the body returns
    normed = False  # does the body end with a norm? If not, a LayerNorm follows it

    def __init__(self, model: Model, sizes: Sizes, make_attention: MakeAttention, **keys: Any):
        super().__init__()
        length = model.length or sizes.length
        self.length, self.pooling, self.pool_over_padding = length, model.pool, model.pool_over_padding
        self.grid = sizes.grid if model.grid else None
        self.cls = nn.Embedding(1, model.dim) if model.pool == "cls" else None
        length += model.pool == "cls"
        self.tokens = nn.Embedding(model.vocab or sizes.vocab, model.dim)
        self.positions = nn.Embedding(length, model.dim) if model.positions == "learned" else None
        waves = sincos(length, model.dim) if model.positions == "sincos" else None
        self.register_buffer("waves", waves, persistent=False)
        self.dropout = Dropout(model.dropout)
        before = {name: getattr(self, name, None) for name in self.RESERVED}
        width = self.build_body(model, make_attention, **keys)
        taken = [name for name in self.RESERVED if getattr(self, name, None) is not before[name]]
        taken += [name for name in (*self._modules, *self._parameters, *self._buffers) if hasattr(type(self), name)]
        taken += ["width"] if getattr(self, "width", width) != width else []
        if taken:
            raise ValueError(f"every backbone has its own {taken[0]}: give that of yours another name")
        self.norm = nn.Identity() if self.normed else nn.LayerNorm(width)
        features = 4 * width if sizes.pair else width
        self.head = nn.Sequential(nn.Linear(features, model.head), nn.ReLU(), nn.Linear(model.head, sizes.classes))
        self.width = width

    def build_body(self, model: Model, make_attention: MakeAttention) -> int:
        """Makes the layers of `body` and returns the width of its result.

        `length`, of the longest sequence, and `grid`, its rows and columns or None, are set before the call. A body
        that merges tokens sets `merged`, and sets `length` to the greatest length of its result; one that ends with a
        norm sets `normed`. A subclass's keyword-only arguments are keys of the section `model`. Raises ValueError for
        values that do not fit.
        """
        raise NotImplementedError

    def body(self, x: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x (B, N, D), keep (B, N) or None -> the same after all layers; a body that merges tokens returns fewer."""
        raise NotImplementedError

    def attentions(self) -> list[nn.Module]:
        """Every attention, in the order of the layers."""
        raise NotImplementedError

    def embed(self, ids: Tensor) -> Tensor:
        """ids (B, N) -> (B, N, D), with a learned token in front (B, N + 1, D)."""
        return self.add_positions(self.tokens(ids))

    def add_positions(self, x: Tensor) -> Tensor:
        """Vectors of tokens (B, N, D) -> the same with positions, (B, N + 1, D) with a learned token in front."""
        if self.cls is not None:
            x = torch.cat((self.cls.weight.expand(len(x), 1, -1), x), dim=1)
        table = self.waves if self.positions is None else self.positions.weight
        if table is not None:
            if x.shape[1] > len(table):
                raise ValueError(f"{x.shape[1]} tokens, but the model has positions for at most {len(table):,}")
            x = x + table[: x.shape[1]]
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
        x, keep = self.body(x, keep)
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

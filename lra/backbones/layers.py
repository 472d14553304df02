"""Layers that backbones are made of: dropout, and the block around an attention.

Letters: B batch, N tokens, D width.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zeroes elements with probability p and divides the others by 1 - p; the identity in evaluation.

    On a CPU p is rounded to a multiple of 1 / 65,536, so that one draw of the generator serves four elements: PyTorch's
    own dropout takes as long as all matrix products of an encoder, 8 times as long as this one.
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
    """Draws 0 with probability dropped / 65,536, else the factor that keeps the mean; in the shape of x, on the CPU."""
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    drawn = words.view(torch.int16)[: x.numel()].view(x.shape)
    kept = torch.ge(drawn, dropped - 32_768, out=torch.empty(x.shape, dtype=x.dtype))
    return kept.mul_(65_536 / (65_536 - dropped))


# Draws that the compiler generates take longer still. It does not look into this operator, so a compiled step drops the
# same elements as an eager one.
torch.library.define("lra::draw", "(Tensor x, int dropped) -> Tensor", tags=torch.Tag.nondeterministic_seeded)
torch.library.impl("lra::draw", "cpu", draw)
torch.library.register_fake("lra::draw", lambda x, dropped: x.new_empty(x.shape))  # noqa: ARG005
draw_compiled = torch.ops.lra.draw.default


class ShapeError(ValueError):
    """An attention returned no tensor in the shape of x; one that is smaller would be broadcast unnoticed."""

    def __init__(self, name: str, y: object, x: Tensor):
        what = f"{tuple(y.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
        super().__init__(f"{name} returned {what} for x of {tuple(x.shape)}; it must keep the shape, see `check`")


class DtypeError(ValueError):
    """An attention returned another dtype than that of x; the sum with x would hide it."""

    def __init__(self, name: str, y: Tensor, x: Tensor):
        found, wanted = (str(t.dtype).removeprefix("torch.") for t in (y, x))
        super().__init__(f"{name} returned {found} for x in {wanted}; it must keep the dtype: return y.to(x.dtype)")


def check_output(name: str, y: object, x: Tensor) -> None:
    """Raises ShapeError or DtypeError. Under autocast, the dtype of autocast is accepted, too."""
    if not isinstance(y, Tensor) or y.shape != x.shape:
        raise ShapeError(name, y, x)
    if y.dtype != x.dtype:
        kind = x.device.type
        if not torch.is_autocast_enabled(kind) or y.dtype != torch.get_autocast_dtype(kind):
            raise DtypeError(name, y, x)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    norm: `post` normalises after the sums, norm(x + attention(x)). parallel: x + attention(norm(x)) + mlp(norm(x)).
    """

    def __init__(
        self,
        attention: nn.Module,
        *,
        dim: int,
        mlp: int,
        dropout: float,
        norm: Literal["pre", "post"] = "pre",
        parallel: bool = False,
    ):
        super().__init__()
        self.post, self.parallel = norm == "post", parallel
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = attention
        self.dropout = Dropout(dropout)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp), nn.GELU(), Dropout(dropout), nn.Linear(mlp, dim), Dropout(dropout)
        )

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        if self.post:
            x = self.attention_norm(x + self.attend(x, keep))
            return self.mlp_norm(x + self.mlp(x))
        y = self.attend(self.attention_norm(x), keep)
        if self.parallel:
            return x + y + self.mlp(self.mlp_norm(x))
        x = x + y
        return x + self.mlp(self.mlp_norm(x))

    def attend(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention with dropout, whose output is checked."""
        y = self.attention(x, keep)
        # not under torch.compile, which would specialise on the compared sizes; the dry run checks before compiling
        if not torch.compiler.is_compiling():
            check_output(type(self.attention).__name__, y, x)
        return self.dropout(y)

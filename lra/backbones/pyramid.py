"""A pyramid: stages of blocks; between stages neighbouring tokens are merged, and the width grows.

After Swin (Liu et al. 2021, https://arxiv.org/abs/2103.14030, PatchMerging) and PVT (Wang et al. 2021,
https://arxiv.org/abs/2102.12122, PatchEmbed).
Letters: B batch, N tokens, D width, M merged tokens, E their width, P parts that become one token.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.backbones import register
from lra.backbones.classifier import Classifier, MakeAttention, Model
from lra.backbones.layers import Block

Grid = tuple[int, int] | None


@register("pyramid", title="Pyramid", paper="https://arxiv.org/abs/2103.14030")
class Pyramid(Classifier):
    """Stages of blocks. From one to the next, `parts` tokens become one that is `widen` times as wide.

    stages: layers of each stage, `model.layers` in all; by default each layer is a stage. parts: neighbours along a
    sequence; on a grid a square of them. merge: a LayerNorm and a linear map of the concatenated parts (`concat`, as
    Swin), or a strided convolution and a LayerNorm (`conv`, as PVT). widen: growth of width and MLP from stage to
    stage. stage_heads: heads of each stage; by default they grow with the width, so that a head keeps its width.
    """

    def build_body(
        self,
        model: Model,
        make_attention: MakeAttention,
        *,
        stages: tuple[int, ...] = (),
        merge: Literal["concat", "conv"] = "concat",
        parts: int = 4,
        widen: int = 2,
        stage_heads: tuple[int, ...] = (),
    ) -> int:
        stages = stages or (1,) * model.layers
        heads = stage_heads or tuple(model.heads * widen**stage for stage in range(len(stages)))
        check(model, stages, heads, parts, widen, self.grid)
        self.stages, self.merges = nn.ModuleList(), nn.ModuleList()
        width, layer, grid = model.dim, 0, self.grid
        for stage, layers in enumerate(stages):
            if stage:
                self.merges.append(Merge(width, widen * width, parts, merge, grid))
                width, grid = widen * width, smaller(grid, parts)
                self.length = -(-self.length // parts) if grid is None else math.prod(grid)
            sizes = {"dim": width, "heads": heads[stage], "length": self.length, "grid": grid}
            blocks = [
                Block(
                    make_attention(layer + place, stage=stage, place=place, **sizes),
                    dim=width,
                    mlp=model.mlp * widen**stage,
                    dropout=model.dropout,
                )
                for place in range(layers)
            ]
            self.stages.append(nn.ModuleList(blocks))
            layer += layers
        self.merged = parts ** (len(stages) - 1)
        return width

    def body(self, x: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        for number, stage in enumerate(self.stages):
            if number:
                x, keep = self.merges[number - 1](x, keep)
            for block in stage:  # pyright: ignore[reportGeneralTypeIssues]
                x = block(x, keep)
        return x, keep

    def attentions(self) -> list[nn.Module]:
        return [block.attention for stage in self.stages for block in stage]  # pyright: ignore


class Merge(nn.Module):
    """P neighbouring tokens become one. Parts at padding and beyond the end are zero; a merged token is real where any
    part is.

    A strided convolution whose kernel is as long as its stride is a linear map of the parts, and computed as one.
    """

    def __init__(self, dim: int, width: int, parts: int, kind: str, grid: Grid):
        super().__init__()
        self.parts, self.grid = parts, grid
        concat = kind == "concat"
        self.first = nn.LayerNorm(parts * dim) if concat else nn.Identity()
        self.merge = nn.Linear(parts * dim, width, bias=not concat)
        self.last = nn.Identity() if concat else nn.LayerNorm(width)

    def forward(self, x: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x (B, N, D), keep (B, N) or None -> (B, M, E), (B, M) or None."""
        if keep is not None:
            x = torch.where(keep.unsqueeze(-1), x, 0)
            keep = self.gather(keep.unsqueeze(-1)).any(-1)
        return self.last(self.merge(self.first(self.gather(x)))), keep

    def gather(self, x: Tensor) -> Tensor:
        """x (B, N, D) -> (B, M, P D): zeros beyond the end."""
        if self.grid is None:
            whole = (x.shape[1] + self.parts - 1) // self.parts
            # padded by a constant, then cut: a length that needs no padding would otherwise be compiled separately
            x = F.pad(x, (0, 0, 0, self.parts))[:, : whole * self.parts]
            return x.reshape(x.shape[0], whole, self.parts * x.shape[2])
        (rows, columns), side = self.grid, math.isqrt(self.parts)
        x = F.pad(x.unflatten(1, self.grid), (0, 0, 0, -columns % side, 0, -rows % side))
        x = x.unflatten(2, (-1, side)).unflatten(1, (-1, side))  # (B, rows, side, columns, side, D)
        return x.transpose(2, 3).flatten(3).flatten(1, 2)


def smaller(grid: Grid, parts: int) -> Grid:
    """Rows and columns of the merged tokens."""
    return None if grid is None else (-(-grid[0] // math.isqrt(parts)), -(-grid[1] // math.isqrt(parts)))


def check(model: Model, stages: tuple[int, ...], heads: tuple[int, ...], parts: int, widen: int, grid: Grid) -> None:
    """Raises ValueError for sizes that do not fit together."""
    if min(stages) < 1 or sum(stages) != model.layers:
        raise ValueError(
            f"model.stages={list(stages)} has {sum(stages)} layers, but model.layers={model.layers}: set both"
        )
    if len(heads) != len(stages) or min(heads) < 1:
        raise ValueError(f"model.stage_heads={list(heads)}: give one number for each of the {len(stages)} stages")
    for stage, count in enumerate(heads):
        if model.dim * widen**stage % count:
            raise ValueError(f"stage {stage + 1}: width {model.dim * widen**stage} is not divisible by {count} heads")
    if parts < 1 or widen < 1:
        raise ValueError(f"model.parts={parts}, model.widen={widen}: both must be at least 1")
    if grid is not None and math.isqrt(parts) ** 2 != parts:
        raise ValueError(f"model.parts={parts}: on a grid it must be a square number (4, 9, 16)")
    if model.pool != "mean":
        raise ValueError(
            f"model.pool={model.pool}: merging leaves no separate first token to read; set model.pool=mean"
        )

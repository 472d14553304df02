"""Windows of tokens, on a sequence or over both axes of a grid. Letters: B batch, H heads, N tokens, P per window."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def varies(keep: Tensor | None) -> bool:
    """Must one compilation serve every length? Only under torch.compile with a mask; otherwise there is one length."""
    return keep is not None and torch.compiler.is_compiling()


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows of `size` per axis over tokens of this shape, (N,) or (rows, columns).

    The first window starts `shift` tokens before the first token, per axis; what lies outside is padding. varies: see
    `varies`; if true, there are at least 2 windows per axis and some padding, because a length with one window or
    without padding would be compiled separately.
    """

    shape: tuple[int, ...]
    size: int
    shift: int = 0
    varies: bool = False

    @property
    def counts(self) -> list[int]:
        """Windows along each axis."""
        if self.varies:
            return [max(2, (n + self.shift + self.size) // self.size) for n in self.shape]
        return [(n + self.shift + self.size - 1) // self.size for n in self.shape]

    def cut(self, t: Tensor) -> Tensor:
        """t (B, H, N, C) -> (B * windows, H, P, C), zeros (False) outside."""
        axes = len(self.shape)
        pads = [0, 0]
        for n, count in zip(reversed(self.shape), reversed(self.counts), strict=True):
            pads += [self.shift, count * self.size - n - self.shift]
        t = F.pad(t.unflatten(2, self.shape), pads)
        for axis, count in enumerate(self.counts):
            t = t.unflatten(2 + 2 * axis, (count, self.size))
        windows, places = range(2, 2 + 2 * axes, 2), range(3, 3 + 2 * axes, 2)
        t = t.permute(0, *windows, 1, *places, 2 + 2 * axes)
        return t.flatten(0, axes).flatten(2, 1 + axes)

    def join(self, t: Tensor) -> Tensor:
        """The inverse of `cut`: (B * windows, H, P, C) -> (B, H, N, C)."""
        axes = len(self.shape)
        t = t.unflatten(2, [self.size] * axes).unflatten(0, (t.shape[0] // math.prod(self.counts), *self.counts))
        order = [axis for pair in zip(range(1, 1 + axes), range(2 + axes, 2 + 2 * axes), strict=True) for axis in pair]
        t = t.permute(0, 1 + axes, *order, 2 + 2 * axes)
        for axis, n in enumerate(self.shape):
            t = t.flatten(2 + axis, 3 + axis).narrow(2 + axis, self.shift, n)
        return t.flatten(2, 1 + axes)

    def mask(self, keep: Tensor | None, like: Tensor) -> Tensor | None:
        """keep (B, N) or None, for tokens of `like` (B, ...) -> (B * windows, P), or None when all places are real."""
        if keep is None:
            if all(count * self.size == n for n, count in zip(self.shape, self.counts, strict=True)):
                return None
            keep = torch.ones(len(like), math.prod(self.shape), dtype=torch.bool, device=like.device)
        return self.cut(keep[:, None, :, None])[:, 0, :, 0]

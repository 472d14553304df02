"""Shared pieces of the mechanisms; padding and precision are handled here, once.

Letters as in `_base`: B batch, N tokens, D width, H heads, K head width, F features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo._convolution import convolve
from attention_zoo._dims import Dims
from attention_zoo._kernels import Read


def split_heads(t: Tensor, heads: int) -> Tensor:
    """(B, N, D) -> (B, H, N, K), head-major."""
    return t.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(t: Tensor) -> Tensor:
    """(B, H, N, K) -> (B, N, D), the inverse of `split_heads`."""
    return t.transpose(1, 2).flatten(-2)


def zero_padding(x: Tensor, keep: Tensor | None) -> Tensor:
    """x (B, N, D) with zeros where keep (B, N) is False; selected, not multiplied, because NaN times zero is NaN."""
    if keep is None:
        return x
    # index_fill on a copy is 4 times as fast as torch.where, but needs actual values, which neither torch.compile nor
    # the fake tensors on which operations are counted have.
    if x.device.type == "cpu" and type(keep) is Tensor and not torch.compiler.is_compiling():
        padding = (~keep).flatten().nonzero().squeeze(1)
        return x.flatten(0, 1).index_fill(0, padding, 0).view(x.shape)
    return torch.where(keep.unsqueeze(-1), x, 0)


def upcast(t: Tensor) -> Tensor:
    """t in at least float32: in half precision, long sums lose digits and powers overflow."""
    return t.float() if t.dtype in (torch.bfloat16, torch.float16) else t


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None, *, eps: float = 1e-6, mean: bool = False
) -> Tensor:
    """y_i = q_i S / (q_i z + eps'), S = sum_j k_j^T v_j, z = sum_j k_j, over the real keys j; in float32.

    q, k (B, H, N, F) features whose products q_i k_j are not negative, v (B, H, N, K), keep (B, N) -> (B, H, N, K); k
    and v finite at padding. mean=False: eps' = eps (Katharopoulos et al. 2020). mean=True: eps' = eps times the number
    of real keys, the same as averaging over keys and then adding eps (FLatten, PolaFormer). Keys are masked after the
    feature map, because a feature of zero need not be zero (elu(0) + 1 = 1).
    """
    with torch.autocast(q.device.type, enabled=False):
        state, total, keys = summarise(upcast(k), upcast(v), keep)
        return read(upcast(q), state, total, eps * keys if mean else eps)


def summarise(k: Tensor, v: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor, Tensor | int]:
    """k (B, H, N, F), v (B, H, N, K), finite, keep (B, N) -> S (B, H, F, K), z (B, H, 1, F), number of real keys.

    The number is an int, or (B, 1, 1, 1), at least 1.
    """
    keys: Tensor | int = k.shape[-2]
    if keep is not None:
        real = keep[:, None, :, None].to(k.dtype)
        k, keys = k * real, real.sum(-2, keepdim=True).clamp(min=1)  # a product: selection takes 7 times as long
    return k.transpose(-2, -1) @ v, k.sum(-2, keepdim=True), keys


def read(q: Tensor, state: Tensor, total: Tensor, eps: Tensor | float) -> Tensor:
    """q (B, H, N, F), state (B, H, F, K), total (B, H, G, F) -> (B, H, N, K), in G flows of K / G channels.

    Flow g of token i is q_i state_g / (q_i total_g + eps), state_g its channels of state; eps a number or (B, 1, 1, 1).
    """
    eps = eps if isinstance(eps, Tensor) else q.new_full((1, 1, 1, 1), eps)
    return Read.apply(q, state, total, eps)  # pyright: ignore[reportReturnType]


def softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None, *, bias: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """y_i = sum_j softmax_j(q_i . k_j / sqrt K + bias_ij) v_j over the real keys j.

    q (B, H, M, K), k, v (B, H, N, K), keep (B, N) of the keys, bias (H, M, N) or (B, H, M, N) -> (B, H, M, K).
    In a sequence without any real key, queries attend to all keys, so that y stays finite.
    """
    mask = None if keep is None else (keep | ~keep.any(-1, keepdim=True))[:, None, None, :]
    if bias is not None:
        bias = bias.to(q.dtype)
        mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)


def refuse_longer(tokens: int, length: int) -> None:
    """Raises ValueError if a sequence is longer than the mechanism is built for: slices would cut it off silently."""
    if tokens > length:
        raise ValueError(f"{tokens} tokens, but built for at most {length:,}")  # a compiler's tokens take no comma


def first_columns(table: Tensor, count: int) -> Tensor:
    """table (..., L) of L tokens -> its first `count` columns. Raises ValueError if there are fewer.

    They are gathered for a compiler, which would compile a slice of all L columns separately.
    """
    refuse_longer(count, table.shape[-1])
    if torch.compiler.is_compiling():
        return table.index_select(-1, torch.arange(count, device=table.device))
    return table[..., :count]


def rotate(t: Tensor, head_dim: int) -> Tensor:
    """Rotary positions (Su et al. 2021): t (B, N, D) -> (B, N, D); channels c and c + K/2 of a head are a plane."""
    half = head_dim // 2
    precise = torch.promote_types(t.dtype, torch.float32)
    speed = 10_000.0 ** (-torch.arange(half, device=t.device, dtype=precise) / half)
    angle = torch.arange(t.shape[1], device=t.device, dtype=precise)[:, None] * speed
    cos, sin = angle.cos().to(t.dtype)[:, None], angle.sin().to(t.dtype)[:, None]
    first, second = t.unflatten(-1, (-1, 2, half)).unbind(-2)
    return torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-2).flatten(-3)


class LocalConv(nn.Module):
    """Depthwise convolution of v, zero padded, over the sequence or over both axes of a grid.

    taps: odd kernel length per axis. shared: one kernel per channel of a head, shared by the heads (FLatten,
    PolaFormer), else one per channel of the width (Agent). Raises ValueError for an even or negative number of taps.
    """

    def __init__(self, dims: Dims, *, taps: int, shared: bool = True):
        super().__init__()
        if taps < 1 or taps % 2 == 0:
            raise ValueError(f"conv={taps}: the number of taps must be odd and positive, or 0 for none")
        self.grid, self.shared = dims.grid, shared
        channels = dims.head_dim if shared else dims.dim
        layer = nn.Conv1d if dims.grid is None else nn.Conv2d
        self.conv = layer(channels, channels, taps, padding=taps // 2, groups=channels)

    def forward(self, v: Tensor, keep: Tensor | None = None) -> Tensor:
        """v (B, H, N, K), finite, keep (B, N) -> (B, H, N, K); padding counts as zeros, as beyond the ends."""
        batch, heads, tokens, width = v.shape
        if keep is not None:
            v = v * keep[:, None, :, None].to(v.dtype)
        if self.grid is None and torch.compiler.is_compiling():
            return self.shift(v)
        image = v.transpose(-2, -1)
        image = image.flatten(0, 1) if self.shared else image.flatten(1, 2)
        image = convolve(self.conv, image if self.grid is None else image.unflatten(-1, self.grid))
        return image.reshape(batch, heads, width, tokens).transpose(-2, -1)

    def shift(self, v: Tensor) -> Tensor:
        """The same along the sequence as a weighted sum of shifts, which a compiler fuses with the code around it."""
        heads, tokens, width = v.shape[1:]
        heads = 1 if self.shared else heads
        kernel = self.conv.weight.view(heads, 1, width, -1)
        taps = kernel.shape[-1]
        padded = F.pad(v, (0, 0, taps // 2, taps // 2))
        shifts = [padded[..., tap : tap + tokens, :] * kernel[..., tap] for tap in range(taps)]
        return sum(shifts, self.conv.bias.view(heads, 1, width))  # pyright: ignore[reportOptionalMemberAccess]

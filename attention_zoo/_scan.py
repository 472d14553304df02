"""Recurrences in chunks and in both directions (GLA, DeltaNet, Mamba-2).

Letters: B batch, H heads, N tokens, M chunks, P tokens of a chunk, K channels of a key, V of a value, C channels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from attention_zoo._windows import varies

CHUNK = 32  # P, a power of 2: longer chunks compute more within themselves, shorter ones keep more states


def both_ways(ahead: Tensor, back: Tensor | None = None) -> Tensor:
    """ahead and back (B, ..., N, C), by default the same, -> (B, 2, ..., N, C), with `back` in reverse order.

    The padding of a short sequence comes first in reverse order, where it must change no state.
    """
    return torch.stack((ahead, (ahead if back is None else back).flip(-2)), dim=1)


def add_ways(y: Tensor) -> Tensor:
    """y (B, 2, ..., N, C) -> (B, ..., N, C): the sum of both directions, the second back in order."""
    ahead, back = y.unbind(1)
    return ahead + back.flip(-2)


def count_chunks(tokens: int, keep: Tensor | None) -> int:
    """The number of chunks that hold these tokens.

    Compiled code that has to serve every length gets at least two chunks and some padding, because a length with one
    chunk or without padding would be compiled separately. There is no max in it, because the compiler cannot use the
    result of one as a stride.
    """
    return tokens // CHUNK + 2 if varies(keep) else (tokens + CHUNK - 1) // CHUNK


def cut(t: Tensor, chunks: int) -> Tensor:
    """t (..., N, C) -> (..., M, P, C), zeros after the last token."""
    return lengthen(t, chunks * CHUNK).unflatten(-2, (chunks, CHUNK))


# A custom operation, so that its result is stored; the compiler would compute it again in each of its many uses.
@torch.library.custom_op("attention_zoo::lengthen", mutates_args=())
def lengthen(t: Tensor, tokens: int) -> Tensor:
    """t (..., N, C) -> (..., tokens, C), cut or filled with zeros at the end."""
    return F.pad(t, (0, 0, 0, tokens - t.shape[-2])).contiguous()


@lengthen.register_fake
def _(t: Tensor, tokens: int) -> Tensor:
    return t.new_empty((*t.shape[:-2], tokens, t.shape[-1]))


def _save_length(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:  # noqa: ARG001
    ctx.tokens = inputs[0].shape[-2]


def _shorten(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    return lengthen(gradient, ctx.tokens), None


lengthen.register_autograd(_shorten, setup_context=_save_length)


def join(t: Tensor, tokens: int) -> Tensor:
    """The inverse of `cut`: (..., M, P, C) -> (..., N, C)."""
    return t.flatten(-3, -2).narrow(-2, 0, tokens)


def carry(decay: Tensor, update: Tensor, *, matrices: bool = False) -> Tensor:
    """S_1 = 0, S_(m+1) = decay_m S_m + update_m: the state before each chunk.

    update (..., M, K, V) -> S, of the same shape. decay (..., M, K or 1, V or 1), or (..., M, K, K) if it holds
    matrices.
    """
    return carry_states(decay, update, matrices)


# A custom operation, because the compiler would unroll the loop over chunks for each number of chunks.
@torch.library.custom_op("attention_zoo::carry_states", mutates_args=())
def carry_states(decay: Tensor, update: Tensor, matrices: bool) -> Tensor:
    """See `carry`."""
    states = torch.empty_like(update, memory_format=torch.contiguous_format)
    state = torch.zeros_like(update[..., 0, :, :])
    for m in range(update.shape[-3]):
        states[..., m, :, :] = state
        factor = decay[..., m, :, :]
        state = (factor @ state if matrices else factor * state) + update[..., m, :, :]
    return states


@carry_states.register_fake
def _(decay: Tensor, update: Tensor, matrices: bool) -> Tensor:  # noqa: ARG001
    return torch.empty_like(update, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], output)
    ctx.matrices = inputs[2]


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
    """Gradients are carried the same way, from the last chunk to the first."""
    decay, states = ctx.saved_tensors
    matrices = ctx.matrices
    back = decay.flip(-3).transpose(-2, -1) if matrices else decay.flip(-3)
    to_update = carry_states(back, gradient.flip(-3), matrices).flip(-3)
    if matrices:
        return to_update @ states.transpose(-2, -1), to_update, None
    return (to_update * states).sum_to_size(decay.shape), to_update, None


carry_states.register_autograd(_backward, setup_context=_save)


@register_flop_formula(torch.ops.attention_zoo.carry_states)
def _operations(decay: Any, update: Any, matrices: bool, **_: Any) -> int:
    """The operations of the matrix products; elementwise ones are not counted."""
    return 2 * update.numel() * decay[-1] if matrices else 0

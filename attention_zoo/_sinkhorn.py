"""Sinkhorn's iterations between a few pivots and many tokens, which torch.compile takes as one operation.

The gradient is that of the iterations, as autograd would find it, but only their potentials are kept; the plans are
computed again in the backward pass. Letters: B batch, H heads, M pivots, N tokens, U updates.
"""

import torch
from torch import Tensor


@torch.library.custom_op("attention_zoo::sinkhorn", mutates_args=())
def sinkhorn(
    scores: Tensor, masses: Tensor, real: Tensor, updates: int, tokens_first: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The plan exp(scores + f + g) (B, H, M, N), and every f (about U / 2, B, H, M, 1) and g (about U / 2, B, H, 1, N).

    Updates alternate between f, after which each pivot sends its mass, and g, after which every real token receives the
    same mass, 1 in all; the first is of g if tokens_first. scores (B, H, M, N), masses (H, M, 1) the logarithms of the
    pivots' masses, real (B, 1, 1, N) bool, true somewhere in each sequence.
    """
    scores = scores.contiguous()  # as the compiler expects the plan
    start = torch.zeros_like(scores[..., :1, :]).masked_fill(~real, -torch.inf)
    share = start - real.sum(-1, keepdim=True).to(scores.dtype).log()
    pivots, tokens = [torch.zeros_like(scores[..., :1])], [start]
    for update in range(updates):
        if tokens_next(update, tokens_first):
            tokens.append(share - (scores + pivots[-1]).logsumexp(-2, keepdim=True))
        else:
            pivots.append(masses - (scores + tokens[-1]).logsumexp(-1, keepdim=True))
    return (scores + pivots[-1] + tokens[-1]).exp(), torch.stack(pivots), torch.stack(tokens)


def tokens_next(update: int, tokens_first: bool) -> bool:
    """Whether this update is of g, the potential of the tokens."""
    return (update % 2 == 0) == tokens_first


@torch.library.custom_op("attention_zoo::sinkhorn_backward", mutates_args=())
def sinkhorn_backward(
    gradient: Tensor,
    scores: Tensor,
    masses: Tensor,
    real: Tensor,
    pivots: Tensor,
    tokens: Tensor,
    updates: int,
    tokens_first: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of scores and masses. A logsumexp's gradient is a row or column of the plan over its sum."""
    gradient, scores = gradient.contiguous(), scores.contiguous()  # as the compiler expects the gradient
    count = real.sum(-1, keepdim=True).to(scores.dtype)
    f, g = len(pivots) - 1, len(tokens) - 1
    flow = gradient * (scores + pivots[f] + tokens[g]).exp()
    to_scores, to_f, to_g = flow.clone(), flow.sum(-1, keepdim=True), flow.sum(-2, keepdim=True)
    to_masses = torch.zeros_like(masses)
    for update in reversed(range(updates)):
        plan = (scores + pivots[f] + tokens[g]).exp()
        if tokens_next(update, tokens_first):
            flow = plan * (to_g * count)
            g, to_g = g - 1, torch.zeros_like(to_g)
            to_f = to_f - flow.sum(-1, keepdim=True)
        else:
            to_masses += to_f.sum(0)
            flow = plan * (to_f * (-masses).exp())
            f, to_f = f - 1, torch.zeros_like(to_f)
            to_g = to_g - flow.sum(-2, keepdim=True)
        to_scores -= flow
    return to_scores, to_masses


@sinkhorn.register_fake
def _(
    scores: Tensor,
    masses: Tensor,  # noqa: ARG001
    real: Tensor,  # noqa: ARG001
    updates: int,
    tokens_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, pivots, tokens = scores.shape
    later, sooner = updates // 2 + 1, (updates + 1) // 2 + 1
    f, g = (later, sooner) if tokens_first else (sooner, later)
    plan = scores.new_empty(scores.shape)
    return plan, scores.new_empty(f, batch, heads, pivots, 1), scores.new_empty(g, batch, heads, 1, tokens)


@sinkhorn_backward.register_fake
def _(gradient: Tensor, scores: Tensor, masses: Tensor, *_: object) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return scores.new_empty(scores.shape), masses.new_empty(masses.shape)


def _save(ctx, inputs, output) -> None:
    scores, masses, real, ctx.updates, ctx.tokens_first = inputs
    _, pivots, tokens = output
    ctx.save_for_backward(scores, masses, real, pivots, tokens)


def _backward(ctx, gradient: Tensor, *_: Tensor):
    return *sinkhorn_backward(gradient, *ctx.saved_tensors, ctx.updates, ctx.tokens_first), None, None, None


sinkhorn.register_autograd(_backward, setup_context=_save)

"""Uniform attention: a control without any mechanism."""

import torch
from torch import Tensor

from attention_zoo import QKVAttention, register
from attention_zoo._parts import upcast


@register(
    "mean",
    title="Uniform (control)",
    cost="O(N)",
    family="control",
    state="the mean of v, D numbers",
    blind="which token is which: every query gets the same",
)
class MeanAttention(QKVAttention):
    """Every query receives the mean of v; q and k are projected only for the parameter count of softmax."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:  # noqa: ARG002
        if keep is None:
            return upcast(v).mean(-2, keepdim=True).expand_as(v)
        total = torch.where(keep[:, None, :, None], upcast(v), 0).sum(-2, keepdim=True)
        return (total / keep.sum(-1).clamp(min=1)[:, None, None, None]).expand_as(v)

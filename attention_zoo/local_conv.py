"""The depthwise convolution alone: what the local branch of FLatten and PolaFormer does without any attention.

Miralles-González et al. 2025 (https://arxiv.org/abs/2501.14850) show how far short-range mixing goes on the Arena.
Letters: N tokens, D width, K head width.
"""

import torch
from torch import Tensor

from attention_zoo import Dims, QKVAttention, register


@register(
    "local_conv",
    title="Convolution (control)",
    paper="https://arxiv.org/abs/2501.14850",
    cost="O(N)",
    family="control",
    state="the tokens under the convolution's taps",
    blind="tokens beyond the taps, nor the input when it weighs them",
    ordered=True,
)
class LocalConvAttention(QKVAttention):
    """y = out(local(v)); q and k are projected only for the parameter count of softmax, and then ignored.

    conv: taps of the convolution, one kernel per channel of a head, shared by the heads: K (conv + 1) parameters,
    K (conv^2 + 1) on a grid. It costs N conv D multiply-adds, N conv^2 D on a grid. Raises ValueError for no taps or an
    even number.
    """

    def __init__(self, dims: Dims, *, conv: int = 5):
        super().__init__(dims, conv=conv)
        if not conv:
            raise ValueError("conv=0: nothing would be left; `identity` is the control without mixing")

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return torch.zeros_like(v)

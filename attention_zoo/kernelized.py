"""Attention by a Gaussian kernel, without a normaliser (Skyformer; Chen et al. 2021, https://arxiv.org/abs/2111.00035).

Kernelized attention of the paper, after SoftmaxAttention_RBF in the authors' src/models/attention.py. Its Nyström
approximation is `skyformer`.
Letters: B batch, N tokens, D width, H heads, K head width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_zoo import QKVAttention, register
from attention_zoo._gaussian import gaussian
from attention_zoo._parts import upcast


@register(
    "kernelized",
    title="Kernelized",
    paper="https://arxiv.org/abs/2111.00035",
    cost="O(N^2)",
    family="softmax",
    state="every key and value, 2 N D numbers",
    blind="the order of tokens",
)
class KernelizedAttention(QKVAttention):
    """y_i = sum_j exp(-|q_i - k_j|^2 / (2 sqrt K)) v_j, over the real tokens.

    As softmax's numerator is exp(q_i k_j / sqrt K), this is softmax attention with exp(-|q_i|^2 / (2 sqrt K)) and the
    same of k_j in place of the normaliser; so y grows with the number of tokens near q_i. Its only option is `conv`,
    and its parameters are those of softmax. Mixing costs 2 N^2 D multiply-adds. The N x N weights are kept for the
    backward pass, since PyTorch's fused kernels normalise, so that memory grows with N^2, too.
    """

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            weights = gaussian(upcast(q), upcast(k), keep)
            weights = F.dropout(weights, self.dims.dropout, self.training)
            return weights @ upcast(v)

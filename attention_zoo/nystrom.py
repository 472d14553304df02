"""Nyström approximation of softmax attention (Nyströmformer; Xiong et al. 2021, https://arxiv.org/abs/2102.03902).

After the authors' LRA/code/attention_nystrom.py. Landmarks are means over segments of the real tokens. The authors
require that the number of landmarks divides that of the tokens; where it does not, neighbouring segments share a token
here, and a sequence of fewer tokens than landmarks has some landmarks twice, so that the result is not exactly softmax
attention. The authors start the pseudo-inverse from a maximum over the whole batch, so that a prediction depends on the
other sequences of the batch; here every matrix has its own, as in the paper.
Letters: B batch, H heads, N tokens, K head width, A landmarks; a, b: the landmarks of q and of k.
"""

import torch
from torch import Tensor, nn

from attention_zoo import Dims, QKVAttention, register, softmax_attention
from attention_zoo._convolution import convolve
from attention_zoo._parts import upcast
from attention_zoo._pooling import pooling_bins


@register(
    "nystrom",
    title="Nyströmformer",
    paper="https://arxiv.org/abs/2102.03902",
    cost="O(N)",
    family="low_rank",
    state="`landmarks` keys per head, each with K numbers",
    blind="the order of tokens within a landmark's segment, beyond the convolution's taps",
    departs={"conv=0": "no convolution of v"},
)
class NystromAttention(QKVAttention):
    """softmax(q b^T / sqrt K) pinv(softmax(a b^T / sqrt K)) softmax(a k^T / sqrt K) v, a and b the means of q and k.

    landmarks: number of segments, at most the longest length, where the result is close to softmax attention. conv:
    taps of the authors' convolution of v, one kernel per head along the sequence (heads times conv parameters,
    PyTorch's default start); 0 leaves it out, as Skyformer's suite does. iterations: of the pseudo-inverse. Mixing
    costs 6 N landmarks D multiply-adds, 2 of them for the means, and, per head, 4 iterations landmarks^3. Raises
    ValueError for landmarks below 1, negative iterations, or an even or negative number of taps.
    """

    def __init__(self, dims: Dims, *, landmarks: int = 64, conv: int = 35, iterations: int = 6):
        super().__init__(dims)
        if landmarks < 1 or iterations < 0:
            raise ValueError(f"landmarks={landmarks}, iterations={iterations}: must be at least 1 and 0")
        self.landmarks, self.iterations = min(landmarks, dims.length), iterations
        self.local = HeadConv(dims, taps=conv) if conv else None

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            q, k, v = upcast(q), upcast(k), upcast(v)
            bins, _ = pooling_bins(self.landmarks, q.shape[2], None, keep, q.device)
            means = bins.unsqueeze(1).to(q.dtype) / bins.sum(-1).clamp(min=1)[:, None, :, None]
            a, b = means @ q, means @ k
            core = (a @ b.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
            summary = pseudo_inverse(core, self.iterations) @ softmax_attention(a, k, v, keep)
            return softmax_attention(q, b, summary)


def pseudo_inverse(matrix: Tensor, iterations: int) -> Tensor:
    """The Moore-Penrose inverse of matrices (..., A, A), by Razavi et al.'s iteration (2014).

    It converges for matrices whose rows sum to 1, and for symmetric ones of spectral radius 1, such as Skyformer's.
    """
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    guess = matrix.transpose(-2, -1) / matrix.sum(-2).amax(-1)[..., None, None]
    for _ in range(iterations):
        product = matrix @ guess
        inner = 15 * identity - product @ (7 * identity - product)
        guess = 0.25 * guess @ (13 * identity - product @ inner)
    return guess


class HeadConv(nn.Module):
    """Convolution of v along the sequence, zero padded, one kernel per head; without a bias."""

    def __init__(self, dims: Dims, *, taps: int):
        super().__init__()
        if taps < 1 or taps % 2 == 0:
            raise ValueError(f"conv={taps}: the number of taps must be odd")
        self.conv = nn.Conv2d(dims.heads, dims.heads, (taps, 1), padding=(taps // 2, 0), groups=dims.heads, bias=False)

    def forward(self, v: Tensor, keep: Tensor | None = None) -> Tensor:
        """v (B, H, N, K), keep (B, N) -> (B, H, N, K); padding counts as zeros."""
        return convolve(self.conv, v if keep is None else torch.where(keep[:, None, :, None], v, 0))

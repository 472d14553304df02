"""The baseline of the yardstick: the same models in plain code, eager, in float32, padded to the full length.

Every mechanism keeps its authors' order of operations: explicit N x N weights in softmax (Skyformer's framework,
without its gradient checkpointing), einsum over a state and a normaliser in elu (Katharopoulos et al. 2020),
concatenated polarities and two factors N^-0.5 in pola (Meng et al. 2025), explicit weights to and from the agents in
agent (Han et al. 2023), to the projected keys in linformer (Wang et al. 2020), and einsum over features whose largest
exponent is taken out in performer (Choromanski et al. 2021). The whole batch is one tensor; PyTorch's own dropout,
clipping and AdamW follow. Parameters have the names of our model's, so that both can be given the same weights and
compared.

Letters: B batch, N tokens, D width, H heads, K head width, A agents.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.config.schema import Config, Model, Train

NEGATIVE = -1e6  # Skyformer's weight of a padded key before the softmax
EPS = 1e-6


def fits(config: Config) -> bool:
    """Can the baseline, which has the form of the published small models, compute this configuration?"""
    model, train = config.model, config.train
    keys = {key: getattr(model, key, default) for key, default in (("norm", "pre"), ("parallel", False))}  # of `flat`
    form = (model.backbone, model.pool, model.positions, model.grid, train.clip, *keys.values())
    return form == ("flat", "mean", "learned", False, "norm", "pre", False)


class Attention(nn.Module):
    """x (B, N, D), keep (B, N) float -> (B, N, D); `mix` is the mechanism, on q, k, v (B, H, N, K)."""

    def __init__(self, model: Model, mix: Callable[..., Tensor], conv: int = 0, shared: bool = True):
        super().__init__()
        self.heads, self.mix, self.shared = model.heads, mix, shared
        self.qkv = nn.Linear(model.dim, 3 * model.dim)
        self.out = nn.Linear(model.dim, model.dim)
        channels = model.dim // model.heads if shared else model.dim
        self.local = nn.ModuleDict()
        if conv:
            self.local["conv"] = nn.Conv1d(channels, channels, conv, padding=conv // 2, groups=channels)

    def split(self, t: Tensor) -> Tensor:
        return t.reshape(*t.shape[:2], self.heads, -1).permute(0, 2, 1, 3)

    def merge(self, t: Tensor) -> Tensor:
        return t.permute(0, 2, 1, 3).reshape(t.shape[0], t.shape[2], -1)

    def convolve(self, v: Tensor, keep: Tensor) -> Tensor:
        """v (B, N, D) -> (B, N, D): depthwise over the sequence, one kernel per channel of a head or of the width."""
        image = (v * keep[..., None]).transpose(1, 2)
        if self.shared:
            image = image.reshape(-1, image.shape[1] // self.heads, image.shape[2])
        return self.local["conv"](image).reshape(v.shape[0], -1, v.shape[1]).transpose(1, 2)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        y = self.merge(self.mix(self.split(q), self.split(k), self.split(v), keep))
        if self.local:
            y = y + self.convolve(v, keep)
        return self.out(y)


class PolaAttention(Attention):
    """Scaled q and k, polarities raised to a learned power, two flows, the convolution, the gate."""

    def __init__(self, model: Model, alpha: float = 3.0):
        super().__init__(model, self.flows, conv=5)
        self.alpha = alpha
        self.gate = nn.Linear(model.dim, model.dim)
        self.scale = nn.Parameter(torch.zeros(model.dim))
        self.power = nn.Parameter(torch.zeros(model.heads, 1, model.dim // model.heads))

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        g = self.gate(x)
        scale = F.softplus(self.scale)
        y = self.merge(self.flows(self.split(q / scale), self.split(k / scale), self.split(v), keep))
        return self.out((y + self.convolve(v, keep)) * g)

    def flows(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        power = 1 + self.alpha * torch.sigmoid(self.power)
        q_plus, q_minus = torch.relu(q) ** power, torch.relu(-q) ** power
        k_plus, k_minus = torch.relu(k) ** power, torch.relu(-k) ** power
        same, opposite = torch.cat((q_plus, q_minus), dim=-1), torch.cat((q_minus, q_plus), dim=-1)
        keys = torch.cat((k_plus, k_minus), dim=-1) * keep[:, None, :, None]
        v_same, v_opposite = v.chunk(2, dim=-1)
        return torch.cat((averaged(same, keys, v_same, keep), averaged(opposite, keys, v_opposite, keep)), dim=-1)


def averaged(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    """Linear attention normalised by the mean of the keys, with 1/N split over k and v."""
    count = keep.sum(-1)[:, None, None, None]
    normaliser = 1 / (q @ (k.sum(-2, keepdim=True) / count).transpose(-2, -1) + EPS)
    state = (k.transpose(-2, -1) * count**-0.5) @ (v * count**-0.5)
    return q @ state * normaliser


def softmax(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    weights = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + NEGATIVE * (1 - keep[:, None, None, :])
    return torch.softmax(weights, dim=-1) @ v


def elu(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    q, k = F.elu(q) + 1, (F.elu(k) + 1) * keep[:, None, :, None]
    state = torch.einsum("bhnf,bhnk->bhfk", k, v)
    normaliser = 1 / (torch.einsum("bhnf,bhf->bhn", q, k.sum(2)) + EPS)
    return torch.einsum("bhnf,bhfk,bhn->bhnk", q, state, normaliser)


def agent(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, agents: int = 49) -> Tensor:
    """Agents are means of q over equal stretches of the real tokens; uneven stretches overlap."""
    real, rank = keep.sum(-1)[:, None, None], (keep.cumsum(-1) - 1)[:, None, :]
    i = torch.arange(agents, device=q.device)[None, :, None]
    bins = ((rank >= (i * real / agents).floor()) & (rank < ((i + 1) * real / agents).ceil())) * keep[:, None, :]
    pooled = (bins[:, None] @ q) / bins.sum(-1).clamp(min=1)[:, None, :, None]
    scale = q.shape[-1] ** -0.5
    to_agents = torch.softmax((pooled * scale) @ k.transpose(-2, -1) + NEGATIVE * (1 - keep[:, None, None, :]), dim=-1)
    to_queries = torch.softmax((q * scale) @ pooled.transpose(-2, -1), dim=-1)
    return to_queries @ (to_agents @ v)


class LinformerAttention(Attention):
    """Keys and values projected along the sequence, by one matrix for both and for all heads."""

    def __init__(self, model: Model, length: int, rank: int = 128):
        super().__init__(model, self.attend)
        self.keys = nn.Parameter(nn.init.xavier_uniform_(torch.empty(rank, length), gain=1 / math.sqrt(2)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        k, v = (torch.einsum("rn,bhnk->bhrk", self.keys[:, : t.shape[2]], t * keep[:, None, :, None]) for t in (k, v))
        return torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), dim=-1) @ v


class PerformerAttention(Attention):
    """Positive random features of q and k, whose product is the softmax kernel in expectation."""

    directions: Tensor

    def __init__(self, model: Model, features: int = 128):
        super().__init__(model, self.attend)
        self.register_buffer("directions", torch.randn(features, model.dim // model.heads))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        real = keep[:, None, :, None]
        q, k = self.exponents(q), self.exponents(k)
        k_top = (k + NEGATIVE * (1 - real)).amax((-2, -1), keepdim=True)
        ratio = len(self.directions) ** -0.5
        q = ratio * (torch.exp(q - q.amax(-1, keepdim=True)) + EPS)
        k = ratio * (torch.exp((k - k_top).clamp(max=0)) + EPS) * real
        state = torch.einsum("bhnf,bhnk->bhfk", k, v)
        normaliser = torch.einsum("bhnf,bhf->bhn", q, k.sum(2))
        return torch.einsum("bhnf,bhfk->bhnk", q, state) / normaliser[..., None]

    def exponents(self, t: Tensor) -> Tensor:
        t = t * t.shape[-1] ** -0.25
        return torch.einsum("bhnk,fk->bhnf", t, self.directions) - t.square().sum(-1, keepdim=True) / 2


def identity(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:  # noqa: ARG001
    return v


MAKERS: dict[str, Callable[[Model, int], Attention]] = {  # of a model's sizes and the longest sequence
    "softmax": lambda model, _: Attention(model, softmax),
    "elu": lambda model, _: Attention(model, elu),
    "pola": lambda model, _: PolaAttention(model),
    "agent": lambda model, _: Attention(model, agent, conv=3, shared=False),
    "linformer": LinformerAttention,
    "performer": lambda model, _: PerformerAttention(model),
    "identity": lambda model, _: Attention(model, identity),
}


class Block(nn.Module):
    def __init__(self, model: Model, attention: Attention):
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(model.dim), attention
        self.dropout, self.mlp_norm = nn.Dropout(model.dropout), nn.LayerNorm(model.dim)
        self.mlp = nn.Sequential(
            nn.Linear(model.dim, model.mlp), nn.GELU(), nn.Dropout(model.dropout),
            nn.Linear(model.mlp, model.dim), nn.Dropout(model.dropout),
        )  # fmt: skip

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), keep))
        return x + self.mlp(self.mlp_norm(x))


class Encoder(nn.Module):
    """ids (B, N), keep (B, N) float -> logits (B, classes); mean over real tokens, learned positions."""

    def __init__(self, name: str, model: Model, vocab: int, classes: int, length: int):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, model.dim), nn.Embedding(length, model.dim)
        self.dropout = nn.Dropout(model.dropout)
        self.blocks = nn.ModuleList(Block(model, MAKERS[name](model, length)) for _ in range(model.layers))
        self.norm = nn.LayerNorm(model.dim)
        self.head = nn.Sequential(nn.Linear(model.dim, model.head), nn.ReLU(), nn.Linear(model.head, classes))

    def forward(self, ids: Tensor, keep: Tensor) -> Tensor:
        x = self.dropout(self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device)))
        for block in self.blocks:
            x = block(x, keep)
        x = self.norm(x) * keep[..., None]
        return self.head(x.sum(1) / keep.sum(1, keepdim=True))


class BaselineStep:
    """Forward, backward, clipping by norm and AdamW on the whole batch. Raises RuntimeError when memory runs out."""

    def __init__(self, model: Encoder, config: Train):
        self.model, self.config = model.train(), config
        betas = (config.beta1, config.beta2)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.lr, betas=betas, eps=config.eps, weight_decay=config.weight_decay
        )

    def __call__(self, ids: Tensor, keep: Tensor, labels: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(ids, keep), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_at)
        self.optimizer.step()
        return loss.detach()

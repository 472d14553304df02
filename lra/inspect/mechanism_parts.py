"""Parts that only some mechanisms have, found by the names of their parameters: gate, power, scale, agents.

Letters: N tokens, D width, H heads, K head width, A agents, M real tokens.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_zoo.mlla import MLLAAttention
from lra.inspect.calls import Call
from lra.inspect.numbers import row_entropy
from lra.inspect.powers import signed

AGREES = 1e-6  # largest difference at which the product of two maps counts as the mechanism's matrix


@torch.no_grad()
def gate(call: Call) -> Tensor | None:
    """The values of a gate (`gate`, a projection of the input to D) at real tokens: (M, D), or None without a gate.

    The output is multiplied by these: they are taken after the sigmoid, if the module has `squash`, or MLLA's SiLU.
    """
    layer = getattr(call.module, "gate", None)
    if not isinstance(layer, nn.Linear) or layer.out_features != call.v.shape[1] * call.v.shape[3]:
        return None
    values = layer(call.x)[call.real]
    if isinstance(call.module, MLLAAttention):
        return F.silu(values)
    return values.sigmoid() if getattr(call.module, "squash", False) else values


@dataclass(frozen=True)
class Gate:
    """The gate of one layer over the tokens of all samples, with channels sorted by the flow that they multiply.

    values: (M, channels) of each flow. correlation (C, C): Pearson's over tokens, flow after flow.
    """

    layer: str
    values: list[Tensor]
    correlation: Tensor

    def numbers(self) -> dict[str, float]:
        """Mean, standard deviation and negative share of each flow's values, and means of correlations.

        These are between different channels of each flow, and between those of the first two, with the negative share.
        """
        sizes = [v.shape[1] for v in self.values]
        blocks = [part.split(sizes, dim=1) for part in self.correlation.split(sizes)]
        numbers: dict[str, float] = {}
        for i, value in enumerate(self.values):
            numbers |= {f"mean_{i}": float(value.mean()), f"std_{i}": float(value.std())}
            numbers[f"negative_values_{i}"] = float((value < 0).double().mean())
            block = blocks[i][i]
            different = ~torch.eye(len(block), dtype=torch.bool)
            numbers[f"correlation_within_{i}"] = float(block[different].mean()) if len(block) > 1 else 1.0
        if len(sizes) > 1:
            numbers["correlation_between"] = float(blocks[0][1].mean())
            numbers["correlation_between_negative"] = float((blocks[0][1] < 0).double().mean())
        return numbers


def compare_gate(layer: str, values: Tensor, heads: int, flows: list[list[int]]) -> Gate:
    """The gate of a layer, from its values (M, D) and the channels of a head that belong to each flow."""
    by_head = values.unflatten(-1, (heads, -1))
    parts = [by_head[..., flow].flatten(1) for flow in flows]
    together = torch.cat(parts, dim=1)
    centred = together - together.mean(0)
    unit = centred / centred.norm(dim=0).clamp(min=1e-300)
    return Gate(layer, parts, unit.T @ unit)


def learned(module: nn.Module) -> dict[str, Tensor]:
    """Learned numbers (H, K): 'power' = 1 + alpha * sigmoid(power), 'scale' = softplus(scale); not of other sizes."""
    tables: dict[str, Tensor] = {}
    dims = getattr(module, "dims", None)
    if dims is None:
        return tables
    heads = int(dims.heads)
    power, scale, alpha = (getattr(module, name, None) for name in ("power", "scale", "alpha"))
    if isinstance(power, nn.Parameter) and power.numel() == dims.dim and isinstance(alpha, int | float):
        tables["power"] = (1 + alpha * power.detach().sigmoid()).reshape(heads, -1)
    if isinstance(scale, nn.Parameter) and scale.numel() == dims.dim:
        tables["scale"] = F.softplus(scale.detach()).reshape(heads, -1)
    return tables


@torch.no_grad()
def focusing(call: Call) -> dict[str, Tensor] | None:
    """Entropy over the channels of each query and key (M,), as a fraction of log D, before and after the features.

    None for a mechanism without non-negative features, whose `attend` receives numbers of both signs.
    """
    features = [t[0].transpose(0, 1)[call.real].flatten(1) for t in (call.q, call.k)]
    if any(bool((t < 0).any()) for t in features) or not hasattr(call.module, "qkv"):
        return None
    entropies: dict[str, Tensor] = {}
    for name, before, after in zip(("q", "k"), signed(call), features, strict=True):
        stages = {"before": before.flatten(1).clamp(min=0) + 1e-12, "after": after}
        entropies |= {f"{name} {stage}": row_entropy(t**2) / math.log(t.shape[1]) for stage, t in stages.items()}
    return entropies


@torch.no_grad()
def two_maps(call: Call, matrix: Tensor, rows: Tensor) -> tuple[Tensor, Tensor] | None:
    """How agents gather from tokens, (H, A, M), and tokens read agents, (H, M, A), where `agents` are pooled from q.

    matrix (H, R, N): the probed matrix of these rows (R,). None unless the product of the two maps is that matrix.
    """
    count, module = getattr(call.module, "agents", None), call.module
    if not isinstance(count, int) or matrix.shape[-1] != call.q.shape[2]:
        return None
    real = call.real
    q, k = call.q[0][:, real], call.k[0][:, real]
    grid = getattr(getattr(module, "dims", None), "grid", None)
    if grid is None:
        agents = F.adaptive_avg_pool1d(q.transpose(1, 2), count).transpose(1, 2)
    elif len(real) == grid[0] * grid[1]:
        agents = F.adaptive_avg_pool2d(q.transpose(1, 2).unflatten(-1, grid), math.isqrt(count)).flatten(2)
        agents = agents.transpose(1, 2)
    else:
        return None
    scale = math.sqrt(q.shape[-1])
    gather, read = agents @ k.transpose(1, 2) / scale, q @ agents.transpose(1, 2) / scale
    bias = getattr(module, "bias", None)
    if isinstance(bias, nn.Module):
        to_agents, to_queries = bias(call.q.shape[2])
        gather, read = gather + to_agents[..., real], read + to_queries[:, real]
    gather, read = gather.softmax(-1), read.softmax(-1)
    place = torch.full((call.q.shape[2],), -1)
    place[real] = torch.arange(len(real))
    difference = (read[:, place[rows]] @ gather - matrix[..., real]).abs().max()
    return (gather, read) if difference <= AGREES else None

"""Slow twins of the mechanisms, a file each: double loops over queries and keys, written from the published formulas.

A twin reads the parameters of a module by name and shares no code with it. A `fault` makes it compute with one
deliberate error, to show that a test would see that error. `tests/test_naive.py` compares mechanisms with their twins;
`tests/test_golden.py` compares the losses of untrained models.

Where a twin's formula has no `out`, `finish` adds the convolution of v, the gate and `out` to it. Sums over j are over
the real tokens. Letters: B batch, N tokens, R real tokens, D width, H heads, K head width, F features, A agents,
V channels of a value, L the longest length.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product as pairs_of
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import attention_zoo
from attention_zoo import Attention, Dims

UNMASKED = ("no mask", "mask before the map", "mask v instead of k")
Weight = Callable[[int, int], Tensor]


@dataclass(frozen=True, kw_only=True)
class Twin:
    """What a mechanism is compared with.

    mix: (row, head) -> (R, K), between the projection to q, k, v and `finish`; or whole: row -> (R, D), all of it.
    loss: of the untrained quick model, see `test_golden`. specs, grids: specs to compare on sequences and on grids.
    faults: (spec, setting) -> deliberate errors that must be seen. inputs: specs to compare on unusual inputs.
    tiny: factor on the weights of q and k at which eps counts. further: setting -> specs to compare in this setting,
    too, such as a later layer. common_convolution: False if `mix` has its own convolution in place of `convolve`.
    parameters: spec -> parameters beyond those of softmax attention, at D = 64, H = 2, K = 32, length 128;
    grid_parameters: the same on a grid of 8 x 16. impossible: specs that must be refused. limit: a spec that is softmax
    attention on 16 tokens, and the tolerance; prepare_limit: changes the module first. overflows: why inputs of 1,000
    give no finite outputs, or "" if they give finite ones.
    """

    loss: float
    specs: Sequence[str]
    mix: Callable[["Row", int], Tensor] | None = None
    whole: Callable[["Row"], Tensor] | None = None
    grids: Sequence[str] = ()
    faults: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    inputs: Sequence[str] = ()
    tiny: float = 0.0
    further: Mapping[str, Sequence[str]] = field(default_factory=dict)
    common_convolution: bool = True
    parameters: Mapping[str, int] = field(default_factory=dict)
    grid_parameters: Mapping[str, int] = field(default_factory=dict)
    impossible: Sequence[str] = ()
    limit: tuple[str, float] | None = None
    prepare_limit: Callable[[Attention], None] | None = None
    overflows: str = ""


def names() -> list[str]:
    """The mechanisms that have a twin, which are the files of this folder."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")


def load(name: str) -> Twin:
    return importlib.import_module(f"naive.{name}").TWIN


@dataclass(frozen=True)
class Row:
    """One sequence of a batch, and what its twin needs: x, q, k, v (N, D), the indices of the R real tokens in order.

    parameters: the module's parameters and buffers by name. options: all options, defaults included. fault: a
    deliberate error, or "".
    """

    x: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    real: list[int]
    parameters: Mapping[str, Tensor]
    options: Mapping[str, Any]
    dims: Dims
    fault: str

    @property
    def keys(self) -> list[int]:
        """The tokens that a query sees: the real ones, or all under a fault that does not mask the weights."""
        return list(range(len(self.x))) if self.fault in UNMASKED else self.real

    def head(self, t: Tensor, h: int) -> Tensor:
        """t (N, D) -> the channels of head h (N, K): channel c belongs to head c // K."""
        if self.fault == "heads interleaved":
            return t[:, h :: self.dims.heads]
        width = self.dims.dim // self.dims.heads
        return t[:, h * width : (h + 1) * width]


def twin(
    name: str, options: Mapping[str, Any], module: Attention, x: Tensor, keep: Tensor | None = None, fault: str = ""
) -> Tensor:
    """x (B, N, D), keep (B, N) or None -> what the mechanism must return, (B, N, D), here zero at padding."""
    reference, y, dims = load(name), torch.zeros_like(x), module.dims
    options = attention_zoo.find(name)[0].all_options(dict(options))
    parameters = dict(module.named_parameters()) | dict(module.named_buffers())
    for b in range(len(x)):
        real = [i for i in range(x.shape[1]) if keep is None or keep[b, i]]
        if reference.whole is not None:
            y[b, real] = reference.whole(Row(x[b], x[b], x[b], x[b], real, parameters, options, dims, fault))
            continue
        assert reference.mix is not None
        q, k, v = project(parameters, "qkv", x[b]).split(dims.dim, dim=1)
        v = clear(v, real) if fault == "mask v instead of k" else v
        row = Row(x[b], q, k, v, real, parameters, options, dims, fault)
        mix = torch.cat([reference.mix(row, h) for h in range(dims.heads)], dim=1)
        y[b, real] = finish(row, mix, convolved=reference.common_convolution)
    return y


def clear(t: Tensor, real: list[int]) -> Tensor:
    """t (N, D) with zeros at padding."""
    return torch.stack([t[i] if i in real else 0 * t[i] for i in range(len(t))])


def project(parameters: Mapping[str, Tensor], name: str, t: Tensor) -> Tensor:
    return t @ parameters[f"{name}.weight"].T + parameters[f"{name}.bias"]


def finish(row: Row, mix: Tensor, *, convolved: bool) -> Tensor:
    """mix (R, D) -> out((mix + convolution of v) * gate) (R, D), as far as the mechanism has them."""
    local = convolve(row) if convolved and row.options.get("conv") else torch.zeros_like(mix)
    gated = "gate.weight" in row.parameters
    gate = project(row.parameters, "gate", row.x[row.real]) if gated else torch.ones_like(mix)
    gate = torch.sigmoid(gate) if row.fault == "sigmoid gate" or row.options.get("gate") == "sigmoid" else gate
    y = mix * gate + local if row.fault == "gate on the mix only" else (mix + local) * gate
    return project(row.parameters, "out", y)


def convolve(row: Row) -> Tensor:
    """Depthwise convolution of v (R, D), over the sequence or both axes of the grid; zeros outside and at padding."""
    kernel, bias, v = row.parameters["local.conv.weight"], row.parameters["local.conv.bias"], row.v
    kernel = kernel.reshape(len(kernel), -1, kernel.shape[-1])
    sharing = row.dims.dim // len(kernel)
    kernel, bias = kernel.repeat(sharing, 1, 1), bias.repeat(sharing)
    kernel = kernel.flip(-1) if row.fault == "kernel reversed" else kernel
    seen = range(len(v)) if row.fault == "convolution sees padding" else row.real
    height, width = row.dims.grid or (1, len(v))
    y = [bias for _ in row.real]
    for n, i in enumerate(row.real):
        for a, b in pairs_of(range(kernel.shape[1]), range(kernel.shape[2])):
            r, c = i // width + a - kernel.shape[1] // 2, i % width + b - kernel.shape[2] // 2
            if 0 <= r < height and 0 <= c < width and r * width + c in seen:
                y[n] = y[n] + kernel[:, a, b] * v[r * width + c]
    return torch.stack(y)


def average(queries: Sequence[int], keys: Sequence[int], weight: Weight, values: Tensor, eps: float = 0.0) -> Tensor:
    """weight(i, j) of query i and key j, values (N, V) -> sum_j w_ij v_j / (sum_j w_ij + eps) for each query (R, V)."""
    y = []
    for i in queries:
        numerator, denominator = torch.zeros_like(values[0]), torch.zeros_like(values[0, 0])
        for j in keys:
            w = weight(i, j)
            numerator, denominator = numerator + w * values[j], denominator + w
        y.append(numerator / (denominator + eps))
    return torch.stack(y)


def epsilon(row: Row, *, mean: bool) -> float:
    """The eps added to a sum over keys: 1e-6, or 1e-6 R where the mechanism adds 1e-6 to the mean over keys."""
    count = len(row.x) if row.fault == "eps of the padded length" else len(row.real)
    return 1e-6 * count if mean != (row.fault == "eps of the other form") else 1e-6


def linear(row: Row, h: int, q: Tensor, k: Tensor, *, mean: bool) -> Tensor:
    """Features q, k (N, D) -> linear attention of head h (R, K), with w_ij = q_i . k_j."""
    q, k = row.head(q, h), row.head(k, h)
    return average(row.real, row.keys, lambda i, j: torch.dot(q[i], k[j]), row.head(row.v, h), epsilon(row, mean=mean))


def softplus(t: Tensor) -> Tensor:
    return torch.log(1 + torch.exp(t))


def positioned(row: Row) -> tuple[Tensor, Tensor]:
    """q and k (N, D), with the learned table of positions added to k if there is one (`key_positions`)."""
    if "positions" not in row.parameters or row.fault == "no positions":
        return row.q, row.k
    table = row.parameters["positions"][: len(row.x)]
    table = table * softplus(row.parameters["scale"]) if row.fault == "positions after the scale" else table
    return row.q + table if row.fault == "positions on q" else row.q, row.k + table


def heads(row: Row, h: int) -> tuple[Tensor, Tensor, Tensor]:
    return row.head(row.q, h), row.head(row.k, h), row.head(row.v, h)


def product(q: Tensor, k: Tensor) -> Callable[[int, int], Tensor]:
    return lambda i, j: torch.exp(torch.dot(q[i], k[j]) / sqrt(q.shape[1]))


def softmax_over(row: Row, h: int, sees: Callable[[int, int], bool], bias: Callable[[int, int], Tensor] | None = None):
    """Softmax attention (R, K) of each real token over the keys it sees; bias(i, j) is added to the logits."""
    q, k, v = heads(row, h)

    def weight(i: int, j: int) -> Tensor:
        score = torch.dot(q[i], k[j]) / sqrt(q.shape[1]) + (bias(i, j) if bias else 0)
        return torch.exp(score) * float(sees(i, j))

    return average(row.real, row.keys, weight, v)

"""Slow twins of the further mechanisms, as in `naive`: loops written from the published formulas.

Letters: B batch, N tokens, R real tokens, D width, H heads, K head width, F features, L the longest length.
"""

from collections.abc import Callable, Mapping
from math import cos, pi, sin, sqrt

import torch
from naive import Row, average, clear, finish, project
from torch import Tensor

from attention_zoo import Attention

DEFAULTS: dict[str, dict[str, float | str]] = {
    "local": {"block": 50},
    "swin": {"window": 8, "bias": True},
    "longformer": {"window": 128, "tokens": 1},
    "linformer": {"rank": 128, "share": True},
    "performer": {"features": 128, "kernel": "softmax"},
    "nystrom": {"landmarks": 64, "conv": 35, "iterations": 6},
    "polapp": {"conv": 5, "rotary": True},
    "local_conv": {"conv": 5},
    "pvt": {"reduction": 4},
    "fnet": {"orthonormal": True},
    "s4d": {"state": 64},
}


def twin(
    name: str, options: Mapping[str, float], module: Attention, x: Tensor, keep: Tensor | None = None, fault: str = ""
) -> Tensor:
    """x (B, N, D), keep (B, N) or None -> (B, N, D), zero at padding."""
    chosen = {**DEFAULTS.get(name, {}), **options}
    if name == "nystrom":
        chosen |= {"taps": chosen["conv"], "conv": 0}  # its convolution is not the common one
    y, dims = torch.zeros_like(x), module.dims
    parameters = dict(module.named_parameters()) | dict(module.named_buffers())
    for b in range(len(x)):
        real = [i for i in range(x.shape[1]) if keep is None or keep[b, i]]
        if name in WHOLE:
            row = Row(x[b], x[b], x[b], x[b], real, parameters, chosen, dims, fault)  # pyright: ignore[reportArgumentType]
            y[b, real] = WHOLE[name](row)
            continue
        q, k, v = project(parameters, "qkv", x[b]).split(dims.dim, dim=1)
        v = clear(v, real) if fault == "mask v instead of k" else v
        row = Row(x[b], q, k, v, real, parameters, chosen, dims, fault)  # pyright: ignore[reportArgumentType]
        y[b, real] = finish(row, torch.cat([MIXES[name](row, h) for h in range(dims.heads)], dim=1))
    return y


def heads(row: Row, h: int) -> tuple[Tensor, Tensor, Tensor]:
    return row.head(row.q, h), row.head(row.k, h), row.head(row.v, h)


def product(q: Tensor, k: Tensor) -> Callable[[int, int], Tensor]:
    return lambda i, j: torch.exp(torch.dot(q[i], k[j]) / sqrt(q.shape[1]))


def softmax_over(row: Row, h: int, sees: Callable[[int, int], bool], bias: Callable[[int, int], Tensor] | None = None):
    """Softmax attention of each real token over the keys it sees."""
    q, k, v = heads(row, h)

    def weight(i: int, j: int) -> Tensor:
        score = torch.dot(q[i], k[j]) / sqrt(q.shape[1]) + (bias(i, j) if bias else 0)
        return torch.exp(score) * float(sees(i, j))

    return average(row.real, row.keys, weight, v)


def local(row: Row, h: int) -> Tensor:
    block = int(row.options["block"]) + (row.fault == "longer blocks")
    return softmax_over(row, h, lambda i, j: i // block == j // block)


def swin(row: Row, h: int) -> Tensor:
    window, grid = int(row.options["window"]), row.dims.grid
    side = window if grid else window**2
    shift = side // 2 if row.dims.layer % 2 and side < max(grid or (row.dims.length,)) else 0
    shift = 0 if row.fault == "never shifted" else shift
    reach = 2 * side - 1

    def place(i: int) -> tuple[int, ...]:
        return divmod(i, grid[1]) if grid else (i,)

    def sees(i: int, j: int) -> bool:
        return [(p - shift) // side for p in place(i)] == [(p - shift) // side for p in place(j)]

    def bias(i: int, j: int) -> Tensor:
        entry = 0
        for a, b in zip(place(i), place(j), strict=True):
            a, b = (b, a) if row.fault == "distance reversed" else (a, b)
            entry = entry * reach + min(max(a - b, 1 - side), side - 1) + side - 1
        return row.parameters["bias.table"][h, entry]

    return softmax_over(row, h, sees, bias if row.options["bias"] else None)


def longformer(row: Row, h: int) -> Tensor:
    reach, tokens = int(row.options["window"]) // 2, int(row.options["tokens"])
    reach -= row.fault == "narrow window"
    blind = row.fault == "global tokens unseen"
    y = softmax_over(row, h, lambda i, j: abs(i - j) <= reach or (j < tokens and not blind))
    if tokens and row.fault != "one projection":
        width = row.dims.dim
        q, k, v = (row.head(t, h) for t in project(row.parameters, "global_qkv", row.x).split(width, dim=1))
        first = [i for i in row.real if i < tokens]
        if first:
            y = torch.cat((average(first, row.keys, product(q, k), v), y[len(first) :]))
    return y


def linformer(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    e = row.parameters["keys"]
    f = row.parameters.get("values", e)
    keys = torch.stack([sum((e[r, j] * k[j] for j in row.keys), torch.zeros_like(k[0])) for r in range(len(e))])
    values = torch.stack([sum((f[r, j] * v[j] for j in row.keys), torch.zeros_like(v[0])) for r in range(len(e))])
    scale = 1.0 if row.fault == "no scale" else sqrt(q.shape[1])
    return average(row.real, range(len(e)), lambda i, r: torch.exp(torch.dot(q[i], keys[r]) / scale), values)


def performer(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    w, width = row.parameters["directions"], q.shape[1]
    scale = sqrt(width) if row.fault == "scaled twice" else width**0.25
    seen = {"q": q / scale @ w.T, "k": k / scale @ w.T}
    if row.options["kernel"] == "relu":
        features = {name: (t.clamp(min=0)) / sqrt(len(w)) + 1e-3 for name, t in seen.items()}
    else:
        for name, t in (("q", q), ("k", k)):
            half = (t / scale).square().sum(1, keepdim=True) / 2
            seen[name] = seen[name] - (0 if row.fault == "no length" else half)
        top = seen["k"][row.keys].max()
        features = {
            "q": (torch.exp(seen["q"] - seen["q"].max(1, keepdim=True).values) + 1e-6) / sqrt(len(w)),
            "k": (torch.exp(seen["k"] - top) + 1e-6) / sqrt(len(w)),
        }
    return average(row.real, row.keys, lambda i, j: torch.dot(features["q"][i], features["k"][j]), v)


def nystrom(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    count = min(int(row.options["landmarks"]), row.dims.length)
    seen = list(range(len(q))) if row.fault == "means over padding" else row.real
    parts = [seen[a * len(seen) // count : -(-(a + 1) * len(seen) // count)] for a in range(count)]
    a, b = (torch.stack([t[part].mean(0) for part in parts]) for t in (q, k))

    def kernel(left: Tensor, right: Tensor) -> Tensor:
        return torch.stack([torch.softmax(right @ query / sqrt(q.shape[1]), 0) for query in left])

    core, one = kernel(a, b), torch.eye(count, dtype=q.dtype)
    inverse = core.T / (core.abs().sum(1).max() * core.abs().sum(0).max())
    inverse = inverse / 2 if row.fault == "other start" else inverse
    for _ in range(int(row.options["iterations"])):
        z = core @ inverse
        inverse = inverse @ (13 * one - z @ (15 * one - z @ (7 * one - z))) / 4
    y = kernel(q[row.real], b) @ inverse @ kernel(a, k[row.keys]) @ v[row.keys]
    if not row.options["taps"]:
        return y
    taps = row.parameters["local.conv.weight"][h, 0, :, 0]
    for n, i in enumerate(row.real):
        for t in range(len(taps)):
            j = i + t - len(taps) // 2
            if j in row.real:
                y = y.index_add(0, torch.tensor([n]), taps[t] * v[j][None])
    return y


def cosformer(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    q, k = q.clamp(min=0), k.clamp(min=0)
    length = len(q) if row.fault == "padded length" else max(row.real) + 1
    turn = pi / length if row.fault == "half a turn" else pi / (2 * length)
    return average(row.real, row.keys, lambda i, j: torch.dot(q[i], k[j]) * cos(turn * (i - j)), v, 1e-6)


def taylor(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)

    def weight(i: int, j: int) -> Tensor:
        s = torch.dot(q[i], k[j]) / sqrt(q.shape[1])
        return 1 + s + s**2 / (1 if row.fault == "no half" else 2)

    return average(row.real, row.keys, weight, v)


def hedgehog(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    q = q @ row.parameters["keys" if row.fault == "one map for both" else "queries"][h]
    k = k @ row.parameters["keys"][h]

    def spread(t: Tensor) -> Tensor:
        other = t if row.fault == "no negative half" else -t
        return torch.cat((torch.softmax(t, 0), torch.softmax(other, 0)))

    return average(row.real, row.keys, lambda i, j: torch.dot(spread(q[i]), spread(k[j])), v, 1e-6)


def polapp(row: Row, h: int) -> Tensor:
    q, k, v = heads(row, h)
    plus, minus = q.clamp(min=0), (-q).clamp(min=0)
    keys = torch.exp(torch.cat((k.clamp(min=0), (-k).clamp(min=0)), 1)) - 1
    grid, half, planes = row.dims.grid, q.shape[1] // 2, q.shape[1]
    per_axis = planes // 2 if grid else planes
    speeds = [10_000.0 ** -(c / max(per_axis - 1, 1)) for c in range(per_axis)]

    def turned(f: Tensor, g: Tensor, i: int, j: int) -> Tensor:
        """f . g with f turned by the place of i and g by that of j: by their difference, plane by plane."""
        places = [(i // grid[1], j // grid[1]), (i % grid[1], j % grid[1])] if grid else [(i, j)]
        angles = [speed * (a - b) for a, b in places for speed in speeds]
        total = torch.zeros_like(f[0])
        for c, angle in enumerate(angles):
            f1, f2, g1, g2 = f[2 * c], f[2 * c + 1], g[2 * c], g[2 * c + 1]
            total = total + (f1 * g1 + f2 * g2) * cos(angle) + (f1 * g2 - f2 * g1) * sin(angle)
        return total

    names = ("opposite", "same") if row.fault == "temperatures swapped" else ("same", "opposite")
    flows = []
    for name, parts, values in zip(names, ((plus, minus), (minus, plus)), v.split(half, 1), strict=True):
        queries = torch.exp(torch.cat(parts, 1) * torch.sigmoid(row.parameters[name][h, 0])) - 1
        y = []
        for i in row.real:
            rotate = row.options["rotary"]
            top = [turned(queries[i], keys[j], i, j) if rotate else torch.dot(queries[i], keys[j]) for j in row.keys]
            below = sum(torch.dot(queries[i], keys[j]) for j in row.keys) + 1e-6 * len(row.real)
            below = sum(top) if row.fault == "normaliser turned too" else below
            y.append(sum((t * values[j] for t, j in zip(top, row.keys, strict=True)), 0 * values[0]) / below)
        flows.append(torch.stack(y))
    return torch.cat(flows, 1)


def pvt(row: Row, h: int) -> Tensor:
    reduction, grid = int(row.options["reduction"]), row.dims.grid
    if reduction == 1:
        return softmax_over(row, h, lambda _i, _j: True)
    weight, bias = row.parameters["shorten.weight"], row.parameters["shorten.bias"]
    columns = grid[1] if grid else len(row.x)
    patches: dict[tuple[int, int], Tensor] = {}
    for i in row.keys:
        r, c = divmod(i, columns)
        tap = weight[:, :, r % reduction, c % reduction] if grid else weight[:, :, c % reduction]
        where = (r // reduction, c // reduction)
        patches[where] = patches.get(where, bias) + tap @ row.x[i]
    if row.fault == "empty patches stay":
        patches = {(0, n): bias for n in range(-(-columns // reduction))} | patches
    short = torch.stack(list(patches.values()))
    centred = short - short.mean(1, keepdim=True)
    short = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    short = short if row.fault == "no norm" else short * row.parameters["norm.weight"] + row.parameters["norm.bias"]
    _, k, v = (row.head(t, h) for t in project(row.parameters, "qkv", short).split(row.dims.dim, dim=1))
    q = row.head(row.q, h)
    return average(row.real, range(len(short)), product(q, k), v)


def fnet(row: Row) -> Tensor:
    """Re of the double sum over tokens n and channels d of x exp(-2 pi i (n m / L + d e / D))."""
    length, width = len(row.x) if row.fault == "padded length" else row.dims.length, row.dims.dim
    y = []
    for m in row.real:
        out = []
        for e in range(width):
            wave = [[cos(2 * pi * (n * m / length + d * e / width)) for d in range(width)] for n in row.real]
            out.append((row.x[row.real] * row.x.new_tensor(wave)).sum())
        y.append(torch.stack(out))
    return torch.stack(y) / (sqrt(length * width) if row.options["orthonormal"] else 1)


def s4d(row: Row) -> Tensor:
    p, width = row.parameters, row.dims.dim
    step = torch.exp(p["log_step"])
    a = torch.complex(-torch.exp(p["log_decay"]), p["frequency"])
    held = (torch.exp(a * step) - 1) / a
    held = step * torch.ones_like(a) if row.fault == "Euler" else held
    mixtures = torch.complex(p["mixture"][..., 0], p["mixture"][..., 1]) * held

    def h(c: Tensor, t: int) -> Tensor:
        return 2 * (c * torch.exp(a * step * t)).sum(1).real

    y = []
    for i in row.real:
        total = p["skip"] * row.x[i]
        for j in row.real:
            if j <= i:
                total = total + h(mixtures[0], i - j) * row.x[j]
            elif row.fault != "causal":
                total = total + h(mixtures[1], j - i - (row.fault != "lag from one")) * row.x[j]
        y.append(total)
    mixed = torch.stack(y)
    mixed = mixed * (1 + torch.erf(mixed / sqrt(2))) / 2
    value, gate = project(p, "out", mixed).split(width, 1)
    return value * torch.sigmoid(gate)


WHOLE: dict[str, Callable[[Row], Tensor]] = {"fnet": fnet, "s4d": s4d}
MIXES: dict[str, Callable[[Row, int], Tensor]] = {
    "local": local,
    "swin": swin,
    "longformer": longformer,
    "linformer": linformer,
    "performer": performer,
    "nystrom": nystrom,
    "cosformer": cosformer,
    "taylor": taylor,
    "hedgehog": hedgehog,
    "polapp": polapp,
    "pvt": pvt,
    "local_conv": lambda row, h: torch.zeros_like(row.head(row.v, h)[row.real]),
}

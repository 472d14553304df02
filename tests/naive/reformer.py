"""Reformer (Kitaev et al. 2020, https://arxiv.org/abs/2001.04451) as loops over rounds, queries and keys.

In each round, tokens are sorted by `bucket_of` and cut into chunks of `bucket`; a token has softmax(q k^T) v,
k = q / |q|, over the others of its chunk and of the previous one. Rounds are weighted by their normalisers.
"""

from dataclasses import replace

import torch
from torch import Tensor

from naive import Row, Twin, finish, project


def bucket_of(row: Row, t: Tensor, rotation: Tensor) -> int:
    """The index of the largest entry of [t W | -t W]; only for up to 128 buckets, which need one factor."""
    count = 2 * max(1, row.dims.length // int(row.options["bucket"]))
    assert count <= 128, "more than 128 buckets have two factors: see test_limits.test_buckets_of_two_factors"
    turned = (t @ rotation).tolist()
    turned += [-value for value in turned]
    return turned.index(min(turned) if row.fault == "smallest" else max(turned))


def mix(row: Row, h: int) -> Tensor:
    q, v, size = row.head(row.q, h), row.head(row.v, h), int(row.options["bucket"])
    rounds = []  # each maps a query to its average of v and the log of its normaliser
    for rotation in row.parameters["rotations"][h]:
        order = sorted(row.keys, key=lambda i, w=rotation: (bucket_of(row, q[i], w), i))
        order = row.keys if row.fault == "not sorted" else order
        chunk = {i: place // size for place, i in enumerate(order)}
        averages = {}
        for i in row.real:
            near = (0,) if row.fault == "no look back" else (0, 1)
            others = [j for j in order if chunk[i] - chunk[j] in near and (j != i or row.fault == "sees itself")]
            others, alone = others or [i], not others
            keys = torch.stack([q[j] / torch.sqrt(q[j].square().sum() + len(q[j]) * 1e-6) for j in others])
            keys = torch.stack([q[j] for j in others]) if row.fault == "long keys" else keys
            logits = torch.full_like(keys[:, 0], -1e5) if alone else keys @ q[i]
            averages[i] = torch.softmax(logits, 0) @ v[others], torch.logsumexp(logits, 0)
        rounds.append(averages)
    y = []
    for i in row.real:
        share = torch.softmax(torch.stack([averages[i][1] for averages in rounds]), 0)
        share = torch.full_like(share, 1 / len(share)) if row.fault == "rounds alike" else share
        y.append(sum(s * averages[i][0] for s, averages in zip(share, rounds, strict=True)))
    return torch.stack(y)


def whole(row: Row) -> Tensor:
    q, v = project(row.parameters, "qkv", row.x).split(row.dims.dim, dim=1)
    row = replace(row, q=q, k=q, v=v)
    return finish(row, torch.cat([mix(row, h) for h in range(row.dims.heads)], dim=1), convolved=True)


TWIN = Twin(
    whole=whole,
    loss=2.375708,
    specs=["reformer:bucket=3", "reformer:bucket=2,hashes=3,conv=3", "reformer:hashes=1"],
    grids=["reformer:bucket=4"],
    faults={
        ("reformer:bucket=3", "padded"): [
            "no mask",
            "not sorted",
            "smallest",
            "no look back",
            "sees itself",
            "long keys",
            "rounds alike",
        ]
    },
    parameters={"reformer": -(64**2 + 64)},
    impossible=["reformer:hashes=0", "reformer:bucket=0"],
)

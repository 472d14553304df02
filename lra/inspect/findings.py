"""Findings: everything that figures and tables show of one encoder, from a few samples.

Letters: N tokens, H heads, F flows, R rows.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lra.inspect import mechanism_parts, powers
from lra.inspect.calls import Call, Skipped, record_calls
from lra.inspect.numbers import correlation, describe, effective_rank, numerical_rank, shrink, singular_values
from lra.inspect.probe import MATRIX_BYTES, Matrices, NotAMatrixError, probe

Grid = tuple[int, int] | None


@dataclass
class Findings:
    """What was found in one encoder. Keys are a layer, or a layer and a flow; pictures and agents are of sample 0.

    numbers: a row per sample, layer, head and flow. pictures: (H, F, r, c), weights times N, shrunk. spectra: singular
    values over the largest one, averaged over heads, without and with the convolution.
    """

    row: str
    origin: str
    grid: Grid
    numbers: list[dict[str, float | str]] = field(default_factory=list)
    powers: list[dict[str, float | str]] = field(default_factory=list)
    pictures: dict[str, Tensor] = field(default_factory=dict)
    spectra: dict[tuple[str, int, bool], Tensor] = field(default_factory=dict)
    flows: dict[str, list[list[int]]] = field(default_factory=dict)
    gates: list[mechanism_parts.Gate] = field(default_factory=list)
    learned: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    focusing: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    agents: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


@torch.no_grad()
def examine(
    row: str,
    origin: str,
    model: torch.nn.Module,
    inputs: Sequence[tuple[Tensor, Tensor | None]],
    grid: Grid = None,
    budget: int = MATRIX_BYTES,
) -> Findings:
    """Probe every attention of an encoder in float64.

    inputs: ids (1, N) and keep (1, N) or None of each sample. grid: of the tokens. budget: bytes of a flow's
    matrices that are held at a time.
    """
    findings = Findings(row, origin, grid)
    gates: dict[str, list[Tensor]] = defaultdict(list)
    focused: dict[str, dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
    heads: dict[str, int] = {}
    for sample, (ids, keep) in enumerate(inputs):
        for call in record_calls(model, ids, keep):
            if isinstance(call, Skipped):
                findings.note(f"{row}, layer {call.layer}: skipped, {call.reason}")
                continue
            try:
                _read_matrices(findings, call, sample, budget)
            except NotAMatrixError as error:
                findings.note(f"{row}, layer {call.layer}: skipped, {error}")
                continue
            heads[call.layer] = call.q.shape[1]
            findings.powers += [{"sample": sample, **line} for line in powers.measure(call)]
            if (values := mechanism_parts.gate(call)) is not None:
                gates[call.layer].append(values)
            for name, entropy in (mechanism_parts.focusing(call) or {}).items():
                focused[call.layer][name].append(entropy)
    findings.gates = [
        mechanism_parts.compare_gate(layer, torch.cat(values), heads[layer], findings.flows[layer])
        for layer, values in gates.items()
    ]
    findings.focusing = {layer: {name: torch.cat(e) for name, e in them.items()} for layer, them in focused.items()}
    return findings


def _read_matrices(findings: Findings, call: Call, sample: int, budget: int) -> None:
    """Add the numbers of one call's matrices and, for the first sample, pictures, spectra and the convolution."""
    matrices = probe(call.attend, call.v, call.real, budget=budget)
    if matrices.found > len(matrices.channels):
        findings.note(
            f"{findings.row}: {matrices.found} groups of channels have matrices of their own; "
            f"{len(matrices.channels)} are shown"
        )
    if len(matrices.rows) < len(call.real):
        findings.note(
            f"{findings.row}: {len(matrices.rows):,} evenly spaced queries of {len(call.real):,}, to bound memory"
        )
    _add_numbers(findings, call, sample, matrices, matrices.weights, False)
    if sample:
        return
    findings.flows[call.layer] = matrices.channels
    findings.learned[call.layer] = mechanism_parts.learned(call.module)
    findings.pictures[call.layer] = shrink(matrices.weights[..., call.real] * len(call.real))
    maps = mechanism_parts.two_maps(call, matrices.weights[:, 0], matrices.rows) if matrices.found == 1 else None
    if maps is not None:
        findings.agents[call.layer] = maps
    if call.local is not None:
        first = [[flow[0]] for flow in matrices.channels]
        kernel = probe(call.local, call.v, matrices.rows, channels=first, budget=budget).weights
        _add_numbers(findings, call, sample, matrices, kernel.add_(matrices.weights), True)
    elif getattr(call.module, "predicted", None) is not None:
        findings.note(f"{findings.row}: its convolution, whose taps depend on the input, is not in these figures")


def named(channels: list[int]) -> str:
    """'0-31', or '[0, 2]' if they are not consecutive."""
    first, last = channels[0], channels[-1]
    return f"{first}-{last}" if channels == list(range(first, last + 1)) else str(channels)


def _add_numbers(findings: Findings, call: Call, sample: int, matrices: Matrices, weights: Tensor, local: bool) -> None:
    """Add the numbers of each (R, N) of weights (H, F, R, N)."""
    real, rows = call.real, matrices.rows
    tokens = call.q.shape[2]
    stage_grid = getattr(getattr(call.module, "dims", None), "grid", None)  # of a stage that has merged tokens
    grid = stage_grid or (findings.grid if findings.grid and findings.grid[0] * findings.grid[1] == tokens else None)
    pixels = findings.grid[0] / grid[0] if findings.grid and grid else 1.0  # on a side of a merged token
    for f, flow in enumerate(matrices.channels):
        curves = []
        for h in range(weights.shape[0]):
            one = weights[h, f]
            values = singular_values(one)
            curves.append(values / values.max().clamp(min=1e-300))
            agreement = call.q[0, h, rows] @ call.k[0, h, real].T
            findings.numbers.append(
                {
                    "sample": sample,
                    "layer": call.layer,
                    "head": h,
                    "flow": f,
                    "channels": str(flow[0]) if local else named(flow),
                    "convolution": "on" if local else "off",
                    "tokens": len(real),
                    "rows": len(rows),
                    **describe(one, rows, real, grid, pixels),
                    "effective_rank": effective_rank(values),
                    "rank": numerical_rank(values, max(one.shape)),
                    "qk_correlation": correlation(one[:, real], agreement) if call.has_queries else math.nan,
                    "probe_error": matrices.error,
                }
            )
        if sample == 0:
            findings.spectra[call.layer, f, local] = torch.stack(curves).mean(0)

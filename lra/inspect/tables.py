"""Findings as tables: one row per attention, layer, head and flow, averaged over samples."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from lra.inspect.findings import Findings

KEY = ["attention", "layer", "head", "flow", "channels", "convolution"]


def flow_names(found: Findings) -> dict[tuple[str, int], str]:
    """(layer, flow) -> the name of the flow in tables and figures; empty if no layer could be read.

    A layer's only flow is 'all'. Of two flows, if the weights of one rise with q k^T and those of the other fall, the
    first is 'same' and the second 'opposite'. All others are named by their channels.
    """
    if not found.numbers:
        return {}
    plain: Any = pd.DataFrame([line for line in found.numbers if line["convolution"] == "off"])
    names: dict[tuple[str, int], str] = {}
    for layer, table in plain.groupby("layer", sort=False):
        agreement = table.groupby("flow")["qk_correlation"].mean().tolist()
        flows = [f"channels {text}" for text in table.drop_duplicates("flow")["channels"]]
        if len(flows) == 1:
            flows = ["all"]
        elif len(flows) == 2 and agreement[0] * agreement[1] < 0:
            flows = ["same", "opposite"] if agreement[0] > 0 else ["opposite", "same"]
        names |= {(layer, flow): name for flow, name in enumerate(flows)}
    return names


def numbers(subjects: Sequence[Findings]) -> pd.DataFrame:
    """A row for each combination of KEY: means of `Findings.numbers` over samples; units: `lra.inspect.numbers`."""
    tables: list[pd.DataFrame] = []
    for findings in subjects:
        if findings.numbers:
            table: Any = pd.DataFrame(findings.numbers)
            names = flow_names(findings)
            table["flow"] = [names[key] for key in zip(table["layer"], table["flow"], strict=True)]
            tables.append(table.assign(attention=findings.row))
    if not tables:
        return pd.DataFrame(columns=KEY)
    grouped: Any = pd.concat(tables, ignore_index=True).groupby(KEY, sort=False)
    return grouped.mean().assign(samples=grouped.size()).drop(columns="sample").reset_index()


def powers(subjects: Sequence[Findings]) -> pd.DataFrame:
    """A row for each attention, layer, head, kernel and power: the means of `Findings.powers` over samples."""
    lines = [{"attention": findings.row, **line} for findings in subjects for line in findings.powers]
    if not lines:
        return pd.DataFrame(columns=["attention", "layer", "head", "kernel", "power"])
    key = ["attention", "layer", "head", "kernel", "power"]
    table: Any = pd.DataFrame(lines)
    return table.groupby(key, sort=False).mean().drop(columns="sample").reset_index()


def gates(subjects: Sequence[Findings]) -> pd.DataFrame:
    """A row for each attention and layer: the values of the gate and their correlations, in columns named by flow."""
    lines: list[dict[str, Any]] = []
    for findings in subjects:
        names = flow_names(findings) if findings.gates else {}
        for gate in findings.gates:
            line: dict[str, Any] = {"attention": findings.row, "layer": gate.layer}
            for name, value in gate.numbers().items():
                stem, _, last = name.rpartition("_")
                line[f"{stem}_{names[gate.layer, int(last)]}" if last.isdigit() else name] = value
            lines.append(line)
    return pd.DataFrame(lines)


def learned(subjects: Sequence[Findings]) -> pd.DataFrame:
    """A row for each attention, layer, head and parameter: the smallest, mean and largest learned power or scale."""
    lines = [
        {
            "attention": findings.row,
            "layer": layer,
            "head": head,
            "parameter": name,
            "least": float(values.min()),
            "mean": float(values.mean()),
            "largest": float(values.max()),
        }
        for findings in subjects
        for layer, both in findings.learned.items()
        for name, table in both.items()
        for head, values in enumerate(table)
    ]
    return pd.DataFrame(lines)


def sharpest(table: Any) -> str:
    """'softmax 0.856, relu 0.917': mean entropies divided by log N, without convolution, in rising order.

    table: the result of `numbers`.
    """
    means = table[table["convolution"] == "off"].groupby("attention")["entropy_relative"].mean().dropna().sort_values()
    return ", ".join(f"{row} {value:.3f}" for row, value in means.items())


def summary(table: Any) -> str:
    """The table for the terminal: means per attention and layer, the sharpest attention first. table: of `numbers`."""
    if not len(table):
        return ""
    plain = table[table["convolution"] == "off"]
    order = plain.groupby("attention")["entropy_relative"].mean().sort_values().index
    unit = "distance_pixels" if "distance_pixels" in plain else "distance_tokens"
    columns = ["entropy_nats", "entropy_relative", "effective_rank", "rank", unit, "top_8", "row_sum_min"]
    means = plain.groupby(["attention", "layer"], sort=False)[columns].mean()
    local = table[table["convolution"] == "on"].groupby(["attention", "layer"])["effective_rank"].mean()
    means.insert(4, "with conv", local.reindex(means.index))
    means = means.loc[order].reset_index().astype(object)
    means = means.where(means.notna(), None)
    heads = [
        "attention",
        "layer",
        "entropy",
        "/ log N",
        "eff. rank",
        "rank",
        "eff. rank + conv",
        *columns[4:],
    ]
    formats = ("", "", ".3f", ".3f", ".1f", ".0f", ".1f", ".1f", ".3f", ".3f")
    lines = tabulate(means.values.tolist(), heads, tablefmt="pipe", floatfmt=formats, missingval="-")
    return f"{lines}\n\nEntropy of rows / log N, the sharpest first: {sharpest(table)}."

"""The plan of the parts, and the summary of how they ended, in Markdown."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from lra.gpu.plan import RATE, GPURequest, Part
from lra.results.checkout import ROOT


@dataclass
class PartOutcome:
    """How a part ended: done, done before, failed, stopped (budget used up), interrupted, or left out (no time)."""

    part: Part
    state: str
    minutes: float = 0.0
    lines: list[str] = field(default_factory=list)


def plan_text(parts: Sequence[Part], request: GPURequest) -> str:
    """The plan as a table, the commands, and how many parts fit into the minutes."""
    from lra.report.render import markdown, table

    totals = [*accumulate(part.minutes for part in parts)]
    body = [
        [str(number), part.title, *(f"{minutes:.0f}" for minutes in (part.minutes, part.budget, used))]
        for number, (part, used) in enumerate(zip(parts, totals, strict=True), 1)
    ]
    shown = markdown(table("", ["Part", "What", "Minutes", "At most", "After it"], body, left=2))
    commands = "\n".join(f"{number:>3}  {command(part)}" for number, part in enumerate(parts, 1))
    fits = sum(used <= request.minutes - request.report_minutes for used in totals)
    return (
        f"{shown}\n{commands}\n\nMinutes are estimated for an H100, at {RATE / 1e6:.0f} million tokens a second, which "
        f"is assumed. The first {fits} of {len(parts)} parts fit into {request.minutes:.0f} minutes, of "
        f"which the report takes {request.report_minutes:g}."
    )


def command(part: Part) -> str:
    """The part's command as a person would type it."""
    words = [word.removeprefix(f"{ROOT}{os.sep}") for word in part.words]
    return shlex.join(["python", *words])


def summary(request: GPURequest, outcomes: Sequence[PartOutcome]) -> str:
    """How each part ended, and what each part but the report printed; in Markdown."""
    from lra.report.render import markdown, table

    body = [[o.part.title, o.state, f"{o.minutes:.1f}", f"`{command(o.part)}`"] for o in outcomes]
    done = markdown(table("", ["Part", "State", "Minutes", "Command"], body))
    parts = [f"# One GPU, {request.minutes:.0f} minutes\n", done]
    for outcome in outcomes:
        if outcome.lines and outcome.part.name != "report":
            parts.append(f"\n## {outcome.part.title}\n\n```\n" + "\n".join(outcome.lines) + "\n```\n")
    if (request.out / "report" / "report.html").exists():
        parts.append("\nThe records' tables and figures are in `report/report.html`.\n")
    return "\n".join(parts)

"""The historic faults of earlier suites: the field that switches each on, and which suite has it on which task.

The facts come from the issues and the code of these suites.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import tasks
from lra.config.protocol import protocols
from lra.errors import ConfigError
from lra.experiments.data import resolve_for

SUITES = {
    "google": "google-research/long-range-arena, cd31e5c",
    "nystromformer": "mlpen/Nystromformer, 5689313",
    "skyformer": "pkuzengqi/Skyformer, 1a677cb",
    "s4": "state-spaces/s4, e757cef",
}


@dataclass(frozen=True)
class Quirk:
    """One historic fault. tasks: those on which it can occur, empty for all; images: it occurs on image tasks only.

    switch, sound: the overrides that turn it on and off, whatever the protocol says. choice: it is a choice between two
    data sets rather than a fault of training; when another quirk is measured, it stays as the protocol has it.
    other_rows: it changes which samples are tested, so that answers cannot be compared one by one.
    """

    name: str
    switch: str
    sound: str
    tasks: tuple[str, ...]
    suites: tuple[str, ...]  # that have it on at least one task; `suites_with` says on which
    images: bool = False
    choice: bool = False
    other_rows: bool = False

    def concerns(self, task: str) -> bool:
        if self.images:
            return tasks.find(task).images
        return not self.tasks or task in self.tasks


QUIRKS = (
    Quirk(
        "zero taken for padding",
        "model.zero_is_padding=true",
        "model.zero_is_padding=false",
        (),
        ("google", "nystromformer", "skyformer"),
        images=True,
    ),
    Quirk(
        "mean over padding",
        "model.pool_over_padding=true",
        "model.pool_over_padding=false",
        ("listops", "text", "retrieval"),
        ("nystromformer", "skyformer"),
    ),
    Quirk("no brackets", "data.brackets=false", "data.brackets=true", ("listops",), ("nystromformer", "skyformer")),
    Quirk(
        "validation on the test set",
        "data.text_validation=test",
        "data.text_validation=held-out",
        ("text",),
        ("google", "nystromformer", "skyformer"),
    ),
    Quirk(
        "last batch dropped",
        "train.drop_last=true",
        "train.drop_last=false",
        (),
        ("google", "nystromformer", "skyformer"),
    ),
    Quirk("gradients clipped by value", "train.clip=value", "train.clip=norm", (), ("skyformer",)),
    Quirk("grey by Pillow, not luma", "data.grey=pil", "data.grey=luma", ("image",), ("s4",), choice=True),
    Quirk(
        "uniform, not matched pairs",
        "data.retrieval_pairs=uniform",
        "data.retrieval_pairs=matched",
        ("retrieval",),
        ("google",),
        choice=True,
        other_rows=True,
    ),
)


@functools.cache
def suites_with(quirk: Quirk, task: str) -> list[str]:
    """Those of the quirk's suites that have it on this task by their protocol here, or have no protocol here.

    For a choice all its suites.
    """
    named = set(protocols())
    return [suite for suite in quirk.suites if quirk.choice or suite not in named or has(suite, quirk, task)]


def has(protocol: str, quirk: Quirk, task: str) -> bool:
    """Does the protocol switch the quirk on for this task?"""
    try:
        return resolve_for(task, protocol, []) == resolve_for(task, protocol, [quirk.switch])
    except ConfigError:  # the protocol has no such task
        return False
